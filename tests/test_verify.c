/* SPDX-License-Identifier: Apache-2.0
 *
 * The oracle against numbers worked out by hand, and the bound of gemmux_verify from both sides:
 * what is right passes with room, what is wrong does not, and each liberty is just wide enough.
 */
#include "error.h"
#include "float_bits.h"
#include "gemmux.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    MAX_ROWS = 64,
    MAX_COLS = 160,
};

/* One problem with operands of its own; y starts as NaN. */
typedef struct scene {
    gemmux_problem problem;
    gemmux_weights w, x;
    float bias[8 * MAX_COLS];
    int32_t ids[MAX_ROWS];
    float weights[MAX_ROWS];
    gemmux_args args;
    double reference[MAX_ROWS * MAX_COLS];
    float y[MAX_ROWS * MAX_COLS]; /* storage for every y format */
    int64_t y_rows, y_cols;
    gemmux_verification result;
    gemmux_error error;
} scene;

static uint64_t state = 1;

static double uniform(void)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(state >> 11) * 0x1p-53;
}

static double signed_unit(void)
{
    return 2 * uniform() - 1;
}

static gemmux_format parse(const char *text)
{
    gemmux_format format;
    gemmux_error error;
    if (gemmux_format_parse(text, &format, &error)) {
        fail_msg("%s: %s", text, error.text);
    }
    return format;
}

/* Random numbers whose magnitude jumps from one scale block, and one row, to the next. */
static void quantise(gemmux_weights *out, int64_t count, int64_t rows, int64_t cols,
                     gemmux_format format)
{
    float *values = malloc((size_t)(count * rows * cols + 1) * sizeof *values);
    assert_non_null(values);
    int64_t group = format.group ? format.group : 16;
    for (int64_t i = 0; i < count * rows * cols; i++) {
        int exponent = (int)((i / cols * 3 + i % cols / group * 5) % 7) - 3;
        values[i] = (float)ldexp(signed_unit(), exponent);
    }
    gemmux_error error;
    if (gemmux_quantise(values, count, rows, cols, format, out, &error)) {
        fail_msg("%s", error.text);
    }
    free(values);
}

static scene *make_scene(gemmux_problem problem)
{
    scene *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->problem = problem;
    bool moe = problem.op == GEMMUX_MOE;
    int64_t rows = gemmux_problem_rows(&problem);
    bool gather = problem.epilogue & GEMMUX_EPILOGUE_GATHER;
    quantise(&s->w, moe ? problem.experts : 1, problem.n, problem.k, problem.w);
    quantise(&s->x, 1, gather ? problem.m : rows, problem.k, problem.x);
    for (int64_t i = 0; i < s->w.tensor.count * problem.n; i++) {
        s->bias[i] = (float)signed_unit();
    }
    s->w.bias = s->bias;
    for (int64_t i = 0; moe && i < rows; i++) {
        s->ids[i] = (int32_t)((i * 7 + 2) % problem.experts);
        s->weights[i] = (float)uniform();
    }
    s->args = (gemmux_args){
        .x = s->x.tensor, .y = s->y, .expert_ids = s->ids, .expert_weights = s->weights};
    s->y_rows = problem.epilogue & GEMMUX_EPILOGUE_SCATTER ? problem.m : rows;
    s->y_cols = problem.epilogue & GEMMUX_EPILOGUE_SWIGLU ? problem.n / 2 : problem.n;
    assert_true(s->y_rows <= MAX_ROWS && s->y_cols <= MAX_COLS);
    memset(s->y, 0xff, sizeof s->y);
    return s;
}

static void free_scene(scene *s)
{
    gemmux_weights_free(&s->w);
    gemmux_weights_free(&s->x);
    free(s);
}

static void put(scene *s, int64_t row, int64_t col, double value)
{
    gemmux_code code = (gemmux_code)s->problem.y.element;
    uint32_t bits = gemmux_code_encode(code, value);
    size_t bytes = (size_t)gemmux_code_bits(code) / 8;
    memcpy((char *)s->y + (size_t)(row * s->y_cols + col) * bytes, &bits, bytes);
}

static void refer(scene *s)
{
    if (gemmux_reference(&s->problem, &s->w, &s->args, s->reference, &s->error)) {
        fail_msg("%s", s->error.text);
    }
}

/* Stores the reference, rounded once. */
static void store_reference(scene *s)
{
    refer(s);
    for (int64_t i = 0; i < s->y_rows * s->y_cols; i++) {
        put(s, i / s->y_cols, i % s->y_cols, s->reference[i]);
    }
}

static gemmux_status verify(scene *s, uint32_t liberties)
{
    return gemmux_verify(&s->problem, liberties, &s->w, &s->args, 0, &s->result, &s->error);
}

/* ---- a plain f32 kernel, with the departures that liberties name ---- */

typedef struct departures {
    float (*x)(float value, float amax); /* NULL: as stored */
    float (*w)(float value);
    float (*sum)(float value); /* rounds every partial sum */
    bool backwards;
} departures;

static float product(const scene *s, const departures *d, int64_t matrix, int64_t x_row, int64_t n)
{
    int64_t k = s->problem.k;
    float x[MAX_COLS * 4], w[MAX_COLS * 4], sum = 0, amax = 0;
    gemmux_tensor_row_f32(&s->args.x, 0, x_row, x);
    gemmux_tensor_row_f32(&s->w.tensor, matrix, n, w);
    for (int64_t j = 0; j < k; j++) {
        amax = fmaxf(amax, fabsf(x[j]));
    }
    for (int64_t i = 0; i < k; i++) {
        int64_t j = d->backwards ? k - 1 - i : i;
        float a = x[s->w.tensor.k_order ? s->w.tensor.k_order[j] : j];
        a = d->x ? d->x(a, amax) : a;
        float b = d->w ? d->w(w[j]) : w[j];
        float term = a * b;
        sum += term;
        sum = d->sum ? d->sum(sum) : sum;
    }
    return sum +
           (s->problem.epilogue & GEMMUX_EPILOGUE_BIAS ? s->bias[matrix * s->problem.n + n] : 0);
}

static float swiglu(float gate, float up)
{
    float g = fminf(gate, 7), u = fmaxf(fminf(up, 7), -7);
    return g / (1 + expf(-1.702f * g)) * (u + 1);
}

static void run_plain(scene *s, const departures *d)
{
    const gemmux_problem *p = &s->problem;
    bool moe = p->op == GEMMUX_MOE;
    int64_t slots = moe ? p->top_k : 1;
    float sums[MAX_ROWS * MAX_COLS] = {0};
    for (int64_t row = 0; row < gemmux_problem_rows(p); row++) {
        int64_t x_row = p->epilogue & GEMMUX_EPILOGUE_GATHER ? row / slots : row;
        int64_t matrix = moe ? s->ids[row] : 0;
        bool scatter = p->epilogue & GEMMUX_EPILOGUE_SCATTER;
        for (int64_t c = 0; c < s->y_cols; c++) {
            float value = p->epilogue & GEMMUX_EPILOGUE_SWIGLU
                              ? swiglu(product(s, d, matrix, x_row, 2 * c),
                                       product(s, d, matrix, x_row, 2 * c + 1))
                              : product(s, d, matrix, x_row, c);
            float *to = &sums[(scatter ? row / slots : row) * s->y_cols + c];
            *to += scatter ? s->weights[row] * value : value;
        }
    }
    for (int64_t i = 0; i < s->y_rows * s->y_cols; i++) {
        put(s, i / s->y_cols, i % s->y_cols, (double)sums[i]);
    }
}

static const departures none = {0};

/* ---- the oracle by hand ---- */

static void dense_by_hand(void **unused)
{
    (void)unused;
    gemmux_format f32 = parse("f32");
    const float x[] = {1, 2, 3, 4}, w[] = {5, 6, 7, 8}, bias[] = {0.5f, -100};
    const int32_t swap[] = {1, 0};
    gemmux_problem problem = gemmux_problem_linear(2, 2, 2, f32, f32, f32);
    gemmux_weights weights = {
        .tensor = {.format = f32, .count = 1, .rows = 2, .cols = 2, .codes = w}, .bias = bias};
    gemmux_args args = {.x = {.format = f32, .count = 1, .rows = 2, .cols = 2, .codes = x}};
    double y[4];
    assert_int_equal(gemmux_reference(&problem, &weights, &args, y, NULL), GEMMUX_OK);
    const double plain[] = {17, 23, 39, 53};
    assert_memory_equal(y, plain, sizeof y);

    problem.epilogue = GEMMUX_EPILOGUE_BIAS;
    assert_int_equal(gemmux_reference(&problem, &weights, &args, y, NULL), GEMMUX_OK);
    const double biased[] = {17.5, -77, 39.5, -47};
    assert_memory_equal(y, biased, sizeof y);

    problem.epilogue = 0;
    weights.tensor.k_order = swap; /* w's column 0 meets x's column 1 */
    assert_int_equal(gemmux_reference(&problem, &weights, &args, y, NULL), GEMMUX_OK);
    const double ordered[] = {16, 22, 38, 52};
    assert_memory_equal(y, ordered, sizeof y);
}

static void mxfp4_by_hand(void **unused)
{
    (void)unused;
    gemmux_format f32 = parse("f32"), mxfp4 = parse("mxfp4");
    uint8_t codes[32] = {0};             /* one row of 64: two blocks */
    codes[0] = 0xa3;                     /* element 0 is 1.5, element 1 is -1 */
    codes[16] = 0x07;                    /* element 32 is 6 */
    const uint8_t scales[] = {128, 124}; /* 2 and 1/8 */
    float x[64] = {0};
    x[0] = 10, x[1] = 1, x[32] = 100;
    gemmux_problem problem = gemmux_problem_linear(1, 1, 64, f32, mxfp4, f32);
    gemmux_weights w = {
        .tensor = {
            .format = mxfp4, .count = 1, .rows = 1, .cols = 64, .codes = codes, .scales = scales}};
    gemmux_args args = {.x = {.format = f32, .count = 1, .rows = 1, .cols = 64, .codes = x}};
    double y;
    assert_int_equal(gemmux_reference(&problem, &w, &args, &y, NULL), GEMMUX_OK);
    assert_true(y == 10 * 3 - 2 + 100 * 0.75);
}

/* Two tokens, two slots, three experts of one row each; expert 1 is empty. */
static void moe_by_hand(void **unused)
{
    (void)unused;
    gemmux_format f32 = parse("f32");
    const float x[] = {1, 2, 3, 4}, w[] = {1, 10, 100};
    const int32_t ids[] = {0, 2, 2, 0};
    const float weights[] = {0.5f, 0.25f, 1, 2};
    gemmux_problem problem = gemmux_problem_linear(2, 1, 1, f32, f32, f32);
    problem.op = GEMMUX_MOE;
    problem.experts = 3, problem.top_k = 2;
    gemmux_weights w3 = {.tensor = {.format = f32, .count = 3, .rows = 1, .cols = 1, .codes = w}};
    gemmux_args args = {.x = {.format = f32, .count = 1, .rows = 4, .cols = 1, .codes = x},
                        .expert_ids = ids,
                        .expert_weights = weights};
    double y[4];
    assert_int_equal(gemmux_reference(&problem, &w3, &args, y, NULL), GEMMUX_OK);
    const double rows[] = {1, 200, 300, 4};
    assert_memory_equal(y, rows, sizeof y);

    problem.epilogue = GEMMUX_EPILOGUE_SCATTER;
    assert_int_equal(gemmux_reference(&problem, &w3, &args, y, NULL), GEMMUX_OK);
    assert_true(y[0] == 50.5 && y[1] == 308);

    problem.epilogue = GEMMUX_EPILOGUE_GATHER;
    args.x.rows = 2;
    assert_int_equal(gemmux_reference(&problem, &w3, &args, y, NULL), GEMMUX_OK);
    const double gathered[] = {1, 100, 200, 2};
    assert_memory_equal(y, gathered, sizeof y);
}

static void swiglu_by_hand(void **unused)
{
    (void)unused;
    gemmux_format f32 = parse("f32");
    const float x = 1, w[] = {2, 3, 9, -20, -40, 1}; /* gate, up three times */
    gemmux_problem problem = gemmux_problem_linear(1, 6, 1, f32, f32, f32);
    problem.epilogue = GEMMUX_EPILOGUE_SWIGLU;
    gemmux_weights weights = {
        .tensor = {.format = f32, .count = 1, .rows = 6, .cols = 1, .codes = w}};
    gemmux_args args = {.x = {.format = f32, .count = 1, .rows = 1, .cols = 1, .codes = &x}};
    double y[3];
    assert_int_equal(gemmux_reference(&problem, &weights, &args, y, NULL), GEMMUX_OK);
    assert_true(fabs(y[0] - 7.742639) < 1e-5);   /* 2 / (1 + e^-3.404) * 4 */
    assert_true(fabs(y[1] - -41.999718) < 1e-5); /* both clamped: 7 / (1 + e^-11.914) * -6 */
    assert_true(fabs(y[2] / (-80 * exp(-68.08)) - 1) < 1e-5); /* the gate has no lower clamp */
    problem.swiglu_alpha = 1, problem.swiglu_limit = 100;
    assert_int_equal(gemmux_reference(&problem, &weights, &args, y, NULL), GEMMUX_OK);
    assert_true(fabs(y[1] - 9 / (1 + exp(-9)) * -19) < 1e-9);
}

/* ---- right results pass, with room ---- */

static const char *const all_weights[] = {
    "f32",
    "f16",
    "bf16",
    "e4m3",
    "e4m3:row",
    "e4m3:block128",
    "e5m2",
    "mxfp8",
    "mxfp8:e5m2",
    "mxfp4",
    "nvfp4",
    "int8",
    "int8:tensor",
    "int4",
    "int4:g32",
    "int4:g32:zero",
    "int4:g32:min:f16",
    "int4:row",
    "nf4",
};

static void right_results_pass(void **unused)
{
    (void)unused;
    const uint8_t epilogues[] = {0, GEMMUX_EPILOGUE_BIAS, GEMMUX_EPILOGUE_GATHER,
                                 GEMMUX_EPILOGUE_GATHER | GEMMUX_EPILOGUE_SCATTER |
                                     GEMMUX_EPILOGUE_SWIGLU | GEMMUX_EPILOGUE_BIAS};
    const char *const xs[] = {"f32", "bf16", "f16", "e4m3", "int8"}, *const ys[] = {"f32", "bf16",
                                                                                    "f16"};
    for (size_t i = 0; i < sizeof all_weights / sizeof all_weights[0]; i++) {
        for (size_t e = 0; e < 4; e++) {
            gemmux_problem problem = gemmux_problem_linear(
                9, 34, 100, parse(xs[(i + e) % 5]), parse(all_weights[i]), parse(ys[(i + e) % 3]));
            problem.epilogue = epilogues[e];
            if (e >= 2) {
                problem.op = GEMMUX_MOE;
                problem.experts = 5, problem.top_k = 3;
            }
            scene *s = make_scene(problem);
            store_reference(s);
            if (verify(s, 0)) {
                fail_msg("%s, epilogue %zu, rounded reference: %s", all_weights[i], e,
                         s->error.text);
            }
            for (int backwards = 0; backwards < 2; backwards++) {
                run_plain(s, &(departures){.backwards = backwards});
                if (verify(s, 0) || (problem.y.id == GEMMUX_F32 && s->result.worst > 0.5)) {
                    fail_msg("%s, epilogue %zu: worst %g: %s", all_weights[i], e, s->result.worst,
                             s->error.text);
                }
                assert_int_equal(s->result.checked, s->y_rows * s->y_cols);
                assert_true(s->result.relative_error < 0.01);
            }
            free_scene(s);
        }
    }
}

static void no_columns(void **unused)
{
    (void)unused;
    gemmux_problem problem =
        gemmux_problem_linear(3, 5, 0, parse("f32"), parse("bf16"), parse("f32"));
    problem.epilogue = GEMMUX_EPILOGUE_BIAS;
    scene *s = make_scene(problem);
    refer(s);
    assert_true(s->reference[7] == (double)s->bias[2]);
    store_reference(s);
    assert_int_equal(verify(s, 0), GEMMUX_OK);
    put(s, 1, 2, (double)s->bias[2] * (1 + 0x1p-10));
    assert_int_equal(verify(s, 0), GEMMUX_ERROR_VERIFY);
    free_scene(s);
}

/* ---- wrong results do not ---- */

static scene *usual_scene(const char *w, const char *y)
{
    return make_scene(gemmux_problem_linear(8, 24, 128, parse("bf16"), parse(w), parse(y)));
}

static void one_wrong_element(void **unused)
{
    (void)unused;
    const char *const ys[] = {"f32", "bf16", "f16"};
    for (int i = 0; i < 3; i++) {
        scene *s = usual_scene("mxfp4", ys[i]);
        store_reference(s);
        double *element = &s->reference[5 * s->y_cols + 11];
        put(s, 5, 11, *element * 1.02);
        assert_int_equal(verify(s, 0), GEMMUX_ERROR_VERIFY);
        assert_int_equal(s->result.worst_row, 5);
        assert_int_equal(s->result.worst_col, 11);
        assert_non_null(strstr(s->error.text, "y[5, 11]"));
        free_scene(s);
    }
}

static void swapped_rows_and_columns(void **unused)
{
    (void)unused;
    scene *s = usual_scene("int4:g32", "bf16");
    store_reference(s);
    for (int64_t c = 0; c < s->y_cols; c++) {
        put(s, 3, c, s->reference[4 * s->y_cols + c]);
        put(s, 4, c, s->reference[3 * s->y_cols + c]);
    }
    assert_int_equal(verify(s, 0), GEMMUX_ERROR_VERIFY);
    assert_true(s->result.worst_row == 3 || s->result.worst_row == 4);
    store_reference(s);
    for (int64_t r = 0; r < s->y_rows; r++) {
        put(s, r, 0, s->reference[r * s->y_cols + 1]);
    }
    assert_int_equal(verify(s, 0), GEMMUX_ERROR_VERIFY);
    free_scene(s);
}

static void zeros(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof all_weights / sizeof all_weights[0]; i++) {
        scene *s = usual_scene(all_weights[i], "bf16");
        memset(s->y, 0, sizeof s->y);
        assert_int_equal(verify(s, 0), GEMMUX_ERROR_VERIFY);
        assert_true(s->result.relative_error == 1);
        free_scene(s);
    }
}

/* A kernel that reads the scale of the neighbouring block. */
static void neighbours_scale(void **unused)
{
    (void)unused;
    const char *const formats[] = {"mxfp4", "nvfp4", "mxfp8", "int4:g32", "nf4"};
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        scene *s = usual_scene(formats[i], "bf16");
        size_t each = (size_t)gemmux_code_bits((gemmux_code)s->problem.w.scale) / 8;
        char *scales = (char *)(uintptr_t)s->w.tensor.scales, kept[4], other[4];
        memcpy(kept, scales, each);
        memcpy(other, scales + each, each);
        assert_memory_not_equal(kept, other, each);
        memcpy(scales, other, each);
        run_plain(s, &none);
        memcpy(scales, kept, each);
        assert_int_equal(verify(s, 0), GEMMUX_ERROR_VERIFY);
        assert_int_equal(s->result.worst_col, 0);
        free_scene(s);
    }
}

/* ---- NaN and infinity ---- */

static void set_x(scene *s, int64_t row, int64_t col, float value)
{
    float *x = (float *)(uintptr_t)s->args.x.codes;
    x[row * s->problem.k + col] = value;
}

static void not_a_number(void **unused)
{
    (void)unused;
    scene *s =
        make_scene(gemmux_problem_linear(4, 6, 32, parse("f32"), parse("bf16"), parse("f32")));
    assert_int_equal(verify(s, 0), GEMMUX_ERROR_VERIFY); /* nothing was written: all NaN */
    assert_true(isinf(s->result.worst) && isinf(s->result.relative_error));
    set_x(s, 2, 9, NAN);
    store_reference(s);
    assert_int_equal(verify(s, 0), GEMMUX_OK);
    put(s, 2, 3, 1);
    assert_int_equal(verify(s, 0), GEMMUX_ERROR_VERIFY); /* a number where the reference has none */
    assert_int_equal(verify(s, GEMMUX_LIBERTY_QUANTISED_X), GEMMUX_OK);
    put(s, 2, 3, NAN);
    put(s, 1, 3, NAN);
    assert_int_equal(verify(s, 0), GEMMUX_ERROR_VERIFY);
    assert_int_equal(verify(s, GEMMUX_LIBERTY_QUANTISED_X), GEMMUX_ERROR_VERIFY);
    assert_int_equal(s->result.worst_row, 1);
    free_scene(s);
}

static void infinities(void **unused)
{
    (void)unused;
    scene *s =
        make_scene(gemmux_problem_linear(4, 6, 32, parse("f32"), parse("bf16"), parse("f16")));
    set_x(s, 2, 9, INFINITY);
    refer(s);
    assert_true(isinf(s->reference[2 * 6]));
    store_reference(s);
    assert_int_equal(verify(s, 0), GEMMUX_OK);
    put(s, 2, 0, -s->reference[2 * 6]);
    assert_int_equal(verify(s, 0), GEMMUX_ERROR_VERIFY);
    put(s, 2, 0, 65504);
    assert_int_equal(verify(s, 0), GEMMUX_ERROR_VERIFY);
    put(s, 2, 0, s->reference[2 * 6]);
    put(s, 0, 0, INFINITY); /* from a small reference */
    assert_int_equal(verify(s, 0), GEMMUX_ERROR_VERIFY);
    free_scene(s);
}

/* f16 overflows at 65520: below it infinity is wrong, above it a saturated number is. */
static void overflow_of_y(void **unused)
{
    (void)unused;
    gemmux_problem problem =
        gemmux_problem_linear(1, 1, 1, parse("f32"), parse("f32"), parse("f16"));
    const struct {
        float x;
        double y;
        gemmux_status status;
    } cases[] = {
        {65519.99f, INFINITY, GEMMUX_OK}, /* within the f32 bound of 65520 */
        {65500, INFINITY, GEMMUX_ERROR_VERIFY}, {65504, 65504, GEMMUX_OK},
        {65600, 65504, GEMMUX_ERROR_VERIFY},    {65600, INFINITY, GEMMUX_OK},
        {-65600, -INFINITY, GEMMUX_OK},         {-65600, INFINITY, GEMMUX_ERROR_VERIFY},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        scene *s = make_scene(problem);
        set_x(s, 0, 0, cases[i].x);
        *(float *)(uintptr_t)s->w.tensor.codes = 1;
        put(s, 0, 0, cases[i].y);
        if (verify(s, 0) != cases[i].status) {
            fail_msg("case %zu: worst %g", i, s->result.worst);
        }
        free_scene(s);
    }
}

/* ---- liberties: without it the result is wrong, with it right ---- */

static float to_bf16(float value)
{
    return gemmux_f32_from_bf16(gemmux_bf16_from_f32(value));
}

static float to_f16(float value)
{
    return gemmux_f32_from_f16(gemmux_f16_from_f32(value));
}

static float to_tf32(float value)
{
    return gemmux_f32_from_bits(gemmux_f32_bits(value) & 0xffffe000u); /* cut off, as hardware */
}

static float flush(float value)
{
    return fabsf(value) < 0x1p-126f ? 0 : value;
}

static float x_bf16(float value, float amax)
{
    (void)amax;
    return to_bf16(value);
}

static float x_tf32(float value, float amax)
{
    (void)amax;
    return to_tf32(value);
}

static float x_flush(float value, float amax)
{
    (void)amax;
    return flush(value);
}

static float x_int8(float value, float amax)
{
    return rintf(value / amax * 127) * amax / 127;
}

static float x_e4m3(float value, float amax)
{
    uint32_t code = gemmux_code_encode(GEMMUX_CODE_E4M3, (double)(value / amax * 448));
    return (float)gemmux_code_decode(GEMMUX_CODE_E4M3, code) * amax / 448;
}

/* Every operand is the same number, so that all roundings go the same way: the worst case, in
 * which a bound half as wide would not do. */
static void check_liberty(gemmux_liberty liberty, const char *x_format, const char *w_format,
                          float x, float w, const departures *d, double at_least)
{
    scene *s =
        make_scene(gemmux_problem_linear(2, 3, 64, parse(x_format), parse(w_format), parse("f32")));
    for (int64_t i = 0; i < 2 * 64; i++) {
        gemmux_code code = (gemmux_code)s->problem.x.element;
        uint32_t bits = gemmux_code_encode(code, (double)x);
        size_t bytes = (size_t)gemmux_code_bits(code) / 8;
        memcpy((char *)(uintptr_t)s->args.x.codes + (size_t)i * bytes, &bits, bytes);
    }
    for (int64_t i = 0; i < 3 * 64; i++) {
        ((float *)(uintptr_t)s->w.tensor.codes)[i] = w;
    }
    run_plain(s, d);
    const char *name = gemmux_liberty_name(liberty);
    if (verify(s, GEMMUX_LIBERTIES_DEFAULT & ~(uint32_t)liberty) != GEMMUX_ERROR_VERIFY) {
        fail_msg("%s is not needed: %g", name, s->result.worst);
    }
    if (verify(s, (uint32_t)liberty) || s->result.worst < at_least) {
        fail_msg("%s with its liberty is %g of the bound", name, s->result.worst);
    }
    free_scene(s);
}

static void liberties_are_just_wide_enough(void **unused)
{
    (void)unused;
    float cut = 1 + 0x1p-10f - 0x1p-23f; /* all that tf32 cuts off is set */
    check_liberty(GEMMUX_LIBERTY_TF32, "f32", "f32", cut, cut,
                  &(departures){.x = x_tf32, .w = to_tf32}, 0.9);
    float bf16_tie = 1 + 0x1p-8f, f16_tie = 1 + 0x1p-11f; /* round to 1 */
    check_liberty(GEMMUX_LIBERTY_ROUNDED_X, "f32", "f32", bf16_tie, 1, &(departures){.x = x_bf16},
                  0.9);
    check_liberty(GEMMUX_LIBERTY_ROUNDED_W, "bf16", "f32", 1, bf16_tie, &(departures){.w = to_bf16},
                  0.9);
    check_liberty(GEMMUX_LIBERTY_ROUNDED_W, "f16", "f32", 1, f16_tie, &(departures){.w = to_f16},
                  0.9);
    check_liberty(GEMMUX_LIBERTY_FLUSH_SUBNORMALS, "f32", "f32", 0x1.8p-127f, 1,
                  &(departures){.x = x_flush}, 0.15);
    check_liberty(GEMMUX_LIBERTY_FLUSH_SUBNORMALS, "f32", "f32", 0x1p20f, 0x1.8p-127f,
                  &(departures){.w = flush}, 0.15);
    /* 1 + 2^-6 loses its last bits in every f16 sum above 32. */
    check_liberty(GEMMUX_LIBERTY_NARROW_SUMS, "f32", "f32", 1, 1 + 0x1p-6f,
                  &(departures){.sum = to_f16}, 0.05);
}

/* f16 sums lose what is less than a step of rows brought into their range: numbers of one operand
 * that are 2^-15 of the largest, which the other operand cancels. */
static void narrow_sums_lose_small_numbers(void **unused)
{
    (void)unused;
    for (int of_w = 0; of_w < 2; of_w++)
        for (int wrong = 0; wrong < 2; wrong++) {
            scene *s = make_scene(
                gemmux_problem_linear(1, 1, 64, parse("f32"), parse("f32"), parse("f32")));
            float *w = (float *)(uintptr_t)s->w.tensor.codes, small = wrong ? 0x1.4p-15f : 0x1p-15f;
            for (int64_t j = 0; j < 64; j++) {
                float uneven = j ? small : 1, even = j ? 1 : 0;
                w[j] = of_w ? uneven : even;
                set_x(s, 0, j, of_w ? even : uneven);
            }
            refer(s);
            put(s, 0, 0, 0);
            assert_int_equal(verify(s, GEMMUX_LIBERTIES_DEFAULT), GEMMUX_ERROR_VERIFY);
            assert_int_equal(verify(s, GEMMUX_LIBERTY_NARROW_SUMS),
                             wrong ? GEMMUX_ERROR_VERIFY : GEMMUX_OK);
            assert_true(s->result.worst > 0.9);
            free_scene(s);
        }
}

/* fp8 sums keep 13 bits behind the first one of their largest number: products that are just less
 * than that add up to nothing beside one that is large. */
static void fp8_sums_cut_small_products(void **unused)
{
    (void)unused;
    for (int wrong = 0; wrong < 2; wrong++) {
        scene *s =
            make_scene(gemmux_problem_linear(1, 1, 64, parse("e4m3"), parse("e4m3"), parse("f32")));
        uint8_t *x = (uint8_t *)(uintptr_t)s->args.x.codes;
        uint8_t *w = (uint8_t *)(uintptr_t)s->w.tensor.codes;
        for (int64_t j = 0; j < 64; j++) {
            x[j] = (uint8_t)gemmux_code_encode(GEMMUX_CODE_E4M3, j ? 3.75 : 256);
            w[j] = (uint8_t)gemmux_code_encode(GEMMUX_CODE_E4M3, j ? 2 : 256);
        }
        refer(s);
        double all = s->reference[0], first = all * 65536 / (65536 + 63 * 7.5);
        put(s, 0, 0, wrong ? all - 1.4 * (all - first) : first);
        assert_int_equal(verify(s, GEMMUX_LIBERTIES_DEFAULT), GEMMUX_ERROR_VERIFY);
        assert_int_equal(verify(s, GEMMUX_LIBERTY_NARROW_SUMS),
                         wrong ? GEMMUX_ERROR_VERIFY : GEMMUX_OK);
        assert_true(s->result.worst > 0.7);
        free_scene(s);
    }
}

static void quantised_x(void **unused)
{
    (void)unused;
    const struct {
        const char *w;
        float (*x)(float value, float amax);
    } cases[] = {{"int8", x_int8}, {"mxfp4", x_int8}, {"e4m3", x_e4m3}, {"mxfp8", x_e4m3}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        scene *s = make_scene(
            gemmux_problem_linear(8, 24, 32, parse("f32"), parse(cases[i].w), parse("f32")));
        run_plain(s, &(departures){.x = cases[i].x});
        assert_int_equal(verify(s, GEMMUX_LIBERTIES_DEFAULT), GEMMUX_ERROR_VERIFY);
        if (verify(s, GEMMUX_LIBERTY_QUANTISED_X)) {
            fail_msg("%s: %s", cases[i].w, s->error.text);
        }
        assert_true(s->result.worst > 0.05);
        free_scene(s);
    }
    /* e4m3's steps are too wide where weights are integers and eight bits can be integers too. */
    scene *s =
        make_scene(gemmux_problem_linear(1, 1, 1, parse("f32"), parse("int8"), parse("f32")));
    set_x(s, 0, 0, 1);
    refer(s);
    put(s, 0, 0, s->reference[0] * (1 + 0x1p-5));
    assert_int_equal(verify(s, GEMMUX_LIBERTY_QUANTISED_X), GEMMUX_ERROR_VERIFY);
    free_scene(s);
}

/* All but one element of x lie half a step from the next code, and all round down. */
static void quantised_x_at_its_worst(void **unused)
{
    (void)unused;
    scene *s =
        make_scene(gemmux_problem_linear(1, 2, 64, parse("f32"), parse("int8"), parse("f32")));
    memset((char *)(uintptr_t)s->w.tensor.codes, 1, 2 * 64);
    for (int64_t j = 0; j < 64; j++) {
        set_x(s, 0, j, j == 0 ? 127 : 0.5f);
    }
    run_plain(s, &(departures){.x = x_int8});
    assert_int_equal(verify(s, GEMMUX_LIBERTY_QUANTISED_X), GEMMUX_OK);
    assert_true(s->result.worst > 0.9);
    free_scene(s);
}

/* scale * code + zero, distributed over the sum: x.(scale code) and zero sum(x) nearly cancel. */
static void distributed_minimum(void **unused)
{
    (void)unused;
    scene *s = make_scene(
        gemmux_problem_linear(1, 1, 64, parse("f32"), parse("int4:g64:min:f32"), parse("f32")));
    float *scale = (float *)(uintptr_t)s->w.tensor.scales;
    float *zero = (float *)(uintptr_t)s->w.tensor.zeros;
    memset((char *)(uintptr_t)s->w.tensor.codes, 0x88, 32);
    *scale = 12.50001f, *zero = -100;
    float products = 0, sum = 0;
    for (int64_t j = 0; j < 64; j++) {
        float x = (float)(1 + uniform());
        set_x(s, 0, j, x);
        float term = x * 8;
        products += term;
        sum += x;
    }
    float scaled = products * *scale, moved = sum * *zero;
    put(s, 0, 0, (double)(scaled + moved));
    refer(s);
    double off = fabs((double)(scaled + moved) - s->reference[0]);
    assert_true(off > 1e-5 * fabs(s->reference[0])); /* more than gamma(72) alone */
    assert_int_equal(verify(s, 0), GEMMUX_OK);
    put(s, 0, 0, s->reference[0] + 8); /* one code of one element, nearly */
    assert_int_equal(verify(s, 0), GEMMUX_ERROR_VERIFY);
    free_scene(s);
}

/* Any order is within gamma(k), so this liberty widens nothing. */
static void unordered_widens_nothing(void **unused)
{
    (void)unused;
    scene *s = usual_scene("bf16", "f32");
    run_plain(s, &none);
    assert_int_equal(verify(s, 0), GEMMUX_OK);
    double worst = s->result.worst;
    assert_int_equal(verify(s, GEMMUX_LIBERTY_UNORDERED), GEMMUX_OK);
    assert_true(s->result.worst == worst);
    free_scene(s);
}

/* A liberty is no excuse: numbers that need all of it stay far from a wrong scale or zeros. */
static void liberties_do_not_hide_zeros(void **unused)
{
    (void)unused;
    for (int bit = 0; bit < GEMMUX_LIBERTY_BITS; bit++) {
        scene *s = usual_scene("mxfp4", "bf16");
        memset(s->y, 0, sizeof s->y);
        if (verify(s, UINT32_C(1) << bit) != GEMMUX_ERROR_VERIFY) {
            fail_msg("%s lets zeros pass", gemmux_liberty_name((gemmux_liberty)(1 << bit)));
        }
        free_scene(s);
    }
}

/* The bound of scatter and SwiGLU grows with what is summed, not more. */
static void epilogues_are_checked(void **unused)
{
    (void)unused;
    gemmux_problem problem =
        gemmux_problem_linear(6, 16, 96, parse("bf16"), parse("mxfp4"), parse("f32"));
    problem.op = GEMMUX_MOE;
    problem.experts = 4, problem.top_k = 2;
    problem.epilogue = GEMMUX_EPILOGUE_GATHER | GEMMUX_EPILOGUE_SCATTER | GEMMUX_EPILOGUE_SWIGLU |
                       GEMMUX_EPILOGUE_BIAS;
    scene *s = make_scene(problem);
    run_plain(s, &none);
    assert_int_equal(verify(s, 0), GEMMUX_OK);
    float kept = s->weights[3]; /* token 1's second slot */
    s->weights[3] = kept * 1.01f;
    run_plain(s, &none);
    s->weights[3] = kept;
    assert_int_equal(verify(s, 0), GEMMUX_ERROR_VERIFY);
    assert_int_equal(s->result.worst_row, 1);
    s->problem.swiglu_limit = 6.5f; /* somebody's clamp is at 7 */
    run_plain(s, &none);
    assert_int_equal(verify(s, 0), GEMMUX_ERROR_VERIFY);
    free_scene(s);
}

/* ---- which rows ---- */

static void sampled_rows(void **unused)
{
    (void)unused;
    scene *s =
        make_scene(gemmux_problem_linear(61, 4, 16, parse("f32"), parse("f32"), parse("f32")));
    store_reference(s);
    int seen[16] = {0};
    for (int64_t rows = 1; rows <= 61; rows += 6) {
        int64_t found = 0;
        for (int64_t bad = 0; bad < 61; bad++) {
            put(s, bad, 2, 1e6);
            gemmux_status status =
                gemmux_verify(&s->problem, 0, &s->w, &s->args, rows, &s->result, NULL);
            assert_int_equal(s->result.checked, rows * 4);
            found += status == GEMMUX_ERROR_VERIFY;
            seen[bad % 16] += status == GEMMUX_ERROR_VERIFY;
            if (bad == 0 || (bad == 60 && rows > 1)) {
                assert_int_equal(status, GEMMUX_ERROR_VERIFY);
            }
            put(s, bad, 2, s->reference[bad * 4 + 2]);
        }
        assert_int_equal(found, rows);
    }
    for (int i = 0; i < 16; i++) {
        assert_true(seen[i] > 1); /* no residue of a tile size is left out */
    }
    free_scene(s);
}

static void strided_y(void **unused)
{
    (void)unused;
    scene *s =
        make_scene(gemmux_problem_linear(3, 4, 16, parse("f32"), parse("f32"), parse("f32")));
    store_reference(s);
    float wide[3 * 7];
    memset(wide, 0xff, sizeof wide);
    for (int r = 0; r < 3; r++) {
        memcpy(wide + 7 * r, s->y + 4 * r, 16);
    }
    s->args.y = wide;
    s->args.y_row_bytes = 28;
    assert_int_equal(verify(s, 0), GEMMUX_OK);
    free_scene(s);
}

static void contradictions(void **unused)
{
    (void)unused;
    gemmux_problem problem =
        gemmux_problem_linear(2, 4, 16, parse("bf16"), parse("mxfp4"), parse("f32"));
    problem.op = GEMMUX_MOE;
    problem.experts = 3, problem.top_k = 2;
    problem.epilogue = GEMMUX_EPILOGUE_SCATTER;
    scene *s = make_scene(problem);
    scene kept = *s;
    const int32_t out_of_range[16] = {16};
    for (int i = 0; i < 8; i++) {
        s->problem = kept.problem, s->args = kept.args, s->w = kept.w;
        s->ids[1] = i == 0 ? 3 : kept.ids[1];
        s->args.expert_ids = i == 1 ? NULL : s->ids;
        s->args.expert_weights = i == 2 ? NULL : s->weights;
        s->args.x.rows = i == 3 ? 3 : 4;
        s->args.x.cols = i == 4 ? 15 : 16;
        s->problem.n = i == 5 ? 5 : 4;
        s->problem.x = i == 6 ? parse("f32") : kept.problem.x;
        s->w.tensor.k_order = i == 7 ? out_of_range : NULL;
        s->error.text[0] = 0;
        gemmux_status status =
            gemmux_reference(&s->problem, &s->w, &s->args, s->reference, &s->error);
        if (status != GEMMUX_ERROR_ARGUMENT || s->error.text[0] == 0) {
            fail_msg("contradiction %d: %s", i, gemmux_status_name(status));
        }
    }
    free_scene(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dense_by_hand),
        cmocka_unit_test(mxfp4_by_hand),
        cmocka_unit_test(moe_by_hand),
        cmocka_unit_test(swiglu_by_hand),
        cmocka_unit_test(right_results_pass),
        cmocka_unit_test(no_columns),
        cmocka_unit_test(one_wrong_element),
        cmocka_unit_test(swapped_rows_and_columns),
        cmocka_unit_test(zeros),
        cmocka_unit_test(neighbours_scale),
        cmocka_unit_test(not_a_number),
        cmocka_unit_test(infinities),
        cmocka_unit_test(overflow_of_y),
        cmocka_unit_test(liberties_are_just_wide_enough),
        cmocka_unit_test(narrow_sums_lose_small_numbers),
        cmocka_unit_test(fp8_sums_cut_small_products),
        cmocka_unit_test(quantised_x),
        cmocka_unit_test(quantised_x_at_its_worst),
        cmocka_unit_test(distributed_minimum),
        cmocka_unit_test(unordered_widens_nothing),
        cmocka_unit_test(liberties_do_not_hide_zeros),
        cmocka_unit_test(epilogues_are_checked),
        cmocka_unit_test(sampled_rows),
        cmocka_unit_test(strided_y),
        cmocka_unit_test(contradictions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
