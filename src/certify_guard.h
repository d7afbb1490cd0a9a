/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory that notices: bytes of a known pattern in front of and behind a buffer, and an unmapped
 * page right after those. Separate because every buffer a kernel is proved on is one.
 */
#ifndef GEMMUX_CERTIFY_GUARD_H
#define GEMMUX_CERTIFY_GUARD_H

#include "gemmux.h"

typedef struct gemmux_guarded {
    unsigned char *base; /* of the mapping */
    size_t mapped;
    unsigned char *data; /* aligned as asked */
    size_t bytes;
    size_t usable; /* of the mapping: up to the unmapped page */
} gemmux_guarded;

/* `bytes` (may be 0) at a multiple of `align` (a power of two, at most a page), as close to the
 * unmapped page as that and `gap` bytes allow. Everything holds the pattern. */
gemmux_status gemmux_guarded_open(gemmux_guarded *memory, size_t bytes, size_t align, size_t gap,
                                  gemmux_error *error);
/* Whether the buffer may be written from now on. */
void gemmux_guarded_lock(const gemmux_guarded *memory, bool read_only);
/* NULL when the pattern around the data is whole; else what was written where. */
const char *gemmux_guarded_damage(const gemmux_guarded *memory, char *buffer, size_t size);
/* The same for `bytes` bytes inside it, such as the gap between two rows. */
bool gemmux_guarded_whole(const unsigned char *from, size_t bytes);
void gemmux_guarded_close(gemmux_guarded *memory);

#endif
