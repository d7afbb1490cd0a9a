/* SPDX-License-Identifier: Apache-2.0
 *
 * The GGUF container, versions 2 and 3, little-endian: key-value pairs, tensor infos, data.
 * Separate from scheme_gguf.c, which knows what the blocks of a type mean.
 */
#ifndef GEMMUX_GGUF_H
#define GEMMUX_GGUF_H

#include "catalog.h"
#include "shape.h"

/* What the key-value pairs say that we want to know. */
typedef struct gemmux_gguf_info {
    const char *architecture; /* general.architecture; NULL when not stated */
    int32_t top_k;            /* ARCH.expert_used_count; 0 when not stated */
    int32_t split_count;      /* split.count: files of the whole model; 0 when not split */
    gemmux_shape shape;       /* what ARCH.block_count and its like state */
} gemmux_gguf_info;

bool gemmux_is_gguf(const gemmux_file_map *map);
/* Adds the tensors of files[file] to the catalog. Types that we do not know are added with no
 * bytes; an info that is stated already stays. */
gemmux_status gemmux_gguf_read(gemmux_catalog *catalog, int32_t file, gemmux_gguf_info *info,
                               gemmux_error *error);

#endif
