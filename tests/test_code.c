/* SPDX-License-Identifier: Apache-2.0
 *
 * Every code against ml-dtypes (fixtures/codes/make_codes.py), and against itself: a decoded code
 * encodes back to itself, and no other code is nearer to any value.
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

#include <fenv.h>

#include "format.h"

typedef struct record {
    uint32_t code, bits;
    double value;
} record;

static record *load(const char *name, size_t *count)
{
    char path[512];
    snprintf(path, sizeof path, "%s/codes/%s", FIXTURES, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    long bytes = ftell(file);
    rewind(file);
    record *records = malloc((size_t)bytes);
    assert_non_null(records);
    *count = (size_t)bytes / sizeof *records;
    assert_true(*count > 0);
    assert_int_equal(fread(records, sizeof *records, *count, file), *count);
    fclose(file);
    return records;
}

/* The same number: NaN with NaN, and zeros by sign. */
static bool same(double a, double b)
{
    return isnan(a) ? isnan(b) : a == b && signbit(a) == signbit(b);
}

static void decodes_as_ml_dtypes(void **state)
{
    (void)state;
    size_t count;
    record *records = load("decode.bin", &count);
    unsigned seen[GEMMUX_CODE_COUNT] = {0};
    for (size_t i = 0; i < count; i++) {
        const record *r = &records[i];
        double value = gemmux_code_decode((gemmux_code)r->code, r->bits);
        if (!same(value, r->value))
            fail_msg("code %u bits %#x: %.17g, want %.17g", r->code, r->bits, value, r->value);
        const float *table = gemmux_code_table((gemmux_code)r->code);
        if (table && !same((double)table[r->bits], r->value))
            fail_msg("table of code %u at %#x: %.9g", r->code, r->bits, (double)table[r->bits]);
        seen[r->code]++;
    }
    for (int code = GEMMUX_CODE_E4M3; code < GEMMUX_CODE_COUNT; code++)
        assert_int_equal(seen[code], 1 << gemmux_code_bits((gemmux_code)code));
    free(records);
}

static uint64_t fnv(uint64_t hash, const void *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ ((const uint8_t *)data)[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static void decodes_every_16_bit_code(void **state)
{
    (void)state;
    size_t count;
    record *records = load("wide.bin", &count);
    assert_int_equal(count, 512);
    for (size_t i = 0; i < count; i++) {
        uint64_t want, hash = UINT64_C(0xcbf29ce484222325);
        memcpy(&want, &records[i].value, 8);
        for (uint32_t bits = records[i].bits; bits < records[i].bits + 256; bits++) {
            double value = gemmux_code_decode((gemmux_code)records[i].code, bits);
            uint64_t word = UINT64_C(0x7ff8) << 48;
            if (!isnan(value))
                memcpy(&word, &value, 8);
            hash = fnv(hash, &word, 8);
        }
        if (hash != want)
            fail_msg("code %u, bits %#x to %#x differ", records[i].code, records[i].bits,
                     records[i].bits + 255);
    }
    free(records);
}

static void encodes_as_ml_dtypes(void **state)
{
    (void)state;
    size_t count;
    record *records = load("encode.bin", &count);
    for (size_t i = 0; i < count; i++) {
        const record *r = &records[i];
        gemmux_code code = (gemmux_code)r->code;
        uint32_t bits = gemmux_code_encode(code, r->value);
        bool nan = isnan(gemmux_code_decode(code, r->bits));
        if (nan ? !isnan(gemmux_code_decode(code, bits)) : bits != r->bits)
            fail_msg("code %u of %a: %#x, want %#x", r->code, r->value, bits, r->bits);
    }
    free(records);
}

/* In every rounding mode: the arithmetic is in integers. */
static void ignores_the_rounding_mode(void **state)
{
    (void)state;
    const int modes[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    size_t count;
    record *records = load("encode.bin", &count);
    for (size_t m = 0; m < sizeof modes / sizeof modes[0]; m++)
        for (size_t i = 0; i < count; i++) {
            gemmux_code code = (gemmux_code)records[i].code;
            fesetround(modes[m]);
            uint32_t bits = gemmux_code_encode(code, records[i].value);
            fesetround(FE_TONEAREST);
            assert_int_equal(bits, gemmux_code_encode(code, records[i].value));
        }
    free(records);
}

static void every_code_round_trips(void **state)
{
    (void)state;
    for (int c = GEMMUX_CODE_F16; c < GEMMUX_CODE_COUNT; c++) {
        gemmux_code code = (gemmux_code)c;
        /* UE4M3's sign bit is ignored, so half of its codes are second names. */
        uint32_t end = code == GEMMUX_CODE_UE4M3 ? 128 : UINT32_C(1) << gemmux_code_bits(code);
        for (uint32_t bits = 0; bits < end; bits++) {
            double value = gemmux_code_decode(code, bits);
            uint32_t back = gemmux_code_encode(code, value);
            if (isnan(value) ? !isnan(gemmux_code_decode(code, back))
                : code == GEMMUX_CODE_E4M3 || !isinf(value)
                    ? back != bits
                    : value != gemmux_code_decode(code, back))
                fail_msg("code %d: %#x is %.17g, which encodes as %#x", c, bits, value, back);
        }
    }
}

static void every_f32_exponent_round_trips(void **state)
{
    (void)state;
    uint32_t mantissas[] = {0, 1, 0x2aaaaa, 0x400000, 0x555555, 0x7ffffe, 0x7fffff};
    for (uint32_t exponent = 0; exponent < 255; exponent++)
        for (size_t m = 0; m < sizeof mantissas / sizeof mantissas[0]; m++)
            for (uint32_t sign = 0; sign < 2; sign++) {
                uint32_t bits = sign << 31 | exponent << 23 | mantissas[m];
                float value;
                memcpy(&value, &bits, 4);
                assert_true(same(gemmux_code_decode(GEMMUX_CODE_F32, bits), (double)value));
                assert_int_equal(gemmux_code_encode(GEMMUX_CODE_F32, (double)value), bits);
            }
}

/* An oracle of its own: of all finite codes, none is nearer, and at a tie the even one is taken. */
static void picks_the_nearest_code(void **state)
{
    (void)state;
    const gemmux_code codes[] = {GEMMUX_CODE_E4M3,  GEMMUX_CODE_E5M2, GEMMUX_CODE_E2M1,
                                 GEMMUX_CODE_INT8,  GEMMUX_CODE_INT4, GEMMUX_CODE_NF4,
                                 GEMMUX_CODE_UE4M3, GEMMUX_CODE_F16};
    uint64_t seed = 12345;
    for (size_t c = 0; c < sizeof codes / sizeof codes[0]; c++)
        for (int trial = 0; trial < 200; trial++) {
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
            double value = ldexp((double)(seed >> 11) * 0x1p-53, (int)(seed % 29) - 14);
            if (codes[c] != GEMMUX_CODE_UE4M3 && codes[c] != GEMMUX_CODE_INT4 && seed >> 63)
                value = -value;
            uint32_t bits = gemmux_code_encode(codes[c], value);
            double distance = fabs(gemmux_code_decode(codes[c], bits) - value);
            for (uint32_t other = 0; other < UINT32_C(1) << gemmux_code_bits(codes[c]); other++) {
                double rival = gemmux_code_decode(codes[c], other);
                if (isfinite(rival) && fabs(rival - value) < distance)
                    fail_msg("code %d: %.17g is %#x, but %#x is nearer", (int)codes[c], value, bits,
                             other);
            }
        }
}

static void keeps_the_rules_for_what_does_not_fit(void **state)
{
    (void)state;
    static const struct {
        gemmux_code code;
        double value;
        uint32_t bits;
    } rules[] = {
        {GEMMUX_CODE_E4M3, 1e9, 0x7e},       {GEMMUX_CODE_E4M3, -1e9, 0xfe},
        {GEMMUX_CODE_E4M3, INFINITY, 0x7f},  {GEMMUX_CODE_E4M3, -INFINITY, 0xff},
        {GEMMUX_CODE_E5M2, 1e9, 0x7b},       {GEMMUX_CODE_E5M2, INFINITY, 0x7c},
        {GEMMUX_CODE_E5M2, -INFINITY, 0xfc}, {GEMMUX_CODE_E2M1, 1e9, 7},
        {GEMMUX_CODE_E2M1, -INFINITY, 15},   {GEMMUX_CODE_E2M1, NAN, 0},
        {GEMMUX_CODE_E2M1, -0.0, 8},         {GEMMUX_CODE_F16, 65519.99, 0x7bff},
        {GEMMUX_CODE_F16, 65520, 0x7c00},    {GEMMUX_CODE_F16, -INFINITY, 0xfc00},
        {GEMMUX_CODE_BF16, 3.4e38, 0x7f80},  {GEMMUX_CODE_INT8, NAN, 0},
        {GEMMUX_CODE_INT8, -129, 0x80},      {GEMMUX_CODE_INT8, INFINITY, 0x7f},
        {GEMMUX_CODE_INT4, -3, 0},           {GEMMUX_CODE_INT4, INFINITY, 15},
        {GEMMUX_CODE_NF4, NAN, 7},           {GEMMUX_CODE_NF4, 5, 15},
        {GEMMUX_CODE_UE8M0, 0, 0},           {GEMMUX_CODE_UE8M0, -1, 255},
        {GEMMUX_CODE_UE8M0, INFINITY, 255},  {GEMMUX_CODE_UE8M0, 1e300, 254},
        {GEMMUX_CODE_UE8M0, 1.5, 128},       {GEMMUX_CODE_UE8M0, 3, 128},
        {GEMMUX_CODE_UE4M3, -2, 0},          {GEMMUX_CODE_UE4M3, 1000, 0x7e},
        {GEMMUX_CODE_UE4M3, INFINITY, 0x7f},
    };
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        uint32_t bits = gemmux_code_encode(rules[i].code, rules[i].value);
        if (bits != rules[i].bits)
            fail_msg("code %d of %g: %#x, want %#x", (int)rules[i].code, rules[i].value, bits,
                     rules[i].bits);
    }
    assert_true(isnan(gemmux_code_decode(GEMMUX_CODE_NONE, 0)));
    assert_int_equal(gemmux_code_bits(GEMMUX_CODE_NONE), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_as_ml_dtypes),
        cmocka_unit_test(decodes_every_16_bit_code),
        cmocka_unit_test(encodes_as_ml_dtypes),
        cmocka_unit_test(ignores_the_rounding_mode),
        cmocka_unit_test(every_code_round_trips),
        cmocka_unit_test(every_f32_exponent_round_trips),
        cmocka_unit_test(picks_the_nearest_code),
        cmocka_unit_test(keeps_the_rules_for_what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
