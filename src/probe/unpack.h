/* SPDX-License-Identifier: Apache-2.0
 *
 * Unpacks the images of fatbins. Separate because the bytes come from any file and every length
 * in them may be a lie: this is the part that a fuzzer should have to itself.
 */
#ifndef GEMMUX_UNPACK_H
#define GEMMUX_UNPACK_H

#include "fatbin.h"

/* libzstd, opened when it is there. */
typedef struct gemmux_unpacker {
    void *library;
    size_t (*decompress)(void *out, size_t room, const void *in, size_t size);
    unsigned (*is_error)(size_t result);
} gemmux_unpacker;

void gemmux_unpacker_open(gemmux_unpacker *unpacker);
void gemmux_unpacker_close(gemmux_unpacker *unpacker);

/* Decodes one LZ4 block into out; returns the bytes written, -1 when the block is not sound or
 * does not fit. */
int64_t gemmux_unpack_lz4(const uint8_t *in, size_t size, uint8_t *out, size_t room);

/* The image of an entry in memory of its own (free it), with a NUL after its last byte. NULL when
 * it cannot be read or unpacked. */
uint8_t *gemmux_unpack_image(const gemmux_unpacker *unpacker, const gemmux_bytes *bytes,
                             const gemmux_fatbin_entry *entry, size_t *size);

/* Calls found for each kernel of a cubin (ELF) or of PTX text. Names are not NUL-terminated. */
void gemmux_image_kernels(const uint8_t *image, size_t size, gemmux_gpu_code_kind kind,
                          void (*found)(void *context, const char *name, size_t length),
                          void *context);

#endif
