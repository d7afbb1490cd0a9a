/* SPDX-License-Identifier: Apache-2.0
 *
 * What `gemmux plan` finds out, before it is printed: one model on one or several devices. Separate
 * because tables, JSON and whatever else shows a plan read the same answers.
 */
#ifndef GEMMUX_CLI_PLAN_H
#define GEMMUX_CLI_PLAN_H

#include "cli.h"

/* "What dtype should I ask for": the same workload with another type. */
typedef enum cli_choice_id {
    CLI_CHOICE_AUTO,
    CLI_CHOICE_4BIT,
    CLI_CHOICE_BF16,
    CLI_CHOICE_F16,
    CLI_CHOICE_F32,
    CLI_CHOICE_COUNT
} cli_choice_id;

enum { CLI_MAX_KINDS = 256, CLI_MAX_DEVICES = 64 };

/* One device's answer. */
typedef struct cli_planned {
    gemmux_machine machine;
    gemmux_records *records;
    gemmux_kind *kinds; /* forecast.kind_count of them */
    gemmux_forecast forecast;
    gemmux_forecast choices[CLI_CHOICE_COUNT];
    int tp_that_fits;  /* where it does not fit as asked: the fewest devices (1, 2, 4, 8, 16) on
                          which it would; 0: none, or not needed */
    int elsewhere;     /* kinds of layers that run on the CPU although the device is none */
    char verdict[256]; /* whether it fits, with the numbers */
    char advice[640];  /* what to ask for, and why */
} cli_planned;

typedef struct cli_plan_answer {
    const cli_options *options;
    const char *name; /* as the user called it */
    gemmux_model *model;
    gemmux_model_facts facts;
    const gemmux_layer **layers;
    int layer_count;
    cli_planned *devices;
    int device_count;
} cli_plan_answer;

const char *cli_choice_name(cli_choice_id choice);
/* How many weights of the model lie in each format: "mxfp4 56.9 GiB, bf16 3.9 GiB". */
const char *cli_plan_formats(const cli_plan_answer *plan, char *buffer, size_t size);
/* The policy under which a kind's kernels were chosen: its packing is fixed. */
gemmux_policy cli_plan_policy(const cli_plan_answer *plan, const gemmux_kind *kind);
/* The kind's problem at one M. */
gemmux_problem cli_plan_problem(const gemmux_kind *kind, int64_t m);

json_t *cli_plan_json(const cli_plan_answer *plan);
void cli_plan_show(const cli_plan_answer *plan);

#endif
