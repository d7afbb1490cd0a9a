/* SPDX-License-Identifier: Apache-2.0
 *
 * cuda_ref_any: plain CUDA, every format, every op, every epilogue; the floor on the device. This
 * is its contract and its host side; cuda_ref_any.cu is the code.
 */
#include "cuda_ref_any.h"

#include "cuda_launch.h"
#include "format.h"

typedef struct ref_state {
    gemmux_cuda_code code;
    gemmux_cu_function dense, moe;
} ref_state;

static void release(void *state)
{
    ref_state *s = state;
    gemmux_cuda_code_close(&s->code);
    free(s);
}

static gemmux_status prepare(const gemmux_problem *problem, const gemmux_machine *machine,
                             const gemmux_packed *w, void **state, gemmux_error *error)
{
    (void)problem, (void)w;
    ref_state *s = calloc(1, sizeof *s);
    if (!s)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "cuda_ref_any: out of memory");
    gemmux_status status = gemmux_cuda_code_open(&s->code, machine, "cuda_ref_any", error);
    if (!status)
        status = gemmux_cuda_code_function(&s->code, "ref_dense", 0, &s->dense, error);
    if (!status)
        status = gemmux_cuda_code_function(&s->code, "ref_moe", 0, &s->moe, error);
    if (status) {
        release(s);
        return status;
    }
    *state = s;
    return GEMMUX_OK;
}

static gemmux_ref_tensor view(const gemmux_tensor *t)
{
    return (gemmux_ref_tensor){
        .codes = t->codes,
        .scales = t->scales,
        .zeros = t->zeros,
        .globals = t->globals,
        .rows = t->rows,
        .cols = t->cols,
        .row_bytes = gemmux_row_stride(t),
        .format = t->format,
    };
}

static gemmux_status run(const gemmux_call *call, gemmux_error *error)
{
    const ref_state *s = call->state;
    const gemmux_problem *p = call->problem;
    bool moe = p->op == GEMMUX_MOE, scatter = p->epilogue & GEMMUX_EPILOGUE_SCATTER;
    gemmux_ref_parameters parameters = {
        .x = view(&call->x),
        .w = view(&call->w->plain),
        .k_order = call->w->plain.k_order,
        .bias = p->epilogue & GEMMUX_EPILOGUE_BIAS ? call->bias : NULL,
        .y = call->y,
        .y_row_bytes = call->y_row_bytes,
        .m = scatter ? p->m : gemmux_problem_rows(p),
        .n = p->n,
        .k = p->k,
        .expert_ids = call->expert_ids,
        .expert_weights = call->expert_weights,
        .experts = moe ? p->experts : 0,
        .top_k = p->top_k,
        .y_format = call->y_format.id,
        .gather = (p->epilogue & GEMMUX_EPILOGUE_GATHER) != 0,
        .scatter = scatter,
        .swiglu = (p->epilogue & GEMMUX_EPILOGUE_SWIGLU) != 0,
        .alpha = p->swiglu_alpha > 0 ? p->swiglu_alpha : 1.702f,
        .limit = p->swiglu_limit > 0 ? p->swiglu_limit : 7.0f,
    };
    int64_t tiles = moe ? parameters.m : (parameters.m + GEMMUX_REF_M - 1) / GEMMUX_REF_M;
    unsigned grid[3] = {(unsigned)((p->n + GEMMUX_REF_N - 1) / GEMMUX_REF_N),
                        (unsigned)(tiles < 65535 ? tiles : 65535), 1};
    gemmux_status status = gemmux_cuda_enter(&s->code.device, error);
    if (status)
        return status;
    status = gemmux_cuda_launch(&s->code, moe ? s->moe : s->dense, grid, 256, 0, call->stream,
                                &parameters, error);
    gemmux_cuda_leave(&s->code.device);
    return status;
}

static const gemmux_form forms[] = {
    {
        .x = GEMMUX_ALL_FORMATS,
        .w = GEMMUX_ALL_FORMATS,
        .y = GEMMUX_FLOATS,
        .path = GEMMUX_PATH_REFERENCE,
        .math = GEMMUX_MATH_F32,
        .share_compute = 0.02f,
        .share_bandwidth = 0.03f,
    },
};

const gemmux_kernel gemmux_kernel_cuda_ref_any = {
    .name = "cuda_ref_any",
    .summary = "plain CUDA, every format and op, sums in f32 by FMA: the floor on the device",
    .device = GEMMUX_CUDA,
    .cc_min = 80,
    .ops = GEMMUX_ALL_OPS,
    .epilogue = GEMMUX_ALL_EPILOGUES,
    .forms = forms,
    .form_count = 1,
    .packing = &gemmux_packing_plain,
    .unproven = GEMMUX_CUDA_EMULATED,
    .proved_cc = 90,
    .prepare = prepare,
    .release = release,
    .run = GEMMUX_CUDA_RUN(run),
};
