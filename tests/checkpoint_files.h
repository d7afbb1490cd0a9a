/* SPDX-License-Identifier: Apache-2.0
 *
 * Small checkpoints made in memory and on disk, for the tests of src/checkpoint.
 */
#ifndef GEMMUX_CHECKPOINT_FILES_H
#define GEMMUX_CHECKPOINT_FILES_H

#include "testing.h"

#include "checkpoint/scheme.h"

#include <sys/stat.h>
#include <unistd.h>

typedef struct bytes {
    uint8_t *data;
    size_t size;
} bytes;

static inline void bytes_add(bytes *b, const void *data, size_t size)
{
    b->data = realloc(b->data, b->size + size + 1);
    assert_non_null(b->data);
    if (size)
        memcpy(b->data + b->size, data, size);
    b->size += size;
}

static inline void bytes_number(bytes *b, uint64_t value, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = (uint8_t)(value >> (8 * i));
        bytes_add(b, &byte, 1);
    }
}

/* A safetensors file: this header, then `data_bytes` bytes that count up. */
static inline bytes safetensors_file(const char *header, size_t data_bytes)
{
    bytes b = {0};
    bytes_number(&b, strlen(header), 8);
    bytes_add(&b, header, strlen(header));
    for (size_t i = 0; i < data_bytes; i++)
        bytes_number(&b, i, 1);
    return b;
}

/* Opens bytes that stay alive; fails the test when that fails. */
static inline gemmux_model *open_bytes(bytes b, const char *config)
{
    gemmux_model *model = NULL;
    gemmux_error error = {GEMMUX_OK, ""};
    if (gemmux_model_from_memory("memory", b.data, b.size, config, config ? strlen(config) : 0,
                                 &model, &error))
        fail_msg("%s", error.text);
    return model;
}

/* Opening must fail with GEMMUX_ERROR_INPUT and a text that holds each of up to three words. */
static inline void expect_refused(bytes b, const char *config, const char *const words[3])
{
    gemmux_model *model = NULL;
    gemmux_error error = {GEMMUX_OK, ""};
    gemmux_status status = gemmux_model_from_memory("memory", b.data, b.size, config,
                                                    config ? strlen(config) : 0, &model, &error);
    if (status != GEMMUX_ERROR_INPUT || model)
        fail_msg("status %d, expected bad input that says \"%s\"; text: %s", status, words[0],
                 error.text);
    for (int i = 0; i < 3 && words[i]; i++) {
        if (!strstr(error.text, words[i]))
            fail_msg("\"%s\" does not say \"%s\"", error.text, words[i]);
    }
}

static inline const gemmux_layer *layer_called(const gemmux_model *model, const char *name,
                                               int *index)
{
    for (int i = 0; i < gemmux_model_layer_count(model); i++) {
        const gemmux_layer *layer = gemmux_model_layer(model, i);
        if (strcmp(layer->name, name) == 0) {
            if (index)
                *index = i;
            return layer;
        }
    }
    fail_msg("no layer %s", name);
    return NULL;
}

/* Loading must fail with GEMMUX_ERROR_INPUT and a text that holds each of up to three words. */
static inline void expect_not_loaded(const gemmux_model *model, const char *layer,
                                     const char *const words[3])
{
    int index = 0;
    gemmux_weights weights;
    gemmux_error error = {GEMMUX_OK, ""};
    layer_called(model, layer, &index);
    assert_int_equal(gemmux_model_load(model, index, &weights, &error), GEMMUX_ERROR_INPUT);
    assert_null(weights.storage);
    for (int i = 0; i < 3 && words[i]; i++) {
        if (!strstr(error.text, words[i]))
            fail_msg("\"%s\" does not say \"%s\"", error.text, words[i]);
    }
}

/* A folder of its own for one test. */
static inline void make_folder(char path[64])
{
    snprintf(path, 64, "/tmp/gemmux-test-XXXXXX");
    assert_non_null(mkdtemp(path));
}

static inline void write_file(const char *folder, const char *name, const void *data, size_t size)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static inline void write_text(const char *folder, const char *name, const char *text)
{
    write_file(folder, name, text, strlen(text));
}

static inline void remove_folder(const char *folder)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
}

#endif
