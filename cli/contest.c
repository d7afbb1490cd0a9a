/* SPDX-License-Identifier: Apache-2.0
 *
 * Preparing candidates and racing them.
 */
#include "contest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------------------- entering -- */

static float draw(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)(*seed >> 40) * 0x1p-23f - 1;
}

static int make_weights(cli_contest *c)
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

static gemmux_problem problem_at(const cli_contest *c, int index)
{
    gemmux_problem problem = c->problem;
    problem.m = c->ms[index];
    return problem;
}

static cli_rival *rival_of(cli_contest *c, const gemmux_kernel *kernel)
{
    for (int i = 0; i < c->count; i++)
        if (c->rivals[i].kernel == kernel)
            return &c->rivals[i];
    c->rivals[c->count] = (cli_rival){.kernel = kernel};
    return &c->rivals[c->count++];
}

/* Lists who may run at one M; *sound is false when one of them has just been quarantined. */
static int list(cli_contest *c, int index, bool *sound)
{
    static gemmux_trace trace;
    gemmux_problem problem = problem_at(c, index);
    gemmux_decision decision;
    gemmux_error error;
    if (gemmux_select(&problem, &c->session->machine, c->session->policy, &decision, &trace,
                      &error))
        return cli_fail_select(c->session, &problem, &error);
    for (int i = 0; *sound && i < trace.verdict_count; i++) {
        const gemmux_verdict *v = &trace.verdicts[i];
        if (v->kind == GEMMUX_REJECTED ||
            gemmux_kernel_device(v->kernel) != c->session->machine.kind)
            continue; /* operands on a device are out of the host's reach */
        int code = cli_prove(c->session, v->kernel, sound);
        if (code || !*sound)
            return code;
        cli_heat *heat = &rival_of(c, v->kernel)->heats[index];
        *heat = (cli_heat){.enters = true, .chosen = v->kind == GEMMUX_CHOSEN};
        heat->m = (cli_measurement){.problem = problem, .decision = v->decision};
    }
    return CLI_DONE;
}

/* Certified ones only: select is asked again after each that fails. */
static int list_all(cli_contest *c)
{
    bool sound = false;
    for (int turn = 0; !sound && turn <= gemmux_kernel_count(&c->session->machine); turn++) {
        sound = true;
        c->count = 0;
        for (int i = 0; sound && i < c->m_count; i++) {
            int code = list(c, i, &sound);
            if (code)
                return code;
        }
    }
    return CLI_DONE;
}

static void withdraw(cli_rival *r, const char *why)
{
    cli_note("%s is left out: %s", gemmux_kernel_name(r->kernel), why);
    for (int i = 0; i < CLI_MOST_MS; i++)
        r->heats[i].enters = false;
}

/* Prepares exactly this kernel, for the largest M that it takes. One that cannot be prepared (a
 * library that refuses) is said and left out, as gemmux_prepare would do without it too. */
static void prepare(cli_contest *c, cli_rival *r)
{
    gemmux_policy forced = *c->session->policy;
    gemmux_problem problem = c->problem;
    gemmux_profile profile = {0};
    gemmux_error error;
    for (int i = 0; i < c->m_count; i++)
        if (r->heats[i].enters)
            problem.m = c->ms[i];
    profile = (gemmux_profile){.count = 1, .m = {problem.m}, .weight = {1}};
    forced.only = gemmux_kernel_name(r->kernel);
    if (gemmux_prepare(&problem, &c->session->machine, &forced, &profile, &c->w,
                       c->session->threads, &r->plan, &error))
        withdraw(r, error.text);
}

/* Also the first call, which meets cold pages. */
static int verify(cli_contest *c, cli_rival *r, int index, const cli_rules *rules)
{
    cli_heat *heat = &r->heats[index];
    gemmux_args args = cli_operands_first(&c->operands, c->ms[index]);
    gemmux_error error;
    if (cli_operands_run(&c->operands, r->plan, c->ms[index], &error)) {
        withdraw(r, error.text);
        return CLI_DONE;
    }
    int code = rules->rows ? cli_verify(&c->w, &args, rules->rows, &heat->m) : CLI_DONE;
    c->wrong += heat->m.wrong;
    return code;
}

int cli_contest_open(cli_session *session, const gemmux_problem *problem, const int64_t *ms,
                     int m_count, const cli_rules *rules, cli_contest *c)
{
    memset(c, 0, sizeof *c); /* half a megabyte: no literal of it on the stack */
    c->session = session;
    c->problem = *problem;
    c->m_count = m_count;
    memcpy(c->ms, ms, (size_t)m_count * sizeof *ms);
    c->problem.m = ms[m_count - 1];
    int code = list_all(c);
    if (!code)
        code = make_weights(c);
    if (!code)
        code = cli_operands_make(session, &c->problem, &c->operands);
    for (int i = 0; !code && i < c->count; i++) {
        bool verified = false;
        prepare(c, &c->rivals[i]);
        for (int j = 0; !code && j < m_count; j++) {
            if (!c->rivals[i].heats[j].enters)
                continue;
            cli_limits(session, &c->operands, &c->rivals[i].heats[j].m);
            if (!verified || !rules->verify_once)
                code = verify(c, &c->rivals[i], j, rules);
            verified = true;
        }
    }
    for (int j = 0; !code && j < m_count; j++)
        if (!cli_contest_chosen(c, j))
            code = cli_fail(CLI_NO_KERNEL, "no candidate could be prepared for this product");
    return code;
}

void cli_contest_close(cli_contest *c)
{
    for (int i = 0; i < c->count; i++)
        gemmux_plan_free(c->rivals[i].plan);
    cli_operands_free(&c->operands);
    free((void *)(uintptr_t)c->w.bias);
    gemmux_weights_free(&c->w);
    c->count = 0;
}

/* ------------------------------------------------------------------------------------ racing -- */

static double fastest(const cli_heat *heat)
{
    double us = INFINITY;
    for (int i = 0; i < heat->count; i++)
        us = fmin(us, heat->times[i]);
    return us;
}

/* A hopeless one sits out; at its first M everybody runs once. One slow call of less than 0.1 s
 * does not make a hopeless one: on a shared machine it may have waited for its turn. */
static bool sits_out(const cli_contest *c, const cli_rival *r, int index, double best_us,
                     const cli_rules *rules)
{
    const cli_heat *heat = &r->heats[index];
    if (heat->count)
        return heat->times[0] * heat->count > 1e6 || (heat->count > 1 && rules->patience > 0 &&
                                                      fastest(heat) > rules->patience * best_us);
    if (rules->patience <= 0 || !index || !r->heats[index - 1].count)
        return false;
    double before = r->heats[index - 1].m.us, best_before = INFINITY;
    for (int i = 0; i < c->count; i++)
        if (c->rivals[i].heats[index - 1].count)
            best_before = fmin(best_before, c->rivals[i].heats[index - 1].m.us);
    double more = (double)c->ms[index] / (double)c->ms[index - 1];
    return before > rules->patience * best_before && before * more > 1e5;
}

/* Times one rival once. */
static int lap(const cli_contest *c, cli_rival *r, int index, const gemmux_args *args)
{
    cli_heat *heat = &r->heats[index];
    gemmux_error error;
    double us = cli_time_once(c->session, r->plan, args, &error);
    if (us < 0)
        return cli_fail_error(&error);
    heat->times[heat->count++] = us;
    return CLI_DONE;
}

/* Those whom more rounds may bring into another order: within 1.3 of the best. */
static int find_near(const cli_contest *c, int index, bool *near)
{
    double best_us = INFINITY;
    int count = 0;
    for (int i = 0; i < c->count; i++)
        best_us = fmin(best_us, fastest(&c->rivals[i].heats[index]));
    for (int i = 0; i < c->count; i++) {
        near[i] = fastest(&c->rivals[i].heats[index]) <= 1.3 * best_us;
        count += near[i];
    }
    return count;
}

static int race_near(cli_contest *c, int index, const gemmux_args *args, const cli_rules *rules)
{
    bool near[GEMMUX_MAX_KERNELS];
    double start = cli_now_us();
    if (find_near(c, index, near) < 2)
        return CLI_DONE;
    for (int round = rules->rounds; round < rules->more_rounds; round++) {
        for (int i = 0; i < c->count; i++) {
            int code = near[i] ? lap(c, &c->rivals[i], index, args) : CLI_DONE;
            if (code)
                return code;
        }
        if (cli_now_us() - start > 5e5)
            break;
    }
    return CLI_DONE;
}

static void sum_up(cli_heat *heat)
{
    double sorted[CLI_MOST_ROUNDS];
    if (!heat->count)
        return;
    memcpy(sorted, heat->times, (size_t)heat->count * sizeof sorted[0]);
    heat->median_us = cli_median(sorted, heat->count);
    heat->m.us = sorted[0];
}

/* A B C, A B C ...: what disturbs the machine disturbs all alike. */
int cli_contest_race(cli_contest *c, int index, const cli_rules *rules)
{
    gemmux_args args = cli_operands_there(&c->operands, c->ms[index]);
    double best_us = INFINITY;
    for (int round = 0; round < rules->rounds; round++)
        for (int i = 0; i < c->count; i++) {
            cli_rival *r = &c->rivals[i];
            if (!r->heats[index].enters || sits_out(c, r, index, best_us, rules))
                continue;
            int code = lap(c, r, index, &args);
            if (code)
                return code;
            best_us = fmin(best_us, fastest(&r->heats[index]));
        }
    int code = race_near(c, index, &args, rules);
    for (int i = 0; i < c->count; i++)
        sum_up(&c->rivals[i].heats[index]);
    return code;
}

/* ----------------------------------------------------------------------------------- results -- */

int cli_contest_order(const cli_contest *c, int index, const cli_rival **order)
{
    int count = 0;
    for (int i = 0; i < c->count; i++) {
        if (!c->rivals[i].heats[index].count)
            continue;
        int place = count++;
        for (; place > 0 && order[place - 1]->heats[index].m.us > c->rivals[i].heats[index].m.us;
             place--)
            order[place] = order[place - 1];
        order[place] = &c->rivals[i];
    }
    return count;
}

const cli_rival *cli_contest_chosen(const cli_contest *c, int index)
{
    const cli_rival *next = NULL;
    for (int i = 0; i < c->count; i++) {
        const cli_heat *heat = &c->rivals[i].heats[index];
        if (!heat->enters)
            continue;
        if (heat->chosen)
            return &c->rivals[i];
        if (!next || heat->m.decision.predicted_us < next->heats[index].m.decision.predicted_us)
            next = &c->rivals[i];
    }
    return next;
}

int cli_contest_learn(const cli_contest *c)
{
    gemmux_timing *timings = calloc((size_t)c->count * (size_t)c->m_count + 1, sizeof *timings);
    gemmux_error error = {GEMMUX_ERROR_MEMORY, "no memory for timings"};
    int count = 0;
    for (int i = 0; timings && i < c->count; i++)
        for (int j = 0; j < c->m_count; j++) {
            const cli_heat *heat = &c->rivals[i].heats[j];
            if (heat->count && !heat->m.wrong)
                timings[count++] = (gemmux_timing){heat->m.problem, heat->m.decision, heat->m.us};
        }
    gemmux_status status = timings ? gemmux_records_learn(c->session->records, &c->session->machine,
                                                          timings, count, &error)
                                   : GEMMUX_ERROR_MEMORY;
    free(timings);
    return status ? cli_fail_error(&error) : CLI_DONE;
}
