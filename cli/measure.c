/* SPDX-License-Identifier: Apache-2.0
 *
 * One product: operands, its limit on this machine, verification, and how long it takes.
 */
#include "session_device.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------------------- operands -- */

/* Near enough to normal, and the same at every start: the sum of four uniform numbers. */
static float draw(uint64_t *seed)
{
    float sum = 0;
    for (int i = 0; i < 4; i++) {
        *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        sum += (float)(*seed >> 40) * 0x1p-23f - 1;
    }
    return sum;
}

static int64_t x_rows(const gemmux_problem *p, int64_t m)
{
    bool spread = p->op == GEMMUX_MOE && !(p->epilogue & GEMMUX_EPILOGUE_GATHER);
    return spread ? m * p->top_k : m;
}

static int64_t y_rows(const gemmux_problem *p, int64_t m)
{
    bool spread = p->op == GEMMUX_MOE && !(p->epilogue & GEMMUX_EPILOGUE_SCATTER);
    return spread ? m * p->top_k : m;
}

static int make_routing(cli_operands *o)
{
    const gemmux_problem *p = &o->problem;
    uint64_t seed = 5;
    if (p->op != GEMMUX_MOE)
        return CLI_DONE;
    size_t slots = (size_t)(p->m * p->top_k);
    o->expert_ids = malloc(slots * sizeof *o->expert_ids);
    o->expert_weights = malloc(slots * sizeof *o->expert_weights);
    if (!o->expert_ids || !o->expert_weights)
        return CLI_FAILED;
    /* Neighbours: the experts of one token are distinct. */
    for (int64_t t = 0; t < p->m; t++) {
        int64_t first = (int64_t)(fabsf(draw(&seed)) * 1e6f) % p->experts;
        for (int s = 0; s < p->top_k; s++) {
            o->expert_ids[t * p->top_k + s] = (int32_t)((first + s) % p->experts);
            o->expert_weights[t * p->top_k + s] = 1.0f / (float)p->top_k;
        }
    }
    o->args.expert_ids = o->expert_ids;
    o->args.expert_weights = o->expert_weights;
    return CLI_DONE;
}

int cli_operands_make(cli_session *session, const gemmux_problem *problem, cli_operands *o)
{
    gemmux_error error = {GEMMUX_ERROR_MEMORY, "no memory for the operands of a product"};
    uint64_t seed = 1;
    *o = (cli_operands){.problem = *problem, .device = session->device};
    int64_t rows = x_rows(problem, problem->m);
    float *values = malloc((size_t)(rows * problem->k + 1) * sizeof *values);
    o->y_columns = problem->epilogue & GEMMUX_EPILOGUE_SWIGLU ? problem->n / 2 : problem->n;
    o->y_bytes = gemmux_stored_bytes(problem->y, 1, y_rows(problem, problem->m), o->y_columns);
    o->y = aligned_alloc(64, (size_t)(o->y_bytes + 63) / 64 * 64);
    if (!values || !o->y || make_routing(o)) {
        free(values);
        return cli_fail_error(&error);
    }
    for (int64_t i = 0; i < rows * problem->k; i++)
        values[i] = draw(&seed);
    gemmux_status status = gemmux_quantise(values, 1, rows, problem->k, problem->x, &o->x, &error);
    free(values);
    if (status)
        return cli_fail_error(&error);
    o->args.x = o->x.tensor;
    o->args.y = o->y;
    o->there = o->args;
    return o->device ? cli_device_operands(o) : CLI_DONE;
}

gemmux_args cli_operands_first(const cli_operands *o, int64_t m)
{
    gemmux_args args = o->args;
    args.x.rows = x_rows(&o->problem, m);
    return args;
}

gemmux_args cli_operands_there(const cli_operands *o, int64_t m)
{
    gemmux_args args = o->there;
    args.x.rows = x_rows(&o->problem, m);
    return args;
}

gemmux_status cli_operands_run(const cli_operands *o, const gemmux_plan *plan, int64_t m,
                               gemmux_error *error)
{
    gemmux_args args = cli_operands_there(o, m);
    gemmux_status status = GEMMUX_OK;
    memset(o->y, 0xff, (size_t)o->y_bytes); /* NaN: what is not written is found */
    if (o->device)
        status = gemmux_device_write(o->device, args.y, o->y, o->y_bytes, error);
    if (!status)
        status = gemmux_run(plan, &args, error);
    if (!status && o->device)
        status = gemmux_device_read(o->device, o->y, args.y, o->y_bytes, error);
    return status;
}

void cli_operands_free(cli_operands *o)
{
    cli_device_operands_free(o);
    gemmux_weights_free(&o->x);
    free(o->y);
    free(o->expert_ids);
    free(o->expert_weights);
    *o = (cli_operands){0};
}

/* ------------------------------------------------------------------------------------ limits -- */

/* The peak that products of x as it is stored run at: what is exact here, whoever computes it. */
static gemmux_math math_of(gemmux_format x)
{
    switch (x.id) {
    case GEMMUX_F32:
        return GEMMUX_MATH_F32;
    case GEMMUX_F16:
        return GEMMUX_MATH_F16;
    case GEMMUX_BF16:
        return GEMMUX_MATH_BF16;
    case GEMMUX_INT8:
        return GEMMUX_MATH_INT8;
    case GEMMUX_MXFP4:
    case GEMMUX_NVFP4:
        return GEMMUX_MATH_FP4;
    default:
        return GEMMUX_MATH_FP8;
    }
}

/* Matrices of w that at least one row meets. */
static double matrices_met(const cli_operands *o, int64_t m)
{
    const gemmux_problem *p = &o->problem;
    double met = 0;
    if (p->op != GEMMUX_MOE)
        return 1;
    for (int32_t e = 0; e < p->experts; e++) {
        bool found = false;
        for (int64_t i = 0; i < m * p->top_k && !found; i++)
            found = o->expert_ids[i] == e;
        met += found;
    }
    return met;
}

void cli_limits(const cli_session *session, const cli_operands *o, cli_measurement *r)
{
    const gemmux_problem *p = &r->problem;
    const gemmux_machine *machine = &session->machine;
    double w = (double)gemmux_stored_bytes(p->w, 1, p->n, p->k) * matrices_met(o, p->m);
    r->bytes = w + (double)gemmux_stored_bytes(p->x, 1, x_rows(p, p->m), p->k) +
               (double)gemmux_stored_bytes(p->y, 1, y_rows(p, p->m), o->y_columns);
    r->operations = 2.0 * (double)gemmux_problem_rows(p) * (double)p->n * (double)p->k;
    double peak = machine->peak[math_of(p->x)];
    r->limit_us = fmax(r->bytes / machine->bandwidth, peak > 0 ? r->operations / peak : 0) * 1e6;
}

/* ----------------------------------------------------------------------------------- measure -- */

int cli_verify(const gemmux_weights *w, const gemmux_args *args, int64_t rows, cli_measurement *r)
{
    gemmux_error error = {0};
    gemmux_status status =
        gemmux_verify(&r->problem, r->decision.liberties, w, args, rows, &r->verification, &error);
    r->wrong = status == GEMMUX_ERROR_VERIFY || !(r->verification.worst <= 1);
    if (status && status != GEMMUX_ERROR_VERIFY)
        return cli_fail_error(&error);
    if (r->wrong) {
        char text[128];
        cli_note("%s is wrong for %s: row %lld, column %lld is %.3g times further from the f64 "
                 "reference than rounding explains",
                 gemmux_kernel_name(r->decision.kernel),
                 gemmux_problem_text(&r->problem, text, sizeof text),
                 (long long)r->verification.worst_row, (long long)r->verification.worst_col,
                 r->verification.worst);
    }
    return CLI_DONE;
}

/* The fastest call: on a machine that others use too, a thread that waits for its core says nothing
 * about the kernel, and the limits are the best that was seen as well. */
static int time_it(cli_session *session, const gemmux_plan *plan, const gemmux_args *args,
                   cli_measurement *r)
{
    enum { LEAST = 10, MOST = 25 };
    double start = cli_now_us();
    gemmux_error error;
    r->us = INFINITY;
    for (int i = 0; i < MOST; i++) {
        double us = cli_time_once(session, plan, args, &error);
        if (us < 0)
            return cli_fail_error(&error);
        r->us = fmin(r->us, us);
        double spent = cli_now_us() - start;
        if (spent > 1e6 || (i + 1 >= LEAST && spent > 50e3))
            break;
    }
    return CLI_DONE;
}

int cli_measure(cli_session *session, const gemmux_plan *plan, const gemmux_weights *w,
                const cli_operands *o, int64_t m, int64_t rows, cli_measurement *r)
{
    const gemmux_range *ranges;
    gemmux_args args = cli_operands_first(o, m);
    gemmux_error error;
    int count = gemmux_plan_ranges(plan, &ranges);
    *r = (cli_measurement){.problem = o->problem};
    r->problem.m = m;
    for (int i = 0; i < count; i++)
        if (m >= ranges[i].m_min && m <= ranges[i].m_max)
            r->decision = ranges[i].decision;
    /* The range's prediction is for its largest M; this is for m, under the same packing. */
    gemmux_policy same = *session->policy;
    gemmux_decision exact;
    same.packing = r->decision.packing;
    same.only = gemmux_kernel_name(r->decision.kernel);
    if (!gemmux_select(&r->problem, &session->machine, &same, &exact, NULL, NULL))
        r->decision = exact;
    if (cli_operands_run(o, plan, m, &error))
        return cli_fail_error(&error);
    int code = cli_verify(w, &args, rows, r);
    args = cli_operands_there(o, m);
    if (!code)
        code = time_it(session, plan, &args, r);
    cli_limits(session, o, r);
    return code;
}
