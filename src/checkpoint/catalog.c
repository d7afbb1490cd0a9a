/* SPDX-License-Identifier: Apache-2.0 */
#include "catalog.h"

#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NAME 1024 /* longer ones are an attack, not a model */

static uint64_t hash_more(uint64_t hash, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
    return hash;
}

#define HASH_START UINT64_C(0xcbf29ce484222325)

gemmux_status gemmux_bad_tensor(gemmux_error *error, const char *path, const char *name,
                                const char *format, ...)
{
    char reason[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    return gemmux_fail(error, GEMMUX_ERROR_INPUT, "%s: tensor '%.120s': %s", path, name, reason);
}

int64_t gemmux_shape_elements(const int64_t *shape, int rank)
{
    int64_t elements = 1;
    for (int i = 0; i < rank; i++) {
        if (!gemmux_mul_size(elements, shape[i], &elements))
            return -1;
    }
    return elements;
}

const char *gemmux_shape_text(const gemmux_stored *tensor, char *buffer, size_t size)
{
    size_t used = 0;
    for (int i = 0; i < tensor->rank && used < size; i++) {
        int wrote = snprintf(buffer + used, size - used, "%s%lld", i ? ", " : "[",
                             (long long)tensor->shape[i]);
        used += wrote > 0 ? (size_t)wrote : size;
    }
    if (used + 1 < size)
        snprintf(buffer + used, size - used, "%s", tensor->rank ? "]" : "[]");
    return buffer;
}

/* Doubles `*array`, at least 8, so that one more element fits. */
static bool grow(void **array, int32_t count, int32_t *room, size_t element)
{
    if (count < *room)
        return true;
    int32_t more = *room < 8 ? 8 : *room > INT32_MAX / 2 ? 0 : *room * 2;
    void *moved = more ? realloc(*array, (size_t)more * element) : NULL;
    if (!moved)
        return false;
    *array = moved;
    *room = more;
    return true;
}

gemmux_status gemmux_catalog_add_file(gemmux_catalog *catalog, gemmux_file_map *map, int32_t *index,
                                      gemmux_error *error)
{
    void *files = catalog->files;
    if (!grow(&files, catalog->file_count, &catalog->file_room, sizeof *catalog->files)) {
        gemmux_file_map_close(map);
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "out of memory for the list of files");
    }
    catalog->files = files;
    *index = catalog->file_count++;
    catalog->files[*index] = *map;
    return GEMMUX_OK;
}

/* The slot that holds prefix + suffix, or the empty one where it belongs. */
static int32_t *find_slot(const gemmux_catalog *catalog, const char *prefix, size_t prefix_length,
                          const char *suffix)
{
    uint64_t hash = hash_more(HASH_START, prefix, prefix_length);
    hash = hash_more(hash, suffix, strlen(suffix));
    uint64_t mask = (uint64_t)catalog->slot_count - 1;
    for (uint64_t i = hash ^ hash >> 32;; i++) {
        int32_t *slot = &catalog->slots[i & mask];
        if (*slot == 0)
            return slot;
        const char *name = catalog->tensors[*slot - 1].name;
        if (strncmp(name, prefix, prefix_length) == 0 && strcmp(name + prefix_length, suffix) == 0)
            return slot;
    }
}

static bool grow_slots(gemmux_catalog *catalog)
{
    if ((int64_t)catalog->count * 2 < catalog->slot_count)
        return true;
    int64_t slot_count = catalog->slot_count ? catalog->slot_count * 2 : 64;
    int32_t *slots = calloc((size_t)slot_count, sizeof *slots);
    if (!slots)
        return false;
    free(catalog->slots);
    catalog->slots = slots;
    catalog->slot_count = slot_count;
    for (int32_t i = 0; i < catalog->count; i++)
        *find_slot(catalog, catalog->tensors[i].name, strlen(catalog->tensors[i].name), "") = i + 1;
    return true;
}

static gemmux_status check_name(const char *path, const char *name, size_t length,
                                gemmux_error *error)
{
    if (length > MAX_NAME)
        return gemmux_fail(error, GEMMUX_ERROR_INPUT,
                           "%s: a tensor's name has %zu bytes; at most %d are read", path, length,
                           MAX_NAME);
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)name[i];
        if (byte < 0x20 || byte == 0x7f)
            return gemmux_fail(error, GEMMUX_ERROR_INPUT,
                               "%s: a tensor's name holds the control character 0x%02x", path,
                               byte);
    }
    return GEMMUX_OK;
}

gemmux_status gemmux_catalog_add(gemmux_catalog *catalog, const gemmux_stored *tensor,
                                 const char *name, size_t length, gemmux_error *error)
{
    const char *path = catalog->files[tensor->file].path;
    gemmux_status status = check_name(path, name, length, error);
    if (status)
        return status;
    char *copy = gemmux_arena_text(&catalog->arena, name, length);
    void *tensors = catalog->tensors;
    if (!copy || !grow(&tensors, catalog->count, &catalog->room, sizeof *catalog->tensors))
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "%s: out of memory for tensor %d", path,
                           catalog->count);
    catalog->tensors = tensors;
    if (!grow_slots(catalog))
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "%s: out of memory for tensor %d", path,
                           catalog->count);
    int32_t *slot = find_slot(catalog, copy, length, "");
    if (*slot)
        return gemmux_bad_tensor(error, path, copy, "the name occurs twice");
    catalog->tensors[catalog->count] = *tensor;
    catalog->tensors[catalog->count].name = copy;
    *slot = ++catalog->count;
    return GEMMUX_OK;
}

int32_t gemmux_catalog_find(const gemmux_catalog *catalog, const char *prefix, size_t prefix_length,
                            const char *suffix)
{
    return catalog->slot_count ? *find_slot(catalog, prefix, prefix_length, suffix) - 1 : -1;
}

const char *gemmux_catalog_path(const gemmux_catalog *catalog, const gemmux_stored *tensor)
{
    return catalog->files[tensor->file].path;
}

void gemmux_catalog_free(gemmux_catalog *catalog)
{
    for (int32_t i = 0; i < catalog->file_count; i++)
        gemmux_file_map_close(&catalog->files[i]);
    free(catalog->files);
    free(catalog->tensors);
    free(catalog->slots);
    gemmux_arena_free(&catalog->arena);
    *catalog = (gemmux_catalog){0};
}
