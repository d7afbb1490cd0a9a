/* SPDX-License-Identifier: Apache-2.0 */
#include "bf16_rows.h"

#include "float_bits.h"
#include "format.h"

#include <math.h>
#include <string.h>

/* Scales of rows and tensors leave the codes (or codes less their zero point) exact in bf16. */
static bool factored(gemmux_format f)
{
    return gemmux_code_bits((gemmux_code)f.element) <= 8 && f.zero != GEMMUX_ZERO_MIN &&
           (f.scaling == GEMMUX_SCALING_ROW || f.scaling == GEMMUX_SCALING_TENSOR);
}

static float scale_at(const gemmux_tensor *w, const void *scales, int64_t index)
{
    gemmux_code code = (gemmux_code)w->format.scale;
    uint32_t bits = gemmux_code_load(code, scales, index);
    switch (code) {
    case GEMMUX_CODE_F32:
        return gemmux_f32_from_bits(bits);
    case GEMMUX_CODE_F16:
        return gemmux_f32_from_f16((uint16_t)bits);
    case GEMMUX_CODE_BF16:
        return gemmux_f32_from_bf16((uint16_t)bits);
    case GEMMUX_CODE_UE8M0: /* 2^-127 is subnormal, 255 is NaN */
        return gemmux_f32_from_bits(bits == 0     ? 0x00400000u
                                    : bits == 255 ? 0x7fc00000u
                                                  : bits << 23);
    case GEMMUX_CODE_UE4M3:
        return gemmux_code_table(GEMMUX_CODE_E4M3)[bits & 127];
    default:
        return (float)gemmux_code_decode(code, bits);
    }
}

static int64_t scale_index(const gemmux_tensor *w, int64_t matrix, int64_t row, int64_t col)
{
    return matrix * gemmux_scale_count(w->format, w->rows, w->cols) +
           gemmux_scale_index(w->format, w->cols, row, col);
}

float gemmux_bf16_row_factor(const gemmux_tensor *w, int64_t matrix, int64_t row)
{
    if (factored(w->format))
        return scale_at(w, w->scales, scale_index(w, matrix, row, 0));
    return w->format.two_level && w->globals ? w->globals[matrix] : 1.0f;
}

#if defined(__x86_64__)

#    include <immintrin.h>
#    define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16,f16c")))

/* A run of columns with one scale and zero: value = scale * (code - zero) + least. */
typedef struct run {
    gemmux_code code;
    const uint8_t *codes; /* of the run's first column */
    int64_t count;
    float scale, zero, least;
    const float *values; /* of the 16 codes of a 4-bit format */
} run;

AVX512 static inline __m256i to_bf16(__m512 value)
{
    return (__m256i)_mm512_cvtneps_pbh(value);
}

AVX512 static inline __m256i affine_bf16(const run *r, __m512 value)
{
    value = _mm512_sub_ps(value, _mm512_set1_ps(r->zero));
    value = _mm512_mul_ps(value, _mm512_set1_ps(r->scale));
    return to_bf16(_mm512_add_ps(value, _mm512_set1_ps(r->least)));
}

/* 4-bit codes look their value up among the run's sixteen. */
AVX512 static void run_4bit(const run *r, uint16_t *out)
{
    __m256i table = affine_bf16(r, _mm512_loadu_ps(r->values));
    int64_t j = 0;
    for (; j + 16 <= r->count; j += 16) {
        __m128i bytes = _mm_loadl_epi64((const __m128i *)(r->codes + j / 2));
        __m128i low = _mm_and_si128(bytes, _mm_set1_epi8(15));
        __m128i high = _mm_and_si128(_mm_srli_epi16(bytes, 4), _mm_set1_epi8(15));
        __m256i index = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(low, high));
        _mm256_storeu_si256((__m256i *)(out + j), _mm256_permutexvar_epi16(index, table));
    }
    uint16_t values[16];
    _mm256_storeu_si256((__m256i *)values, table);
    for (; j < r->count; j++)
        out[j] = values[r->codes[j / 2] >> (j % 2 ? 4 : 0) & 15];
}

AVX512 static inline __m512 widen_8bit(gemmux_code code, __m128i bytes)
{
    if (code == GEMMUX_CODE_INT8)
        return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
    __m256i wide = _mm256_cvtepu8_epi16(bytes);
    if (code == GEMMUX_CODE_E5M2)
        return _mm512_cvtph_ps(_mm256_slli_epi16(wide, 8));
    /* e4m3 in f16's places is 2^8 too small; its NaN would be a number there. */
    __m256i sign = _mm256_slli_epi16(_mm256_and_si256(wide, _mm256_set1_epi16(0x80)), 8);
    __m256i rest = _mm256_and_si256(wide, _mm256_set1_epi16(0x7f));
    __mmask16 nan = _mm256_cmpeq_epi16_mask(rest, _mm256_set1_epi16(0x7f));
    __m512 value = _mm512_cvtph_ps(_mm256_or_si256(sign, _mm256_slli_epi16(rest, 7)));
    value = _mm512_mul_ps(value, _mm512_set1_ps(256.0f));
    return _mm512_mask_mov_ps(value, nan, _mm512_set1_ps(NAN));
}

AVX512 static void run_8bit(const run *r, uint16_t *out)
{
    for (int64_t j = 0; j < r->count; j += 16) {
        __mmask16 mask = r->count - j < 16 ? (__mmask16)((1u << (r->count - j)) - 1) : 0xffff;
        __m128i bytes = _mm_maskz_loadu_epi8(mask, r->codes + j);
        __m256i value = affine_bf16(r, widen_8bit(r->code, bytes));
        _mm256_mask_storeu_epi16(out + j, mask, value);
    }
}

AVX512 static void run_wide(const run *r, uint16_t *out)
{
    for (int64_t j = 0; j < r->count; j += 16) {
        __mmask16 mask = r->count - j < 16 ? (__mmask16)((1u << (r->count - j)) - 1) : 0xffff;
        __m512 value =
            r->code == GEMMUX_CODE_F16
                ? _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, r->codes + 2 * j))
                : _mm512_maskz_loadu_ps(mask, (const float *)(const void *)(r->codes + 4 * j));
        _mm256_mask_storeu_epi16(out + j, mask, to_bf16(value));
    }
}

static const float *values_of(gemmux_code code)
{
    static const float integers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return code == GEMMUX_CODE_INT4 ? integers : gemmux_code_table(code);
}

static void row_avx512(const gemmux_tensor *w, int64_t matrix, int64_t row, uint16_t *out)
{
    gemmux_format f = w->format;
    gemmux_code code = (gemmux_code)f.element;
    int bits = gemmux_code_bits(code);
    const uint8_t *codes =
        (const uint8_t *)w->codes + (matrix * w->rows + row) * gemmux_row_stride(w);
    if (code == GEMMUX_CODE_BF16) {
        memcpy(out, codes, (size_t)w->cols * 2);
        return;
    }
    bool outside = factored(f);
    int64_t length = f.group ? f.group : w->cols;
    run r = {.code = code, .scale = 1, .values = values_of(code)};
    r.zero = code == GEMMUX_CODE_INT4 && f.zero != GEMMUX_ZERO_MIN ? 8 : 0;
    for (int64_t col = 0; col < w->cols; col += length) {
        r.codes = codes + col * bits / 8;
        r.count = w->cols - col < length ? w->cols - col : length;
        if (f.scaling) {
            int64_t index = scale_index(w, matrix, row, col);
            r.scale = outside ? 1 : scale_at(w, w->scales, index);
            if (f.zero == GEMMUX_ZERO_POINT)
                r.zero = ((const uint8_t *)w->zeros)[index];
            else if (f.zero == GEMMUX_ZERO_MIN)
                r.least = scale_at(w, w->zeros, index);
        }
        (bits == 4 ? run_4bit : bits == 8 ? run_8bit : run_wide)(&r, out + col);
    }
}

gemmux_bf16_row *const gemmux_bf16_row_avx512 = row_avx512;

#else

gemmux_bf16_row *const gemmux_bf16_row_avx512 = NULL;

#endif
