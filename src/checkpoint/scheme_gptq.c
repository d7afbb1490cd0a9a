/* SPDX-License-Identifier: Apache-2.0
 *
 * GPTQ and AWQ: words of eight 4-bit codes (GPTQ also four of 8 bits), turned on their side, with
 * scales [G, N] and packed zero points. They differ in the axis that is packed, the order of
 * nibbles, and GPTQ's classic format storing zero points less one.
 *
 *   GPTQ  qweight [K / 8, N], low nibble first along K; qzeros [G, N / 8]; g_idx [K]
 *   AWQ   qweight [K, N / 8], nibbles hold columns 0 2 4 6 1 3 5 7; qzeros likewise
 *
 * "Less one" is subtracted from whole words (GPTQModel adds 0x11111111 to undo it), so a borrow
 * crosses nibbles; adding to whole words is right for both of today's writers.
 */
#include <string.h>

#include "error.h"
#include "format.h"
#include "scheme.h"

enum { GPTQ4, GPTQ8, AWQ };

/* Nibble that holds column n % 8. */
static const uint8_t awq_nibbles[8] = {0, 4, 1, 5, 2, 6, 3, 7};

static bool claims(const gemmux_model *model, const gemmux_stored *weight, size_t stem_length)
{
    const gemmux_stored *scale = gemmux_sibling(model, weight, stem_length, ".scales");
    return weight->rank == 2 && weight->dtype == GEMMUX_DTYPE_I32 && scale && scale->rank == 2;
}

static uint32_t word_at(const gemmux_stored *tensor, int64_t index)
{
    uint32_t word;
    memcpy(&word, tensor->data + index * 4, 4);
    return word;
}

/* ---------------------------------------------------------------------------------- headers -- */

/* Which of the two, and N and K. The shapes tell; false when they fit neither. */
static bool read_shape(const gemmux_model *model, gemmux_source *source, int32_t stated_bits)
{
    const gemmux_stored *weight = gemmux_part_of(model, source, GEMMUX_PART_WEIGHT);
    const gemmux_stored *scale = gemmux_part_of(model, source, GEMMUX_PART_SCALE);
    const gemmux_stored *order = gemmux_part_of(model, source, GEMMUX_PART_ORDER);
    int64_t rows = weight->shape[0], cols = weight->shape[1];
    gemmux_layer *layer = &source->layer;
    layer->n = scale->shape[1];
    if (cols == layer->n && rows <= INT64_MAX / 32) {
        int64_t k = order && order->rank == 1 ? order->shape[0] : 0;
        int64_t bits = k && rows * 32 % k == 0 ? rows * 32 / k : stated_bits ? stated_bits : 4;
        source->variant = bits == 8 ? GPTQ8 : GPTQ4;
        layer->k = rows * 32 / bits;
        return bits == 4 || bits == 8;
    }
    source->variant = AWQ;
    layer->k = rows;
    return cols <= INT64_MAX / 8 && cols * 8 == layer->n && stated_bits <= 4;
}

static gemmux_status read_zeros(const gemmux_model *model, gemmux_source *source,
                                gemmux_error *error)
{
    const gemmux_stored *scale = gemmux_part_of(model, source, GEMMUX_PART_SCALE);
    const gemmux_stored *zero = gemmux_find_part(model, source, GEMMUX_PART_ZERO, ".qzeros");
    int64_t in_word = source->variant == GPTQ8 ? 4 : 8;
    const int64_t shape[2] = {scale->shape[0], (scale->shape[1] + in_word - 1) / in_word};
    return zero ? gemmux_expect(model, zero, GEMMUX_DTYPE_I32, 2, shape, error) : GEMMUX_OK;
}

/* Zero points are those of symmetric weights (8 or 128), by the config's word or by absence. */
static bool is_symmetric(const gemmux_source *source, const gemmux_hf_group *hint)
{
    if (source->part[GEMMUX_PART_ZERO] < 0 || source->variant == GPTQ8)
        return true;
    return source->variant == GPTQ4 && hint && hint->symmetric == 1;
}

static gemmux_status read_format(gemmux_model *model, gemmux_source *source,
                                 const gemmux_hf_group *hint, gemmux_error *error)
{
    const gemmux_stored *scale = gemmux_part_of(model, source, GEMMUX_PART_SCALE);
    gemmux_code code = gemmux_code_of_float((gemmux_dtype)scale->dtype);
    gemmux_layer *layer = &source->layer;
    if (code == GEMMUX_CODE_NONE)
        return gemmux_bad(model, scale, error, "a scale of type %s is not read",
                          gemmux_dtype_name((gemmux_dtype)scale->dtype));
    int32_t group = gemmux_group_size(layer->k, scale->shape[0], hint ? hint->group_size : 0);
    if (group == 0)
        return gemmux_bad(model, scale, error, "%lld groups do not divide %lld columns",
                          (long long)scale->shape[0], (long long)layer->k);
    layer->format = gemmux_make_format(
        source->variant == GPTQ8 ? GEMMUX_INT8 : GEMMUX_INT4,
        group < 0 ? GEMMUX_SCALING_ROW : GEMMUX_SCALING_GROUP, code,
        is_symmetric(source, hint) ? GEMMUX_ZERO_NONE : GEMMUX_ZERO_POINT, group < 0 ? 0 : group);
    const char *v2 = model->config.gptq_v2 ? " v2" : "";
    return source->variant == AWQ ? gemmux_set_scheme(model, source, error, "awq")
                                  : gemmux_set_scheme(model, source, error, "gptq%s%s", v2,
                                                      model->config.present ? "" : " (zero - 1?)");
}

static gemmux_status read(gemmux_model *model, gemmux_source *source, gemmux_error *error)
{
    char have[128];
    const gemmux_stored *weight = gemmux_part_of(model, source, GEMMUX_PART_WEIGHT);
    const gemmux_hf_group *hint = gemmux_hint(model, source);
    gemmux_layer *layer = &source->layer;
    gemmux_find_part(model, source, GEMMUX_PART_SCALE, ".scales");
    const gemmux_stored *order = gemmux_find_part(model, source, GEMMUX_PART_ORDER, ".g_idx");
    layer->scheme = "gptq or awq";
    if (!read_shape(model, source, hint ? hint->bits : 0)) {
        layer->n = layer->k = 0;
        return gemmux_refuse(
            model, source, error,
            "its shape %s beside its scales is neither GPTQ's with 4 or 8 bits nor "
            "AWQ's gemm layout",
            gemmux_shape_text(weight, have, sizeof have));
    }
    gemmux_status status = read_zeros(model, source, error);
    if (!status)
        status = read_format(model, source, hint, error);
    if (!status && order && source->variant != AWQ)
        status = gemmux_expect(model, order, GEMMUX_DTYPE_I32, 1, &layer->k, error);
    if (!status && source->variant == AWQ)
        source->part[GEMMUX_PART_ORDER] = -1;
    return status ? status : gemmux_find_bias(model, source, ".bias", error);
}

/* ------------------------------------------------------------------------------------ codes -- */

static void awq_codes(const gemmux_stored *weight, int64_t n_words, int64_t k, uint8_t *to)
{
    const int64_t row = (k + 1) / 2, side = 16; /* squares that stay in the cache */
    for (int64_t c0 = 0; c0 < n_words; c0 += side)
        for (int64_t k0 = 0; k0 < k; k0 += 2 * side)
            for (int64_t c = c0; c < n_words && c < c0 + side; c++)
                for (int64_t j = k0; j < k && j < k0 + 2 * side; j += 2) {
                    uint32_t even = word_at(weight, j * n_words + c);
                    uint32_t odd = j + 1 < k ? word_at(weight, (j + 1) * n_words + c) : 0;
                    for (int i = 0; i < 8; i++) {
                        int shift = 4 * awq_nibbles[i];
                        to[(c * 8 + i) * row + j / 2] =
                            (uint8_t)((even >> shift & 15) | (odd >> shift & 15) << 4);
                    }
                }
}

static gemmux_status load_codes(const gemmux_model *model, const gemmux_source *source,
                                const gemmux_room *room, gemmux_weights *weights,
                                gemmux_error *error)
{
    const gemmux_stored *weight = gemmux_part_of(model, source, GEMMUX_PART_WEIGHT);
    const gemmux_stored *order = gemmux_part_of(model, source, GEMMUX_PART_ORDER);
    const gemmux_stored *scale = gemmux_part_of(model, source, GEMMUX_PART_SCALE);
    const gemmux_layer *layer = &source->layer;
    bool plain = true;
    weights->tensor.codes = room->codes;
    if (source->variant == AWQ) {
        awq_codes(weight, weight->shape[1], layer->k, room->codes);
        return GEMMUX_OK;
    }
    gemmux_turn(weight->data, room->codes, 1, layer->n, weight->shape[0], 4);
    for (int64_t i = 0; source->variant == GPTQ8 && i < layer->n * layer->k; i++)
        room->codes[i] ^= 0x80;
    if (!order)
        return GEMMUX_OK;
    gemmux_status status = gemmux_order_columns(model, order, layer->k, scale->shape[0],
                                                layer->format.group, room->k_order, &plain, error);
    if (status || plain)
        return status;
    weights->tensor.k_order = room->k_order;
    return gemmux_permute_codes(room->codes, layer->n, layer->k, (gemmux_code)layer->format.element,
                                room->k_order, error);
}

/* ------------------------------------------------------------------------------ zero points -- */

static uint8_t zero_at(const gemmux_model *model, const gemmux_source *source,
                       const gemmux_stored *zero, int64_t g, int64_t n)
{
    int64_t in_word = source->variant == GPTQ8 ? 4 : 8;
    uint32_t word = word_at(zero, g * zero->shape[1] + n / in_word);
    if (source->variant == AWQ)
        return word >> (4 * awq_nibbles[n % 8]) & 15;
    if (!model->config.gptq_v2)
        word += source->variant == GPTQ8 ? 0x01010101 : 0x11111111;
    return source->variant == GPTQ8 ? word >> (8 * (n % 4)) & 255 : word >> (4 * (n % 8)) & 15;
}

static gemmux_status load_zeros(const gemmux_model *model, const gemmux_source *source,
                                const gemmux_room *room, gemmux_weights *weights,
                                gemmux_error *error)
{
    const gemmux_stored *zero = gemmux_part_of(model, source, GEMMUX_PART_ZERO);
    int wanted = source->variant == GPTQ8 ? 128 : 8;
    if (!zero)
        return GEMMUX_OK;
    for (int64_t n = 0; n < source->layer.n; n++) {
        for (int64_t g = 0; g < zero->shape[0]; g++) {
            uint8_t value = zero_at(model, source, zero, g, n);
            if (room->zeros)
                room->zeros[n * zero->shape[0] + g] = value;
            else if (value != wanted)
                return gemmux_bad(model, zero, error,
                                  "the zero point of group %lld, row %lld is %d where symmetric "
                                  "weights have %d",
                                  (long long)g, (long long)n, value, wanted);
        }
    }
    weights->tensor.zeros = room->zeros;
    return GEMMUX_OK;
}

static gemmux_status load(const gemmux_model *model, const gemmux_source *source,
                          gemmux_weights *weights, gemmux_error *error)
{
    const gemmux_stored *scale = gemmux_part_of(model, source, GEMMUX_PART_SCALE);
    const gemmux_layer *layer = &source->layer;
    size_t scale_bytes = (size_t)gemmux_scale_bytes(layer->format);
    int64_t count = scale->shape[0] * scale->shape[1];
    bool ordered = source->part[GEMMUX_PART_ORDER] >= 0;
    gemmux_room room;
    gemmux_status status = gemmux_make_room(
        (gemmux_room_bytes){.codes = gemmux_row_bytes(layer->format, layer->k) * layer->n,
                            .scales = scale->bytes,
                            .zeros = layer->format.zero ? count : 0,
                            .bias = gemmux_bias_bytes(source),
                            .k_order = ordered ? layer->k * 4 : 0},
        weights, &room, error);
    if (!status)
        status = gemmux_check_scales(model, scale, (gemmux_code)layer->format.scale, scale->data,
                                     count, true, error);
    if (!status)
        status = load_codes(model, source, &room, weights, error);
    if (!status)
        status = load_zeros(model, source, &room, weights, error);
    if (status)
        return status;
    gemmux_turn(scale->data, room.scales, 1, layer->n, scale->shape[0], scale_bytes);
    weights->tensor.scales = room.scales;
    return gemmux_load_bias(model, source, &room, weights, error);
}

const gemmux_scheme gemmux_scheme_gptq = {
    .suffix = ".qweight", .claims = claims, .read = read, .load = load};
