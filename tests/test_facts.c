/* SPDX-License-Identifier: Apache-2.0
 *
 * Models from headers alone: the built-in configs against the totals that their publishers state
 * (parameters, and "total_size" of the index), facts against configs and GGUF metadata, and what
 * happens when weights are missing.
 */
#include "checkpoint_files.h"

static gemmux_model *open_headers(const char *name)
{
    gemmux_model *model = NULL;
    gemmux_error error = {GEMMUX_OK, ""};
    if (gemmux_model_open_headers(name, &model, &error))
        fail_msg("%s: %s", name, error.text);
    return model;
}

static int64_t stored_bytes(const gemmux_model *model)
{
    gemmux_model_facts facts;
    gemmux_model_get_facts(model, &facts);
    int64_t total = facts.other_bytes;
    for (int i = 0; i < gemmux_model_layer_count(model); i++)
        total += gemmux_model_layer(model, i)->stored_bytes;
    return total;
}

/* Parameters as the model card or the safetensors metadata states them; bytes from "total_size" of
 * model.safetensors.index.json where it is known. */
static void built_in_models_have_their_published_size(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t parameters, bytes;
    } published[] = {
        {"gpt-oss-20b", 20914757184, 13761264768},
        {"gpt-oss-120b", 116829156672, 65248815744},
        {"llama-3.1-8b", 8030261248, 16060522496},
        {"llama-3.1-70b", 70553706496, 141107412992},
        {"llama-3.1-405b", 405853388800, 0},
        {"llama-3.2-1b", 1235814400, 0},
        {"llama-3.2-3b", 3212749824, 0},
        {"mistral-7b", 7248023552, 14496047104},
        {"qwen2.5-7b", 7615616512, 15231233024},
        {"qwen2.5-72b", 72706203648, 145412407296},
        {"qwen3-8b", 8190735360, 16381470720},
        {"qwen3-32b", 32762123264, 65524246528},
        {"qwen3-30b-a3b", 30532122624, 61064245248},
        {"qwen3-235b-a22b", 235093634560, 470187269120},
        {"mixtral-8x7b", 46702792704, 93405585408},
        {"mixtral-8x22b", 140620634112, 281241268224},
        {"gemma-2-9b", 9241705984, 0},
        {"phi-4", 14659507200, 29319014400},
        {"phi-3.5-mini", 3821079552, 7642159104},
        {"smollm2-135m", 134515008, 0},
        {"smollm2-1.7b", 1711376384, 0},
        {"gemma-3-27b", 27009346304, 0},
        {"deepseek-v3", 671026419200, 0},
        {"kimi-k2", 1026408232448, 0},
    };
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++) {
        gemmux_model *model = open_headers(published[i].name);
        gemmux_model_facts facts;
        gemmux_model_get_facts(model, &facts);
        int64_t stored = stored_bytes(model);
        if (facts.parameters != published[i].parameters ||
            (published[i].bytes && stored != published[i].bytes))
            fail_msg("%s: %lld parameters, %lld bytes; published %lld, %lld", published[i].name,
                     (long long)facts.parameters, (long long)stored,
                     (long long)published[i].parameters, (long long)published[i].bytes);
        gemmux_model_close(model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(built_in_models_have_their_published_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
