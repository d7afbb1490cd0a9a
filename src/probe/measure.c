/* SPDX-License-Identifier: Apache-2.0
 *
 * Measures what this machine attains: bytes a second of a plain read past the last cache, and
 * operations a second of each kind of arithmetic, with all threads at once, each on a core of its
 * own: two that meet on one would read half. The best of several passes counts, because on a shared
 * machine the others are somebody else's.
 */
#include "error.h"
#include "probe/probe.h"
#include "probe/spin.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum {
    PASSES_READ = 10,
    PASSES_SPIN = 6,
    PASS_US = 4000, /* of arithmetic: long enough for clocks to settle */
    LINE = 64,
};

typedef struct team {
    pthread_barrier_t barrier;
    const gemmux_machine *machine;
    int count;
    char *buffer;
    int64_t lines; /* of 64 bytes, a thread */
    double bandwidth;
    double rate[GEMMUX_MATH_COUNT];
    double *share; /* [count]: what each thread contributed to the pass at hand */
} team;

typedef struct member {
    team *team;
    int index;
    int cpu; /* -1: wherever the system likes */
    pthread_t thread;
} member;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The sum of all threads' shares, on every thread. */
static double gather(team *t, int index, double mine)
{
    double sum = 0;
    t->share[index] = mine;
    pthread_barrier_wait(&t->barrier);
    for (int i = 0; i < t->count; i++)
        sum += t->share[i];
    pthread_barrier_wait(&t->barrier);
    return sum;
}

/* From the moment all threads are ready to the moment the last is done. */
static void time_reads(team *t, int index)
{
    gemmux_read *read = gemmux_read_of(t->machine->isa);
    char *mine = t->buffer + (int64_t)index * t->lines * LINE;
    memset(mine, 1, (size_t)(t->lines * LINE)); /* each thread's pages, by its own hand */
    for (int pass = 0; pass < PASSES_READ; pass++) {
        pthread_barrier_wait(&t->barrier);
        double start = now_s();
        uint64_t sum = read(mine, t->lines);
        __asm__ volatile("" ::"r"(sum));
        pthread_barrier_wait(&t->barrier);
        double rate = (double)t->count * (double)t->lines * LINE / (now_s() - start);
        if (index == 0 && rate > t->bandwidth)
            t->bandwidth = rate;
    }
}

/* Rounds that take about PASS_US, found by doubling. */
static int64_t calibrate(gemmux_spin *spin)
{
    int64_t rounds = 64;
    for (;;) {
        double start = now_s();
        spin(rounds);
        double seconds = now_s() - start;
        if (seconds * 1e6 >= PASS_US / 4.0)
            return (int64_t)((double)rounds * PASS_US * 1e-6 / seconds) + 1;
        rounds *= 2;
    }
}

static void time_spins(team *t, int index, gemmux_math math)
{
    gemmux_spin *spin = gemmux_spin_of(math, t->machine->isa);
    if (!spin)
        return;
    int64_t rounds = calibrate(spin);
    for (int pass = 0; pass < PASSES_SPIN; pass++) {
        pthread_barrier_wait(&t->barrier);
        double start = now_s();
        double operations = spin(rounds);
        double rate = gather(t, index, operations / (now_s() - start));
        if (index == 0 && rate > t->rate[math])
            t->rate[math] = rate;
    }
}

/* The calling thread; where the system refuses, it stays where it is. */
static void pin(int cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)cpu, &one);
    (void)sched_setaffinity(0, sizeof one, &one);
}

static void *measure(void *context)
{
    const member *m = context;
    if (m->cpu >= 0)
        pin(m->cpu);
    time_reads(m->team, m->index);
    for (int math = 0; math < GEMMUX_MATH_COUNT; math++)
        time_spins(m->team, m->index, (gemmux_math)math);
    return NULL;
}

/* Four times the last cache, and 16 MiB a thread where every few cores have a cache of their own;
 * never more than a quarter of the memory. */
static int64_t lines_per_thread(const gemmux_machine *machine, int threads)
{
    const int64_t mib = INT64_C(1) << 20;
    int64_t bytes = 4 * machine->l3_bytes;
    bytes = bytes < 128 * mib ? 128 * mib : bytes;
    bytes = bytes < threads * 16 * mib ? threads * 16 * mib : bytes;
    if (machine->memory_bytes && bytes > machine->memory_bytes / 4)
        bytes = machine->memory_bytes / 4;
    return bytes / threads / LINE;
}

/* A started thread that finds no partner would wait for ever, so threads are all started before
 * the barrier is made for as many as there are. */
typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t open;
    bool go;
} gate;

typedef struct starter {
    member member;
    gate *gate;
} starter;

static void *wait_and_measure(void *context)
{
    starter *s = context;
    pthread_mutex_lock(&s->gate->lock);
    while (!s->gate->go)
        pthread_cond_wait(&s->gate->open, &s->gate->lock);
    pthread_mutex_unlock(&s->gate->lock);
    return measure(&s->member);
}

/* Runs the team on up to t->count threads, the calling one included; t->count becomes how many
 * there were. The calling thread is free to run anywhere again when it is done. */
static void run_team(team *t, starter *starters, gate *g)
{
    int cpus[CPU_SETSIZE], started = 1;
    cpu_set_t before;
    /* More threads than cores: the system knows better than we which should meet. */
    bool pinned = sched_getaffinity(0, sizeof before, &before) == 0 &&
                  gemmux_probe_cores(cpus, CPU_SETSIZE) >= t->count;
    for (int i = 1; i < t->count; i++) {
        starters[started] = (starter){{t, started, pinned ? cpus[started] : -1, 0}, g};
        started += pthread_create(&starters[started].member.thread, NULL, wait_and_measure,
                                  &starters[started]) == 0;
    }
    t->count = started;
    pthread_barrier_init(&t->barrier, NULL, (unsigned)started);
    pthread_mutex_lock(&g->lock);
    g->go = true;
    pthread_cond_broadcast(&g->open);
    pthread_mutex_unlock(&g->lock);
    starters[0] = (starter){{t, 0, pinned ? cpus[0] : -1, 0}, g};
    measure(&starters[0].member);
    for (int i = 1; i < started; i++)
        pthread_join(starters[i].member.thread, NULL);
    pthread_barrier_destroy(&t->barrier);
    if (pinned)
        (void)sched_setaffinity(0, sizeof before, &before);
}

static void store_rates(gemmux_machine *machine, const team *t)
{
    double f32 = t->rate[GEMMUX_MATH_F32];
    double bf16 = t->rate[GEMMUX_MATH_BF16] > 0 ? t->rate[GEMMUX_MATH_BF16] : f32;
    double f16 = t->rate[GEMMUX_MATH_F16] > 0 ? t->rate[GEMMUX_MATH_F16] : f32;
    double int8 = t->rate[GEMMUX_MATH_INT8] > 0 ? t->rate[GEMMUX_MATH_INT8] : f32;
    machine->bandwidth = t->bandwidth;
    machine->peak[GEMMUX_MATH_F32] = f32;
    machine->peak[GEMMUX_MATH_TF32] = f32;
    machine->peak[GEMMUX_MATH_F16] = f16;
    machine->peak[GEMMUX_MATH_BF16] = bf16;
    machine->peak[GEMMUX_MATH_FP8] = bf16; /* upcast: no CPU multiplies these */
    machine->peak[GEMMUX_MATH_FP4] = bf16;
    machine->peak[GEMMUX_MATH_INT8] = int8;
}

gemmux_status gemmux_machine_measure(gemmux_machine *machine, int threads, gemmux_error *error)
{
    if (machine->kind != GEMMUX_CPU || machine->described)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "measure: %s is not the CPU this process runs on", machine->name);
    if (threads < 0 || threads > 4096)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "measure: threads must be 0 (all) to 4096, got %d", threads);
    team t = {.machine = machine, .count = threads ? threads : machine->cores};
    t.lines = lines_per_thread(machine, t.count);
    size_t bytes = (size_t)(t.lines * t.count * LINE);
    gate g = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    starter *starters = calloc((size_t)t.count, sizeof *starters);
    t.share = calloc((size_t)t.count, sizeof *t.share);
    t.buffer = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool enough = starters && t.share && t.buffer != MAP_FAILED;
    if (enough) {
        madvise(t.buffer, bytes, MADV_HUGEPAGE); /* fewer faults; a wish, not a need */
        run_team(&t, starters, &g);
        store_rates(machine, &t);
    }
    if (t.buffer != MAP_FAILED)
        munmap(t.buffer, bytes);
    free(t.share);
    free(starters);
    return enough ? GEMMUX_OK
                  : gemmux_fail(error, GEMMUX_ERROR_MEMORY,
                                "measure: out of memory for a buffer of %zu bytes", bytes);
}
