/* SPDX-License-Identifier: Apache-2.0
 *
 * Models whose weights are not there: a config.json alone, an index without its files, and the
 * configs built into the library. Separate from model.c, which opens what can be run.
 */
#include "error.h"
#include "machine.h"
#include "outline.h"
#include "safetensors.h"
#include "scheme.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_JSON_BYTES INT64_C(200000000)

int gemmux_model_builtin_count(void)
{
    int count = 0;
    while (gemmux_embedded_configs[count].name)
        count++;
    return count;
}

const char *gemmux_model_builtin_name(int index)
{
    return index >= 0 && index < gemmux_model_builtin_count() ? gemmux_embedded_configs[index].name
                                                              : NULL;
}

const char *gemmux_builtin_config(const char *name)
{
    for (const gemmux_embedded *file = gemmux_embedded_configs; file->name; file++) {
        if (strcmp(file->name, name) == 0)
            return file->text;
    }
    return NULL;
}

static gemmux_status add_note(gemmux_model *model, gemmux_error *error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Adds a sentence to model->note. */
static gemmux_status add_note(gemmux_model *model, gemmux_error *error, const char *format, ...)
{
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    model->note =
        gemmux_arena_format(&model->catalog.arena, "%s%s%s", model->note ? model->note : "",
                            model->note ? "; " : "", text);
    return model->note ? GEMMUX_OK : gemmux_fail(error, GEMMUX_ERROR_MEMORY, "out of memory");
}

gemmux_status gemmux_add_outline(gemmux_model *model, const char *path, gemmux_error *error)
{
    const gemmux_shape *shape = &model->config.shape;
    gemmux_file_map map;
    int32_t file = 0;
    gemmux_file_map_memory(path, NULL, 0, &map);
    gemmux_status status = gemmux_catalog_add_file(&model->catalog, &map, &file, error);
    if (!status)
        status = gemmux_outline(&model->catalog, file, &model->config, error);
    if (!status && !model->origin)
        model->origin = "config";
    if (!status && shape->extra_blocks)
        status = add_note(model, error, "%d block%s for predicting further tokens %s left out",
                          shape->extra_blocks, shape->extra_blocks == 1 ? "" : "s",
                          shape->extra_blocks == 1 ? "is" : "are");
    if (!status && shape->multimodal)
        status = add_note(model, error,
                          "only the language model is planned: what the config says about "
                          "images or sound is left out");
    if (!status && !shape->dtype)
        status = add_note(model, error, "the config states no type; bf16 is assumed");
    return status;
}

/* -------------------------------------------------------------------------------------- index */

/* Are all files there that the index names? */
static bool has_files(const json_t *weight_map, const char *path)
{
    const char *slash = strrchr(path, '/'), *tensor, *last = "";
    json_t *value;
    char file[4096];
    json_object_foreach((json_t *)(uintptr_t)weight_map, tensor, value)
    {
        const char *name = json_string_value(value);
        if (!name || strcmp(name, last) == 0)
            continue;
        int length =
            snprintf(file, sizeof file, "%.*s%s", slash ? (int)(slash - path) + 1 : 0, path, name);
        if (length >= (int)sizeof file || access(file, F_OK) != 0)
            return false;
        last = name;
    }
    return true;
}

/* The config's tensors against those that the index lists, which are believed more. */
static gemmux_status compare_index(gemmux_model *model, const json_t *index, gemmux_error *error)
{
    const json_t *weight_map = json_object_get(index, "weight_map");
    int64_t stated =
        json_integer_value(json_object_get(json_object_get(index, "metadata"), "total_size"));
    const gemmux_catalog *catalog = &model->catalog;
    int64_t bytes = 0, missing = 0;
    for (int32_t i = 0; i < catalog->count; i++) {
        bytes += catalog->tensors[i].bytes;
        missing += !json_object_get(weight_map, catalog->tensors[i].name);
    }
    if (!missing && (!stated || stated == bytes))
        return GEMMUX_OK;
    return add_note(model, error,
                    "the index lists %zu tensors of %lld bytes, the config describes %d of "
                    "%lld bytes, %lld of which the index does not have",
                    json_object_size(weight_map), (long long)stated, catalog->count,
                    (long long)bytes, (long long)missing);
}

static gemmux_status open_index(gemmux_model *model, const char *path, const json_t *index,
                                gemmux_error *error)
{
    gemmux_status status = gemmux_read_config(model, path, error);
    if (status)
        return status;
    if (has_files(json_object_get(index, "weight_map"), path))
        return gemmux_safetensors_index_read(&model->catalog, path, error);
    if (!model->config.present)
        return gemmux_fail(error, GEMMUX_ERROR_INPUT,
                           "%.200s: the files that it names are not there, and without a "
                           "config.json beside it nothing states the shapes",
                           path);
    status = gemmux_add_outline(model, path, error);
    return status ? status : compare_index(model, index, error);
}

gemmux_status gemmux_open_json(gemmux_model *model, const char *path, gemmux_error *error)
{
    gemmux_file_map map;
    json_error_t problem;
    json_t *root = NULL;
    gemmux_status status = gemmux_file_map_open(path, &map, error);
    if (status)
        return status;
    if (map.size > MAX_JSON_BYTES)
        status = gemmux_fail(error, GEMMUX_ERROR_INPUT, "%s: a JSON file of %lld bytes is absurd",
                             map.path, (long long)map.size);
    else
        root = json_loadb(map.data ? (const char *)map.data : "", (size_t)map.size,
                          JSON_REJECT_DUPLICATES, &problem);
    if (!status && !root)
        status = gemmux_fail(error, GEMMUX_ERROR_INPUT, "%s:%d: %s", map.path, problem.line,
                             problem.text);
    if (!status && json_object_get(root, "weight_map"))
        status = open_index(model, path, root, error);
    else if (!status)
        status = gemmux_hf_config_parse((const char *)map.data, (size_t)map.size, map.path,
                                        &model->catalog.arena, &model->config, error);
    if (!status && !json_object_get(root, "weight_map"))
        status = gemmux_add_outline(model, path, error);
    json_decref(root);
    gemmux_file_map_close(&map);
    return status;
}
