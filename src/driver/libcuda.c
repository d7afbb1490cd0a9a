/* SPDX-License-Identifier: Apache-2.0
 *
 * Opens libcuda and turns its results into sentences.
 */
#include "libcuda.h"

#include "error.h"
#include "symbols.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const library_names[] = {"libcuda.so.1", "libcuda.so"};

static gemmux_status find_functions(gemmux_cuda *cuda, void *library, gemmux_error *error)
{
    /* POSIX lets a data pointer from dlsym be copied into a function pointer. */
#define FIND(symbol, field, parameters)                                                            \
    {                                                                                              \
        void *found = dlsym(library, symbol);                                                      \
        if (!found)                                                                                \
            return gemmux_fail(error, GEMMUX_ERROR_DEVICE,                                         \
                               "cuda: %s has no %s: it is not the NVIDIA driver's library, or "    \
                               "older than CUDA 12.0",                                             \
                               cuda->path, symbol);                                                \
        memcpy(&cuda->field, &found, sizeof found);                                                \
    }
    GEMMUX_CUDA_FUNCTIONS(FIND)
#undef FIND
    return GEMMUX_OK;
}

static gemmux_status no_driver(const char *reason, gemmux_error *error)
{
    return gemmux_fail(error, GEMMUX_ERROR_DEVICE,
                       "cuda: no NVIDIA driver on this machine: libcuda.so.1 cannot be opened "
                       "(%.200s)",
                       reason);
}

static gemmux_status start(const gemmux_cuda *cuda, gemmux_error *error)
{
    int result = cuda->init(0);
    if (result == GEMMUX_CU_NO_DEVICE)
        return gemmux_fail(error, GEMMUX_ERROR_DEVICE,
                           "cuda: the driver (CUDA %d.%d) is here, but no NVIDIA GPU is visible to "
                           "this process; a container may not pass it on, or CUDA_VISIBLE_DEVICES "
                           "hides it",
                           cuda->version / 1000, cuda->version % 1000 / 10);
    if (result == GEMMUX_CU_SYSTEM_DRIVER_MISMATCH)
        return gemmux_fail(error, GEMMUX_ERROR_DEVICE,
                           "cuda: %s (CUDA %d.%d) and the kernel module are of different driver "
                           "versions; after a driver update this machine must be rebooted",
                           cuda->path, cuda->version / 1000, cuda->version % 1000 / 10);
    return result ? gemmux_cuda_fail(cuda, result, "cuda: starting the driver", error) : GEMMUX_OK;
}

gemmux_status gemmux_cuda_open(gemmux_cuda *cuda, gemmux_error *error)
{
    void *library = NULL;
    char reason[256], other[256]; /* the loader's text lives only until it is asked again */
    *cuda = (gemmux_cuda){0};
    for (size_t i = 0; i < sizeof library_names / sizeof library_names[0] && !library; i++) {
        library = gemmux_library_open(library_names[i], i ? other : reason, sizeof reason);
        if (library)
            snprintf(cuda->path, sizeof cuda->path, "%s", library_names[i]);
    }
    if (!library)
        return no_driver(reason, error);
    gemmux_status status = find_functions(cuda, library, error);
    if (status)
        return status;
    int result = cuda->driver_version(&cuda->version);
    if (result)
        return gemmux_cuda_fail(cuda, result, "cuda: asking the driver's version", error);
    if (cuda->version < GEMMUX_CUDA_MIN_VERSION)
        return gemmux_fail(error, GEMMUX_ERROR_DEVICE,
                           "cuda: the driver is for CUDA %d.%d, gemmux needs one for %d.%d or "
                           "newer; update the NVIDIA driver",
                           cuda->version / 1000, cuda->version % 1000 / 10,
                           GEMMUX_CUDA_MIN_VERSION / 1000, GEMMUX_CUDA_MIN_VERSION % 1000 / 10);
    return start(cuda, error);
}

/* CUDA driver API, CUresult: after these the context is lost and only a new process helps. */
bool gemmux_cuda_sticky(int result)
{
    switch (result) {
    case 214: /* ECC_UNCORRECTABLE */
    case 220: /* NVLINK_UNCORRECTABLE */
    case 700: /* ILLEGAL_ADDRESS */
    case 702: /* LAUNCH_TIMEOUT */
    case 710: /* ASSERT */
    case 714: /* HARDWARE_STACK_ERROR */
    case 715: /* ILLEGAL_INSTRUCTION */
    case 716: /* MISALIGNED_ADDRESS */
    case 717: /* INVALID_ADDRESS_SPACE */
    case 718: /* INVALID_PC */
    case 719: /* LAUNCH_FAILED */
        return true;
    default:
        return false;
    }
}

gemmux_status gemmux_cuda_fail(const gemmux_cuda *cuda, int result, const char *what,
                               gemmux_error *error)
{
    const char *name = NULL, *text = NULL;
    if (cuda->error_name(result, &name))
        name = NULL;
    if (cuda->error_string(result, &text))
        text = NULL;
    return gemmux_fail(error, GEMMUX_ERROR_DEVICE, "%s: %s (%d)%s%s%s", what,
                       name ? name : "unknown CUDA error", result, text ? ": " : "",
                       text ? text : "",
                       gemmux_cuda_sticky(result)
                           ? "; this error is sticky: a kernel that ran before broke the context, "
                             "and this process can do nothing more on that GPU"
                           : "");
}

int gemmux_cuda_index(const gemmux_machine *machine)
{
    return strncmp(machine->id, "cuda:", 5) == 0 ? (int)strtol(machine->id + 5, NULL, 10) : 0;
}

/* ------------------------------------------------------------------------------------ device -- */

gemmux_status gemmux_cuda_device_open(gemmux_cuda_device *device, int ordinal, gemmux_error *error)
{
    char what[64];
    int count = 0;
    *device = (gemmux_cuda_device){.ordinal = ordinal};
    gemmux_status status = gemmux_cuda_open(&device->cuda, error);
    if (status)
        return status;
    const gemmux_cuda *cuda = &device->cuda;
    int result = cuda->device_count(&count);
    if (!result && (ordinal < 0 || ordinal >= count))
        return gemmux_fail(error, GEMMUX_ERROR_DEVICE,
                           "cuda:%d: there is no such device; this process sees %d (cuda:0%s)",
                           ordinal, count, count > 1 ? " and up" : "");
    snprintf(what, sizeof what, "cuda:%d: opening the device", ordinal);
    if (!result)
        result = cuda->device_get(&device->device, ordinal);
    if (!result)
        result = cuda->context_retain(&device->context, device->device);
    return result ? gemmux_cuda_fail(cuda, result, what, error) : GEMMUX_OK;
}

void gemmux_cuda_device_close(gemmux_cuda_device *device)
{
    if (device->context)
        device->cuda.context_release(device->device);
    device->context = NULL;
}

gemmux_status gemmux_cuda_enter(const gemmux_cuda_device *device, gemmux_error *error)
{
    int result = device->cuda.context_push(device->context);
    return result ? gemmux_cuda_fail(&device->cuda, result, "cuda: entering the context", error)
                  : GEMMUX_OK;
}

void gemmux_cuda_leave(const gemmux_cuda_device *device)
{
    gemmux_cu_context left;
    device->cuda.context_pop(&left);
}

/* ----------------------------------------------------------------------------------- modules -- */

typedef struct loaded {
    struct loaded *next;
    const gemmux_cuda_image *image;
    gemmux_cu_context context;
    gemmux_cu_module module;
    int users;
} loaded;

static pthread_mutex_t loaded_lock = PTHREAD_MUTEX_INITIALIZER;
static loaded *loaded_list;

static const gemmux_cuda_image *image_named(const char *name)
{
    for (const gemmux_cuda_image *image = gemmux_cuda_images; image->name; image++)
        if (!strcmp(image->name, name))
            return image;
    return NULL;
}

static gemmux_status load(const gemmux_cuda_device *device, const gemmux_cuda_image *image,
                          loaded **entry, gemmux_error *error)
{
    char what[96];
    loaded *made = calloc(1, sizeof *made);
    if (!made)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "cuda: out of memory");
    *made = (loaded){.next = loaded_list, .image = image, .context = device->context};
    int result = device->cuda.module_load(&made->module, image->data);
    if (result) {
        free(made);
        snprintf(what, sizeof what,
                 result == GEMMUX_CU_NO_BINARY
                     ? "cuda: loading %s, which holds no code for this device"
                     : "cuda: loading %s",
                 image->name);
        return gemmux_cuda_fail(&device->cuda, result, what, error);
    }
    loaded_list = *entry = made;
    return GEMMUX_OK;
}

gemmux_status gemmux_cuda_module_take(const gemmux_cuda_device *device, const char *name,
                                      gemmux_cu_module *module, gemmux_error *error)
{
    const gemmux_cuda_image *image = image_named(name);
    if (!image)
        return gemmux_fail(error, GEMMUX_ERROR_DEVICE,
                           "cuda: the device code of %s is not in this library", name);
    gemmux_status status = GEMMUX_OK;
    pthread_mutex_lock(&loaded_lock);
    loaded *entry = loaded_list;
    while (entry && (entry->image != image || entry->context != device->context))
        entry = entry->next;
    if (!entry)
        status = load(device, image, &entry, error);
    if (!status && entry) {
        entry->users++;
        *module = entry->module;
    }
    pthread_mutex_unlock(&loaded_lock);
    return status;
}

void gemmux_cuda_module_give(const gemmux_cuda_device *device, gemmux_cu_module module)
{
    pthread_mutex_lock(&loaded_lock);
    for (loaded **at = &loaded_list; *at; at = &(*at)->next) {
        loaded *entry = *at;
        if (entry->module != module)
            continue;
        if (--entry->users == 0) {
            *at = entry->next;
            device->cuda.module_unload(entry->module);
            free(entry);
        }
        break;
    }
    pthread_mutex_unlock(&loaded_lock);
}
