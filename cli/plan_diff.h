/* SPDX-License-Identifier: Apache-2.0
 *
 * What may be done with a plan once it is JSON: compared with another, made a page. Separate from
 * plan.h because neither needs the model, a device or the library: a saved plan is enough.
 */
#ifndef GEMMUX_CLI_PLAN_DIFF_H
#define GEMMUX_CLI_PLAN_DIFF_H

#include "cli.h"

/* "plan_version": what a saved plan means; plan_json.c writes it, plan_load.c wants it. */
enum { CLI_PLAN_VERSION = 1 };

/* A saved plan; its shape is checked as far as readers rely on it. */
int cli_plan_load(const char *path, json_t **plan);
/* gemmux plan diff OLD NEW: prints what changed; CLI_NO_KERNEL when something did for the worse. */
int cli_plan_diff(const cli_options *options, const char *old_path, const char *new_path);
/* Writes the plan as one self-contained page. */
int cli_plan_html(const json_t *plan, const char *path);

#endif
