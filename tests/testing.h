/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tests share: cmocka's includes in the right order, a random generator, and random
 * weights whose neighbouring scale blocks differ by distinct powers of two (equal scales hide
 * misplaced ones).
 */
#ifndef GEMMUX_TESTING_H
#define GEMMUX_TESTING_H

/* cmocka wants these first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gemmux.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* xorshift64*: Marsaglia's xorshift with Vigna's multiplier. */
static inline uint64_t testing_random(uint64_t *state)
{
    uint64_t x = *state ? *state : 88172645463325252u;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * UINT64_C(2685821657736338717);
}

static inline int64_t testing_below(uint64_t *state, int64_t bound)
{
    return (int64_t)(testing_random(state) >> 33) % bound;
}

/* Uniform in [-1, 1). */
static inline float testing_float(uint64_t *state)
{
    return (float)((double)(testing_random(state) >> 40) / (double)(1 << 23) - 1.0);
}

/* [count, rows, cols] f32 in which each run of 16 columns, and each row, has its own power of two
 * in 2^-6 .. 2^6. */
static inline float *testing_matrix(uint64_t *state, int64_t count, int64_t rows, int64_t cols)
{
    float *values = malloc((size_t)(count * rows * cols) * sizeof(float) + 4);
    assert_non_null(values);
    for (int64_t r = 0; r < count * rows; r++)
        for (int64_t j = 0; j < cols; j++) {
            int exponent = (int)((j / 16 * 5 + r * 3) % 13) - 6;
            values[r * cols + j] = ldexpf(testing_float(state), exponent);
        }
    return values;
}

static inline gemmux_format testing_format(const char *text)
{
    gemmux_format format = {0};
    gemmux_error error = {GEMMUX_OK, ""};
    if (gemmux_format_parse(text, &format, &error))
        fail_msg("%s", error.text);
    return format;
}

/* A tensor in `format` quantised from testing_matrix. */
static inline void testing_weights(uint64_t *state, gemmux_format format, int64_t count,
                                   int64_t rows, int64_t cols, gemmux_weights *out)
{
    gemmux_error error = {GEMMUX_OK, ""};
    float *values = testing_matrix(state, count, rows, cols);
    if (gemmux_quantise(values, count, rows, cols, format, out, &error))
        fail_msg("%s", error.text);
    free(values);
}

/* One format of each kind a problem may have: every id with its scalings and zero points. */
static const char *const testing_formats[] = {
    "f32",           "f16",      "bf16",          "e4m3",         "e4m3:row",
    "e4m3:block128", "e5m2",     "mxfp8",         "mxfp8:e5m2",   "mxfp4",
    "nvfp4",         "int8",     "int8:tensor",   "int8:g32",     "int4:g32",
    "int4:g128",     "int4:row", "int4:g64:zero", "int4:g32:min", "nf4",
};
#define TESTING_FORMAT_COUNT ((int)(sizeof testing_formats / sizeof testing_formats[0]))

#endif
