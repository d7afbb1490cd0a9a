/* SPDX-License-Identifier: Apache-2.0 */
#include "certify_guard.h"

#include "error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A NaN in no format, and neither zero nor all ones. */
#define PATTERN 0xa5

gemmux_status gemmux_guarded_open(gemmux_guarded *memory, size_t bytes, size_t align, size_t gap,
                                  gemmux_error *error)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    *memory = (gemmux_guarded){0};
    /* A page in front for the pattern there, one behind that is not mapped. */
    size_t usable = (bytes + gap + align + 2 * page - 1) / page * page;
    void *base =
        mmap(NULL, usable + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect((char *)base + usable, page, PROT_NONE)) {
        int why = errno;
        if (base != MAP_FAILED) {
            munmap(base, usable + page);
        }
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "certify: no guarded memory: %s",
                           strerror(why));
    }
    memset(base, PATTERN, usable);
    memory->base = base;
    memory->mapped = usable + page;
    memory->usable = usable;
    memory->bytes = bytes;
    memory->data = memory->base + (usable - bytes - gap) / align * align;
    return GEMMUX_OK;
}

void gemmux_guarded_lock(const gemmux_guarded *memory, bool read_only)
{
    if (memory->base) {
        mprotect(memory->base, memory->usable, read_only ? PROT_READ : PROT_READ | PROT_WRITE);
    }
}

bool gemmux_guarded_whole(const unsigned char *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (from[i] != PATTERN) {
            return false;
        }
    }
    return true;
}

const char *gemmux_guarded_damage(const gemmux_guarded *memory, char *buffer, size_t size)
{
    const unsigned char *end = memory->data + memory->bytes;
    size_t front = (size_t)(memory->data - memory->base);
    for (size_t i = 1; i <= front; i++) {
        if (memory->data[-(ptrdiff_t)i] != PATTERN) {
            snprintf(buffer, size,
                     "wrote %zu bytes in front of the buffer: expected 0x%02x, got "
                     "0x%02x",
                     i, PATTERN, memory->data[-(ptrdiff_t)i]);
            return buffer;
        }
    }
    for (size_t i = 0; end + i < memory->base + memory->usable; i++) {
        if (end[i] != PATTERN) {
            snprintf(buffer, size, "wrote at byte %zu past the end: expected 0x%02x, got 0x%02x", i,
                     PATTERN, end[i]);
            return buffer;
        }
    }
    return NULL;
}

void gemmux_guarded_close(gemmux_guarded *memory)
{
    if (memory->base) {
        munmap(memory->base, memory->mapped);
    }
    *memory = (gemmux_guarded){0};
}
