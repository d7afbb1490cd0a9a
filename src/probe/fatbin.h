/* SPDX-License-Identifier: Apache-2.0
 *
 * The container format of CUDA device code ("fatbin"). Separate from gemmux.h because callers want
 * what a library carries, and only the scanner and the lister of kernel names walk the bytes. The
 * format is not documented by its vendor; these facts were checked on 17 targets built with nvcc
 * 13.0, on libraries of CUDA 11.8 to 13.2, and on every image of libcublasLt 13.1.
 */
#ifndef GEMMUX_FATBIN_H
#define GEMMUX_FATBIN_H

#include "gemmux.h"

enum {
    GEMMUX_FATBIN_HEADER = 16, /* u32 magic, u16 version 1, u16 header size, u64 payload size */
    GEMMUX_FATBIN_ENTRY = 64   /* what is read of an entry's header */
};

/* Bytes of a file or of memory; reads that would pass the end fail. */
typedef struct gemmux_bytes {
    const uint8_t *memory; /* NULL: fd is read */
    int fd;
    int64_t size;
} gemmux_bytes;

bool gemmux_bytes_read(const gemmux_bytes *bytes, int64_t at, void *out, size_t count);

/* One image inside a fatbin. */
typedef struct gemmux_fatbin_entry {
    gemmux_gpu_code code; /* kind 0 when unknown */
    int64_t payload_at;
    int64_t payload_bytes;  /* padded to 8 */
    uint32_t packed_bytes;  /* 0: not compressed */
    int64_t unpacked_bytes; /* 0: not stated */
    bool zstd, lz4;
} gemmux_fatbin_entry;

/* What the driver takes first: machine code over PTX, the more specific, the newer. */
int gemmux_gpu_code_preference(const gemmux_gpu_code *code);

/* A cursor over the fatbins of a file. */
typedef struct gemmux_fatbin_walk {
    const gemmux_bytes *bytes;
    int64_t at;    /* where the search goes on */
    int64_t begin; /* the current fatbin's first entry and its end */
    int64_t end;
    int64_t broken; /* headers that promise more than there is */
    int64_t wasted; /* entries read in vain; bounds the time that a hostile file can take */
    uint8_t *buffer;
    size_t chunk; /* bytes to read next: small after a hit, growing over barren ground */
} gemmux_fatbin_walk;

gemmux_status gemmux_fatbin_open(gemmux_fatbin_walk *walk, const gemmux_bytes *bytes,
                                 gemmux_error *error);
/* Moves to the next sound fatbin; false at the end of the file, or when the file is hostile (then
 * *status is an error). */
bool gemmux_fatbin_next(gemmux_fatbin_walk *walk, gemmux_status *status, gemmux_error *error);
/* Reads the entry at `at` (start with walk->begin); returns where the next one stands, walk->end
 * after the last, -1 when it is not an entry. */
int64_t gemmux_fatbin_entry_at(const gemmux_fatbin_walk *walk, int64_t at,
                               gemmux_fatbin_entry *entry);
void gemmux_fatbin_close(gemmux_fatbin_walk *walk);

#endif
