/* SPDX-License-Identifier: Apache-2.0
 *
 * Every CUDA kernel against the f64 reference: formats x types x M x ops, with rows further apart
 * than they are long, poisoned outputs, guards around every buffer, twice for determinism, and
 * once through a captured CUDA graph. Writes JUnit XML.
 *
 *     gpu_kernels [--quick] OUT.xml [FILTER]
 *
 * FILTER: only cases whose name contains it or matches it, with * for anything. --quick: a sixth of
 * the M's of each case, other ones in the next case.
 */
#include "gpu_device.h"

#include "driver/blaslt.h"
#include "format.h"
#include "kernel.h"
#include "wildcard.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* GLOBAL: the strictest mode of capture, PyTorch's own: whatever thread waits or allocates spoils
 * it. */
enum { GUARD = 256, FAILURES_SHOWN = 4, GLOBAL = 0 };

static gpu device;
static gemmux_machine machine;
static gemmux_threads *threads;
static FILE *xml;
static const char *filter;
static int cases, failed_cases, products;
static bool quick;

/* One line of the report: what failed in it. */
static struct {
    char name[200], text[2048];
    int failures;
    double worst; /* of all its products, as a part of the bound */
    double started;
} now;

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void complain(const char *format, ...)
{
    va_list arguments;
    size_t used = strlen(now.text);
    if (now.failures++ >= FAILURES_SHOWN)
        return;
    va_start(arguments, format);
    vsnprintf(now.text + used, sizeof now.text - used, format, arguments);
    va_end(arguments);
    used = strlen(now.text);
    snprintf(now.text + used, sizeof now.text - used, "\n");
}

static void begin_case(void)
{
    now.text[0] = '\0';
    now.failures = 0;
    now.worst = 0;
    now.started = seconds();
    cases++;
}

static void put_escaped(const char *text)
{
    for (; *text; text++)
        if (*text == '<' || *text == '>' || *text == '&' || *text == '"')
            fprintf(xml, "&#%d;", *text);
        else
            fputc(*text, xml);
}

static void end_case(void)
{
    fprintf(xml, "  <testcase classname=\"gpu_kernels\" name=\"");
    put_escaped(now.name);
    fprintf(xml, "\" time=\"%.3f\">", seconds() - now.started);
    if (now.failures) {
        failed_cases++;
        fprintf(xml, "<failure message=\"%d products\">", now.failures);
        put_escaped(now.text);
        fprintf(xml, "</failure>");
        printf("FAIL %s: %d\n%s", now.name, now.failures, now.text);
        fflush(stdout);
    }
    fprintf(xml, "<system-out>worst %.3f of the bound</system-out></testcase>\n", now.worst);
}

/* ---- operands ---- */

static uint64_t seed = 1;

static uint64_t draw(void)
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return seed * UINT64_C(2685821657736338717);
}

/* Neighbouring runs of 16 columns, and rows, have powers of two of their own. */
static float *draw_matrix(int64_t rows, int64_t cols, int spread)
{
    float *values = malloc((size_t)(rows * cols) * 4 + 4);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < cols; j++) {
            float unit = (float)((double)(draw() >> 40) / (double)(1 << 23) - 1.0);
            int exponent = (int)((j / 16 * 5 + r * 3) % (2 * spread + 1)) - spread;
            values[r * cols + j] = ldexpf(unit, exponent);
        }
    return values;
}

static bool quantise(int64_t count, int64_t rows, int64_t cols, gemmux_format format, int spread,
                     gemmux_weights *out)
{
    gemmux_error error;
    float *values = draw_matrix(count * rows, cols, spread);
    gemmux_status status = gemmux_quantise(values, count, rows, cols, format, out, &error);
    free(values);
    if (status)
        complain("quantise: %s", error.text);
    return !status;
}

/* Operands of one product, on both sides. */
typedef struct operands {
    gemmux_weights x; /* dense, host */
    gemmux_tensor x_device;
    unsigned char *x_codes, *y_host, *y_again;
    void *x_at, *x_scales_at, *y_at, *ids_at, *weights_at;
    int64_t x_bytes, y_bytes, y_stride, y_row, y_rows;
    int32_t *ids;
    float *slot_weights;
} operands;

static void free_operands(operands *o)
{
    gpu_free(&device, o->x_at);
    gpu_free(&device, o->x_scales_at);
    gpu_free(&device, o->y_at);
    gpu_free(&device, o->ids_at);
    gpu_free(&device, o->weights_at);
    gemmux_weights_free(&o->x);
    free(o->x_codes);
    free(o->y_host);
    free(o->y_again);
    free(o->ids);
    free(o->slot_weights);
}

/* x with 16 bytes between rows and NaN-like bytes there and around. */
static bool make_x(const gemmux_problem *p, int64_t rows, operands *o)
{
    if (!quantise(1, rows, p->k, p->x, 3, &o->x))
        return false;
    gemmux_tensor *t = &o->x.tensor;
    int64_t dense = gemmux_row_bytes(p->x, p->k), stride = dense + 16;
    o->x_bytes = 2 * GUARD + rows * stride;
    o->x_codes = malloc((size_t)o->x_bytes);
    memset(o->x_codes, 0xff, (size_t)o->x_bytes);
    for (int64_t r = 0; r < rows; r++)
        memcpy(o->x_codes + GUARD + r * stride, (const char *)t->codes + r * dense, (size_t)dense);
    o->x_at = gpu_allocate(&device, o->x_bytes);
    gpu_upload(&device, o->x_at, o->x_codes, o->x_bytes);
    o->x_device = *t;
    o->x_device.codes = (char *)o->x_at + GUARD;
    o->x_device.row_bytes = stride;
    int64_t scales = gemmux_scale_count(p->x, rows, p->k) * gemmux_scale_bytes(p->x);
    if (scales > 0) {
        o->x_scales_at = gpu_allocate(&device, scales);
        gpu_upload(&device, o->x_scales_at, t->scales, scales);
        o->x_device.scales = o->x_scales_at;
    }
    o->x_device.globals = NULL;
    if (p->x.two_level) { /* one factor, on the device */
        o->weights_at = gpu_allocate(&device, 4);
        gpu_upload(&device, o->weights_at, t->globals, 4);
        o->x_device.globals = o->weights_at;
    }
    return true;
}

static void make_routing(const gemmux_problem *p, int64_t tokens, operands *o)
{
    int64_t pairs = tokens * p->top_k;
    o->ids = malloc((size_t)pairs * 4 + 4);
    o->slot_weights = malloc((size_t)pairs * 4 + 4);
    for (int64_t i = 0; i < pairs; i++) {
        /* Expert 2 is never chosen, expert 0 often. */
        int32_t id = (int32_t)(draw() >> 33) % p->experts;
        o->ids[i] = id == 2 && p->experts > 1 ? 0 : id;
        o->slot_weights[i] = (float)((double)(draw() >> 40) / (double)(1 << 24));
    }
    o->ids_at = gpu_allocate(&device, pairs * 4);
    o->weights_at = gpu_allocate(&device, pairs * 4);
    gpu_upload(&device, o->ids_at, o->ids, pairs * 4);
    gpu_upload(&device, o->weights_at, o->slot_weights, pairs * 4);
}

static bool make_operands(const gemmux_problem *p, operands *o)
{
    *o = (operands){0};
    int64_t pairs = gemmux_problem_rows(p);
    bool moe = p->op == GEMMUX_MOE;
    int64_t x_rows = moe && !(p->epilogue & GEMMUX_EPILOGUE_GATHER) ? pairs : p->m;
    int64_t columns = p->epilogue & GEMMUX_EPILOGUE_SWIGLU ? p->n / 2 : p->n;
    o->y_rows = p->epilogue & GEMMUX_EPILOGUE_SCATTER ? p->m : pairs;
    o->y_row = gemmux_row_bytes(p->y, columns);
    o->y_stride = o->y_row + 32 - o->y_row % 4; /* every second time not even 4-byte rows */
    if (p->n % 2)
        o->y_stride = o->y_row + 2 * (p->y.id == GEMMUX_F32 ? 2 : 1);
    o->y_bytes = 2 * GUARD + o->y_rows * o->y_stride;
    if (!make_x(p, x_rows, o))
        return false;
    if (moe)
        make_routing(p, p->m, o);
    o->y_host = malloc((size_t)o->y_bytes);
    o->y_again = malloc((size_t)o->y_bytes);
    o->y_at = gpu_allocate(&device, o->y_bytes);
    return true;
}

/* ---- one product ---- */

static gemmux_args device_args(const operands *o)
{
    return (gemmux_args){
        .x = o->x_device,
        .y = (char *)o->y_at + GUARD,
        .y_row_bytes = o->y_stride,
        .expert_ids = o->ids_at,
        .expert_weights = o->ids_at ? o->weights_at : NULL,
        .stream = device.stream,
    };
}

/* Runs into a y of 0xff bytes (NaN in every format) and brings it back. */
static bool run_once(const gemmux_plan *plan, const operands *o, bool graph, unsigned char *y)
{
    gemmux_args args = device_args(o);
    gemmux_error error = {GEMMUX_OK, ""};
    gpu_fill(&device, o->y_at, 0xff, o->y_bytes);
    void *captured = NULL, *executable = NULL;
    if (graph)
        gpu_check(&device, device.capture_begin(device.stream, GLOBAL), "capturing");
    gemmux_status status = gemmux_run(plan, &args, &error);
    int spoilt = graph ? device.capture_end(device.stream, &captured) : 0;
    if (graph && !spoilt) {
        gpu_check(&device, device.graph_instantiate(&executable, captured, 0), "a graph");
        gpu_check(&device, device.graph_launch(executable, device.stream), "launching a graph");
    }
    gpu_check(&device, device.stream_wait(device.stream), now.name);
    if (graph && !spoilt) {
        device.graph_exec_destroy(executable);
        device.graph_destroy(captured);
    }
    if (spoilt)
        complain("run waits, allocates or loads code: it spoilt a capture (%d)", spoilt);
    if (status)
        complain("run: %s", error.text);
    gpu_download(&device, y, o->y_at, o->y_bytes);
    return !status && !spoilt;
}

static void check_guards(const operands *o, int64_t m)
{
    for (int64_t i = 0; i < o->y_bytes; i++) {
        int64_t at = i - GUARD;
        bool inside = at >= 0 && at < o->y_rows * o->y_stride && at % o->y_stride < o->y_row;
        if (!inside && o->y_host[i] != 0xff) {
            complain("M=%lld: byte %lld beside y was written", (long long)m, (long long)at);
            return;
        }
    }
}

/* The bound of narrow sums is for 256 columns. Sums that are narrow for blocks of 128 columns only,
 * as cuda_sm90_fp8's, are far better than that: 2^-9 of all magnitudes. */
static void check_blocks(const gemmux_problem *p, const gemmux_weights *w, const gemmux_args *args,
                         uint32_t liberties)
{
    gemmux_error error;
    gemmux_verification result = {0};
    if (!(liberties & GEMMUX_LIBERTY_NARROW_SUMS) || strncmp(now.name, "cuda_sm90_fp8", 13) != 0)
        return;
    liberties &= ~(uint32_t)GEMMUX_LIBERTY_NARROW_SUMS;
    gemmux_status status = gemmux_verify(p, liberties, w, args, 16, &result, &error);
    if (status && status != GEMMUX_ERROR_VERIFY)
        complain("verify: %s", error.text);
    else if (!(result.worst * (double)(p->k + 8) <= 0x1p15))
        complain("M=%lld: %.3g of the bound of f32 sums at row %lld column %lld", (long long)p->m,
                 result.worst, (long long)result.worst_row, (long long)result.worst_col);
}

static void check_product(const gemmux_plan *plan, const gemmux_problem *p, const gemmux_weights *w,
                          int64_t max_rows)
{
    operands o;
    gemmux_error error = {GEMMUX_OK, ""};
    gemmux_verification result = {0};
    const gemmux_range *ranges;
    if (make_operands(p, &o) && run_once(plan, &o, false, o.y_host)) {
        int count = gemmux_plan_ranges(plan, &ranges), at = 0;
        while (at + 1 < count && ranges[at].m_max < p->m)
            at++;
        gemmux_args args = {.x = o.x.tensor, .y = o.y_host + GUARD, .y_row_bytes = o.y_stride};
        args.expert_ids = o.ids;
        args.expert_weights = o.slot_weights;
        check_guards(&o, p->m);
        if (gemmux_verify(p, ranges[at].decision.liberties, w, &args, max_rows, &result, &error))
            complain("verify: %s", error.text);
        else if (!(result.worst <= 1.0))
            complain("M=%lld: error %.3g of the bound at row %lld column %lld, relative %.3g",
                     (long long)p->m, result.worst, (long long)result.worst_row,
                     (long long)result.worst_col, result.relative_error);
        now.worst = fmax(now.worst, result.worst);
        check_blocks(p, w, &args, ranges[at].decision.liberties);
        if (run_once(plan, &o, true, o.y_again) &&
            memcmp(o.y_host, o.y_again, (size_t)o.y_bytes) != 0)
            complain("M=%lld: a second run through a graph gave other bits", (long long)p->m);
        products++;
    }
    free_operands(&o);
}

/* ---- cases ---- */

static const int64_t all_m[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 257};
static const int64_t few_m[] = {1, 8, 16, 33, 129};
static const int64_t all_tokens[] = {1, 3, 5, 16, 33, 70, 300};
#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static gemmux_format parse(const char *text)
{
    gemmux_format format = {0};
    gemmux_error error;
    if (gemmux_format_parse(text, &format, &error)) {
        fprintf(stderr, "%s\n", error.text);
        exit(1);
    }
    return format;
}

static bool wanted(const char *kernel, const gemmux_problem *p, const char *extra)
{
    char text[128];
    snprintf(now.name, sizeof now.name, "%s %s epilogue %d%s%s", kernel,
             gemmux_problem_text(p, text, sizeof text), p->epilogue, extra ? " " : "",
             extra ? extra : "");
    return !filter || strstr(now.name, filter) || gemmux_glob_list(filter, now.name);
}

/* Spoils a few stored numbers in ways that real checkpoints can. */
typedef void (*spoiler)(gemmux_weights *w);

/* cuBLASLt adds biases of 16 bits, and refuses others (gemmux_lt_upload_bias). */
static float *draw_bias(const char *kernel, int64_t count, int64_t n)
{
    float *bias = draw_matrix(count, n, 3);
    for (int64_t i = 0; i < count * n && !strncmp(kernel, "cublaslt", 8); i++)
        bias[i] = (float)(int)(bias[i] * 16) / 16;
    return bias;
}

static void check_case(const char *kernel, const gemmux_problem *problem, const int64_t *ms,
                       int m_count, const char *extra, spoiler spoil)
{
    gemmux_problem p = *problem;
    gemmux_weights w = {0};
    gemmux_plan *plan = NULL;
    gemmux_error error = {GEMMUX_OK, ""};
    float *bias = NULL;
    p.m = ms[m_count - 1];
    if (!wanted(kernel, &p, extra))
        return;
    begin_case();
    int64_t count = p.op == GEMMUX_MOE ? p.experts : 1;
    if (quantise(count, p.n, p.k, p.w, 6, &w)) {
        if (p.epilogue & GEMMUX_EPILOGUE_BIAS)
            w.bias = bias = draw_bias(kernel, count, p.n);
        if (spoil)
            spoil(&w);
        gemmux_policy policy = {.only = kernel};
        if (gemmux_prepare(&p, &machine, &policy, NULL, &w, threads, &plan, &error))
            complain("prepare: %s", error.text);
        for (int i = 0; plan && i < m_count; i++) {
            gemmux_problem one = p;
            one.m = ms[i];
            if (!quick || (i + cases) % 6 == 0)
                check_product(plan, &one, &w, ms[i] > 64 ? 40 : 0);
        }
    }
    gemmux_plan_free(plan);
    w.bias = NULL;
    free(bias);
    gemmux_weights_free(&w);
    end_case();
}

static void spoil_nan(gemmux_weights *w)
{
    unsigned char *codes = (unsigned char *)(uintptr_t)w->tensor.codes;
    codes[5 * gemmux_row_bytes(w->tensor.format, w->tensor.cols) + 3] = 0x7f;
}

static void spoil_infinity(gemmux_weights *w)
{
    unsigned char *codes = (unsigned char *)(uintptr_t)w->tensor.codes;
    codes[5 * gemmux_row_bytes(w->tensor.format, w->tensor.cols) + 3] = 0x7c;
    codes[6 * gemmux_row_bytes(w->tensor.format, w->tensor.cols) + 70] = 0x7e;
}

/* ue8m0 scales from 2^-20 to 2^60. */
static void spoil_scales(gemmux_weights *w)
{
    unsigned char *scales = (unsigned char *)(uintptr_t)w->tensor.scales;
    int64_t count = gemmux_scale_count(w->tensor.format, w->tensor.rows, w->tensor.cols);
    for (int64_t i = 0; i < count; i++)
        scales[i] = (unsigned char)(107 + i * 7 % 80);
}

static void check_dense(const char *kernel, const char *x, const char *w, const char *y, int64_t n,
                        int64_t k, int epilogue, uint32_t liberties, const int64_t *ms, int m_count)
{
    gemmux_problem p = gemmux_problem_linear(1, n, k, parse(x), parse(w), parse(y));
    p.epilogue = (uint8_t)epilogue;
    p.liberties |= liberties;
    p.align = 16;
    check_case(kernel, &p, ms, m_count, liberties ? "rounded" : NULL, NULL);
}

static void check_moe(const char *kernel, const char *x, const char *w, int64_t n, int64_t k,
                      int experts, int top_k, int epilogue, const int64_t *tokens, int count)
{
    gemmux_problem p = gemmux_problem_linear(1, n, k, parse(x), parse(w), parse(x));
    p.op = GEMMUX_MOE;
    p.experts = experts;
    p.top_k = top_k;
    p.epilogue = (uint8_t)epilogue;
    p.align = 16;
    char extra[32];
    snprintf(extra, sizeof extra, "top %d of %d", top_k, experts);
    check_case(kernel, &p, tokens, count, extra, NULL);
}

/* ---- cuda_ref_any ---- */

static void test_reference(void)
{
    static const char *const formats[] = {
        "f32",      "f16",      "bf16",         "e4m3",     "e4m3:row",      "e4m3:block128",
        "e5m2",     "mxfp8",    "mxfp8:e5m2",   "mxfp4",    "nvfp4",         "int8",
        "int8:g32", "int4:g32", "int4:g128",    "int4:row", "int4:g64:zero", "int4:g32:min",
        "nf4",      "int4:g24", "e4m3:block48",
    };
    for (int i = 0; i < COUNT(formats); i++) {
        check_dense("cuda_ref_any", "bf16", formats[i], "f32", 67, 200, 0, 0, few_m, COUNT(few_m));
        if (strncmp(formats[i], "int4", 4) != 0 && strcmp(formats[i], "nf4") != 0 &&
            !strstr(formats[i], "block"))
            check_dense("cuda_ref_any", formats[i], "mxfp4", "bf16", 34, 72, 3, 0, few_m,
                        COUNT(few_m));
    }
    for (int e = 0; e < 16; e++)
        check_moe("cuda_ref_any", "bf16", "mxfp4", 50, 72, 5, 2, e, all_tokens, 4);
}

/* ---- cuda_sm80_upcast, cuda_sm90_upcast ---- */

/* What cuda_sm90_upcast leaves to the other: minima, and nf4's exact codebook. */
static bool takes(const char *kernel, const char *w, uint32_t liberties)
{
    bool all = strcmp(kernel, "cuda_sm90_upcast") != 0;
    return all || (!strstr(w, ":min") &&
                   (strncmp(w, "nf4", 3) != 0 || liberties & GEMMUX_LIBERTY_ROUNDED_W));
}

static const char *const upcast_formats[] = {
    "mxfp4",         "nvfp4",         "mxfp8",
    "mxfp8:e5m2",    "e4m3",          "e4m3:row",
    "e4m3:g32",      "e4m3:block128", "e5m2",
    "e5m2:g64:bf16", "int8",          "int8:tensor",
    "int8:g32",      "int8:block64",  "int4",
    "int4:g32",      "int4:row",      "int4:g64:zero",
    "int4:g32:zero", "int4:g32:min",  "int4:g128:min:f32",
    "int4:row:zero", "int4:g32:f32",  "nf4",
    "nf4:g32",       "nf4:row",
};

static void check_upcast(const char *kernel, const char *x, const char *w)
{
    const uint32_t rounded = GEMMUX_LIBERTY_ROUNDED_W;
    if (takes(kernel, w, 0)) {
        check_dense(kernel, x, w, "f32", 272, 640, 0, 0, all_m, COUNT(all_m));
        check_dense(kernel, x, w, x, 150, 328, GEMMUX_EPILOGUE_BIAS, 0, few_m, COUNT(few_m));
    }
    if (!strncmp(w, "nf4", 3)) {
        check_dense(kernel, x, w, "f32", 272, 640, 0, rounded, few_m, COUNT(few_m));
        check_dense(kernel, x, w, x, 150, 328, GEMMUX_EPILOGUE_BIAS, rounded, few_m, COUNT(few_m));
    }
}

static void test_upcast_dense(const char *kernel)
{
    for (int half = 0; half < 2; half++) {
        const char *x = half ? "f16" : "bf16";
        for (int i = 0; i <= COUNT(upcast_formats); i++)
            check_upcast(kernel, x, i == COUNT(upcast_formats) ? x : upcast_formats[i]);
        /* Shapes: one column, ragged, K under a unit, K = 0, many units (splits). */
        static const int64_t shapes[][2] = {{1, 64},    {17, 8},     {33, 0},    {255, 72},
                                            {48, 4096}, {128, 2880}, {2880, 256}};
        for (int s = 0; s < COUNT(shapes); s++) {
            check_dense(kernel, x, "mxfp4", x, shapes[s][0], shapes[s][1], 1, 0, few_m,
                        COUNT(few_m));
            check_dense(kernel, x, "int4", "f32", shapes[s][0], shapes[s][1], 1, 0, few_m,
                        COUNT(few_m));
        }
        check_dense(kernel, x, "mxfp4", x, 272, 640, 3, 0, all_m, COUNT(all_m));
        /* Many rows of x, and of w: every size of tile, several rounds of the device. */
        static const int64_t many_m[] = {300, 700};
        check_dense(kernel, x, "mxfp4", x, 1100, 136, 1, 0, many_m, COUNT(many_m));
        check_dense(kernel, x, "int4", "f32", 1100, 136, 1, 0, many_m, COUNT(many_m));
        /* So many rows of w and so short that a block of 132 has two chunks of fewer steps than
         * warps. */
        static const int64_t streamed_m[] = {1, 9};
        check_dense(kernel, x, "mxfp4", x, 34000, 136, 1, 0, streamed_m, COUNT(streamed_m));
        /* K longer than a block's warps hold of x at once: two and three passes. */
        static const int64_t held_m[] = {1, 3, 8};
        static const char *const held_w[] = {"mxfp4", "nvfp4", "int4:g32:zero", "e4m3:block128"};
        for (int i = 0; i < COUNT(held_w); i++)
            check_dense(kernel, x, held_w[i], x, 312, 8456, 1, 0, held_m, COUNT(held_m));
        check_dense(kernel, x, "nf4", x, 152, 4168, 0, GEMMUX_LIBERTY_ROUNDED_W, held_m,
                    COUNT(held_m));
    }
}

static void test_upcast_odd(const char *kernel)
{
    gemmux_problem p =
        gemmux_problem_linear(1, 64, 320, parse("bf16"), parse("e4m3"), parse("f32"));
    check_case(kernel, &p, few_m, COUNT(few_m), "with NaN", spoil_nan);
    p.w = parse("mxfp8");
    check_case(kernel, &p, few_m, COUNT(few_m), "with NaN", spoil_nan);
    p.w = parse("e5m2");
    check_case(kernel, &p, few_m, COUNT(few_m), "with infinity and NaN", spoil_infinity);
    p.x = parse("f16");
    check_case(kernel, &p, few_m, COUNT(few_m), "with infinity and NaN", spoil_infinity);
    p.x = parse("bf16");
    p.w = parse("mxfp4");
    check_case(kernel, &p, few_m, COUNT(few_m), "with wide scales", spoil_scales);
    p.w = parse("mxfp8");
    check_case(kernel, &p, few_m, COUNT(few_m), "with wide scales", spoil_scales);
    /* Columns of w in another order, as GPTQ's g_idx gives. */
    static int32_t order[320];
    for (int i = 0; i < 320; i++)
        order[i] = (i * 77 + 5) % 320;
    gemmux_weights w;
    gemmux_plan *plan = NULL;
    gemmux_error error = {GEMMUX_OK, ""};
    gemmux_policy policy = {.only = kernel};
    p.w = parse("int4:g32:zero");
    p.m = 129;
    if (!wanted(kernel, &p, "with k_order"))
        return;
    begin_case();
    if (quantise(1, p.n, p.k, p.w, 6, &w)) {
        w.tensor.k_order = order;
        if (gemmux_prepare(&p, &machine, &policy, NULL, &w, threads, &plan, &error))
            complain("prepare: %s", error.text);
        for (int i = 0; plan && i < COUNT(few_m); i++) {
            gemmux_problem one = p;
            one.m = few_m[i];
            check_product(plan, &one, &w, 0);
        }
        gemmux_plan_free(plan);
        w.tensor.k_order = NULL;
        gemmux_weights_free(&w);
    }
    end_case();
}

static void test_upcast_moe(const char *kernel)
{
    for (int e = 0; e < 16; e++)
        check_moe(kernel, "bf16", "mxfp4", 144, 192, 5, 2, e, all_tokens, COUNT(all_tokens));
    static const char *const formats[] = {"nvfp4", "mxfp8", "int4", "int4:g32:min", "nf4", "bf16"};
    for (int i = 0; i < COUNT(formats); i++)
        if (takes(kernel, formats[i], 0))
            check_moe(kernel, "bf16", formats[i], 96, 136, 8, 4, 15, all_tokens, COUNT(all_tokens));
    check_moe(kernel, "f16", "mxfp4", 96, 136, 32, 4, 15, all_tokens, COUNT(all_tokens));
    check_moe(kernel, "bf16", "mxfp4", 64, 64, 128, 8, 7, all_tokens, COUNT(all_tokens));
    check_moe(kernel, "bf16", "mxfp4", 64, 64, 1, 1, 0, all_tokens, COUNT(all_tokens));
    static const int64_t held_tokens[] = {1, 5, 13}; /* K in two passes */
    check_moe(kernel, "bf16", "mxfp4", 176, 4424, 6, 2, 15, held_tokens, COUNT(held_tokens));
}

/* ---- cuda_sm90_fp8 ---- */

static void check_fp8_moe(const char *x, const char *w, const char *y, int64_t n, int64_t k,
                          int experts, int top_k, int epilogue, const int64_t *tokens, int count)
{
    gemmux_problem p = gemmux_problem_linear(1, n, k, parse(x), parse(w), parse(y));
    p.op = GEMMUX_MOE;
    p.experts = experts;
    p.top_k = top_k;
    p.epilogue = (uint8_t)epilogue;
    p.liberties |= GEMMUX_LIBERTY_NARROW_SUMS;
    p.align = 16;
    char extra[32];
    snprintf(extra, sizeof extra, "top %d of %d", top_k, experts);
    check_case("cuda_sm90_fp8", &p, tokens, count, extra, NULL);
}

static void test_fp8(void)
{
    const char *kernel = "cuda_sm90_fp8";
    const uint32_t narrow = GEMMUX_LIBERTY_NARROW_SUMS;
    static const char *const formats[][3] = {
        {"e4m3", "e4m3", "bf16"},
        {"e4m3:row", "e4m3:row", "f32"},
        {"e4m3:g128", "e4m3:block128", "bf16"},
        {"e4m3:g128", "e4m3:row", "f16"},
        {"e4m3:row", "e4m3:block128", "f32"},
        {"e4m3:g256", "e4m3:block256", "bf16"},
    };
    static const int64_t shapes[][2] = {{1, 64}, {17, 16}, {33, 0}, {255, 80}, {48, 4096}};
    static const int64_t many_m[] = {300, 700};
    static const int64_t tokens[] = {1, 3, 5, 16, 33, 70, 300, 600};
    for (int i = 0; i < COUNT(formats); i++) {
        const char *x = formats[i][0], *w = formats[i][1], *y = formats[i][2];
        check_dense(kernel, x, w, y, 272, 640, i % 2 ? GEMMUX_EPILOGUE_BIAS : 0, narrow, all_m,
                    COUNT(all_m));
        check_dense(kernel, x, w, y, 150, 336, GEMMUX_EPILOGUE_BIAS, narrow, few_m, COUNT(few_m));
        check_dense(kernel, x, w, y, 1104, 144, 1, narrow, many_m, COUNT(many_m));
        check_dense(kernel, x, w, y, 272, 640, 3, narrow, all_m, COUNT(all_m));
    }
    for (int i = 0; i < COUNT(shapes); i++)
        for (int j = 0; j < (shapes[i][1] ? 3 : 1); j += 2)
            check_dense(kernel, formats[j][0], formats[j][1], formats[j][2], shapes[i][0],
                        shapes[i][1], 1, narrow, few_m, COUNT(few_m));
    for (int e = 0; e < 16; e++)
        check_fp8_moe("e4m3:g128", "e4m3:block128", e % 3 ? "bf16" : "f32", 144, 208, 5, 2, e,
                      tokens, COUNT(tokens));
    check_fp8_moe("e4m3:row", "e4m3:row", "bf16", 280, 640, 3, 2, 7, tokens, COUNT(tokens));
    check_fp8_moe("e4m3", "e4m3", "f16", 90, 80, 32, 4, 15, tokens, COUNT(tokens));
    check_fp8_moe("e4m3:row", "e4m3:block128", "bf16", 256, 256, 2, 1, 0, tokens, COUNT(tokens));
    gemmux_problem p =
        gemmux_problem_linear(1, 64, 320, parse("e4m3:g128"), parse("e4m3:block128"), parse("f32"));
    p.liberties |= narrow;
    check_case(kernel, &p, all_m, COUNT(all_m), "with NaN", spoil_nan);
}

/* ---- cublaslt ---- */

/* One form of one kernel: sizes that fit well, a bias whose values bf16 holds, many columns. */
typedef struct lt_form {
    const char *kernel, *x, *w, *y;
} lt_form;

static void check_lt(const lt_form *f, uint32_t liberties)
{
    check_dense(f->kernel, f->x, f->w, f->y, 272, 640, 0, liberties, all_m, COUNT(all_m));
    check_dense(f->kernel, f->x, f->w, f->y, 144, 1040, GEMMUX_EPILOGUE_BIAS, liberties, few_m,
                COUNT(few_m));
}

static void test_cublaslt(void)
{
    static const lt_form plain[] = {
        {"cublaslt_f32", "f32", "f32", "f32"},   {"cublaslt_f16", "bf16", "bf16", "bf16"},
        {"cublaslt_f16", "bf16", "bf16", "f32"}, {"cublaslt_f16", "f16", "f16", "f16"},
        {"cublaslt_f16", "f16", "f16", "f32"},
    };
    static const lt_form fp8[] = {
        {"cublaslt_fp8", "e4m3", "e4m3", "bf16"},
        {"cublaslt_fp8", "e4m3", "e5m2", "f32"},
        {"cublaslt_fp8", "e5m2", "e4m3", "f16"},
        {"cublaslt_fp8_row", "e4m3:row", "e4m3:row", "bf16"},
        {"cublaslt_fp8_row", "e4m3:row", "e4m3:row", "f32"},
        {"cublaslt_fp8_block", "e4m3:g128", "e4m3:block128", "bf16"},
        {"cublaslt_fp8_block", "e4m3:g128", "e4m3:g128", "f32"},
        {"cublaslt_fp8_padded", "e4m3", "e4m3", "bf16"},
    };
    for (int i = 0; i < COUNT(plain); i++)
        check_lt(&plain[i], 0);
    for (int i = 0; i < COUNT(fp8); i++)
        if (machine.cc == 90 || i < 3 || i == COUNT(fp8) - 1)
            check_lt(&fp8[i], GEMMUX_LIBERTY_NARROW_SUMS);
    check_dense("cublaslt_f32", "f32", "f32", "f32", 272, 640, 0, GEMMUX_LIBERTY_TF32, all_m,
                COUNT(all_m));
}

/* What it refuses it explains, to us and to nobody else. */
static void test_cublaslt_words(void)
{
    static const char *const words = "Unsupported M dimension for FP8 matrix multiplication";
    gemmux_lt lt;
    gemmux_lt_matmul matmul = {0};
    gemmux_error error = {GEMMUX_OK, ""};
    const gemmux_lt_shape shape = {.x = GEMMUX_LT_E4M3,
                                   .w = GEMMUX_LT_E4M3,
                                   .y = GEMMUX_LT_BF16,
                                   .compute = GEMMUX_LT_COMPUTE_F32,
                                   .n = 7,
                                   .k = 64,
                                   .w_stride = 64,
                                   .scaled = true};
    snprintf(now.name, sizeof now.name, "cublaslt says why it refuses N = 7 in fp8");
    if (machine.cc < 89 || (filter && !strstr(now.name, filter)))
        return;
    begin_case();
    if (gemmux_lt_open(&lt, machine.library[GEMMUX_LIB_CUBLASLT].path, &error) ||
        gemmux_lt_matmul_create(&lt, &shape, &matmul, &error))
        complain("%s", error.text);
    else if (!gemmux_lt_choose(&lt, &matmul, 16, 64, 7, &error))
        complain("it has an algorithm for N = 7");
    else if (!strstr(error.text, words))
        complain("not in its own words: %s", error.text);
    if (lt.handle) {
        gemmux_lt_matmul_free(&lt, &matmul);
        gemmux_lt_close(&lt);
    }
    end_case();
}

/* Sizes that the library refuses, scales of ours, and scales in its tiles. */
static void test_cublaslt_staged(void)
{
    static const char *const int8[][3] = {{"int8", "int8", "bf16"},
                                          {"int8:tensor", "int8", "f32"},
                                          {"int8", "int8:tensor", "f16"},
                                          {"int8:tensor", "int8:tensor", "f32"}};
    for (int i = 0; i < COUNT(int8); i++) {
        lt_form f = {"cublaslt_int8", int8[i][0], int8[i][1], int8[i][2]};
        check_lt(&f, 0);
        check_dense(f.kernel, f.x, f.w, f.y, 36, 100, 1, 0, few_m, COUNT(few_m));
    }
    static const char *const padded[][3] = {{"f32", "f32", "f32"},    {"bf16", "bf16", "bf16"},
                                            {"f16", "f16", "f32"},    {"int8", "int8", "bf16"},
                                            {"e4m3", "e4m3", "bf16"}, {"e5m2", "e4m3", "f32"}};
    static const int64_t shapes[][2] = {{7, 4096}, {33, 77}, {250, 72}, {1, 1}, {64, 1000}};
    for (int i = 0; i < COUNT(padded); i++)
        for (int s = 0; s < COUNT(shapes); s++) {
            bool fp8 = padded[i][0][0] == 'e';
            check_dense(fp8 ? "cublaslt_fp8_padded" : "cublaslt_padded", padded[i][0], padded[i][1],
                        padded[i][2], shapes[s][0], shapes[s][1], s % 2,
                        fp8 ? GEMMUX_LIBERTY_NARROW_SUMS : 0, few_m, COUNT(few_m));
        }
    static const int64_t many[] = {1500}; /* rows that are staged in three parts */
    if (!strstr(machine.name, "emulates"))
        check_dense("cublaslt_int8", "int8", "int8", "bf16", 16384, 64, 0, 0, many, 1);
    if (machine.cc == 90) {
        check_dense("cublaslt_fp8_block", "e4m3:g128", "e4m3:block128", "bf16", 200, 328, 0,
                    GEMMUX_LIBERTY_NARROW_SUMS, all_m, COUNT(all_m));
        check_dense("cublaslt_fp8_block", "e4m3:g128", "e4m3:g128", "f16", 77, 576, 1,
                    GEMMUX_LIBERTY_NARROW_SUMS, few_m, COUNT(few_m));
    }
    if (machine.cc < 100)
        return;
    static const char *const tiled[][4] = {{"cublaslt_mxfp8", "mxfp8", "mxfp8", "bf16"},
                                           {"cublaslt_mxfp8", "mxfp8:e5m2", "mxfp8", "f32"},
                                           {"cublaslt_nvfp4", "nvfp4", "nvfp4", "bf16"}};
    for (int i = 0; i < COUNT(tiled); i++) {
        lt_form f = {tiled[i][0], tiled[i][1], tiled[i][2], tiled[i][3]};
        check_lt(&f, GEMMUX_LIBERTY_NARROW_SUMS);
        check_dense(f.kernel, f.x, f.w, f.y, 77, 200, 1, GEMMUX_LIBERTY_NARROW_SUMS, few_m,
                    COUNT(few_m));
    }
}

/* Scales of one row that put weights beyond f16: the refusal names the rows. */
static void test_dequant_refusal(void)
{
    static const char *const formats[] = {"int8:row",     "e4m3:row", "int4:g128",
                                          "int4:g32:min", "nf4",      "int4:tensor:f32"};
    for (int i = 0; i < COUNT(formats); i++)
        for (int large = 0; large < 2; large++) {
            gemmux_weights w = {0};
            gemmux_plan *plan = NULL;
            gemmux_error error = {GEMMUX_OK, ""};
            gemmux_policy policy = {.only = "cublaslt_dequant"};
            gemmux_problem p =
                gemmux_problem_linear(8, 64, 256, parse("f16"), parse(formats[i]), parse("f32"));
            p.liberties |= GEMMUX_LIBERTY_ROUNDED_W;
            snprintf(now.name, sizeof now.name, "cublaslt_dequant f16 x %s with %s scales",
                     formats[i], large ? "large" : "small");
            if (filter && !strstr(now.name, filter))
                continue;
            begin_case();
            if (quantise(1, p.n, p.k, p.w, 6, &w)) {
                int64_t row = gemmux_scale_count(p.w, p.n, p.k) / p.n;
                char *scales = (char *)(uintptr_t)w.tensor.scales;
                gemmux_code code = (gemmux_code)p.w.scale;
                double most = code == GEMMUX_CODE_F16 ? 16384 : 65536;
                uint32_t bits = gemmux_code_encode(code, large ? most : 0.25);
                memcpy(scales + 37 * row * gemmux_scale_bytes(p.w), &bits,
                       (size_t)gemmux_scale_bytes(p.w));
                gemmux_status status =
                    gemmux_prepare(&p, &machine, &policy, NULL, &w, threads, &plan, &error);
                if (large != (status != GEMMUX_OK))
                    complain("prepared: %s", error.text);
                const char *rows = row ? "rows 32 to 47" : "rows 0 to 15"; /* row 0: one of all */
                if (large && (!strstr(error.text, rows) || !strstr(error.text, "65504")))
                    complain("it does not say which rows: %s", error.text);
            }
            gemmux_plan_free(plan);
            gemmux_weights_free(&w);
            end_case();
        }
}

static void test_cublaslt_dequant(void)
{
    const char *kernel = "cublaslt_dequant";
    for (int half = 0; half < 2; half++) {
        const char *x = half ? "f16" : "bf16";
        for (int i = 0; i < COUNT(upcast_formats); i++) {
            const char *w = upcast_formats[i];
            bool micro = !strncmp(w, "mx", 2) || !strcmp(w, "nvfp4");
            uint32_t liberties = micro ? 0 : GEMMUX_LIBERTY_ROUNDED_W;
            if (!strcmp(w, "int8:tensor") || !strcmp(w, "e4m3"))
                liberties = 0;
            if (half && (!strncmp(w, "mx", 2) || !strncmp(w, "e5m2", 4)))
                continue; /* f16 does not hold them */
            check_dense(kernel, x, w, "f32", 272, 640, 0, liberties, few_m, COUNT(few_m));
            check_dense(kernel, x, w, x, 152, 328, GEMMUX_EPILOGUE_BIAS, liberties, few_m,
                        COUNT(few_m));
        }
    }
    static const int64_t some[] = {8}; /* with so much of w that it is decoded in two parts */
    if (!strstr(machine.name, "emulates"))
        check_dense(kernel, "bf16", "mxfp4", "bf16", 5192, 16384, 1, 0, some, 1);
    gemmux_problem p =
        gemmux_problem_linear(1, 64, 320, parse("bf16"), parse("e4m3"), parse("f32"));
    check_case(kernel, &p, few_m, COUNT(few_m), "with NaN", spoil_nan);
    p.w = parse("mxfp8");
    check_case(kernel, &p, few_m, COUNT(few_m), "with NaN", spoil_nan);
    p.w = parse("mxfp4");
    check_case(kernel, &p, few_m, COUNT(few_m), "with wide scales", spoil_scales);
}

static const char *const upcast_kernels[] = {"cuda_sm80_upcast", "cuda_sm90_upcast"};

int main(int argc, char **argv)
{
    gemmux_error error;
    quick = argc > 1 && !strcmp(argv[1], "--quick");
    argc -= quick;
    argv += quick;
    if (argc < 2) {
        fprintf(stderr, "usage: gpu_kernels [--quick] OUT.xml [FILTER]\n");
        return 2;
    }
    filter = argc > 2 ? argv[2] : NULL;
    gpu_open(&device);
    if (gemmux_machine_find("cuda:0", &machine, &error) ||
        gemmux_threads_create(0, &threads, &error)) {
        fprintf(stderr, "FATAL %s\n", error.text);
        return 1;
    }
    xml = fopen(argv[1], "w");
    if (!xml) {
        perror(argv[1]);
        return 1;
    }
    /* Keeps the device code loaded between plans. */
    static const char *const kept_images[] = {"cuda_ref_any",     "cuda_sm80_upcast",
                                              "cuda_sm90_upcast", "cuda_sm90_fp8",
                                              "cuda_sm80_stage",  "cuda_sm80_dequant"};
    gemmux_cu_module kept;
    for (int i = 0; i < COUNT(kept_images); i++)
        gemmux_cuda_module_take(&device.device, kept_images[i], &kept, NULL);
    double start = seconds();
    fprintf(xml, "<?xml version=\"1.0\"?>\n<testsuite name=\"gpu_kernels\">\n");
    for (int i = 0; i < COUNT(upcast_kernels); i++) {
        test_upcast_dense(upcast_kernels[i]);
        test_upcast_odd(upcast_kernels[i]);
        test_upcast_moe(upcast_kernels[i]);
    }
    if (machine.cc == 90)
        test_fp8();
    test_reference();
    if (machine.library[GEMMUX_LIB_CUBLASLT].present) {
        test_cublaslt();
        test_cublaslt_words();
        test_cublaslt_staged();
        test_cublaslt_dequant();
        test_dequant_refusal();
    } else {
        printf("cublaslt: not tested, the library is not here: %s\n",
               machine.library[GEMMUX_LIB_CUBLASLT].note);
    }
    fprintf(xml, "</testsuite>\n");
    fclose(xml);
    printf("gpu_kernels on %s: %d cases, %d failed; %d products in %.1f s\n", machine.name, cases,
           failed_cases, products, seconds() - start);
    return failed_cases ? 1 : cases ? 0 : 2;
}
