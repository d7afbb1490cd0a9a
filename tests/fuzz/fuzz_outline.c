/* SPDX-License-Identifier: Apache-2.0
 *
 * A config.json as a whole model: the tensors that it describes, the layers found among them, and
 * the facts. Whatever the numbers are, none may overflow and all layers must make sense.
 */
#include "checkpoint/scheme.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Sizes that describe hundreds of thousands of tensors are sound, and take the fuzzer's time. */
static bool is_small(const uint8_t *data, size_t size)
{
    gemmux_arena arena = {0};
    gemmux_hf_config config;
    gemmux_status status =
        gemmux_hf_config_parse((const char *)data, size, "fuzz.json", &arena, &config, NULL);
    gemmux_arena_free(&arena);
    return status || (int64_t)config.shape.blocks * (config.shape.experts + 2) <= (int64_t)1000;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!is_small(data, size))
        return 0;
    gemmux_model *model = NULL;
    gemmux_model_facts facts;
    gemmux_error error = {0};
    if (gemmux_model_from_config("fuzz.json", (const char *)data, size, &model, &error)) {
        if (model || !error.text[0])
            abort();
        return 0;
    }
    gemmux_model_get_facts(model, &facts);
    if (facts.parameters < 0 || facts.other_bytes < 0 || facts.blocks < 0 ||
        facts.window_blocks > facts.blocks || facts.kv_elements < 0)
        abort();
    for (int i = 0; i < gemmux_model_layer_count(model); i++) {
        const gemmux_layer *layer = gemmux_model_layer(model, i);
        gemmux_weights weights;
        if (!layer->name || !layer->group || layer->stored_bytes < 0 ||
            (layer->format.id && (layer->n < 1 || layer->k < 1)))
            abort();
        if (i < 8 && gemmux_model_load(model, i, &weights, &error) == GEMMUX_OK)
            abort(); /* there are no weights */
    }
    gemmux_model_close(model);
    return 0;
}
