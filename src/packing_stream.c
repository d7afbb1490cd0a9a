/* SPDX-License-Identifier: Apache-2.0
 *
 * Packing for data that goes elsewhere, to a device: matrix by matrix, rows in order, and what has
 * been handed on is given back to the system. So a layer of a gigabyte needs some MiB of the host.
 */
#include "error.h"
#include "packing.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { TILE_BYTES = 8 << 20, PAGE = 4096 };

typedef struct repack {
    const gemmux_packing *packing;
    gemmux_tensor one;   /* the matrix at hand */
    gemmux_packed piece; /* its packed form: addresses for all of it, memory for some */
    int64_t matrix_bytes, piece_bytes;
    gemmux_threads *threads;
    gemmux_pack_sink sink;
    void *context;
    gemmux_digest digest;
} repack;

/* One matrix of w. */
static gemmux_tensor matrix_of(const gemmux_tensor *w, int64_t matrix)
{
    gemmux_tensor one = *w;
    int64_t scales = matrix * gemmux_scale_count(w->format, w->rows, w->cols);
    one.count = 1;
    if (w->codes)
        one.codes = (const char *)w->codes + matrix * w->rows * gemmux_row_stride(w);
    if (w->scales)
        one.scales = (const char *)w->scales + scales * gemmux_scale_bytes(w->format);
    if (w->zeros)
        one.zeros = (const char *)w->zeros + scales * gemmux_zero_bytes(w->format);
    if (w->globals)
        one.globals = w->globals + matrix;
    return one;
}

static gemmux_status hand_on(repack *r, const void *piece, int64_t at, int64_t bytes,
                             gemmux_error *error)
{
    if (bytes <= 0)
        return GEMMUX_OK;
    gemmux_digest_add(&r->digest, piece, bytes);
    return r->sink(r->context, piece, at, bytes, error);
}

/* Rows whose packed codes are about a tile. */
static int64_t rows_of_tile(const repack *r)
{
    const gemmux_tensor *w = &r->one;
    int64_t multiple = r->packing->row_multiple > 0 ? r->packing->row_multiple : 1;
    int64_t bytes =
        r->packing->settled ? r->packing->settled(w->format, w->rows, w->cols, multiple) : 0;
    int64_t steps = bytes > 0 ? TILE_BYTES / bytes : 0;
    return bytes > 0 ? (steps > 0 ? steps : 1) * multiple : w->rows;
}

/* Packs one matrix and hands it on to `at`, the last tile with all that stands behind the codes. */
static gemmux_status pack_matrix(repack *r, int64_t at, gemmux_error *error)
{
    const gemmux_tensor *w = &r->one;
    char *data = r->piece.data;
    int64_t tile = rows_of_tile(r), done = 0;
    for (int64_t row = 0; row < w->rows; row += tile) {
        int64_t last = row + tile < w->rows ? row + tile : w->rows;
        gemmux_pack_rows(w, &r->piece, r->threads, row, last);
        if (last == w->rows)
            break;
        int64_t ready = r->packing->settled(w->format, w->rows, w->cols, last);
        gemmux_status status = hand_on(r, data + done, at + done, ready - done, error);
        if (status)
            return status;
        int64_t first = done / PAGE * PAGE;
        done = ready;
        (void)madvise(data + first, (size_t)(done / PAGE * PAGE - first), MADV_DONTNEED);
    }
    return hand_on(r, data + done, at + done, r->matrix_bytes - done, error);
}

static gemmux_status pack_all(repack *r, const gemmux_tensor *w, float *globals,
                              gemmux_error *error)
{
    gemmux_status status = GEMMUX_OK;
    for (int64_t matrix = 0; matrix < w->count && !status; matrix++) {
        /* Private anonymous memory is zero again after this. */
        if (matrix && madvise(r->piece.data, (size_t)r->piece_bytes, MADV_DONTNEED))
            memset(r->piece.data, 0, (size_t)r->piece_bytes);
        r->one = matrix_of(w, matrix);
        r->piece.plain = r->one;
        status = pack_matrix(r, matrix * r->matrix_bytes, error);
        if (globals)
            memcpy(&globals[matrix], (char *)r->piece.data + r->matrix_bytes, sizeof *globals);
    }
    int64_t behind = w->count * (int64_t)sizeof *globals;
    return status || !globals ? status
                              : hand_on(r, globals, w->count * r->matrix_bytes, behind, error);
}

gemmux_status gemmux_pack_stream(const gemmux_packing *packing, const gemmux_tensor *w,
                                 gemmux_threads *threads, gemmux_pack_sink sink, void *context,
                                 gemmux_packed *packed, gemmux_error *error)
{
    repack r = {.packing = packing, .threads = threads, .sink = sink, .context = context};
    gemmux_status status = gemmux_pack_describe(packing, w, packed, error);
    if (status)
        return status;
    int64_t one = packing->bytes(w->format, 1, w->rows, w->cols);
    float *globals = w->format.two_level ? calloc((size_t)w->count + 1, sizeof *globals) : NULL;
    /* Second-level scales stand behind the last matrix (gemmux_packing.globals). */
    r.matrix_bytes = one - (w->format.two_level ? (int64_t)sizeof *globals : 0);
    r.piece_bytes = (one + PAGE - 1) / PAGE * PAGE;
    r.piece.packing = packing;
    r.piece.bytes = one;
    r.piece.data = mmap(NULL, (size_t)r.piece_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (r.piece.data == MAP_FAILED || (w->format.two_level && !globals)) {
        free(globals);
        if (r.piece.data != MAP_FAILED)
            munmap(r.piece.data, (size_t)r.piece_bytes);
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY,
                           "packing %s: out of memory for a matrix of %" PRId64 " bytes",
                           packing->name, one);
    }
    gemmux_digest_start(&r.digest);
    status = pack_all(&r, w, globals, error);
    packed->checksum = gemmux_digest_end(&r.digest);
    munmap(r.piece.data, (size_t)r.piece_bytes);
    free(globals);
    return status;
}
