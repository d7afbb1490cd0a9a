/* SPDX-License-Identifier: Apache-2.0
 *
 * libcuda, opened when it is found. The declarations are written by hand from the driver API's
 * documentation, so that nothing here needs CUDA headers to compile or a driver to link, and the
 * same library runs where there is no GPU. Separate from the kernels because every one of them,
 * the probe and prepare speak to the driver through this one table.
 */
#ifndef GEMMUX_LIBCUDA_H
#define GEMMUX_LIBCUDA_H

#include "gemmux.h"

#include <pthread.h>

typedef int gemmux_cu_device;
typedef struct CUctx_st *gemmux_cu_context;
typedef struct CUmod_st *gemmux_cu_module;
typedef struct CUfunc_st *gemmux_cu_function;
typedef struct CUstream_st *gemmux_cu_stream;
typedef uint64_t gemmux_cu_pointer;

/* CUresult. Only the values that are treated by name. */
enum {
    GEMMUX_CU_SUCCESS = 0,
    GEMMUX_CU_OUT_OF_MEMORY = 2,
    GEMMUX_CU_NO_DEVICE = 100,
    GEMMUX_CU_INVALID_DEVICE = 101,
    GEMMUX_CU_NO_BINARY = 209,
    GEMMUX_CU_UNSUPPORTED_PTX = 222,
    GEMMUX_CU_SYSTEM_DRIVER_MISMATCH = 803,
};

/* CUdevice_attribute. */
enum {
    GEMMUX_CU_CLOCK_KHZ = 13,
    GEMMUX_CU_MULTIPROCESSORS = 16,
    GEMMUX_CU_MEMORY_CLOCK_KHZ = 36,
    GEMMUX_CU_MEMORY_BUS_BITS = 37,
    GEMMUX_CU_L2_BYTES = 38,
    GEMMUX_CU_CC_MAJOR = 75,
    GEMMUX_CU_CC_MINOR = 76,
    GEMMUX_CU_SMEM_OPTIN_BYTES = 97,
};

/* CUfunction_attribute. */
enum { GEMMUX_CU_PTX_VERSION = 5, GEMMUX_CU_MAX_DYNAMIC_SMEM = 8 };

/* CUlaunchAttribute with an int as its value, and CUlaunchConfig. */
enum { GEMMUX_CU_PROGRAMMATIC_SERIALIZATION = 6 };

typedef struct gemmux_cu_launch_attribute {
    int id, padding;
    int value, rest[15];
} gemmux_cu_launch_attribute;

typedef struct gemmux_cu_launch_config {
    unsigned grid[3], block[3], smem_bytes;
    gemmux_cu_stream stream;
    const gemmux_cu_launch_attribute *attributes;
    unsigned attribute_count;
} gemmux_cu_launch_config;

/* cuTensorMapEncodeTiled: CUtensorMapDataType, CUtensorMapSwizzle, CUtensorMapL2promotion. */
enum {
    GEMMUX_CU_MAP_UINT8 = 0,
    GEMMUX_CU_MAP_UINT16 = 1,
    GEMMUX_CU_MAP_UINT64 = 4,
    GEMMUX_CU_MAP_SWIZZLE_128B = 3,
    GEMMUX_CU_MAP_L2_256B = 3,
};

/* symbol, field, parameters: every entry point that is used, all of them in CUDA 12.0's libcuda. */
#define GEMMUX_CUDA_FUNCTIONS(X)                                                                   \
    X("cuInit", init, (unsigned flags))                                                            \
    X("cuDriverGetVersion", driver_version, (int *version))                                        \
    X("cuGetErrorName", error_name, (int result, const char **text))                               \
    X("cuGetErrorString", error_string, (int result, const char **text))                           \
    X("cuDeviceGetCount", device_count, (int *count))                                              \
    X("cuDeviceGet", device_get, (gemmux_cu_device * device, int ordinal))                         \
    X("cuDeviceGetName", device_name, (char *name, int length, gemmux_cu_device device))           \
    X("cuDeviceGetAttribute", device_attribute,                                                    \
      (int *value, int attribute, gemmux_cu_device device))                                        \
    X("cuDeviceTotalMem_v2", device_memory, (size_t * bytes, gemmux_cu_device device))             \
    X("cuDevicePrimaryCtxRetain", context_retain,                                                  \
      (gemmux_cu_context * context, gemmux_cu_device device))                                      \
    X("cuDevicePrimaryCtxRelease_v2", context_release, (gemmux_cu_device device))                  \
    X("cuCtxPushCurrent_v2", context_push, (gemmux_cu_context context))                            \
    X("cuCtxPopCurrent_v2", context_pop, (gemmux_cu_context * context))                            \
    X("cuCtxGetCurrent", context_current, (gemmux_cu_context * context))                           \
    X("cuCtxSynchronize", context_synchronize, (void))                                             \
    X("cuStreamSynchronize", stream_synchronize, (gemmux_cu_stream stream))                        \
    X("cuMemGetInfo_v2", memory_info, (size_t * available, size_t * total))                        \
    X("cuMemAlloc_v2", memory_allocate, (gemmux_cu_pointer * pointer, size_t bytes))               \
    X("cuMemFree_v2", memory_free, (gemmux_cu_pointer pointer))                                    \
    X("cuMemcpyHtoD_v2", copy_to_device, (gemmux_cu_pointer to, const void *from, size_t bytes))   \
    X("cuMemcpyDtoH_v2", copy_to_host, (void *to, gemmux_cu_pointer from, size_t bytes))           \
    X("cuMemcpyDtoDAsync_v2", copy_on_device,                                                      \
      (gemmux_cu_pointer to, gemmux_cu_pointer from, size_t bytes, void *stream))                  \
    X("cuMemsetD8_v2", memory_set, (gemmux_cu_pointer to, unsigned char value, size_t bytes))      \
    X("cuModuleLoadData", module_load, (gemmux_cu_module * module, const void *image))             \
    X("cuModuleUnload", module_unload, (gemmux_cu_module module))                                  \
    X("cuModuleGetFunction", module_function,                                                      \
      (gemmux_cu_function * function, gemmux_cu_module module, const char *name))                  \
    X("cuFuncSetAttribute", function_attribute,                                                    \
      (gemmux_cu_function function, int attribute, int value))                                     \
    X("cuFuncGetAttribute", function_property,                                                     \
      (int *value, int attribute, gemmux_cu_function function))                                    \
    X("cuLaunchKernelEx", launch,                                                                  \
      (const gemmux_cu_launch_config *config, gemmux_cu_function function, void **parameters,      \
       void **extra))                                                                              \
    X("cuTensorMapEncodeTiled", tensor_map,                                                        \
      (void *map, int type, uint32_t rank, void *address, const uint64_t *sizes,                   \
       const uint64_t *strides, const uint32_t *box, const uint32_t *steps, int interleave,        \
       int swizzle, int promotion, int fill))

/* The table. Copies are cheap and alike; the library stays open until the process ends. */
typedef struct gemmux_cuda {
    int version; /* of CUDA that the driver brings: 13000 is 13.0 */
    char path[64];
#define GEMMUX_CUDA_FIELD(symbol, field, parameters) int(*field) parameters;
    GEMMUX_CUDA_FUNCTIONS(GEMMUX_CUDA_FIELD)
#undef GEMMUX_CUDA_FIELD
} gemmux_cuda;

/* Drivers before this one cannot load what nvcc 13 makes, whatever the GPU. */
enum { GEMMUX_CUDA_MIN_VERSION = 12000 };

/* Opens libcuda, checks its version and starts it. The sentence tells no driver, too old a
 * driver, a driver that lacks its kernel module, and no device apart. */
gemmux_status gemmux_cuda_open(gemmux_cuda *cuda, gemmux_error *error);
/* Writes "WHAT: NAME (number): the driver's own text", and for an error after which the process
 * can do nothing more on that GPU says so. Returns GEMMUX_ERROR_DEVICE. */
gemmux_status gemmux_cuda_fail(const gemmux_cuda *cuda, int result, const char *what,
                               gemmux_error *error);
/* An error that ends every later call on the same device in this process. */
bool gemmux_cuda_sticky(int result);

/* The index in "cuda:N", which a probed machine carries as its id. */
int gemmux_cuda_index(const gemmux_machine *machine);

/* One device with its primary context, the one that the caller's streams belong to. */
typedef struct gemmux_cuda_device {
    gemmux_cuda cuda;
    gemmux_cu_device device;
    gemmux_cu_context context;
    int ordinal;
} gemmux_cuda_device;

gemmux_status gemmux_cuda_device_open(gemmux_cuda_device *device, int ordinal, gemmux_error *error);
void gemmux_cuda_device_close(gemmux_cuda_device *device);
/* Makes the context current on this thread, and puts back what was current before. */
gemmux_status gemmux_cuda_enter(const gemmux_cuda_device *device, gemmux_error *error);
void gemmux_cuda_leave(const gemmux_cuda_device *device);

/* Device code built into the library: one fatbin a .cu file, by the file's name. */
typedef struct gemmux_cuda_image {
    const char *name;
    const unsigned char *data, *end;
} gemmux_cuda_image;
extern const gemmux_cuda_image gemmux_cuda_images[]; /* generated; ends with a NULL name */

/* Loads the image of that name once a device and process, however many plans use it: the driver
 * would keep a copy a plan. This list of loaded images is the library's only state that is not
 * const; it mirrors what the driver keeps for the process. The context must be current. */
gemmux_status gemmux_cuda_module_take(const gemmux_cuda_device *device, const char *name,
                                      gemmux_cu_module *module, gemmux_error *error);
void gemmux_cuda_module_give(const gemmux_cuda_device *device, gemmux_cu_module module);

#endif
