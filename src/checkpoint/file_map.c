/* SPDX-License-Identifier: Apache-2.0 */
#include "file_map.h"

#include "error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void set_path(gemmux_file_map *map, const char *path)
{
    size_t length = strlen(path), room = sizeof map->path - 1;
    if (length <= room)
        snprintf(map->path, sizeof map->path, "%s", path);
    else
        snprintf(map->path, sizeof map->path, "...%s", path + length - (room - 3));
}

static gemmux_status map_open_file(int file, gemmux_file_map *map, gemmux_error *error)
{
    struct stat facts;
    if (fstat(file, &facts) != 0)
        return gemmux_fail(error, GEMMUX_ERROR_IO, "%s: %s", map->path, strerror(errno));
    if (!S_ISREG(facts.st_mode))
        return gemmux_fail(error, GEMMUX_ERROR_IO, "%s: not a regular file", map->path);
    map->size = facts.st_size;
    if (map->size == 0)
        return GEMMUX_OK;
    void *data = mmap(NULL, (size_t)map->size, PROT_READ, MAP_PRIVATE, file, 0);
    if (data == MAP_FAILED)
        return gemmux_fail(error, GEMMUX_ERROR_IO, "%s: cannot map %lld bytes: %s", map->path,
                           (long long)map->size, strerror(errno));
    map->data = data;
    map->mapped = true;
    return GEMMUX_OK;
}

gemmux_status gemmux_file_map_open(const char *path, gemmux_file_map *map, gemmux_error *error)
{
    *map = (gemmux_file_map){0};
    set_path(map, path);
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not block us */
    if (file < 0)
        return gemmux_fail(error, GEMMUX_ERROR_IO, "%s: %s", map->path, strerror(errno));
    gemmux_status status = map_open_file(file, map, error);
    close(file);
    return status;
}

void gemmux_file_map_memory(const char *name, const void *data, size_t size, gemmux_file_map *map)
{
    *map = (gemmux_file_map){.data = data, .size = (int64_t)size};
    set_path(map, name);
}

void gemmux_file_map_drop(const gemmux_file_map *map, const void *first, int64_t bytes)
{
    if (!map->mapped || bytes <= 0)
        return;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)first + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)first + (uintptr_t)bytes) / page * page;
    if (begin < end)
        madvise((void *)begin, end - begin, MADV_DONTNEED); /* advice: failure changes nothing */
}

void gemmux_file_map_close(gemmux_file_map *map)
{
    if (map->mapped)
        munmap((void *)(uintptr_t)map->data, (size_t)map->size);
    *map = (gemmux_file_map){0};
}
