// SPDX-License-Identifier: Apache-2.0
#include "fibers.h"

extern const emulated_kernel emulated_kernels_planted[], emulated_kernels_read[],
    emulated_kernels_ref[], emulated_kernels_upcast[], emulated_kernels_stage[],
    emulated_kernels_dequant[], emulated_kernels_hopper[], emulated_kernels_fp8[];
extern const emulated_kernel *const emulated_kernels[];
const emulated_kernel *const emulated_kernels[] = {
    emulated_kernels_planted, emulated_kernels_read,  emulated_kernels_ref,
    emulated_kernels_upcast,  emulated_kernels_stage, emulated_kernels_dequant,
    emulated_kernels_hopper,  emulated_kernels_fp8,   nullptr};
