/* SPDX-License-Identifier: Apache-2.0 */
#include "unpack.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

enum { IMAGE_LIMIT = 1 << 28 }; /* bytes of one image; the largest seen have some 20 MB */

/* ----------------------------------------------------------------------------------------- lz4 */

/* A length of 15 goes on in bytes until one is not 255. False at the end of the input. */
static bool more_length(const uint8_t **in, const uint8_t *end, size_t *length)
{
    uint8_t byte = 255;
    while (byte == 255) {
        if (*in == end || *length > IMAGE_LIMIT)
            return false;
        byte = *(*in)++;
        *length += byte;
    }
    return true;
}

int64_t gemmux_unpack_lz4(const uint8_t *in, size_t size, uint8_t *out, size_t room)
{
    const uint8_t *end = in + size;
    size_t used = 0;
    while (in < end) {
        uint8_t token = *in++;
        size_t length = token >> 4;
        if (length == 15 && !more_length(&in, end, &length))
            return -1;
        if (length > (size_t)(end - in) || length > room - used)
            return -1;
        if (length)
            memcpy(out + used, in, length);
        in += length;
        used += length;
        if (in == end)
            return (int64_t)used; /* the last sequence has literals only */
        if (end - in < 2)
            return -1;
        size_t offset = in[0] | (size_t)in[1] << 8;
        in += 2;
        length = token & 15;
        if (length == 15 && !more_length(&in, end, &length))
            return -1;
        length += 4;
        if (!offset || offset > used || length > room - used)
            return -1;
        for (size_t i = 0; i < length; i++, used++) /* may overlap itself */
            out[used] = out[used - offset];
    }
    return (int64_t)used;
}

/* ---------------------------------------------------------------------------------------- zstd */

void gemmux_unpacker_open(gemmux_unpacker *unpacker)
{
    *unpacker = (gemmux_unpacker){.library = dlopen("libzstd.so.1", RTLD_NOW | RTLD_LOCAL)};
    if (!unpacker->library)
        return;
    /* ISO C has no conversion from object to function pointers; POSIX promises the bytes. */
    void *symbol = dlsym(unpacker->library, "ZSTD_decompress");
    memcpy(&unpacker->decompress, &symbol, sizeof symbol);
    symbol = dlsym(unpacker->library, "ZSTD_isError");
    memcpy(&unpacker->is_error, &symbol, sizeof symbol);
}

void gemmux_unpacker_close(gemmux_unpacker *unpacker)
{
    if (unpacker->library)
        dlclose(unpacker->library);
    *unpacker = (gemmux_unpacker){0};
}

static int64_t unpack_zstd(const gemmux_unpacker *unpacker, const uint8_t *in, size_t size,
                           uint8_t *out, size_t room)
{
    if (!unpacker->decompress || !unpacker->is_error)
        return -1;
    size_t got = unpacker->decompress(out, room, in, size);
    return unpacker->is_error(got) ? -1 : (int64_t)got;
}

/* --------------------------------------------------------------------------------------- images */

uint8_t *gemmux_unpack_image(const gemmux_unpacker *unpacker, const gemmux_bytes *bytes,
                             const gemmux_fatbin_entry *entry, size_t *size)
{
    int64_t stored = entry->packed_bytes ? entry->packed_bytes : entry->payload_bytes;
    int64_t room = entry->packed_bytes ? entry->unpacked_bytes : stored;
    if (stored <= 0 || stored > entry->payload_bytes || room <= 0 || room > IMAGE_LIMIT)
        return NULL;
    uint8_t *in = malloc((size_t)stored + 1);
    if (!in || !gemmux_bytes_read(bytes, entry->payload_at, in, (size_t)stored)) {
        free(in);
        return NULL;
    }
    if (!entry->packed_bytes) {
        in[stored] = '\0';
        *size = (size_t)stored;
        return in;
    }
    uint8_t *out = malloc((size_t)room + 1);
    int64_t got = !out          ? -1
                  : entry->zstd ? unpack_zstd(unpacker, in, (size_t)stored, out, (size_t)room)
                                : gemmux_unpack_lz4(in, (size_t)stored, out, (size_t)room);
    free(in);
    if (got < 0) {
        free(out);
        return NULL;
    }
    out[got] = '\0';
    *size = (size_t)got;
    return out;
}

static uint64_t load(const uint8_t *p, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes - 1; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

/* Each kernel of a cubin has a section of its own, ".text." and its name. */
static void cubin_kernels(const uint8_t *image, size_t size,
                          void (*found)(void *context, const char *name, size_t length),
                          void *context)
{
    enum { SECTION = 64 };
    static const uint8_t elf64[6] = {0x7f, 'E', 'L', 'F', 2, 1};
    if (size < 64 || memcmp(image, elf64, sizeof elf64) != 0)
        return;
    uint64_t table = load(image + 40, 8), count = load(image + 60, 2), names = load(image + 62, 2);
    if (load(image + 58, 2) != SECTION || table > size || names >= count ||
        count > (size - table) / SECTION)
        return;
    const uint8_t *header = image + table + names * SECTION;
    uint64_t strings = load(header + 24, 8), room = load(header + 32, 8);
    if (strings > size || room > size - strings)
        return;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t at = load(image + table + i * SECTION, 4);
        if (at + 6 >= room || memcmp(image + strings + at, ".text.", 6) != 0)
            continue;
        const char *name = (const char *)image + strings + at + 6;
        found(context, name, strnlen(name, room - at - 6));
    }
}

/* ".visible .entry NAME(" */
static void ptx_kernels(const char *text, size_t size,
                        void (*found)(void *context, const char *name, size_t length),
                        void *context)
{
    const char *end = text + size;
    while ((text = memmem(text, (size_t)(end - text), ".entry ", 7))) {
        text += 7;
        const char *name = text;
        while (text < end && *text != '(' && *text != '\n' && *text != ' ')
            text++;
        if (text > name)
            found(context, name, (size_t)(text - name));
    }
}

void gemmux_image_kernels(const uint8_t *image, size_t size, gemmux_gpu_code_kind kind,
                          void (*found)(void *context, const char *name, size_t length),
                          void *context)
{
    if (kind == GEMMUX_GPU_SASS)
        cubin_kernels(image, size, found, context);
    else if (kind == GEMMUX_GPU_PTX)
        ptx_kernels((const char *)image, size, found, context);
}
