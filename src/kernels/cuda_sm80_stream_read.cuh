/* SPDX-License-Identifier: Apache-2.0
 *
 * How the streaming forms of cuda_sm80_upcast read w: each warp its own units, into its own stages
 * of shared memory. FINE: groups of fewer columns than units that share a scale have. EXTRA: zero
 * points, or one scale for a block of rows, are asked about.
 */
#pragma once

#include "cuda_sm80_stream_layout.cuh"

namespace
{

template <int KIND, bool F16, int ROWS, bool FINE, bool EXTRA> struct stream_reader {
    using L = stream_layout<KIND, F16, ROWS>;
    using T = kind_traits<KIND>;
    using share = typename L::share;
    using routing = typename L::routing;
    static constexpr int KT = L::KT, STEPS = L::STEPS;

    /* Where this warp reads next, DEPTH steps ahead of what it multiplies. */
    struct cursor {
        typename L::place at;
        int pass, row, first, stop; /* row block, of those that one pass is over */
        int count;                  /* units of the run; 0: all is read */
        const uint8_t *codes;       /* this lane's part of the run in row block `row` */
        const uint8_t *scales;      /* this lane's of the first step */
        int later;                  /* groups: so many bytes from there to those of a second */
        const uint8_t *zeros;
    };

    /* What is read pass by pass: a span; all of an entry where there is one pass. */
    static __device__ __forceinline__ int end_of_reading(const parameters &p, const share &s,
                                                         const routing &list, const cursor &c)
    {
        if (p.stream_passes > 1)
            return L::span_stop(p, s, c.at, c.first, rows_of(p, list, c.at.entry));
        return min(s.end, c.at.base + p.row_blocks);
    }

    /* Bytes from the scales of one row block to those of the next. */
    static __device__ __forceinline__ int scales_a_row(const parameters &p)
    {
        return T::nv   ? p.units * 64
               : T::mx ? p.units * 32
                       : p.groups * (p.scale_block ? 1 : 16) * scale_bytes(p);
    }

    static __device__ __forceinline__ int zeros_a_row(const parameters &p)
    {
        return p.groups * 16 * (T::minima ? scale_bytes(p) : 1);
    }

    /* Scales that are not beside their unit: of groups of any length. Lane 4g + k has those of rows
     * 2g and 2g + 1 in units u + k, u + KT + k .. of a row block. */
    static __device__ __forceinline__ void open_groups(const parameters &p, const uint8_t *matrix,
                                                       int row_block, int u, cursor &c)
    {
        int lane = threadIdx.x % 32, k = lane % 4, each = scale_bytes(p);
        int of_rows = p.scale_block ? 0 : lane / 4 * (p.fine ? 4 : 2);
        int at = scale_offset(p, u + k) + of_rows;
        c.scales += int64_t(row_block) * scales_a_row(p) + at * each;
        static_assert(!L::GROUPED || STEPS <= 2, "offsets of a second step alone");
        c.later = (scale_offset(p, u + KT + k) + of_rows - at) * each;
        c.zeros = matrix + p.zeros_at + int64_t(row_block) * zeros_a_row(p);
        c.zeros += T::minima ? at * each : at & ~3; /* bytes: the word that two are in */
    }

    /* To the start of this warp's run in row block c.row, in pass c.pass. */
    static __device__ __forceinline__ void open_row(const parameters &p, const routing &list,
                                                    cursor &c)
    {
        int expert = expert_of(p, list, c.at.entry);
        if (expert < 0 || expert >= p.experts)
            expert = 0;
        typename L::run_of_units run = L::open_run(p, c.pass);
        c.count = run.count;
        int lane = threadIdx.x % 32, row_block = c.row - c.at.base;
        const uint8_t *matrix = p.w + int64_t(expert) * p.matrix_bytes;
        int64_t unit = int64_t(row_block) * p.units + run.u;
        c.codes = matrix + unit * (128 * T::bits) + lane * 16;
        c.scales = matrix + p.scales_at;
        if (T::nv)
            c.scales += unit * 64 + lane * 8;
        else if (T::mx)
            c.scales += (unit + lane % 4) * 32 + lane / 4 * 4;
        else if constexpr (L::GROUPED)
            open_groups(p, matrix, row_block, run.u, c);
    }

    /* Behind the last row block of a pass: to the next pass or span in which this warp has units.
     * One pass needs no spans, only entries. */
    static __device__ __forceinline__ void open_pass(const parameters &p, const share &s,
                                                     const routing &list, cursor &c)
    {
        do {
            if (++c.pass >= p.stream_passes) {
                c.count = 0;
                if (c.stop >= s.end)
                    return;
                c.pass = 0;
                c.first = c.stop;
                c.at = L::place_of(p, c.at, c.first);
                c.stop = end_of_reading(p, s, list, c);
            }
            c.row = c.first;
            open_row(p, list, c);
        } while (c.count == 0);
    }

    static __device__ __forceinline__ cursor open(const parameters &p, const share &s,
                                                  const routing &list)
    {
        cursor c;
        c.at = L::first_place(p, s);
        c.first = s.begin;
        c.stop = end_of_reading(p, s, list, c);
        c.codes = c.scales = c.zeros = p.w;
        c.later = 0;
        c.pass = -1;
        open_pass(p, s, list, c);
        return c;
    }

    /* Behind the last step of a row block. */
    static __device__ __forceinline__ void next_row(const parameters &p, const share &s,
                                                    const routing &list, cursor &c)
    {
        if (c.count == 0)
            return;
        c.codes += p.units * (128 * T::bits);
        if (!T::plain)
            c.scales += scales_a_row(p);
        if (T::minima || (T::int4 && EXTRA))
            c.zeros += zeros_a_row(p);
        if (++c.row == c.stop)
            open_pass(p, s, list, c);
    }

    /* Scales or minima of a pair of rows in one unit: as many bytes as are stored. */
    static __device__ __forceinline__ void fetch_pair(const parameters &p, uint32_t to,
                                                      const uint8_t *from, bool valid)
    {
        bool wide = p.scale_code == GEMMUX_CODE_F32;
        if (EXTRA && p.scale_block) /* one, maybe of two bytes: the word that it is in */
            copy_async_small<4>(to, from - (reinterpret_cast<uintptr_t>(from) & 3), valid);
        else if (FINE && p.fine && wide)
            copy_async(to, from, valid);
        else if (wide || (FINE && p.fine))
            copy_async_small<8>(to, from, valid);
        else
            copy_async_small<4>(to, from, valid);
    }

    static __device__ __forceinline__ void fetch_scales(const parameters &p, const cursor &c,
                                                        int step, int left, uint32_t to)
    {
        int lane = threadIdx.x % 32, g = lane / 4, k = lane % 4;
        if (T::nv) {
            if (KT == 4 || lane < KT * 8)
                copy_async_small<8>(to + lane * 8, c.scales + step * KT * 64, lane / 8 < left);
        } else if (KT == 4 || k < KT) {
            if (T::mx) {
                copy_async_small<4>(to + (g * KT + k) * 4, c.scales + step * KT * 32, k < left);
            } else {
                int later = step ? c.later : 0;
                fetch_pair(p, to + (g * KT + k) * 16, c.scales + later, k < left);
                if (T::minima)
                    fetch_pair(p, to + KT * 128 + (g * KT + k) * 16, c.zeros + later, k < left);
                else if (T::int4 && EXTRA && p.zero)
                    copy_async_small<4>(to + KT * 128 + (g * KT + k) * 4,
                                        c.zeros + (later >> (scale_bytes(p) / 2)), k < left);
            }
        }
    }

    /* Asks for a step, the step-th of the cursor's row block; what a run lacks of KT units becomes
     * zeros. */
    static __device__ __forceinline__ void fetch(const parameters &p, const cursor &c, int step,
                                                 int stage)
    {
        int left = c.count - step * KT;
        if (left > 0) {
            uint32_t shared = shared_address(dynamic_shared());
            uint32_t to = shared + L::codes_of(stage) + L::line_at(threadIdx.x % 32 * 16);
#pragma unroll
            for (int i = 0; i < KT * T::loads; i++)
                copy_async(to + L::line_at(i * 512), c.codes + step * L::CODES + i * 512,
                           i / T::loads < left);
            if (!T::plain)
                fetch_scales(p, c, step, left, shared + L::scales_of(stage));
        }
        copy_async_commit();
    }

    /* That behind the step before it. */
    static __device__ __forceinline__ void fetch_next(const parameters &p, const share &s,
                                                      const routing &list, cursor &c, int step,
                                                      int stage)
    {
        if (step == 0)
            next_row(p, s, list, c);
        fetch(p, c, step, stage);
    }
};

} // namespace
