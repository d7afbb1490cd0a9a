/* SPDX-License-Identifier: Apache-2.0
 *
 * What the host and the device agree on about staging: the little kernels around a library's
 * product that bring x, its scales and y into and out of the forms that the library takes.
 */
#ifndef GEMMUX_CUDA_STAGE_H
#define GEMMUX_CUDA_STAGE_H

#include "gemmux.h"

/* stage_x: rows of x, with zeros to the right and below. Sixteen bytes a thread. */
typedef struct gemmux_stage_x {
    const char *from;
    int64_t from_stride, row_bytes;
    char *to;
    int64_t to_stride; /* a multiple of 16 */
    int32_t rows, to_rows;
} gemmux_stage_x;

/* stage_scales: scales of x, [rows][groups], into [groups][to_rows] in f32, or into tiles of
 * 128 x 4 one-byte scales; to_rows is a multiple of 4, or of 128. Scales that do not exist are 0.
 * The first thread also makes the factors of all sums where they are wanted. */
typedef struct gemmux_stage_scales {
    const void *from;
    void *to;
    int32_t rows, groups, to_rows;
    uint8_t tiles;
    const float *x_global, *w_global; /* NULL: 1 */
    float *factors;                   /* {their product, 0}; or NULL */
} gemmux_stage_scales;

/* stage_finish: y = sums * x's scale * w's scale + bias, rounded once. Four columns a thread. */
typedef struct gemmux_stage_finish {
    const void *sums; /* f32 or int32, [rows][sums_stride], a multiple of 4 */
    int64_t sums_stride;
    char *y;
    int64_t y_row_bytes;
    const float *x_scales, *w_scales, *bias; /* each may be NULL */
    int32_t rows, n;
    uint8_t integers; /* sums are int32 */
    uint8_t x_by_row, w_by_row;
    uint8_t y_format; /* gemmux_format_id */
    uint8_t y_fours;  /* four neighbours of y may be stored at once */
} gemmux_stage_finish;

#endif
