/* SPDX-License-Identifier: Apache-2.0
 *
 * INT8 weights with a float a tensor, a row or a group (compressed-tensors and others), and
 * bitsandbytes' LLM.int8(), whose SCB is the largest magnitude of a row: the scale is SCB / 127,
 * rounded to f32. (bitsandbytes multiplies by 1 / 127 rounded to f32 and differs by 2^-23 of the
 * value at most.) Codes are views of the file.
 */
#include <string.h>

#include "error.h"
#include "format.h"
#include "scheme.h"

enum { SCALED, SCB };

static bool claims(const gemmux_model *model, const gemmux_stored *weight, size_t stem_length)
{
    return weight->rank == 2 && weight->dtype == GEMMUX_DTYPE_I8 &&
           (gemmux_sibling(model, weight, stem_length, ".weight_scale") ||
            gemmux_sibling(model, weight, stem_length, ".SCB"));
}

static gemmux_status read_scaling(const gemmux_model *model, gemmux_source *source,
                                  const gemmux_stored *scale, gemmux_error *error)
{
    char shape[128];
    gemmux_layer *layer = &source->layer;
    const gemmux_hf_group *hint = gemmux_hint(model, source);
    bool pair = scale->rank == 2 && scale->shape[1] > 0;
    int32_t group = pair && scale->shape[0] == layer->n
                        ? gemmux_group_size(layer->k, scale->shape[1], hint ? hint->group_size : 0)
                        : 0;
    if (gemmux_is_scalar(scale))
        layer->format.scaling = GEMMUX_SCALING_TENSOR;
    else if (scale->shape[0] == layer->n && (scale->rank == 1 || (pair && scale->shape[1] == 1)))
        layer->format.scaling = GEMMUX_SCALING_ROW;
    else if (group > 0)
        layer->format.scaling = GEMMUX_SCALING_GROUP;
    else
        return gemmux_bad(model, scale, error,
                          "its shape %s fits neither rows nor groups of "
                          "[%lld, %lld]",
                          gemmux_shape_text(scale, shape, sizeof shape), (long long)layer->n,
                          (long long)layer->k);
    layer->format.group = layer->format.scaling == GEMMUX_SCALING_GROUP ? (uint16_t)group : 0;
    return GEMMUX_OK;
}

static gemmux_status read(gemmux_model *model, gemmux_source *source, gemmux_error *error)
{
    const gemmux_stored *weight = gemmux_part_of(model, source, GEMMUX_PART_WEIGHT);
    const gemmux_stored *scale =
        gemmux_find_part(model, source, GEMMUX_PART_SCALE, ".weight_scale");
    gemmux_layer *layer = &source->layer;
    layer->n = weight->shape[0];
    layer->k = weight->shape[1];
    layer->format = gemmux_format_of(GEMMUX_INT8);
    gemmux_status status;
    if (scale) {
        if (gemmux_code_of_float((gemmux_dtype)scale->dtype) == GEMMUX_CODE_NONE)
            return gemmux_bad(model, scale, error, "a scale of type %s is not read",
                              gemmux_dtype_name((gemmux_dtype)scale->dtype));
        status = read_scaling(model, source, scale, error);
        layer->scheme = "int8";
        gemmux_find_part(model, source, GEMMUX_PART_ZERO, ".weight_zero_point");
    } else {
        scale = gemmux_find_part(model, source, GEMMUX_PART_SCALE, ".SCB");
        status = gemmux_expect(model, scale, GEMMUX_DTYPE_F32, 1, &layer->n, error);
        layer->scheme = "int8 (bitsandbytes)";
        source->variant = SCB;
    }
    return status ? status : gemmux_find_bias(model, source, ".bias", error);
}

/* int8 has no zero points here; symmetric exporters write zeros all the same. */
static gemmux_status check_zeros(const gemmux_model *model, const gemmux_source *source,
                                 gemmux_error *error)
{
    const gemmux_stored *zero = gemmux_part_of(model, source, GEMMUX_PART_ZERO);
    for (int64_t i = 0; zero && i < zero->bytes; i++) {
        if (zero->data[i])
            return gemmux_bad(model, zero, error, "int8 weights with zero points are not read");
    }
    return GEMMUX_OK;
}

static gemmux_status load(const gemmux_model *model, const gemmux_source *source,
                          gemmux_weights *weights, gemmux_error *error)
{
    const gemmux_stored *scale = gemmux_part_of(model, source, GEMMUX_PART_SCALE);
    const gemmux_layer *layer = &source->layer;
    int64_t count = gemmux_scale_count(layer->format, layer->n, layer->k);
    bool view = source->variant == SCALED && scale->dtype == GEMMUX_DTYPE_F32 &&
                gemmux_is_aligned(scale, 4);
    gemmux_room room;
    gemmux_status status = check_zeros(model, source, error);
    if (!status)
        status = gemmux_make_room(
            (gemmux_room_bytes){.scales = view ? 0 : count * 4, .bias = gemmux_bias_bytes(source)},
            weights, &room, error);
    if (status)
        return status;
    float *scales = (float *)room.scales;
    if (!view)
        gemmux_to_f32((gemmux_dtype)scale->dtype, scale->data, count, scales);
    for (int64_t i = 0; source->variant == SCB && i < count; i++)
        scales[i] /= 127.0f;
    weights->tensor.codes = gemmux_part_of(model, source, GEMMUX_PART_WEIGHT)->data;
    weights->tensor.scales = view ? scale->data : room.scales;
    status = gemmux_check_scales(model, scale, GEMMUX_CODE_F32, weights->tensor.scales, count, true,
                                 error);
    return status ? status : gemmux_load_bias(model, source, &room, weights, error);
}

const gemmux_scheme gemmux_scheme_int8 = {
    .suffix = ".weight", .claims = claims, .read = read, .load = load};
