/* SPDX-License-Identifier: Apache-2.0
 *
 * The operands of one case: numbers that show mistakes, in memory that notices them. Separate from
 * certify_prove.c, which multiplies them, because none of this knows about kernels.
 */
#ifndef GEMMUX_CERTIFY_OPERANDS_H
#define GEMMUX_CERTIFY_OPERANDS_H

#include "certify_cases.h"
#include "certify_guard.h"

#define GEMMUX_POISON 0xff /* a NaN in f32, f16 and bf16 */

/* One tensor in guarded memory. */
typedef struct gemmux_placed {
    gemmux_tensor tensor;
    gemmux_guarded codes, scales, zeros, globals;
} gemmux_placed;

typedef struct gemmux_operands {
    const gemmux_case *c;
    uint64_t seed; /* the same seed makes the same numbers */
    gemmux_placed x, w;
    gemmux_guarded bias, ids, weights, order, y;
    gemmux_args args;
    int64_t y_rows, y_cols, y_row_bytes;
    char lacking[160]; /* what this process could not get; "": nothing */
    gemmux_error error;
} gemmux_operands;

/* Fills everything behind c and seed. x, w and what goes with them are read-only from then on: a
 * kernel that writes there gets SIGSEGV. False, and nothing lacking, when a format cannot hold
 * such data: then there is no case. Close in every case. */
bool gemmux_operands_open(gemmux_operands *o);
void gemmux_operands_close(gemmux_operands *o);

#endif
