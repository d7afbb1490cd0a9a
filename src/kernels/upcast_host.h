/* SPDX-License-Identifier: Apache-2.0
 *
 * What the host sides of the kernels that read packing sm80_fragments have in common: which kind a
 * format is, what of a launch does not depend on the kernel, and the rows that cannot be folded.
 * Not in cuda_sm80_upcast.h, which device code sees too.
 */
#ifndef GEMMUX_UPCAST_HOST_H
#define GEMMUX_UPCAST_HOST_H

#include "cuda_sm80_upcast.h"
#include "gpu_functions.h"
#include "packings/sm80_fragments.h"

/* Where things stand in a workspace, in bytes; its first bytes are counters. */
typedef struct gemmux_upcast_places {
    int64_t partials_at, partials_bytes;
    int64_t count_at, sorted_at, tiles_at; /* routing lists */
    int64_t rows_at;                       /* unweighted rows that scatter adds up */
} gemmux_upcast_places;

/* Tiles of `rows` product rows: each expert's last one may be short, and rows of experts that do
 * not exist have tiles of their own. */
static inline int64_t gemmux_upcast_most_tiles(const gemmux_problem *p, int rows)
{
    int64_t product_rows = gemmux_problem_rows(p);
    int64_t experts = p->experts + 1;
    return product_rows / rows + (experts < product_rows ? experts : product_rows);
}

/* What no kernel of these takes; NULL: fine. */
static inline const char *gemmux_upcast_refusal(const gemmux_problem *p)
{
    if (p->align && p->align < 16)
        return "x and its rows must be aligned to 16 bytes";
    if (p->n > 1 << 30 || p->k > 1 << 30 || gemmux_problem_rows(p) > 1 << 30)
        return "sizes beyond 2^30 are not indexed";
    if (p->op == GEMMUX_MOE && p->experts > GEMMUX_UPCAST_MAX_EXPERTS)
        return "more than 1024 experts do not fit its routing kernel";
    return NULL;
}

/* How many blocks share the K of one tile: `wanted`, as far as each has at least `least` of the
 * `units` of K, there are not too many sums to add up, and room for them. */
static inline int64_t gemmux_upcast_splits(int64_t wanted, int64_t units, int64_t least,
                                           int64_t room, int64_t bytes_a_split)
{
    int64_t splits = wanted < units / least ? wanted : units / least;
    splits = splits < 8 ? splits : 8;
    return splits < room / bytes_a_split ? splits : room / bytes_a_split;
}

/* How many groups of at most `most` product rows an expert's rows make, where experts have `each`
 * on average. */
static inline double gemmux_upcast_groups(double each, int most)
{
    double groups = each / most + 0.5;
    return groups > 1 ? groups : 1;
}

/* Adds up each token's rows: scatter_rows (cuda_moe.cuh). */
static inline gemmux_status gemmux_upcast_scatter(const gemmux_cuda_code *code,
                                                  gemmux_cu_function scatter,
                                                  const gemmux_call *call, void *parameters,
                                                  gemmux_error *error)
{
    const gemmux_problem *p = call->problem;
    int64_t columns = p->epilogue & GEMMUX_EPILOGUE_SWIGLU ? p->n / 2 : p->n;
    unsigned grid[3] = {(unsigned)gemmux_divide_up(columns, 256),
                        (unsigned)(p->m < 65535 ? p->m : 65535), 1};
    return gemmux_cuda_launch(code, scatter, grid, 256, 0, call->stream, parameters, error);
}

static inline bool gemmux_upcast_along_k(gemmux_format f)
{
    return f.scaling == GEMMUX_SCALING_GROUP || f.scaling == GEMMUX_SCALING_BLOCK;
}

/* log2 of columns a scale; 31: all of K. */
static inline int32_t gemmux_upcast_group_shift(gemmux_format f)
{
    int32_t log2 = 0;
    if (!gemmux_upcast_along_k(f))
        return 31;
    while (1 << (log2 + 1) <= f.group)
        log2++;
    return log2;
}

/* rounded: NF4's codebook may be rounded to x's type. */
static inline int gemmux_upcast_kind_of(gemmux_format f, bool rounded)
{
    switch (f.id) {
    case GEMMUX_MXFP4:
        return GEMMUX_UPCAST_mxfp4;
    case GEMMUX_NVFP4:
        return GEMMUX_UPCAST_nvfp4;
    case GEMMUX_MXFP8:
        return f.element == GEMMUX_CODE_E5M2 ? GEMMUX_UPCAST_mxfp8e5 : GEMMUX_UPCAST_mxfp8;
    case GEMMUX_E4M3:
        return gemmux_upcast_along_k(f) ? GEMMUX_UPCAST_e4m3 : GEMMUX_UPCAST_e4m3r;
    case GEMMUX_E5M2:
        return GEMMUX_UPCAST_e5m2;
    case GEMMUX_INT8:
        return gemmux_upcast_along_k(f) ? GEMMUX_UPCAST_int8 : GEMMUX_UPCAST_int8r;
    case GEMMUX_INT4:
        return f.zero == GEMMUX_ZERO_MIN ? GEMMUX_UPCAST_int4m : GEMMUX_UPCAST_int4;
    case GEMMUX_NF4:
        return rounded ? GEMMUX_UPCAST_nf4 : GEMMUX_UPCAST_nf4x;
    default:
        return GEMMUX_UPCAST_raw;
    }
}

static inline const char *gemmux_upcast_kind_name(int kind)
{
    static const char *const names[GEMMUX_UPCAST_KIND_COUNT] = {
#define GEMMUX_UPCAST_NAME(name) #name,
        GEMMUX_UPCAST_KINDS(GEMMUX_UPCAST_NAME)
#undef GEMMUX_UPCAST_NAME
    };
    return names[kind];
}

/* Whether a kind's ue8m0 scales are folded into factors, which bf16 alone holds. */
static inline bool gemmux_upcast_folds(int kind, bool half)
{
    return !half && (kind == GEMMUX_UPCAST_mxfp4 || kind == GEMMUX_UPCAST_mxfp8 ||
                     kind == GEMMUX_UPCAST_mxfp8e5);
}

/* Refuses rows with any of the flags `refused`, and gathers the flags of all. The context must be
 * current. `kernel` names it in errors. */
static inline gemmux_status gemmux_upcast_check_flags(const char *kernel, const gemmux_cuda *cuda,
                                                      const gemmux_sm80_layout *layout,
                                                      const gemmux_packed *w, uint32_t refused,
                                                      uint32_t *all, gemmux_error *error)
{
    int64_t bytes = layout->row_blocks * 4;
    uint32_t *flags = calloc((size_t)bytes + 4, 1);
    gemmux_status status = GEMMUX_OK;
    char what[80];
    *all = 0;
    if (!flags)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "%s: out of memory", kernel);
    snprintf(what, sizeof what, "%s: reading its flags", kernel);
    for (int64_t matrix = 0; matrix < w->plain.count && !status; matrix++) {
        gemmux_cu_pointer from = (gemmux_cu_pointer)(uintptr_t)w->data +
                                 (uint64_t)(matrix * layout->matrix_bytes + layout->flags_at);
        int result = bytes ? cuda->copy_to_host(flags, from, (size_t)bytes) : 0;
        if (result)
            status = gemmux_cuda_fail(cuda, result, what, error);
        for (int64_t i = 0; i < layout->row_blocks && !status; i++) {
            *all |= flags[i];
            if (flags[i] & refused)
                status = gemmux_fail(error, GEMMUX_ERROR_DEVICE,
                                     "%s: scales of one row of w, among rows %lld to %lld of "
                                     "matrix %lld, %s",
                                     kernel, (long long)i * 16, (long long)i * 16 + 15,
                                     (long long)matrix,
                                     flags[i] & refused & GEMMUX_SM80_SPAN_TOO_WIDE
                                         ? "span more powers of two than bf16 holds"
                                         : "allow weights beyond 65504, the largest number of f16");
        }
    }
    free(flags);
    return status;
}

/* ue8m0 scales are folded into bf16 factors: refuses rows that span more than bf16 can hold, and
 * tells whether any row is shifted. The context must be current. */
static inline gemmux_status gemmux_upcast_check_span(const char *kernel, const gemmux_cuda *cuda,
                                                     const gemmux_sm80_layout *layout,
                                                     const gemmux_packed *w, bool *shifted,
                                                     gemmux_error *error)
{
    uint32_t all;
    gemmux_status status =
        gemmux_upcast_check_flags(kernel, cuda, layout, w, GEMMUX_SM80_SPAN_TOO_WIDE, &all, error);
    *shifted = (all & GEMMUX_SM80_SHIFTED) != 0;
    return status;
}

/* The same for a state whose context is not current; nothing for kinds that fold none. */
static inline gemmux_status gemmux_upcast_look(const char *kernel, const gemmux_cuda_code *code,
                                               int kind, bool half,
                                               const gemmux_sm80_layout *layout,
                                               const gemmux_packed *w, bool *shifted,
                                               gemmux_error *error)
{
    *shifted = false;
    if (!gemmux_upcast_folds(kind, half))
        return GEMMUX_OK;
    gemmux_status status = gemmux_cuda_enter(&code->device, error);
    if (status)
        return status;
    status = gemmux_upcast_check_span(kernel, &code->device.cuda, layout, w, shifted, error);
    gemmux_cuda_leave(&code->device);
    return status;
}

/* Parameters of a launch that does not share K. */
static inline gemmux_upcast_parameters gemmux_upcast_describe(const gemmux_call *call,
                                                              const gemmux_sm80_layout *layout,
                                                              const gemmux_upcast_places *at)
{
    const gemmux_problem *p = call->problem;
    char *base = call->workspace;
    int64_t y_each = call->y_format.id == GEMMUX_F32 ? 8 : 4;
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
        .group_shift = gemmux_upcast_group_shift(p->w),
        .splits = 1,
        .units_a_split = (int32_t)layout->units,
        .experts = p->op == GEMMUX_MOE ? p->experts : 0,
        .top_k = p->top_k,
        .scale_code = p->w.scale,
        .zero = p->w.zero,
        .scale_block = p->w.scaling == GEMMUX_SCALING_BLOCK,
        .fine = (uint8_t)layout->fine,
        .y_format = call->y_format.id,
        .gather = (p->epilogue & GEMMUX_EPILOGUE_GATHER) != 0,
        .swiglu = (p->epilogue & GEMMUX_EPILOGUE_SWIGLU) != 0,
        .y_pairs = ((uintptr_t)call->y | (uintptr_t)call->y_row_bytes) % (uintptr_t)y_each == 0,
        .alpha = p->swiglu_alpha > 0 ? p->swiglu_alpha : 1.702f,
        .limit = p->swiglu_limit > 0 ? p->swiglu_limit : 7.0f,
    };
}

#endif
