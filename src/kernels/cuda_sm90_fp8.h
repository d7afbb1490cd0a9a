/* SPDX-License-Identifier: Apache-2.0
 *
 * What the host and the device of cuda_sm90_fp8 agree on.
 */
#ifndef GEMMUX_CUDA_SM90_FP8_H
#define GEMMUX_CUDA_SM90_FP8_H

#include "cuda_sm90_upcast.h"

/* Forms. r256: 256 rows of x are wgmma's rows, two times 64 a warpgroup. r128: 128 rows of w are,
 * 64 a warpgroup, and up to 128 rows of x its columns, by sixteens or so: few rows of x waste
 * little. Both have a tile of 128 rows of w. Functions: fp8_SCALES_FORM, where SCALES is "along" if
 * any scale changes along K and "whole" otherwise. */
#define GEMMUX_FP8_SHAPES(X)                                                                       \
    X(r256, 256, 256)                                                                              \
    X(r128, 128, 16)

enum {
#define GEMMUX_FP8_ENUM(name, rows, box) GEMMUX_FP8_##name,
    GEMMUX_FP8_SHAPES(GEMMUX_FP8_ENUM)
#undef GEMMUX_FP8_ENUM
        GEMMUX_FP8_FORMS
};

enum {
    GEMMUX_FP8_STEP = 128,    /* columns of K in a stage, and between two promotions to f32 */
    GEMMUX_FP8_COLUMNS = 128, /* rows of w in a tile */
    GEMMUX_FP8_SMEM = 220 * 1024,
    GEMMUX_FP8_THREADS = 384, /* two warpgroups that multiply, one that copies */
};

typedef struct gemmux_fp8_parameters {
    gemmux_sm90_map x, w;
    const char *x_codes; /* as the caller gave them: what arranging reads */
    int64_t x_row_bytes;
    char *arranged; /* rows of x in the order of `sorted`, k bytes each */
    char *y;
    int64_t y_row_bytes;
    float *rows; /* scatter: unweighted rows in f32, [m, columns]; else NULL */
    const float *x_scales, *w_scales, *bias;
    /* Of fp8_route. */
    const int32_t *sorted, *tiles, *tile_count;
    float *partials; /* of blocks that share K */
    uint32_t *counters;
    int32_t m, n, k; /* m: product rows */
    int32_t steps;   /* along K */
    int32_t column_tiles, row_tiles, items;
    int32_t section; /* of a moe's tiles: 0 those of r256, which come first; 1 the others */
    int32_t splits, steps_a_split;
    int32_t experts, top_k; /* experts 0: dense */
    /* Scales along K: how many a row (or row of blocks) has, and steps that one is for; 0: none. */
    int32_t x_groups, x_group_steps, w_groups, w_group_steps;
    int32_t w_blocks, w_block_tiles; /* rows of blocks in a matrix, tiles that one is for */
    uint8_t x_by_row, w_by_row;      /* else one a tensor, if not along K */
    uint8_t x_fours; /* four scales of a row of x, one a step, may be loaded at once */
    uint8_t gather, swiglu, y_format;
    uint8_t y_fours,
        y_pairs; /* four and two 32-bit words of y, or of rows, may be stored at once */
    float alpha, limit;
} gemmux_fp8_parameters;

/* What fp8_route and fp8_scatter read (cuda_moe.cuh). */
typedef struct gemmux_fp8_routing {
    gemmux_upcast_parameters u;
    int32_t big_rows; /* 0: no tiles of r256. The others have u.tile_rows at most */
} gemmux_fp8_routing;

#endif
