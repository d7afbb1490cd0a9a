/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts of gemmux bench: one product (bench.c), many (sweep.c), a picture (plot.c).
 */
#ifndef GEMMUX_CLI_BENCH_H
#define GEMMUX_CLI_BENCH_H

#include "contest.h"

/* How much longer than the fastest the chosen one took at ms[index]: 0.12 is 12 %. */
double cli_lost(const cli_contest *contest, int index);
json_t *cli_contest_json(const cli_contest *contest, int index);

/* --learn and --grid without a product of their own; opens the session. */
int cli_sweep(cli_session *session, const cli_options *options);

/* The roofline of this machine and where each candidate lies, as SVG, through gnuplot. */
int cli_plot(const cli_contest *contest, const char *path);

#endif
