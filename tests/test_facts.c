/* SPDX-License-Identifier: Apache-2.0
 *
 * Models from headers alone: the built-in configs against the totals that their publishers state
 * (parameters, and "total_size" of the index), facts against configs and GGUF metadata, and what
 * happens when weights are missing.
 */
#include "checkpoint_files.h"

static gemmux_model *open_headers(const char *name)
{
    gemmux_model *model = NULL;
    gemmux_error error = {GEMMUX_OK, ""};
    if (gemmux_model_open_headers(name, &model, &error))
        fail_msg("%s: %s", name, error.text);
    return model;
}

static int64_t stored_bytes(const gemmux_model *model)
{
    gemmux_model_facts facts;
    gemmux_model_get_facts(model, &facts);
    int64_t total = facts.other_bytes;
    for (int i = 0; i < gemmux_model_layer_count(model); i++)
        total += gemmux_model_layer(model, i)->stored_bytes;
    return total;
}

/* Parameters as the model card or the safetensors metadata states them; bytes from "total_size" of
 * model.safetensors.index.json where it is known. */
static void built_in_models_have_their_published_size(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t parameters, bytes;
    } published[] = {
        {"gpt-oss-20b", 20914757184, 13761264768},
        {"gpt-oss-120b", 116829156672, 65248815744},
        {"llama-3.1-8b", 8030261248, 16060522496},
        {"llama-3.1-70b", 70553706496, 141107412992},
        {"llama-3.1-405b", 405853388800, 0},
        {"llama-3.2-1b", 1235814400, 0},
        {"llama-3.2-3b", 3212749824, 0},
        {"mistral-7b", 7248023552, 14496047104},
        {"qwen2.5-7b", 7615616512, 15231233024},
        {"qwen2.5-72b", 72706203648, 145412407296},
        {"qwen3-8b", 8190735360, 16381470720},
        {"qwen3-32b", 32762123264, 65524246528},
        {"qwen3-30b-a3b", 30532122624, 61064245248},
        {"qwen3-235b-a22b", 235093634560, 470187269120},
        {"mixtral-8x7b", 46702792704, 93405585408},
        {"mixtral-8x22b", 140620634112, 281241268224},
        {"gemma-2-9b", 9241705984, 0},
        {"phi-4", 14659507200, 29319014400},
        {"phi-3.5-mini", 3821079552, 7642159104},
        {"smollm2-135m", 134515008, 0},
        {"smollm2-1.7b", 1711376384, 0},
        {"gemma-3-27b", 27009346304, 0},
        {"deepseek-v3", 671026419200, 0},
        {"kimi-k2", 1026408232448, 0},
    };
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++) {
        gemmux_model *model = open_headers(published[i].name);
        gemmux_model_facts facts;
        gemmux_model_get_facts(model, &facts);
        int64_t stored = stored_bytes(model);
        if (facts.parameters != published[i].parameters ||
            (published[i].bytes && stored != published[i].bytes))
            fail_msg("%s: %lld parameters, %lld bytes; published %lld, %lld", published[i].name,
                     (long long)facts.parameters, (long long)stored,
                     (long long)published[i].parameters, (long long)published[i].bytes);
        gemmux_model_close(model);
    }
}

/* --------------------------------------------------------------------------- facts from configs */

static void facts_follow_the_config(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        gemmux_model_facts facts;
    } cases[] = {
        {"gpt-oss-120b",
         {.blocks = 36,
          .window_blocks = 18,
          .window = 128,
          .kv_elements = 1024,
          .heads = 64,
          .kv_heads = 8,
          .head_size = 64,
          .hidden = 2880,
          .vocab = 201088,
          .max_context = 131072}},
        {"llama-3.1-8b",
         {.blocks = 32,
          .kv_elements = 2048,
          .heads = 32,
          .kv_heads = 8,
          .head_size = 128,
          .hidden = 4096,
          .vocab = 128256,
          .max_context = 131072}},
        /* a latent of 512 and 64 numbers with rotary positions; no heads to share out */
        {"deepseek-v3",
         {.blocks = 61,
          .kv_elements = 576,
          .heads = 128,
          .kv_heads = 0,
          .head_size = 56,
          .hidden = 7168,
          .vocab = 129280,
          .max_context = 163840}},
        /* every sixth block sees everything: 62 - 10 */
        {"gemma-3-27b",
         {.blocks = 62,
          .window_blocks = 52,
          .window = 1024,
          .kv_elements = 4096,
          .heads = 32,
          .kv_heads = 16,
          .head_size = 128,
          .hidden = 5376,
          .vocab = 262208,
          .max_context = 131072}},
        {"gemma-2-9b",
         {.blocks = 42,
          .window_blocks = 21,
          .window = 4096,
          .kv_elements = 4096,
          .heads = 16,
          .kv_heads = 8,
          .head_size = 256,
          .hidden = 3584,
          .vocab = 256000,
          .max_context = 8192}},
        /* use_sliding_window is false */
        {"qwen2.5-7b",
         {.blocks = 28,
          .kv_elements = 1024,
          .heads = 28,
          .kv_heads = 4,
          .head_size = 128,
          .hidden = 3584,
          .vocab = 152064,
          .max_context = 131072}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gemmux_model *model = open_headers(cases[i].name);
        gemmux_model_facts have;
        const gemmux_model_facts *want = &cases[i].facts;
        gemmux_model_get_facts(model, &have);
        bool same = have.blocks == want->blocks && have.window_blocks == want->window_blocks &&
                    have.window == want->window && have.kv_elements == want->kv_elements &&
                    have.heads == want->heads && have.kv_heads == want->kv_heads &&
                    have.head_size == want->head_size && have.hidden == want->hidden &&
                    have.vocab == want->vocab && have.max_context == want->max_context;
        if (!same)
            fail_msg("%s: blocks %d, %d with window %lld, kv %lld, heads %d %d of %d, hidden %lld, "
                     "vocab %lld, context %lld",
                     cases[i].name, have.blocks, have.window_blocks, (long long)have.window,
                     (long long)have.kv_elements, have.heads, have.kv_heads, have.head_size,
                     (long long)have.hidden, (long long)have.vocab, (long long)have.max_context);
        gemmux_model_close(model);
    }
}

/* The same layers, whether the weights are there or not. */
static void notes_say_what_is_left_out(void **state)
{
    (void)state;
    gemmux_model *model = open_headers("deepseek-v3");
    assert_non_null(strstr(gemmux_model_note(model), "1 block for predicting further tokens"));
    assert_string_equal(gemmux_model_kind(model), "built-in");
    assert_int_equal(layer_called(model, "model.layers.60.mlp.experts.down_proj", NULL)->experts,
                     256);
    expect_not_loaded(model, "model.layers.0.self_attn.o_proj",
                      (const char *[3]){"its weights are not there"});
    expect_not_loaded(model, "model.layers.60.mlp.experts.down_proj",
                      (const char *[3]){"its weights are not there"});
    gemmux_model_close(model);
    model = open_headers("gemma-3-27b");
    assert_non_null(strstr(gemmux_model_note(model), "only the language model"));
    gemmux_model_close(model);
    model = open_headers("llama-3.1-8b");
    assert_null(gemmux_model_note(model));
    gemmux_model_close(model);
    for (int i = 0; i < gemmux_model_builtin_count(); i++)
        gemmux_model_close(open_headers(gemmux_model_builtin_name(i)));
    assert_null(gemmux_model_builtin_name(-1));
    assert_null(gemmux_model_builtin_name(gemmux_model_builtin_count()));
}

/* ------------------------------------------------------------------------- quantised by a config
 */

#define SMALL                                                                                      \
    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"torch_dtype\":"          \
    "\"float16\",\"hidden_size\":256,\"intermediate_size\":640,\"num_hidden_layers\":2,"           \
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"vocab_size\":1000,"                     \
    "\"max_position_embeddings\":512,\"quantization_config\":"
#define CT(format, weights)                                                                        \
    "{\"quant_method\":\"compressed-tensors\",\"format\":\"" format                                \
    "\",\"ignore\":[\"lm_head\"],\"config_groups\":{\"group_0\":{\"targets\":[\"Linear\"],"        \
    "\"weights\":{" weights "}}}}"

/* Each method's tensors are those that its scheme reads: every linear of a block gets the format
 * that the config means, and what lies outside stays f16. */
static void quantised_configs_become_formats(void **state)
{
    (void)state;
    static const struct {
        const char *quant, *format, *scheme;
    } cases[] = {
        {"{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":128,\"desc_act\":false,"
         "\"sym\":true}",
         "int4", "gptq"},
        {"{\"quant_method\":\"awq\",\"bits\":4,\"group_size\":64,\"zero_point\":true}",
         "int4:g64:zero", "awq"},
        {"{\"quant_method\":\"fp8\",\"weight_block_size\":[128,128]}", "e4m3:block128",
         "fp8 per block"},
        {"{\"quant_method\":\"fp8\"}", "e4m3", "fp8 per tensor"},
        {"{\"quant_method\":\"fbgemm_fp8\"}", "e4m3:row", "fp8 per row"},
        {CT("pack-quantized", "\"num_bits\":4,\"type\":\"int\",\"strategy\":\"group\","
                              "\"group_size\":128,\"symmetric\":true"),
         "int4", "int4 (compressed-tensors)"},
        {CT("pack-quantized", "\"num_bits\":4,\"type\":\"int\",\"strategy\":\"group\","
                              "\"group_size\":64,\"symmetric\":false"),
         "int4:g64:zero", "int4 (compressed-tensors)"},
        {CT("int-quantized", "\"num_bits\":8,\"type\":\"int\",\"strategy\":\"channel\""), "int8",
         "int8"},
        {CT("float-quantized", "\"num_bits\":8,\"type\":\"float\",\"strategy\":\"channel\""),
         "e4m3:row", "fp8 per row"},
        {CT("float-quantized", "\"num_bits\":8,\"type\":\"float\",\"strategy\":\"block\","
                               "\"block_structure\":[128,128]"),
         "e4m3:block128", "fp8 per block"},
        {CT("nvfp4-pack-quantized", "\"num_bits\":4,\"type\":\"float\",\"strategy\":"
                                    "\"tensor_group\",\"group_size\":16"),
         "nvfp4", "nvfp4 (compressed-tensors)"},
        {CT("mxfp4-pack-quantized", "\"num_bits\":4,\"type\":\"float\",\"group_size\":32"), "mxfp4",
         "mxfp4 (compressed-tensors)"},
        {"{\"quant_method\":\"modelopt\",\"quant_algo\":\"NVFP4\",\"ignore\":[\"lm_head\"]}",
         "nvfp4", "nvfp4 (modelopt)"},
        {"{\"quant_method\":\"modelopt\",\"quant_algo\":\"FP8\"}", "e4m3", "fp8 per tensor"},
        {"{\"quant_method\":\"bitsandbytes\",\"load_in_4bit\":true,\"bnb_4bit_quant_type\":"
         "\"nf4\",\"bnb_4bit_use_double_quant\":true}",
         "nf4", "nf4 (bitsandbytes)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char config[1024], have[32];
        gemmux_model *model = NULL;
        gemmux_error error = {GEMMUX_OK, ""};
        gemmux_model_facts facts;
        snprintf(config, sizeof config, "%s%s}", SMALL, cases[i].quant);
        if (gemmux_model_from_config("config.json", config, strlen(config), &model, &error))
            fail_msg("%s: %s", cases[i].quant, error.text);
        const gemmux_layer *layer = layer_called(model, "model.layers.1.mlp.down_proj", NULL);
        gemmux_format_name(layer->format, have, sizeof have);
        gemmux_format want = testing_format(cases[i].format);
        want.scale = layer->format.scale; /* the tests of schemes look at it */
        if (!gemmux_format_equal(layer->format, want) || !strstr(layer->scheme, cases[i].scheme))
            fail_msg("%s: %s, %s; want %s, %s", cases[i].quant, have, layer->scheme,
                     cases[i].format, cases[i].scheme);
        assert_int_equal(layer->n, 256);
        assert_int_equal(layer->k, 640);
        assert_int_equal(layer_called(model, "lm_head", NULL)->format.id, GEMMUX_F16);
        assert_int_equal(gemmux_model_layer_count(model), 2 * 7 + 2);
        gemmux_model_get_facts(model, &facts);
        assert_int_equal(facts.kv_elements, 256);
        gemmux_model_close(model);
    }
}

static void bad_configs_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *config, *word;
    } cases[] = {
        {"[1]", "config.json"},
        {"{", "config.json:1"},
        {"{}", "model_type \"(not stated)\""},
        {"{\"model_type\":\"strange\"}", "model_type \"strange\""},
        {"{\"model_type\":\"llama\"}", "num_hidden_layers"},
        {"{\"model_type\":\"llama\",\"num_hidden_layers\":-1}", "\"num_hidden_layers\""},
        {"{\"model_type\":\"llama\",\"num_hidden_layers\":1e300}", "\"num_hidden_layers\""},
        {"{\"model_type\":\"llama\",\"num_hidden_layers\":2,\"hidden_size\":\"wide\"}",
         "hidden_size"},
        {SMALL "{\"quant_method\":\"new\",\"bits\":3}}", "\"new\" (3 bits)"},
        {SMALL "{\"quant_method\":\"bitsandbytes\",\"load_in_8bit\":true}}", "bitsandbytes"},
        {SMALL "{},\"mlp_only_layers\":[1]}", "differ from each other"},
        {"{\"model_type\":\"qwen3_moe\",\"num_hidden_layers\":4000,\"hidden_size\":64,"
         "\"vocab_size\":64,\"num_attention_heads\":1,\"intermediate_size\":64,"
         "\"num_experts\":60000}",
         "absurd"},
        {"{\"model_type\":\"llama\",\"num_hidden_layers\":1,\"hidden_size\":1000000000,"
         "\"vocab_size\":1000000000,\"num_attention_heads\":60000,\"head_dim\":60000,"
         "\"intermediate_size\":64}",
         "absurd"},
        {"{\"model_type\":\"gpt_oss\",\"num_hidden_layers\":1,\"hidden_size\":48,\"vocab_size\":"
         "8,\"num_attention_heads\":1,\"intermediate_size\":64,\"num_local_experts\":2,"
         "\"quantization_config\":{\"quant_method\":\"mxfp4\"}}",
         "no whole blocks of 32"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gemmux_model *model = NULL;
        gemmux_error error = {GEMMUX_OK, ""};
        assert_int_equal(gemmux_model_from_config("config.json", cases[i].config,
                                                  strlen(cases[i].config), &model, &error),
                         GEMMUX_ERROR_INPUT);
        assert_null(model);
        if (!strstr(error.text, cases[i].word))
            fail_msg("%s: \"%s\" does not say \"%s\"", cases[i].config, error.text, cases[i].word);
    }
}

/* ------------------------------------------------------------------------------ files in folders
 */

static gemmux_status open_at(const char *folder, const char *name, gemmux_model **model,
                             gemmux_error *error)
{
    char path[256];
    snprintf(path, sizeof path, "%s%s%s", folder, *name ? "/" : "", name);
    *error = (gemmux_error){GEMMUX_OK, ""};
    return gemmux_model_open_headers(path, model, error);
}

static const char small_config[] = SMALL "null}";

static void a_folder_with_a_config_alone(void **state)
{
    (void)state;
    char folder[64];
    gemmux_model *model, *same;
    gemmux_error error;
    make_folder(folder);
    write_text(folder, "config.json", small_config);
    assert_int_equal(open_at(folder, "", &model, &error), GEMMUX_OK);
    assert_int_equal(open_at(folder, "config.json", &same, &error), GEMMUX_OK);
    assert_string_equal(gemmux_model_kind(model), "config");
    assert_int_equal(stored_bytes(model), stored_bytes(same));
    gemmux_model_close(model);
    gemmux_model_close(same);
    assert_int_not_equal(gemmux_model_open(folder, &model, &error), GEMMUX_OK);
    remove_folder(folder);
}

/* The index without its files: shapes from the config, names and total from the index. */
static void an_index_without_its_files(void **state)
{
    (void)state;
    static const char list[] = "{\"metadata\":{\"total_size\":%lld},\"weight_map\":{%s}}";
    char folder[64], index[4096], names[3072] = "";
    gemmux_model *model;
    gemmux_error error;
    make_folder(folder);
    write_text(folder, "model.safetensors.index.json",
               "{\"weight_map\":{\"a\":\"model-00001-of-00002.safetensors\"}}");
    assert_int_equal(open_at(folder, "", &model, &error), GEMMUX_ERROR_INPUT);
    assert_non_null(strstr(error.text, "without a config.json"));
    write_text(folder, "config.json", small_config);
    assert_int_equal(open_at(folder, "", &model, &error), GEMMUX_OK);
    assert_non_null(strstr(gemmux_model_note(model), "the index lists 1 tensors of 0 bytes"));
    for (int i = 0; i < model->catalog.count; i++)
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s\"%s\":\"x.safetensors\"",
                 i ? "," : "", model->catalog.tensors[i].name);
    snprintf(index, sizeof index, list, (long long)stored_bytes(model), names);
    gemmux_model_close(model);
    write_text(folder, "model.safetensors.index.json", index);
    assert_int_equal(open_at(folder, "", &model, &error), GEMMUX_OK);
    assert_null(gemmux_model_note(model)); /* both agree */
    gemmux_model_close(model);
    remove_folder(folder);
}

/* The first bytes of a file, as a ranged download gives them. */
static void headers_without_their_data(void **state)
{
    (void)state;
    static const char header[] =
        "{\"a.weight\":{\"dtype\":\"BF16\",\"shape\":[4,4],\"data_offsets\":[0,32]},"
        "\"b.weight\":{\"dtype\":\"BF16\",\"shape\":[8,4],\"data_offsets\":[32,96]}}";
    static const char hole[] =
        "{\"a.weight\":{\"dtype\":\"BF16\",\"shape\":[4,4],\"data_offsets\":[64,96]}}";
    char folder[64];
    gemmux_model *model;
    gemmux_weights w;
    gemmux_error error;
    make_folder(folder);
    bytes b = safetensors_file(header, 40);
    write_file(folder, "model.safetensors", b.data, b.size);
    assert_int_equal(open_at(folder, "model.safetensors", &model, &error), GEMMUX_OK);
    assert_int_equal(gemmux_model_layer_count(model), 2);
    assert_int_equal(gemmux_model_load(model, 0, &w, &error), GEMMUX_OK); /* all there */
    gemmux_weights_free(&w);
    expect_not_loaded(model, "b", (const char *[3]){"its weights are not there"});
    gemmux_model_close(model);
    free(b.data);
    b = safetensors_file(hole, 0); /* a hole is wrong all the same */
    write_file(folder, "hole.safetensors", b.data, b.size);
    assert_int_equal(open_at(folder, "hole.safetensors", &model, &error), GEMMUX_ERROR_INPUT);
    free(b.data);
    remove_folder(folder);
}

static void add_number(bytes *b, const char *key, uint32_t value)
{
    bytes_number(b, strlen(key), 8);
    bytes_add(b, key, strlen(key));
    bytes_number(b, 4, 4); /* u32 */
    bytes_number(b, value, 4);
}

static void gguf_metadata_states_facts(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        uint32_t value;
    } pairs[] = {{"gpt-oss.block_count", 24},
                 {"gpt-oss.embedding_length", 64},
                 {"gpt-oss.context_length", 131072},
                 {"gpt-oss.attention.head_count", 8},
                 {"gpt-oss.attention.head_count_kv", 2},
                 {"gpt-oss.attention.key_length", 16},
                 {"gpt-oss.attention.value_length", 16},
                 {"gpt-oss.attention.sliding_window", 128}};
    enum { PAIRS = sizeof pairs / sizeof pairs[0] };
    char folder[64];
    gemmux_model *model;
    gemmux_model_facts facts;
    gemmux_error error;
    bytes b = {0};
    bytes_add(&b, "GGUF", 4);
    bytes_number(&b, 3, 4);
    bytes_number(&b, 1, 8);
    bytes_number(&b, PAIRS + 1, 8);
    bytes_number(&b, 20, 8);
    bytes_add(&b, "general.architecture", 20);
    bytes_number(&b, 8, 4);
    bytes_number(&b, 7, 8);
    bytes_add(&b, "gpt-oss", 7);
    for (size_t i = 0; i < PAIRS; i++)
        add_number(&b, pairs[i].key, pairs[i].value);
    bytes_number(&b, 17, 8);
    bytes_add(&b, "token_embd.weight", 17);
    bytes_number(&b, 2, 4);
    bytes_number(&b, 64, 8);
    bytes_number(&b, 1000, 8);
    bytes_number(&b, 30, 4); /* bf16 */
    bytes_number(&b, 0, 8);
    make_folder(folder);
    write_file(folder, "model.gguf", b.data, b.size); /* and no data */
    assert_int_equal(open_at(folder, "model.gguf", &model, &error), GEMMUX_OK);
    gemmux_model_get_facts(model, &facts);
    assert_int_equal(facts.blocks, 24);
    assert_int_equal(facts.window_blocks, 12);
    assert_int_equal(facts.window, 128);
    assert_int_equal(facts.kv_elements, 64);
    assert_int_equal(facts.kv_heads, 2);
    assert_int_equal(facts.vocab, 1000); /* from the table */
    assert_int_equal(facts.parameters, 64000);
    gemmux_model_close(model);
    free(b.data);
    remove_folder(folder);
}

/* A file without any config: blocks, cache and vocabulary from the shapes of the layers. */
static void shapes_answer_where_nothing_is_stated(void **state)
{
    (void)state;
    static const char header[] =
        "{\"model.embed_tokens.weight\":{\"dtype\":\"BF16\",\"shape\":[100,8],\"data_offsets\":"
        "[0,1600]},\"model.layers.0.self_attn.k_proj.weight\":{\"dtype\":\"BF16\",\"shape\":[4,8],"
        "\"data_offsets\":[1600,1664]},\"model.layers.0.self_attn.v_proj.weight\":{\"dtype\":"
        "\"BF16\",\"shape\":[6,8],\"data_offsets\":[1664,1760]},\"model.norm.weight\":{\"dtype\":"
        "\"BF16\",\"shape\":[8],\"data_offsets\":[1760,1776]}}";
    bytes b = safetensors_file(header, 1776);
    gemmux_model *model = open_bytes(b, NULL);
    gemmux_model_facts facts;
    gemmux_model_get_facts(model, &facts);
    assert_int_equal(facts.blocks, 1);
    assert_int_equal(facts.kv_elements, 10);
    assert_int_equal(facts.vocab, 100);
    assert_int_equal(facts.hidden, 8);
    assert_int_equal(facts.other_bytes, 16);
    assert_int_equal(facts.parameters, 800 + 32 + 48 + 8);
    gemmux_model_close(model);
    free(b.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(built_in_models_have_their_published_size),
        cmocka_unit_test(facts_follow_the_config),
        cmocka_unit_test(notes_say_what_is_left_out),
        cmocka_unit_test(quantised_configs_become_formats),
        cmocka_unit_test(bad_configs_are_refused),
        cmocka_unit_test(a_folder_with_a_config_alone),
        cmocka_unit_test(an_index_without_its_files),
        cmocka_unit_test(headers_without_their_data),
        cmocka_unit_test(gguf_metadata_states_facts),
        cmocka_unit_test(shapes_answer_where_nothing_is_stated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
