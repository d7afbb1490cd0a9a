/* SPDX-License-Identifier: Apache-2.0
 *
 * Products through oneDNN and OpenBLAS against the f64 reference, and the verdicts that follow
 * when a library is absent, too old or broken. Where a library is not installed its products are
 * skipped; the verdicts are not.
 */
#include "testing.h"

#include "kernel.h"
#include "kernels/bf16_rows.h"
#include "packings/tile64.h"

typedef struct fixture {
    gemmux_machine machine;
    gemmux_threads *threads;
    uint64_t seed;
} fixture;

static fixture here;

static int set_up(void **state)
{
    (void)state;
    gemmux_error error;
    here.seed = 4711;
    return gemmux_machine_probe_cpu(&here.machine, &error) ||
                   gemmux_threads_create(2, &here.threads, &error)
               ? -1
               : 0;
}

static int tear_down(void **state)
{
    (void)state;
    gemmux_threads_free(here.threads);
    return 0;
}

/* Why a kernel cannot run here, or NULL. */
static const char *obstacle(const char *name)
{
    const gemmux_kernel *kernel = gemmux_kernel_find(&here.machine, name);
    assert_non_null(kernel);
    if (!here.machine.library[kernel->library].present)
        return "its library is not installed";
    if (kernel->isa & ~here.machine.isa)
        return "this CPU lacks an instruction set";
    return kernel->run ? NULL : "not built here";
}

static bool runs_here(const char *name)
{
    const char *why = obstacle(name);
    if (why)
        print_message("%s skipped: %s\n", name, why);
    return !why;
}

enum { GUARD = 64 };

/* One product by `kernel`, verified against f64 and done twice with the same bits. pad: bytes
 * between rows of x and y beyond the dense ones. */
static void check(const char *kernel, gemmux_problem p, int64_t pad)
{
    gemmux_error error = {GEMMUX_OK, ""};
    char text[128];
    gemmux_problem_text(&p, text, sizeof text);
    int64_t count = p.op == GEMMUX_MOE ? p.experts : 1, rows = gemmux_problem_rows(&p);
    int64_t x_rows = p.epilogue & GEMMUX_EPILOGUE_GATHER ? p.m : rows;
    int64_t y_rows = p.epilogue & GEMMUX_EPILOGUE_SCATTER ? p.m : rows;
    int64_t y_cols = p.epilogue & GEMMUX_EPILOGUE_SWIGLU ? p.n / 2 : p.n;
    gemmux_weights w, x;
    testing_weights(&here.seed, p.w, count, p.n, p.k, &w);
    testing_weights(&here.seed, p.x, 1, x_rows, p.k, &x);
    float *bias = testing_matrix(&here.seed, count, p.n, 1);
    w.bias = p.epilogue & GEMMUX_EPILOGUE_BIAS ? bias : NULL;

    int64_t x_dense = gemmux_row_bytes(p.x, p.k), x_stride = x_dense + pad;
    int64_t y_stride = gemmux_row_bytes(p.y, y_cols) + pad;
    char *x_codes = malloc((size_t)(x_rows * x_stride + 1));
    for (int64_t r = 0; r < x_rows; r++) {
        memset(x_codes + r * x_stride, 0xff, (size_t)x_stride);
        memcpy(x_codes + r * x_stride, (const char *)x.tensor.codes + r * x_dense, (size_t)x_dense);
    }
    gemmux_args args = {.x = x.tensor, .y_row_bytes = y_stride};
    args.x.codes = x_codes;
    args.x.row_bytes = pad ? x_stride : 0;
    int32_t *ids = calloc((size_t)rows + 1, sizeof *ids);
    float *slot_weights = calloc((size_t)rows + 1, sizeof *slot_weights);
    for (int64_t i = 0; i < rows && p.op == GEMMUX_MOE; i++) {
        ids[i] = (int32_t)(1 + (i % p.top_k + i / p.top_k * 3) % (p.experts - 1)); /* 0: empty */
        slot_weights[i] = testing_float(&here.seed);
    }
    args.expert_ids = ids;
    args.expert_weights = slot_weights;

    size_t y_bytes = (size_t)(y_rows * y_stride);
    unsigned char *y[2];
    gemmux_plan *plan = NULL;
    const gemmux_policy policy = {.only = kernel};
    if (gemmux_prepare(&p, &here.machine, &policy, NULL, &w, here.threads, &plan, &error))
        fail_msg("%s, %s: %s", kernel, text, error.text);
    const gemmux_range *ranges;
    gemmux_plan_ranges(plan, &ranges);
    assert_string_equal(gemmux_kernel_name(ranges[0].decision.kernel), kernel);
    for (int i = 0; i < 2; i++) {
        y[i] = malloc(y_bytes + GUARD);
        memset(y[i], 0xff, y_bytes + GUARD); /* NaN in every format */
        args.y = y[i];
        if (gemmux_run(plan, &args, &error))
            fail_msg("%s, %s: %s", kernel, text, error.text);
        gemmux_verification result;
        if (gemmux_verify(&p, ranges[0].decision.liberties, &w, &args, 0, &result, &error))
            fail_msg("%s, %s: %s", kernel, text, error.text);
        for (int j = 0; j < GUARD; j++)
            assert_int_equal(y[i][y_bytes + (size_t)j], 0xff);
        for (int64_t r = 0; r < y_rows; r++)
            for (int64_t j = y_stride - pad; j < y_stride; j++)
                assert_int_equal(y[i][r * y_stride + j], 0xff);
    }
    assert_memory_equal(y[0], y[1], y_bytes);
    gemmux_plan_free(plan);
    gemmux_weights_free(&w);
    gemmux_weights_free(&x);
    free(y[0]), free(y[1]), free(bias), free(ids), free(slot_weights), free(x_codes);
}

static gemmux_problem linear(int64_t m, int64_t n, int64_t k, const char *x, const char *w,
                             const char *y)
{
    gemmux_problem p =
        gemmux_problem_linear(m, n, k, testing_format(x), testing_format(w), testing_format(y));
    p.liberties = GEMMUX_LIBERTIES_DEFAULT | GEMMUX_LIBERTY_ROUNDED_W;
    return p;
}

/* Native kernels and the formats they multiply. */
static const struct native {
    const char *kernel, *x, *w;
} natives[] = {
    {"onednn_f32", "f32", "f32"},        {"onednn_bf16", "bf16", "bf16"},
    {"onednn_int8", "int8:row", "int8"}, {"onednn_int8", "int8:tensor", "int8:tensor"},
    {"onednn_f32_plain", "f32", "f32"},  {"onednn_bf16_plain", "bf16", "bf16"},
    {"openblas_f32", "f32", "f32"},
};
enum { NATIVE_COUNT = sizeof natives / sizeof natives[0] };

static void every_m(void **state)
{
    (void)state;
    static const int64_t ms[] = {1,  2,  7,  8,  15,  16,  17,  31,  32,  33,  63,
                                 64, 65, 79, 81, 127, 128, 129, 255, 256, 257, 530};
    static const char *const ys[] = {"f32", "bf16", "f16"};
    for (size_t i = 0; i < NATIVE_COUNT; i++) {
        if (!runs_here(natives[i].kernel))
            continue;
        for (size_t j = 0; j < sizeof ms / sizeof ms[0]; j++)
            check(natives[i].kernel, linear(ms[j], 96, 72, natives[i].x, natives[i].w, ys[j % 3]),
                  0);
    }
}

static void ragged_n_and_k(void **state)
{
    (void)state;
    static const int64_t ns[] = {1, 2, 15, 16, 17, 63, 64, 65, 127, 191, 257, 330, 1030};
    static const int64_t ks[] = {1, 2, 3, 15, 16, 31, 33, 64, 65, 127, 129, 200};
    for (size_t i = 0; i < NATIVE_COUNT; i++) {
        if (!runs_here(natives[i].kernel))
            continue;
        for (size_t j = 0; j < sizeof ns / sizeof ns[0]; j++)
            check(natives[i].kernel,
                  linear(1 + (int64_t)j * 5, ns[j], ks[j % 12], natives[i].x, natives[i].w, "f32"),
                  0);
    }
}

static void strided_x_and_y_bias_and_empty_k(void **state)
{
    (void)state;
    for (size_t i = 0; i < NATIVE_COUNT; i++) {
        if (!runs_here(natives[i].kernel))
            continue;
        for (int64_t pad = 4; pad <= 64; pad += 60)
            for (int64_t m = 3; m <= 300; m += 297) {
                gemmux_problem p = linear(m, 70, 80, natives[i].x, natives[i].w, "f32");
                p.epilogue = GEMMUX_EPILOGUE_BIAS;
                check(natives[i].kernel, p, pad);
            }
        if (strncmp(natives[i].x, "int8", 4) != 0) { /* whose scales come from values */
            gemmux_problem p = linear(3, 20, 0, natives[i].x, natives[i].w, "f32");
            p.epilogue = GEMMUX_EPILOGUE_BIAS;
            check(natives[i].kernel, p, 0);
        }
    }
}

static void experts_with_every_epilogue(void **state)
{
    (void)state;
    static const struct native more[] = {
        {"onednn_dequant", "bf16", "mxfp4"},
        {"openblas_dequant", "bf16", "mxfp4"},
    };
    for (size_t i = 0; i < NATIVE_COUNT + 2; i++) {
        const struct native *c = i < NATIVE_COUNT ? &natives[i] : &more[i - NATIVE_COUNT];
        if (!runs_here(c->kernel))
            continue;
        for (unsigned epilogue = 0; epilogue < 16; epilogue++) {
            gemmux_problem p = linear(epilogue == 5 ? 1 : 23, 140, 96, c->x, c->w, "bf16");
            p.op = GEMMUX_MOE;
            p.experts = 5;
            p.top_k = 2;
            p.epilogue = (uint8_t)epilogue;
            check(c->kernel, p, 0);
        }
        /* More rows than are converted at once, so that windows cut through experts. */
        gemmux_problem p = linear(700, 64, 32, c->x, c->w, "f32");
        p.op = GEMMUX_MOE;
        p.experts = 4;
        p.top_k = 3;
        p.epilogue = GEMMUX_EPILOGUE_GATHER;
        check(c->kernel, p, 0);
        p.op = GEMMUX_MATMUL;
        p.epilogue = 0;
        p.experts = p.top_k = 0;
        check(c->kernel, p, 0);
    }
}

static void dequantised_formats(void **state)
{
    (void)state;
    static const char *const xs[] = {"f32", "bf16", "f16", "e4m3:row", "int8", "mxfp8", "nvfp4"};
    static const int64_t ms[] = {1, 5, 40, 300};
    for (int i = 0; i < TESTING_FORMAT_COUNT; i++)
        for (int j = 0; j < 4; j++) {
            int64_t n = 30 + 40 * j + i, k = 130 + 7 * i + 61 * j;
            if (runs_here("onednn_dequant") && strcmp(testing_formats[i], "bf16") != 0)
                check("onednn_dequant",
                      linear(ms[j], n, k, "bf16", testing_formats[i], j % 2 ? "f32" : "bf16"), 0);
            if (runs_here("openblas_dequant"))
                check("openblas_dequant",
                      linear(ms[j], n, k, xs[(i + j) % 7], testing_formats[i], "f32"), 0);
        }
}

/* What is multiplied must be the stored numbers: exact where the contract says so, else nearest. */
static void decoded_rows_are_the_stored_numbers(void **state)
{
    (void)state;
    if (!runs_here("onednn_dequant") && (obstacle("onednn_dequant")[0] == 't'))
        return;
    const gemmux_kernel *kernel = gemmux_kernel_find(&here.machine, "onednn_dequant");
    for (int i = 0; i < TESTING_FORMAT_COUNT; i++) {
        enum { ROWS = 9, COLS = 300 };
        gemmux_weights w;
        gemmux_format f = testing_format(testing_formats[i]);
        if (f.id == GEMMUX_BF16)
            continue; /* nothing to decode: other kernels multiply it as it is */
        testing_weights(&here.seed, f, 2, ROWS, COLS, &w);
        gemmux_problem p = linear(1, ROWS, COLS, "bf16", testing_formats[i], "f32");
        gemmux_decision d;
        gemmux_policy only = {.only = "onednn_dequant"};
        gemmux_machine machine = here.machine;
        machine.library[GEMMUX_LIB_ONEDNN] = (gemmux_library){.present = true, .version = 20600};
        assert_int_equal(gemmux_select(&p, &machine, &only, &d, NULL, NULL), GEMMUX_OK);
        assert_ptr_equal(d.kernel, kernel);
        bool exact = !(d.liberties & GEMMUX_LIBERTY_ROUNDED_W);
        bool rounded = false;
        for (int64_t matrix = 0; matrix < 2; matrix++)
            for (int64_t row = 0; row < ROWS; row++) {
                uint16_t codes[COLS + 1];
                codes[COLS] = 0xabcd;
                gemmux_bf16_row_avx512(&w.tensor, matrix, row, codes);
                assert_int_equal(codes[COLS], 0xabcd);
                double factor = gemmux_bf16_row_factor(&w.tensor, matrix, row);
                for (int64_t col = 0; col < COLS; col++) {
                    double want = gemmux_tensor_at(&w.tensor, matrix, row, col);
                    double have = gemmux_code_decode(GEMMUX_CODE_BF16, codes[col]) * factor;
                    /* MIN's sum and a zero point's difference are rounded in f32 first. */
                    double bound = exact ? 0 : fabs(want) * 0x1.02p-8 + 1e-6;
                    rounded |= have != want;
                    if (!(fabs(have - want) <= bound))
                        fail_msg("%s: element %d is %g, decoded to %g", testing_formats[i],
                                 (int)col, want, have);
                }
            }
        if (rounded == exact)
            fail_msg("%s: the descriptor says %s, the numbers say otherwise", testing_formats[i],
                     exact ? "exact" : "rounded");
        gemmux_weights_free(&w);
    }
}

static void special_codes_survive_decoding(void **state)
{
    (void)state;
    if (!gemmux_bf16_row_avx512 || !(here.machine.isa & GEMMUX_ISA_AVX512BF16))
        skip();
    static const gemmux_format_id ids[] = {GEMMUX_E4M3, GEMMUX_E5M2, GEMMUX_INT8};
    uint8_t codes[256];
    uint16_t out[256];
    const float one = 1;
    for (int i = 0; i < 256; i++)
        codes[i] = (uint8_t)i;
    for (int f = 0; f < 3; f++) {
        gemmux_format format = gemmux_format_of(ids[f]);
        gemmux_tensor t = {.format = format, .count = 1, .rows = 1, .cols = 256};
        t.codes = codes;
        t.scales = &one;
        gemmux_bf16_row_avx512(&t, 0, 0, out);
        for (uint32_t i = 0; i < 256; i++) {
            double want = gemmux_code_decode((gemmux_code)format.element, i);
            double have = gemmux_code_decode(GEMMUX_CODE_BF16, out[i]);
            if (isnan(want) ? !isnan(have) : have != want)
                fail_msg("code %u of %s decodes to %g, not %g", i, gemmux_format_id_name(ids[f]),
                         have, want);
        }
    }
}

static void tile64_gives_back_what_it_took(void **state)
{
    (void)state;
    static const char *const formats[] = {"f32", "bf16", "int8", "int8:tensor"};
    static const int64_t shapes[][3] = {{1, 1, 1}, {1, 64, 64}, {2, 65, 63}, {3, 130, 70}};
    for (size_t f = 0; f < 4; f++)
        for (size_t i = 0; i < 4; i++) {
            gemmux_weights w, back;
            gemmux_packed packed;
            gemmux_error error = {GEMMUX_OK, ""};
            testing_weights(&here.seed, testing_format(formats[f]), shapes[i][0], shapes[i][1],
                            shapes[i][2], &w);
            assert_int_equal(
                gemmux_pack(&gemmux_packing_tile64, &w.tensor, here.threads, &packed, &error),
                GEMMUX_OK);
            assert_int_equal(gemmux_unpack(&packed, &back, &error), GEMMUX_OK);
            for (int64_t m = 0; m < shapes[i][0]; m++)
                for (int64_t n = 0; n < shapes[i][1]; n++)
                    for (int64_t k = 0; k < shapes[i][2]; k++)
                        assert_true(gemmux_tensor_at(&w.tensor, m, n, k) ==
                                    gemmux_tensor_at(&back.tensor, m, n, k));
            gemmux_weights_free(&w);
            gemmux_weights_free(&back);
            gemmux_packed_free(&packed);
        }
    assert_false(gemmux_packing_tile64.accepts(testing_format("mxfp4")));
    assert_false(gemmux_packing_tile64.accepts(testing_format("int8:g32")));
    assert_true(gemmux_packing_tile64.bytes(testing_format("f32"), 1, INT64_MAX / 2, 1 << 20) < 0);
}

/* ---- verdicts ---- */

static gemmux_trace trace;

/* The one reason at the library stage must have this code and say this. */
static void expect_library_reason(const gemmux_machine *machine, const char *kernel,
                                  const gemmux_problem *p, const char *code, const char *words)
{
    char text[600];
    gemmux_decision d;
    gemmux_error error;
    assert_int_equal(gemmux_select(p, machine, NULL, &d, &trace, &error), GEMMUX_OK);
    for (int i = 0; i < trace.verdict_count; i++) {
        const gemmux_verdict *v = &trace.verdicts[i];
        if (strcmp(gemmux_kernel_name(v->kernel), kernel) != 0)
            continue;
        assert_int_equal(v->kind, GEMMUX_REJECTED);
        for (int r = v->reason_first; r < v->reason_first + v->reason_count; r++) {
            const gemmux_reason *reason = &trace.reasons[r];
            if (reason->stage == GEMMUX_STAGE_LIBRARY) {
                assert_string_equal(gemmux_reason_code(reason), code);
                gemmux_reason_text(reason, v->kernel, p, machine, text, sizeof text);
                assert_non_null(strstr(text, words));
                return;
            }
        }
    }
    fail_msg("%s was not rejected at the library stage", kernel);
}

static void absent_and_old_libraries_are_named(void **state)
{
    (void)state;
    gemmux_problem p = linear(8, 64, 64, "f32", "f32", "f32");
    for (int i = 0; i < gemmux_kernel_count(&here.machine); i++) {
        const gemmux_kernel *kernel = gemmux_kernel_at(&here.machine, i);
        gemmux_library_id id = gemmux_kernel_library(kernel);
        if (kernel->device != GEMMUX_CPU || id == GEMMUX_LIB_NONE)
            continue;
        gemmux_machine machine = here.machine;
        machine.library[id] = (gemmux_library){0};
        expect_library_reason(&machine, kernel->name, &p, "library-absent", "not found");
        snprintf(machine.library[id].note, sizeof machine.library[id].note, "/x/y.so: bad magic");
        expect_library_reason(&machine, kernel->name, &p, "library-absent", "/x/y.so: bad magic");
        assert_true(kernel->library_min > 0);
        machine.library[id] = (gemmux_library){.present = true, .version = kernel->library_min - 1};
        expect_library_reason(&machine, kernel->name, &p, "library-too-old", "or newer");
    }
}

static void a_library_that_breaks_costs_a_rung(void **state)
{
    (void)state;
    gemmux_machine machine = here.machine;
    gemmux_problem p = linear(4, 64, 64, "f32", "f32", "f32");
    gemmux_weights w;
    gemmux_plan *plan;
    gemmux_error error = {GEMMUX_OK, ""};
    testing_weights(&here.seed, p.w, 1, p.n, p.k, &w);
    /* It was there when the machine was probed, and is gone or another one now. */
    for (int id = GEMMUX_LIB_ONEDNN; id <= GEMMUX_LIB_OPENBLAS; id++) {
        machine.library[id] = (gemmux_library){.present = true, .version = 29999};
        snprintf(machine.library[id].path, sizeof machine.library[id].path, "/nonexistent/lib.so");
    }
    assert_int_equal(gemmux_prepare(&p, &machine, NULL, NULL, &w, NULL, &plan, &error), GEMMUX_OK);
    const gemmux_range *ranges;
    gemmux_plan_ranges(plan, &ranges);
    assert_int_equal(gemmux_kernel_library(ranges[0].decision.kernel), GEMMUX_LIB_NONE);
    gemmux_plan_free(plan);

    /* What was refused, and in whose words, is in the trace for the plan's machine. */
    gemmux_policy policy = {.only = "openblas*,onednn*,ref_any"};
    gemmux_decision decision;
    int refused = 0;
    assert_int_equal(gemmux_prepare(&p, &machine, &policy, NULL, &w, NULL, &plan, &error),
                     GEMMUX_OK);
    assert_int_equal(
        gemmux_select(&p, gemmux_plan_machine(plan), &policy, &decision, &trace, &error),
        GEMMUX_OK);
    assert_string_equal(decision.kernel->name, "ref_any");
    for (int i = 0; i < trace.reason_count; i++)
        if (!strcmp(gemmux_reason_code(&trace.reasons[i]), "refused")) {
            refused++;
            assert_non_null(strstr(trace.reasons[i].note, "/nonexistent/lib.so"));
        }
    assert_true(refused >= 2);
    gemmux_plan_free(plan);
    policy.only = "openblas*,onednn*";
    assert_int_equal(gemmux_prepare(&p, &machine, &policy, NULL, &w, NULL, &plan, &error),
                     GEMMUX_ERROR_NO_KERNEL);
    assert_non_null(strstr(error.text, "/nonexistent/lib.so"));
    gemmux_weights_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_m),
        cmocka_unit_test(ragged_n_and_k),
        cmocka_unit_test(strided_x_and_y_bias_and_empty_k),
        cmocka_unit_test(experts_with_every_epilogue),
        cmocka_unit_test(dequantised_formats),
        cmocka_unit_test(decoded_rows_are_the_stored_numbers),
        cmocka_unit_test(special_codes_survive_decoding),
        cmocka_unit_test(tile64_gives_back_what_it_took),
        cmocka_unit_test(absent_and_old_libraries_are_named),
        cmocka_unit_test(a_library_that_breaks_costs_a_rung),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
