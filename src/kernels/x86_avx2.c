/* SPDX-License-Identifier: Apache-2.0
 *
 * x86_avx2: f32 products with 256-bit FMA for every format, over packing panel16. A strip is two
 * registers wide.
 */
#include "panel_forms.h"
#include "x86.h"

#include "epilogue.h"

#if defined(__x86_64__)

#    include <immintrin.h>

#    if defined(__clang__)
#        pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#    else
#        pragma GCC push_options
#        pragma GCC target("avx2,fma,f16c")
#    endif

enum {
    TILE_ROWS = 6,
    STREAM_ROWS = 4,
};

/* ------------------------------------------------------------------------------------ decoders --
 */

GEMMUX_INLINE __m256 negate_where(__m256 magnitude, __m256i signs)
{
    __m256i sign = _mm256_and_si256(signs, _mm256_set1_epi32(INT32_MIN));
    return _mm256_or_ps(magnitude, _mm256_castsi256_ps(sign));
}

/* NF4's sixteen values; other formats leave it empty. */
typedef struct book {
    __m256 low, high;
} book;

GEMMUX_INLINE book open_book(const int code)
{
    if (code != GEMMUX_CODE_NF4)
        return (book){_mm256_setzero_ps(), _mm256_setzero_ps()};
    const float *values = gemmux_nf4_codebook();
    return (book){_mm256_loadu_ps(values), _mm256_loadu_ps(values + 8)};
}

/* Position p of eight lanes as f32, without scale and zero point (int4: without its offset of 8
 * where it has a zero point). */
GEMMUX_INLINE __m256 decode_lanes(const int code, const int zero, const book *nf4, __m256i v,
                                  const int p)
{
    switch (code) {
    case GEMMUX_CODE_F32:
        return _mm256_castsi256_ps(v);
    case GEMMUX_CODE_BF16:
        return _mm256_castsi256_ps(p ? _mm256_and_si256(v, _mm256_set1_epi32(-65536))
                                     : _mm256_slli_epi32(v, 16));
    case GEMMUX_CODE_INT8:
        return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(v, 24 - 8 * p), 24));
    case GEMMUX_CODE_E4M3: { /* sign and magnitude into place, then the exponent's bias */
        __m256i bits = _mm256_srai_epi32(_mm256_slli_epi32(v, 24 - 8 * p), 4);
        bits = _mm256_and_si256(bits, _mm256_set1_epi32((int)0x87f00000u));
        return _mm256_mul_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(0x1p120f));
    }
    case GEMMUX_CODE_E5M2: {
        __m256i bits = _mm256_srai_epi32(_mm256_slli_epi32(v, 24 - 8 * p), 3);
        bits = _mm256_and_si256(bits, _mm256_set1_epi32((int)0x8fe00000u));
        return _mm256_mul_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(0x1p112f));
    }
    case GEMMUX_CODE_E2M1: {
        const __m256 table = _mm256_setr_ps(0, 0.5f, 1, 1.5f, 2, 3, 4, 6);
        __m256 magnitude = _mm256_permutevar8x32_ps(table, _mm256_srli_epi32(v, 4 * p));
        return negate_where(magnitude, _mm256_slli_epi32(v, 28 - 4 * p));
    }
    case GEMMUX_CODE_INT4: {
        __m256i bits = _mm256_and_si256(_mm256_srli_epi32(v, 4 * p), _mm256_set1_epi32(15));
        __m256 value = _mm256_cvtepi32_ps(bits);
        return zero == GEMMUX_ZERO_NONE ? _mm256_sub_ps(value, _mm256_set1_ps(8)) : value;
    }
    default: { /* NF4 */
        __m256i index = _mm256_srli_epi32(v, 4 * p);
        __m256 low = _mm256_permutevar8x32_ps(nf4->low, index);
        __m256 high = _mm256_permutevar8x32_ps(nf4->high, index);
        __m256i top = _mm256_slli_epi32(v, 28 - 4 * p);
        return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(top));
    }
    }
}

/* Element k + (p reversed) of eight rows of a strip. */
GEMMUX_INLINE __m256 decode_half(const gemmux_strip *s, const int code, const int zero,
                                 const book *nf4, int64_t lane, const int p, const int half,
                                 int64_t segment)
{
    if (code == GEMMUX_CODE_F16)
        return _mm256_cvtph_ps(_mm_loadu_si128(
            (const __m128i *)(const void *)(s->codes + ((lane * 2 + p) * 16 + half * 8) * 2)));
    __m256i v =
        _mm256_loadu_si256((const __m256i *)(const void *)(s->codes + (lane * 16 + half * 8) * 4));
    __m256 value = decode_lanes(code, zero, nf4, v, p);
    int64_t at = segment * 16 + half * 8;
    if (zero == GEMMUX_ZERO_POINT)
        value = _mm256_sub_ps(value, _mm256_loadu_ps((const float *)s->points + at));
    if (zero == GEMMUX_ZERO_MIN)
        value =
            _mm256_fmadd_ps(value, _mm256_loadu_ps(s->scales + at), _mm256_loadu_ps(s->mins + at));
    return value;
}

/* ----------------------------------------------------------------------------------- streaming --
 */

GEMMUX_INLINE void stream_segment(const gemmux_strip *s, const int code, const int zero,
                                  const int rows, const int chains, int64_t segment, int64_t length,
                                  const float *const *x, float *out)
{
    const int per_lane = gemmux_lane_codes(code);
    const int steps = per_lane == 1 ? 4 : per_lane;
    const book nf4 = open_book(code);
    __m256 sums[STREAM_ROWS * 2][2];
    GEMMUX_UNROLL
    for (int i = 0; i < rows * chains; i++)
        sums[i][0] = sums[i][1] = _mm256_setzero_ps();
    int64_t first = segment * s->segment / per_lane;
    for (int64_t lane = first; lane < first + length / per_lane; lane += per_lane == 1 ? 4 : 1) {
        GEMMUX_UNROLL
        for (int step = 0; step < steps; step++) {
            int64_t at = per_lane == 1 ? lane + step : lane;
            const int p = per_lane == 1 ? 0 : step;
            int64_t k = at * per_lane + gemmux_lane_element(per_lane, p);
            if (p == 0)
                gemmux_fetch_ahead(s->codes + at * 64);
            __m256 low = decode_half(s, code, zero, &nf4, at, p, 0, segment);
            __m256 high = decode_half(s, code, zero, &nf4, at, p, 1, segment);
            GEMMUX_UNROLL
            for (int r = 0; r < rows; r++) {
                __m256 xr = _mm256_broadcast_ss(x[r] + k);
                const int i = r * chains + step % chains;
                sums[i][0] = _mm256_fmadd_ps(low, xr, sums[i][0]);
                sums[i][1] = _mm256_fmadd_ps(high, xr, sums[i][1]);
            }
        }
    }
    GEMMUX_UNROLL
    for (int r = 0; r < rows; r++) {
        GEMMUX_UNROLL
        for (int half = 0; half < 2; half++) {
            __m256 sum = sums[r * chains][half];
            GEMMUX_UNROLL
            for (int i = 1; i < chains; i++)
                sum = _mm256_add_ps(sum, sums[r * chains + i][half]);
            float *to = out + r * 16 + half * 8;
            const bool scaled = s->scales && zero != GEMMUX_ZERO_MIN;
            __m256 scale =
                scaled ? _mm256_loadu_ps(s->scales + segment * 16 + half * 8) : _mm256_set1_ps(1);
            _mm256_storeu_ps(to, _mm256_fmadd_ps(sum, scale, _mm256_loadu_ps(to)));
        }
    }
}

GEMMUX_INLINE void stream_rows(const gemmux_strip *s, const int code, const int zero, int rows,
                               const void *const *x, float *out)
{
    const float *xs[STREAM_ROWS];
    for (int r = 0; r < rows; r++)
        xs[r] = x[r];
    int64_t segment = 0;
    for (int64_t k = 0; k < s->k; k += s->segment, segment++) {
        int64_t length = s->k - k < s->segment ? s->k - k : s->segment;
        switch (rows) {
        case 1:
            stream_segment(s, code, zero, 1, 4, segment, length, xs, out);
            break;
        case 2:
            stream_segment(s, code, zero, 2, 2, segment, length, xs, out);
            break;
        case 3:
            stream_segment(s, code, zero, 3, 1, segment, length, xs, out);
            break;
        default:
            stream_segment(s, code, zero, 4, 1, segment, length, xs, out);
        }
    }
}

/* Operands of one strip, scales and zero points applied. */
GEMMUX_INLINE void decode_strip(const gemmux_strip *s, const int code, const int zero, float *to)
{
    const int per_lane = gemmux_lane_codes(code);
    const book nf4 = open_book(code);
    int64_t segment = 0;
    for (int64_t k = 0; k < s->k; k += s->segment, segment++) {
        int64_t last = k + s->segment < s->k ? k + s->segment : s->k;
        for (int half = 0; half < 2; half++) {
            __m256 scale = s->scales && zero != GEMMUX_ZERO_MIN
                               ? _mm256_loadu_ps(s->scales + segment * 16 + half * 8)
                               : _mm256_set1_ps(1);
            for (int64_t lane = k / per_lane; lane < last / per_lane; lane++)
                GEMMUX_UNROLL
            for (int p = 0; p < per_lane; p++) {
                __m256 value = decode_half(s, code, zero, &nf4, lane, p, half, segment);
                int64_t at = lane * per_lane + gemmux_lane_element(per_lane, p);
                _mm256_storeu_ps(to + at * 16 + half * 8, _mm256_mul_ps(value, scale));
            }
        }
    }
}

static void stream(const gemmux_strip *s, int rows, const void *const *x, const void *const *sums,
                   float *out)
{
    (void)sums;
    GEMMUX_FOR_CODE(stream_rows, s, rows, x, out)
}

static void decode(const gemmux_strip *s, bool fold, void *to)
{
    (void)fold; /* f32 holds every scaled code, so it always is */
    GEMMUX_FOR_CODE(decode_strip, s, to)
}

/* ------------------------------------------------------------------------------------ the tile --
 */

GEMMUX_INLINE void multiply_rows(const gemmux_tile *tile, const int rows)
{
    const float *x[TILE_ROWS];
    __m256 sums[TILE_ROWS][2];
    GEMMUX_UNROLL
    for (int r = 0; r < rows; r++) {
        x[r] = tile->x[r];
        sums[r][0] = sums[r][1] = _mm256_setzero_ps();
    }
    const float *w = (const float *)(const void *)tile->w;
    for (int64_t k = 0; k < tile->steps; k++) {
        __m256 low = _mm256_loadu_ps(w + k * 16), high = _mm256_loadu_ps(w + k * 16 + 8);
        GEMMUX_UNROLL
        for (int r = 0; r < rows; r++) {
            __m256 xr = _mm256_broadcast_ss(x[r] + k);
            sums[r][0] = _mm256_fmadd_ps(low, xr, sums[r][0]);
            sums[r][1] = _mm256_fmadd_ps(high, xr, sums[r][1]);
        }
    }
    GEMMUX_UNROLL
    for (int r = 0; r < rows; r++)
        GEMMUX_UNROLL
    for (int half = 0; half < 2; half++) {
        float *c = tile->c + r * GEMMUX_TILE_COLUMNS + half * 8;
        __m256 old = tile->first ? _mm256_setzero_ps() : _mm256_loadu_ps(c);
        _mm256_storeu_ps(c, _mm256_add_ps(old, sums[r][half]));
    }
}

static void multiply(const gemmux_tile *tile)
{
    switch (tile->rows) {
    case 1:
        multiply_rows(tile, 1);
        break;
    case 2:
        multiply_rows(tile, 2);
        break;
    case 3:
        multiply_rows(tile, 3);
        break;
    case 4:
        multiply_rows(tile, 4);
        break;
    case 5:
        multiply_rows(tile, 5);
        break;
    default:
        multiply_rows(tile, TILE_ROWS);
    }
}

/* ----------------------------------------------------------------------------- around the tile --
 */

static void widen(gemmux_code code, const void *from, int64_t k, void *to)
{
    const uint16_t *halves = from;
    float *out = to;
    int64_t i = 0;
    if (code == GEMMUX_CODE_F32) {
        memcpy(to, from, (size_t)k * 4);
        return;
    }
    for (; i + 8 <= k; i += 8) {
        __m128i bits = _mm_loadu_si128((const __m128i *)(const void *)((const char *)from + i * 2));
        __m256 value =
            code == GEMMUX_CODE_F16
                ? _mm256_cvtph_ps(bits)
                : _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
        _mm256_storeu_ps(out + i, value);
    }
    for (; i < k; i++) {
        uint16_t half;
        memcpy(&half, (const char *)halves + i * 2, 2);
        out[i] = code == GEMMUX_CODE_F16 ? gemmux_f32_from_f16(half) : gemmux_f32_from_bf16(half);
    }
}

static void scales(gemmux_code code, const uint8_t *from, int64_t count, float *to)
{
    if (code == GEMMUX_CODE_F32) {
        memcpy(to, from, (size_t)count * 4);
        return;
    }
    if (code == GEMMUX_CODE_F16 || code == GEMMUX_CODE_BF16) {
        widen(code, from, count, to);
        return;
    }
    for (int64_t i = 0; i < count; i += 8) {
        __m256i b =
            _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(from + i)));
        if (code == GEMMUX_CODE_UE8M0) {
            _mm256_storeu_ps(to + i, _mm256_castsi256_ps(_mm256_slli_epi32(b, 23)));
        } else { /* UE4M3: as E4M3 above, the sign bit ignored */
            __m256i bits = _mm256_slli_epi32(_mm256_and_si256(b, _mm256_set1_epi32(127)), 20);
            _mm256_storeu_ps(to + i,
                             _mm256_mul_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(0x1p120f)));
        }
    }
}

static void points(const uint8_t *from, int64_t count, void *to)
{
    for (int64_t i = 0; i < count; i += 8) {
        __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)(from + i));
        _mm256_storeu_ps((float *)to + i, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)));
    }
}

static void finish(const gemmux_call *call, int32_t expert, int64_t row, int64_t first,
                   int64_t count, float factor, float *sums)
{
    for (int64_t i = 0; i < count; i++)
        sums[i] *= factor;
    gemmux_finish_row(call, expert, row, first, count, sums);
}

static const gemmux_panel_level level = {
    .x = GEMMUX_PANEL_F32,
    .tile_rows = TILE_ROWS,
    .tile_strips = 1,
    .pass_rows = STREAM_ROWS,
    .stream_dense = 8,
    .stream_rows = 16,
    .widen = widen,
    .scales = scales,
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
    {GEMMUX_PANEL_F32_NATIVE, .share_compute = 0.5f, .share_bandwidth = 0.85f},
    {GEMMUX_PANEL_F32_UPCAST, .share_compute = 0.5f, .share_bandwidth = 0.3f},
};

const gemmux_kernel gemmux_kernel_x86_avx2 = {
    .name = "x86_avx2",
    .summary = "f32 products with 256-bit FMA, every format upcast on the way",
    .device = GEMMUX_CPU,
    .isa = GEMMUX_ISA_SSE2 | GEMMUX_ISA_AVX2,
    .ops = GEMMUX_ALL_OPS,
    .epilogue = GEMMUX_ALL_EPILOGUES,
    .forms = forms,
    .form_count = sizeof forms / sizeof forms[0],
    .packing = &gemmux_packing_panel16,
    GEMMUX_PANEL_FUNCTIONS,
};
