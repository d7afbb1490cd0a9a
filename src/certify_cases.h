/* SPDX-License-Identifier: Apache-2.0
 *
 * The products a kernel must get right. Separate from certify_prove.c, which multiplies them,
 * because this is a pure function of the descriptor: every case is one that select itself says the
 * kernel takes.
 */
#ifndef GEMMUX_CERTIFY_CASES_H
#define GEMMUX_CERTIFY_CASES_H

#include "kernel.h"

typedef enum gemmux_case_data {
    GEMMUX_DATA_RANDOM,   /* magnitudes jump between neighbouring scale blocks and rows */
    GEMMUX_DATA_ONE_HOT,  /* rows of x with a single 1: y is a column of w */
    GEMMUX_DATA_POSITIVE, /* nothing cancels, so every missing term shows */
    GEMMUX_DATA_LARGE,    /* near the top of the formats; f16 results overflow */
    GEMMUX_DATA_TINY,     /* products below 2^-126 */
    GEMMUX_DATA_NAN,      /* one NaN in x: its row alone may suffer */
} gemmux_case_data;

typedef enum gemmux_case_layout {
    GEMMUX_LAYOUT_LOOSE,   /* dense rows, 64-byte aligned, guard bytes behind */
    GEMMUX_LAYOUT_STRIDED, /* rows further apart than they are long, aligned as the problem says */
    GEMMUX_LAYOUT_TIGHT,   /* dense rows that end at an unmapped page */
} gemmux_case_layout;

typedef struct gemmux_case {
    gemmux_problem problem;
    int64_t m; /* rows (moe: tokens) of this run; problem.m may be more */
    uint8_t data, layout;
    uint8_t threads;
    bool one_expert; /* moe: everything goes to the last expert; else the first stays empty */
    bool reorder;    /* w has a k_order */
} gemmux_case;

typedef struct gemmux_cases {
    gemmux_case *items; /* owned */
    int count, capacity;
} gemmux_cases;

/* `machine` holds a table of this one kernel and no records. No case at all: count is 0. */
gemmux_status gemmux_cases_make(const gemmux_machine *machine, const gemmux_kernel *kernel,
                                gemmux_cases *cases, gemmux_error *error);
void gemmux_cases_free(gemmux_cases *cases);
/* LINEAR, else MATMUL, else MOE, of a kernel's ops. */
gemmux_op gemmux_plainest_op(uint32_t ops);
/* "linear 17x33x100 bf16 x mxfp4 -> bf16, one-hot, strided". Returns buffer. */
const char *gemmux_case_text(const gemmux_case *c, char *buffer, size_t size);

#endif
