/* SPDX-License-Identifier: Apache-2.0
 *
 * What every CPU kernel does with a finished row of sums: bias, gpt-oss's clamped SwiGLU, and the
 * store in y's format. Separate so that no kernel has its own idea of these.
 */
#ifndef GEMMUX_EPILOGUE_H
#define GEMMUX_EPILOGUE_H

#include "float_bits.h"
#include "kernel.h"

#include <math.h>

/* g * sigmoid(alpha * g) * (u + 1) with g clamped above and u on both sides: gpt-oss's
 * reference implementation (swiglu with limit 7 and alpha 1.702). */
static inline float gemmux_swiglu(float gate, float up, float alpha, float limit)
{
    float g = gate > limit ? limit : gate;
    float u = up > limit ? limit : up < -limit ? -limit : up;
    return g / (1.0f + expf(-alpha * g)) * (u + 1.0f);
}

/* Stores `count` f32 values at column `first` of row `row` of y, in call->y_format. */
static inline void gemmux_store_row(const gemmux_call *call, int64_t row, int64_t first,
                                    int64_t count, const float *values)
{
    char *y = (char *)call->y + row * call->y_row_bytes;
    if (call->y_format.id == GEMMUX_F32) {
        memcpy(y + first * 4, values, (size_t)count * 4);
        return;
    }
    uint16_t (*narrow)(float) =
        call->y_format.id == GEMMUX_BF16 ? gemmux_bf16_from_f32 : gemmux_f16_from_f32;
    for (int64_t i = 0; i < count; i++) {
        uint16_t bits = narrow(values[i]);
        memcpy(y + (first + i) * 2, &bits, 2);
    }
}

/* Finishes columns [first, first + count) of one row: `sums` are the products of row `row` with
 * those rows of w and are overwritten. With SWIGLU first and count must be even. */
static inline void gemmux_finish_row(const gemmux_call *call, int32_t expert, int64_t row,
                                     int64_t first, int64_t count, float *sums)
{
    const gemmux_problem *problem = call->problem;
    if (call->bias) {
        const float *bias = call->bias + expert * problem->n + first;
        for (int64_t i = 0; i < count; i++)
            sums[i] += bias[i];
    }
    if (problem->epilogue & GEMMUX_EPILOGUE_SWIGLU) {
        float alpha = problem->swiglu_alpha > 0 ? problem->swiglu_alpha : 1.702f;
        float limit = problem->swiglu_limit > 0 ? problem->swiglu_limit : 7.0f;
        for (int64_t i = 0; i < count / 2; i++)
            // NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): the kernel filled all of sums
            sums[i] = gemmux_swiglu(sums[2 * i], sums[2 * i + 1], alpha, limit);
        first /= 2;
        count /= 2;
    }
    gemmux_store_row(call, row, first, count, sums);
}

#endif
