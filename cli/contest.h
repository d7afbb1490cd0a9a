/* SPDX-License-Identifier: Apache-2.0
 *
 * The candidates of one product timed against each other: weights made once, every eligible kernel
 * certified, forced, prepared and verified, then interleaved rounds at each M. Separate from bench,
 * which prints, because a sweep holds many contests.
 */
#ifndef GEMMUX_CLI_CONTEST_H
#define GEMMUX_CLI_CONTEST_H

#include "session.h"

enum { CLI_MOST_MS = 16, CLI_MOST_ROUNDS = 31 };

/* One candidate at one M. */
typedef struct cli_heat {
    bool enters, chosen;
    cli_measurement m;             /* m.us: the fastest round */
    double times[CLI_MOST_ROUNDS]; /* in the order of the rounds */
    double median_us;
    int count;
} cli_heat;

typedef struct cli_rival {
    const gemmux_kernel *kernel;
    gemmux_plan *plan;
    cli_heat heats[CLI_MOST_MS];
} cli_rival;

typedef struct cli_contest {
    cli_session *session;
    gemmux_problem problem; /* with the largest m */
    int64_t ms[CLI_MOST_MS];
    int m_count;
    gemmux_weights w;
    cli_operands operands;
    cli_rival rivals[GEMMUX_MAX_KERNELS];
    int count;
    int wrong;
} cli_contest;

/* How long a race lasts. */
typedef struct cli_rules {
    int rounds;      /* at most CLI_MOST_ROUNDS */
    int more_rounds; /* that those within 1.3 of the best run in all, or none of them when less
                        than two are; no more than half a second of them */
    double patience; /* who took this many times as long as the best, in two rounds or in one of 0.1
                        s, sits out the others, and a next M that it would need more than 0.1 s for;
                        0: nobody does */
    int64_t rows;    /* verified of each product; 0: none */
    bool verify_once; /* each kernel at its smallest M only */
} cli_rules;

/* Makes operands and prepares everybody; a problem without a kernel at one of its M fails with
 * CLI_NO_KERNEL. Close it after a failure too. */
int cli_contest_open(cli_session *session, const gemmux_problem *problem, const int64_t *ms,
                     int m_count, const cli_rules *rules, cli_contest *contest);
/* Times those who enter at ms[index]. */
int cli_contest_race(cli_contest *contest, int index, const cli_rules *rules);
void cli_contest_close(cli_contest *contest);

/* Those who were timed at ms[index], fastest first; returns how many. */
int cli_contest_order(const cli_contest *contest, int index, const cli_rival **order);
/* The one that select chose, or the next best by prediction where it could not be prepared. */
const cli_rival *cli_contest_chosen(const cli_contest *contest, int index);
/* Stores what was measured at every M. */
int cli_contest_learn(const cli_contest *contest);

#endif
