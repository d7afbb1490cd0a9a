/* SPDX-License-Identifier: Apache-2.0
 *
 * The end of a tile of cuda_sm90_fp8: what finished sums meet, and how they become y. Apart from
 * the loop that makes the sums, which knows nothing of y.
 */
#pragma once

#include "cuda_moe.cuh"
#include "cuda_sm90_fp8.h"
#include "cuda_sm90_tiling.cuh"

using fp8_parameters = gemmux_fp8_parameters;

/* ---- rows and columns of y ---- */

/* Row of y (or of `rows`) that row t of a tile is. */
__device__ __forceinline__ int fp8_row(const fp8_parameters &p, const sm90_work &w, int t)
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
__device__ __forceinline__ fp8_column fp8_column_of(const fp8_parameters &p, const sm90_work &w,
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

__device__ __forceinline__ void fp8_put(const fp8_parameters &p, int row, int column, int columns,
                                        float value)
{
    char *y = p.y + int64_t(row) * p.y_row_bytes;
    if (p.rows)
        p.rows[int64_t(row) * columns + column] = value;
    else
        store_one(p.y_format, y, column, value);
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

/* Where a tile's rows and columns stand in shared memory, 8 bytes each. */
struct fp8_tail {
    uint32_t rows, columns;
};

/* One row of x, or one column, of the tile. */
__device__ __forceinline__ fp8_row_end fp8_row_end_of(const fp8_tail &at, int t)
{
    uint32_t words[2];
    read_shared8(at.rows + t * 8, words);
    return {int(words[0]), __uint_as_float(words[1])};
}

__device__ __forceinline__ fp8_column fp8_column_end_of(const fp8_tail &at, int n)
{
    uint32_t words[2];
    read_shared8(at.columns + n * 8, words);
    return {__uint_as_float(words[0]), __uint_as_float(words[1])};
}

/* ---- r256 ---- */

/* Lane l of four gets word l of each. */
__device__ __forceinline__ void fp8_transpose(uint32_t (&words)[4])
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
__device__ __forceinline__ void fp8_store256(const fp8_parameters &p, const fp8_tail &tail,
                                             const sm90_work &w, int first,
                                             const float (&sums)[2][64])
{
    int l = threadIdx.x % 4;
    fp8_row_end row[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        row[i] = fp8_row_end_of(tail, first + i / 2 * 64 + i % 2 * 8);
#pragma unroll
    for (int fours = 0; fours < 4; fours++) {
        int n = w.w_tile * GEMMUX_FP8_COLUMNS + fours * 32;
        fp8_column columns[4][2];
#pragma unroll
        for (int j = 0; j < 8; j++)
            columns[j / 2][j % 2] = fp8_column_end_of(tail, fours * 32 + j / 2 * 8 + 2 * l + j % 2);
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
                    words[j] = narrow(p.y_format, value[0]) | narrow(p.y_format, value[1]) << 16;
                else if (MODE == FP8_SWIGLU)
                    words[j] =
                        narrow(p.y_format, quick_swiglu(value[0], value[1], p.alpha, p.limit));
                else if (row[i].row >= 0 && at < p.n)
                    *reinterpret_cast<float2 *>(fp8_wide_row(p, row[i].row) + at) =
                        make_float2(value[0], value[1]);
            }
            if (MODE == FP8_PAIRS)
                continue;
            fp8_transpose(words); /* of eight columns each */
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
__device__ __forceinline__ void fp8_store256_any(const fp8_parameters &p, const fp8_tail &tail,
                                                 const sm90_work &w, int first,
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
        fp8_row_end row = fp8_row_end_of(tail, t);
        if (row.row >= 0)
            fp8_put_pair(p, row.row, w.w_tile * GEMMUX_FP8_COLUMNS + n,
                         fp8_value(kept[2 * i], row.factor, fp8_column_end_of(tail, n)),
                         fp8_value(kept[2 * i + 1], row.factor, fp8_column_end_of(tail, n + 1)));
    }
}

/* first: the tile's row of x that is this lane's first. */
__device__ __forceinline__ void fp8_end256(const fp8_parameters &p, const fp8_tail &tail,
                                           const sm90_work &w, int first,
                                           const float (&sums)[2][64])
{
    switch (fp8_mode(p, p.y_fours && p.n % 8 == 0)) {
    case FP8_NARROW:
        fp8_store256<FP8_NARROW>(p, tail, w, first, sums);
        break;
    case FP8_SWIGLU:
        fp8_store256<FP8_SWIGLU>(p, tail, w, first, sums);
        break;
    case FP8_PAIRS:
        fp8_store256<FP8_PAIRS>(p, tail, w, first, sums);
        break;
    default:
        fp8_store256_any(p, tail, w, first, sums);
    }
}

/* ---- r128 ---- */

template <int N, int MODE>
__device__ __forceinline__ void fp8_store128(const fp8_parameters &p, const fp8_tail &tail,
                                             const sm90_work &w, const float (&sums)[N / 2])
{
    int lane = threadIdx.x % 32, l = lane % 4, odd = lane / 4 % 2;
    int n = threadIdx.x / 32 * 16 + lane / 8 * 2;
    fp8_column columns[2][2];
#pragma unroll
    for (int i = 0; i < 4; i++)
        columns[i / 2][i % 2] = fp8_column_end_of(tail, n + i / 2 * 8 + i % 2);
#pragma unroll
    for (int j = 0; j < N / 8; j++) {
        /* Neighbouring lanes have neighbouring columns: one takes both of either row. */
        fp8_row_end row = fp8_row_end_of(tail, 8 * j + 2 * l + odd);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float low = sums[4 * j + 2 * h], high = sums[4 * j + 2 * h + 1];
            float other = __shfl_xor_sync(0xffffffffu, odd ? low : high, 4);
            float first = fp8_value(odd ? other : low, row.factor, columns[h][0]);
            float second = fp8_value(odd ? high : other, row.factor, columns[h][1]);
            int column = w.w_tile * GEMMUX_FP8_COLUMNS + n + h * 8;
            if (row.row < 0 || column >= p.n)
                continue;
            char *y = p.y + int64_t(row.row) * p.y_row_bytes;
            if (MODE == FP8_NARROW)
                *reinterpret_cast<uint32_t *>(y + column * 2) =
                    narrow(p.y_format, first) | narrow(p.y_format, second) << 16;
            else if (MODE == FP8_SWIGLU)
                *reinterpret_cast<uint16_t *>(y + column) =
                    uint16_t(narrow(p.y_format, quick_swiglu(first, second, p.alpha, p.limit)));
            else
                *reinterpret_cast<float2 *>(fp8_wide_row(p, row.row) + column) =
                    make_float2(first, second);
        }
    }
}

/* By way of local memory, so that the code is short. */
template <int N>
__device__ __forceinline__ void fp8_store128_any(const fp8_parameters &p, const fp8_tail &tail,
                                                 const sm90_work &w, const float (&sums)[N / 2])
{
    float kept[N / 2];
    int lane = threadIdx.x % 32, l = lane % 4, odd = lane / 4 % 2;
#pragma unroll
    for (int i = 0; i < N / 2; i++)
        kept[i] = sums[i];
#pragma unroll 1
    for (int i = 0; i < N / 4; i++) { /* eight rows, then whether 8 columns on */
        fp8_row_end row = fp8_row_end_of(tail, i / 2 * 8 + 2 * l + odd);
        int n = threadIdx.x / 32 * 16 + lane / 8 * 2 + i % 2 * 8;
        float low = kept[2 * i], high = kept[2 * i + 1];
        float other = __shfl_xor_sync(0xffffffffu, odd ? low : high, 4);
        if (row.row >= 0)
            fp8_put_pair(p, row.row, w.w_tile * GEMMUX_FP8_COLUMNS + n,
                         fp8_value(odd ? other : low, row.factor, fp8_column_end_of(tail, n)),
                         fp8_value(odd ? high : other, row.factor, fp8_column_end_of(tail, n + 1)));
    }
}

template <int N>
__device__ __forceinline__ void fp8_end128(const fp8_parameters &p, const fp8_tail &tail,
                                           const sm90_work &w, const float (&sums)[N / 2])
{
    switch (fp8_mode(p, p.y_pairs && p.n % 2 == 0)) {
    case FP8_NARROW:
        fp8_store128<N, FP8_NARROW>(p, tail, w, sums);
        break;
    case FP8_SWIGLU:
        fp8_store128<N, FP8_SWIGLU>(p, tail, w, sums);
        break;
    case FP8_PAIRS:
        fp8_store128<N, FP8_PAIRS>(p, tail, w, sums);
        break;
    default:
        fp8_store128_any<N>(p, tail, w, sums);
    }
}
