/* SPDX-License-Identifier: Apache-2.0
 *
 * f32 to and from bf16 and f16 in plain C, round to nearest even. Separate from code.c (the
 * exact f64 codec) because kernels convert whole rows and must inline this.
 */
#ifndef GEMMUX_FLOAT_BITS_H
#define GEMMUX_FLOAT_BITS_H

#include <stdint.h>
#include <string.h>

static inline uint32_t gemmux_f32_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

static inline float gemmux_f32_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static inline uint16_t gemmux_bf16_from_f32(float value)
{
    uint32_t bits = gemmux_f32_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40u); /* quiet NaN, sign and payload kept */
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static inline float gemmux_f32_from_bf16(uint16_t bits)
{
    return gemmux_f32_from_bits((uint32_t)bits << 16);
}

static inline uint16_t gemmux_f16_from_f32(float value)
{
    uint32_t bits = gemmux_f32_bits(value);
    uint32_t sign = bits >> 16 & 0x8000u;
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude >= 0x7f800000u) /* infinity, NaN */
        return (uint16_t)(sign | 0x7c00u | (magnitude > 0x7f800000u ? 0x200u : 0u));
    if (magnitude >= 0x477ff000u) /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude < 0x38800000u) { /* under 2^-14: a subnormal in units of 2^-24; the sum with
                                      0.5 lines its last bit up with that unit and rounds */
        float sum = gemmux_f32_from_bits(magnitude) + 0.5f;
        return (uint16_t)(sign | (gemmux_f32_bits(sum) - 0x3f000000u));
    }
    uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
    return (uint16_t)(sign | ((rounded - 0x38000000u) >> 13));
}

static inline float gemmux_f32_from_f16(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t magnitude = half & 0x7fffu;
    if (magnitude >= 0x7c00u)
        return gemmux_f32_from_bits(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
    if (magnitude < 0x400u) /* subnormal: units of 2^-24 */
        return gemmux_f32_from_bits(sign | gemmux_f32_bits((float)magnitude * 0x1p-24f));
    return gemmux_f32_from_bits(sign | ((magnitude << 13) + 0x38000000u));
}

#endif
