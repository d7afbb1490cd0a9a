/* SPDX-License-Identifier: Apache-2.0
 *
 * From names to layers: which tensors are multiplied, which are tables, what is left out. Separate
 * from schemes, which know how a weight is stored but not what it is for.
 *
 * A layer is any tensor that a scheme claims (two-dimensional weights, stacked experts), except
 * norms and convolutions. Vectors, and what no scheme knows, are not layers.
 */
#include "error.h"
#include "scheme.h"

#include <stdlib.h>
#include <string.h>

/* The part of the module's name after the last dot. */
static const char *last_part(const char *name, size_t length)
{
    size_t start = length;
    while (start > 0 && name[start - 1] != '.')
        start--;
    return name + start;
}

static bool contains(const char *text, size_t length, const char *word)
{
    size_t word_length = strlen(word);
    for (size_t i = 0; i + word_length <= length; i++) {
        if (memcmp(text + i, word, word_length) == 0)
            return true;
    }
    return false;
}

static bool is_one_of(const char *text, size_t length, const char *const *words)
{
    for (; *words; words++) {
        if (strlen(*words) == length && memcmp(*words, text, length) == 0)
            return true;
    }
    return false;
}

static bool is_embedding(const char *name, size_t length)
{
    static const char *const tables[] = {"wte",    "wpe", "token_types", "relative_attention_bias",
                                         "shared", NULL};
    const char *last = last_part(name, length);
    size_t rest = (size_t)(name + length - last);
    if (is_one_of(last, rest, tables))
        return true;
    return contains(last, rest, "emb") && !contains(last, rest, "proj") &&
           !contains(last, rest, "mapping") && !contains(last, rest, "embed_out");
}

/* Two-dimensional weights that no matrix product reads. */
static bool is_left_out(const char *name, size_t length)
{
    const char *last = last_part(name, length);
    size_t rest = (size_t)(name + length - last);
    return contains(last, rest, "norm") || contains(last, rest, "conv1d") ||
           (rest == 4 && memcmp(last, "conv", 4) == 0);
}

static bool is_input_table(const char *name, size_t length)
{
    static const char *const tables[] = {
        "embed_tokens", "wte", "token_embd", "tok_embeddings", "embed_in", "word_embeddings", NULL};
    const char *last = last_part(name, length);
    return is_one_of(last, (size_t)(name + length - last), tables);
}

static bool is_output_head(const char *name, size_t length)
{
    static const char *const heads[] = {"lm_head", "embed_out", "output_layer", NULL};
    static const char *const whole[] = {"output", "head", "lm_head.decoder",
                                        "cls.predictions.decoder", NULL};
    const char *last = last_part(name, length);
    return is_one_of(last, (size_t)(name + length - last), heads) || is_one_of(name, length, whole);
}

/* The name with every part that is a number replaced by a star. */
static char *group_of(gemmux_model *model, const char *name)
{
    size_t length = strlen(name), out = 0;
    char *group = gemmux_arena_text(&model->catalog.arena, name, length);
    for (size_t i = 0; group && i < length;) {
        size_t end = i + strcspn(name + i, ".");
        bool number = end > i && strspn(name + i, "0123456789") >= end - i;
        if (number)
            group[out++] = '*';
        while (i < end + (end < length)) {
            if (!number || name[i] == '.')
                group[out++] = name[i];
            i++;
        }
    }
    if (group)
        group[out] = '\0';
    return group;
}

/* Numbers by value, the rest by bytes: layer 2 before layer 10. */
static int compare_names(const char *a, const char *b)
{
    while (*a && *b) {
        size_t x = strspn(a, "0123456789"), y = strspn(b, "0123456789");
        if (x && y) {
            int order = x != y ? (x < y ? -1 : 1) : memcmp(a, b, x);
            if (order)
                return order;
            a += x;
            b += y;
        } else if (*a != *b) {
            return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
        } else {
            a++;
            b++;
        }
    }
    return *a ? 1 : *b ? -1 : 0;
}

static int compare_sources(const void *a, const void *b)
{
    return compare_names(((const gemmux_source *)a)->layer.name,
                         ((const gemmux_source *)b)->layer.name);
}

/* Does the name end in the suffix? Then *stem is what stands before. */
static bool has_suffix(const char *name, const char *suffix, size_t *stem)
{
    size_t length = strlen(name), end = strlen(suffix);
    *stem = length - end;
    return length > end && memcmp(name + length - end, suffix, end) == 0;
}

/* The first scheme that claims the tensor; NULL when it is no layer. */
static const gemmux_scheme *find_scheme(const gemmux_model *model, const gemmux_stored *tensor,
                                        size_t *stem)
{
    int64_t elements = gemmux_shape_elements(tensor->shape, tensor->rank);
    if (elements == 0)
        return NULL;
    for (const gemmux_scheme *const *s = gemmux_schemes; *s; s++) {
        if (has_suffix(tensor->name, (*s)->suffix, stem) && !is_left_out(tensor->name, *stem) &&
            (*s)->claims(model, tensor, *stem))
            return *s;
    }
    return NULL;
}

static gemmux_status describe(gemmux_model *model, int32_t tensor, size_t stem,
                              const gemmux_scheme *scheme, gemmux_source *source,
                              gemmux_error *error)
{
    const gemmux_stored *weight = &model->catalog.tensors[tensor];
    *source = (gemmux_source){.scheme = scheme, .stem_length = stem};
    for (int i = 0; i < GEMMUX_PART_COUNT; i++)
        source->part[i] = -1;
    source->part[GEMMUX_PART_WEIGHT] = tensor;
    source->layer.op = GEMMUX_LINEAR;
    source->layer.scheme = "unknown";
    source->layer.name = gemmux_arena_text(&model->catalog.arena, weight->name, stem);
    if (!source->layer.name)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "out of memory for layers");
    source->layer.embedding = is_embedding(weight->name, stem);
    gemmux_status status = scheme->read(model, source, error);
    for (int i = 0; i < GEMMUX_PART_COUNT; i++) {
        const gemmux_stored *part = gemmux_part_of(model, source, (gemmux_part)i);
        source->layer.stored_bytes += part ? part->bytes : 0;
    }
    return status;
}

/* Has the checkpoint an output head that is its input table? */
static bool wants_tied_head(const gemmux_model *model)
{
    static const char *const kinds[] = {"CausalLM", "ConditionalGeneration", "LMHead", NULL};
    const gemmux_hf_config *config = &model->config;
    for (int32_t i = 0; i < model->source_count; i++) {
        const char *name = model->sources[i].layer.name;
        if (is_output_head(name, strlen(name)))
            return false;
    }
    if (model->headless)
        return false;
    if (!config->present || config->tied >= 0 || !config->architecture)
        return config->tied != 0 || !config->present;
    for (const char *const *kind = kinds; *kind; kind++) {
        if (strstr(config->architecture, *kind))
            return true;
    }
    return false;
}

static void add_tied_head(gemmux_model *model)
{
    for (int32_t i = 0; i < model->source_count; i++) {
        const gemmux_source *table = &model->sources[i];
        if (!is_input_table(table->layer.name, strlen(table->layer.name)))
            continue;
        gemmux_source *head = &model->sources[model->source_count++];
        *head = *table;
        head->layer.name = "lm_head (tied)";
        head->layer.embedding = false;
        head->layer.stored_bytes = 0; /* counted with the table */
        return;
    }
}

static gemmux_status list_sources(gemmux_model *model, gemmux_error *error)
{
    for (int32_t i = 0; i < model->catalog.count; i++) {
        size_t stem;
        const gemmux_scheme *scheme = find_scheme(model, &model->catalog.tensors[i], &stem);
        if (!scheme)
            continue;
        gemmux_status status =
            describe(model, i, stem, scheme, &model->sources[model->source_count], error);
        if (status)
            return status;
        model->source_count++;
    }
    return GEMMUX_OK;
}

gemmux_status gemmux_find_layers(gemmux_model *model, gemmux_error *error)
{
    model->sources = calloc((size_t)model->catalog.count + 1, sizeof *model->sources);
    if (!model->sources)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "out of memory for layers");
    gemmux_status status = list_sources(model, error);
    if (!status)
        status = gemmux_stack_experts(model, error);
    if (status)
        return status;
    qsort(model->sources, (size_t)model->source_count, sizeof *model->sources, compare_sources);
    if (wants_tied_head(model))
        add_tied_head(model);
    for (int32_t i = 0; i < model->source_count; i++) {
        model->sources[i].layer.group = group_of(model, model->sources[i].layer.name);
        if (!model->sources[i].layer.group)
            return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "out of memory for layers");
    }
    return GEMMUX_OK;
}
