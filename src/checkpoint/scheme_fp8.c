/* SPDX-License-Identifier: Apache-2.0
 *
 * FP8 weights: one f32 a tensor (compressed-tensors, modelopt), a row (compressed-tensors, fbgemm),
 * a square block (DeepSeek's weight_scale_inv, which is multiplied despite its name), a group along
 * K, or none at all, which means 1; and MXFP8 with its powers of two. Codes are views of the file.
 * Scales of a narrower type become f32, which is exact.
 */
#include <string.h>

#include "error.h"
#include "format.h"
#include "scheme.h"

static bool claims(const gemmux_model *model, const gemmux_stored *weight, size_t stem_length)
{
    (void)model;
    (void)stem_length;
    return weight->rank == 2 &&
           (weight->dtype == GEMMUX_DTYPE_E4M3 || weight->dtype == GEMMUX_DTYPE_E5M2);
}

/* The side of the squares that a [rows, cols] array of scales means, 0 when none fits. */
static int32_t block_side(const gemmux_model *model, const gemmux_layer *layer,
                          const gemmux_stored *scale)
{
    const int32_t sides[] = {model->config.block[0], 128, 64, 32, 16, 256, 512};
    const int32_t *stated = model->config.block;
    if (stated[0] != stated[1])
        return 0;
    for (size_t i = 0; i < sizeof sides / sizeof sides[0]; i++) {
        if (sides[i] > 0 && sides[i] <= UINT16_MAX &&
            scale->shape[0] == gemmux_divide_up(layer->n, sides[i]) &&
            scale->shape[1] == gemmux_divide_up(layer->k, sides[i]))
            return sides[i];
    }
    return 0;
}

static gemmux_status read_scaling(const gemmux_model *model, gemmux_source *source,
                                  const gemmux_stored *scale, gemmux_error *error)
{
    char shape[128];
    gemmux_layer *layer = &source->layer;
    gemmux_scaling scaling = GEMMUX_SCALING_TENSOR;
    int32_t group = 0;
    bool pair = scale && scale->rank == 2 && scale->shape[0] > 0 && scale->shape[1] > 0;
    if (!scale || gemmux_is_scalar(scale)) {
        scaling = GEMMUX_SCALING_TENSOR;
    } else if (scale->shape[0] == layer->n &&
               (scale->rank == 1 || (pair && scale->shape[1] == 1))) {
        scaling = GEMMUX_SCALING_ROW;
    } else if (pair && (group = block_side(model, layer, scale)) > 0) {
        scaling = GEMMUX_SCALING_BLOCK;
    } else if (pair && scale->shape[0] == layer->n &&
               (group = gemmux_group_size(layer->k, scale->shape[1], model->config.block[1])) > 0) {
        scaling = GEMMUX_SCALING_GROUP;
    } else {
        return gemmux_bad(model, scale, error,
                          "its shape %s fits neither rows, blocks nor groups of [%lld, %lld]",
                          gemmux_shape_text(scale, shape, sizeof shape), (long long)layer->n,
                          (long long)layer->k);
    }
    layer->format.scaling = (uint8_t)scaling;
    layer->format.group = (uint16_t)group;
    return GEMMUX_OK;
}

static gemmux_status read_mxfp8(gemmux_model *model, gemmux_source *source,
                                const gemmux_stored *scale, gemmux_error *error)
{
    gemmux_layer *layer = &source->layer;
    const int64_t shape[2] = {layer->n, gemmux_divide_up(layer->k, 32)};
    uint8_t element = layer->format.element;
    layer->format = gemmux_format_of(GEMMUX_MXFP8);
    layer->format.element = element;
    layer->scheme = "mxfp8";
    return gemmux_expect(model, scale, (gemmux_dtype)scale->dtype, 2, shape, error);
}

static gemmux_status read(gemmux_model *model, gemmux_source *source, gemmux_error *error)
{
    static const char *const names[] = {[GEMMUX_SCALING_TENSOR] = "fp8 per tensor",
                                        [GEMMUX_SCALING_ROW] = "fp8 per row",
                                        [GEMMUX_SCALING_GROUP] = "fp8 per group",
                                        [GEMMUX_SCALING_BLOCK] = "fp8 per block"};
    const gemmux_stored *weight = gemmux_part_of(model, source, GEMMUX_PART_WEIGHT);
    const gemmux_stored *scale =
        gemmux_find_part(model, source, GEMMUX_PART_SCALE, ".weight_scale_inv");
    gemmux_layer *layer = &source->layer;
    if (!scale)
        scale = gemmux_find_part(model, source, GEMMUX_PART_SCALE, ".weight_scale");
    layer->n = weight->shape[0];
    layer->k = weight->shape[1];
    layer->format =
        gemmux_format_of(weight->dtype == GEMMUX_DTYPE_E4M3 ? GEMMUX_E4M3 : GEMMUX_E5M2);
    gemmux_dtype type = scale ? (gemmux_dtype)scale->dtype : GEMMUX_DTYPE_F32;
    bool power = type == GEMMUX_DTYPE_U8 || type == GEMMUX_DTYPE_E8M0;
    gemmux_status status = GEMMUX_OK;
    if (power && scale->rank == 2 && scale->shape[0] == layer->n && scale->shape[1] > 1) {
        status = read_mxfp8(model, source, scale, error);
    } else if (type == GEMMUX_DTYPE_E8M0 || gemmux_code_of_float(type) != GEMMUX_CODE_NONE) {
        status = read_scaling(model, source, scale, error);
        layer->scheme = scale ? names[layer->format.scaling] : "fp8 without scale";
    } else {
        return gemmux_bad(model, scale, error, "a scale of type %s is not read",
                          gemmux_dtype_name(type));
    }
    return status ? status : gemmux_find_bias(model, source, ".bias", error);
}

static gemmux_status load_scales(const gemmux_model *model, const gemmux_source *source,
                                 const gemmux_room *room, gemmux_weights *weights,
                                 gemmux_error *error)
{
    static const float one = 1;
    const gemmux_stored *scale = gemmux_part_of(model, source, GEMMUX_PART_SCALE);
    int64_t count = gemmux_scale_count(source->layer.format, source->layer.n, source->layer.k);
    if (!scale) {
        weights->tensor.scales = &one;
        return GEMMUX_OK;
    }
    if (source->layer.format.id == GEMMUX_MXFP8) {
        weights->tensor.scales = scale->data;
        return gemmux_check_scales(model, scale, GEMMUX_CODE_UE8M0, scale->data, count, false,
                                   error);
    }
    if (room->scales)
        gemmux_to_f32((gemmux_dtype)scale->dtype, scale->data, count, (float *)room->scales);
    weights->tensor.scales = room->scales ? room->scales : scale->data;
    return gemmux_check_scales(model, scale, GEMMUX_CODE_F32, weights->tensor.scales, count, false,
                               error);
}

static gemmux_status load(const gemmux_model *model, const gemmux_source *source,
                          gemmux_weights *weights, gemmux_error *error)
{
    const gemmux_stored *scale = gemmux_part_of(model, source, GEMMUX_PART_SCALE);
    const gemmux_layer *layer = &source->layer;
    gemmux_room_bytes bytes = {.bias = gemmux_bias_bytes(source)};
    gemmux_room room;
    bool as_it_is = !scale || layer->format.id == GEMMUX_MXFP8 ||
                    (scale->dtype == GEMMUX_DTYPE_F32 && gemmux_is_aligned(scale, 4));
    if (!as_it_is)
        bytes.scales = gemmux_scale_count(layer->format, layer->n, layer->k) * 4;
    gemmux_status status = gemmux_make_room(bytes, weights, &room, error);
    weights->tensor.codes = gemmux_part_of(model, source, GEMMUX_PART_WEIGHT)->data;
    if (!status)
        status = load_scales(model, source, &room, weights, error);
    return status ? status : gemmux_load_bias(model, source, &room, weights, error);
}

const gemmux_scheme gemmux_scheme_fp8 = {
    .suffix = ".weight", .claims = claims, .read = read, .load = load};
