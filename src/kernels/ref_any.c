/* SPDX-License-Identifier: Apache-2.0
 *
 * ref_any: plain C, every format, every op, every epilogue; the floor of the ladder. It decodes
 * one row of w at a time and sums in f64, so its only roundings are those of the decoded f32
 * element and of y.
 */
#include "epilogue.h"
#include "kernel.h"

enum {
    COLUMNS = 16, /* rows of w an item finishes: even, for SWIGLU's pairs */
};

typedef struct ref_context {
    const gemmux_call *call;
    const gemmux_group *group;
    const float *x; /* all rows of x as f32 */
    float *w_rows;  /* one row of w a worker */
} ref_context;

static int64_t aligned(int64_t floats)
{
    return (floats + 15) / 16 * 16;
}

static double dot(const float *a, const float *b, int64_t count)
{
    double sum[4] = {0, 0, 0, 0};
    int64_t i = 0;
    for (; i + 4 <= count; i += 4)
        for (int lane = 0; lane < 4; lane++)
            sum[lane] += (double)a[i + lane] * (double)b[i + lane];
    for (; i < count; i++)
        sum[0] += (double)a[i] * (double)b[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

static void finish_columns(void *context, uint32_t worker, size_t item)
{
    const ref_context *c = context;
    const gemmux_call *call = c->call;
    const gemmux_problem *problem = call->problem;
    int64_t n_first = (int64_t)item * COLUMNS;
    int64_t n_count = problem->n - n_first < COLUMNS ? problem->n - n_first : COLUMNS;
    int64_t stride = aligned(problem->k);
    float *w = c->w_rows + (int64_t)worker * stride * COLUMNS;
    for (int64_t n = 0; n < n_count; n++)
        gemmux_tensor_row_f32(&call->w->plain, c->group->expert, n_first + n, w + n * stride);
    for (int32_t i = 0; i < c->group->row_count; i++) {
        int64_t x_row = c->group->x_rows ? c->group->x_rows[i] : i;
        int64_t y_row = c->group->y_rows ? c->group->y_rows[i] : i;
        float sums[COLUMNS];
        for (int64_t n = 0; n < n_count; n++)
            sums[n] = (float)dot(c->x + x_row * stride, w + n * stride, problem->k);
        gemmux_finish_row(call, c->group->expert, y_row, n_first, n_count, sums);
    }
}

static void widen_x(void *context, size_t row)
{
    const ref_context *c = context;
    gemmux_tensor_row_f32(&c->call->x, 0, (int64_t)row,
                          (float *)(uintptr_t)c->x + (int64_t)row * aligned(c->call->x.cols));
}

static int64_t workers_of(const gemmux_machine *machine)
{
    return machine->kind == GEMMUX_CPU && machine->cores > 0 ? machine->cores : 1;
}

static const char *configure(const gemmux_problem *problem, const gemmux_machine *machine,
                             const gemmux_form *form, gemmux_config *config)
{
    (void)form;
    int64_t rows = gemmux_problem_rows(problem);
    config->workspace_bytes = aligned(problem->k) * 4 * (rows + COLUMNS * workers_of(machine));
    return NULL;
}

static gemmux_status run(const gemmux_call *call, gemmux_error *error)
{
    (void)error;
    float *x = call->workspace;
    ref_context context = {call, NULL, x, x + call->x.rows * aligned(call->x.cols)};
    gemmux_parallel(call->threads, widen_x, &context, (size_t)call->x.rows);
    for (int g = 0; g < call->group_count; g++) {
        context.group = &call->groups[g];
        gemmux_parallel_workers(call->threads, finish_columns, &context,
                                (size_t)((call->problem->n + COLUMNS - 1) / COLUMNS));
    }
    return GEMMUX_OK;
}

static const gemmux_form forms[] = {
    {
        .x = GEMMUX_ALL_FORMATS,
        .w = GEMMUX_ALL_FORMATS,
        .y = GEMMUX_FLOATS,
        .path = GEMMUX_PATH_REFERENCE,
        .math = GEMMUX_MATH_F32,
        .share_compute = 0.015f,
        .share_bandwidth = 0.05f,
    },
};

const gemmux_kernel gemmux_kernel_ref_any = {
    .name = "ref_any",
    .summary = "plain C, every format and op, sums in f64: the last rung",
    .device = GEMMUX_CPU,
    .ops = GEMMUX_ALL_OPS,
    .epilogue = GEMMUX_ALL_EPILOGUES,
    .forms = forms,
    .form_count = 1,
    .packing = &gemmux_packing_plain,
    .floor = true,
    .configure = configure,
    .run = run,
};
