/* SPDX-License-Identifier: Apache-2.0
 *
 * One fact of a machine by name: what it is, and another value for it. What-if questions are asked
 * in the words of device files, so the values are read by the same code.
 */
#include "machine_facts.h"

#include "error.h"
#include "machine.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef gemmux_fact_parser parser;

enum { VALUE_LIMIT = 200 };

/* Facts that name or frame a machine are not changed: another name is another machine. */
static bool can_change(const gemmux_fact_key *key, const gemmux_machine *machine)
{
    return key->kinds & 1u << machine->kind && strcmp(key->name, "name") != 0 &&
           strcmp(key->name, "kind") != 0 && strcmp(key->name, "attained") != 0;
}

/* "peak" stands for a name a kind of math, "library" for one a library. */
static const char *const peak_names[GEMMUX_MATH_COUNT] = {
#define PEAK_NAME(id, name) "peak." name,
    GEMMUX_MATH_LIST(PEAK_NAME)
#undef PEAK_NAME
};

const char *gemmux_machine_fact_name(const gemmux_machine *machine, int index)
{
    for (int i = 0; i < GEMMUX_FACT_KEYS && index >= 0; i++) {
        const gemmux_fact_key *key = &gemmux_fact_keys[i];
        bool peak = !strcmp(key->name, "peak"), library = !strcmp(key->name, "library");
        int count = peak ? GEMMUX_MATH_COUNT : library ? GEMMUX_LIB_COUNT - 1 : 1;
        if (!can_change(key, machine))
            continue;
        if (index < count)
            return peak      ? peak_names[index]
                   : library ? gemmux_library_name((gemmux_library_id)(index + 1))
                             : key->name;
        index -= count;
    }
    return index == 0 ? "built" : NULL;
}

static int library_of(const char *fact)
{
    for (int i = GEMMUX_LIB_NONE + 1; i < GEMMUX_LIB_COUNT; i++)
        if (!strcmp(fact, gemmux_library_name((gemmux_library_id)i)))
            return i;
    return 0;
}

static bool has_fact(const gemmux_machine *machine, const char *fact)
{
    const char *name;
    for (int i = 0; (name = gemmux_machine_fact_name(machine, i)); i++)
        if (!strcmp(name, fact))
            return true;
    return false;
}

/* -------------------------------------------------------------------------------------- change */

static gemmux_status unknown_fact(const gemmux_machine *machine, const char *fact,
                                  gemmux_error *error)
{
    char known[320];
    const char *name;
    size_t used = 0;
    known[0] = '\0';
    for (int i = 0; (name = gemmux_machine_fact_name(machine, i)) && used < sizeof known; i++)
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", name);
    return gemmux_fail(error, GEMMUX_ERROR_INPUT,
                       "a %s device has no fact '%.40s' that can be changed; it has %s",
                       machine->kind == GEMMUX_CUDA ? "cuda" : "cpu", fact, known);
}

/* Sets what the words of `line` say, through the reader of `key`. */
static gemmux_status read_fact(gemmux_machine *machine, const char *key, const char *line,
                               gemmux_error *error)
{
    parser p = {.machine = machine, .attained = GEMMUX_ATTAINED, .error = error};
    gemmux_status status = gemmux_fact_split(&p, line, strlen(line));
    for (int i = 0; i < GEMMUX_FACT_KEYS && !status; i++)
        if (!strcmp(gemmux_fact_keys[i].name, key)) {
            p.key = &gemmux_fact_keys[i];
            status = p.key->read(&p);
        }
    return status;
}

/* Code that is in a library says nothing about another chip. */
static void follow_architecture(gemmux_machine *machine)
{
    const gemmux_cuda_arch *arch = gemmux_cuda_arch_find(machine->cc);
    machine->smem_bytes = arch ? arch->smem_bytes : GEMMUX_SMEM_CONSERVATIVE;
    for (int i = 0; i < GEMMUX_LIB_COUNT; i++)
        machine->library[i].arch_set = 0;
}

static gemmux_status change_isa(gemmux_machine *machine, const char *value, gemmux_error *error)
{
    char line[VALUE_LIMIT + 16];
    const uint32_t before = machine->isa;
    bool adds = *value == '+';
    snprintf(line, sizeof line, "isa %s", value + adds);
    machine->isa = 0;
    gemmux_status status = read_fact(machine, "isa", line, error);
    if (status)
        return status;
    const uint32_t arm_bits = ~UINT32_C(0xffff); /* the list keeps x86 sets below bit 16 */
    machine->isa = gemmux_isa_closure(machine->isa | (adds ? before : 0));
    if (machine->isa & arm_bits && machine->isa & ~arm_bits)
        return gemmux_fail(error, GEMMUX_ERROR_INPUT, "isa mixes x86 and Arm instruction sets");
    return GEMMUX_OK;
}

static gemmux_status change_library(gemmux_machine *machine, int library, const char *value,
                                    gemmux_error *error)
{
    char line[VALUE_LIMIT + 48];
    machine->library[library] = (gemmux_library){0};
    if (!strcmp(value, "none"))
        return GEMMUX_OK;
    snprintf(line, sizeof line, "library %s %s", gemmux_library_name((gemmux_library_id)library),
             value);
    return read_fact(machine, "library", line, error);
}

static gemmux_status change_built(gemmux_machine *machine, const char *value, gemmux_error *error)
{
    if (strcmp(value, "yes") != 0)
        return gemmux_fail(error, GEMMUX_ERROR_INPUT,
                           "built '%.40s' is not 'yes', the only thing it can be changed to",
                           value);
    machine->described = true;
    return GEMMUX_OK;
}

gemmux_status gemmux_machine_change(gemmux_machine *machine, const char *fact, const char *value,
                                    gemmux_error *error)
{
    char line[VALUE_LIMIT + 48];
    if (!machine || !fact || !value)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "gemmux_machine_change needs a machine, a fact and a value");
    if (!has_fact(machine, fact))
        return unknown_fact(machine, fact, error);
    if (strlen(value) > VALUE_LIMIT)
        return gemmux_fail(error, GEMMUX_ERROR_INPUT, "%s has a value of %zu bytes; at most %d fit",
                           fact, strlen(value), VALUE_LIMIT);
    gemmux_machine changed = *machine;
    gemmux_status status;
    if (library_of(fact)) {
        status = change_library(&changed, library_of(fact), value, error);
    } else if (!strcmp(fact, "isa")) {
        status = change_isa(&changed, value, error);
    } else if (!strcmp(fact, "built")) {
        status = change_built(&changed, value, error);
    } else {
        bool peak = !strncmp(fact, "peak.", 5);
        snprintf(line, sizeof line, "%s%s %s", peak ? "peak " : "", peak ? fact + 5 : fact, value);
        status = read_fact(&changed, peak ? "peak" : fact, line, error);
    }
    if (status)
        return status;
    if (!strcmp(fact, "bandwidth"))
        changed.bandwidth *= GEMMUX_ATTAINED; /* as in a device file */
    if (!strcmp(fact, "cc"))
        follow_architecture(&changed);
    *machine = changed;
    return GEMMUX_OK;
}

/* ---------------------------------------------------------------------------------------- read */

static void write_bytes(int64_t bytes, char *buffer, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    int unit = 0;
    for (; value >= 1024 && unit < 4; unit++)
        value /= 1024;
    if (bytes > 0)
        snprintf(buffer, size, "%.4g %s", value, units[unit]);
}

static void write_rate(double rate, const char *unit, char *buffer, size_t size)
{
    bool tera = rate >= 1e12;
    if (rate > 0)
        snprintf(buffer, size, "%.4g %s%s", rate / (tera ? 1e12 : 1e9), tera ? "T" : "G", unit);
}

static void write_library(const gemmux_library *library, int id, char *buffer, size_t size)
{
    int v = library->version;
    char number[32];
    const char *code = library->arch_set == 0 ? "" : library->arch_set == 1 ? " no-code" : " code";
    if (!library->present)
        snprintf(buffer, size, "none");
    else if (id == GEMMUX_LIB_CUDA)
        snprintf(buffer, size, "%d.%d%s", v / 1000, v % 1000 / 10, code);
    else
        snprintf(buffer, size, "%s%s", gemmux_version_text(v, 3, number, sizeof number), code);
}

static void write_isa(uint32_t isa, char *buffer, size_t size)
{
    size_t used = 0;
    for (uint32_t bit = 1; bit; bit <<= 1)
        if (isa & bit && gemmux_isa_name(bit) && used < size)
            used += (size_t)snprintf(buffer + used, size - used, "%s%s", used ? " " : "",
                                     gemmux_isa_name(bit));
}

static const int64_t *bytes_of(const gemmux_machine *m, const char *fact)
{
    return !strcmp(fact, "l1")       ? &m->l1_bytes
           : !strcmp(fact, "l2")     ? &m->l2_bytes
           : !strcmp(fact, "l3")     ? &m->l3_bytes
           : !strcmp(fact, "memory") ? &m->memory_bytes
                                     : NULL;
}

static void write_peak(const gemmux_machine *machine, const char *fact, char *buffer, size_t size)
{
    for (int i = 0; i < GEMMUX_MATH_COUNT; i++)
        if (!strcmp(fact, peak_names[i]))
            write_rate(machine->peak[i], "OP/s", buffer, size);
}

const char *gemmux_machine_fact(const gemmux_machine *machine, const char *fact, char *buffer,
                                size_t size)
{
    if (!machine || !size || !has_fact(machine, fact))
        return NULL;
    int library = library_of(fact);
    const int64_t *bytes = bytes_of(machine, fact);
    snprintf(buffer, size, "unknown");
    if (library)
        write_library(&machine->library[library], library, buffer, size);
    else if (bytes)
        write_bytes(*bytes, buffer, size);
    else if (!strcmp(fact, "isa"))
        write_isa(machine->isa, buffer, size);
    else if (!strcmp(fact, "cc"))
        snprintf(buffer, size, "%d.%d", (int)machine->cc / 10, (int)machine->cc % 10);
    else if (!strcmp(fact, "cores") && machine->cores)
        snprintf(buffer, size, "%d", (int)machine->cores);
    else if (!strcmp(fact, "smem"))
        write_bytes(machine->smem_bytes, buffer, size);
    else if (!strcmp(fact, "bandwidth"))
        write_rate(machine->bandwidth, "B/s", buffer, size);
    else if (!strcmp(fact, "launch"))
        snprintf(buffer, size, "%.3g us", machine->launch_us);
    else if (!strcmp(fact, "built"))
        snprintf(buffer, size, "%s", machine->described ? "yes" : "as it was");
    else
        write_peak(machine, fact, buffer, size);
    return buffer;
}
