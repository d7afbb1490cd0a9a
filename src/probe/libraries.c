/* SPDX-License-Identifier: Apache-2.0
 *
 * Which libraries are really there: opened, asked for their version by their own function, and
 * judged. A file that exists is not yet a library that works, so the first candidate that passes
 * counts and those that failed before it are reported.
 */
#include "driver/blas.h"
#include "driver/dnnl.h"
#include "driver/symbols.h"
#include "probe/places.h"
#include "probe/probe.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A library that passed: its version, and a function of it that tells the file it came from. */
typedef struct judged {
    int32_t version;
    char path[PATH_MAX];
} judged;

static bool judge_onednn(const char *path, judged *j, char *why, size_t why_size)
{
    gemmux_dnnl dnnl;
    if (!gemmux_dnnl_open(&dnnl, path, why, why_size))
        return false;
    j->version = dnnl.version;
    gemmux_library_file(dnnl.library, "dnnl_version", j->path, sizeof j->path);
    gemmux_dnnl_close(&dnnl);
    return true;
}

static bool judge_openblas(const char *path, judged *j, char *why, size_t why_size)
{
    gemmux_blas blas;
    if (!gemmux_blas_open(&blas, path, why, why_size))
        return false;
    j->version = blas.version;
    gemmux_library_file(blas.library, "openblas_get_config", j->path, sizeof j->path);
    gemmux_blas_close(&blas);
    return true;
}

static bool judge_cublaslt(const char *path, judged *j, char *why, size_t why_size)
{
    size_t (*get_version)(void);
    void *library = gemmux_library_open(path, why, why_size);
    if (!library)
        return false;
    bool ok = gemmux_symbol_load(library, "cublasLtGetVersion", &get_version);
    if (ok) {
        /* 120402 is 12.4.2 since CUDA 12.0; older ones say 11 * 1000 + 402. */
        int32_t version = (int32_t)get_version();
        j->version = version >= 100000
                         ? version
                         : version / 1000 * 10000 + version / 100 % 10 * 100 + version % 100;
        gemmux_library_file(library, "cublasLtGetVersion", j->path, sizeof j->path);
    } else {
        snprintf(why, why_size, "it has no function cublasLtGetVersion");
    }
    gemmux_library_close(library);
    return ok;
}

static bool judge_cuda(const char *path, judged *j, char *why, size_t why_size)
{
    int (*get_version)(int *version);
    int version = 0;
    void *library = gemmux_library_open(path, why, why_size);
    if (!library)
        return false;
    bool ok = gemmux_symbol_load(library, "cuDriverGetVersion", &get_version);
    int status = ok ? get_version(&version) : 0;
    if (!ok)
        snprintf(why, why_size, "it has no function cuDriverGetVersion");
    else if (status)
        snprintf(why, why_size, "cuDriverGetVersion fails with status %d", status);
    j->version = version;
    gemmux_library_file(library, "cuDriverGetVersion", j->path, sizeof j->path);
    gemmux_library_close(library);
    return ok && status == 0;
}

/* Names in order of preference. */
static const struct library_kind {
    const char *names[4];
    bool (*judge)(const char *path, judged *j, char *why, size_t why_size);
} kinds[GEMMUX_LIB_COUNT] = {
    [GEMMUX_LIB_CUDA] = {{"libcuda.so.1"}, judge_cuda},
    [GEMMUX_LIB_CUBLASLT] = {{"libcublasLt.so.13", "libcublasLt.so.12"}, judge_cublaslt},
    [GEMMUX_LIB_ONEDNN] = {{"libdnnl.so.3", "libdnnl.so.2"}, judge_onednn},
    [GEMMUX_LIB_OPENBLAS] = {{"libopenblas.so.0"}, judge_openblas},
};

typedef struct search {
    const struct library_kind *kind;
    gemmux_library *found;
} search;

/* Adds "PATH: WHY" to the note; what does not fit is cut. */
static void note(gemmux_library *found, const char *path, const char *why)
{
    size_t used = strlen(found->note);
    /* The loader's words often start with the path already. */
    if (!strncmp(why, path, strlen(path)) && why[strlen(path)] == ':')
        why += strlen(path) + 1 + (why[strlen(path) + 1] == ' ');
    snprintf(found->note + used, sizeof found->note - used, "%s%s: %s", used ? "; " : "", path,
             why);
}

/* path has a '/' (a file that exists) or is a bare name, which the loader looks up. */
static bool try_one(const search *s, const char *path)
{
    judged j = {0, ""};
    char why[256] = "";
    if (s->kind->judge(path, &j, why, sizeof why)) {
        s->found->present = true;
        s->found->version = j.version;
        snprintf(s->found->path, sizeof s->found->path, "%.*s", (int)sizeof s->found->path - 1,
                 *j.path ? j.path : path);
        return true;
    }
    /* A bare name that the loader does not know is no news: it says "NAME: cannot open shared
     * object file". Anything else was found and is broken, perhaps after its file was tried. */
    bool known = strncmp(why, path, strlen(path)) != 0 && !*s->found->note;
    if (strchr(path, '/') || known)
        note(s->found, path, why);
    return false;
}

static bool try_directory(void *context, const char *directory)
{
    const search *s = context;
    for (int i = 0; i < 4 && s->kind->names[i]; i++) {
        char path[PATH_MAX];
        if (snprintf(path, sizeof path, "%s/%s", directory, s->kind->names[i]) < PATH_MAX &&
            access(path, F_OK) == 0 && try_one(s, path))
            return true;
    }
    return false;
}

static bool try_packages(void *context, const char *packages)
{
    return gemmux_places_match(packages, "nvidia/*/lib", try_directory, context);
}

static bool try_loader(const search *s)
{
    for (int i = 0; i < 4 && s->kind->names[i]; i++)
        if (try_one(s, s->kind->names[i]))
            return true;
    return false;
}

void gemmux_probe_library(gemmux_library_id id, gemmux_library *found)
{
    memset(found, 0, sizeof *found);
    if (id <= GEMMUX_LIB_NONE || id >= GEMMUX_LIB_COUNT)
        return;
    search s = {&kinds[id], found};
    if (!gemmux_places_environment(try_directory, &s) && !try_loader(&s) &&
        !gemmux_places_python_lib(try_directory, &s) &&
        !gemmux_places_python_packages(try_packages, &s))
        gemmux_places_usual(try_directory, &s);
}

bool gemmux_probe_version(gemmux_library_id id, const char *path, int32_t *version)
{
    judged j = {0, ""};
    char why[256];
    if (!kinds[id].judge(path, &j, why, sizeof why))
        return false;
    *version = j.version;
    return true;
}
