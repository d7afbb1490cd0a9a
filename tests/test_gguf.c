/* SPDX-License-Identifier: Apache-2.0
 *
 * The GGUF container: what a sound file gives, and that each way of being malformed is refused with
 * a text that names the tensor and the reason. The meaning of blocks is test_schemes.c's.
 */
#include "checkpoint_files.h"

enum { U8 = 0, U32 = 4, BOOL = 7, STRING = 8, ARRAY = 9, U64 = 10 };

static void add_string(bytes *b, const char *text)
{
    bytes_number(b, strlen(text), 8);
    bytes_add(b, text, strlen(text));
}

static void add_start(bytes *b, uint32_t version, uint64_t tensors, uint64_t pairs)
{
    bytes_add(b, "GGUF", 4);
    bytes_number(b, version, 4);
    bytes_number(b, tensors, 8);
    bytes_number(b, pairs, 8);
}

static void add_u32(bytes *b, const char *key, uint32_t value)
{
    add_string(b, key);
    bytes_number(b, U32, 4);
    bytes_number(b, value, 4);
}

static void add_text(bytes *b, const char *key, const char *value)
{
    add_string(b, key);
    bytes_number(b, STRING, 4);
    add_string(b, value);
}

/* Dimensions from the innermost, as in the file. */
static void add_info(bytes *b, const char *name, int rank, const uint64_t *shape, uint32_t type,
                     uint64_t offset)
{
    add_string(b, name);
    bytes_number(b, (uint64_t)rank, 4);
    for (int i = 0; i < rank; i++)
        bytes_number(b, shape[i], 8);
    bytes_number(b, type, 4);
    bytes_number(b, offset, 8);
}

static void add_data(bytes *b, size_t count)
{
    while (b->size % 32)
        bytes_number(b, 0, 1);
    for (size_t i = 0; i < count; i++)
        bytes_number(b, i & 63, 1);
}

/* ------------------------------------------------------------------------------------ sound -- */

/* Two layers of a moe, an embedding, a norm, pairs of every type. */
static bytes sound_file(void)
{
    static const uint8_t types[] = {0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12};
    static const uint8_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 8, 8};
    bytes b = {0};
    add_start(&b, 3, 5, 16);
    add_text(&b, "general.architecture", "qwen3moe");
    add_u32(&b, "general.alignment", 32);
    add_u32(&b, "qwen3moe.expert_used_count", 2);
    for (size_t i = 0; i < sizeof types; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%zu", i);
        add_string(&b, key);
        bytes_number(&b, types[i], 4);
        bytes_number(&b, 1, sizes[i]);
    }
    add_string(&b, "tokens");
    bytes_number(&b, ARRAY, 4);
    bytes_number(&b, STRING, 4);
    bytes_number(&b, 2, 8);
    add_string(&b, "hello");
    add_string(&b, "");
    add_string(&b, "numbers");
    bytes_number(&b, ARRAY, 4);
    bytes_number(&b, ARRAY, 4);
    bytes_number(&b, 1, 8);
    bytes_number(&b, U64, 4);
    bytes_number(&b, 1, 8);
    bytes_number(&b, 7, 8);
    add_info(&b, "blk.0.ffn_up_exps.weight", 3, (uint64_t[]){32, 3, 2}, 8, 0);
    add_info(&b, "blk.0.ffn_down_exps.weight", 3, (uint64_t[]){4, 2, 2}, 0, 224);
    add_info(&b, "blk.0.ffn_down_exps.bias", 2, (uint64_t[]){2, 2}, 0, 288);
    add_info(&b, "token_embd.weight", 2, (uint64_t[]){4, 3}, 1, 320);
    add_info(&b, "output_norm.weight", 1, (uint64_t[]){4}, 0, 352);
    add_data(&b, 352 + 16);
    return b;
}

static void tensors_become_layers(void **state)
{
    (void)state;
    bytes b = sound_file();
    gemmux_model *model = open_bytes(b, NULL);
    assert_string_equal(gemmux_model_kind(model), "gguf");
    assert_string_equal(gemmux_model_name(model), "qwen3moe");
    assert_int_equal(gemmux_model_tensor_count(model), 5);
    assert_int_equal(gemmux_model_layer_count(model), 4);

    const gemmux_layer *up = layer_called(model, "blk.0.ffn_up_exps", NULL);
    assert_string_equal(up->group, "blk.*.ffn_up_exps");
    assert_string_equal(up->scheme, "gguf Q8_0");
    assert_int_equal(up->op, GEMMUX_MOE);
    assert_int_equal(up->experts, 2);
    assert_int_equal(up->top_k, 2);
    assert_int_equal(up->n, 3);
    assert_int_equal(up->k, 32);
    assert_int_equal(up->epilogue, GEMMUX_EPILOGUE_GATHER);
    assert_int_equal(up->stored_bytes, 6 * 34);
    assert_true(gemmux_format_equal(up->format, testing_format("int8:g32:f16")));

    int index = -1;
    const gemmux_layer *down = layer_called(model, "blk.0.ffn_down_exps", &index);
    assert_int_equal(down->epilogue, GEMMUX_EPILOGUE_SCATTER | GEMMUX_EPILOGUE_BIAS);
    gemmux_weights w;
    assert_int_equal(gemmux_model_load(model, index, &w, NULL), GEMMUX_OK);
    assert_int_equal(w.tensor.count, 2);
    assert_int_equal(w.tensor.rows, 2);
    assert_int_equal(w.tensor.cols, 4);
    const uint8_t *data = b.data + b.size - 368;
    assert_ptr_equal(w.tensor.codes, data + 224);
    assert_memory_equal(w.bias, data + 288, 16);
    gemmux_weights_free(&w);

    assert_true(layer_called(model, "token_embd", NULL)->embedding);
    assert_false(layer_called(model, "lm_head (tied)", NULL)->embedding);
    gemmux_model_close(model);
    free(b.data);
}

/* Every cut of a sound file is refused, and none crashes. */
static void every_truncation_is_refused(void **state)
{
    (void)state;
    bytes b = sound_file();
    for (size_t size = 0; size < b.size; size++) {
        uint8_t *cut = malloc(size + 1);
        memcpy(cut, b.data, size);
        gemmux_model *model = NULL;
        gemmux_error error = {GEMMUX_OK, ""};
        if (gemmux_model_from_memory("cut", cut, size, NULL, 0, &model, &error) !=
            GEMMUX_ERROR_INPUT)
            fail_msg("cut to %zu bytes: %s", size, error.text);
        assert_null(model);
        free(cut);
    }
    free(b.data);
}

static void unknown_types_are_listed_and_refused(void **state)
{
    (void)state;
    bytes b = {0};
    add_start(&b, 2, 4, 1);
    add_text(&b, "general.architecture", "bert"); /* an encoder: no head to tie */
    add_info(&b, "a.weight", 2, (uint64_t[]){32, 2}, 200, 0);
    add_info(&b, "b.weight", 2, (uint64_t[]){256, 1}, 16, 0); /* IQ2_XXS */
    add_info(&b, "c.weight", 2, (uint64_t[]){4, 1}, 26, 96);  /* I32 */
    add_info(&b, "token_embd.weight", 2, (uint64_t[]){2, 2}, 0, 128);
    add_data(&b, 144);
    gemmux_model *model = open_bytes(b, NULL);
    assert_int_equal(gemmux_model_layer_count(model), 4);
    assert_string_equal(layer_called(model, "a", NULL)->scheme, "gguf type 200");
    assert_int_equal(layer_called(model, "a", NULL)->format.id, 0);
    assert_int_equal(layer_called(model, "b", NULL)->n, 1);
    expect_not_loaded(model, "a", (const char *const[3]){"a.weight", "gguf type 200"});
    expect_not_loaded(model, "b", (const char *const[3]){"b.weight", "IQ2_XXS"});
    expect_not_loaded(model, "c", (const char *const[3]){"c.weight", "I32"});
    gemmux_model_close(model);
    free(b.data);
}

/* -------------------------------------------------------------------------------- malformed -- */

typedef struct bad_tensor {
    int rank;
    uint64_t shape[5];
    uint32_t type;
    uint64_t offset;
    const char *words[3];
} bad_tensor;

static void malformed_tensors_are_refused(void **state)
{
    (void)state;
    static const bad_tensor cases[] = {
        {2, {4, 2}, 0, 64, {"'t.weight'", "past the end"}},
        {2, {4, 2}, 0, 1 << 20, {"'t.weight'", "past the end"}},
        {2, {4, 2}, 0, UINT64_MAX - 31, {"'t.weight'", "past the end"}},
        {2, {4, 2}, 0, 8, {"'t.weight'", "general.alignment"}},
        {2, {4, 5}, 0, 0, {"'t.weight'", "past the end"}},
        {2, {33, 1}, 8, 0, {"'t.weight'", "whole blocks"}},
        {2, {1, 32}, 2, 0, {"'t.weight'", "whole blocks"}},
        {0, {0}, 8, 0, {"'t.weight'", "whole blocks"}},
        {5, {1, 1, 1, 1, 1}, 0, 0, {"'t.weight'", "4 dimensions"}},
        {2, {UINT64_C(1) << 63, 1}, 0, 0, {"'t.weight'", "overflows"}},
        {2, {UINT64_C(1) << 40, UINT64_C(1) << 40}, 0, 0, {"'t.weight'", "overflows"}},
        {2, {UINT64_C(1) << 31, UINT64_C(1) << 31}, 0, 0, {"'t.weight'", "overflows"}},
        {2, {UINT64_C(1) << 40, UINT64_C(1) << 40}, 200, 0, {"'t.weight'", "overflows"}},
        {2, {8, 1}, 0, 32, {"overlaps"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bytes b = {0};
        add_start(&b, 3, 2, 0);
        add_info(&b, "first.weight", 1, (uint64_t[]){16}, 0, 0);
        add_info(&b, "t.weight", cases[i].rank, cases[i].shape, cases[i].type, cases[i].offset);
        add_data(&b, 64);
        expect_refused(b, NULL, cases[i].words);
        free(b.data);
    }
}

static void malformed_headers_are_refused(void **state)
{
    (void)state;
    static const struct {
        uint32_t version;
        uint64_t tensors, pairs;
        const char *words[3];
    } cases[] = {
        {1, 0, 0, {"version 1"}},
        {4, 0, 0, {"version 4"}},
        {0x03000000, 0, 0, {"big-endian"}},
        {0, 0, 0, {"version 0"}},
        {3, UINT64_MAX, 0, {"tensors do not fit"}},
        {3, 3, 0, {"tensors do not fit"}},
        {3, 0, UINT64_MAX, {"pairs do not fit"}},
        {3, 0, 6, {"pairs do not fit"}},
        {3, 2, 0, {"name", "past the end"}},
        {3, 0, 2, {"key", "past the end"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bytes b = {0};
        add_start(&b, cases[i].version, cases[i].tensors, cases[i].pairs);
        for (int j = 0; j < 64; j++)
            bytes_number(&b, 0xff, 1);
        expect_refused(b, NULL, cases[i].words);
        free(b.data);
    }
}

static void malformed_pairs_are_refused(void **state)
{
    (void)state;
    bytes b = {0};
    add_start(&b, 3, 0, 2);
    add_u32(&b, "key", 1);
    add_u32(&b, "key", 2);
    expect_refused(b, NULL, (const char *const[3]){"'key'", "twice"});

    static const uint32_t alignments[] = {0, 3, 1u << 30};
    for (int i = 0; i < 3; i++) {
        b.size = 0;
        add_start(&b, 3, 0, 1);
        add_u32(&b, "general.alignment", alignments[i]);
        expect_refused(b, NULL, (const char *const[3]){"general.alignment", "power of two"});
    }
    b.size = 0;
    add_start(&b, 3, 0, 1);
    add_text(&b, "general.alignment", "32");
    expect_refused(b, NULL, (const char *const[3]){"general.alignment"});

    b.size = 0;
    add_start(&b, 3, 0, 1);
    add_text(&b, "general.architecture", "a\033[2Jb");
    expect_refused(b, NULL, (const char *const[3]){"general.architecture", "control"});

    b.size = 0;
    add_start(&b, 3, 0, 1);
    add_string(&b, "key");
    bytes_number(&b, 13, 4);
    expect_refused(b, NULL, (const char *const[3]){"unknown type 13"});

    b.size = 0; /* arrays within arrays without end */
    add_start(&b, 3, 0, 1);
    add_string(&b, "key");
    bytes_number(&b, ARRAY, 4);
    for (int i = 0; i < 10; i++) {
        bytes_number(&b, ARRAY, 4);
        bytes_number(&b, 1, 8);
    }
    expect_refused(b, NULL, (const char *const[3]){"nested"});

    b.size = 0; /* more elements than there are bytes; the product overflows 64 bits */
    add_start(&b, 3, 0, 1);
    add_string(&b, "key");
    bytes_number(&b, ARRAY, 4);
    bytes_number(&b, U64, 4);
    bytes_number(&b, UINT64_C(1) << 61, 8);
    expect_refused(b, NULL, (const char *const[3]){"array", "past the end"});
    free(b.data);
}

static void bad_names_are_refused(void **state)
{
    (void)state;
    bytes b = {0};
    add_start(&b, 3, 2, 0);
    add_info(&b, "t.weight", 2, (uint64_t[]){4, 1}, 0, 0);
    add_info(&b, "t.weight", 2, (uint64_t[]){4, 1}, 0, 32);
    add_data(&b, 48);
    expect_refused(b, NULL, (const char *const[3]){"'t.weight'", "twice"});

    b.size = 0;
    add_start(&b, 3, 1, 0);
    add_info(&b, "t\n.weight", 2, (uint64_t[]){4, 1}, 0, 0);
    add_data(&b, 16);
    expect_refused(b, NULL, (const char *const[3]){"control character 0x0a"});
    free(b.data);
}

static void bad_parts_are_refused(void **state)
{
    (void)state;
    bytes b = {0};
    add_start(&b, 3, 2, 0);
    add_info(&b, "t.weight", 2, (uint64_t[]){4, 2}, 0, 0);
    add_info(&b, "t.bias", 1, (uint64_t[]){4}, 0, 32);
    add_data(&b, 48);
    expect_refused(b, NULL, (const char *const[3]){"t.bias", "[4]", "2 outputs"});

    b.size = 0; /* a scale of its own beside a type that has none */
    add_start(&b, 3, 2, 0);
    add_info(&b, "t.weight", 2, (uint64_t[]){32, 1}, 8, 0);
    add_info(&b, "t.scale", 1, (uint64_t[]){1}, 0, 64);
    add_data(&b, 68);
    gemmux_model *model = open_bytes(b, NULL);
    expect_not_loaded(model, "t", (const char *const[3]){"t.weight", "Q8_0", "t.scale"});
    gemmux_model_close(model);

    static const struct {
        uint32_t type;
        size_t bytes;
        uint8_t scale[4];             /* at the start of the block */
    } blocks[] = {{8, 34, {0, 0x7e}}, /* f16 NaN */
                  {2, 18, {0, 0xfc}}, /* f16 -infinity */
                  {3, 20, {0, 0x3c, 0, 0x7c}}, {39, 17, {255}}, {40, 36, {1, 2, 0x7f, 3}},
                  {40, 36, {1, 2, 0x81, 3}}, /* a sign that hardware would ignore */
                  {7, 24, {0, 0x7c}}};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        b.size = 0;
        add_start(&b, 3, 1, 0);
        add_info(&b, "t.weight", 2, (uint64_t[]){blocks[i].type == 40 ? 64 : 32, 1}, blocks[i].type,
                 0);
        add_data(&b, 0);
        bytes_add(&b, blocks[i].scale, 4);
        for (size_t j = 4; j < blocks[i].bytes; j++)
            bytes_number(&b, j, 1);
        model = open_bytes(b, NULL);
        expect_not_loaded(model, "t", (const char *const[3]){"t.weight", " is "});
        gemmux_model_close(model);
    }
    free(b.data);
}

/* ------------------------------------------------------------------------------------ split -- */

static bytes part_of_split(uint32_t count, const char *name)
{
    bytes b = {0};
    add_start(&b, 3, 1, 1);
    add_u32(&b, "split.count", count);
    add_info(&b, name, 2, (uint64_t[]){4, 1}, 0, 0);
    add_data(&b, 16);
    return b;
}

static void split_files_are_joined(void **state)
{
    (void)state;
    char folder[64], path[128];
    gemmux_model *model = NULL;
    gemmux_error error = {GEMMUX_OK, ""};
    make_folder(folder);
    bytes one = part_of_split(2, "a.weight"), two = part_of_split(2, "b.weight");
    write_file(folder, "m-00002-of-00002.gguf", two.data, two.size);
    snprintf(path, sizeof path, "%s/m-00002-of-00002.gguf", folder);
    assert_int_equal(gemmux_model_open(path, &model, &error), GEMMUX_ERROR_IO);
    assert_non_null(strstr(error.text, "m-00001-of-00002.gguf"));
    write_file(folder, "m-00001-of-00002.gguf", one.data, one.size);
    if (gemmux_model_open(path, &model, &error))
        fail_msg("%s", error.text);
    assert_int_equal(gemmux_model_layer_count(model), 2);
    gemmux_model_close(model);
    if (gemmux_model_open(folder, &model, &error)) /* the folder is enough */
        fail_msg("%s", error.text);
    assert_int_equal(gemmux_model_layer_count(model), 2);
    gemmux_model_close(model);
    write_file(folder, "m.gguf", one.data, one.size);
    snprintf(path, sizeof path, "%s/m.gguf", folder);
    assert_int_equal(gemmux_model_open(path, &model, &error), GEMMUX_ERROR_INPUT);
    assert_non_null(strstr(error.text, "one of 2 files"));
    free(one.data);
    free(two.data);
    remove_folder(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_become_layers),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(unknown_types_are_listed_and_refused),
        cmocka_unit_test(malformed_tensors_are_refused),
        cmocka_unit_test(malformed_headers_are_refused),
        cmocka_unit_test(malformed_pairs_are_refused),
        cmocka_unit_test(bad_names_are_refused),
        cmocka_unit_test(bad_parts_are_refused),
        cmocka_unit_test(split_files_are_joined),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
