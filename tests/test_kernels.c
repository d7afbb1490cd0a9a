/* SPDX-License-Identifier: Apache-2.0
 *
 * checkasm style: every kernel of the table that can run here, every form of it, against the f64
 * reference. Operands stand one element off alignment between guard bytes, rows are longer than
 * dense with NaN bytes in the padding, y is poisoned, each product runs twice and with other
 * threads.
 */
#include "testing.h"

#include "kernel.h"
#include "wildcard.h"

enum {
    GUARD = 64,
    POISON = 0xff, /* NaN in every float format */
};

typedef struct fixture {
    gemmux_machine machine;
    gemmux_threads *threads;
    uint64_t seed;
    int64_t products;
    uint64_t forms[GEMMUX_MAX_KERNELS]; /* bit f: form f has run */
} fixture;

/* A row-strided, misaligned copy between guards. */
typedef struct buffer {
    unsigned char *storage, *data;
    int64_t rows, row_bytes, stride;
} buffer;

typedef struct product {
    gemmux_problem problem;
    gemmux_weights w, x;
    buffer x_rows, y_rows;
    float *bias;
    int32_t *ids;
    float *slot_weights;
    gemmux_args args;
} product;

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    gemmux_error error;
    if (!f || gemmux_machine_probe_cpu(&f->machine, &error) ||
        gemmux_threads_create(3, &f->threads, &error))
        return -1;
    f->seed = 20261123;
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    gemmux_threads_free(f->threads);
    free(f);
    return 0;
}

/* ------------------------------------------------------------------------------------ operands --
 */

static int64_t y_columns(const gemmux_problem *p)
{
    return p->epilogue & GEMMUX_EPILOGUE_SWIGLU ? p->n / 2 : p->n;
}

static void buffer_make(buffer *b, int64_t rows, int64_t row_bytes, int64_t element)
{
    int64_t padding = 3 * element;
    *b = (buffer){.rows = rows, .row_bytes = row_bytes, .stride = row_bytes + padding};
    size_t size = (size_t)(rows * b->stride + 2 * GUARD + element);
    b->storage = malloc(size);
    assert_non_null(b->storage);
    memset(b->storage, POISON, size);
    b->data = b->storage + GUARD + element; /* malloc gives 16 bytes of alignment */
}

/* Everything but the rows themselves still holds poison. */
static bool buffer_intact(const buffer *b)
{
    const unsigned char *end = b->data + b->rows * b->stride + GUARD;
    for (const unsigned char *p = b->storage; p < end; p++) {
        int64_t at = p - b->data;
        bool inside = at >= 0 && at < b->rows * b->stride && at % b->stride < b->row_bytes;
        if (!inside && *p != POISON)
            return false;
    }
    return true;
}

static void route_tokens(fixture *f, product *t)
{
    const gemmux_problem *p = &t->problem;
    int64_t rows = gemmux_problem_rows(p);
    t->ids = calloc((size_t)rows, sizeof *t->ids);
    t->slot_weights = calloc((size_t)rows, sizeof *t->slot_weights);
    assert_non_null(t->ids);
    assert_non_null(t->slot_weights);
    /* Distinct experts a token; uneven: the second expert gets a row of every token. Where there
     * is room the first stays empty. */
    int32_t room = p->experts > p->top_k ? 1 : 0;
    for (int64_t i = 0; i < rows; i++) {
        int32_t slot = (int32_t)(i % p->top_k), others = p->experts - room - 1;
        int32_t start = (int32_t)(i / p->top_k * 5 % (others ? others : 1));
        t->ids[i] = slot == 0 ? room : room + 1 + (start + slot) % others;
        t->slot_weights[i] = testing_float(&f->seed);
    }
}

/* What a product's operands look like. */
typedef enum look {
    RANDOM,
    ONE_HOT, /* x has a single 1 a row: misplaced elements and scales have nowhere to hide */
    EXTREME, /* ONE_HOT, and w has every code, every zero point, scales from end to end */
} look;

/* Every code that the format has; those of e4m3 and e5m2 that are not finite only on request. */
static void fill_extreme(fixture *f, gemmux_tensor *w, bool nonfinite)
{
    uint8_t *codes = (uint8_t *)(uintptr_t)w->codes;
    uint8_t *scales = (uint8_t *)(uintptr_t)w->scales, *zeros = (uint8_t *)(uintptr_t)w->zeros;
    int64_t bytes = gemmux_row_bytes(w->format, w->cols) * w->rows;
    int64_t count = gemmux_scale_count(w->format, w->rows, w->cols);
    for (int64_t i = 0; i < bytes && w->format.scaling; i++)
        codes[i] = (uint8_t)(i * 11 + i / 256);
    for (int64_t i = 0; i < bytes && !nonfinite; i++)
        if (!isfinite(gemmux_code_decode((gemmux_code)w->format.element, codes[i])))
            codes[i] &= 0x83; /* a subnormal */
    for (int64_t i = 0; i < count; i++) {
        if (w->format.scale == GEMMUX_CODE_UE8M0)
            scales[i] = (uint8_t)testing_below(&f->seed, 240);
        if (w->format.scale == GEMMUX_CODE_UE4M3)
            scales[i] = (uint8_t)testing_below(&f->seed, 127);
        if (w->format.zero == GEMMUX_ZERO_POINT)
            zeros[i] = (uint8_t)testing_below(&f->seed, 17);
    }
}

static void product_make(fixture *f, product *t, gemmux_problem problem, look how)
{
    *t = (product){.problem = problem};
    int64_t count = problem.op == GEMMUX_MOE ? problem.experts : 1;
    int64_t rows = gemmux_problem_rows(&problem), k = problem.k;
    bool gather = problem.epilogue & GEMMUX_EPILOGUE_GATHER;
    int64_t x_rows = gather || problem.op != GEMMUX_MOE ? problem.m : rows;
    testing_weights(&f->seed, problem.w, count, problem.n, k, &t->w);
    if (how == EXTREME)
        fill_extreme(f, &t->w.tensor, problem.m % 4 == 2);
    float *values = testing_matrix(&f->seed, 1, x_rows, k);
    for (int64_t i = 0; how != RANDOM && i < x_rows * k; i++)
        values[i] = i % k == (i / k * 37 + 5) % k ? 1.0f : 0.0f;
    gemmux_error error;
    assert_int_equal(gemmux_quantise(values, 1, x_rows, k, problem.x, &t->x, &error), GEMMUX_OK);
    free(values);
    if (problem.epilogue & GEMMUX_EPILOGUE_BIAS) {
        t->bias = testing_matrix(&f->seed, count, problem.n, 1);
        t->w.bias = t->bias;
    }
    if (problem.op == GEMMUX_MOE)
        route_tokens(f, t);

    int64_t element = gemmux_code_bits((gemmux_code)problem.x.element) / 8;
    int64_t x_bytes = gemmux_row_bytes(problem.x, k);
    buffer_make(&t->x_rows, x_rows, x_bytes, element ? element : 1);
    for (int64_t i = 0; i < x_rows; i++)
        memcpy(t->x_rows.data + i * t->x_rows.stride, (const char *)t->x.tensor.codes + i * x_bytes,
               (size_t)x_bytes);
    int64_t y_rows = problem.epilogue & GEMMUX_EPILOGUE_SCATTER ? problem.m : rows;
    buffer_make(&t->y_rows, y_rows, gemmux_row_bytes(problem.y, y_columns(&problem)),
                gemmux_code_bits((gemmux_code)problem.y.element) / 8);
    t->args = (gemmux_args){
        .x = t->x.tensor,
        .y = t->y_rows.data,
        .y_row_bytes = t->y_rows.stride,
        .expert_ids = t->ids,
        .expert_weights = t->slot_weights,
    };
    t->args.x.codes = t->x_rows.data;
    t->args.x.row_bytes = t->x_rows.stride;
}

static void product_free(product *t)
{
    gemmux_weights_free(&t->w);
    gemmux_weights_free(&t->x);
    free(t->bias);
    free(t->ids);
    free(t->slot_weights);
    free(t->x_rows.storage);
    free(t->y_rows.storage);
}

/* ---------------------------------------------------------------------------------------- runs --
 */

static bool runs_here(const fixture *f, const gemmux_kernel *kernel)
{
    const char *only = getenv("GEMMUX_TEST_KERNELS"); /* globs; all when not set */
    if (only && !gemmux_glob_list(only, kernel->name))
        return false;
    return kernel->device == GEMMUX_CPU && kernel->run && (kernel->isa & ~f->machine.isa) == 0 &&
           f->machine.library[kernel->library].present >= (kernel->library != GEMMUX_LIB_NONE);
}

/* Runs t through `kernel` with `threads`; false when the kernel does not take the problem. */
static bool run_once(const fixture *f, const gemmux_kernel *kernel, product *t,
                     gemmux_threads *threads, int *form)
{
    gemmux_policy policy = {.only = kernel->name};
    gemmux_plan *plan;
    gemmux_error error = {GEMMUX_OK, ""};
    char text[128];
    gemmux_status status =
        gemmux_prepare(&t->problem, &f->machine, &policy, NULL, &t->w, threads, &plan, &error);
    if (status == GEMMUX_ERROR_NO_KERNEL)
        return false;
    if (status)
        fail_msg("%s, %s: %s", kernel->name, gemmux_problem_text(&t->problem, text, sizeof text),
                 error.text);
    const gemmux_range *ranges;
    gemmux_plan_ranges(plan, &ranges);
    assert_ptr_equal(ranges[0].decision.kernel, kernel);
    *form = ranges[0].decision.form;
    memset(t->y_rows.data, POISON, (size_t)(t->y_rows.rows * t->y_rows.stride));
    if (gemmux_run(plan, &t->args, &error))
        fail_msg("%s: %s", kernel->name, error.text);
    if (!buffer_intact(&t->y_rows) || !buffer_intact(&t->x_rows))
        fail_msg("%s wrote outside the rows of y: %s", kernel->name,
                 gemmux_problem_text(&t->problem, text, sizeof text));
    gemmux_plan_free(plan);
    return true;
}

/* One product: right, the same twice, and the same with other threads. */
static void check_product(fixture *f, int index, gemmux_problem problem, look how)
{
    const gemmux_kernel *kernel = gemmux_builtin_kernels.kernels[index];
    product t;
    int form;
    product_make(f, &t, problem, how);
    if (run_once(f, kernel, &t, NULL, &form)) {
        uint32_t liberties = kernel->forms[form].liberties;
        gemmux_verification result;
        gemmux_error error;
        char text[128];
        if (gemmux_verify(&t.problem, liberties, &t.w, &t.args, 0, &result, &error))
            fail_msg("%s form %d, %s%s: %s", kernel->name, form,
                     gemmux_problem_text(&problem, text, sizeof text),
                     how == RANDOM    ? ""
                     : how == ONE_HOT ? ", one-hot"
                                      : ", extreme",
                     error.text);
        size_t size = (size_t)(t.y_rows.rows * t.y_rows.stride);
        unsigned char *first = malloc(size);
        assert_non_null(first);
        memcpy(first, t.y_rows.data, size);
        bool ours = kernel->library == GEMMUX_LIB_NONE;
        /* Three threads on fewer cores spin for each other: not for every product. */
        for (int again = 0; again < (f->products % 8 ? 1 : 2); again++) {
            assert_true(run_once(f, kernel, &t, again ? f->threads : NULL, &form));
            if ((again == 0 || ours) && !(liberties & GEMMUX_LIBERTY_UNORDERED) &&
                memcmp(first, t.y_rows.data, size))
                fail_msg("%s: a second run %s gave other bits: %s", kernel->name,
                         again ? "with threads" : "",
                         gemmux_problem_text(&problem, text, sizeof text));
        }
        free(first);
        f->forms[index] |= UINT64_C(1) << form;
        f->products++;
    }
    product_free(&t);
}

static const int64_t ms[] = {1,  2,  3,  4,  5, 7,  8,   9,   15,  16,  17,  31, 32,
                             33, 63, 64, 65, 6, 12, 127, 128, 129, 255, 256, 257};
static const int64_t ns[] = {1, 5, 16, 17, 33, 48, 64, 65, 130};
static const int64_t ks[] = {16, 1,  300, 7,   32,  64,  15, 128, 17,  600,
                             0,  31, 33,  129, 255, 256, 63, 127, 1100};
#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* Shapes walk through the lists at co-prime steps; large products are thinned out. */
static gemmux_problem next_problem(fixture *f, gemmux_format x, gemmux_format w, int64_t limit)
{
    static const gemmux_format_id ys[] = {GEMMUX_F32, GEMMUX_BF16, GEMMUX_F16};
    static int step;
    gemmux_problem p;
    (void)f;
    do {
        step++;
        p = gemmux_problem_linear(ms[step * 7 % COUNT(ms)], ns[step * 2 % COUNT(ns)],
                                  ks[step * 5 % COUNT(ks)], x, w,
                                  gemmux_format_of(ys[step % COUNT(ys)]));
    } while (p.m * p.n * p.k > limit || (p.k == 0 && x.scaling != GEMMUX_SCALING_NONE));
    p.liberties = GEMMUX_LIBERTIES_DEFAULT;
    if (step % 4 == 0)
        p.op = GEMMUX_MATMUL;
    else if (step % 3 == 0)
        p.epilogue = GEMMUX_EPILOGUE_BIAS;
    return p;
}

/* Every form of every kernel: every x it takes with every w, at a few shapes each. */
static void test_linear(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < gemmux_builtin_kernels.count; i++) {
        const gemmux_kernel *kernel = gemmux_builtin_kernels.kernels[i];
        if (!runs_here(f, kernel))
            continue;
        for (int form = 0; form < kernel->form_count; form++)
            for (int a = 0; a < TESTING_FORMAT_COUNT; a++)
                for (int b = 0; b < TESTING_FORMAT_COUNT; b++) {
                    gemmux_format x = testing_format(testing_formats[a]);
                    gemmux_format w = testing_format(testing_formats[b]);
                    const gemmux_form *want = &kernel->forms[form];
                    if (!(want->x & GEMMUX_BIT(x.id)) || !(want->w & GEMMUX_BIT(w.id)) ||
                        x.scaling == GEMMUX_SCALING_BLOCK)
                        continue;
                    bool usual = x.scaling == GEMMUX_SCALING_NONE || x.id == GEMMUX_INT8;
                    for (int shape = 0; shape < (usual ? 4 : 1); shape++) {
                        gemmux_problem p = next_problem(f, x, w, shape ? 100000 : 2000000);
                        p.liberties |= want->liberties;
                        check_product(f, i, p, shape == 3 ? ONE_HOT : RANDOM);
                    }
                }
    }
}

/* Each M of the list, dense and grouped, with the formats whose decoders differ most. */
static void test_every_m(void **state)
{
    fixture *f = *state;
    static const char *const formats[][2] = {
        {"bf16", "mxfp4"}, {"f32", "f32"}, {"bf16", "int4:g32"}, {"int8", "int8"}};
    for (int i = 0; i < gemmux_builtin_kernels.count; i++)
        for (int pair = 0; runs_here(f, gemmux_builtin_kernels.kernels[i]) && pair < 4; pair++)
            for (int m = 0; m < COUNT(ms); m++) {
                gemmux_format x = testing_format(formats[pair][0]);
                gemmux_format w = testing_format(formats[pair][1]);
                check_product(
                    f, i, gemmux_problem_linear(ms[m], 37, 96, x, w, gemmux_format_of(GEMMUX_F32)),
                    false);
            }
}

/* K beyond what any level decodes at once: sums go on from one panel to the next, with several
 * tiles of rows and several panels along N, too. */
static void test_long_k(void **state)
{
    fixture *f = *state;
    static const char *const formats[][2] = {{"bf16", "mxfp4"},
                                             {"bf16", "bf16"},
                                             {"f32", "f32"},
                                             {"bf16", "int4:g32"},
                                             {"int8", "int8"}};
    static const int64_t rows[] = {2, 20, 70}, columns[] = {19, 19, 150};
    for (int i = 0; i < gemmux_builtin_kernels.count; i++)
        for (int pair = 0; runs_here(f, gemmux_builtin_kernels.kernels[i]) && pair < 5; pair++)
            for (int m = 0; m < COUNT(rows); m++)
                check_product(f, i,
                              gemmux_problem_linear(
                                  rows[m], columns[m], 4500, testing_format(formats[pair][0]),
                                  testing_format(formats[pair][1]), gemmux_format_of(GEMMUX_F32)),
                              RANDOM);
}

static void test_moe(void **state)
{
    fixture *f = *state;
    static const char *const weights[] = {"mxfp4", "bf16", "f32", "nvfp4", "int4:g32:zero", "int8"};
    static const char *const inputs[] = {"bf16", "f32", "int8"};
    static const int64_t tokens[] = {1, 4, 33, 70};
    for (int i = 0; i < gemmux_builtin_kernels.count; i++)
        for (int a = 0; runs_here(f, gemmux_builtin_kernels.kernels[i]) && a < COUNT(inputs); a++)
            for (int b = 0; b < COUNT(weights); b++)
                for (int round = 0; round < 8; round++) {
                    gemmux_problem p = gemmux_problem_linear(
                        tokens[round % 4], round % 3 ? 50 : 34, 96, testing_format(inputs[a]),
                        testing_format(weights[b]),
                        gemmux_format_of(round % 2 ? GEMMUX_BF16 : GEMMUX_F32));
                    p.op = GEMMUX_MOE;
                    p.experts = 6;
                    p.top_k = 3;
                    p.epilogue = (uint8_t)(round < 4 ? round * 5 : round * 4 - 1) & 15;
                    check_product(f, i, p, RANDOM);
                }
}

/* Every code, zero point and scale of every format, by few rows and by many. */
static void test_extremes(void **state)
{
    fixture *f = *state;
    static const char *const inputs[] = {"bf16", "f32", "int8"};
    static const int64_t rows[] = {1, 2, 4, 6, 8, 50};
    for (int i = 0; i < gemmux_builtin_kernels.count; i++)
        for (int a = 0; runs_here(f, gemmux_builtin_kernels.kernels[i]) && a < COUNT(inputs); a++)
            for (int b = 0; b < TESTING_FORMAT_COUNT; b++)
                for (int m = 0; m < COUNT(rows); m++) {
                    gemmux_format w = testing_format(testing_formats[b]);
                    if (w.scaling == GEMMUX_SCALING_NONE)
                        continue;
                    gemmux_problem p =
                        gemmux_problem_linear(rows[m], 19, 288, testing_format(inputs[a]), w,
                                              gemmux_format_of(GEMMUX_F32));
                    check_product(f, i, p, EXTREME);
                }
}

/* K = 1 and x = 1: y is w, rounded to y's format. Every kind of f32 number goes in, ties too. */
static void check_rounding(fixture *f, const gemmux_kernel *kernel, gemmux_format_id y)
{
    enum { ROWS = 2, COLUMNS = 3001 };
    gemmux_format f32 = gemmux_format_of(GEMMUX_F32);
    product t;
    int form;
    product_make(f, &t, gemmux_problem_linear(ROWS, COLUMNS, 1, f32, f32, gemmux_format_of(y)),
                 ONE_HOT);
    uint32_t *w = (uint32_t *)(uintptr_t)t.w.tensor.codes;
    for (int i = 0; i < COLUMNS; i++) {
        w[i] = (uint32_t)(testing_random(&f->seed) >> 32);
        w[i] &= i % 3 == 0 ? 0xffff8000u : i % 3 == 1 ? 0xfffff000u : ~0u;
        if (i % 2) /* into f16's range */
            w[i] = (w[i] & 0x807fffffu) | (uint32_t)(0x70 + i * 5 % 31 - 15) << 23;
    }
    if (run_once(f, kernel, &t, NULL, &form)) {
        gemmux_code code = (gemmux_code)t.problem.y.element;
        for (int64_t i = 0; i < ROWS * COLUMNS; i++) {
            float value;
            memcpy(&value, &w[i % COLUMNS], 4);
            uint32_t want = gemmux_code_encode(code, (double)value);
            uint32_t got =
                gemmux_code_load(code, t.y_rows.data + i / COLUMNS * t.y_rows.stride, i % COLUMNS);
            double stored = gemmux_code_decode(code, got);
            if (value == 0 && stored == 0) /* a sum that began at 0 loses the sign of -0 */
                continue;
            if (isnan(value) ? !isnan(stored) : got != want)
                fail_msg("%s rounds %a to 0x%x in %s, not 0x%x", kernel->name, (double)value, got,
                         gemmux_format_id_name(y), want);
        }
    }
    product_free(&t);
}

/* The same with pairs of gate and up of ordinary size. */
static void check_swiglu(fixture *f, const gemmux_kernel *kernel, float alpha, float limit)
{
    gemmux_format f32 = gemmux_format_of(GEMMUX_F32);
    gemmux_problem problem = gemmux_problem_linear(3, 1998, 1, f32, f32, f32);
    problem.epilogue = GEMMUX_EPILOGUE_SWIGLU;
    problem.swiglu_alpha = alpha;
    problem.swiglu_limit = limit;
    product t;
    int form;
    product_make(f, &t, problem, ONE_HOT);
    float *w = (float *)(uintptr_t)t.w.tensor.codes;
    for (int64_t i = 0; i < problem.n; i++)
        w[i] = testing_float(&f->seed) * (i < 1000 ? 9.0f : 120.0f);
    if (run_once(f, kernel, &t, NULL, &form)) {
        gemmux_verification result;
        gemmux_error error;
        if (gemmux_verify(&t.problem, kernel->forms[form].liberties, &t.w, &t.args, 0, &result,
                          &error))
            fail_msg("%s, swiglu: %s", kernel->name, error.text);
    }
    product_free(&t);
}

static void test_epilogue(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < gemmux_builtin_kernels.count; i++) {
        const gemmux_kernel *kernel = gemmux_builtin_kernels.kernels[i];
        if (!runs_here(f, kernel))
            continue;
        check_swiglu(f, kernel, 0, 0);
        check_swiglu(f, kernel, 0.7f, 50);
        if (kernel->library != GEMMUX_LIB_NONE)
            continue; /* theirs to round as they like, within the bound */
        check_rounding(f, kernel, GEMMUX_F32);
        check_rounding(f, kernel, GEMMUX_BF16);
        check_rounding(f, kernel, GEMMUX_F16);
    }
}

/* Eight bits of x are a liberty: refused by name when it is not allowed, named when it is taken,
 * and right for rows of any size. */
static void test_quantised_x(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < gemmux_builtin_kernels.count; i++) {
        const gemmux_kernel *kernel = gemmux_builtin_kernels.kernels[i];
        uint32_t taken = 0;
        for (int form = 0; form < kernel->form_count; form++)
            taken |= kernel->forms[form].liberties;
        if (!runs_here(f, kernel) || !(taken & GEMMUX_LIBERTY_QUANTISED_X))
            continue;
        gemmux_problem p =
            gemmux_problem_linear(20, 37, 300, testing_format("f32"), testing_format("int4:g32"),
                                  gemmux_format_of(GEMMUX_F32));
        product t;
        int form;
        product_make(f, &t, p, RANDOM);
        assert_false(run_once(f, kernel, &t, NULL, &form));
        t.problem.liberties |= GEMMUX_LIBERTY_QUANTISED_X;
        static const int powers[] = {-2000, -140, -129, -100, 100};
        for (int r = 0; r < COUNT(powers); r++)
            for (int64_t k = 0; k < p.k; k++) {
                unsigned char *at = t.x_rows.data + r * t.x_rows.stride + k * 4;
                float value;
                memcpy(&value, at, 4);
                value = ldexpf(value, powers[r]);
                memcpy(at, &value, 4);
            }
        gemmux_policy policy = {.only = kernel->name};
        gemmux_decision decision;
        gemmux_verification result;
        gemmux_error error;
        assert_int_equal(gemmux_select(&t.problem, &f->machine, &policy, &decision, NULL, &error),
                         GEMMUX_OK);
        assert_true(decision.liberties & GEMMUX_LIBERTY_QUANTISED_X);
        assert_false(decision.lossless);
        assert_true(run_once(f, kernel, &t, NULL, &form));
        if (gemmux_verify(&t.problem, decision.liberties, &t.w, &t.args, 0, &result, &error))
            fail_msg("%s: %s", kernel->name, error.text);
        product_free(&t);
    }
}

/* x is rounded with a scale for each group of w: what is large in one group costs the others
 * nothing. Here that group of w is zero, and the rest of y would vanish with one scale a row. */
static void check_groups(fixture *f, const gemmux_kernel *kernel, int64_t rows, const char *w,
                         int64_t group)
{
    enum { N = 19, K = 300, LOUD = 128 };
    gemmux_problem p = gemmux_problem_linear(rows, N, K, testing_format("f32"), testing_format(w),
                                             gemmux_format_of(GEMMUX_F32));
    p.liberties |= GEMMUX_LIBERTY_QUANTISED_X;
    product t;
    gemmux_error error;
    int form;
    product_make(f, &t, p, RANDOM);
    gemmux_weights_free(&t.w);
    float *values = testing_matrix(&f->seed, 1, N, K), row[K], x[K];
    for (int64_t i = 0; i < N * K; i++)
        values[i] = i % K < LOUD ? 0 : values[i];
    assert_int_equal(gemmux_quantise(values, 1, N, K, p.w, &t.w, &error), GEMMUX_OK);
    free(values);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < LOUD; k++) {
            memcpy(x, t.x_rows.data + i * t.x_rows.stride + k * 4, 4);
            x[0] = ldexpf(x[0], 30);
            memcpy(t.x_rows.data + i * t.x_rows.stride + k * 4, x, 4);
        }
    assert_true(run_once(f, kernel, &t, NULL, &form));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t n = 0; n < N; n++) {
            double sum = 0, bound = 0;
            float y;
            memcpy(x, t.x_rows.data + i * t.x_rows.stride, sizeof x);
            memcpy(&y, t.y_rows.data + i * t.y_rows.stride + n * 4, 4);
            gemmux_tensor_row_f32(&t.w.tensor, 0, n, row);
            for (int64_t first = LOUD; first < K; first += group) {
                double most = 0, weights = 0;
                for (int64_t k = first; k < K && k < first + group; k++) {
                    most = fmax(most, fabs((double)x[k]));
                    weights += fabs((double)row[k]);
                    sum += (double)x[k] * (double)row[k];
                }
                bound += most * weights / 254 * 1.01;
            }
            if (!(fabs((double)y - sum) <= bound + 1e-5 * fabs(sum)))
                fail_msg("%s x %s: row %d, column %d is %g, not %g +- %g", kernel->name, w, (int)i,
                         (int)n, (double)y, sum, bound);
        }
    product_free(&t);
}

static void test_quantised_x_by_group(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < gemmux_builtin_kernels.count; i++) {
        const gemmux_kernel *kernel = gemmux_builtin_kernels.kernels[i];
        uint32_t taken = 0;
        for (int form = 0; form < kernel->form_count; form++)
            taken |= kernel->forms[form].liberties;
        if (!runs_here(f, kernel) || !(taken & GEMMUX_LIBERTY_QUANTISED_X))
            continue;
        for (int64_t rows = 5; rows <= 60; rows += 55) {
            check_groups(f, kernel, rows, "mxfp4", 32);
            check_groups(f, kernel, rows, "nvfp4", 32); /* two groups of 16 share a scale of x */
            check_groups(f, kernel, rows, "int4:g64", 64);
            check_groups(f, kernel, rows, "int4:g128:zero", 128);
        }
    }
}

/* Sums in f16, of the liberty narrow-sums: refused by name when it is not allowed. Rows of x and of
 * w then keep their own scales, whatever their size; what is small beside the largest of its row is
 * kept to 2^-15 of that; and sums are carried on in f32, or K numbers of one sign would stand
 * still. */
static void check_narrow(fixture *f, const gemmux_kernel *kernel, gemmux_problem p, int look_of_x)
{
    product t;
    int form;
    p.liberties |= GEMMUX_LIBERTY_NARROW_SUMS;
    product_make(f, &t, p, RANDOM);
    for (int64_t r = 0; r < t.x_rows.rows; r++)
        for (int64_t k = 0; k < p.k; k++) {
            float value = testing_float(&f->seed);
            if (look_of_x == 0) /* rows from end to end of f16 */
                value = ldexpf(value, (int)(r * 7 % 38) - 22);
            else if (look_of_x == 3) /* and scales of w that make up for it */
                value = ldexpf(value, -22);
            else if (look_of_x == 1) /* one large number beside small ones */
                value = k == r % p.k ? 60000 : ldexpf(value, (int)(k % 24) - 20);
            else
                value = fabsf(value);
            uint16_t bits = (uint16_t)gemmux_code_encode(GEMMUX_CODE_F16, (double)value);
            memcpy(t.x_rows.data + r * t.x_rows.stride + k * 2, &bits, 2);
        }
    uint16_t *w = (uint16_t *)(uintptr_t)t.w.tensor.codes;
    for (int64_t i = 0; p.w.id == GEMMUX_F16 && i < t.w.tensor.count * p.n * p.k; i++) {
        float value = testing_float(&f->seed);
        value = look_of_x == 2 ? fabsf(value) : ldexpf(value, (int)(i / p.k * 5 % 38) - 22);
        w[i] = (uint16_t)gemmux_code_encode(GEMMUX_CODE_F16, (double)value);
    }
    int64_t scales = gemmux_scale_count(p.w, p.n, p.k) * t.w.tensor.count;
    for (int64_t i = 0; look_of_x == 3 && p.w.scale == GEMMUX_CODE_F32 && i < scales; i++)
        ((float *)(uintptr_t)t.w.tensor.scales)[i] = 0x1p120f;
    gemmux_verification result;
    gemmux_error error;
    char text[128];
    if (run_once(f, kernel, &t, NULL, &form)) {
        assert_true(kernel->forms[form].liberties & GEMMUX_LIBERTY_NARROW_SUMS);
        if (gemmux_verify(&t.problem, kernel->forms[form].liberties, &t.w, &t.args, 0, &result,
                          &error))
            fail_msg("%s, %s, x of kind %d: %s", kernel->name,
                     gemmux_problem_text(&p, text, sizeof text), look_of_x, error.text);
        assert_true(result.relative_error < 0x1p-6); /* worst with int4:min, whose sums cancel */
        t.problem.liberties &= ~(uint32_t)GEMMUX_LIBERTY_NARROW_SUMS;
        assert_false(run_once(f, kernel, &t, NULL, &form));
    }
    product_free(&t);
}

static void test_narrow_sums(void **state)
{
    fixture *f = *state;
    static const char *const weights[] = {"f16",           "int8",          "int8:g32", "int4:g32",
                                          "int4:g48:zero", "int4:g128:min", "mxfp4",    "e4m3"};
    static const int64_t rows[] = {1, 2, 3, 5, 8, 13, 16, 17, 40};
    static const int64_t lengths[] = {300, 64, 2500};
    for (int i = 0; i < gemmux_builtin_kernels.count; i++) {
        const gemmux_kernel *kernel = gemmux_builtin_kernels.kernels[i];
        uint32_t taken = 0;
        for (int form = 0; form < kernel->form_count; form++)
            taken |= kernel->forms[form].liberties;
        if (!runs_here(f, kernel) || !(taken & GEMMUX_LIBERTY_NARROW_SUMS))
            continue;
        for (int b = 0; b < COUNT(weights); b++)
            for (int m = 0; m < COUNT(rows); m++) {
                int64_t k = lengths[(b + m) % COUNT(lengths)];
                gemmux_problem p =
                    gemmux_problem_linear(rows[m], k > 1000 ? 19 : 70, k, testing_format("f16"),
                                          testing_format(weights[b]), gemmux_format_of(GEMMUX_F32));
                for (int kind = 0; kind < (p.w.id == GEMMUX_E4M3 ? 3 : 4); kind++)
                    check_narrow(f, kernel, p, kind);
                p.op = GEMMUX_MOE, p.experts = 5, p.top_k = 2;
                p.epilogue = m % 2 ? GEMMUX_EPILOGUE_GATHER | GEMMUX_EPILOGUE_SWIGLU : 0;
                p.n = 34, p.k = 160;
                check_narrow(f, kernel, p, 2);
            }
    }
}

/* Every form of every kernel that can run here has run. */
static void test_all_forms_ran(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < gemmux_builtin_kernels.count; i++) {
        const gemmux_kernel *kernel = gemmux_builtin_kernels.kernels[i];
        if (!runs_here(f, kernel))
            continue;
        for (int form = 0; form < kernel->form_count; form++)
            if (!(f->forms[i] >> form & 1))
                fail_msg("form %d of %s never ran", form, kernel->name);
    }
    printf("%lld products\n", (long long)f->products);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),      cmocka_unit_test(test_every_m),
        cmocka_unit_test(test_long_k),      cmocka_unit_test(test_moe),
        cmocka_unit_test(test_extremes),    cmocka_unit_test(test_epilogue),
        cmocka_unit_test(test_quantised_x), cmocka_unit_test(test_quantised_x_by_group),
        cmocka_unit_test(test_narrow_sums), cmocka_unit_test(test_all_forms_ran),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
