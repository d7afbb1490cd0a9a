/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu_device.h"

#include "../../bench/timing.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void gpu_check(const gpu *g, int result, const char *what)
{
    gemmux_error error;
    if (!result)
        return;
    gemmux_cuda_fail(&g->device.cuda, result, what, &error);
    fprintf(stderr, "FATAL %s\n", error.text);
    exit(1);
}

void gpu_open(gpu *g)
{
    gemmux_error error;
    if (gemmux_cuda_device_open(&g->device, 0, &error) || gemmux_cuda_enter(&g->device, &error)) {
        fprintf(stderr, "FATAL %s\n", error.text);
        exit(1);
    }
    void *library = dlopen(g->device.cuda.path, RTLD_NOW);
#define FIND(symbol, field, parameters)                                                            \
    {                                                                                              \
        void *found = library ? dlsym(library, symbol) : NULL;                                     \
        if (!found) {                                                                              \
            fprintf(stderr, "FATAL no %s in libcuda\n", symbol);                                   \
            exit(1);                                                                               \
        }                                                                                          \
        memcpy(&g->field, &found, sizeof found);                                                   \
    }
    GPU_FUNCTIONS(FIND)
#undef FIND
    gpu_check(g, g->stream_create(&g->stream, 1), "making a stream");
}

void *gpu_allocate(const gpu *g, int64_t bytes)
{
    gemmux_cu_pointer pointer;
    gpu_check(g, g->device.cuda.memory_allocate(&pointer, (size_t)(bytes > 0 ? bytes : 1)),
              "allocating");
    return (void *)(uintptr_t)pointer;
}

void gpu_free(const gpu *g, void *pointer)
{
    if (pointer)
        gpu_check(g, g->device.cuda.memory_free((gemmux_cu_pointer)(uintptr_t)pointer), "freeing");
}

/* The driver's copies from ordinary memory, and its clears, return before they are done, and only
 * the null stream waits for them: not the stream that kernels are launched on. */
void gpu_upload(const gpu *g, void *to, const void *from, int64_t bytes)
{
    if (bytes <= 0)
        return;
    gpu_check(g,
              g->device.cuda.copy_to_device((gemmux_cu_pointer)(uintptr_t)to, from, (size_t)bytes),
              "copying to the device");
    gpu_check(g, g->device.cuda.stream_synchronize(NULL), "copying to the device");
}

void gpu_download(const gpu *g, void *to, const void *from, int64_t bytes)
{
    if (bytes > 0)
        gpu_check(
            g, g->device.cuda.copy_to_host(to, (gemmux_cu_pointer)(uintptr_t)from, (size_t)bytes),
            "copying from the device");
}

void gpu_fill(const gpu *g, void *to, int value, int64_t bytes)
{
    if (bytes <= 0)
        return;
    gpu_check(g,
              g->device.cuda.memory_set((gemmux_cu_pointer)(uintptr_t)to, (unsigned char)value,
                                        (size_t)bytes),
              "filling");
    gpu_check(g, g->device.cuda.stream_synchronize(NULL), "filling");
}

enum { SAMPLES = 11 };

double gpu_time_graph(const gpu *g, gpu_launcher launch, void *context, int count, bool once)
{
    void *graph, *executable, *from, *to;
    double samples[SAMPLES];
    gpu_check(g, g->capture_begin(g->stream, 2), "capturing");
    for (int i = 0; i < count; i++)
        launch(context, i);
    gpu_check(g, g->capture_end(g->stream, &graph), "ending a capture");
    gpu_check(g, g->graph_instantiate(&executable, graph, 0), "making a graph");
    gpu_check(g, g->event_create(&from, 0), "an event");
    gpu_check(g, g->event_create(&to, 0), "an event");
    /* A GPU that idled runs at a fraction of its clock: keep it busy until it is awake. */
    for (double until = now_us() + 50e3; !once && now_us() < until;) {
        gpu_check(g, g->graph_launch(executable, g->stream), "warming up");
        gpu_check(g, g->stream_wait(g->stream), "warming up");
    }
    int taken = once ? 1 : SAMPLES;
    for (int i = 0; i < taken; i++) {
        float ms;
        gpu_check(g, g->event_record(from, g->stream), "an event");
        gpu_check(g, g->graph_launch(executable, g->stream), "launching");
        gpu_check(g, g->event_record(to, g->stream), "an event");
        gpu_check(g, g->stream_wait(g->stream), "running");
        gpu_check(g, g->event_elapsed(&ms, from, to), "timing");
        samples[i] = ms;
    }
    g->graph_exec_destroy(executable);
    g->graph_destroy(graph);
    return median(samples, taken) * 1e3 / count;
}
