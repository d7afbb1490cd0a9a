/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows of any format as bf16, for products through a dense bf16 routine. A scale that a whole row
 * shares is left out where the codes alone are exact in bf16, and multiplies the sums instead.
 * Separate from the kernels because it is what "dequantised" means there, and is tested alone.
 */
#ifndef GEMMUX_BF16_ROWS_H
#define GEMMUX_BF16_ROWS_H

#include "gemmux.h"

/* One row, without the factors of gemmux_bf16_row_factor. Needs AVX-512 with BF16; numbers below
 * 2^-126 become zero. */
typedef void gemmux_bf16_row(const gemmux_tensor *w, int64_t matrix, int64_t row, uint16_t *out);
/* NULL where it could not be built. */
extern gemmux_bf16_row *const gemmux_bf16_row_avx512;

/* What one row's sums must be multiplied with: the scale of a row or tensor, nvfp4's f32, or 1. */
float gemmux_bf16_row_factor(const gemmux_tensor *w, int64_t matrix, int64_t row);

#endif
