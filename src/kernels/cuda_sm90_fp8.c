/* SPDX-License-Identifier: Apache-2.0
 *
 * cuda_sm90_fp8: e4m3 by e4m3 on Hopper's matrix units, with scales a tensor, a row, or every 128
 * columns (blocks of 128 of w), dense and mixture of experts. This is its contract and its host
 * side: which form runs, how K is split, what the workspace holds. w is read as it is stored.
 */
#include "cuda_sm90_fp8.h"

#include "format.h"
#include "upcast_host.h"

#include <string.h>

typedef struct shape {
    const char *suffix;
    int rows, box;
} shape;

static const shape shapes[GEMMUX_FP8_FORMS] = {
#define SHAPE(name, rows, box) [GEMMUX_FP8_##name] = {#name, rows, box},
    GEMMUX_FP8_SHAPES(SHAPE)
#undef SHAPE
};

typedef struct state {
    gemmux_cuda_code code;
    gemmux_cu_function forms[GEMMUX_FP8_FORMS], arrange, route, scatter;
    int multiprocessors;
} state;

/* ---- workspace ---- */

enum {
    COUNTERS = GEMMUX_WORKSPACE_COUNTERS / 4,
    PARTIAL_BYTES = 64 * 256 * 4, /* of r128 */
};

typedef struct workspace {
    int64_t partials_at, partials_bytes;
    int64_t count_at, sorted_at, tiles_at; /* routing lists */
    int64_t rows_at;                       /* unweighted rows that scatter adds up */
    int64_t arranged_at;
    int64_t bytes;
} workspace;

static int64_t columns_of(const gemmux_problem *p)
{
    return p->epilogue & GEMMUX_EPILOGUE_SWIGLU ? p->n / 2 : p->n;
}

static workspace lay_out(const gemmux_problem *p, int multiprocessors)
{
    workspace w = {.partials_at = GEMMUX_WORKSPACE_COUNTERS};
    int64_t rows = gemmux_problem_rows(p);
    bool moe = p->op == GEMMUX_MOE;
    w.partials_bytes = moe ? 0 : (int64_t)multiprocessors * PARTIAL_BYTES;
    w.count_at = w.partials_at + w.partials_bytes;
    w.bytes = w.count_at;
    if (!moe)
        return w;
    int64_t tiles = gemmux_upcast_most_tiles(p, shapes[GEMMUX_FP8_r128].rows);
    w.sorted_at = w.count_at + 256;
    w.tiles_at = w.sorted_at + gemmux_round_up(rows * 4, 256);
    w.rows_at = w.tiles_at + gemmux_round_up(tiles * 12, 256);
    w.arranged_at = w.rows_at;
    if (p->epilogue & GEMMUX_EPILOGUE_SCATTER)
        w.arranged_at += gemmux_round_up(rows * columns_of(p) * 4, 256);
    w.bytes = w.arranged_at + rows * p->k;
    return w;
}

static int multiprocessors(const gemmux_machine *machine)
{
    return machine->cores > 1 ? machine->cores : 2;
}

static const char *configure(const gemmux_problem *problem, const gemmux_machine *machine,
                             const gemmux_form *form, gemmux_config *config)
{
    (void)form;
    if (problem->x.scale != GEMMUX_CODE_F32)
        return "it reads scales of x in f32 alone";
    const char *why = gemmux_upcast_refusal(problem);
    if (why)
        return why;
    config->workspace_bytes = lay_out(problem, multiprocessors(machine)).bytes;
    return NULL;
}

/* ---- prepare ---- */

static void release(void *made)
{
    state *s = made;
    gemmux_cuda_code_close(&s->code);
    free(s);
}

static bool along_k(const gemmux_problem *p)
{
    return gemmux_upcast_along_k(p->x) || gemmux_upcast_along_k(p->w);
}

static gemmux_status find_functions(state *s, const gemmux_problem *problem,
                                    const gemmux_machine *machine, gemmux_error *error)
{
    gemmux_status status = gemmux_cuda_code_open(&s->code, machine, "cuda_sm90_fp8", error);
    char name[40];
    for (int i = 0; i < GEMMUX_FP8_FORMS && !status; i++) {
        snprintf(name, sizeof name, "fp8_%s_%s", along_k(problem) ? "along" : "whole",
                 shapes[i].suffix);
        status = gemmux_cuda_code_function(&s->code, name, GEMMUX_FP8_SMEM, &s->forms[i], error);
    }
    const gemmux_cuda_wanted others[] = {
        {"fp8_arrange", &s->arrange}, {"fp8_route", &s->route}, {"fp8_scatter", &s->scatter}};
    return status || problem->op != GEMMUX_MOE
               ? status
               : gemmux_cuda_code_functions(&s->code, others, 3, error);
}

static gemmux_status prepare(const gemmux_problem *problem, const gemmux_machine *machine,
                             const gemmux_packed *w, void **made, gemmux_error *error)
{
    if (w->plain.k_order)
        return gemmux_fail(
            error, GEMMUX_ERROR_DEVICE,
            "cuda_sm90_fp8: w's columns are reordered (k_order), which it cannot follow");
    if (gemmux_row_stride(&w->plain) % 16)
        return gemmux_fail(error, GEMMUX_ERROR_DEVICE,
                           "cuda_sm90_fp8: rows of w are %lld bytes apart, which is no multiple of "
                           "16",
                           (long long)gemmux_row_stride(&w->plain));
    state *s = calloc(1, sizeof *s);
    if (!s)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "cuda_sm90_fp8: out of memory");
    s->multiprocessors = multiprocessors(machine);
    gemmux_status status = find_functions(s, problem, machine, error);
    if (status) {
        release(s);
        return status;
    }
    *made = s;
    return GEMMUX_OK;
}

/* ---- run ---- */

/* Scales along K, at least one: none means that they are not along K. */
static int32_t groups_of(const gemmux_problem *p, gemmux_format f)
{
    return p->k ? (int32_t)gemmux_divide_up(p->k, f.group) : 1;
}

/* Where scales of x and w stand, and what they are for. */
static void describe_scales(const gemmux_problem *p, gemmux_fp8_parameters *to)
{
    const gemmux_format x = p->x, w = p->w;
    to->x_by_row = x.scaling == GEMMUX_SCALING_ROW;
    to->w_by_row = w.scaling == GEMMUX_SCALING_ROW;
    if (gemmux_upcast_along_k(x)) {
        to->x_groups = groups_of(p, x);
        to->x_group_steps = x.group / GEMMUX_FP8_STEP;
        to->x_fours =
            to->x_group_steps == 1 && to->x_groups % 4 == 0 && (uintptr_t)to->x_scales % 16 == 0;
    }
    if (gemmux_upcast_along_k(w)) {
        to->w_groups = groups_of(p, w);
        to->w_group_steps = w.group / GEMMUX_FP8_STEP;
        to->w_blocks = (int32_t)gemmux_divide_up(p->n, w.group);
        to->w_block_tiles = w.group / GEMMUX_FP8_COLUMNS;
    }
}

static gemmux_fp8_parameters describe(const gemmux_call *call, const workspace *at)
{
    const gemmux_problem *p = call->problem;
    char *base = call->workspace;
    float *rows = p->epilogue & GEMMUX_EPILOGUE_SCATTER ? (float *)(base + at->rows_at) : NULL;
    bool wide = rows || call->y_format.id == GEMMUX_F32;
    bool swiglu = (p->epilogue & GEMMUX_EPILOGUE_SWIGLU) != 0;
    uintptr_t y = rows ? 0 : (uintptr_t)call->y | (uintptr_t)call->y_row_bytes;
    gemmux_fp8_parameters made = {
        .x_codes = call->x.codes,
        .x_row_bytes = gemmux_row_stride(&call->x),
        .arranged = base + at->arranged_at,
        .y = call->y,
        .y_row_bytes = call->y_row_bytes,
        .rows = rows,
        .x_scales = call->x.scales,
        .w_scales = call->w->plain.scales,
        .bias = p->epilogue & GEMMUX_EPILOGUE_BIAS ? call->bias : NULL,
        .sorted = (int32_t *)(base + at->sorted_at),
        .tiles = (int32_t *)(base + at->tiles_at),
        .tile_count = (int32_t *)(base + at->count_at),
        .partials = (float *)(base + at->partials_at),
        .counters = (uint32_t *)base,
        .m = (int32_t)gemmux_problem_rows(p),
        .n = (int32_t)p->n,
        .k = (int32_t)p->k,
        .steps = (int32_t)gemmux_divide_up(p->k, GEMMUX_FP8_STEP),
        .column_tiles = (int32_t)gemmux_divide_up(p->n, GEMMUX_FP8_COLUMNS),
        .splits = 1,
        .experts = p->op == GEMMUX_MOE ? p->experts : 0,
        .top_k = p->top_k,
        .gather = (p->epilogue & GEMMUX_EPILOGUE_GATHER) != 0,
        .swiglu = swiglu,
        .y_format = call->y_format.id,
        .y_fours = y % (swiglu ? 8 : 16) == 0,
        .y_pairs = y % (wide     ? 8
                        : swiglu ? 2
                                 : 4) ==
                   0,
        .alpha = p->swiglu_alpha > 0 ? p->swiglu_alpha : 1.702f,
        .limit = p->swiglu_limit > 0 ? p->swiglu_limit : 7.0f,
    };
    describe_scales(p, &made);
    return made;
}

static gemmux_status make_maps(const gemmux_call *call, const shape *f, gemmux_fp8_parameters *p,
                               gemmux_error *error)
{
    const state *s = call->state;
    const gemmux_cuda *cuda = &s->code.device.cuda;
    const gemmux_tensor *w = &call->w->plain;
    uint64_t k = (uint64_t)p->k, stride = (uint64_t)gemmux_row_stride(w);
    uint64_t x_sizes[2] = {k, (uint64_t)p->m};
    uint64_t x_strides[1] = {p->experts ? k : (uint64_t)p->x_row_bytes};
    uint64_t w_sizes[3] = {k, (uint64_t)p->n, p->experts ? (uint64_t)p->experts : 1};
    uint64_t w_strides[2] = {stride, stride * (uint64_t)p->n};
    uint32_t x_box[2] = {GEMMUX_FP8_STEP, (uint32_t)f->box}, ones[3] = {1, 1, 1};
    uint32_t w_box[3] = {GEMMUX_FP8_STEP, GEMMUX_FP8_COLUMNS, 1};
    void *x = p->experts ? p->arranged : (void *)(uintptr_t)p->x_codes;
    if (!k)
        return GEMMUX_OK; /* nothing will be copied */
    int result = cuda->tensor_map(p->x.bytes, GEMMUX_CU_MAP_UINT8, 2, x, x_sizes, x_strides, x_box,
                                  ones, 0, GEMMUX_CU_MAP_SWIZZLE_128B, GEMMUX_CU_MAP_L2_256B, 0);
    if (!result)
        result = cuda->tensor_map(p->w.bytes, GEMMUX_CU_MAP_UINT8, 3, (void *)(uintptr_t)w->codes,
                                  w_sizes, w_strides, w_box, ones, 0, GEMMUX_CU_MAP_SWIZZLE_128B,
                                  GEMMUX_CU_MAP_L2_256B, 0);
    return result ? gemmux_cuda_fail(cuda, result, "cuda_sm90_fp8: describing x and w", error)
                  : GEMMUX_OK;
}

/* The most `items` that there can be. */
static gemmux_status launch_form(const gemmux_call *call, int form, int64_t items,
                                 gemmux_fp8_parameters *p, gemmux_error *error)
{
    const state *s = call->state;
    int64_t slots = s->multiprocessors;
    unsigned grid[3] = {(unsigned)(items < slots ? items : slots), 1, 1};
    p->items = (int32_t)items;
    gemmux_status status = make_maps(call, &shapes[form], p, error);
    return status ? status
                  : gemmux_cuda_launch(&s->code, s->forms[form], grid, GEMMUX_FP8_THREADS,
                                       GEMMUX_FP8_SMEM, call->stream, p, error);
}

/* Clocks of one step of K in a block. */
enum { CLOCKS_r256 = 1200, CLOCKS_r128 = 750 };

/* The tile whose rounds over the device cost least. */
static int choose_form(const state *s, const gemmux_fp8_parameters *p)
{
    int64_t slots = s->multiprocessors, columns = p->column_tiles;
    int64_t wide = columns * gemmux_divide_up(p->m, shapes[GEMMUX_FP8_r256].rows);
    int64_t small = columns * gemmux_divide_up(p->m, shapes[GEMMUX_FP8_r128].rows);
    int64_t wide_cost = gemmux_divide_up(wide, slots) * CLOCKS_r256;
    int64_t small_cost = gemmux_divide_up(small, slots) * CLOCKS_r128;
    if (small < slots) /* which then share K */
        small_cost = small * CLOCKS_r128 / slots + CLOCKS_r128 / 4;
    return wide_cost < small_cost ? GEMMUX_FP8_r256 : GEMMUX_FP8_r128;
}

/* Blocks share the K of one tile when there are too few tiles to fill the device. */
static void choose_splits(const state *s, const workspace *at, int64_t tiles,
                          gemmux_fp8_parameters *p)
{
    int64_t slots = s->multiprocessors;
    if (tiles * 4 >= slots * 3 || tiles > COUNTERS)
        return;
    int64_t splits =
        gemmux_upcast_splits(slots / tiles, p->steps, 4, at->partials_bytes, tiles * PARTIAL_BYTES);
    if (splits < 2)
        return;
    p->steps_a_split = (int32_t)gemmux_divide_up(p->steps, splits);
    p->splits = (int32_t)gemmux_divide_up(p->steps, p->steps_a_split);
}

static gemmux_status launch_dense(const gemmux_call *call, const workspace *at,
                                  gemmux_fp8_parameters *p, gemmux_error *error)
{
    int form = choose_form(call->state, p);
    p->row_tiles = (int32_t)gemmux_divide_up(p->m, shapes[form].rows);
    int64_t tiles = (int64_t)p->row_tiles * p->column_tiles;
    if (form == GEMMUX_FP8_r128)
        choose_splits(call->state, at, tiles, p);
    return launch_form(call, form, tiles * p->splits, p, error);
}

static gemmux_fp8_routing describe_routing(const gemmux_call *call, const workspace *at,
                                           const gemmux_fp8_parameters *p)
{
    char *base = call->workspace;
    return (gemmux_fp8_routing){
        .u = {.y = p->y,
              .y_row_bytes = p->y_row_bytes,
              .rows = p->rows,
              .expert_ids = call->expert_ids,
              .expert_weights = call->expert_weights,
              .sorted = (int32_t *)(base + at->sorted_at),
              .tiles = (int32_t *)(base + at->tiles_at),
              .tile_count = (int32_t *)(base + at->count_at),
              .m = p->m,
              .n = p->n,
              .k = p->k,
              .experts = p->experts,
              .top_k = p->top_k,
              .tile_rows = shapes[GEMMUX_FP8_r128].rows,
              .y_format = p->y_format,
              .swiglu = p->swiglu},
    };
}

/* Rows of x an expert from which on big tiles are worth a launch of their own. */
enum { BIG_FROM = 160 };

/* Many rows an expert: big tiles, and what is left of each expert in smaller ones. */
static gemmux_status launch_moe(const gemmux_call *call, const workspace *at,
                                gemmux_fp8_parameters *p, gemmux_error *error)
{
    const state *s = call->state;
    gemmux_fp8_routing routing = describe_routing(call, at, p);
    bool big = p->m / p->experts >= BIG_FROM;
    int64_t pieces = (int64_t)p->m * (p->k / 16), blocks = gemmux_divide_up(pieces, 256);
    int64_t most = (int64_t)s->multiprocessors * 8;
    int64_t tiles = gemmux_upcast_most_tiles(call->problem, shapes[GEMMUX_FP8_r128].rows);
    unsigned one[3] = {1, 1, 1}, grid[3] = {(unsigned)(blocks < most ? blocks : most), 1, 1};
    routing.big_rows = big ? shapes[GEMMUX_FP8_r256].rows : 0;
    gemmux_status status =
        gemmux_cuda_launch(&s->code, s->route, one, 1024, 0, call->stream, &routing, error);
    if (!status && blocks)
        status = gemmux_cuda_launch(&s->code, s->arrange, grid, 256, 0, call->stream, p, error);
    p->section = 0;
    if (!status && big)
        status = launch_form(call, GEMMUX_FP8_r256, tiles * p->column_tiles, p, error);
    p->section = 1;
    if (!status)
        status = launch_form(call, GEMMUX_FP8_r128, tiles * p->column_tiles, p, error);
    if (status || !p->rows)
        return status;
    return gemmux_upcast_scatter(&s->code, s->scatter, call, &routing, error);
}

static gemmux_status run(const gemmux_call *call, gemmux_error *error)
{
    const state *s = call->state;
    workspace at = lay_out(call->problem, s->multiprocessors);
    gemmux_fp8_parameters p = describe(call, &at);
    if (((uintptr_t)p.x_codes | (uintptr_t)p.x_row_bytes) % 16)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "run: cuda_sm90_fp8 needs x and its rows aligned to 16 bytes; say so in "
                           "problem.align, so that another kernel is chosen");
    gemmux_status status = gemmux_cuda_enter(&s->code.device, error);
    if (status)
        return status;
    status = p.experts ? launch_moe(call, &at, &p, error) : launch_dense(call, &at, &p, error);
    gemmux_cuda_leave(&s->code.device);
    return status;
}

/* ---- contract ---- */

#define TENSOR GEMMUX_BIT(GEMMUX_SCALING_TENSOR)
#define ROW    GEMMUX_BIT(GEMMUX_SCALING_ROW)
#define GROUP  GEMMUX_BIT(GEMMUX_SCALING_GROUP)
#define BLOCK  GEMMUX_BIT(GEMMUX_SCALING_BLOCK)

/* Sums of 128 columns are the matrix unit's own, of about 14 bits; all others are of f32. Scales of
 * w that change along K for every row would take a factor for each sum. Shares: of the peak at
 * M = 2048 and 8192, of the bandwidth at M = 1, 14336 x 4096, measured on an H200
 * (bench/results/NOTES-h200.md). */
#define FORM(x_scales, w_scales, compute, bytes)                                                   \
    .x = GEMMUX_BIT(GEMMUX_E4M3), .w = GEMMUX_BIT(GEMMUX_E4M3), .y = GEMMUX_FLOATS,                \
    .x_scaling = (x_scales), .w_scaling = (w_scales), .w_scale = GEMMUX_BIT(GEMMUX_CODE_F32),      \
    .path = GEMMUX_PATH_NATIVE, .math = GEMMUX_MATH_FP8,                                           \
    .liberties = GEMMUX_LIBERTY_FLUSH_SUBNORMALS | GEMMUX_LIBERTY_NARROW_SUMS,                     \
    .share_compute = (compute), .share_bandwidth = (bytes)

static const gemmux_form forms[] = {
    {FORM(TENSOR | ROW, TENSOR | ROW, 0.54f, 0.8f)},
    {FORM(GROUP, BLOCK, 0.5f, 0.75f), .x_group_multiple = 128, .w_group_multiple = 128},
    {FORM(GROUP, TENSOR | ROW, 0.5f, 0.75f), .x_group_multiple = 128},
    {FORM(TENSOR | ROW, BLOCK, 0.47f, 0.7f), .w_group_multiple = 128},
};

const gemmux_kernel gemmux_kernel_cuda_sm90_fp8 = {
    .name = "cuda_sm90_fp8",
    .summary = "e4m3 by e4m3, scales a tensor, row or 128 columns, TMA and wgmma, dense and moe",
    .device = GEMMUX_CUDA,
    .cc_min = 90,
    .arch_rule = GEMMUX_ARCH_EXACT,
    .smem_bytes = GEMMUX_FP8_SMEM,
    .ops = GEMMUX_ALL_OPS,
    .epilogue = GEMMUX_ALL_EPILOGUES,
    .forms = forms,
    .form_count = (int32_t)(sizeof forms / sizeof forms[0]),
    .packing = &gemmux_packing_plain,
    .k_multiple = 16,
    .configure = configure,
    .prepare = prepare,
    .release = release,
    .run = GEMMUX_CUDA_RUN(run),
};
