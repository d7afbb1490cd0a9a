/* SPDX-License-Identifier: Apache-2.0
 *
 * A file mapped for reading. Separate because every container needs the same three things: the
 * bytes, their number to check offsets against, and a way to give pages back to the system.
 *
 * The mapping is private and read-only. A file that another process shortens while it is open can
 * still raise SIGBUS on access: no mapping can prevent that.
 */
#ifndef GEMMUX_FILE_MAP_H
#define GEMMUX_FILE_MAP_H

#include "gemmux.h"

typedef struct gemmux_file_map {
    const uint8_t *data; /* NULL for an empty file */
    int64_t size;
    bool mapped;    /* false: the caller's memory */
    char path[168]; /* for messages: the end of a long path */
} gemmux_file_map;

gemmux_status gemmux_file_map_open(const char *path, gemmux_file_map *map, gemmux_error *error);
/* A view of the caller's bytes under a name for messages. */
void gemmux_file_map_memory(const char *name, const void *data, size_t size, gemmux_file_map *map);
/* The pages that lie wholly within the range are not needed for now. */
void gemmux_file_map_drop(const gemmux_file_map *map, const void *first, int64_t bytes);
void gemmux_file_map_close(gemmux_file_map *map);

#endif
