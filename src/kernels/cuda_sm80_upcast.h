/* SPDX-License-Identifier: Apache-2.0
 *
 * What the host and the device of cuda_sm80_upcast agree on: kinds of weights, the parameters of
 * a launch, and the shapes of its four forms.
 */
#ifndef GEMMUX_CUDA_SM80_UPCAST_H
#define GEMMUX_CUDA_SM80_UPCAST_H

#include "gemmux.h"

/* How codes and scales of w become operands of the matrix unit. One set of device functions a
 * kind and type of x: upcast_KIND_XTYPE_FORM. */
#define GEMMUX_UPCAST_KINDS(X)                                                                     \
    X(mxfp4)                                                                                       \
    X(nvfp4)                                                                                       \
    X(mxfp8)   /* E4M3 */                                                                          \
    X(mxfp8e5) /* E5M2 */                                                                          \
    X(e4m3)    /* scales in groups or blocks */                                                    \
    X(e4m3r)   /* one scale a row or tensor: nothing but codes meets x */                          \
    X(e5m2)                                                                                        \
    X(int8)                                                                                        \
    X(int8r)                                                                                       \
    X(int4)  /* symmetric, or with zero points */                                                  \
    X(int4m) /* with minima */                                                                     \
    X(nf4)   /* codebook rounded to x's type */                                                    \
    X(nf4x)  /* codebook as three exact terms */                                                   \
    X(raw)   /* 16-bit weights of x's type */

typedef enum gemmux_upcast_kind {
#define GEMMUX_UPCAST_ENUM(name) GEMMUX_UPCAST_##name,
    GEMMUX_UPCAST_KINDS(GEMMUX_UPCAST_ENUM)
#undef GEMMUX_UPCAST_ENUM
        GEMMUX_UPCAST_KIND_COUNT
} gemmux_upcast_kind;

/* Forms. s1, s2: every multiprocessor streams an equal part of w past up to 8 and 16 rows of x.
 * l64, l128: a block makes a tile of y with x in shared memory. */
enum {
    GEMMUX_UPCAST_S1,
    GEMMUX_UPCAST_S2,
    GEMMUX_UPCAST_L64,
    GEMMUX_UPCAST_L128,
    GEMMUX_UPCAST_FORMS
};

enum {
    GEMMUX_UPCAST_STAGES = 4,               /* of x in shared memory */
    GEMMUX_UPCAST_STREAM_WARPS = 16,        /* of a block of s1 and s2 */
    GEMMUX_UPCAST_STREAM_HELD = 4,          /* units of x in the registers of their warps */
    GEMMUX_UPCAST_STREAM_SMEM = 96 * 1024,  /* shared memory of s1 and s2, at least */
    GEMMUX_UPCAST_STREAM_STATIC = 2 * 1024, /* lists beside it */
    GEMMUX_UPCAST_STREAM_RING = 88 * 1024,  /* of it what is under way, at most */
    GEMMUX_UPCAST_MAX_EXPERTS = 1024,       /* that the routing kernel counts in shared memory */
    GEMMUX_UPCAST_DIRECT_ROWS = 32,         /* rows of a moe that blocks sort out by themselves */
    GEMMUX_UPCAST_STREAM_FINISH = 160,      /* s1: bytes that finishing a row block needs */
};

typedef struct gemmux_upcast_parameters {
    /* What s1 and s2 ask for before their first load stands together: each line of the constant
     * cache costs a block a few hundred clocks. */
    const uint8_t *w; /* packed sm80_fragments */
    int64_t matrix_bytes, scales_at;
    int32_t experts, row_blocks, units; /* experts 0: dense */
    /* s1, s2: how often all warps together go through K, units of K a warp has each time, warps
     * that have some; row blocks a block, and blocks that have one more (dense); shared memory. */
    int32_t stream_passes, stream_units, stream_held, stream_each, stream_more, stream_smem;
    int32_t m, n, k; /* m: product rows */
    const char *x;
    int64_t x_row_bytes;
    uint8_t scale_code, zero, scale_block, fine;
    uint8_t y_format, gather, swiglu, routed; /* routed: lists were made by upcast_route */
    uint8_t y_pairs;                          /* two neighbours of y may be stored at once */
    uint8_t unshifted; /* no row of w has a shift (sm80_fragments.h): they need not be read */
    int32_t groups, group_shift; /* log2 of columns a scale; 31: all of K */
    int64_t zeros_at, factors_at, flags_at, shifts_at;
    char *y;
    int64_t y_row_bytes;
    float *rows; /* scatter: unweighted rows in f32, [m, columns]; else NULL */
    const float *bias;
    const int32_t *expert_ids;
    const float *expert_weights;
    /* Routing: product rows sorted by expert; tiles of {expert, first, count}; how many. */
    int32_t *sorted, *tiles, *tile_count;
    const int32_t *k_order;
    float *partials; /* of blocks that share K */
    uint32_t *counters;
    int32_t splits, units_a_split;
    int32_t row_tiles, token_tiles;
    int32_t top_k;
    int32_t tile_rows; /* rows of x in one routed tile */
    float alpha, limit;
} gemmux_upcast_parameters;

#endif
