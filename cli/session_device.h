/* SPDX-License-Identifier: Apache-2.0
 *
 * The session's side of a GPU: operands in its memory, a product that empties its L2 cache, and a
 * clock that stands outside the launches. Separate from session.c, which does the same for a CPU.
 */
#ifndef GEMMUX_CLI_SESSION_DEVICE_H
#define GEMMUX_CLI_SESSION_DEVICE_H

#include "session.h"

/* Opens the device, proves its kernels unless --only names some, and makes the evictor. */
int cli_device_open(const cli_options *options, cli_session *session);
void cli_device_close(cli_session *session);

/* Copies x, routing and room for y to the device: operands->there. */
int cli_device_operands(cli_operands *operands);
void cli_device_operands_free(cli_operands *operands);

/* Microseconds of one call in a CUDA graph, the weights not in L2; negative after an error. */
double cli_device_time(cli_session *session, const gemmux_plan *plan, const gemmux_args *args,
                       gemmux_error *error);

#endif
