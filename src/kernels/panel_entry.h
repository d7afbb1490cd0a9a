/* SPDX-License-Identifier: Apache-2.0
 *
 * configure, prepare and run of a level, and GEMMUX_PANEL_FUNCTIONS, which names them in its
 * descriptor. Included by a level's file after it has defined
 *
 *     LEVEL       a pointer to its gemmux_panel_level
 *
 * and, which is why it is a header of its own, after it has closed its instruction set: select asks
 * configure about described machines, too, on a processor that may lack what the level is made of.
 */
#ifndef GEMMUX_PANEL_ENTRY_H
#define GEMMUX_PANEL_ENTRY_H

#include "panel_run.h"

static const char *configure(const gemmux_problem *problem, const gemmux_machine *machine,
                             const gemmux_form *form, gemmux_config *config)
{
    (void)form;
    return gemmux_panel_configure(LEVEL, problem, machine, config);
}

static gemmux_status prepare(const gemmux_problem *problem, const gemmux_machine *machine,
                             const gemmux_packed *w, void **state, gemmux_error *error)
{
    return gemmux_panel_prepare(LEVEL, problem, machine, w, state, error);
}

static gemmux_status run(const gemmux_call *call, gemmux_error *error)
{
    return gemmux_panel_run(LEVEL, call, error);
}

#define GEMMUX_PANEL_FUNCTIONS                                                                     \
    .configure = configure, .prepare = prepare, .release = gemmux_panel_release, .run = run

#endif
