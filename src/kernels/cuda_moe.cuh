/* SPDX-License-Identifier: Apache-2.0
 *
 * What stands around the products of a moe in every GPU kernel of ours: rows sorted by expert and
 * cut into tiles before, weighted sums of each token's rows after.
 */
#pragma once

#include "cuda_sm80_tile.cuh"

/* The expert's own index, or that behind the last for one that does not exist. */
__device__ __forceinline__ int known_expert(const parameters &p, int expert)
{
    return expert < 0 || expert >= p.experts ? p.experts : expert;
}

/* Tiles of big_rows among the tiles for so many rows: as many as are full, and one for what is left
 * if that is more than one of the others has. */
__device__ __forceinline__ int big_tiles(const parameters &p, int big_rows, int count)
{
    if (!big_rows)
        return 0;
    int full = count / big_rows;
    return count - full * big_rows > p.tile_rows ? full + 1 : full;
}

/* By a whole warp. */
__device__ __forceinline__ int sum_of_lower_lanes(int value)
{
    int sum = value;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
        int other = __shfl_up_sync(0xffffffffu, sum, step);
        if (int(threadIdx.x % 32) >= step)
            sum += other;
    }
    return sum - value;
}

/* Sorts product rows by expert and lists tiles of {expert, first, count}: an expert's first rows in
 * tiles of big_rows (0: none), which stand before all others in the list; then tiles of at most
 * p.tile_rows. By one block of 1024 threads. The order within an expert may differ between runs; no
 * result depends on it. Rows of an expert that does not exist come last, under the first number
 * that no expert has. */
__device__ __forceinline__ void route_rows(const parameters &p, int big_rows, int *big_count,
                                           int *other_count)
{
    constexpr int AHEAD = 8; /* ids a thread has under way */
    __shared__ int counts[GEMMUX_UPCAST_MAX_EXPERTS + 1], places[GEMMUX_UPCAST_MAX_EXPERTS + 1];
    __shared__ int bigs[GEMMUX_UPCAST_MAX_EXPERTS + 1], others[GEMMUX_UPCAST_MAX_EXPERTS + 1];
    __shared__ int all_bigs;
    int groups = p.experts + 1, thread = threadIdx.x;
    for (int e = thread; e < groups; e += 1024)
        counts[e] = 0;
    __syncthreads();
    auto for_each_row = [&](auto &&use) {
        for (int base = thread; base < p.m; base += 1024 * AHEAD) {
            int experts[AHEAD];
#pragma unroll
            for (int i = 0; i < AHEAD; i++)
                experts[i] = base + i * 1024 < p.m ? __ldg(p.expert_ids + base + i * 1024) : 0;
#pragma unroll
            for (int i = 0; i < AHEAD; i++)
                if (base + i * 1024 < p.m)
                    use(base + i * 1024, known_expert(p, experts[i]));
        }
    };
    for_each_row([&](int, int expert) { atomicAdd(&counts[expert], 1); });
    __syncthreads();
    if (thread < 32) { /* each lane some experts: where their rows and tiles start */
        int each = (groups + 31) / 32, from = min(thread * each, groups);
        int to = min(from + each, groups), row = 0, big = 0, other = 0;
        for (int pass = 0; pass < 2; pass++) {
            for (int e = from; e < to; e++) {
                int of_big = big_tiles(p, big_rows, counts[e]);
                int left = max(0, counts[e] - of_big * big_rows);
                if (pass == 1)
                    places[e] = row, bigs[e] = big, others[e] = other;
                row += counts[e];
                big += of_big;
                other += (left + p.tile_rows - 1) / p.tile_rows;
            }
            if (pass == 0) {
                row = sum_of_lower_lanes(row);
                big = sum_of_lower_lanes(big);
                other = sum_of_lower_lanes(other);
            }
        }
        if (thread == 31) {
            all_bigs = big;
            if (big_count)
                *big_count = big;
            *other_count = other;
        }
    }
    __syncthreads();
    for (int e = thread; e < groups; e += 1024) {
        int first = 0, big = bigs[e], other = all_bigs + others[e];
        auto put = [&](int at, int rows) {
            int count = min(rows, counts[e] - first);
            p.tiles[3 * at] = e;
            p.tiles[3 * at + 1] = places[e] + first;
            p.tiles[3 * at + 2] = count;
            first += rows;
        };
        for (int left = big_tiles(p, big_rows, counts[e]); left > 0; left--)
            put(big++, big_rows);
        while (first < counts[e])
            put(other++, p.tile_rows);
    }
    __syncthreads();
    for_each_row([&](int row, int expert) { p.sorted[atomicAdd(&places[expert], 1)] = row; });
}

/* y[token] = sum over slots, in their order, of weight * row; 256 columns of it a block, whose grid
 * is columns / 256 x tokens. */
__device__ __forceinline__ void scatter_rows(const parameters &p)
{
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
        store_one(p.y_format, p.y + int64_t(token) * p.y_row_bytes, column, sum);
    }
}
