/* SPDX-License-Identifier: Apache-2.0
 *
 * The product in f64, straight from the stored numbers. Every test and every certificate rests on
 * this file, so it is written to be read: one row of w at a time against the rows of x that meet
 * it, and no thought for speed beyond decoding a row once for a whole block of x.
 */
#include "reference.h"

#include "error.h"

#include <math.h>
#include <stdlib.h>

/* Doubles of x that one block of product rows may hold (16 MiB). */
#define BLOCK_DOUBLES (INT64_C(2) << 20)

static gemmux_status check_experts(const gemmux_oracle *oracle, gemmux_error *error)
{
    const gemmux_problem *problem = oracle->problem;
    const gemmux_args *args = oracle->args;
    if (oracle->rows > 0 && !args->expert_ids) {
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT, "reference: moe without expert_ids");
    }
    if (oracle->rows > 0 && oracle->scatter && !args->expert_weights) {
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "reference: scatter without expert_weights");
    }
    for (int64_t i = 0; i < oracle->rows; i++) {
        if (args->expert_ids[i] < 0 || args->expert_ids[i] >= problem->experts) {
            return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                               "reference: expert_ids[%lld] is %d, experts are 0..%d", (long long)i,
                               args->expert_ids[i], problem->experts - 1);
        }
    }
    return GEMMUX_OK;
}

static gemmux_status check_operands(const gemmux_problem *problem, const gemmux_weights *w,
                                    const gemmux_args *args, gemmux_error *error)
{
    const gemmux_tensor *t = &w->tensor;
    int64_t count = problem->op == GEMMUX_MOE ? problem->experts : 1;
    if (t->rows != problem->n || t->cols != problem->k || t->count != count) {
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "reference: w is %lld x %lld x %lld, the problem needs %lld x %lld x "
                           "%lld",
                           (long long)t->count, (long long)t->rows, (long long)t->cols,
                           (long long)count, (long long)problem->n, (long long)problem->k);
    }
    if (args->x.cols != problem->k || args->x.count != 1) {
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "reference: x has %lld columns in %lld matrices, the problem needs "
                           "%lld in 1",
                           (long long)args->x.cols, (long long)args->x.count,
                           (long long)problem->k);
    }
    if (!gemmux_format_equal(t->format, problem->w) ||
        !gemmux_format_equal(args->x.format, problem->x)) {
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "reference: the format of %s is not the problem's",
                           gemmux_format_equal(t->format, problem->w) ? "x" : "w");
    }
    if ((problem->epilogue & GEMMUX_EPILOGUE_BIAS) && !w->bias) {
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT, "reference: the bias is missing");
    }
    for (int64_t j = 0; t->k_order && j < problem->k; j++) {
        if (t->k_order[j] < 0 || t->k_order[j] >= problem->k) {
            return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                               "reference: k_order[%lld] is %d, columns are 0..%lld", (long long)j,
                               t->k_order[j], (long long)problem->k - 1);
        }
    }
    gemmux_status status = gemmux_tensor_check(t, "w", error);
    return status ? status : gemmux_tensor_check(&args->x, "x", error);
}

gemmux_status gemmux_oracle_open(gemmux_oracle *oracle, const gemmux_problem *problem,
                                 const gemmux_weights *w, const gemmux_args *args,
                                 gemmux_error *error)
{
    gemmux_status status = gemmux_problem_check(problem, error);
    if (!status) {
        status = check_operands(problem, w, args, error);
    }
    if (status) {
        return status;
    }
    bool moe = problem->op == GEMMUX_MOE;
    *oracle = (gemmux_oracle){
        .problem = problem,
        .w = w,
        .args = args,
        .tokens = args->x.rows,
        .slots = moe ? problem->top_k : 1,
        .gather = moe && (problem->epilogue & GEMMUX_EPILOGUE_GATHER),
        .scatter = moe && (problem->epilogue & GEMMUX_EPILOGUE_SCATTER),
        .swiglu = problem->epilogue & GEMMUX_EPILOGUE_SWIGLU,
        .alpha = problem->swiglu_alpha != 0 ? (double)problem->swiglu_alpha : (double)1.702f,
        .limit = problem->swiglu_limit != 0 ? (double)problem->swiglu_limit : 7.0,
    };
    if (moe && !oracle->gather) {
        if (args->x.rows % oracle->slots != 0) {
            return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                               "reference: x has %lld rows, not a multiple of top_k %d",
                               (long long)args->x.rows, problem->top_k);
        }
        oracle->tokens = args->x.rows / oracle->slots;
    }
    if (!gemmux_mul_size(oracle->tokens, oracle->slots, &oracle->rows)) {
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "reference: rows x top_k overflows");
    }
    oracle->y_rows = oracle->scatter ? oracle->tokens : oracle->rows;
    oracle->y_cols = oracle->swiglu ? problem->n / 2 : problem->n;
    return moe ? check_experts(oracle, error) : GEMMUX_OK;
}

int64_t gemmux_oracle_matrix(const gemmux_oracle *oracle, int64_t product_row)
{
    return oracle->problem->op == GEMMUX_MOE ? oracle->args->expert_ids[product_row] : 0;
}

void gemmux_oracle_x_row(const gemmux_oracle *oracle, int64_t product_row, double *out)
{
    const int32_t *order = oracle->w->tensor.k_order;
    int64_t row = oracle->gather ? product_row / oracle->slots : product_row;
    for (int64_t j = 0; j < oracle->problem->k; j++) {
        out[j] = gemmux_tensor_at(&oracle->args->x, 0, row, order ? order[j] : j);
    }
}

void gemmux_oracle_w_row(const gemmux_oracle *oracle, int64_t matrix, int64_t n, double *out)
{
    for (int64_t j = 0; j < oracle->problem->k; j++) {
        out[j] = gemmux_tensor_at(&oracle->w->tensor, matrix, n, j);
    }
}

double gemmux_oracle_bias(const gemmux_oracle *oracle, int64_t matrix, int64_t n)
{
    bool has = oracle->problem->epilogue & GEMMUX_EPILOGUE_BIAS;
    return has ? (double)oracle->w->bias[matrix * oracle->problem->n + n] : 0;
}

/* Comparisons are written so that a NaN passes through them. */
double gemmux_oracle_swiglu(const gemmux_oracle *oracle, double gate, double up)
{
    double limit = oracle->limit;
    double g = gate > limit ? limit : gate;
    double u = up > limit ? limit : up < -limit ? -limit : up;
    return g / (1 + exp(-oracle->alpha * g)) * (u + 1);
}

double gemmux_oracle_weight(const gemmux_oracle *oracle, int64_t product_row)
{
    return oracle->scatter ? (double)oracle->args->expert_weights[product_row] : 1;
}

static double dot(const double *x, const double *w, int64_t k)
{
    double sum = 0;
    for (int64_t j = 0; j < k; j++) {
        sum += x[j] * w[j];
    }
    return sum;
}

/* raw[row - first][n] = product + bias, for product rows [first, last) that meet `matrix`. */
static void multiply_matrix(const gemmux_oracle *oracle, int64_t matrix, int64_t first,
                            int64_t last, const double *x, double *w, double *raw)
{
    int64_t n_count = oracle->problem->n, k = oracle->problem->k;
    for (int64_t n = 0; n < n_count; n++) {
        gemmux_oracle_w_row(oracle, matrix, n, w);
        double bias = gemmux_oracle_bias(oracle, matrix, n);
        for (int64_t row = first; row < last; row++) {
            if (gemmux_oracle_matrix(oracle, row) == matrix) {
                raw[(row - first) * n_count + n] = dot(x + (row - first) * k, w, k) + bias;
            }
        }
    }
}

static void multiply_block(const gemmux_oracle *oracle, int64_t first, int64_t last, double *x,
                           double *w, double *raw)
{
    for (int64_t row = first; row < last; row++) {
        gemmux_oracle_x_row(oracle, row, x + (row - first) * oracle->problem->k);
    }
    for (int64_t matrix = 0; matrix < oracle->w->tensor.count; matrix++) {
        bool met = false;
        for (int64_t row = first; row < last && !met; row++) {
            met = gemmux_oracle_matrix(oracle, row) == matrix;
        }
        if (met) {
            multiply_matrix(oracle, matrix, first, last, x, w, raw);
        }
    }
}

/* Adds product rows [first, last) into y, which starts as zeros. */
static void finish_block(const gemmux_oracle *oracle, int64_t first, int64_t last,
                         const double *raw, double *y)
{
    for (int64_t row = first; row < last; row++) {
        const double *from = raw + (row - first) * oracle->problem->n;
        double *to = y + (oracle->scatter ? row / oracle->slots : row) * oracle->y_cols;
        double weight = gemmux_oracle_weight(oracle, row);
        for (int64_t c = 0; c < oracle->y_cols; c++) {
            double value = oracle->swiglu
                               ? gemmux_oracle_swiglu(oracle, from[2 * c], from[2 * c + 1])
                               : from[c];
            to[c] += weight * value;
        }
    }
}

gemmux_status gemmux_reference(const gemmux_problem *problem, const gemmux_weights *w,
                               const gemmux_args *args, double *y, gemmux_error *error)
{
    gemmux_oracle oracle;
    gemmux_status status = gemmux_oracle_open(&oracle, problem, w, args, error);
    if (status) {
        return status;
    }
    int64_t widest = problem->k > problem->n ? problem->k : problem->n;
    int64_t block = BLOCK_DOUBLES / (widest + 1) + 1;
    block = block < oracle.rows ? block : oracle.rows;
    double *x = calloc((size_t)(block * problem->k + 1), sizeof *x);
    double *row = calloc((size_t)(problem->k + 1), sizeof *row);
    double *raw = calloc((size_t)(block * problem->n + 1), sizeof *raw);
    if (x && row && raw) {
        for (int64_t i = 0; i < oracle.y_rows * oracle.y_cols; i++) {
            y[i] = 0;
        }
        for (int64_t first = 0; first < oracle.rows; first += block) {
            int64_t last = first + block < oracle.rows ? first + block : oracle.rows;
            multiply_block(&oracle, first, last, x, row, raw);
            finish_block(&oracle, first, last, raw, y);
        }
    } else {
        status = gemmux_fail(error, GEMMUX_ERROR_MEMORY,
                             "reference: no memory for %lld rows of x and %lld columns of y",
                             (long long)block, (long long)problem->n);
    }
    free(raw);
    free(row);
    free(x);
    return status;
}
