/* SPDX-License-Identifier: Apache-2.0 */
#include "ptxas.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { CHUNK = 1 << 18, OVERLAP = 64, FILE_LIMIT = 256 << 20 };

/* "13.0" as 130000. The tool's own format string, "%d.%d", is in the file as well and is none. */
static bool read_version(const char *text, int32_t *release)
{
    int32_t part[2] = {0, 0};
    for (int i = 0; i < 2; i++) {
        int digits = 0;
        for (; *text >= '0' && *text <= '9' && digits < 4; digits++)
            part[i] = part[i] * 10 + (*text++ - '0');
        if (!digits || (i == 0 && *text++ != '.'))
            return false;
    }
    *release = part[0] * 10000 + part[1] * 100;
    return true;
}

/* "Cuda compilation tools, release 13.0, V13.0.88" stands in the file as it is printed. */
static bool read_release(const char *path, int32_t *release)
{
    static const char text[] = "Cuda compilation tools, release ";
    struct stat info;
    if (stat(path, &info) || !S_ISREG(info.st_mode) || info.st_size > FILE_LIMIT)
        return false;
    FILE *file = fopen(path, "rb");
    char *buffer = malloc(CHUNK + 1);
    size_t kept = 0, got;
    bool found = false;
    while (file && buffer && !found && (got = fread(buffer + kept, 1, CHUNK - kept, file)) > 0) {
        size_t length = kept + got;
        buffer[length] = '\0';
        const char *at = buffer, *end = buffer + length;
        while (!found && (at = memmem(at, (size_t)(end - at), text, sizeof text - 1))) {
            at += sizeof text - 1;
            found = read_version(at, release);
        }
        kept = length < OVERLAP ? length : OVERLAP;
        memmove(buffer, buffer + length - kept, kept);
    }
    free(buffer);
    if (file)
        fclose(file);
    return found;
}

static bool try_file(const char *folder, size_t length, const char *name, char *path, size_t size,
                     int32_t *release)
{
    int n = snprintf(path, size, "%.*s%s", (int)length, folder, name);
    return n > 0 && (size_t)n < size && read_release(path, release);
}

bool gemmux_probe_ptxas(const char *hint, char *path, size_t size, int32_t *release)
{
    const char *triton = getenv("TRITON_PTXAS_PATH"), *home = getenv("CUDA_HOME");
    const char *folders = getenv("PATH");
    const char *slash = hint ? strrchr(hint, '/') : NULL;
    if (slash && !strncmp(slash, "/ptxas", 6) && /* a log may name any file */
        try_file(hint, strlen(hint), "", path, size, release))
        return true;
    if (triton && try_file(triton, strlen(triton), "", path, size, release))
        return true;
    if (home && try_file(home, strlen(home), "/bin/ptxas", path, size, release))
        return true;
    while (folders && *folders) {
        size_t length = strcspn(folders, ":");
        if (length && try_file(folders, length, "/ptxas", path, size, release))
            return true;
        folders += length + (folders[length] == ':');
    }
    return try_file("", 0, "/usr/local/cuda/bin/ptxas", path, size, release);
}
