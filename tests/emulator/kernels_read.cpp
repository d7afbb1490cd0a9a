// SPDX-License-Identifier: Apache-2.0
#include "device.h"

#include "bench/gpu_read.cu"

extern const emulated_kernel emulated_kernels_read[];
const emulated_kernel emulated_kernels_read[] = {
    {"gpu_read",
     {8, 8, 8, 0},
     [](void **list) {
         gpu_read(*static_cast<const uint4 **>(list[0]),
                  *static_cast<unsigned long long *>(list[1]), *static_cast<unsigned **>(list[2]));
     }},
    {}};
