/* SPDX-License-Identifier: Apache-2.0
 *
 * Which GPU code a file carries and on which devices it runs. The answer needs no GPU, no driver
 * and no toolkit, so it can be given before anything breaks.
 */
#include "error.h"
#include "fatbin.h"
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --------------------------------------------------------------------------------- the rules -- */

const char *gemmux_gpu_code_name(const gemmux_gpu_code *code, char *buffer, size_t size)
{
    const char *kind = code->kind == GEMMUX_GPU_SASS  ? "sm"
                       : code->kind == GEMMUX_GPU_PTX ? "compute"
                                                      : "lto";
    char suffix[2] = {code->suffix, '\0'};
    snprintf(buffer, size, "%s_%d%s", kind, (int)code->cc, suffix);
    return buffer;
}

static bool same_family(int code_cc, int device_cc)
{
    const gemmux_cuda_arch *code = gemmux_cuda_arch_find(code_cc);
    const gemmux_cuda_arch *device = gemmux_cuda_arch_find(device_cc);
    return code && device && code->family && code->family == device->family;
}

/* "CUDA C++ Programming Guide": binary and PTX compatibility, architecture-specific and
 * family-specific features. Returns why as a format for (name, device). */
static bool runs(const gemmux_gpu_code *code, int cc, const char **why)
{
    bool sass = code->kind == GEMMUX_GPU_SASS;
    if (code->kind == GEMMUX_GPU_LTO) {
        *why = "%s is intermediate code: it runs on %d.%d only if the program links it first";
        return false;
    }
    if (code->suffix == 'a') {
        bool yes = code->cc == cc;
        *why = yes ? "%s is made for exactly %d.%d" : "%s runs on its own chip alone, not on %d.%d";
        return yes;
    }
    if (code->suffix == 'f') {
        bool family = same_family(code->cc, cc);
        *why = !family          ? "%s runs within its family, which %d.%d is not known to be in"
               : code->cc <= cc ? "%s covers %d.%d: same family, not older"
                                : "%s is newer than %d.%d";
        return family && code->cc <= cc;
    }
    if (code->cc > cc) {
        *why = "%s is newer than %d.%d";
        return false;
    }
    if (sass && code->cc / 10 != cc / 10) {
        *why = "%s is machine code of another generation than %d.%d";
        return false;
    }
    /* The guide promises nothing between desktop chips and 8.7; in practice 8.0 code runs there. */
    *why = !sass            ? "%s is compiled by the driver for %d.%d when it is first used"
           : code->cc == cc ? "%s is machine code for %d.%d"
           : cc == 87       ? "%s covers %d.%d by number; the vendor promises it for desktop chips"
                            : "%s covers %d.%d: same generation, not older";
    return true;
}

bool gemmux_gpu_code_runs(const gemmux_gpu_code *code, int cc, char *buffer, size_t size)
{
    const char *why;
    char name[24];
    bool yes = runs(code, cc, &why);
    if (buffer && size) {
        gemmux_gpu_code_name(code, name, sizeof name);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(buffer, size, why, name, cc / 10, cc % 10);
#pragma GCC diagnostic pop
    }
    return yes;
}

int gemmux_gpu_code_preference(const gemmux_gpu_code *code)
{
    int suffix = code->suffix == 'a' ? 2 : code->suffix == 'f' ? 1 : 0;
    return (code->kind == GEMMUX_GPU_SASS ? 100000 : 0) + suffix * 10000 + code->cc;
}

const gemmux_gpu_code *gemmux_gpu_scan_best(const gemmux_gpu_scan *scan, int cc, int64_t *fatbins)
{
    const gemmux_gpu_code *best = NULL;
    uint64_t running = 0;
    for (int i = 0; i < scan->code_count; i++) {
        if (!gemmux_gpu_code_runs(&scan->code[i], cc, NULL, 0))
            continue;
        running |= UINT64_C(1) << i;
        if (!best || gemmux_gpu_code_preference(&scan->code[i]) > gemmux_gpu_code_preference(best))
            best = &scan->code[i];
    }
    if (fatbins) {
        *fatbins = 0;
        for (int i = 0; i < scan->group_count; i++)
            if (scan->groups[i].targets & running)
                *fatbins += scan->groups[i].fatbins;
    }
    return best;
}

/* ----------------------------------------------------------------------------------- the scan --
 */

/* The index of the entry's target in the scan; -1 when it is unknown or one too many. */
static int target(gemmux_gpu_scan *scan, const gemmux_gpu_code *code)
{
    if (!code->kind)
        return -1;
    for (int i = 0; i < scan->code_count; i++) {
        gemmux_gpu_code *known = &scan->code[i];
        if (known->kind == code->kind && known->cc == code->cc && known->suffix == code->suffix)
            return i;
    }
    if (scan->code_count == GEMMUX_MAX_GPU_CODE)
        return -1;
    scan->code[scan->code_count] =
        (gemmux_gpu_code){.kind = code->kind, .suffix = code->suffix, .cc = code->cc};
    return scan->code_count++;
}

static void add_group(gemmux_gpu_scan *scan, uint64_t targets)
{
    int i = 0;
    while (i < scan->group_count && scan->groups[i].targets != targets)
        i++;
    if (i == GEMMUX_MAX_GPU_GROUPS) { /* its images still count; its fatbin is lost to best() */
        scan->other++;
        return;
    }
    if (i == scan->group_count)
        scan->groups[scan->group_count++] = (gemmux_gpu_group){.targets = targets};
    scan->groups[i].fatbins++;
}

static void add_fatbin(const gemmux_fatbin_walk *walk, gemmux_gpu_scan *scan)
{
    uint64_t targets = 0;
    gemmux_fatbin_entry entry;
    for (int64_t at = walk->begin; at >= 0 && at < walk->end;) {
        at = gemmux_fatbin_entry_at(walk, at, &entry);
        int i = at < 0 ? -1 : target(scan, &entry.code);
        if (i < 0) {
            scan->other++;
            continue;
        }
        targets |= UINT64_C(1) << i;
        scan->code[i].images++;
        scan->code[i].bytes += entry.code.bytes;
    }
    scan->fatbins++;
    add_group(scan, targets);
}

static int compare_codes(const gemmux_gpu_code *a, const gemmux_gpu_code *b)
{
    if (a->kind != b->kind)
        return a->kind - b->kind;
    return a->cc != b->cc ? a->cc - b->cc : a->suffix - b->suffix;
}

/* Insertion sort that carries the bits of the groups along: there are at most 64 targets. */
static void sort_codes(gemmux_gpu_scan *scan)
{
    int order[GEMMUX_MAX_GPU_CODE]; /* order[new] = old */
    gemmux_gpu_code sorted[GEMMUX_MAX_GPU_CODE];
    for (int i = 0; i < scan->code_count; i++) {
        int j = i;
        for (; j > 0 && compare_codes(&scan->code[order[j - 1]], &scan->code[i]) > 0; j--)
            order[j] = order[j - 1];
        order[j] = i;
    }
    for (int i = 0; i < scan->code_count; i++)
        sorted[i] = scan->code[order[i]];
    for (int g = 0; g < scan->group_count; g++) {
        uint64_t old = scan->groups[g].targets, now = 0;
        for (int i = 0; i < scan->code_count; i++)
            now |= (old >> order[i] & 1) << i;
        scan->groups[g].targets = now;
    }
    memcpy(scan->code, sorted, (size_t)scan->code_count * sizeof sorted[0]);
}

/* A bare cubin is an ELF file for machine 190. Its flags give the chip; the suffix stands only in
 * the options that the assembler noted, "-arch sm_120f". */
static bool read_cubin(const gemmux_bytes *bytes, gemmux_gpu_scan *scan)
{
    uint8_t h[64];
    static const uint8_t elf64[7] = {0x7f, 'E', 'L', 'F', 2, 1, 1};
    if (!gemmux_bytes_read(bytes, 0, h, sizeof h) || memcmp(h, elf64, sizeof elf64) != 0)
        return false;
    if ((h[18] | h[19] << 8) != 190)
        return false;
    int cc = h[8] >= 8 ? h[49] : h[48]; /* ABI 8 (CUDA 13) moved the chip by a byte */
    if (cc < 10) {
        scan->other = 1;
        return true;
    }
    gemmux_gpu_code code = {.kind = GEMMUX_GPU_SASS, .cc = (int16_t)cc};
    char option[24];
    int length = snprintf(option, sizeof option, "-arch sm_%d", cc);
    size_t size = bytes->size < (64 << 20) ? (size_t)bytes->size : 64 << 20;
    uint8_t *all = malloc(size);
    if (all && gemmux_bytes_read(bytes, 0, all, size)) {
        const uint8_t *note = memmem(all, size, option, (size_t)length);
        if (note && note + length < all + size && (note[length] == 'a' || note[length] == 'f'))
            code.suffix = (char)note[length];
    }
    free(all);
    int i = target(scan, &code);
    scan->code[i].images = 1;
    scan->code[i].bytes = bytes->size;
    scan->fatbins = 1; /* one thing to load */
    add_group(scan, UINT64_C(1) << i);
    return true;
}

static gemmux_status scan_bytes(const gemmux_bytes *bytes, gemmux_gpu_scan *scan,
                                gemmux_error *error)
{
    gemmux_fatbin_walk walk;
    memset(scan, 0, sizeof *scan);
    scan->file_bytes = bytes->size;
    if (read_cubin(bytes, scan))
        return GEMMUX_OK;
    gemmux_status status = gemmux_fatbin_open(&walk, bytes, error);
    if (status)
        return status;
    while (gemmux_fatbin_next(&walk, &status, error))
        add_fatbin(&walk, scan);
    scan->broken = walk.broken;
    gemmux_fatbin_close(&walk);
    sort_codes(scan);
    return status;
}

gemmux_status gemmux_scan_gpu_memory(const void *data, size_t size, gemmux_gpu_scan *scan,
                                     gemmux_error *error)
{
    static const uint8_t nothing;
    if (!scan || (!data && size) || size > INT64_MAX)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "a scan needs data and somewhere to "
                           "put what it finds");
    const gemmux_bytes bytes = {.memory = data ? data : &nothing, .size = (int64_t)size};
    return scan_bytes(&bytes, scan, error);
}

gemmux_status gemmux_scan_gpu_code(const char *path, gemmux_gpu_scan *scan, gemmux_error *error)
{
    struct stat info;
    if (!path || !scan)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "a scan needs a path and somewhere to "
                           "put what it finds");
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return gemmux_fail(error, GEMMUX_ERROR_IO, "cannot open '%.300s': %s", path,
                           strerror(errno));
    gemmux_status status = GEMMUX_OK;
    if (fstat(fd, &info) || !S_ISREG(info.st_mode)) {
        status = gemmux_fail(error, GEMMUX_ERROR_IO, "'%.300s' is not a regular file", path);
    } else {
        gemmux_error inner = {0};
        const gemmux_bytes bytes = {.fd = fd, .size = info.st_size};
        errno = 0;
        status = scan_bytes(&bytes, scan, &inner);
        if (status)
            gemmux_fail(error, status, "%.150s: %.300s", path, inner.text);
    }
    close(fd);
    return status;
}
