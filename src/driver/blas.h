/* SPDX-License-Identifier: Apache-2.0
 *
 * OpenBLAS as a function table. Separate from the kernels so that its one awkward property, a
 * number of threads that belongs to the whole process, is dealt with in one place.
 *
 * Threads. gemmux splits the work itself and wants each call to stay on its thread. Builds with
 * OpenMP follow the calling thread's own count (driver/omp.h). In builds with pthreads the count is
 * one variable for the process, so gemmux_blas_hold sets it to 1 and the last
 * gemmux_blas_release puts back what the first one found. The count of holders is gemmux's only
 * mutable global, because it stands for a variable that OpenBLAS keeps per process: two plans on
 * two threads must not put it back while the other still runs. Other users of OpenBLAS in the
 * process get right results meanwhile, on one thread a call.
 */
#ifndef GEMMUX_BLAS_H
#define GEMMUX_BLAS_H

#include "driver/omp.h"
#include "gemmux.h"

enum { GEMMUX_BLAS_ROW_MAJOR = 101, GEMMUX_BLAS_AS_IS = 111, GEMMUX_BLAS_TRANSPOSED = 112 };

typedef struct gemmux_blas {
    void *library;
    int32_t version;  /* major * 10000 + minor * 100 + patch */
    char config[128]; /* openblas_get_config: build options and the core it chose */
    gemmux_omp omp;   /* of builds with OpenMP: hold it around every call */
    char *(*get_config)(void);
    int (*get_parallel)(void);
    int (*get_num_threads)(void);
    void (*set_num_threads)(int count);
    void (*sgemm)(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha,
                  const float *a, int lda, const float *b, int ldb, float beta, float *c, int ldc);
    void (*sgemv)(int order, int transpose, int m, int n, float alpha, const float *a, int lda,
                  const float *x, int incx, float beta, float *y, int incy);
} gemmux_blas;

/* On false, why says what is wrong. Builds with 64-bit integers are refused: another interface. */
bool gemmux_blas_open(gemmux_blas *blas, const char *path, char *why, size_t why_size);
void gemmux_blas_close(gemmux_blas *blas);

void gemmux_blas_hold(const gemmux_blas *blas);
void gemmux_blas_release(const gemmux_blas *blas);

#endif
