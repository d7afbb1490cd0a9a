/* SPDX-License-Identifier: Apache-2.0 */
#include "safetensors.h"

#include "error.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Where a tensor lies in the data, for the check that nothing overlaps. */
typedef struct span {
    int64_t begin, end;
    const char *name;
} span;

typedef struct reader {
    gemmux_catalog *catalog;
    int32_t file;
    const char *path;
    const uint8_t *data; /* after the header */
    int64_t data_bytes;
    span *spans;
    size_t span_count;
    gemmux_tensor_filter *filter;
    void *context;
    gemmux_error *error;
} reader;

static gemmux_status read_shape(const reader *r, const char *name, const json_t *entry,
                                gemmux_stored *tensor)
{
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape))
        return gemmux_bad_tensor(r->error, r->path, name, "no array \"shape\"");
    if (json_array_size(shape) > GEMMUX_MAX_RANK)
        return gemmux_bad_tensor(r->error, r->path, name, "%zu dimensions; at most %d are read",
                                 json_array_size(shape), GEMMUX_MAX_RANK);
    tensor->rank = (int32_t)json_array_size(shape);
    for (int i = 0; i < tensor->rank; i++) {
        const json_t *size = json_array_get(shape, (size_t)i);
        if (!json_is_integer(size) || json_integer_value(size) < 0)
            return gemmux_bad_tensor(r->error, r->path, name,
                                     "shape[%d] is not an integer of at least 0", i);
        tensor->shape[i] = json_integer_value(size);
    }
    return GEMMUX_OK;
}

static gemmux_status read_offsets(reader *r, const char *name, const json_t *entry,
                                  gemmux_stored *tensor)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last))
        return gemmux_bad_tensor(r->error, r->path, name, "\"data_offsets\" is not two integers");
    int64_t begin = json_integer_value(first), end = json_integer_value(last);
    if (begin < 0 || end < begin)
        return gemmux_bad_tensor(r->error, r->path, name, "data_offsets [%lld, %lld] are reversed",
                                 (long long)begin, (long long)end);
    if (end > r->data_bytes && !r->catalog->headers_only)
        return gemmux_bad_tensor(r->error, r->path, name,
                                 "its data ends at byte %lld but the file has %lld bytes of data: "
                                 "truncated?",
                                 (long long)end, (long long)r->data_bytes);
    tensor->data = r->data && end <= r->data_bytes ? r->data + begin : NULL;
    tensor->bytes = end - begin;
    r->spans[r->span_count++] = (span){tensor->bytes ? begin : 0, tensor->bytes ? end : 0, name};
    return GEMMUX_OK;
}

static gemmux_status check_bytes(const reader *r, const char *name, const gemmux_stored *tensor)
{
    char shape[128];
    int64_t elements = gemmux_shape_elements(tensor->shape, tensor->rank);
    if (elements < 0)
        return gemmux_bad_tensor(r->error, r->path, name, "shape %s overflows",
                                 gemmux_shape_text(tensor, shape, sizeof shape));
    int64_t bytes = gemmux_dtype_bytes((gemmux_dtype)tensor->dtype, elements);
    if (bytes != tensor->bytes)
        return gemmux_bad_tensor(r->error, r->path, name,
                                 "%s %s needs %lld bytes but data_offsets give %lld",
                                 gemmux_dtype_name((gemmux_dtype)tensor->dtype),
                                 gemmux_shape_text(tensor, shape, sizeof shape), (long long)bytes,
                                 (long long)tensor->bytes);
    return GEMMUX_OK;
}

static gemmux_status read_tensor(reader *r, const char *name, const json_t *entry)
{
    if (!json_is_object(entry))
        return gemmux_bad_tensor(r->error, r->path, name, "its entry is not an object");
    gemmux_stored tensor = {.file = r->file};
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    if (!dtype)
        return gemmux_bad_tensor(r->error, r->path, name, "no string \"dtype\"");
    tensor.dtype = (uint8_t)gemmux_dtype_of_safetensors(dtype);
    if (!tensor.dtype)
        return gemmux_bad_tensor(r->error, r->path, name, "dtype \"%.32s\" is none of the format's",
                                 dtype);
    gemmux_status status = read_shape(r, name, entry, &tensor);
    if (!status)
        status = read_offsets(r, name, entry, &tensor);
    if (!status)
        status = check_bytes(r, name, &tensor);
    if (status)
        return status;
    if (r->filter && !r->filter(r->context, name))
        return GEMMUX_OK;
    return gemmux_catalog_add(r->catalog, &tensor, name, strlen(name), r->error);
}

static int compare_spans(const void *a, const void *b)
{
    const span *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* Nothing overlaps, nothing is left over. */
static gemmux_status check_cover(reader *r)
{
    int64_t covered = 0;
    qsort(r->spans, r->span_count, sizeof *r->spans, compare_spans);
    for (size_t i = 0; i < r->span_count; i++) {
        const span *s = &r->spans[i];
        if (s->begin == s->end)
            continue;
        if (s->begin < covered)
            return gemmux_bad_tensor(r->error, r->path, s->name,
                                     "its data starts at byte %lld, inside tensor '%.80s'",
                                     (long long)s->begin, r->spans[i - 1].name);
        if (s->begin > covered)
            return gemmux_bad_tensor(r->error, r->path, s->name,
                                     "bytes %lld to %lld before it belong to no tensor",
                                     (long long)covered, (long long)s->begin);
        covered = s->end;
    }
    if (covered != r->data_bytes && !(r->catalog->headers_only && covered > r->data_bytes))
        return gemmux_fail(r->error, GEMMUX_ERROR_INPUT,
                           "%s: the last %lld bytes belong to no tensor", r->path,
                           (long long)(r->data_bytes - covered));
    return GEMMUX_OK;
}

static gemmux_status read_header(reader *r, json_t *header)
{
    const char *name;
    json_t *entry;
    r->spans = calloc(json_object_size(header) + 1, sizeof *r->spans);
    if (!r->spans)
        return gemmux_fail(r->error, GEMMUX_ERROR_MEMORY, "%s: out of memory for the header",
                           r->path);
    json_object_foreach(header, name, entry)
    {
        gemmux_status status = GEMMUX_OK;
        if (strcmp(name, "__metadata__") != 0)
            status = read_tensor(r, name, entry);
        else if (!json_is_object(entry))
            status = gemmux_fail(r->error, GEMMUX_ERROR_INPUT,
                                 "%s: \"__metadata__\" is not an object", r->path);
        if (status)
            return status;
    }
    return check_cover(r);
}

/* The header's length, or -1 with the error filled. */
static int64_t header_bytes(const gemmux_file_map *map, gemmux_error *error)
{
    uint64_t length = 0;
    if (map->size < 8) {
        gemmux_fail(error, GEMMUX_ERROR_INPUT, "%s: %lld bytes are too few for a safetensors file",
                    map->path, (long long)map->size);
        return -1;
    }
    for (int i = 7; i >= 0; i--)
        length = length << 8 | map->data[i];
    if (length > GEMMUX_SAFETENSORS_MAX_HEADER) {
        gemmux_fail(error, GEMMUX_ERROR_INPUT,
                    "%s: a header of %llu bytes is absurd (at most %lld): not a safetensors file?",
                    map->path, (unsigned long long)length,
                    (long long)GEMMUX_SAFETENSORS_MAX_HEADER);
        return -1;
    }
    if ((int64_t)length > map->size - 8) {
        gemmux_fail(error, GEMMUX_ERROR_INPUT,
                    "%s: the header has %llu bytes but only %lld follow: truncated?", map->path,
                    (unsigned long long)length, (long long)(map->size - 8));
        return -1;
    }
    return (int64_t)length;
}

gemmux_status gemmux_safetensors_read(gemmux_catalog *catalog, int32_t file,
                                      gemmux_tensor_filter *filter, void *context,
                                      gemmux_error *error)
{
    const gemmux_file_map map = catalog->files[file];
    int64_t length = header_bytes(&map, error);
    if (length < 0)
        return GEMMUX_ERROR_INPUT;
    json_error_t problem;
    json_t *header =
        json_loadb((const char *)map.data + 8, (size_t)length, JSON_REJECT_DUPLICATES, &problem);
    if (!json_is_object(header)) {
        const char *why = header ? "not an object" : problem.text;
        gemmux_status status =
            gemmux_fail(error, GEMMUX_ERROR_INPUT, "%s: the header at byte %d: %s", map.path,
                        header ? 8 : 8 + problem.position, why);
        json_decref(header);
        return status;
    }
    reader r = {.catalog = catalog,
                .file = file,
                .path = map.path,
                .data = map.data + 8 + length,
                .data_bytes = map.size - 8 - length,
                .filter = filter,
                .context = context,
                .error = error};
    gemmux_status status = read_header(&r, header);
    free(r.spans);
    json_decref(header);
    return status;
}
