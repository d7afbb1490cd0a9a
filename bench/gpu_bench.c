/* SPDX-License-Identifier: Apache-2.0
 *
 * CUDA kernels timed inside CUDA graphs: random data, weights (or for few tokens of a mixture the
 * experts chosen) rotated past the L2 cache where M is small, median of repeated launches. Beside
 * each stands what a plain read of the same bytes takes in one launch, in the same run.
 *
 *     gpu_bench [--dry] OUT.json [FILTER [KERNEL [LARGEST]]]
 *
 * FILTER: only cases whose name and format contain it. KERNEL: all that this GPU runs unless named.
 * LARGEST: no more rows or tokens than that.
 * --dry: shapes a sixteenth as wide and deep and at most 64 rows, to see that it runs; its times
 * mean nothing.
 */
#include "gpu_device.h"

#include "format.h"
#include "kernel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool dry;
static int64_t most_rows = INT64_MAX;
static const char *kernel;
static const char *const kernels[] = {"cuda_sm80_upcast", "cuda_sm90_upcast", "cuda_sm90_fp8"};
enum { MAX_COPIES = 24 };
#define ROTATE_BYTES ((dry ? INT64_C(2) : INT64_C(200)) << 20)

static gpu device;
static gemmux_machine machine;
static gemmux_threads *threads;
static gemmux_cu_function read_kernel;
static void *read_buffer, *sink;
static FILE *out;
static int written;

typedef struct bench_case {
    const char *label, *x, *w;
    int64_t n, k;
    int experts, top_k, epilogue;
    uint32_t liberties;
    int64_t m[10]; /* ends with 0 */
} bench_case;

#define SMALL_M                                                                                    \
    {                                                                                              \
        1, 2, 4, 8, 16, 32, 64, 256, 0                                                             \
    }
#define ALL_M                                                                                      \
    {                                                                                              \
        1, 4, 8, 16, 32, 64, 256, 2048, 8192, 0                                                    \
    }
#define FP8_M                                                                                      \
    {                                                                                              \
        1, 16, 64, 128, 256, 512, 2048, 8192, 0                                                    \
    }
#define NARROW GEMMUX_LIBERTY_NARROW_SUMS
static const bench_case bench_cases[] = {
    {"14336x4096", "bf16", "mxfp4", 14336, 4096, 0, 0, 0, 0, ALL_M},
    {"14336x4096", "bf16", "nvfp4", 14336, 4096, 0, 0, 0, 0, ALL_M},
    {"14336x4096", "bf16", "int4", 14336, 4096, 0, 0, 0, 0, ALL_M},
    {"14336x4096", "bf16", "nf4", 14336, 4096, 0, 0, 0, GEMMUX_LIBERTY_ROUNDED_W, SMALL_M},
    {"14336x4096", "bf16", "nf4", 14336, 4096, 0, 0, 0, 0, {1, 8, 16, 256, 0}},
    {"14336x4096", "bf16", "e4m3:block128", 14336, 4096, 0, 0, 0, 0, ALL_M},
    {"14336x4096", "bf16", "int8", 14336, 4096, 0, 0, 0, 0, {1, 16, 2048, 0}},
    {"14336x4096", "bf16", "bf16", 14336, 4096, 0, 0, 0, 0, ALL_M},
    {"8192x8192", "bf16", "mxfp4", 8192, 8192, 0, 0, 0, 0, SMALL_M},
    {"8192x8192", "bf16", "nvfp4", 8192, 8192, 0, 0, 0, 0, SMALL_M},
    {"8192x8192", "bf16", "int4", 8192, 8192, 0, 0, 0, 0, SMALL_M},
    {"8192x8192", "bf16", "nf4", 8192, 8192, 0, 0, 0, GEMMUX_LIBERTY_ROUNDED_W, SMALL_M},
    {"2880x2880", "bf16", "mxfp4", 2880, 2880, 0, 0, 0, 0, {1, 16, 64, 2048, 0}},
    {"4096x4096", "f16", "mxfp4", 4096, 4096, 0, 0, 0, 0, {1, 16, 64, 2048, 0}},
    {"moe 5760x2880 gate_up",
     "bf16",
     "mxfp4",
     5760,
     2880,
     32,
     4,
     7,
     0,
     {1, 2, 4, 8, 32, 128, 512, 2048, 8192, 0}},
    {"moe 2880x2880 down", "bf16", "mxfp4", 2880, 2880, 32, 4, 9, 0, {1, 8, 32, 512, 2048, 0}},
    /* For kernels with fp8 in their names. */
    {"14336x4096", "e4m3", "e4m3", 14336, 4096, 0, 0, 0, NARROW, FP8_M},
    {"14336x4096", "e4m3:row", "e4m3:row", 14336, 4096, 0, 0, 0, NARROW, FP8_M},
    {"14336x4096", "e4m3:g128", "e4m3:block128", 14336, 4096, 0, 0, 0, NARROW, FP8_M},
    {"8192x8192", "e4m3", "e4m3", 8192, 8192, 0, 0, 0, NARROW, FP8_M},
    {"8192x8192", "e4m3:g128", "e4m3:block128", 8192, 8192, 0, 0, 0, NARROW, FP8_M},
    {"4096x4096",
     "e4m3:g128",
     "e4m3:block128",
     4096,
     4096,
     0,
     0,
     0,
     NARROW,
     {1, 16, 64, 256, 2048, 0}},
    {"moe 5760x2880 gate_up",
     "e4m3:g128",
     "e4m3:block128",
     5760,
     2880,
     32,
     4,
     7,
     NARROW,
     {1, 8, 32, 128, 512, 2048, 8192, 0}},
    {"moe 2880x2880 down",
     "e4m3:g128",
     "e4m3:block128",
     2880,
     2880,
     32,
     4,
     9,
     NARROW,
     {1, 8, 32, 512, 2048, 0}},
};

static uint64_t seed = 99;

static uint64_t draw(void)
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return seed * UINT64_C(2685821657736338717);
}

/* ---- timing ---- */

typedef struct read_context {
    int64_t bytes;
    unsigned blocks;
} read_context;

static void launch_read(void *context, int i)
{
    const read_context *c = context;
    int64_t windows = 2 * ROTATE_BYTES / (c->bytes > 0 ? c->bytes : 1);
    windows = windows > 0 ? windows : 1;
    void *from = (char *)read_buffer + i % windows * (c->bytes / 16 * 16);
    unsigned long long count = (unsigned long long)(c->bytes / 16);
    void *list[] = {&from, &count, &sink};
    const gemmux_cu_launch_config config = {
        .grid = {c->blocks, 1, 1}, .block = {512, 1, 1}, .stream = device.stream};
    gpu_check(&device, device.device.cuda.launch(&config, read_kernel, list, NULL), "reading");
}

/* The best grid of three: a floor should not suffer from a poor one. */
static double read_floor(int64_t bytes)
{
    double best = 0;
    if (bytes > 2 * ROTATE_BYTES)
        return 0;
    for (unsigned each = 1; each <= 4; each *= 2) {
        read_context c = {bytes, (unsigned)machine.cores * each};
        double us = gpu_time_graph(&device, launch_read, &c, dry ? 1 : 20, dry);
        if (best == 0 || us < best)
            best = us;
    }
    return best;
}

/* ---- operands ---- */

static void fill_scales(gemmux_format f, void *scales, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits = (uint32_t)(draw() >> 40);
        float value = 0.01f + 0.0001f * (float)(bits % 100);
        switch (f.scale) {
        case GEMMUX_CODE_UE8M0:
            ((uint8_t *)scales)[i] = (uint8_t)(118 + bits % 8);
            break;
        case GEMMUX_CODE_UE4M3:
            ((uint8_t *)scales)[i] = (uint8_t)(0x28 + bits % 24);
            break;
        case GEMMUX_CODE_F32:
            ((float *)scales)[i] = value;
            break;
        default:
            ((uint16_t *)scales)[i] =
                (uint16_t)gemmux_code_encode((gemmux_code)f.scale, (double)value);
        }
    }
}

/* Random codes and plausible scales, without quantising anything. */
static void make_weights(gemmux_format f, int64_t count, int64_t rows, int64_t cols,
                         gemmux_weights *w)
{
    int64_t codes = count * rows * gemmux_row_bytes(f, cols);
    int64_t scales = count * gemmux_scale_count(f, rows, cols);
    uint64_t *at = malloc((size_t)codes + 8);
    *w = (gemmux_weights){.tensor = {.format = f, .count = count, .rows = rows, .cols = cols}};
    for (int64_t i = 0; i < (codes + 7) / 8; i++) {
        at[i] = draw();
        if (f.element == GEMMUX_CODE_BF16 || f.element == GEMMUX_CODE_F16) /* exponents near 1/4 */
            at[i] = (at[i] & UINT64_C(0x807f807f807f807f)) | UINT64_C(0x3e803e803e803e80);
        else if (f.element == GEMMUX_CODE_E4M3) /* no NaN */
            at[i] &= UINT64_C(0xbfbfbfbfbfbfbfbf);
    }
    w->tensor.codes = w->storage = at;
    if (scales) {
        void *s = malloc((size_t)(scales * 4));
        fill_scales(f, s, scales);
        w->tensor.scales = s;
    }
    float *bias = malloc((size_t)(count * rows) * 4);
    for (int64_t i = 0; i < count * rows; i++)
        bias[i] = (float)((double)(draw() >> 40) / (1 << 24));
    w->bias = bias;
    float *globals = malloc((size_t)count * 4);
    for (int64_t i = 0; i < count; i++)
        globals[i] = 0.5f;
    if (f.two_level)
        w->tensor.globals = globals;
    else
        free(globals);
}

static void drop_weights(gemmux_weights *w)
{
    free((void *)(uintptr_t)w->tensor.scales);
    free((void *)(uintptr_t)w->tensor.globals);
    free((void *)(uintptr_t)w->bias);
    free(w->storage);
}

typedef struct runner {
    gemmux_plan *plans[MAX_COPIES];
    int copies;
    gemmux_args args;
    int32_t *ids[MAX_COPIES]; /* device: other experts each time */
    int id_sets;
} runner;

static void launch_run(void *context, int i)
{
    runner *r = context;
    gemmux_error error;
    if (r->id_sets)
        r->args.expert_ids = r->ids[i % r->id_sets];
    if (gemmux_run(r->plans[i % r->copies], &r->args, &error)) {
        fprintf(stderr, "FATAL %s\n", error.text);
        exit(1);
    }
}

/* Sets of choices: while few tokens choose, each set takes the next experts. */
static void make_ids(const gemmux_problem *p, int64_t tokens, runner *r)
{
    int64_t pairs = tokens * p->top_k;
    int32_t *ids = malloc((size_t)pairs * 4);
    r->id_sets = 8;
    for (int set = 0; set < r->id_sets; set++) {
        for (int64_t t = 0; t < tokens; t++)
            for (int s = 0; s < p->top_k; s++) { /* distinct experts a token */
                int64_t at = t * p->top_k + s;
                bool again;
                do {
                    ids[at] = tokens == 1 ? (set * p->top_k + s) % p->experts
                                          : (int32_t)((draw() >> 33) % (uint64_t)p->experts);
                    again = false;
                    for (int64_t b = t * p->top_k; b < at; b++)
                        again |= ids[b] == ids[at];
                } while (again);
            }
        r->ids[set] = gpu_allocate(&device, pairs * 4);
        gpu_upload(&device, r->ids[set], ids, pairs * 4);
    }
    free(ids);
}

static int64_t touched_experts(const gemmux_problem *p, int64_t tokens)
{
    double left = 1;
    for (int64_t i = 0; i < tokens; i++)
        left *= 1.0 - (double)p->top_k / p->experts;
    return (int64_t)(p->experts * (1 - left) + 0.5);
}

/* ---- one line ---- */

static void report(const bench_case *c, const gemmux_problem *p, double us, double floor_us,
                   int64_t bytes)
{
    double rows = (double)gemmux_problem_rows(p);
    double tflops = 2 * rows * (double)p->n * (double)p->k / us / 1e6;
    char w[40];
    snprintf(w, sizeof w, "%s%s", c->w, c->liberties & GEMMUX_LIBERTY_ROUNDED_W ? " rounded" : "");
    fprintf(out,
            "%s\n{\"kernel\":\"%s\",\"case\":\"%s\",\"x\":\"%s\",\"w\":\"%s\",\"m\":%lld,\"n\":%"
            "lld,\"k\":%lld,"
            "\"us\":%.3f,\"floor_us\":%.3f,\"bytes\":%lld,\"tflops\":%.1f}",
            written++ ? "," : "", kernel, c->label, c->x, w, (long long)p->m, (long long)p->n,
            (long long)p->k, us, floor_us, (long long)bytes, tflops);
    printf("%-22s %-9s x %-14s M=%-5lld %9.2f us", c->label, c->x, w, (long long)p->m, us);
    if (floor_us > 0)
        printf("  read %7.2f us  share %.2f", floor_us, floor_us / us);
    printf("  %6.1f TFLOP/s\n", tflops);
    fflush(stdout);
}

static void bench_m(const bench_case *c, gemmux_problem p, runner *r, const gemmux_tensor *x,
                    void *y)
{
    int64_t bytes = gemmux_stored_bytes(p.w, 1, p.n, p.k);
    int64_t small = p.m <= 64;
    r->args = (gemmux_args){
        .x = {.format = p.x, .count = 1, .rows = p.m, .cols = p.k, .codes = x->codes},
        .y = y,
        .stream = device.stream,
    };
    r->args.x.scales = x->scales;
    if (p.op == GEMMUX_MOE) {
        if (!(p.epilogue & GEMMUX_EPILOGUE_GATHER))
            r->args.x.rows = p.m * p.top_k;
        make_ids(&p, p.m, r);
        float *weights = calloc((size_t)(p.m * p.top_k), 4);
        void *at = gpu_allocate(&device, p.m * p.top_k * 4);
        gpu_upload(&device, at, weights, p.m * p.top_k * 4);
        free(weights);
        r->args.expert_weights = at;
        bytes *= touched_experts(&p, p.m);
    }
    int count = dry ? 2 : r->copies > 8 ? r->copies : 8;
    launch_run(r, 0);
    gpu_check(&device, device.stream_wait(device.stream), c->label);
    int copies = r->copies;
    if (!small && p.op != GEMMUX_MOE)
        r->copies = 1, count = 4;
    double us = gpu_time_graph(&device, launch_run, r, count, dry);
    r->copies = copies;
    report(c, &p, us, small ? read_floor(bytes) : 0, bytes);
    for (int i = 0; i < r->id_sets; i++)
        gpu_free(&device, r->ids[i]);
    r->id_sets = 0;
    gpu_free(&device, (void *)(uintptr_t)r->args.expert_weights);
}

/* Random numbers near 1/4, and scales where the format has them, on the device. */
static gemmux_tensor make_x(gemmux_format f, int64_t rows, int64_t cols)
{
    int64_t bytes = rows * gemmux_row_bytes(f, cols), scales = gemmux_scale_count(f, rows, cols);
    uint16_t *host = malloc((size_t)bytes + 2);
    for (int64_t i = 0; i < (bytes + 1) / 2; i++)
        host[i] =
            (uint16_t)(f.element == GEMMUX_CODE_E4M3
                           ? draw() >> 40 & 0xbfbf
                           : (draw() >> 40 & 0x807f) | (f.id == GEMMUX_F16 ? 0x3400 : 0x3e80));
    void *codes = gpu_allocate(&device, bytes);
    gpu_upload(&device, codes, host, bytes);
    free(host);
    gemmux_tensor x = {.format = f, .count = 1, .rows = rows, .cols = cols, .codes = codes};
    if (scales) {
        float *values = malloc((size_t)scales * 4);
        void *at = gpu_allocate(&device, scales * 4);
        for (int64_t i = 0; i < scales; i++)
            values[i] = 0.01f + 0.0001f * (float)(i % 100);
        gpu_upload(&device, at, values, scales * 4);
        free(values);
        x.scales = at;
    }
    return x;
}

static void bench_one(const bench_case *c)
{
    gemmux_problem p = {0};
    gemmux_format x, w;
    gemmux_error error;
    gemmux_weights weights;
    runner r = {0};
    int64_t largest = 0;
    gemmux_format_parse(c->x, &x, &error);
    gemmux_format_parse(c->w, &w, &error);
    for (int i = 0; c->m[i] && c->m[i] <= (dry ? 64 : most_rows); i++)
        largest = c->m[i];
    bool fp8 = x.element == GEMMUX_CODE_E4M3;
    p = gemmux_problem_linear(largest, dry ? c->n / 16 : c->n, dry ? c->k / 16 / 8 * 8 : c->k, x, w,
                              fp8 ? gemmux_format_of(GEMMUX_BF16) : x);
    p.liberties |= c->liberties;
    p.epilogue = (uint8_t)c->epilogue;
    if (c->experts) {
        p.op = GEMMUX_MOE;
        p.experts = c->experts;
        p.top_k = c->top_k;
    }
    int64_t count = c->experts ? c->experts : 1;
    int64_t bytes = gemmux_stored_bytes(w, count, p.n, p.k);
    make_weights(w, count, p.n, p.k, &weights);
    r.copies = c->experts ? 1 : (int)(ROTATE_BYTES / bytes + 1);
    r.copies = dry ? 2 : r.copies < MAX_COPIES ? r.copies : MAX_COPIES;
    gemmux_policy policy = {.only = kernel};
    for (int i = 0; i < r.copies; i++)
        if (gemmux_prepare(&p, &machine, &policy, NULL, &weights, threads, &r.plans[i], &error)) {
            printf("%s %s: %s\n", c->label, c->w, error.text);
            r.copies = i;
        }
    int64_t rows = gemmux_problem_rows(&p);
    gemmux_tensor x_at = make_x(x, rows, p.k);
    void *y = gpu_allocate(&device, rows * p.n * 2);
    for (int i = 0; r.copies && c->m[i] && c->m[i] <= largest; i++) {
        p.m = c->m[i];
        bench_m(c, p, &r, &x_at, y);
    }
    for (int i = 0; i < MAX_COPIES; i++)
        gemmux_plan_free(r.plans[i]);
    gpu_free(&device, (void *)(uintptr_t)x_at.codes);
    gpu_free(&device, (void *)(uintptr_t)x_at.scales);
    gpu_free(&device, y);
    drop_weights(&weights);
}

/* fp8 by fp8 is for kernels with that in their names, and nothing else is. */
static void bench_kernel(const char *name, const char *filter)
{
    gemmux_cu_module module;
    bool fp8 = strstr(name, "fp8") != NULL;
    kernel = name;
    gemmux_cuda_module_take(&device.device, kernel, &module, NULL);
    printf("== %s\n", kernel);
    for (size_t i = 0; i < sizeof bench_cases / sizeof bench_cases[0]; i++) {
        char text[96];
        snprintf(text, sizeof text, "%s %s", bench_cases[i].label, bench_cases[i].w);
        if (strstr(text, filter) && fp8 == !strncmp(bench_cases[i].x, "e4m3", 4))
            bench_one(&bench_cases[i]);
    }
}

int main(int argc, char **argv)
{
    gemmux_error error;
    gemmux_cu_module module;
    dry = argc > 1 && !strcmp(argv[1], "--dry");
    argc -= dry;
    argv += dry;
    if (argc < 2) {
        fprintf(stderr, "usage: gpu_bench [--dry] OUT.json [FILTER [KERNEL [LARGEST]]]\n");
        return 2;
    }
    gpu_open(&device);
    if (gemmux_machine_find("cuda:0", &machine, &error) ||
        gemmux_threads_create(0, &threads, &error) ||
        gemmux_cuda_module_take(&device.device, "gpu_read", &module, &error)) {
        fprintf(stderr, "FATAL %s\n", error.text);
        return 1;
    }
    gpu_check(&device, device.device.cuda.module_function(&read_kernel, module, "gpu_read"),
              "gpu_read");
    most_rows = argc > 4 ? strtoll(argv[4], NULL, 10) : most_rows;
    read_buffer = gpu_allocate(&device, 2 * ROTATE_BYTES);
    sink = gpu_allocate(&device, 4);
    out = fopen(argv[1], "w");
    if (!out) {
        perror(argv[1]);
        return 1;
    }
    fprintf(out, "[");
    for (size_t i = 0; i < sizeof kernels / sizeof kernels[0] && argc < 4; i++)
        if (machine.cc == 90 || !strstr(kernels[i], "sm90"))
            bench_kernel(kernels[i], argc > 2 ? argv[2] : "");
    if (argc > 3)
        bench_kernel(argv[3], argv[2]);
    fprintf(out, "\n]\n");
    fclose(out);
    return 0;
}
