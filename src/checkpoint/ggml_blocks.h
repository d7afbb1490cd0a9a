/* SPDX-License-Identifier: Apache-2.0
 *
 * What ggml's blocks hold, and how each becomes gemmux's plain layout. Separate from scheme_gguf.c,
 * which finds the tensors: here a type is a row of a table and a function over one block.
 *
 * Every row but Q5_1 and Q5_K keeps the numbers as they are stored: a code of the format times a
 * scale that is exact in the scale's type. Those two have 5-bit codes with a minimum, which is no
 * format of gemmux; they become f32, each number rounded once, as ggml itself computes them.
 */
#ifndef GEMMUX_GGML_BLOCKS_H
#define GEMMUX_GGML_BLOCKS_H

#include "dtypes.h"
#include "gemmux.h"

typedef struct gemmux_ggml_kind {
    gemmux_dtype dtype;
    gemmux_format_id id;
    gemmux_scaling scaling;
    gemmux_code scale;
    gemmux_zero zero;
    uint16_t group;
    bool rounded; /* see above */
    /* One block to its codes, scales and zeros, all in the file's order along K. */
    void (*decode)(const uint8_t *block, uint8_t *codes, uint8_t *scales, uint8_t *zeros);
} gemmux_ggml_kind;

/* NULL: not one that can be decoded. */
const gemmux_ggml_kind *gemmux_ggml_kind_of(gemmux_dtype dtype);

#endif
