/* SPDX-License-Identifier: Apache-2.0
 *
 * What the NEON int8 levels share: codes as signed bytes (e2m1 doubled), x in their order, SDOT for
 * few rows. Included after the instruction set is open; LEVEL_MMLA says how many rows multiply.
 */
#ifndef GEMMUX_ARM_INT8_H
#define GEMMUX_ARM_INT8_H

#include "arm_decode.h"

#define LEVEL_X        GEMMUX_PANEL_INT8
#define LEVEL_WIDE_NF4 false
#define LEVEL_SUM      sum_x
#define LEVEL_QUANTISE quantise
#define LEVEL_FOR_CODE GEMMUX_FOR_INT8_CODE

typedef int32x4_t lane_sum;

GEMMUX_INLINE lane_sum zero_sum(void)
{
    return vdupq_n_s32(0);
}

GEMMUX_INLINE lane_sum accumulate(lane_sum sum, uint32x4_t w, uint32x4_t x, const int i)
{
    int8x16_t quads = vreinterpretq_s8_u32(w), lanes = vreinterpretq_s8_u32(x);
    switch (i) {
    case 0:
        return vdotq_laneq_s32(sum, quads, lanes, 0);
    case 1:
        return vdotq_laneq_s32(sum, quads, lanes, 1);
    case 2:
        return vdotq_laneq_s32(sum, quads, lanes, 2);
    default:
        return vdotq_laneq_s32(sum, quads, lanes, 3);
    }
}

GEMMUX_INLINE float32x4_t as_f32(lane_sum sum, int32x4_t points, int32x4_t x_sum)
{
    return vcvtq_f32_s32(vmlsq_s32(sum, points, x_sum));
}

/* Sixteen k as four quads in the order k + 0 2 1 3. */
GEMMUX_INLINE void decode_four(const int code, const int zero, const tables *t, const side *d,
                               const uint8_t *block, int part, int quarter, uint32x4_t *w)
{
    static const int8_t doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    static const int8_t offset[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
    (void)t, (void)d, (void)part;
    GEMMUX_UNROLL
    for (int i = 0; i < 4; i++) {
        if (code == GEMMUX_CODE_INT8) {
            w[i] = load_lanes(block + i * 64 + quarter * 16);
            continue;
        }
        uint8x16_t nibbles = nibbles_of(load_lanes(block + i / 2 * 64 + quarter * 16), i % 2);
        if (code == GEMMUX_CODE_E2M1)
            nibbles = vreinterpretq_u8_s8(vqtbl1q_s8(vld1q_s8(doubled), nibbles));
        else if (zero == GEMMUX_ZERO_NONE)
            nibbles = vreinterpretq_u8_s8(vqtbl1q_s8(vld1q_s8(offset), nibbles));
        w[i] = vreinterpretq_u32_u8(nibbles);
    }
}

/* An integer sum takes its scale afterwards. */
GEMMUX_INLINE uint32x4_t scale_lanes(uint32x4_t w, float32x4_t scale)
{
    (void)scale;
    return w;
}

/* Each four bytes in the order 0 2 1 3, padded with zeros to GEMMUX_PANEL_K. */
static void widen(gemmux_code code, const void *from, int64_t k, void *to)
{
    static const uint8_t order[16] = {0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15};
    (void)code;
    int64_t padded = (k + GEMMUX_PANEL_K - 1) / GEMMUX_PANEL_K * GEMMUX_PANEL_K;
    for (int64_t i = 0; i < padded; i += 16) {
        uint8_t bytes[16] = {0};
        if (i < k)
            memcpy(bytes, (const char *)from + i, (size_t)(k - i < 16 ? k - i : 16));
        vst1q_u8((uint8_t *)to + i, vqtbl1q_u8(vld1q_u8(bytes), vld1q_u8(order)));
    }
}

GEMMUX_INLINE float32x4_t load_float(gemmux_code code, const void *from, int64_t i, int64_t k)
{
    char four[16] = {0};
    int64_t width = code == GEMMUX_CODE_F32 ? 4 : 2, count = k - i < 4 ? k - i : 4;
    if (count > 0)
        memcpy(four, (const char *)from + i * width, (size_t)(count * width));
    if (code == GEMMUX_CODE_F32)
        return vreinterpretq_f32_u32(load_lanes(four));
    return code == GEMMUX_CODE_F16 ? widen_half(GEMMUX_CODE_F16, four)
                                   : widen_half(GEMMUX_CODE_BF16, four);
}

/* A row that is not finite gives any numbers, which the liberty says. */
static float quantise(gemmux_code code, const void *from, int64_t k, void *to)
{
    static const uint8_t order[8] = {0, 2, 1, 3, 4, 6, 5, 7};
    float32x4_t most = vdupq_n_f32(0);
    for (int64_t i = 0; i < k; i += 4)
        most = vmaxnmq_f32(most, vabsq_f32(load_float(code, from, i, k)));
    float largest = vmaxnmvq_f32(most);
    float up = largest < 0x1p-90f ? 0x1p90f : 1; /* its inverse must be a number */
    float inverse = largest > 0 ? 127 / (largest * up) : 0;
    for (int64_t i = 0; i < (k + GEMMUX_PANEL_K - 1) / GEMMUX_PANEL_K * GEMMUX_PANEL_K; i += 8) {
        int16x4_t steps[2];
        for (int part = 0; part < 2; part++) {
            float32x4_t value = vmulq_n_f32(load_float(code, from, i + part * 4, k), up);
            steps[part] = vqmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(value, inverse)));
        }
        int8x8_t bytes = vqmovn_s16(vcombine_s16(steps[0], steps[1]));
        vst1_s8((int8_t *)to + i, vtbl1_s8(bytes, vreinterpret_s8_u8(vld1_u8(order))));
    }
    return largest / 127;
}

static void sum_x(const void *x, int64_t k, int64_t segment, void *sums)
{
    gemmux_x_segment *out = sums;
    for (int64_t first = 0; first < k; first += segment) {
        int64_t last = first + segment < k ? first + segment : k;
        int32x4_t sum = vdupq_n_s32(0);
        for (int64_t i = first; i < last; i += 16) /* multiples of 16 */
            sum = vdotq_s32(sum, vdupq_n_s8(1), vld1q_s8((const int8_t *)x + i));
        (out++)->sum = vaddvq_s32(sum);
    }
}

static void points(const uint8_t *from, int64_t count, void *to)
{
    for (int64_t i = 0; i < count; i++)
        ((int32_t *)to)[i] = from[i];
}

#include "arm_panel.h"

#endif
