/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory of an open checkpoint that lives and dies together: names and small tables. Separate so
 * that parsers need not free anything on their many ways out.
 */
#ifndef GEMMUX_ARENA_H
#define GEMMUX_ARENA_H

#include <stddef.h>

typedef struct gemmux_arena {
    struct gemmux_arena_chunk *chunks;
} gemmux_arena;

/* Zeroed, 16-byte aligned; NULL when out of memory. */
void *gemmux_arena_alloc(gemmux_arena *arena, size_t bytes);
/* `length` bytes of text and a NUL; NULL when out of memory. */
char *gemmux_arena_text(gemmux_arena *arena, const char *text, size_t length);
/* printf into the arena; NULL when out of memory. */
char *gemmux_arena_format(gemmux_arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void gemmux_arena_free(gemmux_arena *arena);

#endif
