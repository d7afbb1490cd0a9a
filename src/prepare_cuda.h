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

/* Packs w onto `machine`: the device holds one copy, the host a tile of it at a time. bias and
 * k_order may be NULL; threads (may be NULL) pack. GEMMUX_ERROR_MEMORY where the device has no
 * room: another kernel, whose packing or workspace is smaller, may still fit. */
gemmux_status gemmux_resident_make(const gemmux_machine *machine, const gemmux_packing *packing,
                                   const gemmux_tensor *w, const int32_t *k_order,
                                   const float *bias, gemmux_threads *threads,
                                   gemmux_resident **resident, gemmux_error *error);
gemmux_status gemmux_resident_workspace(gemmux_resident *resident, int64_t bytes,
                                        gemmux_error *error);
void gemmux_resident_free(gemmux_resident *resident);

/* A kernel's fault comes out later, at whatever asks the driver next, in any plan of the process:
 * so the process remembers, beside the driver's broken context, which kernel it ran last on a
 * device. */
void gemmux_cuda_note_run(const gemmux_cuda_device *device, const gemmux_kernel *kernel);
/* gemmux_cuda_fail; of an error that is sticky it says which kernel that was. */
gemmux_status gemmux_cuda_fail_on(const gemmux_cuda_device *device, int result, const char *what,
                                  gemmux_error *error);
/* Adds the same to `error`, the words of a kernel whose run just failed on a broken context. */
void gemmux_cuda_blame(const gemmux_cuda_device *device, gemmux_error *error);

#endif
