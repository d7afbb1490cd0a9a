/* SPDX-License-Identifier: Apache-2.0
 *
 * arm_neon_i8mm: int8 products over packing panel16, SDOT for few rows and SMMLA for many. Operands
 * are those of arm_neon_dot; every core with SMMLA has SDOT, and the descriptor asks for both.
 */
#include "panel_codes.h"
#include "panel_forms.h"

/* clang before 16 has the intrinsics only where all of the file may use them. */
#if defined(__aarch64__) &&                                                                        \
    (!defined(__clang__) || __clang_major__ >= 16 ||                                               \
     (defined(__ARM_FEATURE_MATMUL_INT8) && defined(__ARM_FEATURE_DOTPROD)))

#    include "arm_decode.h"

#    if defined(__clang__)
#        pragma clang attribute push(__attribute__((target("dotprod,i8mm"))), apply_to = function)
#    else
#        pragma GCC push_options
#        pragma GCC target("arch=armv8.2-a+dotprod+i8mm")
#        pragma GCC optimize("no-schedule-insns") /* see arm_panel.h */
#    endif

#    define LEVEL_TILE_ROWS (2 * MMLA_PAIRS)
#    define LEVEL_MMLA      1

GEMMUX_INLINE int32x4_t mmla(int32x4_t sum, uint32x4_t x, uint32x4_t w)
{
    return vmmlaq_s32(sum, vreinterpretq_s8_u32(x), vreinterpretq_s8_u32(w));
}

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

const gemmux_kernel gemmux_kernel_arm_neon_i8mm = {
    .name = "arm_neon_i8mm",
    .summary = "int8 products (SDOT, SMMLA), exact sums within a scale's group",
    .device = GEMMUX_CPU,
    .isa = GEMMUX_ISA_NEON | GEMMUX_ISA_DOTPROD | GEMMUX_ISA_I8MM,
    .ops = GEMMUX_ALL_OPS,
    .epilogue = GEMMUX_ALL_EPILOGUES,
    .forms = forms,
    .form_count = sizeof forms / sizeof forms[0],
    .packing = &gemmux_packing_panel16,
    GEMMUX_PANEL_FUNCTIONS,
};
