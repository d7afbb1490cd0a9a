/* SPDX-License-Identifier: Apache-2.0
 *
 * The rows that `gemmux run` reports: equal products of a model are one row with a count, so that
 * thirty layers do not become thirty rows, and nothing that differs is lost.
 */
#ifndef GEMMUX_CLI_ROWS_H
#define GEMMUX_CLI_ROWS_H

#include "session.h"

/* What a product is called in the report. */
typedef struct cli_label {
    int section; /* rows are sorted by it, then by M */
    gemmux_format format;
    const gemmux_layer *layer;
    char group[256];
    double squared_error, squared; /* of re-encoding the weights; 0 when they were not */
} cli_label;

typedef struct cli_row cli_row;

typedef struct cli_rows {
    cli_row *rows;
    int count, room;
    int products, wrong;
} cli_rows;

void cli_rows_add(cli_rows *rows, const cli_label *label, const cli_measurement *m,
                  const char *why);
void cli_rows_show(cli_rows *rows);
/* One line a format: bytes, time of the whole block at each M, errors. */
void cli_rows_summary(const cli_rows *rows, const gemmux_profile *profile);
/* One line an M: time of all products together. */
void cli_rows_totals(const cli_rows *rows, const gemmux_profile *profile);
json_t *cli_rows_json(cli_rows *rows);
void cli_rows_free(cli_rows *rows);

#endif
