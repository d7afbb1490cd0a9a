/* SPDX-License-Identifier: Apache-2.0
 *
 * select allocates nothing, with and without a trace, chosen or refused, on every described
 * machine; and run allocates nothing, by any kernel of ours that this CPU can run.
 */
#include "count_allocations.h"
#include "gemmux.h"
#include "kernel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void the_counter_counts(void **state)
{
    (void)state;
    long before = allocation_count;
    char *volatile copy = strdup("libc's own allocations count too");
    void *volatile block = malloc(16);
    free(block);
    free(copy);
    assert_true(allocation_count >= before + 2);
}

static void select_on(const gemmux_machine *machine, gemmux_trace *trace)
{
    static const int64_t ms[] = {1, 16, 256, 4096};
    const gemmux_policy nothing = {.deny = "*"};
    gemmux_format bf16 = gemmux_format_of(GEMMUX_BF16);
    for (int id = GEMMUX_F32; id < GEMMUX_FORMAT_COUNT; id++) {
        for (size_t i = 0; i < sizeof ms / sizeof ms[0]; i++) {
            gemmux_format w = gemmux_format_of((gemmux_format_id)id);
            gemmux_problem problem = gemmux_problem_linear(ms[i], 512, 512, bf16, w, bf16);
            gemmux_decision decision;
            gemmux_error error;
            long before = allocation_count;
            gemmux_status status = gemmux_select(&problem, machine, NULL, &decision, NULL, &error);
            assert_int_equal(status, GEMMUX_OK);
            status = gemmux_select(&problem, machine, NULL, &decision, trace, &error);
            assert_int_equal(status, GEMMUX_OK);
            status = gemmux_select(&problem, machine, &nothing, &decision, trace, &error);
            assert_int_equal(status, GEMMUX_ERROR_NO_KERNEL);
            assert_int_equal(allocation_count, before);
        }
    }
}

static void select_allocates_nothing(void **state)
{
    (void)state;
    gemmux_trace *trace = calloc(1, sizeof *trace);
    gemmux_machine *machine = calloc(1, sizeof *machine);
    gemmux_error error;
    assert_non_null(trace);
    assert_non_null(machine);
    assert_true(gemmux_machine_builtin_count() > 0);
    for (int i = 0; i < gemmux_machine_builtin_count(); i++) {
        assert_int_equal(gemmux_machine_find(gemmux_machine_builtin_name(i), machine, &error),
                         GEMMUX_OK);
        select_on(machine, trace);
    }
    free(machine);
    free(trace);
}

/* One product by one kernel, twice: the first run too. */
static void run_by(const gemmux_machine *machine, const gemmux_kernel *kernel,
                   gemmux_threads *threads, gemmux_problem p, int *runs)
{
    static uint16_t x[33 * 96], y[4 * 33 * 48];
    static int32_t ids[2 * 33];
    static float slot_weights[2 * 33], numbers[4 * 48 * 96], bias[4 * 48];
    const gemmux_policy policy = {.only = kernel->name};
    gemmux_weights w;
    gemmux_plan *plan;
    gemmux_error error;
    p.liberties = (1u << GEMMUX_LIBERTY_BITS) - 1;
    for (int i = 0; i < 2 * 33; i++)
        ids[i] = i * 7 % 4;
    int64_t count = p.op == GEMMUX_MOE ? p.experts : 1;
    assert_int_equal(gemmux_quantise(numbers, count, p.n, p.k, p.w, &w, &error), GEMMUX_OK);
    w.bias = bias;
    if (!gemmux_prepare(&p, machine, &policy, NULL, &w, threads, &plan, &error)) {
        gemmux_args args = {.x = {p.x, 1, p.m, p.k, .codes = x}, .y = y};
        args.expert_ids = ids;
        args.expert_weights = slot_weights;
        for (int turn = 0; turn < 2; turn++) {
            long before = allocation_count;
            gemmux_status status = gemmux_run(plan, &args, &error);
            long made = allocation_count - before;
            assert_int_equal(status, GEMMUX_OK);
            if (made)
                fail_msg("%s made %ld allocations, M=%d", kernel->name, made, (int)p.m);
            ++*runs;
        }
        gemmux_plan_free(plan);
    }
    w.bias = NULL;
    gemmux_weights_free(&w);
}

static void run_allocates_nothing(void **state)
{
    static const int64_t ms[] = {1, 5, 33};
    gemmux_machine machine;
    gemmux_threads *threads;
    gemmux_error error;
    (void)state;
    assert_int_equal(gemmux_machine_probe_cpu(&machine, &error), GEMMUX_OK);
    assert_int_equal(gemmux_threads_create(2, &threads, &error), GEMMUX_OK);
    gemmux_format xs[] = {gemmux_format_of(GEMMUX_BF16), gemmux_format_of(GEMMUX_F16)};
    for (int i = 0; i < gemmux_kernel_count(&machine); i++) {
        const gemmux_kernel *kernel = gemmux_kernel_at(&machine, i);
        int runs = 0;
        if (kernel->library || kernel->device != GEMMUX_CPU || !kernel->run ||
            kernel->isa & ~machine.isa)
            continue; /* a library's own allocations are its own */
        for (int id = GEMMUX_F32; id < GEMMUX_FORMAT_COUNT; id++)
            for (int at = 0; at < 6; at++) {
                gemmux_problem p =
                    gemmux_problem_linear(ms[at / 2], 48, 96, xs[at % 2],
                                          gemmux_format_of((gemmux_format_id)id), xs[at % 2]);
                p.epilogue = GEMMUX_EPILOGUE_BIAS;
                run_by(&machine, kernel, threads, p, &runs);
                p.op = GEMMUX_MOE;
                p.experts = 4;
                p.top_k = 2;
                p.epilogue |= GEMMUX_EPILOGUE_GATHER | GEMMUX_EPILOGUE_SCATTER;
                run_by(&machine, kernel, threads, p, &runs);
            }
        if (!runs)
            fail_msg("%s has run nothing", kernel->name);
    }
    gemmux_threads_free(threads);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_counter_counts),
        cmocka_unit_test(select_allocates_nothing),
        cmocka_unit_test(run_allocates_nothing),
    };
    count_allocations();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
