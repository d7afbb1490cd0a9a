/* SPDX-License-Identifier: Apache-2.0 */
#include "pages.h"

#include <stdlib.h>
#include <sys/mman.h>

enum {
    LINE = 64,
    HUGE_PAGE = 2 << 20, /* of x86-64, and of aarch64 with 4 KiB pages */
};

void *gemmux_pages_alloc(int64_t bytes)
{
    if (bytes < 0 || bytes > INT64_MAX - HUGE_PAGE)
        return NULL;
    int64_t unit = bytes < HUGE_PAGE ? LINE : HUGE_PAGE;
    size_t size = (size_t)((bytes + unit - 1) / unit * unit);
    void *memory = aligned_alloc((size_t)unit, size ? size : LINE);
#ifdef MADV_HUGEPAGE
    if (memory && unit == HUGE_PAGE)
        (void)madvise(memory, size, MADV_HUGEPAGE); /* a wish, not a need */
#endif
    return memory;
}
