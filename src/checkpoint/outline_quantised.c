/* SPDX-License-Identifier: Apache-2.0
 *
 * How each method of quantization_config stores a linear: the tensors that its writer makes, as the
 * schemes of this folder read them.
 */
#include "error.h"
#include "outline.h"

#include <stdio.h>
#include <string.h>

static bool is_part(const char *name, const char *part)
{
    size_t length = strlen(name), end = strlen(part);
    return length >= end && strcmp(name + length - end, part) == 0;
}

/* Linears that the methods leave as they are without being told: what lies outside the blocks, and
 * routers. compressed-tensors names its exceptions itself. */
static bool is_left_alone(const gemmux_hf_config *config, const char *name)
{
    if (config->method == GEMMUX_HF_COMPRESSED_TENSORS)
        return false;
    return !strstr(name, "layers.") || is_part(name, ".gate") || is_part(name, ".router") ||
           is_part(name, ".shared_expert_gate");
}

static void fp8(gemmux_outliner *o, const char *name, int64_t n, int64_t k,
                const gemmux_hf_group *group)
{
    const gemmux_hf_config *c = o->config;
    gemmux_outline_tensor(o, name, ".weight", GEMMUX_DTYPE_E4M3, 2, (const int64_t[]){n, k}, NULL);
    if (c->block[0])
        gemmux_outline_tensor(
            o, name, c->method == GEMMUX_HF_FP8 ? ".weight_scale_inv" : ".weight_scale",
            c->method == GEMMUX_HF_FP8 ? GEMMUX_DTYPE_F32 : o->dtype, 2,
            (const int64_t[]){gemmux_divide_up(n, c->block[0]), gemmux_divide_up(k, c->block[1])},
            NULL);
    else if (group->group_size == -1 || strcmp(c->method_name, "fbgemm_fp8") == 0)
        gemmux_outline_tensor(o, name, ".weight_scale",
                              c->method == GEMMUX_HF_FP8 ? GEMMUX_DTYPE_F32 : o->dtype, 2,
                              (const int64_t[]){n, 1}, NULL);
    else
        gemmux_outline_tensor(o, name, ".weight_scale", GEMMUX_DTYPE_F32, 0, NULL, NULL);
}

static void gptq(gemmux_outliner *o, const char *name, int64_t n, int64_t k,
                 const gemmux_hf_group *group)
{
    int64_t bits = group->bits ? group->bits : 4;
    int64_t groups = group->group_size > 0 ? gemmux_divide_up(k, group->group_size) : 1;
    gemmux_outline_tensor(o, name, ".qweight", GEMMUX_DTYPE_I32, 2,
                          (const int64_t[]){k * bits / 32, n}, NULL);
    gemmux_outline_tensor(o, name, ".qzeros", GEMMUX_DTYPE_I32, 2,
                          (const int64_t[]){groups, n * bits / 32}, NULL);
    gemmux_outline_tensor(o, name, ".scales", GEMMUX_DTYPE_F16, 2, (const int64_t[]){groups, n},
                          NULL);
    gemmux_outline_tensor(o, name, ".g_idx", GEMMUX_DTYPE_I32, 1, &k, NULL);
}

static void awq(gemmux_outliner *o, const char *name, int64_t n, int64_t k,
                const gemmux_hf_group *group)
{
    int64_t groups = group->group_size > 0 ? gemmux_divide_up(k, group->group_size) : 1;
    gemmux_outline_tensor(o, name, ".qweight", GEMMUX_DTYPE_I32, 2, (const int64_t[]){k, n / 8},
                          NULL);
    gemmux_outline_tensor(o, name, ".qzeros", GEMMUX_DTYPE_I32, 2, (const int64_t[]){groups, n / 8},
                          NULL);
    gemmux_outline_tensor(o, name, ".scales", GEMMUX_DTYPE_F16, 2, (const int64_t[]){groups, n},
                          NULL);
}

static void packed_integers(gemmux_outliner *o, const char *name, int64_t n, int64_t k,
                            const gemmux_hf_group *group)
{
    int64_t words = gemmux_divide_up(k * group->bits, 32);
    int64_t groups = group->group_size > 0 ? gemmux_divide_up(k, group->group_size) : 1;
    int64_t *shape = gemmux_arena_alloc(&o->catalog->arena, 2 * sizeof *shape);
    if (!shape) {
        o->status = gemmux_fail(o->error, GEMMUX_ERROR_MEMORY, "out of memory for tensors");
        return;
    }
    shape[0] = n;
    shape[1] = k;
    gemmux_outline_tensor(o, name, ".weight_packed", GEMMUX_DTYPE_I32, 2,
                          (const int64_t[]){n, words}, NULL);
    gemmux_outline_tensor(o, name, ".weight_scale", o->dtype, 2, (const int64_t[]){n, groups},
                          NULL);
    gemmux_outline_tensor(o, name, ".weight_shape", GEMMUX_DTYPE_I64, 1, (const int64_t[]){2},
                          shape);
    if (group->symmetric == 0)
        gemmux_outline_tensor(o, name, ".weight_zero_point", GEMMUX_DTYPE_I32, 2,
                              (const int64_t[]){gemmux_divide_up(n, 8), groups}, NULL);
}

static void int8(gemmux_outliner *o, const char *name, int64_t n, int64_t k)
{
    gemmux_outline_tensor(o, name, ".weight", GEMMUX_DTYPE_I8, 2, (const int64_t[]){n, k}, NULL);
    gemmux_outline_tensor(o, name, ".weight_scale", o->dtype, 2, (const int64_t[]){n, 1}, NULL);
}

/* NVFP4 of modelopt (codes in .weight) and of compressed-tensors (.weight_packed), and the latter's
 * MXFP4. */
static void fp4(gemmux_outliner *o, const char *name, int64_t n, int64_t k)
{
    const gemmux_hf_config *c = o->config;
    bool modelopt = c->method == GEMMUX_HF_MODELOPT, mx = strstr(c->layout, "mxfp4") != NULL;
    int64_t group = mx ? 32 : 16;
    gemmux_outline_tensor(o, name, modelopt ? ".weight" : ".weight_packed", GEMMUX_DTYPE_U8, 2,
                          (const int64_t[]){n, k / 2}, NULL);
    gemmux_outline_tensor(o, name, ".weight_scale", mx ? GEMMUX_DTYPE_U8 : GEMMUX_DTYPE_E4M3, 2,
                          (const int64_t[]){n, gemmux_divide_up(k, group)}, NULL);
    if (modelopt)
        gemmux_outline_tensor(o, name, ".weight_scale_2", GEMMUX_DTYPE_F32, 0, NULL, NULL);
    else if (!mx)
        gemmux_outline_tensor(o, name, ".weight_global_scale", GEMMUX_DTYPE_F32, 1,
                              (const int64_t[]){1}, NULL);
}

/* bitsandbytes with blocks of 64, and of 256 scales where these are quantised too. */
static void nf4(gemmux_outliner *o, const char *name, int64_t n, int64_t k)
{
    const bool nested = o->config->double_quant;
    const int64_t blocks = gemmux_divide_up(n * k, 64);
    const char *state = gemmux_arena_format(
        &o->catalog->arena,
        "{\"shape\": [%lld, %lld], \"blocksize\": 64, \"quant_type\": \"nf4\", \"dtype\": "
        "\"bfloat16\", \"nested_blocksize\": 256, \"nested_offset\": 0.0}",
        (long long)n, (long long)k);
    if (!state) {
        o->status = gemmux_fail(o->error, GEMMUX_ERROR_MEMORY, "out of memory for tensors");
        return;
    }
    gemmux_outline_tensor(o, name, ".weight", GEMMUX_DTYPE_U8, 2,
                          (const int64_t[]){gemmux_divide_up(n * k, 2), 1}, NULL);
    gemmux_outline_tensor(o, name, ".weight.absmax", nested ? GEMMUX_DTYPE_U8 : GEMMUX_DTYPE_F32, 1,
                          &blocks, NULL);
    gemmux_outline_tensor(o, name, ".weight.quant_map", GEMMUX_DTYPE_F32, 1, (const int64_t[]){16},
                          NULL);
    if (nested) {
        gemmux_outline_tensor(o, name, ".weight.nested_absmax", GEMMUX_DTYPE_F32, 1,
                              (const int64_t[]){gemmux_divide_up(blocks, 256)}, NULL);
        gemmux_outline_tensor(o, name, ".weight.nested_quant_map", GEMMUX_DTYPE_F32, 1,
                              (const int64_t[]){256}, NULL);
    }
    gemmux_outline_tensor(o, name, ".weight.quant_state.bitsandbytes__nf4", GEMMUX_DTYPE_U8, 1,
                          (const int64_t[]){(int64_t)strlen(state)}, state);
}

static void unknown(gemmux_outliner *o, const gemmux_hf_group *group)
{
    o->status = gemmux_fail(o->error, GEMMUX_ERROR_INPUT,
                            "%s: how \"%.40s\" (%d bits) stores its tensors is not known from the "
                            "config alone; open the weights, or their headers",
                            o->catalog->files[o->file].path, o->config->method_name, group->bits);
}

static void compressed(gemmux_outliner *o, const char *name, int64_t n, int64_t k,
                       const gemmux_hf_group *group)
{
    if (group->is_float && group->bits == 8)
        fp8(o, name, n, k, group);
    else if (group->is_float && group->bits == 4)
        fp4(o, name, n, k);
    else if (!group->is_float && group->bits == 8 &&
             strcmp(o->config->layout, "pack-quantized") != 0)
        int8(o, name, n, k);
    else if (!group->is_float && (group->bits == 4 || group->bits == 8))
        packed_integers(o, name, n, k, group);
    else
        unknown(o, group);
}

bool gemmux_outline_quantised(gemmux_outliner *o, const char *name, int64_t n, int64_t k)
{
    const gemmux_hf_config *c = o->config;
    const gemmux_hf_group *group = gemmux_hf_module(c, name, strlen(name));
    if (!group || is_left_alone(c, name) || c->method == GEMMUX_HF_MXFP4)
        return false;
    if (c->method == GEMMUX_HF_FP8)
        fp8(o, name, n, k, group);
    else if (c->method == GEMMUX_HF_GPTQ)
        gptq(o, name, n, k, group);
    else if (c->method == GEMMUX_HF_AWQ)
        awq(o, name, n, k, group);
    else if (c->method == GEMMUX_HF_COMPRESSED_TENSORS)
        compressed(o, name, n, k, group);
    else if (c->method == GEMMUX_HF_MODELOPT && strstr(c->layout, "FP8"))
        fp8(o, name, n, k, group);
    else if (c->method == GEMMUX_HF_MODELOPT && strstr(c->layout, "NVFP4"))
        fp4(o, name, n, k);
    else if (c->method == GEMMUX_HF_BITSANDBYTES && strcmp(c->layout, "nf4") == 0)
        nf4(o, name, n, k);
    else
        unknown(o, group);
    return true;
}
