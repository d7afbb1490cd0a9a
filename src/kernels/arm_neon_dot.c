/* SPDX-License-Identifier: Apache-2.0
 *
 * arm_neon_dot: int8 products with SDOT over packing panel16. Sums over a scale's group are exact
 * integers. Codes are signed: int8 and int4 as they are, e2m1 doubled; the zero points of int4 are
 * taken back through the sum of x.
 */
#include "panel_codes.h"
#include "panel_forms.h"

/* clang before 16 has the intrinsics only where all of the file may use them. */
#if defined(__aarch64__) &&                                                                        \
    (!defined(__clang__) || __clang_major__ >= 16 || defined(__ARM_FEATURE_DOTPROD))

#    include "arm_decode.h"

#    if defined(__clang__)
#        pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#    else
#        pragma GCC push_options
#        pragma GCC target("arch=armv8.2-a+dotprod")
#        pragma GCC optimize("no-schedule-insns") /* see arm_panel.h */
#    endif

#    define LEVEL_TILE_ROWS LANE_TILE_ROWS

#    include "arm_int8.h"

#    if defined(__clang__)
#        pragma clang attribute pop
#    else
#        pragma GCC pop_options
#    endif

#    define LEVEL (&level)
#    include "panel_entry.h"

#else
#    define GEMMUX_PANEL_FUNCTIONS .run = NULL
#endif

static const gemmux_form forms[] = {
    {GEMMUX_PANEL_INT8_NATIVE, .share_compute = 0.5f, .share_bandwidth = 0.7f},
    {GEMMUX_PANEL_INT8_UPCAST, .share_compute = 0.45f, .share_bandwidth = 0.6f},
    {GEMMUX_PANEL_QUANTISED_NATIVE, .share_compute = 0.5f, .share_bandwidth = 0.7f},
    {GEMMUX_PANEL_QUANTISED_UPCAST, .share_compute = 0.45f, .share_bandwidth = 0.6f},
};

const gemmux_kernel gemmux_kernel_arm_neon_dot = {
    .name = "arm_neon_dot",
    .summary = "int8 dot products (SDOT), exact sums within a scale's group",
    .device = GEMMUX_CPU,
    .isa = GEMMUX_ISA_NEON | GEMMUX_ISA_DOTPROD,
    .times_f32 = 4,
    .ops = GEMMUX_ALL_OPS,
    .epilogue = GEMMUX_ALL_EPILOGUES,
    .forms = forms,
    .form_count = sizeof forms / sizeof forms[0],
    .packing = &gemmux_packing_panel16,
    GEMMUX_PANEL_FUNCTIONS,
};
