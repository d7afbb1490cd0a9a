/* SPDX-License-Identifier: Apache-2.0
 *
 * The three instructions of AVX512-FP16 that x86_avx512_fp16 is made of, on 32 halves each; all
 * else in it is plain AVX-512. Separate so that tests/fp16 can put plain C in their place where no
 * processor has them. In assembly: a compiler that were told of the extension could use it
 * anywhere.
 */
#ifndef GEMMUX_X86_F16_H
#define GEMMUX_X86_F16_H

#include "panel_codes.h"

#include <immintrin.h>

/* sum + w * x, rounded once. */
GEMMUX_INLINE __m512i add_product_f16(__m512i sum, __m512i w, __m512i x)
{
    __asm__("vfmadd231ph %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x));
    return sum;
}

GEMMUX_INLINE __m512i add_f16(__m512i a, __m512i b)
{
    __m512i sum;
    __asm__("vaddph %2, %1, %0" : "=v"(sum) : "v"(a), "v"(b));
    return sum;
}

GEMMUX_INLINE __m512i multiply_f16(__m512i a, __m512i b)
{
    __m512i product;
    __asm__("vmulph %2, %1, %0" : "=v"(product) : "v"(a), "v"(b));
    return product;
}

#endif
