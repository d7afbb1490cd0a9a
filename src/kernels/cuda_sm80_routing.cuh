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
    static_assert(MOST == 32, "a row a lane");
    int experts[MOST];
    uint8_t counts[MOST];
    uint8_t rows[MOST][ROWS];

    /* By the whole block; returns the number of groups. */
    __device__ int fill(const parameters &p)
    {
        __shared__ int groups;
        if (threadIdx.x < 32) {
            const unsigned all = 0xffffffffu;
            int lane = threadIdx.x;
            bool valid = lane < p.m;
            int id = valid ? p.expert_ids[lane] : 0;
            unsigned same = __match_any_sync(all, id) & __ballot_sync(all, valid);
            unsigned below = (1u << lane) - 1;
            int rank = __popc(same & below); /* among the rows of its expert */
            bool opens = valid && rank % ROWS == 0;
            unsigned openers = __ballot_sync(all, opens);
            unsigned rest = same; /* without the groups before this row's */
            for (int i = rank / ROWS * ROWS; i > 0; i--)
                rest &= rest - 1;
            int entry = __popc(openers & below);
            int mine = __shfl_sync(all, entry, valid ? __ffs(rest) - 1 : lane);
            if (opens) {
                experts[entry] = id;
                counts[entry] = uint8_t(min(ROWS, __popc(same) - rank));
            }
            if (valid)
                rows[mine][rank % ROWS] = uint8_t(lane);
            if (lane == 0)
                groups = __popc(openers);
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
