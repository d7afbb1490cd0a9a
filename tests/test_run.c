/* SPDX-License-Identifier: Apache-2.0
 *
 * The pipeline end to end: select, prepare, run, verify, for every op, epilogue and format.
 */
#include "testing.h"

#include "packing.h"
#include "plan.h"

#include <pthread.h>

typedef struct fixture {
    gemmux_machine machine;
    gemmux_threads *threads;
    uint64_t seed;
} fixture;

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    gemmux_error error;
    if (!f || gemmux_machine_probe_cpu(&f->machine, &error) ||
        gemmux_threads_create(2, &f->threads, &error))
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

/* Everything one run needs, with guard bytes behind y. */
typedef struct product {
    gemmux_problem problem;
    gemmux_weights w, x;
    float *bias;
    int32_t *ids;
    float *slot_weights;
    unsigned char *y;
    size_t y_bytes;
    gemmux_args args;
} product;

enum { GUARD = 64 };

static int64_t y_columns(const gemmux_problem *p)
{
    return p->epilogue & GEMMUX_EPILOGUE_SWIGLU ? p->n / 2 : p->n;
}

static void make_product(fixture *f, product *t, gemmux_problem problem)
{
    *t = (product){.problem = problem};
    int64_t count = problem.op == GEMMUX_MOE ? problem.experts : 1;
    int64_t rows = gemmux_problem_rows(&problem);
    testing_weights(&f->seed, problem.w, count, problem.n, problem.k, &t->w);
    int64_t x_rows = problem.epilogue & GEMMUX_EPILOGUE_GATHER ? problem.m : rows;
    testing_weights(&f->seed, problem.x, 1, x_rows, problem.k, &t->x);
    if (problem.epilogue & GEMMUX_EPILOGUE_BIAS) {
        t->bias = testing_matrix(&f->seed, count, problem.n, 1);
        t->w.bias = t->bias;
    }
    if (problem.op == GEMMUX_MOE) {
        t->ids = calloc((size_t)rows, sizeof *t->ids);
        t->slot_weights = calloc((size_t)rows, sizeof *t->slot_weights);
        /* Distinct experts a token, and expert 0 left empty where there is room. */
        for (int64_t i = 0; i < rows; i++) {
            int64_t room = problem.experts > problem.top_k ? 1 : 0;
            t->ids[i] = (int32_t)(room + (i % problem.top_k + i / problem.top_k * 3) %
                                             (problem.experts - room));
            t->slot_weights[i] = testing_float(&f->seed);
        }
    }
    int64_t y_rows = problem.epilogue & GEMMUX_EPILOGUE_SCATTER ? problem.m : rows;
    t->y_bytes = (size_t)(y_rows * gemmux_row_bytes(problem.y, y_columns(&problem)));
    t->y = malloc(t->y_bytes + GUARD);
    memset(t->y, 0xff, t->y_bytes + GUARD); /* NaN in every format */
    t->args = (gemmux_args){
        .x = t->x.tensor, .y = t->y, .expert_ids = t->ids, .expert_weights = t->slot_weights};
}

static void free_product(product *t)
{
    for (int i = 0; i < GUARD; i++)
        assert_int_equal(t->y[t->y_bytes + (size_t)i], 0xff);
    gemmux_weights_free(&t->w);
    gemmux_weights_free(&t->x);
    free(t->bias);
    free(t->ids);
    free(t->slot_weights);
    free(t->y);
}

static void run_and_verify(fixture *f, product *t, const gemmux_policy *policy)
{
    gemmux_error error = {GEMMUX_OK, ""};
    gemmux_plan *plan = NULL;
    char text[128];
    gemmux_problem_text(&t->problem, text, sizeof text);
    if (gemmux_prepare(&t->problem, &f->machine, policy, NULL, &t->w, f->threads, &plan, &error))
        fail_msg("%s: %s", text, error.text);
    const gemmux_range *ranges;
    int count = gemmux_plan_ranges(plan, &ranges);
    assert_true(count >= 1);
    assert_int_equal(ranges[count - 1].m_max, t->problem.m);
    if (gemmux_run(plan, &t->args, &error))
        fail_msg("%s: %s", text, error.text);
    gemmux_verification result;
    const gemmux_decision *d = &ranges[count - 1].decision;
    if (gemmux_verify(&t->problem, d->liberties, &t->w, &t->args, 0, &result, &error))
        fail_msg("%s by %s: %s", text, gemmux_kernel_name(d->kernel), error.text);
    assert_true(result.worst <= 1.0);
    gemmux_plan_free(plan);
}

static void check_all_formats(fixture *f, const gemmux_policy *policy)
{
    static const char *const xs[] = {"f32", "bf16", "f16", "e4m3:row", "int8", "mxfp8", "nvfp4"};
    static const char *const ys[] = {"f32", "bf16", "f16"};
    for (int i = 0; i < TESTING_FORMAT_COUNT; i++) {
        product t;
        gemmux_problem p =
            gemmux_problem_linear(1 + i % 5, 30 + i, 130 + 7 * i, testing_format(xs[i % 7]),
                                  testing_format(testing_formats[i]), testing_format(ys[i % 3]));
        p.epilogue = i % 2 ? GEMMUX_EPILOGUE_BIAS : 0;
        make_product(f, &t, p);
        run_and_verify(f, &t, policy);
        free_product(&t);
    }
}

static void reference_does_every_format(void **state)
{
    const gemmux_policy policy = {.only = "ref_any"};
    check_all_formats(*state, &policy);
}

static void the_chosen_kernel_does_every_format(void **state)
{
    check_all_formats(*state, NULL);
}

static void moe_does_every_epilogue(void **state)
{
    fixture *f = *state;
    for (unsigned epilogue = 0; epilogue < 16; epilogue++)
        for (int forced = 0; forced < 2; forced++) {
            product t;
            gemmux_problem p =
                gemmux_problem_linear(epilogue == 5 ? 1 : 9, 48, 96, testing_format("bf16"),
                                      testing_format("mxfp4"), testing_format("bf16"));
            p.op = GEMMUX_MOE;
            p.experts = 5;
            p.top_k = 2;
            p.epilogue = (uint8_t)epilogue;
            const gemmux_policy policy = {.only = forced ? "ref_any" : NULL};
            make_product(f, &t, p);
            run_and_verify(f, &t, &policy);
            free_product(&t);
        }
}

static void matmul_and_empty_k(void **state)
{
    fixture *f = *state;
    product t;
    gemmux_problem p = gemmux_problem_linear(3, 17, 40, testing_format("f32"),
                                             testing_format("f32"), testing_format("f32"));
    p.op = GEMMUX_MATMUL;
    make_product(f, &t, p);
    run_and_verify(f, &t, NULL);
    free_product(&t);

    p = gemmux_problem_linear(3, 17, 0, testing_format("bf16"), testing_format("bf16"),
                              testing_format("f32"));
    p.epilogue = GEMMUX_EPILOGUE_BIAS;
    make_product(f, &t, p);
    run_and_verify(f, &t, NULL);
    free_product(&t);
}

static void columns_follow_k_order(void **state)
{
    fixture *f = *state;
    product t;
    enum { K = 96 };
    int32_t order[K];
    for (int j = 0; j < K; j++)
        order[j] = j * 5 % K; /* 5 and 96 have no common factor */
    make_product(f, &t,
                 gemmux_problem_linear(4, 20, K, testing_format("bf16"),
                                       testing_format("int4:g32:zero"), testing_format("f32")));
    t.w.tensor.k_order = order;
    run_and_verify(f, &t, NULL);
    /* The order must matter: without it the same y must not verify. */
    gemmux_verification result;
    gemmux_error error;
    t.w.tensor.k_order = NULL;
    assert_int_equal(
        gemmux_verify(&t.problem, GEMMUX_LIBERTIES_DEFAULT, &t.w, &t.args, 0, &result, &error),
        GEMMUX_ERROR_VERIFY);
    gemmux_plan *plan;
    t.w.tensor.k_order = order;
    order[3] = order[4];
    assert_int_equal(gemmux_prepare(&t.problem, &f->machine, NULL, NULL, &t.w, NULL, &plan, &error),
                     GEMMUX_ERROR_ARGUMENT);
    assert_non_null(strstr(error.text, "k_order[4]"));
    free_product(&t);
}

static void one_plan_serves_a_profile(void **state)
{
    fixture *f = *state;
    product t;
    gemmux_error error = {GEMMUX_OK, ""};
    gemmux_plan *plan;
    make_product(f, &t,
                 gemmux_problem_linear(70, 64, 64, testing_format("bf16"), testing_format("mxfp4"),
                                       testing_format("f32")));
    const gemmux_profile profile = {.count = 2, .m = {1, 70}, .weight = {100, 1}};
    if (gemmux_prepare(&t.problem, &f->machine, NULL, &profile, &t.w, f->threads, &plan, &error))
        fail_msg("%s", error.text);
    const gemmux_range *ranges;
    int count = gemmux_plan_ranges(plan, &ranges);
    for (int i = 0; i < count; i++) {
        assert_true(ranges[i].m_min == (i ? ranges[i - 1].m_max + 1 : 1));
        assert_string_equal(ranges[i].decision.packing, ranges[0].decision.packing);
    }
    assert_int_equal(ranges[count - 1].m_max, 70);
    for (int64_t m = 1; m <= 70; m += 23) {
        gemmux_problem smaller = t.problem;
        gemmux_verification result;
        smaller.m = t.args.x.rows = m;
        memset(t.y, 0xff, t.y_bytes);
        assert_int_equal(gemmux_run(plan, &t.args, &error), GEMMUX_OK);
        if (gemmux_verify(&smaller, GEMMUX_LIBERTIES_DEFAULT, &t.w, &t.args, 0, &result, &error))
            fail_msg("M=%d: %s", (int)m, error.text);
        assert_true(t.y[m * 64 * 4] == 0xff || m == 70); /* nothing past the rows asked for */
    }
    t.args.x.rows = 71;
    assert_int_equal(gemmux_run(plan, &t.args, &error), GEMMUX_ERROR_ARGUMENT);
    gemmux_plan_free(plan);
    free_product(&t);
}

typedef struct runner {
    const gemmux_plan *plan;
    gemmux_args args;
    float y[4 * 32];
    gemmux_status status;
} runner;

static void *run_many(void *context)
{
    runner *r = context;
    gemmux_error error;
    for (int i = 0; i < 50 && !r->status; i++)
        r->status = gemmux_run(r->plan, &r->args, &error);
    return NULL;
}

static void many_threads_share_one_plan(void **state)
{
    fixture *f = *state;
    product t;
    gemmux_error error = {GEMMUX_OK, ""};
    gemmux_plan *plan;
    make_product(f, &t,
                 gemmux_problem_linear(4, 32, 64, testing_format("bf16"),
                                       testing_format("int4:g32"), testing_format("f32")));
    if (gemmux_prepare(&t.problem, &f->machine, NULL, NULL, &t.w, f->threads, &plan, &error))
        fail_msg("%s", error.text);
    assert_int_equal(gemmux_run(plan, &t.args, &error), GEMMUX_OK);
    pthread_t threads[4];
    static runner runners[4];
    for (int i = 0; i < 4; i++) {
        runners[i] = (runner){.plan = plan, .args = t.args};
        runners[i].args.y = runners[i].y;
        assert_int_equal(pthread_create(&threads[i], NULL, run_many, &runners[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(runners[i].status, GEMMUX_OK);
        assert_memory_equal(runners[i].y, t.y, t.y_bytes);
    }
    gemmux_plan_free(plan);
    free_product(&t);
}

static void wrong_arguments_are_named(void **state)
{
    fixture *f = *state;
    product t;
    gemmux_error error = {GEMMUX_OK, ""};
    gemmux_plan *plan;
    gemmux_problem p = gemmux_problem_linear(2, 16, 32, testing_format("bf16"),
                                             testing_format("mxfp4"), testing_format("bf16"));
    p.op = GEMMUX_MOE;
    p.experts = 4;
    p.top_k = 2;
    make_product(f, &t, p);
    assert_int_equal(gemmux_prepare(&p, &f->machine, NULL, NULL, &t.w, NULL, &plan, &error),
                     GEMMUX_OK);
    gemmux_args bad = t.args;
    bad.x.format = testing_format("f32");
    assert_int_equal(gemmux_run(plan, &bad, &error), GEMMUX_ERROR_ARGUMENT);
    assert_non_null(strstr(error.text, "x is f32, the plan is for bf16"));
    bad = t.args;
    bad.expert_ids = NULL;
    assert_int_equal(gemmux_run(plan, &bad, &error), GEMMUX_ERROR_ARGUMENT);
    t.ids[3] = 4;
    assert_int_equal(gemmux_run(plan, &t.args, &error), GEMMUX_ERROR_ARGUMENT);
    assert_non_null(strstr(error.text, "expert_ids[3] = 4 is outside [0, 4)"));
    t.ids[3] = 1;
    bad = t.args;
    bad.x.rows = 3;
    assert_int_equal(gemmux_run(plan, &bad, &error), GEMMUX_ERROR_ARGUMENT);
    assert_non_null(strstr(error.text, "no multiple of top_k"));
    gemmux_plan_free(plan);

    gemmux_problem other = p;
    other.w = testing_format("nvfp4");
    assert_int_equal(gemmux_prepare(&other, &f->machine, NULL, NULL, &t.w, NULL, &plan, &error),
                     GEMMUX_ERROR_ARGUMENT);
    assert_non_null(strstr(error.text, "weights are mxfp4, the problem says nvfp4"));
    gemmux_machine described = f->machine;
    described.described = true;
    assert_int_equal(gemmux_prepare(&p, &described, NULL, NULL, &t.w, NULL, &plan, &error),
                     GEMMUX_ERROR_DEVICE);
    const gemmux_policy none = {.deny = "*"};
    assert_int_equal(gemmux_prepare(&p, &f->machine, &none, NULL, &t.w, NULL, &plan, &error),
                     GEMMUX_ERROR_NO_KERNEL);
    free_product(&t);
}

static void a_wrong_packing_is_refused_by_name(void **state)
{
    fixture *f = *state;
    product t;
    gemmux_error error = {GEMMUX_OK, ""};
    make_product(f, &t,
                 gemmux_problem_linear(2, 16, 32, testing_format("bf16"), testing_format("mxfp4"),
                                       testing_format("f32")));
    gemmux_packed packed;
    static const gemmux_packing other = {.name = "hopper-values"};
    assert_int_equal(gemmux_pack(&gemmux_packing_plain, &t.w.tensor, NULL, &packed, &error),
                     GEMMUX_OK);
    assert_int_equal(gemmux_packed_expect(&packed, &gemmux_packing_plain, &t.problem, &error),
                     GEMMUX_OK);
    assert_int_equal(gemmux_packed_expect(&packed, &other, &t.problem, &error),
                     GEMMUX_ERROR_PACKING);
    assert_string_equal(error.text, "weights are packed as plain, the kernel reads hopper-values");
    gemmux_problem wider = t.problem;
    wider.k = 64;
    assert_int_equal(gemmux_packed_expect(&packed, &gemmux_packing_plain, &wider, &error),
                     GEMMUX_ERROR_PACKING);
    /* Whatever kernel a plan holds: it is not handed another packing than the one it reads. */
    static const char *const kernels[] = {"ref_any", "x86_avx2,arm_neon"};
    for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; i++) {
        gemmux_plan *plan;
        const gemmux_policy policy = {.only = kernels[i]};
        if (gemmux_prepare(&t.problem, &f->machine, &policy, NULL, &t.w, NULL, &plan, &error))
            continue; /* not a machine for it */
        gemmux_packed own = plan->packed;
        plan->packed.packing = &other;
        assert_int_equal(gemmux_run(plan, &t.args, &error), GEMMUX_ERROR_PACKING);
        assert_non_null(
            strstr(error.text, "weights are packed as hopper-values, the kernel reads "));
        assert_non_null(strstr(error.text, own.packing->name));
        plan->packed = own;
        plan->packed.plain.rows++;
        assert_int_equal(gemmux_run(plan, &t.args, &error), GEMMUX_ERROR_PACKING);
        assert_string_equal(error.text, "weights are 1 x 17 x 32, the problem wants 1 x 16 x 32");
        plan->packed = own;
        assert_int_equal(gemmux_run(plan, &t.args, &error), GEMMUX_OK);
        gemmux_plan_free(plan);
    }
    gemmux_weights back;
    assert_int_equal(gemmux_unpack(&packed, &back, &error), GEMMUX_OK);
    for (int64_t n = 0; n < 16; n++)
        for (int64_t k = 0; k < 32; k++)
            assert_true(gemmux_tensor_at(&back.tensor, 0, n, k) ==
                        gemmux_tensor_at(&t.w.tensor, 0, n, k));
    gemmux_weights_free(&back);
    gemmux_packed_free(&packed);
    free_product(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_does_every_format),
        cmocka_unit_test(the_chosen_kernel_does_every_format),
        cmocka_unit_test(moe_does_every_epilogue),
        cmocka_unit_test(matmul_and_empty_k),
        cmocka_unit_test(columns_follow_k_order),
        cmocka_unit_test(one_plan_serves_a_profile),
        cmocka_unit_test(many_threads_share_one_plan),
        cmocka_unit_test(wrong_arguments_are_named),
        cmocka_unit_test(a_wrong_packing_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
