/* SPDX-License-Identifier: Apache-2.0
 *
 * The streaming form s2 of cuda_sm80_upcast: up to 16 rows of x, so that reading w is all the work.
 * One block a multiprocessor, each with an equal run of the product's row blocks, so that no
 * sums are shared between blocks; they are cut into chunks, and a chunk's steps (KT units along K)
 * are dealt to the warps in equal runs, wherever row blocks end. Codes and scales come by cp.async,
 * DEPTH steps a warp ahead, across the ends of chunks; x comes through L1. A warp leaves its sums
 * of each row block that it meets in shared memory; at the end of a chunk they are added up in the
 * order of K.
 */
#pragma once

#include "cuda_sm80_routing.cuh"

namespace
{

template <int KIND, bool F16> struct stream {
    using T = kind_traits<KIND>;
    static constexpr int NT = 2; /* columns of y by eight, which the matrix unit takes */
    static constexpr int WARPS = GEMMUX_UPCAST_STREAM_WARPS;
    static constexpr int THREADS = WARPS * 32, ROWS = NT * 8;
    static constexpr int KT = T::bits == 4 ? 2 : 1;  /* units a step */
    static constexpr int CODES = KT * T::bits * 128; /* bytes a step */
    static constexpr int CHUNK = 16;                 /* row blocks at most */
    /* Behind the codes of a stage: scales, and zero points or minima, of each pair of rows. */
    static constexpr int SCALE = T::plain ? 0 : T::mx ? 4 : 8;
    static constexpr int ZERO = T::minima ? 8 : T::int4 ? 4 : 0;
    static constexpr int STAGE = CODES + KT * 8 * (SCALE + ZERO);
    /* Sums of warp w and row block r of a chunk stand in slot w + r. */
    static constexpr int SLOT = NT * 128, SLOTS = WARPS + CHUNK - 1;
    /* The rest of shared memory holds what is under way. */
    static constexpr int DEPTH = (GEMMUX_UPCAST_STREAM_SMEM - SLOTS * SLOT * 4) / (WARPS * STAGE);
    static constexpr int RING = WARPS * DEPTH * STAGE;
    static_assert(DEPTH >= 2, "shared memory");

    using routing = short_routing<ROWS>;

    /* This block's share: row blocks [begin, end) of all groups of rows of x one after the other,
     * in chunks of `chunk`; steps a row block. */
    struct share {
        int begin, end, chunk, steps;
    };

    /* A warp's run of steps in one chunk: some may have none. */
    struct run_of_steps {
        int first, count; /* row blocks of the chunk */
        int v, stop;      /* step within the chunk */
        int row;          /* row block of step v, within the chunk */
    };

    /* Steps of a chunk are fewer than 2^31 / WARPS: they fill more memory than a device has. */
    static __device__ __forceinline__ run_of_steps open_run(const share &s, int first)
    {
        run_of_steps c;
        int warp = threadIdx.x / 32;
        c.first = first;
        c.count = min(s.chunk, s.end - first);
        unsigned total = unsigned(c.count * s.steps);
        c.v = int(total * warp / WARPS);
        c.stop = int(total * (warp + 1) / WARPS);
        c.row = c.count * warp / WARPS; /* v / steps, as both are rounded down */
        return c;
    }

    /* Which warps hold sums of each row block of a chunk. */
    struct holders {
        uint8_t first[CHUNK], last[CHUNK];
    };

    /* ---- loading ---- */

    /* Where this warp will read next, DEPTH steps ahead of what it multiplies. */
    struct cursor {
        run_of_steps run;
        int row_stop, u, row_block; /* step at which this warp leaves the row block; unit */
        const uint8_t *codes;       /* this lane's part of unit u */
        /* MX and NV: this lane's scales of units u .. u + KT - 1; else of the row block. */
        const uint8_t *scales, *zeros;
    };

    /* Scales that are not beside their unit: of groups of any length, with zero points. */
    static __device__ __forceinline__ void fetch_groups(const parameters &p, const cursor &c,
                                                        uint32_t to)
    {
        int lane = threadIdx.x % 32, g = lane / 4, k = lane % 4;
        if (k >= KT)
            return;
        bool valid = c.u + k < p.units;
        int at = scale_offset(p, valid ? c.u + k : 0), each = scale_bytes(p);
        const uint8_t *scales = c.scales + at * each, *minima = c.zeros + at * each;
        uint32_t pair = to + (g * KT + k) * 8;
        if (p.scale_block) { /* one, maybe of two bytes: the word that it is in */
            copy_async_small<4>(pair, scales - (reinterpret_cast<uintptr_t>(scales) & 3), valid);
            if (T::minima)
                copy_async_small<4>(pair + KT * 64,
                                    minima - (reinterpret_cast<uintptr_t>(minima) & 3), valid);
        } else if (each * (p.fine ? 2 : 1) == 2) {
            copy_async_small<4>(pair, scales, valid);
            if (T::minima)
                copy_async_small<4>(pair + KT * 64, minima, valid);
        } else if (each * (p.fine ? 2 : 1) == 4) { /* else 16 bytes: read where they are used */
            copy_async_small<8>(pair, scales, valid);
            if (T::minima)
                copy_async_small<8>(pair + KT * 64, minima, valid);
        }
        if (T::int4 && !T::minima && p.zero) {
            const uint8_t *zeros = c.zeros + at;
            copy_async_small<4>(to + KT * 64 + (g * KT + k) * 4,
                                zeros - (reinterpret_cast<uintptr_t>(zeros) & 3), valid);
        }
    }

    static __device__ __forceinline__ void fetch_scales(const parameters &p, cursor &c, uint32_t to)
    {
        int lane = threadIdx.x % 32, g = lane / 4, k = lane % 4;
        if (T::nv) {
            if (KT == 4 || lane < KT * 8)
                copy_async_small<8>(to + lane * 8, c.scales, c.u + lane / 8 < p.units);
            c.scales += KT * 64;
        } else if (T::mx) {
            if (KT == 4 || k < KT)
                copy_async_small<4>(to + (g * KT + k) * 4, c.scales, c.u + k < p.units);
            c.scales += KT * 32;
        } else if (!T::plain) {
            fetch_groups(p, c, to);
        }
    }

    /* To the row block of step run.v, in the next chunk when this one's run is over. */
    static __device__ __forceinline__ void advance(const parameters &p, const share &s,
                                                   const routing &list, cursor &c)
    {
        while (c.run.v >= c.run.stop && c.run.first + c.run.count < s.end)
            c.run = open_run(s, c.run.first + c.run.count);
        c.row_stop = c.run.v; /* nothing to read, unless there is more */
        if (c.run.v >= c.run.stop)
            return;
        int r = c.run.row++, at = c.run.first + r, entry = p.experts ? at / p.row_blocks : 0;
        int expert = expert_of(p, list, entry);
        if (expert < 0 || expert >= p.experts)
            expert = 0;
        c.row_stop = min((r + 1) * s.steps, c.run.stop);
        c.u = (c.run.v - r * s.steps) * KT;
        c.row_block = at - entry * p.row_blocks;
        const uint8_t *matrix = p.w + int64_t(expert) * p.matrix_bytes;
        int lane = threadIdx.x % 32;
        int64_t unit = int64_t(c.row_block) * p.units + c.u;
        c.codes = matrix + unit * (128 * T::bits) + lane * 16;
        c.scales = matrix + p.scales_at;
        if (T::nv) {
            c.scales += unit * 64 + lane * 8;
        } else if (T::mx) {
            c.scales += (unit + lane % 4) * 32 + lane / 4 * 4;
        } else if (!T::plain) {
            int64_t first = int64_t(c.row_block) * p.groups;
            if (!p.scale_block)
                first = first * 16 + lane / 4 * (p.fine ? 4 : 2);
            c.scales += first * scale_bytes(p);
            c.zeros = matrix + p.zeros_at + first * (T::minima ? scale_bytes(p) : 1);
        }
    }

    static __device__ __forceinline__ void fetch(const parameters &p, const share &s,
                                                 const routing &list, cursor &c, uint32_t stage)
    {
        if (c.run.v >= c.row_stop)
            advance(p, s, list, c);
        if (c.run.v < c.row_stop) {
            uint32_t to = stage + threadIdx.x % 32 * 16;
#pragma unroll
            for (int k = 0; k < KT; k++)
#pragma unroll
                for (int i = 0; i < T::loads; i++)
                    copy_async(to + (k * T::loads + i) * 512, c.codes + (k * T::loads + i) * 512,
                               c.u + k < p.units);
            fetch_scales(p, c, stage + CODES);
            c.run.v++;
            c.u += KT;
            c.codes += CODES;
        }
        copy_async_commit();
    }

    /* A stage to registers. */
    static __device__ __forceinline__ void take(const parameters &p, int row_block, int u,
                                                const uint8_t *stage, unit<KIND> (&to)[KT])
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
            to[k].scale[0] = to[k].scale[1] = to[k].zero[0] = to[k].zero[1] = 0;
            if (T::nv) {
                to[k].scale[0] =
                    *reinterpret_cast<const uint32_t *>(scales + k * 64 + (g * 2 + l / 2) * 4);
            } else if (T::mx) {
                to[k].scale[0] = *reinterpret_cast<const uint32_t *>(scales + (g * KT + k) * 4);
            } else if (!T::plain) {
                const uint8_t *pair = scales + (g * KT + k) * 8;
                uint2 v = *reinterpret_cast<const uint2 *>(pair);
                to[k].scale[0] = v.x, to[k].scale[1] = v.y;
                if (p.scale_block && p.scale_code != GEMMUX_CODE_F32 &&
                    (row_block * p.groups + scale_offset(p, u + k)) & 1)
                    to[k].scale[0] >>= 16;
                if (T::minima) {
                    v = *reinterpret_cast<const uint2 *>(pair + KT * 64);
                    to[k].zero[0] = v.x, to[k].zero[1] = v.y;
                } else if (T::int4) {
                    to[k].zero[0] =
                        *reinterpret_cast<const uint32_t *>(scales + KT * 64 + (g * KT + k) * 4);
                    if (!p.fine && g % 2)
                        to[k].zero[0] >>= 16;
                }
            }
        }
    }

    /* ---- multiplying ---- */

    /* This lane's columns of unit u; at: of column 0. Rows of x that do not exist are any other:
     * nobody looks at their sums. */
    static __device__ __forceinline__ void load_x(const parameters &p, int u,
                                                  const char *const (&at)[NT], uint4 (&x)[2][NT])
    {
        int left = p.k - u * 64 - threadIdx.x % 4 * 8;
        if ((u + 1) * 64 <= p.k) {
#pragma unroll
            for (int i = 0; i < 2 * NT; i++)
                x[i / NT][i % NT] =
                    __ldg(reinterpret_cast<const uint4 *>(at[i % NT]) + u * 8 + i / NT * 4);
            return;
        }
#pragma unroll
        for (int i = 0; i < 2 * NT; i++) {
            x[i / NT][i % NT] = make_uint4(0, 0, 0, 0);
            if (i / NT * 32 < left)
                x[i / NT][i % NT] =
                    __ldg(reinterpret_cast<const uint4 *>(at[i % NT]) + u * 8 + i / NT * 4);
        }
    }

    /* Those of a step; most steps end before K does. */
    static __device__ __forceinline__ void
    load_step(const parameters &p, int u, const char *const (&at)[NT], uint4 (&x)[KT][2][NT])
    {
        if ((u + KT) * 64 <= p.k) {
#pragma unroll
            for (int t = 0; t < NT; t++) {
                const uint4 *from = reinterpret_cast<const uint4 *>(at[t] + u * 128);
#pragma unroll
                for (int i = 0; i < 2 * KT; i++)
                    x[i / 2][i % 2][t] = __ldg(from + i * 4);
            }
            return;
        }
#pragma unroll
        for (int k = 0; k < KT; k++)
            load_x(p, u + k, at, x[k]);
    }

    /* sums += unit . x */
    static __device__ __forceinline__ void multiply_unit(const parameters &p, const block &b,
                                                         const unit<KIND> &from, int u,
                                                         const uint4 (&x)[2][NT],
                                                         float (&sums)[NT][4])
    {
        constexpr bool direct = T::plain || folds<KIND, F16>::value;
        float parts[NT][4] = {}, x_sums[NT][4] = {};
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const uint4(&now)[NT] = x[half];
#pragma unroll
            for (int t = 0; t < NT; t++)
                add_up_x<KIND, F16>(now[t], x_sums[t]);
#pragma unroll
            for (int term = 0; term < T::terms; term++) {
                uint32_t a[2][4];
                operands_of<KIND, F16>(p, b, from, half, term, a);
#pragma unroll
                for (int t = 0; t < NT; t++) {
                    float(&to)[4] = direct ? sums[t] : parts[t];
                    mma<F16>(to, a[0], now[t].x, now[t].y);
                    mma<F16>(to, a[1], now[t].z, now[t].w);
                }
            }
            if (direct || (half == 0 && !p.fine && !T::mx))
                continue; /* both halves have one scale */
            sum_scales scales = scales_of_sums<KIND, F16>(p, b, from, u, half);
#pragma unroll
            for (int t = 0; t < NT; t++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    sums[t][i] =
                        fmaf(i < 2 ? scales.scale.x : scales.scale.y, parts[t][i], sums[t][i]);
                    if (T::minima)
                        sums[t][i] = fmaf(i < 2 ? scales.minimum.x : scales.minimum.y, x_sums[t][i],
                                          sums[t][i]);
                    parts[t][i] = x_sums[t][i] = 0.0f;
                }
        }
    }

    /* ---- finishing ---- */

    /* A pair of a chunk: columns of y 2g and 2g + 1 of its row block, rows 8t + 2l + odd of x. */
    struct pair_of_sums {
        int row, entry, n;
        __device__ __forceinline__ pair_of_sums(const parameters &p, int first, int index)
        {
            row = index / 64;
            entry = p.experts ? (first + row) / p.row_blocks : 0;
            n = (first + row - entry * p.row_blocks) * 16 + index % 32 / 4 * 2;
        }
    };

    /* What finishing will load: a thread 16 rows of w. */
    static __device__ __forceinline__ void
    prefetch_finishers(const parameters &p, const routing &list, const run_of_steps &c)
    {
        if (int(threadIdx.x) >= c.count)
            return;
        pair_of_sums of(p, c.first, threadIdx.x * 64);
        int expert = expert_of(p, list, of.entry);
        expert = expert >= 0 && expert < p.experts ? expert : 0;
        const uint8_t *matrix = p.w + expert * p.matrix_bytes;
        prefetch(matrix + p.factors_at + int64_t(of.n) * 4);
        prefetch(matrix + p.flags_at + of.n / 16 * 4);
        if (p.bias)
            prefetch(p.bias + int64_t(expert) * p.n + of.n);
    }

    static __device__ __forceinline__ void finish_chunk(const parameters &p, const routing &list,
                                                        const run_of_steps &c, const holders &held,
                                                        const float *slots)
    {
        for (int index = threadIdx.x; index < c.count * 64; index += THREADS) {
            pair_of_sums of(p, c.first, index);
            int from = held.first[of.row], to = held.last[of.row];
            float values[NT][2] = {};
            for (int w = from; w <= to; w++) {
                const float *slot = slots + (w + of.row) * SLOT + index % 64;
#pragma unroll
                for (int t = 0; t < NT; t++) {
                    values[t][0] += slot[t * 128];
                    values[t][1] += slot[t * 128 + 64];
                }
            }
            if (of.n >= p.n)
                continue;
            int expert = expert_of(p, list, of.entry);
            int count = rows_of(p, list, of.entry);
            bool known = !p.experts || (expert >= 0 && expert < p.experts);
            finisher f = open_finisher<KIND, F16>(p, p.w + (known ? expert : 0) * p.matrix_bytes,
                                                  known ? expert : 0, of.n);
            if (!known)
                f.nan[0] = f.nan[1] = true;
#pragma unroll
            for (int t = 0; t < NT; t++) {
                int r = t * 8 + index % 4 * 2 + index / 32 % 2;
                if (r < count)
                    finish_pair(p, f, product_row(p, list, of.entry, r), of.n, values[t][0],
                                values[t][1]);
            }
        }
    }

    /* ---- all ---- */

    /* This warp's run of a chunk; leaves its sums in their slots. */
    static __device__ __forceinline__ void multiply_run(const parameters &p, const share &s,
                                                        const routing &list, run_of_steps c,
                                                        cursor &ahead, uint8_t *ring, int &offset,
                                                        float *slots, holders &held)
    {
        int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, l = lane % 4;
        uint32_t ring_address = shared_address(ring);
        int r = c.row;
        do {
            int start = r * s.steps, end = min(start + s.steps, c.stop);
            int at = c.first + r, entry = p.experts ? at / p.row_blocks : 0;
            int row_block = at - entry * p.row_blocks;
            int expert = expert_of(p, list, entry);
            int count = rows_of(p, list, entry);
            bool known = !p.experts || (expert >= 0 && expert < p.experts);
            block b = open_block<KIND>(p, p.w + (known ? expert : 0) * p.matrix_bytes, row_block);
            const char *x[NT];
            /* Two chains, so that a product need not wait for the one before. */
            float sums[2][NT][4] = {};
            int u = (c.v - start) * KT;
#pragma unroll
            for (int t = 0; t < NT; t++) {
                int row = t * 8 + g;
                x[t] = x_row(p, product_row(p, list, entry, row < count ? row : 0)) + l * 16;
            }
            float *to = slots + (warp + r) * SLOT + lane;
            if (c.v >= c.stop) { /* no steps; but maybe between warps that share this row block */
#pragma unroll
                for (int i = 0; i < NT * 4 && c.v < start + s.steps; i++)
                    to[i * 32] = 0.0f;
                break;
            }
            if (lane == 0 && c.v == start)
                held.first[r] = uint8_t(warp);
            if (lane == 0 && end == start + s.steps)
                held.last[r] = uint8_t(warp);
            /* 16 rows of x miss L1 often: they are loaded a step ahead, into the registers that a
             * unit leaves. */
            uint4 columns[KT][2][NT];
            load_step(p, u, x, columns);
#pragma unroll 1
            for (; c.v < end; c.v++, u += KT) {
                unit<KIND> units[KT];
                copy_async_wait<DEPTH - 1>();
                __syncwarp();
                take(p, row_block, u, ring + offset, units);
                __syncwarp();
                fetch(p, s, list, ahead, ring_address + offset);
                offset = offset + STAGE == DEPTH * STAGE ? 0 : offset + STAGE;
#pragma unroll
                for (int k = 0; k < KT; k++) {
                    multiply_unit(p, b, units[k], u + k, columns[k], sums[k % 2]);
                    if (c.v + 1 < end)
                        load_x(p, u + KT + k, x, columns[k]);
                }
            }
#pragma unroll
            for (int i = 0; i < NT * 4; i++)
                to[i * 32] = sums[0][i / 4][i % 4] + sums[1][i / 4][i % 4];
            r++;
        } while (c.v < c.stop);
    }

    static __device__ __forceinline__ void run(const parameters &p)
    {
        __shared__ routing list;
        __shared__ holders held;
        uint8_t *shared = dynamic_shared();
        int entries = !p.experts ? 1 : p.routed ? *p.tile_count : list.fill(p);
        int all = entries * p.row_blocks, block = blockIdx.x, blocks = gridDim.x;
        int each = all / blocks, more = all - each * blocks;
        share s;
        s.begin = each * block + min(block, more);
        s.end = s.begin + each + (block < more);
        if (s.begin == s.end)
            return;
        s.chunk = s.end - s.begin;
        if (s.chunk > CHUNK) { /* equal ones */
            int chunks = (s.chunk + CHUNK - 1) / CHUNK;
            s.chunk = (s.chunk + chunks - 1) / chunks;
        }
        s.steps = p.k > 0 ? (p.units + KT - 1) / KT : 1;

        uint8_t *ring = shared + threadIdx.x / 32 * DEPTH * STAGE;
        float *slots = reinterpret_cast<float *>(shared + RING);
        int offset = 0;
        cursor ahead;
        ahead.run = open_run(s, s.begin);
        ahead.row_stop = ahead.u = ahead.row_block = 0;
        ahead.codes = ahead.scales = ahead.zeros = p.w;
#pragma unroll 1
        for (int i = 0; i < DEPTH; i++)
            fetch(p, s, list, ahead, shared_address(ring) + i * STAGE);
#pragma unroll 1
        for (int first = s.begin; first < s.end; first += s.chunk) {
            run_of_steps c = open_run(s, first);
            prefetch_finishers(p, list, c);
            multiply_run(p, s, list, c, ahead, ring, offset, slots, held);
            __syncthreads();
            finish_chunk(p, list, c, held, slots);
            if (first + s.chunk < s.end)
                __syncthreads(); /* before slots are written again */
        }
        copy_async_wait<0>();
    }
};

} // namespace
