/* SPDX-License-Identifier: Apache-2.0
 *
 * x86_avx512: f32 products with 512-bit FMA for every format, over packing panel16. Needs what
 * Skylake-X has: F, BW, DQ, VL, CD.
 */
#include "panel_forms.h"
#include "x86.h"

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

#    define LEVEL_X GEMMUX_PANEL_F32

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
    return _mm512_fmadd_ps(_mm512_castsi512_ps(w), _mm512_castsi512_ps(x), sum);
}

#    include "x86_avx512.h"

/* ------------------------------------------------------------------------------------ decoders --
 */

/* The sixteen values of a 4-bit code; other codes leave it empty. */
GEMMUX_INLINE __m512 open_table(const int code, const int zero)
{
    if (code == GEMMUX_CODE_E2M1)
        return _mm512_setr_ps(0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4,
                              -6);
    if (code == GEMMUX_CODE_NF4)
        return _mm512_loadu_ps(gemmux_nf4_codebook());
    __m512 count = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return zero == GEMMUX_ZERO_NONE ? _mm512_sub_ps(count, _mm512_set1_ps(8)) : count;
}

/* Position p of sixteen lanes as f32, without scale and zero point (int4: without its offset of 8
 * where it has a zero point). */
GEMMUX_INLINE __m512 decode_lanes(const int code, __m512 table, __m512i v, const int p)
{
    switch (code) {
    case GEMMUX_CODE_F32:
        return _mm512_castsi512_ps(v);
    case GEMMUX_CODE_BF16:
        return p ? high_halves(v) : low_halves(v);
    case GEMMUX_CODE_INT8:
        return _mm512_cvtepi32_ps(
            _mm512_srai_epi32(_mm512_slli_epi32(v, (unsigned)(24 - 8 * p)), 24));
    case GEMMUX_CODE_E4M3: { /* sign and magnitude into place, then the exponent's bias */
        __m512i bits = _mm512_srai_epi32(_mm512_slli_epi32(v, (unsigned)(24 - 8 * p)), 4);
        bits = _mm512_and_si512(bits, _mm512_set1_epi32((int)0x87f00000u));
        return _mm512_mul_ps(_mm512_castsi512_ps(bits), _mm512_set1_ps(0x1p120f));
    }
    case GEMMUX_CODE_E5M2: {
        __m512i bits = _mm512_srai_epi32(_mm512_slli_epi32(v, (unsigned)(24 - 8 * p)), 3);
        bits = _mm512_and_si512(bits, _mm512_set1_epi32((int)0x8fe00000u));
        return _mm512_mul_ps(_mm512_castsi512_ps(bits), _mm512_set1_ps(0x1p112f));
    }
    default: /* only the low four bits of each index count */
        return _mm512_permutexvar_ps(_mm512_srli_epi32(v, (unsigned)(4 * p)), table);
    }
}

/* A lane's line of codes, loaded once and not with each shift. */
GEMMUX_INLINE __m512i load_lane(const gemmux_strip *s, int64_t lane)
{
    __m512i v = load512(s->codes + lane * 64);
    gemmux_fetch_ahead(s->codes + lane * 64);
    __asm__("" : "+v"(v));
    return v;
}

/* Element lane * per_lane + (p reversed) of a strip, given the lane's line. */
GEMMUX_INLINE __m512 decode_at(const gemmux_strip *s, const int code, const int zero, __m512 table,
                               __m512i v, int64_t lane, const int p, int64_t segment)
{
    if (code == GEMMUX_CODE_F16) /* from memory, as the conversion reads it */
        return _mm512_cvtph_ps(
            _mm256_loadu_si256((const __m256i *)(const void *)(s->codes + (lane * 2 + p) * 32)));
    __m512 value = decode_lanes(code, table, v, p);
    if (zero == GEMMUX_ZERO_POINT)
        value = _mm512_sub_ps(value, _mm512_loadu_ps((const float *)s->points + segment * 16));
    if (zero == GEMMUX_ZERO_MIN)
        value = _mm512_fmadd_ps(value, _mm512_loadu_ps(s->scales + segment * 16),
                                _mm512_loadu_ps(s->mins + segment * 16));
    return value;
}

/* ----------------------------------------------------------------------------------- streaming --
 */

enum { STREAM_CHAINS = 4 };

/* `chains` sums a row, so that the latency of one FMA is filled with others. */
GEMMUX_INLINE void stream_some(const gemmux_strip *s, const int code, const int zero,
                               const int rows, const int chains, const void *const *from,
                               float *out)
{
    const int per_lane = gemmux_lane_codes(code), steps = per_lane < 4 ? 4 : per_lane;
    const __m512 table = open_table(code, zero);
    const bool scaled = s->scales && zero != GEMMUX_ZERO_MIN;
    const float *x[GEMMUX_STREAM_ROWS];
    __m512 totals[GEMMUX_STREAM_ROWS];
    GEMMUX_UNROLL
    for (int r = 0; r < rows; r++) {
        x[r] = from[r];
        totals[r] = _mm512_loadu_ps(out + r * 16);
    }
    int64_t segment = 0;
    for (int64_t k = 0; k < s->k; segment++) {
        int64_t last = k + s->segment < s->k ? k + s->segment : s->k;
        __m512 sums[GEMMUX_STREAM_ROWS * STREAM_CHAINS];
        GEMMUX_UNROLL
        for (int i = 0; i < rows * chains; i++)
            sums[i] = _mm512_setzero_ps();
        for (; k < last; k += steps) {
            __m512i v = _mm512_setzero_si512();
            GEMMUX_UNROLL
            for (int step = 0; step < steps; step++) {
                const int p = step % per_lane;
                const int element = step / per_lane * per_lane + gemmux_lane_element(per_lane, p);
                const int64_t lane = (k + step) / per_lane;
                if (p == 0)
                    v = load_lane(s, lane);
                __m512 w = decode_at(s, code, zero, table, v, lane, p, segment);
                GEMMUX_UNROLL
                for (int r = 0; r < rows; r++) {
                    const int i = r * chains + step % chains;
                    sums[i] = _mm512_fmadd_ps(w, _mm512_set1_ps(x[r][k + element]), sums[i]);
                }
            }
        }
        __m512 scale = scaled ? _mm512_loadu_ps(s->scales + segment * 16) : _mm512_set1_ps(1);
        GEMMUX_UNROLL
        for (int r = 0; r < rows; r++) {
            __m512 sum = sums[r * chains];
            GEMMUX_UNROLL
            for (int i = 1; i < chains; i++)
                sum = _mm512_add_ps(sum, sums[r * chains + i]);
            totals[r] = _mm512_fmadd_ps(sum, scale, totals[r]);
        }
    }
    GEMMUX_UNROLL
    for (int r = 0; r < rows; r++)
        _mm512_storeu_ps(out + r * 16, totals[r]);
}

GEMMUX_INLINE void stream_rows(const gemmux_strip *s, const int code, const int zero, int rows,
                               const void *const *x, float *out)
{
    switch (rows) {
    case 1:
        stream_some(s, code, zero, 1, 4, x, out);
        break;
    case 2:
        stream_some(s, code, zero, 2, 4, x, out);
        break;
    case 3:
        stream_some(s, code, zero, 3, 2, x, out);
        break;
    case 4:
        stream_some(s, code, zero, 4, 2, x, out);
        break;
    case 5:
    case 6:
        stream_some(s, code, zero, 6, 1, x, out);
        break;
    default:
        stream_some(s, code, zero, 8, 1, x, out);
    }
}

static void stream(const gemmux_strip *s, int rows, const void *const *x, const void *const *sums,
                   float *out)
{
    (void)sums;
    GEMMUX_FOR_CODE(stream_rows, s, rows, x, out)
}

/* -------------------------------------------------------------------------------------- panels --
 */

/* Operands of one strip, scales and zero points applied. */
GEMMUX_INLINE void decode_strip(const gemmux_strip *s, const int code, const int zero, float *to)
{
    const int per_lane = gemmux_lane_codes(code);
    const __m512 table = open_table(code, zero);
    int64_t segment = 0;
    for (int64_t k = 0; k < s->k; k += s->segment, segment++) {
        int64_t last = k + s->segment < s->k ? k + s->segment : s->k;
        __m512 scale = s->scales && zero != GEMMUX_ZERO_MIN
                           ? _mm512_loadu_ps(s->scales + segment * 16)
                           : _mm512_set1_ps(1);
        for (int64_t lane = k / per_lane; lane < last / per_lane; lane++) {
            __m512i v = load_lane(s, lane);
            GEMMUX_UNROLL
            for (int p = 0; p < per_lane; p++) {
                __m512 value = decode_at(s, code, zero, table, v, lane, p, segment);
                int64_t at = lane * per_lane + gemmux_lane_element(per_lane, p);
                _mm512_storeu_ps(to + at * 16, _mm512_mul_ps(value, scale));
            }
        }
    }
}

static void decode(const gemmux_strip *s, bool fold, void *to)
{
    (void)fold; /* f32 holds every scaled code, so it always is */
    GEMMUX_FOR_CODE(decode_strip, s, to)
}

static void points(const uint8_t *from, int64_t count, void *to)
{
    for (int64_t i = 0; i < count; i += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(from + i));
        _mm512_storeu_ps((float *)to + i, _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)));
    }
}

static const gemmux_panel_level level = {
    .x = LEVEL_X,
    .tile_rows = TILE_ROWS,
    .tile_strips = TILE_STRIPS,
    .pass_rows = GEMMUX_STREAM_ROWS,
    .stream_dense = 8,
    .stream_rows = 24,
    .widen = widen_to_f32,
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

#    define LEVEL (&level)
#    include "panel_entry.h"

#else
#    define GEMMUX_PANEL_FUNCTIONS .run = NULL
#endif

static const gemmux_form forms[] = {
    {GEMMUX_PANEL_F32_NATIVE, .share_compute = 0.9f, .share_bandwidth = 0.9f},
    {GEMMUX_PANEL_F32_UPCAST, .share_compute = 0.85f, .share_bandwidth = 0.7f},
};

const gemmux_kernel gemmux_kernel_x86_avx512 = {
    .name = "x86_avx512",
    .summary = "f32 products with 512-bit FMA, every format upcast on the way",
    .device = GEMMUX_CPU,
    .isa = GEMMUX_ISA_SSE2 | GEMMUX_ISA_AVX2 | GEMMUX_ISA_AVX512,
    .ops = GEMMUX_ALL_OPS,
    .epilogue = GEMMUX_ALL_EPILOGUES,
    .forms = forms,
    .form_count = sizeof forms / sizeof forms[0],
    .packing = &gemmux_packing_panel16,
    GEMMUX_PANEL_FUNCTIONS,
};
