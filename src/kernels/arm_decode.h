/* SPDX-License-Identifier: Apache-2.0
 *
 * What the NEON levels share whatever they multiply: look-up tables, codes as f32 or as pairs of
 * bf16, scales, x as f32, and the finish of rows. Everything here is in the base instruction set of
 * AArch64. A strip of panel16 is four registers wide; a "quarter" is one of them.
 */
#ifndef GEMMUX_ARM_DECODE_H
#define GEMMUX_ARM_DECODE_H

#include "epilogue.h"
#include "panel_codes.h"

#include <arm_neon.h>

enum {
    QUARTERS = 4,
    BLOCK_K = 16, /* every segment is a multiple */
};

GEMMUX_INLINE uint32x4_t load_lanes(const void *from)
{
    return vreinterpretq_u32_u8(vld1q_u8(from));
}

GEMMUX_INLINE void store_lanes(void *to, uint32x4_t lanes)
{
    vst1q_u8(to, vreinterpretq_u8_u32(lanes));
}

/* ------------------------------------------------------------------------------------ decoders --
 */

/* What a segment's four rows of one quarter have in common. points are as the level made them. */
typedef struct side {
    float32x4_t scale, min;
    uint32x4_t points;
} side;

GEMMUX_INLINE side open_side(const gemmux_strip *s, const int zero, int64_t segment, int quarter)
{
    int64_t at = segment * GEMMUX_STRIP + quarter * 4;
    side d = {vdupq_n_f32(1), vdupq_n_f32(0), vdupq_n_u32(0)};
    if (s->scales)
        d.scale = vld1q_f32(s->scales + at);
    if (zero == GEMMUX_ZERO_MIN)
        d.min = vld1q_f32(s->mins + at);
    if (zero == GEMMUX_ZERO_POINT)
        d.points = load_lanes((const int32_t *)s->points + at);
    return d;
}

/* The values of 4-bit codes, byte by byte: `plane` those of f32 (NF4 as f32), the last two those of
 * bf16; `more` those of the codes 16 .. 31 that a zero point leads to. Others leave it empty. */
typedef struct tables {
    uint8x16_t plane[4];
    uint8x16_t more[2];
} tables;

static const uint16_t arm_e2m1[16] = {0x0000, 0x3f00, 0x3f80, 0x3fc0, 0x4000, 0x4040,
                                      0x4080, 0x40c0, 0x8000, 0xbf00, 0xbf80, 0xbfc0,
                                      0xc000, 0xc040, 0xc080, 0xc0c0};
/* NF4 rounded to bf16. */
static const uint16_t arm_nf4[16] = {0xbf80, 0xbf32, 0xbf06, 0xbeca, 0xbe92, 0xbe3d,
                                     0xbdba, 0x0000, 0x3da3, 0x3e25, 0x3e7c, 0x3ead,
                                     0x3ee2, 0x3f10, 0x3f39, 0x3f80};
/* -16 .. 15 by their low five bits; from 8 on, and round again, also code - 8. */
static const uint16_t arm_integers[32] = {
    0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0, 0x4100, 0x4110, 0x4120,
    0x4130, 0x4140, 0x4150, 0x4160, 0x4170, 0xc180, 0xc170, 0xc160, 0xc150, 0xc140, 0xc130,
    0xc120, 0xc110, 0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040, 0xc000, 0xbf80};
static const uint16_t arm_int4[16] = {0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040,
                                      0xc000, 0xbf80, 0x0000, 0x3f80, 0x4000, 0x4040,
                                      0x4080, 0x40a0, 0x40c0, 0x40e0};

/* `wide`: NF4 as f32, else as bf16. */
GEMMUX_INLINE tables open_tables(const int code, const int zero, const bool wide)
{
    tables t;
    for (int i = 0; i < 4; i++)
        t.plane[i] = vdupq_n_u8(0);
    t.more[0] = t.more[1] = vdupq_n_u8(0);
    if (code == GEMMUX_CODE_NF4 && wide) {
        uint8x16x4_t bytes = vld4q_u8((const uint8_t *)(const void *)gemmux_nf4_codebook());
        for (int i = 0; i < 4; i++)
            t.plane[i] = bytes.val[i];
        return t;
    }
    const uint16_t *values = code == GEMMUX_CODE_E2M1   ? arm_e2m1
                             : code == GEMMUX_CODE_NF4  ? arm_nf4
                             : zero == GEMMUX_ZERO_NONE ? arm_int4
                                                        : arm_integers;
    uint8x16x2_t bytes = vld2q_u8((const uint8_t *)(const void *)values);
    t.plane[2] = bytes.val[0];
    t.plane[3] = bytes.val[1];
    if (zero == GEMMUX_ZERO_POINT) {
        bytes = vld2q_u8((const uint8_t *)(const void *)(arm_integers + 16));
        t.more[0] = bytes.val[0];
        t.more[1] = bytes.val[1];
    }
    return t;
}

/* The low (half 0) or high nibbles of four lanes, a byte each: k + 4 half + 0 2 1 3. */
GEMMUX_INLINE uint8x16_t nibbles_of(uint32x4_t v, const int half)
{
    uint8x16_t bytes = vreinterpretq_u8_u32(v);
    return half ? vshrq_n_u8(bytes, 4) : vandq_u8(bytes, vdupq_n_u8(15));
}

/* Neighbours (k, k + 1) and (k + 2, k + 3) of four rows as bf16. */
GEMMUX_INLINE void look_up_pairs(const tables *t, const bool five_bits, uint8x16_t index,
                                 uint32x4_t *out)
{
    uint8x16_t low, high;
    if (five_bits) {
        low = vqtbl2q_u8(((uint8x16x2_t){{t->plane[2], t->more[0]}}), index);
        high = vqtbl2q_u8(((uint8x16x2_t){{t->plane[3], t->more[1]}}), index);
    } else {
        low = vqtbl1q_u8(t->plane[2], index);
        high = vqtbl1q_u8(t->plane[3], index);
    }
    out[0] = vreinterpretq_u32_u8(vtrn1q_u8(low, high));
    out[1] = vreinterpretq_u32_u8(vtrn2q_u8(low, high));
}

/* k .. k + 3 of four rows as f32, through all four tables. */
GEMMUX_INLINE void look_up_f32(const tables *t, uint8x16_t index, float32x4_t *out)
{
    uint8x16_t b0 = vqtbl1q_u8(t->plane[0], index), b1 = vqtbl1q_u8(t->plane[1], index);
    uint8x16_t b2 = vqtbl1q_u8(t->plane[2], index), b3 = vqtbl1q_u8(t->plane[3], index);
    uint16x8_t low = vreinterpretq_u16_u8(vtrn1q_u8(b0, b1));
    uint16x8_t high = vreinterpretq_u16_u8(vtrn1q_u8(b2, b3));
    out[0] = vreinterpretq_f32_u16(vtrn1q_u16(low, high));
    out[1] = vreinterpretq_f32_u16(vtrn2q_u16(low, high));
    low = vreinterpretq_u16_u8(vtrn2q_u8(b0, b1));
    high = vreinterpretq_u16_u8(vtrn2q_u8(b2, b3));
    out[2] = vreinterpretq_f32_u16(vtrn1q_u16(low, high));
    out[3] = vreinterpretq_f32_u16(vtrn2q_u16(low, high));
}

GEMMUX_INLINE float32x4_t low_halves(uint32x4_t bf16_pairs)
{
    return vreinterpretq_f32_u32(vshlq_n_u32(bf16_pairs, 16));
}

GEMMUX_INLINE float32x4_t high_halves(uint32x4_t bf16_pairs)
{
    return vreinterpretq_f32_u32(vandq_u32(bf16_pairs, vdupq_n_u32(0xffff0000u)));
}

/* Two f32 whose low halves are zero as one pair of bf16. */
GEMMUX_INLINE uint32x4_t join_halves(float32x4_t low, float32x4_t high)
{
    return vsriq_n_u32(vreinterpretq_u32_f32(high), vreinterpretq_u32_f32(low), 16);
}

/* Byte p of four lanes: INT8, E4M3 or E5M2 as f32. Small floats: sign and magnitude into place,
 * then the exponent's bias; codes that are not finite come out wrong. */
GEMMUX_INLINE float32x4_t byte_as_f32(const int code, uint32x4_t v, const int p)
{
    int32x4_t top = vreinterpretq_s32_u32(vshlq_u32(v, vdupq_n_s32(24 - 8 * p)));
    if (code == GEMMUX_CODE_INT8)
        return vcvtq_f32_s32(vshrq_n_s32(top, 24));
    const bool e4m3 = code == GEMMUX_CODE_E4M3;
    int32x4_t bits = e4m3 ? vshrq_n_s32(top, 4) : vshrq_n_s32(top, 3);
    uint32x4_t mask = vdupq_n_u32(e4m3 ? 0x87f00000u : 0x8fe00000u);
    return vmulq_n_f32(vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_s32(bits), mask)),
                       e4m3 ? 0x1p120f : 0x1p112f);
}

/* k .. k + 3 of four lanes of one byte a code. */
GEMMUX_INLINE void bytes_as_f32(const int code, uint32x4_t v, float32x4_t *out)
{
    out[0] = byte_as_f32(code, v, 0);
    out[1] = byte_as_f32(code, v, 2);
    out[2] = byte_as_f32(code, v, 1);
    out[3] = byte_as_f32(code, v, 3);
}

/* ----------------------------------------------------------------------------------- x, scales --
 */

GEMMUX_INLINE float32x4_t widen_half(const int code, const void *from)
{
    uint16x4_t bits = vreinterpret_u16_u8(vld1_u8(from));
    if (code == GEMMUX_CODE_F16)
        return vcvt_f32_f16(vreinterpret_f16_u16(bits));
    return vreinterpretq_f32_u32(vshll_n_u16(bits, 16));
}

static void widen_to_f32(gemmux_code code, const void *from, int64_t k, void *to)
{
    if (code == GEMMUX_CODE_F32) {
        memcpy(to, from, (size_t)k * 4);
        return;
    }
    float *out = to;
    const char *halves = from;
    const int wide = code == GEMMUX_CODE_F16 ? GEMMUX_CODE_F16 : GEMMUX_CODE_BF16;
    int64_t i = 0;
    for (; i + 4 <= k; i += 4)
        vst1q_f32(out + i, widen_half(wide, halves + i * 2));
    if (i < k) {
        char rest[8] = {0};
        float last[4];
        memcpy(rest, halves + i * 2, (size_t)(k - i) * 2);
        vst1q_f32(last, widen_half(wide, rest));
        memcpy(out + i, last, (size_t)(k - i) * 4);
    }
}

static void read_scales(gemmux_code code, const uint8_t *from, int64_t count, float *to)
{
    if (code != GEMMUX_CODE_UE8M0 && code != GEMMUX_CODE_UE4M3) {
        widen_to_f32(code, from, count, to);
        return;
    }
    for (int64_t i = 0; i < count; i += 8) {
        uint16x8_t words = vmovl_u8(vld1_u8(from + i));
        uint32x4_t parts[2] = {vmovl_u16(vget_low_u16(words)), vmovl_u16(vget_high_u16(words))};
        for (int part = 0; part < 2; part++) {
            float32x4_t value = vreinterpretq_f32_u32(vshlq_n_u32(parts[part], 23));
            if (code == GEMMUX_CODE_UE4M3) { /* the sign ignored, then the exponent's bias */
                uint32x4_t bits = vandq_u32(parts[part], vdupq_n_u32(127));
                value = vmulq_n_f32(vreinterpretq_f32_u32(vshlq_n_u32(bits, 20)), 0x1p120f);
            }
            vst1q_f32(to + i + part * 4, value);
        }
    }
}

/* -------------------------------------------------------------------------------------- finish --
 */

/* Round to nearest even; a NaN stays one. */
GEMMUX_INLINE uint16x4_t round_to_bf16(float32x4_t value)
{
    uint32x4_t bits = vreinterpretq_u32_f32(value);
    uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    uint32x4_t rounded = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd);
    uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
    return vshrn_n_u32(vbslq_u32(vceqq_f32(value, value), rounded, quiet), 16);
}

/* gemmux_finish_row of `factor` times sums: whole registers here, swiglu and what is left of a row
 * there. */
static void finish(const gemmux_call *call, int32_t expert, int64_t row, int64_t first,
                   int64_t count, float factor, float *sums)
{
    int64_t i = 0;
    if (!(call->problem->epilogue & GEMMUX_EPILOGUE_SWIGLU)) {
        const float *bias = call->bias ? call->bias + expert * call->problem->n + first : NULL;
        uint8_t *y = (uint8_t *)call->y + row * call->y_row_bytes;
        for (; i + 4 <= count; i += 4) {
            float32x4_t value = vmulq_n_f32(vld1q_f32(sums + i), factor);
            if (bias)
                value = vaddq_f32(value, vld1q_f32(bias + i));
            if (call->y_format.id == GEMMUX_F32)
                vst1q_u8(y + (first + i) * 4, vreinterpretq_u8_f32(value));
            else if (call->y_format.id == GEMMUX_BF16)
                vst1_u8(y + (first + i) * 2, vreinterpret_u8_u16(round_to_bf16(value)));
            else
                vst1_u8(y + (first + i) * 2, vreinterpret_u8_f16(vcvt_f16_f32(value)));
        }
    }
    if (i == count)
        return;
    for (int64_t j = i; j < count; j++)
        sums[j] *= factor;
    gemmux_finish_row(call, expert, row, first + i, count - i, sums + i);
}

#endif
