/* SPDX-License-Identifier: Apache-2.0 */
#include "dtypes.h"

#include "error.h"

#include <string.h>

typedef struct row {
    const char *safetensors, *gguf;
    int32_t number;
    int16_t elements, bytes;
} row;

static const row rows[GEMMUX_DTYPE_COUNT] = {[GEMMUX_DTYPE_UNKNOWN] = {.number = -1},
#define ROW(id, safetensors, gguf, number, elements, bytes)                                        \
    [GEMMUX_DTYPE_##id] = {safetensors, gguf, number, elements, bytes},
                                             GEMMUX_DTYPE_LIST(ROW)
#undef ROW
};

gemmux_dtype gemmux_dtype_of_safetensors(const char *name)
{
    for (int i = 1; i < GEMMUX_DTYPE_COUNT; i++) {
        if (rows[i].safetensors && strcmp(rows[i].safetensors, name) == 0)
            return (gemmux_dtype)i;
    }
    return GEMMUX_DTYPE_UNKNOWN;
}

gemmux_dtype gemmux_dtype_of_ggml(uint32_t number)
{
    for (int i = 1; i < GEMMUX_DTYPE_COUNT; i++) {
        if (rows[i].number >= 0 && (uint32_t)rows[i].number == number)
            return (gemmux_dtype)i;
    }
    return GEMMUX_DTYPE_UNKNOWN;
}

const char *gemmux_dtype_name(gemmux_dtype dtype)
{
    const row *found = &rows[dtype];
    return found->safetensors ? found->safetensors : found->gguf ? found->gguf : "?";
}

int gemmux_dtype_block(gemmux_dtype dtype)
{
    return rows[dtype].elements;
}

int gemmux_dtype_block_bytes(gemmux_dtype dtype)
{
    return rows[dtype].bytes;
}

int64_t gemmux_dtype_bytes(gemmux_dtype dtype, int64_t elements)
{
    int64_t bytes = 0;
    if (elements < 0 || rows[dtype].elements == 0 || elements % rows[dtype].elements != 0)
        return -1;
    return gemmux_mul_size(elements / rows[dtype].elements, rows[dtype].bytes, &bytes) ? bytes : -1;
}
