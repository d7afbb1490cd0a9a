/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory of a device and its clock, for callers who have no CUDA of their own: the command, tests.
 * A program that has streams and buffers gives those to gemmux_run and needs none of this.
 */
#include "driver/libcuda.h"
#include "driver/symbols.h"
#include "error.h"
#include "prepare_cuda.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Used here alone, so not in the library's table. */
#define CLOCK_FUNCTIONS(X)                                                                         \
    X("cuStreamCreate", stream_create, (gemmux_cu_stream * stream, unsigned flags))                \
    X("cuStreamDestroy_v2", stream_destroy, (gemmux_cu_stream stream))                             \
    X("cuStreamSynchronize", stream_wait, (gemmux_cu_stream stream))                               \
    X("cuStreamBeginCapture_v2", capture_begin, (gemmux_cu_stream stream, int mode))               \
    X("cuStreamEndCapture", capture_end, (gemmux_cu_stream stream, void **graph))                  \
    X("cuGraphInstantiateWithFlags", graph_instantiate,                                            \
      (void **executable, void *graph, unsigned long long flags))                                  \
    X("cuGraphLaunch", graph_launch, (void *executable, gemmux_cu_stream stream))                  \
    X("cuGraphExecDestroy", graph_exec_destroy, (void *executable))                                \
    X("cuGraphDestroy", graph_destroy, (void *graph))                                              \
    X("cuEventCreate", event_create, (void **event, unsigned flags))                               \
    X("cuEventDestroy_v2", event_destroy, (void *event))                                           \
    X("cuEventRecord", event_record, (void *event, gemmux_cu_stream stream))                       \
    X("cuEventElapsedTime", event_elapsed, (float *ms, void *from, void *to))

enum {
    NON_BLOCKING = 1, /* CU_STREAM_NON_BLOCKING */
    RELAXED = 2       /* CU_STREAM_CAPTURE_MODE_RELAXED */
};

struct gemmux_device {
    gemmux_cuda_device device;
    gemmux_cu_stream stream;
    void *from, *to; /* events */
#define FIELD(symbol, field, parameters) int(*field) parameters;
    CLOCK_FUNCTIONS(FIELD)
#undef FIELD
};

static gemmux_status fail(const gemmux_device *d, int result, const char *what, gemmux_error *error)
{
    char text[96];
    if (!result)
        return GEMMUX_OK;
    snprintf(text, sizeof text, "cuda:%d: %s", d->device.ordinal, what);
    return gemmux_cuda_fail_on(&d->device, result, text, error);
}

static gemmux_status find_functions(gemmux_device *d, gemmux_error *error)
{
    char reason[128] = "";
    void *library = gemmux_library_open(d->device.cuda.path, reason, sizeof reason);
#define FIND(symbol, field, parameters)                                                            \
    {                                                                                              \
        void *found = library ? dlsym(library, symbol) : NULL;                                     \
        if (!found)                                                                                \
            return gemmux_fail(error, GEMMUX_ERROR_DEVICE, "cuda: %s has no %s",                   \
                               d->device.cuda.path, symbol);                                       \
        memcpy(&d->field, &found, sizeof found);                                                   \
    }
    CLOCK_FUNCTIONS(FIND)
#undef FIND
    return GEMMUX_OK;
}

gemmux_status gemmux_device_open(const gemmux_machine *machine, gemmux_device **device,
                                 gemmux_error *error)
{
    *device = NULL;
    if (machine->kind != GEMMUX_CUDA || machine->described)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "device: %s is no GPU of this machine: its memory is the host's",
                           machine->name);
    gemmux_device *d = calloc(1, sizeof *d);
    if (!d)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "device: out of memory");
    gemmux_status status = gemmux_cuda_device_open(&d->device, gemmux_cuda_index(machine), error);
    if (!status)
        status = find_functions(d, error);
    if (!status)
        status = gemmux_cuda_enter(&d->device, error);
    if (!status) {
        int result = d->stream_create(&d->stream, NON_BLOCKING);
        result = result ? result : d->event_create(&d->from, 0);
        result = result ? result : d->event_create(&d->to, 0);
        gemmux_cuda_leave(&d->device);
        status = fail(d, result, "making a stream", error);
    }
    if (status) {
        gemmux_device_close(d);
        return status;
    }
    *device = d;
    return GEMMUX_OK;
}

void gemmux_device_close(gemmux_device *d)
{
    gemmux_error ignored;
    if (!d)
        return;
    if (d->device.context && !gemmux_cuda_enter(&d->device, &ignored)) {
        if (d->from)
            d->event_destroy(d->from);
        if (d->to)
            d->event_destroy(d->to);
        if (d->stream)
            d->stream_destroy(d->stream);
        gemmux_cuda_leave(&d->device);
    }
    gemmux_cuda_device_close(&d->device);
    free(d);
}

gemmux_status gemmux_device_alloc(gemmux_device *d, int64_t bytes, void **memory,
                                  gemmux_error *error)
{
    gemmux_cu_pointer pointer = 0;
    char what[64];
    *memory = NULL;
    gemmux_status status = gemmux_cuda_enter(&d->device, error);
    if (status)
        return status;
    int result = d->device.cuda.memory_allocate(&pointer, (size_t)(bytes > 0 ? bytes : 1));
    gemmux_cuda_leave(&d->device);
    uintptr_t address = (uintptr_t)pointer;
    memcpy(memory, &address, sizeof address);
    snprintf(what, sizeof what, "allocating %" PRId64 " bytes", bytes);
    return fail(d, result, what, error);
}

void gemmux_device_free(gemmux_device *d, void *memory)
{
    gemmux_error ignored;
    if (!memory || gemmux_cuda_enter(&d->device, &ignored))
        return;
    d->device.cuda.memory_free((gemmux_cu_pointer)(uintptr_t)memory);
    gemmux_cuda_leave(&d->device);
}

gemmux_status gemmux_device_write(gemmux_device *d, void *to, const void *from, int64_t bytes,
                                  gemmux_error *error)
{
    gemmux_status status = bytes > 0 ? gemmux_cuda_enter(&d->device, error) : GEMMUX_OK;
    if (status || bytes <= 0)
        return status;
    int result =
        d->device.cuda.copy_to_device((gemmux_cu_pointer)(uintptr_t)to, from, (size_t)bytes);
    if (!result) /* the copy may still be on its way, and the device's stream would not wait */
        result = d->device.cuda.stream_synchronize(NULL);
    gemmux_cuda_leave(&d->device);
    return fail(d, result, "copying to the device", error);
}

gemmux_status gemmux_device_read(gemmux_device *d, void *to, const void *from, int64_t bytes,
                                 gemmux_error *error)
{
    gemmux_status status = gemmux_cuda_enter(&d->device, error);
    if (status)
        return status;
    int result = d->device.cuda.context_synchronize();
    if (!result && bytes > 0)
        result = d->device.cuda.copy_to_host(to, (gemmux_cu_pointer)(uintptr_t)from, (size_t)bytes);
    gemmux_cuda_leave(&d->device);
    return fail(d, result, "waiting for what was launched, and copying it back", error);
}

/* Calls work `times` times while the stream is captured; *executable is the graph of that. */
static gemmux_status capture(gemmux_device *d, gemmux_device_work work, void *context, int times,
                             void **executable, gemmux_error *error)
{
    void *graph = NULL;
    *executable = NULL;
    int result = d->capture_begin(d->stream, RELAXED);
    if (result)
        return fail(d, result, "capturing a graph", error);
    gemmux_status status = GEMMUX_OK;
    for (int i = 0; i < times && !status; i++)
        status = work(context, d->stream, error);
    result = d->capture_end(d->stream, &graph); /* also after an error: the stream is ours again */
    if (!status && !result)
        result = d->graph_instantiate(executable, graph, 0);
    if (graph)
        d->graph_destroy(graph);
    return status ? status : fail(d, result, "making a graph", error);
}

gemmux_status gemmux_device_time(gemmux_device *d, gemmux_device_work work, void *context,
                                 int times, double *us, gemmux_error *error)
{
    void *executable = NULL;
    float ms = 0;
    gemmux_status status = gemmux_cuda_enter(&d->device, error);
    if (status)
        return status;
    status = capture(d, work, context, times, &executable, error);
    if (!status) {
        int result = d->graph_launch(executable, d->stream); /* the first launch uploads it */
        result = result ? result : d->event_record(d->from, d->stream);
        result = result ? result : d->graph_launch(executable, d->stream);
        result = result ? result : d->event_record(d->to, d->stream);
        result = result ? result : d->stream_wait(d->stream);
        result = result ? result : d->event_elapsed(&ms, d->from, d->to);
        status = fail(d, result, "timing a graph", error);
    }
    if (executable)
        d->graph_exec_destroy(executable);
    gemmux_cuda_leave(&d->device);
    *us = (double)ms * 1e3 / times;
    return status;
}
