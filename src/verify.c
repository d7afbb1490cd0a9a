/* SPDX-License-Identifier: Apache-2.0
 *
 * How far a result may lie from the f64 reference. The bound is scale-free: it is built from the
 * operands themselves, so it holds for large and tiny numbers alike, and it grows only by what the
 * liberties taken explain. u is the unit roundoff, 2^-p for p significant bits.
 *
 * One product. Let |x|k and |w|k be the magnitudes of the terms, dx and dw how far an operand may
 * be from the stored number, A = sum (|x| + dx)(|w| + dw), S = sum |x||w|. Then
 *
 *     |product - reference| <= (A - S) + gamma(k + 8) (A + |bias|) + 2 k t
 *
 * (A - S) bounds the change of the operands, gamma(i) = i u / (1 - i u) with u = 2^-24 bounds the
 * rounding of k products and of k - 1 additions in any order and any grouping (Higham, Accuracy and
 * Stability, ch. 4), 8 covers bias, conversions and up to three scale factors applied anywhere.
 * t = 2^-149 is where f32 loses relative precision. dx and dw start as 2 t and take:
 *
 *   TF32               2^-10 |x| and 2^-10 |w|: 11 significant bits, and tensor cores cut the rest
 *                      off rather than round; nothing for operands that fit (f16, bf16 unscaled)
 *   QUANTISED_X        max(amax / 254, |x| / 16), amax over the row: half a step of int8 with one
 *                      scale a row (finer scales are better); e4m3 steps have u = 2^-4. int8 alone
 *                      (amax / 254) when w's elements are integers or NF4
 *   ROUNDED_W          u |w| + half the smallest subnormal of x's format: u = 2^-8 for bf16, 2^-11
 *                      for f16; bf16 when x is itself quantised (that is what it is expanded to)
 *   ROUNDED_X          2^-8 |x|: bf16, the narrowest float with f32's range
 *   NARROW_SUMS        gamma's u becomes 2^-11 (f16) for at most 256 terms: longer narrow sums
 *                      must be carried on in f32. f16 also ends at 2^-24: 2^-15 amax of the row of
 *                      x and of w, which allows for steps of rows brought into f16's range.
 *                      fp8 by fp8 has neither: the matrix units of 8.9 and 9.0 add 32 products to a
 *                      sum after cutting all 33 off 13 bits below the first bit of the largest
 *                      (DeepSeek-V3 Technical Report, 3.3.2), which is at most A: 33 2^-13 A for
 *                      each 32 of at most 256 terms, and 8 2^-13 A as above
 *   UNORDERED          nothing: gamma holds for every order
 *   FLUSH_SUBNORMALS   t = 2^-126 wherever t stands
 *
 * w with a minimum (scale * code + zero) is itself a sum that may be distributed over the product:
 * dw takes gamma |scale code| + |zero|.
 *
 * Behind the product. SWIGLU: |g sigmoid(a g)|' <= 1.1 for every a, clamps have slope <= 1, and the
 * evaluation in f32 costs (64 + 4 |a g|) u, as exp turns the absolute error of its argument into a
 * relative one. SCATTER: bounds and values are summed over slots, plus gamma(slots + 2). y's
 * format: u (|ref| + bound) + half its smallest subnormal (2^-126 where FLUSH_SUBNORMALS touches
 * it).
 *
 * Not a number, infinity. A NaN is right exactly where the reference has one. An infinite reference
 * wants the same infinity. From a finite reference infinity is right only if the interval reaches
 * what rounds to infinity in y's format. Nothing is claimed for a row of x that is not finite when
 * QUANTISED_X was taken: eight bits cannot say it.
 */
#include "reference.h"

#include "error.h"
#include "format.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EXTRA_ROUNDINGS 8
#define F32_ROUNDOFF    0x1p-24
#define NARROW_ROUNDOFF 0x1p-11
#define NARROW_TERMS    256
#define NARROW_STEP     0x1p-15
#define FP8_CUT         0x1p-13
#define FP8_TERMS       32 /* that are added at once */
/* Product rows held at once: bounds memory at block * (2 k + 2 n) doubles. */
#define BLOCK_ROWS 64

typedef struct float_kind {
    double roundoff;
    double half_subnormal; /* half the smallest positive number */
    double overflow;       /* the least magnitude that rounds to infinity */
    bool flushed;          /* its subnormals are f32's */
} float_kind;

static const float_kind f32_kind = {0x1p-24, 0x1p-150, 0x1p128 - 0x1p103, true};
static const float_kind f16_kind = {0x1p-11, 0x1p-25, 65520, false};
static const float_kind bf16_kind = {0x1p-8, 0x1p-134, 0x1p128 - 0x1p119, true};

typedef struct checker {
    gemmux_oracle oracle;
    uint32_t liberties;
    double gamma, tiny;
    double narrow_step; /* NARROW_STEP, or 0 where sums are not of f16 */
    const float_kind *y;
    const float_kind *rounded_w;
    bool x_exact_tf32, w_exact_tf32, x_integer;
} checker;

typedef struct interval {
    double value, bound;
} interval;

static const float_kind *kind_of(gemmux_format format)
{
    return format.id == GEMMUX_F32 ? &f32_kind : format.id == GEMMUX_F16 ? &f16_kind : &bf16_kind;
}

static double gamma_of(double terms, double roundoff)
{
    return terms * roundoff / (1 - terms * roundoff);
}

static bool is_fp8(gemmux_format format)
{
    return format.id == GEMMUX_E4M3 || format.id == GEMMUX_E5M2;
}

/* What narrow sums may lose, as a part of A. */
static double narrow_gamma(const gemmux_problem *problem)
{
    double terms = (double)problem->k + EXTRA_ROUNDINGS;
    if (is_fp8(problem->x) && is_fp8(problem->w)) {
        double k = problem->k < NARROW_TERMS ? (double)problem->k : NARROW_TERMS;
        double each = k < FP8_TERMS ? k : FP8_TERMS;
        return gamma_of(ceil(k / FP8_TERMS) * (each + 1) + EXTRA_ROUNDINGS, FP8_CUT);
    }
    return gamma_of(terms < NARROW_TERMS ? terms : NARROW_TERMS, NARROW_ROUNDOFF);
}

static void open_checker(checker *check, uint32_t liberties)
{
    const gemmux_problem *problem = check->oracle.problem;
    double terms = (double)problem->k + EXTRA_ROUNDINGS;
    check->liberties = liberties;
    check->gamma = gamma_of(terms, F32_ROUNDOFF);
    if (liberties & GEMMUX_LIBERTY_NARROW_SUMS) {
        check->gamma += narrow_gamma(problem);
        check->narrow_step = is_fp8(problem->x) && is_fp8(problem->w) ? 0 : NARROW_STEP;
    }
    check->tiny = liberties & GEMMUX_LIBERTY_FLUSH_SUBNORMALS ? 0x1p-126 : 0x1p-149;
    check->y = kind_of(problem->y);
    check->rounded_w = kind_of(problem->x);
    check->x_exact_tf32 = problem->x.id == GEMMUX_F16 || problem->x.id == GEMMUX_BF16;
    check->w_exact_tf32 = problem->w.id == GEMMUX_F16 || problem->w.id == GEMMUX_BF16;
    gemmux_code w = (gemmux_code)problem->w.element;
    check->x_integer = w == GEMMUX_CODE_INT8 || w == GEMMUX_CODE_INT4 || w == GEMMUX_CODE_NF4;
}

/* wide[j] = |x| + dx. Returns whether every element is finite. */
static bool widen_x(const checker *check, const double *x, double *wide)
{
    int64_t k = check->oracle.problem->k;
    double largest = 0;
    bool finite = true;
    for (int64_t j = 0; j < k; j++) {
        finite = finite && isfinite(x[j]);
        largest = fmax(largest, isfinite(x[j]) ? fabs(x[j]) : 0);
    }
    for (int64_t j = 0; j < k; j++) {
        double magnitude = fabs(x[j]), d = 2 * check->tiny;
        if ((check->liberties & GEMMUX_LIBERTY_TF32) && !check->x_exact_tf32) {
            d += 0x1p-10 * magnitude;
        }
        if (check->liberties & GEMMUX_LIBERTY_ROUNDED_X) {
            d += bf16_kind.roundoff * magnitude;
        }
        if (check->liberties & GEMMUX_LIBERTY_QUANTISED_X) {
            /* The scale and the quotient are themselves rounded: 1 + 2^-8. */
            double step = largest / 254 * (1 + 0x1p-8);
            d += check->x_integer ? step : fmax(step, magnitude / 16 * (1 + 0x1p-8));
        }
        d += check->narrow_step * largest;
        wide[j] = magnitude + d;
    }
    return finite;
}

/* |zero| of one element where value = scale * code + zero, else 0. */
static double minimum_at(const gemmux_tensor *w, int64_t matrix, int64_t row, int64_t col)
{
    gemmux_format format = w->format;
    gemmux_code code = (gemmux_code)format.scale;
    if (format.zero != GEMMUX_ZERO_MIN) {
        return 0;
    }
    int64_t index = matrix * gemmux_scale_count(format, w->rows, w->cols) +
                    gemmux_scale_index(format, w->cols, row, col);
    return fabs(gemmux_code_decode(code, gemmux_code_load(code, w->zeros, index)));
}

/* wide[j] = |w| + dw. */
static void widen_w(const checker *check, int64_t matrix, int64_t n, const double *w, double *wide)
{
    const gemmux_tensor *tensor = &check->oracle.w->tensor;
    int64_t k = check->oracle.problem->k;
    double step = 0;
    for (int64_t j = 0; check->narrow_step > 0 && j < k; j++) {
        step = isfinite(w[j]) ? fmax(step, check->narrow_step * fabs(w[j])) : step;
    }
    for (int64_t j = 0; j < k; j++) {
        double magnitude = fabs(w[j]), d = 2 * check->tiny;
        double minimum = minimum_at(tensor, matrix, n, j);
        d += step;
        d += check->gamma * (minimum > 0 ? magnitude + 2 * minimum : 0);
        if ((check->liberties & GEMMUX_LIBERTY_TF32) && !check->w_exact_tf32) {
            d += 0x1p-10 * magnitude;
        }
        if (check->liberties & GEMMUX_LIBERTY_ROUNDED_W) {
            d += check->rounded_w->roundoff * magnitude + check->rounded_w->half_subnormal;
        }
        wide[j] = magnitude + d;
    }
}

static interval product_interval(const checker *check, const double *x, const double *wide_x,
                                 const double *w, const double *wide_w, double bias)
{
    int64_t k = check->oracle.problem->k;
    double value = 0, stored = 0, wide = 0;
    for (int64_t j = 0; j < k; j++) {
        double term = x[j] * w[j];
        value += term;
        stored += fabs(term);
        wide += wide_x[j] * wide_w[j];
    }
    /* Both sums are rounded in f64: the difference must not come out below zero. */
    double change = fmax(wide - stored, 0) + wide * (double)(k + 1) * 0x1p-52;
    interval out = {value + bias,
                    change + check->gamma * (wide + fabs(bias)) + 2 * (double)k * check->tiny};
    if (!isfinite(out.value)) {
        out.bound = 0;
    }
    return out;
}

static interval swiglu_interval(const checker *check, interval gate, interval up)
{
    const gemmux_oracle *oracle = &check->oracle;
    double g = fmin(gate.value, oracle->limit);
    double u = fmax(fmin(up.value, oracle->limit), -oracle->limit);
    double h = fabs(gemmux_oracle_swiglu(oracle, g, 0));
    /* Clamped values lie within 2 limits of each other, whatever the bound of the product is. */
    double up_bound = fmin(up.bound, 2 * oracle->limit);
    double rounding = (64 + 4 * fabs(oracle->alpha * g)) * F32_ROUNDOFF;
    double reach = fabs(u + 1) + up_bound;
    interval out = {gemmux_oracle_swiglu(oracle, gate.value, up.value), 0};
    out.bound = 1.1 * gate.bound * reach + h * up_bound;
    out.bound += rounding * (h + 1.1 * gate.bound) * reach;
    out.bound += check->tiny * (1 + fabs(g)) * (1 + reach);
    if (!isfinite(out.value)) {
        out.bound = 0;
    }
    return out;
}

/* |got - ref| over what is allowed; infinity where no distance says it. */
static double excess(const checker *check, interval want, double got)
{
    const float_kind *y = check->y;
    double ref = want.value;
    if (isinf(want.bound)) {
        return 0;
    }
    if (isnan(ref) || isnan(got)) {
        return isnan(ref) && isnan(got) ? 0 : INFINITY;
    }
    if (isinf(ref)) {
        return got == ref ? 0 : INFINITY;
    }
    if (isinf(got)) {
        double reach = (got > 0 ? ref : -ref) + want.bound;
        return reach >= y->overflow ? 0 : INFINITY;
    }
    double subnormal = y->flushed ? fmax(y->half_subnormal, check->tiny / 2) : y->half_subnormal;
    if (y->flushed && (check->liberties & GEMMUX_LIBERTY_FLUSH_SUBNORMALS)) {
        subnormal = 0x1p-126;
    }
    double allowed = want.bound + y->roundoff * (fabs(ref) + want.bound) + subnormal;
    return fabs(got - ref) / allowed;
}

static double stored_y(const checker *check, int64_t row, int64_t col)
{
    const gemmux_args *args = check->oracle.args;
    gemmux_format format = check->oracle.problem->y;
    int64_t row_bytes =
        args->y_row_bytes ? args->y_row_bytes : gemmux_row_bytes(format, check->oracle.y_cols);
    size_t bytes = (size_t)gemmux_code_bits((gemmux_code)format.element) / 8;
    uint32_t bits = 0;
    memcpy(&bits, (const char *)args->y + row * row_bytes + col * (int64_t)bytes, bytes);
    return gemmux_code_decode((gemmux_code)format.element, bits);
}

/* ------------------------------------------------------------------------- rows that are checked
 */

static uint64_t mix(uint64_t z)
{
    z += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* The i-th of `count` sampled rows of `rows`: the first, the last, and between them one from each
 * of count - 2 equal parts, at a place that follows no tile size. */
static int64_t sampled_row(int64_t i, int64_t count, int64_t rows)
{
    if (count >= rows) {
        return i;
    }
    if (i == 0 || i == count - 1) {
        return i == 0 ? 0 : rows - 1;
    }
    double part = (double)(rows - 2) / (double)(count - 2);
    int64_t first = 1 + (int64_t)((double)(i - 1) * part);
    int64_t last = 1 + (int64_t)((double)i * part);
    last = last < rows - 1 ? last : rows - 1;
    return first + (last > first ? (int64_t)(mix((uint64_t)i) % (uint64_t)(last - first)) : 0);
}

typedef struct block {
    int64_t first, count;   /* of the sampled y rows */
    int64_t *rows;          /* [products]: product rows */
    bool *finite;           /* [products] */
    double *x, *wide_x;     /* [products, k] */
    double *w, *wide_w;     /* [k] */
    interval *raw;          /* [products, n] */
    int64_t products, each; /* product rows in the block, and of one y row */
} block;

typedef struct tally {
    gemmux_verification *result;
    double error_squares, reference_squares;
    double got, want, allowed; /* where it is worst */
} tally;

static void fill_block(const checker *check, block *b, int64_t sampled)
{
    const gemmux_oracle *oracle = &check->oracle;
    int64_t k = oracle->problem->k;
    b->products = b->count * b->each;
    for (int64_t i = 0; i < b->products; i++) {
        int64_t y_row = sampled_row(b->first + i / b->each, sampled, oracle->y_rows);
        b->rows[i] = y_row * b->each + i % b->each;
        gemmux_oracle_x_row(oracle, b->rows[i], b->x + i * k);
        b->finite[i] = widen_x(check, b->x + i * k, b->wide_x + i * k);
    }
}

static void multiply_matrix(const checker *check, block *b, int64_t matrix)
{
    const gemmux_oracle *oracle = &check->oracle;
    int64_t n_count = oracle->problem->n, k = oracle->problem->k;
    for (int64_t n = 0; n < n_count; n++) {
        gemmux_oracle_w_row(oracle, matrix, n, b->w);
        widen_w(check, matrix, n, b->w, b->wide_w);
        double bias = gemmux_oracle_bias(oracle, matrix, n);
        for (int64_t i = 0; i < b->products; i++) {
            if (gemmux_oracle_matrix(oracle, b->rows[i]) != matrix) {
                continue;
            }
            interval *out = &b->raw[i * n_count + n];
            *out = product_interval(check, b->x + i * k, b->wide_x + i * k, b->w, b->wide_w, bias);
            if (!b->finite[i] && (check->liberties & GEMMUX_LIBERTY_QUANTISED_X)) {
                out->bound = INFINITY;
            }
        }
    }
}

static void multiply_block(const checker *check, block *b)
{
    for (int64_t matrix = 0; matrix < check->oracle.w->tensor.count; matrix++) {
        bool met = false;
        for (int64_t i = 0; i < b->products && !met; i++) {
            met = gemmux_oracle_matrix(&check->oracle, b->rows[i]) == matrix;
        }
        if (met) {
            multiply_matrix(check, b, matrix);
        }
    }
}

/* What element `col` of the i-th y row of the block should be. */
static interval wanted(const checker *check, const block *b, int64_t i, int64_t col)
{
    const gemmux_oracle *oracle = &check->oracle;
    interval out = {0, 0};
    double magnitude = 0;
    for (int64_t p = i * b->each; p < (i + 1) * b->each; p++) {
        const interval *raw = b->raw + p * oracle->problem->n;
        interval one =
            oracle->swiglu ? swiglu_interval(check, raw[2 * col], raw[2 * col + 1]) : raw[col];
        double weight = gemmux_oracle_weight(oracle, b->rows[p]);
        out.value += weight * one.value;
        out.bound += fabs(weight) * one.bound;
        magnitude += fabs(weight) * (fabs(one.value) + one.bound);
    }
    if (oracle->scatter && isfinite(out.value)) {
        out.bound += gamma_of((double)b->each + 2, F32_ROUNDOFF) * magnitude;
        out.bound += 2 * (double)b->each * check->tiny;
    }
    return out;
}

static void compare_block(const checker *check, const block *b, int64_t sampled, tally *t)
{
    for (int64_t i = 0; i < b->count; i++) {
        int64_t row = sampled_row(b->first + i, sampled, check->oracle.y_rows);
        for (int64_t col = 0; col < check->oracle.y_cols; col++) {
            interval want = wanted(check, b, i, col);
            double got = stored_y(check, row, col);
            double over = excess(check, want, got);
            if (isfinite(want.value) && isfinite(got)) {
                t->error_squares += (got - want.value) * (got - want.value);
                t->reference_squares += want.value * want.value;
            } else if (over > 0) {
                t->error_squares = INFINITY;
            }
            if (over > t->result->worst || t->result->checked == 0) {
                t->result->worst = over;
                t->result->worst_row = row;
                t->result->worst_col = col;
                t->got = got;
                t->want = want.value;
                t->allowed = want.bound + check->y->roundoff * fabs(want.value);
            }
            t->result->checked++;
        }
    }
}

static bool allocate_block(const checker *check, block *b, int64_t y_rows)
{
    const gemmux_problem *problem = check->oracle.problem;
    b->each = check->oracle.scatter ? check->oracle.slots : 1;
    b->count = y_rows < BLOCK_ROWS ? y_rows : BLOCK_ROWS;
    size_t products = (size_t)(b->count * b->each) + 1;
    size_t k = (size_t)problem->k + 1;
    b->rows = calloc(products, sizeof *b->rows);
    b->finite = calloc(products, sizeof *b->finite);
    b->x = calloc(products * k, sizeof *b->x);
    b->wide_x = calloc(products * k, sizeof *b->wide_x);
    b->w = calloc(k, sizeof *b->w);
    b->wide_w = calloc(k, sizeof *b->wide_w);
    b->raw = calloc(products * (size_t)problem->n, sizeof *b->raw);
    return b->rows && b->finite && b->x && b->wide_x && b->w && b->wide_w && b->raw;
}

static void free_block(block *b)
{
    free(b->rows);
    free(b->finite);
    free(b->x);
    free(b->wide_x);
    free(b->w);
    free(b->wide_w);
    free(b->raw);
}

static gemmux_status conclude(const tally *t, gemmux_error *error)
{
    gemmux_verification *result = t->result;
    double ratio = t->error_squares / t->reference_squares;
    result->relative_error = t->error_squares == 0       ? 0
                             : t->reference_squares == 0 ? INFINITY
                                                         : sqrt(ratio);
    if (result->worst <= 1) {
        return GEMMUX_OK;
    }
    return gemmux_fail(error, GEMMUX_ERROR_VERIFY,
                       "y[%lld, %lld] is %.7g, expected %.7g +- %.2g: %.3g times the bound",
                       (long long)result->worst_row, (long long)result->worst_col, t->got, t->want,
                       t->allowed, result->worst);
}

gemmux_status gemmux_verify(const gemmux_problem *problem, uint32_t liberties,
                            const gemmux_weights *w, const gemmux_args *args, int64_t max_rows,
                            gemmux_verification *result, gemmux_error *error)
{
    checker check = {0};
    *result = (gemmux_verification){0};
    gemmux_status status = gemmux_oracle_open(&check.oracle, problem, w, args, error);
    if (status) {
        return status;
    }
    if (problem->y.id != GEMMUX_F32 && problem->y.id != GEMMUX_F16 &&
        problem->y.id != GEMMUX_BF16) {
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT, "verify: y is %s, not f32, f16 or bf16",
                           gemmux_format_id_name((gemmux_format_id)problem->y.id));
    }
    open_checker(&check, liberties);
    int64_t y_rows = check.oracle.y_rows;
    int64_t sampled = max_rows > 0 && max_rows < y_rows ? max_rows : y_rows;
    block b = {0};
    tally t = {.result = result};
    if (allocate_block(&check, &b, sampled)) {
        for (int64_t step = b.count; b.first < sampled; b.first += step) {
            b.count = b.first + step < sampled ? step : sampled - b.first;
            fill_block(&check, &b, sampled);
            multiply_block(&check, &b);
            compare_block(&check, &b, sampled, &t);
        }
        status = conclude(&t, error);
    } else {
        status = gemmux_fail(error, GEMMUX_ERROR_MEMORY, "verify: no memory for %lld rows of %lld",
                             (long long)b.count, (long long)problem->k);
    }
    free_block(&b);
    return status;
}
