/* SPDX-License-Identifier: Apache-2.0
 *
 * What the host and the device of cuda_sm90_upcast agree on, beside what both kernels of packing
 * sm80_fragments share.
 */
#ifndef GEMMUX_CUDA_SM90_UPCAST_H
#define GEMMUX_CUDA_SM90_UPCAST_H

#include "cuda_sm80_upcast.h"

/* Forms: the most rows of x in a tile, units of K in a stage (as far as 16 / bits of a code allow),
 * rows of x in one copy, warpgroups of 64 rows of w. */
#define GEMMUX_SM90_SHAPES(X)                                                                      \
    X(w256, 256, 1, 256, 2)                                                                        \
    X(w128, 128, 2, 32, 2)                                                                         \
    X(t64, 64, 2, 32, 4)

/* Kinds and types of x whose scales are in the operand or meet finished sums (forms w256 and t64),
 * and those whose scales are applied to sums along K: a second accumulator, for which only w128 has
 * registers. One set of device functions each: sm90_KIND_XTYPE_FORM. */
#define GEMMUX_SM90_KINDS(DIRECT, SUMS)                                                            \
    DIRECT(mxfp4, bf16)                                                                            \
    DIRECT(nvfp4, bf16)                                                                            \
    DIRECT(nvfp4, f16)                                                                             \
    DIRECT(mxfp8, bf16)                                                                            \
    DIRECT(mxfp8e5, bf16)                                                                          \
    DIRECT(e4m3r, bf16)                                                                            \
    DIRECT(e4m3r, f16)                                                                             \
    DIRECT(int8r, bf16)                                                                            \
    DIRECT(int8r, f16)                                                                             \
    DIRECT(raw, bf16)                                                                              \
    DIRECT(raw, f16)                                                                               \
    SUMS(mxfp4, f16)                                                                               \
    SUMS(mxfp8, f16)                                                                               \
    SUMS(mxfp8e5, f16)                                                                             \
    SUMS(e4m3, bf16)                                                                               \
    SUMS(e4m3, f16)                                                                                \
    SUMS(e5m2, bf16)                                                                               \
    SUMS(e5m2, f16)                                                                                \
    SUMS(int8, bf16)                                                                               \
    SUMS(int8, f16)                                                                                \
    SUMS(int4, bf16)                                                                               \
    SUMS(int4, f16)                                                                                \
    SUMS(nf4, bf16)                                                                                \
    SUMS(nf4, f16)

enum {
#define GEMMUX_SM90_ENUM(name, rows, units, box, groups) GEMMUX_SM90_##name,
    GEMMUX_SM90_SHAPES(GEMMUX_SM90_ENUM)
#undef GEMMUX_SM90_ENUM
        GEMMUX_SM90_FORMS
};

enum {
    GEMMUX_SM90_SMEM = 226 * 1024, /* of a block, which has a multiprocessor for itself */
};

/* How sums become y: 16-bit columns; swiglu of pairs in 16 bits; f32, of y or of rows to scatter;
 * these three by 16 bytes at once. Or anything, one pair at a time. */
enum { GEMMUX_SM90_NARROW, GEMMUX_SM90_SWIGLU, GEMMUX_SM90_F32, GEMMUX_SM90_ANY };

/* CUtensorMap. */
typedef struct gemmux_sm90_map {
    unsigned char bytes[128] __attribute__((aligned(64)));
} gemmux_sm90_map;

typedef struct gemmux_sm90_parameters {
    gemmux_sm90_map x, codes, scales, zeros;
    gemmux_upcast_parameters u;
    void *arranged;   /* x: product rows in tile order, K in fragment order and padded to units */
    int32_t mode;     /* how sums become y */
    int32_t items;    /* tiles times splits; a moe's are counted by routing */
    int32_t section;  /* of a moe's tiles: 0 those of big_rows, which come first; 1 the others */
    int32_t big_rows; /* 0: no big tiles. The others have u.tile_rows at most */
    int32_t scale_bytes, zero_bytes; /* of one row block and step along K */
    int32_t step_shift;              /* log2 of the columns of a step */
    int32_t steps_a_stage;
} gemmux_sm90_parameters;

#endif
