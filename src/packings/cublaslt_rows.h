/* SPDX-License-Identifier: Apache-2.0
 *
 * Where things stand in packing "cublaslt_rows", for the host that packs and the kernels that hand
 * its parts to cuBLASLt. Rows are dense and padded with zeros to whole 32 columns and at least 16
 * bytes, and to a multiple of 16 of them. Scales stand as cuBLASLt reads them, zeros where there is
 * no row or group:
 *
 *   TENSOR               [1]
 *   ROW                  [padded rows]
 *   GROUP of 128 in f32  [groups][padded rows]
 *   BLOCK of 128 in f32  [blocks of rows][groups rounded up to 4]
 *   GROUP, one byte      tiles of 128 rows x 4 groups, row-major over whole tiles; within one, row
 *                        r and group g stand at r % 32 * 16 + r / 32 * 4 + g
 */
#ifndef GEMMUX_CUBLASLT_ROWS_H
#define GEMMUX_CUBLASLT_ROWS_H

#include "gemmux.h"

typedef struct gemmux_lt_rows {
    int64_t rows, cols; /* padded */
    int64_t row_bytes;
    int64_t groups;      /* scales along K that exist */
    int64_t scale_rows;  /* rows, or blocks of rows, that have scales of their own */
    int64_t scale_count; /* padding included */
    int64_t scales_at;   /* within a matrix */
    int64_t matrix_bytes;
    int32_t scale_bytes;
} gemmux_lt_rows;

/* False on overflow. */
bool gemmux_lt_rows_of(gemmux_format format, int64_t rows, int64_t cols, gemmux_lt_rows *layout);
/* Bytes of one-byte scales of `rows` x `groups` in tiles. */
int64_t gemmux_lt_tile_bytes(int64_t rows, int64_t groups);
int64_t gemmux_lt_tile_at(int64_t row, int64_t group, int64_t groups);

#endif
