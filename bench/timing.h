/* SPDX-License-Identifier: Apache-2.0
 *
 * The clock and the median of all benchmark programs, so that their figures mean the same. They are
 * those of cli/session.h, which stands apart because the command sees nothing but its own headers.
 */
#ifndef GEMMUX_BENCH_TIMING_H
#define GEMMUX_BENCH_TIMING_H

#include <stdlib.h>
#include <time.h>

static inline double clock_us(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static inline double now_us(void)
{
    return clock_us(CLOCK_MONOTONIC);
}

static inline int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts the values; of an even number it is the mean of the two in the middle. */
static inline double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, ascending);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

#endif
