/* SPDX-License-Identifier: Apache-2.0
 *
 * gemmux bench: times the candidates of one product against each other, in interleaved rounds, and
 * says whether the one that select chose is the fastest.
 */
#include "overhead.h"
#include "session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 9 };

typedef struct rival {
    gemmux_plan *plan;
    cli_measurement m;
    double times[ROUNDS];
    int count;
    bool chosen;
} rival;

typedef struct contest {
    cli_session session;
    gemmux_problem problem; /* with the m of this contest */
    gemmux_weights w;
    rival rivals[GEMMUX_MAX_KERNELS];
    int count, wrong;
} contest;

static float draw(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)(*seed >> 40) * 0x1p-23f - 1;
}

static int make_weights(contest *c)
{
    const gemmux_problem *p = &c->problem;
    int64_t count = p->op == GEMMUX_MOE ? p->experts : 1;
    int64_t elements = count * p->n * p->k; /* gemmux_problem_check has seen that it fits */
    float *values = malloc((size_t)(elements + 1) * sizeof *values);
    float *bias = calloc((size_t)(count * p->n), sizeof *bias);
    gemmux_error error = {GEMMUX_ERROR_MEMORY, "no memory for the weights"};
    uint64_t seed = 3;
    for (int64_t i = 0; values && i < elements; i++)
        values[i] = draw(&seed);
    gemmux_status status = values && bias
                               ? gemmux_quantise(values, count, p->n, p->k, p->w, &c->w, &error)
                               : GEMMUX_ERROR_MEMORY;
    free(values);
    c->w.bias = bias;
    return status ? cli_fail_error(&error) : CLI_DONE;
}

/* Prepares exactly this kernel. One that cannot be prepared (a library that refuses) is said and
 * left out, as gemmux_prepare would do without it too. */
static int enter(contest *c, const gemmux_verdict *v, const cli_operands *operands)
{
    rival *r = &c->rivals[c->count];
    gemmux_policy forced = *c->session.policy;
    gemmux_args args = operands->args;
    gemmux_error error;
    *r = (rival){.chosen = v->kind == GEMMUX_CHOSEN};
    forced.only = gemmux_kernel_name(v->kernel);
    if (gemmux_prepare(&c->problem, &c->session.machine, &forced, NULL, &c->w, c->session.threads,
                       &r->plan, &error)) {
        cli_note("%s is left out: %s", forced.only, error.text);
        return CLI_DONE;
    }
    c->count++;
    r->m = (cli_measurement){.problem = c->problem, .decision = v->decision};
    memset(operands->y, 0xff, (size_t)operands->y_bytes);
    if (gemmux_run(r->plan, &args, &error))
        return cli_fail_error(&error);
    cli_limits(&c->session, operands, &r->m);
    int code = cli_verify(&c->w, &args, 4, &r->m);
    c->wrong += r->m.wrong;
    return code;
}

/* Certified ones only: select is asked again after each that fails. */
static int enter_all(contest *c, const cli_operands *operands)
{
    static gemmux_trace trace;
    gemmux_decision decision;
    gemmux_error error;
    bool sound = false;
    for (int turn = 0; !sound && turn <= gemmux_kernel_count(&c->session.machine); turn++) {
        sound = true;
        if (gemmux_select(&c->problem, &c->session.machine, c->session.policy, &decision, &trace,
                          &error))
            return cli_fail_error(&error);
        for (int i = 0; sound && i < trace.verdict_count; i++) {
            int code = CLI_DONE;
            if (trace.verdicts[i].kind != GEMMUX_REJECTED)
                code = cli_prove(&c->session, trace.verdicts[i].kernel, &sound);
            if (code)
                return code;
        }
    }
    for (int i = 0; i < trace.verdict_count; i++)
        if (trace.verdicts[i].kind != GEMMUX_REJECTED) {
            int code = enter(c, &trace.verdicts[i], operands);
            if (code)
                return code;
        }
    return c->count ? CLI_DONE
                    : cli_fail(CLI_NO_KERNEL, "no candidate could be prepared for this product");
}

/* A B C, A B C ...: what disturbs the machine disturbs all alike. Slow ones sit out rounds. */
static int race(contest *c, const cli_operands *operands)
{
    gemmux_error error;
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < c->count; i++) {
            rival *r = &c->rivals[i];
            char what[96];
            if (r->count && r->times[0] * r->count > 1e6)
                continue;
            snprintf(what, sizeof what, "M=%lld %s", (long long)c->problem.m,
                     gemmux_kernel_name(r->m.decision.kernel));
            cli_progress((int64_t)round * c->count + i, (int64_t)ROUNDS * c->count, what);
            double us = cli_time_once(&c->session, r->plan, &operands->args, &error);
            if (us < 0)
                return cli_fail_error(&error);
            r->times[r->count++] = us;
        }
    cli_progress(1, 1, "");
    for (int i = 0; i < c->count; i++)
        c->rivals[i].m.us = cli_median(c->rivals[i].times, c->rivals[i].count);
    return CLI_DONE;
}

static int by_time(const void *a, const void *b)
{
    double x = ((const rival *)a)->m.us, y = ((const rival *)b)->m.us;
    return (x > y) - (x < y);
}

static const rival *chosen_of(const contest *c)
{
    const rival *next = &c->rivals[0];
    for (int i = 0; i < c->count; i++) {
        if (c->rivals[i].chosen)
            return &c->rivals[i];
        if (c->rivals[i].m.decision.predicted_us < next->m.decision.predicted_us)
            next = &c->rivals[i];
    }
    return next; /* what prepare takes when the chosen one cannot be prepared */
}

/* ------------------------------------------------------------------------------------ reports --
 */

static void show_verdict(const contest *c)
{
    const rival *best = &c->rivals[0], *chosen = chosen_of(c);
    const char *name = gemmux_kernel_name(chosen->m.decision.kernel);
    double lost = (chosen->m.us / best->m.us - 1) * 100;
    if (chosen == best)
        cli_print(CLI_GOOD, "chosen: %s, the fastest\n", name);
    else if (lost < 3)
        cli_print(CLI_GOOD, "chosen: %s, within 3 %% of %s\n", name,
                  gemmux_kernel_name(best->m.decision.kernel));
    else
        cli_print(CLI_WARN, "chosen: %s, which lost %.0f %% to %s\n", name, lost,
                  gemmux_kernel_name(best->m.decision.kernel));
}

static void show(const contest *c)
{
    static const cli_column columns[] = {
        {"KERNEL", false, false},  {"TIME us", true, false},      {"LIMIT", true, false},
        {"ERROR", true, false},    {"PREDICTED us", true, false}, {"GB/s", true, false},
        {"GFLOP/s", true, false},  {"PATH", false, false},        {"LOSSLESS", false, false},
        {"PACKING", false, false},
    };
    char text[128];
    cli_print(CLI_BOLD, "%s\n", gemmux_problem_text(&c->problem, text, sizeof text));
    cli_table *table = cli_table_new(columns, sizeof columns / sizeof columns[0]);
    for (int i = 0; i < c->count; i++) {
        const cli_measurement *m = &c->rivals[i].m;
        const gemmux_decision *d = &m->decision;
        cli_cell(table, c->rivals[i].chosen ? CLI_BOLD : CLI_PLAIN, "%s",
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
    show_verdict(c);
    putchar('\n');
}

static json_t *as_json(const contest *c)
{
    const rival *chosen = chosen_of(c);
    json_t *list = json_array();
    for (int i = 0; i < c->count; i++) {
        const cli_measurement *m = &c->rivals[i].m;
        json_t *one = cli_json_decision(&m->decision, &c->session.machine);
        json_object_update_new(
            one, json_pack("{s:b, s:o, s:o, s:o, s:o, s:o, s:b, s:i}", "chosen",
                           c->rivals[i].chosen, "measured_us", cli_json_number(m->us), "gb_per_s",
                           cli_json_number(m->bytes / m->us / 1e3), "gflop_per_s",
                           cli_json_number(m->operations / m->us / 1e3), "share_of_limit",
                           cli_json_number(m->limit_us / m->us), "relative_error",
                           cli_json_number(m->verification.relative_error), "verified", !m->wrong,
                           "rounds", c->rivals[i].count));
        json_array_append_new(list, one);
    }
    return json_pack("{s:o, s:o, s:s, s:s, s:o}", "problem", cli_json_problem(&c->problem),
                     "candidates", list, "chosen", gemmux_kernel_name(chosen->m.decision.kernel),
                     "fastest", gemmux_kernel_name(c->rivals[0].m.decision.kernel), "lost",
                     cli_json_number(chosen->m.us / c->rivals[0].m.us - 1));
}

/* ----------------------------------------------------------------------------------- command -- */

static int contest_at(contest *c, int64_t m, const cli_options *options, json_t *results)
{
    cli_operands operands;
    c->problem.m = m;
    c->count = 0;
    int code = cli_operands_make(&c->problem, &operands);
    if (!code)
        code = enter_all(c, &operands);
    if (!code)
        code = race(c, &operands);
    if (!code) {
        qsort(c->rivals, (size_t)c->count, sizeof c->rivals[0], by_time);
        if (options->json)
            json_array_append_new(results, as_json(c));
        else
            show(c);
    }
    for (int i = 0; i < c->count; i++)
        gemmux_plan_free(c->rivals[i].plan);
    cli_operands_free(&operands);
    return code;
}

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

static int run(cli_options *options)
{
    static contest c;
    if (options->overhead)
        return cli_overhead(options);
    fill_in(options);
    int code = cli_problem(options, &c.problem);
    if (!code)
        code = cli_session_open(options, "bench", &c.session);
    if (!code)
        code = make_weights(&c);
    json_t *results = json_array();
    for (int i = 0; !code && i < options->m_count; i++)
        code = contest_at(&c, options->m[i], options, results);
    if (!code && options->json)
        cli_json_print(json_pack("{s:o, s:O}", "device", cli_json_machine(&c.session.machine),
                                 "results", results));
    json_decref(results);
    free((void *)(uintptr_t)c.w.bias);
    gemmux_weights_free(&c.w);
    cli_session_close(&c.session);
    return code ? code : c.wrong ? CLI_WRONG : CLI_DONE;
}

const cli_command cli_bench = {
    .name = "bench",
    .arguments = "[OP]",
    .summary = "time the candidates of one product against each other",
    .details = "What is not given is a linear of 4096 x 4096, bf16 x bf16 -> bf16, M 1, 16, 128.\n"
               "Every eligible kernel is certified, forced, verified and timed in interleaved\n"
               "rounds, the weights in no cache; times are medians.",
    .options = CLI_BIT(M_LIST) | CLI_PROBLEM | CLI_POLICY | CLI_BIT(THREADS) | CLI_BIT(TIMEOUT) |
               CLI_BIT(OVERHEAD) | CLI_BIT(JSON) | CLI_BIT(HELP),
    .run = run,
};
