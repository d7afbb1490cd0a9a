/* SPDX-License-Identifier: Apache-2.0
 *
 * select allocates nothing, with and without a trace, chosen or refused, on every described
 * machine.
 */
#include "count_allocations.h"
#include "gemmux.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_counter_counts),
        cmocka_unit_test(select_allocates_nothing),
    };
    count_allocations();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
