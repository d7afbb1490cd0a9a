/* SPDX-License-Identifier: Apache-2.0
 *
 * The streaming form s1 of cuda_sm80_upcast: up to 8 rows of x, so that reading w is all the work.
 * One block a multiprocessor, each with an equal run of the product's row blocks, so that no sums
 * are shared between blocks. In every row block a warp has the same run of K, and x of that run in
 * registers; where K is longer than all warps hold, it is done in passes. Codes and scales come by
 * cp.async, DEPTH steps (of KT units) ahead, across row blocks, passes and experts. A warp leaves
 * its sums in shared memory; after as many row blocks as that has room for, they are added up. (16
 * rows of x would take the registers that decoding needs: cuda_sm80_stream.cuh.)
 */
#pragma once

#include "cuda_sm80_routing.cuh"

namespace
{

template <int KIND, bool F16> struct held {
    using T = kind_traits<KIND>;
    static constexpr int WARPS = GEMMUX_UPCAST_STREAM_WARPS, THREADS = WARPS * 32, ROWS = 8;
    static constexpr int HELD = GEMMUX_UPCAST_STREAM_HELD; /* units of x in a warp's registers */
    static constexpr bool GROUPED = !T::plain && !T::mx && !T::nv;
    /* Units that at least share a scale where groups are not FINE: NF4's are of 64 columns. */
    static constexpr int SHARING = KIND == GEMMUX_UPCAST_nf4 ? 1 : 2;
    /* NF4 by table: the two values of each byte, once for each bank of shared memory. */
    static constexpr bool TABLED = KIND == GEMMUX_UPCAST_nf4;
    static constexpr int TABLE = TABLED ? 256 * 32 * 4 : 0; /* bytes */
    /* Units a step: 2 KiB of codes where stages of that size leave room for sums. */
    static constexpr int KT = T::bits == 16 ? 1 : T::bits == 8 || T::minima || TABLED ? 2 : 4;
    static constexpr int CODES = KT * T::bits * 128; /* bytes a step */
    /* Behind the codes of a stage: scales, and zero points or minima, of each pair of rows. */
    static constexpr int SCALE = T::plain ? 0 : T::mx ? 4 : T::nv ? 8 : 16;
    static constexpr int ZERO = T::minima ? 16 : T::int4 ? 4 : 0;
    static constexpr int STAGE = CODES + KT * 8 * (SCALE + ZERO);
    /* Sums of a warp, row block and row of x: 16. All of shared memory behind the ring holds them
     * and, before those of each row block, what finishes it: at least those of one. */
    static constexpr int SUMS = WARPS * 16 * 4; /* bytes */
    static constexpr int FINISH = GEMMUX_UPCAST_STREAM_FINISH;
    static constexpr int DEPTH =
        (GEMMUX_UPCAST_STREAM_SMEM - TABLE - ROWS * SUMS - FINISH) / (WARPS * STAGE);
    static constexpr int RING = WARPS * DEPTH * STAGE;
    static_assert(DEPTH >= 2 && HELD % KT == 0, "whole steps, and more than one under way");
    /* Stages of a dense product's w that are asked for before earlier launches have ended. */
    static constexpr int EARLY = 1;
    static constexpr int CHAINS = 2; /* of sums, so that a product need not wait for another */

    using routing = short_routing<ROWS>;

    /* This block's share: row blocks [begin, end) of all groups of rows of x one after the other.
     */
    struct share {
        int begin, end;
    };

    /* The index-th of `parts` parts of `count` things. */
    static __device__ __forceinline__ share part_of(int count, int parts, int index)
    {
        int each = count / parts, more = count - each * parts;
        share s;
        s.begin = each * index + min(index, more);
        s.end = s.begin + each + (index < more);
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
                return s;
            }
        }
        return part_of(all, blocks, block);
    }

    /* Row blocks [first, stop) of one group of rows of x, whose sums there is room for. */
    struct span {
        int first, stop, entry;
    };

    static __device__ __forceinline__ int row_bytes(int count)
    {
        return SUMS * count + FINISH;
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

    static __device__ __forceinline__ span open_span(const parameters &p, const share &s,
                                                     const routing &list, int first)
    {
        span of;
        of.first = first;
        of.entry = p.experts ? first / p.row_blocks : 0;
        of.stop = min(s.end, (of.entry + 1) * p.row_blocks);
        int room = (p.stream_smem - TABLE - RING) / row_bytes(max(1, rows_of(p, list, of.entry)));
        of.stop = min(of.stop, first + room);
        return of;
    }

    /* ---- loading ---- */

    /* Where this warp will read next, DEPTH steps ahead of what it multiplies. */
    struct cursor {
        run_of_units run;           /* in every row block of the pass */
        int pass, row, first, stop; /* row block, of those that one pass is over */
        int u, left;                /* unit, and units left of the run; 0: all is read */
        const uint8_t *codes;       /* this lane's part of unit u */
        /* MX and NV: this lane's scales of units u .. u + KT - 1; else of the row block. */
        const uint8_t *scales, *zeros;
    };

    /* Scales or minima of a pair of rows in one unit: as many bytes as are stored. */
    static __device__ __forceinline__ void fetch_pair(const parameters &p, uint32_t to,
                                                      const uint8_t *from, bool valid)
    {
        int bytes = scale_bytes(p) * (p.fine ? 4 : 2);
        if (p.scale_block) /* one, maybe of two bytes: the word that it is in */
            copy_async_small<4>(to, from - (reinterpret_cast<uintptr_t>(from) & 3), valid);
        else if (bytes == 4)
            copy_async_small<4>(to, from, valid);
        else if (bytes == 8)
            copy_async_small<8>(to, from, valid);
        else
            copy_async(to, from, valid);
    }

    /* Scales that are not beside their unit: of groups of any length, with zero points. Lane
     * 4g + k those of rows 2g and 2g + 1 in unit k. */
    static __device__ __forceinline__ void fetch_groups(const parameters &p, const cursor &c,
                                                        uint32_t to)
    {
        int lane = threadIdx.x % 32, g = lane / 4, k = lane % 4;
        if (k >= KT)
            return;
        bool valid = k < c.left;
        int at = scale_offset(p, valid ? c.u + k : c.u), each = scale_bytes(p);
        fetch_pair(p, to + (g * KT + k) * 16, c.scales + at * each, valid);
        if (T::minima) {
            fetch_pair(p, to + KT * 128 + (g * KT + k) * 16, c.zeros + at * each, valid);
        } else if (T::int4 && p.zero) {
            const uint8_t *zeros = c.zeros + at;
            copy_async_small<4>(to + KT * 128 + (g * KT + k) * 4,
                                zeros - (reinterpret_cast<uintptr_t>(zeros) & 3), valid);
        }
    }

    static __device__ __forceinline__ void fetch_scales(const parameters &p, cursor &c, uint32_t to)
    {
        int lane = threadIdx.x % 32, g = lane / 4, k = lane % 4;
        if (T::nv) {
            if (KT == 4 || lane < KT * 8)
                copy_async_small<8>(to + lane * 8, c.scales, lane / 8 < c.left);
            c.scales += KT * 64;
        } else if (T::mx) {
            if (KT == 4 || k < KT)
                copy_async_small<4>(to + (g * KT + k) * 4, c.scales, k < c.left);
            c.scales += KT * 32;
        } else if (!T::plain) {
            fetch_groups(p, c, to);
        }
    }

    /* What is read pass by pass: a span; all of a group of rows where there is one pass. */
    static __device__ __forceinline__ int end_of_reading(const parameters &p, const share &s,
                                                         const routing &list, int first)
    {
        if (p.stream_passes > 1)
            return open_span(p, s, list, first).stop;
        return p.experts ? min(s.end, (first / p.row_blocks + 1) * p.row_blocks) : s.end;
    }

    /* To the start of this warp's run in row block c.row, in pass c.pass. */
    static __device__ __forceinline__ void open_row(const parameters &p, const routing &list,
                                                    cursor &c)
    {
        int entry = p.experts ? c.row / p.row_blocks : 0;
        int expert = expert_of(p, list, entry);
        if (expert < 0 || expert >= p.experts)
            expert = 0;
        c.run = open_run(p, c.pass);
        c.u = c.run.u, c.left = c.run.count;
        int lane = threadIdx.x % 32, row_block = c.row - entry * p.row_blocks;
        const uint8_t *matrix = p.w + int64_t(expert) * p.matrix_bytes;
        int64_t unit = int64_t(row_block) * p.units + c.u;
        c.codes = matrix + unit * (128 * T::bits) + lane * 16;
        c.scales = matrix + p.scales_at;
        if (T::nv) {
            c.scales += unit * 64 + lane * 8;
        } else if (T::mx) {
            c.scales += (unit + lane % 4) * 32 + lane / 4 * 4;
        } else if (!T::plain) {
            int64_t first = int64_t(row_block) * p.groups;
            if (!p.scale_block)
                first = first * 16 + lane / 4 * (p.fine ? 4 : 2);
            c.scales += first * scale_bytes(p);
            c.zeros = matrix + p.zeros_at + first * (T::minima ? scale_bytes(p) : 1);
        }
    }

    /* Behind the last row block of a pass: to the next pass or span in which this warp has units.
     * One pass needs no spans, only groups of rows. */
    static __device__ __forceinline__ void open_pass(const parameters &p, const share &s,
                                                     const routing &list, cursor &c)
    {
        do {
            if (++c.pass >= p.stream_passes) {
                if (c.stop >= s.end)
                    return;
                c.pass = 0;
                c.first = c.stop;
                c.stop = end_of_reading(p, s, list, c.first);
            }
            c.row = c.first;
            open_row(p, list, c);
        } while (c.left == 0);
    }

    /* To this warp's run in the next row block. */
    static __device__ __forceinline__ void next_row(const parameters &p, cursor &c)
    {
        int units = p.units - (c.u - c.run.u);
        c.u = c.run.u, c.left = c.run.count;
        c.codes += int64_t(units) * (128 * T::bits);
        if (T::nv) {
            c.scales += int64_t(units) * 64;
        } else if (T::mx) {
            c.scales += int64_t(units) * 32;
        } else if (!T::plain) {
            int groups = p.groups * (p.scale_block ? 1 : 16);
            c.scales += int64_t(groups) * scale_bytes(p);
            c.zeros += int64_t(groups) * (T::minima ? scale_bytes(p) : 1);
        }
    }

    static __device__ __forceinline__ void fetch(const parameters &p, const share &s,
                                                 const routing &list, cursor &c, uint32_t stage)
    {
        if (c.left > 0) {
            uint32_t to = stage + threadIdx.x % 32 * 16;
#pragma unroll
            for (int k = 0; k < KT; k++)
#pragma unroll
                for (int i = 0; i < T::loads; i++)
                    copy_async(to + (k * T::loads + i) * 512, c.codes + (k * T::loads + i) * 512,
                               k < c.left);
            fetch_scales(p, c, stage + CODES);
            c.u += KT;
            c.left -= KT;
            c.codes += CODES;
            if (c.left <= 0) {
                c.left = 0;
                if (++c.row < c.stop)
                    next_row(p, c);
                else
                    open_pass(p, s, list, c);
            }
        }
        copy_async_commit();
    }

    /* What a step's sums are multiplied by: lane 4g + k has it for unit k. */
    struct group_scales {
        float2 scale[2], minimum[2]; /* of each half */
        uint32_t zeros;              /* a byte for [half][row] */
    };

    /* Scales or minima as stored to those of both halves. `odd`: blocks: of the word's two. */
    static __device__ __forceinline__ void widen(const parameters &p, uint4 raw, bool odd,
                                                 float2 (&to)[2])
    {
        uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
        if (p.scale_code != GEMMUX_CODE_F32) {
            uint32_t first = odd ? raw.x >> 16 : raw.x, second = p.fine ? raw.y : first;
            bool bf16 = p.scale_code == GEMMUX_CODE_BF16;
            const uint32_t bits[4] = {first, first >> 16, second, second >> 16};
#pragma unroll
            for (int i = 0; i < 4; i++)
                words[i] = bf16 ? bits[i] << 16 : __float_as_uint(half_to_float(bits[i] & 0xffffu));
        } else if (!p.fine) {
            words[2] = raw.x, words[3] = raw.y;
        }
        if (p.scale_block)
            words[1] = words[2] = words[3] = words[0];
        to[0] = make_float2(__uint_as_float(words[0]), __uint_as_float(words[1]));
        to[1] = make_float2(__uint_as_float(words[2]), __uint_as_float(words[3]));
    }

    static __device__ __forceinline__ group_scales take_groups(const parameters &p, int row_block,
                                                               int u, const uint8_t *scales)
    {
        int lane = threadIdx.x % 32, g = lane / 4, k = lane % 4;
        group_scales of;
        k = k < KT ? k : 0;
        bool odd = p.scale_block && (row_block * p.groups + scale_offset(p, u + k)) & 1;
        const uint8_t *pair = scales + (g * KT + k) * 16;
        widen(p, *reinterpret_cast<const uint4 *>(pair), odd, of.scale);
        if (T::minima)
            widen(p, *reinterpret_cast<const uint4 *>(pair + KT * 128), odd, of.minimum);
        of.zeros = 0x08080808u;
        if (T::int4 && !T::minima && p.zero) {
            uint32_t v = *reinterpret_cast<const uint32_t *>(scales + KT * 128 + (g * KT + k) * 4);
            of.zeros = p.fine ? v : prmt(v, 0, g % 2 ? 0x3232 : 0x1010);
        }
        return of;
    }

    /* A stage to registers. */
    static __device__ __forceinline__ void take(const parameters &p, int row_block, int u,
                                                const uint8_t *stage, unit<KIND> (&to)[KT],
                                                group_scales &groups)
    {
        int lane = threadIdx.x % 32, g = lane / 4, l = lane % 4;
        const uint8_t *scales = stage + CODES;
#pragma unroll
        for (int k = 0; k < KT; k++) {
#pragma unroll
            for (int i = 0; i < T::loads; i++) {
                uint4 v =
                    *reinterpret_cast<const uint4 *>(stage + (k * T::loads + i) * 512 + lane * 16);
                to[k].codes[4 * i] = v.x, to[k].codes[4 * i + 1] = v.y;
                to[k].codes[4 * i + 2] = v.z, to[k].codes[4 * i + 3] = v.w;
            }
            if (T::nv)
                to[k].scale[0] =
                    *reinterpret_cast<const uint32_t *>(scales + k * 64 + (g * 2 + l / 2) * 4);
            else if (T::mx)
                to[k].scale[0] = *reinterpret_cast<const uint32_t *>(scales + (g * KT + k) * 4);
        }
        if (GROUPED)
            groups = take_groups(p, row_block, u, scales);
    }

    /* ---- multiplying ---- */

    /* This lane's columns of unit u; at: of column 0. Rows of x that do not exist are any other:
     * nobody looks at their sums. */
    static __device__ __forceinline__ void load_x(const parameters &p, int u, bool valid,
                                                  const char *at, uint4 (&x)[2])
    {
        const uint4 *from = reinterpret_cast<const uint4 *>(at) + u * 8;
        if (valid && (u + 1) * 64 <= p.k) {
            x[0] = __ldg(from);
            x[1] = __ldg(from + 4);
            return;
        }
        int left = valid ? p.k - u * 64 - int(threadIdx.x) % 4 * 8 : 0;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            x[half] = make_uint4(0, 0, 0, 0);
            if (half * 32 < left)
                x[half] = __ldg(from + half * 4);
        }
    }

    /* x of this warp's run, for the rows of one entry. */
    static __device__ __forceinline__ void load_columns(const parameters &p, const routing &list,
                                                        int entry, int pass,
                                                        uint4 (&columns)[HELD][2])
    {
        run_of_units run = open_run(p, pass);
        int g = threadIdx.x % 32 / 4, l = threadIdx.x % 4;
        int row = product_row(p, list, entry, g < rows_of(p, list, entry) ? g : 0);
        const char *x = x_row(p, row) + l * 16;
#pragma unroll
        for (int k = 0; k < HELD; k++)
            load_x(p, run.u + k, k < run.count, x, columns[k]);
    }

    /* The lane that has scales and zeros of unit k of a step for this lane's rows. */
    static __device__ __forceinline__ int lane_of_unit(int k)
    {
        return threadIdx.x % 32 / 4 * 4 + k;
    }

    static __device__ __forceinline__ float2 of_unit(float2 mine, int k)
    {
        int from = lane_of_unit(k);
        return make_float2(__shfl_sync(0xffffffffu, mine.x, from),
                           __shfl_sync(0xffffffffu, mine.y, from));
    }

    static __device__ __forceinline__ void fill_table(uint8_t *table)
    {
        int byte = threadIdx.x / 2;
        uint32_t pairs[4];
        spread_nf4<F16>(uint32_t(byte), 0, pairs);
        static_assert(!TABLED || THREADS == 512, "two threads a byte");
#pragma unroll
        for (int i = 0; i < 4; i++)
            *reinterpret_cast<uint4 *>(table + byte * 128 + threadIdx.x % 2 * 64 + i * 16) =
                make_uint4(pairs[0], pairs[0], pairs[0], pairs[0]);
    }

    /* Eight columns of one row, as decode. */
    static __device__ __forceinline__ void look_up(uint32_t w, uint32_t (&r)[4])
    {
        const uint8_t *table = dynamic_shared();
        uint32_t bank = threadIdx.x % 32 * 4;
        const uint32_t bytes[4] = {w << 7, w >> 1, w >> 9, w >> 17};
#pragma unroll
        for (int j = 0; j < 4; j++)
            r[j] = *reinterpret_cast<const uint32_t *>(table + and_or(bytes[j], 0x7f80u, bank));
    }

    /* One row block's operands of both products of a half, as operands_of. */
    static __device__ __forceinline__ void open_operands(const block &b, const unit<KIND> &from,
                                                         uint32_t zeros, int half, int term,
                                                         uint32_t (&a)[2][4])
    {
        uint32_t by[2], even[4], odd[4], minus[2] = {};
        multipliers_of<KIND, F16>(b, from, half, by);
        if (T::minima) {
            minus[0] = minus[1] = F16 ? 0xe400e400u : 0xc300c300u;
        } else if (T::int4) {
            constexpr uint32_t base = F16 ? 0xe4e4e4e4u : 0xc3c3c3c3u;
            minus[0] = prmt(zeros, base, 0x4040u + half * 2 * 0x0101u);
            minus[1] = prmt(zeros, base, 0x4040u + (half * 2 + 1) * 0x0101u);
        }
        const uint32_t *words[2] = {row_words<KIND>(from, half, 0), row_words<KIND>(from, half, 1)};
        if (TABLED) {
            look_up(*words[0], even);
            look_up(*words[1], odd);
        } else {
            decode<KIND, F16>(words[0], by[0], minus[0], term, even);
            decode<KIND, F16>(words[1], by[1], minus[1], term, odd);
        }
#pragma unroll
        for (int i = 0; i < 2; i++) {
            a[i][0] = even[2 * i], a[i][1] = odd[2 * i];
            a[i][2] = even[2 * i + 1], a[i][3] = odd[2 * i + 1];
        }
    }

    /* Products of one group of columns, until its scale is applied. */
    struct group_sums {
        float parts[4], x_sums[4];
    };

    /* sums += scale . parts + minimum . x_sums */
    static __device__ __forceinline__ void apply(float2 scale, float2 minimum, const group_sums &of,
                                                 float (&sums)[4])
    {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            sums[i] = fmaf(i < 2 ? scale.x : scale.y, of.parts[i], sums[i]);
            if (T::minima)
                sums[i] = fmaf(i < 2 ? minimum.x : minimum.y, of.x_sums[i], sums[i]);
        }
    }

    /* The scales of a half of unit k, which one lane of four has. */
    static __device__ __forceinline__ void take_scales(const group_scales &groups, int k, int half,
                                                       float2 &scale, float2 &minimum)
    {
        scale = of_unit(groups.scale[half], k);
        scale.x *= code_factor<KIND, F16>();
        scale.y *= code_factor<KIND, F16>();
        if (T::minima)
            minimum = of_unit(groups.minimum[half], k);
    }

    /* sums += units first .. first + U - 1 of a step . x, half by half in turn. */
    template <bool FINE, int U>
    static __device__ __forceinline__ void
    multiply_units(const parameters &p, const block &b, const unit<KIND> (&units)[KT],
                   const group_scales &groups, int first, const uint4 (&x)[HELD][2], int step,
                   float (&sums)[CHAINS][4])
    {
        constexpr bool direct = T::plain || folds<KIND, F16>::value, int4 = T::int4 && !T::minima;
        constexpr bool together = GROUPED && !FINE && SHARING == U; /* one scale for all */
        static_assert(U <= CHAINS, "each into sums of its own");
        group_sums open[U] = {};
        uint32_t zeros[U];
#pragma unroll
        for (int i = 0; i < U; i++) {
            zeros[i] = 0x08080808u;
            if (int4 && p.zero)
                zeros[i] = __shfl_sync(0xffffffffu, groups.zeros, lane_of_unit(first + i));
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
#pragma unroll
            for (int i = 0; i < U; i++) {
                const uint4 &columns = x[step * KT + first + i][half];
                group_sums &into = open[together ? 0 : i];
                add_up_x<KIND, F16>(columns, into.x_sums);
#pragma unroll
                for (int term = 0; term < T::terms; term++) {
                    uint32_t a[2][4];
                    open_operands(b, units[first + i], zeros[i], half, term, a);
                    float(&to)[4] = direct ? sums[i] : into.parts;
                    mma<F16>(to, a[0], columns.x, columns.y);
                    mma<F16>(to, a[1], columns.z, columns.w);
                }
            }
            if (direct || (GROUPED && !FINE && half == 0))
                continue;
#pragma unroll
            for (int i = 0; i < (together ? 1 : U); i++) {
                float2 scale, minimum = {};
                if (GROUPED)
                    take_scales(groups, first + i, half, scale, minimum);
                else
                    scale = scales_of_sums<KIND, F16>(p, b, units[first + i], 0, half).scale;
                apply(scale, minimum, open[i], sums[i]);
                open[i] = {};
            }
        }
    }

    /* The first `count` units of a step. */
    template <bool FINE>
    static __device__ __forceinline__ void
    multiply_step(const parameters &p, const block &b, const unit<KIND> (&units)[KT],
                  const group_scales &groups, int count, int step, const uint4 (&x)[HELD][2],
                  float (&sums)[CHAINS][4])
    {
#pragma unroll
        for (int k = 0; k < KT; k += CHAINS) {
            constexpr int U = KT < CHAINS ? KT : CHAINS;
            if (k + U <= count) {
                multiply_units<FINE, U>(p, b, units, groups, k, x, step, sums);
            } else if (k < count) {
                keep_apart(); /* or the first of two would be made one with this, and come alone */
                multiply_units<FINE, 1>(p, b, units, groups, k, x, step, sums);
            }
        }
    }

    /* ---- rows of w ---- */

    /* Exponents of ue8m0 scales as they are folded in. */
    template <bool SHIFTED>
    static __device__ __forceinline__ block open_shifts(const parameters &p, const uint8_t *matrix,
                                                        int row_block)
    {
        block b = {};
        if (T::mx) {
            b.mx[0] = b.mx[1] = mx_base<KIND>(0);
            if (SHIFTED)
                b = open_block<KIND>(p, matrix, row_block);
        }
        return b;
    }

    /* ---- finishing ---- */

    /* What finishes the 16 rows of w of a row block, as it stands in memory. */
    struct finishing {
        float factors[16], bias[16];
        uint8_t shifts[16];
        uint32_t flags, unused[3];
    };
    static_assert(sizeof(finishing) == FINISH, "room for it");

    /* Brings it to shared memory with the next stage that is fetched: a warp a row block. */
    static __device__ __forceinline__ void fetch_finishing(const parameters &p, const span &of,
                                                           const uint8_t *matrix, int expert,
                                                           int count, const uint8_t *slots)
    {
        int lane = threadIdx.x % 32;
        for (int row = of.first + int(threadIdx.x) / 32; row < of.stop; row += WARPS) {
            int row_block = row - of.entry * p.row_blocks, n = row_block * 16 + lane % 16;
            uint32_t to = shared_address(slots) + (row - of.first) * row_bytes(count);
            if (lane >= 16) {
                bool some = p.bias && n < p.n;
                const float *from = some ? p.bias + int64_t(expert) * p.n + n : nullptr;
                copy_async_small<4>(to + offsetof(finishing, bias) + lane % 16 * 4,
                                    some ? static_cast<const void *>(from) : p.w, some);
            } else if (lane < 4) {
                copy_async(to + lane * 16, matrix + p.factors_at + row_block * 64 + lane * 16,
                           true);
            } else if (lane == 4) {
                copy_async_small<4>(to + offsetof(finishing, flags),
                                    matrix + p.flags_at + row_block * 4, true);
            } else if (lane >= 8 && lane < 12 && T::mx) {
                copy_async_small<4>(to + offsetof(finishing, shifts) + lane % 4 * 4,
                                    matrix + p.shifts_at + row_block * 16 + lane % 4 * 4, true);
            }
        }
    }

    /* As open_finisher, for rows `pair` and pair + 1. */
    static __device__ __forceinline__ finisher finisher_of(const parameters &p,
                                                           const finishing &from, int pair)
    {
        finisher f;
        f.factor = make_float2(from.factors[pair] * sum_factor<KIND, F16>(),
                               from.factors[pair + 1] * sum_factor<KIND, F16>());
        if (T::mx && folds<KIND, F16>::value && !p.unshifted) { /* 2^shift */
            f.factor.x *= __uint_as_float((127u + from.shifts[pair]) << 23);
            f.factor.y *= __uint_as_float((127u + from.shifts[pair + 1]) << 23);
        }
        f.nan[0] = from.flags >> pair / 2 & 1;
        f.nan[1] = from.flags >> (pair / 2 + 8) & 1;
        f.bias = make_float2(from.bias[pair], from.bias[pair + 1]);
        return f;
    }

    /* Sums of row block `row` of a span, warp and row of x: where the 16 stand. */
    static __device__ __forceinline__ float *slot_of(uint8_t *slots, int row, int warp, int count)
    {
        return reinterpret_cast<float *>(slots + row * row_bytes(count) + FINISH) +
               warp * count * 16;
    }

    static __device__ __forceinline__ void leave(float *slot, int count, bool add,
                                                 const float (&sums)[CHAINS][4])
    {
        int lane = threadIdx.x % 32, g = lane / 4, l = lane % 4;
#pragma unroll
        for (int odd = 0; odd < 2; odd++) {
            int r = l * 2 + odd;
            if (r >= count)
                continue;
            float2 *to = reinterpret_cast<float2 *>(slot + r * 16 + g * 2);
            float2 sum = make_float2(0.0f, 0.0f);
            if (add)
                sum = *to;
            sum.x += sums[0][odd] + sums[1][odd];
            sum.y += sums[0][odd + 2] + sums[1][odd + 2];
            *to = sum;
        }
    }

    /* Adds up what the warps left of a span, in the order of K, and stores it: a thread two rows of
     * w and one of x. */
    static __device__ __forceinline__ void finish(const parameters &p, const routing &list,
                                                  const span &of, bool known, int count,
                                                  uint8_t *slots)
    {
        int pair = threadIdx.x % 8 * 2;
        for (int i = threadIdx.x / 8; i < (of.stop - of.first) * count; i += THREADS / 8) {
            int row = count == 1 ? i : i / count, r = i - row * count;
            int n = (of.first + row - of.entry * p.row_blocks) * 16 + pair;
            const float *from = slot_of(slots, row, 0, count) + r * 16 + pair;
            float2 sum = make_float2(0.0f, 0.0f);
#pragma unroll
            for (int w = 0; w < WARPS; w++) {
                float2 v = make_float2(0.0f, 0.0f);
                if (w < p.stream_held)
                    v = *reinterpret_cast<const float2 *>(from + w * count * 16);
                sum.x += v.x, sum.y += v.y;
            }
            if (n >= p.n)
                continue;
            const uint8_t *finishes = slots + row * row_bytes(count);
            finisher f = finisher_of(p, *reinterpret_cast<const finishing *>(finishes), pair);
            if (!known)
                f.nan[0] = f.nan[1] = true;
            finish_pair(p, f, product_row(p, list, of.entry, r), n, sum.x, sum.y);
        }
    }

    /* ---- all ---- */

    template <bool SHIFTED, bool FINE>
    static __device__ __forceinline__ void run_all(const parameters &p, routing &list)
    {
        uint8_t *shared = dynamic_shared();
        int warp = threadIdx.x / 32;
        share s;
        allow_next_launch();
        if (p.experts) {
            wait_for_earlier_launches();
            s = share_entries(p, p.routed ? *p.tile_count : list.fill(p));
        } else {
            s.begin = p.stream_each * int(blockIdx.x) + min(int(blockIdx.x), p.stream_more);
            s.end = s.begin + p.stream_each + (int(blockIdx.x) < p.stream_more);
        }
        if (s.begin >= s.end)
            return;

        uint8_t *ring = shared + TABLE + warp * DEPTH * STAGE;
        uint8_t *slots = shared + TABLE + RING;
        int offset = 0;
        cursor ahead;
        ahead.pass = 0;
        ahead.row = ahead.first = s.begin;
        ahead.stop = end_of_reading(p, s, list, s.begin);
        ahead.codes = ahead.scales = ahead.zeros = p.w;
        open_row(p, list, ahead);
        if (ahead.left == 0)
            open_pass(p, s, list, ahead);
        if (TABLED)
            fill_table(shared);
        span of = open_span(p, s, list, s.begin);
        uint4 columns[HELD][2];
        int held_entry = of.entry, held_pass = 0;
        /* x is asked for before most of w, behind which it would wait. */
        int early = p.experts ? 0 : EARLY;
#pragma unroll 1
        for (int i = 0; i < early; i++)
            fetch(p, s, list, ahead, shared_address(ring) + i * STAGE);
        if (!p.experts)
            wait_for_earlier_launches();
        load_columns(p, list, of.entry, 0, columns);
#pragma unroll 1
        for (int i = early; i < DEPTH; i++)
            fetch(p, s, list, ahead, shared_address(ring) + i * STAGE);
        if (TABLED)
            __syncthreads();
#pragma unroll 1
        while (true) {
            int expert = expert_of(p, list, of.entry), count = rows_of(p, list, of.entry);
            bool known = !p.experts || (expert >= 0 && expert < p.experts);
            expert = known ? expert : 0;
            const uint8_t *matrix = p.w + expert * p.matrix_bytes;
            fetch_finishing(p, of, matrix, expert, count, slots);
#pragma unroll 1
            for (int pass = 0; pass < p.stream_passes; pass++) {
                run_of_units run = open_run(p, pass);
                if (held_entry != of.entry || held_pass != pass) {
                    load_columns(p, list, of.entry, pass, columns);
                    held_entry = of.entry, held_pass = pass;
                }
#pragma unroll 1
                for (int row = of.first; row < of.stop; row++) {
                    int row_block = row - of.entry * p.row_blocks;
                    block from = open_shifts<SHIFTED>(p, matrix, row_block);
                    float sums[CHAINS][4] = {};
#pragma unroll
                    for (int step = 0; step < HELD / KT; step++) {
                        if (step * KT >= run.count)
                            break;
                        unit<KIND> units[KT];
                        group_scales groups;
                        copy_async_wait<DEPTH - 1>();
                        __syncwarp();
                        take(p, row_block, run.u + step * KT, ring + offset, units, groups);
                        __syncwarp();
                        fetch(p, s, list, ahead, shared_address(ring) + offset);
                        offset = offset + STAGE == DEPTH * STAGE ? 0 : offset + STAGE;
                        multiply_step<FINE>(p, from, units, groups, run.count - step * KT, step,
                                            columns, sums);
                    }
                    leave(slot_of(slots, row - of.first, warp, count), count, pass > 0, sums);
                }
            }
            copy_async_commit(); /* what finishes, where no stage was fetched since */
            copy_async_wait<0>();
            __syncthreads();
            finish(p, list, of, known, count, slots);
            if (of.stop >= s.end)
                break;
            __syncthreads(); /* before slots are written again */
            of = open_span(p, s, list, of.stop);
        }
        copy_async_wait<0>();
    }

    /* Twice: most MX weights have no shifts, and need not ask for them in every row block; most
     * groups are of whole units, and a run of more than one begins at an even one. */
    static __device__ __forceinline__ void run(const parameters &p)
    {
        constexpr bool folded = T::mx && folds<KIND, F16>::value;
        __shared__ routing list;
        if (folded && !p.unshifted)
            run_all<true, false>(p, list);
        else if (GROUPED && p.group_shift < 5 + SHARING)
            run_all<false, true>(p, list);
        else
            run_all<false, false>(p, list);
    }
};

} // namespace
