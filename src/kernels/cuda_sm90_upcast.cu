/* SPDX-License-Identifier: Apache-2.0
 *
 * cuda_sm90_upcast: the tiles of cuda_sm90_tile.cuh for every kind of weight, and what runs before
 * and after them: arranging x, routing and scattering a moe.
 */
#include "cuda_moe.cuh"
#include "cuda_sm90_tile.cuh"

#define DEFINE(kind, type, half, shape, rows, units, box, groups)                                  \
    extern "C" __global__ void __launch_bounds__(128 + 128 * groups, 1)                            \
        sm90_##kind##_##type##_##shape(const __grid_constant__ gemmux_sm90_parameters p)           \
    {                                                                                              \
        wide<GEMMUX_UPCAST_##kind, half, rows, units, box, groups>::run(p);                        \
    }

#ifndef SM90_TRY
#    define SM90_HALF_bf16 false
#    define SM90_HALF_f16  true
/* As GEMMUX_SM90_SHAPES. */
#    define DEFINE_SUMS(kind, type) DEFINE(kind, type, SM90_HALF_##type, w128, 128, 2, 32, 2)
#    define DEFINE_DIRECT(kind, type)                                                              \
        DEFINE(kind, type, SM90_HALF_##type, w256, 256, 1, 256, 2)                                 \
        DEFINE(kind, type, SM90_HALF_##type, t64, 64, 2, 32, 4)
GEMMUX_SM90_KINDS(DEFINE_DIRECT, DEFINE_SUMS)
#endif

/* ---- before and after ---- */

namespace
{

/* Eight columns in another order, as GPTQ's g_idx gives. */
__device__ __forceinline__ uint4 gather_columns(const char *row, const int32_t *order)
{
    const uint16_t *from = reinterpret_cast<const uint16_t *>(row);
    uint32_t words[4];
#pragma unroll
    for (int j = 0; j < 4; j++)
        words[j] = from[order[2 * j]] | uint32_t(from[order[2 * j + 1]]) << 16;
    return make_uint4(words[0], words[1], words[2], words[3]);
}

/* Word i of lane l of four goes to word l of lane i. */
__device__ __forceinline__ void transpose_quad(uint4 &v)
{
    bool odd = threadIdx.x & 1, high = threadIdx.x & 2;
    uint32_t a = __shfl_xor_sync(0xffffffffu, odd ? v.x : v.y, 1);
    uint32_t b = __shfl_xor_sync(0xffffffffu, odd ? v.z : v.w, 1);
    (odd ? v.x : v.y) = a;
    (odd ? v.z : v.w) = b;
    a = __shfl_xor_sync(0xffffffffu, high ? v.x : v.z, 2);
    b = __shfl_xor_sync(0xffffffffu, high ? v.y : v.w, 2);
    (high ? v.x : v.z) = a;
    (high ? v.y : v.w) = b;
}

} // namespace

/* x in the order in which tiles want it: rows sorted by expert where there are any; the columns of
 * each 32 with pair 4 l + c at 4 c + l, which is where lane l's columns of wgmma c / 2 stand; zeros
 * from K to the next unit. A thread has eight columns. grid: any. */
extern "C" __global__ void __launch_bounds__(256)
    sm90_arrange(const __grid_constant__ gemmux_sm90_parameters p)
{
    int pieces = p.u.units * 8; /* of 16 bytes a row */
    int64_t total = int64_t(p.u.m) * pieces;
    for (int64_t first = int64_t(blockIdx.x) * 256; first < total;
         first += int64_t(gridDim.x) * 256) {
        int64_t i = first + threadIdx.x;
        int to = int(i / pieces), column = int(i % pieces) * 8;
        uint4 v = make_uint4(0, 0, 0, 0);
        if (i < total && column < p.u.k) {
            const char *x = x_row(p.u, p.u.experts ? __ldg(p.u.sorted + to) : to);
            v = p.u.k_order ? gather_columns(x, p.u.k_order + column)
                            : __ldg(reinterpret_cast<const uint4 *>(x + column * 2));
        }
        transpose_quad(v);
        if (i < total)
            static_cast<uint4 *>(p.arranged)[i] = v;
    }
}

/* Big tiles first: see gemmux_sm90_parameters.section. */
extern "C" __global__ void __launch_bounds__(1024)
    sm90_route(const __grid_constant__ gemmux_sm90_parameters p)
{
    route_rows(p.u, p.big_rows, p.u.tile_count, p.u.tile_count + 1);
}

extern "C" __global__ void __launch_bounds__(256)
    sm90_scatter(const __grid_constant__ gemmux_sm90_parameters p)
{
    scatter_rows(p.u);
}
