/* SPDX-License-Identifier: Apache-2.0
 *
 * gemmux_quantise by property: each element within half a step of its source, scales by the rule
 * of docs/formats.md (recomputed here), and what zeros, NaN and infinity become. Also that the two
 * readers of the plain layout agree and that the layout is the documented one.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "format.h"

/* Every kind of scaling, scale type and zero, ragged groups included (cols is 83). */
static const char *const formats[] = {
    "f32",
    "f16",
    "bf16",
    "e4m3",
    "e4m3:row",
    "e4m3:block32",
    "e4m3:g16:bf16",
    "e5m2",
    "e5m2:row:f16",
    "mxfp8",
    "mxfp8:e5m2",
    "mxfp4",
    "nvfp4",
    "int8",
    "int8:tensor",
    "int8:g32:f16",
    "int8:block16",
    "int4",
    "int4:g32",
    "int4:row:f32",
    "int4:tensor",
    "int4:g32:zero",
    "int4:g32:min",
    "int4:g7:zero:f32",
    "int4:row:min:bf16",
    "nf4",
    "nf4:g16:bf16",
    "nf4:tensor",
    "nf4:row:f16",
};
enum { FORMATS = sizeof formats / sizeof formats[0], COUNT = 2, ROWS = 37, COLS = 83 };

static gemmux_format parse(const char *text)
{
    gemmux_format format = {0};
    gemmux_error error = {0};
    if (gemmux_format_parse(text, &format, &error) != GEMMUX_OK)
        fail_msg("%s: %s", text, error.text);
    return format;
}

static float uniform(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)(*seed >> 40) * 0x1p-23f - 1;
}

/* Neighbouring groups differ by powers of two, so that a misplaced scale cannot pass. */
static float *make_source(void)
{
    float *values = malloc(sizeof(float) * COUNT * ROWS * COLS);
    uint64_t seed = 99;
    assert_non_null(values);
    for (int i = 0; i < COUNT * ROWS * COLS; i++)
        values[i] = ldexpf(uniform(&seed), (i / COLS * 3 + i % COLS / 16) % 7);
    return values;
}

static gemmux_weights quantise(const float *values, int64_t count, int64_t rows, int64_t cols,
                               const char *format)
{
    gemmux_weights w;
    gemmux_error error = {0};
    if (gemmux_quantise(values, count, rows, cols, parse(format), &w, &error) != GEMMUX_OK)
        fail_msg("%s: %s", format, error.text);
    assert_int_equal(gemmux_tensor_check(&w.tensor, format, &error), GEMMUX_OK);
    return w;
}

/* Decoded scale of an element, second level included. */
static double scale_at(const gemmux_tensor *t, int64_t matrix, int64_t row, int64_t col)
{
    gemmux_format f = t->format;
    int64_t groups = f.group ? (t->cols + f.group - 1) / f.group : 1, index = 0;
    int64_t in_matrix = 1;
    if (f.scaling == GEMMUX_SCALING_ROW)
        index = row, in_matrix = t->rows;
    else if (f.scaling == GEMMUX_SCALING_GROUP)
        index = row * groups + col / f.group, in_matrix = t->rows * groups;
    else if (f.scaling == GEMMUX_SCALING_BLOCK)
        index = row / f.group * groups + col / f.group,
        in_matrix = (t->rows + f.group - 1) / f.group * groups;
    index += matrix * in_matrix;
    const uint8_t *bytes = t->scales;
    uint32_t bits = 0;
    size_t size = (size_t)gemmux_code_bits((gemmux_code)f.scale) / 8;
    memcpy(&bits, bytes + (size_t)index * size, size);
    return gemmux_code_decode((gemmux_code)f.scale, bits) *
           (f.two_level ? (double)t->globals[matrix] : 1);
}

/* Half the distance between the codes about `value`, in units of the scale; value is in range. */
static double half_step(gemmux_code code, double value)
{
    int exponent;
    frexp(value, &exponent);
    switch (code) {
    case GEMMUX_CODE_F32:
        return 0;
    case GEMMUX_CODE_F16:
        return ldexp(1, (exponent < -13 ? -13 : exponent) - 12);
    case GEMMUX_CODE_BF16:
        return ldexp(1, exponent - 9);
    case GEMMUX_CODE_E4M3:
        return ldexp(1, (exponent < -5 ? -5 : exponent) - 5);
    case GEMMUX_CODE_E5M2:
        return ldexp(1, (exponent < -13 ? -13 : exponent) - 4);
    case GEMMUX_CODE_E2M1:
        return ldexp(1, (exponent < 1 ? 1 : exponent) - 3);
    case GEMMUX_CODE_NF4: {
        const float *book = gemmux_nf4_codebook();
        for (int c = 0; c < 15; c++)
            if (value <= (double)book[c + 1])
                return ((double)book[c + 1] - (double)book[c]) / 2;
        return 0;
    }
    default:
        return 0.5;
    }
}

/* How far beyond the last code the rule may put an element, in units of the scale. */
static double overshoot(gemmux_format f)
{
    if (f.scale == GEMMUX_CODE_UE8M0) /* amax is under twice the power of two below it */
        return f.element == GEMMUX_CODE_E2M1 ? 2 : f.element == GEMMUX_CODE_E4M3 ? 64 : 8192;
    /* A scale that was rounded down, by half a unit in its last place. */
    double largest = f.element == GEMMUX_CODE_E4M3   ? 448
                     : f.element == GEMMUX_CODE_E5M2 ? 57344
                     : f.element == GEMMUX_CODE_E2M1 ? 6
                     : f.element == GEMMUX_CODE_INT8 ? 127
                     : f.element == GEMMUX_CODE_INT4 ? 15
                                                     : 1;
    double unit = f.scale == GEMMUX_CODE_F32    ? 0x1p-24
                  : f.scale == GEMMUX_CODE_F16  ? 0x1p-11
                  : f.scale == GEMMUX_CODE_BF16 ? 0x1p-8
                                                : 0x1p-4;
    return f.scaling ? largest * unit * 1.01 : 0;
}

static void errors_stay_within_half_a_step(void **state)
{
    (void)state;
    float *values = make_source();
    for (int i = 0; i < FORMATS; i++) {
        gemmux_weights w = quantise(values, COUNT, ROWS, COLS, formats[i]);
        const gemmux_tensor *t = &w.tensor;
        gemmux_format f = t->format;
        for (int64_t e = 0; e < COUNT * ROWS * COLS; e++) {
            int64_t matrix = e / (ROWS * COLS), row = e / COLS % ROWS, col = e % COLS;
            double scale = f.scaling ? scale_at(t, matrix, row, col) : 1;
            double error = fabs(gemmux_tensor_at(t, matrix, row, col) - (double)values[e]);
            double unit = half_step((gemmux_code)f.element, (double)values[e] / scale);
            double bound = scale * fmax(unit, overshoot(f));
            /* A zero point is rounded by half a step, a minimum by its type's half a unit. */
            if (f.zero == GEMMUX_ZERO_POINT)
                bound = scale * (1 + overshoot(f));
            if (f.zero == GEMMUX_ZERO_MIN)
                bound = scale * (0.5 + overshoot(f)) +
                        64 * (f.scale == GEMMUX_CODE_F16 ? 0x1p-11 : 0x1p-8);
            else if (f.element == GEMMUX_CODE_INT4)
                bound += scale * overshoot(f);
            if (!(error <= bound * (1 + 1e-12)))
                fail_msg("%s [%d,%d,%d]: %.9g is off by %g, bound %g", formats[i], (int)matrix,
                         (int)row, (int)col, (double)values[e], error, bound);
        }
        gemmux_weights_free(&w);
        assert_null(w.storage);
    }
    free(values);
}

static void both_readers_agree(void **state)
{
    (void)state;
    float *values = make_source(), row_values[COLS];
    for (int i = 0; i < FORMATS; i++) {
        gemmux_weights w = quantise(values, COUNT, ROWS, COLS, formats[i]);
        /* Also with rows further apart and nothing aligned. */
        int64_t dense = gemmux_row_bytes(w.tensor.format, COLS), stride = dense + 3;
        uint8_t *loose = malloc((size_t)(COUNT * ROWS * stride) + 1);
        assert_non_null(loose);
        memset(loose, 0xff, (size_t)(COUNT * ROWS * stride) + 1);
        for (int64_t r = 0; r < COUNT * ROWS; r++)
            memcpy(loose + 1 + r * stride, (const uint8_t *)w.tensor.codes + r * dense,
                   (size_t)dense);
        gemmux_tensor t = w.tensor;
        for (int pass = 0; pass < 3; pass++) {
            if (pass == 1)
                t.codes = loose + 1, t.row_bytes = stride;
            if (pass == 2)
                t = w.tensor, t.row_bytes = 0;
            for (int64_t r = 0; r < COUNT * ROWS; r++) {
                gemmux_tensor_row_f32(&t, r / ROWS, r % ROWS, row_values);
                for (int64_t c = 0; c < COLS; c++) {
                    float want = (float)gemmux_tensor_at(&w.tensor, r / ROWS, r % ROWS, c);
                    if (memcmp(&want, &row_values[c], 4))
                        fail_msg("%s pass %d [%d,%d]: %.9g, want %.9g", formats[i], pass, (int)r,
                                 (int)c, (double)row_values[c], (double)want);
                }
            }
        }
        free(loose);
        gemmux_weights_free(&w);
    }
    free(values);
}

/* Rows of all 65536 codes: subnormals, infinities, NaN and signed zeros come through the quick
 * reader as through the simple one. */
static void rows_of_every_16_bit_code(void **state)
{
    (void)state;
    enum { ALL = 65536 };
    uint16_t *codes = malloc(ALL * sizeof *codes);
    float *out = malloc(ALL * sizeof *out);
    assert_non_null(codes);
    assert_non_null(out);
    for (int i = 0; i < ALL; i++)
        codes[i] = (uint16_t)i;
    for (int id = GEMMUX_F16; id <= GEMMUX_BF16; id++) {
        gemmux_tensor t = {.format = gemmux_format_of((gemmux_format_id)id),
                           .count = 1,
                           .rows = 1,
                           .cols = ALL,
                           .codes = codes};
        gemmux_tensor_row_f32(&t, 0, 0, out);
        for (int i = 0; i < ALL; i++) {
            double want = gemmux_code_decode((gemmux_code)t.format.element, (uint32_t)i);
            double have = (double)out[i];
            if (isnan(want) ? !isnan(have) : want != have || signbit(want) != signbit(have))
                fail_msg("id %d code %#x: %g, want %g", id, (unsigned)i, have, want);
        }
    }
    free(codes);
    free(out);
}

static void the_plain_layout_is_the_documented_one(void **state)
{
    (void)state;
    const float values[] = {0, 1, 2, 3, -4, 6, -6, 0.5f, 1.5f};
    gemmux_weights w = quantise(values, 1, 1, 9, "mxfp4");
    /* amax 6: 2^2 over e2m1's 2^2 is scale 1; the even element is the low nibble. */
    const uint8_t codes[] = {0x20, 0x54, 0x7e, 0x1f, 0x03};
    assert_memory_equal(w.tensor.codes, codes, sizeof codes);
    assert_int_equal(*(const uint8_t *)w.tensor.scales, 127);
    gemmux_weights_free(&w);

    const float int8_values[] = {127, -127, 1, 0, 254, 2};
    w = quantise(int8_values, 1, 2, 3, "int8");
    const int8_t int8_codes[] = {127, -127, 1, 0, 127, 1};
    assert_memory_equal(w.tensor.codes, int8_codes, sizeof int8_codes);
    assert_true(((const float *)w.tensor.scales)[0] == 1);
    assert_true(((const float *)w.tensor.scales)[1] == 2);
    gemmux_weights_free(&w);

    const float int4_values[] = {7.5f, -7.5f, 1, 0};
    w = quantise(int4_values, 1, 1, 4, "int4:row:f32");
    const uint8_t int4_codes[] = {0x0f, 0x89}; /* 7 -8 1 0, plus 8 */
    assert_memory_equal(w.tensor.codes, int4_codes, sizeof int4_codes);
    gemmux_weights_free(&w);

    const float zero_values[] = {-5, 10, 0, 1};
    w = quantise(zero_values, 1, 1, 4, "int4:row:zero:f32");
    const uint8_t zero_codes[] = {0xf0, 0x65};
    assert_memory_equal(w.tensor.codes, zero_codes, sizeof zero_codes);
    assert_int_equal(*(const uint8_t *)w.tensor.zeros, 5);
    assert_true(*(const float *)w.tensor.scales == 1);
    gemmux_weights_free(&w);

    const float min_values[] = {20, 35, 27, 21};
    w = quantise(min_values, 1, 1, 4, "int4:row:min:f32");
    const uint8_t min_codes[] = {0xf0, 0x17};
    assert_memory_equal(w.tensor.codes, min_codes, sizeof min_codes);
    assert_true(*(const float *)w.tensor.zeros == 20);
    gemmux_weights_free(&w);
}

static double amax_of(const float *values, int64_t matrix, int64_t row, int64_t row_end,
                      int64_t col, int64_t col_end)
{
    double amax = 0;
    for (int64_t r = row; r < row_end && r < ROWS; r++)
        for (int64_t c = col; c < col_end && c < COLS; c++)
            amax = fmax(amax, fabs((double)values[(matrix * ROWS + r) * COLS + c]));
    return amax;
}

static void scales_follow_the_rules(void **state)
{
    (void)state;
    float *values = make_source();
    gemmux_weights mx = quantise(values, COUNT, ROWS, COLS, "mxfp4");
    gemmux_weights mx8 = quantise(values, COUNT, ROWS, COLS, "mxfp8:e5m2");
    gemmux_weights nv = quantise(values, COUNT, ROWS, COLS, "nvfp4");
    gemmux_weights e4 = quantise(values, COUNT, ROWS, COLS, "e4m3:block32");
    gemmux_weights nf = quantise(values, COUNT, ROWS, COLS, "nf4:row");
    for (int64_t m = 0; m < COUNT; m++) {
        float global = (float)(amax_of(values, m, 0, ROWS, 0, COLS) / 2688);
        assert_true(nv.tensor.globals[m] == global);
        for (int64_t r = 0; r < ROWS; r++)
            for (int64_t c = 0; c < COLS; c++) {
                double amax = amax_of(values, m, r, r + 1, c / 32 * 32, c / 32 * 32 + 32);
                assert_true(scale_at(&mx.tensor, m, r, c) == exp2(floor(log2(amax)) - 2));
                assert_true(scale_at(&mx8.tensor, m, r, c) == exp2(floor(log2(amax)) - 15));
                amax = amax_of(values, m, r, r + 1, c / 16 * 16, c / 16 * 16 + 16);
                double block = gemmux_code_decode(
                    GEMMUX_CODE_E4M3,
                    gemmux_code_encode(GEMMUX_CODE_E4M3, amax / 6 / (double)global));
                assert_true(scale_at(&nv.tensor, m, r, c) == block * (double)global);
                amax = amax_of(values, m, r / 32 * 32, r / 32 * 32 + 32, c / 32 * 32,
                               c / 32 * 32 + 32);
                assert_true(scale_at(&e4.tensor, m, r, c) == (double)(float)(amax / 448));
                amax = amax_of(values, m, r, r + 1, 0, COLS);
                assert_true(scale_at(&nf.tensor, m, r, c) == amax);
            }
    }
    gemmux_weights_free(&mx);
    gemmux_weights_free(&mx8);
    gemmux_weights_free(&nv);
    gemmux_weights_free(&e4);
    gemmux_weights_free(&nf);
    free(values);
}

/* What a format gave is in the format, so quantising it again changes no value. int4 with a f16
 * scale, nf4 and the like choose their scale anew from values that are not amax, so: the formats
 * whose largest element is stored exactly. */
static void quantising_twice_changes_nothing(void **state)
{
    (void)state;
    static const char *const exact[] = {"f16",        "bf16",    "mxfp4",    "mxfp8",
                                        "mxfp8:e5m2", "nf4:g16", "int8:g32", "e4m3:row"};
    float *values = make_source(), *again = malloc(sizeof(float) * COUNT * ROWS * COLS);
    assert_non_null(again);
    for (size_t i = 0; i < sizeof exact / sizeof exact[0]; i++) {
        gemmux_weights w = quantise(values, COUNT, ROWS, COLS, exact[i]);
        for (int64_t r = 0; r < COUNT * ROWS; r++)
            gemmux_tensor_row_f32(&w.tensor, r / ROWS, r % ROWS, again + r * COLS);
        gemmux_weights v = quantise(again, COUNT, ROWS, COLS, exact[i]);
        /* f32 scales may move by a rounding of amax / 448 and back; codes may not. */
        assert_memory_equal(w.tensor.codes, v.tensor.codes,
                            (size_t)(COUNT * ROWS * w.tensor.row_bytes));
        gemmux_weights_free(&w);
        gemmux_weights_free(&v);
    }
    free(again);
    free(values);
}

static void zeros_stay_zeros(void **state)
{
    (void)state;
    float values[2 * 128] = {0};
    for (int c = 0; c < 128; c += 2)
        values[128 + c] = -0.0f;
    for (int i = 0; i < FORMATS; i++) {
        gemmux_weights w = quantise(values, 1, 2, 128, formats[i]);
        for (int64_t e = 0; e < 256; e++)
            if (gemmux_tensor_at(&w.tensor, 0, e / 128, e % 128) != 0)
                fail_msg("%s: element %d is not zero", formats[i], (int)e);
        gemmux_weights_free(&w);
    }
    /* One group of zeros between groups that are not. */
    for (int c = 0; c < 256; c++)
        values[c] = c / 32 == 3 ? 0 : (float)(c % 7) - 3;
    for (int i = 0; i < FORMATS; i++) {
        gemmux_weights w = quantise(values, 1, 2, 128, formats[i]);
        for (int64_t c = 96; c < 128; c++)
            if (parse(formats[i]).zero != GEMMUX_ZERO_MIN &&
                gemmux_tensor_at(&w.tensor, 0, 0, c) != 0)
                fail_msg("%s: column %d is not zero", formats[i], (int)c);
        gemmux_weights_free(&w);
    }
}

/* Extremes of f32: the result is finite and a scale never is infinite or NaN. */
static void extremes_stay_finite(void **state)
{
    (void)state;
    static const float extremes[][2] = {{3.4028235e38f, -3.4028235e38f},
                                        {1e-45f, -1e-45f},
                                        {3.4028235e38f, 1e-45f},
                                        {1e-38f, 2e-38f},
                                        {65504, 1e-8f}};
    for (size_t x = 0; x < sizeof extremes / sizeof extremes[0]; x++)
        for (int i = 0; i < FORMATS; i++) {
            float values[64];
            for (int c = 0; c < 64; c++)
                values[c] = extremes[x][c % 2];
            gemmux_weights w = quantise(values, 1, 1, 64, formats[i]);
            bool narrow = w.tensor.format.id == GEMMUX_F16 || w.tensor.format.id == GEMMUX_BF16;
            for (int64_t c = 0; c < 64 && !narrow; c++)
                if (!isfinite(gemmux_tensor_at(&w.tensor, 0, 0, c)))
                    fail_msg("%s of %g is not finite", formats[i], (double)values[c]);
            gemmux_weights_free(&w);
        }
}

static void nan_and_infinity_are_kept_or_refused(void **state)
{
    (void)state;
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t b = 0; b < 3; b++)
        for (int i = 0; i < FORMATS; i++) {
            gemmux_format f = parse(formats[i]);
            gemmux_weights w = {0};
            gemmux_error error = {0};
            float values[2 * 64];
            for (int c = 0; c < 128; c++)
                values[c] = (float)(c % 5) - 2;
            values[64 + 13] = bad[b];
            gemmux_status status = gemmux_quantise(values, 1, 2, 64, f, &w, &error);
            bool holds = f.element <= GEMMUX_CODE_E5M2;
            assert_int_equal(status, holds ? GEMMUX_OK : GEMMUX_ERROR_INPUT);
            if (!holds) {
                assert_non_null(strstr(error.text, "[0, 1, 13]"));
                assert_null(w.storage);
                continue;
            }
            double kept = gemmux_tensor_at(&w.tensor, 0, 1, 13);
            if (isnan(bad[b]) || f.element == GEMMUX_CODE_E4M3)
                assert_true(isnan(kept));
            else
                assert_true(kept == (double)bad[b]);
            assert_true(fabs(gemmux_tensor_at(&w.tensor, 0, 1, 14) - (double)values[78]) < 0.2);
            gemmux_weights_free(&w);
        }
}

static void parts_are_aligned_and_one_allocation(void **state)
{
    (void)state;
    float *values = make_source();
    for (int i = 0; i < FORMATS; i++) {
        gemmux_weights w = quantise(values, COUNT, ROWS, COLS, formats[i]);
        const uint8_t *base = w.storage, *end = base + w.storage_bytes;
        const void *parts[] = {w.tensor.codes, w.tensor.scales, w.tensor.zeros, w.tensor.globals};
        for (int p = 0; p < 4; p++)
            if (parts[p]) {
                assert_int_equal((uintptr_t)parts[p] % 64, 0);
                assert_true((const uint8_t *)parts[p] >= base && (const uint8_t *)parts[p] < end);
            }
        assert_true(w.storage_bytes >=
                    (size_t)gemmux_stored_bytes(w.tensor.format, COUNT, ROWS, COLS));
        gemmux_weights_free(&w);
    }
    free(values);
}

static void bad_arguments_are_refused(void **state)
{
    (void)state;
    float value = 1;
    gemmux_weights w;
    gemmux_format f32 = gemmux_format_of(GEMMUX_F32), none = {0};
    assert_int_equal(gemmux_quantise(&value, 1, 1, 1, f32, NULL, NULL), GEMMUX_ERROR_ARGUMENT);
    assert_int_equal(gemmux_quantise(NULL, 1, 1, 1, f32, &w, NULL), GEMMUX_ERROR_ARGUMENT);
    assert_int_equal(gemmux_quantise(&value, 0, 1, 1, f32, &w, NULL), GEMMUX_ERROR_ARGUMENT);
    assert_int_equal(gemmux_quantise(&value, 1, -1, 1, f32, &w, NULL), GEMMUX_ERROR_ARGUMENT);
    assert_int_equal(gemmux_quantise(&value, 1, 1, 1, none, &w, NULL), GEMMUX_ERROR_ARGUMENT);
    assert_int_equal(gemmux_quantise(&value, 1, INT64_MAX / 2, 4, f32, &w, NULL),
                     GEMMUX_ERROR_MEMORY);
    assert_null(w.storage);
    gemmux_weights_free(NULL);
    for (int i = 0; i < FORMATS; i++) {
        assert_int_equal(gemmux_quantise(NULL, 2, 3, 0, parse(formats[i]), &w, NULL), GEMMUX_OK);
        gemmux_weights_free(&w);
        assert_int_equal(gemmux_quantise(NULL, 2, 0, 3, parse(formats[i]), &w, NULL), GEMMUX_OK);
        gemmux_weights_free(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_stay_within_half_a_step),
        cmocka_unit_test(both_readers_agree),
        cmocka_unit_test(rows_of_every_16_bit_code),
        cmocka_unit_test(the_plain_layout_is_the_documented_one),
        cmocka_unit_test(scales_follow_the_rules),
        cmocka_unit_test(quantising_twice_changes_nothing),
        cmocka_unit_test(zeros_stay_zeros),
        cmocka_unit_test(extremes_stay_finite),
        cmocka_unit_test(nan_and_infinity_are_kept_or_refused),
        cmocka_unit_test(parts_are_aligned_and_one_allocation),
        cmocka_unit_test(bad_arguments_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
