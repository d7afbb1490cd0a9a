/* SPDX-License-Identifier: Apache-2.0
 *
 * The fatbin scanner and the unpacker: any bytes are scanned to an end, what is counted adds up,
 * and images unpack within their bounds or not at all.
 */
#include "probe/unpack.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void touch(void *context, const char *name, size_t length)
{
    unsigned *sum = context;
    for (size_t i = 0; i < length; i++)
        *sum += (unsigned char)name[i];
}

static void unpack_all(const uint8_t *data, size_t size)
{
    const gemmux_bytes bytes = {.memory = data, .size = (int64_t)size};
    gemmux_fatbin_walk walk;
    gemmux_fatbin_entry entry;
    gemmux_unpacker unpacker;
    gemmux_status status;
    unsigned sum = 0;
    if (gemmux_fatbin_open(&walk, &bytes, NULL))
        return;
    gemmux_unpacker_open(&unpacker);
    while (gemmux_fatbin_next(&walk, &status, NULL))
        for (int64_t at = walk.begin; at >= 0 && at < walk.end;) {
            at = gemmux_fatbin_entry_at(&walk, at, &entry);
            size_t got = 0;
            if (at < 0 || entry.unpacked_bytes > 1 << 22) /* keeps the fuzzer's memory small */
                continue;
            uint8_t *image = gemmux_unpack_image(&unpacker, &bytes, &entry, &got);
            if (image)
                gemmux_image_kernels(image, got, entry.code.kind, touch, &sum);
            free(image);
        }
    gemmux_unpacker_close(&unpacker);
    gemmux_fatbin_close(&walk);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t nothing;
    gemmux_gpu_scan scan;
    data = size ? data : &nothing;
    gemmux_status status = gemmux_scan_gpu_memory(data, size, &scan, NULL);
    if (!status) {
        int64_t fatbins = 0, covered;
        for (int i = 0; i < scan.group_count; i++)
            fatbins += scan.groups[i].fatbins;
        if (scan.code_count > GEMMUX_MAX_GPU_CODE || fatbins > scan.fatbins)
            abort();
        for (int cc = 75; cc <= 130; cc += 5) {
            gemmux_gpu_scan_best(&scan, cc, &covered);
            if (covered > scan.fatbins)
                abort();
        }
    }
    unpack_all(data, size);
    uint8_t out[4096];
    int64_t got = gemmux_unpack_lz4(data, size, out, sizeof out);
    if (got > (int64_t)sizeof out)
        abort();
    gemmux_image_kernels(data, size, GEMMUX_GPU_SASS, touch, &(unsigned){0});
    return 0;
}
