/* SPDX-License-Identifier: Apache-2.0
 *
 * Layouts from ggml's ggml-common.h (MIT) and checked against the Python package gguf.
 */
#include "ggml_blocks.h"

#include <string.h>

static float half(const uint8_t *at)
{
    return (float)gemmux_code_decode(GEMMUX_CODE_F16, (uint32_t)at[0] | (uint32_t)at[1] << 8);
}

static void put_float(uint8_t *to, int index, float value)
{
    memcpy(to + (size_t)index * 4, &value, 4);
}

/* ggml keeps the first half of a block in low nibbles and the second half in high ones; plain keeps
 * neighbours in one byte. `bytes` is half the block's elements. */
static void weave(const uint8_t *from, uint8_t *to, int bytes)
{
    for (int i = 0; i < bytes / 2; i++) {
        to[i] = (uint8_t)((from[2 * i] & 15) | (from[2 * i + 1] & 15) << 4);
        to[i + bytes / 2] = (uint8_t)(from[2 * i] >> 4 | (from[2 * i + 1] & 0xf0));
    }
}

static void put_nibbles(const uint8_t values[], uint8_t *to, int count)
{
    for (int i = 0; i < count / 2; i++)
        to[i] = (uint8_t)(values[2 * i] | values[2 * i + 1] << 4);
}

/* --------------------------------------------------------------------------- blocks of 32, 64 --
 */

static void q4_0(const uint8_t *block, uint8_t *codes, uint8_t *scales, uint8_t *zeros)
{
    (void)zeros;
    memcpy(scales, block, 2);
    weave(block + 2, codes, 16);
}

static void q4_1(const uint8_t *block, uint8_t *codes, uint8_t *scales, uint8_t *zeros)
{
    memcpy(scales, block, 2);
    memcpy(zeros, block + 2, 2);
    weave(block + 4, codes, 16);
}

/* The 5-bit codes of Q5_0 and Q5_1: four bits as above, the fifth in a word of its own. */
static void fives(const uint8_t *high, const uint8_t *low, uint8_t values[32])
{
    for (int i = 0; i < 32; i++) {
        int nibble = i < 16 ? low[i] & 15 : low[i - 16] >> 4;
        values[i] = (uint8_t)(nibble | (high[i / 8] >> (i % 8) & 1) << 4);
    }
}

static void q5_0(const uint8_t *block, uint8_t *codes, uint8_t *scales, uint8_t *zeros)
{
    uint8_t values[32];
    (void)zeros;
    memcpy(scales, block, 2);
    fives(block + 2, block + 6, values);
    for (int i = 0; i < 32; i++)
        codes[i] = (uint8_t)(values[i] - 16);
}

static void q5_1(const uint8_t *block, uint8_t *codes, uint8_t *scales, uint8_t *zeros)
{
    uint8_t values[32];
    double d = (double)half(block), m = (double)half(block + 2);
    (void)scales;
    (void)zeros;
    fives(block + 4, block + 8, values);
    for (int i = 0; i < 32; i++)
        put_float(codes, i, (float)(d * values[i] + m));
}

static void q8_0(const uint8_t *block, uint8_t *codes, uint8_t *scales, uint8_t *zeros)
{
    (void)zeros;
    memcpy(scales, block, 2);
    memcpy(codes, block + 2, 32);
}

static void mxfp4(const uint8_t *block, uint8_t *codes, uint8_t *scales, uint8_t *zeros)
{
    (void)zeros;
    scales[0] = block[0];
    weave(block + 1, codes, 16);
}

/* Four scales, then four times 16 codes. */
static void nvfp4(const uint8_t *block, uint8_t *codes, uint8_t *scales, uint8_t *zeros)
{
    (void)zeros;
    memcpy(scales, block, 4);
    for (int i = 0; i < 4; i++)
        weave(block + 4 + 8 * i, codes + 8 * i, 8);
}

/* The codebook of IQ4_NL and IQ4_XS: whole numbers, so int8 holds it. */
static const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                      1,    13,   25,  38,  53,  69,  89,  113};

static void iq4_nl(const uint8_t *block, uint8_t *codes, uint8_t *scales, uint8_t *zeros)
{
    (void)zeros;
    memcpy(scales, block, 2);
    for (int i = 0; i < 16; i++) {
        codes[i] = (uint8_t)iq4_values[block[2 + i] & 15];
        codes[i + 16] = (uint8_t)iq4_values[block[2 + i] >> 4];
    }
}

static void iq4_xs(const uint8_t *block, uint8_t *codes, uint8_t *scales, uint8_t *zeros)
{
    float d = half(block);
    unsigned high = (unsigned)block[2] | (unsigned)block[3] << 8;
    const uint8_t *low = block + 4, *quants = block + 8;
    (void)zeros;
    for (int g = 0; g < 8; g++) { /* 6 bits a scale: 4 here, 2 there */
        int scale = (low[g / 2] >> (4 * (g % 2)) & 15) | (int)(high >> (2 * g) & 3) << 4;
        put_float(scales, g, d * (float)(scale - 32));
        for (int i = 0; i < 16; i++) {
            codes[32 * g + i] = (uint8_t)iq4_values[quants[16 * g + i] & 15];
            codes[32 * g + i + 16] = (uint8_t)iq4_values[quants[16 * g + i] >> 4];
        }
    }
}

/* ------------------------------------------------------------------------ super-blocks of 256 --
 */

static void q2_k(const uint8_t *block, uint8_t *codes, uint8_t *scales, uint8_t *zeros)
{
    const uint8_t *sixteenths = block, *quants = block + 16;
    float d = half(block + 80), dmin = half(block + 82);
    uint8_t values[256];
    for (int g = 0; g < 16; g++) {
        put_float(scales, g, d * (float)(sixteenths[g] & 15));
        put_float(zeros, g, -dmin * (float)(sixteenths[g] >> 4));
    }
    for (int i = 0; i < 256; i++) /* 32 bytes hold four runs of 32, two bits each */
        values[i] = quants[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
    put_nibbles(values, codes, 256);
}

/* Q3_K's sixteen 6-bit scales in twelve bytes: low halves, then high pairs. */
static int q3_scale(const uint8_t *packed, int g)
{
    int low = packed[g % 8] >> (g / 8 * 4) & 15;
    int high = packed[8 + g % 4] >> (g / 4 * 2) & 3;
    return (low | high << 4) - 32;
}

static void q3_k(const uint8_t *block, uint8_t *codes, uint8_t *scales, uint8_t *zeros)
{
    const uint8_t *high = block, *quants = block + 32, *packed = block + 96;
    float d = half(block + 108);
    uint8_t values[256];
    (void)zeros;
    for (int g = 0; g < 16; g++)
        put_float(scales, g, d * (float)q3_scale(packed, g));
    for (int i = 0; i < 256; i++) {
        int low = quants[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
        int set = high[i % 32] >> (i / 32) & 1;
        values[i] = (uint8_t)(low + (set ? 0 : -4) + 8); /* int4's value is the code less 8 */
    }
    put_nibbles(values, codes, 256);
}

/* The eight 6-bit scales and minima of Q4_K and Q5_K in twelve bytes. */
static void scales_k4(const uint8_t *packed, int g, int *scale, int *min)
{
    if (g < 4) {
        *scale = packed[g] & 63;
        *min = packed[g + 4] & 63;
    } else {
        *scale = (packed[g + 4] & 15) | packed[g - 4] >> 6 << 4;
        *min = packed[g + 4] >> 4 | packed[g] >> 6 << 4;
    }
}

static void q4_k(const uint8_t *block, uint8_t *codes, uint8_t *scales, uint8_t *zeros)
{
    float d = half(block), dmin = half(block + 2);
    for (int g = 0; g < 8; g++) {
        int scale, min;
        scales_k4(block + 4, g, &scale, &min);
        put_float(scales, g, d * (float)scale);
        put_float(zeros, g, -dmin * (float)min);
    }
    for (int i = 0; i < 4; i++) /* 32 bytes hold two runs of 32 */
        weave(block + 16 + 32 * i, codes + 32 * i, 32);
}

static void q5_k(const uint8_t *block, uint8_t *codes, uint8_t *scales, uint8_t *zeros)
{
    const uint8_t *high = block + 16, *low = block + 48;
    double d = (double)half(block), dmin = (double)half(block + 2);
    (void)scales;
    (void)zeros;
    for (int i = 0; i < 256; i++) {
        int g = i / 32, scale, min;
        scales_k4(block + 4, g, &scale, &min);
        int nibble = low[g / 2 * 32 + i % 32] >> (g % 2 * 4) & 15;
        int code = nibble | (high[i % 32] >> g & 1) << 4;
        put_float(codes, i, (float)(d * scale * code - dmin * min));
    }
}

static void q6_k(const uint8_t *block, uint8_t *codes, uint8_t *scales, uint8_t *zeros)
{
    const uint8_t *low = block, *high = block + 128;
    float d = half(block + 208);
    (void)zeros;
    for (int g = 0; g < 16; g++)
        put_float(scales, g, d * (float)(int8_t)block[192 + g]);
    for (int i = 0; i < 256; i++) { /* half a block: 64 bytes of nibbles, 32 of pairs */
        int j = i % 128, run = j / 32;
        int nibble = low[i / 128 * 64 + j % 64] >> (j / 64 * 4) & 15;
        int pair = high[i / 128 * 32 + j % 32] >> (run * 2) & 3;
        codes[i] = (uint8_t)((nibble | pair << 4) - 32);
    }
}

/* ----------------------------------------------------------------------------------- the table --
 */

#define GROUPS(type, name, scale, zero, size, function)                                            \
    {                                                                                              \
        GEMMUX_DTYPE_##type, GEMMUX_##name, GEMMUX_SCALING_GROUP, GEMMUX_CODE_##scale,             \
            GEMMUX_ZERO_##zero, size, false, function                                              \
    }
#define ROUNDED(type, function)                                                                    \
    {                                                                                              \
        GEMMUX_DTYPE_##type, GEMMUX_F32, GEMMUX_SCALING_NONE, GEMMUX_CODE_NONE, GEMMUX_ZERO_NONE,  \
            0, true, function                                                                      \
    }

static const gemmux_ggml_kind kinds[] = {
    GROUPS(Q4_0, INT4, F16, NONE, 32, q4_0),
    GROUPS(Q4_1, INT4, F16, MIN, 32, q4_1),
    GROUPS(Q5_0, INT8, F16, NONE, 32, q5_0),
    GROUPS(Q8_0, INT8, F16, NONE, 32, q8_0),
    GROUPS(MXFP4, MXFP4, UE8M0, NONE, 32, mxfp4),
    GROUPS(NVFP4, NVFP4, UE4M3, NONE, 16, nvfp4),
    GROUPS(IQ4_NL, INT8, F16, NONE, 32, iq4_nl),
    GROUPS(IQ4_XS, INT8, F32, NONE, 32, iq4_xs),
    GROUPS(Q2_K, INT4, F32, MIN, 16, q2_k),
    GROUPS(Q3_K, INT4, F32, NONE, 16, q3_k),
    GROUPS(Q4_K, INT4, F32, MIN, 32, q4_k),
    GROUPS(Q6_K, INT8, F32, NONE, 16, q6_k),
    ROUNDED(Q5_1, q5_1),
    ROUNDED(Q5_K, q5_k),
};

const gemmux_ggml_kind *gemmux_ggml_kind_of(gemmux_dtype dtype)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (kinds[i].dtype == dtype)
            return &kinds[i];
    }
    return NULL;
}
