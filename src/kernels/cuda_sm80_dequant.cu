/* SPDX-License-Identifier: Apache-2.0
 *
 * Decodes packed weights (sm80_fragments) whole, into rows of bf16 or f16 that a dense product
 * reads: the decoders of cuda_sm80_upcast, and the same packing, so that one packed weight serves
 * decode steps and prefill. A warp takes eight units of a row block; its lanes' stores fill 128
 * bytes of each row at a time.
 */
#include "cuda_dequant.h"
#include "cuda_sm80_tile.cuh"

namespace
{

__device__ __forceinline__ float widen(uint32_t bits, bool f16)
{
    return f16 ? half_to_float(bits & 0xffff) : __uint_as_float(bits << 16);
}

/* value * scale + minimum on both halves, each rounded once. */
template <bool F16> __device__ __forceinline__ uint32_t rescale(uint32_t pair, float by, float plus)
{
    float low = fmaf(widen(pair & 0xffff, F16), by, plus);
    float high = fmaf(widen(pair >> 16, F16), by, plus);
    return F16 ? float_to_half(low) | uint32_t(float_to_half(high)) << 16
               : float_to_bf16(low) | uint32_t(float_to_bf16(high)) << 16;
}

/* The sums of three pairs, largest terms first, times the scale. */
template <bool F16>
__device__ __forceinline__ uint32_t join(uint32_t a, uint32_t b, uint32_t c, float by)
{
    float low = (widen(a & 0xffff, F16) + (widen(b & 0xffff, F16) + widen(c & 0xffff, F16))) * by;
    float high = (widen(a >> 16, F16) + (widen(b >> 16, F16) + widen(c >> 16, F16))) * by;
    return F16 ? float_to_half(low) | uint32_t(float_to_half(high)) << 16
               : float_to_bf16(low) | uint32_t(float_to_bf16(high)) << 16;
}

template <int KIND, bool F16>
__device__ __forceinline__ void decode_piece(const gemmux_dequant_parameters &d, const block &b,
                                             const unit<KIND> &from, int u, int half, int odd,
                                             float factor, bool rescaled, uint32_t (&r)[4])
{
    using T = kind_traits<KIND>;
    uint32_t by[2], minus = 0;
    multipliers_of<KIND, F16>(b, from, half, by);
    if (T::int4)
        minus = int4_subtract<KIND, F16>(d.w, from, half, odd);
    decode<KIND, F16>(row_words<KIND>(from, half, odd), by[odd], minus, 0, r);
    if (T::nf4) { /* its values are sums of three terms */
        uint32_t second[4], third[4];
        decode<KIND, F16>(row_words<KIND>(from, half, odd), 0, 0, 1, second);
        decode<KIND, F16>(row_words<KIND>(from, half, odd), 0, 0, 2, third);
        sum_scales s = scales_of_sums<KIND, F16>(d.w, b, from, u, half);
        for (int i = 0; i < 4; i++)
            r[i] = join<F16>(r[i], second[i], third[i], odd ? s.scale.y : s.scale.x);
        return;
    }
    if (T::plain || folds<KIND, F16>::value) {
        if (!rescaled)
            return;
        for (int i = 0; i < 4; i++)
            r[i] = rescale<F16>(r[i], factor, 0.0f);
        return;
    }
    sum_scales s = scales_of_sums<KIND, F16>(d.w, b, from, u, half);
    float scale = odd ? s.scale.y : s.scale.x;
    float minimum = T::minima ? (odd ? s.minimum.y : s.minimum.x) : 0.0f;
    for (int i = 0; i < 4; i++)
        r[i] = rescale<F16>(r[i], scale, minimum);
}

template <int KIND, bool F16>
__device__ __forceinline__ void run(const gemmux_dequant_parameters &d)
{
    constexpr int AHEAD = 2;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, l = lane % 4;
    int row_block = d.first_block + int(blockIdx.y);
    int first = (int(blockIdx.x) * GEMMUX_DEQUANT_WARPS + warp) * GEMMUX_DEQUANT_UNITS;
    int end = min(first + GEMMUX_DEQUANT_UNITS, d.w.units);
    if (first >= end)
        return;
    block b = open_block<KIND>(d.w, d.w.w, row_block);
    uint32_t flags = load_word(d.w.w + d.w.flags_at + row_block * 4);
    const float *factors = reinterpret_cast<const float *>(d.w.w + d.w.factors_at) + row_block * 16;
    float2 factor = __ldg(reinterpret_cast<const float2 *>(factors + 2 * g));
    bool rescaled = d.by_row;
    if (kind_traits<KIND>::mx) { /* what was taken from large ue8m0 scales for them to fit bf16 */
        uint32_t shifts = __ldg(
            reinterpret_cast<const uint16_t *>(d.w.w + d.w.shifts_at + row_block * 16 + g * 2));
        factor = make_float2(__uint_as_float((127 + (shifts & 255)) << 23),
                             __uint_as_float((127 + (shifts >> 8)) << 23));
        rescaled = shifts != 0;
    }
    unit<KIND> ahead[AHEAD];
#pragma unroll
    for (int i = 0; i < AHEAD; i++)
        load_unit<KIND>(d.w, b, first + i, first + i < end, ahead[i]);
    for (int u = first; u < end; u++) {
        unit<KIND> now = ahead[0];
#pragma unroll
        for (int i = 0; i + 1 < AHEAD; i++)
            ahead[i] = ahead[i + 1];
        load_unit<KIND>(d.w, b, u + AHEAD, u + AHEAD < end, ahead[AHEAD - 1]);
#pragma unroll
        for (int odd = 0; odd < 2; odd++) {
            int n = (int(blockIdx.y)) * 16 + 2 * g + odd;
            bool nan = flags >> (g + 8 * odd) & 1;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                uint32_t r[4];
                decode_piece<KIND, F16>(d, b, now, u, half, odd, odd ? factor.y : factor.x,
                                        rescaled, r);
                int column = u * 64 + half * 32 + l * 8;
                if (nan)
                    r[0] = r[1] = r[2] = r[3] = 0x7fff7fffu;
                if (column < d.w.k)
                    *reinterpret_cast<uint4 *>(d.to + int64_t(n) * d.to_stride + column * 2) =
                        make_uint4(r[0], r[1], r[2], r[3]);
            }
        }
    }
}

} // namespace

/* grid: ceil(units / (WARPS * UNITS)) x row blocks. */
#define DEFINE(kind, type, half)                                                                   \
    extern "C" __global__ void __launch_bounds__(GEMMUX_DEQUANT_WARPS * 32)                        \
        dequant_##kind##_##type(const __grid_constant__ gemmux_dequant_parameters d)               \
    {                                                                                              \
        run<GEMMUX_UPCAST_##kind, half>(d);                                                        \
    }
#define DEFINE_BOTH(kind) DEFINE(kind, bf16, false) DEFINE(kind, f16, true)
GEMMUX_DEQUANT_KINDS(DEFINE_BOTH)
