/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads of memory past the last cache, as fast as this machine does them with so many threads, each
 * on a CPU of its own: what products that wait for memory are held against. Separate from peers.c
 * because it takes its turns among the peers, in the same rounds: what a shared machine's memory
 * gives changes from second to second.
 */
#ifndef GEMMUX_BENCH_READS_H
#define GEMMUX_BENCH_READS_H

#include "../timing.h"
#include "probe/spin.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

enum { READS_LINE = 64, READS_MOST = 256, READS_PASSES = 4 };

typedef struct reads {
    int threads;
    int64_t lines; /* of each thread */
    char *buffer;
    const int *cpus;
    gemmux_read *read;
    bool touched;
    pthread_barrier_t barrier;
    double best_us; /* of the passes of one call */
} reads;

typedef struct reads_member {
    reads *all;
    int index;
    pthread_t thread;
} reads_member;

static void *reads_pass(void *context)
{
    const reads_member *m = context;
    reads *r = m->all;
    char *mine = r->buffer + m->index * r->lines * READS_LINE;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)r->cpus[m->index], &one);
    sched_setaffinity(0, sizeof one, &one);
    if (!r->touched)
        memset(mine, 1, (size_t)(r->lines * READS_LINE));
    for (int pass = 0; pass < READS_PASSES; pass++) {
        pthread_barrier_wait(&r->barrier);
        double start = now_us();
        uint64_t sum = r->read(mine, r->lines);
        __asm__ volatile("" ::"r"(sum));
        pthread_barrier_wait(&r->barrier);
        double us = now_us() - start;
        if (m->index == 0 && (pass == 0 || us < r->best_us))
            r->best_us = us;
    }
    return NULL;
}

/* Bytes a second: the best of a few passes, the first of them warming up. */
static double reads_rate(reads *r)
{
    reads_member members[READS_MOST];
    pthread_barrier_init(&r->barrier, NULL, (unsigned)r->threads);
    for (int i = 0; i < r->threads; i++) {
        members[i] = (reads_member){.all = r, .index = i};
        if (i && pthread_create(&members[i].thread, NULL, reads_pass, &members[i]))
            abort(); /* the others would wait for it for ever */
    }
    reads_pass(&members[0]);
    for (int i = 1; i < r->threads; i++)
        pthread_join(members[i].thread, NULL);
    pthread_barrier_destroy(&r->barrier);
    r->touched = true;
    return (double)(r->threads * r->lines * READS_LINE) / r->best_us * 1e6;
}

/* The calling thread is left on cpus[0]. false: no memory, or more threads than CPUs. */
static bool reads_open(reads *r, int threads, const int *cpus, int cpu_count, int64_t l3_bytes,
                       uint32_t isa)
{
    int64_t bytes = 4 * l3_bytes < 128 << 20 ? 128 << 20 : 4 * l3_bytes;
    *r = (reads){.threads = threads, .cpus = cpus, .read = gemmux_read_of(isa)};
    r->lines = bytes / threads / READS_LINE;
    if (threads > cpu_count || threads > READS_MOST)
        return false;
    r->buffer = (char *)mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (r->buffer == MAP_FAILED)
        return false;
    madvise(r->buffer, (size_t)bytes, MADV_HUGEPAGE); /* as gemmux's own weights have */
    return true;
}

static void reads_close(reads *r)
{
    munmap(r->buffer, (size_t)(r->threads * r->lines * READS_LINE));
}

#endif
