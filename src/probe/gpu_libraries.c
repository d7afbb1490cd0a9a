/* SPDX-License-Identifier: Apache-2.0
 *
 * Libraries that usually carry GPU code, found where programs look for them, with the version that
 * their package states. Nothing is opened that is not asked for its version: what they carry is
 * the scanner's business (gpu_code.c).
 */
#include "error.h"
#include "machine.h"
#include "probe/places.h"
#include "probe/probe.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Below a folder of libraries. */
static const char *const in_folders[] = {
    "libcu*.so*",      "libnccl.so*",      "libnpp*.so*",       "libnvjpeg.so*",
    "libnvinfer*.so*", "libggml-cuda.so*", "libtorch_cuda*.so",
};

/* Below site-packages. `package` is the beginning of the name of its dist-info; NULL: by library.
 */
static const struct {
    const char *pattern, *package;
} in_packages[] = {
    {"nvidia/*/lib/lib*.so*", NULL},
    {"torch/lib/*cuda*.so", "torch"},
    {"torch/lib/libtorch_nvshmem.so", "torch"},
    {"bitsandbytes/*cuda*.so", "bitsandbytes"},
    {"vllm/*.so", "vllm"},
    {"vllm/*/*.so", "vllm"},
    {"sgl_kernel/*.so", "sgl_kernel"},
    {"flash_attn*.so", "flash_attn"},
    {"flashinfer_jit_cache/jit_cache/*/*.so", "flashinfer_jit_cache"},
    {"xformers/*.so", "xformers"},
    {"exllamav2_ext*.so", "exllamav2"},
    {"llama_cpp/lib/*cuda*.so", "llama_cpp_python"},
    {"onnxruntime/capi/*cuda*.so", "onnxruntime_gpu"},
    {"tensorrt_libs/*.so*", "tensorrt"},
    {"transformer_engine/*.so", "transformer_engine"},
    {"deep_gemm/*.so", "deep_gemm"},
};

/* Which of NVIDIA's packages a library comes from; longer names first. */
static const char *const nvidia_packages[][2] = {
    {"libcublas", "cublas"},     {"libcudnn", "cudnn"},         {"libcufft", "cufft"},
    {"libcurand", "curand"},     {"libcusolver", "cusolver"},   {"libcusparseLt", "cusparselt"},
    {"libcusparse", "cusparse"}, {"libnccl", "nccl"},           {"libnvshmem", "nvshmem"},
    {"libcupti", "cuda_cupti"},  {"libcudart", "cuda_runtime"}, {"libnvrtc", "cuda_nvrtc"},
    {"libnvjpeg", "nvjpeg"},     {"libnvJitLink", "nvjitlink"}, {"libcufile", "cufile"},
};

typedef struct finder {
    void (*found)(void *context, const gemmux_gpu_library *library);
    void *context;
    const char *where;
    const char *packages; /* site-packages; NULL outside */
    const char *package;
    struct {
        dev_t device;
        ino_t inode;
    } * seen; /* one file may have many names */
    size_t seen_count, seen_room;
    bool out_of_memory;
} finder;

static bool seen_before(finder *f, const struct stat *about)
{
    for (size_t i = 0; i < f->seen_count; i++)
        if (f->seen[i].device == about->st_dev && f->seen[i].inode == about->st_ino)
            return true;
    if (f->seen_count == f->seen_room) {
        size_t room = f->seen_room ? 2 * f->seen_room : 64;
        void *more = realloc(f->seen, room * sizeof *f->seen);
        f->out_of_memory |= !more;
        if (!more)
            return true;
        f->seen = more;
        f->seen_room = room;
    }
    f->seen[f->seen_count].device = about->st_dev;
    f->seen[f->seen_count++].inode = about->st_ino;
    return false;
}

/* ------------------------------------------------------------------------------------- versions */

/* The version in "PACKAGE-VERSION.dist-info". */
static bool take_dist_info(void *context, const char *path)
{
    char *version = context;
    const char *name = strrchr(path, '/'), *dash = name ? strchr(name, '-') : NULL;
    size_t length = dash ? strlen(dash + 1) : 0;
    if (length <= strlen(".dist-info"))
        return false;
    length -= strlen(".dist-info");
    snprintf(version, 32, "%.*s", length < 31 ? (int)length : 31, dash + 1);
    return true;
}

static bool package_version(const char *packages, const char *package, bool nvidia, char *version)
{
    char pattern[160];
    snprintf(pattern, sizeof pattern, "%s%s-*.dist-info", nvidia ? "nvidia_" : "", package);
    if (gemmux_places_match(packages, pattern, take_dist_info, version))
        return true;
    snprintf(pattern, sizeof pattern, "nvidia_%s_cu*-*.dist-info", package);
    return nvidia && gemmux_places_match(packages, pattern, take_dist_info, version);
}

/* "12.8.4.1" of libcublas.so.12.8.4.1, "13" of libcublas.so.13. */
static bool name_version(const char *name, char *version)
{
    const char *digits = strstr(name, ".so.");
    if (!digits || !isdigit((unsigned char)digits[4]))
        return false;
    snprintf(version, 32, "%.31s", digits + 4);
    return true;
}

static void find_version(const finder *f, const char *path, const char *name, char *version)
{
    int32_t number;
    version[0] = '\0';
    if (f->package && package_version(f->packages, f->package, false, version))
        return;
    for (size_t i = 0; f->packages && i < sizeof nvidia_packages / sizeof nvidia_packages[0]; i++)
        if (!strncmp(name, nvidia_packages[i][0], strlen(nvidia_packages[i][0])) &&
            package_version(f->packages, nvidia_packages[i][1], true, version))
            return;
    bool named = name_version(name, version);
    if (!strchr(version, '.') && !strncmp(name, "libcublasLt.so", 14) &&
        gemmux_probe_version(GEMMUX_LIB_CUBLASLT, path, &number)) {
        gemmux_version_text(number, 3, version, 32);
        return;
    }
    if (!named)
        version[0] = '\0';
}

/* ---------------------------------------------------------------------------------------- files */

static bool take_file(void *context, const char *path)
{
    finder *f = context;
    struct stat about;
    gemmux_gpu_library library = {.where = f->where};
    char real[PATH_MAX];
    if (stat(path, &about) != 0 || !S_ISREG(about.st_mode) || seen_before(f, &about) ||
        !realpath(path, real) || strlen(real) >= sizeof library.path)
        return f->out_of_memory;
    memcpy(library.path, real, strlen(real) + 1);
    library.bytes = (int64_t)about.st_size;
    find_version(f, real, strrchr(real, '/') + 1, library.version);
    f->found(f->context, &library);
    return false;
}

static bool take_folder(void *context, const char *folder)
{
    for (size_t i = 0; i < sizeof in_folders / sizeof in_folders[0]; i++)
        if (gemmux_places_match(folder, in_folders[i], take_file, context))
            return true;
    return false;
}

static bool take_packages(void *context, const char *packages)
{
    finder *f = context;
    f->packages = packages;
    bool ended = false;
    for (size_t i = 0; i < sizeof in_packages / sizeof in_packages[0] && !ended; i++) {
        f->package = in_packages[i].package;
        ended = gemmux_places_match(packages, in_packages[i].pattern, take_file, f);
    }
    f->packages = f->package = NULL;
    return ended;
}

gemmux_status gemmux_find_gpu_libraries(void (*found)(void *context,
                                                      const gemmux_gpu_library *library),
                                        void *context, gemmux_error *error)
{
    if (!found)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "gemmux_find_gpu_libraries needs somebody to tell");
    finder f = {.found = found, .context = context, .where = "LD_LIBRARY_PATH"};
    gemmux_places_environment(take_folder, &f);
    f.where = "python";
    gemmux_places_python_packages(take_packages, &f);
    gemmux_places_python_lib(take_folder, &f);
    f.where = "system";
    gemmux_places_usual(take_folder, &f);
    free(f.seen);
    return f.out_of_memory ? gemmux_fail(error, GEMMUX_ERROR_MEMORY,
                                         "out of memory while libraries were looked for")
                           : GEMMUX_OK;
}
