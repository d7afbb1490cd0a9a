/* SPDX-License-Identifier: Apache-2.0
 *
 * x86_amx_int8: int8 products in AMX tiles (TDPBSUD: x signed, w unsigned) over packing panel16.
 * Decoders, x and few rows are those of x86_avx512_vnni, which every core with AMX has. Sums over a
 * scale's group are exact integers.
 */
#include "x86.h"

#if defined(__x86_64__)

#    include <immintrin.h>

#    if defined(__clang__)
#        pragma clang attribute push(                                                              \
            __attribute__((target("avx2,fma,avx512f,amx-tile,amx-int8"))), apply_to = function)
#    else
#        pragma GCC push_options
#        pragma GCC target("avx2,fma,avx512f,amx-tile,amx-int8")
#    endif

#    define LEVEL_X               GEMMUX_PANEL_INT8
#    define tile_product(c, a, b) _tile_dpbsud(c, a, b)

#    include "x86_tiles.h"

static gemmux_panel_level open_level(void)
{
    gemmux_panel_level level = gemmux_level_avx512_vnni;
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

/* Shares are estimates: it has not run on a chip with AMX (docs/cpu.md). */
/* What x of another format costs: 255 steps a row. */
#define QUANTISED (GEMMUX_LIBERTY_QUANTISED_X | GEMMUX_LIBERTY_FLUSH_SUBNORMALS)

static const gemmux_form forms[] = {
    {
        .x = GEMMUX_BIT(GEMMUX_INT8),
        .w = GEMMUX_BIT(GEMMUX_INT8),
        .y = GEMMUX_FLOATS,
        .x_scaling = GEMMUX_BIT(GEMMUX_SCALING_TENSOR) | GEMMUX_BIT(GEMMUX_SCALING_ROW),
        .w_group_multiple = GEMMUX_PANEL_GROUP,
        .path = GEMMUX_PATH_NATIVE,
        .math = GEMMUX_MATH_INT8,
        .liberties = GEMMUX_LIBERTY_FLUSH_SUBNORMALS,
        .share_compute = 0.3f,
        .share_bandwidth = 0.7f,
    },
    {
        .x = GEMMUX_BIT(GEMMUX_INT8),
        .w = GEMMUX_BIT(GEMMUX_INT4) | GEMMUX_BIT(GEMMUX_MXFP4) | GEMMUX_BIT(GEMMUX_NVFP4),
        .y = GEMMUX_FLOATS,
        .x_scaling = GEMMUX_BIT(GEMMUX_SCALING_TENSOR) | GEMMUX_BIT(GEMMUX_SCALING_ROW),
        .w_group_multiple = GEMMUX_PANEL_GROUP,
        .path = GEMMUX_PATH_UPCAST,
        .math = GEMMUX_MATH_INT8,
        .liberties = GEMMUX_LIBERTY_FLUSH_SUBNORMALS,
        .share_compute = 0.2f,
        .share_bandwidth = 0.6f,
    },
    {
        .x = GEMMUX_FLOATS,
        .w = GEMMUX_BIT(GEMMUX_INT8),
        .y = GEMMUX_FLOATS,
        .w_group_multiple = GEMMUX_PANEL_GROUP,
        .path = GEMMUX_PATH_NATIVE,
        .math = GEMMUX_MATH_INT8,
        .liberties = QUANTISED,
        .share_compute = 0.3f,
        .share_bandwidth = 0.7f,
    },
    {
        .x = GEMMUX_FLOATS,
        .w = GEMMUX_BIT(GEMMUX_INT4) | GEMMUX_BIT(GEMMUX_MXFP4) | GEMMUX_BIT(GEMMUX_NVFP4),
        .y = GEMMUX_FLOATS,
        .w_group_multiple = GEMMUX_PANEL_GROUP,
        .path = GEMMUX_PATH_UPCAST,
        .math = GEMMUX_MATH_INT8,
        .liberties = QUANTISED,
        .share_compute = 0.2f,
        .share_bandwidth = 0.6f,
    },
};

const gemmux_kernel gemmux_kernel_x86_amx_int8 = {
    .name = "x86_amx_int8",
    .summary = "int8 products in AMX tiles (TDPBSUD), few rows by VPDPBUSD",
    .device = GEMMUX_CPU,
    .isa = GEMMUX_ISA_SSE2 | GEMMUX_ISA_AVX2 | GEMMUX_ISA_AVX512 | GEMMUX_ISA_AVX512VNNI |
           GEMMUX_ISA_AMXINT8,
    .ops = GEMMUX_ALL_OPS,
    .epilogue = GEMMUX_ALL_EPILOGUES,
    .forms = forms,
    .form_count = sizeof forms / sizeof forms[0],
    .packing = &gemmux_packing_panel16,
    GEMMUX_PANEL_FUNCTIONS,
};
