/* SPDX-License-Identifier: Apache-2.0
 *
 * Threads for CPU kernels, over pthreadpool. The only file that knows which pool it is.
 */
#include "error.h"
#include "kernel.h"

#include <pthreadpool.h>
#include <stdatomic.h>
#include <stdlib.h>

struct gemmux_threads {
    pthreadpool_t pool; /* NULL: the calling thread alone */
    int count;
};

gemmux_status gemmux_threads_create(int count, gemmux_threads **threads, gemmux_error *error)
{
    *threads = NULL;
    if (count < 0 || count > 4096)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "threads: the count must be 0 (one a core) to 4096, got %d", count);
    gemmux_threads *made = calloc(1, sizeof *made);
    if (!made)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "threads: out of memory");
    made->count = count;
    if (count != 1) {
        made->pool = pthreadpool_create((size_t)count);
        if (!made->pool) {
            free(made);
            return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "threads: could not start %d threads",
                               count);
        }
        made->count = (int)pthreadpool_get_threads_count(made->pool);
    }
    *threads = made;
    return GEMMUX_OK;
}

int gemmux_threads_count(const gemmux_threads *threads)
{
    return threads ? threads->count : 1;
}

void gemmux_threads_free(gemmux_threads *threads)
{
    if (!threads)
        return;
    if (threads->pool)
        pthreadpool_destroy(threads->pool);
    free(threads);
}

/* The thread sanitizer cannot see into the pool's library. This tells it what the pool promises and
 * no more: items see what was written before the call, the caller sees what items wrote. Two items
 * that touch one address are still a race. */
#if defined(__SANITIZE_THREAD__)
#    define WATCHED 1
#elif defined(__has_feature)
#    if __has_feature(thread_sanitizer)
#        define WATCHED 1
#    endif
#endif

#ifdef WATCHED
void __tsan_acquire(void *address);
void __tsan_release(void *address);

typedef struct watched {
    void (*fn)(void *context, size_t i);
    void *context;
    char start, end; /* only their addresses matter */
} watched;

static void watched_item(void *context, size_t i)
{
    watched *job = context;
    __tsan_acquire(&job->start);
    job->fn(job->context, i);
    __tsan_release(&job->end);
}

static void parallelize(pthreadpool_t pool, void (*fn)(void *context, size_t i), void *context,
                        size_t count)
{
    watched job = {.fn = fn, .context = context};
    __tsan_release(&job.start);
    pthreadpool_parallelize_1d(pool, watched_item, &job, count, 0);
    __tsan_acquire(&job.end);
}
#else
static void parallelize(pthreadpool_t pool, void (*fn)(void *context, size_t i), void *context,
                        size_t count)
{
    pthreadpool_parallelize_1d(pool, fn, context, count, 0);
}
#endif

void gemmux_parallel(gemmux_threads *threads, void (*fn)(void *context, size_t i), void *context,
                     size_t count)
{
    if (threads && threads->pool && count > 1) {
        parallelize(threads->pool, fn, context, count);
        return;
    }
    for (size_t i = 0; i < count; i++)
        fn(context, i);
}

/* pthreadpool of Debian 12 hands out no worker index: one item a worker, each of which draws
 * real items from a shared counter. */
typedef struct gemmux_draw {
    void (*fn)(void *context, uint32_t worker, size_t i);
    void *context;
    size_t count;
    atomic_size_t next;
} gemmux_draw;

static void draw_items(void *context, size_t worker)
{
    gemmux_draw *draw = context;
    size_t i;
    while ((i = atomic_fetch_add_explicit(&draw->next, 1, memory_order_relaxed)) < draw->count)
        draw->fn(draw->context, (uint32_t)worker, i);
}

void gemmux_parallel_workers(gemmux_threads *threads,
                             void (*fn)(void *context, uint32_t worker, size_t i), void *context,
                             size_t count)
{
    gemmux_draw draw = {.fn = fn, .context = context, .count = count, .next = 0};
    gemmux_parallel(threads, draw_items, &draw, (size_t)gemmux_threads_count(threads));
}
