/* SPDX-License-Identifier: Apache-2.0
 *
 * What the host and the device of cuda_sm80_dequant agree on.
 */
#ifndef GEMMUX_CUDA_DEQUANT_H
#define GEMMUX_CUDA_DEQUANT_H

#include "cuda_sm80_upcast.h"

/* Kinds of weights (cuda_sm80_upcast.h) that are decoded whole: dequant_KIND_TYPE. 16-bit weights
 * need it not, and the three terms of nf4x are no matrix. */
#define GEMMUX_DEQUANT_KINDS(X)                                                                    \
    X(mxfp4)                                                                                       \
    X(nvfp4)                                                                                       \
    X(mxfp8)                                                                                       \
    X(mxfp8e5)                                                                                     \
    X(e4m3)                                                                                        \
    X(e4m3r)                                                                                       \
    X(e5m2)                                                                                        \
    X(int8)                                                                                        \
    X(int8r)                                                                                       \
    X(int4)                                                                                        \
    X(int4m)                                                                                       \
    X(nf4)

enum {
    GEMMUX_DEQUANT_WARPS = 4, /* of a block */
    GEMMUX_DEQUANT_UNITS = 8, /* of 64 columns that a warp decodes */
};

typedef struct gemmux_dequant_parameters {
    gemmux_upcast_parameters w; /* what describes the packed weights in it; nothing of x and y */
    char *to;                   /* 16-byte aligned; rows beyond N are written too */
    int64_t to_stride;          /* bytes, a multiple of 16 */
    int32_t first_block;        /* row block that becomes row 0 of `to` */
    uint8_t by_row;             /* multiply by the rows' own factors, and round */
} gemmux_dequant_parameters;

#endif
