/* SPDX-License-Identifier: Apache-2.0 */
#include "probe/spin.h"

#include <string.h>

#if defined(__x86_64__)
#    include <immintrin.h>
#elif defined(__aarch64__)
#    include <arm_neon.h>
#endif

/* Hides a register's origin and use, so that neither is computed at compile time or dropped. */
#if defined(__x86_64__)
#    define KEEP(value) __asm__ volatile("" : "+v"(value))
#elif defined(__aarch64__)
#    define KEEP(value) __asm__ volatile("" : "+w"(value))
#else
#    define KEEP(value) __asm__ volatile("" : "+m"(value))
#endif

/* One loop: CHAINS accumulators, so that latency (4 to 6 cycles) times width (2 a cycle) is
 * covered, and STEPS instructions a chain and round. */
enum { CHAINS = 12, STEPS = 16 };

#define SPIN(name, isa, vector, zero, step, operations)                                            \
    __attribute__((target(isa))) static double name(int64_t rounds)                                \
    {                                                                                              \
        vector c0 = zero, c1 = zero, c2 = zero, c3 = zero, c4 = zero, c5 = zero;                   \
        vector c6 = zero, c7 = zero, c8 = zero, c9 = zero, c10 = zero, c11 = zero;                 \
        for (int64_t i = 0; i < rounds * STEPS; i++) {                                             \
            step(c0);                                                                              \
            step(c1);                                                                              \
            step(c2);                                                                              \
            step(c3);                                                                              \
            step(c4);                                                                              \
            step(c5);                                                                              \
            step(c6);                                                                              \
            step(c7);                                                                              \
            step(c8);                                                                              \
            step(c9);                                                                              \
            step(c10);                                                                             \
            step(c11);                                                                             \
        }                                                                                          \
        KEEP(c0);                                                                                  \
        KEEP(c1);                                                                                  \
        KEEP(c2);                                                                                  \
        KEEP(c3);                                                                                  \
        KEEP(c4);                                                                                  \
        KEEP(c5);                                                                                  \
        KEEP(c6);                                                                                  \
        KEEP(c7);                                                                                  \
        KEEP(c8);                                                                                  \
        KEEP(c9);                                                                                  \
        KEEP(c10);                                                                                 \
        KEEP(c11);                                                                                 \
        return (double)rounds * STEPS * CHAINS * (operations);                                     \
    }

/* Fetches `lines` lines 8 KiB on, as the kernels do: the processor's own prefetcher alone leaves a
 * tenth of what one core can read. */
static inline void fetch_ahead(const void *at, int lines)
{
    for (int i = 0; i < lines; i++)
        __builtin_prefetch((const char *)at + 8192 + i * 64);
}

#if defined(__x86_64__)

/* The instructions are spelled out: a compiler that knew the operands would fold them. Operands
 * are the accumulators themselves, which are zero, and zero is as fast as any number. */
#    define FMA_PS(c)          __asm__ volatile("vfmadd231ps %0, %0, %0" : "+v"(c))
#    define MULTIPLY_ADD_PS(c) __asm__ volatile("mulps %0, %0\n\taddps %0, %0" : "+x"(c))
#    define DOT_BF16(c)        __asm__ volatile("vdpbf16ps %0, %0, %0" : "+v"(c))
#    define DOT_INT8(c)        __asm__ volatile("vpdpbusd %0, %0, %0" : "+v"(c))
#    define DOT_INT8_VEX(c)    __asm__ volatile("%{vex%} vpdpbusd %0, %0, %0" : "+x"(c))
#    define FMA_PH(c)          __asm__ volatile("vfmadd231ph %0, %0, %0" : "+v"(c))

SPIN(f32_sse2, "sse2", __m128, _mm_setzero_ps(), MULTIPLY_ADD_PS, 8)
SPIN(f32_avx2, "avx2,fma", __m256, _mm256_setzero_ps(), FMA_PS, 16)
SPIN(f32_avx512, "avx512f", __m512, _mm512_setzero_ps(), FMA_PS, 32)
SPIN(bf16_avx512, "avx512f,avx512bf16", __m512, _mm512_setzero_ps(), DOT_BF16, 64)
SPIN(int8_avx512, "avx512f,avx512vnni", __m512i, _mm512_setzero_si512(), DOT_INT8, 128)
SPIN(int8_avx, "avx2", __m256i, _mm256_setzero_si256(), DOT_INT8_VEX, 64)
SPIN(f16_avx512, "avx512f", __m512i, _mm512_setzero_si512(), FMA_PH, 64)

/* Four accumulating tiles, two of x and two of w: 16 x 16 results of 64 bytes of K each. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

#    define SPIN_TILES(name, instruction, operations)                                              \
        static double name(int64_t rounds)                                                         \
        {                                                                                          \
            tile_config config = {.palette = 1};                                                   \
            for (int i = 0; i < 8; i++) {                                                          \
                config.row_bytes[i] = 64;                                                          \
                config.rows[i] = 16;                                                               \
            }                                                                                      \
            __asm__ volatile("ldtilecfg %0" ::"m"(config));                                        \
            __asm__ volatile("tilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\t"           \
                             "tilezero %%tmm3\n\ttilezero %%tmm4\n\ttilezero %%tmm5\n\t"           \
                             "tilezero %%tmm6\n\ttilezero %%tmm7" ::                               \
                                 : "memory");                                                      \
            for (int64_t i = 0; i < rounds; i++)                                                   \
                __asm__ volatile(instruction " %%tmm6, %%tmm4, %%tmm0\n\t" instruction             \
                                             " %%tmm7, %%tmm4, %%tmm1\n\t" instruction             \
                                             " %%tmm6, %%tmm5, %%tmm2\n\t" instruction             \
                                             " %%tmm7, %%tmm5, %%tmm3" ::                          \
                                                 : "memory");                                      \
            __asm__ volatile("tilerelease" ::: "memory");                                          \
            return (double)rounds * 4 * (operations);                                              \
        }
SPIN_TILES(bf16_tiles, "tdpbf16ps", 16 * 16 * 32 * 2)
SPIN_TILES(int8_tiles, "tdpbssd", 16 * 16 * 64 * 2)

gemmux_spin *gemmux_spin_of(gemmux_math math, uint32_t isa)
{
    switch (math) {
    case GEMMUX_MATH_F32:
        return isa & GEMMUX_ISA_AVX512 ? f32_avx512 : isa & GEMMUX_ISA_AVX2 ? f32_avx2 : f32_sse2;
    case GEMMUX_MATH_BF16:
        return isa & GEMMUX_ISA_AMXBF16      ? bf16_tiles
               : isa & GEMMUX_ISA_AVX512BF16 ? bf16_avx512
                                             : NULL;
    case GEMMUX_MATH_F16:
        return isa & GEMMUX_ISA_AVX512FP16 ? f16_avx512 : NULL;
    case GEMMUX_MATH_INT8:
        return isa & GEMMUX_ISA_AMXINT8      ? int8_tiles
               : isa & GEMMUX_ISA_AVX512VNNI ? int8_avx512
               : isa & GEMMUX_ISA_AVXVNNI    ? int8_avx
                                             : NULL;
    default:
        return NULL;
    }
}

__attribute__((target("avx512f"))) static uint64_t read_avx512(const void *lines, int64_t count)
{
    const __m512i *at = lines;
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
        fetch_ahead(at + i, 4);
        a = _mm512_xor_si512(a, _mm512_load_si512(at + i));
        b = _mm512_xor_si512(b, _mm512_load_si512(at + i + 1));
        c = _mm512_xor_si512(c, _mm512_load_si512(at + i + 2));
        d = _mm512_xor_si512(d, _mm512_load_si512(at + i + 3));
    }
    for (; i < count; i++)
        a = _mm512_xor_si512(a, _mm512_load_si512(at + i));
    a = _mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d));
    return (uint64_t)_mm512_reduce_add_epi64(a);
}

__attribute__((target("avx2"))) static uint64_t read_avx2(const void *lines, int64_t count)
{
    const __m256i *at = lines;
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    int64_t i = 0;
    for (; i + 4 <= 2 * count; i += 4) {
        fetch_ahead(at + i, 2);
        a = _mm256_xor_si256(a, _mm256_load_si256(at + i));
        b = _mm256_xor_si256(b, _mm256_load_si256(at + i + 1));
        c = _mm256_xor_si256(c, _mm256_load_si256(at + i + 2));
        d = _mm256_xor_si256(d, _mm256_load_si256(at + i + 3));
    }
    for (; i < 2 * count; i++)
        a = _mm256_xor_si256(a, _mm256_load_si256(at + i));
    a = _mm256_xor_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(c, d));
    return (uint64_t)_mm256_extract_epi64(a, 0) ^ (uint64_t)_mm256_extract_epi64(a, 1) ^
           (uint64_t)_mm256_extract_epi64(a, 2) ^ (uint64_t)_mm256_extract_epi64(a, 3);
}

#elif defined(__aarch64__)

#    define FMA_F32(c) __asm__ volatile("fmla %0.4s, %0.4s, %0.4s" : "+w"(c))
#    define DOT_SDOT(c)                                                                            \
        __asm__ volatile(".arch armv8.2-a+dotprod\n\tsdot %0.4s, %0.16b, %0.16b" : "+w"(c))
#    define MATRIX_SMMLA(c)                                                                        \
        __asm__ volatile(".arch armv8.2-a+i8mm\n\tsmmla %0.4s, %0.16b, %0.16b" : "+w"(c))
#    define MATRIX_BFMMLA(c)                                                                       \
        __asm__ volatile(".arch armv8.2-a+bf16\n\tbfmmla %0.4s, %0.8h, %0.8h" : "+w"(c))
SPIN(f32_neon, "+simd", float32x4_t, vdupq_n_f32(0), FMA_F32, 8)
SPIN(int8_sdot, "+simd", int32x4_t, vdupq_n_s32(0), DOT_SDOT, 32)
SPIN(int8_smmla, "+simd", int32x4_t, vdupq_n_s32(0), MATRIX_SMMLA, 64)
SPIN(bf16_bfmmla, "+simd", float32x4_t, vdupq_n_f32(0), MATRIX_BFMMLA, 32)

gemmux_spin *gemmux_spin_of(gemmux_math math, uint32_t isa)
{
    switch (math) {
    case GEMMUX_MATH_F32:
        return f32_neon;
    case GEMMUX_MATH_BF16:
        return isa & GEMMUX_ISA_BF16 ? bf16_bfmmla : NULL;
    case GEMMUX_MATH_INT8:
        return isa & GEMMUX_ISA_I8MM ? int8_smmla : isa & GEMMUX_ISA_DOTPROD ? int8_sdot : NULL;
    default:
        return NULL;
    }
}

#else

static double f32_plain(int64_t rounds)
{
    float c[8] = {0};
    for (int64_t i = 0; i < rounds * STEPS; i++)
        for (int lane = 0; lane < 8; lane++) {
            c[lane] = c[lane] * c[lane] + c[lane];
            KEEP(c[lane]);
        }
    return (double)rounds * STEPS * 8 * 2;
}

gemmux_spin *gemmux_spin_of(gemmux_math math, uint32_t isa)
{
    (void)isa;
    return math == GEMMUX_MATH_F32 ? f32_plain : NULL;
}

#endif

static uint64_t read_plain(const void *lines, int64_t count)
{
    const uint64_t *at = lines;
    uint64_t sum[8] = {0};
    for (int64_t i = 0; i < count; i++) {
        fetch_ahead(at + 8 * i, 1);
        for (int lane = 0; lane < 8; lane++)
            sum[lane] ^= at[8 * i + lane];
    }
    return sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
}

gemmux_read *gemmux_read_of(uint32_t isa)
{
#if defined(__x86_64__)
    if (isa & GEMMUX_ISA_AVX512)
        return read_avx512;
    if (isa & GEMMUX_ISA_AVX2)
        return read_avx2;
#endif
    (void)isa;
    return read_plain;
}
