// SPDX-License-Identifier: Apache-2.0
#include "device.h"

#include "kernels/cuda_ref_any.cu"

#define KERNEL(name)                                                                               \
    {                                                                                              \
#        name, {sizeof(gemmux_ref_parameters), 0 },                                                \
                [](void **list) { name(*static_cast<const gemmux_ref_parameters *>(list[0])); }    \
    }

extern const emulated_kernel emulated_kernels_ref[];
const emulated_kernel emulated_kernels_ref[] = {KERNEL(ref_dense), KERNEL(ref_moe), {}};
