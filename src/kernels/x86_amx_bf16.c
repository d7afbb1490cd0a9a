/* SPDX-License-Identifier: Apache-2.0
 *
 * x86_amx_bf16: bf16 products in AMX tiles (TDPBF16PS) over packing panel16. Decoders, x and few
 * rows are those of x86_avx512_bf16, which every core with AMX has: few rows are bound by memory,
 * and a tile of one row costs as much as a whole one. The instruction counts subnormals as zero.
 */
#include "panel_forms.h"
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

#    if defined(__clang__)
#        pragma clang attribute pop
#    else
#        pragma GCC pop_options
#    endif

#    define LEVEL gemmux_tile_level(&(gemmux_panel_level){0}, &gemmux_level_avx512_bf16, multiply)
#    include "panel_entry.h"

#else
#    define GEMMUX_PANEL_FUNCTIONS .run = NULL
#endif

/* Shares as a Xeon gave (bench/results/amx-2026-11-23-xeon.txt); rounded operands are estimates. */
static const gemmux_form forms[] = {
    {GEMMUX_PANEL_BF16_NATIVE, .share_compute = 0.2f, .share_bandwidth = 0.8f},
    {GEMMUX_PANEL_BF16_UPCAST, .share_compute = 0.2f, .share_bandwidth = 0.6f},
    {GEMMUX_PANEL_BF16_ROUNDED_W, .share_compute = 0.2f, .share_bandwidth = 0.6f},
    {GEMMUX_PANEL_BF16_ROUNDED_X, .share_compute = 0.2f, .share_bandwidth = 0.6f},
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
