/* SPDX-License-Identifier: Apache-2.0
 *
 * bitsandbytes NF4: weight u8 [N K / 2, 1], the high nibble first, one absmax per block of the
 * flattened matrix. With double quantisation absmax is u8 itself: nested_quant_map[code] times
 * nested_absmax of its block, plus an offset, in f32, as bitsandbytes computes it. Where K is not a
 * multiple of the block a block runs across rows; then scales are repeated for groups of the
 * greatest common divisor, which changes no number.
 */
#include <jansson.h>
#include <string.h>

#include "error.h"
#include "format.h"
#include "scheme.h"

#define STATE ".weight.quant_state.bitsandbytes__"

/* What quant_state says. */
typedef struct state {
    int64_t n, k, block, nested_block;
    double nested_offset;
} state;

static bool claims(const gemmux_model *model, const gemmux_stored *weight, size_t stem_length)
{
    return weight->dtype == GEMMUX_DTYPE_U8 &&
           gemmux_sibling(model, weight, stem_length, ".weight.absmax");
}

static bool get_size(const json_t *root, const char *key, int64_t *out)
{
    const json_t *value = json_object_get(root, key);
    if (!json_is_integer(value) || json_integer_value(value) < 1 ||
        json_integer_value(value) > INT32_MAX)
        return false;
    *out = json_integer_value(value);
    return true;
}

/* Reads the JSON; NULL, or what is wrong with it. */
static const char *parse_state(const json_t *root, bool nested, state *s)
{
    const json_t *shape = json_object_get(root, "shape");
    const json_t *offset = json_object_get(root, "nested_offset");
    if (json_array_size(shape) != 2 || !json_is_integer(json_array_get(shape, 0)) ||
        !json_is_integer(json_array_get(shape, 1)))
        return "its \"shape\" is not two integers";
    s->n = json_integer_value(json_array_get(shape, 0));
    s->k = json_integer_value(json_array_get(shape, 1));
    if (s->n < 1 || s->k < 1 || s->n > INT32_MAX || s->k > INT32_MAX)
        return "its \"shape\" is absurd";
    if (!get_size(root, "blocksize", &s->block))
        return "its \"blocksize\" is no positive integer";
    if (nested &&
        (!get_size(root, "nested_blocksize", &s->nested_block) || !json_is_number(offset)))
        return "its \"nested_blocksize\" or \"nested_offset\" is no number";
    s->nested_offset = json_number_value(offset);
    return NULL;
}

static gemmux_status read_state(const gemmux_model *model, const gemmux_source *source, state *s,
                                gemmux_error *error)
{
    const gemmux_stored *tensor = gemmux_part_of(model, source, GEMMUX_PART_STATE);
    bool nested = source->part[GEMMUX_PART_NESTED_SCALE] >= 0;
    json_error_t problem;
    if (tensor->dtype != GEMMUX_DTYPE_U8 || tensor->bytes > 65536)
        return gemmux_bad(model, tensor, error, "it is not a short text of type U8");
    json_t *root = json_loadb(tensor->bytes ? (const char *)tensor->data : "",
                              (size_t)tensor->bytes, JSON_REJECT_DUPLICATES, &problem);
    const char *why = root ? parse_state(root, nested, s) : problem.text;
    gemmux_status status = why ? gemmux_bad(model, tensor, error, "%s", why) : GEMMUX_OK;
    json_decref(root);
    return status;
}

static gemmux_status expect_count(const gemmux_model *model, const gemmux_stored *tensor,
                                  gemmux_dtype dtype, int64_t count, gemmux_error *error)
{
    return gemmux_expect(model, tensor, dtype, 1, &count, error);
}

static int64_t common_divisor(int64_t a, int64_t b)
{
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* absmax, quant_map and their nested forms have the types and numbers that the state asks for. */
static gemmux_status check_parts(const gemmux_model *model, const gemmux_source *source,
                                 const state *s, gemmux_error *error)
{
    const gemmux_stored *weight = gemmux_part_of(model, source, GEMMUX_PART_WEIGHT);
    const gemmux_stored *scale = gemmux_part_of(model, source, GEMMUX_PART_SCALE);
    const gemmux_stored *map = gemmux_part_of(model, source, GEMMUX_PART_MAP);
    const gemmux_stored *nested = gemmux_part_of(model, source, GEMMUX_PART_NESTED_SCALE);
    const gemmux_stored *nested_map = gemmux_part_of(model, source, GEMMUX_PART_NESTED_MAP);
    int64_t blocks = gemmux_divide_up(s->n * s->k, s->block);
    if (weight->bytes != gemmux_divide_up(s->n * s->k, 2))
        return gemmux_bad(model, weight, error,
                          "%lld bytes do not hold the [%lld, %lld] that its "
                          "quant_state states",
                          (long long)weight->bytes, (long long)s->n, (long long)s->k);
    gemmux_status status =
        expect_count(model, scale, nested ? GEMMUX_DTYPE_U8 : GEMMUX_DTYPE_F32, blocks, error);
    if (!status && map)
        status = expect_count(model, map, GEMMUX_DTYPE_F32, 16, error);
    if (!status && nested && !nested_map)
        status = gemmux_bad(model, nested, error, "there is no nested_quant_map beside it");
    if (!status && nested)
        status = expect_count(model, nested, GEMMUX_DTYPE_F32,
                              gemmux_divide_up(blocks, s->nested_block), error);
    if (!status && nested)
        status = expect_count(model, nested_map, GEMMUX_DTYPE_F32, 256, error);
    return status;
}

static gemmux_status read(gemmux_model *model, gemmux_source *source, gemmux_error *error)
{
    gemmux_layer *layer = &source->layer;
    const gemmux_stored *weight = gemmux_part_of(model, source, GEMMUX_PART_WEIGHT);
    gemmux_find_part(model, source, GEMMUX_PART_SCALE, ".weight.absmax");
    gemmux_find_part(model, source, GEMMUX_PART_MAP, ".weight.quant_map");
    gemmux_find_part(model, source, GEMMUX_PART_NESTED_SCALE, ".weight.nested_absmax");
    gemmux_find_part(model, source, GEMMUX_PART_NESTED_MAP, ".weight.nested_quant_map");
    layer->scheme = "nf4 (bitsandbytes)";
    if (gemmux_find_part(model, source, GEMMUX_PART_STATE, STATE "fp4")) {
        layer->scheme = "fp4 (bitsandbytes)";
        return gemmux_refuse(model, source, error,
                             "bitsandbytes' fp4 has a code table of its own, which is not read; "
                             "nf4 is");
    }
    const gemmux_stored *stated = gemmux_find_part(model, source, GEMMUX_PART_STATE, STATE "nf4");
    if (!stated)
        return gemmux_bad(model, weight, error, "there is no quant_state beside it");
    if (!stated->data && stated->bytes)
        return gemmux_refuse(model, source, error,
                             "its shape is stated in the contents of quant_state, of which only "
                             "the header is there");
    state s = {.block = 1, .nested_block = 1};
    gemmux_status status = read_state(model, source, &s, error);
    if (!status)
        status = check_parts(model, source, &s, error);
    if (status)
        return status;
    layer->n = s.n;
    layer->k = s.k;
    int64_t group = common_divisor(s.k, s.block);
    if (group < 8 || group > UINT16_MAX)
        return gemmux_refuse(model, source, error,
                             "blocks of %lld over rows of %lld would need groups of %lld",
                             (long long)s.block, (long long)s.k, (long long)group);
    layer->format = gemmux_make_format(GEMMUX_NF4, GEMMUX_SCALING_GROUP, GEMMUX_CODE_F32,
                                       GEMMUX_ZERO_NONE, (int32_t)group);
    return gemmux_find_bias(model, source, ".bias", error);
}

/* ---------------------------------------------------------------------------------- loading -- */

static float float_at(const gemmux_stored *tensor, int64_t index)
{
    float value;
    memcpy(&value, tensor->data + index * 4, 4);
    return value;
}

static gemmux_status check_map(const gemmux_model *model, const gemmux_source *source,
                               gemmux_error *error)
{
    const gemmux_stored *map = gemmux_part_of(model, source, GEMMUX_PART_MAP);
    for (int i = 0; map && i < 16; i++) {
        if (float_at(map, i) != gemmux_nf4_codebook()[i])
            return gemmux_bad(model, map, error, "entry %d is not NF4's", i);
    }
    return GEMMUX_OK;
}

static float scale_of(const gemmux_model *model, const gemmux_source *source, const state *s,
                      int64_t block)
{
    const gemmux_stored *scale = gemmux_part_of(model, source, GEMMUX_PART_SCALE);
    const gemmux_stored *nested = gemmux_part_of(model, source, GEMMUX_PART_NESTED_SCALE);
    const gemmux_stored *map = gemmux_part_of(model, source, GEMMUX_PART_NESTED_MAP);
    if (!nested)
        return float_at(scale, block);
    float product = float_at(map, scale->data[block]) * float_at(nested, block / s->nested_block);
    return product + (float)s->nested_offset;
}

/* Nibbles change places; an odd K shifts them as well. */
static void load_codes(const gemmux_stored *weight, const state *s, uint8_t *to)
{
    int64_t row = gemmux_divide_up(s->k, 2);
    if (s->k % 2 == 0) {
        for (int64_t i = 0; i < s->n * row; i++)
            to[i] = (uint8_t)(weight->data[i] >> 4 | weight->data[i] << 4);
        return;
    }
    memset(to, 0, (size_t)(s->n * row));
    for (int64_t n = 0; n < s->n; n++) {
        for (int64_t j = 0; j < s->k; j++) {
            int64_t from = n * s->k + j;
            gemmux_code_store(GEMMUX_CODE_NF4, to + n * row, j,
                              weight->data[from / 2] >> (from % 2 ? 0 : 4) & 15);
        }
    }
}

static gemmux_status load(const gemmux_model *model, const gemmux_source *source,
                          gemmux_weights *weights, gemmux_error *error)
{
    const gemmux_stored *scale = gemmux_part_of(model, source, GEMMUX_PART_SCALE);
    const gemmux_layer *layer = &source->layer;
    int64_t groups = layer->k / layer->format.group;
    gemmux_room room;
    state s = {.block = 1, .nested_block = 1};
    gemmux_status status = read_state(model, source, &s, error);
    if (!status)
        status = check_map(model, source, error);
    if (!status)
        status =
            gemmux_make_room((gemmux_room_bytes){.codes = layer->n * gemmux_divide_up(layer->k, 2),
                                                 .scales = layer->n * groups * 4,
                                                 .bias = gemmux_bias_bytes(source)},
                             weights, &room, error);
    if (status)
        return status;
    load_codes(gemmux_part_of(model, source, GEMMUX_PART_WEIGHT), &s, room.codes);
    float *scales = (float *)room.scales;
    for (int64_t i = 0; i < layer->n * groups; i++)
        scales[i] = scale_of(model, source, &s, i * layer->format.group / s.block);
    weights->tensor.codes = room.codes;
    weights->tensor.scales = scales;
    /* twice quantised, the absmax of a block of zeros may come out just below zero */
    status = gemmux_check_scales(model, scale, GEMMUX_CODE_F32, scales, layer->n * groups,
                                 source->part[GEMMUX_PART_NESTED_SCALE] >= 0, error);
    return status ? status : gemmux_load_bias(model, source, &room, weights, error);
}

const gemmux_scheme gemmux_scheme_bnb = {
    .suffix = ".weight", .claims = claims, .read = read, .load = load};
