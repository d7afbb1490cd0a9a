/* SPDX-License-Identifier: Apache-2.0 */
#include "session_device.h"

#include <math.h>
#include <stdlib.h>

/* ----------------------------------------------------------------------------------- evictor -- */

/* A product of one row by more weights than L2 holds: reading them leaves nothing else there, and
 * unlike a write nothing that must be written back while the clock runs. */
static int make_evictor(cli_session *session)
{
    enum { N = 8192 };
    int64_t l2 = session->machine.l2_bytes ? session->machine.l2_bytes : 64 << 20;
    int64_t k = (2 * l2 / (2 * N) + 63) / 64 * 64;
    gemmux_format bf16 = gemmux_format_of(GEMMUX_BF16);
    gemmux_problem problem = gemmux_problem_linear(1, N, k, bf16, bf16, bf16);
    gemmux_weights zeros = {.tensor = {.format = bf16, .count = 1, .rows = N, .cols = k}};
    gemmux_error error;
    void *codes = calloc((size_t)(N * k), 2);
    session->waker_operands = calloc(1, sizeof *session->waker_operands);
    if (!codes || !session->waker_operands) {
        free(codes);
        return cli_fail(CLI_FAILED, "out of memory");
    }
    zeros.tensor.codes = codes;
    gemmux_status status = gemmux_prepare(&problem, &session->machine, NULL, NULL, &zeros, NULL,
                                          &session->waker, &error);
    free(codes);
    if (status) {
        cli_note("weights are timed as they are met, perhaps in L2: nothing here can empty it (%s)",
                 error.text);
        session->waker = NULL;
        return CLI_DONE;
    }
    return cli_operands_make(session, &problem, session->waker_operands);
}

/* ------------------------------------------------------------------------------ open and close --
 */

/* Whether the device itself rules it out, whatever is multiplied. */
static bool never_here(const gemmux_machine *machine, const gemmux_kernel *kernel)
{
    static gemmux_trace trace;
    gemmux_format bf16 = gemmux_format_of(GEMMUX_BF16);
    gemmux_problem problem = gemmux_problem_linear(1, 64, 64, bf16, bf16, bf16);
    gemmux_policy named = {.only = gemmux_kernel_name(kernel)};
    gemmux_decision decision;
    gemmux_select(&problem, machine, &named, &decision, &trace, NULL);
    for (int i = 0; i < trace.verdict_count; i++) {
        const gemmux_verdict *v = &trace.verdicts[i];
        for (int j = 0; v->kernel == kernel && j < v->reason_count; j++)
            if (trace.reasons[v->reason_first + j].stage == GEMMUX_STAGE_DEVICE)
                return true;
    }
    return false;
}

/* Kernels that no certificate speaks for are chosen only by name; here is where they get one. */
static int prove_all(cli_session *session)
{
    const gemmux_machine *machine = &session->machine;
    int count = gemmux_kernel_count(machine);
    for (int i = 0; i < count; i++) {
        const gemmux_kernel *kernel = gemmux_kernel_at(machine, i);
        bool sound;
        if (gemmux_kernel_device(kernel) != GEMMUX_CUDA || !gemmux_kernel_built(kernel) ||
            !gemmux_kernel_unproven(machine, kernel) || never_here(machine, kernel))
            continue;
        cli_progress(i, count, gemmux_kernel_name(kernel));
        int code = cli_prove(session, kernel, &sound);
        if (code)
            return code;
    }
    cli_progress(1, 1, "");
    return CLI_DONE;
}

int cli_device_open(const cli_options *options, cli_session *session)
{
    gemmux_error error;
    if (gemmux_device_open(&session->machine, &session->device, &error))
        return cli_fail_error(&error);
    int code = cli_records(&session->machine, &session->records);
    if (!code && !options->policy.only)
        code = prove_all(session);
    return code ? code : make_evictor(session);
}

void cli_device_close(cli_session *session)
{
    gemmux_device_close(session->device);
    session->device = NULL;
}

/* ---------------------------------------------------------------------------------- operands -- */

/* `bytes` at `from` (NULL: uninitialised) on the device; nothing for 0. */
static gemmux_status upload(cli_operands *o, const void *from, int64_t bytes, void **out,
                            gemmux_error *error)
{
    *out = NULL;
    if (bytes <= 0)
        return GEMMUX_OK;
    gemmux_status status = gemmux_device_alloc(o->device, bytes, out, error);
    if (!status)
        o->held[o->held_count++] = *out;
    if (!status && from)
        status = gemmux_device_write(o->device, *out, from, bytes, error);
    return status;
}

int cli_device_operands(cli_operands *o)
{
    const gemmux_problem *p = &o->problem;
    const gemmux_tensor *x = &o->x.tensor;
    int64_t codes_bytes = x->rows * gemmux_row_bytes(x->format, x->cols);
    int64_t scales_bytes = x->scales ? gemmux_scale_count(x->format, x->rows, x->cols) *
                                           gemmux_code_bits((gemmux_code)x->format.scale) / 8
                                     : 0;
    int64_t globals_bytes = x->globals ? 4 : 0;
    int64_t zeros_bytes = gemmux_stored_bytes(x->format, 1, x->rows, x->cols) - codes_bytes -
                          scales_bytes - globals_bytes;
    int64_t slots = p->op == GEMMUX_MOE ? p->m * p->top_k : 0;
    void *codes, *scale, *zeros, *global, *ids, *weights, *y;
    gemmux_error error;
    gemmux_status status = upload(o, x->codes, codes_bytes, &codes, &error);
    if (!status)
        status = upload(o, x->scales, scales_bytes, &scale, &error);
    if (!status)
        status = upload(o, x->zeros, x->zeros ? zeros_bytes : 0, &zeros, &error);
    if (!status)
        status = upload(o, x->globals, globals_bytes, &global, &error);
    if (!status)
        status = upload(o, o->expert_ids, slots * 4, &ids, &error);
    if (!status)
        status = upload(o, o->expert_weights, slots * 4, &weights, &error);
    if (!status)
        status = upload(o, NULL, o->y_bytes, &y, &error);
    if (status)
        return cli_fail_error(&error);
    o->there = o->args;
    o->there.x.codes = codes;
    o->there.x.scales = scale;
    o->there.x.zeros = zeros;
    o->there.x.globals = global;
    o->there.expert_ids = ids;
    o->there.expert_weights = weights;
    o->there.y = y;
    return CLI_DONE;
}

void cli_device_operands_free(cli_operands *o)
{
    for (int i = 0; i < o->held_count; i++)
        gemmux_device_free(o->device, o->held[i]);
    o->held_count = 0;
}

/* ------------------------------------------------------------------------------------- clock -- */

typedef struct turn {
    const gemmux_plan *evictor, *plan; /* either may be NULL */
    gemmux_args evictor_args, args;
} turn;

static gemmux_status take_turn(void *context, void *stream, gemmux_error *error)
{
    turn *t = context;
    gemmux_status status = GEMMUX_OK;
    t->evictor_args.stream = t->args.stream = stream;
    if (t->evictor)
        status = gemmux_run(t->evictor, &t->evictor_args, error);
    return status || !t->plan ? status : gemmux_run(t->plan, &t->args, error);
}

/* A graph of evictions with the product after each, less a graph of evictions. */
double cli_device_time(cli_session *session, const gemmux_plan *plan, const gemmux_args *args,
                       gemmux_error *error)
{
    enum { TURNS = 4 };
    turn both = {.evictor = session->waker, .plan = plan, .args = *args};
    double us, without = 0;
    if (session->waker)
        both.evictor_args = session->waker_operands->there;
    turn alone = both;
    alone.plan = NULL;
    if (gemmux_device_time(session->device, take_turn, &both, TURNS, &us, error) ||
        (session->waker &&
         gemmux_device_time(session->device, take_turn, &alone, TURNS, &without, error)))
        return -1;
    return fmax(us - without, 0.01); /* what is shorter cannot be told from nothing */
}
