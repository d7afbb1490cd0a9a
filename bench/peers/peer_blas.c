/* SPDX-License-Identifier: Apache-2.0
 *
 * sgemm and sgemv of OpenBLAS and BLIS. Both export the same names, so each is opened on its own.
 */
#define _GNU_SOURCE
#include "peer.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111, TRANSPOSE = 112 };

typedef void sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                   const float *a, int lda, const float *b, int ldb, float beta, float *c, int ldc);
typedef void sgemv(int order, int trans, int m, int n, float alpha, const float *a, int lda,
                   const float *x, int incx, float beta, float *y, int incy);

typedef struct blas {
    const char *file, *set_threads, *symbol;
} blas;

typedef struct product {
    peer_product p;
    sgemm *gemm;
    sgemv *gemv;
    float **w;
    float *y;
} product;

static void *open_blas(const peer *self, const peer_product *p)
{
    const blas *library = self->detail;
    void *handle = dlopen(library->file, RTLD_NOW | RTLD_LOCAL);
    if (!handle || p->experts || strcmp(p->format, "f32") != 0)
        return NULL;
    product *s = calloc(1, sizeof *s);
    void (*set_threads)(int) = (void (*)(int))dlsym(handle, library->set_threads);
    s->p = *p;
    s->gemm = (sgemm *)dlsym(handle, "cblas_sgemm");
    s->gemv = (sgemv *)dlsym(handle, "cblas_sgemv");
    set_threads(p->threads);
    s->w = calloc((size_t)p->copies, sizeof *s->w);
    for (int i = 0; i < p->copies; i++) {
        size_t bytes = (size_t)(p->n * p->k) * sizeof(float);
        s->w[i] = aligned_alloc(64, (bytes + 63) / 64 * 64);
        memcpy(s->w[i], p->w, bytes);
    }
    s->y = calloc((size_t)(p->m * p->n), sizeof *s->y);
    return s;
}

static void run_blas(void *state, int copy)
{
    product *s = state;
    int m = (int)s->p.m, n = (int)s->p.n, k = (int)s->p.k;
    if (m == 1)
        s->gemv(ROW_MAJOR, NO_TRANSPOSE, n, k, 1, s->w[copy], k, s->p.x, 1, 0, s->y, 1);
    else
        s->gemm(ROW_MAJOR, NO_TRANSPOSE, TRANSPOSE, m, n, k, 1, s->p.x, k, s->w[copy], k, 0, s->y,
                n);
}

static void result_blas(void *state, float *y)
{
    product *s = state;
    memcpy(y, s->y, (size_t)(s->p.m * s->p.n) * sizeof *y);
}

static void close_blas(void *state)
{
    product *s = state;
    for (int i = 0; i < s->p.copies; i++)
        free(s->w[i]);
    free(s->w);
    free(s->y);
    free(s);
}

static const blas openblas = {"libopenblas.so.0", "openblas_set_num_threads",
                              "openblas_get_config"};
static const blas blis = {"libblis.so.4", "bli_thread_set_num_threads", "bli_info_get_version_str"};

static const peer peers[] = {
    {"openblas", open_blas, run_blas, result_blas, NULL, close_blas, &openblas},
    {"blis", open_blas, run_blas, result_blas, NULL, close_blas, &blis},
    {0},
};

const peer *peer_list_of_module(const char **version);
const peer *peer_list_of_module(const char **version)
{
    static char text[160];
    const blas *libraries[] = {&openblas, &blis};
    const char *names[] = {"OpenBLAS", "BLIS"};
    for (int i = 0; i < 2; i++) {
        void *handle = dlopen(libraries[i]->file, RTLD_NOW | RTLD_LOCAL);
        const char *(*ask)(void) =
            handle ? (const char *(*)(void))dlsym(handle, libraries[i]->symbol) : NULL;
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%s%s %s", i ? "; " : "", names[i],
                 ask ? ask() : "not here");
    }
    *version = text;
    return peers;
}
