/* SPDX-License-Identifier: Apache-2.0
 *
 * The streaming form s2 of cuda_sm80_upcast: 9 to 16 rows of x, so that reading w is all the work.
 * Like s1 (cuda_sm80_held.cuh), with x in half of the registers: codes of two units at a time, and
 * one chain of sums for each eight rows of x. One block a multiprocessor, each with an equal run of
 * the product's row blocks, so that no sums are shared between blocks. In every row block a warp
 * has the same run of K, and x of that run in registers; where K is longer than all warps hold, it
 * is done in passes. Codes and scales come by cp.async, DEPTH steps (of KT units) ahead, across row
 * blocks, passes and experts. A warp leaves its sums in shared memory; after as many row blocks as
 * that has room for, they are added up in the order of K.
 */
#pragma once

#include "cuda_sm80_held.cuh"

namespace
{

template <int KIND, bool F16> struct stream {
    using T = kind_traits<KIND>;
    using narrow = held<KIND, F16>; /* s1: what does not depend on rows of x is its */
    static constexpr int WARPS = GEMMUX_UPCAST_STREAM_WARPS, THREADS = WARPS * 32;
    static constexpr int ROWS = 16, NT = 2; /* of x; in eights, as the matrix unit takes them */
    static constexpr int HELD = GEMMUX_UPCAST_STREAM_HELD; /* units of x in a warp's registers */
    static constexpr bool GROUPED = !T::plain && !T::mx && !T::nv;
    /* NF4 by table: the two values of each byte, once for each bank of shared memory. */
    static constexpr bool TABLED = KIND == GEMMUX_UPCAST_nf4;
    static constexpr int TABLE = TABLED ? 256 * 32 * 4 : 0; /* bytes */
    /* Units a step: 2 KiB of codes where stages of that size leave room for sums. */
    static constexpr int KT = T::bits == 16 ? 1 : T::bits == 8 || GROUPED ? 2 : 4;
    /* Units whose codes are in registers at once, half of which x takes. */
    static constexpr int PART = KT == 4 ? 2 : 1;
    static constexpr int CODES = KT * T::bits * 128; /* bytes a step */
    /* Behind the codes of a stage: scales, and zero points or minima, of each pair of rows. */
    static constexpr int SCALE = T::plain ? 0 : T::mx ? 4 : T::nv ? 8 : 16;
    static constexpr int ZERO = T::minima ? 16 : T::int4 ? 4 : 0;
    static constexpr int STAGE = CODES + KT * 8 * (SCALE + ZERO);
    /* Sums of a warp, row block and row of x: 16. All of shared memory behind the ring holds them:
     * at least those of a row block. */
    static constexpr int SUMS = WARPS * 16 * 4; /* bytes */
    static constexpr int DEPTH =
        (GEMMUX_UPCAST_STREAM_SMEM - TABLE - ROWS * SUMS) / (WARPS * STAGE);
    static constexpr int RING = WARPS * DEPTH * STAGE;
    static_assert(DEPTH >= 2 && HELD % KT == 0, "whole steps, and more than one under way");

    using routing = short_routing<ROWS>;

    using share = typename narrow::share;

    /* Row blocks [first, stop) of one group of rows of x, whose sums there is room for. */
    struct span {
        int first, stop, entry;
    };

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
        int room = (p.stream_smem - TABLE - RING) / (SUMS * max(1, rows_of(p, list, of.entry)));
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
        narrow::fetch_pair(p, to + (g * KT + k) * 16, c.scales + at * each, valid);
        if (T::minima) {
            narrow::fetch_pair(p, to + KT * 128 + (g * KT + k) * 16, c.zeros + at * each, valid);
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

    static __device__ __forceinline__ group_scales take_groups(const parameters &p, int row_block,
                                                               int u, const uint8_t *scales)
    {
        int lane = threadIdx.x % 32, g = lane / 4, k = lane % 4;
        group_scales of;
        k = k < KT ? k : 0;
        bool odd = p.scale_block && (row_block * p.groups + scale_offset(p, u + k)) & 1;
        const uint8_t *pair = scales + (g * KT + k) * 16;
        narrow::widen(p, *reinterpret_cast<const uint4 *>(pair), odd, of.scale);
        if (T::minima)
            narrow::widen(p, *reinterpret_cast<const uint4 *>(pair + KT * 128), odd, of.minimum);
        of.zeros = 0x08080808u;
        if (T::int4 && !T::minima && p.zero) {
            uint32_t v = *reinterpret_cast<const uint32_t *>(scales + KT * 128 + (g * KT + k) * 4);
            of.zeros = p.fine ? v : prmt(v, 0, g % 2 ? 0x3232 : 0x1010);
        }
        return of;
    }

    /* Units first .. first + PART - 1 of a stage to registers. */
    static __device__ __forceinline__ void take(const parameters &p, int row_block, int u,
                                                const uint8_t *stage, int first,
                                                unit<KIND> (&to)[KT], group_scales &groups)
    {
        int lane = threadIdx.x % 32, g = lane / 4, l = lane % 4;
        const uint8_t *scales = stage + CODES;
#pragma unroll
        for (int k = first; k < first + PART; k++) {
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
        if (GROUPED && first == 0)
            groups = take_groups(p, row_block, u, scales);
    }

    /* ---- multiplying ---- */

    /* x of a run, of which units exist `count`: this lane's columns. Rows of x that do not exist
     * are any other: nobody looks at their sums. Most runs end before K does, and ask once. */
    static __device__ __forceinline__ void hold_x(const parameters &p, const routing &list,
                                                  int entry, const run_of_units &run,
                                                  uint4 (&columns)[HELD][2][NT])
    {
        int g = threadIdx.x % 32 / 4, l = threadIdx.x % 4, rows = rows_of(p, list, entry);
        const uint4 *from[NT];
#pragma unroll
        for (int t = 0; t < NT; t++) {
            int r = t * 8 + g, row = product_row(p, list, entry, r < rows ? r : 0);
            from[t] = reinterpret_cast<const uint4 *>(x_row(p, row)) + l + run.u * 8;
        }
        if (run.count == HELD && (run.u + HELD) * 64 <= p.k) {
#pragma unroll
            for (int i = 0; i < HELD * 2 * NT; i++)
                columns[i / (2 * NT)][i / NT % 2][i % NT] = __ldg(from[i % NT] + i / NT * 4);
            return;
        }
        int left = min(p.k, (run.u + run.count) * 64) - run.u * 64 - l * 8;
#pragma unroll
        for (int i = 0; i < HELD * 2 * NT; i++) {
            uint4 &to = columns[i / (2 * NT)][i / NT % 2][i % NT];
            to = make_uint4(0, 0, 0, 0);
            if (i / NT * 32 < left)
                to = __ldg(from[i % NT] + i / NT * 4);
        }
    }

    /* Columns 8l .. 8l + 7 of a half, of rows 2g and 2g + 1 of w. */
    static __device__ __forceinline__ void decode_rows(const block &b, const unit<KIND> &from,
                                                       uint32_t zeros, int half, int term,
                                                       uint32_t (&rows)[2][4])
    {
        uint32_t by[2], minus[2] = {};
        multipliers_of<KIND, F16>(b, from, half, by);
        if (T::minima) {
            minus[0] = minus[1] = F16 ? 0xe400e400u : 0xc300c300u;
        } else if (T::int4) {
            constexpr uint32_t base = F16 ? 0xe4e4e4e4u : 0xc3c3c3c3u;
            minus[0] = prmt(zeros, base, 0x4040u + half * 2 * 0x0101u);
            minus[1] = prmt(zeros, base, 0x4040u + (half * 2 + 1) * 0x0101u);
        }
#pragma unroll
        for (int odd = 0; odd < 2; odd++) {
            const uint32_t *words = row_words<KIND>(from, half, odd);
            if (TABLED)
                narrow::look_up(*words, rows[odd]);
            else
                decode<KIND, F16>(words, by[odd], minus[odd], term, rows[odd]);
        }
    }

    /* sums += a half of a unit . x: sums[t] of rows 2g and 2g + 1 of w, and 8t + 2l and one more of
     * x. */
    static __device__ __forceinline__ void multiply_half(const uint32_t (&w)[2][4],
                                                         const uint4 (&x)[NT], float (&sums)[NT][4])
    {
        const uint32_t first[4] = {w[0][0], w[1][0], w[0][1], w[1][1]};
        const uint32_t second[4] = {w[0][2], w[1][2], w[0][3], w[1][3]};
#pragma unroll
        for (int t = 0; t < NT; t++)
            mma<F16>(sums[t], first, x[t].x, x[t].y);
#pragma unroll
        for (int t = 0; t < NT; t++)
            mma<F16>(sums[t], second, x[t].z, x[t].w);
    }

    /* What minima multiply: sums of x over a half, where multiply_half leaves those of products. */
    static __device__ __forceinline__ void add_up_half(const uint4 (&x)[NT], float (&sums)[NT][4])
    {
        if (!T::minima)
            return;
        const uint32_t ones[2][4] = {{one2<F16>(), one2<F16>(), one2<F16>(), one2<F16>()},
                                     {one2<F16>(), one2<F16>(), one2<F16>(), one2<F16>()}};
        multiply_half(ones, x, sums);
    }

    /* Of what lanes 4g + k hold for rows 2g and 2g + 1 of w: that for this lane's sums. */
    static __device__ __forceinline__ float2 of_unit(float2 mine, int k)
    {
        int from = threadIdx.x % 32 / 4 * 4 + k;
        return make_float2(__shfl_sync(0xffffffffu, mine.x, from),
                           __shfl_sync(0xffffffffu, mine.y, from));
    }

    /* sums += parts, scaled */
    static __device__ __forceinline__ void add_scaled(const float (&parts)[NT][4], float2 scale,
                                                      float (&sums)[NT][4])
    {
#pragma unroll
        for (int t = 0; t < NT; t++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                sums[t][i] = fmaf(i < 2 ? scale.x : scale.y, parts[t][i], sums[t][i]);
    }

    /* sums += unit k of a step . x. EXTRA: each half of a unit has its own scales. */
    template <bool EXTRA>
    static __device__ __forceinline__ void
    multiply_unit(const parameters &p, const block &b, const unit<KIND> &from,
                  const group_scales &groups, int k, const uint4 (&x)[2][NT], float (&sums)[NT][4])
    {
        constexpr bool direct = T::plain || folds<KIND, F16>::value;
        uint32_t zeros = 0;
        if (T::int4 && !T::minima)
            zeros = __shfl_sync(0xffffffffu, groups.zeros, threadIdx.x % 32 / 4 * 4 + k);
        float parts[NT][4] = {}, x_sums[NT][4] = {};
#pragma unroll
        for (int half = 0; half < 2; half++) {
            add_up_half(x[half], x_sums);
#pragma unroll
            for (int term = 0; term < T::terms; term++) {
                uint32_t w[2][4];
                decode_rows(b, from, zeros, half, term, w);
                multiply_half(w, x[half], direct ? sums : parts);
            }
            if (direct || (GROUPED && !EXTRA && half == 0))
                continue; /* both halves have one scale */
            float2 scale = GROUPED ? of_unit(groups.scale[half], k)
                                   : scales_of_sums<KIND, F16>(p, b, from, 0, half).scale;
            if (GROUPED)
                scale.x *= code_factor<KIND, F16>(), scale.y *= code_factor<KIND, F16>();
            add_scaled(parts, scale, sums);
            if (T::minima)
                add_scaled(x_sums, of_unit(groups.minimum[half], k), sums);
#pragma unroll
            for (int i = 0; i < NT * 4; i++)
                parts[i / 4][i % 4] = x_sums[i / 4][i % 4] = 0.0f;
        }
    }

    /* Of units first .. first + PART - 1 of a step those before `count`, two at a time so that
     * their products overlap: what is behind the last of a run is all zeros. */
    template <bool EXTRA>
    static __device__ __forceinline__ void
    multiply_step(const parameters &p, const block &b, const unit<KIND> (&units)[KT],
                  const group_scales &groups, int count, int step, int first,
                  const uint4 (&columns)[HELD][2][NT], float (&sums)[NT][4])
    {
        auto multiply = [&](int k) {
            multiply_unit<EXTRA>(p, b, units[k], groups, k, columns[step * KT + k], sums);
        };
#pragma unroll
        for (int k = first; k < first + PART; k += 2) {
            if (k >= count)
                break;
            multiply(k);
            if (k + 1 < first + PART)
                multiply(k + 1 < KT ? k + 1 : k);
        }
    }

    /* ---- rows of w ---- */

    /* Exponents of ue8m0 scales as they are folded in. EXTRA: with the rows' shifts. */
    template <bool EXTRA>
    static __device__ __forceinline__ block open_shifts(const parameters &p, const uint8_t *matrix,
                                                        int row_block)
    {
        block b = {};
        if (T::mx) {
            b.mx[0] = b.mx[1] = mx_base<KIND>(0);
            if (EXTRA)
                b = open_block<KIND>(p, matrix, row_block);
        }
        return b;
    }

    /* ---- finishing ---- */

    /* What finishing will load: a thread 16 rows of w. */
    static __device__ __forceinline__ void prefetch_finishers(const parameters &p, const span &of,
                                                              const uint8_t *matrix, int expert)
    {
        int row = of.first + int(threadIdx.x), n = (row - of.entry * p.row_blocks) * 16;
        if (row >= of.stop)
            return;
        prefetch(matrix + p.factors_at + int64_t(n) * 4);
        prefetch(matrix + p.flags_at + n / 16 * 4);
        if (p.bias)
            prefetch(p.bias + int64_t(expert) * p.n + n);
    }

    /* Sums of row block `row` of a span, warp and row of x: where the 16 stand. */
    static __device__ __forceinline__ int slot_of(int row, int warp, int count)
    {
        return (row * WARPS + warp) * count * 16;
    }

    /* There, the sums of row r of x and rows 2g and 2g + 1 of w; swapped so that lanes meet most
     * banks. */
    static __device__ __forceinline__ float2 *pair_at(float *slot, int r, int g)
    {
        return reinterpret_cast<float2 *>(slot) + r * 8 + (g ^ (r & 4));
    }

    static __device__ __forceinline__ void leave(float *slot, int count, bool add,
                                                 const float (&sums)[NT][4])
    {
        int lane = threadIdx.x % 32, g = lane / 4, l = lane % 4;
        float2 old[2 * NT] = {}; /* of the pass before */
#pragma unroll
        for (int i = 0; i < 2 * NT && add; i++) {
            int r = i / 2 * 8 + l * 2 + i % 2;
            if (r < count)
                old[i] = *pair_at(slot, r, g);
        }
#pragma unroll
        for (int i = 0; i < 2 * NT; i++) {
            int t = i / 2, odd = i % 2, r = t * 8 + l * 2 + odd;
            if (r < count)
                *pair_at(slot, r, g) =
                    make_float2(old[i].x + sums[t][odd], old[i].y + sums[t][odd + 2]);
        }
    }

    /* Adds up what the warps left of a span, and stores it. */
    static __device__ __forceinline__ void finish(const parameters &p, const routing &list,
                                                  const span &of, float *slots)
    {
        int expert = expert_of(p, list, of.entry), count = rows_of(p, list, of.entry);
        bool known = !p.experts || (expert >= 0 && expert < p.experts);
        expert = known ? expert : 0;
        for (int i = threadIdx.x; i < (of.stop - of.first) * count * 8; i += THREADS) {
            int row = i / (count * 8), r = i / 8 - row * count, pair = i % 8 * 2;
            int n = (of.first + row - of.entry * p.row_blocks) * 16 + pair;
            float2 sum = make_float2(0.0f, 0.0f);
#pragma unroll 4
            for (int w = 0; w < p.stream_held; w++) {
                float2 v = *pair_at(slots + slot_of(row, w, count), r, pair / 2);
                sum.x += v.x, sum.y += v.y;
            }
            if (n >= p.n)
                continue;
            finisher f = open_finisher<KIND, F16>(p, p.w + expert * p.matrix_bytes, expert, n);
            if (!known)
                f.nan[0] = f.nan[1] = true;
            finish_pair(p, f, product_row(p, list, of.entry, r), n, sum.x, sum.y);
        }
    }

    /* ---- all ---- */

    template <bool EXTRA>
    static __device__ __forceinline__ void run_all(const parameters &p, routing &list)
    {
        uint8_t *shared = dynamic_shared();
        int warp = threadIdx.x / 32;
        share s;
        allow_next_launch();
        if (p.experts) {
            wait_for_earlier_launches();
            s = narrow::share_entries(p, p.routed ? *p.tile_count : list.fill(p));
        } else {
            s.begin = p.stream_each * int(blockIdx.x) + min(int(blockIdx.x), p.stream_more);
            s.end = s.begin + p.stream_each + (int(blockIdx.x) < p.stream_more);
        }
        if (s.begin >= s.end)
            return;

        uint8_t *ring = shared + TABLE + warp * DEPTH * STAGE;
        float *slots = reinterpret_cast<float *>(shared + TABLE + RING);
        int offset = 0;
        cursor ahead;
        ahead.pass = 0;
        ahead.row = ahead.first = s.begin;
        ahead.stop = end_of_reading(p, s, list, s.begin);
        ahead.codes = ahead.scales = ahead.zeros = p.w;
        open_row(p, list, ahead);
        if (ahead.left == 0)
            open_pass(p, s, list, ahead);
#pragma unroll 1
        for (int i = 0; i < DEPTH; i++)
            fetch(p, s, list, ahead, shared_address(ring) + i * STAGE);

        if (TABLED) {
            narrow::fill_table(shared);
            __syncthreads();
        }
        if (!p.experts)
            wait_for_earlier_launches();
        int held_entry = -1, held_pass = 0;
        uint4 columns[HELD][2][NT];
#pragma unroll 1
        for (int first = s.begin; first < s.end;) {
            span of = open_span(p, s, list, first);
            int expert = expert_of(p, list, of.entry), count = rows_of(p, list, of.entry);
            if (expert < 0 || expert >= p.experts)
                expert = 0;
            const uint8_t *matrix = p.w + expert * p.matrix_bytes;
            prefetch_finishers(p, of, matrix, expert);
#pragma unroll 1
            for (int pass = 0; pass < p.stream_passes; pass++) {
                run_of_units run = open_run(p, pass);
                if (held_entry != of.entry || held_pass != pass) {
                    hold_x(p, list, of.entry, run, columns);
                    held_entry = of.entry, held_pass = pass;
                }
#pragma unroll 1
                for (int row = of.first; row < of.stop; row++) {
                    int row_block = row - of.entry * p.row_blocks;
                    block from = open_shifts<EXTRA>(p, matrix, row_block);
                    float sums[NT][4] = {};
#pragma unroll
                    for (int step = 0; step < HELD / KT; step++) {
                        if (step * KT >= run.count)
                            break;
                        unit<KIND> units[KT];
                        group_scales groups;
                        copy_async_wait<DEPTH - 1>();
                        __syncwarp();
#pragma unroll
                        for (int k = 0; k < KT; k += PART) {
                            take(p, row_block, run.u + step * KT, ring + offset, k, units, groups);
                            if (k + PART == KT) {
                                __syncwarp();
                                fetch(p, s, list, ahead, shared_address(ring) + offset);
                                offset = offset + STAGE == DEPTH * STAGE ? 0 : offset + STAGE;
                            }
                            multiply_step<EXTRA>(p, from, units, groups, run.count - step * KT,
                                                 step, k, columns, sums);
                        }
                    }
                    leave(slots + slot_of(row - of.first, warp, count), count, pass > 0, sums);
                }
            }
            __syncthreads();
            finish(p, list, of, slots);
            first = of.stop;
            if (first < s.end)
                __syncthreads(); /* before slots are written again */
        }
        copy_async_wait<0>();
    }

    /* Twice: most MX weights have no shifts, and need not ask for them in every row block; of other
     * scales most are those of a whole unit, and are applied once. */
    static __device__ __forceinline__ void run(const parameters &p)
    {
        __shared__ routing list;
        if (GROUPED ? p.fine : T::mx && folds<KIND, F16>::value && !p.unshifted)
            run_all<true>(p, list);
        else
            run_all<false>(p, list);
    }
};

} // namespace
