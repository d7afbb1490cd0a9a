/* SPDX-License-Identifier: Apache-2.0
 *
 * safetensors files of every scheme. The input is config.json's text, which may be empty, a NUL,
 * and the file: most schemes are only looked for when the config states them.
 */
#include "walk_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    if (!nul)
        return 0;
    const uint8_t *file = nul + 1;
    walk_model("fuzz.safetensors", file, size - (size_t)(file - data),
               nul == data ? NULL : (const char *)data, (size_t)(nul - data));
    return 0;
}
