/* SPDX-License-Identifier: Apache-2.0
 *
 * Packing as a type: seal, expect, verify, unpack. The layouts themselves are in packings/.
 */
#include "packing.h"

#include "error.h"
#include "kernel.h"
#include "pages.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Four interleaved FNV-1a streams over 8-byte words, folded at the end: one multiply a word is a
 * chain, four chains keep up with memory. */
static const uint64_t prime = UINT64_C(0x100000001b3);

void gemmux_digest_start(gemmux_digest *digest)
{
    *digest = (gemmux_digest){.lanes = {UINT64_C(0xcbf29ce484222325), 1, 2, 3}};
}

void gemmux_digest_add(gemmux_digest *digest, const void *piece, int64_t bytes)
{
    const unsigned char *p = piece;
    uint64_t h[4];
    int64_t i = 0;
    memcpy(h, digest->lanes, sizeof h);
    for (; i + 32 <= bytes; i += 32)
        for (int lane = 0; lane < 4; lane++) {
            uint64_t word;
            memcpy(&word, p + i + 8 * lane, 8);
            h[lane] = (h[lane] ^ word) * prime;
            h[lane] ^= h[lane] >> 29;
        }
    for (; i < bytes; i += 8) {
        uint64_t word = 0;
        memcpy(&word, p + i, bytes - i < 8 ? (size_t)(bytes - i) : 8);
        h[0] = (h[0] ^ word) * prime;
    }
    memcpy(digest->lanes, h, sizeof h);
    digest->bytes += bytes;
}

uint64_t gemmux_digest_end(const gemmux_digest *digest)
{
    uint64_t h = digest->lanes[0];
    for (int lane = 1; lane < 4; lane++)
        h = (h ^ digest->lanes[lane]) * prime;
    return (h ^ (uint64_t)digest->bytes) * prime;
}

uint64_t gemmux_checksum(const void *data, int64_t bytes)
{
    gemmux_digest digest;
    gemmux_digest_start(&digest);
    gemmux_digest_add(&digest, data, bytes);
    return gemmux_digest_end(&digest);
}

typedef struct pack_context {
    const gemmux_tensor *w;
    gemmux_packed *packed;
    int64_t first, last;
    int64_t rows_per_item;
    int64_t items_per_matrix;
} pack_context;

static void pack_item(void *context, size_t i)
{
    const pack_context *c = context;
    int64_t matrix = (int64_t)i / c->items_per_matrix;
    int64_t first = c->first + (int64_t)i % c->items_per_matrix * c->rows_per_item;
    int64_t last = first + c->rows_per_item;
    c->packed->packing->pack(c->w, c->packed, matrix, first, last < c->last ? last : c->last);
}

void gemmux_pack_rows(const gemmux_tensor *w, gemmux_packed *packed, gemmux_threads *threads,
                      int64_t first, int64_t last)
{
    int64_t multiple = packed->packing->row_multiple > 0 ? packed->packing->row_multiple : 1;
    int64_t per_item = (256 + multiple - 1) / multiple * multiple;
    int64_t items = (last - first + per_item - 1) / per_item;
    pack_context context = {w, packed, first, last, per_item, items};
    gemmux_parallel(threads, pack_item, &context, (size_t)(items * w->count));
}

gemmux_status gemmux_pack_describe(const gemmux_packing *packing, const gemmux_tensor *w,
                                   gemmux_packed *packed, gemmux_error *error)
{
    char name[32];
    *packed = (gemmux_packed){.packing = packing, .plain = *w};
    if (!packing->accepts(w->format))
        return gemmux_fail(error, GEMMUX_ERROR_PACKING, "packing %s does not hold %s",
                           packing->name, gemmux_format_name(w->format, name, sizeof name));
    packed->bytes = packing->bytes(w->format, w->count, w->rows, w->cols);
    if (packed->bytes < 0 || packed->bytes > INT64_MAX - 64)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY,
                           "packing %s: the size of %" PRId64 " x %" PRId64 " x %" PRId64
                           " overflows",
                           packing->name, w->count, w->rows, w->cols);
    if (packed->bytes == 0) /* it borrows */
        return GEMMUX_OK;
    packed->plain.codes = packed->plain.scales = packed->plain.zeros = NULL;
    packed->plain.row_bytes = 0;
    packed->plain.globals = NULL;
    return GEMMUX_OK;
}

gemmux_status gemmux_pack(const gemmux_packing *packing, const gemmux_tensor *w,
                          gemmux_threads *threads, gemmux_packed *packed, gemmux_error *error)
{
    gemmux_status status = gemmux_pack_describe(packing, w, packed, error);
    int64_t bytes = packed->bytes;
    if (status || bytes == 0)
        return status;
    packed->data = gemmux_pages_alloc((bytes + 63) / 64 * 64);
    if (!packed->data)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY,
                           "packing %s: out of memory for %" PRId64 " bytes", packing->name, bytes);
    memset(packed->data, 0, (size_t)((bytes + 63) / 64 * 64));
    gemmux_pack_rows(w, packed, threads, 0, w->rows);
    if (w->format.two_level && packing->globals)
        packed->plain.globals = packing->globals(packed);
    packed->checksum = gemmux_checksum(packed->data, packed->bytes);
    return GEMMUX_OK;
}

gemmux_status gemmux_packed_expect(const gemmux_packed *packed, const gemmux_packing *want,
                                   const gemmux_problem *problem, gemmux_error *error)
{
    char have_name[32], want_name[32];
    if (packed->packing != want)
        return gemmux_fail(error, GEMMUX_ERROR_PACKING,
                           "weights are packed as %s, the kernel reads %s",
                           packed->packing ? packed->packing->name : "nothing", want->name);
    const gemmux_tensor *t = &packed->plain;
    int64_t count = problem->op == GEMMUX_MOE ? problem->experts : 1;
    if (!gemmux_format_equal(t->format, problem->w))
        return gemmux_fail(error, GEMMUX_ERROR_PACKING,
                           "weights hold %s, the problem multiplies %s",
                           gemmux_format_name(t->format, have_name, sizeof have_name),
                           gemmux_format_name(problem->w, want_name, sizeof want_name));
    if (t->count != count || t->rows != problem->n || t->cols != problem->k)
        return gemmux_fail(error, GEMMUX_ERROR_PACKING,
                           "weights are %" PRId64 " x %" PRId64 " x %" PRId64
                           ", the problem wants %" PRId64 " x %" PRId64 " x %" PRId64,
                           t->count, t->rows, t->cols, count, problem->n, problem->k);
    return GEMMUX_OK;
}

gemmux_status gemmux_packed_verify(const gemmux_packed *packed, gemmux_error *error)
{
    if (packed->data && gemmux_checksum(packed->data, packed->bytes) != packed->checksum)
        return gemmux_fail(error, GEMMUX_ERROR_PACKING,
                           "packed weights (%s, %" PRId64 " bytes) were changed after packing: "
                           "their checksum differs",
                           packed->packing->name, packed->bytes);
    return GEMMUX_OK;
}

int64_t gemmux_row_scales(const gemmux_tensor *t, int64_t matrix, int64_t row, int64_t *first)
{
    int64_t g = t->format.group;
    switch (t->format.scaling) {
    case GEMMUX_SCALING_TENSOR:
        *first = matrix;
        return 1;
    case GEMMUX_SCALING_ROW:
        *first = matrix * t->rows + row;
        return 1;
    case GEMMUX_SCALING_GROUP: {
        int64_t groups = (t->cols + g - 1) / g;
        *first = (matrix * t->rows + row) * groups;
        return groups;
    }
    case GEMMUX_SCALING_BLOCK: {
        int64_t across = (t->cols + g - 1) / g, down = (t->rows + g - 1) / g;
        *first = (matrix * down + row / g) * across;
        return across;
    }
    default:
        *first = 0;
        return 0;
    }
}

gemmux_status gemmux_unpack(const gemmux_packed *packed, gemmux_weights *out, gemmux_error *error)
{
    const gemmux_tensor *t = &packed->plain;
    *out = (gemmux_weights){.tensor = *t};
    int64_t row_bytes = gemmux_row_bytes(t->format, t->cols);
    int64_t codes = row_bytes * t->rows * t->count;
    int64_t scales = gemmux_scale_count(t->format, t->rows, t->cols) * t->count;
    int64_t scale_each = gemmux_scale_bytes(t->format);
    int64_t zero_each = gemmux_zero_bytes(t->format);
    int64_t scale_bytes = scales * scale_each;
    int64_t scale_at = (codes + 63) / 64 * 64;
    int64_t zero_at = scale_at + (scale_bytes + 63) / 64 * 64;
    int64_t global_at = zero_at + (scales * zero_each + 63) / 64 * 64;
    int64_t total = global_at + t->count * (int64_t)sizeof(float) + 64;
    unsigned char *base = aligned_alloc(64, (size_t)((total + 63) / 64 * 64));
    if (!base)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY,
                           "unpack: out of memory for %" PRId64 " bytes", total);
    out->storage = base;
    out->storage_bytes = (size_t)total;
    out->tensor.codes = base;
    out->tensor.scales = scales ? base + scale_at : NULL;
    out->tensor.zeros = zero_each ? base + zero_at : NULL;
    out->tensor.row_bytes = 0;
    if (t->globals) {
        memcpy(base + global_at, t->globals, (size_t)t->count * sizeof(float));
        out->tensor.globals = (const float *)(base + global_at);
    }
    for (int64_t matrix = 0; matrix < t->count; matrix++)
        for (int64_t row = 0; row < t->rows; row++) {
            int64_t first;
            gemmux_row_scales(t, matrix, row, &first);
            packed->packing->unpack_row(packed, matrix, row,
                                        base + (matrix * t->rows + row) * row_bytes,
                                        scales ? base + scale_at + first * scale_each : NULL,
                                        zero_each ? base + zero_at + first * zero_each : NULL);
        }
    return GEMMUX_OK;
}

void gemmux_packed_free(gemmux_packed *packed)
{
    free(packed->data);
    *packed = (gemmux_packed){0};
}
