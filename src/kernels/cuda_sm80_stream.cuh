/* SPDX-License-Identifier: Apache-2.0
 *
 * The streaming forms s1 and s2 of cuda_sm80_upcast, put together: see cuda_sm80_stream_layout.cuh.
 */
#pragma once

#include "cuda_sm80_stream_finish.cuh"
#include "cuda_sm80_stream_multiply.cuh"
#include "cuda_sm80_stream_read.cuh"

namespace
{

template <int KIND, bool F16, int ROWS> struct stream {
    using L = stream_layout<KIND, F16, ROWS>;
    using T = kind_traits<KIND>;
    using F = stream_finisher<KIND, F16, ROWS>;
    static constexpr int KT = L::KT, STEPS = L::STEPS, DEPTH = L::DEPTH;

    template <bool FINE, bool EXTRA>
    static __device__ __forceinline__ void run_all(const parameters &p, typename L::routing &list)
    {
        using R = stream_reader<KIND, F16, ROWS, FINE, EXTRA>;
        using M = stream_multiplier<KIND, F16, ROWS, FINE, EXTRA>;
        int warp = threadIdx.x / 32;
        typename L::share s;
        allow_next_launch();
        if (p.experts) {
            wait_for_earlier_launches();
            s = L::share_entries(p, p.routed ? *p.tile_count : list.fill(p));
        } else {
            s.begin = p.stream_each * int(blockIdx.x) + min(int(blockIdx.x), p.stream_more);
            s.end = s.begin + p.stream_each + (int(blockIdx.x) < p.stream_more);
            s.entry = 0;
        }
        if (s.begin >= s.end)
            return;

        int stage = L::first_stage();
        typename R::cursor ahead = R::open(p, s, list);
        R::fetch(p, ahead, 0, stage);
        typename L::span of = L::open_span(p, s, list, L::first_place(p, s), s.begin);
        int held_entry = of.at.entry, held_pass = 0;
        /* x is asked for before most of w, behind which it would wait. */
        if (!p.experts)
            wait_for_earlier_launches();
        typename M::columns x;
        M::load_x(p, list, of, L::open_run(p, 0), x);
#pragma unroll 1
        for (int i = 1; i < DEPTH; i++)
            R::fetch_next(p, s, list, ahead, i % STEPS, stage + i * L::STAGE);
        if (L::TABLED) {
            M::fill_table();
            __syncthreads();
        }
#pragma unroll 1
        while (true) {
            F::fetch_finishing(p, of);
            const uint8_t *matrix = p.w + max(0, of.expert) * p.matrix_bytes;
#pragma unroll 1
            for (int pass = 0; pass < p.stream_passes; pass++) {
                typename L::run_of_units run = L::open_run(p, pass);
                if (run.count == 0)
                    break;
                if (held_entry != of.at.entry || held_pass != pass) {
                    M::load_x(p, list, of, run, x);
                    held_entry = of.at.entry, held_pass = pass;
                }
                uint8_t *slot = F::slot_of(0, of.count);
#pragma unroll 1
                for (int row = of.first; row < of.stop; row++, slot += L::slot_bytes(of.count)) {
                    int row_block = row - of.at.base;
                    block from = M::open_shifts(p, matrix, row_block);
                    typename M::sums sums = {};
#pragma unroll
                    for (int step = 0; step < STEPS; step++) {
                        typename M::group_scales groups;
                        copy_async_wait<DEPTH - 1>();
                        __syncwarp();
#pragma unroll
                        for (int k = 0; k < KT; k += M::PART) {
                            unit<KIND> units[M::PART];
                            M::take(stage, k, units);
                            if (L::GROUPED && k == 0)
                                groups = M::take_groups(p, row_block, run.u + step * KT, stage);
                            if (k + M::PART == KT) {
                                __syncwarp();
                                R::fetch_next(p, s, list, ahead, (step + DEPTH) % STEPS, stage);
                                stage = L::next_stage(stage);
                            }
#pragma unroll
                            for (int i = 0; i < M::PART; i += M::PAIR)
                                if (step * KT + k + i < run.count)
                                    M::multiply(p, from, units + i, groups, k + i,
                                                x + step * KT + k + i, sums);
                        }
                    }
                    F::leave(F::sums_of(slot, warp, of.count), of.count, pass > 0, sums);
                }
            }
            copy_async_commit(); /* what finishes, where no stage was fetched since */
            copy_async_wait<0>();
            __syncthreads();
            F::finish(p, list, of);
            if (of.stop >= s.end)
                break;
            __syncthreads(); /* before slots are written again */
            of = L::open_span(p, s, list, L::place_of(p, of.at, of.stop), of.stop);
        }
        copy_async_wait<0>();
    }

    /* One of each: most MX weights have no shifts, and need not ask for them in every row block;
     * most groups are of whole units, and a run of more than one begins at an even one; most have
     * scales for each row and no zero points. */
    static __device__ __forceinline__ void choose(const parameters &p, typename L::routing &list)
    {
        if constexpr (T::mx && folds<KIND, F16>::value) {
            if (!p.unshifted)
                return run_all<false, true>(p, list);
        } else if constexpr (L::GROUPED) {
            if (p.group_shift < 5 + L::SHARING)
                return run_all<true, true>(p, list);
            if (p.zero || p.scale_block)
                return run_all<false, true>(p, list);
        }
        run_all<false, false>(p, list);
    }

    /* A dense product has code of its own, in which the compiler sees that there are no experts:
     * a block's first instructions come from memory line by line, and each jump waits for one. */
    static __device__ __forceinline__ void run(const parameters &p)
    {
        __shared__ typename L::routing list;
        if (p.experts) {
            choose(p, list);
        } else {
            parameters dense = p;
            dense.experts = 0, dense.routed = 0, dense.gather = 0;
            choose(dense, list);
        }
    }
};

} // namespace
