/* SPDX-License-Identifier: Apache-2.0
 *
 * libcublasLt, opened when it is found. Declared by hand from cublasLt.h of CUDA 13.0 (the same in
 * 12.x), so that no CUDA header is needed to compile. Separate from the kernels, which say what is
 * multiplied: this file knows how cuBLASLt is asked.
 */
#ifndef GEMMUX_BLASLT_H
#define GEMMUX_BLASLT_H

#include "gemmux.h"

/* cudaDataType_t (library_types.h). */
typedef enum gemmux_lt_type {
    GEMMUX_LT_F32 = 0,
    GEMMUX_LT_F16 = 2,
    GEMMUX_LT_INT8 = 3,
    GEMMUX_LT_INT32 = 10,
    GEMMUX_LT_BF16 = 14,
    GEMMUX_LT_E4M3 = 28,
    GEMMUX_LT_E5M2 = 29,
    GEMMUX_LT_E2M1 = 33,
} gemmux_lt_type;

/* cublasComputeType_t (cublas_api.h). */
typedef enum gemmux_lt_compute {
    GEMMUX_LT_COMPUTE_F32 = 68,
    GEMMUX_LT_COMPUTE_INT32 = 72,
    GEMMUX_LT_COMPUTE_TF32 = 77,
} gemmux_lt_compute;

/* cublasLtMatmulMatrixScale_t: which elements of an operand share a scale. */
typedef enum gemmux_lt_scale {
    GEMMUX_LT_SCALE_TENSOR = 0,
    GEMMUX_LT_SCALE_16_UE4M3 = 1,  /* 16 along K, in tiles of 128 x 4 */
    GEMMUX_LT_SCALE_32_UE8M0 = 2,  /* 32 along K, in tiles of 128 x 4 */
    GEMMUX_LT_SCALE_ROW = 3,       /* [rows] */
    GEMMUX_LT_SCALE_128 = 4,       /* 128 along K: [ceil(K / 128)][rows] */
    GEMMUX_LT_SCALE_BLOCK_128 = 5, /* [ceil(rows / 128)][ceil(K / 128) rounded up to 4] */
} gemmux_lt_scale;

/* cublasLtMatmulAlgo_t and cublasLtMatmulHeuristicResult_t. */
typedef struct gemmux_lt_algo {
    uint64_t data[8];
} gemmux_lt_algo;

typedef struct gemmux_lt_found {
    gemmux_lt_algo algo;
    size_t workspace_bytes;
    int status;
    float waves;
    int reserved[4];
} gemmux_lt_found;

/* symbol, field, parameters. */
#define GEMMUX_LT_FUNCTIONS(X)                                                                     \
    X("cublasLtCreate", create, (void **handle))                                                   \
    X("cublasLtDestroy", destroy, (void *handle))                                                  \
    X("cublasLtMatmulDescCreate", desc_create, (void **desc, int compute, int scale))              \
    X("cublasLtMatmulDescDestroy", desc_destroy, (void *desc))                                     \
    X("cublasLtMatmulDescSetAttribute", desc_set,                                                  \
      (void *desc, int attribute, const void *value, size_t bytes))                                \
    X("cublasLtMatrixLayoutCreate", layout_create,                                                 \
      (void **layout, int type, uint64_t rows, uint64_t cols, int64_t ld))                         \
    X("cublasLtMatrixLayoutDestroy", layout_destroy, (void *layout))                               \
    X("cublasLtMatrixLayoutSetAttribute", layout_set,                                              \
      (void *layout, int attribute, const void *value, size_t bytes))                              \
    X("cublasLtMatmulPreferenceCreate", preference_create, (void **preference))                    \
    X("cublasLtMatmulPreferenceDestroy", preference_destroy, (void *preference))                   \
    X("cublasLtMatmulPreferenceSetAttribute", preference_set,                                      \
      (void *preference, int attribute, const void *value, size_t bytes))                          \
    X("cublasLtMatmulAlgoGetHeuristic", heuristic,                                                 \
      (void *handle, void *desc, void *a, void *b, void *c, void *d, void *preference, int wanted, \
       gemmux_lt_found *found, int *count))                                                        \
    X("cublasLtMatmul", matmul,                                                                    \
      (void *handle, void *desc, const void *alpha, const void *a, void *a_layout, const void *b,  \
       void *b_layout, const void *beta, const void *c, void *c_layout, void *d, void *d_layout,   \
       const gemmux_lt_algo *algo, void *workspace, size_t workspace_bytes, void *stream))         \
    X("cublasLtLoggerOpenFile", logger_file, (const char *path))                                   \
    X("cublasLtLoggerSetCallback", logger_callback,                                                \
      (void (*said)(int level, const char *function, const char *message)))                        \
    X("cublasLtLoggerSetLevel", logger_level, (int level))

typedef struct gemmux_lt {
    void *library, *handle;
    const char *(*status_name)(int status);
#define GEMMUX_LT_FIELD(symbol, field, parameters) int(*field) parameters;
    GEMMUX_LT_FUNCTIONS(GEMMUX_LT_FIELD)
#undef GEMMUX_LT_FIELD
} gemmux_lt;

/* What stays the same for all M of one weight: y[M, N] = x[M, K] . w[N, K]^T. */
typedef struct gemmux_lt_shape {
    gemmux_lt_type x, w, y;
    gemmux_lt_compute compute;
    int64_t n, k, w_stride; /* strides: elements from one row to the next */
    int64_t workspace_bytes;
    int32_t align; /* bytes, of operands and their rows; 0: 16 */
    bool scaled;   /* x and w have scales on the device, laid out as x_scale and w_scale say */
    gemmux_lt_scale x_scale, w_scale;
    const void *bias; /* on the device, or NULL */
    gemmux_lt_type bias_type;
    bool factor_on_device; /* operands carry what multiplies all sums; else it is `factor` */
    float factor;          /* 0: 1 */
} gemmux_lt_shape;

enum { GEMMUX_LT_CHOICES = 64 };

typedef struct gemmux_lt_matmul {
    void *desc, *x, *w, *y, *preference;
    gemmux_lt_shape shape;
    /* The choice of cuBLASLt for the M's met last, by M; `now` is the one the layouts are set to.
     */
    struct gemmux_lt_choice {
        int64_t m, x_stride, y_stride;
        gemmux_lt_algo algo;
    } choices[GEMMUX_LT_CHOICES];
    const struct gemmux_lt_choice *now;
    const void *scales[2]; /* that desc points to */
} gemmux_lt_matmul;

/* Device pointers of one product, aligned as the shape says (workspace 256). */
typedef struct gemmux_lt_operands {
    const void *x, *w;
    const void *x_scales, *w_scales;
    const float *factors; /* {what multiplies all sums, 0} where the shape says so */
    void *y, *workspace, *stream;
} gemmux_lt_operands;

/* Opens the library and makes a handle; the device's context must be current. */
gemmux_status gemmux_lt_open(gemmux_lt *lt, const char *path, gemmux_error *error);
void gemmux_lt_close(gemmux_lt *lt);
gemmux_status gemmux_lt_matmul_create(const gemmux_lt *lt, const gemmux_lt_shape *shape,
                                      gemmux_lt_matmul *matmul, gemmux_error *error);
void gemmux_lt_matmul_free(const gemmux_lt *lt, gemmux_lt_matmul *matmul);
/* Adds this bias from now on; NULL: none. Choices made before are forgotten. */
gemmux_status gemmux_lt_set_bias(const gemmux_lt *lt, gemmux_lt_matmul *matmul, const void *bias,
                                 gemmux_lt_type type, gemmux_error *error);
/* Another piece of the same bias, for the next product. */
gemmux_status gemmux_lt_move_bias(const gemmux_lt *lt, const gemmux_lt_matmul *matmul,
                                  const void *bias, gemmux_error *error);
/* The algorithm for one size, asked of cuBLASLt once an M. Where it has none the error ends with
 * the library's own sentences about why. For these its logger, of which a process has one, is sent
 * to this file's ears for the length of a second question, with its file at /dev/null (it would
 * print otherwise) and its level at 0 afterwards. */
gemmux_status gemmux_lt_choose(const gemmux_lt *lt, gemmux_lt_matmul *matmul, int64_t m,
                               int64_t x_stride, int64_t y_stride, gemmux_error *error);
/* The product of the size chosen last. */
gemmux_status gemmux_lt_run(const gemmux_lt *lt, gemmux_lt_matmul *matmul,
                            const gemmux_lt_operands *operands, gemmux_error *error);

#endif
