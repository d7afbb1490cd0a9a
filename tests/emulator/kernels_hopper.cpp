// SPDX-License-Identifier: Apache-2.0
#include "device_sm90.h"

#include "kernels/cuda_sm90_upcast.cu"

#define KERNEL(name)                                                                               \
    {                                                                                              \
#        name, {sizeof(gemmux_sm90_parameters), 0 },                                               \
                [](void **list) { name(*static_cast<const gemmux_sm90_parameters *>(list[0])); }   \
    }
#define SUMS(kind, type)   KERNEL(sm90_##kind##_##type##_w128),
#define DIRECT(kind, type) KERNEL(sm90_##kind##_##type##_w256), KERNEL(sm90_##kind##_##type##_t64),

extern const emulated_kernel emulated_kernels_hopper[];
const emulated_kernel emulated_kernels_hopper[] = {GEMMUX_SM90_KINDS(DIRECT, SUMS)
                                                       KERNEL(sm90_route),
                                                   KERNEL(sm90_arrange),
                                                   KERNEL(sm90_scatter),
                                                   {}};
