/* SPDX-License-Identifier: Apache-2.0
 *
 * Proving in a program started afresh. A GPU kernel that faults takes its process's context with
 * it, and a context survives no fork, so the child must be a program of its own that opens the
 * driver itself: the command again, or gemmux-prove beside the library. Parent and child agree on
 * build and device by name before anything is run.
 */
#ifndef GEMMUX_CERTIFY_PROVER_H
#define GEMMUX_CERTIFY_PROVER_H

#include "certify_child.h"

/* In the parent: starts $GEMMUX_PROVER, else `program`, else gemmux-prove beside the library, to
 * prove this kernel. GEMMUX_ERROR_IO, with the reason, when it could not be started. */
gemmux_status gemmux_prover_start(const char *program, const gemmux_machine *machine,
                                  const gemmux_kernel *kernel, double seconds,
                                  gemmux_outcome *outcome, gemmux_error *error);

/* gemmux_prove_main over kernels of one's own. NULL: those that were built in. */
int gemmux_prover_main(const struct gemmux_kernel_table *kernels, int argc, char **argv);

/* Why select takes none of this kernel's cases here: its own words for the plainest problem. */
void gemmux_prover_reason(const gemmux_machine *machine, const gemmux_kernel *kernel, char *text,
                          size_t size);

#endif
