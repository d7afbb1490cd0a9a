/* SPDX-License-Identifier: Apache-2.0
 *
 * run: checks the arguments against the plan, finds the range that M falls in, and calls its
 * kernel. For CPU kernels it also does what is the same for all of them: reordered columns of x,
 * sorting a moe's rows by expert, and the weighted sum over slots. It allocates nothing.
 */
#include "error.h"
#include "float_bits.h"
#include "plan.h"
#include "select.h"

#include <inttypes.h>
#include <string.h>

/* Takes the next `bytes` of the workspace. */
static void *take(char **at, int64_t bytes)
{
    void *taken = *at;
    *at += (bytes + 63) / 64 * 64;
    return taken;
}

static int64_t y_columns(const gemmux_problem *p)
{
    return p->epilogue & GEMMUX_EPILOGUE_SWIGLU ? p->n / 2 : p->n;
}

static gemmux_status check_x(const gemmux_plan *plan, const gemmux_tensor *x, gemmux_problem *now,
                             gemmux_error *error)
{
    const gemmux_problem *p = &plan->problem;
    char have[32], want[32];
    if (!gemmux_format_equal(x->format, p->x))
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT, "run: x is %s, the plan is for %s",
                           gemmux_format_name(x->format, have, sizeof have),
                           gemmux_format_name(p->x, want, sizeof want));
    if (x->cols != p->k || x->count != 1)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "run: x is %" PRId64 " matrices of %" PRId64
                           " columns, the plan is for one of K=%" PRId64,
                           x->count, x->cols, p->k);
    *now = *p;
    now->m = x->rows;
    if (p->op == GEMMUX_MOE && !(p->epilogue & GEMMUX_EPILOGUE_GATHER)) {
        if (x->rows % p->top_k)
            return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                               "run: without gather x has one row a (token, slot), but %" PRId64
                               " rows are no multiple of top_k=%d",
                               x->rows, p->top_k);
        now->m = x->rows / p->top_k;
    }
    if (now->m < 1 || now->m > p->m)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "run: M=%" PRId64 ", the plan was prepared for 1 to %" PRId64, now->m,
                           p->m);
    if (x->cols > 0 && !x->codes)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT, "run: x has no data");
    if (gemmux_scale_count(x->format, x->rows, x->cols) > 0 && !x->scales)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT, "run: x in %s needs scales",
                           gemmux_format_name(x->format, have, sizeof have));
    return GEMMUX_OK;
}

static gemmux_status check_alignment(const gemmux_kernel *kernel, const gemmux_args *args,
                                     gemmux_error *error)
{
    if (kernel->align && (((uintptr_t)args->x.codes | (uintptr_t)args->x.row_bytes |
                           (uintptr_t)args->y | (uintptr_t)args->y_row_bytes) %
                          (uintptr_t)kernel->align))
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "run: %s needs x, y and their rows aligned to %d bytes; say so in "
                           "problem.align, so that another kernel is chosen",
                           kernel->name, kernel->align);
    return GEMMUX_OK;
}

static int find_range(const gemmux_plan *plan, int64_t m)
{
    for (int i = 0; i < plan->range_count; i++)
        if (m >= plan->ranges[i].m_min && m <= plan->ranges[i].m_max)
            return i;
    return -1;
}

typedef struct gather_context {
    const gemmux_tensor *x;
    const int32_t *order;
    char *out;
    int64_t row_bytes, stride;
    int element_bytes;
} gather_context;

static void gather_row(void *context, size_t row)
{
    const gather_context *c = context;
    const char *from = (const char *)c->x->codes + (int64_t)row * c->stride;
    char *to = c->out + (int64_t)row * c->row_bytes;
    for (int64_t j = 0; j < c->x->cols; j++)
        memcpy(to + j * c->element_bytes, from + (int64_t)c->order[j] * c->element_bytes,
               (size_t)c->element_bytes);
}

/* x with its columns in the order of the packed weights. */
static void reorder_columns(const gemmux_plan *plan, gemmux_tensor *x, void *buffer)
{
    gather_context c = {.x = x, .order = plan->k_order, .out = buffer};
    c.row_bytes = gemmux_row_bytes(x->format, x->cols);
    c.stride = x->row_bytes ? x->row_bytes : c.row_bytes;
    c.element_bytes = gemmux_code_bits((gemmux_code)x->format.element) / 8;
    gemmux_parallel(plan->threads, gather_row, &c, (size_t)x->rows);
    x->codes = buffer;
    x->row_bytes = 0;
}

/* Counting sort of (token, slot) by expert: groups of rows that meet one matrix. */
static gemmux_status sort_rows(const gemmux_problem *p, const int32_t *ids, gemmux_call *call,
                               char **workspace, gemmux_error *error)
{
    int64_t rows = p->m * p->top_k;
    gemmux_group *groups = take(workspace, p->experts * (int64_t)sizeof *groups);
    int32_t *x_rows = take(workspace, rows * 4);
    int32_t *y_rows = take(workspace, rows * 4);
    int32_t *next = take(workspace, (p->experts + 1) * 4);
    memset(next, 0, ((size_t)p->experts + 1) * 4);
    for (int64_t i = 0; i < rows; i++) {
        if (ids[i] < 0 || ids[i] >= p->experts)
            return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                               "run: expert_ids[%" PRId64 "] = %d is outside [0, %d)", i, ids[i],
                               p->experts);
        next[ids[i] + 1]++;
    }
    int count = 0;
    for (int32_t e = 0; e < p->experts; e++) {
        int32_t first = next[e];
        if (next[e + 1])
            groups[count++] = (gemmux_group){e, next[e + 1], x_rows + first, y_rows + first};
        next[e + 1] += first;
    }
    bool gather = p->epilogue & GEMMUX_EPILOGUE_GATHER;
    for (int64_t i = 0; i < rows; i++) {
        int32_t at = next[ids[i]]++;
        x_rows[at] = (int32_t)(gather ? i / p->top_k : i);
        y_rows[at] = (int32_t)i;
    }
    call->groups = groups;
    call->group_count = count;
    return GEMMUX_OK;
}

typedef struct scatter_context {
    const gemmux_args *args;
    const gemmux_problem *problem;
    const float *rows; /* [m, top_k, columns] */
    int64_t columns, y_row_bytes;
} scatter_context;

/* y[token] = sum over slots, in the order of the slots, of weight * row; in f32. */
static void scatter_token(void *context, size_t token)
{
    const scatter_context *c = context;
    int top_k = c->problem->top_k;
    const float *weights = c->args->expert_weights + (int64_t)token * top_k;
    const float *rows = c->rows + (int64_t)token * top_k * c->columns;
    char *y = (char *)c->args->y + (int64_t)token * c->y_row_bytes;
    for (int64_t j = 0; j < c->columns; j++) {
        float sum = 0;
        for (int slot = 0; slot < top_k; slot++)
            sum += weights[slot] * rows[slot * c->columns + j];
        uint16_t half;
        switch (c->problem->y.id) {
        case GEMMUX_F32:
            memcpy(y + j * 4, &sum, 4);
            break;
        case GEMMUX_BF16:
            half = gemmux_bf16_from_f32(sum);
            memcpy(y + j * 2, &half, 2);
            break;
        default:
            half = gemmux_f16_from_f32(sum);
            memcpy(y + j * 2, &half, 2);
        }
    }
}

/* What all CPU kernels share, around the kernel itself. */
static gemmux_status run_cpu(const gemmux_plan *plan, const gemmux_kernel *kernel,
                             const gemmux_args *args, gemmux_call *call, gemmux_error *error)
{
    const gemmux_problem *p = call->problem;
    char *at = plan->workspace;
    bool scatter = p->epilogue & GEMMUX_EPILOGUE_SCATTER;
    if (plan->k_order) {
        void *columns = take(&at, plan->gather_bytes);
        reorder_columns(plan, &call->x, columns);
    }
    if (p->op == GEMMUX_MOE) {
        gemmux_status status = sort_rows(p, args->expert_ids, call, &at, error);
        if (status)
            return status;
    }
    scatter_context sums = {.args = args, .problem = p, .y_row_bytes = call->y_row_bytes};
    if (scatter) {
        sums.columns = y_columns(p);
        call->y = take(&at, p->m * p->top_k * sums.columns * 4);
        sums.rows = call->y;
        call->y_row_bytes = sums.columns * 4;
        call->y_format = gemmux_format_of(GEMMUX_F32);
    }
    call->workspace = at;
    call->workspace_bytes = plan->workspace_bytes - (at - (char *)plan->workspace);
    gemmux_status status = kernel->run(call, error);
    if (!status && scatter)
        gemmux_parallel(plan->threads, scatter_token, &sums, (size_t)p->m);
    return status;
}

gemmux_status gemmux_run(const gemmux_plan *plan, const gemmux_args *args, gemmux_error *error)
{
    gemmux_problem now;
    gemmux_status status = check_x(plan, &args->x, &now, error);
    if (status)
        return status;
    if (!args->y)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT, "run: y is NULL");
    bool scatter = now.epilogue & GEMMUX_EPILOGUE_SCATTER;
    if (now.op == GEMMUX_MOE && (!args->expert_ids || (scatter && !args->expert_weights)))
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT, "run: moe needs expert_ids%s",
                           scatter ? " and expert_weights" : "");
    int range = find_range(plan, now.m);
    if (range < 0)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "run: no kernel of this plan takes M=%" PRId64, now.m);
    const gemmux_decision *decision = &plan->ranges[range].decision;
    status = check_alignment(decision->kernel, args, error);
    if (status)
        return status;

    int64_t dense = gemmux_row_bytes(now.y, y_columns(&now));
    gemmux_group whole = {.row_count = (int32_t)now.m}; /* a moe's rows are sorted into others */
    gemmux_call call = {
        .problem = &now,
        .form = decision->form,
        .w = &plan->packed,
        .bias = plan->bias,
        .x = args->x,
        .y = args->y,
        .y_row_bytes = args->y_row_bytes ? args->y_row_bytes : dense,
        .y_format = now.y,
        .groups = &whole,
        .group_count = 1,
        .expert_ids = args->expert_ids,
        .expert_weights = args->expert_weights,
        .threads = plan->threads,
        .state = plan->states[range],
        .stream = args->stream,
    };
    if (plan->resident)
        call.w = &plan->resident->packed;
    status = gemmux_packed_expect(call.w, decision->kernel->packing, &now, error);
    if (status)
        return status;
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&plan->lock;
    pthread_mutex_lock(lock);
    if (plan->resident) {
        call.bias = plan->resident->bias;
        call.workspace = plan->resident->workspace;
        call.workspace_bytes = plan->workspace_bytes;
        status = decision->kernel->run(&call, error);
        if (status)
            gemmux_cuda_blame(&plan->resident->device, error);
        else
            gemmux_cuda_note_run(&plan->resident->device, decision->kernel);
    } else {
        status = run_cpu(plan, decision->kernel, args, &call, error);
    }
    pthread_mutex_unlock(lock);
    return status;
}
