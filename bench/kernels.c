/* SPDX-License-Identifier: Apache-2.0
 *
 * Times the CPU kernels of the table against each other and against this machine's limits, which
 * are measured again in every round. Candidates take turns, round after round, so that a drift of
 * the machine meets them all; for few rows each call reads other weights, past the last cache.
 *
 *   bench_kernels [-t threads] [-n N] [-k K] [-m M,M...] [-x FORMAT] [-w FORMAT,FORMAT...]
 *                 [-y FORMAT] [-o KERNELS] [-r rounds] [-e experts,top_k] [-c] [-i]
 *
 * Prints per candidate the median of the rounds (shares of the read rate are taken round by round;
 * peaks are the best): time, bytes of stored weights a second and their share of the read rate,
 * operations a second and their share of the peak of the kernel's math.
 */
#include "gemmux.h"
#include "kernel.h"
#include "timing.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    MAX_LIST = 24,
    MAX_ENTRIES = 512,
    MAX_ROUNDS = 64,
    MAX_COPIES = 64,
    MAX_CALLS = 4096,
    ROUND_US = 20000, /* of one candidate's calls in one round */
};

typedef struct options {
    int threads, rounds;
    int64_t n, k;
    int32_t experts, top_k;
    int64_t m[MAX_LIST];
    int m_count;
    char *w[MAX_LIST];
    int w_count;
    const char *x, *y, *only;
} options;

typedef struct entry {
    const gemmux_kernel *kernel;
    const char *w;
    gemmux_problem problem;
    gemmux_plan *plans[MAX_COPIES];
    int copies;
    double us[MAX_ROUNDS];
} entry;

static bool in_cache; /* -i: the same weights in every call */
/* -c: the time of the calling thread, for one thread on a busy machine */
static clockid_t timer = CLOCK_MONOTONIC;

static gemmux_format format_of(const char *text)
{
    gemmux_format format;
    gemmux_error error;
    if (gemmux_format_parse(text, &format, &error)) {
        fprintf(stderr, "%s\n", error.text);
        exit(2);
    }
    return format;
}

/* Random numbers, quantised; for weights a few rows are repeated, as their values do not matter. */
static void make_operand(gemmux_format format, int64_t count, int64_t rows, int64_t cols,
                         gemmux_weights *out)
{
    gemmux_error error;
    float *values = malloc((size_t)(count * rows * cols) * sizeof *values + 64);
    uint32_t seed = 1;
    for (int64_t i = 0; i < count * rows * cols; i++) {
        seed = seed * 1664525u + 1013904223u;
        values[i] = (float)(int32_t)seed * 0x1p-31f;
    }
    if (gemmux_quantise(values, count, rows, cols, format, out, &error)) {
        fprintf(stderr, "%s\n", error.text);
        exit(1);
    }
    free(values);
}

/* Prepares a candidate; false when the kernel does not take the problem. */
static bool open_entry(entry *e, const gemmux_machine *machine, const gemmux_weights *w,
                       gemmux_threads *threads)
{
    gemmux_policy policy = {.only = e->kernel->name};
    gemmux_error error;
    int64_t count = e->problem.op == GEMMUX_MOE ? e->problem.experts : 1;
    int64_t bytes = gemmux_stored_bytes(e->problem.w, count, e->problem.n, e->problem.k);
    int64_t wanted =
        e->problem.m > 32 || in_cache ? 1 : (4 * machine->l3_bytes + (128 << 20)) / bytes + 1;
    int copies = (int)(wanted > MAX_COPIES ? MAX_COPIES : wanted);
    for (e->copies = 0; e->copies < copies; e->copies++)
        if (gemmux_prepare(&e->problem, machine, &policy, NULL, w, threads, &e->plans[e->copies],
                           &error))
            return fprintf(stderr, "%s: %s\n", e->kernel->name, error.text), false;
    return true;
}

/* The median of a round's calls: another process now and then takes a time slice. */
static void time_entry(entry *e, const gemmux_args *args, int round)
{
    static double us[MAX_CALLS];
    gemmux_error error;
    double total = 0;
    int calls = 0;
    for (int pass = 0; pass == 0 || total < ROUND_US; pass++)
        for (int i = 0; i < e->copies && calls < MAX_CALLS; i++, calls++) {
            double start = clock_us(timer);
            if (gemmux_run(e->plans[i], args, &error)) {
                fprintf(stderr, "%s: %s\n", e->kernel->name, error.text);
                exit(1);
            }
            us[calls] = clock_us(timer) - start;
            total += calls < MAX_CALLS - 1 ? us[calls] : ROUND_US;
        }
    e->us[round] = median(us, calls);
}

/* reads: the read rate of each round, which each round's time is held against. */
static void report(entry *e, const options *o, const gemmux_machine *machine, const double *reads)
{
    const gemmux_problem *p = &e->problem;
    const gemmux_range *ranges;
    gemmux_plan_ranges(e->plans[0], &ranges);
    const gemmux_form *form = &e->kernel->forms[ranges[0].decision.form];
    double shares[MAX_ROUNDS], rows = (double)gemmux_problem_rows(p);
    double used = p->op == GEMMUX_MOE ? (rows < p->experts ? rows : p->experts) : 1;
    double bytes = used * (double)gemmux_stored_bytes(p->w, 1, p->n, p->k);
    for (int round = 0; round < o->rounds; round++)
        shares[round] = bytes / e->us[round] * 1e6 / reads[round];
    double us = median(e->us, o->rounds);
    double operations = 2 * rows * (double)p->n * (double)p->k;
    printf("%-18s %-8s %-12s M=%-5lld %10.1f us %7.2f GB/s %5.2f of read %8.1f GFLOP/s %5.2f of %s "
           "peak  (%.1f..%.1f us)\n",
           e->kernel->name, o->x, e->w, (long long)p->m, us, bytes / us / 1e3,
           median(shares, o->rounds), operations / us / 1e3,
           operations / us * 1e6 / machine->peak[form->math], gemmux_math_name(form->math),
           e->us[0], e->us[o->rounds - 1]);
}

/* Each thread on a processor of its own: on a busy machine two would else meet on one, and one wait
 * for the other's time slice to end. */
typedef struct pinning {
    atomic_int arrived;
    int count;
    bool pin; /* false: any processor again */
} pinning;

static void pin_one(void *context, size_t i)
{
    pinning *p = context;
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (!p->pin || cpu == (int)i)
            CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
    atomic_fetch_add(&p->arrived, 1);
    while (atomic_load(&p->arrived) < p->count) /* so that no thread takes two items */
        sched_yield();
}

static void pin_threads(gemmux_threads *threads, bool pin)
{
    pinning p = {.count = gemmux_threads_count(threads), .pin = pin};
    if (p.count > 1)
        gemmux_parallel(threads, pin_one, &p, (size_t)p.count);
}

static int split(char *text, char **parts)
{
    int count = 0;
    for (char *part = strtok(text, ","); part && count < MAX_LIST; part = strtok(NULL, ","))
        parts[count++] = part;
    return count;
}

static void parse(int argc, char **argv, options *o)
{
    static char default_w[] = "bf16,mxfp4,nvfp4,int4,nf4";
    static char default_m[] = "1,4,16,128,512";
    char *m[MAX_LIST], *m_text = default_m, *w_text = default_w, *experts = NULL;
    *o = (options){.threads = 1, .rounds = 5, .n = 4096, .k = 4096, .x = "bf16", .y = "bf16"};
    o->only = "x86_*";
    for (int c; (c = getopt(argc, argv, "cit:n:k:m:x:w:y:o:r:e:")) != -1;)
        switch (c) {
        case 'c':
            timer = CLOCK_THREAD_CPUTIME_ID;
            break;
        case 'i':
            in_cache = true;
            break;
        case 't':
            o->threads = atoi(optarg);
            break;
        case 'n':
            o->n = atoll(optarg);
            break;
        case 'k':
            o->k = atoll(optarg);
            break;
        case 'm':
            m_text = optarg;
            break;
        case 'x':
            o->x = optarg;
            break;
        case 'w':
            w_text = optarg;
            break;
        case 'y':
            o->y = optarg;
            break;
        case 'o':
            o->only = optarg;
            break;
        case 'r':
            o->rounds = atoi(optarg);
            break;
        case 'e':
            experts = optarg;
            break;
        default:
            exit(2);
        }
    o->m_count = split(m_text, m);
    for (int i = 0; i < o->m_count; i++)
        o->m[i] = atoll(m[i]);
    o->w_count = split(w_text, o->w);
    if (experts) {
        split(experts, m);
        o->experts = atoi(m[0]);
        o->top_k = atoi(m[1]);
    }
    if (o->rounds < 1 || o->rounds > MAX_ROUNDS)
        exit(2);
}

static gemmux_problem problem_of(const options *o, int64_t m, const char *w)
{
    gemmux_problem p =
        gemmux_problem_linear(m, o->n, o->k, format_of(o->x), format_of(w), format_of(o->y));
    p.liberties |= GEMMUX_LIBERTY_ROUNDED_W;
    if (o->experts) {
        p.op = GEMMUX_MOE;
        p.experts = o->experts;
        p.top_k = o->top_k;
        p.epilogue = GEMMUX_EPILOGUE_GATHER;
    }
    return p;
}

int main(int argc, char **argv)
{
    static entry entries[MAX_ENTRIES];
    options o;
    gemmux_machine machine;
    gemmux_threads *threads;
    gemmux_error error;
    int count = 0;
    parse(argc, argv, &o);
    if (gemmux_machine_probe_cpu(&machine, &error) ||
        gemmux_threads_create(o.threads, &threads, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    int64_t m_most = 1;
    for (int i = 0; i < o.m_count; i++)
        m_most = o.m[i] > m_most ? o.m[i] : m_most;
    for (int w = 0; w < o.w_count; w++) {
        gemmux_weights weights; /* kept: some kernels multiply them where they are */
        make_operand(format_of(o.w[w]), o.experts ? o.experts : 1, o.n, o.k, &weights);
        for (int i = 0; i < gemmux_builtin_kernels.count; i++)
            for (int m = 0; m < o.m_count && count < MAX_ENTRIES; m++) {
                entry *e = &entries[count];
                *e = (entry){.kernel = gemmux_builtin_kernels.kernels[i], .w = o.w[w]};
                e->problem = problem_of(&o, o.m[m], o.w[w]);
                char glob[256];
                snprintf(glob, sizeof glob, "%s", o.only);
                gemmux_policy wanted = {.only = glob};
                gemmux_decision d;
                gemmux_machine alone = machine;
                struct gemmux_kernel_table table = {&gemmux_builtin_kernels.kernels[i], 1};
                alone.kernels = &table;
                if (gemmux_select(&e->problem, &alone, &wanted, &d, NULL, NULL) == GEMMUX_OK &&
                    open_entry(e, &machine, &weights, threads))
                    count++;
            }
    }
    gemmux_weights x;
    make_operand(format_of(o.x), 1, m_most, o.k, &x);
    int64_t rows = m_most * (o.experts ? o.top_k : 1);
    gemmux_args args = {.y = malloc((size_t)(rows * o.n * 4))};
    int32_t *ids = calloc((size_t)rows, sizeof *ids);
    for (int64_t i = 0; o.experts && i < rows; i++) /* spread evenly, distinct in a token */
        ids[i] = (int32_t)((i % o.top_k * (o.experts / o.top_k) + i / o.top_k * 7) % o.experts);
    args.expert_ids = ids;
    double reads[MAX_ROUNDS], peak[GEMMUX_MATH_COUNT] = {0};
    for (int round = 0; round < o.rounds; round++) {
        gemmux_machine now = machine;
        pin_threads(threads,
                    false); /* the measurement starts threads that inherit this one's set */
        gemmux_machine_measure(&now, o.threads, &error);
        pin_threads(threads, true);
        reads[round] = now.bandwidth;
        for (int i = 0; i < GEMMUX_MATH_COUNT; i++)
            peak[i] = now.peak[i] > peak[i] ? now.peak[i] : peak[i];
        for (int i = 0; i < count; i++) {
            args.x = x.tensor;
            args.x.rows = entries[i].problem.m;
            time_entry(&entries[i], &args, round);
        }
    }
    double sorted[MAX_ROUNDS];
    memcpy(sorted, reads, sizeof sorted);
    memcpy(machine.peak, peak, sizeof peak);
    printf(
        "%s, %d threads, N=%lld K=%lld: read %.1f GB/s, f32 %.0f, bf16 %.0f, int8 %.0f GFLOP/s\n",
        machine.name, o.threads, (long long)o.n, (long long)o.k, median(sorted, o.rounds) / 1e9,
        peak[GEMMUX_MATH_F32] / 1e9, peak[GEMMUX_MATH_BF16] / 1e9, peak[GEMMUX_MATH_INT8] / 1e9);
    for (int i = 0; i < count; i++)
        report(&entries[i], &o, &machine, reads);
    return 0;
}
