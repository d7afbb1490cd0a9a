/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening a checkpoint: which files belong to it, what its config says. Everything about bytes is
 * in the containers, everything about meaning in layers.c and the schemes.
 */
#include "error.h"
#include "gguf.h"
#include "nearest.h"
#include "safetensors.h"
#include "scheme.h"
#include "wildcard.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* "FOLDER/name" for the folder of `path`, allocated. */
static char *beside(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    size_t folder = slash ? (size_t)(slash - path) + 1 : 0, length = strlen(name) + 1;
    char *joined = malloc(folder + length);
    if (joined) {
        memcpy(joined, path, folder);
        memcpy(joined + folder, name, length);
    }
    return joined;
}

/* ----------------------------------------------------------------------------------- config -- */

/* Maps the file beside `path` if it is there: *found tells. */
static gemmux_status map_beside(const char *path, const char *name, gemmux_file_map *map,
                                bool *found, gemmux_error *error)
{
    char *config = beside(path, name);
    if (!config)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "out of memory for a path");
    *found = access(config, F_OK) == 0;
    gemmux_status status = *found ? gemmux_file_map_open(config, map, error) : GEMMUX_OK;
    free(config);
    return status;
}

gemmux_status gemmux_read_config(gemmux_model *model, const char *path, gemmux_error *error)
{
    static const struct {
        const char *name;
        gemmux_hf_method method;
    } quant_files[] = {{"hf_quant_config.json", GEMMUX_HF_MODELOPT},
                       {"quantize_config.json", GEMMUX_HF_GPTQ},
                       {"quant_config.json", GEMMUX_HF_AWQ}};
    gemmux_hf_config *config = &model->config;
    gemmux_file_map map;
    bool found;
    gemmux_status status = map_beside(path, "config.json", &map, &found, error);
    if (status || !found)
        return status;
    status = gemmux_hf_config_parse((const char *)map.data, (size_t)map.size, map.path,
                                    &model->catalog.arena, config, error);
    gemmux_file_map_close(&map);
    for (size_t i = 0; i < sizeof quant_files / sizeof quant_files[0] && !status; i++) {
        if (config->method != GEMMUX_HF_NONE)
            break;
        status = map_beside(path, quant_files[i].name, &map, &found, error);
        if (status || !found)
            continue;
        status = gemmux_hf_quant_parse((const char *)map.data, (size_t)map.size, map.path,
                                       quant_files[i].method, &model->catalog.arena, config, error);
        gemmux_file_map_close(&map);
    }
    return status;
}

/* --------------------------------------------------------------------------------- opening -- */

/* An encoder has no output head that could be its input table. */
static bool is_encoder(const char *architecture)
{
    static const char *const parts[] = {"bert", "clip", "encoder", "embedding", NULL};
    for (const char *const *part = parts; architecture && *part; part++) {
        if (strstr(architecture, *part))
            return true;
    }
    return false;
}

static gemmux_status read_gguf(gemmux_model *model, int32_t file, gemmux_gguf_info *info,
                               gemmux_error *error)
{
    gemmux_status status = gemmux_gguf_read(&model->catalog, file, info, error);
    model->is_gguf = true;
    model->name = info->architecture;
    model->top_k = info->top_k;
    model->shape = info->shape;
    model->headless = model->headless || is_encoder(info->architecture);
    return status;
}

/* Adds the mapped file and its tensors. */
static gemmux_status read_map(gemmux_model *model, gemmux_file_map *map, gemmux_gguf_info *info,
                              gemmux_error *error)
{
    int32_t file = 0;
    bool gguf = gemmux_is_gguf(map);
    gemmux_status status = gemmux_catalog_add_file(&model->catalog, map, &file, error);
    if (status)
        return status;
    return gguf ? read_gguf(model, file, info, error)
                : gemmux_safetensors_read(&model->catalog, file, NULL, NULL, error);
}

/* "model-00001-of-00003.safetensors" alone: tensors are missing, so their absence says nothing. */
static bool is_one_of_many(const char *path)
{
    const char *of = strstr(path, "-of-");
    return of && strspn(of + 4, "0123456789") == 5 && strncmp(of + 4, "00001.", 6) != 0;
}

/* llama.cpp splits a model into NAME-00001-of-0000N.gguf; each file has headers of its own. */
static gemmux_status read_split(gemmux_model *model, const char *path, gemmux_gguf_info *info,
                                gemmux_error *error)
{
    char mark[32];
    long number = -1;
    char *end = NULL;
    size_t length = strlen(path), tail = strlen("-00001-of-00003.gguf");
    snprintf(mark, sizeof mark, "-of-%05d.gguf", info->split_count);
    if (length >= tail && gemmux_ends_with(path, mark) && path[length - tail] == '-')
        number = strtol(path + length - tail + 1, &end, 10);
    if (!end || number < 0 || end != path + length - tail + 6)
        return gemmux_fail(error, GEMMUX_ERROR_INPUT,
                           "%.200s: it is one of %d files, and its name does not end in "
                           "-00001-of-%05d.gguf, by which the others would be found",
                           path, info->split_count, info->split_count);
    char *other = strdup(path);
    if (!other)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "out of memory for a path");
    gemmux_status status = GEMMUX_OK;
    for (int i = 1; i <= info->split_count && !status; i++) {
        gemmux_file_map map;
        if (i == number)
            continue;
        snprintf(mark, sizeof mark, "%05d", i); /* five digits: read above, and i is no more */
        memcpy(other + length - tail + 1, mark, 5);
        status = gemmux_file_map_open(other, &map, error);
        if (!status)
            status = read_map(model, &map, info, error);
    }
    free(other);
    return status;
}

static gemmux_status open_file(gemmux_model *model, const char *path, gemmux_error *error)
{
    gemmux_file_map map;
    gemmux_gguf_info info = {0};
    gemmux_status status = GEMMUX_OK;
    if (gemmux_ends_with(path, ".json") && model->catalog.headers_only)
        return gemmux_open_json(model, path, error);
    if (gemmux_ends_with(path, ".json")) {
        status = gemmux_read_config(model, path, error);
        return status ? status : gemmux_safetensors_index_read(&model->catalog, path, error);
    }
    status = gemmux_file_map_open(path, &map, error);
    if (status)
        return status;
    if (!gemmux_is_gguf(&map)) {
        model->headless = is_one_of_many(path);
        status = gemmux_read_config(model, path, error);
    }
    if (status) {
        gemmux_file_map_close(&map);
        return status;
    }
    status = read_map(model, &map, &info, error);
    if (!status && info.split_count > 1)
        status = read_split(model, path, &info, error);
    return status;
}

/* What a folder holds; of each kind the first found and their number. */
typedef struct folder {
    char *index, *single, *gguf, *split; /* split: the first of a GGUF model's several files */
    int index_count, single_count, gguf_count, split_count;
} folder;

static void note(char **first, int *count, const char *prefix, const char *name)
{
    if ((*count)++ == 0)
        *first = beside(prefix, name);
}

static void look(DIR *directory, const char *prefix, folder *f)
{
    for (const struct dirent *entry; (entry = readdir(directory));) {
        if (gemmux_ends_with(entry->d_name, ".safetensors.index.json"))
            note(&f->index, &f->index_count, prefix, entry->d_name);
        else if (gemmux_ends_with(entry->d_name, ".safetensors"))
            note(&f->single, &f->single_count, prefix, entry->d_name);
        else if (gemmux_ends_with(entry->d_name, ".gguf"))
            note(&f->gguf, &f->gguf_count, prefix, entry->d_name);
        if (gemmux_ends_with(entry->d_name, ".gguf") && strstr(entry->d_name, "-00001-of-"))
            note(&f->split, &f->split_count, prefix, entry->d_name);
    }
}

/* The usual names win over others of their kind. */
static char *usual(const char *prefix, const char *name, char *found, int count)
{
    char *path = beside(prefix, name);
    if (path && access(path, F_OK) == 0)
        return path;
    free(path);
    return count == 1 && found ? strdup(found) : NULL;
}

static gemmux_status open_found(gemmux_model *model, const char *prefix, const folder *f,
                                gemmux_error *error)
{
    char *path = usual(prefix, "model.safetensors.index.json", f->index, f->index_count);
    if (!path)
        path = usual(prefix, "model.safetensors", f->single, f->single_count);
    if (!path && f->gguf_count == 1 && f->single_count == 0)
        path = f->gguf ? strdup(f->gguf) : NULL;
    if (!path && f->split_count == 1 && f->single_count == 0)
        path = f->split ? strdup(f->split) : NULL;
    if (!path && model->catalog.headers_only && f->single_count == 0 && f->gguf_count == 0)
        path = usual(prefix, "config.json", NULL, 0);
    if (!path)
        return gemmux_fail(error, GEMMUX_ERROR_INPUT,
                           "%.200s: needs model.safetensors, model.safetensors.index.json or one "
                           ".gguf file; it holds %d index, %d .safetensors and %d .gguf files",
                           prefix, f->index_count, f->single_count, f->gguf_count);
    gemmux_status status = open_file(model, path, error);
    free(path);
    return status;
}

static gemmux_status open_folder(gemmux_model *model, const char *path, gemmux_error *error)
{
    folder f = {0};
    DIR *directory = opendir(path);
    if (!directory)
        return gemmux_fail(error, GEMMUX_ERROR_IO, "%.300s: %s", path, strerror(errno));
    size_t length = strlen(path);
    char *prefix = malloc(length + 2);
    gemmux_status status;
    if (prefix) {
        snprintf(prefix, length + 2, "%s/", path);
        look(directory, prefix, &f);
        status = open_found(model, prefix, &f, error);
    } else {
        status = gemmux_fail(error, GEMMUX_ERROR_MEMORY, "out of memory for a path");
    }
    closedir(directory);
    free(prefix);
    free(f.index);
    free(f.single);
    free(f.gguf);
    free(f.split);
    return status;
}

/* Layers from what has been read, or everything freed again. */
static gemmux_status finish(gemmux_model *model, gemmux_status status, gemmux_model **result,
                            gemmux_error *error)
{
    if (!status) {
        if (!model->is_gguf) {
            model->name = model->config.architecture;
            model->top_k = model->config.top_k;
            model->shape = model->config.shape;
        }
        status = gemmux_find_layers(model, error);
    }
    if (status)
        gemmux_model_close(model);
    else
        *result = model;
    return status;
}

static gemmux_model *new_model(gemmux_model **result, gemmux_error *error)
{
    *result = NULL;
    gemmux_model *model = calloc(1, sizeof *model);
    if (!model)
        gemmux_fail(error, GEMMUX_ERROR_MEMORY, "out of memory for a model");
    else
        model->config = (gemmux_hf_config){
            .model_type = "", .tied = -1, .reordered = -1, .version = "", .layout = ""};
    return model;
}

static gemmux_status open_config(gemmux_model *model, const char *name, const char *config,
                                 size_t size, gemmux_error *error)
{
    gemmux_status status =
        gemmux_hf_config_parse(config, size, name, &model->catalog.arena, &model->config, error);
    return status ? status : gemmux_add_outline(model, name, error);
}

static gemmux_status unknown_name(const char *name, gemmux_error *error)
{
    enum { ROOM = 64 };
    const char *names[ROOM];
    int count = gemmux_model_builtin_count();
    for (int i = 0; i < count && i < ROOM; i++)
        names[i] = gemmux_model_builtin_name(i);
    const char *near = gemmux_nearest(name, strlen(name), names, count < ROOM ? count : ROOM);
    return gemmux_fail(error, GEMMUX_ERROR_INPUT,
                       "'%.200s' is neither a file, a directory nor a built-in model%s%s%s", name,
                       near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
}

static gemmux_status open_path(const char *path, bool headers_only, gemmux_model **result,
                               gemmux_error *error)
{
    struct stat facts;
    if (!path || !result)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT, "gemmux_model_open: no path or no result");
    gemmux_model *model = new_model(result, error);
    if (!model)
        return GEMMUX_ERROR_MEMORY;
    model->catalog.headers_only = headers_only;
    gemmux_status status;
    bool found = stat(path, &facts) == 0;
    const char *config = headers_only && !found ? gemmux_builtin_config(path) : NULL;
    if (config) {
        model->origin = "built-in";
        status = open_config(model, path, config, strlen(config), error);
    } else if (!found && headers_only && !strchr(path, '/') && errno == ENOENT)
        status = unknown_name(path, error);
    else if (!found)
        status = gemmux_fail(error, GEMMUX_ERROR_IO, "%.300s: %s", path, strerror(errno));
    else if (S_ISDIR(facts.st_mode))
        status = open_folder(model, path, error);
    else
        status = open_file(model, path, error);
    return finish(model, status, result, error);
}

gemmux_status gemmux_model_open(const char *path, gemmux_model **result, gemmux_error *error)
{
    return open_path(path, false, result, error);
}

gemmux_status gemmux_model_open_headers(const char *path, gemmux_model **result,
                                        gemmux_error *error)
{
    return open_path(path, true, result, error);
}

gemmux_status gemmux_model_from_memory(const char *name, const void *data, size_t size,
                                       const char *config, size_t config_size,
                                       gemmux_model **result, gemmux_error *error)
{
    gemmux_file_map map;
    gemmux_model *model = new_model(result, error);
    if (!model)
        return GEMMUX_ERROR_MEMORY;
    gemmux_status status = GEMMUX_OK;
    if (config)
        status = gemmux_hf_config_parse(config, config_size, "config.json", &model->catalog.arena,
                                        &model->config, error);
    gemmux_file_map_memory(name, data, size, &map);
    if (!status)
        status = read_map(model, &map, &(gemmux_gguf_info){0}, error);
    return finish(model, status, result, error);
}

gemmux_status gemmux_model_from_config(const char *name, const char *config, size_t size,
                                       gemmux_model **result, gemmux_error *error)
{
    gemmux_model *model = new_model(result, error);
    if (!model)
        return GEMMUX_ERROR_MEMORY;
    return finish(model, open_config(model, name, config, size, error), result, error);
}

void gemmux_model_close(gemmux_model *model)
{
    if (!model)
        return;
    gemmux_catalog_free(&model->catalog);
    free(model->sources);
    free(model);
}

/* ---------------------------------------------------------------------------------- reading -- */

const char *gemmux_model_kind(const gemmux_model *model)
{
    return model->is_gguf ? "gguf" : model->origin ? model->origin : "safetensors";
}

const char *gemmux_model_name(const gemmux_model *model)
{
    return model->name;
}

const char *gemmux_model_note(const gemmux_model *model)
{
    return model->note;
}

int gemmux_model_tensor_count(const gemmux_model *model)
{
    return model->catalog.count;
}

int gemmux_model_layer_count(const gemmux_model *model)
{
    return model->source_count;
}

const gemmux_layer *gemmux_model_layer(const gemmux_model *model, int index)
{
    return index >= 0 && index < model->source_count ? &model->sources[index].layer : NULL;
}

void gemmux_drop_pages(const gemmux_model *model, const gemmux_source *source)
{
    for (int i = 0; i < GEMMUX_PART_COUNT; i++) {
        const gemmux_stored *part = gemmux_part_of(model, source, (gemmux_part)i);
        if (part)
            gemmux_file_map_drop(&model->catalog.files[part->file], part->data, part->bytes);
    }
    for (int32_t i = 0; source->members && i < source->layer.experts; i++)
        gemmux_drop_pages(model, &source->members[i]);
}

static bool has_data(const gemmux_model *model, const gemmux_source *source)
{
    for (int i = 0; i < GEMMUX_PART_COUNT; i++) {
        const gemmux_stored *part = gemmux_part_of(model, source, (gemmux_part)i);
        if (part && part->bytes && !part->data)
            return false;
    }
    for (int32_t i = 0; source->members && i < source->layer.experts; i++) {
        if (!has_data(model, &source->members[i]))
            return false;
    }
    return true;
}

/* A decoded copy does not need the file's pages any more; a view does. */
static bool is_view(const gemmux_model *model, const gemmux_source *source,
                    const gemmux_weights *weights)
{
    const gemmux_stored *weight = gemmux_part_of(model, source, GEMMUX_PART_WEIGHT);
    uintptr_t codes = (uintptr_t)weights->tensor.codes, data = (uintptr_t)weight->data;
    return codes >= data && codes < data + (uintptr_t)weight->bytes;
}

gemmux_status gemmux_model_load(const gemmux_model *model, int index, gemmux_weights *weights,
                                gemmux_error *error)
{
    if (!model || !weights || index < 0 || index >= model->source_count)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT, "there is no layer %d", index);
    const gemmux_source *source = &model->sources[index];
    const gemmux_layer *layer = &source->layer;
    *weights = (gemmux_weights){0};
    if (!has_data(model, source))
        return gemmux_fail(error, GEMMUX_ERROR_INPUT,
                           "layer '%.200s': its weights are not there, only what describes them",
                           layer->name);
    if (source->refusal)
        return gemmux_bad(model, gemmux_part_of(model, source, GEMMUX_PART_WEIGHT), error, "%s",
                          source->refusal);
    weights->tensor = (gemmux_tensor){.format = layer->format,
                                      .count = layer->op == GEMMUX_MOE ? layer->experts : 1,
                                      .rows = layer->n,
                                      .cols = layer->k};
    gemmux_status status = source->members ? gemmux_load_stack(model, source, weights, error)
                                           : source->scheme->load(model, source, weights, error);
    if (status) {
        free(weights->storage);
        *weights = (gemmux_weights){0};
    }
    if (status || !is_view(model, source, weights))
        gemmux_drop_pages(model, source);
    return status;
}

void gemmux_model_release(const gemmux_model *model, int index)
{
    if (model && index >= 0 && index < model->source_count)
        gemmux_drop_pages(model, &model->sources[index]);
}
