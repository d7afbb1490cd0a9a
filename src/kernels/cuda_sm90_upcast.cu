/* SPDX-License-Identifier: Apache-2.0
 *
 * cuda_sm90_upcast: the tiles of cuda_sm90_tile.cuh for every kind of weight, and what runs before
 * and after them: arranging x, routing and scattering a moe.
 */
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

/* x in the order in which tiles want it: rows sorted by expert where there are any; the columns of
 * each 32 with pair 4 l + 2 i + h at 8 i + 4 h + l, which is where lane l's columns of wgmma i
 * stand; zeros from K to the next unit. A thread has 32 columns. grid: any. */
extern "C" __global__ void __launch_bounds__(256)
    sm90_arrange(const __grid_constant__ gemmux_sm90_parameters p)
{
    int blocks = p.u.units * 2;
    int64_t total = int64_t(p.u.m) * blocks;
    for (int64_t i = int64_t(blockIdx.x) * 256 + threadIdx.x; i < total; i += gridDim.x * 256) {
        int to = int(i / blocks), column = int(i % blocks) * 32;
        int row = p.u.experts ? __ldg(p.u.sorted + to) : to;
        const char *x = x_row(p.u, row);
        uint4 in[4];
#pragma unroll
        for (int l = 0; l < 4; l++) {
            in[l] = make_uint4(0, 0, 0, 0);
            int at = column + l * 8;
            if (at >= p.u.k)
                continue;
            if (!p.u.k_order) {
                in[l] = __ldg(reinterpret_cast<const uint4 *>(x + at * 2));
                continue;
            }
            const uint16_t *from = reinterpret_cast<const uint16_t *>(x);
            uint32_t words[4];
#pragma unroll
            for (int j = 0; j < 4; j++)
                words[j] = from[p.u.k_order[at + 2 * j]] |
                           uint32_t(from[p.u.k_order[at + 2 * j + 1]]) << 16;
            in[l] = make_uint4(words[0], words[1], words[2], words[3]);
        }
        uint4 *out = static_cast<uint4 *>(p.arranged) + (int64_t(to) * blocks + column / 32) * 4;
        out[0] = make_uint4(in[0].x, in[1].x, in[2].x, in[3].x);
        out[1] = make_uint4(in[0].y, in[1].y, in[2].y, in[3].y);
        out[2] = make_uint4(in[0].z, in[1].z, in[2].z, in[3].z);
        out[3] = make_uint4(in[0].w, in[1].w, in[2].w, in[3].w);
    }
}

/* Sorts product rows by expert and lists tiles: an expert's first rows in tiles of p.big_rows, with
 * a short one at their end if more than u.tile_rows are left; what is left then in tiles of
 * u.tile_rows, which stand behind all big ones. One block. The order within an expert may differ
 * between runs; no result depends on it. Rows of an expert that does not exist come last, under the
 * first number that no expert has. */
extern "C" __global__ void __launch_bounds__(1024)
    sm90_route(const __grid_constant__ gemmux_sm90_parameters all)
{
    const gemmux_upcast_parameters &p = all.u;
    __shared__ int counts[GEMMUX_UPCAST_MAX_EXPERTS + 1], places[GEMMUX_UPCAST_MAX_EXPERTS + 1];
    __shared__ int bigs_before[GEMMUX_UPCAST_MAX_EXPERTS + 1];
    __shared__ int smalls_before[GEMMUX_UPCAST_MAX_EXPERTS + 2];
    int groups = p.experts + 1;
    for (int e = threadIdx.x; e < groups; e += blockDim.x)
        counts[e] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < p.m; i += blockDim.x) {
        int expert = p.expert_ids[i];
        atomicAdd(&counts[expert < 0 || expert >= p.experts ? p.experts : expert], 1);
    }
    __syncthreads();
    auto bigs_of = [&](int count) {
        if (!all.big_rows)
            return 0;
        int bigs = count / all.big_rows;
        return count - bigs * all.big_rows > p.tile_rows ? bigs + 1 : bigs;
    };
    if (threadIdx.x == 0) {
        int rows = 0, bigs = 0, smalls = 0;
        for (int e = 0; e < groups; e++) {
            int of_big = bigs_of(counts[e]);
            int left = max(0, counts[e] - of_big * all.big_rows);
            places[e] = rows;
            bigs_before[e] = bigs;
            smalls_before[e] = smalls;
            rows += counts[e];
            bigs += of_big;
            smalls += (left + p.tile_rows - 1) / p.tile_rows;
        }
        p.tile_count[0] = bigs;
        p.tile_count[1] = smalls;
        smalls_before[groups] = bigs; /* where small ones start */
    }
    __syncthreads();
    auto put = [&](int at, int e, int first, int count) {
        p.tiles[3 * at] = e;
        p.tiles[3 * at + 1] = places[e] + first;
        p.tiles[3 * at + 2] = count;
    };
    for (int e = threadIdx.x; e < groups; e += blockDim.x) {
        int first = 0, at = bigs_before[e];
        for (int bigs = bigs_of(counts[e]); bigs > 0; bigs--, first += all.big_rows)
            put(at++, e, first, min(all.big_rows, counts[e] - first));
        at = smalls_before[groups] + smalls_before[e];
        for (; first < counts[e]; first += p.tile_rows)
            put(at++, e, first, min(p.tile_rows, counts[e] - first));
    }
    __syncthreads();
    for (int i = threadIdx.x; i < p.m; i += blockDim.x) {
        int expert = p.expert_ids[i];
        int at = atomicAdd(&places[expert < 0 || expert >= p.experts ? p.experts : expert], 1);
        p.sorted[at] = i;
    }
}

/* y[token] = sum over slots, in their order, of weight * row. grid: columns / 256 x tokens. */
extern "C" __global__ void __launch_bounds__(256)
    sm90_scatter(const __grid_constant__ gemmux_sm90_parameters all)
{
    const gemmux_upcast_parameters &p = all.u;
    int columns = p.swiglu ? p.n / 2 : p.n;
    int column = blockIdx.x * 256 + threadIdx.x;
    if (column >= columns)
        return;
    for (int token = blockIdx.y; token < p.m / p.top_k; token += gridDim.y) {
        float sum = 0.0f;
        for (int slot = 0; slot < p.top_k; slot++) {
            int64_t row = int64_t(token) * p.top_k + slot;
            sum = fmaf(p.expert_weights[row], p.rows[row * columns + column], sum);
        }
        store_one(p, p.y + int64_t(token) * p.y_row_bytes, column, sum);
    }
}
