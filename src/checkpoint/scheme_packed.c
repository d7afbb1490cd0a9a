/* SPDX-License-Identifier: Apache-2.0
 *
 * compressed-tensors' pack-quantized integers: weight_packed i32 [N, ceil(K bits / 32)], low bits
 * first, each code offset by half the range. Four bits are the plain layout already and are a view
 * of the file unless g_idx reorders the columns; eight become two's complement.
 */
#include <string.h>

#include "error.h"
#include "format.h"
#include "scheme.h"

static bool claims(const gemmux_model *model, const gemmux_stored *weight, size_t stem_length)
{
    (void)model;
    (void)stem_length;
    return weight->rank == 2 && weight->dtype == GEMMUX_DTYPE_I32;
}

/* K does not follow from the packed width; weight_shape holds it, as numbers in the data. */
static gemmux_status read_shape(gemmux_model *model, gemmux_source *source, int32_t bits,
                                gemmux_error *error)
{
    const gemmux_stored *weight = gemmux_part_of(model, source, GEMMUX_PART_WEIGHT);
    const gemmux_stored *shape =
        gemmux_find_part(model, source, GEMMUX_PART_SHAPE, ".weight_shape");
    gemmux_layer *layer = &source->layer;
    int64_t sizes[2] = {weight->shape[0], 0};
    if (!shape || !shape->data) { /* or only its header is there */
        if (!gemmux_mul_size(weight->shape[1], 32 / bits, &layer->k))
            return gemmux_bad(model, weight, error, "its shape overflows");
        layer->n = sizes[0];
        return GEMMUX_OK;
    }
    bool wide = shape->dtype == GEMMUX_DTYPE_I64;
    if (shape->rank != 1 || shape->shape[0] != 2 || (!wide && shape->dtype != GEMMUX_DTYPE_I32))
        return gemmux_bad(model, shape, error, "it is not two integers");
    for (int i = 0; i < 2; i++) {
        int32_t narrow;
        memcpy(&narrow, shape->data + (size_t)i * 4, 4);
        sizes[i] = narrow;
        if (wide)
            memcpy(&sizes[i], shape->data + (size_t)i * 8, 8);
    }
    layer->n = sizes[0];
    layer->k = sizes[1];
    if (layer->n != weight->shape[0] || layer->k <= 0 || layer->k > INT64_MAX / 64)
        return gemmux_bad(model, shape, error, "[%lld, %lld] does not fit %lld packed rows",
                          (long long)sizes[0], (long long)sizes[1], (long long)weight->shape[0]);
    return GEMMUX_OK;
}

/* 4 or 8, from the packed width; 0 for anything else. */
static int32_t bits_of(const gemmux_stored *weight, int64_t k, int32_t hint)
{
    bool four = weight->shape[1] == (k + 7) / 8, eight = weight->shape[1] == (k + 3) / 4;
    if (four && eight)
        return hint == 8 ? 8 : 4;
    return four ? 4 : eight ? 8 : 0;
}

static gemmux_status read_scales(gemmux_model *model, gemmux_source *source, int32_t hint,
                                 gemmux_error *error)
{
    char text[128];
    gemmux_layer *layer = &source->layer;
    const gemmux_stored *weight = gemmux_part_of(model, source, GEMMUX_PART_WEIGHT);
    const gemmux_stored *scale =
        gemmux_find_part(model, source, GEMMUX_PART_SCALE, ".weight_scale");
    if (!scale)
        return gemmux_bad(model, weight, error, "there is no weight_scale beside it");
    gemmux_code code = gemmux_code_of_float((gemmux_dtype)scale->dtype);
    if (code == GEMMUX_CODE_NONE)
        return gemmux_bad(model, scale, error, "a scale of type %s is not read",
                          gemmux_dtype_name((gemmux_dtype)scale->dtype));
    int32_t group = -1;
    gemmux_scaling scaling = GEMMUX_SCALING_TENSOR;
    if (!gemmux_is_scalar(scale)) {
        if (scale->rank != 2 || scale->shape[0] != layer->n)
            return gemmux_bad(model, scale, error, "its shape %s does not fit %lld rows",
                              gemmux_shape_text(scale, text, sizeof text), (long long)layer->n);
        group = gemmux_group_size(layer->k, scale->shape[1], hint);
        if (group == 0)
            return gemmux_bad(model, scale, error, "%lld groups do not divide %lld columns",
                              (long long)scale->shape[1], (long long)layer->k);
        scaling = group < 0 ? GEMMUX_SCALING_ROW : GEMMUX_SCALING_GROUP;
    }
    layer->format.scaling = (uint8_t)scaling;
    layer->format.scale = (uint8_t)code;
    layer->format.group = group > 0 ? (uint16_t)group : 0;
    return GEMMUX_OK;
}

static int64_t groups_of(const gemmux_layer *layer)
{
    return layer->format.scaling == GEMMUX_SCALING_GROUP
               ? gemmux_scale_count(layer->format, 1, layer->k)
               : 1;
}

/* Packed along the rows as i32 [ceil(N / 8), G], or one i8 [1] for a whole tensor. */
static gemmux_status read_zeros(gemmux_model *model, gemmux_source *source, int32_t bits,
                                gemmux_error *error)
{
    gemmux_layer *layer = &source->layer;
    const gemmux_stored *zero =
        gemmux_find_part(model, source, GEMMUX_PART_ZERO, ".weight_zero_point");
    if (!zero)
        return GEMMUX_OK;
    if (bits == 8)
        return gemmux_refuse(model, source, error, "8-bit weights with zero points are not read");
    layer->format.zero = GEMMUX_ZERO_POINT;
    if (layer->format.scaling == GEMMUX_SCALING_TENSOR)
        return zero->dtype == GEMMUX_DTYPE_I8 && gemmux_is_scalar(zero)
                   ? GEMMUX_OK
                   : gemmux_bad(model, zero, error, "it is not one number of type I8");
    const int64_t shape[2] = {(layer->n + 7) / 8, groups_of(layer)};
    return gemmux_expect(model, zero, GEMMUX_DTYPE_I32, 2, shape, error);
}

static gemmux_status read(gemmux_model *model, gemmux_source *source, gemmux_error *error)
{
    const gemmux_stored *weight = gemmux_part_of(model, source, GEMMUX_PART_WEIGHT);
    const gemmux_hf_group *hint = gemmux_hint(model, source);
    int32_t stated = hint ? hint->bits : 0;
    gemmux_layer *layer = &source->layer;
    gemmux_status status = read_shape(model, source, stated == 8 ? 8 : 4, error);
    if (status)
        return status;
    int32_t bits = bits_of(weight, layer->k, stated);
    source->variant = bits;
    layer->scheme = bits == 8 ? "int8 (compressed-tensors)" : "int4 (compressed-tensors)";
    if (bits == 0)
        return gemmux_refuse(model, source, error,
                             "%lld words for %lld columns are neither 4 nor 8 bits a weight",
                             (long long)weight->shape[1], (long long)layer->k);
    layer->format = gemmux_format_of(bits == 8 ? GEMMUX_INT8 : GEMMUX_INT4);
    status = read_scales(model, source, hint ? hint->group_size : 0, error);
    if (!status)
        status = read_zeros(model, source, bits, error);
    const gemmux_stored *order =
        gemmux_find_part(model, source, GEMMUX_PART_ORDER, ".weight_g_idx");
    if (!status && order)
        status = gemmux_expect(model, order, GEMMUX_DTYPE_I32, 1, &layer->k, error);
    if (status || source->refusal)
        return status;
    return gemmux_find_bias(model, source, ".bias", error);
}

/* ---------------------------------------------------------------------------------- loading -- */

static void load_zeros(const gemmux_stored *zero, const gemmux_layer *layer, uint8_t *to)
{
    int64_t groups = groups_of(layer);
    if (zero->dtype == GEMMUX_DTYPE_I8) {
        to[0] = (uint8_t)(zero->data[0] + 8);
        return;
    }
    for (int64_t n = 0; n < layer->n; n++) /* row n is nibble n % 8 of word n / 8 */
        for (int64_t g = 0; g < groups; g++)
            to[n * groups + g] = (uint8_t)gemmux_code_load(
                GEMMUX_CODE_INT4, zero->data + (n / 8 * groups + g) * 4, n % 8);
}

/* Dense rows: padding words go, and 8 bits lose their offset. */
static void copy_codes(const gemmux_stored *weight, const gemmux_layer *layer, uint8_t *to)
{
    int64_t row = gemmux_row_bytes(layer->format, layer->k), stride = weight->shape[1] * 4;
    uint8_t flip = layer->format.id == GEMMUX_INT8 ? 0x80 : 0;
    for (int64_t n = 0; n < layer->n; n++)
        for (int64_t i = 0; i < row; i++)
            to[n * row + i] = weight->data[n * stride + i] ^ flip;
}

/* Whether the columns lie in order, and if not k_order and the sorted codes. */
static gemmux_status load_codes(const gemmux_model *model, const gemmux_source *source, bool plain,
                                const gemmux_room *room, gemmux_weights *weights,
                                gemmux_error *error)
{
    const gemmux_stored *weight = gemmux_part_of(model, source, GEMMUX_PART_WEIGHT);
    const gemmux_layer *layer = &source->layer;
    gemmux_status status = GEMMUX_OK;
    if (!room->codes) {
        weights->tensor.codes = weight->data;
        weights->tensor.row_bytes = weight->shape[1] * 4;
        return GEMMUX_OK;
    }
    copy_codes(weight, layer, room->codes);
    weights->tensor.codes = room->codes;
    if (!plain) {
        weights->tensor.k_order = room->k_order;
        status = gemmux_permute_codes(room->codes, layer->n, layer->k,
                                      (gemmux_code)layer->format.element, room->k_order, error);
    }
    return status;
}

static gemmux_status load(const gemmux_model *model, const gemmux_source *source,
                          gemmux_weights *weights, gemmux_error *error)
{
    const gemmux_stored *scale = gemmux_part_of(model, source, GEMMUX_PART_SCALE);
    const gemmux_stored *zero = gemmux_part_of(model, source, GEMMUX_PART_ZERO);
    const gemmux_stored *order = gemmux_part_of(model, source, GEMMUX_PART_ORDER);
    const gemmux_layer *layer = &source->layer;
    int64_t count = gemmux_scale_count(layer->format, layer->n, layer->k);
    bool copy = order || layer->format.id == GEMMUX_INT8, plain = true;
    bool as_it_is = gemmux_is_aligned(scale, (size_t)gemmux_scale_bytes(layer->format));
    gemmux_room room;
    gemmux_status status = gemmux_make_room(
        (gemmux_room_bytes){.codes =
                                copy ? gemmux_row_bytes(layer->format, layer->k) * layer->n : 0,
                            .scales = as_it_is ? 0 : scale->bytes,
                            .zeros = zero ? count : 0,
                            .bias = gemmux_bias_bytes(source),
                            .k_order = order ? layer->k * 4 : 0},
        weights, &room, error);
    if (!status && order)
        status = gemmux_order_columns(model, order, layer->k, groups_of(layer), layer->format.group,
                                      room.k_order, &plain, error);
    if (!status)
        status = load_codes(model, source, plain, &room, weights, error);
    if (status)
        return status;
    if (!as_it_is)
        memcpy(room.scales, scale->data, (size_t)scale->bytes);
    weights->tensor.scales = as_it_is ? scale->data : room.scales;
    if (zero)
        load_zeros(zero, layer, room.zeros);
    weights->tensor.zeros = room.zeros;
    status = gemmux_check_scales(model, scale, (gemmux_code)layer->format.scale, scale->data, count,
                                 true, error);
    return status ? status : gemmux_load_bias(model, source, &room, weights, error);
}

const gemmux_scheme gemmux_scheme_packed = {
    .suffix = ".weight_packed", .claims = claims, .read = read, .load = load};
