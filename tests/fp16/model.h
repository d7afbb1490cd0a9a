/* SPDX-License-Identifier: Apache-2.0
 *
 * What src/kernels/x86_f16.h has in assembly, in plain C after the Intel SDM: one rounding to
 * nearest even, subnormals kept. Included before a kernel's source, it takes that header's place.
 * A sum that leaves f16's range although its operands are finite ends the program: the kernel
 * promises that there is none.
 */
#ifndef GEMMUX_X86_F16_H
#define GEMMUX_X86_F16_H

#include <immintrin.h>

#include <stdint.h>

/* [32] each; out = c + a * b. */
void f16_model(const void *a, const void *b, const void *c, void *out);

#define F16_MODEL static inline __attribute__((target("avx512f")))

F16_MODEL __m512i add_product_f16(__m512i sum, __m512i w, __m512i x)
{
    f16_model(&w, &x, &sum, &sum);
    return sum;
}

F16_MODEL __m512i add_f16(__m512i a, __m512i b)
{
    const __m512i one = _mm512_set1_epi32(0x3c003c00);
    f16_model(&a, &one, &b, &a);
    return a;
}

F16_MODEL __m512i multiply_f16(__m512i a, __m512i b)
{
    const __m512i zero = _mm512_set1_epi32((int32_t)0x80008000); /* so that -0 stays -0 */
    f16_model(&a, &b, &zero, &a);
    return a;
}

#endif
