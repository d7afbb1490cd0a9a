/* SPDX-License-Identifier: Apache-2.0
 *
 * What the forms of cuda_sm80_upcast share: loading a unit of packed weights, multiplying it with
 * fragments of x, and finishing a pair of neighbouring sums.
 */
#pragma once

#include "cuda_sm80_decode.cuh"

using parameters = gemmux_upcast_parameters;

__device__ __forceinline__ uint32_t load_word(const void *from)
{
    return __ldg(static_cast<const uint32_t *>(from));
}

/* ---- one unit of one row block: codes, and scales as stored ---- */

template <int KIND> struct unit {
    uint32_t codes[kind_traits<KIND>::words * 4];
    uint32_t scale[2];
    uint32_t zero[2];
};

/* One row block of one matrix. */
struct block {
    const uint8_t *codes;  /* this lane's part of unit 0 */
    const uint8_t *scales; /* of this row block and this lane's rows */
    const uint8_t *zeros;
    uint32_t mx[2]; /* mx_base of this lane's rows */
};

template <int KIND>
__device__ __forceinline__ block open_block(const parameters &p, const uint8_t *matrix,
                                            int row_block)
{
    constexpr int unit_bytes = 128 * kind_traits<KIND>::bits;
    int lane = threadIdx.x % 32, g = lane / 4, l = lane % 4;
    block b;
    b.codes = matrix + int64_t(row_block) * p.units * unit_bytes + lane * 16;
    b.scales = matrix + p.scales_at;
    b.zeros = matrix + p.zeros_at;
    if (kind_traits<KIND>::mx) {
        b.scales += int64_t(row_block) * p.units * 32 + g * 4;
        uint32_t shifts = 0;
        if (!p.unshifted)
            shifts = __ldg(
                reinterpret_cast<const uint16_t *>(matrix + p.shifts_at + row_block * 16 + g * 2));
        b.mx[0] = mx_base<KIND>(shifts & 255);
        b.mx[1] = mx_base<KIND>(shifts >> 8);
    } else if (kind_traits<KIND>::nv) {
        b.scales += int64_t(row_block) * p.units * 64 + (g * 2 + l / 2) * 4;
    } else if (!kind_traits<KIND>::plain) {
        int each = p.scale_code == GEMMUX_CODE_F32 ? 4 : 2;
        int64_t first = p.scale_block ? int64_t(row_block) * p.groups
                                      : int64_t(row_block) * p.groups * 16 + g * (p.fine ? 4 : 2);
        b.scales += first * each;
        b.zeros += first * (p.zero == GEMMUX_ZERO_MIN ? each : 1);
    }
    return b;
}

/* Up to 8 bytes at `from`, aligned to `bytes` (2, 4 or 8; 1 is never asked). */
__device__ __forceinline__ void load_small(const uint8_t *from, int bytes, uint32_t (&out)[2])
{
    if (bytes == 8) {
        uint2 v = __ldg(reinterpret_cast<const uint2 *>(from));
        out[0] = v.x, out[1] = v.y;
    } else if (bytes == 4) {
        out[0] = load_word(from);
    } else {
        out[0] = __ldg(reinterpret_cast<const uint16_t *>(from));
    }
}

/* Zero points of [half][row], a byte each, of what is stored for a row pair. Not done
 * when a unit is loaded: that would wait for all that is under way. */
__device__ __forceinline__ uint32_t zero_points(const parameters &p, uint32_t stored)
{
    if (!p.zero)
        return 0x08080808u;
    return p.fine ? stored : prmt(stored, 0, 0x1010);
}

/* Offset, in scales, of what unit u reads. */
__device__ __forceinline__ int scale_offset(const parameters &p, int u)
{
    if (p.fine)
        return u * 32;
    int group = u * 64 >> p.group_shift;
    return p.scale_block ? group : group * 16;
}

template <int KIND>
__device__ __forceinline__ void load_unit(const parameters &p, const block &b, int u, bool valid,
                                          unit<KIND> &to)
{
    using T = kind_traits<KIND>;
    constexpr int unit_bytes = 128 * T::bits;
#pragma unroll
    for (int i = 0; i < T::loads; i++) {
        uint4 v = make_uint4(0, 0, 0, 0);
        if (valid)
            v = load_stream(b.codes + int64_t(u) * unit_bytes + i * 512);
        to.codes[4 * i] = v.x, to.codes[4 * i + 1] = v.y;
        to.codes[4 * i + 2] = v.z, to.codes[4 * i + 3] = v.w;
    }
    to.scale[0] = to.scale[1] = to.zero[0] = to.zero[1] = 0;
    if (T::plain || !valid)
        return;
    if (T::mx) {
        to.scale[0] = load_word(b.scales + int64_t(u) * 32);
    } else if (T::nv) {
        to.scale[0] = load_word(b.scales + int64_t(u) * 64);
    } else {
        /* A pair a half when fine (in f32 too much for here: scale_pair loads it), a pair else,
         * one value for blocks. */
        int each = p.scale_code == GEMMUX_CODE_F32 ? 4 : 2;
        int64_t at = scale_offset(p, u);
        int bytes = p.scale_block ? each : each * (p.fine ? 4 : 2);
        if (bytes <= 8) {
            load_small(b.scales + at * each, bytes, to.scale);
            if (T::minima)
                load_small(b.zeros + at * each, bytes, to.zero);
        }
        if (T::int4 && !T::minima && p.zero)
            load_small(b.zeros + at, p.fine ? 4 : 2, to.zero);
    }
}

/* Columns 32 half + 8 l .. + 7 of row 2g + odd, as words of the unit's codes. */
template <int KIND>
__device__ __forceinline__ const uint32_t *row_words(const unit<KIND> &from, int half, int odd)
{
    return from.codes + (half * 2 + odd) * kind_traits<KIND>::words;
}

__device__ __forceinline__ float scale_value(int code, uint32_t bits)
{
    return code == GEMMUX_CODE_BF16 ? __uint_as_float(bits << 16) : half_to_float(bits);
}

/* Scales (or minima, by `raw` and `stored`) of rows 2g and 2g + 1 in one half of unit u. */
__device__ __forceinline__ float2 scale_pair(const parameters &p, const uint8_t *stored,
                                             const uint32_t (&raw)[2], int u, int half)
{
    if (p.scale_code == GEMMUX_CODE_F32) {
        if (p.fine) {
            const float *at = reinterpret_cast<const float *>(stored) + int64_t(u) * 32 + half * 2;
            return make_float2(__ldg(at), __ldg(at + 1));
        }
        float first = __uint_as_float(raw[0]);
        return make_float2(first, p.scale_block ? first : __uint_as_float(raw[1]));
    }
    uint32_t both = p.fine && half ? raw[1] : raw[0];
    float first = scale_value(p.scale_code, both & 0xffffu);
    return make_float2(first, p.scale_block ? first : scale_value(p.scale_code, both >> 16));
}

/* ---- product ---- */

/* What applies a half's scales to sums, made once for all columns of y. */
struct sum_scales {
    float2 scale, minimum;
};

template <int KIND, bool F16>
__device__ __forceinline__ sum_scales scales_of_sums(const parameters &p, const block &b,
                                                     const unit<KIND> &from, int u, int half)
{
    using T = kind_traits<KIND>;
    sum_scales s = {};
    if (T::mx) {
        uint32_t both = from.scale[0] >> (16 * half);
        s.scale = make_float2(e8m0_to_float(both & 255), e8m0_to_float(both >> 8 & 255));
    } else {
        s.scale = scale_pair(p, b.scales, from.scale, u, half);
        if (T::minima)
            s.minimum = scale_pair(p, b.zeros, from.zero, u, half);
    }
    s.scale.x *= code_factor<KIND, F16>();
    s.scale.y *= code_factor<KIND, F16>();
    return s;
}

/* INT4: -(offset + zero) twice, for rows 2g + odd: bytes beside those of -128 or -1024. */
template <int KIND, bool F16>
__device__ __forceinline__ uint32_t int4_subtract(const parameters &p, const unit<KIND> &from,
                                                  int half, int odd)
{
    if (kind_traits<KIND>::minima)
        return F16 ? 0xe400e400u : 0xc300c300u;
    return prmt(zero_points(p, from.zero[0]), F16 ? 0xe4e4e4e4u : 0xc3c3c3c3u,
                0x4040u + (half * 2 + odd) * 0x0101u);
}

template <int KIND, bool F16>
__device__ __forceinline__ void multipliers_of(const block &b, const unit<KIND> &from, int half,
                                               uint32_t (&to)[2])
{
    using T = kind_traits<KIND>;
    if (folds<KIND, F16>::value && T::nv) {
        nv_multipliers<F16>(prmt(from.scale[0], 0, half ? 0x4342 : 0x4140), to);
    } else if (folds<KIND, F16>::value) {
#pragma unroll
        for (int odd = 0; odd < 2; odd++)
            to[odd] = prmt(from.scale[0], 0, 0x4440 + half * 2 + odd) * 0x00800080u + b.mx[odd];
    } else {
        to[0] = to[1] = code_multiplier<KIND, F16>();
    }
}

/* One row block's operands of both products of a half: columns 8l.. of rows 2g and 2g + 1. */
template <int KIND, bool F16>
__device__ __forceinline__ void operands_of(const parameters &p, const block &b,
                                            const unit<KIND> &from, int half, int term,
                                            uint32_t (&a)[2][4])
{
    uint32_t by[2], even[4], odd[4], minus[2] = {};
    multipliers_of<KIND, F16>(b, from, half, by);
    if (kind_traits<KIND>::int4) {
        minus[0] = int4_subtract<KIND, F16>(p, from, half, 0);
        minus[1] = int4_subtract<KIND, F16>(p, from, half, 1);
    }
    decode<KIND, F16>(row_words<KIND>(from, half, 0), by[0], minus[0], term, even);
    decode<KIND, F16>(row_words<KIND>(from, half, 1), by[1], minus[1], term, odd);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        a[i][0] = even[2 * i], a[i][1] = odd[2 * i];
        a[i][2] = even[2 * i + 1], a[i][3] = odd[2 * i + 1];
    }
}

/* What minima multiply: the sums of x over the half, in each of the lane's columns. */
template <int KIND, bool F16> __device__ __forceinline__ void add_up_x(uint4 x, float (&sum)[4])
{
    if (kind_traits<KIND>::minima) {
        const uint32_t ones[4] = {one2<F16>(), one2<F16>(), one2<F16>(), one2<F16>()};
        mma<F16>(sum, ones, x.x, x.y);
        mma<F16>(sum, ones, x.z, x.w);
    }
}

/* sums += unit . x for MT row blocks and NT columns of eight rows of x. x_of(half, t) gives the
 * lane's eight columns of row 8t + g. */
template <int KIND, bool F16, int MT, int NT, class X>
__device__ __forceinline__ void multiply(const parameters &p, const block (&blocks)[MT],
                                         const unit<KIND> (&units)[MT], int u,
                                         float (&sums)[MT][NT][4], X x_of)
{
    using T = kind_traits<KIND>;
    constexpr bool direct = T::plain || folds<KIND, F16>::value;
#pragma unroll
    for (int half = 0; half < 2; half++) {
#pragma unroll
        for (int term = 0; term < T::terms; term++) {
            uint32_t a[MT][2][4]; /* [row block][first, second product] */
            sum_scales scales[MT] = {};
#pragma unroll
            for (int m = 0; m < MT; m++) {
                operands_of<KIND, F16>(p, blocks[m], units[m], half, term, a[m]);
                if (!direct)
                    scales[m] = scales_of_sums<KIND, F16>(p, blocks[m], units[m], u, half);
            }
#pragma unroll
            for (int t = 0; t < NT; t++) {
                uint4 x = x_of(half, t);
                float x_sum[4] = {};
                add_up_x<KIND, F16>(x, x_sum);
#pragma unroll
                for (int m = 0; m < MT; m++) {
                    float(&sum)[4] = sums[m][t];
                    if (direct) {
                        mma<F16>(sum, a[m][0], x.x, x.y);
                        mma<F16>(sum, a[m][1], x.z, x.w);
                        continue;
                    }
                    float part[4] = {};
                    mma<F16>(part, a[m][0], x.x, x.y);
                    mma<F16>(part, a[m][1], x.z, x.w);
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        sum[i] =
                            fmaf(i < 2 ? scales[m].scale.x : scales[m].scale.y, part[i], sum[i]);
                        if (T::minima)
                            sum[i] = fmaf(i < 2 ? scales[m].minimum.x : scales[m].minimum.y,
                                          x_sum[i], sum[i]);
                    }
                }
            }
        }
    }
}

/* ---- finish ---- */

__device__ __forceinline__ float swiglu(float gate, float up, float alpha, float limit)
{
    float g = gate > limit ? limit : gate;
    float u = up > limit ? limit : up < -limit ? -limit : up;
    return g / (1.0f + expf(-alpha * g)) * (u + 1.0f);
}

__device__ __forceinline__ uint32_t narrow(int format, float value)
{
    return format == GEMMUX_BF16 ? float_to_bf16(value) : float_to_half(value);
}

/* One column of a row of y. */
__device__ __forceinline__ void store_one(int format, char *row, int column, float value)
{
    if (format == GEMMUX_F32)
        reinterpret_cast<float *>(row)[column] = value;
    else
        reinterpret_cast<uint16_t *>(row)[column] = uint16_t(narrow(format, value));
}

/* What is added and multiplied to the sums of columns n (even) and n + 1 of y. */
struct finisher {
    float2 factor, bias;
    bool nan[2];
};

template <int KIND, bool F16>
__device__ __forceinline__ finisher open_finisher(const parameters &p, const uint8_t *matrix,
                                                  int expert, int n)
{
    finisher f;
    const float *factors = reinterpret_cast<const float *>(matrix + p.factors_at);
    uint32_t flags = load_word(matrix + p.flags_at + (n / 16) * 4);
    int row = n % 16 / 2;
    f.factor = __ldg(reinterpret_cast<const float2 *>(factors + n));
    f.factor.x *= sum_factor<KIND, F16>();
    f.factor.y *= sum_factor<KIND, F16>();
    if (kind_traits<KIND>::mx && folds<KIND, F16>::value && !p.unshifted) { /* 2^shift */
        f.factor.x *= __uint_as_float((127u + matrix[p.shifts_at + n]) << 23);
        f.factor.y *= __uint_as_float((127u + matrix[p.shifts_at + n + 1]) << 23);
    }
    f.nan[0] = flags >> row & 1;
    f.nan[1] = flags >> (row + 8) & 1;
    f.bias = make_float2(0.0f, 0.0f);
    if (p.bias) {
        const float *bias = p.bias + int64_t(expert) * p.n + n;
        f.bias.x = n < p.n ? __ldg(bias) : 0.0f;
        f.bias.y = n + 1 < p.n ? __ldg(bias + 1) : 0.0f;
    }
    return f;
}

/* Stores the sums of columns n (even) and n + 1 in product row `row`. */
__device__ __forceinline__ void finish_pair(const parameters &p, const finisher &f, int row, int n,
                                            float first, float second)
{
    const float nan = __int_as_float(0x7fffffff);
    if (n >= p.n)
        return;
    first = f.nan[0] ? nan : fmaf(first, f.factor.x, f.bias.x);
    second = f.nan[1] ? nan : fmaf(second, f.factor.y, f.bias.y);
    int columns = p.swiglu ? p.n / 2 : p.n;
    char *y = p.y + int64_t(row) * p.y_row_bytes;
    if (p.swiglu) {
        float value = swiglu(first, second, p.alpha, p.limit);
        if (p.rows)
            p.rows[int64_t(row) * columns + n / 2] = value;
        else
            store_one(p.y_format, y, n / 2, value);
        return;
    }
    bool both = n + 1 < p.n;
    if (p.rows) {
        float *to = p.rows + int64_t(row) * columns + n;
        to[0] = first;
        if (both)
            to[1] = second;
    } else if (p.y_pairs && both) {
        if (p.y_format == GEMMUX_F32)
            *reinterpret_cast<float2 *>(y + n * 4) = make_float2(first, second);
        else
            *reinterpret_cast<uint32_t *>(y + n * 2) =
                narrow(p.y_format, first) | narrow(p.y_format, second) << 16;
    } else {
        store_one(p.y_format, y, n, first);
        if (both)
            store_one(p.y_format, y, n + 1, second);
    }
}

/* ---- rows of x ---- */

/* The tile of product rows that a block works on. */
struct tile {
    int expert, first, count; /* first: in p.sorted, or the product row itself when dense */
};

__device__ __forceinline__ const char *x_row(const parameters &p, int row)
{
    return p.x + int64_t(p.gather ? row / p.top_k : row) * p.x_row_bytes;
}

/* Adds up the values that `splits` blocks hold for the same sums, in the order of the splits.
 * Returns true in the block that came last, with the totals in `values`. */
template <int COUNT>
__device__ bool join_splits(const parameters &p, int tile_index, int split, int threads,
                            float (&values)[COUNT])
{
    __shared__ int last;
    float *base = p.partials + int64_t(tile_index) * p.splits * COUNT * threads;
    float *mine = base + int64_t(split) * COUNT * threads + threadIdx.x;
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        __stcg(mine + i * threads, values[i]);
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        unsigned before = atomicAdd(p.counters + tile_index, 1u);
        last = before == unsigned(p.splits - 1);
        if (last)
            p.counters[tile_index] = 0; /* for the next run */
    }
    __syncthreads();
    if (!last)
        return false;
    __threadfence();
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        values[i] = 0.0f;
    for (int s = 0; s < p.splits; s++) {
        const float *from = base + int64_t(s) * COUNT * threads + threadIdx.x;
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            values[i] += __ldcg(from + i * threads);
    }
    return true;
}
