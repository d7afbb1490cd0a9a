/* SPDX-License-Identifier: Apache-2.0
 *
 * Products through cuBLASLt whose operands do not stand as it wants them; kernels of ours
 * (cuda_sm80_stage.cu) bring rows of x, scales of x and sums into the plan's workspace and out:
 *
 *   cublaslt_int8       exact sums in int32; scales and bias are applied by us, in f32
 *   cublaslt_fp8_block  e4m3, x with a scale every 128 columns, w likewise or in blocks of 128
 *   cublaslt_mxfp8      mxfp8 x mxfp8 on 10.0 and newer
 *   cublaslt_nvfp4      nvfp4 x nvfp4 on 10.0 and newer
 *   cublaslt_padded, cublaslt_fp8_padded
 *                       sizes and alignments that cuBLASLt refuses: w padded once, x at each run
 *
 * Rows of x go through in parts of whole 128 rows, so that what is staged stays within a limit.
 */
#include "cublaslt_plan.h"
#include "cuda_stage.h"
#include "format.h"
#include "gpu_functions.h"
#include "packings/cublaslt_rows.h"

#include <string.h>

extern const gemmux_packing gemmux_packing_cublaslt_rows;

/* What is staged at once, where more rows are there: about what an L2 cache holds. */
#define MOST_STAGED  (INT64_C(48) << 20)
#define PART_ROWS    128
#define FACTOR_BYTES 256

/* Sizes of one problem, from its formats alone. */
typedef struct staging {
    gemmux_lt_rows w; /* of w, padded; for packing plain as it is */
    bool padded_w;
    bool pads_m;          /* rows of x in multiples of 4 */
    bool tiles, by_group; /* scales of x */
    bool own_sums;        /* always through the workspace */
    int64_t x_row_bytes, sums_row_bytes, scales_row_bytes;
    int64_t groups; /* scales of x a row */
} staging;

typedef struct staged_state {
    gemmux_lt_place place;
    gemmux_lt_matmul direct, summed; /* into y, and in f32 or int32 into the workspace */
    gemmux_cuda_code code;
    gemmux_cu_function stage_x, stage_scales, stage_finish;
    staging sizes;
    int64_t workspace_bytes; /* of the library's part */
    bool can_be_direct;
} staged_state;

static bool tiled_scales(gemmux_format f)
{
    return f.id == GEMMUX_MXFP8 || f.id == GEMMUX_NVFP4;
}

static bool sizes_of(const gemmux_problem *p, bool padded_w, staging *s)
{
    gemmux_lt_rows x;
    *s = (staging){.padded_w = padded_w};
    if (!gemmux_lt_rows_of(p->w, p->n, p->k, &s->w) || !gemmux_lt_rows_of(p->x, 1, p->k, &x))
        return false;
    if (!padded_w) { /* int8 */
        s->w.rows = p->n;
        s->w.cols = p->k;
    }
    s->x_row_bytes = x.row_bytes;
    s->tiles = tiled_scales(p->x);
    s->by_group = p->x.scaling == GEMMUX_SCALING_GROUP && !s->tiles;
    s->pads_m = s->by_group;
    s->groups = x.groups;
    if (s->tiles || s->by_group)
        s->scales_row_bytes = gemmux_round_up(x.groups, 4) * x.scale_bytes;
    s->sums_row_bytes = gemmux_round_up(s->w.rows, 4) * 4;
    s->own_sums =
        p->x.id == GEMMUX_INT8 || s->w.rows != p->n || (p->epilogue & GEMMUX_EPILOGUE_BIAS) != 0;
    return true;
}

static int64_t part_bytes(const staging *s, int64_t rows)
{
    return rows * (s->x_row_bytes + s->sums_row_bytes + s->scales_row_bytes) + 3 * 256 +
           FACTOR_BYTES;
}

static int64_t most_staged(const staging *s, int64_t m)
{
    int64_t least = part_bytes(s, PART_ROWS), all = part_bytes(s, gemmux_round_up(m, PART_ROWS));
    int64_t most = all < MOST_STAGED ? all : MOST_STAGED;
    return most > least ? most : least;
}

/* ---- configure ---- */

/* The roofline of the product and, beside it, the bytes that staging moves. */
static double predict_us(const gemmux_problem *p, const gemmux_machine *machine,
                         const gemmux_form *form, const staging *s)
{
    double m = (double)p->m, n = (double)p->n, k = (double)p->k;
    double bandwidth = machine->bandwidth > 0 ? machine->bandwidth : 10e9;
    double peak =
        machine->peak[form->math] > 0 ? machine->peak[form->math] : machine->peak[GEMMUX_MATH_F32];
    double w = (double)(s->w.rows * s->w.row_bytes), x = m * (double)s->x_row_bytes;
    double staged = s->own_sums ? m * 2 * (double)s->sums_row_bytes : 0;
    if (s->w.cols != p->k || s->pads_m)
        staged += 2 * x;
    staged += 2 * m * (double)s->scales_row_bytes;
    double memory = (w + x + m * n * 4) / (bandwidth * form->share_bandwidth);
    double compute = 2 * m * n * k / ((peak > 0 ? peak : 10e9) * form->share_compute);
    return ((memory > compute ? memory : compute) + staged / (bandwidth * 0.8)) * 1e6;
}

static const char *configure_sizes(const gemmux_problem *problem, const gemmux_machine *machine,
                                   const gemmux_form *form, bool padded_w, gemmux_config *config)
{
    staging s;
    const char *why = gemmux_lt_refusal(problem);
    if (why)
        return why;
    if (problem->m > 1 << 30 || problem->n > 1 << 30 || problem->k > 1 << 30 ||
        !sizes_of(problem, padded_w, &s))
        return "sizes beyond 2^30 are not indexed";
    config->workspace_bytes =
        gemmux_lt_workspace(machine) + most_staged(&s, problem->m) + gemmux_lt_scale_room(problem);
    config->predicted_us = predict_us(problem, machine, form, &s);
    return NULL;
}

static const char *configure_int8(const gemmux_problem *problem, const gemmux_machine *machine,
                                  const gemmux_form *form, gemmux_config *config)
{
    if (problem->k >= 1 << 17)
        return "a sum of 2^17 products of int8 and int8 does not fit int32";
    return configure_sizes(problem, machine, form, false, config);
}

static const char *configure_padded(const gemmux_problem *problem, const gemmux_machine *machine,
                                    const gemmux_form *form, gemmux_config *config)
{
    if (problem->x.id == GEMMUX_INT8 && problem->k >= 1 << 17)
        return "a sum of 2^17 products of int8 and int8 does not fit int32";
    return configure_sizes(problem, machine, form, true, config);
}

static const char *configure_block(const gemmux_problem *problem, const gemmux_machine *machine,
                                   const gemmux_form *form, gemmux_config *config)
{
    if (problem->x.group != 128 || problem->w.group != 128)
        return "cuBLASLt has scales along K for groups and blocks of 128 alone";
    return configure_sizes(problem, machine, form, true, config);
}

static const char *configure_tiles(const gemmux_problem *problem, const gemmux_machine *machine,
                                   const gemmux_form *form, gemmux_config *config)
{
    if (problem->x.element == GEMMUX_CODE_E5M2 && problem->w.element == GEMMUX_CODE_E5M2)
        return "cuBLASLt multiplies no e5m2 with e5m2";
    return configure_sizes(problem, machine, form, true, config);
}

/* ---- prepare ---- */

static void release(void *state)
{
    staged_state *s = state;
    gemmux_lt_matmul matmuls[] = {s->direct, s->summed};
    gemmux_cuda_code_close(&s->code);
    gemmux_lt_place_close(&s->place, matmuls, 2, 0);
    free(s);
}

static gemmux_lt_scale scale_of(gemmux_format f)
{
    switch (f.scaling) {
    case GEMMUX_SCALING_ROW:
        return GEMMUX_LT_SCALE_ROW;
    case GEMMUX_SCALING_BLOCK:
        return GEMMUX_LT_SCALE_BLOCK_128;
    case GEMMUX_SCALING_GROUP:
        return f.id == GEMMUX_MXFP8   ? GEMMUX_LT_SCALE_32_UE8M0
               : f.id == GEMMUX_NVFP4 ? GEMMUX_LT_SCALE_16_UE4M3
                                      : GEMMUX_LT_SCALE_128;
    default:
        return GEMMUX_LT_SCALE_TENSOR;
    }
}

static int64_t pow2_of(int64_t value)
{
    return value & -value;
}

static gemmux_lt_shape shape_of(const staged_state *s, const gemmux_problem *p,
                                const gemmux_packed *w)
{
    const staging *z = &s->sizes;
    int64_t stride = z->padded_w ? z->w.row_bytes : gemmux_row_stride(&w->plain);
    int64_t align = z->padded_w ? 16 : pow2_of(stride | p->k | 16);
    bool integers = p->x.id == GEMMUX_INT8;
    return (gemmux_lt_shape){
        .x = gemmux_lt_type_of(p->x),
        .w = gemmux_lt_type_of(p->w),
        .compute = gemmux_lt_compute_of(p),
        .n = z->w.rows,
        .k = z->w.cols,
        .w_stride = stride * 8 / gemmux_code_bits((gemmux_code)p->w.element),
        .workspace_bytes = s->workspace_bytes,
        .align = (int32_t)align,
        .scaled = !integers && p->w.scaling != GEMMUX_SCALING_NONE,
        .x_scale = scale_of(p->x),
        .w_scale = scale_of(p->w),
        .factor_on_device = p->x.two_level || p->w.two_level,
    };
}

/* Rows of x that one part holds when these are staged. */
static int64_t part_rows(int64_t m, int64_t row_bytes, int64_t staged_bytes)
{
    int64_t room = staged_bytes - 3 * 256 - FACTOR_BYTES;
    if (gemmux_round_up(m, PART_ROWS) * row_bytes <= room)
        return m;
    int64_t most = room / row_bytes / PART_ROWS * PART_ROWS;
    most = most > PART_ROWS ? most : PART_ROWS;
    int64_t parts = (m + most - 1) / most;
    return gemmux_round_up((m + parts - 1) / parts, PART_ROWS);
}

static gemmux_status ask_first(staged_state *s, const gemmux_problem *p, gemmux_error *error)
{
    const staging *z = &s->sizes;
    int64_t all = z->x_row_bytes + z->sums_row_bytes + z->scales_row_bytes;
    int64_t rows = part_rows(p->m, all, most_staged(z, p->m));
    rows = z->pads_m ? gemmux_round_up(rows, 4) : rows;
    gemmux_status status = gemmux_lt_choose(&s->place.lt, &s->summed, rows, z->w.cols,
                                            gemmux_round_up(z->w.rows, 4), error);
    if (!status && s->can_be_direct)
        status =
            gemmux_lt_choose(&s->place.lt, &s->direct, z->pads_m ? gemmux_round_up(p->m, 4) : p->m,
                             z->w.cols, p->n, error);
    return status;
}

static gemmux_status make(staged_state *s, const gemmux_problem *problem,
                          const gemmux_machine *machine, const gemmux_packed *w,
                          gemmux_error *error)
{
    s->workspace_bytes = gemmux_lt_workspace(machine);
    s->can_be_direct = !s->sizes.own_sums;
    gemmux_lt_shape shape = shape_of(s, problem, w);
    shape.y = problem->x.id == GEMMUX_INT8 ? GEMMUX_LT_INT32 : GEMMUX_LT_F32;
    gemmux_status status = gemmux_lt_matmul_create(&s->place.lt, &shape, &s->summed, error);
    shape.y = gemmux_lt_type_of(problem->y);
    if (!status && s->can_be_direct)
        status = gemmux_lt_matmul_create(&s->place.lt, &shape, &s->direct, error);
    return status ? status : ask_first(s, problem, error);
}

static gemmux_status prepare(const gemmux_problem *problem, const gemmux_machine *machine,
                             const gemmux_packed *w, void **state, gemmux_error *error)
{
    bool padded = w->packing == &gemmux_packing_cublaslt_rows;
    gemmux_status status = gemmux_lt_refuse_order(w, error);
    if (!status && padded)
        status = gemmux_packed_expect(w, &gemmux_packing_cublaslt_rows, problem, error);
    staged_state *s = status ? NULL : calloc(1, sizeof *s);
    if (!s)
        return status ? status : gemmux_fail(error, GEMMUX_ERROR_MEMORY, "cuBLASLt: out of memory");
    if (!sizes_of(problem, padded, &s->sizes))
        status = gemmux_fail(error, GEMMUX_ERROR_MEMORY, "cuBLASLt: sizes overflow");
    if (!status)
        status = gemmux_cuda_code_open(&s->code, machine, "cuda_sm80_stage", error);
    if (!status) {
        const gemmux_cuda_wanted wanted[] = {{"stage_x", &s->stage_x},
                                             {"stage_scales", &s->stage_scales},
                                             {"stage_finish", &s->stage_finish}};
        status = gemmux_cuda_code_functions(&s->code, wanted, 3, error);
    }
    if (!status) {
        status = gemmux_lt_place_open(&s->place, machine, error);
        if (!status) {
            status = make(s, problem, machine, w, error);
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

/* ---- run ---- */

/* What is staged in this call, and where it stands. */
typedef struct part {
    bool x, sums;
    int64_t first, rows, lt_rows;            /* of x; lt_rows: padded */
    char *x_at, *sums_at, *scales_at, *room; /* room: see gemmux_lt_align_scales */
    float *factors;
} part;

static unsigned grid_of(int64_t threads)
{
    return (unsigned)((threads + 255) / 256);
}

static unsigned rows_of(int64_t rows)
{
    return (unsigned)(rows < 65535 ? rows : 65535);
}

static gemmux_status put_x(const gemmux_call *call, const part *t, gemmux_error *error)
{
    const staged_state *s = call->state;
    gemmux_stage_x p = {
        .from = (const char *)call->x.codes + t->first * gemmux_row_stride(&call->x),
        .from_stride = gemmux_row_stride(&call->x),
        .row_bytes = gemmux_row_bytes(call->x.format, call->x.cols),
        .to = t->x_at,
        .to_stride = s->sizes.x_row_bytes,
        .rows = (int32_t)t->rows,
        .to_rows = (int32_t)t->lt_rows,
    };
    const unsigned grid[3] = {grid_of(p.to_stride / 16), rows_of(t->lt_rows), 1};
    return gemmux_cuda_launch(&s->code, s->stage_x, grid, 256, 0, call->stream, &p, error);
}

static gemmux_status put_scales(const gemmux_call *call, const part *t, gemmux_error *error)
{
    const staged_state *s = call->state;
    const staging *z = &s->sizes;
    int64_t each = z->tiles ? 1 : 4;
    const gemmux_packed *w = call->w;
    gemmux_stage_scales p = {
        .from = (const char *)call->x.scales + t->first * z->groups * each,
        .to = t->scales_at,
        .rows = (int32_t)t->rows,
        .groups = (int32_t)z->groups,
        .to_rows = (int32_t)(z->tiles ? gemmux_round_up(t->rows, 128) : t->lt_rows),
        .tiles = z->tiles,
    };
    if (s->summed.shape.factor_on_device) {
        p.x_global = call->x.format.two_level ? call->x.globals : NULL;
        p.w_global = w->plain.format.two_level ? w->packing->globals(w) : NULL;
        p.factors = t->factors;
    }
    const unsigned grid[3] = {grid_of(gemmux_round_up(z->groups, 4)), rows_of(p.to_rows), 1};
    return gemmux_cuda_launch(&s->code, s->stage_scales, grid, 256, 0, call->stream, &p, error);
}

/* int8's scales belong to the sums; all others were the library's business. */
static gemmux_status put_y(const gemmux_call *call, const part *t, gemmux_error *error)
{
    const staged_state *s = call->state;
    const staging *z = &s->sizes;
    bool integers = s->summed.shape.y == GEMMUX_LT_INT32;
    char *y = (char *)call->y + t->first * call->y_row_bytes;
    gemmux_stage_finish p = {
        .sums = t->sums_at,
        .sums_stride = z->sums_row_bytes / 4,
        .y = y,
        .y_row_bytes = call->y_row_bytes,
        .bias = call->problem->epilogue & GEMMUX_EPILOGUE_BIAS ? call->bias : NULL,
        .rows = (int32_t)t->rows,
        .n = (int32_t)call->problem->n,
        .integers = integers,
        .y_format = call->y_format.id,
        .y_fours = ((uintptr_t)y | (uintptr_t)call->y_row_bytes) % 8 == 0,
    };
    if (integers) {
        p.x_by_row = call->x.format.scaling == GEMMUX_SCALING_ROW;
        p.w_by_row = call->w->plain.format.scaling == GEMMUX_SCALING_ROW;
        p.x_scales = (const float *)call->x.scales + (p.x_by_row ? t->first : 0);
        p.w_scales =
            z->padded_w
                ? (const float *)(const void *)((const char *)call->w->data + z->w.scales_at)
                : call->w->plain.scales;
    }
    const unsigned grid[3] = {grid_of((p.n + 3) / 4), rows_of(t->rows), 1};
    return gemmux_cuda_launch(&s->code, s->stage_finish, grid, 256, 0, call->stream, &p, error);
}

static gemmux_status multiply(const gemmux_call *call, const part *t, gemmux_error *error)
{
    staged_state *s = call->state;
    const staging *z = &s->sizes;
    const gemmux_tensor *x = &call->x;
    gemmux_lt_matmul *matmul = t->sums ? &s->summed : &s->direct;
    int bits = gemmux_code_bits((gemmux_code)x->format.element);
    int64_t x_stride = (t->x ? z->x_row_bytes : gemmux_row_stride(x)) * 8 / bits;
    int64_t y_each = gemmux_code_bits((gemmux_code)call->y_format.element) / 8;
    const char *w = z->padded_w ? call->w->data : call->w->plain.codes;
    bool staged_scales = z->tiles || z->by_group;
    gemmux_lt_operands o = {
        .x = t->x ? t->x_at : (const char *)x->codes + t->first * gemmux_row_stride(x),
        .w = w,
        .x_scales = staged_scales ? t->scales_at
                    : x->format.scaling == GEMMUX_SCALING_ROW
                        ? (const char *)x->scales + t->first * 4
                        : x->scales,
        .w_scales = z->padded_w ? w + z->w.scales_at : call->w->plain.scales,
        .factors = t->factors,
        .y = t->sums ? t->sums_at : (char *)call->y + t->first * call->y_row_bytes,
        .workspace = call->workspace,
        .stream = call->stream,
    };
    const gemmux_problem *p = call->problem;
    bool x_scaled = matmul->shape.scaled && !staged_scales;
    gemmux_status status = gemmux_lt_align_scales(
        &s->place, &o, x_scaled ? gemmux_lt_scale_bytes(p->x, t->rows) : 0, t->room, error);
    if (!status)
        status =
            gemmux_lt_choose(&s->place.lt, matmul, t->lt_rows, x_stride,
                             t->sums ? z->sums_row_bytes / 4 : call->y_row_bytes / y_each, error);
    return status ? status : gemmux_lt_run(&s->place.lt, matmul, &o, error);
}

/* Decides what must be staged, by where operands stand in this call. */
static part first_part(const gemmux_call *call)
{
    const staged_state *s = call->state;
    const staging *z = &s->sizes;
    int64_t m = call->problem->m;
    uintptr_t align = (uintptr_t)s->summed.shape.align;
    bool ragged = z->pads_m && m % 4;
    part t = {0};
    t.x = ragged || z->w.cols != call->problem->k ||
          ((uintptr_t)call->x.codes | (uintptr_t)gemmux_row_stride(&call->x)) % align;
    t.sums = z->own_sums || ragged || ((uintptr_t)call->y | (uintptr_t)call->y_row_bytes) % 16;
    return t;
}

static gemmux_status run(const gemmux_call *call, gemmux_error *error)
{
    staged_state *s = call->state;
    const staging *z = &s->sizes;
    part t = first_part(call);
    int64_t m = call->problem->m, room = gemmux_lt_scale_room(call->problem);
    int64_t staged = call->workspace_bytes - s->workspace_bytes - room;
    int64_t row_bytes =
        (t.x ? z->x_row_bytes : 0) + (t.sums ? z->sums_row_bytes : 0) + z->scales_row_bytes;
    int64_t rows = part_rows(m, row_bytes, staged);
    gemmux_status status = gemmux_cuda_enter(&s->place.device, error);
    if (status)
        return status;
    t.room = (char *)call->workspace + s->workspace_bytes;
    t.factors = (float *)(void *)(t.room + room);
    t.scales_at = t.room + room + FACTOR_BYTES;
    t.x_at =
        t.scales_at + gemmux_round_up(gemmux_round_up(rows, PART_ROWS) * z->scales_row_bytes, 256);
    t.sums_at =
        t.x_at + (t.x ? gemmux_round_up(gemmux_round_up(rows, 4) * z->x_row_bytes, 256) : 0);
    for (; t.first < m && !status; t.first += rows) {
        t.rows = rows < m - t.first ? rows : m - t.first;
        t.lt_rows = z->pads_m ? gemmux_round_up(t.rows, 4) : t.rows;
        if (t.x)
            status = put_x(call, &t, error);
        if (!status && (z->tiles || z->by_group))
            status = put_scales(call, &t, error);
        if (!status)
            status = multiply(call, &t, error);
        if (!status && t.sums)
            status = put_y(call, &t, error);
    }
    gemmux_cuda_leave(&s->place.device);
    return status;
}

/* ---- contracts ---- */

#define FORM(xs, ws, ys, kind, freedom, compute)                                                   \
    .x = (xs), .w = (ws), .y = (ys), .path = GEMMUX_PATH_NATIVE, .math = (kind),                   \
    .liberties = GEMMUX_LIBERTY_FLUSH_SUBNORMALS | GEMMUX_LIBERTY_UNORDERED | (freedom),           \
    .share_compute = (compute), .share_bandwidth = 0.8f
#define F32    GEMMUX_BIT(GEMMUX_F32)
#define F16    GEMMUX_BIT(GEMMUX_F16)
#define BF16   GEMMUX_BIT(GEMMUX_BF16)
#define E4M3   GEMMUX_BIT(GEMMUX_E4M3)
#define E5M2   GEMMUX_BIT(GEMMUX_E5M2)
#define INT8   GEMMUX_BIT(GEMMUX_INT8)
#define NARROW GEMMUX_LIBERTY_NARROW_SUMS
#define TENSOR GEMMUX_BIT(GEMMUX_SCALING_TENSOR)
#define ROW    GEMMUX_BIT(GEMMUX_SCALING_ROW)
#define SCALES GEMMUX_BIT(GEMMUX_CODE_F32)
/* Sums of integers are exact in any order. */
#define INT8_FORM                                                                                  \
    {                                                                                              \
        .x = INT8, .w = INT8, .y = GEMMUX_FLOATS, .x_scaling = TENSOR | ROW,                       \
        .w_scaling = TENSOR | ROW, .w_scale = SCALES, .w_zero = GEMMUX_BIT(GEMMUX_ZERO_NONE),      \
        .path = GEMMUX_PATH_NATIVE, .math = GEMMUX_MATH_INT8,                                      \
        .liberties = GEMMUX_LIBERTY_FLUSH_SUBNORMALS, .share_compute = 0.45f,                      \
        .share_bandwidth = 0.8f,                                                                   \
    }
#define FP8_FORM(xs, ws, how)                                                                      \
    {                                                                                              \
        FORM(xs, ws, GEMMUX_FLOATS, GEMMUX_MATH_FP8, NARROW, 0.55f),                               \
            .x_scaling = (how), .w_scaling = (how), .w_scale = SCALES                              \
    }

static const gemmux_form int8_forms[] = {INT8_FORM};
static const gemmux_form block_forms[] = {
    {FORM(E4M3, E4M3, GEMMUX_FLOATS, GEMMUX_MATH_FP8, NARROW, 0.5f),
     .x_scaling = GEMMUX_BIT(GEMMUX_SCALING_GROUP),
     .w_scaling = GEMMUX_BIT(GEMMUX_SCALING_GROUP) | GEMMUX_BIT(GEMMUX_SCALING_BLOCK),
     .w_scale = SCALES, .x_group_multiple = 128, .w_group_multiple = 128},
};
/* No device of 10.0 has shown that these sums keep all of f32. */
static const gemmux_form mxfp8_forms[] = {
    {FORM(GEMMUX_BIT(GEMMUX_MXFP8), GEMMUX_BIT(GEMMUX_MXFP8), GEMMUX_FLOATS, GEMMUX_MATH_FP8,
          NARROW, 0.6f)},
};
static const gemmux_form nvfp4_forms[] = {
    {FORM(GEMMUX_BIT(GEMMUX_NVFP4), GEMMUX_BIT(GEMMUX_NVFP4), GEMMUX_FLOATS, GEMMUX_MATH_FP4,
          NARROW, 0.6f)},
};
static const gemmux_form padded_forms[] = {
    {FORM(F32, F32, F32, GEMMUX_MATH_TF32, GEMMUX_LIBERTY_TF32, 0.55f)},
    {FORM(F32, F32, F32, GEMMUX_MATH_F32, 0, 0.65f)},
    {FORM(BF16, BF16, BF16 | F32, GEMMUX_MATH_BF16, 0, 0.6f)},
    {FORM(F16, F16, F16 | F32, GEMMUX_MATH_F16, 0, 0.6f)},
    INT8_FORM,
};
static const gemmux_form fp8_padded_forms[] = {
    FP8_FORM(E4M3, E4M3, TENSOR),
    FP8_FORM(E4M3, E5M2, TENSOR),
    FP8_FORM(E5M2, E4M3, TENSOR),
};

#define KERNEL(the_name, what, the_forms, oldest, how)                                             \
    .name = (the_name), .summary = (what), .device = GEMMUX_CUDA, .library = GEMMUX_LIB_CUBLASLT,  \
    .library_min = (oldest), .ops = GEMMUX_BIT(GEMMUX_MATMUL) | GEMMUX_BIT(GEMMUX_LINEAR),         \
    .epilogue = GEMMUX_EPILOGUE_BIAS, .forms = (the_forms),                                        \
    .form_count = (int32_t)(sizeof(the_forms) / sizeof(the_forms)[0]), .overhead_us = 2.5,         \
    .configure = (how), .prepare = prepare, .release = release, .run = GEMMUX_CUDA_RUN(run)

#define NO_DEVICE                                                                                  \
    "its packing and its sequence of calls tested against a stand-in for the library; not run on " \
    "a device of 10.0 or newer yet"

/* Shares as measured on an H200 (bench/results/NOTES-h200.md). */
const gemmux_kernel gemmux_kernel_cublaslt_int8 = {
    KERNEL("cublaslt_int8", "cuBLASLt in int8, sums in int32, scales and bias applied in f32",
           int8_forms, 120000, configure_int8),
    .cc_min = 80,
    .packing = &gemmux_packing_plain,
    .n_multiple = 4,
    .k_multiple = 4,
    .align = 4,
};
/* Scales along K are in CUDA 12.9 and newer, for 9.0 alone. */
const gemmux_kernel gemmux_kernel_cublaslt_fp8_block = {
    KERNEL("cublaslt_fp8_block", "cuBLASLt in fp8 with scales of 128 columns, or blocks of 128",
           block_forms, 120900, configure_block),
    .cc_min = 90,
    .cc_max = 90,
    .packing = &gemmux_packing_cublaslt_rows,
};
const gemmux_kernel gemmux_kernel_cublaslt_mxfp8 = {
    KERNEL("cublaslt_mxfp8", "cuBLASLt in mxfp8", mxfp8_forms, 120800, configure_tiles),
    .cc_min = 100,
    .packing = &gemmux_packing_cublaslt_rows,
    .unproven = NO_DEVICE,
};
const gemmux_kernel gemmux_kernel_cublaslt_nvfp4 = {
    KERNEL("cublaslt_nvfp4", "cuBLASLt in nvfp4", nvfp4_forms, 120800, configure_tiles),
    .cc_min = 100,
    .packing = &gemmux_packing_cublaslt_rows,
    .unproven = NO_DEVICE,
};
const gemmux_kernel gemmux_kernel_cublaslt_padded = {
    KERNEL("cublaslt_padded",
           "cuBLASLt for sizes and alignments that it refuses: a padded copy of w, x padded at "
           "each run",
           padded_forms, 120000, configure_padded),
    .cc_min = 80,
    .packing = &gemmux_packing_cublaslt_rows,
};
const gemmux_kernel gemmux_kernel_cublaslt_fp8_padded = {
    KERNEL("cublaslt_fp8_padded", "the same in fp8 with a scale a tensor", fp8_padded_forms, 120000,
           configure_padded),
    .cc_min = 89,
    .packing = &gemmux_packing_cublaslt_rows,
};
