/* SPDX-License-Identifier: Apache-2.0
 *
 * The plain layout: how many bytes a tensor takes and what its elements are worth. Two readers on
 * purpose: gemmux_tensor_at is the simple one that tests trust, gemmux_tensor_row_f32 the quick
 * one that everything else uses, and a test holds them together.
 */
#include "format.h"

#include <math.h>
#include <string.h>

#include "error.h"

/* ------------------------------------------------------------------------------------- sizes -- */

int64_t gemmux_row_bytes(gemmux_format format, int64_t cols)
{
    int64_t bits;
    if (!gemmux_format_valid(format) ||
        !gemmux_mul_size(cols, gemmux_code_bits((gemmux_code)format.element), &bits) ||
        !gemmux_add_size(bits, 7, &bits))
        return -1;
    return bits / 8;
}

/* Without the overflow of (cols + group - 1). */
static int64_t groups_of(int64_t size, int64_t group)
{
    // NOLINTNEXTLINE(clang-analyzer-core.DivideZero): GROUP and BLOCK formats have a group
    return size / group + (size % group != 0);
}

int64_t gemmux_scale_count(gemmux_format format, int64_t rows, int64_t cols)
{
    int64_t count;
    if (!gemmux_format_valid(format) || rows < 0 || cols < 0)
        return -1;
    switch (format.scaling) {
    case GEMMUX_SCALING_TENSOR:
        return 1;
    case GEMMUX_SCALING_ROW:
        return rows;
    case GEMMUX_SCALING_GROUP:
        return gemmux_mul_size(rows, groups_of(cols, format.group), &count) ? count : -1;
    case GEMMUX_SCALING_BLOCK:
        return gemmux_mul_size(groups_of(rows, format.group), groups_of(cols, format.group), &count)
                   ? count
                   : -1;
    default:
        return 0;
    }
}

int64_t gemmux_scale_bytes(gemmux_format format)
{
    return gemmux_code_bits((gemmux_code)format.scale) / 8;
}

int64_t gemmux_zero_bytes(gemmux_format format)
{
    if (format.zero == GEMMUX_ZERO_NONE)
        return 0;
    return format.zero == GEMMUX_ZERO_POINT ? 1 : gemmux_scale_bytes(format);
}

int64_t gemmux_stored_bytes(gemmux_format format, int64_t count, int64_t rows, int64_t cols)
{
    int64_t row_bytes = gemmux_row_bytes(format, cols);
    int64_t scales = gemmux_scale_count(format, rows, cols);
    int64_t codes, beside, total;
    int64_t a_scale = gemmux_scale_bytes(format) + gemmux_zero_bytes(format);
    if (row_bytes < 0 || scales < 0 || !gemmux_mul_size(row_bytes, rows, &codes) ||
        !gemmux_mul_size(scales, a_scale, &beside) || !gemmux_add_size(codes, beside, &total) ||
        !gemmux_add_size(total, format.two_level ? 4 : 0, &total) ||
        !gemmux_mul_size(total, count, &total))
        return -1;
    return total;
}

int64_t gemmux_scale_index(gemmux_format format, int64_t cols, int64_t row, int64_t col)
{
    switch (format.scaling) {
    case GEMMUX_SCALING_ROW:
        return row;
    case GEMMUX_SCALING_GROUP:
        return row * groups_of(cols, format.group) + col / format.group;
    case GEMMUX_SCALING_BLOCK: // NOLINTNEXTLINE(clang-analyzer-core.DivideZero): as above
        return row / format.group * groups_of(cols, format.group) + col / format.group;
    default:
        return 0;
    }
}

int64_t gemmux_row_stride(const gemmux_tensor *tensor)
{
    return tensor->row_bytes ? tensor->row_bytes : gemmux_row_bytes(tensor->format, tensor->cols);
}

/* ------------------------------------------------------------------------------ load and store --
 */

uint32_t gemmux_code_load(gemmux_code code, const void *codes, int64_t index)
{
    const uint8_t *bytes = codes;
    uint16_t half;
    uint32_t word;
    switch (gemmux_code_bits(code)) {
    case 4:
        return bytes[index / 2] >> (index % 2 ? 4 : 0) & 15;
    case 8:
        return bytes[index];
    case 16:
        memcpy(&half, bytes + 2 * index, 2);
        return half;
    case 32:
        memcpy(&word, bytes + 4 * index, 4);
        return word;
    default:
        return 0;
    }
}

void gemmux_code_store(gemmux_code code, void *codes, int64_t index, uint32_t bits)
{
    uint8_t *bytes = codes;
    uint16_t half = (uint16_t)bits;
    int shift = index % 2 ? 4 : 0;
    switch (gemmux_code_bits(code)) {
    case 4:
        bytes[index / 2] = (uint8_t)((bytes[index / 2] & (0xf0 >> shift)) | (bits & 15) << shift);
        break;
    case 8:
        bytes[index] = (uint8_t)bits;
        break;
    case 16:
        memcpy(bytes + 2 * index, &half, 2);
        break;
    case 32:
        memcpy(bytes + 4 * index, &bits, 4);
        break;
    default:
        break;
    }
}

/* ---------------------------------------------------------------------------------- one by one --
 */

/* Scale and zero that belong to one element, as numbers. */
typedef struct affine {
    double scale, zero;
} affine;

static affine affine_at(const gemmux_tensor *t, int64_t matrix, int64_t row, int64_t col)
{
    gemmux_format f = t->format;
    affine a = {.scale = 1, .zero = f.element == GEMMUX_CODE_INT4 ? 8 : 0};
    if (!f.scaling)
        return a;
    int64_t index =
        matrix * gemmux_scale_count(f, t->rows, t->cols) + gemmux_scale_index(f, t->cols, row, col);
    gemmux_code code = (gemmux_code)f.scale;
    a.scale = gemmux_code_decode(code, gemmux_code_load(code, t->scales, index));
    if (f.two_level && t->globals)
        a.scale *= (double)t->globals[matrix]; /* 4 + 24 bits: exact */
    if (f.zero == GEMMUX_ZERO_POINT)
        a.zero = ((const uint8_t *)t->zeros)[index];
    else if (f.zero == GEMMUX_ZERO_MIN)
        a.zero = gemmux_code_decode(code, gemmux_code_load(code, t->zeros, index));
    return a;
}

static double apply(affine a, uint8_t zero_kind, double value)
{
    return zero_kind == GEMMUX_ZERO_MIN ? a.scale * value + a.zero : a.scale * (value - a.zero);
}

double gemmux_tensor_at(const gemmux_tensor *t, int64_t matrix, int64_t row, int64_t col)
{
    gemmux_code code = (gemmux_code)t->format.element;
    const uint8_t *codes =
        (const uint8_t *)t->codes + (matrix * t->rows + row) * gemmux_row_stride(t);
    double value = gemmux_code_decode(code, gemmux_code_load(code, codes, col));
    if (!t->format.scaling)
        return value;
    return apply(affine_at(t, matrix, row, col), t->format.zero, value);
}

/* ------------------------------------------------------------------------------------- by rows --
 */

static void row_f16(const uint8_t *codes, int64_t cols, float *out)
{
    for (int64_t j = 0; j < cols; j++) {
        uint16_t half;
        memcpy(&half, codes + 2 * j, 2);
        /* Exponent and mantissa moved to f32's places, 2^112 low; the product restores it and is
         * exact, subnormals too. */
        uint32_t bits = (uint32_t)(half & 0x7fff) << 13;
        float value;
        if (bits >= UINT32_C(0x7c00) << 13) {
            bits |= 0x7f800000;
            memcpy(&value, &bits, 4);
        } else {
            memcpy(&value, &bits, 4);
            value *= 0x1p112f;
        }
        out[j] = half & 0x8000 ? -value : value;
    }
}

static void row_bf16(const uint8_t *codes, int64_t cols, float *out)
{
    for (int64_t j = 0; j < cols; j++) {
        uint16_t half;
        memcpy(&half, codes + 2 * j, 2);
        uint32_t bits = (uint32_t)half << 16;
        memcpy(out + j, &bits, 4);
    }
}

/* Columns [first, last) of an 8-bit row, which share one scale. */
static void segment_8(const gemmux_tensor *t, const uint8_t *codes, int64_t first, int64_t last,
                      affine a, float *out)
{
    if (t->format.element == GEMMUX_CODE_INT8) {
        for (int64_t j = first; j < last; j++)
            out[j] = (float)(a.scale * (int8_t)codes[j]);
        return;
    }
    const float *table = gemmux_code_table((gemmux_code)t->format.element);
    for (int64_t j = first; j < last; j++)
        out[j] = (float)(a.scale * (double)table[codes[j]]);
}

/* The same for 4 bits: 16 products make the table for the whole segment. */
static void segment_4(const gemmux_tensor *t, const uint8_t *codes, int64_t first, int64_t last,
                      affine a, float *out)
{
    const float *table = gemmux_code_table((gemmux_code)t->format.element);
    float values[16];
    for (int code = 0; code < 16; code++)
        values[code] = (float)apply(a, t->format.zero, table ? (double)table[code] : code);
    int64_t j = first;
    if (j < last && j % 2)
        out[j] = values[codes[j / 2] >> 4], j++;
    for (; j + 1 < last; j += 2) {
        out[j] = values[codes[j / 2] & 15];
        out[j + 1] = values[codes[j / 2] >> 4];
    }
    if (j < last)
        out[j] = values[codes[j / 2] & 15];
}

void gemmux_tensor_row_f32(const gemmux_tensor *t, int64_t matrix, int64_t row, float *out)
{
    gemmux_format f = t->format;
    const uint8_t *codes =
        (const uint8_t *)t->codes + (matrix * t->rows + row) * gemmux_row_stride(t);
    if (f.element == GEMMUX_CODE_F32) {
        if (t->cols)
            memcpy(out, codes, (size_t)t->cols * 4);
        return;
    }
    if (f.element == GEMMUX_CODE_F16) {
        row_f16(codes, t->cols, out);
        return;
    }
    if (f.element == GEMMUX_CODE_BF16) {
        row_bf16(codes, t->cols, out);
        return;
    }
    int64_t step = f.group ? f.group : t->cols;
    bool nibbles = gemmux_code_bits((gemmux_code)f.element) == 4;
    for (int64_t first = 0; first < t->cols; first += step) {
        int64_t last = t->cols - first > step ? first + step : t->cols;
        affine a = affine_at(t, matrix, row, first);
        if (nibbles)
            segment_4(t, codes, first, last, a, out);
        else
            segment_8(t, codes, first, last, a, out);
    }
}

/* --------------------------------------------------------------------------------------- check --
 */

/* Where a bad number was found, for the sentence. */
typedef struct finding {
    const char *part, *what;
    int64_t index;
    double value;
} finding;

/* Signs: int4 and int8 take them (GGUF's Q4_0 has negative scales); nothing else does. */
static bool signs_allowed(gemmux_format format)
{
    return format.element == GEMMUX_CODE_INT4 || format.element == GEMMUX_CODE_INT8;
}

static bool bad_number(finding *found, const char *part, gemmux_code code, const void *values,
                       int64_t count, bool negative_allowed)
{
    bool ue4m3 = code == GEMMUX_CODE_UE4M3;
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits = gemmux_code_load(code, values, i);
        double value = gemmux_code_decode(ue4m3 ? GEMMUX_CODE_E4M3 : code, bits);
        if (isfinite(value) && (negative_allowed || value >= 0))
            continue;
        *found = (finding){part,
                           isnan(value)   ? "NaN"
                           : isinf(value) ? "infinite"
                                          : "negative",
                           i, value};
        return true;
    }
    return false;
}

static bool bad_scales(finding *found, const gemmux_tensor *t, int64_t scales)
{
    gemmux_format f = t->format;
    gemmux_code code = (gemmux_code)f.scale;
    if (!f.scaling)
        return false;
    if (bad_number(found, "scale", code, t->scales, scales, signs_allowed(f)))
        return true;
    if (f.two_level && t->globals &&
        bad_number(found, "global scale", GEMMUX_CODE_F32, t->globals, t->count, false))
        return true;
    if (f.zero == GEMMUX_ZERO_MIN)
        return bad_number(found, "minimum", code, t->zeros, scales, true);
    if (f.zero == GEMMUX_ZERO_POINT) {
        const uint8_t *zeros = t->zeros;
        for (int64_t i = 0; i < scales; i++)
            if (zeros[i] > 16) { /* 16: GPTQ stores zero - 1 in four bits */
                *found = (finding){"zero point", "above 16", i, zeros[i]};
                return true;
            }
    }
    return false;
}

static gemmux_status check_parts(const gemmux_tensor *t, const char *name, int64_t bytes,
                                 int64_t scales, gemmux_error *error)
{
    const char *missing = NULL;
    if (bytes && !t->codes)
        missing = "codes";
    else if (scales && !t->scales)
        missing = "scales";
    else if (scales && t->format.zero && !t->zeros)
        missing = "zeros";
    if (missing) {
        char format[32];
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT, "%s: %s is NULL, but %s has %s", name,
                           missing, gemmux_format_name(t->format, format, sizeof format), missing);
    }
    finding found;
    if (bad_scales(&found, t, scales))
        return gemmux_fail(error, GEMMUX_ERROR_INPUT, "%s: %s %lld of %lld is %s (%g)", name,
                           found.part, (long long)found.index,
                           (long long)(!strcmp(found.part, "global scale") ? t->count : scales),
                           found.what, found.value);
    for (int64_t j = 0; t->k_order && j < t->cols; j++)
        if (t->k_order[j] < 0 || t->k_order[j] >= t->cols)
            return gemmux_fail(error, GEMMUX_ERROR_INPUT,
                               "%s: column %lld goes with column %d of x, which has only %lld",
                               name, (long long)j, t->k_order[j], (long long)t->cols);
    return GEMMUX_OK;
}

gemmux_status gemmux_tensor_check(const gemmux_tensor *t, const char *name, gemmux_error *error)
{
    name = name ? name : "tensor";
    if (!t)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT, "%s is NULL", name);
    gemmux_format f = t->format;
    if (!gemmux_format_valid(f))
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "%s: its format (id %d, element %d, scaling %d, scale %d, zero %d, "
                           "group %d) is none that gemmux knows",
                           name, f.id, f.element, f.scaling, f.scale, f.zero, f.group);
    if (t->count < 1 || t->rows < 0 || t->cols < 0)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "%s: %lld matrices of %lld x %lld is no shape", name,
                           (long long)t->count, (long long)t->rows, (long long)t->cols);
    int64_t dense = gemmux_row_bytes(f, t->cols);
    int64_t scales = gemmux_scale_count(f, t->rows, t->cols);
    int64_t stride = t->row_bytes ? t->row_bytes : dense;
    int64_t bytes;
    if (dense < 0 || gemmux_stored_bytes(f, t->count, t->rows, t->cols) < 0 ||
        !gemmux_mul_size(stride, t->rows, &bytes) || !gemmux_mul_size(bytes, t->count, &bytes))
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY,
                           "%s: %lld matrices of %lld x %lld take more bytes than 64 bits count",
                           name, (long long)t->count, (long long)t->rows, (long long)t->cols);
    if (t->row_bytes && t->row_bytes < dense)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "%s: row_bytes is %lld, but a row of %lld columns takes %lld", name,
                           (long long)t->row_bytes, (long long)t->cols, (long long)dense);
    return check_parts(t, name, bytes, scales * t->count, error);
}
