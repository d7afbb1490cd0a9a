/* SPDX-License-Identifier: Apache-2.0
 *
 * Machines by name, and the names of what machines are made of. The text format of device files
 * is machine_parse.c's; facts of the machine at hand are probe/'s.
 */
#include "machine.h"

#include "error.h"
#include "nearest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------------- instruction sets */

#define ISA(id) ((uint32_t)GEMMUX_ISA_##id)

/* Direct implications; gemmux_isa_closure follows them. AMX implies no AVX-512: every core that
 * has one has the other so far, but a hypervisor may hide either. */
static const struct {
    uint32_t bit, implies;
} implications[] = {
    {ISA(AVX2), ISA(SSE2)},         {ISA(AVX512), ISA(AVX2)},       {ISA(AVX512BF16), ISA(AVX512)},
    {ISA(AVX512VNNI), ISA(AVX512)}, {ISA(AVX512FP16), ISA(AVX512)}, {ISA(AVX512VBMI), ISA(AVX512)},
    {ISA(AVXVNNI), ISA(AVX2)},      {ISA(AMXBF16), ISA(SSE2)},      {ISA(AMXINT8), ISA(SSE2)},
    {ISA(DOTPROD), ISA(NEON)},      {ISA(I8MM), ISA(NEON)},         {ISA(BF16), ISA(NEON)},
    {ISA(SVE), ISA(NEON)},
};

uint32_t gemmux_isa_closure(uint32_t isa)
{
    uint32_t before;
    do {
        before = isa;
        for (size_t i = 0; i < sizeof implications / sizeof implications[0]; i++)
            if (isa & implications[i].bit)
                isa |= implications[i].implies;
    } while (isa != before);
    return isa;
}

const char *gemmux_isa_name(uint32_t bit)
{
    switch (bit) {
#define CASE(id, name, index)                                                                      \
    case UINT32_C(1) << (index):                                                                   \
        return name;
        GEMMUX_ISA_LIST(CASE)
#undef CASE
    default:
        return NULL;
    }
}

uint32_t gemmux_isa_parse(const char *text)
{
    if (text)
        for (uint32_t bit = 1; bit; bit <<= 1) {
            const char *name = gemmux_isa_name(bit);
            if (name && !strcmp(name, text))
                return bit;
        }
    return 0;
}

const char *gemmux_math_name(gemmux_math math)
{
    static const char *const names[] = {
#define NAME(id, name) name,
        GEMMUX_MATH_LIST(NAME)
#undef NAME
    };
    return (unsigned)math < GEMMUX_MATH_COUNT ? names[math] : "unknown";
}

const char *gemmux_library_name(gemmux_library_id id)
{
    static const char *const names[GEMMUX_LIB_COUNT] = {
        [GEMMUX_LIB_NONE] = "gemmux",       [GEMMUX_LIB_CUDA] = "cuda",
        [GEMMUX_LIB_CUBLASLT] = "cublaslt", [GEMMUX_LIB_ONEDNN] = "onednn",
        [GEMMUX_LIB_OPENBLAS] = "openblas",
    };
    return (unsigned)id < GEMMUX_LIB_COUNT ? names[id] : "unknown";
}

/* --------------------------------------------------------------------------- CUDA architectures */

/* The list nvcc 13.0 accepts. Families and shared memory: CUDA C++ Programming Guide 13.0,
 * "Compute Capabilities" (maximum shared memory per block, opt-in) and "family-specific
 * features": 10.0 and 10.3 are one family, 11.0 its own, 12.0 and 12.1 one. The guide gives no
 * shared memory for 8.8, so it has what every architecture has. */
static const gemmux_cuda_arch cuda_archs[] = {
    {75, 0, 64 * 1024},
    {80, 0, 163 * 1024},
    {86, 0, 99 * 1024},
    {87, 0, 163 * 1024},
    {88, 0, GEMMUX_SMEM_CONSERVATIVE},
    {89, 0, 99 * 1024},
    {90, 90, 227 * 1024},
    {100, 100, 227 * 1024},
    {103, 100, 227 * 1024},
    {110, 110, 227 * 1024},
    {120, 120, 99 * 1024},
    {121, 120, 99 * 1024},
};

const gemmux_cuda_arch *gemmux_cuda_arch_find(int cc)
{
    for (size_t i = 0; i < sizeof cuda_archs / sizeof cuda_archs[0]; i++)
        if (cuda_archs[i].cc == cc)
            return &cuda_archs[i];
    return NULL;
}

const char *gemmux_machine_arch(const gemmux_machine *machine, char *buffer, size_t size)
{
    /* The set that says most about a core, best first. */
    static const uint32_t telling[] = {
        ISA(AMXBF16), ISA(AMXINT8), ISA(AVX512FP16), ISA(AVX512BF16), ISA(AVX512VNNI), ISA(AVX512),
        ISA(AVXVNNI), ISA(AVX2),    ISA(I8MM),       ISA(BF16),       ISA(SVE),        ISA(DOTPROD),
    };
    if (machine->kind == GEMMUX_CUDA) {
        snprintf(buffer, size, "sm_%d", (int)machine->cc);
        return buffer;
    }
    const char *base = machine->isa & ISA(SSE2)   ? "x86-64"
                       : machine->isa & ISA(NEON) ? "aarch64"
                                                  : "unknown";
    for (size_t i = 0; i < sizeof telling / sizeof telling[0]; i++)
        if (machine->isa & telling[i]) {
            snprintf(buffer, size, "%s+%s", base, gemmux_isa_name(telling[i]));
            return buffer;
        }
    snprintf(buffer, size, "%s", base);
    return buffer;
}

const char *gemmux_machine_caution(const gemmux_machine *machine, char *buffer, size_t size)
{
    if (machine->kind != GEMMUX_CUDA || gemmux_cuda_arch_find(machine->cc))
        return NULL;
    snprintf(buffer, size,
             "sm_%d is not an architecture that gemmux %s knows: only plain code and PTX count as "
             "running on it, and a block gets %d KiB of shared memory",
             (int)machine->cc, GEMMUX_VERSION, (int)(machine->smem_bytes / 1024));
    return buffer;
}

/* ---------------------------------------------------------------------------- machines by name */

int gemmux_machine_builtin_count(void)
{
    int count = 0;
    while (gemmux_embedded_devices[count].name)
        count++;
    return count;
}

const char *gemmux_machine_builtin_name(int index)
{
    return index >= 0 && index < gemmux_machine_builtin_count()
               ? gemmux_embedded_devices[index].name
               : NULL;
}

/* N of "cuda:N", 0 of "cuda"; -1 for anything else. */
static int cuda_index(const char *name)
{
    if (!strcmp(name, "cuda"))
        return 0;
    if (name[5] < '0' || name[5] > '9')
        return -1;
    char *end;
    long index = strtol(name + 5, &end, 10);
    return *end || index > 1024 ? -1 : (int)index;
}

static gemmux_status find_cuda(const char *name, gemmux_machine *machine, gemmux_error *error)
{
    int index = cuda_index(name);
    if (index < 0)
        return gemmux_fail(error, GEMMUX_ERROR_INPUT,
                           "no device is called '%.200s': write cuda:N with N counted from 0",
                           name);
    return gemmux_machine_probe_cuda(index, machine, error);
}

static gemmux_status no_such_machine(const char *name, int reason, gemmux_error *error)
{
    const char *names[128];
    int count = gemmux_machine_builtin_count();
    count = count < 128 ? count : 128;
    for (int i = 0; i < count; i++)
        names[i] = gemmux_embedded_devices[i].name;
    const char *near = gemmux_nearest(name, strlen(name), names, count);
    if (reason == ENOENT)
        return gemmux_fail(error, GEMMUX_ERROR_INPUT,
                           "no device is called '%.200s': it is not 'cpu', not 'cuda:N', not one "
                           "of the %d built-in descriptions%s%s%s, and no such file exists",
                           name, count, near ? " (did you mean '" : "", near ? near : "",
                           near ? "'?)" : "");
    return gemmux_fail(error, GEMMUX_ERROR_IO, "cannot read device file '%.300s': %s", name,
                       strerror(reason));
}

/* More than any honest description; the parser has the same limit. */
enum { FILE_LIMIT = 64 * 1024 };

static gemmux_status read_machine(const char *path, gemmux_machine *machine, gemmux_error *error)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return no_such_machine(path, errno, error);
    char *text = malloc(FILE_LIMIT + 1);
    if (!text) {
        fclose(file);
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "out of memory reading '%.300s'", path);
    }
    errno = 0;
    size_t length = fread(text, 1, FILE_LIMIT + 1, file);
    int reason = ferror(file) ? (errno ? errno : EIO) : 0;
    fclose(file);
    gemmux_status status = reason ? no_such_machine(path, reason, error)
                                  : gemmux_machine_parse(text, length, path, machine, error);
    free(text);
    return status;
}

gemmux_status gemmux_machine_find(const char *name, gemmux_machine *machine, gemmux_error *error)
{
    if (!name || !machine)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "gemmux_machine_find needs a name and a "
                           "machine to fill");
    if (!strcmp(name, "cpu"))
        return gemmux_machine_probe_cpu(machine, error);
    if (!strncmp(name, "cuda:", 5) || !strcmp(name, "cuda"))
        return find_cuda(name, machine, error);
    for (const gemmux_embedded *device = gemmux_embedded_devices; device->name; device++)
        if (!strcmp(device->name, name))
            return gemmux_machine_parse(device->text, strlen(device->text), name, machine, error);
    return read_machine(name, machine, error);
}

const char *gemmux_version_text(int64_t version, int parts, char *buffer, size_t size)
{
    int major = (int)(version / 10000), minor = (int)(version / 100 % 100),
        patch = (int)(version % 100);
    if (parts == 2 || (parts == 0 && patch == 0))
        snprintf(buffer, size, "%d.%d", major, minor);
    else
        snprintf(buffer, size, "%d.%d.%d", major, minor, patch);
    return buffer;
}
