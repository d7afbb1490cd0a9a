/* SPDX-License-Identifier: Apache-2.0
 *
 * Names and sizes of formats, and what gemmux_tensor_check refuses.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "format.h"

static gemmux_format parse(const char *text)
{
    gemmux_format format = {0};
    gemmux_error error = {0};
    if (gemmux_format_parse(text, &format, &error) != GEMMUX_OK)
        fail_msg("%s: %s", text, error.text);
    return format;
}

static void defaults_are_the_documented_ones(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        gemmux_format format;
    } want[] = {
        {"f32", {GEMMUX_F32, GEMMUX_CODE_F32, 0, 0, 0, 0, 0}},
        {"f16", {GEMMUX_F16, GEMMUX_CODE_F16, 0, 0, 0, 0, 0}},
        {"bf16", {GEMMUX_BF16, GEMMUX_CODE_BF16, 0, 0, 0, 0, 0}},
        {"e4m3", {GEMMUX_E4M3, GEMMUX_CODE_E4M3, GEMMUX_SCALING_TENSOR, GEMMUX_CODE_F32, 0, 0, 0}},
        {"e5m2", {GEMMUX_E5M2, GEMMUX_CODE_E5M2, GEMMUX_SCALING_TENSOR, GEMMUX_CODE_F32, 0, 0, 0}},
        {"mxfp8",
         {GEMMUX_MXFP8, GEMMUX_CODE_E4M3, GEMMUX_SCALING_GROUP, GEMMUX_CODE_UE8M0, 0, 0, 32}},
        {"mxfp4",
         {GEMMUX_MXFP4, GEMMUX_CODE_E2M1, GEMMUX_SCALING_GROUP, GEMMUX_CODE_UE8M0, 0, 0, 32}},
        {"nvfp4",
         {GEMMUX_NVFP4, GEMMUX_CODE_E2M1, GEMMUX_SCALING_GROUP, GEMMUX_CODE_UE4M3, 0, 1, 16}},
        {"int8", {GEMMUX_INT8, GEMMUX_CODE_INT8, GEMMUX_SCALING_ROW, GEMMUX_CODE_F32, 0, 0, 0}},
        {"int4", {GEMMUX_INT4, GEMMUX_CODE_INT4, GEMMUX_SCALING_GROUP, GEMMUX_CODE_F16, 0, 0, 128}},
        {"nf4", {GEMMUX_NF4, GEMMUX_CODE_NF4, GEMMUX_SCALING_GROUP, GEMMUX_CODE_F32, 0, 0, 64}},
    };
    assert_int_equal(sizeof want / sizeof want[0], GEMMUX_FORMAT_COUNT - 1);
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        gemmux_format_id id = (gemmux_format_id)want[i].format.id;
        assert_true(gemmux_format_equal(gemmux_format_of(id), want[i].format));
        assert_true(gemmux_format_equal(parse(want[i].name), want[i].format));
        assert_string_equal(gemmux_format_id_name(id), want[i].name);
    }
    assert_int_equal(gemmux_format_of((gemmux_format_id)0).id, 0);
    assert_int_equal(gemmux_format_of((gemmux_format_id)99).id, 0);
    assert_int_equal(gemmux_format_of((gemmux_format_id)-1).id, 0);
    assert_string_equal(gemmux_format_id_name((gemmux_format_id)99), "none");
}

/* Walks every combination of the struct's fields that the library calls valid. */
static void every_valid_format_has_a_name_that_parses_back(void **state)
{
    (void)state;
    static const uint16_t groups[] = {0, 1, 16, 31, 32, 64, 128, 65535};
    int valid = 0;
    gemmux_format f = {0};
    for (f.id = 0; f.id <= GEMMUX_FORMAT_COUNT; f.id++)
        for (f.element = 0; f.element <= GEMMUX_CODE_COUNT; f.element++)
            for (f.scaling = 0; f.scaling <= 5; f.scaling++)
                for (f.scale = 0; f.scale <= GEMMUX_CODE_COUNT; f.scale++)
                    for (f.zero = 0; f.zero <= 3; f.zero++)
                        for (f.two_level = 0; f.two_level <= 2; f.two_level++)
                            for (size_t g = 0; g < sizeof groups / sizeof groups[0]; g++) {
                                f.group = groups[g];
                                if (!gemmux_format_valid(f))
                                    continue;
                                char name[32], short_name[4];
                                gemmux_format_name(f, name, sizeof name);
                                if (!gemmux_format_equal(parse(name), f))
                                    fail_msg("%s does not parse back", name);
                                gemmux_format_name(f, short_name, sizeof short_name);
                                assert_int_equal(strlen(short_name), 3);
                                valid++;
                            }
    /* 3 floats; e4m3, e5m2, int8: 3 scales x (tensor, row, 7 groups, 7 blocks); mxfp8 twice, mxfp4,
     * nvfp4; int4: 3 zeros x 3 scales x (tensor, row, 7 groups); nf4: 3 x 9. */
    assert_int_equal(valid, 3 + 3 * 3 * 16 + 4 + 3 * 3 * 9 + 3 * 9);
}

static void names_are_the_shortest(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"e4m3:tensor", "e4m3"},
        {"e4m3:block128:f32", "e4m3:block128"},
        {"e4m3:bf16:row", "e4m3:row:bf16"},
        {"mxfp8:e4m3", "mxfp8"},
        {"mxfp8:g32:e5m2", "mxfp8:e5m2"},
        {"mxfp4:g32:ue8m0", "mxfp4"},
        {"nvfp4:ue4m3", "nvfp4"},
        {"int8:row", "int8"},
        {"int8:f16:g32", "int8:g32:f16"},
        {"int4:g128:f16", "int4"},
        {"int4:zero:g32", "int4:g32:zero"},
        {"int4:f32:min:g32", "int4:g32:min:f32"},
        {"int4:row:zero:f16", "int4:row:zero"},
        {"nf4:g64", "nf4"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        char name[32];
        assert_string_equal(gemmux_format_name(parse(pairs[i][0]), name, sizeof name), pairs[i][1]);
    }
    char name[32];
    assert_string_equal(gemmux_format_name((gemmux_format){0}, name, sizeof name), "none");
    assert_string_equal(gemmux_format_name((gemmux_format){.id = GEMMUX_INT4}, name, sizeof name),
                        "invalid");
}

static void malformed_texts_are_refused_by_token(void **state)
{
    (void)state;
    static const struct {
        const char *text, *token; /* the token must stand in the sentence */
    } wrong[] = {
        {"", "\"\""},
        {"f33", "\"f33\""},
        {"F32", "\"F32\""},
        {" f32", "\" f32\""},
        {"f32:", "\"\""},
        {"f32:row", "\"row\""},
        {"bf16:f32", "\"f32\""},
        {"int4:zero:min", "\"min\""},
        {"int4:zero:zero", "\"zero\""},
        {"int4:g32:g64", "\"g64\""},
        {"int4:row:g64", "\"g64\""},
        {"int4:block128", "\"block128\""},
        {"int4::zero", "\"\""},
        {"int4:ue8m0", "\"ue8m0\""},
        {"int4:f16:bf16", "\"bf16\""},
        {"int8:zero", "\"zero\""},
        {"int8:min", "\"min\""},
        {"nf4:block64", "\"block64\""},
        {"mxfp4:g16", "\"g16\""},
        {"mxfp4:row", "\"row\""},
        {"mxfp4:f32", "\"f32\""},
        {"mxfp4:e4m3", "\"e4m3\""},
        {"mxfp8:e4m3:e5m2", "\"e5m2\""},
        {"mxfp8:e2m1", "\"e2m1\""},
        {"nvfp4:ue8m0", "\"ue8m0\""},
        {"e4m3:e5m2", "\"e5m2\""},
        {"e4m3:block", "\"block\""},
        {"e4m3:block0", "\"block0\""},
        {"e4m3:g", "\"g\""},
        {"e4m3:g032", "\"g032\""},
        {"e4m3:g-1", "\"g-1\""},
        {"e4m3:g65536", "\"g65536\""},
        {"e4m3:g99999999999999999999", "\"g99999999999999999999\""},
        {"e4m3:groups", "\"groups\""},
        {"e4m3:Row", "\"Row\""},
        {"int4:a_token_much_longer_than_any_real_one", "\"a_token_much_longer_tha\""},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        gemmux_format format = {.id = 77};
        gemmux_error error = {0};
        assert_int_equal(gemmux_format_parse(wrong[i].text, &format, &error), GEMMUX_ERROR_INPUT);
        assert_int_equal(error.status, GEMMUX_ERROR_INPUT);
        assert_int_equal(format.id, 77); /* untouched */
        if (!strstr(error.text, wrong[i].token))
            fail_msg("\"%s\" does not name %s", error.text, wrong[i].token);
    }
    assert_int_equal(gemmux_format_parse(NULL, &(gemmux_format){0}, NULL), GEMMUX_ERROR_ARGUMENT);
    assert_int_equal(gemmux_format_parse("f32", NULL, NULL), GEMMUX_ERROR_ARGUMENT);
}

static void sizes_are_as_stored(void **state)
{
    (void)state;
    static const struct {
        const char *format;
        int64_t cols, row_bytes, rows, scales, stored; /* of 2 matrices */
    } sizes[] = {
        {"f32", 5, 20, 3, 0, 2 * 60},
        {"f16", 5, 10, 3, 0, 2 * 30},
        {"bf16", 0, 0, 3, 0, 0},
        {"e4m3", 5, 5, 3, 1, 2 * (15 + 4)},
        {"e4m3:row:bf16", 5, 5, 3, 3, 2 * (15 + 6)},
        {"e4m3:block128", 129, 129, 257, 6, 2 * (129 * 257 + 24)},
        {"mxfp8", 33, 33, 3, 6, 2 * (99 + 6)},
        {"mxfp4", 33, 17, 3, 6, 2 * (51 + 6)},
        {"nvfp4", 33, 17, 3, 9, 2 * (51 + 9 + 4)},
        {"int8", 5, 5, 3, 3, 2 * (15 + 12)},
        {"int4", 256, 128, 3, 6, 2 * (384 + 12)},
        {"int4:g32:zero", 64, 32, 3, 6, 2 * (96 + 12 + 6)},
        {"int4:g32:min", 64, 32, 3, 6, 2 * (96 + 12 + 12)},
        {"int4:tensor:min:f32", 7, 4, 3, 1, 2 * (12 + 4 + 4)},
        {"nf4", 65, 33, 3, 6, 2 * (99 + 24)},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        gemmux_format f = parse(sizes[i].format);
        assert_int_equal(gemmux_row_bytes(f, sizes[i].cols), sizes[i].row_bytes);
        assert_int_equal(gemmux_scale_count(f, sizes[i].rows, sizes[i].cols), sizes[i].scales);
        assert_int_equal(gemmux_stored_bytes(f, 2, sizes[i].rows, sizes[i].cols), sizes[i].stored);
    }
}

static void sizes_that_overflow_are_minus_one(void **state)
{
    (void)state;
    gemmux_format f32 = gemmux_format_of(GEMMUX_F32), int4 = gemmux_format_of(GEMMUX_INT4);
    gemmux_format bad = {.id = GEMMUX_F32, .element = GEMMUX_CODE_F16};
    assert_int_equal(gemmux_row_bytes(f32, INT64_MAX / 2), -1);
    assert_int_equal(gemmux_row_bytes(f32, -1), -1);
    assert_int_equal(gemmux_row_bytes(bad, 4), -1);
    assert_int_equal(gemmux_row_bytes((gemmux_format){0}, 4), -1);
    assert_int_equal(gemmux_scale_count(int4, INT64_MAX, 256), -1);
    assert_int_equal(gemmux_scale_count(int4, -1, 256), -1);
    assert_int_equal(gemmux_scale_count(bad, 1, 1), -1);
    assert_int_equal(gemmux_stored_bytes(f32, 1, INT64_MAX / 8, 4), -1);
    assert_int_equal(gemmux_stored_bytes(f32, INT64_MAX / 8, 2, 2), -1);
    assert_int_equal(gemmux_stored_bytes(parse("int8"), 1, INT64_MAX / 4, 1), -1);
    assert_int_equal(gemmux_stored_bytes(f32, -1, 2, 2), -1);
}

/* --------------------------------------------------------------------------------------- check --
 */

static void expect(const gemmux_tensor *t, gemmux_status status, const char *part)
{
    gemmux_error error = {0};
    assert_int_equal(gemmux_tensor_check(t, "layer.w", &error), status);
    if (status && (!strstr(error.text, "layer.w") || !strstr(error.text, part)))
        fail_msg("\"%s\" does not name layer.w and \"%s\"", error.text, part);
}

static void check_refuses_bad_shapes_and_pointers(void **state)
{
    (void)state;
    uint8_t codes[64] = {0};
    float scales[4] = {1, 1, 1, 1};
    gemmux_tensor good = {.format = parse("int8"),
                          .count = 1,
                          .rows = 4,
                          .cols = 16,
                          .codes = codes,
                          .scales = scales};
    expect(&good, GEMMUX_OK, "");
    expect(NULL, GEMMUX_ERROR_ARGUMENT, "NULL");
    gemmux_tensor t = good;
    t.format.group = 3;
    expect(&t, GEMMUX_ERROR_ARGUMENT, "group 3");
    t = good, t.count = 0;
    expect(&t, GEMMUX_ERROR_ARGUMENT, "0 matrices");
    t = good, t.rows = -1;
    expect(&t, GEMMUX_ERROR_ARGUMENT, "-1 x 16");
    t = good, t.row_bytes = 15;
    expect(&t, GEMMUX_ERROR_ARGUMENT, "row_bytes is 15");
    t = good, t.row_bytes = INT64_MAX / 2;
    expect(&t, GEMMUX_ERROR_MEMORY, "more bytes");
    t = good, t.rows = INT64_MAX / 8;
    expect(&t, GEMMUX_ERROR_MEMORY, "more bytes");
    t = good, t.codes = NULL;
    expect(&t, GEMMUX_ERROR_ARGUMENT, "codes is NULL");
    t = good, t.scales = NULL;
    expect(&t, GEMMUX_ERROR_ARGUMENT, "scales is NULL");
    t = good, t.format = parse("int4:row:zero:f32");
    expect(&t, GEMMUX_ERROR_ARGUMENT, "zeros is NULL");
    t = good, t.cols = 0, t.codes = NULL;
    expect(&t, GEMMUX_OK, "");
    t = good, t.rows = 0, t.codes = t.scales = NULL;
    expect(&t, GEMMUX_OK, "");
    int32_t order[16] = {0};
    t = good, t.k_order = order;
    expect(&t, GEMMUX_OK, "");
    order[5] = 16;
    expect(&t, GEMMUX_ERROR_INPUT, "column 5");
    order[5] = -1;
    expect(&t, GEMMUX_ERROR_INPUT, "column 5");
}

static void check_refuses_bad_scales(void **state)
{
    (void)state;
    uint8_t codes[256] = {0}, bytes[8], zeros[4] = {0, 15, 16, 8};
    float scales[4] = {1, 0, 2, 3}, globals[1] = {1};
    static const struct {
        float value;
        const char *what;
        bool int8_too;
    } wrong[] = {{NAN, "NaN", true}, {INFINITY, "infinite", true}, {-1, "negative", false}};
    for (size_t i = 0; i < 3; i++) {
        scales[2] = wrong[i].value;
        gemmux_tensor t = {.format = parse("e4m3:row"),
                           .count = 1,
                           .rows = 4,
                           .cols = 16,
                           .codes = codes,
                           .scales = scales};
        expect(&t, GEMMUX_ERROR_INPUT, "scale 2 of 4");
        expect(&t, GEMMUX_ERROR_INPUT, wrong[i].what);
        t.format = parse("int8");
        expect(&t, wrong[i].int8_too ? GEMMUX_ERROR_INPUT : GEMMUX_OK, "scale 2 of 4");
        t.format = parse("int4:row:f32");
        expect(&t, wrong[i].int8_too ? GEMMUX_ERROR_INPUT : GEMMUX_OK, "scale 2 of 4");
    }
    scales[2] = 1;
    gemmux_tensor t = {.format = parse("int4:row:zero:f32"),
                       .count = 1,
                       .rows = 4,
                       .cols = 16,
                       .codes = codes,
                       .scales = scales,
                       .zeros = zeros};
    expect(&t, GEMMUX_OK, "");
    zeros[3] = 17;
    expect(&t, GEMMUX_ERROR_INPUT, "zero point 3 of 4");
    float minima[4] = {-1, 0, -1e30f, NAN};
    t.format = parse("int4:row:min:f32"), t.zeros = minima;
    expect(&t, GEMMUX_ERROR_INPUT, "minimum 3 of 4");
    memset(bytes, 127, sizeof bytes);
    t = (gemmux_tensor){.format = parse("mxfp4"),
                        .count = 1,
                        .rows = 4,
                        .cols = 64,
                        .codes = codes,
                        .scales = bytes};
    expect(&t, GEMMUX_OK, "");
    bytes[7] = 255;
    expect(&t, GEMMUX_ERROR_INPUT, "scale 7 of 8");
    memset(bytes, 0x38, sizeof bytes);
    t.format = parse("nvfp4"), t.cols = 32, t.globals = globals;
    expect(&t, GEMMUX_OK, "");
    bytes[6] = 0x7f;
    expect(&t, GEMMUX_ERROR_INPUT, "scale 6 of 8");
    bytes[6] = 0xb8;
    expect(&t, GEMMUX_ERROR_INPUT, "negative");
    bytes[6] = 0x38, globals[0] = INFINITY;
    expect(&t, GEMMUX_ERROR_INPUT, "global scale 0 of 1");
    t.globals = NULL;
    expect(&t, GEMMUX_OK, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_the_documented_ones),
        cmocka_unit_test(every_valid_format_has_a_name_that_parses_back),
        cmocka_unit_test(names_are_the_shortest),
        cmocka_unit_test(malformed_texts_are_refused_by_token),
        cmocka_unit_test(sizes_are_as_stored),
        cmocka_unit_test(sizes_that_overflow_are_minus_one),
        cmocka_unit_test(check_refuses_bad_shapes_and_pointers),
        cmocka_unit_test(check_refuses_bad_scales),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
