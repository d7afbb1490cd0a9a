/* SPDX-License-Identifier: Apache-2.0
 *
 * What a library has to offer to be raced: one product made ready in several copies, and a call
 * that multiplies with one of them. Each library is a module of its own, opened when it is there,
 * so that none is needed to build gemmux or this bench.
 */
#ifndef GEMMUX_PEER_H
#define GEMMUX_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* y[M,N] = x[M,K] . w[N,K]^T; with experts, one w each and rows routed by ids. */
typedef struct peer_product {
    int64_t m, n, k;
    int experts, top_k; /* 0: dense */
    const int32_t *ids; /* [m, top_k] */
    const char *format; /* of w: "f32", "bf16", "mxfp4" ... */
    const float *w;     /* [n, k]: the numbers as gemmux holds them; all experts are alike */
    const float *x;     /* [m, k]: numbers that bf16 holds exactly */
    int threads;
    int copies; /* of the weights, each at an address of its own */
} peer_product;

/* One competitor: a library and a way to use it. */
typedef struct peer {
    const char *name;
    /* NULL when it does not do this product. */
    void *(*open)(const struct peer *self, const peer_product *product);
    void (*run)(void *state, int copy);
    /* Row-major [m * max(top_k, 1), n] of the last run. */
    void (*result)(void *state, float *y);
    /* Stops threads that would spin while others are timed; may be NULL. */
    void (*rest)(void *state);
    void (*close)(void *state);
    const void *detail;
} peer;

/* Each module exports this: its competitors, ended by one without a name, and its version. */
typedef const peer *peer_list(const char **version);
#define PEER_LIST_NAME "peer_list_of_module"

#endif
