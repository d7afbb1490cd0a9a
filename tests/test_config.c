/* SPDX-License-Identifier: Apache-2.0
 *
 * config.json: what it says about the architecture and about each module's quantisation, the
 * patterns that name modules, and that malformed configs are refused by key.
 */
#include "checkpoint_files.h"

#include "checkpoint/pattern.h"
#include "wildcard.h"

typedef struct parsed {
    gemmux_arena arena;
    gemmux_hf_config config;
} parsed;

static gemmux_status try_parse(const char *text, parsed *p, gemmux_error *error)
{
    *p = (parsed){0};
    return gemmux_hf_config_parse(text, strlen(text), "config.json", &p->arena, &p->config, error);
}

static parsed parse(const char *text)
{
    parsed p;
    gemmux_error error = {GEMMUX_OK, ""};
    if (try_parse(text, &p, &error))
        fail_msg("%s", error.text);
    return p;
}

/* ------------------------------------------------------------------------------ architecture -- */

static void architecture_is_read(void **state)
{
    (void)state;
    parsed p =
        parse("{\"architectures\":[\"MixtralForCausalLM\",\"X\"],\"model_type\":\"mixtral\","
              "\"hidden_size\":4096,\"num_experts_per_tok\":2,\"tie_word_embeddings\":true}");
    assert_string_equal(p.config.architecture, "MixtralForCausalLM");
    assert_string_equal(p.config.model_type, "mixtral");
    assert_int_equal(p.config.hidden_size, 4096);
    assert_int_equal(p.config.top_k, 2);
    assert_int_equal(p.config.tied, 1);
    assert_int_equal(p.config.method, GEMMUX_HF_NONE);
    gemmux_arena_free(&p.arena);

    /* the language model's own part, one or two levels down; the outer level wins */
    p = parse(
        "{\"model_type\":\"x\",\"tie_word_embeddings\":false,\"thinker_config\":{\"text_config\":"
        "{\"hidden_size\":64,\"experts_per_token\":4,\"tie_word_embeddings\":true}}}");
    assert_string_equal(p.config.architecture, "x");
    assert_int_equal(p.config.hidden_size, 64);
    assert_int_equal(p.config.top_k, 4);
    assert_int_equal(p.config.tied, 0);
    gemmux_arena_free(&p.arena);

    p = parse("{\"moe_topk\":[1,2],\"architectures\":null,\"quantization_config\":null}");
    assert_null(p.config.architecture);
    assert_int_equal(p.config.top_k, 0); /* one a layer states no one value */
    assert_int_equal(p.config.tied, -1);
    gemmux_arena_free(&p.arena);
}

/* ------------------------------------------------------------------------------ quantisation -- */

static void methods_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *quant;
        gemmux_hf_method method;
        int32_t bits, group;
        int symmetric;
    } cases[] = {
        {"{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":128,\"sym\":true}", GEMMUX_HF_GPTQ,
         4, 128, 1},
        {"{\"quant_method\":\"gptq\",\"bits\":8,\"group_size\":-1,\"sym\":false}", GEMMUX_HF_GPTQ,
         8, -1, 0},
        {"{\"quant_method\":\"awq\",\"w_bit\":4,\"q_group_size\":64,\"zero_point\":true}",
         GEMMUX_HF_AWQ, 4, 64, 0},
        {"{\"quant_method\":\"fp8\",\"weight_block_size\":[128,64]}", GEMMUX_HF_FP8, 0, 0, -1},
        {"{\"quant_method\":\"FBGEMM_FP8\"}", GEMMUX_HF_FP8, 0, 0, -1},
        {"{\"quant_method\":\"mxfp4\"}", GEMMUX_HF_MXFP4, 0, 0, -1},
        {"{\"quant_method\":\"bitsandbytes\",\"load_in_4bit\":true}", GEMMUX_HF_BITSANDBYTES, 0, 0,
         -1},
        {"{\"quant_method\":\"modelopt\"}", GEMMUX_HF_MODELOPT, 0, 0, -1},
        {"{\"quant_method\":\"hqq\"}", GEMMUX_HF_OTHER, 0, 0, -1},
        {"{\"config_groups\":{\"g\":{\"targets\":[\"Linear\"],\"weights\":{\"num_bits\":4,"
         "\"strategy\":\"channel\",\"symmetric\":false}}}}",
         GEMMUX_HF_COMPRESSED_TENSORS, 4, -1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[512];
        snprintf(text, sizeof text, "{\"quantization_config\":%s}", cases[i].quant);
        parsed p = parse(text);
        const gemmux_hf_group *group =
            gemmux_hf_module(&p.config, "model.layers.0.mlp.up_proj", 26);
        assert_int_equal(p.config.method, cases[i].method);
        assert_non_null(group);
        assert_int_equal(group->bits, cases[i].bits);
        assert_int_equal(group->group_size, cases[i].group);
        assert_int_equal(group->symmetric, cases[i].symmetric);
        gemmux_arena_free(&p.arena);
    }
    parsed p = parse("{\"text_config\":{\"quantization_config\":{\"quant_method\":\"fp8\","
                     "\"weight_block_size\":[128,64]}}}");
    assert_int_equal(p.config.block[0], 128);
    assert_int_equal(p.config.block[1], 64);
    gemmux_arena_free(&p.arena);
    p = parse(
        "{\"compression_config\":{\"quant_method\":\"gptq\",\"checkpoint_format\":\"gptq_v2\","
        "\"desc_act\":true}}");
    assert_true(p.config.gptq_v2);
    assert_int_equal(p.config.reordered, 1);
    gemmux_arena_free(&p.arena);
}

static const gemmux_hf_group *module_of(const parsed *p, const char *name)
{
    return gemmux_hf_module(&p->config, name, strlen(name));
}

static void modules_find_their_group(void **state)
{
    (void)state;
    parsed p = parse(
        "{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"config_groups\":{"
        "\"all\":{\"targets\":[\"Linear\"],\"weights\":{\"num_bits\":4,\"group_size\":32}},"
        "\"some\":{\"targets\":[\"re:.*self_attn\\\\.[qkv]_proj$\",\"model.layers.3.mlp.gate\"],"
        "\"weights\":{\"num_bits\":8,\"type\":\"float\",\"actorder\":\"group\"}}},"
        "\"ignore\":[\"lm_head\",\"re:model\\\\.layers\\\\.1\\\\..*\"]}}");
    assert_int_equal(p.config.group_count, 2);
    assert_int_equal(p.config.reordered, 1);
    assert_int_equal(module_of(&p, "model.layers.0.mlp.up_proj")->bits, 4);
    assert_int_equal(module_of(&p, "model.layers.0.self_attn.k_proj")->bits, 8);
    assert_true(module_of(&p, "model.layers.0.self_attn.k_proj")->is_float);
    assert_int_equal(module_of(&p, "model.layers.0.self_attn.k_proj2")->bits, 4);
    assert_int_equal(module_of(&p, "model.layers.3.mlp.gate")->bits, 8);
    assert_int_equal(module_of(&p, "model.layers.30.mlp.gate")->bits, 4);
    assert_null(module_of(&p, "lm_head"));
    assert_non_null(module_of(&p, "x.lm_head")); /* exact names here */
    assert_null(module_of(&p, "model.layers.1.mlp.up_proj"));
    assert_non_null(module_of(&p, "model.layers.11.mlp.up_proj"));
    gemmux_arena_free(&p.arena);

    p = parse("{\"quantization_config\":{\"quant_method\":\"mxfp4\",\"modules_to_not_convert\":["
              "\"model.layers.*.self_attn*\",\"mlp.router\",\"lm_head\"]}}");
    assert_null(module_of(&p, "model.layers.7.self_attn.q_proj"));
    assert_null(module_of(&p, "model.layers.7.mlp.router"));
    assert_non_null(module_of(&p, "model.layers.7.mlp.router2"));
    assert_non_null(module_of(&p, "model.layers.7.xmlp.router"));
    assert_null(module_of(&p, "lm_head"));
    gemmux_arena_free(&p.arena);

    p = parse("{}");
    assert_null(module_of(&p, "model.layers.7.mlp.router"));
    gemmux_arena_free(&p.arena);
}

/* ---------------------------------------------------------------------------------- patterns -- */

static void globs_match(void **state)
{
    (void)state;
    static const struct {
        const char *glob, *text;
        bool match;
    } cases[] = {
        {"", "", true},
        {"", "a", false},
        {"*", "", true},
        {"*", "abc", true},
        {"a*c", "abbc", true},
        {"a*c", "abcd", false},
        {"a?c", "abc", true},
        {"a?c", "ac", false},
        {"*.gate", "m.0.gate", true},
        {"*.gate", "gate", false},
        {"a*b*c", "a.b.b.c", true},
        {"a**", "a", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (gemmux_glob_match(cases[i].glob, strlen(cases[i].glob), cases[i].text,
                              strlen(cases[i].text)) != cases[i].match)
            fail_msg("\"%s\" and \"%s\"", cases[i].glob, cases[i].text);
    }
}

/* As Python's re.match says of the same pairs. */
static void expressions_match(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *text;
        bool match;
    } cases[] = {
        {"", "abc", true},
        {"abc", "abcd", true}, /* from the start, not to the end */
        {"bc", "abc", false},
        {"abc$", "abcd", false},
        {"^abc$", "abc", true},
        {".*", "", true},
        {".*lm_head", "model.lm_head", true},
        {"model\\.layers\\.\\d+\\.mlp", "model.layers.12.mlp.up", true},
        {"model\\.layers\\.\\d+\\.mlp", "model.layers.x.mlp.up", false},
        {"model.layers", "modelxlayers", true},
        {"[a-c]+d", "abcabcd", true},
        {"[^a-c]+d", "abcd", false},
        {"[]a]b", "]b", true},
        {"[\\d_]+$", "1_2", true},
        {"(a|bc)*d", "abcbcad", true},
        {"(a|bc)*d", "abcbd", false},
        {"a|b|c", "c", true},
        {"(?:up|gate|down)_proj$", "gate_proj", true},
        {"(?:up|gate|down)_proj$", "down_projx", false},
        {"(a*)*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaac", false}, /* no catastrophe */
        {"(a|a)*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaac", false},
        {"a?b", "b", true},
        {"a??b", "ab", true},
        {"a+?b", "aab", true},
        {"a{2}b", "aab", true},
        {"a{2}b", "ab", false},
        {"a{2}b", "aaab", false},
        {"a{1,3}b", "aaab", true},
        {"a{1,3}b", "aaaab", false},
        {"a{0,2}b", "b", true},
        {"a{0,2}b", "aaab", false},
        {"a{2,}b", "ab", false},
        {"a{2,}b", "aaaaab", true},
        {"(ab|c){2,3}$", "abcab", true},
        {"(ab|c){2,3}$", "abcabc", false},
        {"\\w+\\s\\W", "ab .", true},
        {"\\D\\S", "1a", false},
        {"a.c", "a\nc", false},
        {"(?=a)a", "a", true},
        {"(a)\\1", "aa", true},
        {"\\bword", "word", true},
        {"(?P<layer>\\d+)\\.x", "12.x", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (gemmux_regex_match(cases[i].pattern, cases[i].text, strlen(cases[i].text)) !=
            cases[i].match)
            fail_msg("\"%s\" and \"%s\"", cases[i].pattern, cases[i].text);
    }
}

/* Each is named in an error, where and why; matching with one nevertheless finds nothing. */
static void wrong_expressions_are_refused(void **state)
{
    (void)state;
    static char deep[2000];
    memset(deep, '(', sizeof deep - 1);
    const char *const wrong[] = {"a(", "a)", "*a", "a{3,2}", "[a", "a\\", "(?<=a+)b", deep};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        gemmux_error error = {0};
        assert_int_equal(gemmux_regex_check(wrong[i], "c.json", &error), GEMMUX_ERROR_INPUT);
        assert_non_null(strstr(error.text, "c.json: the expression 're:"));
        assert_false(gemmux_regex_match(wrong[i], "aaa", 3));
    }
}

/* Backtracking ends at its limit: 2^64 ways, and an answer all the same. */
static void no_expression_takes_long(void **state)
{
    (void)state;
    char text[65];
    memset(text, 'a', 64);
    text[64] = '\0';
    assert_false(gemmux_regex_match("(a*)*[^a]", text, 64));
    assert_false(gemmux_regex_match("(a|a)*[^a]", text, 64));
}

/* --------------------------------------------------------------------------------- malformed -- */

static void malformed_configs_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *word;
    } cases[] = {
        {"", "config.json:1"},
        {"{", "config.json:1"},
        {"{\n\"a\":1,\n\"a\":2}", "config.json:3"},
        {"[]", "object"},
        {"{\"architectures\":\"x\"}", "architectures"},
        {"{\"architectures\":[1]}", "architectures"},
        {"{\"model_type\":1}", "model_type"},
        {"{\"hidden_size\":-1}", "hidden_size"},
        {"{\"hidden_size\":1e400}", "config.json:1"},
        {"{\"hidden_size\":\"64\"}", "hidden_size"},
        {"{\"num_experts_per_tok\":99999999}", "num_experts_per_tok"},
        {"{\"tie_word_embeddings\":\"yes\"}", "tie_word_embeddings"},
        {"{\"quantization_config\":[]}", "quantization_config"},
        {"{\"quantization_config\":{\"quant_method\":4}}", "quant_method"},
        {"{\"quantization_config\":{\"bits\":\"4\"}}", "bits"},
        {"{\"quantization_config\":{\"bits\":65}}", "bits"},
        {"{\"quantization_config\":{\"group_size\":-2}}", "group_size"},
        {"{\"quantization_config\":{\"group_size\":4294967296}}", "group_size"},
        {"{\"quantization_config\":{\"sym\":1}}", "sym"},
        {"{\"quantization_config\":{\"weight_block_size\":[128]}}", "weight_block_size"},
        {"{\"quantization_config\":{\"weight_block_size\":[0,128]}}", "weight_block_size"},
        {"{\"quantization_config\":{\"weight_block_size\":128}}", "weight_block_size"},
        {"{\"quantization_config\":{\"ignore\":\"lm_head\"}}", "ignore"},
        {"{\"quantization_config\":{\"ignore\":[{}]}}", "ignore"},
        {"{\"quantization_config\":{\"config_groups\":[]}}", "config_groups"},
        {"{\"quantization_config\":{\"config_groups\":{\"a\":{\"targets\":[1]}}}}", "targets"},
        {"{\"quantization_config\":{\"config_groups\":{\"a\":{\"weights\":{\"num_bits\":0}}}}}",
         "num_bits"},
        {"{\"quantization_config\":{\"config_groups\":{\"a\":{\"weights\":{\"type\":1}}}}}",
         "type"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        parsed p;
        gemmux_error error = {GEMMUX_OK, ""};
        if (try_parse(cases[i].text, &p, &error) != GEMMUX_ERROR_INPUT)
            fail_msg("%s was read", cases[i].text);
        if (!strstr(error.text, cases[i].word) || !strstr(error.text, "config.json"))
            fail_msg("%s: %s", cases[i].text, error.text);
        gemmux_arena_free(&p.arena);
    }
    /* jansson stops at 2,048 levels; so does the stack */
    char *deep = malloc(100001);
    memset(deep, '[', 100000);
    deep[100000] = '\0';
    parsed p;
    assert_int_equal(try_parse(deep, &p, NULL), GEMMUX_ERROR_INPUT);
    gemmux_arena_free(&p.arena);
    free(deep);
}

/* Odd but not wrong: groups without weights or targets, unknown keys. */
static void unknown_keys_are_left(void **state)
{
    (void)state;
    parsed p = parse("{\"x\":{\"y\":[1,2]},\"quantization_config\":{\"quant_method\":\"gptq\","
                     "\"config_groups\":{\"a\":{},\"b\":{\"targets\":[],\"weights\":null}}}}");
    assert_int_equal(p.config.group_count, 2);
    assert_null(module_of(&p, "a"));
    gemmux_arena_free(&p.arena);
}

/* --------------------------------------------------------------------------- beside the model --
 */

static void older_files_state_the_quantisation(void **state)
{
    (void)state;
    char folder[64];
    gemmux_model *model = NULL;
    gemmux_error error = {GEMMUX_OK, ""};
    make_folder(folder);
    bytes b = safetensors_file("{}", 0);
    write_file(folder, "model.safetensors", b.data, b.size);
    free(b.data);
    write_text(folder, "config.json", "{\"model_type\":\"llama\"}");
    write_text(folder, "quantize_config.json",
               "{\"bits\":4,\"group_size\":64,\"desc_act\":true,\"sym\":true}");
    write_text(folder, "quant_config.json", "{\"w_bit\":4,\"version\":\"GEMM\"}");
    if (gemmux_model_open(folder, &model, &error))
        fail_msg("%s", error.text);
    assert_int_equal(model->config.method, GEMMUX_HF_GPTQ);
    assert_int_equal(model->config.groups[0].group_size, 64);
    assert_int_equal(model->config.reordered, 1);
    assert_int_equal(gemmux_model_layer_count(model), 0);
    gemmux_model_close(model);
    write_text(folder, "hf_quant_config.json",
               "{\"quantization\":{\"quant_algo\":\"NVFP4\",\"group_size\":16,"
               "\"exclude_modules\":[\"lm_head\"]}}");
    if (gemmux_model_open(folder, &model, &error))
        fail_msg("%s", error.text);
    assert_int_equal(model->config.method, GEMMUX_HF_MODELOPT);
    assert_int_equal(model->config.ignored_count, 1);
    gemmux_model_close(model);
    write_text(folder, "hf_quant_config.json", "{\"quantization\":{\"group_size\":\"16\"}}");
    assert_int_equal(gemmux_model_open(folder, &model, &error), GEMMUX_ERROR_INPUT);
    assert_non_null(strstr(error.text, "hf_quant_config.json"));
    assert_null(model);
    remove_folder(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(architecture_is_read),
        cmocka_unit_test(methods_are_read),
        cmocka_unit_test(modules_find_their_group),
        cmocka_unit_test(globs_match),
        cmocka_unit_test(expressions_match),
        cmocka_unit_test(wrong_expressions_are_refused),
        cmocka_unit_test(no_expression_takes_long),
        cmocka_unit_test(malformed_configs_are_refused),
        cmocka_unit_test(unknown_keys_are_left),
        cmocka_unit_test(older_files_state_the_quantisation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
