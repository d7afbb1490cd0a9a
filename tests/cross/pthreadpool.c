/* SPDX-License-Identifier: Apache-2.0 */
#include "pthreadpool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { MOST_THREADS = 16 };

struct pthreadpool {
    size_t threads;
};

typedef struct job {
    void (*task)(void *context, size_t i);
    void *context;
    size_t range;
    atomic_size_t next;
} job;

pthreadpool_t pthreadpool_create(size_t threads)
{
    pthreadpool_t pool = malloc(sizeof *pool);
    if (pool)
        pool->threads = threads == 0 || threads > MOST_THREADS ? 2 : threads;
    return pool;
}

size_t pthreadpool_get_threads_count(pthreadpool_t pool)
{
    return pool->threads;
}

static void *work(void *argument)
{
    job *j = argument;
    size_t i;
    while ((i = atomic_fetch_add(&j->next, 1)) < j->range)
        j->task(j->context, i);
    return NULL;
}

void pthreadpool_parallelize_1d(pthreadpool_t pool, void (*task)(void *context, size_t i),
                                void *context, size_t range, uint32_t flags)
{
    (void)flags;
    job j = {.task = task, .context = context, .range = range};
    pthread_t threads[MOST_THREADS];
    size_t started = 0;
    while (started + 1 < pool->threads && !pthread_create(&threads[started], NULL, work, &j))
        started++;
    work(&j);
    while (started)
        pthread_join(threads[--started], NULL);
}

void pthreadpool_destroy(pthreadpool_t pool)
{
    free(pool);
}
