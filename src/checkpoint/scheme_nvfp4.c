/* SPDX-License-Identifier: Apache-2.0
 *
 * NVFP4 and MXFP4 linears: codes u8 [N, K/2], low nibble first, and one-byte scales are the plain
 * layout already and are views of the file.
 *
 * modelopt stores NVFP4's f32 factor as weight_scale_2, which is multiplied. compressed-tensors
 * stores weight_global_scale, by which one divides; gemmux multiplies, so the factor becomes 1 / g
 * rounded to f32, which is within 2^-24 of it, relatively. (vLLM does the same; compressed-tensors'
 * own decoder divides each scale instead, and so rounds as often.)
 */
#include <math.h>
#include <string.h>

#include "error.h"
#include "scheme.h"

enum { MULTIPLIED, DIVIDED, POWERS };

static bool has_codes(const gemmux_stored *weight)
{
    return weight->rank == 2 && weight->dtype == GEMMUX_DTYPE_U8;
}

static bool claims_modelopt(const gemmux_model *model, const gemmux_stored *weight,
                            size_t stem_length)
{
    return has_codes(weight) && gemmux_sibling(model, weight, stem_length, ".weight_scale_2");
}

static bool claims_packed(const gemmux_model *model, const gemmux_stored *weight,
                          size_t stem_length)
{
    return has_codes(weight) && gemmux_sibling(model, weight, stem_length, ".weight_scale");
}

static gemmux_status read_global(const gemmux_model *model, const gemmux_source *source,
                                 gemmux_error *error)
{
    const gemmux_stored *global = gemmux_part_of(model, source, GEMMUX_PART_GLOBAL);
    if (global->dtype != GEMMUX_DTYPE_F32 || !gemmux_is_scalar(global))
        return gemmux_bad(model, global, error, "it is not one number of type F32");
    return GEMMUX_OK;
}

static gemmux_status read(gemmux_model *model, gemmux_source *source, gemmux_error *error)
{
    static const char *const schemes[] = {[MULTIPLIED] = "nvfp4 (modelopt)",
                                          [DIVIDED] = "nvfp4 (compressed-tensors)",
                                          [POWERS] = "mxfp4 (compressed-tensors)"};
    const gemmux_stored *weight = gemmux_part_of(model, source, GEMMUX_PART_WEIGHT);
    const gemmux_stored *scale =
        gemmux_find_part(model, source, GEMMUX_PART_SCALE, ".weight_scale");
    gemmux_layer *layer = &source->layer;
    source->variant = MULTIPLIED;
    if (!gemmux_find_part(model, source, GEMMUX_PART_GLOBAL, ".weight_scale_2"))
        source->variant =
            gemmux_find_part(model, source, GEMMUX_PART_GLOBAL, ".weight_global_scale") ? DIVIDED
                                                                                        : POWERS;
    if (!scale)
        return gemmux_bad(model, weight, error, "there is no weight_scale beside it");
    if (weight->shape[1] > INT64_MAX / 2)
        return gemmux_bad(model, weight, error, "its shape overflows");
    int64_t group = source->variant == POWERS ? 32 : 16;
    layer->n = weight->shape[0];
    layer->k = weight->shape[1] * 2;
    layer->scheme = schemes[source->variant];
    layer->format = gemmux_format_of(source->variant == POWERS ? GEMMUX_MXFP4 : GEMMUX_NVFP4);
    gemmux_dtype type = source->variant == POWERS ? GEMMUX_DTYPE_U8 : GEMMUX_DTYPE_E4M3;
    if (source->variant == POWERS && scale->dtype == GEMMUX_DTYPE_E8M0)
        type = GEMMUX_DTYPE_E8M0;
    const int64_t shape[2] = {layer->n, layer->k / group + (layer->k % group != 0)};
    gemmux_status status = gemmux_expect(model, scale, type, 2, shape, error);
    if (!status && source->variant != POWERS)
        status = read_global(model, source, error);
    return status ? status : gemmux_find_bias(model, source, ".bias", error);
}

static gemmux_status load_global(const gemmux_model *model, const gemmux_source *source,
                                 const gemmux_room *room, gemmux_error *error)
{
    const gemmux_stored *global = gemmux_part_of(model, source, GEMMUX_PART_GLOBAL);
    float factor;
    memcpy(&factor, global->data, sizeof factor);
    if (source->variant == DIVIDED) {
        if (!(factor > 0) || !isfinite(1.0f / factor) || !isfinite(factor))
            return gemmux_bad(model, global, error, "%g is no divisor", (double)factor);
        factor = 1.0f / factor;
    }
    room->globals[0] = factor;
    return gemmux_check_scales(model, global, GEMMUX_CODE_F32, room->globals, 1, false, error);
}

static gemmux_status load(const gemmux_model *model, const gemmux_source *source,
                          gemmux_weights *weights, gemmux_error *error)
{
    const gemmux_stored *scale = gemmux_part_of(model, source, GEMMUX_PART_SCALE);
    bool two_level = source->variant != POWERS;
    gemmux_room room;
    gemmux_status status = gemmux_make_room(
        (gemmux_room_bytes){.globals = two_level ? 4 : 0, .bias = gemmux_bias_bytes(source)},
        weights, &room, error);
    if (!status && two_level)
        status = load_global(model, source, &room, error);
    weights->tensor.codes = gemmux_part_of(model, source, GEMMUX_PART_WEIGHT)->data;
    weights->tensor.scales = scale->data;
    weights->tensor.globals = room.globals;
    if (!status)
        status =
            gemmux_check_scales(model, scale, two_level ? GEMMUX_CODE_UE4M3 : GEMMUX_CODE_UE8M0,
                                scale->data, scale->bytes, false, error);
    return status ? status : gemmux_load_bias(model, source, &room, weights, error);
}

const gemmux_scheme gemmux_scheme_nvfp4 = {
    .suffix = ".weight", .claims = claims_modelopt, .read = read, .load = load};
const gemmux_scheme gemmux_scheme_fp4_packed = {
    .suffix = ".weight_packed", .claims = claims_packed, .read = read, .load = load};
