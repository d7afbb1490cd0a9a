/* SPDX-License-Identifier: Apache-2.0
 *
 * oneDNN (libdnnl) as a function table, declared by hand so that building needs no header of it.
 * Separate from the kernels because the C interface changed between versions 2 (descriptors are
 * structs of the caller) and 3 (descriptors are handles): this file hides which one it is and
 * gives the one thing that gemmux asks of oneDNN, a matrix product on the calling thread.
 *
 * Threads. oneDNN runs on a thread pool of its own, chosen when it was built. gemmux splits the
 * work itself and wants each call to stay on its thread: with OpenMP by telling the OpenMP runtime
 * that the calling thread may use one thread (a setting of that thread alone, put back
 * afterwards), with the sequential runtime by doing nothing. Other runtimes (TBB, SYCL, a pool
 * given by the caller) cannot be held to one thread from C, and are refused.
 */
#ifndef GEMMUX_DNNL_H
#define GEMMUX_DNNL_H

#include "driver/omp.h"
#include "gemmux.h"

/* Element types, as oneDNN numbers them in versions 2 and 3. */
typedef enum gemmux_dnnl_type {
    GEMMUX_DNNL_F16 = 1,
    GEMMUX_DNNL_BF16 = 2,
    GEMMUX_DNNL_F32 = 3,
    GEMMUX_DNNL_S32 = 4,
    GEMMUX_DNNL_S8 = 5,
    GEMMUX_DNNL_U8 = 6
} gemmux_dnnl_type;

typedef struct gemmux_dnnl_argument {
    int index;
    void *memory;
} gemmux_dnnl_argument;

typedef struct gemmux_dnnl {
    void *library;
    int32_t version; /* major * 10000 + minor * 100 + patch */
    void *engine, *stream;

    int (*engine_create)(void **engine, int kind, size_t index);
    int (*engine_destroy)(void *engine);
    int (*stream_create)(void **stream, void *engine, unsigned flags);
    int (*stream_destroy)(void *stream);
    int (*stream_wait)(void *stream);
    int (*attr_create)(void **attr);
    int (*attr_destroy)(void *attr);
    int (*attr_set_scratchpad_mode)(void *attr, int mode);
    int (*pd_query)(const void *pd, int what, int index, void *result);
    const void *(*pd_query_md)(const void *pd, int what, int index);
    int (*pd_destroy)(void *pd);
    int (*primitive_create)(void **primitive, const void *pd);
    int (*primitive_execute)(const void *primitive, void *stream, int count,
                             const gemmux_dnnl_argument *arguments);
    int (*primitive_destroy)(void *primitive);
    int (*memory_create)(void **memory, const void *md, void *engine, void *data);
    int (*memory_destroy)(void *memory);
    size_t (*md_get_size)(const void *md);
    /* version 2 */
    int (*md_init_by_strides)(void *md, int dims_count, const int64_t *dims, int type,
                              const int64_t *strides);
    int (*md_init_by_tag)(void *md, int dims_count, const int64_t *dims, int type, int tag);
    int (*matmul_desc_init)(void *desc, const void *x, const void *w, const void *bias,
                            const void *y);
    int (*pd_create)(void **pd, const void *desc, const void *attr, void *engine, const void *hint);
    /* version 3 */
    int (*md_create_with_strides)(void **md, int dims_count, const int64_t *dims, int type,
                                  const int64_t *strides);
    int (*md_create_with_tag)(void **md, int dims_count, const int64_t *dims, int type, int tag);
    int (*md_destroy)(void *md);
    int (*matmul_pd_create)(void **pd, void *engine, const void *x, const void *w, const void *bias,
                            const void *y, const void *attr);
    gemmux_omp omp; /* hold it around every create and run */
} gemmux_dnnl;

/* Opens the library and checks that it can be used at all: version 2.6 or newer of 2, or 3, with
 * a runtime that can be held to one thread. On false, why says what is wrong. */
bool gemmux_dnnl_open(gemmux_dnnl *dnnl, const char *path, char *why, size_t why_size);
void gemmux_dnnl_close(gemmux_dnnl *dnnl);

/* y[m,n] = x[m,k] . w[n,k]^T, all dense. */
typedef struct gemmux_dnnl_shape {
    gemmux_dnnl_type x, w, y;
    int64_t m, n, k;
    /* w in oneDNN's layout BA16a64b, BA16a64b2a or BA16a64b4a (packings/tile64.c), not row-major */
    bool tiled;
} gemmux_dnnl_shape;

typedef struct gemmux_dnnl_matmul {
    void *primitive, *pd;
    void *x, *w, *y;     /* memory descriptors, owned */
    const void *scratch; /* a descriptor of pd's */
    int64_t scratch_bytes, w_bytes;
    char implementation[48]; /* oneDNN's own name for what it chose: "brg:avx512_core_bf16" */
} gemmux_dnnl_matmul;

/* Fails where oneDNN fails, and where it offers only its unoptimised reference code. */
gemmux_status gemmux_dnnl_matmul_create(const gemmux_dnnl *dnnl, const gemmux_dnnl_shape *shape,
                                        gemmux_dnnl_matmul *matmul, gemmux_error *error);
/* Returns oneDNN's status, 0 for success. scratch: scratch_bytes, 64-byte aligned. Several threads
 * may run one matmul at once. */
int gemmux_dnnl_matmul_run(const gemmux_dnnl *dnnl, const gemmux_dnnl_matmul *matmul, const void *x,
                           const void *w, void *y, void *scratch);
void gemmux_dnnl_matmul_free(const gemmux_dnnl *dnnl, gemmux_dnnl_matmul *matmul);

#endif
