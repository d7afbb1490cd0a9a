/* SPDX-License-Identifier: Apache-2.0
 *
 * The safetensors container: what a sound file gives, and that each way of being malformed is
 * refused with a text that names the tensor and the reason.
 */
#include "checkpoint_files.h"

/* -------------------------------------------------------------------------------- malformed -- */

typedef struct refusal {
    const char *header;
    size_t data_bytes;
    const char *words[3];
} refusal;

#define ENTRY(name, dtype, shape, begin, end)                                                      \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end   \
    "]}"

static void malformed_headers_are_refused(void **state)
{
    (void)state;
    static const refusal refusals[] = {
        {"{" ENTRY("a.weight", "BF16", "[2,3]", "0", "12") "}", 11, {"a.weight", "12", "11"}},
        {"{" ENTRY("a.weight", "BF16", "[2,3]", "0", "12") "}", 13, {"last 1 bytes", "memory"}},
        {"{" ENTRY("a.weight", "BF16", "[2,3]", "4", "16") "}", 16, {"a.weight", "no tensor"}},
        {"{" ENTRY("a", "U8", "[8]", "0", "8") "," ENTRY("b", "U8", "[8]", "4", "12") "}",
         12,
         {"'b'", "inside tensor 'a'", "byte 4"}},
        {"{" ENTRY("a", "U8", "[4]", "0", "4") "," ENTRY("b", "U8", "[4]", "8", "12") "}",
         12,
         {"'b'", "bytes 4 to 8", "no tensor"}},
        {"{" ENTRY("a", "U8", "[4]", "4", "0") "}", 4, {"'a'", "reversed"}},
        {"{" ENTRY("a", "U8", "[4]", "-4", "0") "}", 4, {"'a'", "reversed"}},
        {"{" ENTRY("a", "U8", "[4]", "0", "9223372036854775807") "}", 4, {"'a'", "truncated"}},
        {"{" ENTRY("a", "U8", "[4]", "0", "9223372036854775808") "}", 4, {"header", "integer"}},
        {"{" ENTRY("a", "U8", "[4294967296,4294967296]", "0", "4") "}", 4, {"'a'", "overflows"}},
        {"{" ENTRY("a", "F64", "[2305843009213693952]", "0", "4") "}", 4, {"'a'", "-1"}},
        {"{" ENTRY("a", "U8", "[-4]", "0", "4") "}", 4, {"'a'", "shape[0]"}},
        {"{" ENTRY("a", "U8", "[4.0]", "0", "4") "}", 4, {"'a'", "shape[0]"}},
        {"{" ENTRY("a", "U8", "4", "0", "4") "}", 4, {"'a'", "shape"}},
        {"{" ENTRY("a", "U8", "[1,1,1,1,1,1,1,1,4]", "0", "4") "}", 4, {"'a'", "9 dimensions"}},
        {"{" ENTRY("a", "U8", "[5]", "0", "4") "}", 4, {"'a'", "needs 5 bytes", "give 4"}},
        {"{" ENTRY("a", "F4", "[7]", "0", "4") "}", 4, {"'a'", "F4 [7]"}},
        {"{" ENTRY("a", "BF17", "[2]", "0", "4") "}", 4, {"'a'", "dtype \"BF17\""}},
        {"{" ENTRY("a", "U8", "[4]", "0", "4") "," ENTRY("a", "U8", "[4]", "0", "4") "}",
         4,
         {"duplicate"}},
        {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
         4,
         {"duplicate"}},
        {"{\"a\":{\"shape\":[4],\"data_offsets\":[0,4]}}", 4, {"'a'", "dtype"}},
        {"{\"a\":{\"dtype\":3,\"shape\":[4],\"data_offsets\":[0,4]}}", 4, {"'a'", "dtype"}},
        {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,4]}}", 4, {"'a'", "shape"}},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4]}}", 4, {"'a'", "data_offsets"}},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4,4]}}", 4, {"data_offsets"}},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,\"4\"]}}", 4, {"'a'"}},
        {"{\"a\":17}", 4, {"'a'", "not an object"}},
        {"{\"__metadata__\":17}", 0, {"__metadata__"}},
        {"[]", 0, {"not an object"}},
        {"{", 0, {"header at byte"}},
        {"", 0, {"header at byte"}},
        {"{\"a\\u0000b\":{}}", 0, {"header at byte"}},
        {"{" ENTRY("a\\u001b[31m", "U8", "[4]", "0", "4") "}", 4, {"control character 0x1b"}},
        {"{\"a\":{\"dtype\":\"\xff\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, {"header"}},
    };
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        bytes b = safetensors_file(refusals[i].header, refusals[i].data_bytes);
        expect_refused(b, NULL, refusals[i].words);
        free(b.data);
    }
}

static void bad_lengths_are_refused(void **state)
{
    (void)state;
    bytes b = {0};
    expect_refused(b, NULL, (const char *const[3]){"too few"});
    bytes_number(&b, 2, 4);
    expect_refused(b, NULL, (const char *const[3]){"4 bytes are too few"});
    bytes_number(&b, 0, 4);
    bytes_add(&b, "{", 1);
    expect_refused(b, NULL, (const char *const[3]){"header has 2 bytes", "only 1 follow"});
    b.size = 0;
    bytes_number(&b, 100000001, 8);
    expect_refused(b, NULL, (const char *const[3]){"100000001", "absurd"});
    b.size = 0;
    bytes_number(&b, UINT64_MAX, 8);
    expect_refused(b, NULL, (const char *const[3]){"absurd"});
    free(b.data);
}

/* Every cut of a sound file is refused, and none crashes. */
static void every_truncation_is_refused(void **state)
{
    (void)state;
    bytes b = safetensors_file("{" ENTRY("a.weight", "BF16", "[2,3]", "0", "12") "}", 12);
    for (size_t size = 0; size < b.size; size++) {
        uint8_t *cut = malloc(size + 1); /* so that reading past the end is seen */
        memcpy(cut, b.data, size);
        gemmux_model *model = NULL;
        assert_int_equal(gemmux_model_from_memory("cut", cut, size, NULL, 0, &model, NULL),
                         GEMMUX_ERROR_INPUT);
        assert_null(model);
        free(cut);
    }
    free(b.data);
}

/* ------------------------------------------------------------------------------------ sound -- */

static void tensors_become_layers(void **state)
{
    (void)state;
    bytes b = safetensors_file(
        "{\"__metadata__\":{\"format\":\"pt\"}," ENTRY(
            "model.layers.10.mlp.up_proj.weight", "BF16", "[2,3]", "0",
            "12") "," ENTRY("model.layers.9.mlp.up_proj.weight", "F16", "[2,4]", "12",
                            "28") "," ENTRY("model.layers.9.mlp.up_proj.bias", "F32", "[2]", "28",
                                            "36") "," ENTRY("model.embed_tokens.weight", "F32",
                                                            "[4,1]", "36",
                                                            "52") "," ENTRY("model.norm.weight",
                                                                            "F32", "[1]", "52",
                                                                            "56") "," ENTRY("empty."
                                                                                            "weigh"
                                                                                            "t",
                                                                                            "F32",
                                                                                            "[0,8]",
                                                                                            "56",
                                                                                            "56") "}   ",
        56);
    gemmux_model *model = open_bytes(b, NULL);
    assert_string_equal(gemmux_model_kind(model), "safetensors");
    assert_null(gemmux_model_name(model));
    assert_int_equal(gemmux_model_tensor_count(model), 6);
    assert_int_equal(gemmux_model_layer_count(model), 4);
    assert_null(gemmux_model_layer(model, 4));
    assert_null(gemmux_model_layer(model, -1));

    const gemmux_layer *table = gemmux_model_layer(model, 0);
    assert_string_equal(table->name, "model.embed_tokens");
    assert_true(table->embedding);
    const gemmux_layer *ninth = gemmux_model_layer(model, 1); /* before the tenth */
    assert_string_equal(ninth->name, "model.layers.9.mlp.up_proj");
    assert_string_equal(ninth->group, "model.layers.*.mlp.up_proj");
    assert_string_equal(ninth->scheme, "f16");
    assert_int_equal(ninth->op, GEMMUX_LINEAR);
    assert_int_equal(ninth->epilogue, GEMMUX_EPILOGUE_BIAS);
    assert_int_equal(ninth->n, 2);
    assert_int_equal(ninth->k, 4);
    assert_int_equal(ninth->stored_bytes, 16 + 8);
    assert_true(gemmux_format_equal(ninth->format, gemmux_format_of(GEMMUX_F16)));
    const gemmux_layer *head = gemmux_model_layer(model, 3);
    assert_string_equal(head->name, "lm_head (tied)");
    assert_false(head->embedding);
    assert_int_equal(head->n, 4);
    assert_int_equal(head->stored_bytes, 0);
    gemmux_model_close(model);
    free(b.data);
}

static void weights_are_views_and_biases_f32(void **state)
{
    (void)state;
    static const uint16_t numbers[] = {0x3f80, 0xc000, 0x4040, 0x3f00, 0x0001, 0x7f7f};
    static const uint16_t bias[] = {0x3c00, 0xc400};
    const char *header = "{" ENTRY("a.weight", "BF16", "[2,3]", "0",
                                   "12") "," ENTRY("a.bias", "F16", "[2]", "12", "16") "} ";
    bytes b = safetensors_file(header, 0);
    assert_int_equal(b.size % 2, 0); /* so that the weights are aligned */
    bytes_add(&b, numbers, sizeof numbers);
    bytes_add(&b, bias, sizeof bias);
    gemmux_model *model = open_bytes(b, NULL);
    gemmux_weights w;
    gemmux_error error;
    assert_int_equal(gemmux_model_load(model, 0, &w, &error), GEMMUX_OK);
    assert_ptr_equal(w.tensor.codes, b.data + 8 + strlen(header));
    assert_int_equal(gemmux_tensor_check(&w.tensor, "a", &error), GEMMUX_OK);
    for (int i = 0; i < 6; i++)
        assert_true(gemmux_tensor_at(&w.tensor, 0, i / 3, i % 3) ==
                    gemmux_code_decode(GEMMUX_CODE_BF16, numbers[i]));
    assert_true(w.bias[0] == 1.0f && w.bias[1] == -4.0f);
    gemmux_weights_free(&w);
    assert_int_equal(gemmux_model_load(model, 1, &w, &error), GEMMUX_ERROR_ARGUMENT);
    assert_int_equal(gemmux_model_load(model, -1, &w, NULL), GEMMUX_ERROR_ARGUMENT);
    gemmux_model_close(model);
    free(b.data);
}

/* A header of odd length leaves floats unaligned: they are copied, not read where they are. */
static void unaligned_weights_are_copied(void **state)
{
    (void)state;
    bytes b = {0};
    for (int pad = 0; pad < 4; pad++) {
        char header[256];
        snprintf(header, sizeof header, "{" ENTRY("a.weight", "F32", "[1,4]", "0", "16") "}%*s",
                 pad, "");
        b = safetensors_file(header, 16);
        gemmux_model *model = open_bytes(b, NULL);
        gemmux_weights w;
        assert_int_equal(gemmux_model_load(model, 0, &w, NULL), GEMMUX_OK);
        bool view = (const uint8_t *)w.tensor.codes > b.data &&
                    (const uint8_t *)w.tensor.codes < b.data + b.size;
        assert_int_equal(view, (8 + strlen(header)) % 4 == 0);
        assert_int_equal((uintptr_t)w.tensor.codes % 4, 0);
        assert_memory_equal(w.tensor.codes, b.data + b.size - 16, 16);
        gemmux_weights_free(&w);
        gemmux_model_close(model);
        free(b.data);
    }
}

static void bad_parts_are_refused(void **state)
{
    (void)state;
    static const refusal refusals[] = {
        {"{" ENTRY("a.weight", "BF16", "[2,3]", "0", "12") "," ENTRY("a.bias", "F32", "[3]", "12",
                                                                     "24") "}",
         24,
         {"a.bias", "[3]", "2 outputs"}},
        {"{" ENTRY("a.weight", "BF16", "[2,3]", "0", "12") "," ENTRY("a.bias", "I32", "[2]", "12",
                                                                     "20") "}",
         20,
         {"a.bias", "I32"}},
    };
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        bytes b = safetensors_file(refusals[i].header, refusals[i].data_bytes);
        expect_refused(b, NULL, refusals[i].words);
        free(b.data);
    }
    /* NaN in a bias is found when it is read */
    bytes b = safetensors_file("{" ENTRY("a.weight", "U8", "[2,3]", "0", "6") "}", 6);
    gemmux_model *model = open_bytes(b, NULL);
    expect_not_loaded(model, "a", (const char *const[3]){"a.weight", "U8", "known scheme"});
    assert_int_equal(gemmux_model_layer(model, 0)->format.id, 0);
    gemmux_model_close(model);
    free(b.data);

    b = safetensors_file("{" ENTRY("a.weight", "BF16", "[1,1]", "0",
                                   "2") "," ENTRY("a.bias", "F32", "[1]", "2", "6") "}",
                         2);
    bytes_number(&b, 0x7fc00000, 4);
    model = open_bytes(b, NULL);
    expect_not_loaded(model, "a", (const char *const[3]){"a.bias", "NaN"});
    gemmux_model_close(model);
    free(b.data);
}

/* -------------------------------------------------------------------------------- on disk -- */

static void write_safetensors(const char *folder, const char *name, const char *header,
                              size_t data_bytes)
{
    bytes b = safetensors_file(header, data_bytes);
    write_file(folder, name, b.data, b.size);
    free(b.data);
}

#define SHARD_1 "{" ENTRY("a.weight", "U8", "[2,2]", "0", "4") "}"
#define SHARD_2                                                                                    \
    "{" ENTRY("b.weight", "BF16", "[1,2]", "0", "4") "," ENTRY("old.weight", "F32", "[1,1]", "4",  \
                                                               "8") "}"

/* Opens folder/name; returns the status. */
static gemmux_status open_in(const char *folder, const char *name, gemmux_model **model,
                             gemmux_error *error)
{
    char path[1024];
    snprintf(path, sizeof path, "%s%s%s", folder, *name ? "/" : "", name);
    return gemmux_model_open(path, model, error);
}

static void expect_in(const char *folder, const char *name, gemmux_status status,
                      const char *const words[3])
{
    gemmux_model *model = NULL;
    gemmux_error error = {GEMMUX_OK, ""};
    assert_int_equal(open_in(folder, name, &model, &error), status);
    assert_null(model);
    for (int i = 0; i < 3 && words[i]; i++) {
        if (!strstr(error.text, words[i]))
            fail_msg("\"%s\" does not say \"%s\"", error.text, words[i]);
    }
}

static void an_index_joins_shards(void **state)
{
    (void)state;
    char folder[64];
    gemmux_model *model;
    gemmux_error error = {GEMMUX_OK, ""};
    make_folder(folder);
    write_safetensors(folder, "one.safetensors", SHARD_1, 4);
    write_safetensors(folder, "two.safetensors", SHARD_2, 8);
    write_text(folder, "model.safetensors.index.json",
               "{\"metadata\":{},\"weight_map\":{\"b.weight\":\"two.safetensors\","
               "\"a.weight\":\"one.safetensors\"}}");
    for (int i = 0; i < 2; i++) { /* by the index and by the folder */
        if (open_in(folder, i ? "" : "model.safetensors.index.json", &model, &error))
            fail_msg("%s", error.text);
        assert_int_equal(gemmux_model_tensor_count(model), 2); /* "old" is not in the map */
        assert_int_equal(gemmux_model_layer_count(model), 2);
        gemmux_weights w;
        int index = -1;
        layer_called(model, "b", &index);
        assert_int_equal(gemmux_model_load(model, index, &w, &error), GEMMUX_OK);
        assert_true(gemmux_tensor_at(&w.tensor, 0, 0, 1) ==
                    gemmux_code_decode(GEMMUX_CODE_BF16, 0x0302));
        gemmux_weights_free(&w);
        gemmux_model_release(model, index);
        gemmux_model_close(model);
    }
    remove_folder(folder);
}

static void bad_indexes_are_refused(void **state)
{
    (void)state;
    char folder[64];
    static const struct {
        const char *text;
        gemmux_status status;
        const char *words[3];
    } cases[] = {
        {"{\"weight_map\":{\"a.weight\":\"one.safetensors\",\"c.weight\":\"one.safetensors\"}}",
         GEMMUX_ERROR_INPUT,
         {"i.json", "c.weight", "one.safetensors"}},
        {"{\"weight_map\":{\"a.weight\":\"three.safetensors\"}}", GEMMUX_ERROR_IO, {"three"}},
        {"{\"weight_map\":{\"a.weight\":\"../one.safetensors\"}}",
         GEMMUX_ERROR_INPUT,
         {"a.weight"}},
        {"{\"weight_map\":{\"a.weight\":\"..\"}}", GEMMUX_ERROR_INPUT, {"a.weight"}},
        {"{\"weight_map\":{\"a.weight\":\"\"}}", GEMMUX_ERROR_INPUT, {"a.weight"}},
        {"{\"weight_map\":{\"a.weight\":1}}", GEMMUX_ERROR_INPUT, {"a.weight"}},
        {"{\"weight_map\":{\"a.weight\":\"bad.safetensors\"}}", GEMMUX_ERROR_INPUT, {"bad.safe"}},
        {"{\"weight_map\":{}}", GEMMUX_ERROR_INPUT, {"i.json", "weight_map"}},
        {"{\"weight_map\":[]}", GEMMUX_ERROR_INPUT, {"weight_map"}},
        {"[1]", GEMMUX_ERROR_INPUT, {"weight_map"}},
        {"{\"weight_map\":{\"a\":\"x\",\"a\":\"y\"}}", GEMMUX_ERROR_INPUT, {"i.json:1", "dupl"}},
        {"{\"weight_map\"", GEMMUX_ERROR_INPUT, {"i.json:1"}},
        {"", GEMMUX_ERROR_INPUT, {"i.json"}},
    };
    make_folder(folder);
    write_safetensors(folder, "one.safetensors", SHARD_1, 4);
    write_safetensors(folder, "bad.safetensors", SHARD_1, 3);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_text(folder, "i.json", cases[i].text);
        expect_in(folder, "i.json", cases[i].status, cases[i].words);
    }
    remove_folder(folder);
}

static void folders_and_paths(void **state)
{
    (void)state;
    char folder[64], deep[600];
    gemmux_model *model;
    gemmux_error error = {GEMMUX_OK, ""};
    make_folder(folder);
    expect_in(folder, "", GEMMUX_ERROR_INPUT, (const char *const[3]){"needs", "0 .safetensors"});
    expect_in(folder, "none", GEMMUX_ERROR_IO, (const char *const[3]){"none", "No such file"});
    write_safetensors(folder, "one.safetensors", SHARD_1, 4);
    assert_int_equal(open_in(folder, "", &model, &error), GEMMUX_OK); /* the only one */
    gemmux_model_close(model);
    write_safetensors(folder, "two.safetensors", SHARD_2, 8);
    expect_in(folder, "", GEMMUX_ERROR_INPUT, (const char *const[3]){"2 .safetensors"});
    write_safetensors(folder, "model.safetensors", SHARD_2, 8); /* the usual name wins */
    assert_int_equal(open_in(folder, "", &model, &error), GEMMUX_OK);
    assert_int_equal(gemmux_model_tensor_count(model), 2);
    gemmux_model_close(model);
    write_text(folder, "config.json", "{\"architectures\":[\"LlamaForCausalLM\"]}");
    assert_int_equal(open_in(folder, "model.safetensors", &model, &error), GEMMUX_OK);
    assert_string_equal(gemmux_model_name(model), "LlamaForCausalLM");
    gemmux_model_close(model);
    write_text(folder, "config.json", "{\"architectures\":17}");
    expect_in(folder, "", GEMMUX_ERROR_INPUT, (const char *const[3]){"config.json", "architect"});
    /* the reason is told even when the path alone would fill the message */
    memset(deep, 'd', sizeof deep);
    snprintf(deep + sizeof deep - 20, 20, "/last.safetensors");
    expect_in(folder, deep, GEMMUX_ERROR_IO, (const char *const[3]){"File name too long"});
    assert_int_equal(gemmux_model_open(NULL, &model, &error), GEMMUX_ERROR_ARGUMENT);
    gemmux_model_close(NULL);
    remove_folder(folder);
}

/* ------------------------------------------------------------------------------------ names -- */

/* A file of 1 x 2 bf16 weights with these names (".weight" is added). */
static bytes file_of(const char *const *names)
{
    char header[4096] = "{";
    size_t count = 0;
    for (; names[count]; count++) {
        size_t used = strlen(header);
        snprintf(header + used, sizeof header - used,
                 "%s\"%s.weight\":{\"dtype\":\"BF16\",\"shape\":[1,2],\"data_offsets\":[%zu,%zu]}",
                 count ? "," : "", names[count], count * 4, count * 4 + 4);
    }
    strcat(header, "}");
    return safetensors_file(header, count * 4);
}

static bool has_layer(const gemmux_model *model, const char *name)
{
    for (int i = 0; i < gemmux_model_layer_count(model); i++) {
        if (strcmp(gemmux_model_layer(model, i)->name, name) == 0)
            return true;
    }
    return false;
}

static void names_tell_tables_and_norms(void **state)
{
    (void)state;
    static const char *const names[] = {"model.embed_tokens",
                                        "transformer.wte",
                                        "t.embeddings.word_embeddings",
                                        "visual.patch_embed.proj",
                                        "embed_out",
                                        "blk.0.attn_q_norm",
                                        "x.embedding_projection",
                                        "a.relative_attention_bias",
                                        "ssm.conv1d",
                                        "shared",
                                        "lm_head",
                                        NULL};
    bytes b = file_of(names);
    gemmux_model *model = open_bytes(b, NULL);
    for (int i = 0; i < 3; i++)
        assert_true(layer_called(model, names[i], NULL)->embedding);
    assert_false(layer_called(model, "visual.patch_embed.proj", NULL)->embedding);
    assert_false(layer_called(model, "embed_out", NULL)->embedding);
    assert_false(layer_called(model, "x.embedding_projection", NULL)->embedding);
    assert_true(layer_called(model, "a.relative_attention_bias", NULL)->embedding);
    assert_true(layer_called(model, "shared", NULL)->embedding);
    assert_false(has_layer(model, "blk.0.attn_q_norm"));
    assert_false(has_layer(model, "ssm.conv1d"));
    assert_false(has_layer(model, "lm_head (tied)"));
    gemmux_model_close(model);
    free(b.data);
}

static void heads_are_tied_when_the_config_says_so(void **state)
{
    (void)state;
    static const char *const names[] = {"model.embed_tokens", "model.layers.0.up_proj", NULL};
    static const struct {
        const char *config;
        bool tied;
    } cases[] = {
        {NULL, true},
        {"{}", true},
        {"{\"tie_word_embeddings\":true}", true},
        {"{\"tie_word_embeddings\":false}", false},
        {"{\"text_config\":{\"tie_word_embeddings\":true}}", true},
        {"{\"architectures\":[\"Gemma3ForCausalLM\"]}", true},
        {"{\"architectures\":[\"BertModel\"]}", false},
        {"{\"architectures\":[\"BertModel\"],\"tie_word_embeddings\":null}", false},
    };
    bytes b = file_of(names);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gemmux_model *model = open_bytes(b, cases[i].config);
        if (has_layer(model, "lm_head (tied)") != cases[i].tied)
            fail_msg("config %s: tied is not %d", cases[i].config, cases[i].tied);
        gemmux_model_close(model);
    }
    free(b.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_headers_are_refused),
        cmocka_unit_test(bad_lengths_are_refused),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(tensors_become_layers),
        cmocka_unit_test(weights_are_views_and_biases_f32),
        cmocka_unit_test(unaligned_weights_are_copied),
        cmocka_unit_test(bad_parts_are_refused),
        cmocka_unit_test(an_index_joins_shards),
        cmocka_unit_test(bad_indexes_are_refused),
        cmocka_unit_test(folders_and_paths),
        cmocka_unit_test(names_tell_tables_and_norms),
        cmocka_unit_test(heads_are_tied_when_the_config_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
