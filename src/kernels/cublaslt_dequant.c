/* SPDX-License-Identifier: Apache-2.0
 *
 * cublaslt_dequant: weights decoded once a run into the plan's workspace, in x's type, then a
 * dense product through cuBLASLt: for so many rows of x that decoding costs little beside the
 * product. It reads sm80_fragments, which cuda_sm80_upcast reads for few rows, so that a layer has
 * one packing for both. Decoded in parts of whole rows of w where these would be too large.
 */
#include "cublaslt_plan.h"
#include "cuda_dequant.h"
#include "cuda_launch.h"
#include "format.h"
#include "upcast_host.h"

extern const gemmux_packing gemmux_packing_sm80_fragments;

/* Decoded weights at once: more gains nothing, and a head of 128k x 8k would take 2 GiB. */
#define MOST_DECODED (INT64_C(160) << 20)
#define PART_ROWS    128

typedef struct dequant_state {
    gemmux_lt_place place;
    gemmux_lt_matmul whole, rest; /* parts, and the last one where it is shorter */
    gemmux_cu_pointer bias;
    gemmux_cuda_code code;
    gemmux_cu_function decode;
    gemmux_sm80_layout layout;
    int64_t n, k, m, part_rows, lt_bytes;
    float factor;
    uint8_t by_row;
} dequant_state;

static int64_t rows_of_part(const gemmux_problem *p)
{
    int64_t most = MOST_DECODED / (p->k * 2) / PART_ROWS * PART_ROWS;
    most = most > PART_ROWS ? most : PART_ROWS;
    int64_t parts = (p->n + most - 1) / most;
    return gemmux_round_up((p->n + parts - 1) / parts, parts > 1 ? PART_ROWS : GEMMUX_SM80_ROWS);
}

static const char *configure(const gemmux_problem *problem, const gemmux_machine *machine,
                             const gemmux_form *form, gemmux_config *config)
{
    const char *why = gemmux_lt_refusal(problem);
    if (why)
        return why;
    if (problem->n > 1 << 30 || problem->k > 1 << 30)
        return "sizes beyond 2^30 are not indexed";
    double m = (double)problem->m, n = (double)problem->n, k = (double)problem->k;
    double bandwidth = machine->bandwidth > 0 ? machine->bandwidth : 10e9;
    double peak =
        machine->peak[form->math] > 0 ? machine->peak[form->math] : machine->peak[GEMMUX_MATH_F32];
    double packed = (double)gemmux_stored_bytes(problem->w, 1, problem->n, problem->k);
    double memory = (n * k * 2 + m * k * 2 + m * n * 2) / (bandwidth * form->share_bandwidth);
    double compute = 2 * m * n * k / ((peak > 0 ? peak : 10e9) * form->share_compute);
    double decode = (packed + n * k * 2) / (bandwidth * 0.72); /* measured on an H200 */
    config->workspace_bytes = GEMMUX_WORKSPACE_COUNTERS + gemmux_lt_workspace(machine) +
                              rows_of_part(problem) * problem->k * 2;
    config->predicted_us = ((memory > compute ? memory : compute) + decode) * 1e6;
    return NULL;
}

/* ---- prepare ---- */

static void release(void *state)
{
    dequant_state *s = state;
    gemmux_lt_matmul matmuls[] = {s->whole, s->rest};
    gemmux_cuda_code_close(&s->code);
    gemmux_lt_place_close(&s->place, matmuls, 2, s->bias);
    free(s);
}

/* Products of codes and scales, which may be more than f16 holds: known when weights are. */
static bool rounds_to_f16(const gemmux_problem *p)
{
    bool codes_alone =
        p->w.scaling == GEMMUX_SCALING_TENSOR && (p->w.id == GEMMUX_E4M3 || p->w.id == GEMMUX_INT8);
    return p->x.id == GEMMUX_F16 && !p->w.two_level && !codes_alone;
}

/* What multiplies all sums: a tensor's scale, the second level of nvfp4. */
static gemmux_status find_factor(dequant_state *s, const gemmux_problem *p, const gemmux_packed *w,
                                 gemmux_error *error)
{
    gemmux_cu_pointer from = (gemmux_cu_pointer)(uintptr_t)w->data + (uint64_t)s->layout.factors_at;
    s->factor = 1.0f;
    bool codes_alone =
        !gemmux_upcast_along_k(p->w) && (p->w.id == GEMMUX_E4M3 || p->w.id == GEMMUX_INT8);
    s->by_row = codes_alone && p->w.scaling == GEMMUX_SCALING_ROW;
    if (!p->w.two_level && !(codes_alone && !s->by_row))
        return GEMMUX_OK;
    int result = s->place.device.cuda.copy_to_host(&s->factor, from, sizeof s->factor);
    if (p->w.id == GEMMUX_NVFP4)
        s->factor *= 128.0f; /* as its decoder's numbers are 2^-7 of the true ones */
    return result ? gemmux_cuda_fail(&s->place.device.cuda, result,
                                     "cublaslt_dequant: reading its factor", error)
                  : GEMMUX_OK;
}

static gemmux_status choose(dequant_state *s, int64_t m, int64_t x_stride, int64_t y_stride,
                            gemmux_error *error)
{
    gemmux_status status = gemmux_lt_choose(&s->place.lt, &s->whole, m, x_stride, y_stride, error);
    return status || !s->rest.desc
               ? status
               : gemmux_lt_choose(&s->place.lt, &s->rest, m, x_stride, y_stride, error);
}

static gemmux_status make(dequant_state *s, const gemmux_problem *p, const gemmux_packed *w,
                          gemmux_error *error)
{
    uint32_t flags, refused = rounds_to_f16(p) ? GEMMUX_SM80_BEYOND_F16 : 0;
    gemmux_status status = gemmux_upcast_check_flags("cublaslt_dequant", &s->place.device.cuda,
                                                     &s->layout, w, refused, &flags, error);
    if (!status)
        status = find_factor(s, p, w, error);
    gemmux_lt_shape shape = {
        .x = gemmux_lt_type_of(p->x),
        .w = gemmux_lt_type_of(p->x),
        .y = gemmux_lt_type_of(p->y),
        .compute = GEMMUX_LT_COMPUTE_F32,
        .n = s->part_rows < p->n ? s->part_rows : p->n,
        .k = p->k,
        .w_stride = p->k,
        .workspace_bytes = s->lt_bytes,
        .factor = s->factor,
    };
    if (!status && s->factor == 0)
        status = gemmux_fail(error, GEMMUX_ERROR_LIBRARY, "cublaslt_dequant: w is scaled by 0");
    if (!status)
        status = gemmux_lt_matmul_create(&s->place.lt, &shape, &s->whole, error);
    shape.n = p->n % s->part_rows;
    if (!status && shape.n && p->n > s->part_rows)
        status = gemmux_lt_matmul_create(&s->place.lt, &shape, &s->rest, error);
    if (!status && !(p->epilogue & GEMMUX_EPILOGUE_BIAS))
        status = choose(s, p->m, p->k, p->n, error);
    return status;
}

static gemmux_status prepare(const gemmux_problem *problem, const gemmux_machine *machine,
                             const gemmux_packed *w, void **state, gemmux_error *error)
{
    char name[48];
    gemmux_status status = gemmux_lt_refuse_order(w, error);
    if (!status)
        status = gemmux_packed_expect(w, &gemmux_packing_sm80_fragments, problem, error);
    dequant_state *s = status ? NULL : calloc(1, sizeof *s);
    if (!s)
        return status ? status
                      : gemmux_fail(error, GEMMUX_ERROR_MEMORY, "cublaslt_dequant: out of memory");
    s->n = problem->n;
    s->k = problem->k;
    s->m = problem->m;
    s->part_rows = rows_of_part(problem);
    s->lt_bytes = gemmux_lt_workspace(machine);
    gemmux_sm80_layout_of(problem->w, problem->n, problem->k, &s->layout);
    bool half = problem->x.id == GEMMUX_F16, shifted;
    int kind = gemmux_upcast_kind_of(problem->w, true);
    snprintf(name, sizeof name, "dequant_%s_%s", gemmux_upcast_kind_name(kind),
             half ? "f16" : "bf16");
    status = gemmux_cuda_code_open(&s->code, machine, "cuda_sm80_dequant", error);
    if (!status)
        status = gemmux_cuda_code_function(&s->code, name, 0, &s->decode, error);
    if (!status)
        status = gemmux_upcast_look("cublaslt_dequant", &s->code, kind, half, &s->layout, w,
                                    &shifted, error);
    if (!status) {
        status = gemmux_lt_place_open(&s->place, machine, error);
        if (!status) {
            status = make(s, problem, w, error);
            gemmux_cuda_leave(&s->place.device);
        }
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
    dequant_state *s = state;
    gemmux_lt_type type = s->whole.shape.y;
    gemmux_status status = gemmux_cuda_enter(&s->place.device, error);
    if (status)
        return status;
    status = gemmux_lt_upload_bias(&s->place, type, bias, n, &s->bias, error);
    if (!status)
        status = gemmux_lt_set_bias(&s->place.lt, &s->whole, (const void *)(uintptr_t)s->bias, type,
                                    error);
    if (!status && s->rest.desc)
        status = gemmux_lt_set_bias(&s->place.lt, &s->rest, (const void *)(uintptr_t)s->bias, type,
                                    error);
    if (!status)
        status = choose(s, s->m, s->k, n, error);
    gemmux_cuda_leave(&s->place.device);
    return status;
}

/* ---- run ---- */

static gemmux_status decode(const gemmux_call *call, int64_t first, int64_t rows, char *to,
                            gemmux_error *error)
{
    const dequant_state *s = call->state;
    const gemmux_sm80_layout *at = &s->layout;
    gemmux_format f = call->w->plain.format;
    gemmux_dequant_parameters p = {
        .w = {.w = call->w->data,
              .scales_at = at->scales_at,
              .zeros_at = at->zeros_at,
              .factors_at = at->factors_at,
              .flags_at = at->flags_at,
              .shifts_at = at->shifts_at,
              .n = (int32_t)s->n,
              .k = (int32_t)s->k,
              .units = (int32_t)at->units,
              .row_blocks = (int32_t)at->row_blocks,
              .groups = (int32_t)at->groups,
              .group_shift = gemmux_upcast_group_shift(f),
              .scale_code = f.scale,
              .zero = f.zero,
              .scale_block = f.scaling == GEMMUX_SCALING_BLOCK,
              .fine = (uint8_t)at->fine},
        .to = to,
        .to_stride = s->k * 2,
        .first_block = (int32_t)(first / GEMMUX_SM80_ROWS),
        .by_row = s->by_row,
    };
    const int64_t each = GEMMUX_DEQUANT_WARPS * GEMMUX_DEQUANT_UNITS;
    const unsigned grid[3] = {(unsigned)((at->units + each - 1) / each),
                              (unsigned)((rows + GEMMUX_SM80_ROWS - 1) / GEMMUX_SM80_ROWS), 1};
    return gemmux_cuda_launch(&s->code, s->decode, grid, GEMMUX_DEQUANT_WARPS * 32, 0, call->stream,
                              &p, error);
}

static gemmux_status multiply(const gemmux_call *call, int64_t first, int64_t rows,
                              const char *decoded, gemmux_error *error)
{
    dequant_state *s = call->state;
    gemmux_lt_matmul *matmul = rows == s->whole.shape.n ? &s->whole : &s->rest;
    int64_t y_each = gemmux_code_bits((gemmux_code)call->y_format.element) / 8;
    const gemmux_lt_operands o = {
        .x = call->x.codes,
        .w = decoded,
        .y = (char *)call->y + first * y_each,
        .workspace = (char *)call->workspace + GEMMUX_WORKSPACE_COUNTERS,
        .stream = call->stream,
    };
    gemmux_status status = GEMMUX_OK;
    if (s->bias && s->part_rows < s->n) { /* several parts: each has its own piece of the bias */
        int64_t each = matmul->shape.y == GEMMUX_LT_F32 ? 4 : 2;
        status = gemmux_lt_move_bias(&s->place.lt, matmul,
                                     (const void *)(uintptr_t)(s->bias + (uint64_t)(first * each)),
                                     error);
    }
    if (!status)
        status =
            gemmux_lt_choose(&s->place.lt, matmul, call->problem->m,
                             gemmux_row_stride(&call->x) / 2, call->y_row_bytes / y_each, error);
    return status ? status : gemmux_lt_run(&s->place.lt, matmul, &o, error);
}

static gemmux_status run(const gemmux_call *call, gemmux_error *error)
{
    dequant_state *s = call->state;
    char *decoded = (char *)call->workspace + GEMMUX_WORKSPACE_COUNTERS + s->lt_bytes;
    gemmux_status status = gemmux_cuda_enter(&s->place.device, error);
    if (status)
        return status;
    for (int64_t first = 0; first < s->n && !status; first += s->part_rows) {
        int64_t rows = s->part_rows < s->n - first ? s->part_rows : s->n - first;
        status = decode(call, first, rows, decoded, error);
        if (!status)
            status = multiply(call, first, rows, decoded, error);
    }
    gemmux_cuda_leave(&s->place.device);
    return status;
}

/* ---- contract ---- */

/* Codes times their scale are numbers of x's type: mxfp4, mxfp8 and nvfp4 in bf16, nvfp4 in f16,
 * and one scale a tensor of codes that are, which multiplies the sums. Others are
 * rounded; to f16 where no code times its scale can be beyond 65504, which prepare sees. */
#define EXACT(xs, ws, ...)                                                                         \
    {                                                                                              \
        .x = GEMMUX_BIT(xs), .w = (ws), .y = GEMMUX_BIT(xs) | GEMMUX_BIT(GEMMUX_F32),              \
        .path = GEMMUX_PATH_DEQUANT,                                                               \
        .math = (xs) == GEMMUX_F16 ? GEMMUX_MATH_F16 : GEMMUX_MATH_BF16,                           \
        .liberties = GEMMUX_LIBERTY_FLUSH_SUBNORMALS | GEMMUX_LIBERTY_UNORDERED,                   \
        .share_compute = 0.7f, .share_bandwidth = 0.85f, __VA_ARGS__                               \
    }
#define ROUNDED(xs, ws)                                                                            \
    {                                                                                              \
        .x = GEMMUX_BIT(xs), .w = (ws), .y = GEMMUX_BIT(xs) | GEMMUX_BIT(GEMMUX_F32),              \
        .path = GEMMUX_PATH_DEQUANT,                                                               \
        .math = (xs) == GEMMUX_F16 ? GEMMUX_MATH_F16 : GEMMUX_MATH_BF16,                           \
        .liberties =                                                                               \
            GEMMUX_LIBERTY_FLUSH_SUBNORMALS | GEMMUX_LIBERTY_UNORDERED | GEMMUX_LIBERTY_ROUNDED_W, \
        .share_compute = 0.7f, .share_bandwidth = 0.85f,                                           \
    }
#define CODES  (GEMMUX_BIT(GEMMUX_E4M3) | GEMMUX_BIT(GEMMUX_INT8))
#define OTHERS (CODES | GEMMUX_BIT(GEMMUX_INT4) | GEMMUX_BIT(GEMMUX_NF4))
#define TENSOR .w_scaling = GEMMUX_BIT(GEMMUX_SCALING_TENSOR)

static const gemmux_form forms[] = {
    EXACT(GEMMUX_BF16,
          GEMMUX_BIT(GEMMUX_MXFP4) | GEMMUX_BIT(GEMMUX_MXFP8) | GEMMUX_BIT(GEMMUX_NVFP4),
          .w_zero = 0),
    EXACT(GEMMUX_BF16, CODES, TENSOR),
    EXACT(GEMMUX_F16, GEMMUX_BIT(GEMMUX_NVFP4), .w_zero = 0),
    EXACT(GEMMUX_F16, CODES, TENSOR),
    ROUNDED(GEMMUX_BF16, OTHERS | GEMMUX_BIT(GEMMUX_E5M2)),
    ROUNDED(GEMMUX_F16, OTHERS),
};

const gemmux_kernel gemmux_kernel_cublaslt_dequant = {
    .name = "cublaslt_dequant",
    .summary = "weights decoded once a run into bf16 or f16 in the workspace, then cuBLASLt: for "
               "many rows of x",
    .device = GEMMUX_CUDA,
    .cc_min = 80,
    .library = GEMMUX_LIB_CUBLASLT,
    .library_min = 120000,
    .ops = GEMMUX_BIT(GEMMUX_MATMUL) | GEMMUX_BIT(GEMMUX_LINEAR),
    .epilogue = GEMMUX_EPILOGUE_BIAS,
    .forms = forms,
    .form_count = (int32_t)(sizeof forms / sizeof forms[0]),
    .packing = &gemmux_packing_sm80_fragments,
    .n_multiple = 8,
    .k_multiple = 8,
    .align = 16,
    .overhead_us = 2.0,
    .configure = configure,
    .prepare = prepare,
    .take_bias = take_bias,
    .release = release,
    .run = GEMMUX_CUDA_RUN(run),
};
