/* SPDX-License-Identifier: Apache-2.0
 *
 * What the checkpoint targets do with bytes: open them as a model and load all that was found, or
 * get a sentence that names the file.
 */
#ifndef GEMMUX_WALK_MODEL_H
#define GEMMUX_WALK_MODEL_H

#include "checkpoint/scheme.h"

#include <stdlib.h>
#include <string.h>

static void walk_layer(const gemmux_model *model, int index)
{
    const gemmux_layer *layer = gemmux_model_layer(model, index);
    gemmux_weights weights;
    gemmux_error error = {0};
    if (!layer->name || !layer->group || !layer->scheme ||
        (layer->format.id && (layer->n < 1 || layer->k < 1)))
        abort();
    if (gemmux_model_load(model, index, &weights, &error)) {
        if (!error.text[0])
            abort();
        return;
    }
    const gemmux_tensor *t = &weights.tensor;
    float *row = malloc((size_t)t->cols * sizeof *row);
    if (row) { /* the last row of the last matrix: what lies furthest */
        gemmux_tensor_row_f32(t, t->count - 1, t->rows - 1, row);
        gemmux_tensor_row_f32(t, 0, 0, row);
    }
    free(row);
    gemmux_weights_free(&weights);
    gemmux_model_release(model, index);
}

static void walk_model(const char *name, const void *data, size_t size, const char *config,
                       size_t config_size)
{
    gemmux_model *model = NULL;
    gemmux_error error = {0};
    if (gemmux_model_from_memory(name, data, size, config, config_size, &model, &error)) {
        if (model || !(strstr(error.text, name) || strstr(error.text, "config.json")))
            abort();
        return;
    }
    for (int i = 0; i < gemmux_model_layer_count(model); i++)
        walk_layer(model, i);
    gemmux_model_close(model);
}

#endif
