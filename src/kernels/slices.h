/* SPDX-License-Identifier: Apache-2.0
 *
 * A product through a library's dense routine, slice by slice. A slice is a run of w's rows; a
 * worker takes one, multiplies it with the rows of x in blocks, and finishes each block (bias,
 * SWIGLU, store) while it is in cache. Separate because oneDNN and OpenBLAS kernels differ only in
 * where a slice's weights come from and who multiplies.
 *
 * Every library call is single-threaded and the split depends on the shape and the number of
 * threads alone, so sums are made in the same order each time.
 */
#ifndef GEMMUX_SLICES_H
#define GEMMUX_SLICES_H

#include "kernel.h"

enum {
    GEMMUX_SLICE_ROWS = 256, /* of x in one block, at most */
    GEMMUX_SLICE_WIDTH = 256 /* rows of w in one slice, at most */
};

/* Sizes that configure, prepare and run must agree on. All of it is pure. */
typedef struct gemmux_slicing {
    int64_t width;           /* rows of w a slice */
    int64_t x_element_bytes; /* of x as multiplied */
    int64_t x_rows;          /* rows of x that the workspace can hold converted or gathered */
    int64_t block;           /* rows of x that a worker multiplies at once, at most */
    int64_t w_bytes; /* of a slice decoded by a worker, 0: weights are used where they are */
    int64_t worker_bytes;
    int64_t workspace_bytes;
} gemmux_slicing;

/* w_element_bytes: of decoded weights, or 0. converts: x's own codes are never multiplied. */
gemmux_slicing gemmux_slicing_of(const gemmux_problem *problem, int32_t workers,
                                 int64_t x_element_bytes, int64_t w_element_bytes, bool converts);

typedef struct gemmux_slices gemmux_slices;
typedef struct gemmux_slice gemmux_slice;

struct gemmux_slices {
    const gemmux_call *call;
    gemmux_slicing sizes;
    bool converts;
    void *context;
    /* One row of x as the library multiplies it. */
    void (*convert)(const gemmux_slices *s, int64_t x_row, void *to);
    /* The weights of rows [first, first + count) of one matrix; scratch has sizes.w_bytes. */
    const void *(*weights)(const gemmux_slices *s, int32_t expert, int64_t first, int64_t count,
                           void *scratch);
    /* How many of the `rows` that are left to multiply at once; at most sizes.block. */
    int64_t (*block)(int64_t rows);
    /* Called before the workers start, with the rows of x that one matrix will meet; may be NULL.
     */
    gemmux_status (*need)(const gemmux_slices *s, int64_t rows, gemmux_error *error);
    /* tile[m][count] = x[m][k] . w[count][k]^T in f32, scaled. Returns the library's status, 0 for
     * success. */
    int (*multiply)(const gemmux_slices *s, uint32_t worker, const gemmux_slice *slice,
                    float *tile);
};

/* One call of multiply. */
struct gemmux_slice {
    int32_t expert;
    int64_t first, count; /* rows of w */
    const void *w;
    int64_t m;
    const void *x;
    int64_t x_stride;      /* bytes from row to row */
    const int32_t *x_rows; /* which rows of call->x: these, or from x_first on */
    int64_t x_first;
};

/* `library` names it in errors. */
gemmux_status gemmux_slices_run(gemmux_slices *s, const char *library, gemmux_error *error);

#endif
