// SPDX-License-Identifier: Apache-2.0
#include "device.h"

#include "kernels/cuda_sm80_dequant.cu"

#define KERNEL(name)                                                                               \
    {                                                                                              \
#        name,                                                                                     \
            {sizeof(gemmux_dequant_parameters), 0 },                                               \
             [](void **list) { name(*static_cast<const gemmux_dequant_parameters *>(list[0])); }   \
    }
#define TYPES(kind) KERNEL(dequant_##kind##_bf16), KERNEL(dequant_##kind##_f16),

extern const emulated_kernel emulated_kernels_dequant[];
const emulated_kernel emulated_kernels_dequant[] = {GEMMUX_DEQUANT_KINDS(TYPES){}};
