/* SPDX-License-Identifier: Apache-2.0
 *
 * f32 rows into any format. The scale rules are those of docs/formats.md: MX formats take the OCP
 * specification's shared exponent, nvfp4 two levels, the others the largest magnitude over the
 * largest code. All arithmetic is f64 and every stored number is rounded once.
 */
#include "format.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

/* The f32 numbers, and where they came from for errors. */
typedef struct source {
    const float *values;
    int64_t rows, cols;
} source;

/* Elements that share one scale, [row, row_end) x [col, col_end) of one matrix. */
typedef struct region {
    int64_t matrix, row, row_end, col, col_end;
    double low, high, amax; /* of the finite elements; zeros when there is none */
} region;

/* The stored and the decoded scale and zero of a region. */
typedef struct choice {
    uint32_t scale_bits, zero_bits;
    double scale, zero; /* scale with the second level */
} choice;

static bool has_nan(gemmux_code code)
{
    return code != GEMMUX_CODE_E2M1 && code != GEMMUX_CODE_INT8 && code != GEMMUX_CODE_INT4 &&
           code != GEMMUX_CODE_NF4;
}

/* Fills low, high and amax; refuses what the element code cannot hold. */
static gemmux_status scan(const source *src, gemmux_format format, region *r, gemmux_error *error)
{
    bool first = true;
    r->low = r->high = r->amax = 0;
    for (int64_t row = r->row; row < r->row_end; row++) {
        const float *values = src->values + (r->matrix * src->rows + row) * src->cols;
        for (int64_t col = r->col; col < r->col_end; col++) {
            double value = (double)values[col];
            if (!isfinite(value)) {
                if (has_nan((gemmux_code)format.element))
                    continue;
                char name[32];
                return gemmux_fail(error, GEMMUX_ERROR_INPUT,
                                   "element [%lld, %lld, %lld] is %s, which %s cannot store",
                                   (long long)r->matrix, (long long)row, (long long)col,
                                   isnan(value) ? "NaN" : "infinite",
                                   gemmux_format_name(format, name, sizeof name));
            }
            r->low = first || value < r->low ? value : r->low;
            r->high = first || value > r->high ? value : r->high;
            first = false;
        }
    }
    r->amax = fmax(-r->low, r->high);
    r->amax = fmax(r->amax, 0);
    return GEMMUX_OK;
}

/* What the region's largest magnitude becomes, where the scale is amax over it. */
static double limit_of(gemmux_format format)
{
    switch (format.element) {
    case GEMMUX_CODE_E4M3:
        return 448;
    case GEMMUX_CODE_E5M2:
        return 57344;
    case GEMMUX_CODE_E2M1:
        return 6;
    case GEMMUX_CODE_INT8:
        return 127;
    case GEMMUX_CODE_INT4:
        return 7.5; /* -8 .. 7: half a step of error at either end, all 16 codes used */
    default:
        return 1;
    }
}

/* Nearest, but a finite number never becomes an infinite scale. */
static uint32_t encode_scale(gemmux_code code, double value)
{
    uint32_t bits = gemmux_code_encode(code, value);
    return isfinite(gemmux_code_decode(code, bits)) ? bits : bits - 1;
}

/* OCP MX 1.0, 6.3: the largest power of two not above amax, over that of the largest element. */
static uint32_t shared_exponent(gemmux_format format, double amax)
{
    int exponent;
    int largest = format.element == GEMMUX_CODE_E2M1   ? 2
                  : format.element == GEMMUX_CODE_E4M3 ? 8
                                                       : 15;
    if (amax == 0)
        return 0;
    frexp(amax, &exponent);
    int code = exponent - 1 - largest + 127;
    return (uint32_t)(code < 0 ? 0 : code > 254 ? 254 : code);
}

static choice choose(gemmux_format format, const region *r, double global)
{
    choice c = {.zero = format.element == GEMMUX_CODE_INT4 ? 8 : 0};
    gemmux_code code = (gemmux_code)format.scale;
    if (code == GEMMUX_CODE_UE8M0) {
        c.scale_bits = shared_exponent(format, r->amax);
    } else if (format.zero == GEMMUX_ZERO_MIN) {
        c.scale_bits = encode_scale(code, (r->high - r->low) / 15);
        c.zero_bits = encode_scale(code, r->low);
        c.zero = gemmux_code_decode(code, c.zero_bits);
    } else if (format.zero == GEMMUX_ZERO_POINT) {
        double low = fmin(r->low, 0), high = fmax(r->high, 0);
        c.scale_bits = encode_scale(code, (high - low) / 15);
        double scale = gemmux_code_decode(code, c.scale_bits);
        c.zero_bits = scale > 0 ? gemmux_code_encode(GEMMUX_CODE_INT4, -low / scale) : 0;
        c.zero = c.zero_bits;
    } else {
        double over = limit_of(format) * global;
        c.scale_bits = over > 0 ? encode_scale(code, r->amax / over) : 0;
    }
    c.scale = gemmux_code_decode(code, c.scale_bits) * global;
    return c;
}

static uint32_t encode_element(gemmux_format format, const choice *c, double value)
{
    gemmux_code code = (gemmux_code)format.element;
    if (format.zero == GEMMUX_ZERO_MIN)
        return c->scale > 0 ? gemmux_code_encode(code, (value - c->zero) / c->scale) : 0;
    double quotient = c->scale > 0 || !isfinite(value) ? value / c->scale : copysign(0, value);
    if (code != GEMMUX_CODE_INT4)
        return gemmux_code_encode(code, quotient);
    /* Rounded as a signed number first, so that a tie goes to the even value, not the even code. */
    if (quotient > 16 || quotient < -16)
        quotient = copysign(16, quotient);
    int8_t nearest = (int8_t)gemmux_code_encode(GEMMUX_CODE_INT8, quotient);
    return gemmux_code_encode(code, nearest + c->zero);
}

static gemmux_status quantise_region(const source *src, gemmux_weights *out, region *r,
                                     double global, gemmux_error *error)
{
    const gemmux_tensor *t = &out->tensor;
    gemmux_format format = t->format;
    gemmux_status status = scan(src, format, r, error);
    if (status)
        return status;
    choice c = choose(format, r, global);
    int64_t index = r->matrix * gemmux_scale_count(format, t->rows, t->cols) +
                    gemmux_scale_index(format, t->cols, r->row, r->col);
    gemmux_code_store((gemmux_code)format.scale, (void *)t->scales, index, c.scale_bits);
    if (format.zero)
        gemmux_code_store(format.zero == GEMMUX_ZERO_MIN ? (gemmux_code)format.scale
                                                         : GEMMUX_CODE_INT8,
                          (void *)t->zeros, index, c.zero_bits);
    for (int64_t row = r->row; row < r->row_end; row++) {
        int64_t at = r->matrix * t->rows + row;
        uint8_t *codes = (uint8_t *)t->codes + at * t->row_bytes;
        const float *values = src->values + at * t->cols;
        for (int64_t col = r->col; col < r->col_end; col++)
            gemmux_code_store((gemmux_code)format.element, codes, col,
                              encode_element(format, &c, (double)values[col]));
    }
    return GEMMUX_OK;
}

/* The f32 of a two-level format: with it the largest block scale is e4m3's largest number. */
static gemmux_status choose_global(const source *src, gemmux_weights *out, int64_t matrix,
                                   double *global, gemmux_error *error)
{
    region all = {.matrix = matrix, .row_end = src->rows, .col_end = src->cols};
    *global = 1;
    if (!out->tensor.format.two_level)
        return GEMMUX_OK;
    gemmux_status status = scan(src, out->tensor.format, &all, error);
    float stored = (float)(all.amax / (448.0 * 6.0));
    ((float *)out->tensor.globals)[matrix] = stored;
    *global = (double)stored;
    return status;
}

static gemmux_status quantise_matrix(const source *src, gemmux_weights *out, int64_t matrix,
                                     gemmux_error *error)
{
    gemmux_format format = out->tensor.format;
    double global;
    gemmux_status status = choose_global(src, out, matrix, &global, error);
    int64_t high = format.scaling == GEMMUX_SCALING_TENSOR  ? src->rows
                   : format.scaling == GEMMUX_SCALING_BLOCK ? format.group
                                                            : 1;
    int64_t wide = format.group ? format.group : src->cols;
    for (int64_t row = 0; !status && row < src->rows; row += high)
        for (int64_t col = 0; !status && (col < src->cols || (!col && !format.group));
             col += wide) {
            region r = {.matrix = matrix, .row = row, .col = col};
            r.row_end = src->rows - row > high ? row + high : src->rows;
            r.col_end = src->cols - col > wide ? col + wide : src->cols;
            status = quantise_region(src, out, &r, global, error);
            if (!wide)
                break;
        }
    return status;
}

static void encode_plain(const source *src, gemmux_weights *out)
{
    const gemmux_tensor *t = &out->tensor;
    gemmux_code code = (gemmux_code)t->format.element;
    int64_t elements = t->count * t->rows * t->cols; /* rows of whole bytes follow each other */
    if (code == GEMMUX_CODE_F32) {
        if (elements)
            memcpy((void *)t->codes, src->values, (size_t)elements * 4);
        return;
    }
    for (int64_t i = 0; i < elements; i++)
        gemmux_code_store(code, (void *)t->codes, i,
                          gemmux_code_encode(code, (double)src->values[i]));
}

/* -------------------------------------------------------------------------------------- storage --
 */

/* One allocation for codes, scales, zeros and globals, each at a multiple of 64 bytes. */
static gemmux_status allocate(gemmux_weights *out, gemmux_error *error)
{
    gemmux_tensor *t = &out->tensor;
    gemmux_format f = t->format;
    int64_t scales = gemmux_scale_count(f, t->rows, t->cols);
    int64_t stored = gemmux_stored_bytes(f, t->count, t->rows, t->cols);
    if (stored < 0 || stored > INT64_MAX - 4 * 64)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY,
                           "%lld matrices of %lld x %lld take more bytes than 64 bits count",
                           (long long)t->count, (long long)t->rows, (long long)t->cols);
    const int64_t sizes[4] = {
        t->count * t->rows * t->row_bytes,
        t->count * scales * gemmux_scale_bytes(f),
        t->count * scales * gemmux_zero_bytes(f),
        f.two_level ? t->count * 4 : 0,
    };
    int64_t offsets[4], total = 0;
    for (int part = 0; part < 4; part++) {
        offsets[part] = total;
        total += (sizes[part] + 63) / 64 * 64;
    }
    out->storage_bytes = total ? (size_t)total : 64;
    uint8_t *base = aligned_alloc(64, out->storage_bytes);
    if (!base)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "no memory for %lld bytes of weights",
                           (long long)total);
    memset(base, 0, out->storage_bytes);
    out->storage = base;
    t->codes = base + offsets[0];
    t->scales = sizes[1] ? base + offsets[1] : NULL;
    t->zeros = sizes[2] ? base + offsets[2] : NULL;
    t->globals = sizes[3] ? (float *)(base + offsets[3]) : NULL;
    return GEMMUX_OK;
}

gemmux_status gemmux_quantise(const float *src, int64_t count, int64_t rows, int64_t cols,
                              gemmux_format format, gemmux_weights *out, gemmux_error *error)
{
    if (!out)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT, "gemmux_quantise: out is NULL");
    *out = (gemmux_weights){0};
    if (!gemmux_format_valid(format))
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "gemmux_quantise: format id %d is none that gemmux knows", format.id);
    if (count < 1 || rows < 0 || cols < 0 || (!src && rows && cols))
        return gemmux_fail(
            error, GEMMUX_ERROR_ARGUMENT, "gemmux_quantise: %s, %lld matrices of %lld x %lld",
            src ? "bad shape" : "src is NULL", (long long)count, (long long)rows, (long long)cols);
    out->tensor = (gemmux_tensor){.format = format,
                                  .count = count,
                                  .rows = rows,
                                  .cols = cols,
                                  .row_bytes = gemmux_row_bytes(format, cols)};
    gemmux_status status = allocate(out, error);
    static const float nothing; /* offsets of NULL, even of 0, are undefined */
    source from = {.values = src ? src : &nothing, .rows = rows, .cols = cols};
    if (!status && !format.scaling)
        encode_plain(&from, out);
    for (int64_t matrix = 0; !status && format.scaling && matrix < count; matrix++)
        status = quantise_matrix(&from, out, matrix, error);
    if (status)
        gemmux_weights_free(out);
    return status;
}

void gemmux_weights_free(gemmux_weights *weights)
{
    if (!weights)
        return;
    free(weights->storage);
    *weights = (gemmux_weights){0};
}
