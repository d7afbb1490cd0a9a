/* SPDX-License-Identifier: Apache-2.0
 *
 * What the kernels that multiply through cuBLASLt share: its types for ours, its workspace, and a
 * device with the library open on it. Separate so that no kernel has its own idea of these.
 */
#ifndef GEMMUX_CUBLASLT_PLAN_H
#define GEMMUX_CUBLASLT_PLAN_H

#include "driver/blaslt.h"
#include "driver/libcuda.h"
#include "error.h"
#include "float_bits.h"
#include "kernel.h"

#include <stdlib.h>

/* NVIDIA's recommendation for cuBLAS: 32 MiB on 9.0 and newer, 4 MiB before. */
static inline int64_t gemmux_lt_workspace(const gemmux_machine *machine)
{
    return INT64_C(1) << (machine->cc >= 90 ? 25 : 22);
}

static inline gemmux_lt_type gemmux_lt_type_of(gemmux_format format)
{
    switch (format.element) {
    case GEMMUX_CODE_F16:
        return GEMMUX_LT_F16;
    case GEMMUX_CODE_BF16:
        return GEMMUX_LT_BF16;
    case GEMMUX_CODE_E4M3:
        return GEMMUX_LT_E4M3;
    case GEMMUX_CODE_E5M2:
        return GEMMUX_LT_E5M2;
    case GEMMUX_CODE_E2M1:
        return GEMMUX_LT_E2M1;
    case GEMMUX_CODE_INT8:
        return GEMMUX_LT_INT8;
    default:
        return GEMMUX_LT_F32;
    }
}

static inline gemmux_lt_compute gemmux_lt_compute_of(const gemmux_problem *problem)
{
    if (problem->x.id == GEMMUX_INT8)
        return GEMMUX_LT_COMPUTE_INT32;
    return problem->x.id == GEMMUX_F32 && problem->liberties & GEMMUX_LIBERTY_TF32
               ? GEMMUX_LT_COMPUTE_TF32
               : GEMMUX_LT_COMPUTE_F32;
}

/* What no cuBLASLt takes; NULL: fine. */
static inline const char *gemmux_lt_refusal(const gemmux_problem *problem)
{
    if (problem->k == 0)
        return "cuBLASLt takes no K of 0";
    if (problem->m > INT32_MAX || problem->n > INT32_MAX || problem->k > INT32_MAX)
        return "cuBLASLt takes sizes of 31 bits";
    bool in_bytes = problem->x.id == GEMMUX_MXFP8 || problem->x.id == GEMMUX_NVFP4;
    if (problem->x.scaling != GEMMUX_SCALING_NONE && !in_bytes &&
        problem->x.scale != GEMMUX_CODE_F32)
        return "it reads scales of x in f32 alone";
    return NULL;
}

/* Weights whose columns stand in another order than x's. */
static inline gemmux_status gemmux_lt_refuse_order(const gemmux_packed *w, gemmux_error *error)
{
    return w->plain.k_order
               ? gemmux_fail(
                     error, GEMMUX_ERROR_LIBRARY,
                     "cuBLASLt: w's columns are reordered (k_order), which it cannot follow")
               : GEMMUX_OK;
}

/* A device with the library open on it; the start of every state. */
typedef struct gemmux_lt_place {
    gemmux_cuda_device device;
    gemmux_lt lt;
} gemmux_lt_place;

/* Leaves the device's context current on success; gemmux_cuda_leave ends that. */
static inline gemmux_status gemmux_lt_place_open(gemmux_lt_place *place,
                                                 const gemmux_machine *machine, gemmux_error *error)
{
    gemmux_status status =
        gemmux_cuda_device_open(&place->device, gemmux_cuda_index(machine), error);
    if (!status)
        status = gemmux_cuda_enter(&place->device, error);
    if (status)
        return status;
    status = gemmux_lt_open(&place->lt, machine->library[GEMMUX_LIB_CUBLASLT].path, error);
    if (status)
        gemmux_cuda_leave(&place->device);
    return status;
}

/* Frees what was made with them, then the handle and the device. */
static inline void gemmux_lt_place_close(gemmux_lt_place *place, gemmux_lt_matmul *matmuls,
                                         int count, gemmux_cu_pointer bias)
{
    gemmux_error ignored;
    if (place->lt.library && gemmux_cuda_enter(&place->device, &ignored) == GEMMUX_OK) {
        for (int i = 0; i < count; i++)
            gemmux_lt_matmul_free(&place->lt, &matmuls[i]);
        if (bias)
            place->device.cuda.memory_free(bias);
        gemmux_lt_close(&place->lt);
        gemmux_cuda_leave(&place->device);
    }
    gemmux_cuda_device_close(&place->device);
}

/* cuBLASLt reads the scales of a tensor or of rows at multiples of 16 bytes alone: elsewhere it
 * multiplies nothing and gives status 15 (asked on an H200, 13.1). Those of x stand where the
 * caller likes, so there is room in the workspace for them. Those of w have an allocation of their
 * own in every plan (gemmux_resident_make). */
static inline int64_t gemmux_lt_scale_bytes(gemmux_format format, int64_t rows)
{
    return format.scaling == GEMMUX_SCALING_ROW      ? rows * 4
           : format.scaling == GEMMUX_SCALING_TENSOR ? 4
                                                     : 0;
}

static inline int64_t gemmux_lt_scale_room(const gemmux_problem *p)
{
    return gemmux_round_up(gemmux_lt_scale_bytes(p->x, p->m), 256);
}

/* So many bytes of x's scales (0: leave them) go to `room`, of gemmux_lt_scale_room bytes, where
 * they stand elsewhere. The context is current. */
static inline gemmux_status gemmux_lt_align_scales(const gemmux_lt_place *place,
                                                   gemmux_lt_operands *o, int64_t bytes, char *room,
                                                   gemmux_error *error)
{
    if (!bytes || (uintptr_t)o->x_scales % 16 == 0)
        return GEMMUX_OK;
    int result = place->device.cuda.copy_on_device((gemmux_cu_pointer)(uintptr_t)room,
                                                   (gemmux_cu_pointer)(uintptr_t)o->x_scales,
                                                   (size_t)bytes, o->stream);
    o->x_scales = room;
    return result ? gemmux_cuda_fail(&place->device.cuda, result, "cuBLASLt: copying scales", error)
                  : GEMMUX_OK;
}

/* The bias in the type that cuBLASLt reads beside sums of x's type for y, on the device. Values
 * that it would round are refused: another kernel adds them in f32. */
static inline gemmux_status gemmux_lt_upload_bias(const gemmux_lt_place *place, gemmux_lt_type type,
                                                  const float *bias, int64_t n,
                                                  gemmux_cu_pointer *to, gemmux_error *error)
{
    const gemmux_cuda *cuda = &place->device.cuda;
    size_t each = type == GEMMUX_LT_F32 ? 4 : 2;
    uint16_t *halves = malloc((size_t)n * 4 + 4);
    gemmux_status status = GEMMUX_OK;
    if (!halves)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "cuBLASLt: out of memory for the bias");
    for (int64_t i = 0; i < n && each == 2 && !status; i++) {
        bool half = type == GEMMUX_LT_F16;
        halves[i] = half ? gemmux_f16_from_f32(bias[i]) : gemmux_bf16_from_f32(bias[i]);
        float back = half ? gemmux_f32_from_f16(halves[i]) : gemmux_f32_from_bf16(halves[i]);
        if (back != bias[i] && bias[i] == bias[i])
            status = gemmux_fail(error, GEMMUX_ERROR_LIBRARY,
                                 "cuBLASLt adds this bias in %s, and bias[%lld] = %.9g is none of "
                                 "its numbers",
                                 half ? "f16" : "bf16", (long long)i, (double)bias[i]);
    }
    int result = status ? 0 : cuda->memory_allocate(to, (size_t)n * each);
    if (!status && !result)
        result =
            cuda->copy_to_device(*to, each == 2 ? (const void *)halves : bias, (size_t)n * each);
    free(halves);
    return result ? gemmux_cuda_fail(cuda, result, "cuBLASLt: placing the bias", error) : status;
}

#endif
