/* SPDX-License-Identifier: Apache-2.0
 *
 * One stored number: bits to f64 and back. docs/formats.md gives each code bit by bit; the tests
 * compare every 4-, 8- and 16-bit code with an independent implementation.
 */
#include "format.h"

#include <math.h>
#include <string.h>

/* A float of sign, exponent and mantissa. E4M3 has no infinity and one NaN a sign, so its largest
 * exponent holds numbers too. */
typedef struct layout {
    uint8_t exponent_bits, mantissa_bits;
    int16_t bias;
    uint32_t max;      /* code of the largest finite value */
    uint32_t infinity; /* its code; 0: there is none */
    uint32_t nan;      /* 0: there is none */
    bool saturates;    /* finite values beyond max become max, not infinity */
} layout;

static const layout layouts[GEMMUX_CODE_COUNT] = {
    [GEMMUX_CODE_F32] = {8, 23, 127, 0x7f7fffff, 0x7f800000, 0x7fc00000, false},
    [GEMMUX_CODE_F16] = {5, 10, 15, 0x7bff, 0x7c00, 0x7e00, false},
    [GEMMUX_CODE_BF16] = {8, 7, 127, 0x7f7f, 0x7f80, 0x7fc0, false},
    [GEMMUX_CODE_E4M3] = {4, 3, 7, 0x7e, 0, 0x7f, true},
    [GEMMUX_CODE_E5M2] = {5, 2, 15, 0x7b, 0x7c, 0x7e, true},
    [GEMMUX_CODE_E2M1] = {2, 1, 1, 0x7, 0, 0, true},
};

static const uint8_t bits_of[GEMMUX_CODE_COUNT] = {
    [GEMMUX_CODE_F32] = 32,  [GEMMUX_CODE_F16] = 16,  [GEMMUX_CODE_BF16] = 16,
    [GEMMUX_CODE_E4M3] = 8,  [GEMMUX_CODE_E5M2] = 8,  [GEMMUX_CODE_E2M1] = 4,
    [GEMMUX_CODE_INT8] = 8,  [GEMMUX_CODE_INT4] = 4,  [GEMMUX_CODE_NF4] = 4,
    [GEMMUX_CODE_UE8M0] = 8, [GEMMUX_CODE_UE4M3] = 8,
};

/* QLoRA (Dettmers et al. 2023), as bitsandbytes spells it. */
static const float nf4[16] = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};

int gemmux_code_bits(gemmux_code code)
{
    return (unsigned)code < GEMMUX_CODE_COUNT ? bits_of[code] : 0;
}

const float *gemmux_nf4_codebook(void)
{
    return nf4;
}

/* ------------------------------------------------------------------------------------ decode -- */

static double decode_float(const layout *at, uint32_t bits)
{
    uint32_t sign = bits >> (at->exponent_bits + at->mantissa_bits) & 1;
    uint32_t magnitude = bits & ((UINT32_C(1) << (at->exponent_bits + at->mantissa_bits)) - 1);
    double value;
    if (at->infinity && magnitude == at->infinity) {
        value = INFINITY;
    } else if (magnitude > at->max) {
        value = NAN;
    } else {
        int exponent = (int)(magnitude >> at->mantissa_bits);
        uint32_t mantissa = magnitude & ((UINT32_C(1) << at->mantissa_bits) - 1);
        if (exponent)
            mantissa |= UINT32_C(1) << at->mantissa_bits;
        else
            exponent = 1;
        value = ldexp(mantissa, exponent - at->bias - at->mantissa_bits);
    }
    return sign ? -value : value;
}

double gemmux_code_decode(gemmux_code code, uint32_t bits)
{
    switch (code) {
    case GEMMUX_CODE_F32:
    case GEMMUX_CODE_F16:
    case GEMMUX_CODE_BF16:
    case GEMMUX_CODE_E4M3:
    case GEMMUX_CODE_E5M2:
    case GEMMUX_CODE_E2M1:
        return decode_float(&layouts[code], bits);
    case GEMMUX_CODE_INT8:
        return (int)((bits & 0xff) ^ 0x80) - 0x80;
    case GEMMUX_CODE_INT4:
        return bits & 15;
    case GEMMUX_CODE_NF4:
        return nf4[bits & 15];
    case GEMMUX_CODE_UE8M0:
        return (bits & 0xff) == 0xff ? NAN : ldexp(1, (int)(bits & 0xff) - 127);
    case GEMMUX_CODE_UE4M3:
        return decode_float(&layouts[GEMMUX_CODE_E4M3], bits & 0x7f);
    case GEMMUX_CODE_NONE:
    case GEMMUX_CODE_COUNT:
        break;
    }
    return NAN;
}

/* ------------------------------------------------------------------------------------ encode -- */

/* value's bits: 53 bits of significand and the power of two of its last bit, value != 0. */
static uint64_t split_double(double value, int *exponent)
{
    uint64_t bits;
    memcpy(&bits, &value, 8);
    int field = (int)(bits >> 52 & 0x7ff);
    bits &= (UINT64_C(1) << 52) - 1;
    *exponent = (field ? field : 1) - 1075;
    return field ? bits | UINT64_C(1) << 52 : bits;
}

/* bits / 2^shift to the nearest integer, ties to even; bits < 2^53. In integers, so that neither
 * the caller's rounding mode nor a second rounding can come into it. */
static uint64_t shift_even(uint64_t bits, int shift)
{
    if (shift > 54)
        return 0;
    if (shift <= 0)
        return bits << -shift;
    return (bits + (UINT64_C(1) << (shift - 1)) - 1 + (bits >> shift & 1)) >> shift;
}

static uint32_t encode_float(const layout *at, double value)
{
    uint32_t sign = signbit(value) ? UINT32_C(1) << (at->exponent_bits + at->mantissa_bits) : 0;
    if (isnan(value))
        return at->nan ? sign | at->nan : 0;
    if (isinf(value)) {
        if (at->infinity)
            return sign | at->infinity;
        return sign | (at->nan ? at->nan : at->max);
    }
    int exponent;
    uint64_t bits = split_double(value, &exponent);
    int field = exponent + 52 + at->bias; /* the code's exponent field, were it a normal number */
    if (field < 1)
        field = 1;
    if (field >= 1 << at->exponent_bits)
        return sign | (at->saturates ? at->max : at->infinity);
    int last = field - at->bias - at->mantissa_bits; /* power of two of the code's last bit */
    /* The implicit bit is kept, and rounding may carry into the exponent: both add up. */
    uint32_t magnitude =
        ((uint32_t)(field - 1) << at->mantissa_bits) + (uint32_t)shift_even(bits, last - exponent);
    if (magnitude > at->max)
        return sign | (at->saturates ? at->max : at->infinity);
    return sign | magnitude;
}

/* Nearest integer, ties to even; |value| < 2^31. */
static uint32_t round_even(double value)
{
    int exponent;
    uint64_t bits = split_double(value, &exponent);
    return (uint32_t)shift_even(bits, -exponent);
}

static uint32_t encode_integer(double value, double low, double high, uint32_t mask)
{
    if (isnan(value))
        return 0;
    if (value <= low)
        return (uint32_t)(int32_t)low & mask;
    if (value >= high)
        return (uint32_t)(int32_t)high & mask;
    uint32_t magnitude = round_even(value);
    return (value < 0 ? -magnitude : magnitude) & mask;
}

static uint32_t encode_nf4(double value)
{
    if (isnan(value))
        return 7; /* the code of zero */
    uint32_t code = 0;
    /* Twice the value against the sum of two neighbours, which f64 holds exactly. */
    while (code < 15) {
        double middle = (double)nf4[code] + (double)nf4[code + 1];
        if (value < -1 || 2 * value < middle || (2 * value == middle && code % 2 == 0))
            break;
        code++;
    }
    return code;
}

static uint32_t encode_ue8m0(double value)
{
    if (!(value >= 0) || isinf(value))
        return 0xff;
    int exponent;
    double fraction = frexp(value, &exponent); /* [0.5, 1), or 0 */
    int code = exponent - 1 + 127;
    if (value == 0 || code < 0)
        return 0;
    if (fraction > 0.75 || (fraction == 0.75 && code % 2 != 0))
        code++;
    return code > 254 ? 254 : (uint32_t)code;
}

static uint32_t encode_ue4m3(double value)
{
    if (value < 0 && !isinf(value))
        return 0;
    return encode_float(&layouts[GEMMUX_CODE_E4M3], value) & 0x7f;
}

uint32_t gemmux_code_encode(gemmux_code code, double value)
{
    switch (code) {
    case GEMMUX_CODE_F32:
    case GEMMUX_CODE_F16:
    case GEMMUX_CODE_BF16:
    case GEMMUX_CODE_E4M3:
    case GEMMUX_CODE_E5M2:
    case GEMMUX_CODE_E2M1:
        return encode_float(&layouts[code], value);
    case GEMMUX_CODE_INT8:
        return encode_integer(value, -128, 127, 0xff);
    case GEMMUX_CODE_INT4:
        return encode_integer(value, 0, 15, 0xf);
    case GEMMUX_CODE_NF4:
        return encode_nf4(value);
    case GEMMUX_CODE_UE8M0:
        return encode_ue8m0(value);
    case GEMMUX_CODE_UE4M3:
        return encode_ue4m3(value);
    case GEMMUX_CODE_NONE:
    case GEMMUX_CODE_COUNT:
        break;
    }
    return 0;
}

/* ------------------------------------------------------------------------------------ tables -- */

/* Constant expressions, so that the tables are const data: 2^e is a shift. */
#define E4M3(b)                                                                                    \
    (((b)&128 ? -1.0f : 1.0f) *                                                                    \
     (((b)&127) == 127 ? NAN                                                                       \
      : ((b)&120)      ? (float)(8 + ((b)&7)) * (float)(1u << ((b) >> 3 & 15)) * 0x1p-10f          \
                       : (float)((b)&7) * 0x1p-9f))
#define E5M2(b)                                                                                    \
    (((b)&128 ? -1.0f : 1.0f) *                                                                    \
     (((b)&127) > 124    ? NAN                                                                     \
      : ((b)&127) == 124 ? INFINITY                                                                \
      : ((b)&124)        ? (float)(4 + ((b)&3)) * (float)(1u << ((b) >> 2 & 31)) * 0x1p-17f        \
                         : (float)((b)&3) * 0x1p-16f))
#define X4(f, b)  f(b), f((b) + 1), f((b) + 2), f((b) + 3)
#define X16(f, b) X4(f, b), X4(f, (b) + 4), X4(f, (b) + 8), X4(f, (b) + 12)
#define X64(f, b) X16(f, b), X16(f, (b) + 16), X16(f, (b) + 32), X16(f, (b) + 48)
#define X256(f)   X64(f, 0), X64(f, 64), X64(f, 128), X64(f, 192)

static const float e4m3[256] = {X256(E4M3)};
static const float e5m2[256] = {X256(E5M2)};
static const float e2m1[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                               -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

const float *gemmux_code_table(gemmux_code code)
{
    switch (code) {
    case GEMMUX_CODE_E4M3:
        return e4m3;
    case GEMMUX_CODE_E5M2:
        return e5m2;
    case GEMMUX_CODE_E2M1:
        return e2m1;
    case GEMMUX_CODE_NF4:
        return nf4;
    default:
        return NULL;
    }
}
