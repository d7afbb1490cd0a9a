/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/dnnl.h"

#include "driver/symbols.h"
#include "error.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What dnnl_version() points to (dnnl_types.h, the same in 2 and 3). */
typedef struct dnnl_version {
    int major, minor, patch;
    const char *hash;
    unsigned cpu_runtime, gpu_runtime;
} dnnl_version;

enum {
    RUNTIME_SEQUENTIAL = 1,
    RUNTIME_OPENMP = 2,
    RUNTIME_TBB = 4,
    RUNTIME_THREADPOOL = 8,
    RUNTIME_SYCL = 512,
    ENGINE_CPU = 1,
    STREAM_DEFAULT = 1,
    SCRATCHPAD_USER = 1,
    QUERY_IMPLEMENTATION = 8,
    QUERY_SCRATCHPAD_MD = 136,
    ARGUMENT_X = 1,
    ARGUMENT_Y = 17,
    ARGUMENT_W = 33,
    ARGUMENT_SCRATCHPAD = 80,
    /* Version 2's structs, with room to spare: 2.6 has 696 and 2800 bytes. */
    MD_BYTES = 2048,
    DESC_BYTES = 16384,
};

#define FIELD(name, field)                                                                         \
    {                                                                                              \
        name, offsetof(gemmux_dnnl, field)                                                         \
    }

static const gemmux_symbol common_symbols[] = {
    FIELD("dnnl_engine_create", engine_create),
    FIELD("dnnl_engine_destroy", engine_destroy),
    FIELD("dnnl_stream_create", stream_create),
    FIELD("dnnl_stream_destroy", stream_destroy),
    FIELD("dnnl_stream_wait", stream_wait),
    FIELD("dnnl_primitive_attr_create", attr_create),
    FIELD("dnnl_primitive_attr_destroy", attr_destroy),
    FIELD("dnnl_primitive_attr_set_scratchpad_mode", attr_set_scratchpad_mode),
    FIELD("dnnl_primitive_desc_query", pd_query),
    FIELD("dnnl_primitive_desc_query_md", pd_query_md),
    FIELD("dnnl_primitive_desc_destroy", pd_destroy),
    FIELD("dnnl_primitive_create", primitive_create),
    FIELD("dnnl_primitive_execute", primitive_execute),
    FIELD("dnnl_primitive_destroy", primitive_destroy),
    FIELD("dnnl_memory_create", memory_create),
    FIELD("dnnl_memory_destroy", memory_destroy),
    FIELD("dnnl_memory_desc_get_size", md_get_size),
};

static const gemmux_symbol symbols_2[] = {
    FIELD("dnnl_memory_desc_init_by_strides", md_init_by_strides),
    FIELD("dnnl_memory_desc_init_by_tag", md_init_by_tag),
    FIELD("dnnl_matmul_desc_init", matmul_desc_init),
    FIELD("dnnl_primitive_desc_create", pd_create),
};

static const gemmux_symbol symbols_3[] = {
    FIELD("dnnl_memory_desc_create_with_strides", md_create_with_strides),
    FIELD("dnnl_memory_desc_create_with_tag", md_create_with_tag),
    FIELD("dnnl_memory_desc_destroy", md_destroy),
    FIELD("dnnl_matmul_primitive_desc_create", matmul_pd_create),
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool check_version(gemmux_dnnl *dnnl, const dnnl_version *v, char *why, size_t why_size)
{
    dnnl->version = v->major * 10000 + v->minor * 100 + v->patch;
    if (dnnl->version < 20600) {
        snprintf(why, why_size, "version %d.%d.%d is too old: 2.6 is the oldest that works",
                 v->major, v->minor, v->patch);
        return false;
    }
    if (v->major > 3) {
        snprintf(why, why_size, "version %d.%d.%d is newer than the interface known here (2, 3)",
                 v->major, v->minor, v->patch);
        return false;
    }
    if (v->cpu_runtime != RUNTIME_OPENMP && v->cpu_runtime != RUNTIME_SEQUENTIAL) {
        snprintf(why, why_size,
                 "version %d.%d.%d runs its CPU code on %s, which cannot be held to the caller's "
                 "threads",
                 v->major, v->minor, v->patch,
                 v->cpu_runtime == RUNTIME_TBB          ? "TBB"
                 : v->cpu_runtime == RUNTIME_THREADPOOL ? "a thread pool of the application"
                 : v->cpu_runtime == RUNTIME_SYCL       ? "SYCL"
                 : v->cpu_runtime == 0                  ? "nothing (no CPU engine)"
                                                        : "an unknown runtime");
        return false;
    }
    return true;
}

static bool load_functions(gemmux_dnnl *dnnl, char *why, size_t why_size)
{
    const dnnl_version *(*version)(void);
    if (!gemmux_symbol_load(dnnl->library, "dnnl_version", &version)) {
        snprintf(why, why_size, "it has no function dnnl_version");
        return false;
    }
    const dnnl_version *v = version();
    if (!check_version(dnnl, v, why, why_size) ||
        !gemmux_symbols_load(dnnl->library, common_symbols, COUNT(common_symbols), dnnl, why,
                             why_size))
        return false;
    if (v->cpu_runtime == RUNTIME_OPENMP && !gemmux_omp_open(&dnnl->omp, dnnl->library)) {
        snprintf(why, why_size, "its OpenMP runtime is hidden, so its threads cannot be limited");
        return false;
    }
    return v->major == 2 ? gemmux_symbols_load(dnnl->library, symbols_2, COUNT(symbols_2), dnnl,
                                               why, why_size)
                         : gemmux_symbols_load(dnnl->library, symbols_3, COUNT(symbols_3), dnnl,
                                               why, why_size);
}

bool gemmux_dnnl_open(gemmux_dnnl *dnnl, const char *path, char *why, size_t why_size)
{
    memset(dnnl, 0, sizeof *dnnl);
    dnnl->library = gemmux_library_open(path, why, why_size);
    if (!dnnl->library)
        return false;
    if (!load_functions(dnnl, why, why_size)) {
        gemmux_dnnl_close(dnnl);
        return false;
    }
    int status = dnnl->engine_create(&dnnl->engine, ENGINE_CPU, 0);
    if (!status)
        status = dnnl->stream_create(&dnnl->stream, dnnl->engine, STREAM_DEFAULT);
    if (status) {
        snprintf(why, why_size, "its CPU engine does not start (status %d)", status);
        gemmux_dnnl_close(dnnl);
        return false;
    }
    return true;
}

void gemmux_dnnl_close(gemmux_dnnl *dnnl)
{
    if (dnnl->stream)
        dnnl->stream_destroy(dnnl->stream);
    if (dnnl->engine)
        dnnl->engine_destroy(dnnl->engine);
    gemmux_library_close(dnnl->library);
    dnnl->stream = dnnl->engine = dnnl->library = NULL;
}

/* BA16a64b, BA16a64b2a and BA16a64b4a, whose numbers differ between versions 2 and 3 and are
 * fixed within each. The size that comes out is checked against the layout. */
static int tag_of(const gemmux_dnnl *dnnl, gemmux_dnnl_type type)
{
    bool two = dnnl->version < 30000;
    switch (type) {
    case GEMMUX_DNNL_F32:
        return two ? 502 : 506;
    case GEMMUX_DNNL_F16:
    case GEMMUX_DNNL_BF16:
        return two ? 380 : 384;
    default:
        return two ? 384 : 388;
    }
}

/* A descriptor of a matrix: by strides, or by tag where the tag is not 0. NULL on failure. */
static void *make_md(const gemmux_dnnl *dnnl, int64_t rows, int64_t cols, gemmux_dnnl_type type,
                     int64_t row_stride, int64_t col_stride, int tag)
{
    /* Arrays as long as DNNL_MAX_NDIMS: version 2 copies them whole. */
    const int64_t dims[12] = {rows, cols}, strides[12] = {row_stride, col_stride};
    void *md = NULL;
    if (dnnl->version >= 30000) {
        int status = tag ? dnnl->md_create_with_tag(&md, 2, dims, type, tag)
                         : dnnl->md_create_with_strides(&md, 2, dims, type, strides);
        return status ? NULL : md;
    }
    md = calloc(1, MD_BYTES);
    if (!md)
        return NULL;
    int status = tag ? dnnl->md_init_by_tag(md, 2, dims, type, tag)
                     : dnnl->md_init_by_strides(md, 2, dims, type, strides);
    if (status) {
        free(md);
        return NULL;
    }
    return md;
}

static void free_md(const gemmux_dnnl *dnnl, void *md)
{
    if (md && dnnl->version >= 30000)
        dnnl->md_destroy(md);
    else
        free(md);
}

static int make_pd(const gemmux_dnnl *dnnl, gemmux_dnnl_matmul *matmul)
{
    enum { OUT_OF_MEMORY = 1 };
    void *attr = NULL;
    int status = dnnl->attr_create(&attr);
    if (status)
        return status;
    status = dnnl->attr_set_scratchpad_mode(attr, SCRATCHPAD_USER);
    if (!status && dnnl->version >= 30000) {
        status = dnnl->matmul_pd_create(&matmul->pd, dnnl->engine, matmul->x, matmul->w, NULL,
                                        matmul->y, attr);
    } else if (!status) {
        void *desc = calloc(1, DESC_BYTES);
        status = desc ? dnnl->matmul_desc_init(desc, matmul->x, matmul->w, NULL, matmul->y)
                      : OUT_OF_MEMORY;
        if (!status)
            status = dnnl->pd_create(&matmul->pd, desc, attr, dnnl->engine, NULL);
        free(desc);
    }
    dnnl->attr_destroy(attr);
    return status;
}

static int64_t tiled_bytes(const gemmux_dnnl_shape *shape)
{
    int64_t each = shape->w == GEMMUX_DNNL_F32 ? 4 : shape->w == GEMMUX_DNNL_S8 ? 1 : 2;
    int64_t deep = 64 / each; /* 16 dwords of K a tile */
    return (shape->n + 63) / 64 * 64 * ((shape->k + deep - 1) / deep * deep) * each;
}

static gemmux_status create(const gemmux_dnnl *dnnl, const gemmux_dnnl_shape *s,
                            gemmux_dnnl_matmul *matmul, gemmux_error *error)
{
    /* oneDNN's weights are K x N: our N x K with the strides exchanged. */
    matmul->x = make_md(dnnl, s->m, s->k, s->x, s->k, 1, 0);
    matmul->w = make_md(dnnl, s->k, s->n, s->w, 1, s->k, s->tiled ? tag_of(dnnl, s->w) : 0);
    matmul->y = make_md(dnnl, s->m, s->n, s->y, s->n, 1, 0);
    if (!matmul->x || !matmul->w || !matmul->y)
        return gemmux_fail(error, GEMMUX_ERROR_LIBRARY, "oneDNN: cannot describe its operands");
    matmul->w_bytes = (int64_t)dnnl->md_get_size(matmul->w);
    if (s->tiled && matmul->w_bytes != tiled_bytes(s))
        return gemmux_fail(error, GEMMUX_ERROR_LIBRARY,
                           "oneDNN: its tiled weights take %" PRId64 " bytes, not %" PRId64
                           ": another layout than expected",
                           matmul->w_bytes, tiled_bytes(s));
    int status = make_pd(dnnl, matmul);
    if (status)
        return gemmux_fail(error, GEMMUX_ERROR_LIBRARY,
                           "oneDNN: no matmul for these operands on this CPU (status %d)", status);
    const char *name = NULL;
    status = dnnl->pd_query(matmul->pd, QUERY_IMPLEMENTATION, 0, (void *)&name);
    snprintf(matmul->implementation, sizeof matmul->implementation, "%s",
             status == 0 && name ? name : "unknown");
    if (strstr(matmul->implementation, "ref"))
        return gemmux_fail(error, GEMMUX_ERROR_LIBRARY,
                           "oneDNN: offers only its unoptimised '%s' for these operands",
                           matmul->implementation);
    matmul->scratch = dnnl->pd_query_md(matmul->pd, QUERY_SCRATCHPAD_MD, 0);
    matmul->scratch_bytes = matmul->scratch ? (int64_t)dnnl->md_get_size(matmul->scratch) : 0;
    status = dnnl->primitive_create(&matmul->primitive, matmul->pd);
    if (status)
        return gemmux_fail(error, GEMMUX_ERROR_LIBRARY, "oneDNN: cannot make '%s' (status %d)",
                           matmul->implementation, status);
    return GEMMUX_OK;
}

gemmux_status gemmux_dnnl_matmul_create(const gemmux_dnnl *dnnl, const gemmux_dnnl_shape *shape,
                                        gemmux_dnnl_matmul *matmul, gemmux_error *error)
{
    memset(matmul, 0, sizeof *matmul);
    gemmux_status status = create(dnnl, shape, matmul, error);
    if (status)
        gemmux_dnnl_matmul_free(dnnl, matmul);
    return status;
}

int gemmux_dnnl_matmul_run(const gemmux_dnnl *dnnl, const gemmux_dnnl_matmul *matmul, const void *x,
                           const void *w, void *y, void *scratch)
{
    gemmux_dnnl_argument arguments[4] = {
        {ARGUMENT_X, NULL}, {ARGUMENT_W, NULL}, {ARGUMENT_Y, NULL}, {ARGUMENT_SCRATCHPAD, NULL}};
    const void *const mds[4] = {matmul->x, matmul->w, matmul->y, matmul->scratch};
    /* oneDNN takes its inputs without const, too, and does not write to them. */
    void *const data[4] = {(void *)(uintptr_t)x, (void *)(uintptr_t)w, y, scratch};
    int count = matmul->scratch_bytes ? 4 : 3, status = 0;
    for (int i = 0; i < count && !status; i++)
        status = dnnl->memory_create(&arguments[i].memory, mds[i], dnnl->engine, data[i]);
    if (!status)
        status = dnnl->primitive_execute(matmul->primitive, dnnl->stream, count, arguments);
    if (!status)
        status = dnnl->stream_wait(dnnl->stream);
    for (int i = 0; i < count; i++)
        if (arguments[i].memory)
            dnnl->memory_destroy(arguments[i].memory);
    return status;
}

void gemmux_dnnl_matmul_free(const gemmux_dnnl *dnnl, gemmux_dnnl_matmul *matmul)
{
    if (matmul->primitive)
        dnnl->primitive_destroy(matmul->primitive);
    if (matmul->pd)
        dnnl->pd_destroy(matmul->pd);
    free_md(dnnl, matmul->x);
    free_md(dnnl, matmul->w);
    free_md(dnnl, matmul->y);
    memset(matmul, 0, sizeof *matmul);
}
