/* SPDX-License-Identifier: Apache-2.0
 *
 * The device's side of a plan: the packed weights, bias and k_order uploaded once for all ranges
 * of M, and one workspace. Separate from the kernels because every kernel of a plan shares it, and
 * from prepare because the CPU has none of it.
 */
#ifndef GEMMUX_PREPARE_CUDA_H
#define GEMMUX_PREPARE_CUDA_H

#include "driver/libcuda.h"
#include "kernel.h"

typedef struct gemmux_resident {
    gemmux_cuda_device device;
    gemmux_packed packed; /* as on the host, but its pointers are device addresses */
    float *bias;          /* device address, or NULL */
    void *workspace;      /* device address, zeroed once; kernels leave its counters at zero */
    int64_t bytes;        /* everything allocated on the device */
    gemmux_cu_pointer blocks[8];
    int block_count;
} gemmux_resident;

/* Allocates on `machine` and copies. bias may be NULL; host->plain.k_order is uploaded as well. */
gemmux_status gemmux_resident_upload(const gemmux_machine *machine, const gemmux_packed *host,
                                     const float *bias, gemmux_resident **resident,
                                     gemmux_error *error);
gemmux_status gemmux_resident_workspace(gemmux_resident *resident, int64_t bytes,
                                        gemmux_error *error);
void gemmux_resident_free(gemmux_resident *resident);

#endif
