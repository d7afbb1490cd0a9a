/* SPDX-License-Identifier: Apache-2.0
 *
 * x86_avx512_bf16: bf16 products with VDPBF16PS over packing panel16. Every weight code but NF4 is
 * exact in bf16, and so are mxfp4's, mxfp8's and nvfp4's codes times their block scales; other
 * scales multiply f32 sums. The instruction counts subnormals as zero.
 */
#include "panel_forms.h"
#include "x86.h"

#if defined(__x86_64__)

#    include <immintrin.h>

#    if defined(__clang__)
#        pragma clang attribute push(                                                              \
            __attribute__((                                                                        \
                target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx512bf16"))),  \
            apply_to = function)
#    else
#        pragma GCC push_options
#        pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx512bf16")
#    endif

#    define LEVEL_X GEMMUX_PANEL_BF16

typedef __m512 lane_sum;

GEMMUX_INLINE lane_sum zero_sum(void)
{
    return _mm512_setzero_ps();
}

GEMMUX_INLINE __m512 settle_sum(lane_sum sum, __m512i points, __m512i x_sum)
{
    (void)points, (void)x_sum;
    return sum;
}

GEMMUX_INLINE lane_sum accumulate(lane_sum sum, __m512i w, __m512i x)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)x);
}

#    include "x86_avx512.h"

/* ------------------------------------------------------------------------------------ decoders --
 */

/* Look-up tables of 32 bf16 numbers; a code's low five bits are the index. */
typedef struct tables {
    __m512i codes;      /* 4-bit codes, twice: the fifth bit of the index does not matter; with a
                           zero point, -16 .. 15 by their low five bits */
    __m512i subnormals; /* E4M3, E5M2: values of codes with exponent 0 */
} tables;

/* e2m1 */
static const uint16_t e2m1_values[32] = {
    0x0000, 0x3f00, 0x3f80, 0x3fc0, 0x4000, 0x4040, 0x4080, 0x40c0, 0x8000, 0xbf00, 0xbf80,
    0xbfc0, 0xc000, 0xc040, 0xc080, 0xc0c0, 0x0000, 0x3f00, 0x3f80, 0x3fc0, 0x4000, 0x4040,
    0x4080, 0x40c0, 0x8000, 0xbf00, 0xbf80, 0xbfc0, 0xc000, 0xc040, 0xc080, 0xc0c0};
/* code - 8 */
static const uint16_t int4_values[32] = {
    0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040, 0xc000, 0xbf80, 0x0000, 0x3f80, 0x4000,
    0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0, 0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040,
    0xc000, 0xbf80, 0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0};
/* code, for int4 with a minimum */
static const uint16_t counts_values[32] = {
    0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0, 0x4100, 0x4110, 0x4120,
    0x4130, 0x4140, 0x4150, 0x4160, 0x4170, 0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0,
    0x40c0, 0x40e0, 0x4100, 0x4110, 0x4120, 0x4130, 0x4140, 0x4150, 0x4160, 0x4170};
/* -16 .. 15 by their low five bits, for code - zero */
static const uint16_t differences_values[32] = {
    0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0, 0x4100, 0x4110, 0x4120,
    0x4130, 0x4140, 0x4150, 0x4160, 0x4170, 0xc180, 0xc170, 0xc160, 0xc150, 0xc140, 0xc130,
    0xc120, 0xc110, 0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040, 0xc000, 0xbf80};
/* rounded to bf16: the descriptor says so */
static const uint16_t nf4_values[32] = {
    0xbf80, 0xbf32, 0xbf06, 0xbeca, 0xbe92, 0xbe3d, 0xbdba, 0x0000, 0x3da3, 0x3e25, 0x3e7c,
    0x3ead, 0x3ee2, 0x3f10, 0x3f39, 0x3f80, 0xbf80, 0xbf32, 0xbf06, 0xbeca, 0xbe92, 0xbe3d,
    0xbdba, 0x0000, 0x3da3, 0x3e25, 0x3e7c, 0x3ead, 0x3ee2, 0x3f10, 0x3f39, 0x3f80};
/* codes with exponent 0 */
static const uint16_t e4m3_small_values[32] = {0x0000, 0x3b00, 0x3b80, 0x3bc0,
                                               0x3c00, 0x3c20, 0x3c40, 0x3c60};
/* likewise */
static const uint16_t e5m2_small_values[32] = {0x0000, 0x3780, 0x3800, 0x3840,
                                               0x0000, 0x3780, 0x3800, 0x3840};

GEMMUX_INLINE tables open_tables(const int code, const int zero)
{
    const __m512i none = _mm512_setzero_si512();
    switch (code) {
    case GEMMUX_CODE_E4M3:
        return (tables){none, load512(e4m3_small_values)};
    case GEMMUX_CODE_E5M2:
        return (tables){none, load512(e5m2_small_values)};
    case GEMMUX_CODE_E2M1:
        return (tables){load512(e2m1_values), none};
    case GEMMUX_CODE_NF4:
        return (tables){load512(nf4_values), none};
    default:
        return (tables){load512(zero == GEMMUX_ZERO_NONE    ? int4_values
                                : zero == GEMMUX_ZERO_POINT ? differences_values
                                                            : counts_values),
                        none};
    }
}

/* e4m3 (mantissa 3, bias 7) and e5m2 (2, 15) in the high byte of each word, low bits cleared. */
GEMMUX_INLINE __m512i decode_small_float(const int mantissa, const int bias, __m512i subnormals,
                                         __m512i bytes)
{
    const __m512i sign = _mm512_set1_epi16(INT16_MIN);
    /* The exponent's lowest bit goes to bit 7. */
    __m512i bits = _mm512_srai_epi16(bytes, (unsigned)(mantissa + 1));
    __m512i magnitude = _mm512_and_si512(
        bits, _mm512_set1_epi16((int16_t)((0x7f00 >> (mantissa + 1)) & ~(0xff >> (mantissa + 1)))));
    __m512i value = _mm512_add_epi16(magnitude, _mm512_set1_epi16((int16_t)((127 - bias) << 7)));
    __mmask32 small = _mm512_cmplt_epi16_mask(magnitude, _mm512_set1_epi16(0x80));
    value = _mm512_mask_permutexvar_epi16(
        value, small, _mm512_srli_epi16(magnitude, (unsigned)(7 - mantissa)), subnormals);
    return _mm512_or_si512(value, _mm512_and_si512(bytes, sign));
}

/* Words of pair q of sixteen lanes: neighbours (k, k + 1) of one row as bf16. With 8 codes a lane
 * pairs 0 .. 3 are k + 0, 4, 2, 6; with 4 codes pairs 0, 1 are k + 0, 2. Without scales and, but
 * for POINT, without zero points. */
GEMMUX_INLINE __m512i decode_pair(const int code, const int zero, const tables *t, __m512i v,
                                  const int q, __m512i points)
{
    switch (code) {
    case GEMMUX_CODE_BF16:
        return v;
    case GEMMUX_CODE_E4M3:
        return decode_small_float(3, 7, t->subnormals, q ? v : _mm512_slli_epi16(v, 8));
    case GEMMUX_CODE_E5M2:
        return decode_small_float(2, 15, t->subnormals, q ? v : _mm512_slli_epi16(v, 8));
    case GEMMUX_CODE_INT8: { /* through f32, whose low half is zero for so small a number */
        __m512i low = _mm512_srai_epi32(_mm512_slli_epi32(v, q ? 16 : 24), 24);
        __m512i high = _mm512_srai_epi32(q ? v : _mm512_slli_epi32(v, 8), 24);
        low = _mm512_srli_epi32(_mm512_castps_si512(_mm512_cvtepi32_ps(low)), 16);
        return _mm512_or_si512(low, _mm512_castps_si512(_mm512_cvtepi32_ps(high)));
    }
    default: {
        __m512i index = _mm512_srli_epi16(v, (unsigned)(4 * q));
        if (zero == GEMMUX_ZERO_POINT)
            index = _mm512_sub_epi16(_mm512_and_si512(index, _mm512_set1_epi16(15)), points);
        return _mm512_permutexvar_epi16(index, t->codes);
    }
    }
}

GEMMUX_INLINE int lane_pairs(const int code)
{
    const int codes = gemmux_lane_codes(code);
    return codes > 2 ? codes / 2 : 1;
}

GEMMUX_INLINE int pair_element(const int pairs, const int q)
{
    return pairs == 4 ? (q & 1) << 2 | (q & 2) : q * 2;
}

/* ----------------------------------------------------------------------------------- streaming --
 */

enum {
    STREAM_CHAINS = 8,
    STREAM_K = 16, /* k of one block; every segment is a multiple */
};

/* Lines of codes in a block. No division: sanitizers check it, and the loop would not unroll. */
GEMMUX_INLINE int block_lines(const int code)
{
    const int pairs = lane_pairs(code);
    return pairs == 4 ? 2 : pairs == 2 ? 4 : 8;
}

/* Adds STREAM_K k to `chains` sums a row, so that the latency of one product is filled with
 * others. x and codes stand at the block's first k; `ahead` is what lines are fetched from ahead
 * of. */
GEMMUX_INLINE void stream_block(const int code, const int zero, const int rows, const int chains,
                                const tables *t, __m512i points, const uint8_t *codes,
                                const uint8_t *ahead, const char *const *x, int64_t k,
                                lane_sum *sums)
{
    const int pairs = lane_pairs(code);
    GEMMUX_UNROLL
    for (int lane = 0; lane < block_lines(code); lane++) {
        __m512i v = load512(codes + lane * 64);
        __asm__("" : "+v"(v)); /* loaded once, not with each shift */
        gemmux_fetch_ahead(ahead + lane * 64);
        GEMMUX_UNROLL
        for (int q = 0; q < pairs; q++) {
            __m512i w = decode_pair(code, zero, t, v, q, points);
            const int element = lane * pairs * 2 + pair_element(pairs, q);
            const int chain = (lane * pairs + q) % chains;
            GEMMUX_UNROLL
            for (int r = 0; r < rows; r++)
                sums[r * chains + chain] =
                    accumulate(sums[r * chains + chain], w, repeat_lane(x[r] + (k + element) * 2));
        }
    }
}

/* `fixed`: all segments have so many k; 0: any number. */
GEMMUX_INLINE void stream_some(const gemmux_strip *s, const int code, const int zero,
                               const int fixed, const int rows, const int chains,
                               const void *const *from, const void *const *sums_of_x, float *out)
{
    const tables t = open_tables(code, zero);
    const char *x[GEMMUX_STREAM_ROWS];
    __m512 totals[GEMMUX_STREAM_ROWS];
    GEMMUX_UNROLL
    for (int r = 0; r < rows; r++) {
        x[r] = from[r];
        totals[r] = _mm512_loadu_ps(out + r * 16);
    }
    const int block_bytes = block_lines(code) * 64;
    const uint8_t *codes = s->codes;
    int64_t segment = 0;
    for (int64_t k = 0; k < s->k; segment++) {
        __m512i points = zero == GEMMUX_ZERO_POINT
                             ? load512((const int32_t *)s->points + segment * 16)
                             : _mm512_setzero_si512();
        lane_sum sums[GEMMUX_STREAM_ROWS * STREAM_CHAINS];
        GEMMUX_UNROLL
        for (int i = 0; i < rows * chains; i++)
            sums[i] = zero_sum();
        if (fixed) {
            GEMMUX_UNROLL
            for (int part = 0; part < fixed / STREAM_K; part++)
                stream_block(code, zero, rows, chains, &t, points, codes + part * block_bytes,
                             codes + part * block_bytes, x, k + part * STREAM_K, sums);
            k += fixed;
            codes += fixed / STREAM_K * block_bytes;
        } else {
            int64_t last = k + s->segment < s->k ? k + s->segment : s->k;
            for (; k < last; k += STREAM_K, codes += block_bytes)
                stream_block(code, zero, rows, chains, &t, points, codes, codes, x, k, sums);
        }
        __m512 scale = s->scales ? _mm512_loadu_ps(s->scales + segment * 16) : _mm512_set1_ps(1);
        GEMMUX_UNROLL
        for (int r = 0; r < rows; r++) {
            __m512 sum = sums[r * chains];
            GEMMUX_UNROLL
            for (int i = 1; i < chains; i++)
                sum = _mm512_add_ps(sum, sums[r * chains + i]);
            totals[r] = _mm512_fmadd_ps(sum, scale, totals[r]);
            if (zero == GEMMUX_ZERO_MIN) {
                __m512i x_sum = repeat_lane((const char *)sums_of_x[r] + segment * 4);
                totals[r] = _mm512_fmadd_ps(_mm512_castsi512_ps(x_sum),
                                            _mm512_loadu_ps(s->mins + segment * 16), totals[r]);
            }
        }
    }
    GEMMUX_UNROLL
    for (int r = 0; r < rows; r++)
        _mm512_storeu_ps(out + r * 16, totals[r]);
}

/* Scales of four groups, [4][16] bytes, as the four bytes of each of sixteen lanes. */
GEMMUX_INLINE __m512i turn_scales(const uint8_t *stored)
{
    const __m512i by_row = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i by_group =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    return _mm512_shuffle_epi8(_mm512_permutexvar_epi32(by_row, load512(stored)), by_group);
}

/* Scale j of four as f32; as read_scales. */
GEMMUX_INLINE __m512 turned_scale(const bool power, __m512i four, const int j)
{
    const int left = (power ? 23 : 20) - 8 * j;
    __m512i bits = left >= 0 ? _mm512_slli_epi32(four, (unsigned)left)
                             : _mm512_srli_epi32(four, (unsigned)-left);
    if (power)
        return _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(255 << 23)));
    bits = _mm512_and_si512(bits, _mm512_set1_epi32(127 << 20));
    return _mm512_mul_ps(_mm512_castsi512_ps(bits), _mm512_set1_ps(0x1p120f));
}

/* One row, and scales read as they are stored, a line of them for four groups of e2m1: what decodes
 * them does so in the shadow of the look-ups, and every line of the strip is fetched once, in
 * order, as many ahead. */
GEMMUX_INLINE void stream_stored(const gemmux_strip *s, const int group, const void *const *from,
                                 float *out)
{
    const bool power = group == 32;
    const int chains = group / 8, block_bytes = block_lines(GEMMUX_CODE_E2M1) * 64;
    const tables t = open_tables(GEMMUX_CODE_E2M1, GEMMUX_ZERO_NONE);
    const __m512i none = _mm512_setzero_si512();
    const char *x = *from;
    const uint8_t *codes = s->codes, *stored = s->stored, *ahead = stored + s->lead;
    __m512 total = _mm512_loadu_ps(out);
    for (int64_t k = 0; k < s->k; stored += 64) {
        __m512i four = turn_scales(stored);
        gemmux_fetch_ahead(ahead);
        ahead += 64;
        GEMMUX_UNROLL
        for (int j = 0; j < 4; j++) {
            if (k >= s->k)
                continue; /* not a break: clang unrolls no loop of two ends under its sanitizers */
            lane_sum sums[4];
            GEMMUX_UNROLL
            for (int i = 0; i < chains; i++)
                sums[i] = zero_sum();
            GEMMUX_UNROLL
            for (int part = 0; part < group / STREAM_K; part++) {
                stream_block(GEMMUX_CODE_E2M1, GEMMUX_ZERO_NONE, 1, chains, &t, none, codes, ahead,
                             &x, k + part * STREAM_K, sums);
                codes += block_bytes;
                ahead += block_bytes;
            }
            GEMMUX_UNROLL
            for (int i = 1; i < chains; i++)
                sums[0] = _mm512_add_ps(sums[0], sums[i]);
            total = _mm512_fmadd_ps(sums[0], turned_scale(power, four, j), total);
            k += group;
        }
    }
    _mm512_storeu_ps(out, total);
}

GEMMUX_INLINE void stream_fixed(const gemmux_strip *s, const int code, const int zero,
                                const int fixed, int rows, const void *const *x,
                                const void *const *sums, float *out)
{
    switch (rows) {
    case 1: /* a short segment leaves others to fill the latency with */
        stream_some(s, code, zero, fixed, 1, fixed == 16 ? 2 : fixed ? 4 : 8, x, sums, out);
        break;
    case 2:
        stream_some(s, code, zero, fixed, 2, 4, x, sums, out);
        break;
    case 3:
        stream_some(s, code, zero, fixed, 3, 4, x, sums, out);
        break;
    case 4:
        stream_some(s, code, zero, fixed, 4, 4, x, sums, out);
        break;
    case 5:
    case 6:
        stream_some(s, code, zero, fixed, 6, 2, x, sums, out);
        break;
    default:
        stream_some(s, code, zero, fixed, 8, 2, x, sums, out);
    }
}

GEMMUX_INLINE void stream_rows(const gemmux_strip *s, const int code, const int zero, int rows,
                               const void *const *x, const void *const *sums, float *out)
{
    if (code == GEMMUX_CODE_E2M1 && s->segment == 32 && s->k % 32 == 0)
        stream_fixed(s, code, zero, 32, rows, x, sums, out);
    else if (code == GEMMUX_CODE_E2M1)
        stream_fixed(s, code, zero, 16, rows, x, sums, out);
    else
        stream_fixed(s, code, zero, 0, rows, x, sums, out);
}

static void stream(const gemmux_strip *s, int rows, const void *const *x, const void *const *sums,
                   float *out)
{
    if (s->stored) {
        if (s->scale == GEMMUX_CODE_UE8M0)
            stream_stored(s, 32, x, out);
        else
            stream_stored(s, 16, x, out);
        return;
    }
    if (s->code == GEMMUX_CODE_NF4) {
        stream_rows(s, GEMMUX_CODE_NF4, GEMMUX_ZERO_NONE, rows, x, sums, out);
        return;
    }
    GEMMUX_FOR_BF16_CODE(stream_rows, s, rows, x, sums, out)
}

/* -------------------------------------------------------------------------------------- panels --
 */

/* Both words of each lane times an f32, where the product is exact in bf16. `power`: the scale is
 * a power of two, and the product a normal number or zero, so that adding exponents will do. */
GEMMUX_INLINE __m512i fold_scale(const bool power, __m512i pairs, __m512 scale, __m512i exponents)
{
    if (power) {
        __mmask32 some = _mm512_test_epi16_mask(pairs, _mm512_set1_epi16(INT16_MAX));
        return _mm512_mask_add_epi16(pairs, some, pairs, exponents);
    }
    __m512i low = _mm512_castps_si512(_mm512_mul_ps(low_halves(pairs), scale));
    __m512i high = _mm512_castps_si512(_mm512_mul_ps(high_halves(pairs), scale));
    return _mm512_or_si512(_mm512_srli_epi32(low, 16), high);
}

enum { PLAIN, TIMES_SCALE, TIMES_POWER };

/* log2 of powers of two, where bf16 has its exponent, in both words. */
GEMMUX_INLINE __m512i exponents_of(__m512 scale)
{
    __m512i word = _mm512_sub_epi32(_mm512_srli_epi32(_mm512_castps_si512(scale), 16),
                                    _mm512_set1_epi32(127 << 7));
    return _mm512_or_si512(_mm512_slli_epi32(word, 16),
                           _mm512_and_si512(word, _mm512_set1_epi32(0xffff)));
}

GEMMUX_INLINE void decode_codes(const gemmux_strip *s, const int code, const int zero,
                                const int fold, char *to)
{
    const int pairs = lane_pairs(code);
    const tables t = open_tables(code, zero);
    const uint8_t *codes = s->codes;
    int64_t segment = 0;
    for (int64_t k = 0; k < s->k; segment++) {
        int64_t last = k + s->segment < s->k ? k + s->segment : s->k;
        __m512i points = zero == GEMMUX_ZERO_POINT
                             ? load512((const int32_t *)s->points + segment * 16)
                             : _mm512_setzero_si512();
        __m512 scale = fold ? _mm512_loadu_ps(s->scales + segment * 16) : _mm512_set1_ps(1);
        __m512i exponents = exponents_of(scale);
        for (; k < last; k += pairs * 2, codes += 64) {
            __m512i v = load512(codes);
            gemmux_fetch_ahead(codes);
            GEMMUX_UNROLL
            for (int q = 0; q < pairs; q++) {
                __m512i w = decode_pair(code, zero, &t, v, q, points);
                if (fold)
                    w = fold_scale(fold == TIMES_POWER, w, scale, exponents);
                _mm512_storeu_si512(to + (k + pair_element(pairs, q)) * 32, w);
            }
        }
    }
}

GEMMUX_INLINE void decode_strip(const gemmux_strip *s, const int code, const int zero, bool fold,
                                char *to)
{
    if (!fold)
        decode_codes(s, code, zero, PLAIN, to);
    else if (s->scale == GEMMUX_CODE_UE8M0)
        decode_codes(s, code, zero, TIMES_POWER, to);
    else
        decode_codes(s, code, zero, TIMES_SCALE, to);
}

static void decode(const gemmux_strip *s, bool fold, void *to)
{
    if (s->code == GEMMUX_CODE_NF4) {
        decode_strip(s, GEMMUX_CODE_NF4, GEMMUX_ZERO_NONE, fold, to);
        return;
    }
    GEMMUX_FOR_BF16_CODE(decode_strip, s, fold, to)
}

/* ------------------------------------------------------------------------------ x, zero points --
 */

/* bf16 as it is; f32 and f16 are rounded, which the descriptor says. */
static void widen(gemmux_code code, const void *from, int64_t k, void *to)
{
    if (code == GEMMUX_CODE_BF16) {
        memcpy(to, from, (size_t)k * 2);
        return;
    }
    for (int64_t i = 0; i < k; i += 16) {
        __mmask16 mask = first_lanes(k - i);
        __m512 value =
            code == GEMMUX_CODE_F32
                ? _mm512_maskz_loadu_ps(mask, (const char *)from + i * 4)
                : _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, (const char *)from + i * 2));
        _mm256_mask_storeu_epi16((char *)to + i * 2, mask, round_to_bf16(value));
    }
}

static void sum_x(const void *x, int64_t k, int64_t segment, void *sums)
{
    float *out = sums;
    for (int64_t first = 0; first < k; first += segment) {
        int64_t last = first + segment < k ? first + segment : k;
        __m512 sum = _mm512_setzero_ps();
        for (int64_t i = first; i < last; i += 16) /* k and segment are multiples of 16 */
            sum = _mm512_add_ps(sum,
                                _mm512_castsi512_ps(_mm512_slli_epi32(
                                    _mm512_cvtepu16_epi32(_mm256_loadu_si256(
                                        (const __m256i *)(const void *)((const char *)x + i * 2))),
                                    16)));
        *out++ = _mm512_reduce_add_ps(sum);
    }
}

const gemmux_panel_level gemmux_level_avx512_bf16 = {
    .x = LEVEL_X,
    .tile_rows = TILE_ROWS,
    .tile_strips = TILE_STRIPS,
    .pass_rows = GEMMUX_STREAM_ROWS,
    .stream_dense = 16,
    .stream_rows = 64,
    .reads_stored = true,
    .widen = widen,
    .sum = sum_x,
    .scales = read_scales,
    .points = points_in_words,
    .stream = stream,
    .decode = decode,
    .multiply = multiply,
    .finish = finish,
};

#    if defined(__clang__)
#        pragma clang attribute pop
#    else
#        pragma GCC pop_options
#    endif

#    define LEVEL (&gemmux_level_avx512_bf16)
#    include "panel_entry.h"

#else
#    define GEMMUX_PANEL_FUNCTIONS .run = NULL
#endif

static const gemmux_form forms[] = {
    {GEMMUX_PANEL_BF16_NATIVE, .share_compute = 0.92f, .share_bandwidth = 0.9f},
    {GEMMUX_PANEL_BF16_UPCAST, .share_compute = 0.9f, .share_bandwidth = 0.8f},
    {GEMMUX_PANEL_BF16_ROUNDED_W, .share_compute = 0.85f, .share_bandwidth = 0.75f},
    {GEMMUX_PANEL_BF16_ROUNDED_X, .share_compute = 0.9f, .share_bandwidth = 0.8f},
};

const gemmux_kernel gemmux_kernel_x86_avx512_bf16 = {
    .name = "x86_avx512_bf16",
    .summary = "bf16 dot products (VDPBF16PS), quantised weights upcast exactly on the way",
    .device = GEMMUX_CPU,
    .isa = GEMMUX_ISA_SSE2 | GEMMUX_ISA_AVX2 | GEMMUX_ISA_AVX512 | GEMMUX_ISA_AVX512BF16,
    .times_f32 = 2,
    .ops = GEMMUX_ALL_OPS,
    .epilogue = GEMMUX_ALL_EPILOGUES,
    .forms = forms,
    .form_count = sizeof forms / sizeof forms[0],
    .packing = &gemmux_packing_panel16,
    GEMMUX_PANEL_FUNCTIONS,
};
