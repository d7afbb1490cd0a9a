/* SPDX-License-Identifier: Apache-2.0
 *
 * gemmux against other libraries on the same products: same threads, weights rotated through more
 * memory than the last cache holds, short blocks of calls in turn (A B C, A B C ...), medians over
 * the rounds. Ratios are meant to be read, not times: everything in a row met the same machine.
 * Plain reads of memory take their turn in every round; "of DRAM" is the median of the rounds'
 * shares.
 *
 *     bench_peers MODULE... [-f mxfp4,f32] [-s 4096x4096,14336x4096] [-m 1,4] [-t 1,2] [-r 7]
 *                 [-e EXPERTS,TOP_K] [-k KERNELS] [-l]
 *
 * Every thread is pinned: the calling one to the first CPU, those that a library starts to the next
 * ones in turn. On a machine that others use too, two threads on one core would wait for each other
 * by whole time slices.
 *
 * -k x86_* races gemmux's own kernels only; -l learns first, as gemmux bench --learn does.
 */
#define _GNU_SOURCE
#include "../timing.h"
#include "gemmux.h"
#include "peer.h"
#include "reads.h"

#include <dirent.h>
#include <dlfcn.h>
#include <getopt.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_PEERS = 16, MOST_ROUNDS = 31, MOST_LIST = 16, MOST_COPIES = 64 };

/* A block of calls of one competitor, long enough for clocks and caches to settle. */
static const double block_us = 15e3;

typedef struct setting {
    char *formats[MOST_LIST], *shapes[MOST_LIST], *ms[MOST_LIST], *threads[MOST_LIST];
    int rounds, experts, top_k;
    const char *only;
} setting;

typedef struct competitor {
    const peer *peer;
    void *state;
    double us[MOST_ROUNDS];
    double median_us, error;
    int next; /* copy */
    char name[64];
} competitor;

static peer all[MOST_PEERS];
static int peer_count;

static void *need(void *pointer)
{
    if (!pointer) {
        fprintf(stderr, "peers: out of memory\n");
        exit(1);
    }
    return pointer;
}

static void must(gemmux_status status, const gemmux_error *error)
{
    if (status) {
        fprintf(stderr, "peers: %s\n", error->text);
        exit(1);
    }
}

/* ---------------------------------------------------------------------------------- pinning -- */

static cpu_set_t allowed;
static int cpus[CPU_SETSIZE], cpu_count; /* those of them */

/* The calling thread to the first CPU, or to all while it starts threads that inherit. */
static void pin_caller(bool pinned)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpus[0], &one);
    sched_setaffinity(0, sizeof one, pinned ? &one : &allowed);
}

/* Threads that were not there at the last call, which are those of one pool, go to the CPUs after
 * the first. */
static void pin_new_threads(void)
{
    static pid_t known[4096];
    static int count;
    int next = 1;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *e = tasks ? readdir(tasks) : NULL; e; e = readdir(tasks)) {
        pid_t id = (pid_t)strtol(e->d_name, NULL, 10);
        bool seen = id <= 0;
        for (int i = 0; i < count && !seen; i++)
            seen = known[i] == id;
        if (seen)
            continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpus[id == getpid() ? 0 : next++ % cpu_count], &one);
        sched_setaffinity(id, sizeof one, &one);
        if (count < 4096)
            known[count++] = id;
    }
    if (tasks)
        closedir(tasks);
}

/* ------------------------------------------------------------------------- gemmux as a peer -- */

typedef struct own_product {
    peer_product p;
    gemmux_machine machine;
    gemmux_records *records;
    gemmux_threads *threads;
    gemmux_weights w[MOST_COPIES]; /* kept where a plan borrows them */
    gemmux_weights x;
    gemmux_plan *plans[MOST_COPIES];
    gemmux_args args;
    gemmux_problem problem;
    void *y;
} own_product;

static const char *own_only;
static bool own_learns;

/* The best of all measurements of this run: the others met somebody else on a core. */
static void measure(gemmux_machine *machine, int threads)
{
    static gemmux_machine best[64];
    gemmux_machine *known = &best[threads < 64 ? threads : 0];
    gemmux_error error;
    pin_caller(false);
    for (int i = 0; i < (known->bandwidth > 0 ? 1 : 5); i++) {
        must(gemmux_machine_measure(machine, threads, &error), &error);
        known->bandwidth = fmax(known->bandwidth, machine->bandwidth);
        for (int j = 0; j < GEMMUX_MATH_COUNT; j++)
            known->peak[j] = fmax(known->peak[j], machine->peak[j]);
    }
    pin_caller(true);
    machine->bandwidth = known->bandwidth;
    memcpy(machine->peak, known->peak, sizeof machine->peak);
}

static gemmux_format format_of(const char *text)
{
    gemmux_format format;
    gemmux_error error;
    must(gemmux_format_parse(text, &format, &error), &error);
    return format;
}

static gemmux_problem problem_of(const peer_product *p)
{
    bool int8 = !strcmp(p->format, "int8"), dense = !strcmp(p->format, "f32") ||
                                                    !strcmp(p->format, "f16") ||
                                                    !strcmp(p->format, "bf16");
    const char *x = int8 ? "int8" : dense ? p->format : "bf16";
    gemmux_problem problem =
        gemmux_problem_linear(p->m, p->n, p->k, format_of(x), format_of(p->format),
                              format_of(dense ? p->format : "bf16"));
    if (p->experts) {
        problem.op = GEMMUX_MOE;
        problem.experts = p->experts;
        problem.top_k = p->top_k;
        problem.epilogue = GEMMUX_EPILOGUE_GATHER;
    }
    return problem;
}

/* `count` times the one matrix. */
static void repeat(const gemmux_weights *one, int count, gemmux_weights *out)
{
    const gemmux_tensor *t = &one->tensor;
    size_t codes = (size_t)(gemmux_row_bytes(t->format, t->cols) * t->rows);
    int64_t scale_count = gemmux_scale_count(t->format, t->rows, t->cols);
    size_t scale = (size_t)gemmux_code_bits((gemmux_code)t->format.scale) / 8;
    size_t scales = (size_t)scale_count * scale;
    char *storage = need(malloc((codes + scales + 4) * (size_t)count + 64));
    *out = (gemmux_weights){.tensor = *t, .storage = storage};
    float *globals = (float *)storage;
    char *at = storage + (size_t)count * 4;
    for (int i = 0; i < count; i++) {
        globals[i] = t->globals ? t->globals[0] : 1;
        memcpy(at + codes * (size_t)i, t->codes, codes);
        if (scales)
            memcpy(at + codes * (size_t)count + scales * (size_t)i, t->scales, scales);
    }
    out->tensor.count = count;
    out->tensor.codes = at;
    out->tensor.scales = scales ? at + codes * (size_t)count : NULL;
    out->tensor.globals = t->globals ? globals : NULL;
    out->tensor.zeros = NULL;
}

static gemmux_status prepare_copies(own_product *s, const gemmux_policy *policy,
                                    gemmux_error *error)
{
    gemmux_status status = GEMMUX_OK;
    for (int i = 0; i < s->p.copies && !status; i++)
        status = gemmux_prepare(&s->problem, &s->machine, policy, NULL, &s->w[i], s->threads,
                                &s->plans[i], error);
    return status;
}

static void free_copies(own_product *s)
{
    for (int i = 0; i < s->p.copies; i++) {
        gemmux_plan_free(s->plans[i]);
        s->plans[i] = NULL;
    }
}

/* The best of five calls, or of as many as 60 ms have room for, on copy after copy, each of which
 * has run before: the first call of a plan meets pages of its workspace that nobody has touched.
 * Negative when it cannot run. */
static double best_us(own_product *s)
{
    double best = -1, begun = now_us();
    gemmux_error error;
    int copies = s->p.copies < 6 ? s->p.copies : 6;
    for (int i = 0; i < copies + 5 || now_us() < begun + 60e3; i++) {
        double start = now_us();
        if (gemmux_run(s->plans[i % copies], &s->args, &error))
            return -1;
        double us = now_us() - start;
        if (!i)
            pin_new_threads(); /* of a library that the kernel calls */
        if (i >= copies && (best < 0 || us < best))
            best = us;
    }
    return best;
}

/* Times everybody who may run, but those that would take 20 times as long as the best. */
static void learn(own_product *s)
{
    static gemmux_trace trace;
    gemmux_timing timings[GEMMUX_MAX_KERNELS];
    gemmux_decision d;
    gemmux_error error;
    int count = 0;
    must(gemmux_select(&s->problem, &s->machine, NULL, &d, &trace, &error), &error);
    for (int i = 0; i < trace.verdict_count; i++) {
        const gemmux_verdict *v = &trace.verdicts[i];
        gemmux_policy forced = {.only = gemmux_kernel_name(v->kernel)};
        if (v->kind == GEMMUX_REJECTED || v->decision.predicted_us > 20 * d.predicted_us)
            continue;
        double us = prepare_copies(s, &forced, &error) ? -1 : best_us(s);
        free_copies(s);
        if (us > 0)
            timings[count++] = (gemmux_timing){s->problem, v->decision, us};
    }
    must(gemmux_records_learn(s->records, &s->machine, timings, count, &error), &error);
}

static void *open_own(const peer *self, const peer_product *p)
{
    own_product *s = need(calloc(1, sizeof *s));
    gemmux_error error;
    gemmux_weights one;
    gemmux_policy policy = {.only = own_only};
    int matrices = p->experts ? p->experts : 1;
    (void)self;
    s->p = *p;
    s->problem = problem_of(p);
    must(gemmux_machine_find("cpu", &s->machine, &error), &error);
    s->machine.cores = p->threads;
    must(gemmux_records_load(&s->machine, &s->records, NULL, 0, &error), &error);
    measure(&s->machine, p->threads);
    must(gemmux_threads_create(p->threads, &s->threads, &error), &error);
    pin_new_threads();
    must(gemmux_quantise(p->w, 1, p->n, p->k, s->problem.w, &one, &error), &error);
    for (int i = 0; i < p->copies; i++)
        repeat(&one, matrices, &s->w[i]);
    gemmux_weights_free(&one);
    must(gemmux_quantise(p->x, 1, p->m, p->k, s->problem.x, &s->x, &error), &error);
    int64_t rows = p->m * (p->experts ? p->top_k : 1);
    s->y = need(aligned_alloc(64, (size_t)(rows * p->n * 4 + 63) / 64 * 64));
    s->args = (gemmux_args){.x = s->x.tensor, .y = s->y, .expert_ids = p->ids};
    if (own_learns)
        learn(s);
    must(prepare_copies(s, &policy, &error), &error);
    for (int i = 0; i < p->copies; i++)
        if (!gemmux_plan_borrows(s->plans[i])) {
            free(s->w[i].storage);
            s->w[i].storage = NULL;
        }
    return s;
}

static void run_own(void *state, int copy)
{
    own_product *s = state;
    gemmux_error error;
    must(gemmux_run(s->plans[copy], &s->args, &error), &error);
}

static void result_own(void *state, float *y)
{
    own_product *s = state;
    int64_t rows = s->p.m * (s->p.experts ? s->p.top_k : 1);
    gemmux_tensor t = {
        .format = s->problem.y, .count = 1, .rows = rows, .cols = s->p.n, .codes = s->y};
    for (int64_t i = 0; i < rows; i++)
        gemmux_tensor_row_f32(&t, 0, i, y + i * s->p.n);
}

/* The one that runs at this M. */
static const char *own_kernel(void *state)
{
    own_product *s = state;
    const gemmux_range *ranges;
    int count = gemmux_plan_ranges(s->plans[0], &ranges), i = 0;
    while (i + 1 < count && s->p.m > ranges[i].m_max)
        i++;
    return gemmux_kernel_name(ranges[i].decision.kernel);
}

static void close_own(void *state)
{
    own_product *s = state;
    free_copies(s);
    for (int i = 0; i < s->p.copies; i++)
        free(s->w[i].storage);
    gemmux_weights_free(&s->x);
    gemmux_threads_free(s->threads);
    gemmux_records_free(s->records);
    free(s->y);
    free(s);
}

/* ------------------------------------------------------------------------------------- race -- */

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 3000000}, NULL); /* others stop spinning */
}

/* One call to wake up, then calls on copy after copy; microseconds a call. */
static double block(competitor *c, int copies, int calls)
{
    c->peer->run(c->state, c->next++ % copies);
    double start = now_us();
    for (int i = 0; i < calls; i++)
        c->peer->run(c->state, c->next++ % copies);
    double us = (now_us() - start) / calls;
    if (c->peer->rest)
        c->peer->rest(c->state);
    nap();
    return us;
}

static double relative_error(const float *y, const float *reference, int64_t count)
{
    double wrong = 0, whole = 0;
    for (int64_t i = 0; i < count; i++) {
        double d = (double)y[i] - (double)reference[i];
        wrong += d * d;
        whole += (double)reference[i] * (double)reference[i];
    }
    return sqrt(wrong / (whole > 0 ? whole : 1));
}

static void race(const peer_product *p, const setting *s, competitor *c, int count, reads *memory,
                 double *rates)
{
    int calls[MOST_PEERS];
    for (int i = 0; i < count; i++) {
        block(&c[i], p->copies, p->copies); /* meets each copy's fresh pages */
        double us = block(&c[i], p->copies, 1);
        us = fmin(us, block(&c[i], p->copies, 1));
        calls[i] = us < block_us ? (int)(block_us / us) : 1;
    }
    for (int round = 0; round < s->rounds; round++) {
        rates[round] = reads_rate(memory);
        for (int i = 0; i < count; i++)
            c[i].us[round] = block(&c[i], p->copies, calls[i]);
    }
}

static double stored_bytes(const peer_product *p)
{
    double used = 1;
    bool met[1024] = {false};
    if (p->experts) {
        used = 0;
        for (int64_t i = 0; i < p->m * p->top_k; i++) {
            used += !met[p->ids[i]];
            met[p->ids[i]] = true;
        }
    }
    return used * (double)gemmux_stored_bytes(format_of(p->format), 1, p->n, p->k);
}

/* oneDNN reads bf16 where the product's own format is narrower. */
static double bytes_read(const peer_product *p, const competitor *c, double stored)
{
    bool wide = !strcmp(c->peer->name, "onednn") && strcmp(p->format, "int8") != 0 &&
                strcmp(p->format, "f32") != 0;
    return wide ? 2.0 * (double)p->n * (double)p->k : stored;
}

/* `bytes` a call, of what the memory gave in the same rounds. */
static double share_of_reads(double bytes, const double *us, const double *rates, int rounds)
{
    double shares[MOST_ROUNDS];
    for (int i = 0; i < rounds; i++)
        shares[i] = bytes / us[i] * 1e6 / rates[i];
    return median(shares, rounds);
}

static void report(const peer_product *p, competitor *c, int count, double *rates, int rounds)
{
    char what[160];
    double rows = (double)(p->m * (p->experts ? p->top_k : 1));
    double operations = 2 * rows * (double)p->n * (double)p->k, bytes = stored_bytes(p);
    gemmux_problem problem = problem_of(p);
    double shares[MOST_PEERS];
    for (int i = 0; i < count; i++) {
        shares[i] = share_of_reads(bytes_read(p, &c[i], bytes), c[i].us, rates, rounds);
        c[i].median_us = median(c[i].us, rounds);
    }
    double rate = median(rates, rounds); /* sorts them */
    printf("%s, %d thread%s, %d cop%s of w, DRAM reads at %.1f GB/s (%.1f to %.1f)\n",
           gemmux_problem_text(&problem, what, sizeof what), p->threads, p->threads == 1 ? "" : "s",
           p->copies, p->copies == 1 ? "y" : "ies", rate / 1e9, rates[0] / 1e9,
           rates[rounds - 1] / 1e9);
    printf("  %-28s %10s %9s %8s %8s %9s %9s\n", "", "us", "GFLOP/s", "w GB/s", "of DRAM", "error",
           "gemmux is");
    for (int i = 0; i < count; i++) {
        double w = bytes_read(p, &c[i], bytes);
        printf("  %-28s %10.1f %9.1f %8.1f %6.0f %%  %8.1e", c[i].name, c[i].median_us,
               operations / c[i].median_us / 1e3, w / c[i].median_us / 1e3, 100 * shares[i],
               c[i].error);
        if (i)
            printf(" %8.2fx", c[i].median_us / c[0].median_us);
        putchar('\n');
    }
    fflush(stdout);
}

/* Routing that meets experts evenly, neighbours for one token. */
static int32_t *make_ids(int64_t m, int experts, int top_k)
{
    int32_t *ids = need(malloc((size_t)(m * top_k) * sizeof *ids));
    uint64_t seed = 7;
    for (int64_t t = 0; t < m; t++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        for (int s = 0; s < top_k; s++)
            ids[t * top_k + s] = (int32_t)((seed >> 33) + (uint64_t)s) % experts;
    }
    return ids;
}

static float *draw(int64_t count, uint64_t seed, bool bf16)
{
    float *values = need(malloc((size_t)count * sizeof *values));
    for (int64_t i = 0; i < count; i++) {
        double sum = 0;
        for (int j = 0; j < 4; j++) {
            seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            sum += (double)(seed >> 40) * 0x1p-23 - 1;
        }
        values[i] = (float)sum;
        if (bf16)
            values[i] = (float)gemmux_code_decode(GEMMUX_CODE_BF16,
                                                  gemmux_code_encode(GEMMUX_CODE_BF16, sum));
    }
    return values;
}

/* The numbers that the format holds, so that all competitors start from the same. */
static float *settle(float *values, const peer_product *p)
{
    gemmux_weights w;
    gemmux_error error;
    must(gemmux_quantise(values, 1, p->n, p->k, format_of(p->format), &w, &error), &error);
    for (int64_t i = 0; i < p->n; i++)
        gemmux_tensor_row_f32(&w.tensor, 0, i, values + i * p->k);
    gemmux_weights_free(&w);
    return values;
}

/* What one call reads, three times the last cache before the same bytes come round again. */
static int copies_for(const peer_product *p, int64_t l3_bytes)
{
    int64_t met = p->m * p->top_k < p->experts ? p->m * p->top_k : p->experts;
    double bytes = (double)gemmux_stored_bytes(format_of(p->format), 1, p->n, p->k) *
                   (double)(p->experts ? met : 1);
    int copies = (int)ceil(3.0 * (double)(l3_bytes > 0 ? l3_bytes : 32 << 20) / bytes);
    return copies > MOST_COPIES ? MOST_COPIES : copies > 2 || p->experts ? copies : 2;
}

static void compete(const peer_product *product, const setting *s)
{
    static competitor c[MOST_PEERS];
    int64_t outputs = product->m * (product->experts ? product->top_k : 1) * product->n;
    int count = 0;
    double rates[MOST_ROUNDS];
    reads memory;
    gemmux_machine machine;
    gemmux_error error;
    must(gemmux_machine_find("cpu", &machine, &error), &error);
    if (!reads_open(&memory, product->threads, cpus, cpu_count, machine.l3_bytes, machine.isa)) {
        fprintf(stderr, "peers: %d threads want as many CPUs, and memory\n", product->threads);
        exit(1);
    }
    float *y = need(malloc((size_t)outputs * sizeof *y));
    float *reference = need(malloc((size_t)outputs * sizeof *reference));
    for (int i = 0; i < peer_count; i++) {
        void *state = all[i].open(&all[i], product);
        if (!state)
            continue;
        c[count] = (competitor){.peer = &all[i], .state = state};
        if (i)
            snprintf(c[count].name, sizeof c[count].name, "%s", all[i].name);
        else
            snprintf(c[count].name, sizeof c[count].name, "gemmux %s", own_kernel(state));
        all[i].run(state, 0);
        pin_new_threads();
        all[i].result(state, count ? y : reference);
        c[count].error = count ? relative_error(y, reference, outputs) : 0;
        if (all[i].rest)
            all[i].rest(state);
        count++;
    }
    race(product, s, c, count, &memory, rates);
    report(product, c, count, rates, s->rounds);
    reads_close(&memory);
    for (int i = 0; i < count; i++)
        c[i].peer->close(c[i].state);
    free(y);
    free(reference);
}

/* ------------------------------------------------------------------------------- all of them -- */

static void split(char *text, char **list)
{
    int count = 0;
    for (char *at = strtok(text, ","); at && count < MOST_LIST - 1; at = strtok(NULL, ","))
        list[count++] = at;
    list[count] = NULL;
}

static void add_module(const char *path)
{
    const char *version = "";
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    peer_list *list = module ? (peer_list *)dlsym(module, PEER_LIST_NAME) : NULL;
    if (!list) {
        printf("skipped: %s\n", dlerror());
        return;
    }
    for (const peer *p = list(&version); p->name && peer_count < MOST_PEERS; p++)
        all[peer_count++] = *p;
    printf("%s\n", version);
}

static void run_shape(const setting *s, const char *format, const char *shape)
{
    peer_product p = {.format = format, .experts = s->experts, .top_k = s->top_k};
    char *end;
    gemmux_machine machine;
    gemmux_error error;
    p.n = strtoll(shape, &end, 10);
    p.k = *end == 'x' ? strtoll(end + 1, NULL, 10) : 0;
    if (p.n < 1 || p.k < 1) {
        fprintf(stderr, "peers: -s wants NxK, not %s\n", shape);
        exit(2);
    }
    must(gemmux_machine_find("cpu", &machine, &error), &error);
    float *w = settle(draw(p.n * p.k, 3, false), &p);
    p.w = w;
    for (char *const *m = s->ms; *m; m++) {
        p.m = strtoll(*m, NULL, 10);
        p.copies = copies_for(&p, machine.l3_bytes);
        float *x = draw(p.m * p.k, 1, true);
        int32_t *ids = p.experts ? make_ids(p.m, p.experts, p.top_k) : NULL;
        p.x = x;
        p.ids = ids;
        for (char *const *t = s->threads; *t; t++) {
            p.threads = (int)strtol(*t, NULL, 10);
            compete(&p, s);
        }
        free(x);
        free(ids);
    }
    free(w);
}

int main(int argc, char **argv)
{
    static char formats[] = "f32,bf16,int8,mxfp4,nvfp4,int4,nf4", shapes[] = "4096x4096",
                ms[] = "1,4,16,128,512", threads[] = "1,2";
    setting s = {.rounds = 7};
    int option;
    split(formats, s.formats), split(shapes, s.shapes), split(ms, s.ms), split(threads, s.threads);
    all[peer_count++] = (peer){"gemmux", open_own, run_own, result_own, NULL, close_own, NULL};
    while ((option = getopt(argc, argv, "f:s:m:t:r:e:k:l")) != -1) {
        char *comma;
        switch (option) {
        case 'f':
            split(optarg, s.formats);
            break;
        case 's':
            split(optarg, s.shapes);
            break;
        case 'm':
            split(optarg, s.ms);
            break;
        case 't':
            split(optarg, s.threads);
            break;
        case 'r':
            s.rounds = (int)strtol(optarg, NULL, 10);
            break;
        case 'k':
            own_only = optarg;
            break;
        case 'l':
            own_learns = true;
            break;
        case 'e':
            s.experts = (int)strtol(optarg, &comma, 10);
            s.top_k = *comma == ',' ? (int)strtol(comma + 1, NULL, 10) : 1;
            break;
        default:
            return 2;
        }
    }
    if (sched_getaffinity(0, sizeof allowed, &allowed)) {
        perror("peers: sched_getaffinity");
        return 1;
    }
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &allowed))
            cpus[cpu_count++] = i;
    if (s.rounds < 1 || s.rounds > MOST_ROUNDS) {
        fprintf(stderr, "peers: -r wants 1 to %d\n", MOST_ROUNDS);
        return 2;
    }
    printf("gemmux %s; ", gemmux_version());
    for (int i = optind; i < argc; i++)
        add_module(argv[i]);
    if (optind == argc)
        putchar('\n');
    pin_new_threads(); /* those that libraries start when they are loaded */
    for (char *const *f = s.formats; *f; f++)
        for (char *const *shape = s.shapes; *shape; shape++)
            run_shape(&s, *f, *shape);
    return 0;
}
