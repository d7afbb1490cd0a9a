/* SPDX-License-Identifier: Apache-2.0 */
#include "scheme.h"

#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const gemmux_stored *gemmux_part_of(const gemmux_model *model, const gemmux_source *source,
                                    gemmux_part part)
{
    int32_t index = source->part[part];
    return index < 0 ? NULL : &model->catalog.tensors[index];
}

const gemmux_stored *gemmux_sibling(const gemmux_model *model, const gemmux_stored *weight,
                                    size_t stem_length, const char *suffix)
{
    int32_t index = gemmux_catalog_find(&model->catalog, weight->name, stem_length, suffix);
    return index < 0 ? NULL : &model->catalog.tensors[index];
}

const gemmux_stored *gemmux_find_part(const gemmux_model *model, gemmux_source *source,
                                      gemmux_part part, const char *suffix)
{
    const gemmux_stored *weight = gemmux_part_of(model, source, GEMMUX_PART_WEIGHT);
    source->part[part] =
        gemmux_catalog_find(&model->catalog, weight->name, source->stem_length, suffix);
    return gemmux_part_of(model, source, part);
}

gemmux_status gemmux_bad(const gemmux_model *model, const gemmux_stored *tensor,
                         gemmux_error *error, const char *format, ...)
{
    char reason[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    return gemmux_bad_tensor(error, gemmux_catalog_path(&model->catalog, tensor), tensor->name,
                             "%s", reason);
}

gemmux_status gemmux_expect(const gemmux_model *model, const gemmux_stored *tensor,
                            gemmux_dtype dtype, int rank, const int64_t *shape, gemmux_error *error)
{
    char have[128], want[128];
    gemmux_stored wanted = {.rank = rank};
    if (tensor->dtype != dtype)
        return gemmux_bad(model, tensor, error, "its type is %s where %s is needed",
                          gemmux_dtype_name((gemmux_dtype)tensor->dtype), gemmux_dtype_name(dtype));
    bool same = tensor->rank == rank;
    for (int i = 0; i < rank; i++) {
        wanted.shape[i] = shape[i];
        same = same && tensor->shape[i] == shape[i];
    }
    if (!same)
        return gemmux_bad(model, tensor, error, "its shape is %s where %s is needed",
                          gemmux_shape_text(tensor, have, sizeof have),
                          gemmux_shape_text(&wanted, want, sizeof want));
    return GEMMUX_OK;
}

gemmux_status gemmux_find_bias(const gemmux_model *model, gemmux_source *source, const char *suffix,
                               gemmux_error *error)
{
    char shape[128];
    const gemmux_layer *layer = &source->layer;
    const gemmux_stored *bias = gemmux_find_part(model, source, GEMMUX_PART_BIAS, suffix);
    if (!bias)
        return GEMMUX_OK;
    bool stacked = layer->op == GEMMUX_MOE;
    if (gemmux_code_of_float((gemmux_dtype)bias->dtype) == GEMMUX_CODE_NONE)
        return gemmux_bad(model, bias, error, "a bias of type %s is not read",
                          gemmux_dtype_name((gemmux_dtype)bias->dtype));
    if (bias->rank != (stacked ? 2 : 1) || bias->shape[bias->rank - 1] != layer->n ||
        (stacked && bias->shape[0] != layer->experts))
        return gemmux_bad(model, bias, error, "its shape %s does not fit %lld outputs",
                          gemmux_shape_text(bias, shape, sizeof shape), (long long)layer->n);
    source->layer.epilogue |= GEMMUX_EPILOGUE_BIAS;
    return GEMMUX_OK;
}

static char *arena_vformat(gemmux_model *model, const char *format, va_list arguments)
{
    char text[512];
    vsnprintf(text, sizeof text, format, arguments);
    return gemmux_arena_text(&model->catalog.arena, text, strlen(text));
}

gemmux_status gemmux_refuse(gemmux_model *model, gemmux_source *source, gemmux_error *error,
                            const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    source->refusal = arena_vformat(model, format, arguments);
    va_end(arguments);
    source->layer.format = (gemmux_format){0};
    return source->refusal ? GEMMUX_OK : gemmux_fail(error, GEMMUX_ERROR_MEMORY, "out of memory");
}

gemmux_status gemmux_set_scheme(gemmux_model *model, gemmux_source *source, gemmux_error *error,
                                const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    source->layer.scheme = arena_vformat(model, format, arguments);
    va_end(arguments);
    return source->layer.scheme ? GEMMUX_OK
                                : gemmux_fail(error, GEMMUX_ERROR_MEMORY, "out of memory");
}

gemmux_format gemmux_make_format(gemmux_format_id id, gemmux_scaling scaling, gemmux_code scale,
                                 gemmux_zero zero, int32_t group)
{
    gemmux_format format = gemmux_format_of(id);
    format.scaling = (uint8_t)scaling;
    format.scale = (uint8_t)scale;
    format.zero = (uint8_t)zero;
    format.group = (uint16_t)group;
    return format;
}

int32_t gemmux_group_size(int64_t k, int64_t groups, int32_t hint)
{
    if (groups < 1)
        return 0;
    if (groups == 1 && (hint <= 0 || hint >= k))
        return -1;
    if (hint > 0 && hint <= UINT16_MAX && (k + hint - 1) / hint == groups)
        return hint;
    if (k % groups == 0)
        return k / groups <= UINT16_MAX ? (int32_t)(k / groups) : 0;
    int32_t found = 0;
    for (int32_t size = 16; size <= 32768; size *= 2) {
        if ((k + size - 1) / size == groups) {
            if (found)
                return 0;
            found = size;
        }
    }
    return found;
}

gemmux_code gemmux_code_of_float(gemmux_dtype dtype)
{
    return dtype == GEMMUX_DTYPE_F32    ? GEMMUX_CODE_F32
           : dtype == GEMMUX_DTYPE_F16  ? GEMMUX_CODE_F16
           : dtype == GEMMUX_DTYPE_BF16 ? GEMMUX_CODE_BF16
                                        : GEMMUX_CODE_NONE;
}

gemmux_format gemmux_format_of_float(gemmux_dtype dtype)
{
    return gemmux_format_of(dtype == GEMMUX_DTYPE_F32   ? GEMMUX_F32
                            : dtype == GEMMUX_DTYPE_F16 ? GEMMUX_F16
                                                        : GEMMUX_BF16);
}

/* Adds `bytes` rounded up to 64 to *total; false on overflow. */
static bool add_section(int64_t bytes, int64_t *total)
{
    int64_t padded;
    return gemmux_add_size(bytes, 63, &padded) &&
           gemmux_add_size(*total, padded & ~INT64_C(63), total);
}

gemmux_status gemmux_make_room(gemmux_room_bytes bytes, gemmux_weights *weights, gemmux_room *room,
                               gemmux_error *error)
{
    const int64_t sections[6] = {bytes.codes,   bytes.scales, bytes.zeros,
                                 bytes.globals, bytes.bias,   bytes.k_order};
    void *starts[6] = {NULL};
    int64_t total = 0;
    *room = (gemmux_room){0};
    for (int i = 0; i < 6; i++) {
        if (!add_section(sections[i], &total))
            return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "the decoded size overflows");
    }
    if (total == 0)
        return GEMMUX_OK;
    uint8_t *block = aligned_alloc(64, (size_t)total);
    if (!block)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "out of memory for %lld bytes",
                           (long long)total);
    weights->storage = block;
    weights->storage_bytes = (size_t)total;
    for (int i = 0; i < 6; i++) {
        starts[i] = sections[i] ? block : NULL;
        block += (sections[i] + 63) & ~INT64_C(63);
    }
    room->codes = starts[0];
    room->scales = starts[1];
    room->zeros = starts[2];
    room->globals = starts[3];
    room->bias = starts[4];
    room->k_order = starts[5];
    return GEMMUX_OK;
}

static int64_t bias_count(const gemmux_source *source)
{
    int64_t count = source->layer.op == GEMMUX_MOE ? source->layer.experts : 1;
    return source->part[GEMMUX_PART_BIAS] < 0 ? 0 : count * source->layer.n;
}

int64_t gemmux_bias_bytes(const gemmux_source *source)
{
    return bias_count(source) * (int64_t)sizeof(float);
}

gemmux_status gemmux_load_bias(const gemmux_model *model, const gemmux_source *source,
                               const gemmux_room *room, gemmux_weights *weights,
                               gemmux_error *error)
{
    const gemmux_stored *bias = gemmux_part_of(model, source, GEMMUX_PART_BIAS);
    if (!bias)
        return GEMMUX_OK;
    int64_t count = bias_count(source);
    gemmux_to_f32((gemmux_dtype)bias->dtype, bias->data, count, room->bias);
    weights->bias = room->bias;
    return gemmux_check_scales(model, bias, GEMMUX_CODE_F32, room->bias, count, true, error);
}

void gemmux_to_f32(gemmux_dtype dtype, const uint8_t *from, int64_t count, float *to)
{
    for (int64_t i = 0; i < count; i++) {
        uint16_t half;
        double wide;
        switch (dtype) {
        case GEMMUX_DTYPE_F16:
            memcpy(&half, from + i * 2, 2);
            to[i] = (float)gemmux_code_decode(GEMMUX_CODE_F16, half);
            break;
        case GEMMUX_DTYPE_BF16:
            memcpy(&half, from + i * 2, 2);
            to[i] = (float)gemmux_code_decode(GEMMUX_CODE_BF16, half);
            break;
        case GEMMUX_DTYPE_F64:
            memcpy(&wide, from + i * 8, 8);
            to[i] = (float)wide;
            break;
        case GEMMUX_DTYPE_E8M0:
            to[i] = (float)gemmux_code_decode(GEMMUX_CODE_UE8M0, from[i]);
            break;
        default:
            memcpy(&to[i], from + i * 4, 4);
        }
    }
}

/* The bits of one scale: E4M3's where a UE4M3 is stored, sign included. */
static uint32_t scale_bits(int bytes, const uint8_t *scales, int64_t i)
{
    uint16_t half;
    uint32_t word;
    if (bytes == 1)
        return scales[i];
    if (bytes == 2) {
        memcpy(&half, scales + i * 2, 2);
        return half;
    }
    memcpy(&word, scales + i * 4, 4);
    return word;
}

gemmux_status gemmux_check_scales(const gemmux_model *model, const gemmux_stored *tensor,
                                  gemmux_code code, const void *scales, int64_t count,
                                  bool negative, gemmux_error *error)
{
    /* Not finite: all bits of `special` are set. Infinite: and no other but the sign. */
    static const struct {
        uint8_t bytes;
        bool has_infinity;
        uint32_t special, sign;
    } codes[GEMMUX_CODE_COUNT] = {
        [GEMMUX_CODE_F32] = {4, true, 0x7f800000, 0x80000000},
        [GEMMUX_CODE_F16] = {2, true, 0x7c00, 0x8000},
        [GEMMUX_CODE_BF16] = {2, true, 0x7f80, 0x8000},
        [GEMMUX_CODE_UE4M3] = {1, false, 0x7f, 0x80},
        [GEMMUX_CODE_UE8M0] = {1, false, 0xff, 0},
    };
    const uint32_t special = codes[code].special, sign = codes[code].sign;
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits = scale_bits(codes[code].bytes, scales, i);
        if ((bits & special) == special) {
            bool infinite = codes[code].has_infinity && !(bits & ~(special | sign));
            return gemmux_bad(model, tensor, error, "number %lld is %s", (long long)i,
                              infinite ? "infinite" : "not a number (NaN)");
        }
        if (bits > sign && (bits & sign) && !negative)
            return gemmux_bad(model, tensor, error, "scale %lld is negative", (long long)i);
    }
    return GEMMUX_OK;
}

bool gemmux_is_aligned(const gemmux_stored *tensor, size_t element)
{
    return (uintptr_t)tensor->data % element == 0;
}

bool gemmux_is_scalar(const gemmux_stored *tensor)
{
    return gemmux_shape_elements(tensor->shape, tensor->rank) == 1;
}

void gemmux_turn(const uint8_t *from, uint8_t *to, int64_t count, int64_t n, int64_t k, size_t size)
{
    const int64_t side = 32; /* squares that stay in the cache */
    const size_t matrix = (size_t)(n * k) * size;
    for (int64_t m = 0; m < count; m++, from += matrix, to += matrix)
        for (int64_t n0 = 0; n0 < n; n0 += side)
            for (int64_t k0 = 0; k0 < k; k0 += side)
                for (int64_t i = n0; i < n && i < n0 + side; i++)
                    for (int64_t j = k0; j < k && j < k0 + side; j++)
                        memcpy(to + (size_t)(i * k + j) * size, from + (size_t)(j * n + i) * size,
                               size);
}

const gemmux_hf_group *gemmux_hint(const gemmux_model *model, const gemmux_source *source)
{
    const char *name = gemmux_part_of(model, source, GEMMUX_PART_WEIGHT)->name;
    const gemmux_hf_config *config = &model->config;
    if (config->group_count == 1) /* most of them; names need not be matched */
        return config->groups;
    return config->present ? gemmux_hf_module(config, name, source->stem_length) : NULL;
}
