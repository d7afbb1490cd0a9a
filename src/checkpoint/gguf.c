/* SPDX-License-Identifier: Apache-2.0 */
#include "gguf.h"

#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "wildcard.h"

#define MAX_DEPTH      4       /* arrays of arrays; llama.cpp writes none */
#define MAX_DIMENSIONS 4       /* GGML_MAX_DIMS */
#define MAX_ALIGNMENT  1048576 /* the specification names no limit; 32 is usual */

/* A piece of the file. */
typedef struct slice {
    const uint8_t *data;
    uint64_t size;
} slice;

typedef struct tensor_info {
    slice name;
    gemmux_stored stored;
    uint64_t offset;
} tensor_info;

typedef struct reader {
    gemmux_catalog *catalog;
    int32_t file;
    const char *path;
    const uint8_t *data;
    uint64_t size, at;
    uint64_t tensor_count, pair_count;
    uint32_t alignment;
    gemmux_gguf_info *info;
    gemmux_error *error;
} reader;

bool gemmux_is_gguf(const gemmux_file_map *map)
{
    return map->size >= 4 && memcmp(map->data, "GGUF", 4) == 0;
}

static gemmux_status truncated(const reader *r, const char *what)
{
    return gemmux_fail(r->error, GEMMUX_ERROR_INPUT,
                       "%s: %s at byte %llu runs past the end of the file (%llu bytes): truncated?",
                       r->path, what, (unsigned long long)r->at, (unsigned long long)r->size);
}

/* Takes `bytes` bytes as a little-endian number. */
static bool take(reader *r, size_t bytes, uint64_t *out)
{
    if (r->size - r->at < bytes)
        return false;
    *out = 0;
    for (size_t i = bytes; i-- > 0;)
        *out = *out << 8 | r->data[r->at + i];
    r->at += bytes;
    return true;
}

/* A length and that many bytes. */
static bool take_text(reader *r, slice *out)
{
    if (!take(r, 8, &out->size) || r->size - r->at < out->size)
        return false;
    out->data = r->data + r->at;
    r->at += out->size;
    return true;
}

static bool is_text(slice text, const char *word)
{
    return text.size == strlen(word) && memcmp(text.data, word, text.size) == 0;
}

static bool ends_in(slice text, const char *end)
{
    return gemmux_slice_ends_with((const char *)text.data, text.size, end);
}

/* ---------------------------------------------------------------------------- key-value pairs --
 */

enum { TYPE_STRING = 8, TYPE_ARRAY = 9, TYPE_COUNT = 13 };

/* Bytes of one value: u8 i8 u16 i16 u32 i32 f32 bool string array u64 i64 f64. */
static const uint8_t value_bytes[TYPE_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

static bool is_integer(uint64_t type)
{
    return type <= 5 || type == 10 || type == 11;
}

static gemmux_status skip_array(reader *r, int depth);

/* Steps over one value; strings come back in *text, numbers of up to 8 bytes in *number. */
static gemmux_status take_value(reader *r, uint64_t type, int depth, uint64_t *number, slice *text)
{
    if (type >= TYPE_COUNT)
        return gemmux_fail(r->error, GEMMUX_ERROR_INPUT,
                           "%s: a value at byte %llu has the unknown type %llu", r->path,
                           (unsigned long long)r->at, (unsigned long long)type);
    if (type == TYPE_ARRAY)
        return skip_array(r, depth);
    if (type == TYPE_STRING)
        return take_text(r, text) ? GEMMUX_OK : truncated(r, "a string");
    return take(r, value_bytes[type], number) ? GEMMUX_OK : truncated(r, "a value");
}

static gemmux_status skip_array(reader *r, int depth)
{
    uint64_t type, count, number;
    slice text;
    if (depth == MAX_DEPTH)
        return gemmux_fail(r->error, GEMMUX_ERROR_INPUT,
                           "%s: arrays at byte %llu are nested more than %d deep", r->path,
                           (unsigned long long)r->at, MAX_DEPTH);
    if (!take(r, 4, &type) || !take(r, 8, &count))
        return truncated(r, "an array");
    if (type < TYPE_COUNT && value_bytes[type]) {
        if (count > (r->size - r->at) / value_bytes[type])
            return truncated(r, "an array");
        r->at += count * value_bytes[type];
        return GEMMUX_OK;
    }
    for (uint64_t i = 0; i < count; i++) { /* each takes at least 8 bytes, so this ends */
        gemmux_status status = take_value(r, type, depth + 1, &number, &text);
        if (status)
            return status;
    }
    return GEMMUX_OK;
}

static gemmux_status note_alignment(reader *r, uint64_t type, uint64_t number)
{
    if (!is_integer(type) || number == 0 || number > MAX_ALIGNMENT || (number & (number - 1)))
        return gemmux_fail(r->error, GEMMUX_ERROR_INPUT,
                           "%s: general.alignment is not a power of two up to %d", r->path,
                           MAX_ALIGNMENT);
    r->alignment = (uint32_t)number;
    return GEMMUX_OK;
}

/* A size of the architecture; the first file that states it wins. */
static void note_size(gemmux_shape *s, slice key, uint64_t number)
{
    const struct {
        const char *end;
        int64_t *wide;
        int32_t *narrow;
    } sizes[] = {{".embedding_length", &s->hidden, NULL},
                 {".vocab_size", &s->vocab, NULL},
                 {".context_length", &s->max_context, NULL},
                 {".attention.sliding_window", &s->window, NULL},
                 {".block_count", NULL, &s->blocks},
                 {".attention.head_count", NULL, &s->heads},
                 {".attention.head_count_kv", NULL, &s->kv_heads},
                 {".attention.key_length", NULL, &s->head},
                 {".attention.value_length", NULL, &s->v_head},
                 {".attention.kv_lora_rank", NULL, &s->kv_rank},
                 {".rope.dimension_count", NULL, &s->qk_rope}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (!ends_in(key, sizes[i].end) || number > INT32_MAX)
            continue;
        if (sizes[i].wide && !*sizes[i].wide)
            *sizes[i].wide = (int64_t)number;
        if (sizes[i].narrow && !*sizes[i].narrow)
            *sizes[i].narrow = (int32_t)number;
    }
}

/* Keeps what we want to know. */
static gemmux_status note_pair(reader *r, slice key, uint64_t type, uint64_t number, slice text)
{
    gemmux_gguf_info *info = r->info;
    bool small = is_integer(type) && number < 65536;
    if (is_text(key, "general.alignment"))
        return note_alignment(r, type, number);
    if (is_text(key, "general.architecture") && type == TYPE_STRING && !info->architecture) {
        for (uint64_t i = 0; i < text.size; i++) {
            if (text.data[i] < 0x20 || text.data[i] == 0x7f)
                return gemmux_fail(r->error, GEMMUX_ERROR_INPUT,
                                   "%s: general.architecture holds control characters", r->path);
        }
        info->architecture =
            gemmux_arena_text(&r->catalog->arena, (const char *)text.data, (size_t)text.size);
        if (!info->architecture)
            return gemmux_fail(r->error, GEMMUX_ERROR_MEMORY, "%s: out of memory", r->path);
    }
    if (ends_in(key, ".expert_used_count") && small && !info->top_k)
        info->top_k = (int32_t)number;
    if (is_integer(type))
        note_size(&info->shape, key, number);
    if (is_text(key, "split.count") && small && !info->split_count)
        info->split_count = (int32_t)number;
    return GEMMUX_OK;
}

static int compare_slices(const void *a, const void *b)
{
    const slice *x = a, *y = b;
    int order = memcmp(x->data, y->data, x->size < y->size ? x->size : y->size);
    return order ? order : (x->size > y->size) - (x->size < y->size);
}

static gemmux_status check_keys(const reader *r, slice *keys, size_t count)
{
    qsort(keys, count, sizeof *keys, compare_slices);
    for (size_t i = 1; i < count; i++) {
        if (compare_slices(&keys[i - 1], &keys[i]) == 0)
            return gemmux_fail(r->error, GEMMUX_ERROR_INPUT, "%s: the key '%.*s' occurs twice",
                               r->path, keys[i].size < 120 ? (int)keys[i].size : 120,
                               (const char *)keys[i].data);
    }
    return GEMMUX_OK;
}

static gemmux_status read_pairs(reader *r)
{
    gemmux_status status = GEMMUX_OK;
    if (r->pair_count > (r->size - r->at) / 13) /* a key's length, a type, one byte */
        return gemmux_fail(r->error, GEMMUX_ERROR_INPUT,
                           "%s: %llu key-value pairs do not fit the file: truncated?", r->path,
                           (unsigned long long)r->pair_count);
    slice *keys = calloc((size_t)r->pair_count + 1, sizeof *keys);
    if (!keys)
        return gemmux_fail(r->error, GEMMUX_ERROR_MEMORY, "%s: out of memory", r->path);
    for (uint64_t i = 0; i < r->pair_count && !status; i++) {
        uint64_t type = 0, number = 0;
        slice text = {0};
        if (!take_text(r, &keys[i]) || !take(r, 4, &type))
            status = truncated(r, "a key");
        if (!status)
            status = take_value(r, type, 0, &number, &text);
        if (!status)
            status = note_pair(r, keys[i], type, number, text);
    }
    if (!status)
        status = check_keys(r, keys, (size_t)r->pair_count);
    free(keys);
    return status;
}

/* -------------------------------------------------------------------------------- tensor infos --
 */

static gemmux_status bad_info(const reader *r, const tensor_info *t, const char *reason)
{
    char name[128];
    size_t length = t->name.size < sizeof name - 1 ? (size_t)t->name.size : sizeof name - 1;
    memcpy(name, t->name.data, length);
    name[length] = '\0';
    return gemmux_bad_tensor(r->error, r->path, name, "%s", reason);
}

/* Sizes in the file run from the innermost; ours from the outermost. */
static gemmux_status take_shape(reader *r, tensor_info *t)
{
    uint64_t rank, size;
    if (!take(r, 4, &rank))
        return truncated(r, "a tensor's dimensions");
    if (rank > MAX_DIMENSIONS)
        return bad_info(r, t, "more than 4 dimensions");
    t->stored.rank = (int32_t)rank;
    for (int i = (int)rank - 1; i >= 0; i--) {
        if (!take(r, 8, &size))
            return truncated(r, "a tensor's dimensions");
        if (size > INT64_MAX)
            return bad_info(r, t, "its shape overflows");
        t->stored.shape[i] = (int64_t)size;
    }
    return GEMMUX_OK;
}

static gemmux_status measure(const reader *r, tensor_info *t)
{
    gemmux_stored *s = &t->stored;
    int64_t elements = gemmux_shape_elements(s->shape, s->rank);
    if (elements < 0)
        return bad_info(r, t, "its shape overflows");
    if (!s->dtype)
        return GEMMUX_OK; /* of unknown size */
    int block = gemmux_dtype_block((gemmux_dtype)s->dtype);
    if (block > 1 && (s->rank == 0 || s->shape[s->rank - 1] % block != 0))
        return bad_info(r, t, "its rows do not fill whole blocks of its type");
    s->bytes = gemmux_dtype_bytes((gemmux_dtype)s->dtype, elements);
    return s->bytes < 0 ? bad_info(r, t, "its shape overflows") : GEMMUX_OK;
}

static gemmux_status take_info(reader *r, tensor_info *t)
{
    uint64_t type;
    *t = (tensor_info){.stored.file = r->file};
    if (!take_text(r, &t->name))
        return truncated(r, "a tensor's name");
    gemmux_status status = take_shape(r, t);
    if (status)
        return status;
    if (!take(r, 4, &type) || !take(r, 8, &t->offset))
        return truncated(r, "a tensor's info");
    t->stored.ggml_type = (uint32_t)type;
    t->stored.dtype = (uint8_t)gemmux_dtype_of_ggml((uint32_t)type);
    if (t->offset % r->alignment)
        return bad_info(r, t, "its offset is not a multiple of general.alignment");
    return measure(r, t);
}

static int compare_offsets(const void *a, const void *b)
{
    const tensor_info *x = *(const tensor_info *const *)a, *y = *(const tensor_info *const *)b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return (x->stored.bytes > y->stored.bytes) - (x->stored.bytes < y->stored.bytes);
}

static bool is_there(const tensor_info *t, uint64_t data_bytes)
{
    return t->offset <= data_bytes && (uint64_t)t->stored.bytes <= data_bytes - t->offset;
}

/* Within the data, and none inside another. */
static gemmux_status check_places(const reader *r, tensor_info *infos, tensor_info **sorted,
                                  uint64_t data_bytes)
{
    for (uint64_t i = 0; i < r->tensor_count; i++) {
        const tensor_info *t = &infos[i];
        bool absurd = t->offset > INT64_MAX / 2; /* so that offset + bytes is no overflow */
        if (!is_there(t, data_bytes) && (absurd || !r->catalog->headers_only))
            return bad_info(r, t, "its data runs past the end of the file: truncated?");
        sorted[i] = &infos[i];
    }
    qsort(sorted, (size_t)r->tensor_count, sizeof *sorted, compare_offsets);
    uint64_t end = 0;
    for (uint64_t i = 0; i < r->tensor_count; i++) {
        if (sorted[i]->stored.bytes == 0)
            continue;
        if (sorted[i]->offset < end)
            return bad_info(r, sorted[i], "its data overlaps another tensor's");
        end = sorted[i]->offset + (uint64_t)sorted[i]->stored.bytes;
    }
    return GEMMUX_OK;
}

static gemmux_status read_infos(reader *r, tensor_info *infos, tensor_info **sorted)
{
    gemmux_status status = GEMMUX_OK;
    for (uint64_t i = 0; i < r->tensor_count && !status; i++)
        status = take_info(r, &infos[i]);
    if (status)
        return status;
    uint64_t start = (r->at + r->alignment - 1) / r->alignment * r->alignment;
    uint64_t data_bytes = start < r->size ? r->size - start : 0;
    status = check_places(r, infos, sorted, data_bytes);
    for (uint64_t i = 0; i < r->tensor_count && !status; i++) {
        tensor_info *t = &infos[i];
        t->stored.data = data_bytes && is_there(t, data_bytes) ? r->data + start + t->offset : NULL;
        status = gemmux_catalog_add(r->catalog, &t->stored, (const char *)t->name.data,
                                    (size_t)t->name.size, r->error);
    }
    return status;
}

static gemmux_status read_tensors(reader *r)
{
    if (r->tensor_count > (r->size - r->at) / 24) /* a name's length, dimensions, type, offset */
        return gemmux_fail(r->error, GEMMUX_ERROR_INPUT,
                           "%s: %llu tensors do not fit the file: truncated?", r->path,
                           (unsigned long long)r->tensor_count);
    tensor_info *infos = calloc((size_t)r->tensor_count + 1, sizeof *infos);
    tensor_info **sorted = calloc((size_t)r->tensor_count + 1, sizeof *sorted);
    gemmux_status status =
        infos && sorted ? read_infos(r, infos, sorted)
                        : gemmux_fail(r->error, GEMMUX_ERROR_MEMORY, "%s: out of memory", r->path);
    free(infos);
    free(sorted);
    return status;
}

static gemmux_status read_start(reader *r)
{
    uint64_t version;
    r->at = 4; /* the magic, which the caller has seen */
    if (!take(r, 4, &version) || !take(r, 8, &r->tensor_count) || !take(r, 8, &r->pair_count))
        return truncated(r, "the header");
    if (version && !(version & 0xffff))
        return gemmux_fail(r->error, GEMMUX_ERROR_INPUT,
                           "%s: a big-endian GGUF file; only little-endian ones are read", r->path);
    if (version != 2 && version != 3)
        return gemmux_fail(r->error, GEMMUX_ERROR_INPUT,
                           "%s: GGUF version %llu; versions 2 and 3 are read", r->path,
                           (unsigned long long)version);
    return GEMMUX_OK;
}

gemmux_status gemmux_gguf_read(gemmux_catalog *catalog, int32_t file, gemmux_gguf_info *info,
                               gemmux_error *error)
{
    const gemmux_file_map map = catalog->files[file];
    reader r = {.catalog = catalog,
                .file = file,
                .path = map.path,
                .data = map.data,
                .size = (uint64_t)map.size,
                .alignment = 32,
                .info = info,
                .error = error};
    gemmux_status status = read_start(&r);
    if (!status)
        status = read_pairs(&r);
    return status ? status : read_tensors(&r);
}
