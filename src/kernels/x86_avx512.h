/* SPDX-License-Identifier: Apache-2.0
 *
 * What the AVX-512 levels share: reading scales and x, the tile, and the finish of rows. Included
 * by a level's file after it has opened its instruction set and defined
 *
 *     LEVEL_X                      its gemmux_panel_x
 *     lane_sum                     sixteen sums: __m512, or __m512i with INT8
 *     zero_sum()
 *     accumulate(sum, w, x)        sixteen lanes of w times one of x, repeated, added to sum
 *     settle_sum(sum, points, s)   as f32; INT8: less points times the sum of x
 *
 * so that the tile is written once for f32, bf16 and int8 lanes; or has defined LEVEL_X alone, and
 * OWN_TILE, because it has a multiply_tile of its own. (Sums keep the type that the
 * instruction has: gcc 12 copies registers back and forth between two views of one.)
 */
#ifndef GEMMUX_X86_AVX512_H
#define GEMMUX_X86_AVX512_H

#include "epilogue.h"
#include "x86.h"

#include <immintrin.h>

enum {
    TILE_ROWS = 6,
    TILE_STRIPS = 4,
};

GEMMUX_INLINE __m512i load512(const void *from)
{
    return _mm512_loadu_si512(from);
}

/* One lane of x in all sixteen. */
GEMMUX_INLINE __m512i repeat_lane(const void *x)
{
    int32_t lane;
    memcpy(&lane, x, 4);
    return _mm512_set1_epi32(lane);
}

GEMMUX_INLINE __m512 low_halves(__m512i bf16_pairs)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(bf16_pairs, 16));
}

GEMMUX_INLINE __m512 high_halves(__m512i bf16_pairs)
{
    return _mm512_castsi512_ps(_mm512_and_si512(bf16_pairs, _mm512_set1_epi32(-65536)));
}

/* ---------------------------------------------------------------------------- x, scales, points --
 */

static void widen_to_f32(gemmux_code code, const void *from, int64_t k, void *to)
{
    if (code == GEMMUX_CODE_F32) {
        memcpy(to, from, (size_t)k * 4);
        return;
    }
    for (int64_t i = 0; i < k; i += 16) {
        __mmask16 mask = k - i < 16 ? (__mmask16)((1u << (k - i)) - 1) : 0xffff;
        __m256i bits = _mm256_maskz_loadu_epi16(mask, (const char *)from + i * 2);
        __m512 value =
            code == GEMMUX_CODE_F16
                ? _mm512_cvtph_ps(bits)
                : _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
        _mm512_mask_storeu_ps((float *)to + i, mask, value);
    }
}

static void read_scales(gemmux_code code, const uint8_t *from, int64_t count, float *to)
{
    if (code != GEMMUX_CODE_UE8M0 && code != GEMMUX_CODE_UE4M3) {
        for (int64_t i = 0; i < count * (code == GEMMUX_CODE_F32 ? 4 : 2); i += 64)
            gemmux_fetch_ahead(from + i);
        widen_to_f32(code, from, count, to);
        return;
    }
    for (int64_t i = 0; i < count; i += 16) {
        gemmux_fetch_ahead(from + i);
        __m512i b =
            _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(from + i)));
        __m512 value;
        if (code == GEMMUX_CODE_UE8M0) {
            value = _mm512_castsi512_ps(_mm512_slli_epi32(b, 23));
        } else { /* the sign ignored; exponent and mantissa into place, then the bias */
            b = _mm512_slli_epi32(_mm512_and_si512(b, _mm512_set1_epi32(127)), 20);
            value = _mm512_mul_ps(_mm512_castsi512_ps(b), _mm512_set1_ps(0x1p120f));
        }
        _mm512_storeu_ps(to + i, value);
    }
}

/* ------------------------------------------------------------------------------------ the tile --
 */

GEMMUX_INLINE void multiply_tile(const gemmux_tile *tile, const int rows, const int strips);

#ifndef OWN_TILE

/* c = or += scales * (sums - points * sums of x) + mins * sums of x, with INT8 times x's scale, for
 * one row. What all strips share is read once: stores to c could change it for all that a compiler
 * knows. */
GEMMUX_INLINE void settle(const gemmux_tile *tile, int r, const int strips, int64_t segment,
                          const lane_sum *sums)
{
    const bool integer = LEVEL_X == GEMMUX_PANEL_INT8;
    const bool summed = integer || (LEVEL_X == GEMMUX_PANEL_BF16 && tile->mins);
    const bool first = tile->first && segment == 0;
    const float *scales = LEVEL_X == GEMMUX_PANEL_F32 ? NULL : tile->scales;
    const float *mins = LEVEL_X == GEMMUX_PANEL_F32 ? NULL : tile->mins;
    const int32_t *points = tile->points;
    float *c = tile->c + r * GEMMUX_TILE_COLUMNS;
    int64_t at = segment * GEMMUX_STRIP, stride = tile->stride;
    __m512i x_sum = _mm512_setzero_si512();
    __m512 x_scale = _mm512_set1_ps(1), of_x = _mm512_setzero_ps();
    if (integer) {
        gemmux_x_segment of;
        memcpy(&of, tile->sums[r] + segment * (int64_t)sizeof of, sizeof of);
        x_sum = _mm512_set1_epi32(of.sum);
        x_scale = _mm512_set1_ps(of.scale);
        of_x = _mm512_mul_ps(_mm512_cvtepi32_ps(x_sum), x_scale);
    } else if (summed) {
        x_sum = repeat_lane(tile->sums[r] + segment * 4);
        of_x = _mm512_castsi512_ps(x_sum);
    }
    GEMMUX_UNROLL
    for (int i = 0; i < strips; i++, at += stride) {
        __m512 value = settle_sum(sums[i], integer ? load512(points + at) : x_sum, x_sum);
        __m512 old = first ? _mm512_setzero_ps() : _mm512_loadu_ps(c + i * GEMMUX_STRIP);
        if (integer)
            value = _mm512_mul_ps(value, x_scale);
        if (scales)
            old = _mm512_fmadd_ps(value, _mm512_loadu_ps(scales + at), old);
        else
            old = _mm512_add_ps(value, old);
        if (mins)
            old = _mm512_fmadd_ps(of_x, _mm512_loadu_ps(mins + at), old);
        _mm512_storeu_ps(c + i * GEMMUX_STRIP, old);
    }
}

GEMMUX_INLINE void multiply_tile(const gemmux_tile *tile, const int rows, const int strips)
{
    const char *x[TILE_ROWS];
    const uint8_t *w[TILE_STRIPS];
    /* Beside products it costs nothing: other pipes do it. */
    const __m512i flip = _mm512_set1_epi8(tile->flip ? INT8_MIN : 0);
    GEMMUX_UNROLL
    for (int r = 0; r < rows; r++)
        x[r] = tile->x[r];
    GEMMUX_UNROLL
    for (int i = 0; i < strips; i++)
        w[i] = tile->w + i * tile->w_stride;
    int64_t segment = 0, fetch = gemmux_first_fetch(tile);
    for (int64_t step = 0; step < tile->steps; segment++) {
        lane_sum sums[TILE_ROWS][TILE_STRIPS];
        GEMMUX_UNROLL
        for (int r = 0; r < rows; r++) {
            GEMMUX_UNROLL
            for (int i = 0; i < strips; i++)
                sums[r][i] = zero_sum();
        }
        int64_t end = step + tile->segment < tile->steps ? step + tile->segment : tile->steps;
        for (; step < end; step++) {
            if (step == fetch)
                fetch = gemmux_fetch_beside(tile, rows, strips, step);
            __m512i lanes[TILE_STRIPS];
            GEMMUX_UNROLL
            for (int i = 0; i < strips; i++)
                lanes[i] = LEVEL_X == GEMMUX_PANEL_INT8
                               ? _mm512_xor_si512(load512(w[i] + step * 64), flip)
                               : load512(w[i] + step * 64);
            GEMMUX_UNROLL
            for (int r = 0; r < rows; r++) {
                __m512i xr = repeat_lane(x[r] + step * 4);
                GEMMUX_UNROLL
                for (int i = 0; i < strips; i++)
                    sums[r][i] = accumulate(sums[r][i], lanes[i], xr);
            }
        }
        GEMMUX_UNROLL
        for (int r = 0; r < rows; r++)
            settle(tile, r, strips, segment, sums[r]);
    }
}

#endif

GEMMUX_INLINE void multiply_strips(const gemmux_tile *tile, const int strips)
{
    switch (tile->rows) {
    case 1:
        multiply_tile(tile, 1, strips);
        break;
    case 2:
        multiply_tile(tile, 2, strips);
        break;
    case 3:
        multiply_tile(tile, 3, strips);
        break;
    case 4:
        multiply_tile(tile, 4, strips);
        break;
    case 5:
        multiply_tile(tile, 5, strips);
        break;
    default:
        multiply_tile(tile, TILE_ROWS, strips);
    }
}

static void multiply(const gemmux_tile *tile)
{
    switch (tile->strips) {
    case 1:
        multiply_strips(tile, 1);
        break;
    case 2:
        multiply_strips(tile, 2);
        break;
    case 3:
        multiply_strips(tile, 3);
        break;
    default:
        multiply_strips(tile, TILE_STRIPS);
    }
}

/* Zero points for 16-bit lanes: each in both words of its lane. */
static inline void points_in_words(const uint8_t *from, int64_t count, void *to)
{
    for (int64_t i = 0; i < count; i += 16) {
        __m512i bytes =
            _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(from + i)));
        _mm512_storeu_si512((int32_t *)to + i,
                            _mm512_or_si512(bytes, _mm512_slli_epi32(bytes, 16)));
    }
}

/* -------------------------------------------------------------------------------------- finish --
 */

/* e^x to about an ulp: 2^n e^r with |r| <= ln(2) / 2, r's series to degree 7; overflow gives
 * infinity and underflow 0 through scalef. */
GEMMUX_INLINE __m512 exp512(__m512 x)
{
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(0x1.715476p+0f)),
                                          _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62e4p-1f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.7f7d1cp-20f), r);
    __m512 sum = _mm512_set1_ps(1.0f / 5040);
    sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0f / 720));
    sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0f / 120));
    sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0f / 24));
    sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0f / 6));
    sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(0.5f));
    sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1));
    sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1));
    /* Where r is not a number because x is infinite, scalef alone decides. */
    sum = _mm512_mask_mov_ps(sum, _mm512_cmp_ps_mask(r, r, _CMP_UNORD_Q), _mm512_set1_ps(1));
    return _mm512_scalef_ps(sum, n);
}

/* gemmux_swiglu of sixteen pairs. A NaN stays one: min and max return their second operand. */
GEMMUX_INLINE __m512 swiglu512(__m512 gate, __m512 up, float alpha, float limit)
{
    const __m512 most = _mm512_set1_ps(limit), least = _mm512_set1_ps(-limit);
    const __m512 one = _mm512_set1_ps(1);
    __m512 g = _mm512_min_ps(most, gate);
    __m512 u = _mm512_max_ps(least, _mm512_min_ps(most, up));
    __m512 down = _mm512_add_ps(one, exp512(_mm512_mul_ps(g, _mm512_set1_ps(-alpha))));
    return _mm512_mul_ps(_mm512_div_ps(g, down), _mm512_add_ps(u, one));
}

GEMMUX_INLINE __m256i round_to_bf16(__m512 value)
{
    __m512i bits = _mm512_castps_si512(value);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    __mmask16 nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}

GEMMUX_INLINE __mmask16 first_lanes(int64_t count)
{
    return count >= 16 ? 0xffff : count <= 0 ? 0 : (__mmask16)((1u << count) - 1);
}

/* Up to sixteen floats. Whole vectors without a mask, because a masked load waits for stores of
 * what it reads. */
GEMMUX_INLINE __m512 load_some(const float *from, int64_t count)
{
    return count >= 16 ? _mm512_loadu_ps(from) : _mm512_maskz_loadu_ps(first_lanes(count), from);
}

GEMMUX_INLINE void store_y(uint8_t format, void *y, int64_t at, int64_t count, __m512 value)
{
    __mmask16 mask = first_lanes(count);
    if (format == GEMMUX_F32) {
        float *to = (float *)(void *)((char *)y + at * 4);
        if (count >= 16)
            _mm512_storeu_ps(to, value);
        else
            _mm512_mask_storeu_ps(to, mask, value);
        return;
    }
    __m256i halves = format == GEMMUX_BF16
                         ? round_to_bf16(value)
                         : _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    void *to = (char *)y + at * 2;
    if (count >= 16)
        _mm256_storeu_si256(to, halves);
    else
        _mm256_mask_storeu_epi16(to, mask, halves);
}

/* Up to sixteen sums, with what a row's own numbers add. */
GEMMUX_INLINE __m512 finish_some(const float *sums, const float *bias, int64_t count, __m512 factor)
{
    __m512 value = _mm512_mul_ps(load_some(sums, count), factor);
    return bias ? _mm512_add_ps(value, load_some(bias, count)) : value;
}

static void finish(const gemmux_call *call, int32_t expert, int64_t row, int64_t first,
                   int64_t count, float factor, float *sums)
{
    const gemmux_problem *problem = call->problem;
    const float *bias = call->bias ? call->bias + expert * problem->n + first : NULL;
    char *y = (char *)call->y + row * call->y_row_bytes;
    const __m512 times = _mm512_set1_ps(factor);
    if (!(problem->epilogue & GEMMUX_EPILOGUE_SWIGLU)) {
        for (int64_t i = 0; i < count; i += 16)
            store_y(call->y_format.id, y, first + i, count - i,
                    finish_some(sums + i, bias ? bias + i : NULL, count - i, times));
        return;
    }
    float alpha = problem->swiglu_alpha > 0 ? problem->swiglu_alpha : 1.702f;
    float limit = problem->swiglu_limit > 0 ? problem->swiglu_limit : 7.0f;
    const __m512i evens =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odds = _mm512_add_epi32(evens, _mm512_set1_epi32(1));
    for (int64_t i = 0; i < count; i += 32) {
        __m512 low = finish_some(sums + i, bias ? bias + i : NULL, count - i, times);
        __m512 high = _mm512_setzero_ps();
        if (count - i > 16)
            high = finish_some(sums + i + 16, bias ? bias + i + 16 : NULL, count - i - 16, times);
        __m512 gate = _mm512_permutex2var_ps(low, evens, high);
        __m512 up = _mm512_permutex2var_ps(low, odds, high);
        store_y(call->y_format.id, y, (first + i) / 2, (count - i) / 2,
                swiglu512(gate, up, alpha, limit));
    }
}

#endif
