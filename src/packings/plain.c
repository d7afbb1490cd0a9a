/* SPDX-License-Identifier: Apache-2.0
 *
 * "plain": the weights as the caller holds them. Nothing is copied; the caller's tensor must
 * outlive the plan (gemmux_plan_borrows).
 */
#include "packing.h"

#include <string.h>

static bool accepts(gemmux_format format)
{
    return format.id != 0;
}

static int64_t bytes(gemmux_format format, int64_t count, int64_t rows, int64_t cols)
{
    (void)format, (void)count, (void)rows, (void)cols;
    return 0;
}

static void pack(const gemmux_tensor *w, gemmux_packed *packed, int64_t matrix, int64_t row_first,
                 int64_t row_last)
{
    (void)w, (void)packed, (void)matrix, (void)row_first, (void)row_last;
}

static void unpack_row(const gemmux_packed *packed, int64_t matrix, int64_t row, void *codes,
                       void *scales, void *zeros)
{
    const gemmux_tensor *t = &packed->plain;
    int64_t row_bytes = gemmux_row_bytes(t->format, t->cols);
    int64_t stride = t->row_bytes ? t->row_bytes : row_bytes;
    if (codes)
        memcpy(codes, (const char *)t->codes + (matrix * t->rows + row) * stride,
               (size_t)row_bytes);
    int64_t first;
    int64_t count = gemmux_row_scales(t, matrix, row, &first);
    int64_t scale_each = gemmux_scale_bytes(t->format);
    int64_t zero_each = gemmux_zero_bytes(t->format);
    if (scales && count)
        memcpy(scales, (const char *)t->scales + first * scale_each, (size_t)(count * scale_each));
    if (zeros && zero_each && count)
        memcpy(zeros, (const char *)t->zeros + first * zero_each, (size_t)(count * zero_each));
}

const gemmux_packing gemmux_packing_plain = {
    .name = "plain",
    .summary = "as stored: codes row-major along K, scales beside them; borrowed, not copied",
    .accepts = accepts,
    .bytes = bytes,
    .pack = pack,
    .unpack_row = unpack_row,
    .row_multiple = 1,
};
