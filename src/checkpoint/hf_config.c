/* SPDX-License-Identifier: Apache-2.0 */
#include "hf_config.h"
#include "pattern.h"

#include "error.h"

#include <jansson.h>
#include <string.h>
#include <strings.h>

#define MAX_CONFIG_BYTES ((size_t)64 << 20)

typedef struct reader {
    const char *path;
    gemmux_arena *arena;
    gemmux_hf_config *config;
    gemmux_error *error;
} reader;

static gemmux_status wrong(const reader *r, const char *key, const char *want)
{
    return gemmux_fail(r->error, GEMMUX_ERROR_INPUT, "%s: \"%s\" is not %s", r->path, key, want);
}

static gemmux_status no_memory(const reader *r)
{
    return gemmux_fail(r->error, GEMMUX_ERROR_MEMORY, "%s: out of memory", r->path);
}

/* An integer within bounds; absent and null leave *out. */
static gemmux_status get_int(const reader *r, const json_t *object, const char *key, int64_t low,
                             int64_t high, int32_t *out)
{
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value))
        return GEMMUX_OK;
    int64_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < low || number > high)
        return gemmux_fail(r->error, GEMMUX_ERROR_INPUT,
                           "%s: \"%s\" is not an integer from %lld to %lld", r->path, key,
                           (long long)low, (long long)high);
    *out = (int32_t)number;
    return GEMMUX_OK;
}

static gemmux_status get_bool(const reader *r, const json_t *object, const char *key, int8_t *out)
{
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value))
        return GEMMUX_OK;
    if (!json_is_boolean(value))
        return wrong(r, key, "true or false");
    *out = json_is_true(value);
    return GEMMUX_OK;
}

/* A string; absent and null leave *out. */
static gemmux_status get_text(const reader *r, const json_t *object, const char *key,
                              const char **out)
{
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value))
        return GEMMUX_OK;
    if (!json_is_string(value))
        return wrong(r, key, "a string");
    *out = gemmux_arena_text(r->arena, json_string_value(value), json_string_length(value));
    return *out ? GEMMUX_OK : no_memory(r);
}

static gemmux_status get_texts(const reader *r, const json_t *object, const char *key,
                               const char *const **out, int32_t *count)
{
    const json_t *list = json_object_get(object, key);
    if (!list || json_is_null(list))
        return GEMMUX_OK;
    if (!json_is_array(list) || json_array_size(list) > INT32_MAX / 16)
        return wrong(r, key, "a list of strings");
    const char **texts = gemmux_arena_alloc(r->arena, (json_array_size(list) + 1) * sizeof(char *));
    if (!texts)
        return no_memory(r);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *text = json_array_get(list, i);
        if (!json_is_string(text))
            return wrong(r, key, "a list of strings");
        texts[i] = gemmux_arena_text(r->arena, json_string_value(text), json_string_length(text));
        if (!texts[i])
            return no_memory(r);
        if (strncmp(texts[i], "re:", 3) == 0) {
            gemmux_status status = gemmux_regex_check(texts[i] + 3, r->path, r->error);
            if (status)
                return status;
        }
    }
    *out = texts;
    *count = (int32_t)json_array_size(list);
    return GEMMUX_OK;
}

static gemmux_hf_method method_of(const char *name)
{
    static const struct {
        const char *name;
        gemmux_hf_method method;
    } methods[] = {
        {"gptq", GEMMUX_HF_GPTQ},
        {"awq", GEMMUX_HF_AWQ},
        {"compressed-tensors", GEMMUX_HF_COMPRESSED_TENSORS},
        {"compressed_tensors", GEMMUX_HF_COMPRESSED_TENSORS},
        {"fp8", GEMMUX_HF_FP8},
        {"fbgemm_fp8", GEMMUX_HF_FP8},
        {"modelopt", GEMMUX_HF_MODELOPT},
        {"modelopt_fp4", GEMMUX_HF_MODELOPT},
        {"bitsandbytes", GEMMUX_HF_BITSANDBYTES},
        {"mxfp4", GEMMUX_HF_MXFP4},
    };
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (strcasecmp(name, methods[i].name) == 0)
            return methods[i].method;
    }
    return *name ? GEMMUX_HF_OTHER : GEMMUX_HF_NONE;
}

static gemmux_status parse_block(const reader *r, const json_t *object, const char *key)
{
    const json_t *block = json_object_get(object, key);
    if (!block || json_is_null(block))
        return GEMMUX_OK;
    for (size_t i = 0; i < 2; i++) {
        const json_t *side = json_array_get(block, i);
        if (json_array_size(block) != 2 || !json_is_integer(side) || json_integer_value(side) < 1 ||
            json_integer_value(side) > 1 << 20)
            return wrong(r, key, "two positive integers");
        r->config->block[i] = (int32_t)json_integer_value(side);
    }
    return GEMMUX_OK;
}

/* One entry of compressed-tensors' config_groups. */
static gemmux_status parse_group(const reader *r, const json_t *entry, gemmux_hf_group *group)
{
    const json_t *weights = json_object_get(entry, "weights");
    const char *type = "", *strategy = "";
    gemmux_status status = get_texts(r, entry, "targets", &group->targets, &group->target_count);
    group->symmetric = 1; /* compressed-tensors' default */
    if (status || !json_is_object(weights))
        return status;
    status = get_int(r, weights, "num_bits", 1, 64, &group->bits);
    if (!status)
        status = get_int(r, weights, "group_size", -1, 1 << 20, &group->group_size);
    if (!status)
        status = get_bool(r, weights, "symmetric", &group->symmetric);
    if (!status)
        status = get_text(r, weights, "type", &type);
    if (!status)
        status = get_text(r, weights, "strategy", &strategy);
    if (!status && strcmp(strategy, "block") == 0)
        status = parse_block(r, weights, "block_structure");
    group->is_float = strcmp(type, "float") == 0;
    if (strcmp(strategy, "channel") == 0)
        group->group_size = -1;
    const json_t *order = json_object_get(weights, "actorder");
    const char *text = json_string_value(order);
    if (json_is_true(order) || (text && strcasecmp(text, "group") == 0))
        r->config->reordered = 1;
    return status;
}

static gemmux_status parse_groups(const reader *r, const json_t *quant)
{
    gemmux_hf_config *config = r->config;
    const json_t *groups = json_object_get(quant, "config_groups");
    if (!json_is_object(groups) || json_object_size(groups) > 4096)
        return wrong(r, "config_groups", "an object with at most 4096 groups");
    config->groups =
        gemmux_arena_alloc(r->arena, (json_object_size(groups) + 1) * sizeof *config->groups);
    if (!config->groups)
        return no_memory(r);
    config->reordered = 0;
    const char *key;
    json_t *entry;
    json_object_foreach((json_t *)(uintptr_t)groups, key, entry)
    {
        gemmux_status status = parse_group(r, entry, &config->groups[config->group_count]);
        if (status)
            return status;
        config->group_count++;
    }
    return GEMMUX_OK;
}

/* The methods that quantise everything alike: one group without targets. */
static gemmux_status parse_flat(const reader *r, const json_t *quant)
{
    gemmux_hf_config *config = r->config;
    int8_t zero_point = -1;
    const char *format = "";
    gemmux_hf_group *group = config->groups = gemmux_arena_alloc(r->arena, sizeof *group);
    if (!group)
        return no_memory(r);
    config->group_count = 1;
    group->everything = true;
    group->symmetric = -1;
    gemmux_status status = get_int(r, quant, "bits", 1, 64, &group->bits);
    if (!status)
        status = get_int(r, quant, "w_bit", 1, 64, &group->bits);
    if (!status)
        status = get_int(r, quant, "group_size", -1, 1 << 20, &group->group_size);
    if (!status)
        status = get_int(r, quant, "q_group_size", -1, 1 << 20, &group->group_size);
    if (!status)
        status = get_bool(r, quant, "desc_act", &config->reordered);
    if (!status)
        status = get_bool(r, quant, "sym", &group->symmetric);
    if (!status)
        status = get_bool(r, quant, "zero_point", &zero_point);
    if (!status)
        status = get_text(r, quant, "checkpoint_format", &format);
    if (!status)
        status = get_text(r, quant, "version", &config->version);
    config->gptq_v2 = strcmp(format, "gptq_v2") == 0;
    if (zero_point >= 0)
        group->symmetric = !zero_point;
    group->is_float = config->method == GEMMUX_HF_FP8 || config->method == GEMMUX_HF_MXFP4 ||
                      config->method == GEMMUX_HF_MODELOPT;
    return status;
}

/* Which of a method's ways of storing it is. */
static gemmux_status parse_layout(const reader *r, const json_t *quant)
{
    gemmux_hf_config *config = r->config;
    int8_t four = -1, eight = -1, nested = -1;
    if (config->method == GEMMUX_HF_COMPRESSED_TENSORS)
        return get_text(r, quant, "format", &config->layout);
    if (config->method == GEMMUX_HF_MODELOPT)
        return get_text(r, quant, "quant_algo", &config->layout);
    if (config->method != GEMMUX_HF_BITSANDBYTES)
        return GEMMUX_OK;
    gemmux_status status = get_bool(r, quant, "load_in_4bit", &four);
    if (!status)
        status = get_bool(r, quant, "load_in_8bit", &eight);
    if (!status)
        status = get_bool(r, quant, "bnb_4bit_use_double_quant", &nested);
    config->double_quant = nested == 1;
    config->layout = four == 1 ? "fp4" : eight == 1 ? "int8" : "";
    return status || four != 1 ? status
                               : get_text(r, quant, "bnb_4bit_quant_type", &config->layout);
}

static gemmux_status parse_quant(const reader *r, const json_t *quant, gemmux_hf_method method)
{
    gemmux_hf_config *config = r->config;
    static const char *const ignore_keys[] = {"ignore", "modules_to_not_convert", "exclude_modules",
                                              "llm_int8_skip_modules", "ignored_layers"};
    if (!json_is_object(quant))
        return wrong(r, "quantization_config", "an object");
    config->method_name = "";
    gemmux_status status = get_text(r, quant, "quant_method", &config->method_name);
    if (status)
        return status;
    config->method = *config->method_name ? method_of(config->method_name) : method;
    if (config->method == GEMMUX_HF_NONE && json_object_get(quant, "config_groups"))
        config->method = GEMMUX_HF_COMPRESSED_TENSORS;
    if (config->method == GEMMUX_HF_NONE)
        config->method = GEMMUX_HF_OTHER;
    status =
        json_object_get(quant, "config_groups") ? parse_groups(r, quant) : parse_flat(r, quant);
    if (!status)
        status = parse_block(r, quant, "weight_block_size");
    if (!status)
        status = parse_layout(r, quant);
    for (size_t i = 0; i < sizeof ignore_keys / sizeof ignore_keys[0] && !status; i++) {
        if (!config->ignored_count)
            status = get_texts(r, quant, ignore_keys[i], &config->ignored, &config->ignored_count);
    }
    return status;
}

/* The language model's own part of a multi-modal config. */
static const json_t *text_part(const json_t *root)
{
    static const char *const keys[] = {"text_config", "llm_config", "language_config",
                                       "thinker_config"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const json_t *part = json_object_get(root, keys[i]);
        if (json_is_object(part)) /* thinker_config has a text_config of its own */
            return json_is_object(json_object_get(part, "text_config"))
                       ? json_object_get(part, "text_config")
                       : part;
    }
    return NULL;
}

/* Keys of one level; a level deeper overrides nothing that is already stated. */
static gemmux_status parse_architecture(const reader *r, const json_t *object)
{
    static const char *const top_k_keys[] = {"num_experts_per_tok",
                                             "experts_per_token",
                                             "num_experts_per_token",
                                             "top_k_experts",
                                             "moe_top_k",
                                             "moe_topk",
                                             "moe_k"};
    gemmux_hf_config *config = r->config;
    gemmux_status status = GEMMUX_OK;
    for (size_t i = 0; i < sizeof top_k_keys / sizeof top_k_keys[0] && !status; i++) {
        const json_t *value = json_object_get(object, top_k_keys[i]);
        if (!config->top_k && json_is_integer(value)) /* a list (one a layer) states no one value */
            status = get_int(r, object, top_k_keys[i], 0, 1 << 16, &config->top_k);
    }
    int32_t hidden = 0;
    if (!status && !config->hidden_size)
        status = get_int(r, object, "hidden_size", 1, INT32_MAX, &hidden);
    if (hidden)
        config->hidden_size = hidden;
    if (!status && config->tied < 0)
        status = get_bool(r, object, "tie_word_embeddings", &config->tied);
    return status;
}

static gemmux_status parse_root(const reader *r, const json_t *root)
{
    gemmux_hf_config *config = r->config;
    const json_t *part = text_part(root);
    const char *const *names = NULL;
    int32_t name_count = 0;
    if (!json_is_object(root))
        return wrong(r, "the whole text", "an object");
    gemmux_status status = get_text(r, root, "model_type", &config->model_type);
    if (!status)
        status = get_texts(r, root, "architectures", &names, &name_count);
    if (!status)
        status = parse_architecture(r, root);
    if (!status && part)
        status = parse_architecture(r, part);
    if (status)
        return status;
    gemmux_shape_parse(root, part, &config->shape);
    config->architecture = name_count ? names[0] : *config->model_type ? config->model_type : NULL;
    const json_t *quant = json_object_get(root, "quantization_config");
    if (!quant || json_is_null(quant))
        quant = json_object_get(part, "quantization_config");
    if (!quant || json_is_null(quant))
        quant = json_object_get(root, "compression_config");
    return quant && !json_is_null(quant) ? parse_quant(r, quant, GEMMUX_HF_NONE) : GEMMUX_OK;
}

static json_t *load(const reader *r, const char *text, size_t length, gemmux_status *status)
{
    json_error_t problem;
    if (length > MAX_CONFIG_BYTES) {
        *status = gemmux_fail(r->error, GEMMUX_ERROR_INPUT, "%s: a config of %zu bytes is absurd",
                              r->path, length);
        return NULL;
    }
    json_t *root = json_loadb(text ? text : "", length, JSON_REJECT_DUPLICATES, &problem);
    if (!root)
        *status = gemmux_fail(r->error, GEMMUX_ERROR_INPUT, "%s:%d: %s", r->path, problem.line,
                              problem.text);
    return root;
}

gemmux_status gemmux_hf_config_parse(const char *text, size_t length, const char *path,
                                     gemmux_arena *arena, gemmux_hf_config *config,
                                     gemmux_error *error)
{
    *config = (gemmux_hf_config){.present = true,
                                 .model_type = "",
                                 .tied = -1,
                                 .reordered = -1,
                                 .version = "",
                                 .layout = ""};
    reader r = {path, arena, config, error};
    gemmux_status status = GEMMUX_OK;
    json_t *root = load(&r, text, length, &status);
    if (root)
        status = parse_root(&r, root);
    json_decref(root);
    return status;
}

gemmux_status gemmux_hf_quant_parse(const char *text, size_t length, const char *path,
                                    gemmux_hf_method method, gemmux_arena *arena,
                                    gemmux_hf_config *config, gemmux_error *error)
{
    reader r = {path, arena, config, error};
    gemmux_status status = GEMMUX_OK;
    json_t *root = load(&r, text, length, &status);
    const json_t *quant = json_object_get(root, "quantization"); /* modelopt wraps it */
    if (root)
        status = parse_quant(&r, quant ? quant : root, method);
    json_decref(root);
    return status;
}
