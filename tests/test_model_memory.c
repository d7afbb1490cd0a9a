/* SPDX-License-Identifier: Apache-2.0
 *
 * What an open checkpoint holds in memory: pages of the layer in use and no others, none after it
 * is released, none of the file behind a decoded copy. Measured on the file's own mapping
 * (/proc/self/smaps), so allocators do not matter.
 */
#include "checkpoint_files.h"

enum { LAYERS = 4, ROWS = 4096, COLS = 2048 };

/* A fault maps some neighbours as well, at either end of a layer: 64 KiB on Linux, or the whole of
 * a large folio, 2 MiB. */
#define SLACK (((int64_t)2 << 20) + ((int64_t)192 << 10))

/* Bytes of the named file that are in memory through mappings of this process. */
static int64_t resident(const char *name)
{
    char line[512];
    int64_t total = 0;
    bool ours = false;
    FILE *file = fopen("/proc/self/smaps", "r");
    if (!file)
        return -1;
    while (fgets(line, sizeof line, file)) {
        if (strchr(line, '-') && strchr(line, '-') < strchr(line, ' '))
            ours = strstr(line, name) != NULL;
        else if (ours && !strncmp(line, "Rss:", 4))
            total += strtoll(line + 4, NULL, 10) << 10;
    }
    fclose(file);
    return total;
}

/* The header, and behind it all layers' bytes, as a file. */
static void write_layers(const char *folder, const char *name, bytes *header, size_t bytes_each)
{
    uint8_t *data = malloc(bytes_each * LAYERS);
    memset(data, 0x11, bytes_each * LAYERS);
    bytes_add(header, data, bytes_each * LAYERS);
    write_file(folder, name, header->data, header->size);
    free(data);
    free(header->data);
}

static void write_model(const char *folder)
{
    char header[1024] = "{";
    size_t bytes_each = (size_t)ROWS * COLS * 2;
    for (size_t i = 0; i < LAYERS; i++) {
        size_t used = strlen(header);
        snprintf(header + used, sizeof header - used,
                 "%s\"l.%zu.weight\":{\"dtype\":\"BF16\",\"shape\":[%d,%d],\"data_offsets\":[%zu,"
                 "%zu]}",
                 i ? "," : "", i, ROWS, COLS, i * bytes_each, (i + 1) * bytes_each);
    }
    strcat(header, "}");
    while (strlen(header) % 8)
        strcat(header, " ");
    bytes b = safetensors_file(header, 0);
    write_layers(folder, "resident-view.safetensors", &b, bytes_each);
}

/* The same shapes as GGUF Q8_0, which is decoded into a copy. */
static void write_gguf(const char *folder)
{
    bytes b = {0};
    size_t bytes_each = (size_t)ROWS * COLS / 32 * 34;
    bytes_add(&b, "GGUF", 4);
    bytes_number(&b, 3, 4);
    bytes_number(&b, LAYERS, 8);
    bytes_number(&b, 0, 8);
    for (size_t i = 0; i < LAYERS; i++) {
        char name[16];
        snprintf(name, sizeof name, "l.%zu.weight", i);
        bytes_number(&b, strlen(name), 8);
        bytes_add(&b, name, strlen(name));
        bytes_number(&b, 2, 4);
        bytes_number(&b, COLS, 8);
        bytes_number(&b, ROWS, 8);
        bytes_number(&b, 8, 4);
        bytes_number(&b, i * bytes_each, 8);
    }
    while (b.size % 32)
        bytes_number(&b, 0, 1);
    write_layers(folder, "resident-copy.gguf", &b, bytes_each);
}

static unsigned sum_codes(const gemmux_tensor *t)
{
    const uint8_t *codes = t->codes;
    size_t size = (size_t)(gemmux_row_bytes(t->format, t->cols) * t->rows);
    unsigned sum = 0;
    for (size_t i = 0; i < size; i += 512)
        sum += codes[i];
    return sum;
}

/* Loads every layer in turn; `held` is what may stay in memory while one is in use. */
static void walk(const char *folder, const char *name, int64_t held)
{
    char path[128];
    gemmux_model *model = NULL;
    gemmux_error error = {GEMMUX_OK, ""};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (gemmux_model_open(path, &model, &error))
        fail_msg("%s", error.text);
    assert_int_equal(gemmux_model_layer_count(model), LAYERS);
    assert_true(resident(name) <= SLACK); /* the header alone */
    for (int i = 0; i < LAYERS; i++) {
        gemmux_weights w;
        assert_int_equal(gemmux_model_load(model, i, &w, &error), GEMMUX_OK);
        assert_true(sum_codes(&w.tensor) > 0);
        int64_t now = resident(name);
        if (now > held + SLACK || now < held - SLACK)
            fail_msg("layer %d holds %lld bytes of the file, expected about %lld", i,
                     (long long)now, (long long)held);
        assert_true((int64_t)w.storage_bytes <= (int64_t)ROWS * COLS * 2);
        gemmux_weights_free(&w);
        gemmux_model_release(model, i);
        assert_true(resident(name) <= SLACK * (i + 2));
    }
    gemmux_model_close(model);
    assert_int_equal(resident(name), 0);
}

static void one_layer_at_a_time_is_held(void **state)
{
    (void)state;
    char folder[64];
    if (resident("nothing") < 0)
        skip(); /* no /proc */
    make_folder(folder);
    write_model(folder);
    walk(folder, "resident-view.safetensors", (int64_t)ROWS * COLS * 2);
    write_gguf(folder);
    walk(folder, "resident-copy.gguf", 0);
    remove_folder(folder);
}

/* A view has no storage at all; releasing it twice, or what is not there, does no harm. */
static void release_is_only_advice(void **state)
{
    (void)state;
    char folder[64], path[128];
    gemmux_model *model = NULL;
    gemmux_weights w;
    make_folder(folder);
    write_model(folder);
    snprintf(path, sizeof path, "%s/resident-view.safetensors", folder);
    assert_int_equal(gemmux_model_open(path, &model, NULL), GEMMUX_OK);
    assert_int_equal(gemmux_model_load(model, 2, &w, NULL), GEMMUX_OK);
    assert_null(w.storage);
    unsigned before = sum_codes(&w.tensor);
    gemmux_model_release(model, 2);
    gemmux_model_release(model, 2);
    gemmux_model_release(model, LAYERS);
    gemmux_model_release(model, -1);
    gemmux_model_release(NULL, 0);
    assert_int_equal(sum_codes(&w.tensor), before); /* the view reads the file again */
    gemmux_weights_free(&w);
    gemmux_model_close(model);
    remove_folder(folder);
}

/* The time to open grows with the number of tensors, not with its square: 20,000 tensors whose
 * names differ at the end only. A quadratic search would take minutes and meet ctest's limit. */
static void many_tensors_are_found(void **state)
{
    (void)state;
    enum { MANY = 20000 };
    bytes header = {0};
    char entry[160];
    bytes_add(&header, "{", 1);
    for (int i = 0; i < MANY; i++) {
        int length =
            snprintf(entry, sizeof entry,
                     "%s\"model.layers.%d.mlp.up_proj.weight\":{\"dtype\":\"U8\",\"shape\":"
                     "[1,1],\"data_offsets\":[%d,%d]}",
                     i ? "," : "", i, i, i + 1);
        bytes_add(&header, entry, (size_t)length);
    }
    bytes_add(&header, "}", 2); /* with the NUL */
    bytes b = safetensors_file((const char *)header.data, MANY);
    gemmux_model *model = open_bytes(b, NULL);
    assert_int_equal(gemmux_model_layer_count(model), MANY);
    assert_string_equal(gemmux_model_layer(model, MANY - 1)->name,
                        "model.layers.19999.mlp.up_proj");
    gemmux_model_close(model);
    free(header.data);
    free(b.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_layer_at_a_time_is_held),
        cmocka_unit_test(release_is_only_advice),
        cmocka_unit_test(many_tensors_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
