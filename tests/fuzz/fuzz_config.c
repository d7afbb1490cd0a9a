/* SPDX-License-Identifier: Apache-2.0
 *
 * Hugging Face's config.json, whose patterns are matched against the names of a small model, and
 * the same bytes as the index of a sharded one.
 */
#include "checkpoint/safetensors.h"
#include "memory_file.h"
#include "walk_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char header[] =
    "{\"model.layers.0.mlp.experts.0.up_proj.weight\":"
    "{\"dtype\":\"F8_E4M3\",\"shape\":[2,2],\"data_offsets\":[0,4]},"
    "\"model.layers.0.mlp.experts.0.up_proj.weight_scale\":"
    "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]},"
    "\"model.layers.0.self_attn.q_proj.qweight\":"
    "{\"dtype\":\"I32\",\"shape\":[1,8],\"data_offsets\":[8,40]},"
    "\"lm_head.weight\":{\"dtype\":\"BF16\",\"shape\":[1,2],\"data_offsets\":[40,44]}}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t model[8 + sizeof header - 1 + 44] = {0};
    char path[64];
    uint64_t length = sizeof header - 1;
    memcpy(model, &length, 8);
    memcpy(model + 8, header, length);
    walk_model("fuzz.safetensors", model, sizeof model, (const char *)data, size);

    int file = memory_file(data, size, path, sizeof path);
    gemmux_catalog catalog = {0};
    gemmux_error error = {0};
    if (gemmux_safetensors_index_read(&catalog, path, &error) && !error.text[0])
        abort();
    gemmux_catalog_free(&catalog);
    close(file);
    return 0;
}
