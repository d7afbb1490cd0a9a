/* SPDX-License-Identifier: Apache-2.0
 *
 * cuBLASLt computes column-major D = op(A) . op(B). Row-major y[M, N] is column-major N x M, so A
 * is w, stored K x N column-major and transposed, and B is x, K x M: the "TN" form that every type
 * has. What cuBLASLt calls M is N here, and the reverse.
 */
#include "driver/blaslt.h"

#include "driver/symbols.h"
#include "error.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* cublasLtMatmulDescAttributes_t, cublasLtMatrixLayoutAttribute_t, ...PreferenceAttributes_t. */
enum {
    DESC_POINTER_MODE = 2,
    DESC_TRANSA = 3,
    DESC_EPILOGUE = 7,
    DESC_BIAS_POINTER = 8,
    DESC_A_SCALE_POINTER = 17,
    DESC_B_SCALE_POINTER = 18,
    DESC_BIAS_TYPE = 26,
    DESC_A_SCALE_MODE = 31,
    DESC_B_SCALE_MODE = 32,
    LAYOUT_COLS = 3,
    LAYOUT_LD = 4,
    PREFERENCE_WORKSPACE = 1,
    PREFERENCE_ALIGN_A = 5,  /* B, C and D follow */
    OPERATION_TRANSPOSE = 1, /* cublasOperation_t */
    POINTERS_ON_DEVICE = 1,  /* cublasLtPointerMode_t */
    EPILOGUE_NONE = 1,
    EPILOGUE_BIAS = 4,
    LOG_NOTHING = 0,
    LOG_INFORMATION = 4, /* where it says why a product is not supported */
};

/* ---- the library's own words ---- */

/* One logger a process: whoever listens must be alone. */
static pthread_mutex_t logger_lock = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local char said[320];

/* Sentences about what is not supported; the closing "failed to query heuristics" only where there
 * was no other. */
static void listen(int level, const char *function, const char *message)
{
    size_t used = strlen(said);
    (void)level;
    if (!function || !message || !strstr(function, "Heuristic") ||
        (used && strstr(message, "Failed to query")))
        return;
    message += strspn(message, " ");
    snprintf(said + used, sizeof said - used, "%s%s", used ? " " : "", message);
}

/* Its own sentence first: records keep the beginning. */
static gemmux_status fail(const gemmux_lt *lt, int status, const char *what, gemmux_error *error)
{
    const char *name = lt->status_name ? lt->status_name(status) : "status";
    if (*said)
        return gemmux_fail(error, GEMMUX_ERROR_LIBRARY, "cuBLASLt says: %s (%s: %s, %d)", said,
                           what, name, status);
    return gemmux_fail(error, GEMMUX_ERROR_LIBRARY, "cuBLASLt: %s: %s (%d)", what, name, status);
}

static int ask(const gemmux_lt *lt, const gemmux_lt_matmul *m, gemmux_lt_found *found)
{
    int count = 0;
    memset(found, 0, sizeof *found);
    int status =
        lt->heuristic(lt->handle, m->desc, m->w, m->x, m->y, m->y, m->preference, 1, found, &count);
    if (!status && count < 1)
        status = 15; /* CUBLAS_STATUS_NOT_SUPPORTED */
    return status ? status : found->status;
}

/* The same question again, for its reasons. */
static void ask_why(const gemmux_lt *lt, const gemmux_lt_matmul *matmul)
{
    gemmux_lt_found found;
    pthread_mutex_lock(&logger_lock);
    lt->logger_file("/dev/null");
    lt->logger_callback(listen);
    lt->logger_level(LOG_INFORMATION);
    ask(lt, matmul, &found);
    lt->logger_level(LOG_NOTHING);
    pthread_mutex_unlock(&logger_lock);
}

/* ---- handle ---- */

gemmux_status gemmux_lt_open(gemmux_lt *lt, const char *path, gemmux_error *error)
{
    char why[256];
    static const gemmux_symbol symbols[] = {
#define SYMBOL(symbol, field, parameters) {symbol, offsetof(gemmux_lt, field)},
        GEMMUX_LT_FUNCTIONS(SYMBOL)
#undef SYMBOL
            {"cublasLtGetStatusName", offsetof(gemmux_lt, status_name)},
    };
    memset(lt, 0, sizeof *lt);
    said[0] = '\0';
    lt->library = gemmux_library_open(path, why, sizeof why);
    if (!lt->library ||
        !gemmux_symbols_load(lt->library, symbols, sizeof symbols / sizeof symbols[0], lt, why,
                             sizeof why)) {
        gemmux_lt_close(lt);
        return gemmux_fail(error, GEMMUX_ERROR_LIBRARY, "cuBLASLt: %s: %s", path, why);
    }
    int status = lt->create(&lt->handle);
    if (status) {
        lt->handle = NULL;
        fail(lt, status, "making a handle", error);
        gemmux_lt_close(lt);
        return GEMMUX_ERROR_LIBRARY;
    }
    return GEMMUX_OK;
}

void gemmux_lt_close(gemmux_lt *lt)
{
    if (lt->handle)
        lt->destroy(lt->handle);
    gemmux_library_close(lt->library);
    lt->handle = lt->library = NULL;
}

/* ---- what is the same for all M ---- */

static int set_scale_modes(const gemmux_lt *lt, const gemmux_lt_shape *s, const gemmux_lt_matmul *m)
{
    int32_t w = (int32_t)s->w_scale, x = (int32_t)s->x_scale;
    if (!s->scaled || (!w && !x)) /* libraries before 12.8 know no modes */
        return 0;
    int status = lt->desc_set(m->desc, DESC_A_SCALE_MODE, &w, sizeof w);
    return status ? status : lt->desc_set(m->desc, DESC_B_SCALE_MODE, &x, sizeof x);
}

static int set_preference(const gemmux_lt *lt, const gemmux_lt_shape *s, gemmux_lt_matmul *m)
{
    size_t workspace = (size_t)s->workspace_bytes;
    /* Its own default, 256, is more than callers promise. */
    uint32_t align = s->align ? (uint32_t)s->align : 16;
    int status = lt->preference_create(&m->preference);
    if (!status)
        status =
            lt->preference_set(m->preference, PREFERENCE_WORKSPACE, &workspace, sizeof workspace);
    for (int i = 0; i < 4 && !status; i++)
        status = lt->preference_set(m->preference, PREFERENCE_ALIGN_A + i, &align, sizeof align);
    return status;
}

static int create(const gemmux_lt *lt, const gemmux_lt_shape *s, gemmux_lt_matmul *m)
{
    int32_t transpose = OPERATION_TRANSPOSE, on_device = POINTERS_ON_DEVICE;
    int scale_type = s->compute == GEMMUX_LT_COMPUTE_INT32 ? GEMMUX_LT_INT32 : GEMMUX_LT_F32;
    int status = lt->desc_create(&m->desc, (int)s->compute, scale_type);
    if (!status)
        status = lt->desc_set(m->desc, DESC_TRANSA, &transpose, sizeof transpose);
    if (!status && s->factor_on_device)
        status = lt->desc_set(m->desc, DESC_POINTER_MODE, &on_device, sizeof on_device);
    if (!status)
        status = set_scale_modes(lt, s, m);
    if (!status)
        status = lt->layout_create(&m->w, (int)s->w, (uint64_t)s->k, (uint64_t)s->n, s->w_stride);
    if (!status)
        status = lt->layout_create(&m->x, (int)s->x, (uint64_t)s->k, 1, s->k);
    if (!status)
        status = lt->layout_create(&m->y, (int)s->y, (uint64_t)s->n, 1, s->n);
    return status ? status : set_preference(lt, s, m);
}

gemmux_status gemmux_lt_matmul_create(const gemmux_lt *lt, const gemmux_lt_shape *shape,
                                      gemmux_lt_matmul *matmul, gemmux_error *error)
{
    memset(matmul, 0, sizeof *matmul);
    said[0] = '\0';
    matmul->shape = *shape;
    int status = create(lt, shape, matmul);
    if (status) {
        gemmux_lt_matmul_free(lt, matmul);
        return fail(lt, status, "describing a product", error);
    }
    return shape->bias ? gemmux_lt_set_bias(lt, matmul, shape->bias, shape->bias_type, error)
                       : GEMMUX_OK;
}

void gemmux_lt_matmul_free(const gemmux_lt *lt, gemmux_lt_matmul *matmul)
{
    void *layouts[] = {matmul->x, matmul->w, matmul->y};
    for (int i = 0; i < 3; i++)
        if (layouts[i])
            lt->layout_destroy(layouts[i]);
    if (matmul->preference)
        lt->preference_destroy(matmul->preference);
    if (matmul->desc)
        lt->desc_destroy(matmul->desc);
    memset(matmul, 0, sizeof *matmul);
}

gemmux_status gemmux_lt_set_bias(const gemmux_lt *lt, gemmux_lt_matmul *matmul, const void *bias,
                                 gemmux_lt_type type, gemmux_error *error)
{
    int32_t epilogue = bias ? EPILOGUE_BIAS : EPILOGUE_NONE, bias_type = (int32_t)type;
    int status = lt->desc_set(matmul->desc, DESC_EPILOGUE, &epilogue, sizeof epilogue);
    if (!status)
        status = lt->desc_set(matmul->desc, DESC_BIAS_POINTER, &bias, sizeof bias);
    if (!status && bias)
        status = lt->desc_set(matmul->desc, DESC_BIAS_TYPE, &bias_type, sizeof bias_type);
    memset(matmul->choices, 0, sizeof matmul->choices);
    matmul->now = NULL;
    said[0] = '\0';
    return status ? fail(lt, status, "setting a bias", error) : GEMMUX_OK;
}

/* ---- one product ---- */

gemmux_status gemmux_lt_move_bias(const gemmux_lt *lt, const gemmux_lt_matmul *matmul,
                                  const void *bias, gemmux_error *error)
{
    int status = lt->desc_set(matmul->desc, DESC_BIAS_POINTER, &bias, sizeof bias);
    said[0] = '\0';
    return status ? fail(lt, status, "moving a bias", error) : GEMMUX_OK;
}

/* Sizes that are met are often multiples of each other: spread by all bits. */
static int slot_of(int64_t m)
{
    return (int)((uint32_t)m * UINT32_C(0x9e3779b1) >> 26);
}
_Static_assert(GEMMUX_LT_CHOICES == 64, "a slot has six bits");

/* Pointers matter to the choice only by being there. */
static int set_scales(const gemmux_lt *lt, gemmux_lt_matmul *m, const void *w, const void *x)
{
    if (m->scales[0] == w && m->scales[1] == x)
        return 0;
    int status = lt->desc_set(m->desc, DESC_A_SCALE_POINTER, &w, sizeof w);
    if (!status)
        status = lt->desc_set(m->desc, DESC_B_SCALE_POINTER, &x, sizeof x);
    m->scales[0] = w;
    m->scales[1] = x;
    return status;
}

static int set_sizes(const gemmux_lt *lt, const gemmux_lt_matmul *matmul, int64_t m,
                     int64_t x_stride, int64_t y_stride)
{
    uint64_t columns = (uint64_t)m;
    int status = lt->layout_set(matmul->x, LAYOUT_COLS, &columns, sizeof columns);
    if (!status)
        status = lt->layout_set(matmul->x, LAYOUT_LD, &x_stride, sizeof x_stride);
    if (!status)
        status = lt->layout_set(matmul->y, LAYOUT_COLS, &columns, sizeof columns);
    if (!status)
        status = lt->layout_set(matmul->y, LAYOUT_LD, &y_stride, sizeof y_stride);
    return status;
}

gemmux_status gemmux_lt_choose(const gemmux_lt *lt, gemmux_lt_matmul *matmul, int64_t m,
                               int64_t x_stride, int64_t y_stride, gemmux_error *error)
{
    char what[120];
    gemmux_lt_found found;
    struct gemmux_lt_choice *choice = &matmul->choices[slot_of(m)];
    bool known = choice->m == m && choice->x_stride == x_stride && choice->y_stride == y_stride;
    if (known && matmul->now == choice)
        return GEMMUX_OK;
    said[0] = '\0';
    int status = set_sizes(lt, matmul, m, x_stride, y_stride);
    matmul->now = NULL;
    if (status)
        return fail(lt, status, "setting sizes", error);
    if (!known) {
        if (matmul->shape.scaled && !matmul->scales[0])
            status = set_scales(lt, matmul, matmul, matmul);
        if (!status)
            status = ask(lt, matmul, &found);
        if (status) {
            ask_why(lt, matmul);
            snprintf(what, sizeof what, "no algorithm for M=%lld N=%lld K=%lld (its M is N here)",
                     (long long)m, (long long)matmul->shape.n, (long long)matmul->shape.k);
            return fail(lt, status, what, error);
        }
        *choice = (struct gemmux_lt_choice){m, x_stride, y_stride, found.algo};
    }
    matmul->now = choice;
    return GEMMUX_OK;
}

gemmux_status gemmux_lt_run(const gemmux_lt *lt, gemmux_lt_matmul *matmul,
                            const gemmux_lt_operands *o, gemmux_error *error)
{
    const gemmux_lt_shape *s = &matmul->shape;
    static const int32_t one = 1, nothing = 0;
    const float factor = s->factor != 0 ? s->factor : 1.0f;
    const void *alpha = &factor, *beta = &nothing; /* 0 has the same bits in f32 */
    if (s->factor_on_device) {
        alpha = &o->factors[0];
        beta = &o->factors[1];
    } else if (s->compute == GEMMUX_LT_COMPUTE_INT32) {
        alpha = &one;
    }
    said[0] = '\0';
    int status = s->scaled ? set_scales(lt, matmul, o->w_scales, o->x_scales) : 0;
    if (!status)
        status = lt->matmul(lt->handle, matmul->desc, alpha, o->w, matmul->w, o->x, matmul->x, beta,
                            o->y, matmul->y, o->y, matmul->y, &matmul->now->algo, o->workspace,
                            (size_t)s->workspace_bytes, o->stream);
    return status ? fail(lt, status, "multiplying", error) : GEMMUX_OK;
}
