/* SPDX-License-Identifier: Apache-2.0
 *
 * gemmux bench over many products: --learn stores what every candidate reached on a grid of
 * formats, sizes and M; --grid looks at other products and counts how often select chose well.
 */
#include "bench.h"

#include <math.h>

typedef struct sweep_shape {
    int64_t n, k;
    int experts, top_k; /* 0: a linear */
} sweep_shape;

typedef struct sweep_formats {
    const char *x, *w, *y;
} sweep_formats;

/* What is multiplied at which M; shapes outermost, so that a sweep which runs out of time has seen
 * every format. */
typedef struct sweep_grid {
    const sweep_formats *formats;
    const sweep_shape *shapes;
    const int64_t *ms;
    int format_count, shape_count, m_count;
} sweep_grid;

typedef struct sweep_tally {
    int products, best, near, near_by_median, contests;
    double worst;
    bool ended; /* by the clock */
} sweep_tally;

#define COUNT(array) ((int)(sizeof(array) / sizeof(array)[0]))

static const sweep_formats learnt_formats[] = {
    {"bf16", "bf16", "bf16"},  {"bf16", "mxfp4", "bf16"}, {"bf16", "nvfp4", "bf16"},
    {"bf16", "int4", "bf16"},  {"bf16", "nf4", "bf16"},   {"f32", "f32", "f32"},
    {"bf16", "mxfp8", "bf16"}, {"bf16", "e4m3", "bf16"},  {"bf16", "int8", "bf16"},
    {"f16", "f16", "f16"},     {"int8", "int8", "bf16"},  {"bf16", "e5m2", "bf16"},
};
static const sweep_shape learnt_shapes[] = {
    {4096, 4096, 0, 0}, {1024, 1024, 0, 0},  {2048, 2048, 0, 0},
    {1024, 1024, 8, 2}, {14336, 4096, 0, 0},
};
static const int64_t learnt_ms[] = {1, 2, 4, 8, 16, 32, 64, 128, 512};

/* Layers of SmolLM2-135M, Llama 3, gpt-oss-20b. */
static const sweep_shape other_shapes[] = {
    {576, 1536, 0, 0},  {1024, 4096, 0, 0}, {2880, 2880, 0, 0},
    {4096, 4096, 0, 0}, {5760, 2880, 0, 0}, {4096, 14336, 0, 0},
};
static const int64_t other_ms[] = {1, 4, 12, 48, 200};

static const sweep_grid learnt = {learnt_formats,        learnt_shapes,        learnt_ms,
                                  COUNT(learnt_formats), COUNT(learnt_shapes), COUNT(learnt_ms)};
static const sweep_grid other = {learnt_formats,      other_shapes,   other_ms, 10,
                                 COUNT(other_shapes), COUNT(other_ms)};

/* A chosen kernel that was not timed at an M lost by more than anybody's patience. */
static void count_in(const cli_contest *c, int index, sweep_tally *tally)
{
    const cli_rival *chosen = cli_contest_chosen(c, index);
    double best_median = INFINITY, lost = cli_lost(c, index);
    for (int i = 0; i < c->count; i++)
        if (c->rivals[i].heats[index].count > 1)
            best_median = fmin(best_median, c->rivals[i].heats[index].median_us);
    tally->products++;
    tally->best += lost <= 0;
    tally->near += lost <= 0.05;
    tally->near_by_median +=
        chosen->heats[index].count && chosen->heats[index].median_us <= 1.05 * best_median;
    tally->worst = fmax(tally->worst, lost);
}

static void show_line(const cli_contest *c, int index)
{
    const cli_rival *order[GEMMUX_MAX_KERNELS], *chosen = cli_contest_chosen(c, index);
    const cli_heat *heat = &chosen->heats[index];
    gemmux_problem problem = c->problem;
    char text[128], us[32];
    double lost = cli_lost(c, index);
    problem.m = c->ms[index];
    cli_contest_order(c, index, order);
    cli_print(CLI_PLAIN, "%-44s %-18s %9s us %4.0f %%  ",
              gemmux_problem_text(&problem, text, sizeof text), gemmux_kernel_name(chosen->kernel),
              cli_number(heat->m.us, us, sizeof us), heat->m.limit_us / heat->m.us * 100);
    if (lost <= 0)
        cli_print(CLI_GOOD, "the fastest\n");
    else
        cli_print(lost <= 0.05 ? CLI_GOOD : CLI_WARN, "lost %.0f %% to %s\n", lost * 100,
                  gemmux_kernel_name(order[0]->kernel));
}

static int parse(const char *text, gemmux_format *format)
{
    gemmux_error error;
    return gemmux_format_parse(text, format, &error) ? cli_fail_error(&error) : CLI_DONE;
}

static int sweep_one(cli_session *session, const cli_options *options, const sweep_grid *grid,
                     const sweep_formats *formats, const sweep_shape *shape, sweep_tally *tally,
                     json_t *results)
{
    static const cli_rules rules = {
        .rounds = 7, .more_rounds = 25, .patience = 4, .rows = 1, .verify_once = true};
    static cli_contest c;
    gemmux_problem problem = {.op = GEMMUX_LINEAR, .n = shape->n, .k = shape->k};
    int code = parse(formats->x, &problem.x);
    code = code ? code : parse(formats->w, &problem.w);
    code = code ? code : parse(formats->y, &problem.y);
    problem.liberties = options->liberties;
    if (shape->experts) {
        problem.op = GEMMUX_MOE;
        problem.epilogue = GEMMUX_EPILOGUE_GATHER;
        problem.experts = shape->experts;
        problem.top_k = shape->top_k;
    }
    if (!code)
        code = cli_contest_open(session, &problem, grid->ms, grid->m_count, &rules, &c);
    for (int i = 0; !code && i < grid->m_count; i++) {
        code = cli_contest_race(&c, i, &rules);
        if (code)
            break;
        count_in(&c, i, tally);
        if (options->json)
            json_array_append_new(results, cli_contest_json(&c, i));
        else
            show_line(&c, i);
    }
    if (!code && options->learn)
        code = cli_contest_learn(&c);
    cli_contest_close(&c);
    return code ? code : c.wrong ? CLI_WRONG : CLI_DONE;
}

static int sweep_all(cli_session *session, const cli_options *options, const sweep_grid *grid,
                     sweep_tally *tally, json_t *results)
{
    double start = cli_now_us();
    int total = grid->shape_count * grid->format_count;
    for (int i = (int)options->skip; i < total; i++) {
        const sweep_formats *formats = &grid->formats[i % grid->format_count];
        const sweep_shape *shape = &grid->shapes[i / grid->format_count];
        char what[96];
        if ((cli_now_us() - start) * 1e-6 > options->seconds) {
            tally->ended = true;
            break;
        }
        snprintf(what, sizeof what, "%s x %s, %lld x %lld%s", formats->x, formats->w,
                 (long long)shape->n, (long long)shape->k, shape->experts ? ", experts" : "");
        cli_progress(i, total, what);
        int code = sweep_one(session, options, grid, formats, shape, tally, results);
        if (code)
            return code;
        tally->contests++;
    }
    cli_progress(1, 1, "");
    return CLI_DONE;
}

static void show_tally(const cli_options *options, const sweep_grid *grid, const sweep_tally *t)
{
    char text[256];
    double all = t->products > 0 ? t->products / 100.0 : 1;
    putchar('\n');
    if (t->ended)
        cli_print(CLI_WARN,
                  "ended after %g s with %d of %d formats and sizes: go on with --skip %d\n",
                  options->seconds, t->contests, grid->shape_count * grid->format_count,
                  (int)options->skip + t->contests);
    cli_print(CLI_BOLD, "the chosen kernel was the fastest in %d of %d products (%.1f %%)\n",
              t->best, t->products, t->best / all);
    cli_print(CLI_BOLD, "within 5 %% of it in %d (%.1f %%), by medians in %d (%.1f %%)\n", t->near,
              t->near / all, t->near_by_median, t->near_by_median / all);
    snprintf(text, sizeof text, "the largest loss was %.0f %%%s", t->worst * 100,
             options->learn ? "; what was measured is kept, and select predicts from it" : "");
    cli_wrap(CLI_PLAIN, 0, text);
}

int cli_sweep(cli_session *session, const cli_options *options)
{
    const sweep_grid *grid = options->grid ? &other : &learnt;
    sweep_tally tally = {0};
    json_t *results = json_array();
    int code = cli_session_open(options, "bench", session);
    if (!code)
        code = sweep_all(session, options, grid, &tally, results);
    if (!code && options->json)
        code = cli_json_print(
            json_pack("{s:o, s:O, s:i, s:i, s:i, s:i, s:o, s:b}", "device",
                      cli_json_machine(&session->machine), "results", results, "products",
                      tally.products, "fastest", tally.best, "within_5_percent", tally.near,
                      "within_5_percent_by_median", tally.near_by_median, "largest_loss",
                      cli_json_number(tally.worst), "ended_by_clock", tally.ended));
    else if (!code)
        show_tally(options, grid, &tally);
    json_decref(results);
    return code;
}
