/* SPDX-License-Identifier: Apache-2.0
 *
 * Packing "tile64": oneDNN's BA16a64b, BA16a64b2a and BA16a64b4a, one layout for three widths of
 * element. Four bytes along K (one f32, two bf16, four int8) are a dword; 64 rows of w stand side
 * by side, and 16 dwords of K make a tile, so that a kernel reads K step by K step 64 results
 * wide. Rows are padded to 64, K to 16 dwords, with zeros. Any multiple of 64 rows is contiguous.
 *
 * Behind the codes of int8, for all rows: the sum of each row's codes (s32), which a product with
 * x + 128 must subtract, and its scale (f32). Separate from the kernels because several may read
 * it.
 */
#ifndef GEMMUX_TILE64_H
#define GEMMUX_TILE64_H

#include "packing.h"

enum { GEMMUX_TILE64_ROWS = 64, GEMMUX_TILE64_DWORDS = 16 };

extern const gemmux_packing gemmux_packing_tile64;

/* Where the codes of rows [row, row + 64) begin; row is a multiple of 64. */
const void *gemmux_tile64_codes(const gemmux_packed *packed, int64_t matrix, int64_t row);
/* Of int8: the sums of codes and the scales of one matrix's rows. */
const int32_t *gemmux_tile64_sums(const gemmux_packed *packed, int64_t matrix);
const float *gemmux_tile64_scales(const gemmux_packed *packed, int64_t matrix);

#endif
