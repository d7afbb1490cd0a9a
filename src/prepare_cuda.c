/* SPDX-License-Identifier: Apache-2.0
 *
 * Packs what a plan multiplies with onto its device.
 */
#include "prepare_cuda.h"

#include "error.h"
#include "format.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------ faults -- */

enum { DEVICES = 32 };
static _Atomic(const char *) ran_last[DEVICES]; /* by ordinal */

void gemmux_cuda_note_run(const gemmux_cuda_device *device, const gemmux_kernel *kernel)
{
    if (device->ordinal < DEVICES)
        atomic_store_explicit(&ran_last[device->ordinal], kernel->name, memory_order_relaxed);
}

static void add_culprit(const gemmux_cuda_device *device, gemmux_error *error)
{
    const char *name = device->ordinal < DEVICES
                           ? atomic_load_explicit(&ran_last[device->ordinal], memory_order_relaxed)
                           : NULL;
    if (!name || !error)
        return;
    size_t used = strlen(error->text);
    snprintf(error->text + used, sizeof error->text - used,
             "; the last kernel that gemmux ran there is %s", name);
}

gemmux_status gemmux_cuda_fail_on(const gemmux_cuda_device *device, int result, const char *what,
                                  gemmux_error *error)
{
    gemmux_status status = gemmux_cuda_fail(&device->cuda, result, what, error);
    if (gemmux_cuda_sticky(result))
        add_culprit(device, error);
    return status;
}

void gemmux_cuda_blame(const gemmux_cuda_device *device, gemmux_error *error)
{
    gemmux_error ignored;
    size_t available, total;
    if (gemmux_cuda_enter(device, &ignored))
        return;
    /* Of what may be asked while a stream is captured, this says it. */
    int result = device->cuda.memory_info(&available, &total);
    gemmux_cuda_leave(device);
    if (gemmux_cuda_sticky(result))
        add_culprit(device, error);
}

/* ------------------------------------------------------------------------------------ memory -- */

static gemmux_status allocate(gemmux_resident *r, int64_t bytes, const char *what,
                              gemmux_cu_pointer *pointer, gemmux_error *error)
{
    const gemmux_cuda *cuda = &r->device.cuda;
    size_t available = 0, total = 0;
    char text[96];
    if (r->block_count == (int)(sizeof r->blocks / sizeof r->blocks[0]))
        return gemmux_fail(error, GEMMUX_ERROR_INTERNAL, "prepare: too many device blocks");
    /* 16 bytes more, so that a vector load at the end of ragged data stays inside. */
    int result = cuda->memory_allocate(pointer, (size_t)bytes + 16);
    if (result == GEMMUX_CU_OUT_OF_MEMORY) {
        cuda->memory_info(&available, &total);
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY,
                           "prepare: cuda:%d has no room for %s of %" PRId64
                           " bytes: %zu of its %zu bytes are free",
                           r->device.ordinal, what, bytes, available, total);
    }
    if (result) {
        snprintf(text, sizeof text, "prepare: allocating %s on cuda:%d", what, r->device.ordinal);
        return gemmux_cuda_fail_on(&r->device, result, text, error);
    }
    r->blocks[r->block_count++] = *pointer;
    r->bytes += bytes;
    return GEMMUX_OK;
}

/* A copy of `bytes` at `from` on the device; nothing for NULL. */
static gemmux_status upload(gemmux_resident *r, const void *from, int64_t bytes, const char *what,
                            void *out, gemmux_error *error)
{
    gemmux_cu_pointer pointer;
    char text[96];
    if (!from || bytes <= 0)
        return GEMMUX_OK;
    gemmux_status status = allocate(r, bytes, what, &pointer, error);
    if (status)
        return status;
    int result = r->device.cuda.copy_to_device(pointer, from, (size_t)bytes);
    if (result) {
        snprintf(text, sizeof text, "prepare: copying %s to cuda:%d", what, r->device.ordinal);
        return gemmux_cuda_fail_on(&r->device, result, text, error);
    }
    uintptr_t address = (uintptr_t)pointer;
    memcpy(out, &address, sizeof address);
    return GEMMUX_OK;
}

/* Copies and clears are queued on the null stream, for which the caller's streams need not wait;
 * and kernels may read a plan's weights before earlier launches have ended (cuda_ptx.cuh). So
 * prepare returns when all is there. */
static gemmux_status settle(const gemmux_resident *r, gemmux_error *error)
{
    int result = r->device.cuda.stream_synchronize(NULL);
    return result ? gemmux_cuda_fail_on(&r->device, result, "prepare: copying to the device", error)
                  : GEMMUX_OK;
}

/* The tensor's own arrays are what there is. */
static gemmux_status upload_plain(gemmux_resident *r, const gemmux_tensor *t, gemmux_error *error)
{
    gemmux_tensor *to = &r->packed.plain;
    int64_t scales = t->count * gemmux_scale_count(t->format, t->rows, t->cols);
    to->codes = to->scales = to->zeros = NULL;
    to->globals = NULL;
    gemmux_status status = upload(r, t->codes, t->count * t->rows * gemmux_row_stride(t),
                                  "the weights", &to->codes, error);
    if (!status)
        status = upload(r, t->scales, scales * gemmux_scale_bytes(t->format), "the scales",
                        &to->scales, error);
    if (!status)
        status = upload(r, t->zeros, scales * gemmux_zero_bytes(t->format), "the zero points",
                        &to->zeros, error);
    if (!status)
        status = upload(r, t->globals, t->count * 4, "the tensor scales", &to->globals, error);
    return status;
}

static gemmux_status take_piece(void *context, const void *piece, int64_t at, int64_t bytes,
                                gemmux_error *error)
{
    gemmux_resident *r = context;
    char text[96];
    int result = r->device.cuda.copy_to_device(
        (gemmux_cu_pointer)(uintptr_t)r->packed.data + (gemmux_cu_pointer)at, piece, (size_t)bytes);
    if (!result)
        return GEMMUX_OK;
    snprintf(text, sizeof text, "prepare: copying the packed weights to cuda:%d",
             r->device.ordinal);
    return gemmux_cuda_fail_on(&r->device, result, text, error);
}

static gemmux_status upload_packed(gemmux_resident *r, const gemmux_tensor *w,
                                   gemmux_threads *threads, gemmux_error *error)
{
    gemmux_cu_pointer pointer;
    gemmux_packed made;
    gemmux_status status = allocate(r, r->packed.bytes, "the packed weights", &pointer, error);
    if (status)
        return status;
    uintptr_t address = (uintptr_t)pointer;
    memcpy(&r->packed.data, &address, sizeof address);
    status = gemmux_pack_stream(r->packed.packing, w, threads, take_piece, r, &made, error);
    r->packed.checksum = made.checksum;
    if (w->format.two_level && r->packed.packing->globals)
        r->packed.plain.globals = r->packed.packing->globals(&r->packed);
    return status;
}

static gemmux_status fill(gemmux_resident *r, const gemmux_packing *packing, const gemmux_tensor *w,
                          const int32_t *k_order, const float *bias, gemmux_threads *threads,
                          gemmux_error *error)
{
    gemmux_status status = gemmux_pack_describe(packing, w, &r->packed, error);
    r->packed.plain.k_order = NULL;
    if (!status)
        status = r->packed.bytes ? upload_packed(r, w, threads, error) : upload_plain(r, w, error);
    if (!status)
        status = upload(r, k_order, w->cols * 4, "k_order", &r->packed.plain.k_order, error);
    if (!status)
        status = upload(r, bias, w->count * w->rows * 4, "the bias", &r->bias, error);
    return status;
}

gemmux_status gemmux_resident_make(const gemmux_machine *machine, const gemmux_packing *packing,
                                   const gemmux_tensor *w, const int32_t *k_order,
                                   const float *bias, gemmux_threads *threads,
                                   gemmux_resident **resident, gemmux_error *error)
{
    *resident = NULL;
    gemmux_resident *made = calloc(1, sizeof *made);
    if (!made)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "prepare: out of memory");
    gemmux_status status =
        gemmux_cuda_device_open(&made->device, gemmux_cuda_index(machine), error);
    if (!status)
        status = gemmux_cuda_enter(&made->device, error);
    if (status) {
        gemmux_cuda_device_close(&made->device);
        free(made);
        return status;
    }
    status = fill(made, packing, w, k_order, bias, threads, error);
    if (!status)
        status = settle(made, error);
    gemmux_cuda_leave(&made->device);
    if (status) {
        gemmux_resident_free(made);
        return status;
    }
    *resident = made;
    return GEMMUX_OK;
}

gemmux_status gemmux_resident_workspace(gemmux_resident *r, int64_t bytes, gemmux_error *error)
{
    gemmux_cu_pointer pointer = 0;
    gemmux_status status = gemmux_cuda_enter(&r->device, error);
    if (status)
        return status;
    if (bytes > 0)
        status = allocate(r, bytes, "the workspace", &pointer, error);
    if (!status && bytes > 0) {
        int result = r->device.cuda.memory_set(pointer, 0, (size_t)bytes);
        if (result)
            status = gemmux_cuda_fail_on(&r->device, result,
                                         "prepare: clearing the workspace on the device", error);
        uintptr_t address = (uintptr_t)pointer;
        memcpy(&r->workspace, &address, sizeof address);
    }
    if (!status)
        status = settle(r, error);
    gemmux_cuda_leave(&r->device);
    return status;
}

void gemmux_resident_free(gemmux_resident *r)
{
    gemmux_error ignored;
    if (!r)
        return;
    if (gemmux_cuda_enter(&r->device, &ignored) == GEMMUX_OK) {
        for (int i = 0; i < r->block_count; i++)
            r->device.cuda.memory_free(r->blocks[i]);
        gemmux_cuda_leave(&r->device);
    }
    gemmux_cuda_device_close(&r->device);
    free(r);
}
