/* SPDX-License-Identifier: Apache-2.0
 *
 * "cublaslt_rows": rows padded to the sizes that cuBLASLt takes, scales in the order in which it
 * reads them; the header beside this file draws it. For products whose own sizes it refuses, and
 * for scales along K.
 */
#include "cublaslt_rows.h"

#include "error.h"
#include "packing.h"

#include <string.h>

enum { ROWS = 16, COLUMNS = 32, TILE_ROWS = 128, TILE_GROUPS = 4, TILE_BYTES = 512 };

typedef unsigned char byte;

static bool tiled(gemmux_format f)
{
    return f.scaling == GEMMUX_SCALING_GROUP && f.scale != GEMMUX_CODE_F32;
}

static bool accepts(gemmux_format f)
{
    bool along_k = f.scaling == GEMMUX_SCALING_GROUP || f.scaling == GEMMUX_SCALING_BLOCK;
    switch (f.id) {
    case GEMMUX_F32:
    case GEMMUX_F16:
    case GEMMUX_BF16:
    case GEMMUX_MXFP8:
    case GEMMUX_NVFP4:
        return true;
    case GEMMUX_E4M3:
    case GEMMUX_E5M2:
        return f.scale == GEMMUX_CODE_F32 && (!along_k || f.group == 128);
    case GEMMUX_INT8:
        return f.scale == GEMMUX_CODE_F32 && !along_k && !f.zero;
    default:
        return false;
    }
}

int64_t gemmux_lt_tile_bytes(int64_t rows, int64_t groups)
{
    return gemmux_round_up(rows, TILE_ROWS) * gemmux_round_up(groups, TILE_GROUPS);
}

int64_t gemmux_lt_tile_at(int64_t row, int64_t group, int64_t groups)
{
    int64_t tiles_a_row = gemmux_round_up(groups, TILE_GROUPS) / TILE_GROUPS;
    int64_t tile = row / TILE_ROWS * tiles_a_row + group / TILE_GROUPS, within = row % TILE_ROWS;
    return tile * TILE_BYTES + within % 32 * 16 + within / 32 * TILE_GROUPS + group % TILE_GROUPS;
}

bool gemmux_lt_rows_of(gemmux_format f, int64_t rows, int64_t cols, gemmux_lt_rows *at)
{
    int64_t codes;
    *at = (gemmux_lt_rows){0};
    if (rows < 0 || cols < 0 || rows > INT64_MAX / 1024 || cols > INT64_MAX / 1024)
        return false;
    at->rows = gemmux_round_up(rows, ROWS);
    at->cols = gemmux_round_up(cols, COLUMNS);
    at->row_bytes = at->cols * gemmux_code_bits((gemmux_code)f.element) / 8;
    at->scale_bytes = f.scaling ? gemmux_code_bits((gemmux_code)f.scale) / 8 : 0;
    at->scale_rows = f.scaling == GEMMUX_SCALING_BLOCK ? (rows + f.group - 1) / f.group : rows;
    at->groups = f.group ? (cols + f.group - 1) / f.group : 1;
    if (at->rows && at->groups > INT64_MAX / 1024 / at->rows)
        return false;
    switch (f.scaling) {
    case GEMMUX_SCALING_TENSOR:
        at->scale_count = 1;
        break;
    case GEMMUX_SCALING_ROW:
        at->scale_count = at->rows;
        break;
    case GEMMUX_SCALING_BLOCK:
        at->scale_count = at->scale_rows * gemmux_round_up(at->groups, 4);
        break;
    case GEMMUX_SCALING_GROUP:
        at->scale_count = tiled(f) ? gemmux_lt_tile_bytes(rows, at->groups) : at->groups * at->rows;
        break;
    default:
        break;
    }
    if (!gemmux_mul_size(at->rows, at->row_bytes, &codes) || codes > INT64_MAX / 4)
        return false;
    at->scales_at = gemmux_round_up(codes, 256);
    at->matrix_bytes = at->scales_at + gemmux_round_up(at->scale_count * at->scale_bytes, 256);
    return true;
}

static int64_t bytes(gemmux_format format, int64_t count, int64_t rows, int64_t cols)
{
    gemmux_lt_rows at;
    int64_t total;
    if (!gemmux_lt_rows_of(format, rows, cols, &at) ||
        !gemmux_mul_size(at.matrix_bytes + (format.two_level ? 4 : 0), count, &total))
        return -1;
    return total;
}

static int64_t settled(gemmux_format format, int64_t rows, int64_t cols, int64_t row_last)
{
    gemmux_lt_rows at;
    return gemmux_lt_rows_of(format, rows, cols, &at) ? row_last * at.row_bytes : 0;
}

/* Second-level scales stand behind the last matrix. */
static const float *globals(const gemmux_packed *packed)
{
    gemmux_lt_rows at;
    if (!packed->data ||
        !gemmux_lt_rows_of(packed->plain.format, packed->plain.rows, packed->plain.cols, &at))
        return NULL;
    return (const float *)((const byte *)packed->data + packed->plain.count * at.matrix_bytes);
}

/* Index of the scale of `group` of `row`. */
static int64_t scale_at(gemmux_format f, const gemmux_lt_rows *at, int64_t row, int64_t group)
{
    switch (f.scaling) {
    case GEMMUX_SCALING_ROW:
        return row;
    case GEMMUX_SCALING_BLOCK:
        return row / f.group * gemmux_round_up(at->groups, 4) + group;
    case GEMMUX_SCALING_GROUP:
        return tiled(f) ? gemmux_lt_tile_at(row, group, at->groups) : group * at->rows + row;
    default:
        return 0;
    }
}

/* The row of a matrix that writes the scales which `row` shares with others. */
static bool owns_scales(gemmux_format f, int64_t row)
{
    return f.scaling == GEMMUX_SCALING_TENSOR  ? row == 0
           : f.scaling == GEMMUX_SCALING_BLOCK ? row % f.group == 0
                                               : f.scaling != GEMMUX_SCALING_NONE;
}

static void pack(const gemmux_tensor *w, gemmux_packed *packed, int64_t matrix, int64_t row_first,
                 int64_t row_last)
{
    gemmux_format f = w->format;
    gemmux_lt_rows at;
    if (!gemmux_lt_rows_of(f, w->rows, w->cols, &at))
        return;
    if (f.two_level && row_first == 0) {
        float one = 1.0f;
        memcpy((byte *)packed->data + w->count * at.matrix_bytes + matrix * 4,
               w->globals ? &w->globals[matrix] : &one, 4);
    }
    byte *base = (byte *)packed->data + matrix * at.matrix_bytes;
    int64_t dense = gemmux_row_bytes(f, w->cols), stride = gemmux_row_stride(w);
    bool half_byte = gemmux_code_bits((gemmux_code)f.element) == 4 && w->cols % 2;
    for (int64_t n = row_first; n < row_last; n++) {
        byte *codes = base + n * at.row_bytes;
        if (dense)
            memcpy(codes, (const byte *)w->codes + (matrix * w->rows + n) * stride, (size_t)dense);
        if (half_byte)
            codes[dense - 1] &= 15; /* what stands beyond K may be anything */
        int64_t first, count = gemmux_row_scales(w, matrix, n, &first);
        for (int64_t group = 0; owns_scales(f, n) && group < count; group++)
            memcpy(base + at.scales_at + scale_at(f, &at, n, group) * at.scale_bytes,
                   (const byte *)w->scales + (first + group) * at.scale_bytes,
                   (size_t)at.scale_bytes);
    }
}

static void unpack_row(const gemmux_packed *packed, int64_t matrix, int64_t n, void *codes,
                       void *scales, void *zeros)
{
    const gemmux_tensor *t = &packed->plain;
    gemmux_lt_rows at;
    int64_t first, count = gemmux_row_scales(t, matrix, n, &first);
    (void)zeros;
    if (!gemmux_lt_rows_of(t->format, t->rows, t->cols, &at))
        return;
    const byte *base = (const byte *)packed->data + matrix * at.matrix_bytes;
    if (codes && t->cols)
        memcpy(codes, base + n * at.row_bytes, (size_t)gemmux_row_bytes(t->format, t->cols));
    for (int64_t group = 0; scales && group < count; group++)
        memcpy((byte *)scales + group * at.scale_bytes,
               base + at.scales_at + scale_at(t->format, &at, n, group) * at.scale_bytes,
               (size_t)at.scale_bytes);
}

const gemmux_packing gemmux_packing_cublaslt_rows = {
    .name = "cublaslt_rows",
    .summary = "rows padded to 32 columns and 16 rows, scales in the order in which cuBLASLt reads "
               "them",
    .accepts = accepts,
    .bytes = bytes,
    .pack = pack,
    .unpack_row = unpack_row,
    .globals = globals,
    .settled = settled,
    .row_multiple = ROWS,
};
