/* SPDX-License-Identifier: Apache-2.0
 *
 * The tiles of cuda_sm90_upcast: 64 GROUPS rows of w by up to MAX rows of x, wgmma with w as the
 * operand in registers. A warp's 16 rows of a wgmma's A are exactly a row block of packing
 * sm80_fragments, so that the same packed weights serve both kernels. x comes "arranged": in the
 * order of K that the fragments have.
 *
 * One thread produces: bulk copies fill a ring of stages, some units of K each, with x's rows, w's
 * codes and scales. GROUPS warpgroups consume: they decode one unit into registers while the wgmma
 * of the unit before, or of another warpgroup, runs.
 */
#pragma once

#include "cuda_sm80_tile.cuh"
#include "cuda_sm90_tiling.cuh"
#include "cuda_sm90_upcast.h"

template <int KIND, bool F16, int MAX, int WANTED, int BOX, int GROUPS> struct wide {
    using T = kind_traits<KIND>;
    static constexpr bool direct = T::plain || folds<KIND, F16>::value;
    static constexpr int CONSUMERS = 4 * GROUPS, UNIT_BYTES = 128 * T::bits;     /* warps */
    static constexpr int UNITS = WANTED * T::bits <= 16 ? WANTED : 16 / T::bits; /* a stage */
    static constexpr int X_UNIT = MAX * 128, X_BYTES = UNITS * X_UNIT;
    static constexpr int CODE_BYTES = UNITS * CONSUMERS * UNIT_BYTES;
    static constexpr int UNIT_SCALES = T::plain ? 0 : T::mx ? 32 : T::nv ? 64 : 128; /* at most */
    static constexpr int SCALE_BYTES = UNITS * CONSUMERS * UNIT_SCALES;
    static constexpr int ZERO_BYTES = T::int4 ? UNITS * CONSUMERS * 32 : 0;
    static constexpr int STAGE_BYTES = X_BYTES + CODE_BYTES + SCALE_BYTES + ZERO_BYTES;
    static constexpr int STAGED = GROUPS > 3 ? 32 : 64; /* rows of 64 16-bit columns of y ... */
    static constexpr int STAGING = STAGED * (128 + 16); /* ... that a warpgroup has room for */
    static constexpr int FIT = (GEMMUX_SM90_SMEM - 2048 - GROUPS * STAGING) / STAGE_BYTES;
    static constexpr int STAGES = FIT < 16 ? FIT : 16;

    /* Addresses in shared memory. */
    struct shared {
        uint32_t x, codes, scales, zeros, staging, full, empty;
    };

    using ring = sm90_ring<STAGES>;
    using work = sm90_work;

    static __device__ __forceinline__ sm90_tiling tiling(const gemmux_sm90_parameters &p)
    {
        return {p.u.tiles, p.u.tile_count, p.u.experts,      p.section,
                p.items,   p.u.row_tiles,  p.u.token_tiles,  p.u.m,
                p.u.units, p.u.splits,     p.u.units_a_split};
    }

    /* Rows of x that wgmma takes for so many: of a few sizes only. */
    static __device__ __forceinline__ int rounded(int count)
    {
        return MAX > 128 ? MAX : count <= 32 ? 32 : count <= 64 ? 64 : count <= 96 ? 96 : 128;
    }

    static __device__ __forceinline__ const uint8_t *matrix_of(const gemmux_sm90_parameters &p,
                                                               const work &w)
    {
        return p.u.w + (w.known ? int64_t(w.expert) : 0) * p.u.matrix_bytes;
    }

    /* ---- producer: one thread ---- */

    static __device__ __forceinline__ int first_step(const gemmux_sm90_parameters &p, int u)
    {
        return int((int64_t(u) * 64) >> p.step_shift);
    }

    static __device__ __forceinline__ void produce(const gemmux_sm90_parameters &p,
                                                   const shared &at)
    {
        ring r;
        int total = sm90_items(tiling(p));
        int scale_bytes = p.steps_a_stage * p.scale_bytes;
        int zero_bytes = p.steps_a_stage * p.zero_bytes;
        for (int item = blockIdx.x; item < total; item += gridDim.x) {
            work w = sm90_find<MAX>(tiling(p), item);
            int matrix = w.known ? w.expert : 0, row_block = w.w_tile * CONSUMERS;
            int boxes = (rounded(w.count) + BOX - 1) / BOX;
            int bytes =
                UNITS * boxes * BOX * 128 + CODE_BYTES + CONSUMERS * (scale_bytes + zero_bytes);
            for (int u = w.begin; u < w.end; u += UNITS) {
                uint32_t full = at.full + 8 * r.stage;
                barrier_wait(at.empty + 8 * r.stage, r.phase ^ 1);
                barrier_expect(full, bytes);
                copy_tile3(at.codes + r.stage * CODE_BYTES, &p.codes, u * (UNIT_BYTES / 8),
                           row_block, matrix, full);
                if (scale_bytes)
                    copy_tile3(at.scales + r.stage * SCALE_BYTES, &p.scales,
                               first_step(p, u) * (p.scale_bytes / 8), row_block, matrix, full);
                if (zero_bytes)
                    copy_tile3(at.zeros + r.stage * ZERO_BYTES, &p.zeros,
                               first_step(p, u) * (p.zero_bytes / 8), row_block, matrix, full);
                for (int i = 0; i < boxes * UNITS; i++) {
                    int unit = i / boxes, box = i % boxes;
                    copy_tile(at.x + r.stage * X_BYTES + unit * X_UNIT + box * BOX * 128, &p.x,
                              (u + unit) * 64, w.first + box * BOX, full);
                }
                r.advance();
            }
        }
    }

    /* ---- consumers ---- */

    static __device__ __forceinline__ void read_small(uint32_t from, int bytes, uint32_t (&to)[2])
    {
        if (bytes == 8)
            read_shared8(from, to);
        else if (bytes == 4)
            to[0] = read_shared4(from);
        else
            to[0] = read_shared2(from);
    }

    /* What stands beyond K in the last stage is multiplied with zeros; it must not be NaN. */
    static __device__ __forceinline__ int last_unit(const gemmux_sm90_parameters &p, int u)
    {
        return min(u, p.u.units - 1);
    }

    /* Unit `index` of a stage whose first is u. */
    static __device__ __forceinline__ void read_unit(const gemmux_sm90_parameters &p,
                                                     const shared &at, const block &b, int stage,
                                                     int u, int index, unit<KIND> &to)
    {
        int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, l = lane % 4;
        uint32_t codes = at.codes + stage * CODE_BYTES + (warp * UNITS + index) * UNIT_BYTES;
        uint32_t scales = at.scales + stage * SCALE_BYTES;
#pragma unroll
        for (int i = 0; i < T::loads; i++) {
            uint4 v = read_shared16(codes + lane * 16 + i * 512);
            to.codes[4 * i] = v.x, to.codes[4 * i + 1] = v.y;
            to.codes[4 * i + 2] = v.z, to.codes[4 * i + 3] = v.w;
        }
        to.scale[0] = to.scale[1] = to.zero[0] = to.zero[1] = 0;
        if (T::plain)
            return;
        if (T::mx) {
            to.scale[0] = read_shared4(scales + (warp * UNITS + index) * 32 + g * 4);
        } else if (T::nv) {
            to.scale[0] = read_shared4(scales + (warp * UNITS + index) * 64 + (g * 2 + l / 2) * 4);
        } else {
            int each = p.u.scale_code == GEMMUX_CODE_F32 ? 4 : 2;
            int bytes = p.u.scale_block ? each : each * (p.u.fine ? 4 : 2);
            int step = warp * p.steps_a_stage + first_step(p, u + index) - first_step(p, u);
            if (p.u.scale_block)
                load_small(b.scales + scale_offset(p.u, last_unit(p, u + index)) * each, bytes,
                           to.scale);
            else if (bytes <= 8)
                read_small(scales + step * p.scale_bytes + g * bytes, bytes, to.scale);
            if (T::int4 && p.u.zero)
                read_small(at.zeros + stage * ZERO_BYTES + step * p.zero_bytes +
                               g * (p.u.fine ? 4 : 2),
                           p.u.fine ? 4 : 2, to.zero);
        }
    }

    /* INT4: -(128 or 1024, and the zero point) twice, for rows 2g + odd. */
    static __device__ __forceinline__ uint32_t minus_zero(const gemmux_sm90_parameters &p,
                                                          const unit<KIND> &from, int half, int odd)
    {
        uint32_t zero = 8;
        if (p.u.zero)
            zero = from.zero[0] >> (16 * (p.u.fine ? half : 0) + 8 * odd) & 255;
        return (F16 ? 0xe400e400u : 0xc300c300u) + zero * 0x00010001u;
    }

    /* The A operands of the unit's four wgmma. */
    static __device__ __forceinline__ void decode_unit(const gemmux_sm90_parameters &p,
                                                       const block &b, const unit<KIND> &from,
                                                       uint32_t (&a)[4][4])
    {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            uint32_t by[2], minus[2] = {}, even[4], odd[4];
            multipliers_of<KIND, F16>(b, from, half, by);
            if (T::int4) {
                minus[0] = minus_zero(p, from, half, 0);
                minus[1] = minus_zero(p, from, half, 1);
            }
            decode<KIND, F16>(row_words<KIND>(from, half, 0), by[0], minus[0], 0, even);
            decode<KIND, F16>(row_words<KIND>(from, half, 1), by[1], minus[1], 0, odd);
#pragma unroll
            for (int i = 0; i < 2; i++) {
                a[half * 2 + i][0] = even[2 * i], a[half * 2 + i][1] = odd[2 * i];
                a[half * 2 + i][2] = even[2 * i + 1], a[half * 2 + i][3] = odd[2 * i + 1];
            }
        }
    }

    /* Scales are in the operand: one accumulator for all of K. One unit's wgmma run while the next
     * one is decoded. */
    template <int N>
    static __device__ __forceinline__ void sum_direct(const gemmux_sm90_parameters &p,
                                                      const shared &at, const block &b,
                                                      const work &w, ring &r, float (&sums)[N / 2])
    {
        uint32_t a[2][4][4];
        int last = 0;
        auto one = [&](int u, int index, uint32_t(&to)[4][4]) {
            unit<KIND> now;
            read_unit(p, at, b, r.stage, u, index, now);
            decode_unit(p, b, now, to);
            uint64_t x = operand_rows128(at.x + r.stage * X_BYTES + index * X_UNIT);
            wgmma_fence();
#pragma unroll
            for (int k = 0; k < 4; k++)
                wgmma_rs<N, F16>::run(sums, to[k], x + 2 * k, 1);
            wgmma_commit();
            wgmma_wait<1>();
        };
        int u = w.begin;
        if constexpr (UNITS == 1) {
            auto stage = [&](uint32_t(&to)[4][4]) {
                barrier_wait(at.full + 8 * r.stage, r.phase);
                one(u, 0, to);
                if (u > w.begin)
                    sm90_arrive(at.empty + 8 * last);
                last = r.stage;
                r.advance();
                u++;
            };
            while (u + 1 < w.end) {
                stage(a[0]);
                stage(a[1]);
            }
            if (u < w.end)
                stage(a[0]);
        } else {
#pragma unroll 1
            for (; u < w.end; u += UNITS) {
                barrier_wait(at.full + 8 * r.stage, r.phase);
#pragma unroll 1
                for (int i = 0; i < UNITS; i += 2) {
                    one(u, i, a[0]);
                    if (i == 0 && u > w.begin)
                        sm90_arrive(at.empty + 8 * last);
                    one(u, i + 1, a[1]);
                }
                last = r.stage;
                r.advance();
            }
        }
        wgmma_wait<0>();
        if (w.begin < w.end)
            sm90_arrive(at.empty + 8 * last);
    }

    /* As sum_direct with registers for one unit only: other warpgroups fill the gaps. */
    template <int N>
    static __device__ __forceinline__ void sum_short(const gemmux_sm90_parameters &p,
                                                     const shared &at, const block &b,
                                                     const work &w, ring &r, float (&sums)[N / 2])
    {
        uint32_t a[4][4];
#pragma unroll 1
        for (int u = w.begin; u < w.end; u += UNITS) {
            barrier_wait(at.full + 8 * r.stage, r.phase);
#pragma unroll 1
            for (int i = 0; i < UNITS; i++) {
                unit<KIND> now;
                read_unit(p, at, b, r.stage, u, i, now);
                wgmma_wait<0>();
                decode_unit(p, b, now, a);
                uint64_t x = operand_rows128(at.x + r.stage * X_BYTES + i * X_UNIT);
                wgmma_fence();
#pragma unroll
                for (int k = 0; k < 4; k++)
                    wgmma_rs<N, F16>::run(sums, a[k], x + 2 * k, 1);
                wgmma_commit();
            }
            wgmma_wait<0>();
            sm90_arrive(at.empty + 8 * r.stage);
            r.advance();
        }
    }

    /* Scales are applied to the sums of their columns: of half a unit (FINE), of a unit, or of both
     * units of a stage. The wgmma of one unit run while the next one is decoded; what another
     * warpgroup has to multiply fills the time in which sums are added up. */
    template <int N, bool FINE>
    static __device__ __forceinline__ void sum_scaled(const gemmux_sm90_parameters &p,
                                                      const shared &at, const block &b,
                                                      const work &w, ring &r, float (&sums)[N / 2])
    {
        static_assert(UNITS == 2, "units of a stage");
        constexpr int HALVES = FINE ? 2 : 1;
        uint32_t a[2][4][4];
        sum_scales scales[2][HALVES];
        float part[N / 2];
        auto open = [&](int stage, int u, int index) {
            unit<KIND> now;
            read_unit(p, at, b, stage, u, index, now);
            decode_unit(p, b, now, a[index]);
#pragma unroll
            for (int half = 0; half < HALVES; half++)
                scales[index][half] =
                    scales_of_sums<KIND, F16>(p.u, b, now, last_unit(p, u + index), half);
        };
        auto start = [&](int stage, int index, int half, bool fresh) {
            uint64_t x = operand_rows128(at.x + stage * X_BYTES + index * X_UNIT);
            constexpr int COUNT = 4 / HALVES;
            wgmma_fence();
#pragma unroll
            for (int k = half * COUNT; k < (half + 1) * COUNT; k++)
                wgmma_rs<N, F16>::run(part, a[index][k], x + 2 * k, !fresh || k != half * COUNT);
            wgmma_commit();
        };
        auto add = [&](const sum_scales &of) {
            wgmma_wait<0>();
#pragma unroll
            for (int i = 0; i < N / 2; i++)
                sums[i] = fmaf(i % 4 < 2 ? of.scale.x : of.scale.y, part[i], sums[i]);
        };
        bool whole = !FINE && p.steps_a_stage == 1;
        if (w.begin < w.end) {
            barrier_wait(at.full + 8 * r.stage, r.phase);
            open(r.stage, w.begin, 0);
        }
#pragma unroll 1
        for (int u = w.begin; u < w.end; u += UNITS) {
            int stage = r.stage;
            start(stage, 0, 0, true);
            open(stage, u, 1);
            if (whole) {
                start(stage, 1, 0, false);
                wgmma_wait<1>(); /* unit 0's operands are free */
            } else {
#pragma unroll
                for (int half = 0; half < HALVES; half++) {
                    if (half)
                        start(stage, 0, half, true);
                    add(scales[0][half]);
                }
                start(stage, 1, 0, true);
            }
            r.advance();
            if (u + UNITS < w.end) {
                barrier_wait(at.full + 8 * r.stage, r.phase);
                open(r.stage, u + UNITS, 0);
            }
#pragma unroll
            for (int half = 0; half < HALVES; half++) {
                if (half)
                    start(stage, 1, half, true);
                add(scales[1][half]);
            }
            sm90_arrive(at.empty + 8 * stage);
        }
    }

    static __device__ __forceinline__ int64_t row_of(const gemmux_sm90_parameters &p, const work &w,
                                                     int t)
    {
        return p.u.experts ? __ldg(p.u.sorted + w.first + t) : w.first + t;
    }

    /* A warpgroup's 64 columns by way of its shared memory, some rows of y at a time, so that
     * 16 bytes of neighbouring columns are stored at once. Columns n and n + 1 of rows 8 j + 2 l
     * and 8 j + 2 l + 1 are this lane's. */
    template <int N, int MODE>
    static __device__ __forceinline__ void store(const gemmux_sm90_parameters &p, const shared &at,
                                                 const work &w, const finisher &f,
                                                 const float (&sums)[N / 2])
    {
        constexpr int EACH = MODE == GEMMUX_SM90_F32 ? 4 : 2;
        constexpr int COLUMNS = MODE == GEMMUX_SM90_SWIGLU ? 32 : 64, BYTES = COLUMNS * EACH;
        constexpr int STRIDE = BYTES + 16; /* so that lanes meet all banks */
        constexpr int FIT_ROWS = EACH == 4 ? STAGED / 2 : STAGED;
        constexpr int ROWS = N % FIT_ROWS ? 32 : FIT_ROWS, PIECES = ROWS * BYTES / 16;
        static_assert(ROWS * STRIDE <= STAGING && N % ROWS == 0, "rows at a time");
        int thread = threadIdx.x % 128, group = threadIdx.x / 128, lane = thread % 32;
        int columns = p.u.swiglu ? p.u.n / 2 : p.u.n;
        int first_column = (w.w_tile * GROUPS + group) * COLUMNS;
        uint32_t mine = at.staging + group * STAGING;
        uint32_t to =
            mine + lane % 4 * 2 * STRIDE + thread / 32 * (BYTES / 4) + lane / 4 * (BYTES / 32);
        char *y = p.u.rows ? reinterpret_cast<char *>(p.u.rows) : p.u.y;
        int64_t row_bytes = p.u.rows ? int64_t(columns) * 4 : p.u.y_row_bytes;
        const float nan = __int_as_float(0x7fffffff);
#pragma unroll
        for (int part = 0; part < N / ROWS; part++) {
            join_group(group);
#pragma unroll
            for (int j = 0; j < ROWS / 8; j++)
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const int sum = (part * (ROWS / 8) + j) * 4 + i;
                    float first = f.nan[0] ? nan : fmaf(sums[sum], f.factor.x, f.bias.x);
                    float second = f.nan[1] ? nan : fmaf(sums[sum + 2], f.factor.y, f.bias.y);
                    uint32_t here = to + (8 * j + i) * STRIDE;
                    if (MODE == GEMMUX_SM90_F32)
                        write_shared8(here, first, second);
                    else if (MODE == GEMMUX_SM90_SWIGLU)
                        write_shared2(here,
                                      narrow(p.u.y_format,
                                             quick_swiglu(first, second, p.u.alpha, p.u.limit)));
                    else
                        write_shared4(here, narrow(p.u.y_format, first) |
                                                narrow(p.u.y_format, second) << 16);
                }
            join_group(group);
#pragma unroll
            for (int i = thread; i < PIECES; i += 128) {
                int row = i / (BYTES / 16), piece = i % (BYTES / 16), t = part * ROWS + row;
                int column = first_column + piece * (16 / EACH);
                uint4 v = read_shared16(mine + row * STRIDE + piece * 16);
                if (t < w.count && column < columns)
                    *reinterpret_cast<uint4 *>(y + row_of(p, w, t) * row_bytes + column * EACH) = v;
            }
        }
    }

    /* By way of local memory, so that the code is short. */
    template <int N>
    static __device__ __forceinline__ void store_any(const gemmux_sm90_parameters &p, const work &w,
                                                     const finisher &f, int n,
                                                     const float (&sums)[N / 2])
    {
        float kept[N / 2];
        int l = threadIdx.x % 4;
#pragma unroll
        for (int i = 0; i < N / 2; i++)
            kept[i] = sums[i];
#pragma unroll 1
        for (int i = 0; i < N / 4; i++) {
            int t = i / 2 * 8 + 2 * l + i % 2, at = i / 2 * 4 + i % 2;
            if (t < w.count)
                finish_pair(p.u, f, int(row_of(p, w, t)), n, kept[at], kept[at + 2]);
        }
    }

    /* Shifts of the ue8m0 scales of rows 2g and 2g + 1, in two bytes. */
    static __device__ __forceinline__ uint32_t shifts_of(const gemmux_sm90_parameters &p,
                                                         const uint8_t *matrix, int n)
    {
        return __ldg(reinterpret_cast<const uint16_t *>(matrix + p.u.shifts_at + n));
    }

    /* What is added and multiplied to the sums of columns n (even) and n + 1 of y. */
    static __device__ __forceinline__ finisher finisher_of(const gemmux_sm90_parameters &p,
                                                           const work &w, const uint8_t *matrix,
                                                           int n)
    {
        finisher f;
        uint32_t flags = load_word(matrix + p.u.flags_at + (n / 16) * 4);
        f.factor =
            __ldg(reinterpret_cast<const float2 *>(matrix + p.u.factors_at + int64_t(n) * 4));
        f.factor.x *= sum_factor<KIND, F16>();
        f.factor.y *= sum_factor<KIND, F16>();
        if (T::mx && folds<KIND, F16>::value) { /* scales were shifted: 2^shift */
            uint32_t shifts = shifts_of(p, matrix, n);
            f.factor.x *= __uint_as_float((127u + (shifts & 255)) << 23);
            f.factor.y *= __uint_as_float((127u + (shifts >> 8)) << 23);
        }
        f.nan[0] = !w.known || flags >> (n % 16 / 2) & 1;
        f.nan[1] = !w.known || flags >> (n % 16 / 2 + 8) & 1;
        f.bias = make_float2(0.0f, 0.0f);
        if (p.u.bias) {
            const float *bias = p.u.bias + int64_t(w.known ? w.expert : 0) * p.u.n + n;
            f.bias.x = n < p.u.n ? __ldg(bias) : 0.0f;
            f.bias.y = n + 1 < p.u.n ? __ldg(bias + 1) : 0.0f;
        }
        return f;
    }

    template <int N>
    static __device__ __forceinline__ void consume(const gemmux_sm90_parameters &p,
                                                   const shared &at, const work &w, ring &r)
    {
        const uint8_t *matrix = matrix_of(p, w);
        int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4;
        int row_block = w.w_tile * CONSUMERS + warp;
        int block_row = min(row_block, p.u.row_blocks - 1);
        block b = open_block<KIND>(p.u, matrix, block_row);
        if (T::mx) {
            uint32_t shifts = shifts_of(p, matrix, block_row * 16 + 2 * g);
            b.mx[0] = mx_base<KIND>(shifts & 255);
            b.mx[1] = mx_base<KIND>(shifts >> 8);
        }
        float sums[N / 2];
#pragma unroll
        for (int i = 0; i < N / 2; i++)
            sums[i] = 0.0f;
        if constexpr (direct && GROUPS > 3)
            sum_short<N>(p, at, b, w, r, sums);
        else if constexpr (direct)
            sum_direct<N>(p, at, b, w, r, sums);
        else if (T::mx || p.u.fine)
            sum_scaled<N, true>(p, at, b, w, r, sums);
        else
            sum_scaled<N, false>(p, at, b, w, r, sums);
        if constexpr (N <= 64) {
            if (p.u.splits > 1 && !sm90_join<CONSUMERS * 32, MAX / 2>(
                                      p.u.partials, p.u.counters, p.u.splits,
                                      w.first / MAX * p.u.row_tiles + w.w_tile, w.split, sums))
                return;
        }
        int n = block_row * 16 + 2 * g;
        finisher f = finisher_of(p, w, matrix, n);
        if (p.mode == GEMMUX_SM90_NARROW)
            store<N, GEMMUX_SM90_NARROW>(p, at, w, f, sums);
        else if (p.mode == GEMMUX_SM90_SWIGLU)
            store<N, GEMMUX_SM90_SWIGLU>(p, at, w, f, sums);
        else if (p.mode == GEMMUX_SM90_F32)
            store<N, GEMMUX_SM90_F32>(p, at, w, f, sums);
        else if (row_block < p.u.row_blocks)
            store_any<N>(p, w, f, n, sums);
    }

    static __device__ __forceinline__ void run(const gemmux_sm90_parameters &p)
    {
        uint32_t start = (shared_address(dynamic_shared()) + 1023) / 1024 * 1024;
        shared at;
        at.x = start;
        at.codes = at.x + STAGES * X_BYTES;
        at.scales = at.codes + STAGES * CODE_BYTES;
        at.zeros = at.scales + STAGES * SCALE_BYTES;
        at.staging = at.zeros + STAGES * ZERO_BYTES;
        at.full = at.staging + GROUPS * STAGING;
        at.empty = at.full + 8 * STAGES;
        if (threadIdx.x == 0) {
            for (int i = 0; i < STAGES; i++) {
                barrier_init(at.full + 8 * i, 1);
                barrier_init(at.empty + 8 * i, CONSUMERS);
            }
            barrier_init_fence();
        }
        __syncthreads();
        if (threadIdx.x / 32 >= CONSUMERS) {
            give_registers<(GROUPS == 2 ? 40 : GROUPS == 3 ? 56 : 32)>();
            if (threadIdx.x == CONSUMERS * 32)
                produce(p, at);
        } else {
            take_registers<(GROUPS == 2 ? 232 : GROUPS == 3 ? 152 : 112)>();
            ring r;
            int total = sm90_items(tiling(p));
            for (int item = blockIdx.x; item < total; item += gridDim.x) {
                work w = sm90_find<MAX>(tiling(p), item);
                int n = rounded(w.count);
                if constexpr (MAX > 128) /* other sizes beside it would take its registers */
                    consume<MAX>(p, at, w, r);
                else if (MAX >= 128 && n == 128)
                    consume<MAX>(p, at, w, r);
                else if (MAX >= 96 && n == 96)
                    consume<MAX >= 96 ? 96 : MAX>(p, at, w, r);
                else if (n == 64)
                    consume<64>(p, at, w, r);
                else
                    consume<32>(p, at, w, r);
            }
        }
    }
};
