// SPDX-License-Identifier: Apache-2.0
#include "device.h"

#include "tests/gpu/planted.cu"

#define KERNEL(name)                                                                               \
    {                                                                                              \
#        name, {sizeof(planted_parameters), 0 },                                                   \
                [](void **list) { name(*static_cast<const planted_parameters *>(list[0])); }       \
    }

extern const emulated_kernel emulated_kernels_planted[];
const emulated_kernel emulated_kernels_planted[] = {
    {"planted_illegal", {sizeof(planted_parameters), 0}, [](void **) { emulated_die("no code"); }},
    KERNEL(planted_nothing),
    KERNEL(planted_trap),
    KERNEL(planted_hang),
    KERNEL(planted_write),
    {}};
