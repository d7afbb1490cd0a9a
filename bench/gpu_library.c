/* SPDX-License-Identifier: Apache-2.0
 *
 * Kernels that multiply through a library, timed as gpu_bench.c times ours: inside CUDA graphs, on
 * random data, weights rotated past the L2 cache where M is small, median of repeated launches;
 * bench/peers/gpu_peers.py times the library itself in the same way. At the end what a call costs
 * the host: gemmux_run beside the library's own entry point, for a product that costs the device
 * nothing.
 *
 *     gpu_library [--dry] OUT.json [FILTER]
 *
 * FILTER: only cases whose kernel, formats or size contain it. --dry: shapes a sixteenth as wide
 * and deep and at most 64 rows, to see that it runs; its times mean nothing.
 */
#include "gpu_device.h"
#include "timing.h"

#include "driver/blaslt.h"
#include "format.h"
#include "kernel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool dry;
enum { MAX_COPIES = 24, SAMPLES = 11 };
#define ROTATE_BYTES ((dry ? INT64_C(2) : INT64_C(200)) << 20)
#define X_BYTES      (INT64_C(4) << 20) /* of random data; larger operands repeat it */

static gpu device;
static gemmux_machine machine;
static gemmux_threads *threads;
static FILE *out;
static int written;

typedef struct library_case {
    const char *kernel, *x, *w, *y;
    int64_t n, k;
    int epilogue;
    uint32_t liberties;
    int64_t m[10]; /* ends with 0 */
} library_case;

#define NARROW  GEMMUX_LIBERTY_NARROW_SUMS
#define ROUNDED GEMMUX_LIBERTY_ROUNDED_W
#define LARGE_M                                                                                    \
    {                                                                                              \
        16, 256, 2048, 8192, 0                                                                     \
    }
static const library_case cases[] = {
    {"cublaslt_f16", "bf16", "bf16", "bf16", 14336, 4096, 0, 0, {1, 4, 16, 64, 256, 2048, 8192, 0}},
    {"cublaslt_f16", "bf16", "bf16", "bf16", 8192, 8192, 0, 0, {1, 16, 256, 2048, 8192, 0}},
    {"cublaslt_f16", "bf16", "bf16", "bf16", 4096, 4096, 0, 0, {1, 16, 256, 2048, 0}},
    {"cublaslt_f16", "bf16", "bf16", "bf16", 2880, 2880, 0, 0, {1, 16, 2048, 0}},
    {"cublaslt_f16", "bf16", "bf16", "bf16", 4096, 4096, 1, 0, {16, 2048, 0}},
    {"cublaslt_f32", "f32", "f32", "f32", 4096, 4096, 0, GEMMUX_LIBERTY_TF32, {16, 2048, 0}},
    {"cublaslt_fp8", "e4m3", "e4m3", "bf16", 14336, 4096, 0, NARROW, LARGE_M},
    {"cublaslt_fp8", "e4m3", "e4m3", "bf16", 8192, 8192, 0, NARROW, LARGE_M},
    {"cublaslt_fp8_row", "e4m3:row", "e4m3:row", "bf16", 14336, 4096, 0, NARROW, LARGE_M},
    {"cublaslt_fp8_block", "e4m3:g128", "e4m3:block128", "bf16", 14336, 4096, 0, NARROW, LARGE_M},
    {"cublaslt_fp8_block", "e4m3:g128", "e4m3:block128", "bf16", 8192, 8192, 0, NARROW, LARGE_M},
    {"cublaslt_int8", "int8", "int8", "bf16", 14336, 4096, 0, 0, LARGE_M},
    {"cublaslt_int8", "int8", "int8", "bf16", 4096, 4096, 0, 0, {256, 2048, 0}},
    {"cublaslt_int8", "int8", "int8", "bf16", 8192, 8192, 0, 0, {8192, 0}},
    {"cublaslt_dequant",
     "bf16",
     "mxfp4",
     "bf16",
     14336,
     4096,
     0,
     0,
     {64, 256, 512, 1024, 2048, 8192, 0}},
    {"cublaslt_dequant", "bf16", "nvfp4", "bf16", 14336, 4096, 0, 0, {256, 2048, 8192, 0}},
    {"cublaslt_dequant", "bf16", "mxfp8", "bf16", 14336, 4096, 0, 0, {2048, 0}},
    {"cublaslt_dequant", "bf16", "e4m3:block128", "bf16", 14336, 4096, 0, ROUNDED, {2048, 0}},
    {"cublaslt_dequant", "bf16", "int8", "bf16", 14336, 4096, 0, ROUNDED, {2048, 0}},
    {"cublaslt_dequant", "bf16", "int4", "bf16", 14336, 4096, 0, ROUNDED, {256, 2048, 8192, 0}},
    {"cublaslt_dequant", "bf16", "nf4", "bf16", 14336, 4096, 0, ROUNDED, {256, 2048, 8192, 0}},
    {"cublaslt_dequant", "bf16", "mxfp4", "bf16", 2880, 2880, 0, 0, {256, 2048, 0}},
    {"cublaslt_padded", "bf16", "bf16", "bf16", 14330, 4090, 0, 0, {16, 2048, 0}},
    {"cublaslt_fp8_padded", "e4m3", "e4m3", "bf16", 14330, 4090, 0, NARROW, {16, 2048, 0}},
};

static uint64_t seed = 99;

static uint64_t draw(void)
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return seed * UINT64_C(2685821657736338717);
}

/* ---- operands ---- */

/* Eight bytes of random codes: floats near 1/4, no NaN. */
static uint64_t draw_codes(gemmux_format f)
{
    switch (f.element) {
    case GEMMUX_CODE_F32:
        return (draw() & UINT64_C(0x807fffff807fffff)) | UINT64_C(0x3e8000003e800000);
    case GEMMUX_CODE_BF16:
        return (draw() & UINT64_C(0x807f807f807f807f)) | UINT64_C(0x3e803e803e803e80);
    case GEMMUX_CODE_F16:
        return (draw() & UINT64_C(0x83ff83ff83ff83ff)) | UINT64_C(0x3400340034003400);
    case GEMMUX_CODE_E4M3:
        return draw() & UINT64_C(0xbfbfbfbfbfbfbfbf);
    default:
        return draw();
    }
}

static void fill_scales(gemmux_format f, unsigned char *scales, int64_t count)
{
    int each = gemmux_code_bits((gemmux_code)f.scale) / 8;
    for (int64_t i = 0; i < count; i++) {
        float value = 0.01f + 0.0001f * (float)(draw() >> 40 & 63);
        uint32_t bits = f.scale == GEMMUX_CODE_UE8M0 ? 118 + (uint32_t)(draw() >> 61)
                        : f.scale == GEMMUX_CODE_UE4M3
                            ? 0x28 + (uint32_t)(draw() >> 60)
                            : gemmux_code_encode((gemmux_code)f.scale, (double)value);
        memcpy(scales + i * each, &bits, (size_t)each);
    }
}

static void make_tensor(gemmux_format f, int64_t rows, int64_t cols, gemmux_tensor *t)
{
    int64_t codes = rows * gemmux_row_bytes(f, cols), scales = gemmux_scale_count(f, rows, cols);
    uint64_t *at = malloc((size_t)codes + 8);
    for (int64_t i = 0; i < (codes + 7) / 8; i++)
        at[i] = i * 8 < X_BYTES ? draw_codes(f) : at[i - X_BYTES / 8 + 1];
    *t = (gemmux_tensor){.format = f, .count = 1, .rows = rows, .cols = cols, .codes = at};
    if (scales) {
        unsigned char *s = malloc((size_t)scales * 4);
        fill_scales(f, s, scales);
        t->scales = s;
    }
}

static void drop_tensor(gemmux_tensor *t)
{
    free((void *)(uintptr_t)t->codes);
    free((void *)(uintptr_t)t->scales);
}

/* ---- timing ---- */

typedef struct runner {
    gemmux_plan *plans[MAX_COPIES];
    int copies;
    gemmux_args args;
} runner;

static void launch(void *context, int i)
{
    const runner *r = context;
    gemmux_error error;
    if (gemmux_run(r->plans[i % r->copies], &r->args, &error)) {
        fprintf(stderr, "FATAL %s\n", error.text);
        exit(1);
    }
}

/* ---- one case ---- */

static void report(const library_case *c, const gemmux_problem *p, double us)
{
    double tflops = 2 * (double)p->m * (double)p->n * (double)p->k / us / 1e6;
    fprintf(out,
            "%s\n{\"kernel\":\"%s\",\"case\":\"%lldx%lld\",\"x\":\"%s\",\"w\":\"%s\",\"bias\":%s,"
            "\"m\":%lld,\"n\":%lld,\"k\":%lld,\"us\":%.3f,\"tflops\":%.1f}",
            written++ ? "," : "", c->kernel, (long long)c->n, (long long)c->k, c->x, c->w,
            c->epilogue ? "true" : "false", (long long)p->m, (long long)p->n, (long long)p->k, us,
            tflops);
    printf("%-18s %5lldx%-5lld %-9s x %-13s%s M=%-5lld %9.2f us %7.1f TFLOP/s\n", c->kernel,
           (long long)c->n, (long long)c->k, c->x, c->w, c->epilogue ? " + bias" : "",
           (long long)p->m, us, tflops);
    fflush(stdout);
}

static gemmux_problem problem_of(const library_case *c, int64_t *largest)
{
    gemmux_format x, w, y;
    gemmux_error error;
    if (gemmux_format_parse(c->x, &x, &error) || gemmux_format_parse(c->w, &w, &error) ||
        gemmux_format_parse(c->y, &y, &error)) {
        fprintf(stderr, "FATAL %s\n", error.text);
        exit(1);
    }
    *largest = 1;
    for (int i = 0; c->m[i] && (!dry || c->m[i] <= 64); i++)
        *largest = c->m[i];
    int64_t n = dry ? c->n / 16 / 16 * 16 : c->n, k = dry ? c->k / 16 / 32 * 32 : c->k;
    gemmux_problem p = gemmux_problem_linear(*largest, n, k, x, w, y);
    p.liberties |= c->liberties;
    p.epilogue = (uint8_t)c->epilogue;
    p.align = 16;
    return p;
}

static void prepare(const library_case *c, const gemmux_problem *p, runner *r)
{
    gemmux_error error;
    gemmux_weights w = {0};
    gemmux_policy policy = {.only = c->kernel};
    make_tensor(p->w, p->n, p->k, &w.tensor);
    float *bias = calloc((size_t)p->n, 4);
    for (int64_t i = 0; i < p->n; i++)
        bias[i] = (float)(i % 16) / 16;
    w.bias = bias;
    int64_t bytes = gemmux_stored_bytes(p->w, 1, p->n, p->k);
    bool small = c->m[0] <= 64;
    r->copies = small ? (int)(ROTATE_BYTES / bytes + 1) : 1;
    r->copies = dry ? 2 : r->copies < MAX_COPIES ? r->copies : MAX_COPIES;
    for (int i = 0; i < r->copies; i++)
        if (gemmux_prepare(p, &machine, &policy, NULL, &w, threads, &r->plans[i], &error)) {
            printf("%s: %s\n", c->kernel, error.text);
            r->copies = i;
        }
    drop_tensor(&w.tensor);
    free(bias);
}

static void bench_one(const library_case *c)
{
    int64_t largest;
    gemmux_problem p = problem_of(c, &largest);
    runner r = {0};
    gemmux_tensor x;
    void *scales = NULL;
    prepare(c, &p, &r);
    make_tensor(p.x, largest, p.k, &x);
    int64_t row = (gemmux_row_bytes(p.x, p.k) + 15) / 16 * 16;
    void *x_at = gpu_allocate(&device, largest * row);
    void *y_at = gpu_allocate(&device, largest * ((p.n + 15) / 16 * 16) * 4);
    gpu_upload(&device, x_at, x.codes, largest * gemmux_row_bytes(p.x, p.k));
    int64_t scale_bytes =
        gemmux_scale_count(p.x, largest, p.k) * (x.scales ? gemmux_scale_bytes(p.x) : 0);
    if (scale_bytes) {
        scales = gpu_allocate(&device, scale_bytes);
        gpu_upload(&device, scales, x.scales, scale_bytes);
    }
    for (int i = 0; r.copies && c->m[i] && c->m[i] <= largest; i++) {
        p.m = c->m[i];
        r.args = (gemmux_args){
            .x = {.format = p.x, .count = 1, .rows = p.m, .cols = p.k, .codes = x_at},
            .y = y_at,
            .stream = device.stream,
        };
        r.args.x.scales = scales;
        int copies = r.copies;
        r.copies = p.m <= 64 ? copies : 1;
        int count = dry ? 2 : r.copies > 8 ? r.copies : p.m > 1024 ? 4 : 8;
        launch(&r, 0);
        gpu_check(&device, device.stream_wait(device.stream), "a first launch");
        report(c, &p, gpu_time_graph(&device, launch, &r, count, dry));
        r.copies = copies;
    }
    for (int i = 0; i < MAX_COPIES; i++)
        gemmux_plan_free(r.plans[i]);
    gpu_free(&device, x_at);
    gpu_free(&device, y_at);
    gpu_free(&device, scales);
    drop_tensor(&x);
}

/* ---- what a call costs the host ---- */

static double median_call(void (*call)(void *context), void *context)
{
    double samples[SAMPLES];
    int calls = dry ? 1 : 400, taken = dry ? 1 : SAMPLES;
    for (int s = 0; s < taken; s++) {
        double start = now_us();
        for (int i = 0; i < calls; i++)
            call(context);
        samples[s] = (now_us() - start) / calls;
        gpu_check(&device, device.stream_wait(device.stream), "host calls");
    }
    return median(samples, taken);
}

static void call_gemmux(void *context)
{
    launch(context, 0);
}

typedef struct raw_call {
    gemmux_lt lt;
    gemmux_lt_matmul matmul;
    gemmux_lt_operands operands;
} raw_call;

static void call_library(void *context)
{
    raw_call *c = context;
    gemmux_error error;
    if (gemmux_lt_run(&c->lt, &c->matmul, &c->operands, &error)) {
        fprintf(stderr, "FATAL %s\n", error.text);
        exit(1);
    }
}

static void bench_host(void)
{
    static const library_case tiny = {"cublaslt_f16", "bf16", "bf16", "bf16", 64, 64, 0, 0,
                                      {64, 0}};
    int64_t largest;
    bool was_dry = dry;
    dry = false;
    gemmux_problem p = problem_of(&tiny, &largest);
    dry = was_dry;
    runner r = {0};
    prepare(&tiny, &p, &r);
    r.copies = r.copies ? 1 : 0;
    if (!r.copies)
        return;
    void *x = gpu_allocate(&device, 64 * 64 * 2), *y = gpu_allocate(&device, 64 * 64 * 2);
    void *w = gpu_allocate(&device, 64 * 64 * 2), *workspace = gpu_allocate(&device, 32 << 20);
    gpu_fill(&device, x, 0, 64 * 64 * 2);
    gpu_fill(&device, w, 0, 64 * 64 * 2);
    r.args = (gemmux_args){.x = {.format = p.x, .count = 1, .rows = 64, .cols = 64, .codes = x},
                           .y = y,
                           .stream = device.stream};
    raw_call raw = {
        .operands = {.x = x, .w = w, .y = y, .workspace = workspace, .stream = device.stream}};
    const gemmux_lt_shape shape = {.x = GEMMUX_LT_BF16,
                                   .w = GEMMUX_LT_BF16,
                                   .y = GEMMUX_LT_BF16,
                                   .compute = GEMMUX_LT_COMPUTE_F32,
                                   .n = 64,
                                   .k = 64,
                                   .w_stride = 64,
                                   .workspace_bytes = 32 << 20};
    gemmux_error error;
    if (gemmux_lt_open(&raw.lt, machine.library[GEMMUX_LIB_CUBLASLT].path, &error) ||
        gemmux_lt_matmul_create(&raw.lt, &shape, &raw.matmul, &error) ||
        gemmux_lt_choose(&raw.lt, &raw.matmul, 64, 64, 64, &error)) {
        printf("host: %s\n", error.text);
        return;
    }
    median_call(call_library, &raw);
    double library_us = median_call(call_library, &raw), ours_us = median_call(call_gemmux, &r);
    printf("host: cublasLtMatmul %.2f us a call, gemmux_run %.2f us, %.2f us more\n", library_us,
           ours_us, ours_us - library_us);
    fprintf(out, "%s\n{\"host_library_us\":%.3f,\"host_us\":%.3f}", written++ ? "," : "",
            library_us, ours_us);
    gemmux_lt_matmul_free(&raw.lt, &raw.matmul);
    gemmux_lt_close(&raw.lt);
    for (int i = 0; i < MAX_COPIES; i++)
        gemmux_plan_free(r.plans[i]);
    gpu_free(&device, x);
    gpu_free(&device, y);
    gpu_free(&device, w);
    gpu_free(&device, workspace);
}

int main(int argc, char **argv)
{
    gemmux_error error;
    dry = argc > 1 && !strcmp(argv[1], "--dry");
    argc -= dry;
    argv += dry;
    if (argc < 2) {
        fprintf(stderr, "usage: gpu_library [--dry] OUT.json [FILTER]\n");
        return 2;
    }
    gpu_open(&device);
    if (gemmux_machine_find("cuda:0", &machine, &error) ||
        gemmux_threads_create(0, &threads, &error)) {
        fprintf(stderr, "FATAL %s\n", error.text);
        return 1;
    }
    const gemmux_library *library = &machine.library[GEMMUX_LIB_CUBLASLT];
    if (!library->present) {
        printf("gpu_library: nothing to time, cublaslt is not here: %s\n", library->note);
        return 0;
    }
    printf("cublaslt %d from %s\n", library->version, library->path);
    out = fopen(argv[1], "w");
    if (!out) {
        perror(argv[1]);
        return 1;
    }
    fprintf(out, "[");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char name[128];
        snprintf(name, sizeof name, "%s %lldx%lld %s x %s", cases[i].kernel, (long long)cases[i].n,
                 (long long)cases[i].k, cases[i].x, cases[i].w);
        if (argc < 3 || strstr(name, argv[2]))
            bench_one(&cases[i]);
    }
    bench_host();
    fprintf(out, "\n]\n");
    fclose(out);
    return 0;
}
