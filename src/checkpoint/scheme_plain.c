/* SPDX-License-Identifier: Apache-2.0
 *
 * Weights stored as ordinary f32, f16 or bf16: views of the file, but for the few modules that
 * keep them transposed (GPT-2's Conv1D, fused experts of gpt-oss and Llama 4), which are copied.
 */
#include "error.h"
#include "scheme.h"
#include "wildcard.h"

#include <string.h>

enum { ROWS_FIRST, COLS_FIRST };

static bool is_float(const gemmux_stored *tensor)
{
    return gemmux_code_of_float((gemmux_dtype)tensor->dtype) != GEMMUX_CODE_NONE;
}

static bool stem_ends(const gemmux_stored *weight, size_t stem_length, const char *end)
{
    size_t length = strlen(end);
    return gemmux_slice_ends_with(weight->name, stem_length, end) &&
           (stem_length == length || weight->name[stem_length - length - 1] == '.');
}

static bool claims(const gemmux_model *model, const gemmux_stored *weight, size_t stem_length)
{
    (void)model;
    (void)stem_length;
    return weight->rank == 2 && is_float(weight);
}

/* GPT-2's Conv1D keeps [k, n]. Its config says so; without one, a bias whose length is the second
 * dimension does, on the module itself or, where that is square, on its neighbour c_attn. */
static bool is_conv1d(const gemmux_model *model, const gemmux_stored *weight, size_t stem_length)
{
    static const char *const names[] = {"c_attn", "c_proj", "c_fc", "q_attn"};
    size_t last = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (stem_ends(weight, stem_length, names[i]))
            last = strlen(names[i]);
    }
    if (!last)
        return false;
    if (model->config.present)
        return strcmp(model->config.model_type, "gpt2") == 0;
    const gemmux_stored *bias = gemmux_sibling(model, weight, stem_length, ".bias");
    const gemmux_stored *judged = weight;
    if (weight->shape[0] == weight->shape[1]) {
        bias = gemmux_sibling(model, weight, stem_length - last, "c_attn.bias");
        judged = gemmux_sibling(model, weight, stem_length - last, "c_attn.weight");
    }
    return bias && judged && bias->rank == 1 && judged->rank == 2 &&
           bias->shape[0] == judged->shape[1] && bias->shape[0] != judged->shape[0];
}

static gemmux_status read(gemmux_model *model, gemmux_source *source, gemmux_error *error)
{
    const gemmux_stored *weight = gemmux_part_of(model, source, GEMMUX_PART_WEIGHT);
    gemmux_layer *layer = &source->layer;
    bool turned = is_conv1d(model, weight, source->stem_length);
    source->variant = turned ? COLS_FIRST : ROWS_FIRST;
    layer->n = weight->shape[turned ? 1 : 0];
    layer->k = weight->shape[turned ? 0 : 1];
    layer->format = gemmux_format_of_float((gemmux_dtype)weight->dtype);
    gemmux_status status =
        gemmux_set_scheme(model, source, error, "%s%s", gemmux_format_id_name(layer->format.id),
                          turned ? " (transposed)" : "");
    return status ? status : gemmux_find_bias(model, source, ".bias", error);
}

gemmux_status gemmux_load_floats(const gemmux_model *model, const gemmux_source *source,
                                 bool turned, gemmux_weights *weights, gemmux_error *error)
{
    const gemmux_stored *weight = gemmux_part_of(model, source, GEMMUX_PART_WEIGHT);
    const gemmux_layer *layer = &source->layer;
    size_t size = (size_t)gemmux_dtype_block_bytes((gemmux_dtype)weight->dtype);
    bool view = !turned && gemmux_is_aligned(weight, size);
    gemmux_room room;
    gemmux_status status = gemmux_make_room(
        (gemmux_room_bytes){.codes = view ? 0 : weight->bytes, .bias = gemmux_bias_bytes(source)},
        weights, &room, error);
    if (status)
        return status;
    if (turned)
        gemmux_turn(weight->data, room.codes, weights->tensor.count, layer->n, layer->k, size);
    else if (!view)
        memcpy(room.codes, weight->data, (size_t)weight->bytes);
    weights->tensor.codes = view ? weight->data : room.codes;
    return gemmux_load_bias(model, source, &room, weights, error);
}

static gemmux_status load(const gemmux_model *model, const gemmux_source *source,
                          gemmux_weights *weights, gemmux_error *error)
{
    return gemmux_load_floats(model, source, source->variant == COLS_FIRST, weights, error);
}

const gemmux_scheme gemmux_scheme_plain = {
    .suffix = ".weight", .claims = claims, .read = read, .load = load};

/* ------------------------------------------------------------------- experts fused in one tensor
 */

static bool claims_experts(const gemmux_model *model, const gemmux_stored *weight,
                           size_t stem_length)
{
    (void)model;
    return weight->rank == 3 && is_float(weight) &&
           (stem_ends(weight, stem_length, "experts.gate_up_proj") ||
            stem_ends(weight, stem_length, "experts.down_proj"));
}

/* gpt-oss and Llama 4 keep [experts, k, n]; others [experts, n, k]. True: the former. `known` tells
 * whether anything in the checkpoint says so. */
static bool experts_turned(const gemmux_model *model, const gemmux_stored *weight,
                           size_t stem_length, bool gate_up, bool *known)
{
    const gemmux_stored *bias = gemmux_sibling(model, weight, stem_length, "_bias");
    const char *type = model->config.present ? model->config.model_type : "";
    int64_t hidden = model->config.hidden_size, a = weight->shape[1], b = weight->shape[2];
    *known = true;
    if (strcmp(type, "gpt_oss") == 0 || strncmp(type, "llama4", 6) == 0)
        return true;
    if (a != b && bias && bias->rank == 2 && (bias->shape[1] == a || bias->shape[1] == b))
        return bias->shape[1] == b;
    if (a != b && (hidden == a || hidden == b))
        return gate_up ? hidden == a : hidden == b;
    *known = *type != '\0';
    return false;
}

static gemmux_status read_experts(gemmux_model *model, gemmux_source *source, gemmux_error *error)
{
    const gemmux_stored *weight = gemmux_part_of(model, source, GEMMUX_PART_WEIGHT);
    gemmux_layer *layer = &source->layer;
    bool gate_up = stem_ends(weight, source->stem_length, "gate_up_proj"), known;
    bool turned = experts_turned(model, weight, source->stem_length, gate_up, &known);
    source->variant = turned ? COLS_FIRST : ROWS_FIRST;
    if (weight->shape[0] > INT32_MAX)
        return gemmux_bad(model, weight, error, "%lld experts are absurd",
                          (long long)weight->shape[0]);
    layer->op = GEMMUX_MOE;
    layer->experts = (int32_t)weight->shape[0];
    layer->top_k = model->top_k;
    layer->n = weight->shape[turned ? 2 : 1];
    layer->k = weight->shape[turned ? 1 : 2];
    layer->epilogue = gate_up ? GEMMUX_EPILOGUE_GATHER : GEMMUX_EPILOGUE_SCATTER;
    layer->format = gemmux_format_of_float((gemmux_dtype)weight->dtype);
    const char *type = gemmux_format_id_name(layer->format.id);
    gemmux_status status =
        gemmux_set_scheme(model, source, error, "%s%s", type, turned ? " (transposed)" : "");
    if (!status)
        status = gemmux_find_bias(model, source, "_bias", error);
    if (!status && gate_up && (layer->epilogue & GEMMUX_EPILOGUE_BIAS) && layer->n % 2 == 0)
        layer->epilogue |= GEMMUX_EPILOGUE_SWIGLU; /* only gpt-oss has biases here */
    if (!status && !known)
        status = gemmux_refuse(model, source, error,
                               "config.json is needed to tell rows from columns of fused experts");
    return status;
}

const gemmux_scheme gemmux_scheme_experts = {
    .suffix = "", .claims = claims_experts, .read = read_experts, .load = load};

/* ----------------------------------------------------------------------------- nothing we know */

static bool claims_rest(const gemmux_model *model, const gemmux_stored *weight, size_t stem_length)
{
    (void)model;
    (void)stem_length;
    return weight->rank == 2 && weight->dtype != GEMMUX_DTYPE_BOOL;
}

static gemmux_status read_rest(gemmux_model *model, gemmux_source *source, gemmux_error *error)
{
    const gemmux_stored *weight = gemmux_part_of(model, source, GEMMUX_PART_WEIGHT);
    const char *type = gemmux_dtype_name((gemmux_dtype)weight->dtype);
    source->layer.n = weight->shape[0];
    source->layer.k = weight->shape[1];
    gemmux_status status = gemmux_set_scheme(model, source, error, "unknown (%s)", type);
    if (!status)
        status = gemmux_refuse(model, source, error,
                               "a weight of type %s beside which none of the tensors of a known "
                               "scheme stands",
                               type);
    return status;
}

const gemmux_scheme gemmux_scheme_unknown = {
    .suffix = ".weight", .claims = claims_rest, .read = read_rest};
