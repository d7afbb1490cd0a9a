/* SPDX-License-Identifier: Apache-2.0
 *
 * x86_amx_bf16: bf16 products in AMX tiles (TDPBF16PS) over packing panel16. Decoders, x and few
 * rows are those of x86_avx512_bf16, which every core with AMX has: few rows are bound by memory,
 * and a tile of one row costs as much as a whole one. The instruction counts subnormals as zero.
 */
#include "x86.h"

#if defined(__x86_64__)

#    include <immintrin.h>

#    if defined(__clang__)
#        pragma clang attribute push(                                                              \
            __attribute__((target("avx2,fma,avx512f,amx-tile,amx-bf16"))), apply_to = function)
#    else
#        pragma GCC push_options
#        pragma GCC target("avx2,fma,avx512f,amx-tile,amx-bf16")
#    endif

#    define LEVEL_X               GEMMUX_PANEL_BF16
#    define tile_product(c, a, b) _tile_dpbf16ps(c, a, b)

#    include "x86_tiles.h"

static gemmux_panel_level open_level(void)
{
    gemmux_panel_level level = gemmux_level_avx512_bf16;
    level.tile_rows = GEMMUX_TILE_ROWS;
    level.tile_strips = SUMS;
    level.stream_dense = level.stream_rows = GEMMUX_STREAM_ROWS;
    level.multiply = multiply;
    return level;
}

static const char *configure(const gemmux_problem *problem, const gemmux_machine *machine,
                             const gemmux_form *form, gemmux_config *config)
{
    (void)form;
    const gemmux_panel_level level = open_level();
    return gemmux_panel_configure(&level, problem, machine, config);
}

static gemmux_status prepare(const gemmux_problem *problem, const gemmux_machine *machine,
                             const gemmux_packed *w, void **state, gemmux_error *error)
{
    (void)w;
    const gemmux_panel_level level = open_level();
    return gemmux_panel_prepare(&level, problem, machine, state, error);
}

static gemmux_status run(const gemmux_call *call, gemmux_error *error)
{
    const gemmux_panel_level level = open_level();
    return gemmux_panel_run(&level, call, error);
}

#    if defined(__clang__)
#        pragma clang attribute pop
#    else
#        pragma GCC pop_options
#    endif

#else
#    undef GEMMUX_PANEL_FUNCTIONS
#    define GEMMUX_PANEL_FUNCTIONS .run = NULL
#endif

/* Codes that bf16 holds. */
#define EXACT                                                                                      \
    (GEMMUX_BIT(GEMMUX_BF16) | GEMMUX_BIT(GEMMUX_E4M3) | GEMMUX_BIT(GEMMUX_E5M2) |                 \
     GEMMUX_BIT(GEMMUX_MXFP8) | GEMMUX_BIT(GEMMUX_MXFP4) | GEMMUX_BIT(GEMMUX_NVFP4) |              \
     GEMMUX_BIT(GEMMUX_INT8) | GEMMUX_BIT(GEMMUX_INT4))

/* Shares are estimates: it has not run on a chip with AMX (docs/cpu.md). */
static const gemmux_form forms[] = {
    {
        .x = GEMMUX_BIT(GEMMUX_BF16),
        .w = GEMMUX_BIT(GEMMUX_BF16),
        .y = GEMMUX_FLOATS,
        .path = GEMMUX_PATH_NATIVE,
        .math = GEMMUX_MATH_BF16,
        .liberties = GEMMUX_LIBERTY_FLUSH_SUBNORMALS,
        .share_compute = 0.4f,
        .share_bandwidth = 0.7f,
    },
    {
        .x = GEMMUX_BIT(GEMMUX_BF16),
        .w = EXACT,
        .y = GEMMUX_FLOATS,
        .w_group_multiple = GEMMUX_PANEL_GROUP,
        .path = GEMMUX_PATH_UPCAST,
        .math = GEMMUX_MATH_BF16,
        .liberties = GEMMUX_LIBERTY_FLUSH_SUBNORMALS,
        .share_compute = 0.3f,
        .share_bandwidth = 0.6f,
    },
    {
        .x = GEMMUX_BIT(GEMMUX_BF16),
        .w = GEMMUX_BIT(GEMMUX_NF4),
        .y = GEMMUX_FLOATS,
        .w_group_multiple = GEMMUX_PANEL_GROUP,
        .path = GEMMUX_PATH_UPCAST,
        .math = GEMMUX_MATH_BF16,
        .liberties = GEMMUX_LIBERTY_FLUSH_SUBNORMALS | GEMMUX_LIBERTY_ROUNDED_W,
        .share_compute = 0.3f,
        .share_bandwidth = 0.6f,
    },
    {
        .x = GEMMUX_BIT(GEMMUX_F32) | GEMMUX_BIT(GEMMUX_F16),
        .w = EXACT,
        .y = GEMMUX_FLOATS,
        .w_group_multiple = GEMMUX_PANEL_GROUP,
        .path = GEMMUX_PATH_UPCAST,
        .math = GEMMUX_MATH_BF16,
        .liberties = GEMMUX_LIBERTY_FLUSH_SUBNORMALS | GEMMUX_LIBERTY_ROUNDED_X,
        .share_compute = 0.3f,
        .share_bandwidth = 0.6f,
    },
};

const gemmux_kernel gemmux_kernel_x86_amx_bf16 = {
    .name = "x86_amx_bf16",
    .summary = "bf16 products in AMX tiles (TDPBF16PS), few rows by VDPBF16PS",
    .device = GEMMUX_CPU,
    .isa = GEMMUX_ISA_SSE2 | GEMMUX_ISA_AVX2 | GEMMUX_ISA_AVX512 | GEMMUX_ISA_AVX512BF16 |
           GEMMUX_ISA_AMXBF16,
    .ops = GEMMUX_ALL_OPS,
    .epilogue = GEMMUX_ALL_EPILOGUES,
    .forms = forms,
    .form_count = sizeof forms / sizeof forms[0],
    .packing = &gemmux_packing_panel16,
    GEMMUX_PANEL_FUNCTIONS,
};
