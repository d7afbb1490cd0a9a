/* SPDX-License-Identifier: Apache-2.0
 *
 * What the kernels of 9.0 have in common whatever they multiply: which tile of y a block makes, the
 * ring of stages between the thread that copies and the warps that multiply, the sums of blocks
 * that share the K of a tile, and swiglu for results of 16 bits.
 */
#pragma once

#include "cuda_sm90_ptx.cuh"

/* ---- tiles ---- */

/* All tiles of a launch. A tile is of some rows of w (which are columns of y) by some rows of x. */
struct sm90_tiling {
    const int32_t *tiles, *tile_count; /* a moe's: route_rows of cuda_moe.cuh */
    int experts;                       /* 0: dense */
    int section;                       /* of a moe's tiles: 0 the big ones, 1 the others */
    int items;                         /* dense: tiles times splits */
    int of_w, of_x;                    /* dense: how many tiles w's rows and x's rows make */
    int m, steps, splits, steps_a_split;
};

/* One block's share of one tile: columns of K from step `begin` to `end`. */
struct sm90_work {
    int expert, first, count; /* rows of x, or of a moe's sorted ones */
    int w_tile, begin, end, split;
    bool known; /* whether the expert exists */
};

__device__ __forceinline__ int sm90_items(const sm90_tiling &t)
{
    return t.experts ? t.of_w * t.tile_count[t.section] : t.items;
}

/* Dense: tiles that run together are of few rows of x and few of w, for the L2's sake. ROWS: of x
 * in a tile. */
template <int ROWS> __device__ __forceinline__ sm90_work sm90_find(const sm90_tiling &t, int item)
{
    constexpr int GROUP = 8;
    sm90_work w;
    w.split = 0, w.begin = 0, w.end = t.steps, w.known = true;
    if (t.experts) {
        int index = item / t.of_w + (t.section ? t.tile_count[0] : 0);
        const int32_t *entry = t.tiles + index * 3;
        w.expert = entry[0], w.first = entry[1], w.count = entry[2];
        w.known = w.expert < t.experts;
        w.w_tile = item % t.of_w;
        return w;
    }
    if (t.splits > 1) {
        w.split = item % t.splits;
        item /= t.splits;
        w.begin = w.split * t.steps_a_split;
        w.end = min(w.begin + t.steps_a_split, t.steps);
    }
    int group = item / (GROUP * t.of_w), within = item % (GROUP * t.of_w);
    int deep = min(GROUP, t.of_x - group * GROUP);
    w.expert = 0;
    w.first = (group * GROUP + within % deep) * ROWS;
    w.count = min(ROWS, t.m - w.first);
    w.w_tile = within / deep;
    return w;
}

/* ---- the ring of stages ---- */

template <int STAGES> struct sm90_ring {
    int stage = 0;
    uint32_t phase = 0;
    __device__ __forceinline__ void advance()
    {
        if (++stage == STAGES)
            stage = 0, phase ^= 1;
    }
};

/* One arrival for all lanes of a warp. */
__device__ __forceinline__ void sm90_arrive(uint32_t barrier)
{
    __syncwarp();
    if (threadIdx.x % 32 == 0)
        barrier_arrive(barrier);
}

/* ---- sums ---- */

/* Adds up the sums of the blocks that share the K of one tile, in the order of K: COUNT of each of
 * the first THREADS threads, in room for MOST. True in the block that came last, which has the
 * totals. */
template <int THREADS, int MOST, int COUNT>
__device__ bool sm90_join(float *partials, uint32_t *counters, int splits, int tile, int split,
                          float (&values)[COUNT])
{
    __shared__ int last;
    float *base = partials + int64_t(tile) * splits * MOST * THREADS;
    float *mine = base + int64_t(split) * MOST * THREADS + threadIdx.x;
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        __stcg(mine + i * THREADS, values[i]);
    __threadfence();
    join_threads<THREADS>();
    if (threadIdx.x == 0) {
        unsigned before = atomicAdd(counters + tile, 1u);
        last = before == unsigned(splits - 1);
        if (last)
            counters[tile] = 0; /* for the next run */
    }
    join_threads<THREADS>();
    bool store = last;
    join_threads<THREADS>(); /* nobody's next item changes `last` before all have read it */
    if (!store)
        return false;
    __threadfence();
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        values[i] = 0.0f;
    for (int s = 0; s < splits; s++) {
        const float *from = base + int64_t(s) * MOST * THREADS + threadIdx.x;
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            values[i] += __ldcg(from + i * THREADS);
    }
    return true;
}

/* g / (1 + e^-ag) (u + 1) for a result of 16 bits. */
__device__ __forceinline__ float quick_swiglu(float gate, float up, float alpha, float limit)
{
    float g = gate > limit ? limit : gate;
    float u = up > limit ? limit : up < -limit ? -limit : up;
    return __fdividef(g, 1.0f + __expf(-alpha * g)) * (u + 1.0f);
}
