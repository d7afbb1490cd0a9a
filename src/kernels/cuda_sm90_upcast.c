/* SPDX-License-Identifier: Apache-2.0
 *
 * cuda_sm90_upcast: weights of every format upcast in registers and multiplied by Hopper's wgmma,
 * from the same packed weights that cuda_sm80_upcast reads; dense and mixture of experts. This is
 * its contract and its host side: which form runs, how K is split, what the workspace holds.
 */
#include "cuda_sm90_upcast.h"

#include "format.h"
#include "upcast_host.h"

#include <string.h>

extern const gemmux_packing gemmux_packing_sm80_fragments;

typedef struct shape {
    const char *suffix;
    int rows, units, box, groups;
} shape;

static const shape shapes[GEMMUX_SM90_FORMS] = {
#define SHAPE(name, rows, units, box, groups)                                                      \
    [GEMMUX_SM90_##name] = {#name, rows, units, box, groups},
    GEMMUX_SM90_SHAPES(SHAPE)
#undef SHAPE
};

typedef struct state {
    gemmux_cuda_code code;
    gemmux_cu_function forms[GEMMUX_SM90_FORMS], route, arrange, scatter;
    gemmux_sm80_layout layout;
    int kind, multiprocessors;
    bool direct; /* scales are in the operand: forms w256 and t64, else w128 */
} state;

/* ---- workspace ---- */

enum { COUNTERS = 4096, PARTIAL_BYTES = 256 * 64 * 4 }; /* of t64 */

typedef struct workspace {
    gemmux_upcast_places at;
    int64_t arranged_at;
    int64_t bytes;
} workspace;

static workspace lay_out(const gemmux_problem *p, int multiprocessors)
{
    workspace w = {0};
    int64_t rows = gemmux_problem_rows(p);
    int64_t columns = p->epilogue & GEMMUX_EPILOGUE_SWIGLU ? p->n / 2 : p->n;
    bool moe = p->op == GEMMUX_MOE;
    w.at.partials_at = COUNTERS * 4;
    w.at.partials_bytes = moe ? 0 : (int64_t)multiprocessors * PARTIAL_BYTES;
    w.at.count_at = w.at.partials_at + w.at.partials_bytes;
    w.at.sorted_at = w.at.count_at + 256;
    w.at.tiles_at = w.at.sorted_at + (moe ? gemmux_round_up(rows * 4, 256) : 0);
    w.at.rows_at =
        w.at.tiles_at + (moe ? gemmux_round_up(gemmux_upcast_most_tiles(p, 64) * 12, 256) : 0);
    w.arranged_at = w.at.rows_at;
    if (p->epilogue & GEMMUX_EPILOGUE_SCATTER)
        w.arranged_at += gemmux_round_up(rows * columns * 4, 256);
    w.bytes = w.arranged_at + rows * gemmux_round_up(p->k, GEMMUX_SM80_UNIT_K) * 2;
    return w;
}

static int multiprocessors(const gemmux_machine *machine)
{
    return machine->cores > 1 ? machine->cores : 2;
}

/* What few rows attain. The form's own shares are those of 256 rows and more, and of reading one
 * matrix: of the matrix units 64 rows get 0.43 of what 256 get; and experts, of which there is more
 * to read at once, 1.4 times as much of the memory (H200, 14336 x 4096 and gpt-oss-20b's gate_up,
 * bench/results/gpu-bench-2026-11-24-h200.txt). */
static void estimate(const gemmux_problem *problem, const gemmux_form *form, gemmux_config *config)
{
    const double small = 0.43, few = 64, enough = 256;
    double rows = (double)gemmux_problem_rows(problem);
    if (problem->op == GEMMUX_MOE) {
        rows /= problem->experts;
        config->share_bandwidth = 1.4f * form->share_bandwidth;
    }
    double part = rows > few ? small + (1 - small) * (rows - few) / (enough - few) : small;
    config->share_compute = (float)((part < 1 ? part : 1) * form->share_compute);
}

static const char *configure(const gemmux_problem *problem, const gemmux_machine *machine,
                             const gemmux_form *form, gemmux_config *config)
{
    const char *why = gemmux_upcast_refusal(problem);
    if (why)
        return why;
    config->workspace_bytes = lay_out(problem, multiprocessors(machine)).bytes;
    estimate(problem, form, config);
    return NULL;
}

/* ---- prepare ---- */

/* What kind_traits and folds of the device code say: no scale meets the sums along K. */
static bool is_direct(int kind, bool half)
{
    return gemmux_upcast_folds(kind, half) || kind == GEMMUX_UPCAST_nvfp4 ||
           kind == GEMMUX_UPCAST_raw || kind == GEMMUX_UPCAST_e4m3r || kind == GEMMUX_UPCAST_int8r;
}

static void release(void *made)
{
    state *s = made;
    gemmux_cuda_code_close(&s->code);
    free(s);
}

static gemmux_status find_functions(state *s, bool half, gemmux_error *error)
{
    const gemmux_cuda_wanted others[] = {
        {"sm90_route", &s->route}, {"sm90_arrange", &s->arrange}, {"sm90_scatter", &s->scatter}};
    gemmux_status status = GEMMUX_OK;
    char name[64];
    for (int i = 0; i < GEMMUX_SM90_FORMS && !status; i++) {
        if ((i == GEMMUX_SM90_w128) == s->direct)
            continue;
        snprintf(name, sizeof name, "sm90_%s_%s_%s", gemmux_upcast_kind_name(s->kind),
                 half ? "f16" : "bf16", shapes[i].suffix);
        status = gemmux_cuda_code_function(&s->code, name, GEMMUX_SM90_SMEM, &s->forms[i], error);
    }
    return status ? status : gemmux_cuda_code_functions(&s->code, others, 3, error);
}

static gemmux_status prepare(const gemmux_problem *problem, const gemmux_machine *machine,
                             const gemmux_packed *w, void **made, gemmux_error *error)
{
    gemmux_status status = gemmux_packed_expect(w, &gemmux_packing_sm80_fragments, problem, error);
    if (status)
        return status;
    state *s = calloc(1, sizeof *s);
    if (!s)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "cuda_sm90_upcast: out of memory");
    bool half = problem->x.id == GEMMUX_F16;
    s->kind = gemmux_upcast_kind_of(problem->w, true);
    s->direct = is_direct(s->kind, half);
    s->multiprocessors = multiprocessors(machine);
    gemmux_sm80_layout_of(problem->w, problem->n, problem->k, &s->layout);
    status = gemmux_cuda_code_open(&s->code, machine, "cuda_sm90_upcast", error);
    if (!status)
        status = find_functions(s, half, error);
    bool shifted;
    if (!status)
        status = gemmux_upcast_look("cuda_sm90_upcast", &s->code, s->kind, half, &s->layout, w,
                                    &shifted, error);
    if (status) {
        release(s);
        return status;
    }
    *made = s;
    return GEMMUX_OK;
}

/* ---- run ---- */

/* How scales and zero points stand along K: steps of some columns, some bytes each. */
static void describe_steps(const state *s, const gemmux_problem *p, gemmux_sm90_parameters *to)
{
    const gemmux_sm80_layout *layout = &s->layout;
    bool unit_steps =
        layout->fine || p->w.scale == GEMMUX_CODE_UE8M0 || s->kind == GEMMUX_UPCAST_nvfp4;
    to->step_shift = unit_steps ? 6 : to->u.group_shift;
    if (!layout->scale_bytes || to->u.scale_block)
        return;
    to->scale_bytes = s->kind == GEMMUX_UPCAST_nvfp4 ? 64
                      : layout->fine                 ? 32 * layout->scale_bytes
                                                     : 16 * layout->scale_bytes;
    to->zero_bytes = layout->zero_bytes ? (layout->fine ? 32 : 16) : 0;
}

/* How sums become y: by 16 bytes at once where y's rows and columns allow it. */
static int mode_of(const gemmux_upcast_parameters *p)
{
    int columns = p->swiglu ? p->n / 2 : p->n;
    bool f32 = p->rows || p->y_format == GEMMUX_F32;
    bool whole = p->rows || ((uintptr_t)p->y | (uintptr_t)p->y_row_bytes) % 16 == 0;
    if (!whole || columns % (f32 ? 4 : 8) || (f32 && p->swiglu))
        return GEMMUX_SM90_ANY;
    return f32 ? GEMMUX_SM90_F32 : p->swiglu ? GEMMUX_SM90_SWIGLU : GEMMUX_SM90_NARROW;
}

static gemmux_sm90_parameters describe(const gemmux_call *call, const workspace *w)
{
    const state *s = call->state;
    gemmux_sm90_parameters made = {
        .u = gemmux_upcast_describe(call, &s->layout, &w->at),
        .arranged = (char *)call->workspace + w->arranged_at,
    };
    made.mode = mode_of(&made.u);
    describe_steps(s, call->problem, &made);
    return made;
}

static int64_t row_tiles_of(const gemmux_upcast_parameters *p, const shape *f)
{
    return gemmux_divide_up(p->row_blocks, 4 * (int64_t)f->groups);
}

/* Clocks of one unit of K in a block of w256 and of t64, measured on an H200. */
enum { CLOCKS_W256 = 1060, CLOCKS_T64 = 960 };

/* The tile whose rounds over the device cost least. */
static int choose_form(const state *s, const gemmux_upcast_parameters *p)
{
    const shape *wide = &shapes[GEMMUX_SM90_w256], *tall = &shapes[GEMMUX_SM90_t64];
    int64_t slots = s->multiprocessors;
    int64_t wide_tiles = row_tiles_of(p, wide) * gemmux_divide_up(p->m, wide->rows);
    int64_t tall_tiles = row_tiles_of(p, tall) * gemmux_divide_up(p->m, tall->rows);
    int64_t wide_cost = gemmux_divide_up(wide_tiles, slots) * CLOCKS_W256;
    int64_t tall_cost = gemmux_divide_up(tall_tiles, slots) * CLOCKS_T64;
    if (tall_tiles < slots) /* which then share K */
        tall_cost = tall_tiles * CLOCKS_T64 / slots + CLOCKS_T64 / 4;
    if (!s->direct)
        return GEMMUX_SM90_w128;
    return wide_cost < tall_cost ? GEMMUX_SM90_w256 : GEMMUX_SM90_t64;
}

/* Units of K in one stage of a form: as cuda_sm90_tile.cuh's UNITS. */
static int units_a_stage(const state *s, const shape *f)
{
    int bits = (int)(s->layout.unit_bytes / 128);
    return f->units * bits <= 16 ? f->units : 16 / bits;
}

/* Blocks share the K of one tile when there are too few tiles to fill the device. */
static void choose_splits(const state *s, const workspace *at, int form, int64_t tiles,
                          gemmux_upcast_parameters *p)
{
    int units = units_a_stage(s, &shapes[form]);
    int64_t slots = s->multiprocessors;
    if (form != GEMMUX_SM90_t64 || tiles * 4 >= slots * 3 || tiles > COUNTERS)
        return;
    int64_t splits = gemmux_upcast_splits(slots / tiles, p->units, 4, at->at.partials_bytes,
                                          tiles * PARTIAL_BYTES);
    if (splits < 2)
        return;
    p->units_a_split = (int32_t)gemmux_round_up(gemmux_divide_up(p->units, splits), units);
    p->splits = (int32_t)gemmux_divide_up(p->units, p->units_a_split);
}

/* Rows of `row_words` 8-byte words, a row a row block, in boxes of `words` by all of a tile's. */
static int map_rows(const state *s, gemmux_sm90_map *map, const void *at, int64_t row_words,
                    int words, int row_blocks, const gemmux_sm90_parameters *p)
{
    uint64_t matrices = p->u.experts ? (uint64_t)p->u.experts : 1;
    uint64_t sizes[3] = {(uint64_t)row_words, (uint64_t)p->u.row_blocks, matrices};
    uint64_t strides[2] = {sizes[0] * 8, (uint64_t)p->u.matrix_bytes};
    uint32_t box[3] = {(uint32_t)words, (uint32_t)row_blocks, 1}, steps[3] = {1, 1, 1};
    return s->code.device.cuda.tensor_map(map->bytes, GEMMUX_CU_MAP_UINT64, 3,
                                          (void *)(uintptr_t)at, sizes, strides, box, steps, 0, 0,
                                          GEMMUX_CU_MAP_L2_256B, 0);
}

static gemmux_status make_maps(const state *s, const shape *f, gemmux_sm90_parameters *p,
                               gemmux_error *error)
{
    const gemmux_cuda *cuda = &s->code.device.cuda;
    int units = units_a_stage(s, f), steps_left = (units * 64) >> p->step_shift;
    int64_t steps = p->step_shift == 6 ? p->u.units : p->u.groups;
    uint64_t sizes[2] = {(uint64_t)p->u.units * GEMMUX_SM80_UNIT_K, (uint64_t)p->u.m};
    uint64_t strides[1] = {sizes[0] * 2};
    uint32_t box[2] = {GEMMUX_SM80_UNIT_K, (uint32_t)f->box}, ones[2] = {1, 1};
    if (!sizes[0])
        return GEMMUX_OK; /* nothing will be copied */
    p->steps_a_stage = steps_left > 1 ? steps_left : 1;
    int result =
        cuda->tensor_map(p->x.bytes, GEMMUX_CU_MAP_UINT16, 2, p->arranged, sizes, strides, box,
                         ones, 0, GEMMUX_CU_MAP_SWIZZLE_128B, GEMMUX_CU_MAP_L2_256B, 0);
    int64_t words = s->layout.unit_bytes / 8;
    if (!result)
        result = map_rows(s, &p->codes, p->u.w, p->u.units * words, (int)words * units,
                          4 * f->groups, p);
    if (!result && p->scale_bytes)
        result = map_rows(s, &p->scales, p->u.w + p->u.scales_at, steps * p->scale_bytes / 8,
                          p->steps_a_stage * p->scale_bytes / 8, 4 * f->groups, p);
    if (!result && p->zero_bytes)
        result = map_rows(s, &p->zeros, p->u.w + p->u.zeros_at, steps * p->zero_bytes / 8,
                          p->steps_a_stage * p->zero_bytes / 8, 4 * f->groups, p);
    return result ? gemmux_cuda_fail(cuda, result, "cuda_sm90_upcast: describing x and w", error)
                  : GEMMUX_OK;
}

static gemmux_status launch_before(const state *s, void *stream, gemmux_sm90_parameters *p,
                                   gemmux_error *error)
{
    gemmux_status status = GEMMUX_OK;
    int64_t pieces = (int64_t)p->u.m * p->u.units * 8, blocks = gemmux_divide_up(pieces, 256);
    int64_t most = (int64_t)s->multiprocessors * 8;
    unsigned grid[3] = {(unsigned)(blocks < most ? blocks : most), 1, 1};
    if (p->u.experts)
        status = gemmux_cuda_launch(&s->code, s->route, (unsigned[]){1, 1, 1}, 1024, 0, stream, p,
                                    error);
    if (!status && blocks)
        status = gemmux_cuda_launch(&s->code, s->arrange, grid, 256, 0, stream, p, error);
    return status;
}

static gemmux_status launch_form(const gemmux_call *call, int form, int64_t items,
                                 gemmux_sm90_parameters *p, gemmux_error *error)
{
    const state *s = call->state;
    const shape *f = &shapes[form];
    int64_t slots = s->multiprocessors;
    p->u.row_tiles = (int32_t)row_tiles_of(&p->u, f);
    items *= p->u.row_tiles;
    p->items = (int32_t)items;
    unsigned grid[3] = {(unsigned)(items < slots ? items : slots), 1, 1};
    gemmux_status status = make_maps(s, f, p, error);
    return status ? status
                  : gemmux_cuda_launch(&s->code, s->forms[form], grid,
                                       (unsigned)(128 + 128 * f->groups), GEMMUX_SM90_SMEM,
                                       call->stream, p, error);
}

static gemmux_status launch_dense(const gemmux_call *call, const workspace *at,
                                  gemmux_sm90_parameters *p, gemmux_error *error)
{
    const state *s = call->state;
    int form = choose_form(s, &p->u);
    const shape *f = &shapes[form];
    int64_t token_tiles = gemmux_divide_up(p->u.m, f->rows);
    p->u.token_tiles = (int32_t)token_tiles;
    choose_splits(s, at, form, token_tiles * row_tiles_of(&p->u, f), &p->u);
    gemmux_status status = launch_before(s, call->stream, p, error);
    return status ? status : launch_form(call, form, token_tiles * p->u.splits, p, error);
}

/* Rows of x an expert from which on big tiles are worth a launch of their own. */
enum { BIG_FROM = 96 };

/* Many rows an expert: big tiles, and what is left of each expert in smaller ones. */
static gemmux_status launch_moe(const gemmux_call *call, gemmux_sm90_parameters *p,
                                gemmux_error *error)
{
    const state *s = call->state;
    int form = s->direct ? GEMMUX_SM90_t64 : GEMMUX_SM90_w128;
    bool big = s->direct && p->u.m / p->u.experts >= BIG_FROM;
    p->u.tile_rows = shapes[form].rows;
    p->big_rows = big ? shapes[GEMMUX_SM90_w256].rows : 0;
    gemmux_status status = launch_before(s, call->stream, p, error);
    int64_t tiles = gemmux_upcast_most_tiles(call->problem, shapes[form].rows);
    p->section = 0;
    if (!status && big)
        status = launch_form(call, GEMMUX_SM90_w256, tiles, p, error);
    p->section = 1;
    return status ? status : launch_form(call, form, tiles, p, error);
}

static gemmux_status run(const gemmux_call *call, gemmux_error *error)
{
    const state *s = call->state;
    workspace at = lay_out(call->problem, s->multiprocessors);
    gemmux_sm90_parameters p = describe(call, &at);
    if (!p.u.k_order && ((uintptr_t)p.u.x | (uintptr_t)p.u.x_row_bytes) % 16)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "run: cuda_sm90_upcast needs x and its rows aligned to 16 bytes; say so "
                           "in problem.align, so that another kernel is chosen");
    gemmux_status status = gemmux_cuda_enter(&s->code.device, error);
    if (status)
        return status;
    status = p.u.experts ? launch_moe(call, &p, error) : launch_dense(call, &at, &p, error);
    if (!status && p.u.rows)
        status = gemmux_upcast_scatter(&s->code, s->scatter, call, &p, error);
    gemmux_cuda_leave(&s->code.device);
    return status;
}

/* ---- contract ---- */

/* Sets of w by what becomes of their scales: in the operand; of a row or tensor, in the end; or on
 * sums along K, which takes a second accumulator and smaller tiles. */
#define FINE  (GEMMUX_BIT(GEMMUX_MXFP4) | GEMMUX_BIT(GEMMUX_NVFP4) | GEMMUX_BIT(GEMMUX_MXFP8))
#define BYTES (GEMMUX_BIT(GEMMUX_E4M3) | GEMMUX_BIT(GEMMUX_INT8))
#define E5M2  GEMMUX_BIT(GEMMUX_E5M2)
#define INT4  GEMMUX_BIT(GEMMUX_INT4)
#define NVFP4 GEMMUX_BIT(GEMMUX_NVFP4)
#define NF4   GEMMUX_BIT(GEMMUX_NF4)
#define WHOLE (GEMMUX_BIT(GEMMUX_SCALING_ROW) | GEMMUX_BIT(GEMMUX_SCALING_TENSOR))

/* Shares of the peak at M = 8192 and of the bandwidth at M = 1, 14336 x 4096, measured on an H200
 * (bench/results/NOTES-h200.md). Minima would take a third accumulator: cuda_sm80_upcast has them,
 * and nf4's exact codebook. */
#define FORM(xs, ws, scalings, how, freedom, compute, bytes)                                       \
    {                                                                                              \
        .x = GEMMUX_BIT(xs), .w = (ws), .y = GEMMUX_FLOATS, .w_scaling = (scalings),               \
        .w_zero = GEMMUX_BIT(GEMMUX_ZERO_NONE) | GEMMUX_BIT(GEMMUX_ZERO_POINT), .path = (how),     \
        .math = (xs) == GEMMUX_F16 ? GEMMUX_MATH_F16 : GEMMUX_MATH_BF16,                           \
        .liberties = GEMMUX_LIBERTY_FLUSH_SUBNORMALS | (freedom), .share_compute = (compute),      \
        .share_bandwidth = (bytes),                                                                \
    }
#define UPCAST GEMMUX_PATH_UPCAST
#define NATIVE GEMMUX_PATH_NATIVE

static const gemmux_form forms[] = {
    FORM(GEMMUX_BF16, FINE, 0, UPCAST, 0, 0.7f, 0.345f),
    FORM(GEMMUX_BF16, BYTES, WHOLE, UPCAST, 0, 0.7f, 0.5f),
    FORM(GEMMUX_BF16, BYTES | E5M2, 0, UPCAST, 0, 0.42f, 0.45f),
    FORM(GEMMUX_BF16, INT4, 0, UPCAST, 0, 0.44f, 0.23f),
    FORM(GEMMUX_BF16, GEMMUX_BIT(GEMMUX_BF16), 0, NATIVE, 0, 0.67f, 0.66f),
    FORM(GEMMUX_BF16, NF4, 0, UPCAST, GEMMUX_LIBERTY_ROUNDED_W, 0.35f, 0.225f),
    FORM(GEMMUX_F16, NVFP4, 0, UPCAST, 0, 0.7f, 0.345f),
    FORM(GEMMUX_F16, BYTES, WHOLE, UPCAST, 0, 0.7f, 0.5f),
    FORM(GEMMUX_F16, BYTES | E5M2, 0, UPCAST, 0, 0.42f, 0.45f),
    FORM(GEMMUX_F16, FINE | INT4, 0, UPCAST, 0, 0.4f, 0.23f),
    FORM(GEMMUX_F16, GEMMUX_BIT(GEMMUX_F16), 0, NATIVE, 0, 0.67f, 0.66f),
    FORM(GEMMUX_F16, NF4, 0, UPCAST, GEMMUX_LIBERTY_ROUNDED_W, 0.35f, 0.225f),
};

const gemmux_kernel gemmux_kernel_cuda_sm90_upcast = {
    .name = "cuda_sm90_upcast",
    .summary = "weights of every format upcast in registers, TMA and wgmma, dense and moe",
    .device = GEMMUX_CUDA,
    .cc_min = 90,
    .arch_rule = GEMMUX_ARCH_EXACT,
    .smem_bytes = GEMMUX_SM90_SMEM,
    .ops = GEMMUX_ALL_OPS,
    .epilogue = GEMMUX_ALL_EPILOGUES,
    .forms = forms,
    .form_count = (int32_t)(sizeof forms / sizeof forms[0]),
    .packing = &gemmux_packing_sm80_fragments,
    .k_multiple = 8,
    .configure = configure,
    .prepare = prepare,
    .release = release,
    .run = GEMMUX_CUDA_RUN(run),
};
