/* SPDX-License-Identifier: Apache-2.0
 *
 * Keeping a library's OpenMP on the calling thread. Separate because oneDNN and some builds of
 * OpenBLAS both need it. The count is a variable of the calling thread (OpenMP's nthreads-var), so
 * nothing here is global; the functions are taken from the runtime that the library itself uses,
 * since a process may hold several.
 */
#ifndef GEMMUX_OMP_H
#define GEMMUX_OMP_H

#include <stdbool.h>

typedef struct gemmux_omp {
    int (*get_max_threads)(void);
    void (*set_num_threads)(int count); /* NULL: no OpenMP, nothing to hold */
} gemmux_omp;

/* False when the runtime of `library` cannot be reached (linked in and hidden). */
bool gemmux_omp_open(gemmux_omp *omp, void *library);
/* From hold to release the calling thread's parallel regions have one thread. */
int gemmux_omp_hold(const gemmux_omp *omp);
void gemmux_omp_release(const gemmux_omp *omp, int held);

#endif
