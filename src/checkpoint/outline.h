/* SPDX-License-Identifier: Apache-2.0
 *
 * The tensors that a checkpoint has, from its config.json alone: names, types and shapes as
 * transformers writes them, without bytes behind them. Separate from layers.c, which then finds the
 * products among them as it does in a file: planning from a config and planning from the weights go
 * the same way.
 */
#ifndef GEMMUX_OUTLINE_H
#define GEMMUX_OUTLINE_H

#include "catalog.h"
#include "hf_config.h"

/* Adds the tensors; catalog->files[file] names the config in errors. Fails, and says why, on an
 * architecture or a quantisation whose tensors are not known. */
gemmux_status gemmux_outline(gemmux_catalog *catalog, int32_t file, const gemmux_hf_config *config,
                             gemmux_error *error);

/* ------------------------------------------------------------- shared with outline_quantised.c */

/* Being written. Nothing is added any more once status is not GEMMUX_OK. */
typedef struct gemmux_outliner {
    gemmux_catalog *catalog;
    int32_t file;
    const gemmux_hf_config *config;
    gemmux_dtype dtype; /* of what is not quantised */
    gemmux_status status;
    gemmux_error *error;
} gemmux_outliner;

/* One tensor NAME + suffix; `data` of the arena where a scheme reads the contents, else NULL. */
void gemmux_outline_tensor(gemmux_outliner *o, const char *name, const char *suffix,
                           gemmux_dtype dtype, int rank, const int64_t *shape, const void *data);
/* The tensors of a linear's quantised weight. False: this module is not quantised. */
bool gemmux_outline_quantised(gemmux_outliner *o, const char *name, int64_t n, int64_t k);

#endif
