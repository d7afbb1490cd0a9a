/* SPDX-License-Identifier: Apache-2.0
 *
 * Every way of storing weights, element by element against independent decoders: the folders of
 * fixtures/checkpoints, which make_checkpoints.py there wrote with the packages it names. What is
 * contradictory in a scheme's tensors is refused; each such case is a header made here.
 */
#include "checkpoint_files.h"

#include <jansson.h>

/* ---------------------------------------------------------------------------------- fixtures -- */

static const char *const folders[] = {
    "awq",          "bnb-int8",      "bnb-nf4",       "bnb-nf4-nested", "bnb-nf4-ragged",
    "ct-fp8-row",   "ct-fp8-tensor", "ct-int4-group", "ct-int4-order",  "ct-int4-row",
    "ct-int4-zero", "ct-int8-group", "ct-int8-row",   "ct-int8-tensor", "ct-mxfp4",
    "ct-mxfp8",     "ct-nvfp4",      "fp8-block",     "gguf",           "gptoss",
    "gptoss-bf16",  "gptq-8bit",     "gptq-borrow",   "gptq-order",     "gptq-sym",
    "gptq-v2",      "gptq-zero",     "modelopt-fp8",  "modelopt-nvfp4", "moe-bf16",
    "moe-fp8",      "plain",
};

static void folder_path(char path[512], const char *folder, const char *file)
{
    snprintf(path, 512, "%s/checkpoints/%s%s%s", FIXTURES, folder, *file ? "/" : "", file);
}

static int64_t get_int(const json_t *entry, const char *key)
{
    return json_integer_value(json_object_get(entry, key));
}

static float *read_values(const char *folder, const char *name, size_t count)
{
    char path[512];
    folder_path(path, folder, name);
    FILE *file = fopen(path, "rb");
    float *values = malloc((count + 1) * sizeof *values);
    assert_non_null(file);
    assert_int_equal(fread(values, sizeof *values, count + 1, file), count);
    fclose(file);
    return values;
}

static uint8_t epilogue_of(const json_t *names)
{
    static const char *const bits[] = {"bias", "swiglu", "gather", "scatter"};
    uint8_t result = 0;
    for (size_t i = 0; i < json_array_size(names); i++)
        for (size_t bit = 0; bit < 4; bit++)
            if (strcmp(json_string_value(json_array_get(names, i)), bits[bit]) == 0)
                result |= (uint8_t)(1u << bit);
    return result;
}

static void check_layer(const gemmux_layer *layer, const json_t *want)
{
    char name[32];
    const char *op = json_string_value(json_object_get(want, "op"));
    assert_string_equal(layer->scheme, json_string_value(json_object_get(want, "scheme")));
    assert_string_equal(gemmux_format_name(layer->format, name, sizeof name),
                        json_string_value(json_object_get(want, "format")));
    assert_true(gemmux_format_equal(layer->format, testing_format(name)));
    assert_int_equal(layer->n, get_int(want, "n"));
    assert_int_equal(layer->k, get_int(want, "k"));
    assert_int_equal(layer->op, op && strcmp(op, "moe") == 0 ? GEMMUX_MOE : GEMMUX_LINEAR);
    assert_int_equal(layer->experts, get_int(want, "experts"));
    assert_int_equal(layer->top_k, get_int(want, "top_k"));
    assert_int_equal(layer->embedding, json_is_true(json_object_get(want, "embedding")));
    if (json_object_get(want, "epilogue"))
        assert_int_equal(layer->epilogue, epilogue_of(json_object_get(want, "epilogue")));
}

/* Is the pointer within one of the model's files? */
static bool is_in_file(const gemmux_model *model, const void *pointer)
{
    for (int32_t i = 0; i < model->catalog.file_count; i++) {
        const gemmux_file_map *map = &model->catalog.files[i];
        if ((const uint8_t *)pointer >= map->data &&
            (const uint8_t *)pointer < map->data + map->size)
            return true;
    }
    return false;
}

static void check_element(double have, double want, int64_t tolerance, const char *name,
                          const int64_t where[3])
{
    double off = fabs(have - want), allowed = (double)tolerance * 0x1p-24 * fabs(want);
    if (!(off <= allowed))
        fail_msg("%s [%lld, %lld, %lld] is %.17g, expected %.17g (off by %.3g, allowed %.3g)", name,
                 (long long)where[0], (long long)where[1], (long long)where[2], have, want, off,
                 allowed);
}

/* Row `row` of matrix e against the kept row `kept` of the expected values. */
static void check_row(const gemmux_tensor *t, int64_t e, int64_t row, const float *want,
                      int64_t tolerance, const char *name)
{
    for (int64_t j = 0; j < t->cols; j++) {
        int64_t col = t->k_order ? t->k_order[j] : j;
        check_element(gemmux_tensor_at(t, e, row, j), (double)want[col], tolerance, name,
                      (const int64_t[3]){e, row, col});
    }
}

static void check_values(const char *folder, const gemmux_weights *w, const json_t *want)
{
    const gemmux_tensor *t = &w->tensor;
    const json_t *rows = json_object_get(want, "rows"), *bias = json_object_get(want, "bias");
    const char *name = json_string_value(json_object_get(want, "layer"));
    int64_t kept = rows ? (int64_t)json_array_size(rows) : t->rows;
    float *values = read_values(folder, json_string_value(json_object_get(want, "values")),
                                (size_t)(t->count * kept * t->cols));
    for (int64_t e = 0; e < t->count; e++) {
        for (int64_t i = 0; i < kept; i++) {
            int64_t row = rows ? json_integer_value(json_array_get(rows, (size_t)i)) : i;
            check_row(t, e, row, values + (e * kept + i) * t->cols, get_int(want, "tolerance"),
                      name);
        }
    }
    free(values);
    assert_int_equal(w->bias != NULL, bias != NULL);
    if (bias)
        assert_int_equal(json_array_size(bias), t->count * t->rows);
    for (size_t i = 0; i < json_array_size(bias); i++)
        assert_true((double)w->bias[i] == json_number_value(json_array_get(bias, i)));
}

static void check_entry(const char *folder, gemmux_model *model, const json_t *want)
{
    int index = -1;
    gemmux_weights w;
    gemmux_error error = {GEMMUX_OK, ""};
    const gemmux_layer *layer =
        layer_called(model, json_string_value(json_object_get(want, "layer")), &index);
    check_layer(layer, want);
    if (gemmux_model_load(model, index, &w, &error) ||
        gemmux_tensor_check(&w.tensor, layer->name, &error))
        fail_msg("%s: %s", layer->name, error.text);
    assert_true(gemmux_format_equal(w.tensor.format, layer->format));
    if (json_object_get(want, "view"))
        assert_int_equal(is_in_file(model, w.tensor.codes),
                         json_is_true(json_object_get(want, "view")));
    if (json_object_get(want, "order"))
        assert_int_equal(w.tensor.k_order != NULL, json_is_true(json_object_get(want, "order")));
    check_values(folder, &w, want);
    gemmux_weights_free(&w);
    gemmux_model_release(model, index);
}

static void fixture_is_decoded(void **state)
{
    const char *folder = *state;
    char path[512];
    gemmux_model *model = NULL;
    gemmux_error error = {GEMMUX_OK, ""};
    json_error_t problem;
    folder_path(path, folder, "");
    if (gemmux_model_open(path, &model, &error))
        fail_msg("%s", error.text);
    folder_path(path, folder, "expected.json");
    json_t *expected = json_load_file(path, JSON_REJECT_DUPLICATES, &problem);
    assert_true(json_array_size(expected) > 0);
    for (size_t i = 0; i < json_array_size(expected); i++)
        check_entry(folder, model, json_array_get(expected, i));
    json_decref(expected);
    gemmux_model_close(model);
}

/* A file alone, without its config: the same numbers, where nothing is ambiguous. */
static void files_alone_are_decoded(void **state)
{
    (void)state;
    static const struct {
        const char *folder, *layer, *scheme, *format;
    } cases[] = {
        {"awq", "model.layers.0.q_proj", "awq", "int4:g32:zero"},
        {"bnb-nf4", "layer", "nf4 (bitsandbytes)", "nf4"},
        {"ct-int4-zero", "layer", "int4 (compressed-tensors)", "int4:g32:zero:bf16"},
        {"fp8-block", "layer", "fp8 per block", "e4m3:block128"},
        {"gptoss", "model.layers.0.mlp.experts.down_proj", "mxfp4 (gpt-oss)", "mxfp4"},
        {"gptq-zero", "model.layers.0.q_proj", "gptq (zero - 1?)", "int4:g32:zero"},
        {"gptq-sym", "model.layers.0.q_proj", "gptq (zero - 1?)", "int4:g32:zero"},
        {"modelopt-nvfp4", "layer", "nvfp4 (modelopt)", "nvfp4"},
        {"plain", "h.0.attn.c_attn", "f32 (transposed)", "f32"},
        {"plain", "h.0.attn.c_proj", "f32 (transposed)", "f32"},
        {"gptoss-bf16", "model.layers.0.mlp.experts.gate_up_proj", "bf16 (transposed)", "bf16"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[512], name[32];
        gemmux_file_map map;
        gemmux_model *model = NULL;
        int index = -1;
        gemmux_weights w;
        folder_path(path, cases[i].folder, "model.safetensors");
        assert_int_equal(gemmux_file_map_open(path, &map, NULL), GEMMUX_OK);
        assert_int_equal(
            gemmux_model_from_memory("alone", map.data, (size_t)map.size, NULL, 0, &model, NULL),
            GEMMUX_OK);
        const gemmux_layer *layer = layer_called(model, cases[i].layer, &index);
        assert_string_equal(layer->scheme, cases[i].scheme);
        assert_string_equal(gemmux_format_name(layer->format, name, sizeof name), cases[i].format);
        assert_int_equal(layer->top_k, 0);
        assert_int_equal(gemmux_model_load(model, index, &w, NULL), GEMMUX_OK);
        gemmux_weights_free(&w);
        gemmux_model_close(model);
        gemmux_file_map_close(&map);
    }
}

static void what_is_not_read_is_refused_by_name(void **state)
{
    (void)state;
    char path[512];
    gemmux_model *model = NULL;
    folder_path(path, "bnb-fp4", "");
    assert_int_equal(gemmux_model_open(path, &model, NULL), GEMMUX_OK);
    assert_int_equal(layer_called(model, "layer", NULL)->format.id, 0);
    expect_not_loaded(model, "layer", (const char *const[3]){"layer.weight", "fp4", "nf4"});
    gemmux_model_close(model);
    folder_path(path, "gguf", "model.gguf");
    assert_int_equal(gemmux_model_open(path, &model, NULL), GEMMUX_OK);
    expect_not_loaded(model, "blk.0.weird",
                      (const char *const[3]){"model.gguf", "blk.0.weird.weight", "IQ2_XXS"});
    gemmux_model_close(model);
}

/* ------------------------------------------------------------------------- contradictory parts --
 */

/* Tensors in a row, each "name dtype shape bytes", with data of zeros. */
typedef struct part {
    const char *name, *dtype, *shape;
    size_t bytes;
    const void *data; /* NULL: zeros */
} part;

static bytes file_of_parts(const part *parts)
{
    char header[4096] = "{";
    size_t at = 0;
    for (const part *p = parts; p->name; p++) {
        size_t used = strlen(header);
        snprintf(header + used, sizeof header - used,
                 "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
                 p == parts ? "" : ",", p->name, p->dtype, p->shape, at, at + p->bytes);
        at += p->bytes;
    }
    strcat(header, "}");
    bytes b = safetensors_file(header, 0);
    for (const part *p = parts; p->name; p++) {
        uint8_t *zeros = calloc(1, p->bytes + 1);
        bytes_add(&b, p->data ? p->data : zeros, p->bytes);
        free(zeros);
    }
    return b;
}

typedef struct contradiction {
    part parts[5];
    const char *words[3];
} contradiction;

static const int64_t shape_3_16[2] = {3, 16}, shape_negative[2] = {4, -16};

/* clang-format off */
static const contradiction contradictions[] = {
    /* FP8 */
    {{{"a.weight", "F8_E4M3", "[4,8]", 32, NULL}, {"a.weight_scale", "F32", "[3]", 12, NULL}},
     {"a.weight_scale", "[3]", "[4, 8]"}},
    {{{"a.weight", "F8_E4M3", "[4,8]", 32, NULL}, {"a.weight_scale", "I32", "[4]", 16, NULL}},
     {"a.weight_scale", "I32"}},
    {{{"a.weight", "F8_E5M2", "[4,8]", 32, NULL}, {"a.weight_scale_inv", "F32", "[4,3]", 48, NULL}},
     {"a.weight_scale_inv", "[4, 3]"}},
    {{{"a.weight", "F8_E4M3", "[4,64]", 256, NULL}, {"a.weight_scale", "U8", "[4,3]", 12, NULL}},
     {"a.weight_scale", "[4, 3]", "[4, 2]"}},
    {{{"a.weight", "F8_E4M3", "[4,8]", 32, NULL}, {"a.weight_scale", "F32", "[4,0]", 0, NULL}},
     {"a.weight_scale", "[4, 0]"}},
    /* NVFP4 */
    {{{"a.weight", "U8", "[2,16]", 32, NULL}, {"a.weight_scale", "F8_E4M3", "[2,3]", 6, NULL},
      {"a.weight_scale_2", "F32", "[]", 4, NULL}},
     {"a.weight_scale'", "[2, 3]", "[2, 2]"}},
    {{{"a.weight", "U8", "[2,16]", 32, NULL}, {"a.weight_scale", "F32", "[2,2]", 16, NULL},
      {"a.weight_scale_2", "F32", "[]", 4, NULL}},
     {"a.weight_scale'", "F32", "F8_E4M3"}},
    {{{"a.weight", "U8", "[2,16]", 32, NULL}, {"a.weight_scale_2", "F32", "[]", 4, NULL}},
     {"a.weight'", "weight_scale"}},
    {{{"a.weight", "U8", "[2,16]", 32, NULL}, {"a.weight_scale", "F8_E4M3", "[2,2]", 4, NULL},
      {"a.weight_scale_2", "F32", "[2]", 8, NULL}},
     {"a.weight_scale_2", "one number"}},
    {{{"a.weight_packed", "U8", "[2,16]", 32, NULL}, {"a.weight_scale", "F8_E4M3", "[2,2]", 4, NULL},
      {"a.weight_global_scale", "F16", "[1]", 2, NULL}},
     {"a.weight_global_scale", "F32"}},
    /* gpt-oss */
    {{{"e.gate_up_proj_blocks", "U8", "[2,4,1,16]", 128, NULL},
      {"e.gate_up_proj_scales", "U8", "[2,4,2]", 16, NULL}},
     {"e.gate_up_proj_scales", "[2, 4, 2]", "[2, 4, 1]"}},
    {{{"e.gate_up_proj_blocks", "U8", "[2,4,1,8]", 64, NULL},
      {"e.gate_up_proj_scales", "U8", "[2,4,1]", 8, NULL}},
     {"e.gate_up_proj_blocks", "16"}},
    {{{"e.down_proj_blocks", "U8", "[2,4,1,16]", 128, NULL},
      {"e.down_proj_scales", "U8", "[2,4,1]", 8, NULL}, {"e.down_proj_bias", "BF16", "[4]", 8, NULL}},
     {"e.down_proj_bias", "[4]"}},
    /* INT8 */
    {{{"a.weight", "I8", "[4,8]", 32, NULL}, {"a.weight_scale", "F32", "[5]", 20, NULL}},
     {"a.weight_scale", "[5]"}},
    {{{"a.weight", "I8", "[4,8]", 32, NULL}, {"a.weight_scale", "F64", "[4]", 32, NULL}},
     {"a.weight_scale", "F64"}},
    {{{"a.weight", "I8", "[4,8]", 32, NULL}, {"a.SCB", "F32", "[3]", 12, NULL}},
     {"a.SCB", "[3]", "[4]"}},
    /* compressed-tensors, packed */
    {{{"a.weight_packed", "I32", "[4,2]", 32, NULL}}, {"a.weight_packed", "weight_scale"}},
    {{{"a.weight_packed", "I32", "[4,2]", 32, NULL}, {"a.weight_scale", "F16", "[3,1]", 6, NULL}},
     {"a.weight_scale", "[3, 1]", "4 rows"}},
    {{{"a.weight_packed", "I32", "[4,2]", 32, NULL}, {"a.weight_scale", "F16", "[4,3]", 24, NULL}},
     {"a.weight_scale", "3 groups", "16 columns"}},
    {{{"a.weight_packed", "I32", "[4,2]", 32, NULL}, {"a.weight_scale", "I8", "[4,1]", 4, NULL}},
     {"a.weight_scale", "I8"}},
    {{{"a.weight_packed", "I32", "[4,2]", 32, NULL}, {"a.weight_scale", "F16", "[4,1]", 8, NULL},
      {"a.weight_zero_point", "I32", "[2,1]", 8, NULL}},
     {"a.weight_zero_point", "[2, 1]", "[1, 1]"}},
    {{{"a.weight_packed", "I32", "[4,2]", 32, NULL}, {"a.weight_scale", "F16", "[1]", 2, NULL},
      {"a.weight_zero_point", "I32", "[1,1]", 4, NULL}},
     {"a.weight_zero_point", "I8"}},
    {{{"a.weight_packed", "I32", "[4,2]", 32, NULL}, {"a.weight_scale", "F16", "[4,1]", 8, NULL},
      {"a.weight_g_idx", "I32", "[15]", 60, NULL}},
     {"a.weight_g_idx", "[15]", "[16]"}},
    {{{"a.weight_packed", "I32", "[4,2]", 32, NULL}, {"a.weight_scale", "F16", "[4,1]", 8, NULL},
      {"a.weight_shape", "I64", "[2]", 16, shape_3_16}},
     {"a.weight_shape", "[3, 16]", "4 packed rows"}},
    {{{"a.weight_packed", "I32", "[4,2]", 32, NULL}, {"a.weight_scale", "F16", "[4,1]", 8, NULL},
      {"a.weight_shape", "I64", "[2]", 16, shape_negative}},
     {"a.weight_shape", "[4, -16]"}},
    {{{"a.weight_packed", "I32", "[4,2]", 32, NULL}, {"a.weight_scale", "F16", "[4,1]", 8, NULL},
      {"a.weight_shape", "F32", "[2]", 8, NULL}},
     {"a.weight_shape", "two integers"}},
    /* GPTQ and AWQ */
    {{{"a.qweight", "I32", "[2,8]", 64, NULL}, {"a.scales", "F16", "[2,8]", 32, NULL},
      {"a.qzeros", "I32", "[2,2]", 16, NULL}},
     {"a.qzeros", "[2, 2]", "[2, 1]"}},
    {{{"a.qweight", "I32", "[2,8]", 64, NULL}, {"a.scales", "F16", "[3,8]", 48, NULL}},
     {"a.scales", "3 groups", "16 columns"}},
    {{{"a.qweight", "I32", "[2,8]", 64, NULL}, {"a.scales", "I16", "[1,8]", 16, NULL}},
     {"a.scales", "I16"}},
    {{{"a.qweight", "I32", "[2,8]", 64, NULL}, {"a.scales", "F16", "[1,8]", 16, NULL},
      {"a.g_idx", "I64", "[16]", 128, NULL}},
     {"a.g_idx", "I64", "I32"}},
    /* bitsandbytes */
    {{{"a.weight", "U8", "[32,1]", 32, NULL}, {"a.weight.absmax", "F32", "[1]", 4, NULL}},
     {"a.weight'", "quant_state"}},
    {{{"a.weight", "U8", "[32,1]", 32, NULL}, {"a.weight.absmax", "F32", "[1]", 4, NULL},
      {"a.weight.quant_state.bitsandbytes__nf4", "U8", "[2]", 2, "{}"}},
     {"quant_state", "shape"}},
    {{{"a.weight", "U8", "[32,1]", 32, NULL}, {"a.weight.absmax", "F32", "[1]", 4, NULL},
      {"a.weight.quant_state.bitsandbytes__nf4", "U8", "[16]", 16, "{\"shape\":[1,64]}"}},
     {"quant_state", "blocksize"}},
    {{{"a.weight", "U8", "[32,1]", 32, NULL}, {"a.weight.absmax", "F32", "[1]", 4, NULL},
      {"a.weight.quant_state.bitsandbytes__nf4", "U8", "[31]", 31, "{\"shape\":[2,64],\"blocksize\":64}"}},
     {"a.weight'", "32 bytes", "[2, 64]"}},
    {{{"a.weight", "U8", "[32,1]", 32, NULL}, {"a.weight.absmax", "F32", "[2]", 8, NULL},
      {"a.weight.quant_state.bitsandbytes__nf4", "U8", "[31]", 31, "{\"shape\":[1,64],\"blocksize\":64}"}},
     {"a.weight.absmax", "[2]", "[1]"}},
    {{{"a.weight", "U8", "[32,1]", 32, NULL}, {"a.weight.absmax", "F32", "[1]", 4, NULL},
      {"a.weight.quant_state.bitsandbytes__nf4", "U8", "[32]", 32, "{\"shape\":[-1,64],\"blocksize\":64}"}},
     {"quant_state", "absurd"}},
    {{{"a.weight", "U8", "[32,1]", 32, NULL}, {"a.weight.absmax", "F32", "[1]", 4, NULL},
      {"a.weight.quant_state.bitsandbytes__nf4", "U8", "[4]", 4, "{{{{"}},
     {"quant_state", "expected"}},
};
/* clang-format on */

static void contradictory_parts_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof contradictions / sizeof contradictions[0]; i++) {
        bytes b = file_of_parts(contradictions[i].parts);
        expect_refused(b, NULL, contradictions[i].words);
        free(b.data);
    }
}

/* Bad numbers are found when the layer is loaded. */
static void bad_numbers_are_refused(void **state)
{
    (void)state;
    static const float nan_first[2] = {NAN, 1}, negative[2] = {1, -1}, infinite[1] = {INFINITY};
    static const float zero[1] = {0}, tiny[1] = {1e-42f};
    static const uint16_t half_nan[4] = {0x3c00, 0x7e00, 0x3c00, 0x3c00};
    static const int32_t wild[16] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2};
    static const int32_t crowded[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1};
    static const int32_t half_set[16] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, 1, 1, 1, 1, 1, 1, 1};
    /* clang-format off */
    static const struct { part parts[5]; const char *words[3]; } cases[] = {
        {{{"a.weight", "F8_E4M3", "[2,8]", 16, NULL}, {"a.weight_scale", "F32", "[2]", 8, nan_first}},
         {"a.weight_scale", "number 0", "NaN"}},
        {{{"a.weight", "F8_E4M3", "[2,8]", 16, NULL}, {"a.weight_scale", "F32", "[2]", 8, negative}},
         {"a.weight_scale", "scale 1", "negative"}},
        {{{"a.weight", "F8_E4M3", "[1,8]", 8, NULL}, {"a.weight_scale", "F32", "[1]", 4, infinite}},
         {"a.weight_scale", "infinite"}},
        {{{"a.weight", "F8_E4M3", "[1,64]", 64, NULL}, {"a.weight_scale", "U8", "[1,2]", 2, "\1\xff"}},
         {"a.weight_scale", "number 1", "NaN"}},
        {{{"a.weight", "U8", "[1,16]", 16, NULL}, {"a.weight_scale", "F8_E4M3", "[1,2]", 2, "\1\x7f"},
          {"a.weight_scale_2", "F32", "[]", 4, NULL}},
         {"a.weight_scale'", "number 1", "NaN"}},
        {{{"a.weight", "U8", "[1,16]", 16, NULL}, {"a.weight_scale", "F8_E4M3", "[1,2]", 2, "\1\x81"},
          {"a.weight_scale_2", "F32", "[]", 4, NULL}},
         {"a.weight_scale'", "scale 1", "negative"}},
        {{{"a.weight", "U8", "[1,16]", 16, NULL}, {"a.weight_scale", "F8_E4M3", "[1,2]", 2, NULL},
          {"a.weight_scale_2", "F32", "[]", 4, infinite}},
         {"a.weight_scale_2", "infinite"}},
        {{{"a.weight_packed", "U8", "[1,16]", 16, NULL},
          {"a.weight_scale", "F8_E4M3", "[1,2]", 2, NULL},
          {"a.weight_global_scale", "F32", "[1]", 4, zero}},
         {"a.weight_global_scale", "divisor"}},
        {{{"a.weight_packed", "U8", "[1,16]", 16, NULL},
          {"a.weight_scale", "F8_E4M3", "[1,2]", 2, NULL},
          {"a.weight_global_scale", "F32", "[1]", 4, tiny}},
         {"a.weight_global_scale", "divisor"}},
        {{{"a.weight", "I8", "[1,4]", 4, NULL}, {"a.weight_scale", "F32", "[1]", 4, NULL},
          {"a.weight_zero_point", "I8", "[1]", 1, "\1"}},
         {"a.weight_zero_point", "zero points"}},
        {{{"a.weight_packed", "I32", "[2,2]", 16, NULL}, {"a.weight_scale", "F16", "[2,2]", 8, half_nan}},
         {"a.weight_scale", "number 1", "NaN"}},
        {{{"a.qweight", "I32", "[2,2]", 16, NULL}, {"a.scales", "F16", "[2,2]", 8, half_nan}},
         {"a.scales", "number 1", "NaN"}},
        {{{"a.qweight", "I32", "[2,1]", 8, NULL}, {"a.scales", "F16", "[2,1]", 4, NULL},
          {"a.g_idx", "I32", "[16]", 64, wild}},
         {"a.g_idx", "column 15", "group 2 of 2"}},
        {{{"a.qweight", "I32", "[2,1]", 8, NULL}, {"a.scales", "F16", "[2,1]", 4, NULL},
          {"a.g_idx", "I32", "[16]", 64, crowded}},
         {"a.g_idx", "group 0", "8 columns"}},
        {{{"a.qweight", "I32", "[2,1]", 8, NULL}, {"a.scales", "F16", "[2,1]", 4, NULL},
          {"a.g_idx", "I32", "[16]", 64, half_set}},
         {"a.g_idx", "no group"}},
        {{{"a.weight", "U8", "[32,1]", 32, NULL}, {"a.weight.absmax", "F32", "[1]", 4, NULL},
          {"a.weight.quant_map", "F32", "[16]", 64, NULL},
          {"a.weight.quant_state.bitsandbytes__nf4", "U8", "[31]", 31, "{\"shape\":[1,64],\"blocksize\":64}"}},
         {"a.weight.quant_map", "entry 0", "NF4"}},
        {{{"a.weight", "U8", "[32,1]", 32, NULL}, {"a.weight.absmax", "F32", "[1]", 4, infinite},
          {"a.weight.quant_state.bitsandbytes__nf4", "U8", "[31]", 31, "{\"shape\":[1,64],\"blocksize\":64}"}},
         {"a.weight.absmax", "infinite"}},
    };
    /* clang-format on */
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bytes b = file_of_parts(cases[i].parts);
        gemmux_model *model = open_bytes(b, NULL);
        expect_not_loaded(model, "a", cases[i].words);
        gemmux_model_close(model);
        free(b.data);
    }
}

/* Sound, but nothing that gemmux decodes: listed without a format, refused with the reason. */
static void what_cannot_be_decoded_is_listed(void **state)
{
    (void)state;
    static const int64_t by_32[2] = {4, 32}, by_16[2] = {4, 16};
    /* clang-format off */
    static const struct { part parts[5]; const char *config, *words[3]; } cases[] = {
        {{{"a.weight", "F64", "[2,2]", 32, NULL}}, NULL, {"a.weight", "F64"}},
        {{{"a.weight", "I8", "[2,2]", 4, NULL}}, NULL, {"a.weight", "I8"}},
        {{{"a.qweight", "I32", "[3,8]", 96, NULL}, {"a.scales", "F16", "[1,8]", 16, NULL},
          {"a.g_idx", "I32", "[32]", 128, NULL}},
         NULL, {"a.qweight", "4 or 8 bits"}}, /* three bits */
        {{{"a.qweight", "I32", "[16,2]", 128, NULL}, {"a.scales", "F16", "[16,1]", 32, NULL}},
         NULL, {"a.qweight", "gemm"}}, /* AWQ's gemv layout */
        {{{"a.weight_packed", "I32", "[4,3]", 48, NULL}, {"a.weight_scale", "F16", "[4,1]", 8, NULL},
          {"a.weight_shape", "I64", "[2]", 16, by_32}},
         NULL, {"a.weight_packed", "3 words", "32 columns"}}, /* three bits */
        {{{"a.weight_packed", "I32", "[4,4]", 64, NULL}, {"a.weight_scale", "F16", "[4,1]", 8, NULL},
          {"a.weight_zero_point", "I32", "[1,1]", 4, NULL},
          {"a.weight_shape", "I64", "[2]", 16, by_16}},
         NULL, {"8-bit", "zero points"}},
        {{{"a.weight", "U8", "[3,1]", 3, NULL}, {"a.weight.absmax", "F32", "[1]", 4, NULL},
          {"a.weight.quant_state.bitsandbytes__nf4", "U8", "[30]", 30, "{\"shape\":[2,3],\"blocksize\":64}"}},
         NULL, {"blocks of 64", "rows of 3"}},
        {{{"x.experts.gate_up_proj", "BF16", "[2,4,4]", 64, NULL}}, NULL, {"config.json"}},
    };
    /* clang-format on */
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bytes b = file_of_parts(cases[i].parts);
        gemmux_model *model = open_bytes(b, cases[i].config);
        assert_int_equal(gemmux_model_layer_count(model), 1);
        assert_int_equal(gemmux_model_layer(model, 0)->format.id, 0);
        expect_not_loaded(model, gemmux_model_layer(model, 0)->name, cases[i].words);
        gemmux_model_close(model);
        free(b.data);
    }
}

/* A config that says symmetric promises zero points of 8; the data may break the promise. */
static void broken_symmetry_is_told(void **state)
{
    (void)state;
    static const uint32_t sevens = 0x77777777, odd = 0x77767777;
    part parts[] = {{"a.qweight", "I32", "[2,8]", 64, NULL},
                    {"a.scales", "F16", "[1,8]", 16, NULL},
                    {"a.qzeros", "I32", "[1,1]", 4, &sevens},
                    {NULL, NULL, NULL, 0, NULL}};
    const char *config = "{\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4,"
                         "\"group_size\":16,\"sym\":true}}";
    gemmux_weights w;
    bytes b = file_of_parts(parts);
    gemmux_model *model = open_bytes(b, config);
    assert_int_equal(gemmux_model_layer(model, 0)->format.zero, GEMMUX_ZERO_NONE);
    assert_int_equal(gemmux_model_load(model, 0, &w, NULL), GEMMUX_OK);
    gemmux_weights_free(&w);
    gemmux_model_close(model);
    free(b.data);
    parts[2].data = &odd;
    b = file_of_parts(parts);
    model = open_bytes(b, config);
    expect_not_loaded(model, "a", (const char *const[3]){"a.qzeros", "row 4 is 7", "8"});
    gemmux_model_close(model);
    free(b.data);
}

/* ------------------------------------------------------------------------------------ experts --
 */

static void experts_are_stacked_only_when_alike(void **state)
{
    (void)state;
    part parts[] = {{"m.experts.0.up_proj.weight", "BF16", "[1,2]", 4, "\1\2\3\4"},
                    {"m.experts.1.up_proj.weight", "BF16", "[1,2]", 4, "\5\6\7\x8"},
                    {NULL, NULL, NULL, 0, NULL},
                    {NULL, NULL, NULL, 0, NULL}};
    bytes b = file_of_parts(parts);
    gemmux_model *model = open_bytes(b, "{\"num_experts_per_tok\":1}");
    gemmux_weights w;
    assert_int_equal(gemmux_model_layer_count(model), 1);
    assert_string_equal(gemmux_model_layer(model, 0)->name, "m.experts.up_proj");
    assert_int_equal(gemmux_model_layer(model, 0)->stored_bytes, 8);
    assert_int_equal(gemmux_model_load(model, 0, &w, NULL), GEMMUX_OK);
    assert_memory_equal(w.tensor.codes, "\1\2\3\4\5\6\7\x8", 8);
    gemmux_weights_free(&w);
    gemmux_model_close(model);
    free(b.data);

    static const part others[] = {
        {"m.experts.2.up_proj.weight", "BF16", "[2,1]", 4, NULL}, /* another shape */
        {"m.experts.2.up_proj.weight", "F16", "[1,2]", 4, NULL},  /* another format */
        {"m.experts.3.up_proj.weight", "BF16", "[1,2]", 4, NULL}, /* the second is missing */
        {"m.experts.1.up_proj.bias", "F32", "[1]", 4, NULL},      /* a bias that one alone has */
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        parts[2] = others[i];
        b = file_of_parts(parts);
        model = open_bytes(b, NULL);
        assert_int_equal(gemmux_model_layer_count(model), i < 3 ? 3 : 2);
        assert_int_equal(gemmux_model_layer(model, 0)->op, GEMMUX_LINEAR);
        assert_string_equal(gemmux_model_layer(model, 0)->group, "m.experts.*.up_proj");
        gemmux_model_close(model);
        free(b.data);
    }
}

/* GPTQ experts may each have columns of their own order; only a config says that none has. */
static void reordered_experts_stay_apart(void **state)
{
    (void)state;
    static const int32_t order[16] = {1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0};
    part parts[] = {{"m.experts.0.w1.qweight", "I32", "[2,8]", 64, NULL},
                    {"m.experts.0.w1.scales", "F16", "[2,8]", 32, NULL},
                    {"m.experts.0.w1.g_idx", "I32", "[16]", 64, order},
                    {"m.experts.1.w1.qweight", "I32", "[2,8]", 64, NULL},
                    {"m.experts.1.w1.scales", "F16", "[2,8]", 32, NULL},
                    {"m.experts.1.w1.g_idx", "I32", "[16]", 64, order},
                    {NULL, NULL, NULL, 0, NULL}};
    bytes b = file_of_parts(parts);
    gemmux_model *model = open_bytes(b, NULL);
    gemmux_weights w;
    assert_int_equal(gemmux_model_layer_count(model), 2);
    assert_int_equal(gemmux_model_load(model, 1, &w, NULL), GEMMUX_OK);
    assert_int_equal(w.tensor.k_order[0], 1); /* the first column of group 0 */
    assert_int_equal(w.tensor.k_order[8], 0);
    gemmux_weights_free(&w);
    gemmux_model_close(model);
    model = open_bytes(b, "{\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4,"
                          "\"group_size\":8,\"desc_act\":false}}");
    assert_int_equal(gemmux_model_layer_count(model), 1);
    gemmux_error error = {GEMMUX_OK, ""};
    assert_int_equal(gemmux_model_load(model, 0, &w, &error), GEMMUX_ERROR_INPUT);
    assert_non_null(strstr(error.text, "m.experts.0.w1"));
    gemmux_model_close(model);
    free(b.data);
}

int main(void)
{
    enum { FOLDERS = sizeof folders / sizeof folders[0] };
    struct CMUnitTest tests[FOLDERS];
    for (size_t i = 0; i < FOLDERS; i++)
        tests[i] = (struct CMUnitTest){.name = folders[i],
                                       .test_func = fixture_is_decoded,
                                       .initial_state = (void *)(uintptr_t)folders[i]};
    const struct CMUnitTest others[] = {
        cmocka_unit_test(files_alone_are_decoded),
        cmocka_unit_test(what_is_not_read_is_refused_by_name),
        cmocka_unit_test(contradictory_parts_are_refused),
        cmocka_unit_test(bad_numbers_are_refused),
        cmocka_unit_test(what_cannot_be_decoded_is_listed),
        cmocka_unit_test(broken_symmetry_is_told),
        cmocka_unit_test(experts_are_stacked_only_when_alike),
        cmocka_unit_test(reordered_experts_stay_apart),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return failed + cmocka_run_group_tests(others, NULL, NULL);
}
