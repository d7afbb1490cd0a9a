/* SPDX-License-Identifier: Apache-2.0 */
#include "ptxas.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { CHUNK = 1 << 18, OVERLAP = 64, FILE_LIMIT = 256 << 20 };

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
            int major, minor; /* the format string of the tool itself matches too, and has none */
            at += sizeof text - 1;
            found = sscanf(at, "%4d.%4d", &major, &minor) == 2 && major > 0 && minor >= 0;
            if (found)
                *release = major * 10000 + minor * 100;
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
