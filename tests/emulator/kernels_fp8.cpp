// SPDX-License-Identifier: Apache-2.0
#include "device_sm90.h"

#include "kernels/cuda_sm90_fp8.cu"

#define KERNEL(name)                                                                               \
    {                                                                                              \
#        name, {sizeof(gemmux_fp8_parameters), 0 },                                                \
                [](void **list) { name(*static_cast<const gemmux_fp8_parameters *>(list[0])); }    \
    }
#define ROUTING(name)                                                                              \
    {                                                                                              \
#        name, {sizeof(gemmux_fp8_routing), 0 },                                                   \
                [](void **list) { name(*static_cast<const gemmux_fp8_routing *>(list[0])); }       \
    }
#define BOTH(shape, rows, box) KERNEL(fp8_whole_##shape), KERNEL(fp8_along_##shape),

extern const emulated_kernel emulated_kernels_fp8[];
const emulated_kernel emulated_kernels_fp8[] = {
    GEMMUX_FP8_SHAPES(BOTH) KERNEL(fp8_arrange), ROUTING(fp8_route), ROUTING(fp8_scatter), {}};
