/* SPDX-License-Identifier: Apache-2.0
 *
 * Packings: where element (n, k) and scale (n, k / g) of a prepared weight live. Separate from
 * kernels because several kernels read one packing, and from formats because one format has
 * several packings. A packed buffer carries its type, geometry and checksum, so that a kernel
 * handed the wrong one can refuse it by name, and any packing gives back the original codes.
 */
#ifndef GEMMUX_PACKING_H
#define GEMMUX_PACKING_H

#include "gemmux.h"

typedef struct gemmux_packing gemmux_packing;

typedef struct gemmux_packed {
    const gemmux_packing *packing;
    gemmux_tensor plain; /* geometry and format; its pointers are set only by packing "plain" */
    void *data;          /* owned, 64-byte aligned; NULL when borrowed */
    int64_t bytes;
    uint64_t checksum; /* of data, see gemmux_checksum */
} gemmux_packed;

struct gemmux_packing {
    const char *name;
    const char *summary;
    /* May weights of this format be packed so? Pure. */
    bool (*accepts)(gemmux_format format);
    /* Bytes of the packed buffer, 0 when it borrows the caller's tensor; -1 on overflow. Pure. */
    int64_t (*bytes)(gemmux_format format, int64_t count, int64_t rows, int64_t cols);
    /* Fills packed->data (allocated, zeroed by the caller with bytes()). Rows are independent:
     * called for row ranges [row_first, row_last) that start at multiples of row_multiple, from
     * several threads at once. */
    void (*pack)(const gemmux_tensor *w, gemmux_packed *packed, int64_t matrix, int64_t row_first,
                 int64_t row_last);
    /* Writes one row back in plain layout: codes (gemmux_row_bytes), that row's scales and zeros
     * as stored by the format (GROUP: all of the row's; ROW, TENSOR, BLOCK: the one(s) that apply
     * to the row). Pointers may be NULL. */
    void (*unpack_row)(const gemmux_packed *packed, int64_t matrix, int64_t row, void *codes,
                       void *scales, void *zeros);
    int32_t row_multiple;
};

/* Packings are tables in src/packings/; NULL-terminated list for tests and docs. */
extern const gemmux_packing *const gemmux_packings[];
extern const gemmux_packing gemmux_packing_plain; /* borrows the tensor as it is */

/* 64-bit FNV-1a over 8-byte words (tail padded with zeros): fast enough to run at every prepare. */
uint64_t gemmux_checksum(const void *data, int64_t bytes);

/* Allocates, packs with `threads` (may be NULL) and seals. k_order is copied by reference. */
gemmux_status gemmux_pack(const gemmux_packing *packing, const gemmux_tensor *w,
                          gemmux_threads *threads, gemmux_packed *packed, gemmux_error *error);
/* Refuses by name a buffer that is not `want` with this geometry. */
gemmux_status gemmux_packed_expect(const gemmux_packed *packed, const gemmux_packing *want,
                                   const gemmux_problem *problem, gemmux_error *error);
/* Recomputes the checksum. */
gemmux_status gemmux_packed_verify(const gemmux_packed *packed, gemmux_error *error);
/* The original tensor, in storage of its own. */
gemmux_status gemmux_unpack(const gemmux_packed *packed, gemmux_weights *out, gemmux_error *error);
void gemmux_packed_free(gemmux_packed *packed);

#endif
