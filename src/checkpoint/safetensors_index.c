/* SPDX-License-Identifier: Apache-2.0 */
#include "error.h"
#include "safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define MAX_INDEX_BYTES INT64_C(200000000)

/* What the filter needs: the map and the shard that is being read. */
typedef struct shard {
    const json_t *weight_map;
    const char *name;
} shard;

typedef struct reader {
    gemmux_catalog *catalog;
    const char *path, *shown; /* as given, and shortened for messages */
    json_t *weight_map, *seen;
    gemmux_error *error;
} reader;

static bool belongs(void *context, const char *name)
{
    const shard *s = context;
    const char *home = json_string_value(json_object_get(s->weight_map, name));
    return home && strcmp(home, s->name) == 0;
}

static bool is_plain_name(const char *name)
{
    return *name && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static gemmux_status read_shard(const reader *r, const char *name)
{
    const char *slash = strrchr(r->path, '/');
    size_t folder_length = slash ? (size_t)(slash - r->path) + 1 : 0;
    size_t room = folder_length + strlen(name) + 1;
    char *path = malloc(room);
    if (!path)
        return gemmux_fail(r->error, GEMMUX_ERROR_MEMORY, "out of memory for a path");
    memcpy(path, r->path, folder_length);
    memcpy(path + folder_length, name, room - folder_length);
    gemmux_file_map map;
    int32_t file = 0;
    shard s = {r->weight_map, name};
    gemmux_status status = gemmux_file_map_open(path, &map, r->error);
    free(path);
    if (!status)
        status = gemmux_catalog_add_file(r->catalog, &map, &file, r->error);
    if (!status)
        status = gemmux_safetensors_read(r->catalog, file, belongs, &s, r->error);
    return status;
}

/* Reads each shard once, then looks for tensors that were promised and are not there. */
static gemmux_status read_shards(const reader *r)
{
    const char *tensor;
    json_t *value;
    json_object_foreach(r->weight_map, tensor, value)
    {
        const char *name = json_string_value(value);
        if (!name || !is_plain_name(name))
            return gemmux_bad_tensor(r->error, r->shown, tensor,
                                     "weight_map does not give the name of a file beside it");
        if (json_object_get(r->seen, name))
            continue;
        if (json_object_set_new(r->seen, name, json_true()) != 0)
            return gemmux_fail(r->error, GEMMUX_ERROR_MEMORY, "%s: out of memory", r->shown);
        gemmux_status status = read_shard(r, name);
        if (status)
            return status;
    }
    json_object_foreach(r->weight_map, tensor, value)
    {
        if (gemmux_catalog_find(r->catalog, tensor, strlen(tensor), "") < 0)
            return gemmux_bad_tensor(r->error, r->shown, tensor,
                                     "weight_map places it in %.120s, which does not hold it",
                                     json_string_value(value));
    }
    return GEMMUX_OK;
}

static gemmux_status read_index(gemmux_catalog *catalog, const char *path,
                                const gemmux_file_map *file, gemmux_error *error)
{
    if (file->size > MAX_INDEX_BYTES)
        return gemmux_fail(error, GEMMUX_ERROR_INPUT, "%s: an index of %lld bytes is absurd",
                           file->path, (long long)file->size);
    json_error_t problem;
    json_t *root = json_loadb(file->data ? (const char *)file->data : "", (size_t)file->size,
                              JSON_REJECT_DUPLICATES, &problem);
    reader r = {catalog,       path, file->path, json_object_get(root, "weight_map"),
                json_object(), error};
    gemmux_status status;
    if (!root)
        status = gemmux_fail(error, GEMMUX_ERROR_INPUT, "%s:%d: %s", file->path, problem.line,
                             problem.text);
    else if (!json_is_object(r.weight_map) || json_object_size(r.weight_map) == 0)
        status = gemmux_fail(error, GEMMUX_ERROR_INPUT, "%s: no \"weight_map\" with tensors",
                             file->path);
    else if (!r.seen)
        status = gemmux_fail(error, GEMMUX_ERROR_MEMORY, "%s: out of memory", file->path);
    else
        status = read_shards(&r);
    json_decref(r.seen);
    json_decref(root);
    return status;
}

gemmux_status gemmux_safetensors_index_read(gemmux_catalog *catalog, const char *path,
                                            gemmux_error *error)
{
    gemmux_file_map file;
    gemmux_status status = gemmux_file_map_open(path, &file, error);
    if (status)
        return status;
    status = read_index(catalog, path, &file, error);
    gemmux_file_map_close(&file);
    return status;
}
