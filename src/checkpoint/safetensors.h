/* SPDX-License-Identifier: Apache-2.0
 *
 * The safetensors container: one file's header, and an index over several files. Separate from
 * schemes: here a tensor is a name, a type, a shape and bytes, whatever it means.
 *
 * A file is an 8-byte little-endian header length, a JSON header, then the data. As the format's
 * specification asks, tensors must cover the data without hole, overlap or rest.
 */
#ifndef GEMMUX_SAFETENSORS_H
#define GEMMUX_SAFETENSORS_H

#include "catalog.h"

/* The reference implementation refuses longer headers too. */
#define GEMMUX_SAFETENSORS_MAX_HEADER INT64_C(100000000)

/* Which of a file's tensors to take; NULL takes all. */
typedef bool gemmux_tensor_filter(void *context, const char *name);

/* Adds the tensors of files[file] to the catalog. */
gemmux_status gemmux_safetensors_read(gemmux_catalog *catalog, int32_t file,
                                      gemmux_tensor_filter *filter, void *context,
                                      gemmux_error *error);
/* Reads "model.safetensors.index.json" and every file that its weight_map names, which lie in the
 * same folder. */
gemmux_status gemmux_safetensors_index_read(gemmux_catalog *catalog, const char *path,
                                            gemmux_error *error);

#endif
