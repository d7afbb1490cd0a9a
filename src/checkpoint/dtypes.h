/* SPDX-License-Identifier: Apache-2.0
 *
 * The element types that safetensors and GGUF files name. Separate from gemmux's own formats: a
 * file's type says how bytes lie in the file, a scheme (scheme.h) turns them into a format.
 */
#ifndef GEMMUX_DTYPES_H
#define GEMMUX_DTYPES_H

#include <stdint.h>

/* X(id, name in safetensors, name in GGUF, GGUF's number, elements of a block, its bytes)
 * Sources: safetensors' Dtype (0.7) and ggml's type_traits (gguf 0.19). Types that ggml removed
 * (4, 5, 31 to 33, 36 to 38) and newer ones are unknown: their sizes cannot be checked. */
#define GEMMUX_DTYPE_LIST(X)                                                                       \
    X(F32, "F32", "F32", 0, 1, 4)                                                                  \
    X(F16, "F16", "F16", 1, 1, 2)                                                                  \
    X(BF16, "BF16", "BF16", 30, 1, 2)                                                              \
    X(F64, "F64", "F64", 28, 1, 8)                                                                 \
    X(I8, "I8", "I8", 24, 1, 1)                                                                    \
    X(I16, "I16", "I16", 25, 1, 2)                                                                 \
    X(I32, "I32", "I32", 26, 1, 4)                                                                 \
    X(I64, "I64", "I64", 27, 1, 8)                                                                 \
    X(BOOL, "BOOL", 0, -1, 1, 1)                                                                   \
    X(U8, "U8", 0, -1, 1, 1)                                                                       \
    X(U16, "U16", 0, -1, 1, 2)                                                                     \
    X(U32, "U32", 0, -1, 1, 4)                                                                     \
    X(U64, "U64", 0, -1, 1, 8)                                                                     \
    X(C64, "C64", 0, -1, 1, 8)                                                                     \
    X(E4M3, "F8_E4M3", 0, -1, 1, 1)                                                                \
    X(E5M2, "F8_E5M2", 0, -1, 1, 1)                                                                \
    X(E8M0, "F8_E8M0", 0, -1, 1, 1)                                                                \
    X(E4M3FNUZ, "F8_E4M3FNUZ", 0, -1, 1, 1)                                                        \
    X(E5M2FNUZ, "F8_E5M2FNUZ", 0, -1, 1, 1)                                                        \
    X(F4, "F4", 0, -1, 2, 1)                                                                       \
    X(F6_E2M3, "F6_E2M3", 0, -1, 4, 3)                                                             \
    X(F6_E3M2, "F6_E3M2", 0, -1, 4, 3)                                                             \
    X(Q4_0, 0, "Q4_0", 2, 32, 18)                                                                  \
    X(Q4_1, 0, "Q4_1", 3, 32, 20)                                                                  \
    X(Q5_0, 0, "Q5_0", 6, 32, 22)                                                                  \
    X(Q5_1, 0, "Q5_1", 7, 32, 24)                                                                  \
    X(Q8_0, 0, "Q8_0", 8, 32, 34)                                                                  \
    X(Q8_1, 0, "Q8_1", 9, 32, 40)                                                                  \
    X(Q2_K, 0, "Q2_K", 10, 256, 84)                                                                \
    X(Q3_K, 0, "Q3_K", 11, 256, 110)                                                               \
    X(Q4_K, 0, "Q4_K", 12, 256, 144)                                                               \
    X(Q5_K, 0, "Q5_K", 13, 256, 176)                                                               \
    X(Q6_K, 0, "Q6_K", 14, 256, 210)                                                               \
    X(Q8_K, 0, "Q8_K", 15, 256, 292)                                                               \
    X(IQ2_XXS, 0, "IQ2_XXS", 16, 256, 66)                                                          \
    X(IQ2_XS, 0, "IQ2_XS", 17, 256, 74)                                                            \
    X(IQ3_XXS, 0, "IQ3_XXS", 18, 256, 98)                                                          \
    X(IQ1_S, 0, "IQ1_S", 19, 256, 50)                                                              \
    X(IQ4_NL, 0, "IQ4_NL", 20, 32, 18)                                                             \
    X(IQ3_S, 0, "IQ3_S", 21, 256, 110)                                                             \
    X(IQ2_S, 0, "IQ2_S", 22, 256, 82)                                                              \
    X(IQ4_XS, 0, "IQ4_XS", 23, 256, 136)                                                           \
    X(IQ1_M, 0, "IQ1_M", 29, 256, 56)                                                              \
    X(TQ1_0, 0, "TQ1_0", 34, 256, 54)                                                              \
    X(TQ2_0, 0, "TQ2_0", 35, 256, 66)                                                              \
    X(MXFP4, 0, "MXFP4", 39, 32, 17)                                                               \
    X(NVFP4, 0, "NVFP4", 40, 64, 36)                                                               \
    X(Q1_0, 0, "Q1_0", 41, 128, 18)

typedef enum gemmux_dtype {
    GEMMUX_DTYPE_UNKNOWN = 0,
#define GEMMUX_DTYPE_ENUM(id, safetensors, gguf, number, elements, bytes) GEMMUX_DTYPE_##id,
    GEMMUX_DTYPE_LIST(GEMMUX_DTYPE_ENUM)
#undef GEMMUX_DTYPE_ENUM
        GEMMUX_DTYPE_COUNT
} gemmux_dtype;

gemmux_dtype gemmux_dtype_of_safetensors(const char *name);
gemmux_dtype gemmux_dtype_of_ggml(uint32_t number);
/* As the file names it; "?" when unknown. */
const char *gemmux_dtype_name(gemmux_dtype dtype);
/* Elements and bytes of one block: 1 and the element's size for ordinary types. */
int gemmux_dtype_block(gemmux_dtype dtype);
int gemmux_dtype_block_bytes(gemmux_dtype dtype);
/* Bytes of `elements` in whole blocks; -1 when they do not fill blocks or on overflow. */
int64_t gemmux_dtype_bytes(gemmux_dtype dtype, int64_t elements);

#endif
