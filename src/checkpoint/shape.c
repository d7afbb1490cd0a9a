/* SPDX-License-Identifier: Apache-2.0 */
#include "shape.h"

#include "dtypes.h"

#include <string.h>

/* Larger ones are mistakes or attacks; today's largest model has 126 blocks and 512 experts. */
enum { MAX_BLOCKS = 4096, MAX_HEADS = 65536, MAX_EXPERTS = 65536, MAX_SIZE = 1 << 30 };

/* Read off the architectures' definitions in transformers (modeling_*.py) and, for `gguf`, in
 * llama.cpp (llama-arch, and set_swa_pattern for window_every). */
static const gemmux_family families[] = {
    {.type = "llama", .norms = 2},
    {.type = "mistral", .norms = 2},
    {.type = "smollm3", .norms = 2, .tied = true},
    {.type = "granite", .norms = 2},
    {.type = "mixtral", .norms = 2, .moe = GEMMUX_MOE_MIXTRAL},
    {.type = "qwen2", .norms = 2, .qkv_bias = true, .window_if_used = true},
    {.type = "qwen3", .norms = 2, .head_norms = true, .window_if_used = true},
    {.type = "qwen2_moe",
     .norms = 2,
     .qkv_bias = true,
     .moe = GEMMUX_MOE_QWEN,
     .window_if_used = true},
    {.type = "qwen3_moe",
     .norms = 2,
     .head_norms = true,
     .moe = GEMMUX_MOE_QWEN,
     .window_if_used = true},
    {.type = "gpt_oss",
     .norms = 2,
     .qkv_bias = true,
     .o_bias = true,
     .sinks = true,
     .moe = GEMMUX_MOE_GPTOSS,
     .window_every = 2},
    {.type = "phi3", .norms = 2, .fused = true},
    {.type = "gemma", .norms = 2, .tied = true},
    {.type = "gemma2", .norms = 4, .tied = true, .window_every = 2},
    {.type = "gemma3_text", .norms = 4, .head_norms = true, .tied = true, .window_every = 6},
    {.type = "olmo2", .norms = 2, .wide_norms = true},
    {.type = "deepseek_v2", .norms = 2, .latent = true, .moe = GEMMUX_MOE_DEEPSEEK},
    {.type = "deepseek_v3", .norms = 2, .latent = true, .moe = GEMMUX_MOE_DEEPSEEK},
    {.type = "kimi_k2", .norms = 2, .latent = true, .moe = GEMMUX_MOE_DEEPSEEK},
    {.type = "gpt-oss", .window_every = 2, .gguf = true},
    {.type = "gemma3", .window_every = 6, .gguf = true},
    {.type = "cohere2", .window_every = 4, .gguf = true},
};

const gemmux_family *gemmux_family_find(const char *type)
{
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        if (strcmp(families[i].type, type) == 0)
            return &families[i];
    }
    return NULL;
}

/* --------------------------------------------------------------------------------- config.json */

typedef struct reader {
    const json_t *root, *part; /* part: asked first; may be NULL */
    const char *bad;           /* the first key with a value that makes no sense */
} reader;

/* The value under the first key that is there and not null. */
static const json_t *find(const reader *r, const char *const *keys, const char **key)
{
    const json_t *const objects[] = {r->part, r->root};
    for (int i = 0; i < 2; i++) {
        for (const char *const *k = keys; *k; k++) {
            const json_t *value = json_object_get(objects[i], *k);
            if (value && !json_is_null(value)) {
                *key = *k;
                return value;
            }
        }
    }
    return NULL;
}

/* A number within bounds, else 0. A checkpoint can be read whatever these numbers are, so a bad one
 * is only noted. */
static int64_t get_size(reader *r, const char *const *keys, int64_t low, int64_t high)
{
    const char *key;
    const json_t *value = find(r, keys, &key);
    if (!value || json_is_array(value)) /* one a block states no one value */
        return 0;
    int64_t number = json_is_integer(value) ? json_integer_value(value) : -1;
    if (json_is_real(value) && json_real_value(value) >= 0 && json_real_value(value) <= 1e18)
        number = (int64_t)json_real_value(value);
    if (number >= low && number <= high)
        return number;
    r->bad = r->bad ? r->bad : key;
    return 0;
}

/* A list that is not empty. */
static bool has_list(const reader *r, const char *name)
{
    const char *keys[] = {name, NULL}, *key;
    return json_array_size(find(r, keys, &key)) > 0;
}

static int8_t get_flag(const reader *r, const char *name)
{
    const char *keys[] = {name, NULL}, *key;
    const json_t *value = find(r, keys, &key);
    return json_is_boolean(value) ? (int8_t)json_is_true(value) : -1;
}

/* One number and where it goes; 32-bit fields go through `narrow`. */
typedef struct field {
    const char *keys[6];
    int64_t low, high;
    int64_t *wide;
    int32_t *narrow;
} field;

static void get_sizes(reader *r, gemmux_shape *s)
{
    const field fields[] = {
        {{"hidden_size", "n_embd", "d_model"}, 1, MAX_SIZE, &s->hidden, NULL},
        {{"vocab_size"}, 1, MAX_SIZE, &s->vocab, NULL},
        {{"max_position_embeddings", "n_positions", "max_seq_len"},
         1,
         INT64_C(1) << 40,
         &s->max_context,
         NULL},
        {{"intermediate_size", "n_inner", "ffn_dim"}, 1, MAX_SIZE, &s->inner, NULL},
        {{"moe_intermediate_size"}, 1, MAX_SIZE, &s->moe_inner, NULL},
        {{"shared_expert_intermediate_size"}, 0, MAX_SIZE, &s->shared_inner, NULL},
        {{"sliding_window"}, 0, INT64_C(1) << 40, &s->window, NULL},
        {{"num_hidden_layers", "n_layer", "n_layers"}, 1, MAX_BLOCKS, NULL, &s->blocks},
        {{"num_attention_heads", "n_head", "n_heads"}, 1, MAX_HEADS, NULL, &s->heads},
        {{"num_key_value_heads", "num_kv_heads"}, 1, MAX_HEADS, NULL, &s->kv_heads},
        {{"head_dim"}, 1, MAX_HEADS, NULL, &s->head},
        {{"v_head_dim"}, 1, MAX_HEADS, NULL, &s->v_head},
        {{"num_local_experts", "num_experts", "n_routed_experts"},
         0,
         MAX_EXPERTS,
         NULL,
         &s->experts},
        {{"n_shared_experts"}, 0, MAX_BLOCKS, NULL, &s->shared_experts},
        {{"first_k_dense_replace"}, 0, MAX_BLOCKS, NULL, &s->dense_blocks},
        {{"decoder_sparse_step", "moe_layer_freq"}, 1, MAX_BLOCKS, NULL, &s->moe_every},
        {{"q_lora_rank"}, 0, MAX_SIZE, NULL, &s->q_rank},
        {{"kv_lora_rank"}, 1, MAX_SIZE, NULL, &s->kv_rank},
        {{"qk_nope_head_dim"}, 1, MAX_HEADS, NULL, &s->qk_nope},
        {{"qk_rope_head_dim"}, 1, MAX_HEADS, NULL, &s->qk_rope},
        {{"num_nextn_predict_layers"}, 0, MAX_BLOCKS, NULL, &s->extra_blocks},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        const field *f = &fields[i];
        int64_t value = get_size(r, f->keys, f->low, f->high);
        if (f->wide)
            *f->wide = value;
        else
            *f->narrow = (int32_t)value;
    }
}

/* "layer_types" says for each block what its attention sees. False: it is not there. */
static bool count_layer_types(const reader *r, gemmux_shape *s)
{
    static const char *const keys[] = {"layer_types", NULL};
    const char *key;
    const json_t *types = find(r, keys, &key);
    if (!json_is_array(types) || json_array_size(types) != (size_t)s->blocks)
        return false;
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));
        if (type && strstr(type, "attention") && !strstr(type, "linear"))
            s->cached_blocks++;
        if (type && (strstr(type, "sliding") || strstr(type, "chunked")))
            s->window_blocks++;
    }
    return true;
}

static uint8_t get_dtype(const reader *r)
{
    static const char *const keys[] = {"dtype", "torch_dtype", NULL};
    static const struct {
        const char *name;
        gemmux_dtype dtype;
    } names[] = {{"bfloat16", GEMMUX_DTYPE_BF16},
                 {"float16", GEMMUX_DTYPE_F16},
                 {"float32", GEMMUX_DTYPE_F32}};
    const char *key, *text = json_string_value(find(r, keys, &key));
    for (size_t i = 0; text && i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i].name) == 0)
            return (uint8_t)names[i].dtype;
    }
    return GEMMUX_DTYPE_UNKNOWN;
}

void gemmux_shape_parse(const json_t *root, const json_t *part, gemmux_shape *s)
{
    static const char *const types[] = {"model_type", NULL},
                             *const methods[] = {"topk_method", NULL},
                             *const patterns[] = {"sliding_window_pattern", NULL};
    reader r = {root, part, NULL};
    const char *key, *type = json_string_value(find(&r, types, &key));
    const char *method = json_string_value(find(&r, methods, &key));
    *s = (gemmux_shape){.multimodal =
                            part || json_is_object(json_object_get(root, "vision_config"))};
    s->family = type ? gemmux_family_find(type) : NULL;
    get_sizes(&r, s);
    s->qkv_bias = get_flag(&r, "attention_bias");
    s->o_bias = s->qkv_bias;
    s->mlp_bias = get_flag(&r, "mlp_bias");
    s->dtype = get_dtype(&r);
    s->irregular = has_list(&r, "mlp_only_layers") || has_list(&r, "intermediate_size") ||
                   has_list(&r, "num_key_value_heads");
    s->router_fix = method && strcmp(method, "noaux_tc") == 0;
    if (s->family && s->family->window_if_used && get_flag(&r, "use_sliding_window") != 1)
        s->window = 0;
    if (!count_layer_types(&r, s) && s->window) {
        int64_t every = get_size(&r, patterns, 1, MAX_BLOCKS);
        if (!every && s->family)
            every = s->family->window_every;
        s->window_blocks = every ? s->blocks - s->blocks / (int32_t)every : s->blocks;
    }
    s->bad = r.bad;
    gemmux_shape_finish(s);
}

void gemmux_shape_finish(gemmux_shape *s)
{
    if (!s->kv_heads)
        s->kv_heads = s->heads;
    if (!s->head && s->heads)
        s->head = (int32_t)(s->hidden / s->heads);
    if (!s->v_head)
        s->v_head = s->head;
    if (!s->moe_inner)
        s->moe_inner = s->inner;
    if (!s->moe_every)
        s->moe_every = 1;
    if (!s->cached_blocks)
        s->cached_blocks = s->blocks;
    if (!s->window)
        s->window_blocks = 0;
    if (s->window_blocks > s->cached_blocks)
        s->window_blocks = s->cached_blocks;
}
