/* SPDX-License-Identifier: Apache-2.0
 *
 * cuda_sm80_upcast: weights of every format upcast in registers and multiplied by the matrix units
 * of sm_80 and newer; M from 1 to thousands, dense and mixture of experts. This is its contract
 * and its host side: which form runs, how K is split, what the workspace holds.
 */
#include "cuda_sm80_upcast.h"

#include "format.h"
#include "gpu_functions.h"
#include "upcast_host.h"

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
    [GEMMUX_UPCAST_S1] = {"s1", "a run of w past 8 rows of x", GEMMUX_UPCAST_STREAM_WARPS * 32, 0,
                          8, 0, GEMMUX_UPCAST_STREAM_SMEM},
    [GEMMUX_UPCAST_S2] = {"s2", "a run of w past 16 rows of x", GEMMUX_UPCAST_STREAM_WARPS * 32, 0,
                          16, 0, GEMMUX_UPCAST_STREAM_SMEM},
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
    bool shifted; /* some row of w has a shift, which only folded scales ask for */
} upcast_state;

/* ---- workspace ---- */

enum { COUNTERS = 4096 };

typedef struct workspace {
    gemmux_upcast_places at;
    int64_t bytes;
} workspace;

static workspace lay_out(const gemmux_problem *p, int multiprocessors)
{
    workspace w = {0};
    int64_t rows = gemmux_problem_rows(p);
    int64_t columns = p->epilogue & GEMMUX_EPILOGUE_SWIGLU ? p->n / 2 : p->n;
    w.at.partials_at = COUNTERS * 4;
    if (p->op != GEMMUX_MOE) {
        /* choose_splits makes fewer than 3.5 blocks a multiprocessor of what it splits. A quarter
         * of the weights at most: a plan is to stay about as large as they are. */
        int64_t weights = gemmux_stored_bytes(p->w, 1, p->n, p->k);
        int64_t most = shapes[GEMMUX_UPCAST_L64].partial_bytes * (int64_t)multiprocessors * 7 / 2;
        int64_t wanted = gemmux_round_up(weights / 4 < most ? weights / 4 : most, 256);
        w.at.partials_bytes = rows > 16 ? wanted : 0;
        w.bytes = w.at.partials_at + w.at.partials_bytes;
        return w;
    }
    w.at.count_at = w.at.partials_at;
    w.at.sorted_at = w.at.count_at + 256;
    w.at.tiles_at = w.at.sorted_at + gemmux_round_up(rows * 4, 256);
    w.at.rows_at =
        w.at.tiles_at + gemmux_round_up(gemmux_upcast_most_tiles(p, shapes[0].rows) * 12, 256);
    w.bytes = w.at.rows_at;
    if (p->epilogue & GEMMUX_EPILOGUE_SCATTER)
        w.bytes += gemmux_round_up(rows * columns * 4, 256);
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
    int64_t row_tiles = gemmux_divide_up(e->row_blocks, shapes[GEMMUX_UPCAST_L128].row_blocks);
    return tokens > 64 && !e->three_terms && tiles * row_tiles >= e->multiprocessors
               ? GEMMUX_UPCAST_L128
               : GEMMUX_UPCAST_L64;
}

static int best_form(const extent *e)
{
    if (!e->experts)
        return e->rows <= 8    ? GEMMUX_UPCAST_S1
               : e->rows <= 16 ? GEMMUX_UPCAST_S2
                               : best_tiles(e, e->rows, gemmux_divide_up(e->rows, 128));
    int64_t each = gemmux_divide_up(e->rows, e->experts);
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

/* ---- forms, and what they attain ---- */

#define MX    (GEMMUX_BIT(GEMMUX_MXFP4) | GEMMUX_BIT(GEMMUX_NVFP4) | GEMMUX_BIT(GEMMUX_MXFP8))
#define BYTES (GEMMUX_BIT(GEMMUX_E4M3) | GEMMUX_BIT(GEMMUX_E5M2) | GEMMUX_BIT(GEMMUX_INT8))
#define INT4  GEMMUX_BIT(GEMMUX_INT4)
#define NF4   GEMMUX_BIT(GEMMUX_NF4)

/* Shares are those of an H200 (bench/results/gpu-bench-2026-11-24-h200.txt): of its matrix units at
 * M = 2048 (l128), and of its memory at M = 1 (s1) on 14336 x 4096, without the time to launch. */
#define FORM(xs, ws, how, freedom, compute, bytes)                                                 \
    {                                                                                              \
        .x = GEMMUX_BIT(xs), .w = (ws), .y = GEMMUX_FLOATS, .path = (how),                         \
        .math = (xs) == GEMMUX_F16 ? GEMMUX_MATH_F16 : GEMMUX_MATH_BF16,                           \
        .liberties = GEMMUX_LIBERTY_FLUSH_SUBNORMALS | (freedom), .share_compute = (compute),      \
        .share_bandwidth = (bytes),                                                                \
    }

/* nf4's codebook has 24-bit values: rounded to x's type where the caller allows it, else the sum
 * of three exact terms, which costs three products. */
static const gemmux_form forms[] = {
    [FORM_MX_BF16] = FORM(GEMMUX_BF16, MX, GEMMUX_PATH_UPCAST, 0, 0.33f, 0.74f),
    [FORM_BYTES_BF16] = FORM(GEMMUX_BF16, BYTES, GEMMUX_PATH_UPCAST, 0, 0.21f, 0.82f),
    [FORM_INT4_BF16] = FORM(GEMMUX_BF16, INT4, GEMMUX_PATH_UPCAST, 0, 0.22f, 0.74f),
    [FORM_RAW_BF16] =
        FORM(GEMMUX_BF16, GEMMUX_BIT(GEMMUX_BF16), GEMMUX_PATH_NATIVE, 0, 0.33f, 0.91f),
    [FORM_NF4_BF16] =
        FORM(GEMMUX_BF16, NF4, GEMMUX_PATH_UPCAST, GEMMUX_LIBERTY_ROUNDED_W, 0.2f, 0.66f),
    [FORM_NF4X_BF16] = FORM(GEMMUX_BF16, NF4, GEMMUX_PATH_UPCAST, 0, 0.065f, 0.2f),
    [FORM_MX_F16] = FORM(GEMMUX_F16, MX, GEMMUX_PATH_UPCAST, 0, 0.23f, 0.66f),
    [FORM_BYTES_F16] = FORM(GEMMUX_F16, BYTES, GEMMUX_PATH_UPCAST, 0, 0.21f, 0.82f),
    [FORM_INT4_F16] = FORM(GEMMUX_F16, INT4, GEMMUX_PATH_UPCAST, 0, 0.22f, 0.72f),
    [FORM_RAW_F16] = FORM(GEMMUX_F16, GEMMUX_BIT(GEMMUX_F16), GEMMUX_PATH_NATIVE, 0, 0.33f, 0.91f),
    [FORM_NF4_F16] =
        FORM(GEMMUX_F16, NF4, GEMMUX_PATH_UPCAST, GEMMUX_LIBERTY_ROUNDED_W, 0.2f, 0.66f),
    [FORM_NF4X_F16] = FORM(GEMMUX_F16, NF4, GEMMUX_PATH_UPCAST, 0, 0.065f, 0.2f),
};

/* The same at M = 16 (s2: of memory), and at M = 64 where tiles fill the device (l64: of the matrix
 * units). */
typedef struct rates {
    float s2, l64;
} rates;

static const rates measured_rates[] = {
    [FORM_MX_BF16] = {0.45f, 0.24f},   [FORM_BYTES_BF16] = {0.56f, 0.125f},
    [FORM_INT4_BF16] = {0.37f, 0.16f}, [FORM_RAW_BF16] = {0.84f, 0.155f},
    [FORM_NF4_BF16] = {0.4f, 0.155f},  [FORM_NF4X_BF16] = {0.15f, 0.085f},
    [FORM_MX_F16] = {0.4f, 0.16f},     [FORM_BYTES_F16] = {0.56f, 0.125f},
    [FORM_INT4_F16] = {0.37f, 0.16f},  [FORM_RAW_F16] = {0.84f, 0.155f},
    [FORM_NF4_F16] = {0.4f, 0.155f},   [FORM_NF4X_F16] = {0.15f, 0.085f},
};

/* Blocks share the K of one tile when there are too few tiles to fill the device. */
static int64_t splits_of(int form, bool moe, int64_t tiles, int64_t units, int64_t room,
                         int multiprocessors)
{
    int64_t wanted = 2 * (int64_t)multiprocessors;
    if (moe || form != GEMMUX_UPCAST_L64 || tiles * 4 >= wanted * 3 || tiles > COUNTERS)
        return 1;
    int64_t splits = gemmux_upcast_splits(gemmux_divide_up(wanted, tiles), units, 8, room,
                                          tiles * shapes[form].partial_bytes);
    return splits > 1 ? splits : 1;
}

/* `share` of an H200's rate as a share of another device's: this kernel is bound by what a
 * multiprocessor issues more than by its matrix units, of which only wgmma reaches all, or by its
 * part of the bandwidth. `rate` is the device's, `h200` an H200's for each multiprocessor; no more
 * than `most` of any rate is believed. */
static float share_here(const gemmux_machine *machine, double rate, double h200, double most,
                        float share)
{
    double part = rate > 0 ? share * h200 * multiprocessors(machine) / rate : share;
    return (float)(part < most ? part : most);
}

static float share_of_peak(const gemmux_machine *machine, int math, float share)
{
    return share_here(machine, machine->peak[math], 7.5e12, 0.65, share); /* bf16: 989.4 / 132 */
}

static float share_of_bandwidth(const gemmux_machine *machine, float share)
{
    double most = share > 0.85 ? share : 0.85;
    return share_here(machine, machine->bandwidth, 36.4e9, most, share); /* 4.8 TB/s / 132 */
}

/* What this launch attains, by what it runs. The form's own shares are those of s1 and l128. A
 * stream reads an expert's weights once for each group of its rows; tiles that are not full, or
 * leave multiprocessors without work, cost as much as others. */
static void estimate(const extent *e, const gemmux_problem *problem, const gemmux_machine *machine,
                     const workspace *at, const gemmux_form *form, int launch,
                     gemmux_config *config)
{
    const shape *f = &shapes[launch];
    const rates *measured = &measured_rates[form - forms];
    double rows = (double)e->rows, each = e->experts ? rows / e->experts : rows;
    double groups = e->experts ? gemmux_upcast_groups(each, f->rows) : 1;
    if (launch == GEMMUX_UPCAST_S1 || launch == GEMMUX_UPCAST_S2) {
        float share = launch == GEMMUX_UPCAST_S1 ? form->share_bandwidth : measured->s2;
        config->share_bandwidth = (float)(share_of_bandwidth(machine, share) / groups);
        return;
    }
    config->share_bandwidth = share_of_bandwidth(machine, measured->s2); /* tiles: no better */
    double tiles = (double)gemmux_divide_up(e->rows, f->rows);
    if (e->experts)
        tiles = (rows < e->experts ? rows : e->experts) * groups;
    int64_t units = gemmux_divide_up(problem->k, GEMMUX_SM80_UNIT_K);
    int64_t blocks = gemmux_divide_up(e->row_blocks, f->row_blocks) * (int64_t)(tiles + 0.5);
    blocks *=
        splits_of(launch, e->experts > 0, blocks, units, at->at.partials_bytes, e->multiprocessors);
    int64_t slots = (int64_t)e->multiprocessors * (launch == GEMMUX_UPCAST_L64 ? 2 : 1);
    double full = (double)blocks / (double)gemmux_round_up(blocks, slots);
    float share = launch == GEMMUX_UPCAST_L64 ? measured->l64 : form->share_compute;
    share = share_of_peak(machine, form->math, share);
    config->share_compute = (float)(share * full * rows / (tiles * f->rows));
}

static const char *configure(const gemmux_problem *problem, const gemmux_machine *machine,
                             const gemmux_form *form, gemmux_config *config)
{
    const char *why = gemmux_upcast_refusal(problem);
    if (why)
        return why;
    workspace at = lay_out(problem, multiprocessors(machine));
    config->workspace_bytes = at.bytes;
    const extent e = {
        .rows = gemmux_problem_rows(problem),
        .row_blocks = gemmux_divide_up(problem->n, GEMMUX_SM80_ROWS),
        .experts = problem->op == GEMMUX_MOE ? problem->experts : 0,
        .multiprocessors = multiprocessors(machine),
        .smem_bytes = machine->smem_bytes,
        .three_terms = problem->w.id == GEMMUX_NF4 && !(form->liberties & GEMMUX_LIBERTY_ROUNDED_W),
    };
    int launch = choose_form(&e);
    const shape *chosen = &shapes[launch];
    estimate(&e, problem, machine, &at, form, launch, config);
    config->tile = chosen->tile;
    config->smem_bytes = chosen->smem_bytes;
    config->wanted_smem_bytes = shapes[best_form(&e)].smem_bytes;
    return NULL;
}

/* ---- prepare ---- */

static void release(void *state)
{
    upcast_state *s = state;
    gemmux_cuda_code_close(&s->code);
    free(s);
}

/* Dynamic shared memory that s1 and s2 can have; no less than every device that runs them has. */
static int most_stream_smem(int smem_bytes)
{
    int most = smem_bytes - GEMMUX_UPCAST_STREAM_STATIC;
    return most > GEMMUX_UPCAST_STREAM_SMEM ? most : GEMMUX_UPCAST_STREAM_SMEM;
}

static gemmux_status find_functions(upcast_state *s, bool half, gemmux_error *error)
{
    const gemmux_cuda_wanted others[] = {{"upcast_route", &s->route},
                                         {"upcast_scatter", &s->scatter},
                                         {"upcast_gather", &s->gather}};
    gemmux_status status = GEMMUX_OK;
    char name[64];
    for (int i = 0; i < GEMMUX_UPCAST_FORMS && !status; i++) {
        snprintf(name, sizeof name, "upcast_%s_%s_%s", gemmux_upcast_kind_name(s->kind),
                 half ? "f16" : "bf16", shapes[i].suffix);
        int smem = shapes[i].smem_bytes;
        if (i == GEMMUX_UPCAST_S1 || i == GEMMUX_UPCAST_S2)
            smem = most_stream_smem(s->smem_bytes);
        status = gemmux_cuda_code_function(&s->code, name, smem, &s->forms[i], error);
    }
    if (!status)
        s->code.overlaps = gemmux_cuda_code_overlaps(&s->code, s->forms[0]);
    return status ? status : gemmux_cuda_code_functions(&s->code, others, 3, error);
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
    s->kind = gemmux_upcast_kind_of(problem->w, problem->liberties & GEMMUX_LIBERTY_ROUNDED_W);
    s->multiprocessors = multiprocessors(machine);
    s->smem_bytes = machine->smem_bytes;
    gemmux_sm80_layout_of(problem->w, problem->n, problem->k, &s->layout);
    status = gemmux_cuda_code_open(&s->code, machine, "cuda_sm80_upcast", error);
    if (!status)
        status = find_functions(s, half, error);
    if (!status)
        status = gemmux_upcast_look("cuda_sm80_upcast", &s->code, s->kind, half, &s->layout, w,
                                    &s->shifted, error);
    if (status) {
        release(s);
        return status;
    }
    *state = s;
    return GEMMUX_OK;
}

/* ---- run ---- */

static gemmux_upcast_parameters describe(const gemmux_call *call, const workspace *w)
{
    const upcast_state *s = call->state;
    gemmux_upcast_parameters p = gemmux_upcast_describe(call, &s->layout, &w->at);
    p.unshifted = !s->shifted;
    return p;
}

static void choose_splits(const upcast_state *s, const workspace *at, int form, int64_t tiles,
                          gemmux_upcast_parameters *p)
{
    int64_t splits =
        splits_of(form, p->experts > 0, tiles, p->units, at->at.partials_bytes, s->multiprocessors);
    if (splits < 2)
        return;
    p->units_a_split = (int32_t)gemmux_divide_up(p->units, splits);
    p->splits = (int32_t)gemmux_divide_up(p->units, p->units_a_split);
}

static gemmux_status reorder_columns(const gemmux_call *call, const workspace *at,
                                     gemmux_upcast_parameters *p, gemmux_error *error)
{
    const upcast_state *s = call->state;
    gemmux_upcast_parameters gather = *p;
    int64_t rows = call->x.rows;
    unsigned grid[3] = {(unsigned)gemmux_divide_up(p->k, 256),
                        (unsigned)(rows < 65535 ? rows : 65535), 1};
    gather.rows = (float *)((char *)call->workspace + gemmux_round_up(at->bytes, 256));
    gather.m = (int32_t)rows;
    p->x = (const char *)gather.rows;
    p->x_row_bytes = (int64_t)p->k * 2;
    return gemmux_cuda_launch(&s->code, s->gather, grid, 256, 0, call->stream, &gather, error);
}

/* How s1 and s2 share K among warps and row blocks among blocks; shared memory for the sums of as
 * many of a block's row blocks as the device has, behind what is under way. */
static void share_stream(const upcast_state *s, int most_rows, gemmux_upcast_parameters *p)
{
    const int warps = GEMMUX_UPCAST_STREAM_WARPS, held = GEMMUX_UPCAST_STREAM_HELD;
    p->stream_passes = (int32_t)gemmux_divide_up(p->units, warps * held);
    p->stream_passes = p->stream_passes > 1 ? p->stream_passes : 1;
    p->stream_units = (int32_t)gemmux_divide_up(p->units, (int64_t)warps * p->stream_passes);
    p->stream_units += p->stream_units > 1 && p->stream_units % 2; /* two are multiplied at once */
    p->stream_held = p->units ? (int32_t)gemmux_divide_up(p->units, p->stream_units) : 0;
    p->stream_held = p->stream_held < warps ? p->stream_held : warps;
    p->stream_each = p->row_blocks / s->multiprocessors;
    p->stream_more = p->row_blocks % s->multiprocessors;

    int64_t rows = p->m < most_rows ? p->m : most_rows;
    int64_t all = (int64_t)p->row_blocks * (p->experts ? p->token_tiles : 1);
    int64_t each = warps * 64 * rows + GEMMUX_UPCAST_STREAM_FINISH;
    int64_t sums = each * gemmux_divide_up(all, s->multiprocessors);
    int64_t most = most_stream_smem(s->smem_bytes), wanted = GEMMUX_UPCAST_STREAM_RING + sums;
    wanted = wanted < most ? wanted : most;
    p->stream_smem =
        (int32_t)(wanted > GEMMUX_UPCAST_STREAM_SMEM ? wanted : GEMMUX_UPCAST_STREAM_SMEM);
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
    int64_t row_tiles = streams ? 1 : gemmux_divide_up(p->row_blocks, f->row_blocks);
    int64_t groups = gemmux_divide_up(p->m, f->rows);
    gemmux_status status = GEMMUX_OK;
    if (p->experts) {
        p->routed = !streams || p->m > GEMMUX_UPCAST_DIRECT_ROWS;
        groups = gemmux_upcast_most_tiles(call->problem, f->rows);
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
    int smem = f->smem_bytes;
    if (streams) {
        share_stream(s, f->rows, p);
        grid[0] = (unsigned)s->multiprocessors;
        smem = p->stream_smem;
    }
    return gemmux_cuda_launch(&s->code, s->forms[form], grid, (unsigned)f->threads, (unsigned)smem,
                              call->stream, p, error);
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
        status = gemmux_upcast_scatter(&s->code, s->scatter, call, &p, error);
    gemmux_cuda_leave(&s->code.device);
    return status;
}

/* ---- contract ---- */

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
