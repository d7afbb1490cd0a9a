/* SPDX-License-Identifier: Apache-2.0
 *
 * gemmux bench --overhead: what routing itself costs. Separate from bench.c because it multiplies
 * nothing.
 */
#ifndef GEMMUX_CLI_OVERHEAD_H
#define GEMMUX_CLI_OVERHEAD_H

#include "cli.h"

int cli_overhead(cli_options *options);

#endif
