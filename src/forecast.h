/* SPDX-License-Identifier: Apache-2.0
 *
 * What forecast.c and forecast_split.c share: how a layer is cut for several devices is an idea of
 * its own, with its own rules about names.
 */
#ifndef GEMMUX_FORECAST_H
#define GEMMUX_FORECAST_H

#include "gemmux.h"

/* One device's part of p, kind's problem, when `tp` devices share it, notes included. False when no
 * cut is right: it would part a scale's group or a head. */
bool gemmux_split(const gemmux_model_facts *facts, int64_t tp, gemmux_kind *kind,
                  gemmux_problem *p);
/* Adds to kind->note. */
void gemmux_kind_note(gemmux_kind *kind, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
