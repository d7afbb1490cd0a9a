/* SPDX-License-Identifier: Apache-2.0
 *
 * GGUF files: headers, keys of any kind, block formats.
 */
#include "walk_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= 4 && !memcmp(data, "GGUF", 4))
        walk_model("fuzz.gguf", data, size, NULL, 0);
    return 0;
}
