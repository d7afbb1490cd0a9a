/* SPDX-License-Identifier: Apache-2.0
 *
 * ggml's CPU backend: mul_mat and mul_mat_id, with weights as they are stored and repacked where
 * it has a repacking for them. Its quantised paths quantise x to 8 bits: they are lossy.
 */
#include "peer.h"

#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct product {
    peer_product p;
    ggml_backend_t backend;
    struct ggml_threadpool *pool;
    struct ggml_context *weights, *rest;
    ggml_backend_buffer_t weight_buffer, rest_buffer;
    struct ggml_tensor *x, *ids, **y;
    struct ggml_cgraph **graphs;
    bool resting;
    int last;
} product;

static int type_of(const char *format)
{
    static const struct {
        const char *name;
        enum ggml_type type;
    } types[] = {{"f32", GGML_TYPE_F32},     {"f16", GGML_TYPE_F16},     {"bf16", GGML_TYPE_BF16},
                 {"mxfp4", GGML_TYPE_MXFP4}, {"nvfp4", GGML_TYPE_NVFP4}, {"int4", GGML_TYPE_Q4_0},
                 {"int8", GGML_TYPE_Q8_0}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (!strcmp(types[i].name, format))
            return (int)types[i].type;
    return -1;
}

static ggml_backend_buffer_type_t repack_type(void)
{
    ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    ggml_backend_reg_t registry = ggml_backend_dev_backend_reg(device);
    ggml_backend_dev_get_extra_bufts_t get =
        (ggml_backend_dev_get_extra_bufts_t)ggml_backend_reg_get_proc_address(
            registry, "ggml_backend_dev_get_extra_bufts");
    ggml_backend_buffer_type_t *types = get ? get(device) : NULL;
    for (; types && *types; types++)
        if (!strcmp(ggml_backend_buft_name(*types), "CPU_REPACK"))
            return *types;
    return NULL;
}

static struct ggml_context *context_for(int tensors)
{
    struct ggml_init_params params = {
        .mem_size = ggml_tensor_overhead() * (size_t)tensors +
                    ggml_graph_overhead_custom(8, false) * (size_t)tensors,
        .no_alloc = true,
    };
    return ggml_init(params);
}

/* The weights in ggml's format, all experts alike, into each copy. */
static void fill_weights(const product *s, struct ggml_tensor **w, enum ggml_type type)
{
    const peer_product *p = &s->p;
    int64_t matrices = p->experts ? p->experts : 1;
    size_t bytes = ggml_row_size(type, p->k) * (size_t)p->n;
    char *data = malloc(bytes * (size_t)matrices);
    if (type == GGML_TYPE_F32)
        memcpy(data, p->w, bytes);
    else
        ggml_quantize_chunk(type, p->w, data, 0, p->n, p->k, NULL);
    for (int64_t i = 1; i < matrices; i++)
        memcpy(data + bytes * (size_t)i, data, bytes);
    for (int i = 0; i < p->copies; i++)
        ggml_backend_tensor_set(w[i], data, 0, bytes * (size_t)matrices);
    free(data);
}

static void make_graphs(product *s, struct ggml_tensor **w)
{
    const peer_product *p = &s->p;
    s->rest = context_for(2 * p->copies + 4);
    if (p->experts) {
        s->x = ggml_new_tensor_3d(s->rest, GGML_TYPE_F32, p->k, 1, p->m);
        s->ids = ggml_new_tensor_2d(s->rest, GGML_TYPE_I32, p->top_k, p->m);
    } else {
        s->x = ggml_new_tensor_2d(s->rest, GGML_TYPE_F32, p->k, p->m);
    }
    s->y = calloc((size_t)p->copies, sizeof(struct ggml_tensor *));
    s->graphs = calloc((size_t)p->copies, sizeof(struct ggml_cgraph *));
    for (int i = 0; i < p->copies; i++) {
        s->y[i] = p->experts ? ggml_mul_mat_id(s->rest, w[i], s->x, s->ids)
                             : ggml_mul_mat(s->rest, w[i], s->x);
        s->graphs[i] = ggml_new_graph_custom(s->rest, 8, false);
        ggml_build_forward_expand(s->graphs[i], s->y[i]);
    }
    s->rest_buffer = ggml_backend_alloc_ctx_tensors(s->rest, s->backend);
    ggml_backend_tensor_set(s->x, p->x, 0, (size_t)(p->m * p->k) * sizeof(float));
    if (s->ids)
        ggml_backend_tensor_set(s->ids, p->ids, 0, (size_t)(p->m * p->top_k) * sizeof(int32_t));
}

/* It tells about every tensor that it repacks. */
static void be_quiet(enum ggml_log_level level, const char *text, void *context)
{
    (void)context;
    if (level >= GGML_LOG_LEVEL_WARN && level != GGML_LOG_LEVEL_CONT)
        fputs(text, stderr);
}

static void close_ggml(void *state);

static void *open_ggml(const peer *self, const peer_product *p)
{
    bool repacked = self->detail != NULL;
    int type = type_of(p->format);
    if (type < 0)
        return NULL;
    product *s = calloc(1, sizeof *s);
    s->p = *p;
    s->backend = ggml_backend_cpu_init();
    struct ggml_threadpool_params pool = ggml_threadpool_params_default(p->threads);
    s->pool = ggml_threadpool_new(&pool);
    ggml_backend_cpu_set_threadpool(s->backend, s->pool);
    ggml_backend_cpu_set_n_threads(s->backend, p->threads);

    struct ggml_tensor **w = calloc((size_t)p->copies, sizeof(struct ggml_tensor *));
    s->weights = context_for(p->copies);
    for (int i = 0; i < p->copies; i++)
        w[i] = p->experts
                   ? ggml_new_tensor_3d(s->weights, (enum ggml_type)type, p->k, p->n, p->experts)
                   : ggml_new_tensor_2d(s->weights, (enum ggml_type)type, p->k, p->n);
    ggml_backend_buffer_type_t how = repacked ? repack_type() : ggml_backend_cpu_buffer_type();
    s->weight_buffer = how ? ggml_backend_alloc_ctx_tensors_from_buft(s->weights, how) : NULL;
    /* A tensor that it has no repacking for carries no traits. */
    bool able = s->weight_buffer && (!repacked || w[0]->extra);
    if (able) {
        fill_weights(s, w, (enum ggml_type)type);
        make_graphs(s, w);
    }
    free(w);
    if (!able) {
        close_ggml(s);
        return NULL;
    }
    return s;
}

static void run_ggml(void *state, int copy)
{
    product *s = state;
    if (s->resting)
        ggml_threadpool_resume(s->pool);
    s->resting = false;
    s->last = copy;
    if (ggml_backend_graph_compute(s->backend, s->graphs[copy]) != GGML_STATUS_SUCCESS) {
        fprintf(stderr, "ggml: graph_compute failed\n");
        exit(1);
    }
}

static void result_ggml(void *state, float *y)
{
    product *s = state;
    ggml_backend_tensor_get(s->y[s->last], y, 0, ggml_nbytes(s->y[s->last]));
}

static void rest_ggml(void *state)
{
    product *s = state;
    ggml_threadpool_pause(s->pool);
    s->resting = true;
}

static void close_ggml(void *state)
{
    product *s = state;
    if (s->resting)
        ggml_threadpool_resume(s->pool);
    ggml_backend_buffer_free(s->weight_buffer);
    ggml_backend_buffer_free(s->rest_buffer);
    ggml_free(s->weights);
    if (s->rest)
        ggml_free(s->rest);
    ggml_backend_free(s->backend);
    ggml_threadpool_free(s->pool);
    free(s->y);
    free(s->graphs);
    free(s);
}

static const peer peers[] = {
    {"ggml", open_ggml, run_ggml, result_ggml, rest_ggml, close_ggml, NULL},
    {"ggml repacked", open_ggml, run_ggml, result_ggml, rest_ggml, close_ggml, "repacked"},
    {0},
};

const peer *peer_list_of_module(const char **version);
const peer *peer_list_of_module(const char **version)
{
    static char text[96];
    ggml_log_set(be_quiet, NULL);
    snprintf(text, sizeof text, "ggml %s (%s)", ggml_version(), ggml_commit());
    *version = text;
    return peers;
}
