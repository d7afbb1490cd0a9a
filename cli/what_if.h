/* SPDX-License-Identifier: Apache-2.0
 *
 * select --what-if: the same question for a machine or a product that differs in some facts.
 * Separate from select.c because asking twice and comparing the answers is an idea of its own.
 */
#ifndef GEMMUX_CLI_WHAT_IF_H
#define GEMMUX_CLI_WHAT_IF_H

#include "cli.h"

/* A question to select, and its answer. About 75 KiB. */
typedef struct cli_case {
    gemmux_problem problem;
    gemmux_machine machine;
    gemmux_status status; /* OK, or NO_KERNEL with error.text */
    gemmux_decision decision;
    gemmux_trace trace;
    gemmux_error error;
} cli_case;

/* Fills status, decision and trace. Any failure but the lack of a kernel is printed and returned.
 */
int cli_case_select(const cli_options *options, cli_case *question);

enum { CLI_MAX_FACTS = 16 };

typedef struct cli_fact {
    char name[32];
    char now[160], then[160];
} cli_fact;

typedef struct cli_facts {
    cli_fact fact[CLI_MAX_FACTS];
    int count;
} cli_facts;

/* Copies `now` into `then` with the facts of options->what_if changed, and asks again. */
int cli_what_if(const cli_options *options, const cli_case *now, cli_case *then, cli_facts *facts);
/* "with cublaslt 13.1.0 instead of none, k 2944 instead of 2880" */
void cli_what_if_facts(const cli_facts *facts);
/* Kernels whose verdict differs, and the check that made it differ. */
void cli_what_if_compare(const cli_case *now, const cli_case *then);
json_t *cli_what_if_json(const cli_case *now, const cli_case *then, const cli_facts *facts);

#endif
