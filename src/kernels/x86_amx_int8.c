/* SPDX-License-Identifier: Apache-2.0
 *
 * x86_amx_int8: int8 products in AMX tiles (TDPBSUD: x signed, w unsigned) over packing panel16.
 * Decoders, x and few rows are those of x86_avx512_vnni, which every core with AMX has. Sums over a
 * scale's group are exact integers.
 */
#include "panel_forms.h"
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

#    if defined(__clang__)
#        pragma clang attribute pop
#    else
#        pragma GCC pop_options
#    endif

#    define LEVEL gemmux_tile_level(&(gemmux_panel_level){0}, &gemmux_level_avx512_vnni, multiply)
#    include "panel_entry.h"

#else
#    define GEMMUX_PANEL_FUNCTIONS .run = NULL
#endif

/* Shares as a Xeon gave for int8 x int8 (bench/results/amx-2026-11-23-xeon.txt); the others are
 * estimates. */
static const gemmux_form forms[] = {
    {GEMMUX_PANEL_INT8_NATIVE, .share_compute = 0.18f, .share_bandwidth = 0.7f},
    {GEMMUX_PANEL_INT8_UPCAST, .share_compute = 0.15f, .share_bandwidth = 0.6f},
    {GEMMUX_PANEL_QUANTISED_NATIVE, .share_compute = 0.18f, .share_bandwidth = 0.7f},
    {GEMMUX_PANEL_QUANTISED_UPCAST, .share_compute = 0.15f, .share_bandwidth = 0.6f},
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
