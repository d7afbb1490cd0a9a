/* SPDX-License-Identifier: Apache-2.0
 *
 * Reordered columns: GPTQ with act-order gives every column the number of its group (g_idx), in any
 * order. gemmux's groups are neighbours, so columns are sorted by group and k_order says which
 * column of x each one meets.
 */
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "format.h"
#include "scheme.h"

static int32_t at(const gemmux_stored *g_idx, int64_t j)
{
    int32_t group;
    memcpy(&group, g_idx->data + j * 4, 4);
    return group;
}

/* Groups in range, and whether column j is in group j / group already. compressed-tensors writes
 * -1 everywhere where nothing was reordered. */
static gemmux_status look(const gemmux_model *model, const gemmux_stored *g_idx, int64_t k,
                          int64_t groups, int32_t group, bool *plain, gemmux_error *error)
{
    bool in_order = true;
    int64_t unset = 0;
    for (int64_t j = 0; j < k; j++) {
        int32_t g = at(g_idx, j);
        in_order = in_order && g == (group > 0 ? j / group : 0);
        unset += g == -1;
        if (g != -1 && (g < 0 || g >= groups))
            return gemmux_bad(model, g_idx, error, "column %lld is in group %d of %lld",
                              (long long)j, g, (long long)groups);
    }
    if (unset && unset < k)
        return gemmux_bad(model, g_idx, error, "%lld of %lld columns are in no group",
                          (long long)unset, (long long)k);
    *plain = in_order || unset;
    return GEMMUX_OK;
}

gemmux_status gemmux_order_columns(const gemmux_model *model, const gemmux_stored *g_idx, int64_t k,
                                   int64_t groups, int32_t group, int32_t *k_order, bool *plain,
                                   gemmux_error *error)
{
    gemmux_status status = look(model, g_idx, k, groups, group, plain, error);
    if (status || *plain)
        return status;
    int64_t *next = calloc((size_t)groups + 1, sizeof *next);
    if (!next)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "out of memory for %lld groups",
                           (long long)groups);
    for (int64_t g = 0; g < groups; g++)
        next[g] = g * group;
    for (int64_t j = 0; j < k && !status; j++) {
        int32_t g = at(g_idx, j);
        int64_t end = (g + INT64_C(1)) * group < k ? (g + INT64_C(1)) * group : k;
        if (g < 0 || next[g] >= end)
            status = gemmux_bad(model, g_idx, error,
                                "group %d has more than its %lld columns, so they cannot be sorted "
                                "into groups of %d",
                                g, (long long)(end - g * (int64_t)group), group);
        else
            k_order[next[g]++] = (int32_t)j;
    }
    free(next);
    return status; /* no group has too many, so none has too few */
}

gemmux_status gemmux_permute_codes(uint8_t *codes, int64_t rows, int64_t k, gemmux_code code,
                                   const int32_t *k_order, gemmux_error *error)
{
    int64_t bytes = (k * gemmux_code_bits(code) + 7) / 8;
    uint8_t *row = malloc((size_t)bytes + 1);
    if (!row)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "out of memory for a row");
    for (int64_t i = 0; i < rows; i++, codes += bytes) {
        memcpy(row, codes, (size_t)bytes);
        for (int64_t j = 0; j < k; j++)
            gemmux_code_store(code, codes, j, gemmux_code_load(code, row, k_order[j]));
    }
    free(row);
    return GEMMUX_OK;
}
