/* SPDX-License-Identifier: Apache-2.0
 *
 * What the library's own files ask of a format beyond gemmux.h. Separate because callers outside
 * have gemmux_tensor_check, which asks all of it at once.
 */
#ifndef GEMMUX_FORMAT_H
#define GEMMUX_FORMAT_H

#include "gemmux.h"

/* One that gemmux_format_parse could have made. gemmux_row_bytes is -1 for any other. */
bool gemmux_format_valid(gemmux_format format);
/* Which scale of its matrix belongs to element (row, col). The caller knows that there is one. */
int64_t gemmux_scale_index(gemmux_format format, int64_t cols, int64_t row, int64_t col);
/* Bytes of one scale, and of one zero (0 where the format has none). */
int64_t gemmux_scale_bytes(gemmux_format format);
int64_t gemmux_zero_bytes(gemmux_format format);
/* Bytes from one row of codes to the next: tensor->row_bytes, or the dense row. */
int64_t gemmux_row_stride(const gemmux_tensor *tensor);
/* Element `index` of a packed array of codes; 4-bit codes: even index in the low nibble. The array
 * needs no alignment. */
uint32_t gemmux_code_load(gemmux_code code, const void *codes, int64_t index);
void gemmux_code_store(gemmux_code code, void *codes, int64_t index, uint32_t bits);
/* Values of all 256 or 16 codes, for table look-ups: E4M3, E5M2, E2M1, NF4. NULL otherwise. */
const float *gemmux_code_table(gemmux_code code);

#endif
