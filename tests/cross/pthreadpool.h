/* SPDX-License-Identifier: Apache-2.0
 *
 * The four functions of pthreadpool that parallel.c calls, for builds where the library is not
 * there: threads that live as long as one call.
 */
#ifndef GEMMUX_CROSS_PTHREADPOOL_H
#define GEMMUX_CROSS_PTHREADPOOL_H

#include <stddef.h>
#include <stdint.h>

typedef struct pthreadpool *pthreadpool_t;

pthreadpool_t pthreadpool_create(size_t threads);
size_t pthreadpool_get_threads_count(pthreadpool_t pool);
void pthreadpool_parallelize_1d(pthreadpool_t pool, void (*task)(void *context, size_t i),
                                void *context, size_t range, uint32_t flags);
void pthreadpool_destroy(pthreadpool_t pool);

#endif
