/* SPDX-License-Identifier: Apache-2.0
 *
 * Staging around a library's product (cuda_stage.h): memory-bound, 256 threads a block, a grid of
 * columns x rows.
 */
#include "cuda_ptx.cuh"
#include "cuda_stage.h"

namespace
{

/* Up to 16 bytes from `from`, zeros behind them. */
__device__ __forceinline__ uint4 load_some(const char *from, int64_t left)
{
    uint4 v = make_uint4(0, 0, 0, 0);
    if (left >= 16 && reinterpret_cast<uintptr_t>(from) % 16 == 0)
        return __ldg(reinterpret_cast<const uint4 *>(from));
    uint32_t words[4] = {0, 0, 0, 0};
    for (int i = 0; i < 16; i++)
        if (i < left)
            words[i / 4] |= uint32_t(uint8_t(from[i])) << (i % 4 * 8);
    v.x = words[0], v.y = words[1], v.z = words[2], v.w = words[3];
    return v;
}

} // namespace

/* grid: ceil(to_stride / 16 / 256) x rows. */
extern "C" __global__ void __launch_bounds__(256) stage_x(const __grid_constant__ gemmux_stage_x p)
{
    int64_t at = (int64_t(blockIdx.x) * 256 + threadIdx.x) * 16;
    if (at >= p.to_stride)
        return;
    for (int row = blockIdx.y; row < p.to_rows; row += gridDim.y) {
        uint4 v = make_uint4(0, 0, 0, 0);
        if (row < p.rows)
            v = load_some(p.from + int64_t(row) * p.from_stride + at, p.row_bytes - at);
        *reinterpret_cast<uint4 *>(p.to + int64_t(row) * p.to_stride + at) = v;
    }
}

/* grid: ceil(groups rounded up to 4 / 256) x rows. */
extern "C" __global__ void __launch_bounds__(256)
    stage_scales(const __grid_constant__ gemmux_stage_scales p)
{
    int group = blockIdx.x * 256 + threadIdx.x, tile_groups = (p.groups + 3) / 4;
    if (p.factors && blockIdx.y == 0 && group == 0) {
        p.factors[0] = (p.x_global ? *p.x_global : 1.0f) * (p.w_global ? *p.w_global : 1.0f);
        p.factors[1] = 0.0f;
    }
    if (group >= (p.tiles ? tile_groups * 4 : p.groups))
        return;
    for (int row = blockIdx.y; row < p.to_rows; row += gridDim.y) {
        bool there = row < p.rows && group < p.groups;
        int64_t from = int64_t(row) * p.groups + group;
        if (p.tiles) {
            int64_t tile = int64_t(row / 128) * tile_groups + group / 4;
            int within = row % 32 * 16 + row % 128 / 32 * 4 + group % 4;
            static_cast<uint8_t *>(p.to)[tile * 512 + within] =
                there ? static_cast<const uint8_t *>(p.from)[from] : uint8_t(0);
        } else {
            static_cast<float *>(p.to)[int64_t(group) * p.to_rows + row] =
                there ? static_cast<const float *>(p.from)[from] : 0.0f;
        }
    }
}

/* grid: ceil(n / 4 / 256) x rows. */
extern "C" __global__ void __launch_bounds__(256)
    stage_finish(const __grid_constant__ gemmux_stage_finish p)
{
    int n = (blockIdx.x * 256 + threadIdx.x) * 4;
    if (n >= p.n)
        return;
    float by[4], plus[4];
    for (int i = 0; i < 4; i++) {
        bool there = n + i < p.n;
        by[i] = p.w_scales && there ? __ldg(p.w_scales + (p.w_by_row ? n + i : 0)) : 1.0f;
        plus[i] = p.bias && there ? __ldg(p.bias + n + i) : 0.0f;
    }
    for (int row = blockIdx.y; row < p.rows; row += gridDim.y) {
        uint4 bits = __ldg(reinterpret_cast<const uint4 *>(static_cast<const uint32_t *>(p.sums) +
                                                           int64_t(row) * p.sums_stride + n));
        uint32_t raw[4] = {bits.x, bits.y, bits.z, bits.w};
        float x = p.x_scales ? __ldg(p.x_scales + (p.x_by_row ? row : 0)) : 1.0f;
        float values[4];
        for (int i = 0; i < 4; i++) {
            float sum = p.integers ? float(int(raw[i])) : __uint_as_float(raw[i]);
            values[i] = fmaf(sum, x * by[i], plus[i]);
        }
        char *y = p.y + int64_t(row) * p.y_row_bytes;
        if (p.y_format == GEMMUX_F32) {
            float *to = reinterpret_cast<float *>(y) + n;
            for (int i = 0; i < 4; i++)
                if (n + i < p.n)
                    to[i] = values[i];
            continue;
        }
        uint32_t halves[4];
        for (int i = 0; i < 4; i++)
            halves[i] =
                p.y_format == GEMMUX_BF16 ? float_to_bf16(values[i]) : float_to_half(values[i]);
        uint16_t *to = reinterpret_cast<uint16_t *>(y) + n;
        if (p.y_fours && n + 4 <= p.n) {
            uint2 both;
            both.x = halves[0] | halves[1] << 16;
            both.y = halves[2] | halves[3] << 16;
            *reinterpret_cast<uint2 *>(to) = both;
        } else {
            for (int i = 0; i < 4; i++)
                if (n + i < p.n)
                    to[i] = uint16_t(halves[i]);
        }
    }
}
