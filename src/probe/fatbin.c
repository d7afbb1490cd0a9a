/* SPDX-License-Identifier: Apache-2.0
 *
 * Walks the fatbins of a file. They stand in section .nv_fatbin, but also elsewhere (libcublasLt
 * hides hundreds in .cask_resource), so the whole file is searched for the magic number, and what
 * follows must be a chain of entries that ends exactly where the header says. Files are read, not
 * mapped: one that is cut short meanwhile gives a short read instead of a signal.
 */
#include "fatbin.h"

#include "error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK_SMALL = 4096, CHUNK_LARGE = 1 << 20, WASTE_LIMIT = 1 << 20 };

static const uint8_t magic[4] = {0x50, 0xed, 0x55, 0xba};

static uint16_t u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t u32(const uint8_t *p)
{
    return (uint32_t)u16(p) | (uint32_t)u16(p + 2) << 16;
}

static uint64_t u64(const uint8_t *p)
{
    return (uint64_t)u32(p) | (uint64_t)u32(p + 4) << 32;
}

bool gemmux_bytes_read(const gemmux_bytes *bytes, int64_t at, void *out, size_t count)
{
    if (at < 0 || at > bytes->size || count > (uint64_t)(bytes->size - at))
        return false;
    if (bytes->memory) {
        memcpy(out, bytes->memory + at, count);
        return true;
    }
    for (size_t done = 0; done < count;) {
        ssize_t n = pread(bytes->fd, (uint8_t *)out + done, count - done, (off_t)at + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

gemmux_status gemmux_fatbin_open(gemmux_fatbin_walk *walk, const gemmux_bytes *bytes,
                                 gemmux_error *error)
{
    *walk = (gemmux_fatbin_walk){.bytes = bytes, .chunk = CHUNK_SMALL};
    if (!bytes->memory) {
        walk->buffer = malloc(CHUNK_LARGE);
        if (!walk->buffer)
            return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "out of memory for a 1 MiB buffer");
    }
    return GEMMUX_OK;
}

void gemmux_fatbin_close(gemmux_fatbin_walk *walk)
{
    free(walk->buffer);
    walk->buffer = NULL;
}

/* The next magic number at or after walk->at; -1 when there is none, -2 when reading fails. */
static int64_t find_magic(gemmux_fatbin_walk *walk)
{
    const gemmux_bytes *bytes = walk->bytes;
    if (bytes->memory) {
        const uint8_t *hit =
            memmem(bytes->memory + walk->at, (size_t)(bytes->size - walk->at), magic, 4);
        return hit ? hit - bytes->memory : -1;
    }
    while (bytes->size - walk->at >= GEMMUX_FATBIN_HEADER) {
        int64_t left = bytes->size - walk->at;
        size_t count = left < (int64_t)walk->chunk ? (size_t)left : walk->chunk;
        if (!gemmux_bytes_read(bytes, walk->at, walk->buffer, count))
            return -2;
        const uint8_t *hit = memmem(walk->buffer, count, magic, 4);
        if (hit)
            return walk->at + (hit - walk->buffer);
        walk->at += (int64_t)count - 3; /* the number may straddle two chunks */
        walk->chunk = walk->chunk < CHUNK_LARGE ? walk->chunk * 4 : CHUNK_LARGE;
    }
    return -1;
}

int64_t gemmux_fatbin_entry_at(const gemmux_fatbin_walk *walk, int64_t at,
                               gemmux_fatbin_entry *entry)
{
    uint8_t h[GEMMUX_FATBIN_ENTRY];
    if (walk->end - at < GEMMUX_FATBIN_ENTRY || !gemmux_bytes_read(walk->bytes, at, h, sizeof h))
        return -1;
    uint32_t header = u32(h + 4), arch = u32(h + 0x1c);
    uint64_t payload = u64(h + 8), flags = u64(h + 0x28), unpacked = u64(h + 0x38);
    if (header < GEMMUX_FATBIN_ENTRY || header > 65536 || header % 8 ||
        header > (uint64_t)(walk->end - at) || payload > (uint64_t)(walk->end - at) - header)
        return -1;
    uint16_t kind = u16(h);
    bool known = arch >= 10 && arch <= 999 && (kind == 1 || kind == 2 || kind == 8);
    *entry = (gemmux_fatbin_entry){
        .code = {.kind = !known      ? 0
                         : kind == 1 ? GEMMUX_GPU_PTX
                         : kind == 2 ? GEMMUX_GPU_SASS
                                     : GEMMUX_GPU_LTO,
                 .suffix = flags & 0x100000   ? 'a'
                           : flags & 0x200000 ? 'f'
                                              : '\0',
                 .cc = (int16_t)(known ? arch : 0),
                 .images = 1,
                 .bytes = (int64_t)payload},
        .payload_at = at + header,
        .payload_bytes = (int64_t)payload,
        .packed_bytes = u32(h + 0x10),
        .unpacked_bytes = unpacked < INT64_MAX ? (int64_t)unpacked : 0,
        .zstd = (flags & 0x8000) != 0,
        .lz4 = (flags & 0x2000) != 0,
    };
    return at + header + (int64_t)payload;
}

/* Is there a fatbin at `at`? Sets begin and end. Counts it as broken when its header is right and
 * its contents are not. */
static bool sound(gemmux_fatbin_walk *walk, int64_t at)
{
    uint8_t h[GEMMUX_FATBIN_HEADER];
    gemmux_fatbin_entry entry;
    if (!gemmux_bytes_read(walk->bytes, at, h, sizeof h))
        return false;
    uint64_t payload = u64(h + 8);
    if (u16(h + 4) != 1 || u16(h + 6) != GEMMUX_FATBIN_HEADER)
        return false; /* the number alone, as in programs that read or make fatbins */
    walk->begin = at + GEMMUX_FATBIN_HEADER;
    if (!payload || payload > (uint64_t)(walk->bytes->size - walk->begin)) {
        walk->broken++;
        return false;
    }
    walk->end = walk->begin + (int64_t)payload;
    int64_t entries = 0, next = walk->begin;
    while (next >= 0 && next < walk->end) {
        next = gemmux_fatbin_entry_at(walk, next, &entry);
        entries++;
    }
    if (next == walk->end)
        return true;
    walk->broken++;
    walk->wasted += entries;
    return false;
}

bool gemmux_fatbin_next(gemmux_fatbin_walk *walk, gemmux_status *status, gemmux_error *error)
{
    *status = GEMMUX_OK;
    for (;;) {
        int64_t hit = find_magic(walk);
        if (hit == -2)
            *status = gemmux_fail(error, GEMMUX_ERROR_IO, "reading failed at byte %lld: %s",
                                  (long long)walk->at, errno ? strerror(errno) : "it ends there");
        if (hit < 0)
            return false;
        if (sound(walk, hit)) {
            walk->at = walk->end;
            walk->chunk = CHUNK_SMALL;
            return true;
        }
        walk->at = hit + 4;
        if (walk->wasted > WASTE_LIMIT) {
            *status = gemmux_fail(error, GEMMUX_ERROR_INPUT,
                                  "gave up at byte %lld after %lld broken fatbins", (long long)hit,
                                  (long long)walk->broken);
            return false;
        }
    }
}
