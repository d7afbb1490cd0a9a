/* SPDX-License-Identifier: Apache-2.0
 *
 * The kernels inside a library by name, and which of them a device loses. The images of one fatbin
 * are the same kernels compiled for several targets, so one image of each is enough: the one that
 * the driver would take, or any when it would take none.
 */
#include "error.h"
#include "unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A set of names: open addressing over one arena. */
typedef struct name_set {
    struct {
        uint32_t at, length; /* into arena; length 0: empty */
        bool runs;
    } * slots;
    size_t slot_count, count; /* slot_count is a power of two */
    char *arena;
    size_t used, room;
    bool runs; /* of the image that is being read */
    bool full; /* out of memory */
} name_set;

enum { ARENA_LIMIT = 1 << 30 };

static uint64_t hash(const char *name, size_t length)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < length; i++)
        h = (h ^ (unsigned char)name[i]) * UINT64_C(0x100000001b3);
    return h;
}

static size_t slot_of(const name_set *set, const char *name, size_t length)
{
    size_t slot = hash(name, length) & (set->slot_count - 1);
    while (set->slots[slot].length && (set->slots[slot].length != length ||
                                       memcmp(set->arena + set->slots[slot].at, name, length) != 0))
        slot = (slot + 1) & (set->slot_count - 1);
    return slot;
}

static bool grow_slots(name_set *set)
{
    name_set bigger = *set;
    bigger.slot_count = set->slot_count ? 2 * set->slot_count : 1024;
    bigger.slots = calloc(bigger.slot_count, sizeof *bigger.slots);
    if (!bigger.slots)
        return false;
    for (size_t i = 0; i < set->slot_count; i++)
        if (set->slots[i].length)
            bigger.slots[slot_of(&bigger, set->arena + set->slots[i].at, set->slots[i].length)] =
                set->slots[i];
    free(set->slots);
    *set = bigger;
    return true;
}

static bool grow_arena(name_set *set, size_t length)
{
    size_t room = set->room ? set->room : 1 << 16;
    while (room - set->used < length + 1)
        room *= 2;
    if (room > ARENA_LIMIT)
        return false;
    char *arena = room > set->room ? realloc(set->arena, room) : set->arena;
    if (!arena)
        return false;
    set->arena = arena;
    set->room = room;
    return true;
}

static void add_name(void *context, const char *name, size_t length)
{
    name_set *set = context;
    if (set->full || !length || length > 65535)
        return;
    if ((2 * set->count >= set->slot_count && !grow_slots(set)) || !grow_arena(set, length)) {
        set->full = true;
        return;
    }
    size_t slot = slot_of(set, name, length);
    if (!set->slots[slot].length) {
        memcpy(set->arena + set->used, name, length);
        set->arena[set->used + length] = '\0';
        set->slots[slot].at = (uint32_t)set->used;
        set->slots[slot].length = (uint32_t)length;
        set->used += length + 1;
        set->count++;
    }
    set->slots[slot].runs |= set->runs;
}

/* The entry of the current fatbin to look into; false when it has none of a known kind. */
static bool choose(const gemmux_fatbin_walk *walk, int cc, gemmux_fatbin_entry *chosen, bool *runs)
{
    gemmux_fatbin_entry entry;
    int best = -1;
    for (int64_t at = walk->begin; at >= 0 && at < walk->end;) {
        at = gemmux_fatbin_entry_at(walk, at, &entry);
        if (at < 0 || !entry.code.kind || entry.code.kind == GEMMUX_GPU_LTO)
            continue;
        bool good = gemmux_gpu_code_runs(&entry.code, cc, NULL, 0);
        int rank = gemmux_gpu_code_preference(&entry.code) + (good ? 1000000 : 0);
        if (rank > best) {
            best = rank;
            *chosen = entry;
            *runs = good;
        }
    }
    return best >= 0;
}

static gemmux_status read_names(const gemmux_bytes *bytes, int cc, name_set *set, int64_t *unread,
                                gemmux_error *error)
{
    gemmux_fatbin_walk walk;
    gemmux_fatbin_entry entry;
    gemmux_unpacker unpacker;
    gemmux_status status = gemmux_fatbin_open(&walk, bytes, error);
    if (status)
        return status;
    gemmux_unpacker_open(&unpacker);
    while (gemmux_fatbin_next(&walk, &status, error)) {
        size_t size;
        if (!choose(&walk, cc, &entry, &set->runs))
            continue;
        uint8_t *image = gemmux_unpack_image(&unpacker, bytes, &entry, &size);
        if (image)
            gemmux_image_kernels(image, size, entry.code.kind, add_name, set);
        else
            ++*unread;
        free(image);
    }
    gemmux_unpacker_close(&unpacker);
    gemmux_fatbin_close(&walk);
    if (!status && set->full)
        status = gemmux_fail(error, GEMMUX_ERROR_MEMORY, "out of memory for the names of kernels");
    return status;
}

gemmux_status gemmux_scan_gpu_kernels(const char *path, int cc,
                                      void (*found)(void *context, const char *name, bool runs),
                                      void *context, int64_t *unread, gemmux_error *error)
{
    struct stat info;
    name_set set = {0};
    int64_t failed = 0;
    if (!path || !found)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "a list of kernels needs a path and "
                           "somebody to tell");
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &info) || !S_ISREG(info.st_mode)) {
        gemmux_fail(error, GEMMUX_ERROR_IO, "cannot read '%.300s': %s", path,
                    fd < 0 ? strerror(errno) : "it is not a regular file");
        if (fd >= 0)
            close(fd);
        return GEMMUX_ERROR_IO;
    }
    const gemmux_bytes bytes = {.fd = fd, .size = info.st_size};
    gemmux_status status = read_names(&bytes, cc, &set, &failed, error);
    close(fd);
    for (size_t i = 0; !status && i < set.slot_count; i++)
        if (set.slots[i].length)
            found(context, set.arena + set.slots[i].at, set.slots[i].runs);
    if (unread)
        *unread = failed;
    free(set.slots);
    free(set.arena);
    return status;
}
