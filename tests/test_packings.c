/* SPDX-License-Identifier: Apache-2.0
 *
 * Every packing of the table with every format it accepts: unpacking gives back the stored codes
 * and scales bit for bit, padding is zero, threads change nothing, the wrong packing or geometry
 * is refused by name, and a flipped byte is noticed.
 */
#include "testing.h"

#include "kernel.h"
#include "packings/cublaslt_rows.h"
#include "packings/panel16.h"

extern const gemmux_packing gemmux_packing_cublaslt_rows;

/* The thread sanitizer keeps several bytes beside each that was ever written. */
#if defined(__SANITIZE_THREAD__)
#    define SHADOWED 1
#elif defined(__has_feature)
#    if __has_feature(thread_sanitizer)
#        define SHADOWED 1
#    endif
#endif
#ifndef SHADOWED
#    define SHADOWED 0
#endif

static const char *const formats[] = {
    "f32",       "f16",           "bf16",         "e4m3",          "e4m3:row",
    "e4m3:g128", "e4m3:block128", "e4m3:block48", "e5m2:block16",  "e5m2:row:bf16",
    "mxfp8",     "mxfp8:e5m2",    "mxfp4",        "nvfp4",         "int8",
    "int8:g32",  "int8:tensor",   "int4:g32",     "int4:row",      "int4:tensor:f32",
    "int4:g128", "int4:g64:zero", "int4:g32:min", "int4:row:zero", "nf4",
    "nf4:row",   "int4:g24",      "e4m3:block8",
};
#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* Rows longer than dense, with garbage behind each. */
static unsigned char *spread_rows(gemmux_tensor *t)
{
    int64_t dense = gemmux_row_bytes(t->format, t->cols), stride = dense + 5;
    unsigned char *rows = malloc((size_t)(t->count * t->rows * stride) + 1);
    assert_non_null(rows);
    memset(rows, 0xa5, (size_t)(t->count * t->rows * stride));
    for (int64_t i = 0; i < t->count * t->rows; i++)
        memcpy(rows + i * stride, (const char *)t->codes + i * dense, (size_t)dense);
    t->codes = rows;
    t->row_bytes = stride;
    return rows;
}

static void compare(const gemmux_tensor *a, const gemmux_tensor *b, const char *name)
{
    assert_int_equal(a->count, b->count);
    for (int64_t matrix = 0; matrix < a->count; matrix++) {
        for (int64_t i = 0; i < a->rows * a->cols; i++) {
            gemmux_code code = (gemmux_code)a->format.element;
            int64_t row = matrix * a->rows + i / a->cols;
            uint32_t left = gemmux_code_load(
                code, (const char *)a->codes + row * gemmux_row_stride(a), i % a->cols);
            uint32_t right = gemmux_code_load(
                code, (const char *)b->codes + row * gemmux_row_stride(b), i % a->cols);
            if (left != right)
                fail_msg("%s: code %lld of row %lld is 0x%x, was 0x%x", name,
                         (long long)(i % a->cols), (long long)row, right, left);
        }
        if (a->globals)
            assert_true(a->globals[matrix] == b->globals[matrix]);
    }
    size_t scales = (size_t)(gemmux_scale_count(a->format, a->rows, a->cols) * a->count);
    if (scales)
        assert_memory_equal(a->scales, b->scales, scales * (size_t)gemmux_scale_bytes(a->format));
    if (a->format.zero)
        assert_memory_equal(a->zeros, b->zeros, scales * (size_t)gemmux_zero_bytes(a->format));
}

static void check_round_trip(const gemmux_packing *packing, gemmux_format format, int64_t rows,
                             int64_t cols, gemmux_threads *threads)
{
    uint64_t seed = 7 + (uint64_t)(rows * 131 + cols);
    gemmux_weights w, back;
    gemmux_packed packed, again;
    gemmux_error error = {GEMMUX_OK, ""};
    char name[32];
    gemmux_format_name(format, name, sizeof name);
    testing_weights(&seed, format, 2, rows, cols, &w);
    gemmux_tensor spread = w.tensor;
    unsigned char *storage = spread_rows(&spread);
    assert_int_equal(gemmux_pack(packing, &spread, NULL, &packed, &error), GEMMUX_OK);
    assert_int_equal(gemmux_pack(packing, &w.tensor, threads, &again, &error), GEMMUX_OK);
    assert_int_equal(packed.bytes, again.bytes);
    if (packed.data) { /* garbage behind the rows has not been packed */
        assert_int_equal(packed.checksum, again.checksum);
        assert_memory_equal(packed.data, again.data, (size_t)packed.bytes);
    }
    if (gemmux_unpack(&packed, &back, &error))
        fail_msg("%s %s: %s", packing->name, name, error.text);
    compare(&w.tensor, &back.tensor, name);
    if (packed.data) {
        assert_int_equal(gemmux_packed_verify(&packed, &error), GEMMUX_OK);
        ((unsigned char *)packed.data)[packed.bytes / 2] ^= 0x10;
        assert_int_equal(gemmux_packed_verify(&packed, &error), GEMMUX_ERROR_PACKING);
    }
    gemmux_packed_free(&packed);
    gemmux_packed_free(&again);
    gemmux_weights_free(&back);
    gemmux_weights_free(&w);
    free(storage);
}

static void test_round_trip(void **state)
{
    static const int64_t shapes[][2] = {{1, 1}, {16, 32}, {17, 33}, {37, 200}, {300, 48}, {5, 0}};
    gemmux_threads *threads;
    (void)state;
    assert_int_equal(gemmux_threads_create(2, &threads, NULL), GEMMUX_OK);
    for (int p = 0; gemmux_packings[p]; p++)
        for (int f = 0; f < COUNT(formats); f++)
            for (int s = 0; s < COUNT(shapes); s++) {
                gemmux_format format = testing_format(formats[f]);
                if (gemmux_packings[p]->accepts(format))
                    check_round_trip(gemmux_packings[p], format, shapes[s][0], shapes[s][1],
                                     threads);
            }
    gemmux_threads_free(threads);
}

typedef struct sink {
    unsigned char *data; /* NULL: only counted */
    int64_t at, most, before;
} sink;

/* Bytes of this process that are in memory. */
static int64_t in_memory(void)
{
    long long pages = 0, all;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%lld %lld", &all, &pages) != 2)
        pages = 0;
    if (file)
        fclose(file);
    return (int64_t)pages * 4096;
}

static gemmux_status take_piece(void *context, const void *piece, int64_t at, int64_t bytes,
                                gemmux_error *error)
{
    sink *s = context;
    (void)error;
    assert_int_equal(at, s->at);
    s->at += bytes;
    if (s->data)
        memcpy(s->data + at, piece, (size_t)bytes);
    int64_t held = in_memory() - s->before;
    s->most = held > s->most ? held : s->most;
    return GEMMUX_OK;
}

/* What a device is given piece by piece is what the host would hold as a whole. */
static void test_stream(void **state)
{
    static const int64_t shapes[][2] = {{1, 1}, {17, 33}, {300, 200}, {5000, 1024}, {5, 0}};
    int compared = 0;
    (void)state;
    for (int p = 0; gemmux_packings[p]; p++)
        for (int f = 0; f < COUNT(formats); f++)
            for (int i = 0; i < COUNT(shapes); i++) {
                const gemmux_packing *packing = gemmux_packings[p];
                gemmux_format format = testing_format(formats[f]);
                uint64_t seed = 11;
                gemmux_weights w;
                gemmux_packed whole, streamed;
                if (!packing->settled || !packing->accepts(format))
                    continue;
                testing_weights(&seed, format, i == 3 ? 1 : 3, shapes[i][0], shapes[i][1], &w);
                assert_int_equal(gemmux_pack(packing, &w.tensor, NULL, &whole, NULL), GEMMUX_OK);
                sink s = {.data = malloc((size_t)whole.bytes + 1)};
                streamed = whole;
                if (whole.bytes) /* of K = 0 some packings have nothing */
                    assert_int_equal(gemmux_pack_stream(packing, &w.tensor, NULL, take_piece, &s,
                                                        &streamed, NULL),
                                     GEMMUX_OK);
                assert_int_equal(s.at, whole.bytes);
                assert_memory_equal(s.data, whole.data, (size_t)whole.bytes);
                assert_true(streamed.checksum == whole.checksum);
                assert_int_equal(streamed.bytes, whole.bytes);
                assert_true(!whole.bytes || !streamed.data);
                compared++;
                free(s.data);
                gemmux_packed_free(&whole);
                gemmux_weights_free(&w);
            }
    assert_true(compared > 100);
}

/* 128 MiB of packed weights pass through the host with no more than a tile of them in memory. */
static void test_stream_memory(void **state)
{
    enum { ROWS = 16384, COLS = 4096, MIB = 1 << 20 };
    gemmux_tensor t = {.format = testing_format("bf16"), .count = 1, .rows = ROWS, .cols = COLS};
    gemmux_packed packed;
    (void)state;
    if (SHADOWED)
        skip();
    unsigned char *codes = malloc((size_t)ROWS * COLS * 2);
    assert_non_null(codes);
    memset(codes, 0x3c, (size_t)ROWS * COLS * 2);
    t.codes = codes;
    for (int p = 0; gemmux_packings[p]; p++) {
        if (!gemmux_packings[p]->settled)
            continue;
        sink s = {.before = in_memory()};
        if (!s.before)
            skip(); /* no /proc */
        assert_int_equal(
            gemmux_pack_stream(gemmux_packings[p], &t, NULL, take_piece, &s, &packed, NULL),
            GEMMUX_OK);
        assert_true(s.at >= (int64_t)128 * MIB);
        if (s.most > 20 * MIB)
            fail_msg("%s held %lld MiB", gemmux_packings[p]->name, (long long)(s.most / MIB));
    }
    free(codes);
}

/* Every 4-bit and 8-bit code comes back. */
static void test_every_code(void **state)
{
    (void)state;
    static const char *const small[] = {"e4m3", "e5m2", "int8", "int4", "nf4", "mxfp4"};
    for (int f = 0; f < COUNT(small); f++) {
        unsigned char codes[512];
        float scale[2] = {1, 1};
        for (int i = 0; i < 512; i++)
            codes[i] = (unsigned char)(i * 7 + i / 256);
        gemmux_tensor t = {.format = testing_format(small[f]), .count = 1, .rows = 2};
        t.cols = gemmux_code_bits((gemmux_code)t.format.element) == 4 ? 512 : 256;
        unsigned char scales[2 * 16 * 4] = {0};
        t.codes = codes;
        t.scales = t.format.scaling == GEMMUX_SCALING_GROUP ? (void *)scales : (void *)scale;
        gemmux_packed packed;
        gemmux_weights back;
        assert_int_equal(gemmux_pack(&gemmux_packing_panel16, &t, NULL, &packed, NULL), GEMMUX_OK);
        assert_int_equal(gemmux_unpack(&packed, &back, NULL), GEMMUX_OK);
        assert_memory_equal(back.tensor.codes, codes, 512);
        gemmux_packed_free(&packed);
        gemmux_weights_free(&back);
    }
}

/* The geometry that kernels rely on, where it can be said without repeating the code: panel16
 * takes what is stored plus padding, and 4-bit neighbours stand in one 32-bit lane. */
static void test_panel16_layout(void **state)
{
    (void)state;
    gemmux_format format = testing_format("mxfp4");
    gemmux_panel panel;
    assert_true(gemmux_panel_describe(format, 3, 64, 128, &panel));
    assert_int_equal(panel.matrix_bytes, 64 * 128 / 2 + 64 * 4);
    assert_int_equal(gemmux_packing_panel16.bytes(format, INT64_MAX / 4, 1 << 20, 1 << 20), -1);
    assert_false(gemmux_packing_panel16.accepts(testing_format("int4:g24")));

    unsigned char codes[16 * 16] = {0}, scales[16];
    for (int i = 0; i < 16; i++) {
        scales[i] = (unsigned char)(100 + i);
        for (int k = 0; k < 32; k++)
            codes[i * 16 + k / 2] |= (unsigned char)((k + i) % 16 << k % 2 * 4);
    }
    gemmux_tensor t = {.format = format, .count = 1, .rows = 16, .cols = 32};
    t.codes = codes;
    t.scales = scales;
    gemmux_packed packed;
    assert_int_equal(gemmux_pack(&gemmux_packing_panel16, &t, NULL, &packed, NULL), GEMMUX_OK);
    assert_true(gemmux_panel_describe(format, 1, 16, 32, &panel));
    const uint8_t *strip = gemmux_panel_strip(&panel, &packed, 0, 0);
    assert_memory_equal(strip, scales, 16);
    uint32_t lane;
    memcpy(&lane, strip + panel.codes_at + (1 * 16 + 3) * 4, 4); /* row 3, k 8 .. 15 */
    static const int element[] = {0, 4, 2, 6, 1, 5, 3, 7};
    for (int p = 0; p < 8; p++)
        assert_int_equal(lane >> 4 * p & 15, (8 + element[p] + 3) % 16);
    gemmux_packed_free(&packed);
}

static void test_flags(void **state)
{
    (void)state;
    unsigned char codes[64] = {0};
    float scales[4] = {1, 1, 1, 1};
    gemmux_panel panel;
    gemmux_packed packed;
    gemmux_tensor t = {.format = testing_format("e4m3:row"), .count = 2, .rows = 1, .cols = 32};
    t.codes = codes;
    t.scales = scales;
    for (int bad = 0; bad < 2; bad++) {
        codes[32 + 31] = bad ? 0xff : 0x7e;
        assert_int_equal(gemmux_pack(&gemmux_packing_panel16, &t, NULL, &packed, NULL), GEMMUX_OK);
        assert_true(gemmux_panel_describe(t.format, 2, 1, 32, &panel));
        assert_int_equal(gemmux_panel_flags(&panel, &packed, 0), 0);
        assert_int_equal(gemmux_panel_flags(&panel, &packed, 1), bad ? GEMMUX_PANEL_NONFINITE : 0);
        gemmux_packed_free(&packed);
    }
    unsigned char scale = 0;
    t = (gemmux_tensor){.format = testing_format("mxfp4"), .count = 1, .rows = 1, .cols = 32};
    t.codes = codes;
    t.scales = &scale;
    for (int i = 0; i < 255; i++) {
        scale = (unsigned char)i;
        assert_int_equal(gemmux_pack(&gemmux_packing_panel16, &t, NULL, &packed, NULL), GEMMUX_OK);
        assert_true(gemmux_panel_describe(t.format, 1, 1, 32, &panel));
        assert_int_equal(gemmux_panel_flags(&panel, &packed, 0),
                         i < 17 || i > 238 ? GEMMUX_PANEL_WIDE_SCALE : 0);
        gemmux_packed_free(&packed);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    uint64_t seed = 3;
    gemmux_weights w;
    gemmux_packed packed;
    gemmux_error error;
    gemmux_format format = testing_format("int4:g32"), bf16 = testing_format("bf16");
    testing_weights(&seed, format, 1, 20, 64, &w);
    assert_int_equal(gemmux_pack(&gemmux_packing_panel16, &w.tensor, NULL, &packed, &error),
                     GEMMUX_OK);
    gemmux_problem p = gemmux_problem_linear(1, 20, 64, bf16, format, bf16);
    assert_int_equal(gemmux_packed_expect(&packed, &gemmux_packing_panel16, &p, &error), GEMMUX_OK);
    assert_int_equal(gemmux_packed_expect(&packed, &gemmux_packing_plain, &p, &error),
                     GEMMUX_ERROR_PACKING);
    assert_non_null(strstr(error.text, "panel16"));
    assert_non_null(strstr(error.text, "plain"));
    p.n = 32; /* the same number of strips, another geometry */
    assert_int_equal(gemmux_packed_expect(&packed, &gemmux_packing_panel16, &p, &error),
                     GEMMUX_ERROR_PACKING);
    p.n = 20;
    p.w = testing_format("int4:g64");
    assert_int_equal(gemmux_packed_expect(&packed, &gemmux_packing_panel16, &p, &error),
                     GEMMUX_ERROR_PACKING);
    gemmux_packed_free(&packed);
    gemmux_tensor odd = w.tensor;
    odd.format = testing_format("int4:g24");
    assert_int_equal(gemmux_pack(&gemmux_packing_panel16, &odd, NULL, &packed, &error),
                     GEMMUX_ERROR_PACKING);
    gemmux_weights_free(&w);
}

/* cuBLASLt's own orders of scales: tiles of 128 rows x 4 groups, and rows of blocks padded to 4. */
static void scales_stand_where_cublaslt_reads_them(void **state)
{
    (void)state;
    assert_int_equal(gemmux_lt_tile_at(0, 1, 10), 1);
    assert_int_equal(gemmux_lt_tile_at(1, 0, 10), 16);
    assert_int_equal(gemmux_lt_tile_at(32, 0, 10), 4);
    assert_int_equal(gemmux_lt_tile_at(127, 3, 10), 31 * 16 + 3 * 4 + 3);
    assert_int_equal(gemmux_lt_tile_at(0, 4, 10), 512);
    assert_int_equal(gemmux_lt_tile_at(128, 0, 10), 3 * 512);
    assert_int_equal(gemmux_lt_tile_bytes(129, 10), 2 * 3 * 512);

    gemmux_weights w;
    gemmux_packed packed;
    gemmux_error error;
    gemmux_lt_rows at;
    uint64_t seed = 5;
    testing_weights(&seed, testing_format("e4m3:block128"), 1, 200, 600, &w);
    assert_int_equal(gemmux_pack(&gemmux_packing_cublaslt_rows, &w.tensor, NULL, &packed, &error),
                     GEMMUX_OK);
    assert_true(gemmux_lt_rows_of(w.tensor.format, 200, 600, &at));
    assert_int_equal(at.rows, 208);
    assert_int_equal(at.row_bytes, 608);
    const float *scales = (const float *)(const void *)((const char *)packed.data + at.scales_at);
    const float *stored = w.tensor.scales;
    for (int row = 0; row < 2; row++)
        for (int group = 0; group < 8; group++)
            assert_true(scales[row * 8 + group] == (group < 5 ? stored[row * 5 + group] : 0.0f));
    gemmux_packed_free(&packed);
    gemmux_weights_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scales_stand_where_cublaslt_reads_them),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_stream_memory),
        cmocka_unit_test(test_every_code),
        cmocka_unit_test(test_panel16_layout),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
