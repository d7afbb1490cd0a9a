/* SPDX-License-Identifier: Apache-2.0 */
#include "packings/tile64.h"

#include "error.h"

#include <string.h>

enum { ROWS = GEMMUX_TILE64_ROWS, DWORDS = GEMMUX_TILE64_DWORDS };

static bool accepts(gemmux_format format)
{
    switch (format.id) {
    case GEMMUX_F32:
    case GEMMUX_BF16:
        return true;
    case GEMMUX_INT8: /* whose scales fit one f32 a row */
        return format.zero == GEMMUX_ZERO_NONE && format.scale == GEMMUX_CODE_F32 &&
               (format.scaling == GEMMUX_SCALING_ROW || format.scaling == GEMMUX_SCALING_TENSOR);
    default:
        return false;
    }
}

/* Rows of one matrix with their padding. */
static int64_t padded_rows(int64_t rows)
{
    return (rows + ROWS - 1) / ROWS * ROWS;
}

/* Dwords of one row with their padding. */
static int64_t padded_dwords(gemmux_format format, int64_t cols)
{
    int64_t each = 32 / gemmux_code_bits((gemmux_code)format.element);
    return (cols + DWORDS * each - 1) / (DWORDS * each) * DWORDS;
}

/* Bytes of the codes of all matrices; -1 on overflow. */
static int64_t codes_bytes(gemmux_format format, int64_t count, int64_t rows, int64_t cols)
{
    int64_t padded, total;
    if (cols > INT64_MAX / 2 || rows > INT64_MAX / 2 ||
        !gemmux_mul_size(padded_rows(rows), padded_dwords(format, cols), &padded) ||
        !gemmux_mul_size(padded, 4, &padded) || !gemmux_mul_size(padded, count, &total))
        return -1;
    return total;
}

static int64_t bytes(gemmux_format format, int64_t count, int64_t rows, int64_t cols)
{
    int64_t codes = codes_bytes(format, count, rows, cols), side = 0, total;
    if (codes < 0)
        return -1;
    if (format.id == GEMMUX_INT8 &&
        (!gemmux_mul_size(padded_rows(rows), count, &side) || !gemmux_mul_size(side, 8, &side)))
        return -1;
    return gemmux_add_size(codes, side, &total) ? total : -1;
}

const void *gemmux_tile64_codes(const gemmux_packed *packed, int64_t matrix, int64_t row)
{
    const gemmux_tensor *t = &packed->plain;
    int64_t dwords = padded_dwords(t->format, t->cols);
    return (const char *)packed->data + (matrix * padded_rows(t->rows) + row) * dwords * 4;
}

const int32_t *gemmux_tile64_sums(const gemmux_packed *packed, int64_t matrix)
{
    const gemmux_tensor *t = &packed->plain;
    int64_t codes = codes_bytes(t->format, t->count, t->rows, t->cols);
    return (const int32_t *)((const char *)packed->data + codes) + matrix * padded_rows(t->rows);
}

const float *gemmux_tile64_scales(const gemmux_packed *packed, int64_t matrix)
{
    const gemmux_tensor *t = &packed->plain;
    return (const float *)gemmux_tile64_sums(packed, t->count) + matrix * padded_rows(t->rows);
}

static float scale_of(const gemmux_tensor *w, int64_t matrix, int64_t row)
{
    float scale;
    int64_t first;
    gemmux_row_scales(w, matrix, row, &first);
    memcpy(&scale, (const char *)w->scales + first * 4, 4);
    return scale;
}

static void pack_side(const gemmux_tensor *w, gemmux_packed *packed, int64_t matrix, int64_t row)
{
    const int8_t *codes =
        (const int8_t *)w->codes + (matrix * w->rows + row) * gemmux_row_stride(w);
    int32_t sum = 0;
    for (int64_t k = 0; k < w->cols; k++)
        sum += codes[k];
    ((int32_t *)(uintptr_t)gemmux_tile64_sums(packed, matrix))[row] = sum;
    ((float *)(uintptr_t)gemmux_tile64_scales(packed, matrix))[row] = scale_of(w, matrix, row);
}

/* Whole tiles first: 64 bytes of each of 64 rows, all in L1. */
static void pack(const gemmux_tensor *w, gemmux_packed *packed, int64_t matrix, int64_t row_first,
                 int64_t row_last)
{
    int64_t stride = gemmux_row_stride(w), row_bytes = gemmux_row_bytes(w->format, w->cols);
    for (int64_t block = row_first; block < row_last; block += ROWS) {
        uint32_t *to = (uint32_t *)(uintptr_t)gemmux_tile64_codes(packed, matrix, block);
        int64_t rows = row_last - block < ROWS ? row_last - block : ROWS;
        const char *from = (const char *)w->codes + (matrix * w->rows + block) * stride;
        for (int64_t at = 0; at < row_bytes; at += DWORDS * 4) {
            int64_t left = row_bytes - at < DWORDS * 4 ? row_bytes - at : DWORDS * 4;
            for (int64_t row = 0; row < rows; row++) {
                uint32_t line[DWORDS] = {0};
                memcpy(line, from + row * stride + at, (size_t)left);
                for (int d = 0; d < DWORDS; d++)
                    to[(at / 4 + d) * ROWS + row] = line[d];
            }
        }
        for (int64_t row = 0; row < rows && w->format.id == GEMMUX_INT8; row++)
            pack_side(w, packed, matrix, block + row);
    }
}

static void unpack_row(const gemmux_packed *packed, int64_t matrix, int64_t row, void *codes,
                       void *scales, void *zeros)
{
    (void)zeros;
    const gemmux_tensor *t = &packed->plain;
    const uint32_t *from = gemmux_tile64_codes(packed, matrix, row / ROWS * ROWS);
    int64_t row_bytes = gemmux_row_bytes(t->format, t->cols);
    for (int64_t at = 0; codes && at < row_bytes; at += 4) {
        uint32_t dword = from[at / 4 * ROWS + row % ROWS];
        memcpy((char *)codes + at, &dword, row_bytes - at < 4 ? (size_t)(row_bytes - at) : 4);
    }
    if (scales && t->format.id == GEMMUX_INT8)
        memcpy(scales, gemmux_tile64_scales(packed, matrix) + row, 4);
}

const gemmux_packing gemmux_packing_tile64 = {
    .name = "tile64",
    .summary = "oneDNN's blocked weights: 64 rows side by side, 4 bytes of K each; f32, bf16, int8",
    .accepts = accepts,
    .bytes = bytes,
    .pack = pack,
    .unpack_row = unpack_row,
    .row_multiple = ROWS,
};
