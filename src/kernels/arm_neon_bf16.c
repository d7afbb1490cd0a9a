/* SPDX-License-Identifier: Apache-2.0
 *
 * arm_neon_bf16: bf16 products over packing panel16, BFDOT for few rows and BFMMLA for many. Every
 * weight code but NF4 is exact in bf16, and so are mxfp4's, mxfp8's and nvfp4's codes times their
 * block scales; other scales multiply f32 sums. Both instructions count subnormals as zero and
 * round sums to odd, which costs at most an ulp a sum of two products: half an ulp a product, as
 * everywhere.
 */
#include "panel_codes.h"
#include "panel_forms.h"

/* clang before 16 has the intrinsics only where all of the file may use them. */
#if defined(__aarch64__) && (!defined(__clang__) || __clang_major__ >= 16 ||                       \
                             defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC))

#    include "arm_decode.h"

#    if defined(__clang__)
#        pragma clang attribute push(__attribute__((target("bf16"))), apply_to = function)
#    else
#        pragma GCC push_options
#        pragma GCC target("arch=armv8.2-a+bf16")
#        pragma GCC optimize("no-schedule-insns") /* see arm_panel.h */
#    endif

#    define LEVEL_X         GEMMUX_PANEL_BF16
#    define LEVEL_WIDE_NF4  false
#    define LEVEL_TILE_ROWS (2 * MMLA_PAIRS)
#    define LEVEL_SUM       sum_x
#    define LEVEL_QUANTISE  NULL
#    define LEVEL_MMLA      1
#    define LEVEL_FOR_CODE(what, strip, ...)                                                       \
        if ((strip)->code == GEMMUX_CODE_NF4) {                                                    \
            what(strip, GEMMUX_CODE_NF4, GEMMUX_ZERO_NONE, __VA_ARGS__);                           \
            return;                                                                                \
        }                                                                                          \
        GEMMUX_FOR_BF16_CODE(what, strip, __VA_ARGS__)

typedef float32x4_t lane_sum;

GEMMUX_INLINE lane_sum zero_sum(void)
{
    return vdupq_n_f32(0);
}

GEMMUX_INLINE lane_sum accumulate(lane_sum sum, uint32x4_t w, uint32x4_t x, const int i)
{
    bfloat16x8_t pairs = vreinterpretq_bf16_u32(w), lanes = vreinterpretq_bf16_u32(x);
    switch (i) {
    case 0:
        return vbfdotq_laneq_f32(sum, pairs, lanes, 0);
    case 1:
        return vbfdotq_laneq_f32(sum, pairs, lanes, 1);
    case 2:
        return vbfdotq_laneq_f32(sum, pairs, lanes, 2);
    default:
        return vbfdotq_laneq_f32(sum, pairs, lanes, 3);
    }
}

GEMMUX_INLINE lane_sum mmla(lane_sum sum, uint32x4_t x, uint32x4_t w)
{
    return vbfmmlaq_f32(sum, vreinterpretq_bf16_u32(x), vreinterpretq_bf16_u32(w));
}

GEMMUX_INLINE float32x4_t as_f32(lane_sum sum, int32x4_t points, int32x4_t x_sum)
{
    (void)points, (void)x_sum;
    return sum;
}

/* Eight k as four pairs; with a zero point it is subtracted, other zeros and scales wait. */
GEMMUX_INLINE void decode_four(const int code, const int zero, const tables *t, const side *d,
                               const uint8_t *block, int part, int quarter, uint32x4_t *w)
{
    const int per_lane = gemmux_lane_codes(code);
    const uint8_t *from = block + part * 8 / per_lane * 64 + quarter * 16;
    if (per_lane == 2) {
        GEMMUX_UNROLL
        for (int i = 0; i < 4; i++)
            w[i] = load_lanes(from + i * 64);
        return;
    }
    GEMMUX_UNROLL
    for (int half = 0; half < 2; half++) { /* four k each */
        uint32x4_t v = load_lanes(per_lane == 4 ? from + half * 64 : from);
        if (per_lane == 4) {
            float32x4_t values[4];
            bytes_as_f32(code, v, values);
            w[2 * half] = join_halves(values[0], values[1]);
            w[2 * half + 1] = join_halves(values[2], values[3]);
            continue;
        }
        uint8x16_t index = nibbles_of(v, half);
        if (zero == GEMMUX_ZERO_POINT)
            index = vandq_u8(vsubq_u8(index, vreinterpretq_u8_u32(d->points)), vdupq_n_u8(31));
        look_up_pairs(t, zero == GEMMUX_ZERO_POINT, index, w + 2 * half);
    }
}

GEMMUX_INLINE uint32x4_t scale_lanes(uint32x4_t w, float32x4_t scale)
{
    return join_halves(vmulq_f32(low_halves(w), scale), vmulq_f32(high_halves(w), scale));
}

/* bf16 as it is; f32 and f16 are rounded, which the descriptor says. */
static void widen(gemmux_code code, const void *from, int64_t k, void *to)
{
    if (code == GEMMUX_CODE_BF16) {
        memcpy(to, from, (size_t)k * 2);
        return;
    }
    const char *at = from;
    uint16_t *out = to;
    for (int64_t i = 0; i < k; i += 4) {
        char four[16] = {0};
        int64_t width = code == GEMMUX_CODE_F32 ? 4 : 2, count = k - i < 4 ? k - i : 4;
        memcpy(four, at + i * width, (size_t)(count * width));
        float32x4_t value = code == GEMMUX_CODE_F32 ? vreinterpretq_f32_u32(load_lanes(four))
                                                    : widen_half(GEMMUX_CODE_F16, four);
        uint16_t rounded[4];
        vst1_u16(rounded, round_to_bf16(value));
        memcpy(out + i, rounded, (size_t)count * 2);
    }
}

static void sum_x(const void *x, int64_t k, int64_t segment, void *sums)
{
    float *out = sums;
    for (int64_t first = 0; first < k; first += segment) {
        int64_t last = first + segment < k ? first + segment : k;
        float32x4_t sum = vdupq_n_f32(0);
        for (int64_t i = first; i < last; i += 8) { /* k and segment are multiples of 16 */
            uint32x4_t pairs = load_lanes((const char *)x + i * 2);
            sum = vaddq_f32(sum, vaddq_f32(low_halves(pairs), high_halves(pairs)));
        }
        *out++ = vaddvq_f32(sum);
    }
}

/* Each in all four bytes of its lane. */
static void points(const uint8_t *from, int64_t count, void *to)
{
    for (int64_t i = 0; i < count; i++)
        ((uint32_t *)to)[i] = from[i] * UINT32_C(0x01010101);
}

#    include "arm_panel.h"

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
    {GEMMUX_PANEL_BF16_NATIVE, .share_compute = 0.5f, .share_bandwidth = 0.7f},
    {GEMMUX_PANEL_BF16_UPCAST, .share_compute = 0.45f, .share_bandwidth = 0.5f},
    {GEMMUX_PANEL_BF16_ROUNDED_W, .share_compute = 0.45f, .share_bandwidth = 0.5f},
    {GEMMUX_PANEL_BF16_ROUNDED_X, .share_compute = 0.45f, .share_bandwidth = 0.5f},
};

const gemmux_kernel gemmux_kernel_arm_neon_bf16 = {
    .name = "arm_neon_bf16",
    .summary = "bf16 products (BFDOT, BFMMLA), quantised weights upcast exactly on the way",
    .device = GEMMUX_CPU,
    .isa = GEMMUX_ISA_NEON | GEMMUX_ISA_BF16,
    .ops = GEMMUX_ALL_OPS,
    .epilogue = GEMMUX_ALL_EPILOGUES,
    .forms = forms,
    .form_count = sizeof forms / sizeof forms[0],
    .packing = &gemmux_packing_panel16,
    GEMMUX_PANEL_FUNCTIONS,
};
