/* SPDX-License-Identifier: Apache-2.0
 *
 * What would it take: after the changes are made, the kernel is eligible; and no change is made
 * that was not needed.
 */
#include "testing.h"

#include "select.h"

static gemmux_status run_nothing(const gemmux_call *call, gemmux_error *error)
{
    (void)call, (void)error;
    return GEMMUX_OK;
}

static const gemmux_form picky_forms[] = {{
    .x = GEMMUX_BIT(GEMMUX_BF16),
    .w = GEMMUX_BIT(GEMMUX_INT4),
    .y = GEMMUX_BIT(GEMMUX_BF16),
    .w_group_multiple = 64,
    .path = GEMMUX_PATH_UPCAST,
    .math = GEMMUX_MATH_BF16,
    .liberties = GEMMUX_LIBERTY_ROUNDED_W,
    .share_compute = 0.5f,
    .share_bandwidth = 0.5f,
}};

static const gemmux_kernel picky = {
    .name = "picky",
    .summary = "wants much of everything",
    .device = GEMMUX_CPU,
    .isa = GEMMUX_ISA_AVX512BF16,
    .library = GEMMUX_LIB_ONEDNN,
    .library_min = 30000,
    .ops = GEMMUX_BIT(GEMMUX_LINEAR),
    .forms = picky_forms,
    .form_count = 1,
    .packing = &gemmux_packing_plain,
    .k_multiple = 128,
    .align = 32,
    .run = run_nothing,
};

static bool mentions(const gemmux_change *changes, int count, const char *words)
{
    for (int i = 0; i < count; i++)
        if (strstr(changes[i].text, words))
            return true;
    return false;
}

static void every_obstacle_is_named_once(void **state)
{
    (void)state;
    gemmux_machine m = {.name = "small", .kind = GEMMUX_CPU, .bandwidth = 1e10};
    m.isa = gemmux_isa_closure(GEMMUX_ISA_AVX2);
    m.library[GEMMUX_LIB_ONEDNN] = (gemmux_library){.present = true, .version = 20603};
    gemmux_problem p = gemmux_problem_linear(3, 100, 2880, testing_format("f32"),
                                             testing_format("mxfp4"), testing_format("bf16"));
    const gemmux_policy policy = {.deny = "picky"};
    gemmux_change changes[GEMMUX_MAX_CHANGES];
    gemmux_decision then;
    gemmux_error error = {GEMMUX_OK, ""};
    int count;
    if (gemmux_counterfactual(&p, &m, &policy, &picky, changes, &count, &then, &error))
        fail_msg("%s", error.text);
    assert_ptr_equal(then.kernel, &picky);
    assert_true(mentions(changes, count, "a CPU with avx512"));
    assert_true(mentions(changes, count, "x in bf16 instead of f32"));
    assert_true(mentions(changes, count, "weights in int4 instead of mxfp4"));
    assert_true(mentions(changes, count, "pad K from 2880 to 2944 (+2.2 %)"));
    assert_true(mentions(changes, count, "pad N from 100 to 112 (+12.0 %)"));
    assert_true(mentions(changes, count, "allow rounded-w"));
    assert_true(mentions(changes, count, "onednn 3.0 or newer"));
    assert_true(mentions(changes, count, "not denied"));
    assert_int_equal(count, 8);
    for (int i = 0; i < count; i++)
        assert_true(changes[i].power >= GEMMUX_POWER_CALLER &&
                    changes[i].power <= GEMMUX_POWER_HARDWARE);
}

static void an_eligible_kernel_needs_nothing(void **state)
{
    (void)state;
    gemmux_machine m = {.name = "large", .kind = GEMMUX_CPU, .bandwidth = 1e10};
    m.isa = gemmux_isa_closure(~UINT32_C(0));
    m.library[GEMMUX_LIB_ONEDNN] = (gemmux_library){.present = true, .version = 30000};
    gemmux_problem p = gemmux_problem_linear(3, 128, 256, testing_format("bf16"),
                                             testing_format("int4"), testing_format("bf16"));
    p.liberties |= GEMMUX_LIBERTY_ROUNDED_W;
    gemmux_change changes[GEMMUX_MAX_CHANGES];
    gemmux_decision then;
    int count = -1;
    assert_int_equal(gemmux_counterfactual(&p, &m, NULL, &picky, changes, &count, &then, NULL),
                     GEMMUX_OK);
    assert_int_equal(count, 0);
}

static void what_cannot_be_changed_is_said(void **state)
{
    (void)state;
    gemmux_machine m = {.name = "gpu", .kind = GEMMUX_CUDA, .cc = 90};
    gemmux_problem p = gemmux_problem_linear(3, 128, 256, testing_format("bf16"),
                                             testing_format("int4"), testing_format("bf16"));
    gemmux_change changes[GEMMUX_MAX_CHANGES];
    gemmux_decision then;
    gemmux_error error = {GEMMUX_OK, ""};
    int count = -1;
    assert_int_equal(gemmux_counterfactual(&p, &m, NULL, &picky, changes, &count, &then, &error),
                     GEMMUX_ERROR_NO_KERNEL);
    assert_non_null(strstr(error.text, "runs on a CPU"));
}

/* On random problems every kernel of the table ends eligible or with a reason in words. */
static void it_always_ends(void **state)
{
    uint64_t seed = 23;
    (void)state;
    gemmux_machine m = {.name = "some", .kind = GEMMUX_CPU, .bandwidth = 1e10};
    m.isa = gemmux_isa_closure(GEMMUX_ISA_SSE2);
    for (int round = 0; round < 300; round++) {
        const char *x = testing_formats[testing_below(&seed, 3)];
        const char *w = testing_formats[testing_below(&seed, TESTING_FORMAT_COUNT)];
        gemmux_problem p = gemmux_problem_linear(
            1 + testing_below(&seed, 100), 1 + testing_below(&seed, 500), testing_below(&seed, 500),
            testing_format(x), testing_format(w), testing_format("bf16"));
        for (int i = 0; i < gemmux_kernel_count(NULL); i++) {
            gemmux_change changes[GEMMUX_MAX_CHANGES];
            gemmux_decision then;
            gemmux_error error = {GEMMUX_OK, ""};
            int count;
            gemmux_status status = gemmux_counterfactual(&p, &m, NULL, gemmux_kernel_at(NULL, i),
                                                         changes, &count, &then, &error);
            assert_true(status == GEMMUX_OK || status == GEMMUX_ERROR_NO_KERNEL);
            assert_true(count < GEMMUX_MAX_CHANGES);
            assert_true(status == GEMMUX_OK ? then.kernel != NULL : error.text[0] != '\0');
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_obstacle_is_named_once),
        cmocka_unit_test(an_eligible_kernel_needs_nothing),
        cmocka_unit_test(what_cannot_be_changed_is_said),
        cmocka_unit_test(it_always_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
