/* SPDX-License-Identifier: Apache-2.0
 *
 * The four functions of pthreadpool that gemmux uses, over plain threads made for every call, so
 * that the GPU tests build on a machine that has a compiler and nothing else.
 */
#ifndef GEMMUX_SHIM_PTHREADPOOL_H
#define GEMMUX_SHIM_PTHREADPOOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

typedef void (*pthreadpool_task_1d_t)(void *, size_t);
typedef struct pthreadpool {
    size_t threads;
} * pthreadpool_t;

typedef struct shim_job {
    pthreadpool_task_1d_t task;
    void *context;
    size_t count;
    atomic_size_t next;
} shim_job;

static inline pthreadpool_t pthreadpool_create(size_t threads)
{
    pthreadpool_t pool = malloc(sizeof *pool);
    if (pool)
        pool->threads = threads ? threads : (size_t)sysconf(_SC_NPROCESSORS_ONLN);
    return pool;
}

static inline size_t pthreadpool_get_threads_count(pthreadpool_t pool)
{
    return pool->threads;
}

static inline void pthreadpool_destroy(pthreadpool_t pool)
{
    free(pool);
}

static inline void *shim_work(void *argument)
{
    shim_job *job = argument;
    size_t i;
    while ((i = atomic_fetch_add(&job->next, 1)) < job->count)
        job->task(job->context, i);
    return NULL;
}

static inline void pthreadpool_parallelize_1d(pthreadpool_t pool, pthreadpool_task_1d_t task,
                                              void *context, size_t count, uint32_t flags)
{
    shim_job job = {.task = task, .context = context, .count = count};
    pthread_t threads[64];
    size_t wanted = pool->threads < 64 ? pool->threads : 64, made = 0;
    (void)flags;
    while (made + 1 < wanted && made + 1 < count &&
           pthread_create(&threads[made], NULL, shim_work, &job) == 0)
        made++;
    shim_work(&job);
    while (made)
        pthread_join(threads[--made], NULL);
}

#endif
