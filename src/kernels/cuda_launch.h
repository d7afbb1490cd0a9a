/* SPDX-License-Identifier: Apache-2.0
 *
 * What the host side of every CUDA kernel does: load its image, look up its functions, launch on
 * the caller's stream. Separate so that no kernel has its own idea of contexts and errors.
 */
#ifndef GEMMUX_CUDA_LAUNCH_H
#define GEMMUX_CUDA_LAUNCH_H

#include "driver/libcuda.h"
#include "error.h"
#include "kernel.h"

#include <stdio.h>
#include <stdlib.h>

/* .run of a descriptor: NULL where there is no nvcc, which is a reason like any other. */
#define GEMMUX_CUDA_RUN(function) (GEMMUX_CUDA_BUILT ? (function) : NULL)

/* .unproven of kernels whose source runs in tests/emulator, with .proved_cc = 90. */
#define GEMMUX_CUDA_EMULATED                                                                       \
    "proved on sm_90; no device of 8.x, 10.x, 11.x or 12.x has run it, there it is compiled and "  \
    "its source tested on the CPU"

typedef struct gemmux_cuda_code {
    gemmux_cuda_device device;
    gemmux_cu_module module;
    const char *image;
    /* Every kernel of the image waits for earlier launches by itself, so that each may start before
     * these have ended: gemmux_cuda_code_overlaps. */
    bool overlaps;
} gemmux_cuda_code;

static inline void gemmux_cuda_code_close(gemmux_cuda_code *code)
{
    gemmux_error ignored;
    if (code->module && gemmux_cuda_enter(&code->device, &ignored) == GEMMUX_OK) {
        gemmux_cuda_module_give(&code->device, code->module);
        gemmux_cuda_leave(&code->device);
    }
    gemmux_cuda_device_close(&code->device);
}

static inline gemmux_status gemmux_cuda_code_open(gemmux_cuda_code *code,
                                                  const gemmux_machine *machine, const char *image,
                                                  gemmux_error *error)
{
    *code = (gemmux_cuda_code){.image = image};
    gemmux_status status =
        gemmux_cuda_device_open(&code->device, gemmux_cuda_index(machine), error);
    if (!status)
        status = gemmux_cuda_enter(&code->device, error);
    if (!status) {
        status = gemmux_cuda_module_take(&code->device, image, &code->module, error);
        gemmux_cuda_leave(&code->device);
    }
    if (status)
        gemmux_cuda_code_close(code);
    return status;
}

/* Looks up a function and lets it use `smem_bytes` of dynamic shared memory. */
static inline gemmux_status gemmux_cuda_code_function(const gemmux_cuda_code *code,
                                                      const char *name, int smem_bytes,
                                                      gemmux_cu_function *function,
                                                      gemmux_error *error)
{
    const gemmux_cuda *cuda = &code->device.cuda;
    char what[160];
    gemmux_status status = gemmux_cuda_enter(&code->device, error);
    if (status)
        return status;
    int result = cuda->module_function(function, code->module, name);
    if (!result && smem_bytes > 48 * 1024)
        result = cuda->function_attribute(*function, GEMMUX_CU_MAX_DYNAMIC_SMEM, smem_bytes);
    gemmux_cuda_leave(&code->device);
    if (result) {
        snprintf(what, sizeof what, "%s: finding its function %s", code->image, name);
        return gemmux_cuda_fail(cuda, result, what, error);
    }
    return GEMMUX_OK;
}

/* Whether the launch may be asked to overlap earlier ones: `function`, of an image all of whose
 * kernels call wait_for_earlier_launches (cuda_ptx.cuh), was compiled for a target that has it.
 * Drivers before 12.3 cannot capture such launches. */
static inline bool gemmux_cuda_code_overlaps(const gemmux_cuda_code *code,
                                             gemmux_cu_function function)
{
    int version = 0;
    gemmux_error ignored;
    if (code->device.cuda.version < 12030 || gemmux_cuda_enter(&code->device, &ignored))
        return false;
    int result = code->device.cuda.function_property(&version, GEMMUX_CU_PTX_VERSION, function);
    gemmux_cuda_leave(&code->device);
    return !result && version >= 90;
}

/* One launch. The context must be current (gemmux_cuda_enter). `parameters` is the kernel's one
 * struct. */
static inline gemmux_status gemmux_cuda_launch(const gemmux_cuda_code *code,
                                               gemmux_cu_function function, const unsigned grid[3],
                                               unsigned threads, unsigned smem_bytes, void *stream,
                                               void *parameters, gemmux_error *error)
{
    void *list[] = {parameters};
    char what[160];
    const gemmux_cu_launch_attribute overlap = {.id = GEMMUX_CU_PROGRAMMATIC_SERIALIZATION,
                                                .value = 1};
    const gemmux_cu_launch_config config = {
        .grid = {grid[0], grid[1], grid[2]},
        .block = {threads, 1, 1},
        .smem_bytes = smem_bytes,
        .stream = (gemmux_cu_stream)stream,
        .attributes = &overlap,
        .attribute_count = code->overlaps,
    };
    int result = code->device.cuda.launch(&config, function, list, NULL);
    if (!result)
        return GEMMUX_OK;
    snprintf(what, sizeof what, "%s: launching %u x %u x %u blocks", code->image, grid[0], grid[1],
             grid[2]);
    return gemmux_cuda_fail(&code->device.cuda, result, what, error);
}

#endif
