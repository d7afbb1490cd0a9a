/* SPDX-License-Identifier: Apache-2.0
 *
 * Properties of select on random problems, machines and policies.
 */
#include "testing.h"

#include "select.h"
#include "wildcard.h"

enum { ROUNDS = 4000 };

static gemmux_problem random_problem(uint64_t *s)
{
    static const char *const ys[] = {"f32", "bf16", "f16"};
    gemmux_problem p = {.op = (uint8_t)(1 + testing_below(s, 3))};
    do
        p.x = testing_format(testing_formats[testing_below(s, TESTING_FORMAT_COUNT)]);
    while (p.x.scaling == GEMMUX_SCALING_BLOCK);
    if (testing_below(s, 2))
        p.x = testing_format(testing_below(s, 2) ? "bf16" : "f32");
    p.w = testing_format(testing_formats[testing_below(s, TESTING_FORMAT_COUNT)]);
    p.y = testing_format(ys[testing_below(s, 3)]);
    p.m = INT64_C(1) << testing_below(s, 13);
    p.n = 1 + testing_below(s, 9000);
    p.k = testing_below(s, 9000);
    if (testing_below(s, 2)) {
        p.n = (p.n + 127) / 128 * 128;
        p.k = (p.k + 127) / 128 * 128;
    }
    if (p.op == GEMMUX_MOE) {
        p.experts = (int32_t)(1 + testing_below(s, 64));
        p.top_k = (int32_t)(1 + testing_below(s, p.experts < 8 ? p.experts : 8));
        p.epilogue = (uint8_t)testing_below(s, 16);
    } else if (p.op == GEMMUX_LINEAR) {
        p.epilogue = (uint8_t)(testing_below(s, 2) ? GEMMUX_EPILOGUE_BIAS : 0);
    }
    if (p.epilogue & GEMMUX_EPILOGUE_SWIGLU)
        p.n += p.n % 2;
    p.liberties = (uint32_t)testing_random(s) & ((1u << GEMMUX_LIBERTY_BITS) - 1u);
    p.align = (uint16_t)(testing_below(s, 2) ? 0 : 1 << testing_below(s, 7));
    return p;
}

static gemmux_machine random_machine(uint64_t *s)
{
    gemmux_machine m = {.name = "random", .described = true};
    m.kind = (uint8_t)(1 + testing_below(s, 2));
    if (m.kind == GEMMUX_CPU) {
        m.isa = gemmux_isa_closure((uint32_t)testing_random(s) & 0x1fffffu);
        m.cores = (int32_t)(1 + testing_below(s, 64));
    } else {
        static const int ccs[] = {50, 75, 80, 86, 89, 90, 100, 103, 110, 120, 121, 130};
        m.cc = ccs[testing_below(s, 12)];
        m.smem_bytes = (int32_t)(48 + testing_below(s, 180)) * 1024;
    }
    m.l2_bytes = INT64_C(1) << 20;
    m.memory_bytes = INT64_C(1) << (28 + testing_below(s, 12));
    m.bandwidth = 1e10 * (double)(1 + testing_below(s, 800));
    for (int i = 0; i < GEMMUX_MATH_COUNT; i++)
        m.peak[i] = testing_below(s, 4) ? 1e12 * (double)(1 + testing_below(s, 2000)) : 0;
    for (int i = 1; i < GEMMUX_LIB_COUNT; i++)
        m.library[i] = (gemmux_library){.present = testing_below(s, 2) != 0,
                                        .version = (int32_t)testing_below(s, 200000)};
    return m;
}

static gemmux_policy random_policy(uint64_t *s)
{
    gemmux_policy p = {0};
    if (testing_below(s, 4) == 0)
        p.deny = testing_below(s, 2) ? "x86_*" : "*a*";
    if (testing_below(s, 8) == 0)
        p.only = "ref_any,onednn*";
    if (testing_below(s, 6) == 0)
        p.max_memory_bytes = testing_below(s, INT64_C(1) << 28);
    if (testing_below(s, 6) == 0)
        p.max_slowdown = 1.0 + (double)testing_below(s, 20);
    p.deterministic = testing_below(s, 4) == 0;
    p.proved_only = testing_below(s, 16) == 0;
    return p;
}

static void check_text(const gemmux_trace *trace, const gemmux_verdict *v, const gemmux_problem *p,
                       const gemmux_machine *m)
{
    char text[600], need[400], have[400];
    for (int i = 0; i < v->reason_count; i++) {
        const gemmux_reason *r = &trace->reasons[v->reason_first + i];
        gemmux_reason_text(r, v->kernel, p, m, text, sizeof text);
        assert_true(strncmp(text, gemmux_kernel_name(v->kernel),
                            strlen(gemmux_kernel_name(v->kernel))) == 0);
        assert_null(strchr(text, '{'));
        assert_null(strstr(text, "?"));
        gemmux_reason_need(r, v->kernel, p, m, need, sizeof need);
        gemmux_reason_have(r, v->kernel, p, m, have, sizeof have);
        assert_true(strlen(gemmux_reason_code(r)) > 2);
        assert_null(strpbrk(gemmux_reason_code(r), " _ABCDEFGHIJKLMNOPQRSTUVWXYZ"));
    }
}

static void check_trace(const gemmux_trace *trace, const gemmux_problem *p, const gemmux_machine *m,
                        const gemmux_decision *chosen)
{
    int chosen_count = 0;
    assert_int_equal(trace->verdict_count, gemmux_kernel_count(m));
    for (int i = 0; i < trace->verdict_count; i++) {
        const gemmux_verdict *v = &trace->verdicts[i];
        if (v->kind == GEMMUX_REJECTED) {
            assert_true(v->reason_count >= 1);
            check_text(trace, v, p, m);
            continue;
        }
        assert_int_equal(v->reason_count, 0);
        assert_true(v->decision.predicted_us > 0 && isfinite(v->decision.predicted_us));
        assert_true(v->decision.weight_bytes >= 0 && v->decision.workspace_bytes >= 0);
        assert_true((v->decision.liberties & ~p->liberties) == 0);
        if (m->kind == GEMMUX_CUDA) /* 0: of a kernel that does not say */
            assert_true(v->decision.smem_bytes <= m->smem_bytes);
        assert_true(v->decision.predicted_us >= chosen->predicted_us);
        chosen_count += v->kind == GEMMUX_CHOSEN;
    }
    assert_int_equal(chosen_count, chosen->kernel ? 1 : 0);
}

static void same_answer_with_and_without_trace(void **state)
{
    static gemmux_trace trace;
    uint64_t seed = 7;
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        gemmux_problem p = random_problem(&seed);
        gemmux_machine m = random_machine(&seed);
        gemmux_policy policy = random_policy(&seed);
        gemmux_decision with, without, again;
        gemmux_error error = {GEMMUX_OK, ""};
        gemmux_status a = gemmux_select(&p, &m, &policy, &with, &trace, &error);
        gemmux_status b = gemmux_select(&p, &m, &policy, &without, NULL, &error);
        gemmux_status c = gemmux_select(&p, &m, &policy, &again, NULL, NULL);
        if (a == GEMMUX_ERROR_ARGUMENT)
            fail_msg("%s", error.text);
        assert_int_equal(a, b);
        assert_int_equal(a, c);
        assert_memory_equal(&with, &without, sizeof with);
        assert_memory_equal(&again, &without, sizeof with);
        check_trace(&trace, &p, &m, &with);
    }
}

static void a_valid_problem_always_has_an_answer(void **state)
{
    uint64_t seed = 11;
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        gemmux_problem p = random_problem(&seed);
        gemmux_machine m = random_machine(&seed);
        gemmux_decision d;
        gemmux_error error = {GEMMUX_OK, ""};
        m.memory_bytes = 0;
        p.liberties = 0;
        if (gemmux_select(&p, &m, NULL, &d, NULL, &error))
            fail_msg("%s", error.text);
        assert_true(d.lossless);
    }
}

static void denying_the_chosen_takes_the_next_rung(void **state)
{
    uint64_t seed = 13;
    (void)state;
    for (int i = 0; i < ROUNDS / 4; i++) {
        gemmux_problem p = random_problem(&seed);
        gemmux_machine m = random_machine(&seed);
        char deny[2048] = "";
        gemmux_policy policy = {.deny = deny};
        gemmux_decision d;
        double last_us = 0;
        int rungs = 0;
        while (gemmux_select(&p, &m, &policy, &d, NULL, NULL) == GEMMUX_OK) {
            assert_true(d.predicted_us >= last_us);
            last_us = d.predicted_us;
            assert_true(++rungs <= gemmux_kernel_count(&m));
            size_t used = strlen(deny);
            snprintf(deny + used, sizeof deny - used, ",%s", gemmux_kernel_name(d.kernel));
        }
    }
}

static void more_of_a_machine_never_hurts(void **state)
{
    uint64_t seed = 17;
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        gemmux_problem p = random_problem(&seed);
        gemmux_machine m = random_machine(&seed), more;
        gemmux_decision a, b;
        if (m.kind != GEMMUX_CPU)
            continue;
        more = m;
        more.isa = gemmux_isa_closure(~UINT32_C(0));
        for (int lib = 1; lib < GEMMUX_LIB_COUNT; lib++)
            more.library[lib] = (gemmux_library){.present = true, .version = INT32_MAX};
        if (gemmux_select(&p, &m, NULL, &a, NULL, NULL) == GEMMUX_OK) {
            assert_int_equal(gemmux_select(&p, &more, NULL, &b, NULL, NULL), GEMMUX_OK);
            assert_true(b.predicted_us <= a.predicted_us);
        }
    }
}

static void ranges_cover_every_m(void **state)
{
    uint64_t seed = 19;
    (void)state;
    for (int i = 0; i < ROUNDS / 10; i++) {
        gemmux_problem p = random_problem(&seed);
        gemmux_machine m = random_machine(&seed);
        gemmux_range ranges[GEMMUX_MAX_RANGES];
        int count;
        m.kind = GEMMUX_CPU;
        m.memory_bytes = 0;
        m.isa = gemmux_isa_closure(m.isa);
        gemmux_profile profile = {.count = 2, .m = {1, p.m + 1}, .weight = {10, 1}};
        p.m++;
        assert_int_equal(gemmux_select_ranges(&p, &m, NULL, &profile, ranges, &count, NULL),
                         GEMMUX_OK);
        assert_int_equal(ranges[0].m_min, 1);
        assert_int_equal(ranges[count - 1].m_max, p.m);
        for (int r = 0; r < count; r++) {
            gemmux_problem at = p;
            gemmux_decision d;
            gemmux_policy policy = {.packing = ranges[0].decision.packing};
            assert_true(ranges[r].m_min <= ranges[r].m_max);
            if (r)
                assert_int_equal(ranges[r].m_min, ranges[r - 1].m_max + 1);
            at.m = ranges[r].m_min;
            assert_int_equal(gemmux_select(&at, &m, &policy, &d, NULL, NULL), GEMMUX_OK);
            assert_ptr_equal(d.kernel, ranges[r].decision.kernel);
        }
    }
}

static void invalid_problems_are_refused_with_words(void **state)
{
    (void)state;
    gemmux_format bf16 = testing_format("bf16"), mxfp4 = testing_format("mxfp4");
    const gemmux_problem good = gemmux_problem_linear(1, 16, 32, bf16, mxfp4, bf16);
    gemmux_problem bad[12];
    for (int i = 0; i < 12; i++)
        bad[i] = good;
    bad[0].m = 0;
    bad[1].n = -1;
    bad[2].k = -1;
    bad[3].op = 9;
    bad[4].x.id = 0;
    bad[5].y = mxfp4;
    bad[6].epilogue = GEMMUX_EPILOGUE_SCATTER;
    bad[7].x = testing_format("e4m3:block128");
    bad[8].op = GEMMUX_MOE;
    bad[9].m = INT64_MAX / 2;
    bad[10].align = 24;
    bad[11].liberties = ~0u;
    gemmux_machine m = {.kind = GEMMUX_CPU, .name = "any"};
    for (int i = 0; i < 12; i++) {
        gemmux_decision d;
        gemmux_error error = {GEMMUX_OK, ""};
        assert_int_equal(gemmux_select(&bad[i], &m, NULL, &d, NULL, &error), GEMMUX_ERROR_ARGUMENT);
        assert_true(strncmp(error.text, "problem: ", 9) == 0);
    }
}

/* Scales of x in bf16: nobody who reads f32 there may take them. */
static void scales_of_x_are_read_as_what_they_are(void **state)
{
    (void)state;
    static const char *const products[][2] = {{"int8:row:bf16", "int8"},
                                              {"e4m3:row:bf16", "e4m3:row:f32"},
                                              {"e4m3:tensor:f16", "e4m3:tensor:f32"},
                                              {"e4m3:g128:bf16", "e4m3:block128:f32"}};
    gemmux_machine machine;
    assert_int_equal(gemmux_machine_find("h200", &machine, NULL), GEMMUX_OK);
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++) {
        gemmux_problem p =
            gemmux_problem_linear(64, 4096, 4096, testing_format(products[i][0]),
                                  testing_format(products[i][1]), testing_format("bf16"));
        gemmux_decision decision;
        assert_int_equal(gemmux_select(&p, &machine, NULL, &decision, NULL, NULL), GEMMUX_OK);
        const char *chosen = gemmux_kernel_name(decision.kernel);
        if (strncmp(chosen, "cublaslt", 8) == 0 || strcmp(chosen, "cuda_sm90_fp8") == 0)
            fail_msg("%s was chosen for x of %s", chosen, products[i][0]);
    }
}

/* The first reason of one kernel's verdict; NULL: none. */
static const gemmux_reason *reason_of(const gemmux_trace *trace, const char *kernel)
{
    for (int i = 0; i < trace->verdict_count; i++) {
        const gemmux_verdict *verdict = &trace->verdicts[i];
        if (strcmp(gemmux_kernel_name(verdict->kernel), kernel) == 0)
            return verdict->reason_count ? &trace->reasons[verdict->reason_first] : NULL;
    }
    fail_msg("no verdict on %s", kernel);
    return NULL;
}

/* Sums in f16 are taken only where they are allowed, and there because they are faster. */
static void narrow_sums_are_asked_for(void **state)
{
    static gemmux_trace trace;
    static const char *const weights[] = {"f16", "int8", "int4:g32", "mxfp4", "e4m3"};
    const char *const name = "x86_avx512_fp16";
    gemmux_machine machine, older;
    gemmux_error error;
    (void)state;
    assert_int_equal(gemmux_machine_find("sapphire-rapids", &machine, &error), GEMMUX_OK);
    assert_int_equal(gemmux_machine_find("ice-lake", &older, &error), GEMMUX_OK);
    for (size_t i = 0; i < sizeof weights / sizeof weights[0]; i++) {
        gemmux_format f16 = testing_format("f16");
        gemmux_problem p =
            gemmux_problem_linear(512, 4096, 4096, f16, testing_format(weights[i]), f16);
        gemmux_decision d;
        assert_int_equal(gemmux_select(&p, &machine, NULL, &d, &trace, NULL), GEMMUX_OK);
        assert_true(d.lossless);
        assert_int_equal(reason_of(&trace, name)->check, GEMMUX_CHECK_LIBERTY);
        assert_int_equal(reason_of(&trace, name)->need, GEMMUX_LIBERTY_NARROW_SUMS);
        p.liberties |= GEMMUX_LIBERTY_NARROW_SUMS;
        assert_int_equal(gemmux_select(&p, &older, NULL, &d, &trace, NULL), GEMMUX_OK);
        assert_int_equal(reason_of(&trace, name)->check, GEMMUX_CHECK_ISA);
        assert_int_equal(gemmux_select(&p, &machine, NULL, &d, &trace, NULL), GEMMUX_OK);
        assert_string_equal(gemmux_kernel_name(d.kernel), name);
        assert_int_equal(d.liberties, GEMMUX_LIBERTY_NARROW_SUMS);
        assert_false(d.lossless);
    }
}

static void globs_match(void **state)
{
    (void)state;

    assert_true(gemmux_glob_list("x86_*", "x86_avx2"));
    assert_true(gemmux_glob_list("nothing,*avx?,", "x86_avx2"));
    assert_false(gemmux_glob_list("x86_avx", "x86_avx2"));
    assert_false(gemmux_glob_list("", "x86_avx2"));
    assert_false(gemmux_glob_list(NULL, "x86_avx2"));
    assert_true(gemmux_glob_list("*", ""));
    assert_false(gemmux_glob_list("?", ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_answer_with_and_without_trace),
        cmocka_unit_test(a_valid_problem_always_has_an_answer),
        cmocka_unit_test(denying_the_chosen_takes_the_next_rung),
        cmocka_unit_test(more_of_a_machine_never_hurts),
        cmocka_unit_test(ranges_cover_every_m),
        cmocka_unit_test(invalid_problems_are_refused_with_words),
        cmocka_unit_test(scales_of_x_are_read_as_what_they_are),
        cmocka_unit_test(narrow_sums_are_asked_for),
        cmocka_unit_test(globs_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
