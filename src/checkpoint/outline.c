/* SPDX-License-Identifier: Apache-2.0 */
#include "outline.h"

#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MAX_TENSORS 500000             /* today's largest has 140,000 */
#define MAX_SIDE    (INT64_C(1) << 30) /* so that no product of two sizes overflows */

void gemmux_outline_tensor(gemmux_outliner *o, const char *name, const char *suffix,
                           gemmux_dtype dtype, int rank, const int64_t *shape, const void *data)
{
    char whole[256];
    gemmux_stored tensor = {.rank = rank, .file = o->file, .dtype = (uint8_t)dtype, .data = data};
    if (o->status)
        return;
    int length = snprintf(whole, sizeof whole, "%s%s", name, suffix);
    for (int i = 0; i < rank; i++)
        tensor.shape[i] = shape[i];
    int64_t elements = gemmux_shape_elements(shape, rank);
    tensor.bytes = elements < 0 ? -1 : gemmux_dtype_bytes(dtype, elements);
    if (tensor.bytes < 0)
        o->status = gemmux_bad_tensor(o->error, gemmux_catalog_path(o->catalog, &tensor), whole,
                                      "the sizes that the config states overflow");
    else if (o->catalog->count >= MAX_TENSORS)
        o->status = gemmux_fail(o->error, GEMMUX_ERROR_INPUT,
                                "%s: it describes more than %d tensors, which is absurd",
                                gemmux_catalog_path(o->catalog, &tensor), MAX_TENSORS);
    else
        o->status = gemmux_catalog_add(o->catalog, &tensor, whole, (size_t)length, o->error);
}

/* A vector, called by a printf format. */
static void vector(gemmux_outliner *o, int64_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void vector(gemmux_outliner *o, int64_t size, const char *format, ...)
{
    char name[192];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(name, sizeof name, format, arguments);
    va_end(arguments);
    gemmux_outline_tensor(o, name, "", o->dtype, 1, &size, NULL);
}

/* A linear y[n] = x[k], quantised where the config says so. */
static void linear(gemmux_outliner *o, int64_t n, int64_t k, bool bias, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

static void linear(gemmux_outliner *o, int64_t n, int64_t k, bool bias, const char *format, ...)
{
    char name[192];
    const int64_t shape[2] = {n, k};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(name, sizeof name, format, arguments);
    va_end(arguments);
    if (o->status)
        return;
    if (n <= 0 || k <= 0 || n > MAX_SIDE || k > MAX_SIDE) {
        o->status =
            gemmux_bad_tensor(o->error, o->catalog->files[o->file].path, name,
                              "a weight of %lld x %lld is absurd", (long long)n, (long long)k);
        return;
    }
    if (!gemmux_outline_quantised(o, name, n, k))
        gemmux_outline_tensor(o, name, ".weight", o->dtype, 2, shape, NULL);
    if (bias)
        gemmux_outline_tensor(o, name, ".bias", o->dtype, 1, &n, NULL);
}

/* ---------------------------------------------------------------------------------- attention */

static bool flag(int8_t stated, bool usual)
{
    return stated < 0 ? usual : stated != 0;
}

static void latent_attention(gemmux_outliner *o, const char *block)
{
    const gemmux_shape *s = &o->config->shape;
    int64_t heads = s->heads, whole = s->qk_nope + s->qk_rope;
    if (s->q_rank) {
        linear(o, s->q_rank, s->hidden, false, "%s.self_attn.q_a_proj", block);
        vector(o, s->q_rank, "%s.self_attn.q_a_layernorm.weight", block);
        linear(o, heads * whole, s->q_rank, false, "%s.self_attn.q_b_proj", block);
    } else {
        linear(o, heads * whole, s->hidden, false, "%s.self_attn.q_proj", block);
    }
    linear(o, s->kv_rank + s->qk_rope, s->hidden, false, "%s.self_attn.kv_a_proj_with_mqa", block);
    vector(o, s->kv_rank, "%s.self_attn.kv_a_layernorm.weight", block);
    linear(o, heads * (s->qk_nope + s->v_head), s->kv_rank, false, "%s.self_attn.kv_b_proj", block);
    linear(o, s->hidden, heads * s->v_head, false, "%s.self_attn.o_proj", block);
}

static void attention(gemmux_outliner *o, const char *block)
{
    const gemmux_shape *s = &o->config->shape;
    const gemmux_family *f = s->family;
    int64_t q = (int64_t)s->heads * s->head, kv = (int64_t)s->kv_heads * s->head;
    bool bias = flag(s->qkv_bias, f->qkv_bias) || f->qkv_bias;
    if (f->fused) {
        linear(o, q + 2 * kv, s->hidden, bias, "%s.self_attn.qkv_proj", block);
    } else {
        linear(o, q, s->hidden, bias, "%s.self_attn.q_proj", block);
        linear(o, kv, s->hidden, bias, "%s.self_attn.k_proj", block);
        linear(o, kv, s->hidden, bias, "%s.self_attn.v_proj", block);
    }
    linear(o, s->hidden, q, flag(s->o_bias, f->o_bias), "%s.self_attn.o_proj", block);
    if (f->head_norms || f->wide_norms) {
        vector(o, f->wide_norms ? q : s->head, "%s.self_attn.q_norm.weight", block);
        vector(o, f->wide_norms ? kv : s->head, "%s.self_attn.k_norm.weight", block);
    }
    if (f->sinks)
        vector(o, s->heads, "%s.self_attn.sinks", block);
}

/* ---------------------------------------------------------------------------------------- mlp */

static void mlp(gemmux_outliner *o, const char *module, int64_t inner)
{
    const gemmux_shape *s = &o->config->shape;
    bool bias = s->mlp_bias == 1;
    if (s->family->fused) {
        linear(o, 2 * inner, s->hidden, bias, "%s.gate_up_proj", module);
    } else {
        linear(o, inner, s->hidden, bias, "%s.gate_proj", module);
        linear(o, inner, s->hidden, bias, "%s.up_proj", module);
    }
    linear(o, s->hidden, inner, bias, "%s.down_proj", module);
}

/* All experts of one projection in one tensor: MXFP4's blocks and scales, or [E, k, n]. */
static void fused_experts(gemmux_outliner *o, const char *module, int64_t n, int64_t k)
{
    const int64_t experts = o->config->shape.experts, groups = k / 32;
    if (o->config->method == GEMMUX_HF_MXFP4) {
        if (k % 32)
            o->status = gemmux_bad_tensor(o->error, o->catalog->files[o->file].path, module,
                                          "%lld columns are no whole blocks of 32", (long long)k);
        gemmux_outline_tensor(o, module, "_blocks", GEMMUX_DTYPE_U8, 4,
                              (const int64_t[]){experts, n, groups, 16}, NULL);
        gemmux_outline_tensor(o, module, "_scales", GEMMUX_DTYPE_U8, 3,
                              (const int64_t[]){experts, n, groups}, NULL);
    } else if (o->config->method == GEMMUX_HF_NONE) {
        gemmux_outline_tensor(o, module, "", o->dtype, 3, (const int64_t[]){experts, k, n}, NULL);
    } else {
        o->status = gemmux_fail(o->error, GEMMUX_ERROR_INPUT,
                                "%s: how %s stores fused experts is not known; open the weights, "
                                "or their headers",
                                o->catalog->files[o->file].path, o->config->method_name);
    }
    gemmux_outline_tensor(o, module, "_bias", o->dtype, 2, (const int64_t[]){experts, n}, NULL);
}

static void experts(gemmux_outliner *o, const char *block)
{
    const gemmux_shape *s = &o->config->shape;
    const uint8_t names = s->family->moe;
    const char *module = names == GEMMUX_MOE_MIXTRAL ? "block_sparse_moe" : "mlp";
    char name[160];
    linear(o, s->experts, s->hidden, names == GEMMUX_MOE_GPTOSS, "%s.%s.%s", block, module,
           names == GEMMUX_MOE_GPTOSS ? "router" : "gate");
    if (names == GEMMUX_MOE_GPTOSS) {
        snprintf(name, sizeof name, "%s.mlp.experts.gate_up_proj", block);
        fused_experts(o, name, 2 * s->moe_inner, s->hidden);
        snprintf(name, sizeof name, "%s.mlp.experts.down_proj", block);
        fused_experts(o, name, s->hidden, s->moe_inner);
        return;
    }
    for (int32_t i = 0; i < s->experts && !o->status; i++) {
        snprintf(name, sizeof name, "%s.%s.experts.%d", block, module, i);
        if (names == GEMMUX_MOE_MIXTRAL) {
            linear(o, s->moe_inner, s->hidden, false, "%s.w1", name);
            linear(o, s->hidden, s->moe_inner, false, "%s.w2", name);
            linear(o, s->moe_inner, s->hidden, false, "%s.w3", name);
        } else {
            mlp(o, name, s->moe_inner);
        }
    }
    if (names == GEMMUX_MOE_QWEN && s->shared_inner) {
        snprintf(name, sizeof name, "%s.mlp.shared_expert", block);
        mlp(o, name, s->shared_inner);
        linear(o, 1, s->hidden, false, "%s.mlp.shared_expert_gate", block);
    }
    if (names == GEMMUX_MOE_DEEPSEEK && s->shared_experts) {
        snprintf(name, sizeof name, "%s.mlp.shared_experts", block);
        mlp(o, name, s->moe_inner * s->shared_experts);
    }
    if (names == GEMMUX_MOE_DEEPSEEK && s->router_fix) {
        const int64_t size = s->experts;
        gemmux_outline_tensor(o, block, ".mlp.gate.e_score_correction_bias", GEMMUX_DTYPE_F32, 1,
                              &size, NULL);
    }
}

/* ------------------------------------------------------------------------------------- blocks */

static bool has_experts(const gemmux_shape *s, int32_t block)
{
    if (s->family->moe == GEMMUX_MOE_NONE || s->experts == 0)
        return false;
    if (s->family->moe == GEMMUX_MOE_QWEN)
        return (block + 1) % s->moe_every == 0;
    return block >= s->dense_blocks && block % s->moe_every == 0;
}

static void one_block(gemmux_outliner *o, int32_t index)
{
    static const char *const norms[] = {"input_layernorm", "post_attention_layernorm",
                                        "pre_feedforward_layernorm", "post_feedforward_layernorm"};
    const gemmux_shape *s = &o->config->shape;
    char block[64], module[96];
    snprintf(block, sizeof block, "model.layers.%d", index);
    if (s->family->latent)
        latent_attention(o, block);
    else
        attention(o, block);
    snprintf(module, sizeof module, "%s.mlp", block);
    if (has_experts(s, index))
        experts(o, block);
    else
        mlp(o, module, s->inner);
    for (int i = s->family->wide_norms; i < 4; i += s->family->wide_norms ? 2 : 1) {
        if (s->family->wide_norms || i < s->family->norms) /* OLMo 2: after its products only */
            vector(o, s->hidden, "%s.%s.weight", block, norms[i]);
    }
}

static gemmux_status incomplete(const gemmux_outliner *o, const char *what)
{
    return gemmux_fail(o->error, GEMMUX_ERROR_INPUT, "%s: it does not state %s",
                       o->catalog->files[o->file].path, what);
}

/* Everything is stated from which sizes are computed. */
static gemmux_status check(const gemmux_outliner *o)
{
    const gemmux_hf_config *config = o->config;
    const gemmux_shape *s = &config->shape;
    const char *path = o->catalog->files[o->file].path;
    if (!s->family || s->family->gguf)
        return gemmux_fail(o->error, GEMMUX_ERROR_INPUT,
                           "%s: model_type \"%.40s\" is none whose tensors gemmux knows from the "
                           "config alone; open the weights, or their headers",
                           path, *config->model_type ? config->model_type : "(not stated)");
    if (s->bad)
        return gemmux_fail(o->error, GEMMUX_ERROR_INPUT, "%s: the value of \"%s\" makes no sense",
                           path, s->bad);
    if (s->irregular)
        return gemmux_fail(o->error, GEMMUX_ERROR_INPUT,
                           "%s: its blocks differ from each other in ways that the config alone "
                           "does not tell gemmux; open the weights, or their headers",
                           path);
    bool moe = s->family->moe && s->experts;
    return !s->blocks              ? incomplete(o, "num_hidden_layers")
           : !s->hidden            ? incomplete(o, "hidden_size")
           : !s->vocab             ? incomplete(o, "vocab_size")
           : !s->heads || !s->head ? incomplete(o, "num_attention_heads")
           : !s->inner && !moe     ? incomplete(o, "intermediate_size")
           : moe && !s->moe_inner  ? incomplete(o, "moe_intermediate_size")
           : s->family->latent && (!s->kv_rank || !s->qk_nope || !s->qk_rope)
               ? incomplete(o, "kv_lora_rank, qk_nope_head_dim and qk_rope_head_dim")
               : GEMMUX_OK;
}

gemmux_status gemmux_outline(gemmux_catalog *catalog, int32_t file, const gemmux_hf_config *config,
                             gemmux_error *error)
{
    const gemmux_shape *s = &config->shape;
    gemmux_outliner o = {.catalog = catalog,
                         .file = file,
                         .config = config,
                         .dtype = s->dtype ? (gemmux_dtype)s->dtype : GEMMUX_DTYPE_BF16,
                         .error = error};
    o.status = check(&o);
    if (o.status)
        return o.status;
    gemmux_outline_tensor(&o, "model.embed_tokens", ".weight", o.dtype, 2,
                          (const int64_t[]){s->vocab, s->hidden}, NULL);
    for (int32_t i = 0; i < s->blocks && !o.status; i++)
        one_block(&o, i);
    vector(&o, s->hidden, "model.norm.weight");
    if (!flag(config->tied, s->family->tied))
        gemmux_outline_tensor(&o, "lm_head", ".weight", o.dtype, 2,
                              (const int64_t[]){s->vocab, s->hidden}, NULL);
    return o.status;
}
