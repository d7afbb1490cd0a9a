/* SPDX-License-Identifier: Apache-2.0
 *
 * What a model's memory depends on besides its layers. What the config or the metadata states is
 * taken; where they are silent the shapes of the layers are asked, which cannot be wrong.
 */
#include "scheme.h"
#include "wildcard.h"

#include <stdlib.h>
#include <string.h>

/* Rows of the first layer of this name, and how many there are. */
static int64_t rows_of(const gemmux_model *model, const char *const *names, int32_t *count)
{
    int64_t rows = 0;
    *count = 0;
    for (int32_t i = 0; i < model->source_count; i++) {
        const gemmux_layer *layer = &model->sources[i].layer;
        for (const char *const *name = names; *name; name++) {
            if (!gemmux_ends_with(layer->name, *name))
                continue;
            rows = rows ? rows : layer->n;
            ++*count;
        }
    }
    return rows;
}

/* The table that tokens are looked up in: its rows and columns. */
static const gemmux_layer *input_table(const gemmux_model *model)
{
    const gemmux_layer *largest = NULL;
    for (int32_t i = 0; i < model->source_count; i++) {
        const gemmux_layer *layer = &model->sources[i].layer;
        if (layer->embedding && (!largest || layer->n > largest->n))
            largest = layer;
    }
    return largest;
}

static void fill_from_layers(const gemmux_model *model, gemmux_model_facts *facts)
{
    static const char *const keys[] = {".k_proj", ".attn_k", ".wk", NULL};
    static const char *const values[] = {".v_proj", ".attn_v", ".wv", NULL};
    const gemmux_layer *table = input_table(model);
    int32_t blocks, more;
    int64_t k = rows_of(model, keys, &blocks), v = rows_of(model, values, &more);
    if (!facts->blocks)
        facts->blocks = blocks;
    if (!facts->kv_elements)
        facts->kv_elements = k + (more ? v : k); /* Gemma 4 shares one for both */
    if (table && !facts->vocab)
        facts->vocab = table->n;
    if (table && !facts->hidden)
        facts->hidden = table->k;
}

/* ---------------------------------------------------------------------------- bytes, parameters */

static void mark(const gemmux_source *source, bool *used)
{
    for (int i = 0; i < GEMMUX_PART_COUNT; i++) {
        if (source->part[i] >= 0)
            used[source->part[i]] = true;
    }
    for (int32_t i = 0; source->members && i < source->layer.experts; i++)
        mark(&source->members[i], used);
}

static double numbers_in(const gemmux_source *source)
{
    const gemmux_layer *layer = &source->layer;
    double matrices = layer->op == GEMMUX_MOE ? layer->experts : 1;
    double bias = layer->epilogue & GEMMUX_EPILOGUE_BIAS ? (double)layer->n : 0;
    return matrices * ((double)layer->n * (double)layer->k + bias);
}

static int64_t whole(double value)
{
    return value < 9e18 ? (int64_t)value : INT64_MAX;
}

static void count_numbers(const gemmux_model *model, gemmux_model_facts *facts)
{
    const gemmux_catalog *catalog = &model->catalog;
    bool *used = calloc((size_t)catalog->count + 1, sizeof *used);
    double numbers = 0, bytes = 0;
    for (int32_t i = 0; i < model->source_count; i++) {
        const gemmux_source *source = &model->sources[i];
        numbers += source->layer.stored_bytes ? numbers_in(source) : 0; /* a tied head is none */
        if (used)
            mark(source, used);
    }
    for (int32_t i = 0; used && i < catalog->count; i++) {
        const gemmux_stored *tensor = &catalog->tensors[i];
        if (used[i])
            continue;
        bytes += (double)tensor->bytes;
        numbers += (double)gemmux_shape_elements(tensor->shape, tensor->rank);
    }
    free(used);
    facts->other_bytes = whole(bytes);
    facts->parameters = whole(numbers);
}

void gemmux_model_get_facts(const gemmux_model *model, gemmux_model_facts *facts)
{
    gemmux_shape s = model->shape;
    if (model->is_gguf && model->name) {
        const gemmux_family *family = gemmux_family_find(model->name);
        int32_t every = family ? family->window_every : 0;
        s.window_blocks = every ? s.blocks - s.blocks / every : s.blocks;
    }
    gemmux_shape_finish(&s);
    *facts = (gemmux_model_facts){.blocks = s.cached_blocks,
                                  .window_blocks = s.window_blocks,
                                  .window = s.window_blocks ? s.window : 0,
                                  .hidden = s.hidden,
                                  .vocab = s.vocab,
                                  .max_context = s.max_context,
                                  .heads = s.heads,
                                  .kv_heads = s.kv_rank ? 0 : s.kv_heads,
                                  .head_size = s.head};
    facts->kv_elements =
        s.kv_rank ? s.kv_rank + s.qk_rope : (int64_t)s.kv_heads * (s.head + s.v_head);
    fill_from_layers(model, facts);
    count_numbers(model, facts);
}
