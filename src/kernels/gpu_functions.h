/* SPDX-License-Identifier: Apache-2.0
 *
 * Several functions of a kernel's device code at once. Not in cuda_launch.h, which all device code
 * is compiled anew for.
 */
#ifndef GEMMUX_GPU_FUNCTIONS_H
#define GEMMUX_GPU_FUNCTIONS_H

#include "cuda_launch.h"

typedef struct gemmux_cuda_wanted {
    const char *name;
    gemmux_cu_function *function;
} gemmux_cuda_wanted;

/* None of them needs dynamic shared memory. */
static inline gemmux_status gemmux_cuda_code_functions(const gemmux_cuda_code *code,
                                                       const gemmux_cuda_wanted *wanted, int count,
                                                       gemmux_error *error)
{
    gemmux_status status = GEMMUX_OK;
    for (int i = 0; i < count && !status; i++)
        status = gemmux_cuda_code_function(code, wanted[i].name, 0, wanted[i].function, error);
    return status;
}

#endif
