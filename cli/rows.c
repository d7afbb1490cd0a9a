/* SPDX-License-Identifier: Apache-2.0
 *
 * Gathering and printing what `gemmux run` measured.
 */
#include "rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct cli_row {
    int section, order;
    char group[256];
    gemmux_format format;
    gemmux_problem problem;
    gemmux_decision decision; /* of the first product */
    char *why, *names;
    int count, wrong;
    double us, predicted_us, limit_us, bytes, operations; /* sums */
    double error, worst;                                  /* largest */
    double squared_error, squared;
    int64_t stored_bytes;
};

static bool same(const cli_row *r, const cli_label *label, const cli_measurement *m)
{
    return r->section == label->section && r->problem.m == m->problem.m &&
           r->problem.n == m->problem.n && r->problem.k == m->problem.k &&
           r->problem.op == m->problem.op && r->problem.epilogue == m->problem.epilogue &&
           r->problem.experts == m->problem.experts && r->decision.kernel == m->decision.kernel &&
           r->decision.packing == m->decision.packing &&
           gemmux_format_equal(r->format, label->format) && !strcmp(r->group, label->group);
}

static cli_row *row_for(cli_rows *rows, const cli_label *label, const cli_measurement *m)
{
    for (int i = 0; i < rows->count; i++)
        if (same(&rows->rows[i], label, m))
            return &rows->rows[i];
    if (rows->count == rows->room) {
        rows->room = rows->room ? 2 * rows->room : 64;
        rows->rows = cli_must(realloc(rows->rows, (size_t)rows->room * sizeof *rows->rows));
    }
    cli_row *r = &rows->rows[rows->count];
    *r = (cli_row){.section = label->section,
                   .order = rows->count++,
                   .format = label->format,
                   .problem = m->problem,
                   .decision = m->decision,
                   .names = cli_must(strdup(""))};
    snprintf(r->group, sizeof r->group, "%s", label->group);
    return r;
}

void cli_rows_add(cli_rows *rows, const cli_label *label, const cli_measurement *m, const char *why)
{
    cli_row *r = row_for(rows, label, m);
    const gemmux_problem *p = &m->problem;
    size_t room = strlen(r->names) + strlen(label->layer->name) + 2;
    char *names = cli_must(malloc(room));
    snprintf(names, room, "%s%s%s", r->names, *r->names ? "\n" : "", label->layer->name);
    free(r->names);
    r->names = names;
    if (!r->why)
        r->why = cli_must(strdup(why));
    r->count++;
    r->us += m->us;
    r->predicted_us += m->decision.predicted_us;
    r->limit_us += m->limit_us;
    r->bytes += m->bytes;
    r->operations += m->operations;
    r->error = fmax(r->error, m->verification.relative_error);
    r->worst = fmax(r->worst, m->verification.worst);
    r->squared_error += label->squared_error;
    r->squared += label->squared;
    r->stored_bytes += gemmux_stored_bytes(p->w, p->op == GEMMUX_MOE ? p->experts : 1, p->n, p->k);
    r->wrong += m->wrong;
    rows->products++;
    rows->wrong += m->wrong;
}

static int in_order(const void *a, const void *b)
{
    const cli_row *x = a, *y = b;
    if (x->section != y->section)
        return x->section - y->section;
    if (x->problem.m != y->problem.m)
        return x->problem.m < y->problem.m ? -1 : 1;
    return x->order - y->order;
}

/* --------------------------------------------------------------------------------------- show --
 */

/* What is looked at first comes first: a narrow terminal folds the rest away below it. */
static const cli_column columns[] = {
    {"FORMAT", false, false},   {"LINEARS", false, false}, {"NxK", true, false},
    {"M", true, false},         {"KERNEL", false, false},  {"TIME us", true, false},
    {"LIMIT", true, false},     {"ERROR", true, false},    {"PREDICTED us", true, false},
    {"GB/s", true, false},      {"GFLOP/s", true, false},  {"PATH", false, false},
    {"LOSSLESS", false, false}, {"PACKING", false, false},
};
enum { COLUMNS = sizeof columns / sizeof columns[0] };

static void show_row(cli_table *table, const cli_row *r)
{
    char text[64];
    const gemmux_decision *d = &r->decision;
    cli_cell(table, CLI_BOLD, "%s", gemmux_format_name(r->format, text, sizeof text));
    if (r->count > 1 && !strchr(r->group, ','))
        cli_cell(table, CLI_PLAIN, "%s x%d", r->group, r->count);
    else
        cli_cell(table, CLI_PLAIN, "%s", r->group);
    cli_cell(table, CLI_PLAIN, "%lldx%lld", (long long)r->problem.n, (long long)r->problem.k);
    cli_cell(table, CLI_PLAIN, "%lld", (long long)r->problem.m);
    cli_cell(table, CLI_PLAIN, "%s", gemmux_kernel_name(d->kernel));
    cli_cell(table, CLI_PLAIN, "%s", cli_number(r->us / r->count, text, sizeof text));
    cli_cell(table, CLI_PLAIN, "%.0f %%", r->limit_us / r->us * 100);
    cli_cell(table, r->wrong ? CLI_BAD : CLI_PLAIN, r->wrong ? "%.1e WRONG" : "%.1e", r->error);
    cli_cell(table, CLI_PLAIN, "%s", cli_number(r->predicted_us / r->count, text, sizeof text));
    cli_cell(table, CLI_PLAIN, "%s", cli_number(r->bytes / r->us / 1e3, text, sizeof text));
    cli_cell(table, CLI_PLAIN, "%s", cli_number(r->operations / r->us / 1e3, text, sizeof text));
    cli_cell(table, d->path == GEMMUX_PATH_REFERENCE ? CLI_WARN : CLI_PLAIN, "%s",
             gemmux_path_name((gemmux_path)d->path));
    cli_cell(table, d->lossless ? CLI_PLAIN : CLI_WARN, "%s", d->lossless ? "yes" : "no");
    cli_cell(table, CLI_PLAIN, "%s", d->packing);
    cli_remark(table, "%s", r->why);
}

void cli_rows_show(cli_rows *rows)
{
    cli_table *table = cli_table_new(columns, COLUMNS);
    qsort(rows->rows, (size_t)rows->count, sizeof *rows->rows, in_order);
    for (int i = 0; i < rows->count; i++) {
        const cli_row *r = &rows->rows[i];
        if (i && (r[-1].section != r->section || r[-1].problem.m != r->problem.m))
            cli_gap(table);
        show_row(table, r);
    }
    cli_table_print(table);
}

/* ------------------------------------------------------------------------------------- totals --
 */

/* Sums over the rows of one section (-1: all) and M. */
static cli_row total(const cli_rows *rows, int section, int64_t m)
{
    cli_row sum = {.decision.lossless = true};
    for (int i = 0; i < rows->count; i++) {
        const cli_row *r = &rows->rows[i];
        if ((section >= 0 && r->section != section) || r->problem.m != m)
            continue;
        sum.format = r->format;
        sum.count += r->count;
        sum.us += r->us;
        sum.limit_us += r->limit_us;
        sum.error = fmax(sum.error, r->error);
        sum.squared_error += r->squared_error;
        sum.squared += r->squared;
        sum.stored_bytes += r->stored_bytes;
        sum.decision.lossless &= r->decision.lossless;
    }
    return sum;
}

void cli_rows_summary(const cli_rows *rows, const gemmux_profile *profile)
{
    static char titles[GEMMUX_MAX_RANGES][24];
    cli_column heads[8 + GEMMUX_MAX_RANGES] = {{"WHOLE BLOCK", false, false},
                                               {"STORED", true, false}};
    int count = 2, sections = rows->count ? rows->rows[rows->count - 1].section + 1 : 0;
    for (int i = 0; i < profile->count; i++) {
        snprintf(titles[i], sizeof titles[i], "M=%lld us", (long long)profile->m[i]);
        heads[count++] = (cli_column){titles[i], true, false};
        heads[count++] = (cli_column){"LIMIT", true, false};
    }
    heads[count++] = (cli_column){"LOSSLESS", false, false};
    heads[count++] = (cli_column){"ERROR", true, false};
    heads[count++] = (cli_column){"ENCODING", true, false};
    cli_table *table = cli_table_new(heads, count);
    for (int section = 0; section < sections; section++) {
        cli_row sum = total(rows, section, profile->m[0]);
        double error = 0;
        bool lossless = true;
        char text[64];
        cli_cell(table, CLI_BOLD, "%s", gemmux_format_name(sum.format, text, sizeof text));
        cli_cell(table, CLI_PLAIN, "%s", cli_bytes(sum.stored_bytes, text, sizeof text));
        for (int i = 0; i < profile->count; i++) {
            cli_row at = total(rows, section, profile->m[i]);
            error = fmax(error, at.error);
            lossless &= at.decision.lossless;
            cli_cell(table, CLI_PLAIN, "%s", cli_number(at.us, text, sizeof text));
            cli_cell(table, CLI_PLAIN, "%.0f %%", at.limit_us / at.us * 100);
        }
        cli_cell(table, lossless ? CLI_PLAIN : CLI_WARN, "%s", lossless ? "yes" : "no");
        cli_cell(table, CLI_PLAIN, "%.1e", error);
        cli_cell(table, CLI_PLAIN, "%s",
                 cli_number(sqrt(sum.squared_error / sum.squared), text, sizeof text));
    }
    cli_table_print(table);
}

void cli_rows_totals(const cli_rows *rows, const gemmux_profile *profile)
{
    for (int i = 0; i < profile->count; i++) {
        cli_row sum = total(rows, -1, profile->m[i]);
        char ms[32], bytes[32], tokens[32];
        char text[256];
        snprintf(text, sizeof text,
                 "M=%lld: all %d products take %s ms (%s of weights), %.0f %% of the limit, %s "
                 "tokens/s in linears alone",
                 (long long)profile->m[i], sum.count, cli_number(sum.us / 1e3, ms, sizeof ms),
                 cli_bytes(sum.stored_bytes, bytes, sizeof bytes), sum.limit_us / sum.us * 100,
                 cli_number((double)profile->m[i] * 1e6 / sum.us, tokens, sizeof tokens));
        cli_wrap(CLI_PLAIN, 0, text);
    }
}

/* --------------------------------------------------------------------------------------- json --
 */

static json_t *json_names(const char *names)
{
    json_t *list = json_array();
    while (*names) {
        size_t length = strcspn(names, "\n");
        json_array_append_new(list, json_stringn(names, length));
        names += length + (names[length] == '\n');
    }
    return list;
}

json_t *cli_rows_json(cli_rows *rows)
{
    json_t *list = json_array();
    qsort(rows->rows, (size_t)rows->count, sizeof *rows->rows, in_order);
    for (int i = 0; i < rows->count; i++) {
        const cli_row *r = &rows->rows[i];
        const gemmux_decision *d = &r->decision;
        char name[32];
        json_t *row =
            json_pack("{s:s, s:s, s:o, s:i, s:I, s:I, s:I, s:s, s:s, s:s, s:b, s:o, s:s}", "format",
                      gemmux_format_name(r->format, name, sizeof name), "group", r->group,
                      "linears", json_names(r->names), "count", r->count, "m",
                      (json_int_t)r->problem.m, "n", (json_int_t)r->problem.n, "k",
                      (json_int_t)r->problem.k, "kernel", gemmux_kernel_name(d->kernel), "library",
                      gemmux_library_name(gemmux_kernel_library(d->kernel)), "path",
                      gemmux_path_name((gemmux_path)d->path), "lossless", d->lossless, "liberties",
                      cli_json_liberties(d->liberties), "packing", d->packing);
        json_object_update_new(
            row, json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:s}", "predicted_us",
                           cli_json_number(r->predicted_us / r->count), "measured_us",
                           cli_json_number(r->us / r->count), "gb_per_s",
                           cli_json_number(r->bytes / r->us / 1e3), "gflop_per_s",
                           cli_json_number(r->operations / r->us / 1e3), "share_of_limit",
                           cli_json_number(r->limit_us / r->us), "relative_error",
                           cli_json_number(r->error), "worst_over_bound", cli_json_number(r->worst),
                           "verified", !r->wrong, "why_not_better", r->why));
        if (r->squared > 0)
            json_object_set_new(row, "encoding_error",
                                cli_json_number(sqrt(r->squared_error / r->squared)));
        json_array_append_new(list, row);
    }
    return list;
}

void cli_rows_free(cli_rows *rows)
{
    for (int i = 0; i < rows->count; i++) {
        free(rows->rows[i].why);
        free(rows->rows[i].names);
    }
    free(rows->rows);
    *rows = (cli_rows){0};
}
