/* SPDX-License-Identifier: Apache-2.0
 *
 * The oracle: reads a problem's operands as f64 rows and knows which rows meet. Separate from
 * reference.c's product because verify.c walks the same rows for its bound. Shares nothing with
 * the kernels, only the decoding of one stored number.
 */
#ifndef GEMMUX_REFERENCE_H
#define GEMMUX_REFERENCE_H

#include "gemmux.h"

typedef struct gemmux_oracle {
    const gemmux_problem *problem;
    const gemmux_weights *w;
    const gemmux_args *args;
    int64_t tokens; /* M of this call */
    int64_t slots;  /* product rows a token: top_k, or 1 */
    int64_t rows;   /* of the product */
    int64_t y_rows, y_cols;
    bool gather, scatter, swiglu;
    double alpha, limit;
} gemmux_oracle;

/* Checks that the arguments fit the problem; everything below then stays inside them. */
gemmux_status gemmux_oracle_open(gemmux_oracle *oracle, const gemmux_problem *problem,
                                 const gemmux_weights *w, const gemmux_args *args,
                                 gemmux_error *error);
/* The matrix of w that this product row meets. */
int64_t gemmux_oracle_matrix(const gemmux_oracle *oracle, int64_t product_row);
/* The x row of one product row, its columns in w's order; out has k elements. */
void gemmux_oracle_x_row(const gemmux_oracle *oracle, int64_t product_row, double *out);
void gemmux_oracle_w_row(const gemmux_oracle *oracle, int64_t matrix, int64_t n, double *out);
/* 0 without GEMMUX_EPILOGUE_BIAS. */
double gemmux_oracle_bias(const gemmux_oracle *oracle, int64_t matrix, int64_t n);
double gemmux_oracle_swiglu(const gemmux_oracle *oracle, double gate, double up);
/* The factor of one product row in its token's sum; 1 without GEMMUX_EPILOGUE_SCATTER. */
double gemmux_oracle_weight(const gemmux_oracle *oracle, int64_t product_row);

#endif
