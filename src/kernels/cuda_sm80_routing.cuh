/* SPDX-License-Identifier: Apache-2.0
 *
 * Routing of a moe of so few rows that every block of a streaming form reads it for itself.
 */
#pragma once

#include "cuda_sm80_tile.cuh"

namespace
{

/* Rows of a moe whose routing is so short that each block reads it: groups of at most ROWS product
 * rows that meet the same expert. */
template <int ROWS> struct short_routing {
    enum { MOST = GEMMUX_UPCAST_DIRECT_ROWS };
    int experts[MOST];
    int ids[MOST];
    uint8_t ranks[MOST]; /* among the rows of its expert */
    uint8_t entries_of[MOST], counts[MOST];
    uint8_t rows[MOST][ROWS];

    /* By the whole block; returns the number of groups. */
    __device__ int fill(const parameters &p)
    {
        __shared__ int groups;
        if (threadIdx.x < 32) { /* each lane two rows */
            int lane = threadIdx.x, before = 0;
            int id[MOST / 32], rank[MOST / 32], same[MOST / 32];
#pragma unroll
            for (int h = 0; h < MOST / 32; h++) {
                id[h] = lane + h * 32 < p.m ? p.expert_ids[lane + h * 32] : 0;
                rank[h] = same[h] = 0;
            }
#pragma unroll
            for (int h = 0; h < MOST / 32; h++)
                for (int j = 0; j < min(32, p.m - h * 32); j++) {
                    int other = __shfl_sync(0xffffffffu, id[h], j);
#pragma unroll
                    for (int i = 0; i < MOST / 32; i++) {
                        same[i] += other == id[i];
                        rank[i] += other == id[i] && j + h * 32 < lane + i * 32;
                    }
                }
#pragma unroll
            for (int h = 0; h < MOST / 32; h++) {
                int row = lane + h * 32;
                bool opens = row < p.m && rank[h] % ROWS == 0;
                unsigned openers = __ballot_sync(0xffffffffu, opens);
                if (opens) {
                    int entry = before + __popc(openers & ((1u << lane) - 1));
                    experts[entry] = id[h];
                    counts[entry] = uint8_t(min(ROWS, same[h] - rank[h]));
                    entries_of[row] = uint8_t(entry);
                }
                if (row < p.m)
                    ids[row] = id[h], ranks[row] = uint8_t(rank[h]);
                before += __popc(openers);
            }
            __syncwarp();
#pragma unroll
            for (int h = 0; h < MOST / 32; h++)
                for (int j = 0; j <= lane + h * 32 && lane + h * 32 < p.m; j++)
                    if (ids[j] == id[h] && ranks[j] == rank[h] - rank[h] % ROWS)
                        rows[entries_of[j]][rank[h] % ROWS] = uint8_t(lane + h * 32);
            if (lane == 0)
                groups = before;
        }
        __syncthreads();
        return groups;
    }
};

/* An entry is a group of rows of x that meet the same matrix: all of them where there are no
 * experts, else a tile of upcast_route's, or an entry of the list above. */
template <int ROWS>
__device__ __forceinline__ int expert_of(const parameters &p, const short_routing<ROWS> &list,
                                         int entry)
{
    return !p.experts ? 0 : p.routed ? p.tiles[3 * entry] : list.experts[entry];
}

template <int ROWS>
__device__ __forceinline__ int rows_of(const parameters &p, const short_routing<ROWS> &list,
                                       int entry)
{
    return !p.experts ? p.m : p.routed ? p.tiles[3 * entry + 2] : list.counts[entry];
}

/* Product row of row r of an entry. */
template <int ROWS>
__device__ __forceinline__ int product_row(const parameters &p, const short_routing<ROWS> &list,
                                           int entry, int r)
{
    return !p.experts ? r : p.routed ? p.sorted[p.tiles[3 * entry + 1] + r] : list.rows[entry][r];
}

__device__ __forceinline__ int scale_bytes(const parameters &p)
{
    return p.scale_code == GEMMUX_CODE_F32 ? 4 : 2;
}

} // namespace
