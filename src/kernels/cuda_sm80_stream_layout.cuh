/* SPDX-License-Identifier: Apache-2.0
 *
 * The streaming forms s1 and s2 of cuda_sm80_upcast: up to 8 and up to 16 rows of x, so that
 * reading w is all the work. Here: who does what, and what stands where in shared memory.
 *
 * One block a multiprocessor, each with an equal run of the product's row blocks, so that no sums
 * are shared between blocks. In every row block a warp has the same run of K, and x of that run in
 * registers; where K is longer than all warps hold, it is done in passes. A run is done in STEPS
 * steps of KT units, whose codes and scales come by cp.async DEPTH steps ahead, across row blocks,
 * passes and experts (cuda_sm80_stream_read.cuh). A warp leaves its sums in shared memory; after as
 * many row blocks as that has room for, they are added up (cuda_sm80_stream_finish.cuh).
 */
#pragma once

#include "cuda_sm80_routing.cuh"

namespace
{

template <int KIND, bool F16, int MOST_ROWS> struct stream_layout {
    using T = kind_traits<KIND>;
    static constexpr int ROWS = MOST_ROWS, NT = ROWS / 8; /* the matrix unit takes eights */
    static constexpr int WARPS = GEMMUX_UPCAST_STREAM_WARPS, THREADS = WARPS * 32;
    static constexpr int HELD = GEMMUX_UPCAST_STREAM_HELD; /* units of x in a warp's registers */
    static constexpr bool GROUPED = !T::plain && !T::mx && !T::nv; /* scales of any length */
    /* NF4 by table: the two values of each byte, once for each bank of shared memory. */
    static constexpr bool TABLED = KIND == GEMMUX_UPCAST_nf4;
    /* Units that at least share a scale where groups are not FINE: NF4's are of 64 columns. */
    static constexpr int SHARING = TABLED ? 1 : 2;

    /* Units a step: 2 KiB of codes where stages of that size leave room for sums. */
    static constexpr int KT = T::bits == 16                                                ? 1
                              : T::bits == 8 || TABLED || (GROUPED && NT > 1) || T::minima ? 2
                                                                                           : 4;
    static constexpr int STEPS = HELD / KT;
    static constexpr int CODES = KT * T::bits * 128; /* bytes a step */
    /* Scales of a step, and behind them zero points or minima: of each pair of rows and unit. */
    static constexpr int SCALE = T::plain ? 0 : T::mx ? 4 : T::nv ? 8 : 16;
    static constexpr int ZERO = T::minima ? 16 : T::int4 ? 4 : 0;
    static constexpr int SCALES = KT * 8 * (SCALE + ZERO);

    /* Shared memory: the ring of each warp, DEPTH stages of codes and scales; then slots of sums
     * (16 of each row block, warp and row of x) with what finishes each row block before its own.
     * A table takes every other line of 128 bytes of the first 64 KiB, so that a byte of w and a
     * lane make an address by one permutation; codes stand in the lines between, scales behind. */
    static constexpr int LINE = 128, TABLE = TABLED ? 256 * LINE : 0;
    static constexpr int APART = TABLED ? 2 : 1; /* lines from one of codes to the next */
    static constexpr int SUMS = WARPS * 16 * 4;  /* bytes a row block and row of x */
    static constexpr int FINISH = GEMMUX_UPCAST_STREAM_FINISH;
    static constexpr int DEPTH =
        (GEMMUX_UPCAST_STREAM_SMEM - TABLE - ROWS * SUMS - FINISH) / (WARPS * (CODES + SCALES));
    static constexpr int STAGE = TABLED ? APART * CODES : CODES + SCALES; /* from one to the next */
    static constexpr int SLOTS = TABLE + WARPS * DEPTH * (CODES + SCALES);
    static_assert(DEPTH >= 2 && HELD % KT == 0, "whole steps, and more than one under way");
    static_assert(!TABLED || WARPS * DEPTH * CODES == TABLE, "codes fill the lines between");

    using routing = short_routing<ROWS>;

    /* Codes of a stage, from its first line. */
    static __device__ __forceinline__ constexpr int line_at(int byte)
    {
        return byte + byte / LINE * (APART - 1) * LINE;
    }

    static __device__ __forceinline__ int first_stage()
    {
        return int(threadIdx.x / 32) * DEPTH * STAGE;
    }

    static __device__ __forceinline__ int next_stage(int stage)
    {
        return stage + STAGE == first_stage() + DEPTH * STAGE ? first_stage() : stage + STAGE;
    }

    /* From the start of dynamic shared memory. */
    static __device__ __forceinline__ int codes_of(int stage)
    {
        return (APART - 1) * LINE + stage;
    }

    static __device__ __forceinline__ int scales_of(int stage)
    {
        return TABLED ? TABLE * APART + stage / (STAGE / (SCALES ? SCALES : 1)) : stage + CODES;
    }

    /* ---- who does what ---- */

    /* This block's share: row blocks [begin, end) of all entries (groups of rows of x) one after
     * the other; the first is of `entry`. */
    struct share {
        int begin, end, entry;
    };

    /* The index-th of `parts` parts of `count` things. */
    static __device__ __forceinline__ share part_of(int count, int parts, int index)
    {
        int each = count / parts, more = count - each * parts;
        share s;
        s.begin = each * index + min(index, more);
        s.end = s.begin + each + (index < more);
        s.entry = 0;
        return s;
    }

    /* A moe's: equal numbers of blocks for all groups of rows unless that leaves some blocks much
     * more to do, as to begin another group costs a block as much as three row blocks (H200). */
    static __device__ __forceinline__ share share_entries(const parameters &p, int entries)
    {
        int blocks = gridDim.x, block = blockIdx.x, all = entries * p.row_blocks;
        if (entries > 0 && entries <= blocks) {
            int each = blocks / entries, more = blocks - each * entries;
            if ((p.row_blocks + each - 1) / each <= (all + blocks - 1) / blocks + 3) {
                int wide = more * (each + 1); /* blocks of entries that have one more */
                int entry = block < wide ? block / (each + 1) : more + (block - wide) / each;
                int index = block < wide ? block % (each + 1) : (block - wide) % each;
                share s = part_of(p.row_blocks, each + (block < wide), index);
                s.begin += entry * p.row_blocks, s.end += entry * p.row_blocks;
                s.entry = entry;
                return s;
            }
        }
        share s = part_of(all, blocks, block);
        s.entry = s.begin / p.row_blocks;
        return s;
    }

    /* An entry: the row block that it begins with. */
    struct place {
        int entry, base;
    };

    static __device__ __forceinline__ place first_place(const parameters &p, const share &s)
    {
        place at;
        at.entry = s.entry, at.base = s.entry * p.row_blocks;
        return at;
    }

    /* That of row block `row`, which is of the same entry or begins the next. */
    static __device__ __forceinline__ place place_of(const parameters &p, place at, int row)
    {
        if (row == at.base + p.row_blocks)
            at.entry++, at.base = row;
        return at;
    }

    /* Row blocks [first, stop) of one entry, whose sums there is room for: its expert (-1: there is
     * no such one) and rows of x. */
    struct span {
        place at;
        int first, stop, expert, count;
    };

    static __device__ __forceinline__ int slot_bytes(int count)
    {
        return SUMS * count + FINISH;
    }

    static __device__ __forceinline__ int span_stop(const parameters &p, const share &s, place at,
                                                    int first, int count)
    {
        int room = divide_small(p.stream_smem - SLOTS, slot_bytes(max(1, count)));
        return min(min(s.end, at.base + p.row_blocks), first + room);
    }

    static __device__ __forceinline__ span open_span(const parameters &p, const share &s,
                                                     const routing &list, place at, int first)
    {
        span of;
        of.at = at;
        of.first = first;
        of.expert = expert_of(p, list, at.entry);
        if (of.expert < 0 || of.expert >= max(1, p.experts))
            of.expert = -1;
        of.count = rows_of(p, list, at.entry);
        of.stop = span_stop(p, s, at, first, of.count);
        return of;
    }

    /* This warp's run of K: units u .. u + count - 1. */
    struct run_of_units {
        int u, count;
    };

    static __device__ __forceinline__ run_of_units open_run(const parameters &p, int pass)
    {
        run_of_units run;
        run.u = (pass * WARPS + int(threadIdx.x / 32)) * p.stream_units;
        run.count = max(0, min(p.stream_units, p.units - run.u));
        return run;
    }
};

} // namespace
