/* SPDX-License-Identifier: Apache-2.0
 *
 * x86_avx512_bf16: bf16 products with VDPBF16PS over packing panel16. Every weight code but NF4 is
 * exact in bf16, and so are mxfp4's, mxfp8's and nvfp4's codes times their block scales; other
 * scales multiply f32 sums. The instruction counts subnormals as zero.
 */
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

GEMMUX_INLINE __m512i accumulate(__m512i sum, __m512i w, __m512i x)
{
    return _mm512_castps_si512(
        _mm512_dpbf16_ps(_mm512_castsi512_ps(sum), (__m512bh)w, (__m512bh)x));
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

GEMMUX_INLINE __m512i as_bf16(const float *values)
{
    __m256i low = _mm512_cvtepi32_epi16(_mm512_srli_epi32(load512(values), 16));
    __m256i high = _mm512_cvtepi32_epi16(_mm512_srli_epi32(load512(values + 16), 16));
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

GEMMUX_INLINE tables open_tables(const int code, const int zero)
{
    static const float e2m1[16] = {0,     0.5f,  1,  1.5f,  2,  3,  4,  6,
                                   -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};
    float values[32] = {0};
    tables t = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    if (code == GEMMUX_CODE_E4M3 || code == GEMMUX_CODE_E5M2) {
        for (int i = 0; i < 8; i++)
            values[i] = code == GEMMUX_CODE_E4M3 ? (float)i * 0x1p-9f : (float)(i % 4) * 0x1p-16f;
        t.subnormals = as_bf16(values);
        return t;
    }
    for (int i = 0; i < 32; i++) {
        if (code == GEMMUX_CODE_E2M1)
            values[i] = e2m1[i % 16];
        else if (code == GEMMUX_CODE_NF4) /* rounded here, once: the descriptor says so */
            values[i] = gemmux_f32_from_bf16(gemmux_bf16_from_f32(gemmux_nf4_codebook()[i % 16]));
        else if (zero == GEMMUX_ZERO_POINT)
            values[i] = (float)(i < 16 ? i : i - 32);
        else
            values[i] = (float)(i % 16 - (zero == GEMMUX_ZERO_NONE ? 8 : 0));
    }
    t.codes = as_bf16(values);
    return t;
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

GEMMUX_INLINE int pair_element(const int pairs, const int q)
{
    return pairs == 4 ? (q & 1) << 2 | (q & 2) : q * 2;
}

/* ----------------------------------------------------------------------------------- streaming --
 */

enum { STREAM_CHAINS = 4 };

/* `chains` sums a row, so that the latency of one product is filled with others. */
GEMMUX_INLINE void stream_some(const gemmux_strip *s, const int code, const int zero,
                               const int rows, const int chains, const void *const *from,
                               const void *const *sums_of_x, float *out)
{
    const int pairs = gemmux_lane_codes(code) / 2, lanes = pairs == 4 ? 1 : 4 / pairs;
    const tables t = open_tables(code, zero);
    const char *x[GEMMUX_STREAM_ROWS];
    __m512 totals[GEMMUX_STREAM_ROWS];
    GEMMUX_UNROLL
    for (int r = 0; r < rows; r++) {
        x[r] = from[r];
        totals[r] = _mm512_loadu_ps(out + r * 16);
    }
    const uint8_t *codes = s->codes;
    int64_t segment = 0;
    for (int64_t k = 0; k < s->k; segment++) {
        int64_t last = k + s->segment < s->k ? k + s->segment : s->k;
        __m512i points = zero == GEMMUX_ZERO_POINT
                             ? load512((const int32_t *)s->points + segment * 16)
                             : _mm512_setzero_si512();
        __m512i sums[GEMMUX_STREAM_ROWS * STREAM_CHAINS];
        GEMMUX_UNROLL
        for (int i = 0; i < rows * chains; i++)
            sums[i] = _mm512_setzero_si512();
        for (; k < last; k += lanes * pairs * 2, codes += lanes * 64) {
            GEMMUX_UNROLL
            for (int step = 0; step < lanes * pairs; step++) {
                const int lane = step / pairs, q = step % pairs;
                __m512i w = decode_pair(code, zero, &t, load512(codes + lane * 64), q, points);
                const int element = lane * pairs * 2 + pair_element(pairs, q);
                GEMMUX_UNROLL
                for (int r = 0; r < rows; r++) {
                    const int i = r * chains + step % chains;
                    sums[i] = accumulate(sums[i], w, repeat_lane(x[r] + (k + element) * 2));
                }
            }
        }
        __m512 scale = s->scales ? _mm512_loadu_ps(s->scales + segment * 16) : _mm512_set1_ps(1);
        GEMMUX_UNROLL
        for (int r = 0; r < rows; r++) {
            __m512 sum = _mm512_castsi512_ps(sums[r * chains]);
            GEMMUX_UNROLL
            for (int i = 1; i < chains; i++)
                sum = _mm512_add_ps(sum, _mm512_castsi512_ps(sums[r * chains + i]));
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
        stream_some(s, code, zero, 3, 2, x, sums, out);
        break;
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
                   float *out)
{
    if (s->code == GEMMUX_CODE_NF4) {
        stream_rows(s, GEMMUX_CODE_NF4, GEMMUX_ZERO_NONE, rows, x, sums, out);
        return;
    }
    GEMMUX_FOR_BF16_CODE(stream_rows, s, rows, x, sums, out)
}

/* -------------------------------------------------------------------------------------- panels --
 */

/* Both words of each lane times an f32, where the product is exact in bf16. */
GEMMUX_INLINE __m512i fold_scale(__m512i pairs, __m512 scale)
{
    __m512i low = _mm512_castps_si512(_mm512_mul_ps(low_halves(pairs), scale));
    __m512i high = _mm512_castps_si512(_mm512_mul_ps(high_halves(pairs), scale));
    return _mm512_or_si512(_mm512_srli_epi32(low, 16), high);
}

GEMMUX_INLINE void decode_strip(const gemmux_strip *s, const int code, const int zero, bool fold,
                                char *to)
{
    const int pairs = gemmux_lane_codes(code) / 2;
    const tables t = open_tables(code, zero);
    const uint8_t *codes = s->codes;
    int64_t segment = 0;
    for (int64_t k = 0; k < s->k; segment++) {
        int64_t last = k + s->segment < s->k ? k + s->segment : s->k;
        __m512i points = zero == GEMMUX_ZERO_POINT
                             ? load512((const int32_t *)s->points + segment * 16)
                             : _mm512_setzero_si512();
        __m512 scale = fold ? _mm512_loadu_ps(s->scales + segment * 16) : _mm512_set1_ps(1);
        for (; k < last; k += pairs * 2, codes += 64) {
            __m512i v = load512(codes);
            GEMMUX_UNROLL
            for (int q = 0; q < pairs; q++) {
                __m512i w = decode_pair(code, zero, &t, v, q, points);
                if (fold)
                    w = fold_scale(w, scale);
                _mm512_storeu_si512(to + (k + pair_element(pairs, q)) * 32, w);
            }
        }
    }
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

/* Each in both words of its lane. */
static void points(const uint8_t *from, int64_t count, void *to)
{
    for (int64_t i = 0; i < count; i += 16) {
        __m512i bytes =
            _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(from + i)));
        _mm512_storeu_si512((int32_t *)to + i,
                            _mm512_or_si512(bytes, _mm512_slli_epi32(bytes, 16)));
    }
}

static const gemmux_panel_level level = {
    .x = LEVEL_X,
    .tile_rows = TILE_ROWS,
    .tile_strips = TILE_STRIPS,
    .stream_rows = GEMMUX_STREAM_ROWS,
    .widen = widen,
    .sum = sum_x,
    .scales = read_scales,
    .points = points,
    .stream = stream,
    .decode = decode,
    .multiply = multiply,
    .finish = finish,
};

static const char *configure(const gemmux_problem *problem, const gemmux_machine *machine,
                             const gemmux_form *form, gemmux_config *config)
{
    (void)form;
    return gemmux_panel_configure(&level, problem, machine, config);
}

static gemmux_status prepare(const gemmux_problem *problem, const gemmux_machine *machine,
                             const gemmux_packed *w, void **state, gemmux_error *error)
{
    (void)w;
    return gemmux_panel_prepare(&level, problem, machine, state, error);
}

static gemmux_status run(const gemmux_call *call, gemmux_error *error)
{
    return gemmux_panel_run(&level, call, error);
}

#    if defined(__clang__)
#        pragma clang attribute pop
#    else
#        pragma GCC pop_options
#    endif

#else
#    define configure NULL
#    define prepare   NULL
#    define run       NULL
#endif

/* Codes that bf16 holds. */
#define EXACT                                                                                      \
    (GEMMUX_BIT(GEMMUX_BF16) | GEMMUX_BIT(GEMMUX_E4M3) | GEMMUX_BIT(GEMMUX_E5M2) |                 \
     GEMMUX_BIT(GEMMUX_MXFP8) | GEMMUX_BIT(GEMMUX_MXFP4) | GEMMUX_BIT(GEMMUX_NVFP4) |              \
     GEMMUX_BIT(GEMMUX_INT8) | GEMMUX_BIT(GEMMUX_INT4))

static const gemmux_form forms[] = {
    {
        .x = GEMMUX_BIT(GEMMUX_BF16),
        .w = GEMMUX_BIT(GEMMUX_BF16),
        .y = GEMMUX_FLOATS,
        .path = GEMMUX_PATH_NATIVE,
        .math = GEMMUX_MATH_BF16,
        .liberties = GEMMUX_LIBERTY_FLUSH_SUBNORMALS,
        .share_compute = 0.9f,
        .share_bandwidth = 0.9f,
    },
    {
        .x = GEMMUX_BIT(GEMMUX_BF16),
        .w = EXACT,
        .y = GEMMUX_FLOATS,
        .w_group_multiple = GEMMUX_PANEL_GROUP,
        .path = GEMMUX_PATH_UPCAST,
        .math = GEMMUX_MATH_BF16,
        .liberties = GEMMUX_LIBERTY_FLUSH_SUBNORMALS,
        .share_compute = 0.85f,
        .share_bandwidth = 0.85f,
    },
    {
        .x = GEMMUX_BIT(GEMMUX_BF16),
        .w = GEMMUX_BIT(GEMMUX_NF4),
        .y = GEMMUX_FLOATS,
        .w_group_multiple = GEMMUX_PANEL_GROUP,
        .path = GEMMUX_PATH_UPCAST,
        .math = GEMMUX_MATH_BF16,
        .liberties = GEMMUX_LIBERTY_FLUSH_SUBNORMALS | GEMMUX_LIBERTY_ROUNDED_W,
        .share_compute = 0.85f,
        .share_bandwidth = 0.85f,
    },
    {
        .x = GEMMUX_BIT(GEMMUX_F32) | GEMMUX_BIT(GEMMUX_F16),
        .w = EXACT,
        .y = GEMMUX_FLOATS,
        .w_group_multiple = GEMMUX_PANEL_GROUP,
        .path = GEMMUX_PATH_UPCAST,
        .math = GEMMUX_MATH_BF16,
        .liberties = GEMMUX_LIBERTY_FLUSH_SUBNORMALS | GEMMUX_LIBERTY_ROUNDED_X,
        .share_compute = 0.85f,
        .share_bandwidth = 0.85f,
    },
};

const gemmux_kernel gemmux_kernel_x86_avx512_bf16 = {
    .name = "x86_avx512_bf16",
    .summary = "bf16 dot products (VDPBF16PS), quantised weights upcast exactly on the way",
    .device = GEMMUX_CPU,
    .isa = GEMMUX_ISA_SSE2 | GEMMUX_ISA_AVX2 | GEMMUX_ISA_AVX512 | GEMMUX_ISA_AVX512BF16,
    .ops = GEMMUX_ALL_OPS,
    .epilogue = GEMMUX_ALL_EPILOGUES,
    .forms = forms,
    .form_count = sizeof forms / sizeof forms[0],
    .packing = &gemmux_packing_panel16,
    .configure = configure,
    .prepare = prepare,
    .release = gemmux_panel_release,
    .run = run,
};
