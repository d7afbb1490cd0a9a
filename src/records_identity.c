/* SPDX-License-Identifier: Apache-2.0
 *
 * What a certificate is bound to: the chip with its microcode, the build, the vendor library. A
 * change in any of them makes the proof somebody else's.
 */
#include "error.h"
#include "kernel.h"
#include "packing.h"
#include "records.h"

#include <elf.h>
#include <inttypes.h>
#include <link.h>
#include <stdio.h>
#include <string.h>

/* Lines of /proc/cpuinfo that tell chips apart, x86 and arm64. */
static const char *const cpu_lines[] = {
    "vendor_id",       "cpu family",       "model",       "stepping", "microcode",
    "CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision",
};

/* Appends " value" of one line "key\t: value\n" if its key is one of cpu_lines. */
static void append_line(const char *line, char *buffer, size_t size)
{
    const char *colon = strchr(line, ':');
    size_t key = colon ? (size_t)(colon - line) : 0;
    while (key > 0 && (line[key - 1] == '\t' || line[key - 1] == ' ')) {
        key--;
    }
    for (size_t i = 0; i < sizeof cpu_lines / sizeof cpu_lines[0]; i++) {
        if (key == 0 || strlen(cpu_lines[i]) != key || strncmp(line, cpu_lines[i], key) != 0) {
            continue;
        }
        size_t used = strlen(buffer);
        const char *value = colon + 1 + strspn(colon + 1, " \t");
        snprintf(buffer + used, size - used, " %s %.*s", cpu_lines[i], (int)strcspn(value, "\n"),
                 value);
    }
}

static void append_cpu(char *buffer, size_t size)
{
    char line[512];
    FILE *file = fopen("/proc/cpuinfo", "re");
    /* The first core stands for all; its block ends with an empty line. */
    while (file && fgets(line, sizeof line, file) && line[0] != '\n') {
        append_line(line, buffer, size);
    }
    if (file) {
        fclose(file);
    }
}

/* The driver's own version, "580.159.03"; libcuda tells only which CUDA it is for. */
static void append_driver(char *buffer, size_t size)
{
    char line[64] = "";
    FILE *file = fopen("/sys/module/nvidia/version", "re");
    if (file) {
        if (!fgets(line, sizeof line, file)) {
            line[0] = 0;
        }
        fclose(file);
    }
    size_t used = strlen(buffer);
    line[strcspn(line, "\n")] = 0;
    snprintf(buffer + used, size - used, "%s%s", line[0] ? " module " : "", line);
}

const char *gemmux_machine_identity(const gemmux_machine *machine, char *buffer, size_t size)
{
    if (machine->kind == GEMMUX_CUDA) {
        snprintf(buffer, size, "cuda %s cc %d driver %d", machine->name, machine->cc,
                 machine->library[GEMMUX_LIB_CUDA].version);
        append_driver(buffer, size);
        return buffer;
    }
    snprintf(buffer, size, "cpu %s isa %" PRIx32, machine->name, machine->isa);
    append_cpu(buffer, size);
    return buffer;
}

/* ---- builds ---- */

typedef struct object_search {
    uintptr_t address;
    char *buffer;
    size_t size;
    bool found;
} object_search;

static bool read_build_id(const char *note, size_t bytes, char *buffer, size_t size)
{
    while (bytes >= sizeof(ElfW(Nhdr))) {
        ElfW(Nhdr) header;
        memcpy(&header, note, sizeof header);
        size_t name = (header.n_namesz + 3u) & ~(size_t)3,
               text = (header.n_descsz + 3u) & ~(size_t)3;
        if (name > bytes - sizeof header || text > bytes - sizeof header - name) {
            return false;
        }
        const unsigned char *id = (const unsigned char *)note + sizeof header + name;
        if (header.n_type == NT_GNU_BUILD_ID && header.n_namesz == 4 &&
            memcmp(note + sizeof header, "GNU", 4) == 0) {
            size_t used = 0;
            for (size_t i = 0; i < header.n_descsz && used + 3 <= size; i++) {
                used += (size_t)snprintf(buffer + used, size - used, "%02x", id[i]);
            }
            return used > 0;
        }
        note += sizeof header + name + text;
        bytes -= sizeof header + name + text;
    }
    return false;
}

static const void *address_in(const struct dl_phdr_info *info, const ElfW(Phdr) * segment)
{
    /* The dynamic linker hands out integers where pointers are meant. */
    return (const void *)(uintptr_t)(info->dlpi_addr + segment->p_vaddr); // NOLINT
}

static int visit_object(struct dl_phdr_info *info, size_t info_size, void *context)
{
    object_search *search = context;
    const ElfW(Phdr) *code = NULL;
    (void)info_size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        uintptr_t start = (uintptr_t)address_in(info, segment);
        if (segment->p_type == PT_LOAD && search->address - start < segment->p_memsz) {
            code = segment;
        }
    }
    if (!code) {
        return 0;
    }
    for (int i = 0; i < info->dlpi_phnum && !search->found; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        search->found =
            segment->p_type == PT_NOTE && read_build_id(address_in(info, segment), segment->p_memsz,
                                                        search->buffer, search->size);
    }
    if (!search->found) {
        uint64_t hash = gemmux_checksum(address_in(info, code), (int64_t)code->p_memsz);
        snprintf(search->buffer, search->size, "code-%016" PRIx64, hash);
        search->found = true;
    }
    return 1;
}

const char *gemmux_build_identity(const void *address, char *buffer, size_t size)
{
    const char *(*self)(const void *, char *, size_t) = gemmux_build_identity;
    object_search search = {.address = (uintptr_t)address, .buffer = buffer, .size = size};
    if (!address) {
        memcpy(&search.address, &self, sizeof search.address);
    }
    dl_iterate_phdr(visit_object, &search);
    if (!search.found) {
        snprintf(buffer, size, "unknown");
    }
    return buffer;
}

const char *gemmux_record_key(const gemmux_machine *machine, const gemmux_kernel *kernel,
                              char *buffer, size_t size)
{
    const void *address = NULL;
    char build[48];
    memcpy(&address, &kernel->run, sizeof address);
    gemmux_build_identity(address, build, sizeof build);
    if (kernel->library == GEMMUX_LIB_NONE) {
        snprintf(buffer, size, "build %s", build);
    } else {
        snprintf(buffer, size, "build %s %s %d", build,
                 gemmux_library_name((gemmux_library_id)kernel->library),
                 machine->library[kernel->library].version);
    }
    return buffer;
}

const char *gemmux_share_key(const gemmux_machine *machine, const gemmux_kernel *kernel,
                             char *buffer, size_t size)
{
    size_t used = strlen(gemmux_record_key(machine, kernel, buffer, size));
    snprintf(buffer + used, size - used, " threads %d", machine->cores);
    return buffer;
}
