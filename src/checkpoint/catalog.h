/* SPDX-License-Identifier: Apache-2.0
 *
 * The tensors of an open checkpoint, whichever container they came from: name, type, shape and
 * bytes, found by name in constant time. Separate from containers and from schemes because it is
 * all that the one hands to the other.
 */
#ifndef GEMMUX_CATALOG_H
#define GEMMUX_CATALOG_H

#include "arena.h"
#include "dtypes.h"
#include "file_map.h"

#define GEMMUX_MAX_RANK 8

typedef struct gemmux_stored {
    const char *name;
    const uint8_t *data; /* NULL where only headers are there */
    int64_t bytes;
    int64_t shape[GEMMUX_MAX_RANK]; /* outermost first, also for GGUF */
    int32_t rank;
    int32_t file;       /* index of its gemmux_file_map */
    uint32_t ggml_type; /* GGUF: the number in the file, for types we do not know */
    uint8_t dtype;      /* gemmux_dtype */
} gemmux_stored;

typedef struct gemmux_catalog {
    gemmux_arena arena;
    gemmux_file_map *files;
    int32_t file_count, file_room;
    gemmux_stored *tensors;
    int32_t count, room;
    int32_t *slots; /* open addressing: index of a tensor + 1, or 0; slot_count is a power of two */
    int64_t slot_count;
    bool headers_only; /* tensors whose bytes are not in the file are no error: data is NULL */
} gemmux_catalog;

/* Takes over the mapping, also when it fails. */
gemmux_status gemmux_catalog_add_file(gemmux_catalog *catalog, gemmux_file_map *map, int32_t *index,
                                      gemmux_error *error);
/* Copies the name. Fails on a name that is there already or holds control characters. */
gemmux_status gemmux_catalog_add(gemmux_catalog *catalog, const gemmux_stored *tensor,
                                 const char *name, size_t length, gemmux_error *error);
/* Index of the tensor called prefix followed by suffix, or -1. */
int32_t gemmux_catalog_find(const gemmux_catalog *catalog, const char *prefix, size_t prefix_length,
                            const char *suffix);
const char *gemmux_catalog_path(const gemmux_catalog *catalog, const gemmux_stored *tensor);
void gemmux_catalog_free(gemmux_catalog *catalog);

/* Elements of a shape; -1 on a negative size or overflow. */
int64_t gemmux_shape_elements(const int64_t *shape, int rank);
/* "[3, 4]". Returns buffer. */
const char *gemmux_shape_text(const gemmux_stored *tensor, char *buffer, size_t size);

/* "PATH: tensor 'NAME': " and the reason; GEMMUX_ERROR_INPUT. */
gemmux_status gemmux_bad_tensor(gemmux_error *error, const char *path, const char *name,
                                const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
