/* SPDX-License-Identifier: Apache-2.0
 *
 * One kernel against all of its cases, in the process that may be lost: operands in guarded
 * memory, prepare, run twice, compare with the f64 reference.
 */
#ifndef GEMMUX_CERTIFY_PROVE_H
#define GEMMUX_CERTIFY_PROVE_H

#include "certify_cases.h"
#include "certify_child.h"

typedef struct gemmux_proving {
    const gemmux_machine *machine; /* its table holds this one kernel */
    const gemmux_kernel *kernel;
    const gemmux_cases *cases;
} gemmux_proving;

/* The body of the child; context is a gemmux_proving. */
void gemmux_prove(void *context, const gemmux_child *child);

#endif
