/* SPDX-License-Identifier: Apache-2.0
 *
 * Decoders of cuda_sm80_upcast: words of packing sm80_fragments to registers of two bf16 or f16
 * values each. A code becomes exactly its value times a constant power of two; what is left of the
 * scale is applied to the sums in f32, or (MX and NV formats) folded into one exact multiplication
 * by a power of two or by a value whose product with the code has few enough bits.
 */
#pragma once

#include "cuda_ptx.cuh"
#include "cuda_sm80_upcast.h"

/* ---- instructions ---- */

/* a * b: sm_80 has no bf16 multiply; adding -0 keeps the sign of zero. */
template <bool F16> __device__ __forceinline__ uint32_t mul2(uint32_t a, uint32_t b)
{
    return fma2<F16>(a, b, 0x80008000u);
}

template <bool F16> __device__ __forceinline__ uint32_t one2()
{
    return F16 ? 0x3c003c00u : 0x3f803f80u;
}

/* ---- what a kind is ---- */

template <int KIND> struct kind_traits {
    static constexpr int bits = KIND == GEMMUX_UPCAST_raw ? 16
                                : KIND == GEMMUX_UPCAST_mxfp8 || KIND == GEMMUX_UPCAST_mxfp8e5 ||
                                        KIND == GEMMUX_UPCAST_e4m3 || KIND == GEMMUX_UPCAST_e4m3r ||
                                        KIND == GEMMUX_UPCAST_e5m2 || KIND == GEMMUX_UPCAST_int8 ||
                                        KIND == GEMMUX_UPCAST_int8r
                                    ? 8
                                    : 4;
    static constexpr bool e2m1 = KIND == GEMMUX_UPCAST_mxfp4 || KIND == GEMMUX_UPCAST_nvfp4;
    static constexpr bool e4m3 =
        KIND == GEMMUX_UPCAST_mxfp8 || KIND == GEMMUX_UPCAST_e4m3 || KIND == GEMMUX_UPCAST_e4m3r;
    static constexpr bool e5m2 = KIND == GEMMUX_UPCAST_mxfp8e5 || KIND == GEMMUX_UPCAST_e5m2;
    static constexpr bool int8 = KIND == GEMMUX_UPCAST_int8 || KIND == GEMMUX_UPCAST_int8r;
    static constexpr bool int4 = KIND == GEMMUX_UPCAST_int4 || KIND == GEMMUX_UPCAST_int4m;
    static constexpr bool nf4 = KIND == GEMMUX_UPCAST_nf4 || KIND == GEMMUX_UPCAST_nf4x;
    static constexpr bool minima = KIND == GEMMUX_UPCAST_int4m;
    static constexpr int terms = KIND == GEMMUX_UPCAST_nf4x ? 3 : 1;
    /* Scales of one byte: ue8m0 in groups of 32, ue4m3 in groups of 16. */
    static constexpr bool mx =
        KIND == GEMMUX_UPCAST_mxfp4 || KIND == GEMMUX_UPCAST_mxfp8 || KIND == GEMMUX_UPCAST_mxfp8e5;
    static constexpr bool nv = KIND == GEMMUX_UPCAST_nvfp4;
    static constexpr bool plain = KIND == GEMMUX_UPCAST_raw || KIND == GEMMUX_UPCAST_e4m3r ||
                                  KIND == GEMMUX_UPCAST_int8r; /* no scales along K */
    static constexpr int loads = bits / 4;                     /* 16-byte loads a lane and unit */
    static constexpr int words = bits / 4;                     /* words of eight columns */
};

/* Scale folded into the operand before the product. f16 has no room for ue8m0's range. */
template <int KIND, bool F16> struct folds {
    static constexpr bool value = kind_traits<KIND>::nv || (kind_traits<KIND>::mx && !F16);
};

/* Every sum is this power of two too small (nvfp4: see nv_scales), or nf4's f16 terms too large. */
template <int KIND, bool F16> __device__ __forceinline__ constexpr float sum_factor()
{
    return kind_traits<KIND>::nv ? 128.0f : 1.0f;
}

/* What the codes' bits lack when the scale is applied to sums: exact powers of two. */
template <int KIND, bool F16> __device__ __forceinline__ constexpr float code_factor()
{
    return F16 && kind_traits<KIND>::e2m1  ? 16384.0f
           : F16 && kind_traits<KIND>::nf4 ? 1.0f / 1024.0f
                                           : 1.0f;
}

/* ---- codes ---- */

/* pair j of an E2M1 word: bf16 bits of 2^-126 times, f16 bits of 2^-14 times the values. */
template <bool F16> __device__ __forceinline__ void spread_e2m1(uint32_t w, uint32_t (&r)[4])
{
    uint32_t by4 = w >> 4 | w << 28, by6 = w >> 6 | w << 26;
    const uint32_t pairs[4] = {w, by4, by6 ^ w << 6, by6 ^ w << 4};
#pragma unroll
    for (int j = 0; j < 4; j++)
        r[j] = F16 ? and_or(pairs[j], 0x80008000u, (pairs[j] << 3) & 0x0e000e00u)
                   : pairs[j] & 0x81c081c0u;
}

/* Two columns of 8-bit floats in the high bytes of w's halves. bf16 bits of 2^-120 (E4M3) or
 * 2^-112 (E5M2) times, f16 bits of 2^-8 times or exactly the values. */
template <bool E5, bool F16> __device__ __forceinline__ uint32_t spread_fp8(uint32_t w)
{
    if (F16)
        return E5 ? w & 0xff00ff00u : and_or(w, 0x80008000u, (w & 0x7f007f00u) >> 1);
    return E5 ? and_or(w, 0x80008000u, (w >> 3) & 0x0fe00fe0u)
              : and_or(w, 0x80008000u, (w >> 4) & 0x07f007f0u);
}

/* Two int8 columns in the low bytes of w's halves, exactly. */
template <bool F16> __device__ __forceinline__ uint32_t spread_int8(uint32_t w)
{
    if (F16) /* 1024 + (c + 128), minus 1152 */
        return fma2<true>((w & 0x00ff00ffu) ^ 0x64806480u, one2<true>(), 0xe480e480u);
    /* 128 + low seven bits, minus 128 or 256 */
    uint32_t low = and_or(w, 0x007f007fu, 0x43004300u), high = and_or(w, 0x00800080u, 0x43004300u);
    return fma2<false>(high, 0xbf80bf80u, low);
}

/* NF4 terms: byte planes of the codebook's 16 values. bf16: value = sum of the terms; f16: 1024
 * times value. Made by rounding to nearest and taking the rest, three times; the rest is then 0. */
template <bool F16>
__device__ __forceinline__ void spread_nf4(uint32_t w, int term, uint32_t (&r)[4])
{
    constexpr uint32_t low[2][3][4] = {{{0xca063280u, 0x00ba3d92u, 0xad7c25a3u, 0x803910e2u},
                                        {0xcad66700u, 0x0071553bu, 0xce9c5420u, 0x009ef537u},
                                        {0x80407000u, 0x00f080ccu, 0x8040e800u, 0x005040e0u}},
                                       {{0x52339200u, 0x00d4ea8du, 0x68e02618u, 0x00c9800du},
                                        {0xb0984f00u, 0x008f609au, 0x74dd7201u, 0x0026abb8u},
                                        {0x00000000u, 0x00000000u, 0x00000000u, 0x00000000u}}};
    constexpr uint32_t high[2][3][4] = {{{0xbebfbfbfu, 0x00bdbebeu, 0x3e3e3e3du, 0x3f3f3f3eu},
                                         {0xb9baba00u, 0x00b9b93au, 0x3737b9b7u, 0x003938bau},
                                         {0xb5b63500u, 0x00333235u, 0x33b3b4b2u, 0x00b53435u}},
                                        {{0xdee0e1e4u, 0x00d5d9dcu, 0x5d5b5955u, 0x6461605fu},
                                         {0x2eb12e00u, 0x002329a4u, 0x262429a1u, 0x00b22f28u},
                                         {0x00000000u, 0x00000100u, 0x00008100u, 0x00840000u}}};
    constexpr int t = F16 ? 1 : 0;
    uint32_t index = w & 0x77777777u, choose = and_or(w >> 1, 0x44444444u, 0x32103210u);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        uint32_t i = index >> (16 * half), c = choose >> (16 * half);
        uint32_t lo = prmt(prmt(low[t][term][0], low[t][term][1], i),
                           prmt(low[t][term][2], low[t][term][3], i), c);
        uint32_t hi = prmt(prmt(high[t][term][0], high[t][term][1], i),
                           prmt(high[t][term][2], high[t][term][3], i), c);
        r[2 * half] = prmt(lo, hi, 0x5140);
        r[2 * half + 1] = prmt(lo, hi, 0x7362);
    }
}

/* Infinity and NaN of E5M2: their exponent, all ones, is made bf16's. `bits` are spread_fp8's,
 * `value` the same after multiplication. */
__device__ __forceinline__ uint32_t keep_special(uint32_t bits, uint32_t value)
{
    uint32_t carry = ((bits & 0x0f800f80u) + 0x00800080u) & 0x10001000u;
    return value | (carry >> 12) * 0x7f80u;
}

/* Eight columns of one row: four registers. `subtract` is -(offset + zero point) for INT4. */
template <int KIND, bool F16>
__device__ __forceinline__ void decode(const uint32_t *w, uint32_t scale, uint32_t subtract,
                                       int term, uint32_t (&r)[4])
{
    using T = kind_traits<KIND>;
    if (KIND == GEMMUX_UPCAST_raw) {
        r[0] = w[0], r[1] = w[1], r[2] = w[2], r[3] = w[3];
    } else if (T::e2m1) {
        spread_e2m1<F16>(w[0], r);
    } else if (T::int4) {
        constexpr uint32_t base = F16 ? 0x64006400u : 0x43004300u;
#pragma unroll
        for (int j = 0; j < 4; j++)
            r[j] = fma2<F16>(and_or(w[0] >> (4 * j), 0x000f000fu, base), one2<F16>(), subtract);
    } else if (T::nf4) {
        spread_nf4<F16>(w[0], term, r);
    } else if (T::int8) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            r[2 * i] = spread_int8<F16>(w[i]);
            r[2 * i + 1] = spread_int8<F16>(w[i] >> 8);
        }
    } else {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            r[2 * i] = spread_fp8<T::e5m2, F16>(w[i] << 8);
            r[2 * i + 1] = spread_fp8<T::e5m2, F16>(w[i]);
        }
    }
    constexpr bool multiplies =
        folds<KIND, F16>::value || (T::e2m1 && !F16) || (T::e4m3) || (T::e5m2 && !F16);
    if (multiplies) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            uint32_t value = mul2<F16>(r[j], scale);
            r[j] = T::e5m2 && !F16 ? keep_special(r[j], value) : value;
        }
    }
}

/* ---- scales ---- */

/* The factor that codes need where no scale is folded in, twice. */
template <int KIND, bool F16> __device__ __forceinline__ constexpr uint32_t code_multiplier()
{
    using T = kind_traits<KIND>;
    return F16       ? 0x5c005c00u  /* E4M3: 2^8 */
           : T::e4m3 ? 0x7b807b80u  /* 2^120 */
                     : 0x77807780u; /* 2^112 */
}

/* bf16 exponent field, twice, of the factor for ue8m0 scale 0: 2^-127 with what the codes' bits
 * lack, 2^126, 2^120 or 2^112, less the row's shift. Scale e adds e. */
template <int KIND> __device__ __forceinline__ uint32_t mx_base(uint32_t shift)
{
    using T = kind_traits<KIND>;
    return ((T::e2m1 ? 126u : T::e4m3 ? 120u : 112u) - shift) * 0x00800080u;
}

/* ue4m3 scales of two rows, in the even bytes of `raw`: registers of twice the scale. bf16: scale
 * times 2^119, so that sums are 2^-7 times the true ones (2^126 would overflow); f16: 2^7. */
template <bool F16>
__device__ __forceinline__ void nv_multipliers(uint32_t raw, uint32_t (&first)[2])
{
    uint32_t both;
    if (F16) {
        both = mul2<true>((raw & 0x007f007fu) << 7, 0x78007800u); /* 2^-8 scale, times 2^15 */
    } else {
        both = mul2<false>((raw & 0x007f007fu) << 4, 0x7b807b80u); /* 2^-120 scale, times 2^120 */
        both = mul2<false>(both, 0x7b007b00u);                     /* times 2^119 */
    }
    first[0] = prmt(both, both, 0x1010);
    first[1] = prmt(both, both, 0x3232);
}

/* 2^(e-127); e = 0 is subnormal in f32. */
__device__ __forceinline__ float e8m0_to_float(uint32_t e)
{
    return __uint_as_float(e ? e << 23 : 0x00400000u);
}
