/* SPDX-License-Identifier: Apache-2.0
 *
 * What the GPU tests and benchmarks need of the driver beyond the library's own table: streams,
 * graphs and events. Every call that fails ends the program with the driver's own words.
 */
#ifndef GEMMUX_GPU_DEVICE_H
#define GEMMUX_GPU_DEVICE_H

#include "driver/libcuda.h"

#define GPU_FUNCTIONS(X)                                                                           \
    X("cuStreamCreate", stream_create, (gemmux_cu_stream * stream, unsigned flags))                \
    X("cuStreamSynchronize", stream_wait, (gemmux_cu_stream stream))                               \
    X("cuStreamBeginCapture_v2", capture_begin, (gemmux_cu_stream stream, int mode))               \
    X("cuStreamEndCapture", capture_end, (gemmux_cu_stream stream, void **graph))                  \
    X("cuGraphInstantiateWithFlags", graph_instantiate,                                            \
      (void **executable, void *graph, unsigned long long flags))                                  \
    X("cuGraphLaunch", graph_launch, (void *executable, gemmux_cu_stream stream))                  \
    X("cuGraphExecDestroy", graph_exec_destroy, (void *executable))                                \
    X("cuGraphDestroy", graph_destroy, (void *graph))                                              \
    X("cuEventCreate", event_create, (void **event, unsigned flags))                               \
    X("cuEventRecord", event_record, (void *event, gemmux_cu_stream stream))                       \
    X("cuEventElapsedTime", event_elapsed, (float *ms, void *from, void *to))

typedef struct gpu {
    gemmux_cuda_device device;
    gemmux_cu_stream stream;
#define GPU_FIELD(symbol, field, parameters) int(*field) parameters;
    GPU_FUNCTIONS(GPU_FIELD)
#undef GPU_FIELD
} gpu;

/* Opens cuda:0, makes its context current and one stream. */
void gpu_open(gpu *g);
/* Ends the program unless result is 0. */
void gpu_check(const gpu *g, int result, const char *what);
void *gpu_allocate(const gpu *g, int64_t bytes);
void gpu_free(const gpu *g, void *pointer);
void gpu_upload(const gpu *g, void *to, const void *from, int64_t bytes);
void gpu_download(const gpu *g, void *to, const void *from, int64_t bytes);
void gpu_fill(const gpu *g, void *to, int value, int64_t bytes);

/* Launches the i-th of several. */
typedef void (*gpu_launcher)(void *context, int i);
/* Microseconds of one of `count` launches captured in a graph: the median of 11 replays, after a
 * GPU that idled is awake. once: one replay, to see that it runs; its time means nothing. */
double gpu_time_graph(const gpu *g, gpu_launcher launch, void *context, int count, bool once);

#endif
