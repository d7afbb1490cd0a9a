/* SPDX-License-Identifier: Apache-2.0
 *
 * The parameters of cuda_ref_any, as the host fills them and the device reads them.
 */
#ifndef GEMMUX_CUDA_REF_ANY_H
#define GEMMUX_CUDA_REF_ANY_H

#include "gemmux.h"

/* Columns of y (rows of w) and rows of y that one block makes. */
enum { GEMMUX_REF_N = 32, GEMMUX_REF_M = 8, GEMMUX_REF_K = 32 };

typedef struct gemmux_ref_tensor {
    const void *codes, *scales, *zeros;
    const float *globals;
    int64_t rows, cols, row_bytes; /* row_bytes is never 0 here */
    gemmux_format format;
} gemmux_ref_tensor;

typedef struct gemmux_ref_parameters {
    gemmux_ref_tensor x, w;
    const int32_t *k_order;
    const float *bias;
    void *y;
    int64_t y_row_bytes;
    int64_t m, n, k; /* m: rows of y; with scatter, tokens */
    const int32_t *expert_ids;
    const float *expert_weights;
    int32_t experts; /* 0: dense */
    int32_t top_k;
    uint8_t y_format, gather, scatter, swiglu;
    float alpha, limit;
} gemmux_ref_parameters;

#endif
