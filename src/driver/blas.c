/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/blas.h"

#include "driver/symbols.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const gemmux_symbol symbols[] = {
    {"openblas_get_config", offsetof(gemmux_blas, get_config)},
    {"openblas_get_parallel", offsetof(gemmux_blas, get_parallel)},
    {"openblas_get_num_threads", offsetof(gemmux_blas, get_num_threads)},
    {"openblas_set_num_threads", offsetof(gemmux_blas, set_num_threads)},
    {"cblas_sgemm", offsetof(gemmux_blas, sgemm)},
    {"cblas_sgemv", offsetof(gemmux_blas, sgemv)},
};

/* See blas.h for why this one is global. */
static struct {
    pthread_mutex_t lock;
    int holders;
    int found;
} process_threads = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* The version in "OpenBLAS 0.3.21 ..."; 0 when there is none. */
static int32_t version_of(const char *config)
{
    static const char name[] = "OpenBLAS ";
    int32_t version = 0;
    if (strncmp(config, name, sizeof name - 1) != 0)
        return 0;
    char *at = (char *)config + sizeof name - 1;
    for (int32_t part = 10000; part; part /= 100) {
        const char *start = at;
        long number = strtol(start, &at, 10);
        if (at == start || number < 0 || number > 99)
            return part == 1 ? version : 0;
        version += (int32_t)number * part;
        if (*at != '.')
            return part == 10000 ? 0 : version;
        at++;
    }
    return version;
}

static bool load(gemmux_blas *blas, char *why, size_t why_size)
{
    if (!gemmux_symbols_load(blas->library, symbols, sizeof symbols / sizeof symbols[0], blas, why,
                             why_size))
        return false;
    /* "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH NO_AFFINITY SkylakeX MAX_THREADS=64" */
    const char *config = blas->get_config();
    snprintf(blas->config, sizeof blas->config, "%s", config ? config : "");
    blas->version = version_of(blas->config);
    if (!blas->version) {
        snprintf(why, why_size, "its version cannot be read from '%.60s'", blas->config);
        return false;
    }
    if (strstr(blas->config, "USE64BITINT")) {
        snprintf(why, why_size, "it was built with 64-bit integers: '%.60s'", blas->config);
        return false;
    }
    enum { OPENMP = 2 };
    if (blas->get_parallel() == OPENMP && !gemmux_omp_open(&blas->omp, blas->library)) {
        snprintf(why, why_size, "its OpenMP runtime is hidden, so its threads cannot be limited");
        return false;
    }
    return true;
}

bool gemmux_blas_open(gemmux_blas *blas, const char *path, char *why, size_t why_size)
{
    memset(blas, 0, sizeof *blas);
    blas->library = gemmux_library_open(path, why, why_size);
    if (!blas->library)
        return false;
    if (!load(blas, why, why_size)) {
        gemmux_blas_close(blas);
        return false;
    }
    return true;
}

void gemmux_blas_close(gemmux_blas *blas)
{
    gemmux_library_close(blas->library);
    blas->library = NULL;
}

void gemmux_blas_hold(const gemmux_blas *blas)
{
    if (blas->omp.set_num_threads)
        return;
    pthread_mutex_lock(&process_threads.lock);
    if (process_threads.holders++ == 0) {
        process_threads.found = blas->get_num_threads();
        if (process_threads.found != 1)
            blas->set_num_threads(1);
    }
    pthread_mutex_unlock(&process_threads.lock);
}

void gemmux_blas_release(const gemmux_blas *blas)
{
    if (blas->omp.set_num_threads)
        return;
    pthread_mutex_lock(&process_threads.lock);
    if (--process_threads.holders == 0 && process_threads.found != 1)
        blas->set_num_threads(process_threads.found);
    pthread_mutex_unlock(&process_threads.lock);
}
