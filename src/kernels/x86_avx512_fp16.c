/* SPDX-License-Identifier: Apache-2.0
 *
 * x86_avx512_fp16: f16 products with VFMADDPH over packing panel16, twice as many an instruction as
 * in f32. The instruction rounds every sum to f16, which is the liberty narrow-sums. What the
 * kernel does about it:
 *
 * Rounding. RUN_K k are summed in f16, half of them in each half of a lane; then both halves are
 * added and the sum goes on in f32. So f16 rounds no sum more than RUN_K / 2 + 1 times.
 *
 * Range. Each row of x is multiplied by a power of two on its way into the workspace, and each row
 * of f16 w while it is decoded, so that RUN_K of the largest products stay below 65504: no finite
 * operand makes a sum infinite. x lies below 32 with f16 w, which lies below 16, and with 4-bit
 * codes, below 4 with int8 and below 2 with e4m3; its largest number is at least half of that, or
 * as it was where w is integers. f32 sums carry the power to the end: with e4m3 and scales above
 * 2^60 y beyond 2^104 may become infinite where all of a row of x is subnormal.
 *
 * Steps. Below 2^-14 f16 counts in steps of 2^-24. That is at most 2^-24 of the largest x of the
 * row, if x was multiplied at all, and 2^-27 of the largest w. Products are rounded to such steps,
 * too: with integers they are whole numbers of them; with e4m3, whose least code is 2^-9, at most
 * 2^-16 |w| times the largest x are lost, with f16 2^-32 times both largest, or 2^-20 |w| times the
 * largest x where all of the row of w is below 2^-12. src/verify.c allows 2^-15 of either row's
 * largest.
 */
#include "panel_forms.h"
#include "x86.h"

#include <string.h>

#if defined(__x86_64__)

#    include <immintrin.h>

#    if defined(__clang__)
#        pragma clang attribute push(                                                              \
            __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512cd"))),  \
            apply_to = function)
#    else
#        pragma GCC push_options
#        pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512cd")
#    endif

#    define LEVEL_X GEMMUX_PANEL_F16
#    define OWN_TILE
#    include "x86_avx512.h"
#    include "x86_f16.h"

enum {
    RUN_K = 64, /* summed in f16 */
    RUN_STEPS = RUN_K / 2,
};

/* ------------------------------------------------------------------------ from sums in f16 to f32
 * --
 */

GEMMUX_INLINE __m512i swap_halves(__m512i sum)
{
    return _mm512_rol_epi32(sum, 16);
}

/* Both halves of each lane, added. */
GEMMUX_INLINE __m512 settle_one(__m512i sum)
{
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(add_f16(sum, swap_halves(sum))));
}

/* The same of two registers at once: their halves are brought together, then each other's lanes. */
GEMMUX_INLINE void settle_two(__m512i a, __m512i b, __m512 *of_a, __m512 *of_b)
{
    const __mmask32 high = 0xaaaaaaaa;
    __m512i mixed = _mm512_mask_blend_epi16(high, a, b);                /* low of a, high of b */
    __m512i crossed = swap_halves(_mm512_mask_blend_epi16(high, b, a)); /* high of a, low of b */
    __m512i sum = add_f16(mixed, crossed);                              /* a, b, a, b ... */
    const __m512i evens_first = _mm512_set_epi16(
        31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1, /* from the highest down */
        30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    sum = _mm512_permutexvar_epi16(evens_first, sum);
    *of_a = _mm512_cvtph_ps(_mm512_castsi512_si256(sum));
    *of_b = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(sum, 1));
}

GEMMUX_INLINE void settle_all(const int count, const __m512i *sums, __m512 *values)
{
    GEMMUX_UNROLL
    for (int i = 0; i + 1 < count; i += 2)
        settle_two(sums[i], sums[i + 1], &values[i], &values[i + 1]);
    if (count % 2)
        values[count - 1] = settle_one(sums[count - 1]);
}

/* ------------------------------------------------------------------------------------ decoders --
 */

typedef struct tables {
    __m512i codes; /* 4-bit codes, twice: the fifth bit of the index does not matter; with a zero
                      point, -16 .. 15 by their low five bits */
    __m512i power; /* f16: of the row, in both words of its lane */
} tables;

/* e2m1, doubled as panel_run.c expects of integers */
static const uint16_t e2m1_values[32] = {
    0x0000, 0x3c00, 0x4000, 0x4200, 0x4400, 0x4600, 0x4800, 0x4a00, 0x8000, 0xbc00, 0xc000,
    0xc200, 0xc400, 0xc600, 0xc800, 0xca00, 0x0000, 0x3c00, 0x4000, 0x4200, 0x4400, 0x4600,
    0x4800, 0x4a00, 0x8000, 0xbc00, 0xc000, 0xc200, 0xc400, 0xc600, 0xc800, 0xca00};
/* code - 8: with a minimum, too, which is then of 8 instead of 0, so that sums stay small */
static const uint16_t int4_values[32] = {
    0xc800, 0xc700, 0xc600, 0xc500, 0xc400, 0xc200, 0xc000, 0xbc00, 0x0000, 0x3c00, 0x4000,
    0x4200, 0x4400, 0x4500, 0x4600, 0x4700, 0xc800, 0xc700, 0xc600, 0xc500, 0xc400, 0xc200,
    0xc000, 0xbc00, 0x0000, 0x3c00, 0x4000, 0x4200, 0x4400, 0x4500, 0x4600, 0x4700};
/* -16 .. 15 by their low five bits, for code - zero */
static const uint16_t differences_values[32] = {
    0x0000, 0x3c00, 0x4000, 0x4200, 0x4400, 0x4500, 0x4600, 0x4700, 0x4800, 0x4880, 0x4900,
    0x4980, 0x4a00, 0x4a80, 0x4b00, 0x4b80, 0xcc00, 0xcb80, 0xcb00, 0xca80, 0xca00, 0xc980,
    0xc900, 0xc880, 0xc800, 0xc700, 0xc600, 0xc500, 0xc400, 0xc200, 0xc000, 0xbc00};

/* What rows of f16 are multiplied by: the inverses of their scales, in both words. */
GEMMUX_INLINE __m512i powers_of(__m512 scales)
{
    __m512 power = _mm512_div_ps(_mm512_set1_ps(1), scales);
    __m512i words = _mm512_cvtepu16_epi32(
        _mm512_cvtps_ph(power, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    return _mm512_or_si512(words, _mm512_slli_epi32(words, 16));
}

GEMMUX_INLINE tables open_tables(const gemmux_strip *s, const int code, const int zero)
{
    const __m512i none = _mm512_setzero_si512();
    switch (code) {
    case GEMMUX_CODE_F16:
        return (tables){none, powers_of(_mm512_loadu_ps(s->scales))};
    case GEMMUX_CODE_E2M1:
        return (tables){load512(e2m1_values), none};
    case GEMMUX_CODE_INT4:
        return (tables){load512(zero == GEMMUX_ZERO_POINT ? differences_values : int4_values),
                        none};
    default:
        return (tables){none, none};
    }
}

/* Words of pair q of sixteen lanes: neighbours (k, k + 1) of one row as f16. With 8 codes a lane
 * pairs 0 .. 3 are k + 0, 4, 2, 6; with 4 codes pairs 0, 1 are k + 0, 2. Without scales and, but
 * for POINT, without zero points. */
GEMMUX_INLINE __m512i decode_pair(const int code, const int zero, const tables *t, __m512i v,
                                  const int q, __m512i points)
{
    switch (code) {
    case GEMMUX_CODE_F16: { /* sixteen of k, sixteen of k + 1 */
        const __m512i by_row =
            _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                             8, /* from the highest down */
                             23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
        return multiply_f16(_mm512_permutexvar_epi16(by_row, v), t->power);
    }
    case GEMMUX_CODE_E4M3: { /* sign and magnitude into place, then the exponent's bias */
        __m512i bits = _mm512_srai_epi16(q ? v : _mm512_slli_epi16(v, 8), 1);
        bits = _mm512_and_si512(bits, _mm512_set1_epi16((int16_t)0xbf80));
        return multiply_f16(bits, _mm512_set1_epi16(0x5c00)); /* 2^8 */
    }
    case GEMMUX_CODE_INT8: { /* 1024 + (code + 128) by its bits, less 1152 */
        __m512i bytes = _mm512_xor_si512(v, _mm512_set1_epi8(INT8_MIN));
        bytes = q ? _mm512_srli_epi16(bytes, 8) : _mm512_and_si512(bytes, _mm512_set1_epi16(255));
        bytes = _mm512_or_si512(bytes, _mm512_set1_epi16(0x6400));
        return add_f16(bytes, _mm512_set1_epi16((int16_t)0xe480));
    }
    default: {
        __m512i index = _mm512_srli_epi16(v, (unsigned)(4 * q));
        if (zero == GEMMUX_ZERO_POINT)
            index = _mm512_sub_epi16(_mm512_and_si512(index, _mm512_set1_epi16(15)), points);
        return _mm512_permutexvar_epi16(index, t->codes);
    }
    }
}

/* What code 8 stands for where value = scale * code + minimum. */
GEMMUX_INLINE __m512 middle(const float *mins, __m512 scale)
{
    return _mm512_fmadd_ps(scale, _mm512_set1_ps(8), _mm512_loadu_ps(mins));
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

/* Calls what(strip, code, zero, ...) for the codes that the descriptor takes. */
#    define FOR_CODE(what, strip, ...)                                                             \
        if ((strip)->code == GEMMUX_CODE_F16)                                                      \
            what(strip, GEMMUX_CODE_F16, GEMMUX_ZERO_NONE, __VA_ARGS__);                           \
        else if ((strip)->code == GEMMUX_CODE_E4M3)                                                \
            what(strip, GEMMUX_CODE_E4M3, GEMMUX_ZERO_NONE, __VA_ARGS__);                          \
        else                                                                                       \
            GEMMUX_FOR_INT8_CODE(what, strip, __VA_ARGS__)

/* ----------------------------------------------------------------------------------- streaming --
 */

enum {
    STREAM_CHAINS = 4,
    STREAM_K = 16, /* k of one block; every segment is a multiple */
};

/* Lines of codes in a block. No division: sanitizers check it, and the loop would not unroll. */
GEMMUX_INLINE int block_lines(const int code)
{
    const int pairs = lane_pairs(code);
    return pairs == 4 ? 2 : pairs == 2 ? 4 : 8;
}

/* Adds STREAM_K k to `chains` sums a row, so that the latency of one product is filled with
 * others. x and codes stand at the block's first k. */
GEMMUX_INLINE void stream_block(const int code, const int zero, const int rows, const int chains,
                                const tables *t, __m512i points, const uint8_t *codes,
                                const char *const *x, int64_t k, __m512i *sums)
{
    const int pairs = lane_pairs(code);
    GEMMUX_UNROLL
    for (int lane = 0; lane < block_lines(code); lane++) {
        __m512i v = load512(codes + lane * 64);
        __asm__("" : "+v"(v)); /* loaded once, not with each shift */
        gemmux_fetch_ahead(codes + lane * 64);
        GEMMUX_UNROLL
        for (int q = 0; q < pairs; q++) {
            __m512i w = decode_pair(code, zero, t, v, q, points);
            const int element = lane * pairs * 2 + pair_element(pairs, q);
            const int chain = (lane * pairs + q) % chains;
            GEMMUX_UNROLL
            for (int r = 0; r < rows; r++)
                sums[r * chains + chain] = add_product_f16(sums[r * chains + chain], w,
                                                           repeat_lane(x[r] + (k + element) * 2));
        }
    }
}

/* Each row's chains of one run, together in f32. */
GEMMUX_INLINE void settle_rows(const int rows, const int chains, const __m512i *sums,
                               __m512 *values)
{
    __m512i of_row[GEMMUX_STREAM_ROWS];
    GEMMUX_UNROLL
    for (int r = 0; r < rows; r++) {
        of_row[r] = sums[r * chains];
        GEMMUX_UNROLL
        for (int i = 1; i < chains; i++)
            of_row[r] = add_f16(of_row[r], sums[r * chains + i]);
    }
    settle_all(rows, of_row, values);
}

GEMMUX_INLINE void stream_some(const gemmux_strip *s, const int code, const int zero,
                               const int rows, const int chains, const void *const *from,
                               const void *const *sums_of_x, float *out)
{
    const tables t = open_tables(s, code, zero);
    const char *x[GEMMUX_STREAM_ROWS];
    __m512 totals[GEMMUX_STREAM_ROWS], values[GEMMUX_STREAM_ROWS];
    GEMMUX_UNROLL
    for (int r = 0; r < rows; r++) {
        x[r] = from[r];
        totals[r] = _mm512_loadu_ps(out + r * 16);
    }
    const int block_bytes = block_lines(code) * 64;
    const uint8_t *codes = s->codes;
    int64_t segment = 0;
    for (int64_t k = 0; k < s->k; segment++) {
        const __m512 scale = _mm512_loadu_ps(s->scales + segment * 16);
        __m512i points = zero == GEMMUX_ZERO_POINT
                             ? load512((const int32_t *)s->points + segment * 16)
                             : _mm512_setzero_si512();
        int64_t last = k + s->segment < s->k ? k + s->segment : s->k;
        while (k < last) {
            int64_t end = k + RUN_K < last ? k + RUN_K : last;
            __m512i sums[GEMMUX_STREAM_ROWS * STREAM_CHAINS];
            GEMMUX_UNROLL
            for (int i = 0; i < rows * chains; i++)
                sums[i] = _mm512_setzero_si512();
            for (; k < end; k += STREAM_K, codes += block_bytes)
                stream_block(code, zero, rows, chains, &t, points, codes, x, k, sums);
            settle_rows(rows, chains, sums, values);
            GEMMUX_UNROLL
            for (int r = 0; r < rows; r++)
                totals[r] = _mm512_fmadd_ps(values[r], scale, totals[r]);
        }
        GEMMUX_UNROLL
        for (int r = 0; zero == GEMMUX_ZERO_MIN && r < rows; r++) {
            __m512i x_sum = repeat_lane((const char *)sums_of_x[r] + segment * 4);
            totals[r] = _mm512_fmadd_ps(_mm512_castsi512_ps(x_sum),
                                        middle(s->mins + segment * 16, scale), totals[r]);
        }
    }
    GEMMUX_UNROLL
    for (int r = 0; r < rows; r++)
        _mm512_storeu_ps(out + r * 16, totals[r]);
}

GEMMUX_INLINE void stream_rows(const gemmux_strip *s, const int code, const int zero, int rows,
                               const void *const *x, const void *const *sums, float *out)
{
    switch (rows) {
    case 1:
        stream_some(s, code, zero, 1, 4, x, sums, out);
        break;
    case 2:
        stream_some(s, code, zero, 2, 4, x, sums, out);
        break;
    case 3:
    case 4:
        stream_some(s, code, zero, 4, 2, x, sums, out);
        break;
    case 5:
    case 6:
        stream_some(s, code, zero, 6, 1, x, sums, out);
        break;
    default:
        stream_some(s, code, zero, 8, 1, x, sums, out);
    }
}

static void stream(const gemmux_strip *s, int rows, const void *const *x, const void *const *sums,
                   float *out){FOR_CODE(stream_rows, s, rows, x, sums, out)}

/* -------------------------------------------------------------------------------------- panels --
 */

GEMMUX_INLINE void decode_strip(const gemmux_strip *s, const int code, const int zero, char *to)
{
    const int pairs = lane_pairs(code);
    const tables t = open_tables(s, code, zero);
    const uint8_t *codes = s->codes;
    int64_t segment = 0;
    for (int64_t k = 0; k < s->k; segment++) {
        int64_t last = k + s->segment < s->k ? k + s->segment : s->k;
        __m512i points = zero == GEMMUX_ZERO_POINT
                             ? load512((const int32_t *)s->points + segment * 16)
                             : _mm512_setzero_si512();
        for (; k < last; k += pairs * 2, codes += 64) {
            __m512i v = load512(codes);
            gemmux_fetch_ahead(codes);
            GEMMUX_UNROLL
            for (int q = 0; q < pairs; q++)
                _mm512_storeu_si512(to + (k + pair_element(pairs, q)) * 32,
                                    decode_pair(code, zero, &t, v, q, points));
        }
    }
}

static void decode(const gemmux_strip *s, bool fold, void *to)
{
    (void)fold; /* scales multiply f32 sums */
    FOR_CODE(decode_strip, s, to)
}

/* c = or += scales * one run's sums, and with the segment's last what code 8 is times x, for one
 * row.
 */
GEMMUX_INLINE void settle(const gemmux_tile *tile, int r, const int strips, int64_t segment,
                          const bool first, const bool last, const __m512i *sums)
{
    float *c = tile->c + r * GEMMUX_TILE_COLUMNS;
    const float *mins = last ? tile->mins : NULL;
    int64_t at = segment * GEMMUX_STRIP, stride = tile->stride;
    __m512 values[TILE_STRIPS], of_x = _mm512_setzero_ps();
    if (mins)
        of_x = _mm512_castsi512_ps(repeat_lane(tile->sums[r] + segment * 4));
    settle_all(strips, sums, values);
    GEMMUX_UNROLL
    for (int i = 0; i < strips; i++, at += stride) {
        __m512 old = first ? _mm512_setzero_ps() : _mm512_loadu_ps(c + i * GEMMUX_STRIP);
        old = _mm512_fmadd_ps(values[i], _mm512_loadu_ps(tile->scales + at), old);
        if (mins)
            old = _mm512_fmadd_ps(of_x, middle(mins + at, _mm512_loadu_ps(tile->scales + at)), old);
        _mm512_storeu_ps(c + i * GEMMUX_STRIP, old);
    }
}

GEMMUX_INLINE void multiply_tile(const gemmux_tile *tile, const int rows, const int strips)
{
    const char *x[TILE_ROWS];
    const uint8_t *w[TILE_STRIPS];
    GEMMUX_UNROLL
    for (int r = 0; r < rows; r++)
        x[r] = tile->x[r];
    GEMMUX_UNROLL
    for (int i = 0; i < strips; i++)
        w[i] = tile->w + i * tile->w_stride;
    int64_t segment = 0, end = tile->segment < tile->steps ? tile->segment : tile->steps;
    for (int64_t step = 0; step < tile->steps;) {
        const bool first = tile->first && step == 0;
        int64_t stop = step + RUN_STEPS < end ? step + RUN_STEPS : end;
        __m512i sums[TILE_ROWS][TILE_STRIPS];
        GEMMUX_UNROLL
        for (int r = 0; r < rows; r++) {
            GEMMUX_UNROLL
            for (int i = 0; i < strips; i++)
                sums[r][i] = _mm512_setzero_si512();
        }
        for (; step < stop; step++) {
            __m512i lanes[TILE_STRIPS];
            GEMMUX_UNROLL
            for (int i = 0; i < strips; i++)
                lanes[i] = load512(w[i] + step * 64);
            GEMMUX_UNROLL
            for (int r = 0; r < rows; r++) {
                __m512i xr = repeat_lane(x[r] + step * 4);
                GEMMUX_UNROLL
                for (int i = 0; i < strips; i++)
                    sums[r][i] = add_product_f16(sums[r][i], lanes[i], xr);
            }
        }
        GEMMUX_UNROLL
        for (int r = 0; r < rows; r++)
            settle(tile, r, strips, segment, first, step == end, sums[r]);
        if (step == end) {
            segment++;
            end = end + tile->segment < tile->steps ? end + tile->segment : tile->steps;
        }
    }
}

/* ---------------------------------------------------------------------------- powers of two, x --
 */

enum {
    FINITE_BITS = 0x7c00, /* f16's magnitudes below are finite; as integers they keep their order */
    W_EXPONENT = 3,       /* the largest of a row of f16 w lies in [8, 16) */
    W_LEAST_SCALE = -15,  /* log2: its inverse must be an f16 */
};

/* Magnitudes that are finite, others as 0. */
GEMMUX_INLINE __m256i finite_magnitudes(__m256i halves)
{
    __m256i magnitude = _mm256_and_si256(halves, _mm256_set1_epi16(INT16_MAX));
    __mmask16 finite = _mm256_cmplt_epi16_mask(magnitude, _mm256_set1_epi16(FINITE_BITS));
    return _mm256_maskz_mov_epi16(finite, magnitude);
}

/* log2 of the power of two at or below the largest x, so that RUN_K products stay in range. */
static float exponent_of_x(gemmux_code w)
{
    return w == GEMMUX_CODE_INT8 ? 1 : w == GEMMUX_CODE_E4M3 ? 0 : 4;
}

/* Products with integers are exact below f16's normal numbers, too: x need not grow, and sums in
 * f32, which have scales of any size already, must not without need. */
static bool must_grow(gemmux_code w)
{
    return w == GEMMUX_CODE_F16 || w == GEMMUX_CODE_E4M3;
}

static float fit_x(gemmux_code w, const void *from, int64_t k, void *to)
{
    __m256i most = _mm256_setzero_si256();
    for (int64_t i = 0; i < k; i += 16) {
        __m256i halves = _mm256_maskz_loadu_epi16(first_lanes(k - i), (const char *)from + i * 2);
        most = _mm256_max_epu16(most, finite_magnitudes(halves));
    }
    float largest = _mm512_reduce_max_ps(_mm512_cvtph_ps(most)), inverse = 1;
    if (largest > 0) {
        __m128 exponent = _mm_getexp_ss(_mm_set_ss(0), _mm_set_ss(largest));
        exponent = _mm_sub_ss(exponent, _mm_set_ss(exponent_of_x(w)));
        inverse = _mm_cvtss_f32(_mm_scalef_ss(_mm_set_ss(1), exponent));
        inverse = inverse < 1 && !must_grow(w) ? 1 : inverse;
    }
    const __m512 power = _mm512_set1_ps(1 / inverse);
    for (int64_t i = 0; i < k; i += 16) {
        __mmask16 mask = first_lanes(k - i);
        __m512 value = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, (const char *)from + i * 2));
        _mm256_mask_storeu_epi16((char *)to + i * 2, mask,
                                 _mm512_cvtps_ph(_mm512_mul_ps(value, power),
                                                 _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
    return inverse;
}

static void fit_w(const uint8_t *codes, int64_t k, float *scales)
{
    __m256i most = _mm256_setzero_si256();
    for (int64_t i = 0; i < k; i++) {
        __m256i halves = _mm256_loadu_si256((const __m256i *)(const void *)(codes + i * 32));
        most = _mm256_max_epu16(most, finite_magnitudes(halves));
    }
    __m512 exponent = _mm512_getexp_ps(_mm512_cvtph_ps(most)); /* -infinity of 0 */
    exponent = _mm512_max_ps(_mm512_sub_ps(exponent, _mm512_set1_ps(W_EXPONENT)),
                             _mm512_set1_ps(W_LEAST_SCALE));
    _mm512_storeu_ps(scales, _mm512_scalef_ps(_mm512_set1_ps(1), exponent));
}

/* Of x as it is in the workspace. */
static void sum_x(const void *x, int64_t k, int64_t segment, void *sums)
{
    float *out = sums;
    for (int64_t first = 0; first < k; first += segment) {
        int64_t last = first + segment < k ? first + segment : k;
        __m512 sum = _mm512_setzero_ps();
        for (int64_t i = first; i < last; i += 16) /* k and segment are multiples of 16 */
            sum = _mm512_add_ps(sum, _mm512_cvtph_ps(_mm256_loadu_si256((
                                         const __m256i *)(const void *)((const char *)x + i * 2))));
        *out++ = _mm512_reduce_add_ps(sum);
    }
}

static const gemmux_panel_level level = {
    .x = LEVEL_X,
    .tile_rows = TILE_ROWS,
    .tile_strips = TILE_STRIPS,
    .pass_rows = GEMMUX_STREAM_ROWS,
    .stream_dense = 16,
    .stream_rows = 16,
    .fit_x = fit_x,
    .fit_w = fit_w,
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

#    define LEVEL (&level)
#    include "panel_entry.h"

#else
#    define GEMMUX_PANEL_FUNCTIONS .run = NULL
#endif

#define F16_FORM                                                                                   \
    .x = GEMMUX_BIT(GEMMUX_F16), .y = GEMMUX_FLOATS, .math = GEMMUX_MATH_F16,                      \
    .w_group_multiple = GEMMUX_PANEL_GROUP, .liberties = GEMMUX_LIBERTY_NARROW_SUMS

/* Shares as a Xeon gave (bench/results/avx512fp16-2026-11-23-xeon.txt); e4m3 is an estimate. */
static const gemmux_form forms[] = {
    {F16_FORM, .w = GEMMUX_BIT(GEMMUX_F16), .path = GEMMUX_PATH_NATIVE, .share_compute = 0.7f,
     .share_bandwidth = 0.88f},
    {F16_FORM, .w = GEMMUX_BIT(GEMMUX_INT8) | GEMMUX_BIT(GEMMUX_E4M3), .path = GEMMUX_PATH_UPCAST,
     .share_compute = 0.7f, .share_bandwidth = 0.7f},
    {F16_FORM, .w = GEMMUX_BIT(GEMMUX_INT4) | GEMMUX_BIT(GEMMUX_MXFP4), .path = GEMMUX_PATH_UPCAST,
     .share_compute = 0.57f, .share_bandwidth = 0.7f},
};

const gemmux_kernel gemmux_kernel_x86_avx512_fp16 = {
    .name = "x86_avx512_fp16",
    .summary = "f16 products and short sums in f16 (VFMADDPH), carried on in f32",
    .device = GEMMUX_CPU,
    .isa = GEMMUX_ISA_SSE2 | GEMMUX_ISA_AVX2 | GEMMUX_ISA_AVX512 | GEMMUX_ISA_AVX512FP16,
    .times_f32 = 2,
    .ops = GEMMUX_ALL_OPS,
    .epilogue = GEMMUX_ALL_EPILOGUES,
    .forms = forms,
    .form_count = sizeof forms / sizeof forms[0],
    .packing = &gemmux_packing_panel16,
    GEMMUX_PANEL_FUNCTIONS,
};
