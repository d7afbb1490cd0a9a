// SPDX-License-Identifier: Apache-2.0
#include "device.h"

#include "kernels/cuda_sm80_stage.cu"

#define KERNEL(name)                                                                               \
    {                                                                                              \
#        name, {sizeof(gemmux_##name), 0 },                                                        \
                [](void **list) { name(*static_cast<const gemmux_##name *>(list[0])); }            \
    }

extern const emulated_kernel emulated_kernels_stage[];
const emulated_kernel emulated_kernels_stage[] = {
    KERNEL(stage_x), KERNEL(stage_scales), KERNEL(stage_finish), {}};
