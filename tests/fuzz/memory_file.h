/* SPDX-License-Identifier: Apache-2.0
 *
 * For readers that take a path: a file that holds the input and lies nowhere.
 */
#ifndef GEMMUX_MEMORY_FILE_H
#define GEMMUX_MEMORY_FILE_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Returns its descriptor, which the caller closes. */
static int memory_file(const void *data, size_t size, char *path, size_t path_size)
{
    int file = memfd_create("fuzz", MFD_CLOEXEC);
    if (file < 0 || write(file, data, size) != (ssize_t)size)
        abort();
    snprintf(path, path_size, "/proc/self/fd/%d", file);
    return file;
}

#endif
