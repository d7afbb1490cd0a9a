/* SPDX-License-Identifier: Apache-2.0
 *
 * x86_avx512_vnni: int8 products with VPDPBUSD over packing panel16. Sums over a scale's group are
 * exact integers. Weight codes are made unsigned by an offset, which is taken back through the sum
 * of x: int8 + 128, int4 as stored, e2m1 doubled + 12.
 */
#include "panel_forms.h"
#include "x86.h"

#if defined(__x86_64__)

#    include <immintrin.h>

#    if defined(__clang__)
#        pragma clang attribute push(                                                              \
            __attribute__((                                                                        \
                target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx512vnni"))),  \
            apply_to = function)
#    else
#        pragma GCC push_options
#        pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx512vnni")
#    endif

#    define LEVEL_X GEMMUX_PANEL_INT8

typedef __m512i lane_sum;

GEMMUX_INLINE lane_sum zero_sum(void)
{
    return _mm512_setzero_si512();
}

GEMMUX_INLINE __m512 settle_sum(lane_sum sum, __m512i points, __m512i x_sum)
{
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(sum, _mm512_mullo_epi32(points, x_sum)));
}

/* In assembly, because gcc 12 copies the sum of its intrinsic to another register and back. */
GEMMUX_INLINE lane_sum accumulate(lane_sum sum, __m512i w, __m512i x)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x));
    return sum;
}

#    include "x86_avx512.h"

/* Quad q of sixteen lanes as unsigned bytes, in the order k + 0 2 1 3. */
GEMMUX_INLINE __m512i decode_quad(const int code, __m512i v, const int q)
{
    if (code == GEMMUX_CODE_INT8)
        return _mm512_xor_si512(v, _mm512_set1_epi8(INT8_MIN));
    __m512i nibbles =
        _mm512_and_si512(_mm512_srli_epi16(v, (unsigned)(4 * q)), _mm512_set1_epi8(15));
    if (code == GEMMUX_CODE_INT4)
        return nibbles;
    const __m512i doubled = _mm512_broadcast_i32x4(
        _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
    return _mm512_shuffle_epi8(doubled, nibbles);
}

/* ----------------------------------------------------------------------------------- streaming --
 */

enum { STREAM_CHAINS = 4 };

GEMMUX_INLINE void stream_some(const gemmux_strip *s, const int code, const int zero,
                               const int rows, const int chains, const void *const *from,
                               const void *const *sums_of_x, float *out)
{
    const int quads = gemmux_lane_codes(code) / 4, lanes = 4 / quads;
    const char *x[GEMMUX_STREAM_ROWS];
    __m512 totals[GEMMUX_STREAM_ROWS];
    GEMMUX_UNROLL
    for (int r = 0; r < rows; r++) {
        x[r] = from[r];
        totals[r] = _mm512_loadu_ps(out + r * 16);
    }
    /* Without zero points all points are the one offset that makes codes unsigned, and sums start
     * at what it will add to them. */
    const bool offset = zero != GEMMUX_ZERO_POINT;
    const int32_t each = *(const int32_t *)s->points;
    const uint8_t *codes = s->codes;
    int64_t segment = 0;
    for (int64_t k = 0; k < s->k; segment++) {
        int64_t last = k + s->segment < s->k ? k + s->segment : s->k;
        __m512i sums[GEMMUX_STREAM_ROWS * STREAM_CHAINS];
        GEMMUX_UNROLL
        for (int i = 0; i < rows * chains; i++)
            sums[i] = _mm512_setzero_si512();
        GEMMUX_UNROLL
        for (int r = 0; offset && r < rows; r++) {
            const gemmux_x_segment *of_x = (const gemmux_x_segment *)sums_of_x[r] + segment;
            sums[r * chains] = _mm512_set1_epi32(-each * of_x->sum);
        }
        for (; k < last; k += 16, codes += lanes * 64) {
            __m512i v = _mm512_setzero_si512();
            GEMMUX_UNROLL
            for (int step = 0; step < 4; step++) {
                if (step % quads == 0) {
                    v = load512(codes + step / quads * 64);
                    gemmux_fetch_ahead(codes + step / quads * 64);
                    __asm__("" : "+v"(v)); /* loaded once, not with each shift */
                }
                __m512i w = decode_quad(code, v, step % quads);
                GEMMUX_UNROLL
                for (int r = 0; r < rows; r++) {
                    const int i = r * chains + step % chains;
                    sums[i] = accumulate(sums[i], w, repeat_lane(x[r] + k + step * 4));
                }
            }
        }
        __m512 scale = _mm512_loadu_ps(s->scales + segment * 16);
        __m512i points = load512((const int32_t *)s->points + segment * 16);
        GEMMUX_UNROLL
        for (int r = 0; r < rows; r++) {
            __m512i sum = sums[r * chains];
            GEMMUX_UNROLL
            for (int i = 1; i < chains; i++)
                sum = _mm512_add_epi32(sum, sums[r * chains + i]);
            const gemmux_x_segment *of_x = (const gemmux_x_segment *)sums_of_x[r] + segment;
            __m512i x_sum = _mm512_set1_epi32(of_x->sum);
            __m512 x_scale = _mm512_set1_ps(of_x->scale);
            __m512 value = offset ? _mm512_cvtepi32_ps(sum) : settle_sum(sum, points, x_sum);
            value = _mm512_mul_ps(value, x_scale);
            totals[r] = _mm512_fmadd_ps(value, scale, totals[r]);
            if (zero == GEMMUX_ZERO_MIN)
                totals[r] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(x_sum), x_scale),
                                            _mm512_loadu_ps(s->mins + segment * 16), totals[r]);
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
                   float *out){GEMMUX_FOR_INT8_CODE(stream_rows, s, rows, x, sums, out)}

/* -------------------------------------------------------------------------------------- panels --
 */

GEMMUX_INLINE void decode_strip(const gemmux_strip *s, const int code, const int zero, char *to)
{
    (void)zero;
    const int quads = gemmux_lane_codes(code) / 4;
    for (int64_t k = 0; k < s->k; k += quads * 4) {
        __m512i v = load512(s->codes + k / (quads * 4) * 64);
        gemmux_fetch_ahead(s->codes + k / (quads * 4) * 64);
        GEMMUX_UNROLL
        for (int q = 0; q < quads; q++)
            _mm512_storeu_si512(to + (k + q * 4) * 16, decode_quad(code, v, q));
    }
}

static void decode(const gemmux_strip *s, bool fold, void *to)
{
    (void)fold; /* an integer sum takes its scale afterwards */
    GEMMUX_FOR_INT8_CODE(decode_strip, s, to)
}

/* ------------------------------------------------------------------------------ x, zero points --
 */

/* Each four bytes in the order 0 2 1 3, padded with zeros to GEMMUX_PANEL_K. */
static void widen(gemmux_code code, const void *from, int64_t k, void *to)
{
    (void)code;
    const __m512i order =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15));
    for (int64_t i = 0; i < k; i += 64) {
        __mmask64 mask = k - i < 64 ? (UINT64_C(1) << (k - i)) - 1 : ~UINT64_C(0);
        __m512i bytes = _mm512_maskz_loadu_epi8(mask, (const char *)from + i);
        __mmask64 padded = k - i <= 32 ? UINT64_C(0xffffffff) : ~UINT64_C(0);
        _mm512_mask_storeu_epi8((char *)to + i, padded, _mm512_shuffle_epi8(bytes, order));
    }
}

GEMMUX_INLINE __m512 load_float(gemmux_code code, const void *from, int64_t i, int64_t k)
{
    __mmask16 mask = first_lanes(k - i);
    if (code == GEMMUX_CODE_F32)
        return _mm512_maskz_loadu_ps(mask, (const char *)from + i * 4);
    __m256i halves = _mm256_maskz_loadu_epi16(mask, (const char *)from + i * 2);
    if (code == GEMMUX_CODE_F16)
        return _mm512_cvtph_ps(halves);
    return low_halves(_mm512_cvtepu16_epi32(halves));
}

/* A row that is not finite gives any numbers, which the liberty says. */
static float quantise(gemmux_code code, const void *from, int64_t k, void *to)
{
    const __m128i order = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
    __m512 most = _mm512_setzero_ps();
    for (int64_t i = 0; i < k; i += 16)
        most = _mm512_max_ps(_mm512_abs_ps(load_float(code, from, i, k)), most);
    float largest = _mm512_reduce_max_ps(most);
    float up = largest < 0x1p-90f ? 0x1p90f : 1; /* its inverse must be a number */
    const __m512 inverse = _mm512_set1_ps(largest > 0 ? 127 / (largest * up) : 0);
    for (int64_t i = 0; i < (k + GEMMUX_PANEL_K - 1) / GEMMUX_PANEL_K * GEMMUX_PANEL_K; i += 16) {
        __m512 value = _mm512_mul_ps(load_float(code, from, i, k), _mm512_set1_ps(up));
        __m512i steps = _mm512_cvtps_epi32(_mm512_mul_ps(value, inverse));
        _mm_storeu_si128((__m128i *)(void *)((char *)to + i),
                         _mm_shuffle_epi8(_mm512_cvtsepi32_epi8(steps), order));
    }
    return largest / 127;
}

static void sum_x(const void *x, int64_t k, int64_t segment, void *sums)
{
    gemmux_x_segment *out = sums;
    for (int64_t first = 0; first < k; first += segment) {
        int64_t last = first + segment < k ? first + segment : k;
        __m512i sum = _mm512_setzero_si512();
        for (int64_t i = first; i < last; i += 64) { /* multiples of 16 */
            __mmask64 mask = last - i < 64 ? (UINT64_C(1) << (last - i)) - 1 : ~UINT64_C(0);
            sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1),
                                      _mm512_maskz_loadu_epi8(mask, (const char *)x + i));
        }
        (out++)->sum = _mm512_reduce_add_epi32(sum);
    }
}

static void points(const uint8_t *from, int64_t count, void *to)
{
    for (int64_t i = 0; i < count; i += 16)
        _mm512_storeu_si512((int32_t *)to + i, _mm512_cvtepu8_epi32(_mm_loadu_si128(
                                                   (const __m128i *)(const void *)(from + i))));
}

const gemmux_panel_level gemmux_level_avx512_vnni = {
    .x = LEVEL_X,
    .tile_rows = TILE_ROWS,
    .tile_strips = TILE_STRIPS,
    .pass_rows = GEMMUX_STREAM_ROWS,
    .stream_dense = 16,
    .flips = true,
    .stream_rows = 48,
    .widen = widen,
    .quantise = quantise,
    .sum = sum_x,
    .scales = read_scales,
    .points = points,
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

#    define LEVEL (&gemmux_level_avx512_vnni)
#    include "panel_entry.h"

#else
#    define GEMMUX_PANEL_FUNCTIONS .run = NULL
#endif

static const gemmux_form forms[] = {
    {GEMMUX_PANEL_INT8_NATIVE, .share_compute = 0.8f, .share_bandwidth = 0.9f},
    {GEMMUX_PANEL_INT8_UPCAST, .share_compute = 0.65f, .share_bandwidth = 0.8f},
    {GEMMUX_PANEL_QUANTISED_NATIVE, .share_compute = 0.8f, .share_bandwidth = 0.9f},
    {GEMMUX_PANEL_QUANTISED_UPCAST, .share_compute = 0.65f, .share_bandwidth = 0.8f},
};

const gemmux_kernel gemmux_kernel_x86_avx512_vnni = {
    .name = "x86_avx512_vnni",
    .summary = "int8 dot products (VPDPBUSD), exact sums within a scale's group",
    .device = GEMMUX_CPU,
    .isa = GEMMUX_ISA_SSE2 | GEMMUX_ISA_AVX2 | GEMMUX_ISA_AVX512 | GEMMUX_ISA_AVX512VNNI,
    .times_f32 = 4,
    .ops = GEMMUX_ALL_OPS,
    .epilogue = GEMMUX_ALL_EPILOGUES,
    .forms = forms,
    .form_count = sizeof forms / sizeof forms[0],
    .packing = &gemmux_packing_panel16,
    GEMMUX_PANEL_FUNCTIONS,
};
