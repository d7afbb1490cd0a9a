/* SPDX-License-Identifier: Apache-2.0
 *
 * arm_neon: f32 products with 128-bit FMA for every format, over packing panel16. Needs nothing but
 * what every AArch64 core has; f16 is converted by FCVTL.
 */
#include "panel_codes.h"
#include "panel_forms.h"

#if defined(__aarch64__)

#    include "arm_decode.h"

#    if !defined(__clang__)
#        pragma GCC push_options
#        pragma GCC optimize("no-schedule-insns") /* see arm_panel.h */
#    endif

#    define LEVEL_X         GEMMUX_PANEL_F32
#    define LEVEL_WIDE_NF4  true
#    define LEVEL_TILE_ROWS LANE_TILE_ROWS
#    define LEVEL_SUM       NULL
#    define LEVEL_QUANTISE  NULL
#    define LEVEL_FOR_CODE  GEMMUX_FOR_CODE

typedef float32x4_t lane_sum;

GEMMUX_INLINE lane_sum zero_sum(void)
{
    return vdupq_n_f32(0);
}

GEMMUX_INLINE lane_sum accumulate(lane_sum sum, uint32x4_t w, uint32x4_t x, const int i)
{
    float32x4_t wide = vreinterpretq_f32_u32(w), lanes = vreinterpretq_f32_u32(x);
    switch (i) {
    case 0:
        return vfmaq_laneq_f32(sum, wide, lanes, 0);
    case 1:
        return vfmaq_laneq_f32(sum, wide, lanes, 1);
    case 2:
        return vfmaq_laneq_f32(sum, wide, lanes, 2);
    default:
        return vfmaq_laneq_f32(sum, wide, lanes, 3);
    }
}

GEMMUX_INLINE float32x4_t as_f32(lane_sum sum, int32x4_t points, int32x4_t x_sum)
{
    (void)points, (void)x_sum;
    return sum;
}

/* Four k of four rows, without scale and zero point (int4: without its offset of 8 where it has a
 * zero point). */
GEMMUX_INLINE void decode_codes(const int code, const tables *t, const uint8_t *block, int part,
                                int quarter, float32x4_t *out)
{
    const int per_lane = gemmux_lane_codes(code);
    if (per_lane <= 2 && code != GEMMUX_CODE_BF16) { /* F32, F16: a row of sixteen each k */
        const int bytes = code == GEMMUX_CODE_F32 ? 4 : 2;
        GEMMUX_UNROLL
        for (int i = 0; i < 4; i++) {
            const uint8_t *from = block + ((part * 4 + i) * GEMMUX_STRIP + quarter * 4) * bytes;
            out[i] = code == GEMMUX_CODE_F32 ? vreinterpretq_f32_u32(load_lanes(from))
                                             : widen_half(GEMMUX_CODE_F16, from);
        }
        return;
    }
    uint32x4_t v = load_lanes(block + part * 4 / per_lane * 64 + quarter * 16);
    switch (code) {
    case GEMMUX_CODE_BF16: {
        uint32x4_t next = load_lanes(block + (part * 2 + 1) * 64 + quarter * 16);
        out[0] = low_halves(v);
        out[1] = high_halves(v);
        out[2] = low_halves(next);
        out[3] = high_halves(next);
        break;
    }
    case GEMMUX_CODE_INT8:
    case GEMMUX_CODE_E4M3:
    case GEMMUX_CODE_E5M2:
        bytes_as_f32(code, v, out);
        break;
    case GEMMUX_CODE_NF4:
        look_up_f32(t, nibbles_of(v, part % 2), out);
        break;
    default: {
        uint32x4_t pairs[2];
        look_up_pairs(t, false, nibbles_of(v, part % 2), pairs);
        out[0] = low_halves(pairs[0]);
        out[1] = high_halves(pairs[0]);
        out[2] = low_halves(pairs[1]);
        out[3] = high_halves(pairs[1]);
    }
    }
}

GEMMUX_INLINE void decode_four(const int code, const int zero, const tables *t, const side *d,
                               const uint8_t *block, int part, int quarter, uint32x4_t *w)
{
    float32x4_t values[4];
    decode_codes(code, t, block, part, quarter, values);
    GEMMUX_UNROLL
    for (int i = 0; i < 4; i++) {
        if (zero == GEMMUX_ZERO_POINT)
            values[i] = vsubq_f32(values[i], vreinterpretq_f32_u32(d->points));
        if (zero == GEMMUX_ZERO_MIN)
            values[i] = vfmaq_f32(d->min, values[i], d->scale);
        w[i] = vreinterpretq_u32_f32(values[i]);
    }
}

GEMMUX_INLINE uint32x4_t scale_lanes(uint32x4_t w, float32x4_t scale)
{
    return vreinterpretq_u32_f32(vmulq_f32(vreinterpretq_f32_u32(w), scale));
}

static void widen(gemmux_code code, const void *from, int64_t k, void *to)
{
    widen_to_f32(code, from, k, to);
}

/* As f32. */
static void points(const uint8_t *from, int64_t count, void *to)
{
    for (int64_t i = 0; i < count; i++)
        ((float *)to)[i] = from[i];
}

#    include "arm_panel.h"

#    if !defined(__clang__)
#        pragma GCC pop_options
#    endif

#    define LEVEL (&level)
#    include "panel_entry.h"

#else
#    define GEMMUX_PANEL_FUNCTIONS .run = NULL
#endif

static const gemmux_form forms[] = {
    {GEMMUX_PANEL_F32_NATIVE, .share_compute = 0.5f, .share_bandwidth = 0.5f},
    {GEMMUX_PANEL_F32_UPCAST, .share_compute = 0.5f, .share_bandwidth = 0.3f},
};

const gemmux_kernel gemmux_kernel_arm_neon = {
    .name = "arm_neon",
    .summary = "f32 products with 128-bit FMA, every format upcast on the way",
    .device = GEMMUX_CPU,
    .isa = GEMMUX_ISA_NEON,
    .ops = GEMMUX_ALL_OPS,
    .epilogue = GEMMUX_ALL_EPILOGUES,
    .forms = forms,
    .form_count = sizeof forms / sizeof forms[0],
    .packing = &gemmux_packing_panel16,
    GEMMUX_PANEL_FUNCTIONS,
};
