/* SPDX-License-Identifier: Apache-2.0
 *
 * gemmux bench: times the candidates of one product against each other, in interleaved rounds, says
 * whether the one that select chose is the fastest, and keeps what it measured if it is told to.
 */
#include "bench.h"

#include "overhead.h"

#include <math.h>

static const cli_rules usual_rules = {.rounds = 9, .more_rounds = 9, .rows = 4};

/* ------------------------------------------------------------------------------------ reports --
 */

double cli_lost(const cli_contest *c, int index)
{
    const cli_rival *order[GEMMUX_MAX_KERNELS];
    const cli_rival *chosen = cli_contest_chosen(c, index);
    int count = cli_contest_order(c, index, order);
    if (!count || !chosen->heats[index].count)
        return INFINITY;
    return chosen->heats[index].m.us / order[0]->heats[index].m.us - 1;
}

static void show_verdict(const cli_contest *c, int index)
{
    const cli_rival *order[GEMMUX_MAX_KERNELS], *chosen = cli_contest_chosen(c, index);
    const char *name = gemmux_kernel_name(chosen->kernel);
    double lost = cli_lost(c, index) * 100;
    cli_contest_order(c, index, order);
    if (chosen == order[0])
        cli_print(CLI_GOOD, "chosen: %s, the fastest\n", name);
    else if (lost < 3)
        cli_print(CLI_GOOD, "chosen: %s, within 3 %% of %s\n", name,
                  gemmux_kernel_name(order[0]->kernel));
    else
        cli_print(CLI_WARN, "chosen: %s, which lost %.0f %% to %s\n", name, lost,
                  gemmux_kernel_name(order[0]->kernel));
}

static void show(const cli_contest *c, int index)
{
    static const cli_column columns[] = {
        {"KERNEL", false, false},  {"TIME us", true, false},      {"LIMIT", true, false},
        {"ERROR", true, false},    {"PREDICTED us", true, false}, {"GB/s", true, false},
        {"GFLOP/s", true, false},  {"PATH", false, false},        {"LOSSLESS", false, false},
        {"PACKING", false, false},
    };
    const cli_rival *order[GEMMUX_MAX_KERNELS], *chosen = cli_contest_chosen(c, index);
    gemmux_problem problem = c->problem;
    char text[128];
    problem.m = c->ms[index];
    cli_print(CLI_BOLD, "%s\n", gemmux_problem_text(&problem, text, sizeof text));
    cli_table *table = cli_table_new(columns, sizeof columns / sizeof columns[0]);
    int count = cli_contest_order(c, index, order);
    for (int i = 0; i < count; i++) {
        const cli_measurement *m = &order[i]->heats[index].m;
        const gemmux_decision *d = &m->decision;
        cli_cell(table, order[i] == chosen ? CLI_BOLD : CLI_PLAIN, "%s",
                 gemmux_kernel_name(d->kernel));
        cli_cell(table, CLI_PLAIN, "%s", cli_number(m->us, text, sizeof text));
        cli_cell(table, CLI_PLAIN, "%.0f %%", m->limit_us / m->us * 100);
        cli_cell(table, m->wrong ? CLI_BAD : CLI_PLAIN, m->wrong ? "%.1e WRONG" : "%.1e",
                 m->verification.relative_error);
        cli_cell(table, CLI_PLAIN, "%s", cli_number(d->predicted_us, text, sizeof text));
        cli_cell(table, CLI_PLAIN, "%s", cli_number(m->bytes / m->us / 1e3, text, sizeof text));
        cli_cell(table, CLI_PLAIN, "%s",
                 cli_number(m->operations / m->us / 1e3, text, sizeof text));
        cli_cell(table, CLI_PLAIN, "%s", gemmux_path_name((gemmux_path)d->path));
        cli_cell(table, CLI_PLAIN, "%s", d->lossless ? "yes" : "no");
        cli_cell(table, CLI_PLAIN, "%s", d->packing);
    }
    cli_table_print(table);
    show_verdict(c, index);
    putchar('\n');
}

json_t *cli_contest_json(const cli_contest *c, int index)
{
    const cli_rival *order[GEMMUX_MAX_KERNELS], *chosen = cli_contest_chosen(c, index);
    int count = cli_contest_order(c, index, order);
    gemmux_problem problem = c->problem;
    json_t *list = json_array();
    problem.m = c->ms[index];
    for (int i = 0; i < count; i++) {
        const cli_heat *heat = &order[i]->heats[index];
        const cli_measurement *m = &heat->m;
        json_t *one = cli_json_decision(&m->decision, &c->session->machine);
        json_object_update_new(
            one, json_pack("{s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:i}", "chosen",
                           order[i] == chosen, "measured_us", cli_json_number(m->us), "median_us",
                           cli_json_number(heat->median_us), "gb_per_s",
                           cli_json_number(m->bytes / m->us / 1e3), "gflop_per_s",
                           cli_json_number(m->operations / m->us / 1e3), "share_of_limit",
                           cli_json_number(m->limit_us / m->us), "relative_error",
                           cli_json_number(m->verification.relative_error), "verified", !m->wrong,
                           "rounds", heat->count));
        json_t *times = json_array();
        for (int j = 0; j < heat->count; j++)
            json_array_append_new(times, cli_json_number(heat->times[j]));
        json_object_set_new(one, "times_us", times);
        json_array_append_new(list, one);
    }
    return json_pack("{s:o, s:o, s:s, s:s, s:o}", "problem", cli_json_problem(&problem),
                     "candidates", list, "chosen", gemmux_kernel_name(chosen->kernel), "fastest",
                     gemmux_kernel_name(order[0]->kernel), "lost",
                     cli_json_number(cli_lost(c, index)));
}

/* ----------------------------------------------------------------------------------- command -- */

/* What is not given: a linear of 4096 x 4096 in bf16, decoding one token and a few, and prefill. */
static void fill_in(cli_options *o)
{
    static const int64_t usual[] = {1, 16, 128};
    gemmux_format bf16 = gemmux_format_of(GEMMUX_BF16);
    if (!o->argument_count)
        o->arguments[o->argument_count++] = "linear";
    for (; !(o->given & CLI_BIT(M_LIST)) && o->m_count < 3; o->m_count++)
        o->m[o->m_count] = usual[o->m_count];
    o->n = o->given & CLI_BIT(N) ? o->n : 4096;
    o->k = o->given & CLI_BIT(K) ? o->k : 4096;
    o->x = o->x.id ? o->x : bf16;
    o->w[0] = o->w[0].id ? o->w[0] : bf16;
    o->y = o->y.id ? o->y : bf16;
    o->given |= CLI_PROBLEM;
}

static int race_all(cli_contest *c)
{
    int code = CLI_DONE;
    for (int i = 0; !code && i < c->m_count; i++) {
        char what[64];
        snprintf(what, sizeof what, "M=%lld", (long long)c->ms[i]);
        cli_progress(i, c->m_count, what);
        code = cli_contest_race(c, i, &usual_rules);
    }
    cli_progress(1, 1, "");
    return code;
}

static int report(const cli_contest *c, bool json)
{
    json_t *results = json_array();
    for (int i = 0; i < c->m_count; i++)
        if (json)
            json_array_append_new(results, cli_contest_json(c, i));
        else
            show(c, i);
    if (json)
        return cli_json_print(json_pack(
            "{s:o, s:o}", "device", cli_json_machine(&c->session->machine), "results", results));
    json_decref(results);
    return CLI_DONE;
}

static int one_product(cli_session *session, cli_options *options)
{
    static cli_contest c;
    gemmux_problem problem;
    fill_in(options);
    int code = cli_problem(options, &problem);
    if (!code)
        code = cli_session_open(options, "bench", session);
    if (code)
        return code;
    code = cli_contest_open(session, &problem, options->m, options->m_count, &usual_rules, &c);
    if (!code)
        code = race_all(&c);
    if (!code && options->learn)
        code = cli_contest_learn(&c);
    if (!code)
        code = report(&c, options->json);
    if (!code && options->plot)
        code = cli_plot(&c, options->plot);
    cli_contest_close(&c);
    return code ? code : c.wrong ? CLI_WRONG : CLI_DONE;
}

static int run(cli_options *options)
{
    static cli_session session;
    bool described = options->argument_count || options->given & (CLI_PROBLEM | CLI_BIT(M_LIST));
    if (options->overhead)
        return cli_overhead(options);
    if (options->grid && (described || options->plot))
        return cli_fail(CLI_BAD_INPUT, "--grid times products of its own: no operation, sizes, "
                                       "formats or --plot beside it");
    bool sweep = options->grid || (options->learn && !described && !options->plot);
    int code = sweep ? cli_sweep(&session, options) : one_product(&session, options);
    cli_session_close(&session);
    return code;
}

const cli_command cli_bench = {
    .name = "bench",
    .arguments = "[OP]",
    .summary = "time the candidates of one product against each other",
    .details = "What is not given is a linear of 4096 x 4096, bf16 x bf16 -> bf16, M 1, 16, 128.\n"
               "Every eligible kernel is certified, forced, verified and timed in interleaved\n"
               "rounds, the weights in no cache; times are the fastest of 9 calls. With --learn\n"
               "and no product it learns from a grid of formats, sizes and M; --grid times 300\n"
               "other products and counts how often the chosen kernel was the fastest.",
    .options = CLI_BIT(M_LIST) | CLI_PROBLEM | CLI_POLICY | CLI_BIT(THREADS) | CLI_BIT(TIMEOUT) |
               CLI_BIT(LEARN) | CLI_BIT(GRID) | CLI_BIT(SECONDS) | CLI_BIT(SKIP) | CLI_BIT(PLOT) |
               CLI_BIT(OVERHEAD) | CLI_BIT(JSON) | CLI_BIT(HELP),
    .run = run,
};
