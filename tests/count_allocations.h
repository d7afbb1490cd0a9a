/* SPDX-License-Identifier: Apache-2.0
 *
 * Counts every heap allocation of the process, libc's own included. Include it in one file of a
 * program. Plain builds put themselves before glibc's malloc; sanitized builds, whose runtime is
 * already there, ask it for a callback.
 */
#ifndef GEMMUX_COUNT_ALLOCATIONS_H
#define GEMMUX_COUNT_ALLOCATIONS_H

#include <stddef.h>

static volatile long allocation_count; /* volatile: compilers know that malloc changes no memory */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#    define COUNT_BY_HOOK 1
#elif defined(__has_feature)
#    if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#        define COUNT_BY_HOOK 1
#    endif
#endif

#ifdef COUNT_BY_HOOK
int __sanitizer_install_malloc_and_free_hooks(void (*malloc_hook)(const volatile void *, size_t),
                                              void (*free_hook)(const volatile void *));

static void on_malloc(const volatile void *pointer, size_t size)
{
    (void)pointer, (void)size;
    allocation_count++;
}

static void on_free(const volatile void *pointer)
{
    (void)pointer;
}

static void count_allocations(void)
{
    __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
}
#else
/* glibc's names for what is behind malloc. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
/* Visible, or libc would go on calling its own. */
#    pragma GCC visibility push(default)
void *malloc(size_t size);
void *calloc(size_t count, size_t size);
void *realloc(void *old, size_t size);
void *aligned_alloc(size_t alignment, size_t size);
int posix_memalign(void **out, size_t alignment, size_t size);
#    pragma GCC visibility pop

void *malloc(size_t size)
{
    allocation_count++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    allocation_count++;
    return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    allocation_count++;
    return __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    allocation_count++;
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    allocation_count++;
    *out = __libc_memalign(alignment, size);
    return *out ? 0 : 12; /* ENOMEM */
}

static void count_allocations(void)
{
}
#endif

#endif
