/* SPDX-License-Identifier: Apache-2.0
 *
 * Dense products through cuBLASLt, opened at run time (driver/blaslt.h), on weights as they are
 * stored:
 *
 *   cublaslt_f32      f32, and with the liberty tf32 on the matrix units
 *   cublaslt_f16      f16 and bf16, sums in f32
 *   cublaslt_fp8      e4m3 and e5m2 with one scale a tensor
 *   cublaslt_fp8_row  e4m3 with one scale a row, on 9.0
 *
 * A plan asks the library for its algorithms when it is prepared, for the M of the plan and the
 * powers of two below, and once for every other M that it meets; it multiplies on the caller's
 * stream in the plan's workspace, and adds a bias that is exact in the type that the library reads.
 */
#include "cublaslt_plan.h"
#include "format.h"

typedef struct lt_state {
    gemmux_lt_place place;
    gemmux_lt_matmul matmul;
    gemmux_cu_pointer bias;
    int64_t m, k;
} lt_state;

static int64_t stride_of(const gemmux_tensor *tensor)
{
    return gemmux_row_stride(tensor) * 8 / gemmux_code_bits((gemmux_code)tensor->format.element);
}

static const char *configure(const gemmux_problem *problem, const gemmux_machine *machine,
                             const gemmux_form *form, gemmux_config *config)
{
    (void)form;
    config->workspace_bytes =
        GEMMUX_WORKSPACE_COUNTERS + gemmux_lt_workspace(machine) + gemmux_lt_scale_room(problem);
    return gemmux_lt_refusal(problem);
}

static void release(void *state)
{
    lt_state *s = state;
    gemmux_lt_place_close(&s->place, &s->matmul, 1, s->bias);
    free(s);
}

/* Asks for sizes before they are met: a question takes up to 0.3 ms, a known answer nothing. */
static gemmux_status choose_ahead(lt_state *s, gemmux_error *error)
{
    gemmux_status status = GEMMUX_OK;
    int64_t n = s->matmul.shape.n;
    for (int64_t m = 1; m < s->m && !status; m *= 2)
        status = gemmux_lt_choose(&s->place.lt, &s->matmul, m, s->k, n, error);
    return status ? status : gemmux_lt_choose(&s->place.lt, &s->matmul, s->m, s->k, n, error);
}

static gemmux_status make(lt_state *s, const gemmux_problem *problem, const gemmux_machine *machine,
                          const gemmux_packed *w, gemmux_error *error)
{
    gemmux_lt_scale scale =
        problem->w.scaling == GEMMUX_SCALING_ROW ? GEMMUX_LT_SCALE_ROW : GEMMUX_LT_SCALE_TENSOR;
    const gemmux_lt_shape shape = {
        .x = gemmux_lt_type_of(problem->x),
        .w = gemmux_lt_type_of(problem->w),
        .y = gemmux_lt_type_of(problem->y),
        .compute = gemmux_lt_compute_of(problem),
        .n = problem->n,
        .k = problem->k,
        .w_stride = stride_of(&w->plain),
        .workspace_bytes = gemmux_lt_workspace(machine),
        .scaled = problem->w.scaling != GEMMUX_SCALING_NONE,
        .x_scale = scale,
        .w_scale = scale,
    };
    gemmux_status status = gemmux_lt_matmul_create(&s->place.lt, &shape, &s->matmul, error);
    s->m = problem->m;
    s->k = problem->k;
    /* With a bias the question is another one: take_bias asks it. */
    return status || problem->epilogue & GEMMUX_EPILOGUE_BIAS ? status : choose_ahead(s, error);
}

static gemmux_status prepare(const gemmux_problem *problem, const gemmux_machine *machine,
                             const gemmux_packed *w, void **state, gemmux_error *error)
{
    gemmux_status status = gemmux_lt_refuse_order(w, error);
    lt_state *s = status ? NULL : calloc(1, sizeof *s);
    if (!s)
        return status ? status : gemmux_fail(error, GEMMUX_ERROR_MEMORY, "cuBLASLt: out of memory");
    status = gemmux_lt_place_open(&s->place, machine, error);
    if (!status) {
        status = make(s, problem, machine, w, error);
        gemmux_cuda_leave(&s->place.device);
    }
    if (status) {
        release(s);
        return status;
    }
    *state = s;
    return GEMMUX_OK;
}

static gemmux_status take_bias(void *state, const float *bias, int64_t n, gemmux_error *error)
{
    lt_state *s = state;
    const gemmux_lt_shape *shape = &s->matmul.shape;
    gemmux_lt_type type = shape->y == GEMMUX_LT_F32 && shape->scaled ? GEMMUX_LT_BF16 : shape->y;
    gemmux_status status = gemmux_cuda_enter(&s->place.device, error);
    if (status)
        return status;
    status = gemmux_lt_upload_bias(&s->place, type, bias, n, &s->bias, error);
    if (!status)
        status = gemmux_lt_set_bias(&s->place.lt, &s->matmul, (const void *)(uintptr_t)s->bias,
                                    type, error);
    if (!status)
        status = choose_ahead(s, error);
    gemmux_cuda_leave(&s->place.device);
    return status;
}

/* The plan's lock is held: the state may learn another M. */
static gemmux_status run(const gemmux_call *call, gemmux_error *error)
{
    lt_state *s = call->state;
    int64_t y_each = gemmux_code_bits((gemmux_code)call->y_format.element) / 8;
    const gemmux_problem *p = call->problem;
    gemmux_lt_operands operands = {
        .x = call->x.codes,
        .w = call->w->plain.codes,
        .x_scales = call->x.scales,
        .w_scales = call->w->plain.scales,
        .y = call->y,
        .workspace = (char *)call->workspace + GEMMUX_WORKSPACE_COUNTERS,
        .stream = call->stream,
    };
    gemmux_status status = gemmux_cuda_enter(&s->place.device, error);
    if (status)
        return status;
    status =
        gemmux_lt_align_scales(&s->place, &operands, gemmux_lt_scale_bytes(p->x, p->m),
                               (char *)operands.workspace + s->matmul.shape.workspace_bytes, error);
    if (!status)
        status = gemmux_lt_choose(&s->place.lt, &s->matmul, p->m, stride_of(&call->x),
                                  call->y_row_bytes / y_each, error);
    if (!status)
        status = gemmux_lt_run(&s->place.lt, &s->matmul, &operands, error);
    gemmux_cuda_leave(&s->place.device);
    return status;
}

/* Shares: on an H200 (bench/results/NOTES-h200.md), 14336 x 4096: bf16 up to 720 of 989 TFLOP/s,
 * fp8 1218 of 1979 and by rows 1150; M = 1 in bf16: 3.9 of 4.5 TB/s. */
#define FORM(xs, ws, ys, kind, freedom, compute)                                                   \
    {                                                                                              \
        .x = (xs), .w = (ws), .y = (ys), .path = GEMMUX_PATH_NATIVE, .math = (kind),               \
        .liberties = GEMMUX_LIBERTY_FLUSH_SUBNORMALS | GEMMUX_LIBERTY_UNORDERED | (freedom),       \
        .share_compute = (compute), .share_bandwidth = 0.85f,                                      \
    }
#define F32  GEMMUX_BIT(GEMMUX_F32)
#define F16  GEMMUX_BIT(GEMMUX_F16)
#define BF16 GEMMUX_BIT(GEMMUX_BF16)
#define E4M3 GEMMUX_BIT(GEMMUX_E4M3)
#define E5M2 GEMMUX_BIT(GEMMUX_E5M2)

static const gemmux_form f32_forms[] = {
    FORM(F32, F32, F32, GEMMUX_MATH_TF32, GEMMUX_LIBERTY_TF32, 0.6f),
    FORM(F32, F32, F32, GEMMUX_MATH_F32, 0, 0.7f),
};
static const gemmux_form f16_forms[] = {
    FORM(BF16, BF16, BF16 | F32, GEMMUX_MATH_BF16, 0, 0.7f),
    FORM(F16, F16, F16 | F32, GEMMUX_MATH_F16, 0, 0.7f),
};
/* The matrix units of 8.9 and 9.0 keep less than f32 of an fp8 product's sum. */
#define FP8(xs, ws, scaling)                                                                       \
    {                                                                                              \
        .x = (xs), .w = (ws), .y = GEMMUX_FLOATS, .x_scaling = GEMMUX_BIT(scaling),                \
        .w_scaling = GEMMUX_BIT(scaling), .w_scale = GEMMUX_BIT(GEMMUX_CODE_F32),                  \
        .path = GEMMUX_PATH_NATIVE, .math = GEMMUX_MATH_FP8,                                       \
        .liberties = GEMMUX_LIBERTY_FLUSH_SUBNORMALS | GEMMUX_LIBERTY_UNORDERED |                  \
                     GEMMUX_LIBERTY_NARROW_SUMS,                                                   \
        .share_compute = 0.6f, .share_bandwidth = 0.85f,                                           \
    }
static const gemmux_form fp8_forms[] = {
    FP8(E4M3, E4M3, GEMMUX_SCALING_TENSOR),
    FP8(E4M3, E5M2, GEMMUX_SCALING_TENSOR),
    FP8(E5M2, E4M3, GEMMUX_SCALING_TENSOR),
};
static const gemmux_form fp8_row_forms[] = {
    FP8(E4M3, E4M3, GEMMUX_SCALING_ROW),
};

#define KERNEL(the_name, what, the_forms, oldest, multiple)                                        \
    .name = (the_name), .summary = (what), .device = GEMMUX_CUDA, .library = GEMMUX_LIB_CUBLASLT,  \
    .library_min = (oldest), .ops = GEMMUX_BIT(GEMMUX_MATMUL) | GEMMUX_BIT(GEMMUX_LINEAR),         \
    .epilogue = GEMMUX_EPILOGUE_BIAS, .forms = (the_forms),                                        \
    .form_count = (int32_t)(sizeof(the_forms) / sizeof(the_forms)[0]),                             \
    .packing = &gemmux_packing_plain, .n_multiple = (multiple), .k_multiple = (multiple),          \
    .align = 16, .overhead_us = 1.0, .configure = configure, .prepare = prepare,                   \
    .take_bias = take_bias, .release = release, .run = run

const gemmux_kernel gemmux_kernel_cublaslt_f32 = {
    KERNEL("cublaslt_f32", "cuBLASLt in f32, or in tf32 where that is allowed", f32_forms, 120000,
           4),
    .cc_min = 80,
};
const gemmux_kernel gemmux_kernel_cublaslt_f16 = {
    KERNEL("cublaslt_f16", "cuBLASLt in bf16 and f16, sums in f32", f16_forms, 120000, 8),
    .cc_min = 80,
};
const gemmux_kernel gemmux_kernel_cublaslt_fp8 = {
    KERNEL("cublaslt_fp8", "cuBLASLt in fp8 with a scale a tensor", fp8_forms, 120000, 16),
    .cc_min = 89,
};
/* Scales a row are in CUDA 12.9 and newer, for 9.0 alone. */
const gemmux_kernel gemmux_kernel_cublaslt_fp8_row = {
    KERNEL("cublaslt_fp8_row", "cuBLASLt in fp8 with a scale a row of x and of w", fp8_row_forms,
           120900, 16),
    .cc_min = 90,
    .cc_max = 90,
};
