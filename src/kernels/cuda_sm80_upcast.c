/* SPDX-License-Identifier: Apache-2.0
 *
 * cuda_sm80_upcast: weights of every format upcast in registers and multiplied by the matrix units
 * of sm_80 and newer; M from 1 to thousands, dense and mixture of experts. This is its contract
 * and its host side: which form runs, how K is split, what the workspace holds.
 */
#include "cuda_sm80_upcast.h"

#include "cuda_launch.h"
#include "format.h"
#include "packings/sm80_fragments.h"

#include <string.h>

extern const gemmux_packing gemmux_packing_sm80_fragments;

enum {
    FORM_MX_BF16,
    FORM_BYTES_BF16,
    FORM_INT4_BF16,
    FORM_RAW_BF16,
    FORM_NF4_BF16,
    FORM_NF4X_BF16,
    FORM_MX_F16,
    FORM_BYTES_F16,
    FORM_INT4_F16,
    FORM_RAW_F16,
    FORM_NF4_F16,
    FORM_NF4X_F16,
};

/* What one form's blocks are made of; cuda_sm80_upcast.cu says the same in its templates. */
typedef struct shape {
    const char *suffix, *tile;     /* tile: what a block works on, for people */
    int threads, row_blocks, rows; /* row_blocks: 0: all; rows of x in one pass or tile */
    int partial_bytes;             /* of sums, a block that shares K */
    int smem_bytes;
} shape;

static const shape shapes[GEMMUX_UPCAST_FORMS] = {
    [GEMMUX_UPCAST_S1] = {"s1", "a run of w past 8 rows of x", GEMMUX_UPCAST_S1_WARPS * 32, 0, 8, 0,
                          GEMMUX_UPCAST_STREAM_SMEM},
    [GEMMUX_UPCAST_S2] = {"s2", "a run of w past 16 rows of x", GEMMUX_UPCAST_S2_WARPS * 32, 0, 16,
                          0, GEMMUX_UPCAST_STREAM_SMEM},
    [GEMMUX_UPCAST_L64] = {"l64", "128 rows of w by 64 of x", 128, 8, 64, 128 * 64 * 4,
                           GEMMUX_UPCAST_STAGES * 64 * 128},
    [GEMMUX_UPCAST_L128] = {"l128", "256 rows of w by 128 of x", 256, 16, 128, 0,
                            GEMMUX_UPCAST_STAGES * 128 * 128},
};

typedef struct upcast_state {
    gemmux_cuda_code code;
    gemmux_cu_function forms[GEMMUX_UPCAST_FORMS], route, scatter, gather;
    gemmux_sm80_layout layout;
    int kind, multiprocessors, smem_bytes;
    bool looked, shifted; /* whether some row of w has a shift: known once looked */
} upcast_state;

/* ---- workspace ---- */

enum { COUNTERS = 4096 };

typedef struct workspace {
    int64_t partials_at, partials_bytes;
    int64_t count_at, sorted_at, tiles_at; /* routing lists */
    int64_t rows_at;                       /* unweighted rows that scatter adds up */
    int64_t bytes;
} workspace;

static int64_t round_up(int64_t value, int64_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

static int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Tiles of `rows` product rows: each expert's last one may be short, and rows of experts that do
 * not exist have tiles of their own. */
static int64_t most_tiles(const gemmux_problem *p, int rows)
{
    int64_t product_rows = gemmux_problem_rows(p);
    int64_t experts = p->experts + 1;
    return product_rows / rows + (experts < product_rows ? experts : product_rows);
}

static workspace lay_out(const gemmux_problem *p, int multiprocessors)
{
    workspace w = {0};
    int64_t rows = gemmux_problem_rows(p);
    int64_t columns = p->epilogue & GEMMUX_EPILOGUE_SWIGLU ? p->n / 2 : p->n;
    w.partials_at = COUNTERS * 4;
    if (p->op != GEMMUX_MOE) {
        /* choose_splits makes fewer than 3.5 blocks a multiprocessor of what it splits. A quarter
         * of the weights at most: a plan is to stay about as large as they are. */
        int64_t weights = gemmux_stored_bytes(p->w, 1, p->n, p->k);
        int64_t most = shapes[GEMMUX_UPCAST_L64].partial_bytes * (int64_t)multiprocessors * 7 / 2;
        int64_t wanted = round_up(weights / 4 < most ? weights / 4 : most, 256);
        w.partials_bytes = rows > 16 ? wanted : 0;
        w.bytes = w.partials_at + w.partials_bytes;
        return w;
    }
    w.count_at = w.partials_at;
    w.sorted_at = w.count_at + 256;
    w.tiles_at = w.sorted_at + round_up(rows * 4, 256);
    w.rows_at = w.tiles_at + round_up(most_tiles(p, shapes[0].rows) * 12, 256);
    w.bytes = w.rows_at;
    if (p->epilogue & GEMMUX_EPILOGUE_SCATTER)
        w.bytes += round_up(rows * columns * 4, 256);
    return w;
}

static int multiprocessors(const gemmux_machine *machine)
{
    return machine->cores > 0 ? machine->cores : 1;
}

/* ---- form ---- */

/* What the form of a launch depends on. */
typedef struct extent {
    int64_t rows, row_blocks; /* of the product; of w */
    int experts;              /* 0: dense */
    int multiprocessors, smem_bytes;
    bool three_terms;
} extent;

/* Large tiles when they keep every multiprocessor busy. nf4x's three terms leave them no
 * registers. */
static int best_tiles(const extent *e, int64_t tokens, int64_t tiles)
{
    int64_t row_tiles = divide_up(e->row_blocks, shapes[GEMMUX_UPCAST_L128].row_blocks);
    return tokens > 64 && !e->three_terms && tiles * row_tiles >= e->multiprocessors
               ? GEMMUX_UPCAST_L128
               : GEMMUX_UPCAST_L64;
}

static int best_form(const extent *e)
{
    if (!e->experts)
        return e->rows <= 8    ? GEMMUX_UPCAST_S1
               : e->rows <= 16 ? GEMMUX_UPCAST_S2
                               : best_tiles(e, e->rows, divide_up(e->rows, 128));
    int64_t each = divide_up(e->rows, e->experts);
    return each <= 6    ? GEMMUX_UPCAST_S1
           : each <= 16 ? GEMMUX_UPCAST_S2
                        : best_tiles(e, each, e->experts);
}

/* The smallest tiles where a block has too little shared memory for the best form. */
static int choose_form(const extent *e)
{
    int form = best_form(e);
    return shapes[form].smem_bytes <= e->smem_bytes ? form : GEMMUX_UPCAST_L64;
}

static const char *configure(const gemmux_problem *problem, const gemmux_machine *machine,
                             const gemmux_form *form, gemmux_config *config)
{
    if (problem->align && problem->align < 16)
        return "x and its rows must be aligned to 16 bytes";
    if (problem->n > 1 << 30 || problem->k > 1 << 30 || gemmux_problem_rows(problem) > 1 << 30)
        return "sizes beyond 2^30 are not indexed";
    if (problem->op == GEMMUX_MOE && problem->experts > GEMMUX_UPCAST_MAX_EXPERTS)
        return "more than 1024 experts do not fit its routing kernel";
    config->workspace_bytes = lay_out(problem, multiprocessors(machine)).bytes;
    const extent e = {
        .rows = gemmux_problem_rows(problem),
        .row_blocks = divide_up(problem->n, GEMMUX_SM80_ROWS),
        .experts = problem->op == GEMMUX_MOE ? problem->experts : 0,
        .multiprocessors = multiprocessors(machine),
        .smem_bytes = machine->smem_bytes,
        .three_terms = problem->w.id == GEMMUX_NF4 && !(form->liberties & GEMMUX_LIBERTY_ROUNDED_W),
    };
    const shape *chosen = &shapes[choose_form(&e)];
    config->tile = chosen->tile;
    config->smem_bytes = chosen->smem_bytes;
    config->wanted_smem_bytes = shapes[best_form(&e)].smem_bytes;
    return NULL;
}

/* ---- prepare ---- */

static bool along_k(gemmux_format f)
{
    return f.scaling == GEMMUX_SCALING_GROUP || f.scaling == GEMMUX_SCALING_BLOCK;
}

static int kind_of(const gemmux_problem *p, bool rounded)
{
    switch (p->w.id) {
    case GEMMUX_MXFP4:
        return GEMMUX_UPCAST_mxfp4;
    case GEMMUX_NVFP4:
        return GEMMUX_UPCAST_nvfp4;
    case GEMMUX_MXFP8:
        return p->w.element == GEMMUX_CODE_E5M2 ? GEMMUX_UPCAST_mxfp8e5 : GEMMUX_UPCAST_mxfp8;
    case GEMMUX_E4M3:
        return along_k(p->w) ? GEMMUX_UPCAST_e4m3 : GEMMUX_UPCAST_e4m3r;
    case GEMMUX_E5M2:
        return GEMMUX_UPCAST_e5m2;
    case GEMMUX_INT8:
        return along_k(p->w) ? GEMMUX_UPCAST_int8 : GEMMUX_UPCAST_int8r;
    case GEMMUX_INT4:
        return p->w.zero == GEMMUX_ZERO_MIN ? GEMMUX_UPCAST_int4m : GEMMUX_UPCAST_int4;
    case GEMMUX_NF4:
        return rounded ? GEMMUX_UPCAST_nf4 : GEMMUX_UPCAST_nf4x;
    default:
        return GEMMUX_UPCAST_raw;
    }
}

static void release(void *state)
{
    upcast_state *s = state;
    gemmux_cuda_code_close(&s->code);
    free(s);
}

/* ue8m0 scales are folded into bf16 factors: refuses rows that span more than bf16 can hold, and
 * sees whether any is shifted. */
static gemmux_status check_span(upcast_state *s, const gemmux_packed *w, gemmux_error *error)
{
    const gemmux_cuda *cuda = &s->code.device.cuda;
    int64_t bytes = s->layout.row_blocks * 4;
    uint32_t *flags = calloc((size_t)bytes + 4, 1);
    s->looked = true;
    gemmux_status status = GEMMUX_OK;
    if (!flags)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "cuda_sm80_upcast: out of memory");
    for (int64_t matrix = 0; matrix < w->plain.count && !status; matrix++) {
        gemmux_cu_pointer from = (gemmux_cu_pointer)(uintptr_t)w->data +
                                 (uint64_t)(matrix * s->layout.matrix_bytes + s->layout.flags_at);
        int result = bytes ? cuda->copy_to_host(flags, from, (size_t)bytes) : 0;
        if (result)
            status = gemmux_cuda_fail(cuda, result, "cuda_sm80_upcast: reading its flags", error);
        for (int64_t i = 0; i < s->layout.row_blocks && !status; i++) {
            s->shifted |= (flags[i] & GEMMUX_SM80_SHIFTED) != 0;
            if (flags[i] & GEMMUX_SM80_SPAN_TOO_WIDE)
                status = gemmux_fail(error, GEMMUX_ERROR_DEVICE,
                                     "cuda_sm80_upcast: scales of one row of w, among rows %lld to "
                                     "%lld of matrix %lld, span more powers of two than bf16 holds",
                                     (long long)i * 16, (long long)i * 16 + 15, (long long)matrix);
        }
    }
    free(flags);
    return status;
}

static gemmux_status find_functions(upcast_state *s, bool half, gemmux_error *error)
{
    static const char *const kinds[] = {
#define KIND_NAME(name) #name,
        GEMMUX_UPCAST_KINDS(KIND_NAME)
#undef KIND_NAME
    };
    gemmux_status status = GEMMUX_OK;
    char name[64];
    for (int i = 0; i < GEMMUX_UPCAST_FORMS && !status; i++) {
        snprintf(name, sizeof name, "upcast_%s_%s_%s", kinds[s->kind], half ? "f16" : "bf16",
                 shapes[i].suffix);
        status =
            gemmux_cuda_code_function(&s->code, name, shapes[i].smem_bytes, &s->forms[i], error);
    }
    if (!status)
        status = gemmux_cuda_code_function(&s->code, "upcast_route", 0, &s->route, error);
    if (!status)
        status = gemmux_cuda_code_function(&s->code, "upcast_scatter", 0, &s->scatter, error);
    if (!status)
        status = gemmux_cuda_code_function(&s->code, "upcast_gather", 0, &s->gather, error);
    return status;
}

static gemmux_status prepare(const gemmux_problem *problem, const gemmux_machine *machine,
                             const gemmux_packed *w, void **state, gemmux_error *error)
{
    gemmux_status status = gemmux_packed_expect(w, &gemmux_packing_sm80_fragments, problem, error);
    if (status)
        return status;
    upcast_state *s = calloc(1, sizeof *s);
    if (!s)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "cuda_sm80_upcast: out of memory");
    bool half = problem->x.id == GEMMUX_F16;
    s->kind = kind_of(problem, problem->liberties & GEMMUX_LIBERTY_ROUNDED_W);
    s->multiprocessors = multiprocessors(machine);
    s->smem_bytes = machine->smem_bytes;
    gemmux_sm80_layout_of(problem->w, problem->n, problem->k, &s->layout);
    status = gemmux_cuda_code_open(&s->code, machine, "cuda_sm80_upcast", error);
    if (!status)
        status = find_functions(s, half, error);
    bool folded = s->kind == GEMMUX_UPCAST_mxfp4 || s->kind == GEMMUX_UPCAST_mxfp8 ||
                  s->kind == GEMMUX_UPCAST_mxfp8e5;
    if (!status && folded && !half) {
        status = gemmux_cuda_enter(&s->code.device, error);
        if (!status) {
            status = check_span(s, w, error);
            gemmux_cuda_leave(&s->code.device);
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

static int log2_of(int value)
{
    int log2 = 0;
    while (1 << (log2 + 1) <= value)
        log2++;
    return log2;
}

static gemmux_upcast_parameters describe(const gemmux_call *call, const workspace *at)
{
    const upcast_state *s = call->state;
    const gemmux_problem *p = call->problem;
    const gemmux_sm80_layout *layout = &s->layout;
    char *base = call->workspace;
    int64_t y_each = call->y_format.id == GEMMUX_F32 ? 8 : 4;
    bool moe = p->op == GEMMUX_MOE;
    return (gemmux_upcast_parameters){
        .w = call->w->data,
        .matrix_bytes = layout->matrix_bytes,
        .scales_at = layout->scales_at,
        .zeros_at = layout->zeros_at,
        .factors_at = layout->factors_at,
        .flags_at = layout->flags_at,
        .shifts_at = layout->shifts_at,
        .x = call->x.codes,
        .x_row_bytes = gemmux_row_stride(&call->x),
        .y = call->y,
        .y_row_bytes = call->y_row_bytes,
        .rows = p->epilogue & GEMMUX_EPILOGUE_SCATTER ? (float *)(base + at->rows_at) : NULL,
        .bias = p->epilogue & GEMMUX_EPILOGUE_BIAS ? call->bias : NULL,
        .expert_ids = call->expert_ids,
        .expert_weights = call->expert_weights,
        .sorted = (int32_t *)(base + at->sorted_at),
        .tiles = (int32_t *)(base + at->tiles_at),
        .tile_count = (int32_t *)(base + at->count_at),
        .k_order = call->w->plain.k_order,
        .partials = (float *)(base + at->partials_at),
        .counters = (uint32_t *)base,
        .m = (int32_t)gemmux_problem_rows(p),
        .n = (int32_t)p->n,
        .k = (int32_t)p->k,
        .units = (int32_t)layout->units,
        .row_blocks = (int32_t)layout->row_blocks,
        .groups = (int32_t)layout->groups,
        .group_shift = along_k(p->w) ? log2_of(p->w.group) : 31,
        .splits = 1,
        .units_a_split = (int32_t)layout->units,
        .experts = moe ? p->experts : 0,
        .top_k = p->top_k,
        .scale_code = p->w.scale,
        .zero = p->w.zero,
        .scale_block = p->w.scaling == GEMMUX_SCALING_BLOCK,
        .fine = (uint8_t)layout->fine,
        .y_format = call->y_format.id,
        .gather = (p->epilogue & GEMMUX_EPILOGUE_GATHER) != 0,
        .swiglu = (p->epilogue & GEMMUX_EPILOGUE_SWIGLU) != 0,
        .unshifted = s->looked && !s->shifted,
        .y_pairs = ((uintptr_t)call->y | (uintptr_t)call->y_row_bytes) % (uintptr_t)y_each == 0,
        .alpha = p->swiglu_alpha > 0 ? p->swiglu_alpha : 1.702f,
        .limit = p->swiglu_limit > 0 ? p->swiglu_limit : 7.0f,
    };
}

/* Blocks share the K of one tile when there are too few tiles to fill the device. */
static void choose_splits(const upcast_state *s, const workspace *at, int form, int64_t tiles,
                          gemmux_upcast_parameters *p)
{
    const shape *f = &shapes[form];
    int64_t wanted = 2 * (int64_t)s->multiprocessors;
    if (p->experts || form != GEMMUX_UPCAST_L64 || tiles * 4 >= wanted * 3 || tiles > COUNTERS)
        return;
    int64_t splits = divide_up(wanted, tiles), most = p->units / 8;
    splits = splits < most ? splits : most;
    splits = splits < 8 ? splits : 8;
    most = at->partials_bytes / (tiles * f->partial_bytes);
    splits = splits < most ? splits : most;
    if (splits < 2)
        return;
    p->units_a_split = (int32_t)divide_up(p->units, splits);
    p->splits = (int32_t)divide_up(p->units, p->units_a_split);
}

static gemmux_status reorder_columns(const gemmux_call *call, const workspace *at,
                                     gemmux_upcast_parameters *p, gemmux_error *error)
{
    const upcast_state *s = call->state;
    gemmux_upcast_parameters gather = *p;
    int64_t rows = call->x.rows;
    unsigned grid[3] = {(unsigned)divide_up(p->k, 256), (unsigned)(rows < 65535 ? rows : 65535), 1};
    gather.rows = (float *)((char *)call->workspace + round_up(at->bytes, 256));
    gather.m = (int32_t)rows;
    p->x = (const char *)gather.rows;
    p->x_row_bytes = (int64_t)p->k * 2;
    return gemmux_cuda_launch(&s->code, s->gather, grid, 256, 0, call->stream, &gather, error);
}

static gemmux_status launch_product(const gemmux_call *call, const workspace *at,
                                    gemmux_upcast_parameters *p, gemmux_error *error)
{
    const upcast_state *s = call->state;
    int form = choose_form(&(extent){.rows = p->m,
                                     .row_blocks = p->row_blocks,
                                     .experts = p->experts,
                                     .multiprocessors = s->multiprocessors,
                                     .smem_bytes = s->smem_bytes,
                                     .three_terms = s->kind == GEMMUX_UPCAST_nf4x});
    const shape *f = &shapes[form];
    bool streams = form == GEMMUX_UPCAST_S1 || form == GEMMUX_UPCAST_S2;
    int64_t row_tiles = streams ? 1 : divide_up(p->row_blocks, f->row_blocks);
    int64_t groups = divide_up(p->m, f->rows);
    gemmux_status status = GEMMUX_OK;
    if (p->experts) {
        p->routed = !streams || p->m > GEMMUX_UPCAST_DIRECT_ROWS;
        groups = most_tiles(call->problem, f->rows);
        p->tile_rows = f->rows;
    }
    if (p->routed)
        status = gemmux_cuda_launch(&s->code, s->route, (unsigned[]){1, 1, 1}, 1024, 0,
                                    call->stream, p, error);
    if (status)
        return status;
    choose_splits(s, at, form, row_tiles * groups, p);
    p->row_tiles = (int32_t)row_tiles;
    p->token_tiles = (int32_t)groups;
    unsigned grid[3] = {(unsigned)(row_tiles * groups), (unsigned)p->splits, 1};
    if (streams)
        grid[0] = (unsigned)s->multiprocessors;
    return gemmux_cuda_launch(&s->code, s->forms[form], grid, (unsigned)f->threads,
                              (unsigned)f->smem_bytes, call->stream, p, error);
}

static gemmux_status launch_scatter(const gemmux_call *call, gemmux_upcast_parameters *p,
                                    gemmux_error *error)
{
    const upcast_state *s = call->state;
    int64_t columns = p->swiglu ? p->n / 2 : p->n, tokens = call->problem->m;
    unsigned grid[3] = {(unsigned)divide_up(columns, 256),
                        (unsigned)(tokens < 65535 ? tokens : 65535), 1};
    return gemmux_cuda_launch(&s->code, s->scatter, grid, 256, 0, call->stream, p, error);
}

static gemmux_status run(const gemmux_call *call, gemmux_error *error)
{
    const upcast_state *s = call->state;
    workspace at = lay_out(call->problem, s->multiprocessors);
    gemmux_upcast_parameters p = describe(call, &at);
    if (!p.k_order && ((uintptr_t)p.x | (uintptr_t)p.x_row_bytes) % 16)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "run: cuda_sm80_upcast needs x and its rows aligned to 16 bytes; say so "
                           "in problem.align, so that another kernel is chosen");
    gemmux_status status = gemmux_cuda_enter(&s->code.device, error);
    if (status)
        return status;
    if (p.k_order)
        status = reorder_columns(call, &at, &p, error);
    if (!status)
        status = launch_product(call, &at, &p, error);
    if (!status && p.rows)
        status = launch_scatter(call, &p, error);
    gemmux_cuda_leave(&s->code.device);
    return status;
}

/* ---- contract ---- */

#define MX    (GEMMUX_BIT(GEMMUX_MXFP4) | GEMMUX_BIT(GEMMUX_NVFP4) | GEMMUX_BIT(GEMMUX_MXFP8))
#define BYTES (GEMMUX_BIT(GEMMUX_E4M3) | GEMMUX_BIT(GEMMUX_E5M2) | GEMMUX_BIT(GEMMUX_INT8))
#define INT4  GEMMUX_BIT(GEMMUX_INT4)

/* Shares are those of an H200 (bench/results/NOTES-h200.md): of its matrix units at M = 2048, and
 * of its memory at M = 1 on 14336 x 4096, without the time to launch. */
#define FORM(xs, ws, how, freedom, compute, bytes)                                                 \
    {                                                                                              \
        .x = GEMMUX_BIT(xs), .w = (ws), .y = GEMMUX_FLOATS, .path = (how),                         \
        .math = (xs) == GEMMUX_F16 ? GEMMUX_MATH_F16 : GEMMUX_MATH_BF16,                           \
        .liberties = GEMMUX_LIBERTY_FLUSH_SUBNORMALS | (freedom), .share_compute = (compute),      \
        .share_bandwidth = (bytes),                                                                \
    }
#define NF4 GEMMUX_BIT(GEMMUX_NF4)

/* nf4's codebook has 24-bit values: rounded to x's type where the caller allows it, else the sum
 * of three exact terms, which costs three products. */
static const gemmux_form forms[] = {
    [FORM_MX_BF16] = FORM(GEMMUX_BF16, MX, GEMMUX_PATH_UPCAST, 0, 0.33f, 0.58f),
    [FORM_BYTES_BF16] = FORM(GEMMUX_BF16, BYTES, GEMMUX_PATH_UPCAST, 0, 0.2f, 0.78f),
    [FORM_INT4_BF16] = FORM(GEMMUX_BF16, INT4, GEMMUX_PATH_UPCAST, 0, 0.2f, 0.49f),
    [FORM_RAW_BF16] =
        FORM(GEMMUX_BF16, GEMMUX_BIT(GEMMUX_BF16), GEMMUX_PATH_NATIVE, 0, 0.29f, 0.8f),
    [FORM_NF4_BF16] =
        FORM(GEMMUX_BF16, NF4, GEMMUX_PATH_UPCAST, GEMMUX_LIBERTY_ROUNDED_W, 0.18f, 0.4f),
    [FORM_NF4X_BF16] = FORM(GEMMUX_BF16, NF4, GEMMUX_PATH_UPCAST, 0, 0.065f, 0.2f),
    [FORM_MX_F16] = FORM(GEMMUX_F16, MX, GEMMUX_PATH_UPCAST, 0, 0.22f, 0.58f),
    [FORM_BYTES_F16] = FORM(GEMMUX_F16, BYTES, GEMMUX_PATH_UPCAST, 0, 0.2f, 0.78f),
    [FORM_INT4_F16] = FORM(GEMMUX_F16, INT4, GEMMUX_PATH_UPCAST, 0, 0.2f, 0.49f),
    [FORM_RAW_F16] = FORM(GEMMUX_F16, GEMMUX_BIT(GEMMUX_F16), GEMMUX_PATH_NATIVE, 0, 0.29f, 0.8f),
    [FORM_NF4_F16] =
        FORM(GEMMUX_F16, NF4, GEMMUX_PATH_UPCAST, GEMMUX_LIBERTY_ROUNDED_W, 0.18f, 0.4f),
    [FORM_NF4X_F16] = FORM(GEMMUX_F16, NF4, GEMMUX_PATH_UPCAST, 0, 0.065f, 0.2f),
};

const gemmux_kernel gemmux_kernel_cuda_sm80_upcast = {
    .name = "cuda_sm80_upcast",
    .summary = "weights of every format upcast in registers, mma.sync, dense and moe, any M",
    .device = GEMMUX_CUDA,
    .cc_min = 80,
    .smem_bytes = GEMMUX_UPCAST_STAGES * 64 * 128 + 4096, /* of its smallest tiles */
    .ops = GEMMUX_ALL_OPS,
    .epilogue = GEMMUX_ALL_EPILOGUES,
    .forms = forms,
    .form_count = (int32_t)(sizeof forms / sizeof forms[0]),
    .packing = &gemmux_packing_sm80_fragments,
    .k_multiple = 8,
    .configure = configure,
    .unproven = GEMMUX_CUDA_EMULATED,
    .proved_cc = 90,
    .prepare = prepare,
    .release = release,
    .run = GEMMUX_CUDA_RUN(run),
};
