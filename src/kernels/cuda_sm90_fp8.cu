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
#include "cuda_sm90_fp8.h"
#include "cuda_sm90_ptx.cuh"

using fp8_parameters = gemmux_fp8_parameters;

/* One block's share of one item. */
struct fp8_work {
    int expert, first, count, column_tile, begin, end, split;
    bool known;
};

/* ---- rows and columns of y ---- */

/* Row of y (or of `rows`) that row t of a tile is. */
__device__ __forceinline__ int fp8_row(const fp8_parameters &p, const fp8_work &w, int t)
{
    return p.experts ? __ldg(p.sorted + w.first + t) : w.first + t;
}

__device__ __forceinline__ int fp8_x_row(const fp8_parameters &p, int row)
{
    return p.gather ? row / p.top_k : row;
}

/* Scales that meet finished sums; those along K have met them already. */
__device__ __forceinline__ float fp8_x_factor(const fp8_parameters &p, int row)
{
    return p.x_groups ? 1.0f : __ldg(p.x_scales + (p.x_by_row ? fp8_x_row(p, row) : 0));
}

struct fp8_column {
    float factor, bias;
};

/* row: -1 where there is none. */
struct fp8_row_end {
    int row;
    float factor;
};

/* Rows of experts that do not exist are not numbers. */
__device__ __forceinline__ fp8_column fp8_column_of(const fp8_parameters &p, const fp8_work &w,
                                                    int n)
{
    fp8_column c = {1.0f, 0.0f};
    int expert = w.known ? w.expert : 0;
    if (n >= p.n)
        return c;
    if (!p.w_groups)
        c.factor = __ldg(p.w_scales + (p.w_by_row ? int64_t(expert) * p.n + n : expert));
    if (p.bias)
        c.bias = __ldg(p.bias + int64_t(expert) * p.n + n);
    if (!w.known)
        c.factor = __int_as_float(0x7fffffff);
    return c;
}

__device__ __forceinline__ float fp8_value(float sum, float x_factor, const fp8_column &c)
{
    return fmaf(sum, x_factor * c.factor, c.bias);
}

/* g / (1 + e^-ag) (u + 1) for a result of 16 bits. */
__device__ __forceinline__ float fp8_swiglu(const fp8_parameters &p, float gate, float up)
{
    float g = gate > p.limit ? p.limit : gate;
    float u = up > p.limit ? p.limit : up < -p.limit ? -p.limit : up;
    return __fdividef(g, 1.0f + __expf(-p.alpha * g)) * (u + 1.0f);
}

__device__ __forceinline__ void fp8_put(const fp8_parameters &p, int row, int column, int columns,
                                        float value)
{
    char *y = p.y + int64_t(row) * p.y_row_bytes;
    if (p.rows)
        p.rows[int64_t(row) * columns + column] = value;
    else if (p.y_format == GEMMUX_F32)
        reinterpret_cast<float *>(y)[column] = value;
    else
        reinterpret_cast<uint16_t *>(y)[column] = uint16_t(narrow(p.y_format, value));
}

/* Columns n (even) and n + 1, of any kind of y. */
__device__ __forceinline__ void fp8_put_pair(const fp8_parameters &p, int row, int n, float first,
                                             float second)
{
    if (n >= p.n)
        return;
    if (p.swiglu) {
        fp8_put(p, row, n / 2, p.n / 2, swiglu(first, second, p.alpha, p.limit));
        return;
    }
    fp8_put(p, row, n, p.n, first);
    if (n + 1 < p.n)
        fp8_put(p, row, n + 1, p.n, second);
}

/* What becomes of sums: 16-bit columns; swiglu of pairs of them, 16 bits; pairs in f32, be they of
 * y or of rows that scatter adds up; or anything else, one at a time. */
enum { FP8_NARROW, FP8_SWIGLU, FP8_PAIRS, FP8_ANY };

__device__ __forceinline__ int fp8_mode(const fp8_parameters &p, bool aligned)
{
    if (p.rows || p.y_format == GEMMUX_F32)
        return !p.swiglu && p.n % 2 == 0 && p.y_pairs ? FP8_PAIRS : FP8_ANY;
    return !aligned ? FP8_ANY : p.swiglu ? FP8_SWIGLU : FP8_NARROW;
}

__device__ __forceinline__ float *fp8_wide_row(const fp8_parameters &p, int row)
{
    return p.rows ? p.rows + int64_t(row) * p.n
                  : reinterpret_cast<float *>(p.y + int64_t(row) * p.y_row_bytes);
}

/* ---- a tile ---- */

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

    struct ring {
        int stage = 0;
        uint32_t phase = 0, tail = 0; /* tail: of the tile */
        __device__ __forceinline__ void advance()
        {
            if (++stage == STAGES)
                stage = 0, phase ^= 1;
        }
    };

    static __device__ __forceinline__ int items(const fp8_parameters &p)
    {
        return p.experts ? p.column_tiles * p.tile_count[p.section] : p.items;
    }

    /* Dense: tiles that run together are of few rows of x and few of w, for the L2's sake. */
    static __device__ __forceinline__ fp8_work find(const fp8_parameters &p, int item)
    {
        fp8_work w;
        w.split = 0, w.begin = 0, w.end = p.steps, w.known = true;
        if (p.experts) {
            int index = item / p.column_tiles + (p.section ? p.tile_count[0] : 0);
            const int32_t *entry = p.tiles + index * 3;
            w.expert = entry[0], w.first = entry[1], w.count = entry[2];
            w.known = w.expert < p.experts;
            w.column_tile = item % p.column_tiles;
            return w;
        }
        constexpr int GROUP = 8;
        if (p.splits > 1) {
            w.split = item % p.splits;
            item /= p.splits;
            w.begin = w.split * p.steps_a_split;
            w.end = min(w.begin + p.steps_a_split, p.steps);
        }
        int group = item / (GROUP * p.column_tiles), within = item % (GROUP * p.column_tiles);
        int deep = min(GROUP, p.row_tiles - group * GROUP);
        w.expert = 0;
        w.first = (group * GROUP + within % deep) * MAX;
        w.count = min(MAX, p.m - w.first);
        w.column_tile = within / deep;
        return w;
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
        int total = items(p);
        for (int item = blockIdx.x; item < total; item += gridDim.x) {
            fp8_work w = find(p, item);
            int rows = rounded(w.count);
            for (int s = w.begin; s < w.end; s++) {
                uint32_t full = at.full + 8 * r.stage;
                barrier_wait(at.empty + 8 * r.stage, r.phase ^ 1);
                barrier_expect(full, (rows + COLUMNS) * STEP);
                copy_tile3(at.w + r.stage * W_BYTES, &p.w, s * STEP, w.column_tile * COLUMNS,
                           w.known ? w.expert : 0, full);
                for (int row = 0; row < rows; row += BOX)
                    copy_tile(at.x + r.stage * X_BYTES + row * STEP, &p.x, s * STEP, w.first + row,
                              full);
                r.advance();
            }
        }
    }

    static constexpr int BATCH = 4; /* steps whose scales are loaded at once */

    /* Factors of x's rows in the stages of one tile, by one of the helping warps: every third 32
     * rows are its own. */
    static __device__ __forceinline__ void scale_of(const fp8_parameters &p, const shared &at,
                                                    const fp8_work &w, int helper, ring &r)
    {
        constexpr int EACH = (MAX / 32 + HELPERS - 1) / HELPERS;
        int rows[EACH], lane = threadIdx.x % 32, most = rounded(w.count);
        const float *of_w = p.w_scales;
        if (p.w_groups)
            of_w +=
                (int64_t(w.known ? w.expert : 0) * p.w_blocks + w.column_tile / p.w_block_tiles) *
                p.w_groups;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            int t = lane + 32 * (i * HELPERS + helper);
            rows[i] = fp8_x_row(p, fp8_row(p, w, t < w.count ? t : 0));
        }
        for (int s = w.begin; s < w.end; s += BATCH) {
            float factors[EACH][BATCH];
#pragma unroll
            for (int b = 0; b < BATCH; b++) {
                int step = min(s + b, w.end - 1);
                float by = p.w_groups ? __ldg(of_w + step / p.w_group_steps) : 1.0f;
                int group = p.x_groups ? step / p.x_group_steps : 0;
#pragma unroll
                for (int i = 0; i < EACH; i++) {
                    factors[i][b] = by;
                    if (p.x_groups && 32 * (i * HELPERS + helper) < most)
                        factors[i][b] *= __ldg(p.x_scales + int64_t(rows[i]) * p.x_groups + group);
                }
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
                __syncwarp();
                if (lane == 0)
                    barrier_arrive(at.full + 8 * r.stage);
                r.advance();
            }
        }
    }

    /* What finished sums meet: rows of y and scales of rows of x, scales and bias of columns. */
    static __device__ __forceinline__ void finish_of(const fp8_parameters &p, const shared &at,
                                                     const fp8_work &w, int helper, ring &r)
    {
        int lane = threadIdx.x % 32;
        barrier_wait(at.tail_empty, r.tail ^ 1);
        for (int t = lane + 32 * helper; t < MAX; t += 32 * HELPERS) {
            int row = t < w.count ? fp8_row(p, w, t) : -1;
            write_shared8(at.rows + t * 8, __int_as_float(row),
                          row >= 0 ? fp8_x_factor(p, row) : 0.0f);
        }
        for (int n = lane + 32 * helper; n < COLUMNS; n += 32 * HELPERS) {
            fp8_column c = fp8_column_of(p, w, w.column_tile * COLUMNS + n);
            write_shared8(at.columns + n * 8, c.factor, c.bias);
        }
        __syncwarp();
        if (lane == 0)
            barrier_arrive(at.tail_full);
        r.tail ^= 1;
    }

    static __device__ __forceinline__ void help(const fp8_parameters &p, const shared &at,
                                                int helper)
    {
        ring r;
        int total = items(p);
        for (int item = blockIdx.x; item < total; item += gridDim.x) {
            fp8_work w = find(p, item);
            if (ALONG)
                scale_of(p, at, w, helper, r);
            finish_of(p, at, w, helper, r);
        }
    }

    /* ---- consumers ---- */

    static __device__ __forceinline__ void release(const shared &at, int stage)
    {
        __syncwarp();
        if (threadIdx.x % 32 == 0)
            barrier_arrive(at.empty + 8 * stage);
    }

    /* One row of x, or one column, of the tile. */
    static __device__ __forceinline__ fp8_row_end row_end(const shared &at, int t)
    {
        uint32_t words[2];
        read_shared8(at.rows + t * 8, words);
        return {int(words[0]), __uint_as_float(words[1])};
    }

    static __device__ __forceinline__ fp8_column column_end(const shared &at, int n)
    {
        uint32_t words[2];
        read_shared8(at.columns + n * 8, words);
        return {__uint_as_float(words[0]), __uint_as_float(words[1])};
    }

    static __device__ __forceinline__ void tail_wait(const shared &at, const ring &r)
    {
        barrier_wait(at.tail_full, r.tail);
    }

    static __device__ __forceinline__ void tail_release(const shared &at, ring &r)
    {
        __syncwarp();
        if (threadIdx.x % 32 == 0)
            barrier_arrive(at.tail_empty);
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
                                                      const fp8_work &w, ring &r)
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
                    release(at, r.stage);
#pragma unroll
                for (int i = 0; i < 64; i++)
                    sums[v][i] = ALONG ? fmaf(by[2 * v + i / 2 % 2], part[i], sums[v][i])
                                       : sums[v][i] + part[i];
            }
            r.advance();
        }
        tail_wait(at, r);
        switch (fp8_mode(p, p.y_fours && p.n % 8 == 0)) {
        case FP8_NARROW:
            store256<FP8_NARROW>(p, at, w, first, sums);
            break;
        case FP8_SWIGLU:
            store256<FP8_SWIGLU>(p, at, w, first, sums);
            break;
        case FP8_PAIRS:
            store256<FP8_PAIRS>(p, at, w, first, sums);
            break;
        default:
            store256_any(p, at, w, first, sums);
        }
        tail_release(at, r);
    }

    /* Lane l of four gets word l of each. */
    static __device__ __forceinline__ void transpose4(uint32_t (&words)[4])
    {
        int lane = threadIdx.x;
#pragma unroll
        for (int by = 1; by <= 2; by *= 2) {
            bool upper = lane & by;
#pragma unroll
            for (int i = 0; i < 4; i++) {
                if (i & by)
                    continue;
                uint32_t other = __shfl_xor_sync(0xffffffffu, upper ? words[i] : words[i + by], by);
                if (upper)
                    words[i] = other;
                else
                    words[i + by] = other;
            }
        }
    }

    template <int MODE>
    static __device__ __forceinline__ void store256(const fp8_parameters &p, const shared &tail,
                                                    const fp8_work &w, int first,
                                                    const float (&sums)[2][64])
    {
        int l = threadIdx.x % 4;
        fp8_row_end row[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            row[i] = row_end(tail, first + i / 2 * 64 + i % 2 * 8);
#pragma unroll
        for (int fours = 0; fours < 4; fours++) {
            int n = w.column_tile * COLUMNS + fours * 32;
            fp8_column columns[4][2];
#pragma unroll
            for (int j = 0; j < 8; j++)
                columns[j / 2][j % 2] = column_end(tail, fours * 32 + j / 2 * 8 + 2 * l + j % 2);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                uint32_t words[4];
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const float *sum = &sums[i / 2][(fours * 4 + j) * 4 + i % 2 * 2];
                    float value[2] = {fp8_value(sum[0], row[i].factor, columns[j][0]),
                                      fp8_value(sum[1], row[i].factor, columns[j][1])};
                    int at = n + j * 8 + 2 * l;
                    if (MODE == FP8_NARROW)
                        words[j] = narrow(p.y_format, value[0]) | narrow(p.y_format, value[1])
                                                                      << 16;
                    else if (MODE == FP8_SWIGLU)
                        words[j] = narrow(p.y_format, fp8_swiglu(p, value[0], value[1]));
                    else if (row[i].row >= 0 && at < p.n)
                        *reinterpret_cast<float2 *>(fp8_wide_row(p, row[i].row) + at) =
                            make_float2(value[0], value[1]);
                }
                if (MODE == FP8_PAIRS)
                    continue;
                transpose4(words); /* of eight columns each */
                int at = n + l * 8;
                if (row[i].row < 0 || at >= p.n)
                    continue;
                char *y = p.y + int64_t(row[i].row) * p.y_row_bytes;
                if (MODE == FP8_NARROW) {
                    *reinterpret_cast<uint4 *>(y + at * 2) =
                        make_uint4(words[0], words[1], words[2], words[3]);
                } else {
                    uint2 both;
                    both.x = words[0] | words[1] << 16;
                    both.y = words[2] | words[3] << 16;
                    *reinterpret_cast<uint2 *>(y + at) = both;
                }
            }
        }
    }

    /* By way of local memory, so that the code is short. */
    static __device__ __forceinline__ void store256_any(const fp8_parameters &p, const shared &tail,
                                                        const fp8_work &w, int first,
                                                        const float (&sums)[2][64])
    {
        float kept[128];
        int l = threadIdx.x % 4;
#pragma unroll
        for (int i = 0; i < 128; i++)
            kept[i] = sums[i / 64][i % 64];
#pragma unroll 1
        for (int i = 0; i < 64; i++) { /* half of v, then pair j, then whether 8 rows on */
            int t = first + i / 32 * 64 + i % 2 * 8;
            int n = i % 32 / 2 * 8 + 2 * l;
            fp8_row_end row = row_end(tail, t);
            if (row.row >= 0)
                fp8_put_pair(p, row.row, w.column_tile * COLUMNS + n,
                             fp8_value(kept[2 * i], row.factor, column_end(tail, n)),
                             fp8_value(kept[2 * i + 1], row.factor, column_end(tail, n + 1)));
        }
    }

    /* r128: of rows 8 j + 2 l of x and the next, columns g and 8 on of this warp's 16. */
    template <int N>
    static __device__ __forceinline__ void consume128(const fp8_parameters &p, const shared &at,
                                                      const fp8_work &w, ring &r)
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
            release(at, r.stage);
            r.advance();
#pragma unroll
            for (int i = 0; i < N / 2; i++)
                sums[i] = ALONG ? fmaf(__uint_as_float(by[i / 4][i % 2]), part[i], sums[i])
                                : sums[i] + part[i];
        }
        tail_wait(at, r);
        if (p.splits == 1 || join(p, w, sums)) {
            switch (fp8_mode(p, p.y_pairs && p.n % 2 == 0)) {
            case FP8_NARROW:
                store128<N, FP8_NARROW>(p, at, w, sums);
                break;
            case FP8_SWIGLU:
                store128<N, FP8_SWIGLU>(p, at, w, sums);
                break;
            case FP8_PAIRS:
                store128<N, FP8_PAIRS>(p, at, w, sums);
                break;
            default:
                store128_any<N>(p, at, w, sums);
            }
        }
        tail_release(at, r);
    }

    template <int N, int MODE>
    static __device__ __forceinline__ void store128(const fp8_parameters &p, const shared &tail,
                                                    const fp8_work &w, const float (&sums)[N / 2])
    {
        int lane = threadIdx.x % 32, l = lane % 4, odd = lane / 4 % 2;
        int n = threadIdx.x / 32 * 16 + lane / 8 * 2;
        fp8_column columns[2][2];
#pragma unroll
        for (int i = 0; i < 4; i++)
            columns[i / 2][i % 2] = column_end(tail, n + i / 2 * 8 + i % 2);
#pragma unroll
        for (int j = 0; j < N / 8; j++) {
            /* Neighbouring lanes have neighbouring columns: one takes both of either row. */
            fp8_row_end row = row_end(tail, 8 * j + 2 * l + odd);
#pragma unroll
            for (int h = 0; h < 2; h++) {
                float low = sums[4 * j + 2 * h], high = sums[4 * j + 2 * h + 1];
                float other = __shfl_xor_sync(0xffffffffu, odd ? low : high, 4);
                float first = fp8_value(odd ? other : low, row.factor, columns[h][0]);
                float second = fp8_value(odd ? high : other, row.factor, columns[h][1]);
                int column = w.column_tile * COLUMNS + n + h * 8;
                if (row.row < 0 || column >= p.n)
                    continue;
                char *y = p.y + int64_t(row.row) * p.y_row_bytes;
                if (MODE == FP8_NARROW)
                    *reinterpret_cast<uint32_t *>(y + column * 2) =
                        narrow(p.y_format, first) | narrow(p.y_format, second) << 16;
                else if (MODE == FP8_SWIGLU)
                    *reinterpret_cast<uint16_t *>(y + column) =
                        uint16_t(narrow(p.y_format, fp8_swiglu(p, first, second)));
                else
                    *reinterpret_cast<float2 *>(fp8_wide_row(p, row.row) + column) =
                        make_float2(first, second);
            }
        }
    }

    /* By way of local memory, so that the code is short. */
    template <int N>
    static __device__ __forceinline__ void store128_any(const fp8_parameters &p, const shared &tail,
                                                        const fp8_work &w,
                                                        const float (&sums)[N / 2])
    {
        float kept[N / 2];
        int lane = threadIdx.x % 32, l = lane % 4, odd = lane / 4 % 2;
#pragma unroll
        for (int i = 0; i < N / 2; i++)
            kept[i] = sums[i];
#pragma unroll 1
        for (int i = 0; i < N / 4; i++) { /* eight rows, then whether 8 columns on */
            fp8_row_end row = row_end(tail, i / 2 * 8 + 2 * l + odd);
            int n = threadIdx.x / 32 * 16 + lane / 8 * 2 + i % 2 * 8;
            float low = kept[2 * i], high = kept[2 * i + 1];
            float other = __shfl_xor_sync(0xffffffffu, odd ? low : high, 4);
            if (row.row >= 0)
                fp8_put_pair(p, row.row, w.column_tile * COLUMNS + n,
                             fp8_value(odd ? other : low, row.factor, column_end(tail, n)),
                             fp8_value(odd ? high : other, row.factor, column_end(tail, n + 1)));
        }
    }

    /* Adds up the sums of the blocks that share the K of one tile, in the order of K. True in the
     * block that came last, which has the totals. */
    template <int COUNT>
    static __device__ bool join(const fp8_parameters &p, const fp8_work &w, float (&values)[COUNT])
    {
        __shared__ int last;
        constexpr int THREADS = WARPS * 32;
        int tile = w.first / MAX * p.column_tiles + w.column_tile;
        float *base = p.partials + int64_t(tile) * p.splits * (MAX / 2) * THREADS;
        float *mine = base + int64_t(w.split) * (MAX / 2) * THREADS + threadIdx.x;
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            __stcg(mine + i * THREADS, values[i]);
        __threadfence();
        join_threads<THREADS>();
        if (threadIdx.x == 0) {
            unsigned before = atomicAdd(p.counters + tile, 1u);
            last = before == unsigned(p.splits - 1);
            if (last)
                p.counters[tile] = 0; /* for the next run */
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
        for (int s = 0; s < p.splits; s++) {
            const float *from = base + int64_t(s) * (MAX / 2) * THREADS + threadIdx.x;
#pragma unroll
            for (int i = 0; i < COUNT; i++)
                values[i] += __ldcg(from + i * THREADS);
        }
        return true;
    }

    static __device__ __forceinline__ void consume(const fp8_parameters &p, const shared &at)
    {
        ring r;
        int total = items(p);
        for (int item = blockIdx.x; item < total; item += gridDim.x) {
            fp8_work w = find(p, item);
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
                barrier_init(at.full + 8 * i, ALONG ? 1 + HELPERS : 1);
                barrier_init(at.empty + 8 * i, WARPS);
            }
            barrier_init(at.tail_full, HELPERS);
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
