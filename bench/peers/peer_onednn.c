/* SPDX-License-Identifier: Apache-2.0
 *
 * oneDNN's matmul in f32, bf16 and int8, weights prepacked in the layout that it asks for. Against
 * 4-bit weights it runs dense bf16: what a user does who expands them beforehand.
 */
#define _GNU_SOURCE
#include "peer.h"

#include <dlfcn.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct product {
    peer_product p;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t matmul;
    dnnl_memory_t x, y, *w;
    dnnl_data_type_t type;
    void *x_data, *y_data;
} product;

static void check(dnnl_status_t status, const char *what)
{
    if (status != dnnl_success) {
        fprintf(stderr, "oneDNN: %s failed with status %d\n", what, (int)status);
        exit(1);
    }
}

static uint16_t to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* int8: integers of one scale, which is enough to see that it is the same product. */
static const float int8_scale = 30;

static void *encode(const float *values, int64_t count, dnnl_data_type_t type)
{
    size_t size = type == dnnl_f32 ? 4 : type == dnnl_bf16 ? 2 : 1;
    void *out = aligned_alloc(64, ((size_t)count * size + 63) / 64 * 64);
    for (int64_t i = 0; i < count; i++) {
        if (type == dnnl_f32)
            ((float *)out)[i] = values[i];
        else if (type == dnnl_bf16)
            ((uint16_t *)out)[i] = to_bf16(values[i]);
        else
            ((int8_t *)out)[i] = (int8_t)(values[i] * int8_scale);
    }
    return out;
}

static dnnl_memory_t pack(product *s, const dnnl_memory_desc_t *want, void *plain_data)
{
    dnnl_memory_desc_t plain;
    dnnl_primitive_desc_t how;
    dnnl_primitive_t reorder;
    dnnl_memory_t from, to;
    dnnl_dims_t dims = {s->p.k, s->p.n}, strides = {1, s->p.k};
    check(dnnl_memory_desc_init_by_strides(&plain, 2, dims, s->type, strides), "layout of w");
    check(dnnl_memory_create(&from, &plain, s->engine, plain_data), "w");
    check(dnnl_memory_create(&to, want, s->engine, DNNL_MEMORY_ALLOCATE), "packed w");
    check(dnnl_reorder_primitive_desc_create(&how, &plain, s->engine, want, s->engine, NULL),
          "reorder");
    check(dnnl_primitive_create(&reorder, how), "reorder");
    dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    check(dnnl_primitive_execute(reorder, s->stream, 2, args), "reorder");
    dnnl_stream_wait(s->stream);
    dnnl_primitive_destroy(reorder);
    dnnl_primitive_desc_destroy(how);
    dnnl_memory_destroy(from);
    return to;
}

static void set_threads(int threads)
{
    void (*set)(int) = (void (*)(int))dlsym(RTLD_DEFAULT, "omp_set_num_threads");
    if (set)
        set(threads);
}

static void *open_onednn(const peer *self, const peer_product *p)
{
    (void)self;
    if (p->experts)
        return NULL;
    product *s = calloc(1, sizeof *s);
    s->p = *p;
    s->type = !strcmp(p->format, "f32")    ? dnnl_f32
              : !strcmp(p->format, "int8") ? dnnl_s8
                                           : dnnl_bf16;
    set_threads(p->threads);
    check(dnnl_engine_create(&s->engine, dnnl_cpu, 0), "engine");
    check(dnnl_stream_create(&s->stream, s->engine, dnnl_stream_default_flags), "stream");
    dnnl_memory_desc_t x, w, y;
    dnnl_matmul_desc_t desc;
    dnnl_primitive_desc_t how;
    dnnl_data_type_t y_type = s->type == dnnl_s8 ? dnnl_f32 : s->type;
    dnnl_dims_t x_dims = {p->m, p->k}, w_dims = {p->k, p->n}, y_dims = {p->m, p->n};
    dnnl_memory_desc_init_by_tag(&x, 2, x_dims, s->type, dnnl_ab);
    dnnl_memory_desc_init_by_tag(&w, 2, w_dims, s->type, dnnl_format_tag_any);
    dnnl_memory_desc_init_by_tag(&y, 2, y_dims, y_type, dnnl_ab);
    check(dnnl_matmul_desc_init(&desc, &x, &w, NULL, &y), "matmul");
    check(dnnl_primitive_desc_create(&how, &desc, NULL, s->engine, NULL), "matmul");
    check(dnnl_primitive_create(&s->matmul, how), "matmul");
    s->x_data = encode(p->x, p->m * p->k, s->type);
    s->y_data = aligned_alloc(64, ((size_t)(p->m * p->n) * 4 + 63) / 64 * 64);
    check(dnnl_memory_create(&s->x, &x, s->engine, s->x_data), "x");
    check(dnnl_memory_create(&s->y, &y, s->engine, s->y_data), "y");
    void *plain = encode(p->w, p->n * p->k, s->type);
    s->w = calloc((size_t)p->copies, sizeof(dnnl_memory_t));
    for (int i = 0; i < p->copies; i++)
        s->w[i] = pack(s, dnnl_primitive_desc_query_md(how, dnnl_query_weights_md, 0), plain);
    free(plain);
    dnnl_primitive_desc_destroy(how);
    return s;
}

static void run_onednn(void *state, int copy)
{
    product *s = state;
    dnnl_exec_arg_t args[] = {
        {DNNL_ARG_SRC, s->x}, {DNNL_ARG_WEIGHTS, s->w[copy]}, {DNNL_ARG_DST, s->y}};
    check(dnnl_primitive_execute(s->matmul, s->stream, 3, args), "matmul");
    dnnl_stream_wait(s->stream);
}

static void result_onednn(void *state, float *y)
{
    product *s = state;
    for (int64_t i = 0; i < s->p.m * s->p.n; i++) {
        uint32_t bits = s->type == dnnl_bf16 ? (uint32_t)((uint16_t *)s->y_data)[i] << 16 : 0;
        if (s->type == dnnl_bf16)
            memcpy(&y[i], &bits, 4);
        else
            y[i] = ((float *)s->y_data)[i] / (s->type == dnnl_s8 ? int8_scale * int8_scale : 1);
    }
}

static void close_onednn(void *state)
{
    product *s = state;
    for (int i = 0; i < s->p.copies; i++)
        dnnl_memory_destroy(s->w[i]);
    dnnl_memory_destroy(s->x);
    dnnl_memory_destroy(s->y);
    dnnl_primitive_destroy(s->matmul);
    dnnl_stream_destroy(s->stream);
    dnnl_engine_destroy(s->engine);
    free(s->x_data);
    free(s->y_data);
    free(s->w);
    free(s);
}

static const peer peers[] = {
    {"onednn", open_onednn, run_onednn, result_onednn, NULL, close_onednn, NULL},
    {0},
};

const peer *peer_list_of_module(const char **version);
const peer *peer_list_of_module(const char **version)
{
    static char text[64];
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, sizeof text, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
    *version = text;
    return peers;
}
