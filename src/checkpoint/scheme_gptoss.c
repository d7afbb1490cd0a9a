/* SPDX-License-Identifier: Apache-2.0
 *
 * gpt-oss's MXFP4 experts: blocks u8 [E, N, K/32, 16] and scales u8 [E, N, K/32] are the plain
 * layout already (the low nibble is the even element), so they are views of the file. Rows of
 * gate_up_proj alternate gate and up, which is what EPILOGUE_SWIGLU expects.
 */
#include <string.h>

#include "error.h"
#include "scheme.h"

static bool claims(const gemmux_model *model, const gemmux_stored *weight, size_t stem_length)
{
    return weight->dtype == GEMMUX_DTYPE_U8 && weight->rank == 4 &&
           gemmux_sibling(model, weight, stem_length, "_scales") != NULL;
}

static bool is_gate_up(const char *name)
{
    const char *last = strrchr(name, '.');
    return strcmp(last ? last + 1 : name, "gate_up_proj") == 0;
}

static gemmux_status read(gemmux_model *model, gemmux_source *source, gemmux_error *error)
{
    const gemmux_stored *weight = gemmux_part_of(model, source, GEMMUX_PART_WEIGHT);
    const gemmux_stored *scale = gemmux_find_part(model, source, GEMMUX_PART_SCALE, "_scales");
    gemmux_layer *layer = &source->layer;
    if (weight->shape[3] != 16 || weight->shape[0] > INT32_MAX || weight->shape[2] > INT64_MAX / 32)
        return gemmux_bad(model, weight, error, "blocks are not [experts, rows, k / 32, 16]");
    gemmux_status status = gemmux_expect(model, scale, GEMMUX_DTYPE_U8, 3, weight->shape, error);
    if (status)
        return status;
    layer->op = GEMMUX_MOE;
    layer->experts = (int32_t)weight->shape[0];
    layer->top_k = model->top_k;
    layer->n = weight->shape[1];
    layer->k = weight->shape[2] * 32;
    layer->format = gemmux_format_of(GEMMUX_MXFP4);
    layer->scheme = "mxfp4 (gpt-oss)";
    bool gate_up = is_gate_up(layer->name) && layer->n % 2 == 0;
    layer->epilogue =
        gate_up ? GEMMUX_EPILOGUE_SWIGLU | GEMMUX_EPILOGUE_GATHER : GEMMUX_EPILOGUE_SCATTER;
    return gemmux_find_bias(model, source, "_bias", error);
}

static gemmux_status load(const gemmux_model *model, const gemmux_source *source,
                          gemmux_weights *weights, gemmux_error *error)
{
    const gemmux_stored *scale = gemmux_part_of(model, source, GEMMUX_PART_SCALE);
    gemmux_room room;
    weights->tensor.codes = gemmux_part_of(model, source, GEMMUX_PART_WEIGHT)->data;
    weights->tensor.scales = scale->data;
    gemmux_status status = gemmux_make_room((gemmux_room_bytes){.bias = gemmux_bias_bytes(source)},
                                            weights, &room, error);
    if (!status)
        status = gemmux_check_scales(model, scale, GEMMUX_CODE_UE8M0, scale->data, scale->bytes,
                                     false, error);
    return status ? status : gemmux_load_bias(model, source, &room, weights, error);
}

const gemmux_scheme gemmux_scheme_gptoss = {
    .suffix = "_blocks", .claims = claims, .read = read, .load = load};
