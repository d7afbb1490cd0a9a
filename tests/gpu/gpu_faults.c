/* SPDX-License-Identifier: Apache-2.0
 *
 * What a device can do to a plan that is right: have no room for it, or fault. On a GPU or on the
 * emulator, which alone faults when it is told to (gpu_certify has kernels that do).
 *
 *     gpu_faults TEST
 */
#include "testing.h"

#include "gemmux.h"

enum { N = 256, K = 512 };

typedef struct product {
    gemmux_machine machine;
    gemmux_problem problem;
    gemmux_weights w;
    uint64_t seed;
} product;

static void open_product(product *p, int64_t m, const char *x, const char *w, const char *y)
{
    gemmux_error error;
    *p = (product){.seed = 7};
    if (gemmux_machine_find("cuda:0", &p->machine, &error))
        fail_msg("%s", error.text);
    p->problem =
        gemmux_problem_linear(m, N, K, testing_format(x), testing_format(w), testing_format(y));
    testing_weights(&p->seed, p->problem.w, 1, N, K, &p->w);
}

static gemmux_plan *prepare(product *p, const gemmux_policy *policy)
{
    gemmux_error error;
    gemmux_plan *plan;
    if (gemmux_prepare(&p->problem, &p->machine, policy, NULL, &p->w, NULL, &plan, &error))
        fail_msg("%s", error.text);
    return plan;
}

static const char *kernel_of(const gemmux_plan *plan)
{
    const gemmux_range *ranges;
    gemmux_plan_ranges(plan, &ranges);
    return gemmux_kernel_name(ranges[0].decision.kernel);
}

/* Takes the device's memory for the life of this process, but for about `left` bytes. */
static void fill_up(const gemmux_machine *machine, int64_t left)
{
    gemmux_device *device;
    gemmux_error error;
    void *memory, *kept = NULL;
    if (gemmux_device_open(machine, &device, &error) ||
        gemmux_device_alloc(device, left, &kept, &error))
        fail_msg("%s", error.text);
    for (int64_t bytes = INT64_C(1) << 40; bytes >= 4096; bytes /= 2)
        while (!gemmux_device_alloc(device, bytes, &memory, &error))
            ;
    gemmux_device_free(device, kept);
}

/* cuBLASLt wants 32 MiB of workspace: where other programs left less, a plan takes the next rung,
 * and the trace for its machine says why. */
static void no_room_for_a_workspace(void **state)
{
    product p;
    (void)state;
    open_product(&p, 64, "f32", "f32", "f32");
    gemmux_decision decision;
    assert_int_equal(gemmux_select(&p.problem, &p.machine, NULL, &decision, NULL, NULL), GEMMUX_OK);
    const gemmux_policy library = {.only = "cublaslt_f32,cuda_*"};
    gemmux_plan *plan = prepare(&p, &library);
    assert_string_equal(kernel_of(plan), "cublaslt_f32");
    gemmux_plan_free(plan);

    fill_up(&p.machine, 24 << 20);
    plan = prepare(&p, &library);
    assert_true(!strncmp(kernel_of(plan), "cuda_", 5));
    static gemmux_trace trace;
    gemmux_select(&p.problem, gemmux_plan_machine(plan), &library, &decision, &trace, NULL);
    bool said = false;
    for (int i = 0; i < trace.verdict_count; i++) {
        const gemmux_verdict *v = &trace.verdicts[i];
        char text[512];
        for (int j = 0; j < v->reason_count; j++) {
            const gemmux_reason *r = &trace.reasons[v->reason_first + j];
            gemmux_reason_text(r, v->kernel, &p.problem, gemmux_plan_machine(plan), text,
                               sizeof text);
            said |= !strcmp(gemmux_kernel_name(v->kernel), "cublaslt_f32") &&
                    strstr(text, "no room for the workspace") && strstr(text, "bytes are free");
        }
    }
    assert_true(said);
    gemmux_plan_free(plan);
    gemmux_weights_free(&p.w);
}

/* Nothing fits: the error is the first kernel's, with the numbers, not that of the last rung. */
static void no_room_at_all(void **state)
{
    product p;
    gemmux_error error;
    gemmux_plan *plan;
    (void)state;
    open_product(&p, 4, "bf16", "mxfp4", "bf16");
    fill_up(&p.machine, 16 << 10);
    assert_true(gemmux_prepare(&p.problem, &p.machine, NULL, NULL, &p.w, NULL, &plan, &error) !=
                GEMMUX_OK);
    assert_null(plan);
    if (!strstr(error.text, "has no room for") || !strstr(error.text, "bytes are free"))
        fail_msg("%s", error.text);
    gemmux_weights_free(&p.w);
}

typedef struct launched {
    gemmux_plan *plan;
    gemmux_weights x;
    void *codes, *y;
    gemmux_args args;
} launched;

static void launch(product *p, gemmux_device *device, launched *l, const char *kernel)
{
    gemmux_error error;
    const gemmux_policy policy = {.only = kernel};
    *l = (launched){.plan = prepare(p, &policy)};
    testing_weights(&p->seed, p->problem.x, 1, p->problem.m, K, &l->x);
    if (gemmux_device_alloc(device, p->problem.m * K * 2, &l->codes, &error) ||
        gemmux_device_alloc(device, p->problem.m * N * 2, &l->y, &error) ||
        gemmux_device_write(device, l->codes, l->x.tensor.codes, p->problem.m * K * 2, &error))
        fail_msg("%s", error.text);
    l->args = (gemmux_args){.x = l->x.tensor, .y = l->y};
    l->args.x.codes = l->codes;
}

/* A fault comes out later, wherever the driver is asked next: at the caller's copy, or at another
 * plan's launch. The sentence calls it sticky and names the kernel that had run. */
static void faults_are_named(void **state)
{
    product p;
    gemmux_device *device;
    gemmux_error error = {GEMMUX_OK, ""};
    launched guilty, innocent;
    char y[64];
    (void)state;
    open_product(&p, 2, "bf16", "mxfp4", "bf16");
    if (!strstr(p.machine.name, "emulates"))
        skip();
    assert_int_equal(gemmux_device_open(&p.machine, &device, &error), GEMMUX_OK);
    launch(&p, device, &innocent, "cuda_ref_any");
    launch(&p, device, &guilty, "cuda_sm80_upcast");
    assert_int_equal(gemmux_run(innocent.plan, &innocent.args, &error), GEMMUX_OK);
    assert_int_equal(gemmux_device_read(device, y, innocent.y, sizeof y, &error), GEMMUX_OK);

    setenv("EMULATED_FAULT", "upcast_", 1);
    assert_int_equal(gemmux_run(guilty.plan, &guilty.args, &error), GEMMUX_OK);
    for (int turn = 0; turn < 3; turn++) {
        error.text[0] = '\0';
        gemmux_plan *plan;
        assert_int_equal(turn == 0   ? gemmux_device_read(device, y, guilty.y, sizeof y, &error)
                         : turn == 1 ? gemmux_run(innocent.plan, &innocent.args, &error)
                                     : gemmux_prepare(&p.problem, &p.machine,
                                                      &(gemmux_policy){.only = "cuda_*"}, NULL,
                                                      &p.w, NULL, &plan, &error),
                         turn == 2 ? GEMMUX_ERROR_NO_KERNEL : GEMMUX_ERROR_DEVICE);
        if (!strstr(error.text, "sticky") || !strstr(error.text, "ILLEGAL_ADDRESS") ||
            !strstr(error.text, "the last kernel that gemmux ran there is cuda_sm80_upcast"))
            fail_msg("turn %d: %s", turn, error.text);
    }
    unsetenv("EMULATED_FAULT");
}

/* Each test leaves a device that is full or broken: a process of its own. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_room_for_a_workspace),
        cmocka_unit_test(no_room_at_all),
        cmocka_unit_test(faults_are_named),
    };
    gemmux_machine machine;
    gemmux_error error;
    if (argc != 2)
        return 2;
    if (gemmux_machine_find("cuda:0", &machine, &error)) {
        printf("skipped: %s\n", error.text);
        return 77;
    }
    cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
