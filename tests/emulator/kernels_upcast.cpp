// SPDX-License-Identifier: Apache-2.0
#include "device.h"

#include "kernels/cuda_sm80_upcast.cu"

#define KERNEL(name)                                                                               \
    {                                                                                              \
#        name, {sizeof(gemmux_upcast_parameters), 0 },                                             \
                [](void **list) { name(*static_cast<const gemmux_upcast_parameters *>(list[0])); } \
    }
#define FORMS(kind, type)                                                                          \
    KERNEL(upcast_##kind##_##type##_s1), KERNEL(upcast_##kind##_##type##_s2),                      \
        KERNEL(upcast_##kind##_##type##_l64), KERNEL(upcast_##kind##_##type##_l128),
#define TYPES(kind) FORMS(kind, bf16) FORMS(kind, f16)

extern const emulated_kernel emulated_kernels_upcast[];
const emulated_kernel emulated_kernels_upcast[] = {GEMMUX_UPCAST_KINDS(TYPES) KERNEL(upcast_route),
                                                   KERNEL(upcast_scatter),
                                                   KERNEL(upcast_gather),
                                                   {}};
