/* SPDX-License-Identifier: Apache-2.0
 *
 * cuda_sm90_fp8: e4m3 by e4m3 on Hopper's wgmma, w and x read from shared memory as they are
 * stored.
 *
 * One thread copies boxes of 128 columns of K into a ring of stages; where scales change along K,
 * three warps beside it put the product of x's and w's scale for each row of x into the stage, and
 * for every tile what its sums meet in the end. Two warpgroups multiply. The matrix unit keeps
 * about 14 bits of an fp8 product's sum, so every stage's sums are made anew and added to sums in
 * f32, times those scales: while one warpgroup adds, the matrix unit works for the other.
 */
#include "cuda_moe.cuh"
#include "cuda_sm90_fp8_store.cuh"

template <int MAX, bool ALONG> struct fp8 {
    static constexpr int STEP = GEMMUX_FP8_STEP, COLUMNS = GEMMUX_FP8_COLUMNS;
    static constexpr int X_BYTES = MAX * STEP, W_BYTES = COLUMNS * STEP;
    static constexpr int FACTOR_BYTES = ALONG ? MAX * 4 : 0;
    static constexpr int TAIL_BYTES = MAX * 8 + COLUMNS * 8;
    static constexpr int FIT =
        (GEMMUX_FP8_SMEM - 2048 - TAIL_BYTES) / (X_BYTES + W_BYTES + FACTOR_BYTES);
    static constexpr int STAGES = FIT < 8 ? FIT : 8;
    static constexpr int WARPS = 8, HELPERS = 3; /* that multiply, and that bring scales */
    static constexpr int BOX = MAX == 256 ? 256 : 16;

    /* Addresses in shared memory. */
    struct shared {
        uint32_t x, w, factors, full, empty;
        uint32_t rows, columns, tail_full, tail_empty; /* of a tile: see finish_of */
    };

    struct ring : sm90_ring<STAGES> {
        uint32_t tail = 0; /* phase of the tile */
    };

    static __device__ __forceinline__ sm90_tiling tiling(const fp8_parameters &p)
    {
        return {p.tiles,     p.tile_count, p.experts, p.section, p.items,        p.column_tiles,
                p.row_tiles, p.m,          p.steps,   p.splits,  p.steps_a_split};
    }

    /* Rows of x that r128 takes for so many: of a few sizes only. */
    static __device__ __forceinline__ int rounded(int count)
    {
        return MAX > 128     ? MAX
               : count <= 16 ? 16
               : count <= 32 ? 32
               : count <= 64 ? 64
               : count <= 96 ? 96
                             : 128;
    }

    /* ---- producers ---- */

    /* One thread. */
    static __device__ __forceinline__ void copy(const fp8_parameters &p, const shared &at)
    {
        ring r;
        int total = sm90_items(tiling(p));
        for (int item = blockIdx.x; item < total; item += gridDim.x) {
            sm90_work w = sm90_find<MAX>(tiling(p), item);
            int rows = rounded(w.count);
            for (int s = w.begin; s < w.end; s++) {
                uint32_t full = at.full + 8 * r.stage;
                barrier_wait(at.empty + 8 * r.stage, r.phase ^ 1);
                barrier_expect(full, (rows + COLUMNS) * STEP);
                copy_tile3(at.w + r.stage * W_BYTES, &p.w, s * STEP, w.w_tile * COLUMNS,
                           w.known ? w.expert : 0, full);
                for (int row = 0; row < rows; row += BOX)
                    copy_tile(at.x + r.stage * X_BYTES + row * STEP, &p.x, s * STEP, w.first + row,
                              full);
                r.advance();
            }
        }
    }

    static constexpr int BATCH = 4; /* steps whose scales are loaded at once */

    /* x's scales of this lane's rows for BATCH steps, at most up to step `last`. */
    template <int EACH>
    static __device__ __forceinline__ void
    scales_of_rows(const fp8_parameters &p, const int (&rows)[EACH], int helper, int most, int s,
                   int last, float (&to)[EACH][BATCH])
    {
        bool fours = p.x_fours && s % BATCH == 0;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            bool there = p.x_groups && 32 * (i * HELPERS + helper) < most;
            const float *from = p.x_scales + int64_t(rows[i]) * p.x_groups;
#pragma unroll
            for (int b = 0; b < BATCH; b++)
                to[i][b] = 1.0f;
            if (there && fours) { /* rows are lines of their own: one load of each, not four */
                float4 v = __ldg(reinterpret_cast<const float4 *>(from + s));
                to[i][0] = v.x, to[i][1] = v.y, to[i][2] = v.z, to[i][3] = v.w;
            } else if (there) {
#pragma unroll
                for (int b = 0; b < BATCH; b++)
                    to[i][b] = __ldg(from + min(s + b, last) / p.x_group_steps);
            }
        }
    }

    /* Factors of x's rows in the stages of one tile, by one of the helping warps: every third 32
     * rows are its own. */
    static __device__ __forceinline__ void scale_of(const fp8_parameters &p, const shared &at,
                                                    const sm90_work &w, int helper, ring &r)
    {
        constexpr int EACH = (MAX / 32 + HELPERS - 1) / HELPERS;
        int rows[EACH], lane = threadIdx.x % 32, most = rounded(w.count);
        const float *of_w = p.w_scales;
        if (p.w_groups)
            of_w += (int64_t(w.known ? w.expert : 0) * p.w_blocks + w.w_tile / p.w_block_tiles) *
                    p.w_groups;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            int t = lane + 32 * (i * HELPERS + helper);
            rows[i] = fp8_x_row(p, fp8_row(p, w, t < w.count ? t : 0));
        }
        for (int s = w.begin; s < w.end; s += BATCH) {
            float factors[EACH][BATCH];
            scales_of_rows<EACH>(p, rows, helper, most, s, w.end - 1, factors);
#pragma unroll
            for (int b = 0; b < BATCH && p.w_groups; b++) {
                float by = __ldg(of_w + min(s + b, w.end - 1) / p.w_group_steps);
#pragma unroll
                for (int i = 0; i < EACH; i++)
                    factors[i][b] *= by;
            }
#pragma unroll
            for (int b = 0; b < BATCH; b++) {
                if (s + b >= w.end)
                    break;
                barrier_wait(at.empty + 8 * r.stage, r.phase ^ 1);
#pragma unroll
                for (int i = 0; i < EACH; i++) {
                    int t = lane + 32 * (i * HELPERS + helper);
                    if (t < MAX)
                        write_shared4(at.factors + r.stage * FACTOR_BYTES + t * 4,
                                      __float_as_uint(factors[i][b]));
                }
                barrier_arrive(at.full + 8 * r.stage); /* every lane: so racecheck can follow */
                r.advance();
            }
        }
    }

    /* What finished sums meet: rows of y and scales of rows of x, scales and bias of columns. */
    static __device__ __forceinline__ void finish_of(const fp8_parameters &p, const shared &at,
                                                     const sm90_work &w, int helper, ring &r)
    {
        int lane = threadIdx.x % 32;
        barrier_wait(at.tail_empty, r.tail ^ 1);
        for (int t = lane + 32 * helper; t < MAX; t += 32 * HELPERS) {
            int row = t < w.count ? fp8_row(p, w, t) : -1;
            write_shared8(at.rows + t * 8, __int_as_float(row),
                          row >= 0 ? fp8_x_factor(p, row) : 0.0f);
        }
        for (int n = lane + 32 * helper; n < COLUMNS; n += 32 * HELPERS) {
            fp8_column c = fp8_column_of(p, w, w.w_tile * COLUMNS + n);
            write_shared8(at.columns + n * 8, c.factor, c.bias);
        }
        barrier_arrive(at.tail_full);
        r.tail ^= 1;
    }

    static __device__ __forceinline__ void help(const fp8_parameters &p, const shared &at,
                                                int helper)
    {
        ring r;
        int total = sm90_items(tiling(p));
        for (int item = blockIdx.x; item < total; item += gridDim.x) {
            sm90_work w = sm90_find<MAX>(tiling(p), item);
            if (ALONG)
                scale_of(p, at, w, helper, r);
            finish_of(p, at, w, helper, r);
        }
    }

    /* ---- consumers ---- */

    static __device__ __forceinline__ void tail_wait(const shared &at, const ring &r)
    {
        barrier_wait(at.tail_full, r.tail);
    }

    static __device__ __forceinline__ void tail_release(const shared &at, ring &r)
    {
        sm90_arrive(at.tail_empty);
        r.tail ^= 1;
    }

    /* d = the stage's sums of 64 rows and N columns. */
    template <int N>
    static __device__ __forceinline__ void multiply(uint32_t rows, uint32_t columns,
                                                    float (&d)[N / 2])
    {
        uint64_t a = operand_rows128(rows), b = operand_rows128(columns);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < STEP / 32; k++)
            wgmma_fp8<N>::run(d, a + 2 * k, b + 2 * k, k != 0);
        wgmma_commit();
    }

    /* r256: of rows 64 v + g and 8 on of this warpgroup's 128, columns 8 j + 2 l and the next. */
    static __device__ __forceinline__ void consume256(const fp8_parameters &p, const shared &at,
                                                      const sm90_work &w, ring &r)
    {
        float sums[2][64], part[64];
        int group = threadIdx.x / 128, lane = threadIdx.x % 32;
        int first = group * 128 + threadIdx.x % 128 / 32 * 16 + lane / 4;
#pragma unroll
        for (int i = 0; i < 128; i++)
            sums[i / 64][i % 64] = 0.0f;
#pragma unroll 1
        for (int s = w.begin; s < w.end; s++) {
            uint32_t x = at.x + r.stage * X_BYTES + group * 128 * STEP;
            uint32_t columns = at.w + r.stage * W_BYTES;
            float by[4] = {1.0f, 1.0f, 1.0f, 1.0f};
            barrier_wait(at.full + 8 * r.stage, r.phase);
#pragma unroll
            for (int v = 0; v < 2; v++) {
                multiply<128>(x + v * 64 * STEP, columns, part);
                if (ALONG && v == 0) {
#pragma unroll
                    for (int i = 0; i < 4; i++)
                        by[i] = __uint_as_float(read_shared4(at.factors + r.stage * FACTOR_BYTES +
                                                             (first + i / 2 * 64 + i % 2 * 8) * 4));
                }
                wgmma_wait<0>();
                if (v == 1)
                    sm90_arrive(at.empty + 8 * r.stage);
#pragma unroll
                for (int i = 0; i < 64; i++)
                    sums[v][i] = ALONG ? fmaf(by[2 * v + i / 2 % 2], part[i], sums[v][i])
                                       : sums[v][i] + part[i];
            }
            r.advance();
        }
        tail_wait(at, r);
        fp8_end256(p, {at.rows, at.columns}, w, first, sums);
        tail_release(at, r);
    }

    /* r128: of rows 8 j + 2 l of x and the next, columns g and 8 on of this warp's 16. */
    template <int N>
    static __device__ __forceinline__ void consume128(const fp8_parameters &p, const shared &at,
                                                      const sm90_work &w, ring &r)
    {
        float sums[N / 2], part[N / 2];
        int group = threadIdx.x / 128, l = threadIdx.x % 4;
#pragma unroll
        for (int i = 0; i < N / 2; i++)
            sums[i] = 0.0f;
#pragma unroll 1
        for (int s = w.begin; s < w.end; s++) {
            uint32_t by[N / 8][2];
            barrier_wait(at.full + 8 * r.stage, r.phase);
            multiply<N>(at.w + r.stage * W_BYTES + group * 64 * STEP, at.x + r.stage * X_BYTES,
                        part);
#pragma unroll
            for (int j = 0; j < N / 8 && ALONG; j++)
                read_shared8(at.factors + r.stage * FACTOR_BYTES + (8 * j + 2 * l) * 4, by[j]);
            wgmma_wait<0>();
            sm90_arrive(at.empty + 8 * r.stage);
            r.advance();
#pragma unroll
            for (int i = 0; i < N / 2; i++)
                sums[i] = ALONG ? fmaf(__uint_as_float(by[i / 4][i % 2]), part[i], sums[i])
                                : sums[i] + part[i];
        }
        tail_wait(at, r);
        if (p.splits == 1 || sm90_join<WARPS * 32, MAX / 2>(
                                 p.partials, p.counters, p.splits,
                                 w.first / MAX * p.column_tiles + w.w_tile, w.split, sums))
            fp8_end128<N>(p, {at.rows, at.columns}, w, sums);
        tail_release(at, r);
    }

    static __device__ __forceinline__ void consume(const fp8_parameters &p, const shared &at)
    {
        ring r;
        int total = sm90_items(tiling(p));
        for (int item = blockIdx.x; item < total; item += gridDim.x) {
            sm90_work w = sm90_find<MAX>(tiling(p), item);
            int n = rounded(w.count);
            if constexpr (MAX == 256)
                consume256(p, at, w, r);
            else if (n == 16)
                consume128<16>(p, at, w, r);
            else if (n == 32)
                consume128<32>(p, at, w, r);
            else if (n == 64)
                consume128<64>(p, at, w, r);
            else if (n == 96)
                consume128<96>(p, at, w, r);
            else
                consume128<128>(p, at, w, r);
        }
    }

    static __device__ __forceinline__ void run(const fp8_parameters &p)
    {
        uint32_t start = (shared_address(dynamic_shared()) + 1023) / 1024 * 1024;
        shared at;
        at.x = start;
        at.w = at.x + STAGES * X_BYTES;
        at.factors = at.w + STAGES * W_BYTES;
        at.rows = at.factors + STAGES * FACTOR_BYTES;
        at.columns = at.rows + MAX * 8;
        at.full = at.columns + COLUMNS * 8;
        at.empty = at.full + 8 * STAGES;
        at.tail_full = at.empty + 8 * STAGES;
        at.tail_empty = at.tail_full + 8;
        if (threadIdx.x == 0) {
            for (int i = 0; i < STAGES; i++) {
                barrier_init(at.full + 8 * i, ALONG ? 1 + HELPERS * 32 : 1);
                barrier_init(at.empty + 8 * i, WARPS);
            }
            barrier_init(at.tail_full, HELPERS * 32);
            barrier_init(at.tail_empty, WARPS);
            barrier_init_fence();
        }
        __syncthreads();
        if (threadIdx.x / 32 >= WARPS) {
            give_registers<56>();
            if (threadIdx.x == WARPS * 32)
                copy(p, at);
            else if (threadIdx.x / 32 > WARPS)
                help(p, at, threadIdx.x / 32 - WARPS - 1);
        } else {
            take_registers<224>();
            consume(p, at);
        }
    }
};

#define DEFINE(scales, along, shape, rows)                                                         \
    extern "C" __global__ void __launch_bounds__(GEMMUX_FP8_THREADS, 1)                            \
        fp8_##scales##_##shape(const __grid_constant__ gemmux_fp8_parameters p)                    \
    {                                                                                              \
        fp8<rows, along>::run(p);                                                                  \
    }
#define DEFINE_BOTH(shape, rows, box)                                                              \
    DEFINE(whole, false, shape, rows)                                                              \
    DEFINE(along, true, shape, rows)
GEMMUX_FP8_SHAPES(DEFINE_BOTH)

/* Rows of x in the order of `sorted`. Sixteen bytes a thread. grid: any. */
extern "C" __global__ void __launch_bounds__(256)
    fp8_arrange(const __grid_constant__ gemmux_fp8_parameters p)
{
    int pieces = p.k / 16;
    int64_t total = int64_t(p.m) * pieces;
    for (int64_t i = int64_t(blockIdx.x) * 256 + threadIdx.x; i < total; i += gridDim.x * 256) {
        int to = int(i / pieces), piece = int(i % pieces);
        int64_t from = fp8_x_row(p, __ldg(p.sorted + to)) * p.x_row_bytes + piece * 16;
        *reinterpret_cast<uint4 *>(p.arranged + int64_t(to) * p.k + piece * 16) =
            __ldg(reinterpret_cast<const uint4 *>(p.x_codes + from));
    }
}

extern "C" __global__ void __launch_bounds__(1024)
    fp8_route(const __grid_constant__ gemmux_fp8_routing p)
{
    route_rows(p.u, p.big_rows, p.u.tile_count, p.u.tile_count + 1);
}

extern "C" __global__ void __launch_bounds__(256)
    fp8_scatter(const __grid_constant__ gemmux_fp8_routing p)
{
    scatter_rows(p.u);
}
