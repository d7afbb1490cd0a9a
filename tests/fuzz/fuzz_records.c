/* SPDX-License-Identifier: Apache-2.0
 *
 * The file that certificates are kept in, which other programs may have cut or overwritten.
 */
#include "memory_file.h"
#include "records.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    gemmux_entries entries;
    gemmux_error error = {0};
    int file = memory_file(data, size, path, sizeof path);
    if (gemmux_entries_read(path, &entries, &error)) {
        if (!strstr(error.text, path))
            abort();
    } else {
        for (int i = 0; i < entries.count; i++)
            if (!memchr(entries.items[i].record.kernel, 0, sizeof entries.items[i].record.kernel))
                abort();
        free(entries.items);
    }
    close(file);
    return 0;
}
