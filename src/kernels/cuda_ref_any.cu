/* SPDX-License-Identifier: Apache-2.0
 *
 * cuda_ref_any: plain CUDA, every format, every op, every epilogue; the floor on the device. A
 * block decodes tiles of x and w into f32 in shared memory and each thread sums one product by
 * fused multiply-adds, in the order of K. Written to be read, not to be fast.
 */
#include "cuda_ref_any.h"

#include "cuda_ptx.cuh"

namespace
{

__constant__ float nf4_values[16] = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};

/* Codes need no alignment beyond their own. */
__device__ uint32_t load_code(int code, const void *codes, int64_t index)
{
    const uint8_t *bytes = static_cast<const uint8_t *>(codes);
    switch (code) {
    case GEMMUX_CODE_F32:
        return static_cast<const uint32_t *>(codes)[index];
    case GEMMUX_CODE_F16:
    case GEMMUX_CODE_BF16:
        return static_cast<const uint16_t *>(codes)[index];
    case GEMMUX_CODE_E2M1:
    case GEMMUX_CODE_INT4:
    case GEMMUX_CODE_NF4:
        return bytes[index >> 1] >> ((index & 1) * 4) & 15;
    default:
        return bytes[index];
    }
}

/* sign, `exponent_bits`, `mantissa_bits`; special: the highest exponent is infinity and NaN. */
__device__ float small_float(uint32_t bits, int exponent_bits, int mantissa_bits, bool special)
{
    int bias = (1 << (exponent_bits - 1)) - 1;
    uint32_t mantissa = bits & ((1u << mantissa_bits) - 1);
    int exponent = static_cast<int>(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
    float sign = bits >> (mantissa_bits + exponent_bits) & 1 ? -1.0f : 1.0f;
    if (special && exponent == (1 << exponent_bits) - 1)
        return sign * (mantissa ? __int_as_float(0x7fffffff) : __int_as_float(0x7f800000));
    if (exponent == 0)
        return sign * ldexpf(static_cast<float>(mantissa), 1 - bias - mantissa_bits);
    return sign * ldexpf(static_cast<float>(mantissa | 1u << mantissa_bits),
                         exponent - bias - mantissa_bits);
}

__device__ float decode(int code, uint32_t bits)
{
    switch (code) {
    case GEMMUX_CODE_F32:
        return __uint_as_float(bits);
    case GEMMUX_CODE_BF16:
        return __uint_as_float(bits << 16);
    case GEMMUX_CODE_F16:
        return small_float(bits, 5, 10, true);
    case GEMMUX_CODE_E5M2:
        return small_float(bits, 5, 2, true);
    case GEMMUX_CODE_UE4M3:
        bits &= 0x7f;
        [[fallthrough]];
    case GEMMUX_CODE_E4M3:
        return (bits & 0x7f) == 0x7f ? __int_as_float(0x7fffffff) : small_float(bits, 4, 3, false);
    case GEMMUX_CODE_E2M1:
        return small_float(bits, 2, 1, false);
    case GEMMUX_CODE_INT8:
        return static_cast<float>(static_cast<int8_t>(bits));
    case GEMMUX_CODE_INT4:
        return static_cast<float>(bits);
    case GEMMUX_CODE_NF4:
        return nf4_values[bits];
    case GEMMUX_CODE_UE8M0:
        return bits == 255 ? __int_as_float(0x7fffffff)
                           : ldexpf(1.0f, static_cast<int>(bits) - 127);
    default:
        return __int_as_float(0x7fffffff);
    }
}

__device__ int64_t scale_index(const gemmux_ref_tensor &t, int64_t matrix, int64_t row, int64_t col)
{
    int64_t g = t.format.group;
    switch (t.format.scaling) {
    case GEMMUX_SCALING_ROW:
        return matrix * t.rows + row;
    case GEMMUX_SCALING_GROUP: {
        int64_t groups = (t.cols + g - 1) / g;
        return (matrix * t.rows + row) * groups + col / g;
    }
    case GEMMUX_SCALING_BLOCK: {
        int64_t across = (t.cols + g - 1) / g, down = (t.rows + g - 1) / g;
        return (matrix * down + row / g) * across + col / g;
    }
    default:
        return matrix;
    }
}

/* The same value as gemmux_tensor_at, with f32 roundings. */
__device__ float element(const gemmux_ref_tensor &t, int64_t matrix, int64_t row, int64_t col)
{
    const char *codes = static_cast<const char *>(t.codes) + (matrix * t.rows + row) * t.row_bytes;
    float value = decode(t.format.element, load_code(t.format.element, codes, col));
    if (t.format.scaling == GEMMUX_SCALING_NONE)
        return value;
    int64_t at = scale_index(t, matrix, row, col);
    float scale = decode(t.format.scale, load_code(t.format.scale, t.scales, at));
    if (t.format.element == GEMMUX_CODE_INT4 && t.format.zero != GEMMUX_ZERO_MIN)
        value -= t.format.zero == GEMMUX_ZERO_POINT
                     ? static_cast<float>(static_cast<const uint8_t *>(t.zeros)[at])
                     : 8.0f;
    value *= scale;
    if (t.format.zero == GEMMUX_ZERO_MIN)
        value += decode(t.format.scale, load_code(t.format.scale, t.zeros, at));
    if (t.format.two_level && t.globals)
        value *= t.globals[matrix];
    return value;
}

__device__ void store(const gemmux_ref_parameters &p, int64_t row, int64_t col, float value)
{
    char *y = static_cast<char *>(p.y) + row * p.y_row_bytes;
    if (p.y_format == GEMMUX_F32) {
        reinterpret_cast<float *>(y)[col] = value;
        return;
    }
    reinterpret_cast<uint16_t *>(y)[col] =
        p.y_format == GEMMUX_BF16 ? float_to_bf16(value) : float_to_half(value);
}

__device__ float swiglu(float gate, float up, float alpha, float limit)
{
    float g = gate > limit ? limit : gate;
    float u = up > limit ? limit : up < -limit ? -limit : up;
    return g / (1.0f + expf(-alpha * g)) * (u + 1.0f);
}

/* Sums of one row of x with GEMMUX_REF_N rows of one matrix of w; a warp a row of x. Rows of x that
 * do not exist are -1 and count as zero. */
__device__ float dot(const gemmux_ref_parameters &p, int64_t x_row, int64_t matrix, int64_t n_first,
                     float (*x_tile)[GEMMUX_REF_K], float (*w_tile)[GEMMUX_REF_K + 1])
{
    int lane = threadIdx.x % 32, row = threadIdx.x / 32;
    float sum = 0.0f;
    for (int64_t k = 0; k < p.k; k += GEMMUX_REF_K) {
        int64_t col = k + lane;
        int64_t x_col = p.k_order && col < p.k ? p.k_order[col] : col;
        x_tile[row][lane] = x_row >= 0 && col < p.k ? element(p.x, 0, x_row, x_col) : 0.0f;
        for (int n = row; n < GEMMUX_REF_N; n += GEMMUX_REF_M)
            w_tile[n][lane] =
                n_first + n < p.n && col < p.k ? element(p.w, matrix, n_first + n, col) : 0.0f;
        __syncthreads();
        for (int i = 0; i < GEMMUX_REF_K && k + i < p.k; i++)
            sum = fmaf(x_tile[row][i], w_tile[lane][i], sum);
        __syncthreads();
    }
    return sum;
}

/* Bias and SwiGLU; the value of column n_first + lane, or with SwiGLU of pair lane / 2. */
__device__ float finish(const gemmux_ref_parameters &p, float sum, int64_t matrix, int64_t n)
{
    if (p.bias && n < p.n)
        sum += p.bias[matrix * p.n + n];
    if (p.swiglu) {
        float up = __shfl_down_sync(0xffffffffu, sum, 1);
        sum = swiglu(sum, up, p.alpha, p.limit);
    }
    return sum;
}

__device__ void store_column(const gemmux_ref_parameters &p, int64_t row, int64_t n, float value)
{
    if (n >= p.n || (p.swiglu && n % 2))
        return;
    store(p, row, p.swiglu ? n / 2 : n, value);
}

} // namespace

/* grid: tiles of N x tiles of M. */
extern "C" __global__ void __launch_bounds__(256) ref_dense(const gemmux_ref_parameters p)
{
    __shared__ float x_tile[GEMMUX_REF_M][GEMMUX_REF_K];
    __shared__ float w_tile[GEMMUX_REF_N][GEMMUX_REF_K + 1];
    int64_t n_first = static_cast<int64_t>(blockIdx.x) * GEMMUX_REF_N;
    for (int64_t tile = blockIdx.y; tile * GEMMUX_REF_M < p.m; tile += gridDim.y) {
        int64_t row = tile * GEMMUX_REF_M + threadIdx.x / 32;
        int64_t n = n_first + threadIdx.x % 32;
        float sum = dot(p, row < p.m ? row : -1, 0, n_first, x_tile, w_tile);
        float value = finish(p, sum, 0, n);
        if (row < p.m)
            store_column(p, row, n, value);
    }
}

/* grid: tiles of N x rows of y. The first warp multiplies, the others help it to decode. With
 * SCATTER a row of y is the weighted sum of its slots, in their order; an expert that does not
 * exist gives NaN. */
extern "C" __global__ void __launch_bounds__(256) ref_moe(const gemmux_ref_parameters p)
{
    __shared__ float x_tile[GEMMUX_REF_M][GEMMUX_REF_K];
    __shared__ float w_tile[GEMMUX_REF_N][GEMMUX_REF_K + 1];
    int64_t n_first = static_cast<int64_t>(blockIdx.x) * GEMMUX_REF_N;
    int64_t n = n_first + threadIdx.x % 32;
    int slots = p.scatter ? p.top_k : 1;
    for (int64_t row = blockIdx.y; row < p.m; row += gridDim.y) {
        float total = 0.0f;
        for (int slot = 0; slot < slots; slot++) {
            int64_t pair = row * slots + slot;
            int32_t expert = p.expert_ids[pair];
            bool known = expert >= 0 && expert < p.experts;
            int64_t x_row = p.gather ? pair / p.top_k : pair;
            float sum =
                dot(p, threadIdx.x < 32 ? x_row : -1, known ? expert : 0, n_first, x_tile, w_tile);
            float value = finish(p, sum, known ? expert : 0, n);
            if (!known)
                value = __int_as_float(0x7fffffff);
            total = p.scatter ? fmaf(p.expert_weights[pair], value, total) : value;
        }
        if (threadIdx.x < 32)
            store_column(p, row, n, total);
    }
}
