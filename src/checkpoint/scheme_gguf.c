/* SPDX-License-Identifier: Apache-2.0
 *
 * The weights of GGUF files: one tensor a layer, its blocks split into codes and scales. f32, f16
 * and bf16 are views.
 */
#include <string.h>

#include "error.h"
#include "format.h"
#include "ggml_blocks.h"
#include "scheme.h"

static bool is_experts(const gemmux_stored *weight, size_t stem_length)
{
    return weight->rank == 3 && stem_length > 5 &&
           memcmp(weight->name + stem_length - 5, "_exps", 5) == 0;
}

static bool claims(const gemmux_model *model, const gemmux_stored *weight, size_t stem_length)
{
    return model->is_gguf && (weight->rank == 2 || is_experts(weight, stem_length));
}

static bool is_float(const gemmux_stored *weight)
{
    return gemmux_code_of_float((gemmux_dtype)weight->dtype) != GEMMUX_CODE_NONE;
}

static void read_shape(const gemmux_model *model, gemmux_source *source,
                       const gemmux_stored *weight)
{
    gemmux_layer *layer = &source->layer;
    layer->n = weight->shape[weight->rank - 2];
    layer->k = weight->shape[weight->rank - 1];
    if (weight->rank < 3)
        return;
    layer->op = GEMMUX_MOE;
    layer->experts = (int32_t)weight->shape[0];
    layer->top_k = model->top_k;
    bool last = source->stem_length >= 9 &&
                memcmp(weight->name + source->stem_length - 9, "down_exps", 9) == 0;
    layer->epilogue = last ? GEMMUX_EPILOGUE_SCATTER : GEMMUX_EPILOGUE_GATHER;
}

/* A factor that llama.cpp keeps in a tensor of its own: one number, or one an expert. */
static gemmux_status read_factor(gemmux_model *model, gemmux_source *source, gemmux_error *error)
{
    const gemmux_stored *factor = gemmux_find_part(model, source, GEMMUX_PART_GLOBAL, ".scale");
    if (!factor)
        factor = gemmux_find_part(model, source, GEMMUX_PART_GLOBAL, ".weight.scale");
    if (!factor)
        return GEMMUX_OK;
    if (!source->layer.format.two_level)
        return gemmux_refuse(model, source, error,
                             "a %s weight with a scale in the tensor '%.100s' is not read",
                             source->layer.scheme, factor->name);
    int64_t count = source->layer.op == GEMMUX_MOE ? source->layer.experts : 1;
    return gemmux_expect(model, factor, GEMMUX_DTYPE_F32, 1, &count, error);
}

static gemmux_status read_type(gemmux_model *model, gemmux_source *source,
                               const gemmux_stored *weight, gemmux_error *error)
{
    const gemmux_ggml_kind *kind = gemmux_ggml_kind_of((gemmux_dtype)weight->dtype);
    const char *name = gemmux_dtype_name((gemmux_dtype)weight->dtype);
    if (is_float(weight) || kind) {
        source->layer.format =
            kind ? gemmux_make_format(kind->id, kind->scaling, kind->scale, kind->zero, kind->group)
                 : gemmux_format_of_float((gemmux_dtype)weight->dtype);
        return gemmux_set_scheme(model, source, error, "gguf %s%s", name,
                                 kind && kind->rounded ? " (as f32)" : "");
    }
    gemmux_status status =
        weight->dtype ? gemmux_set_scheme(model, source, error, "gguf %s", name)
                      : gemmux_set_scheme(model, source, error, "gguf type %u", weight->ggml_type);
    return status ? status
                  : gemmux_refuse(model, source, error, "blocks of %s are not decoded",
                                  source->layer.scheme);
}

static gemmux_status read(gemmux_model *model, gemmux_source *source, gemmux_error *error)
{
    const gemmux_stored *weight = gemmux_part_of(model, source, GEMMUX_PART_WEIGHT);
    if (weight->rank == 3 && weight->shape[0] > INT32_MAX)
        return gemmux_bad(model, weight, error, "%lld experts are absurd",
                          (long long)weight->shape[0]);
    read_shape(model, source, weight);
    gemmux_status status = read_type(model, source, weight, error);
    if (!status && !source->refusal)
        status = gemmux_find_bias(model, source, ".bias", error);
    return status || source->refusal ? status : read_factor(model, source, error);
}

/* Blocks follow each other along K, and so do their codes and scales. */
static void decode_blocks(const gemmux_stored *weight, const gemmux_ggml_kind *kind,
                          gemmux_format format, const gemmux_room *room)
{
    int elements = gemmux_dtype_block(kind->dtype), bytes = gemmux_dtype_block_bytes(kind->dtype);
    int64_t count = weight->bytes / bytes;
    int64_t codes = gemmux_row_bytes(format, elements);
    int64_t groups = gemmux_scale_count(format, 1, elements);
    int64_t scales = groups * gemmux_scale_bytes(format),
            zeros = groups * gemmux_zero_bytes(format);
    for (int64_t i = 0; i < count; i++)
        kind->decode(weight->data + i * bytes, room->codes + i * codes,
                     scales ? room->scales + i * scales : NULL,
                     zeros ? room->zeros + i * zeros : NULL);
}

static gemmux_status check_room(const gemmux_model *model, const gemmux_stored *weight,
                                gemmux_format format, const gemmux_room *room, int64_t count,
                                gemmux_error *error)
{
    bool negative = format.id == GEMMUX_INT4 || format.id == GEMMUX_INT8;
    gemmux_status status = GEMMUX_OK;
    if (format.id == GEMMUX_F32) /* scales are in the products */
        status =
            gemmux_check_scales(model, weight, GEMMUX_CODE_F32, room->codes,
                                gemmux_shape_elements(weight->shape, weight->rank), true, error);
    if (format.scaling)
        status = gemmux_check_scales(model, weight, (gemmux_code)format.scale, room->scales, count,
                                     negative, error);
    if (!status && format.zero)
        status = gemmux_check_scales(model, weight, (gemmux_code)format.scale, room->zeros, count,
                                     true, error);
    return status;
}

static gemmux_status load_factor(const gemmux_model *model, const gemmux_source *source,
                                 const gemmux_room *room, gemmux_weights *weights,
                                 gemmux_error *error)
{
    const gemmux_stored *factor = gemmux_part_of(model, source, GEMMUX_PART_GLOBAL);
    if (!factor)
        return GEMMUX_OK;
    memcpy(room->globals, factor->data, (size_t)factor->bytes);
    weights->tensor.globals = room->globals;
    return gemmux_check_scales(model, factor, GEMMUX_CODE_F32, room->globals, factor->bytes / 4,
                               false, error);
}

static gemmux_status load(const gemmux_model *model, const gemmux_source *source,
                          gemmux_weights *weights, gemmux_error *error)
{
    const gemmux_stored *weight = gemmux_part_of(model, source, GEMMUX_PART_WEIGHT);
    const gemmux_stored *factor = gemmux_part_of(model, source, GEMMUX_PART_GLOBAL);
    const gemmux_ggml_kind *kind = gemmux_ggml_kind_of((gemmux_dtype)weight->dtype);
    gemmux_format format = source->layer.format;
    if (!kind)
        return gemmux_load_floats(model, source, false, weights, error);
    int64_t rows = weight->rank == 3 ? weight->shape[0] * weight->shape[1] : weight->shape[0];
    int64_t count = gemmux_scale_count(format, rows, source->layer.k);
    gemmux_room_bytes bytes = {.bias = gemmux_bias_bytes(source),
                               .globals = factor ? factor->bytes : 0};
    gemmux_room room;
    if (!gemmux_mul_size(gemmux_row_bytes(format, source->layer.k), rows, &bytes.codes) ||
        !gemmux_mul_size(count, gemmux_scale_bytes(format), &bytes.scales) ||
        !gemmux_mul_size(count, gemmux_zero_bytes(format), &bytes.zeros))
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "layer '%.120s': its size overflows",
                           source->layer.name);
    gemmux_status status = gemmux_make_room(bytes, weights, &room, error);
    if (status)
        return status;
    decode_blocks(weight, kind, format, &room);
    weights->tensor.codes = room.codes;
    weights->tensor.scales = room.scales;
    weights->tensor.zeros = room.zeros;
    status = check_room(model, weight, format, &room, count, error);
    if (!status)
        status = load_factor(model, source, &room, weights, error);
    return status ? status : gemmux_load_bias(model, source, &room, weights, error);
}

const gemmux_scheme gemmux_scheme_gguf = {
    .suffix = ".weight", .claims = claims, .read = read, .load = load};
