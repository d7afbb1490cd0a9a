/* SPDX-License-Identifier: Apache-2.0
 *
 * Measured shares: what a call must do at least, the order in which the points of a machine's
 * curves lie, and the prediction from them. Separate from select, which asks, and from records,
 * which keep, so that both count bytes and rows alike. Pure.
 */
#ifndef GEMMUX_SHARES_H
#define GEMMUX_SHARES_H

#include "kernel.h"

/* What one call of a problem comes to, whatever kernel does it. */
typedef struct gemmux_work {
    int64_t rows;          /* of the product */
    double operations;     /* 2 M N K */
    double activity_bytes; /* x and y */
    double used_matrices;  /* expected experts touched */
} gemmux_work;

gemmux_work gemmux_work_of(const gemmux_problem *problem);

/* Bytes that a call reads and writes when its weights take `weight_bytes` in all. */
double gemmux_call_bytes(const gemmux_problem *problem, const gemmux_work *work,
                         int64_t weight_bytes);

/* The point of kernel's curve at this problem; share and rates are 0. */
gemmux_share gemmux_share_point(const gemmux_kernel *kernel, int form,
                                const gemmux_problem *problem, const gemmux_work *work);

/* By kernel, form, formats, elements, rows: as strcmp. */
int gemmux_share_order(const gemmux_share *a, const gemmux_share *b);

/* Microseconds of the whole call, or 0 when nothing was measured for the point's kernel, form and
 * formats. Of several scalings of w the same, else any; of several sizes the nearest; between two
 * measured rows the geometric mean by distance; beyond them the share stays that of the last. */
double gemmux_shares_predict(const gemmux_machine *machine, const gemmux_share *point, double bytes,
                             double operations);

#endif
