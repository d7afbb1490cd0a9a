/* SPDX-License-Identifier: Apache-2.0
 *
 * The text format of device files (docs/devices.md): one fact a line, a key, a value, its unit.
 * Every complaint names the source, the line, what is wrong and, where there is one, the nearest
 * thing that would be right.
 */
#include "machine_facts.h"

#include "error.h"
#include "machine.h"

#include <stdio.h>
#include <string.h>

enum {
    TEXT_LIMIT = 64 * 1024, /* bytes of one file */
    KEY_COUNT = GEMMUX_FACT_KEYS
};

typedef gemmux_fact_parser parser;

#define keys         gemmux_fact_keys
#define FAIL(p, ...) gemmux_fact_fail(p, (p)->line, __VA_ARGS__)

/* --------------------------------------------------------------------------------------- lines */

static gemmux_status unknown_key(parser *p)
{
    const char *names[KEY_COUNT];
    for (int i = 0; i < KEY_COUNT; i++)
        names[i] = keys[i].name;
    return gemmux_fact_unknown(p, p->words[0], "key", names, KEY_COUNT);
}

static gemmux_status read_line(parser *p, const char *text, size_t length)
{
    gemmux_status status = gemmux_fact_split(p, text, length);
    if (status || !p->word_count)
        return status;
    for (int i = 0; i < KEY_COUNT; i++) {
        if (!gemmux_word_is(p->words[0], keys[i].name))
            continue;
        p->key = &keys[i];
        if (p->seen_at[i] && !keys[i].repeats)
            return FAIL(p, "%s was already given in line %d", keys[i].name, p->seen_at[i]);
        p->seen_at[i] = p->line;
        return keys[i].read(p);
    }
    return unknown_key(p);
}

static bool seen(const parser *p, const char *name)
{
    for (int i = 0; i < KEY_COUNT; i++)
        if (!strcmp(keys[i].name, name))
            return p->seen_at[i] > 0;
    return false;
}

/* What only the whole file can show: facts that are missing, or that belong to the other kind. */
static gemmux_status finish(parser *p)
{
    gemmux_machine *machine = p->machine;
    p->line += !p->line; /* an empty file */
    if (!seen(p, "name"))
        return FAIL(p, "the description has no 'name'");
    if (!machine->kind)
        return FAIL(p, "the description has no 'kind': 'kind cpu' or 'kind cuda'");
    for (int i = 0; i < KEY_COUNT; i++)
        if (p->seen_at[i] && !(keys[i].kinds & (1u << machine->kind)))
            return gemmux_fact_fail(p, p->seen_at[i], "'%s' says nothing about a device of kind %s",
                                    keys[i].name, machine->kind == GEMMUX_CPU ? "cpu" : "cuda");
    if (machine->kind == GEMMUX_CUDA && !machine->cc)
        return FAIL(p, "a device of kind cuda needs 'cc', its compute capability");
    if (machine->kind == GEMMUX_CPU && !machine->isa)
        return FAIL(p, "a device of kind cpu needs 'isa'; 'isa sse2' is the x86-64 baseline, "
                       "'isa neon' the aarch64 one");
    if (seen(p, "attained") && !seen(p, "bandwidth"))
        return FAIL(p, "'attained' is a share of 'bandwidth', which is missing");
    machine->isa = gemmux_isa_closure(machine->isa);
    machine->bandwidth *= p->attained;
    if (machine->kind == GEMMUX_CUDA && !machine->smem_bytes) {
        const gemmux_cuda_arch *arch = gemmux_cuda_arch_find(machine->cc);
        machine->smem_bytes = arch ? arch->smem_bytes : GEMMUX_SMEM_CONSERVATIVE;
    }
    return GEMMUX_OK;
}

/* The source's last part without ".txt". */
static void name_id(const char *source, char *id, size_t size)
{
    const char *slash = strrchr(source, '/');
    const char *base = slash ? slash + 1 : source;
    size_t length = strlen(base);
    if (length > 4 && !strcmp(base + length - 4, ".txt"))
        length -= 4;
    length = length < size ? length : size - 1;
    memcpy(id, base, length);
    id[length] = '\0';
}

static gemmux_status read_lines(parser *p, const char *text, size_t length)
{
    size_t at = length >= 3 && !memcmp(text, "\xef\xbb\xbf", 3) ? 3 : 0; /* byte order mark */
    while (at < length) {
        const char *line = text + at;
        const char *newline = memchr(line, '\n', length - at);
        size_t whole = newline ? (size_t)(newline - line) : length - at;
        p->line++;
        at += whole + 1;
        const char *nul = memchr(line, '\0', whole);
        if (nul)
            return FAIL(p, "NUL byte in column %td: this is not a text file", nul - line + 1);
        const char *comment = memchr(line, '#', whole);
        gemmux_status status = read_line(p, line, comment ? (size_t)(comment - line) : whole);
        if (status)
            return status;
    }
    return GEMMUX_OK;
}

gemmux_status gemmux_machine_parse(const char *text, size_t length, const char *source,
                                   gemmux_machine *machine, gemmux_error *error)
{
    if (!machine || (!text && length))
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "gemmux_machine_parse needs a text and a machine to fill");
    parser p = {.source = source ? source : "device", .machine = machine, .error = error};
    memset(machine, 0, sizeof *machine);
    p.attained = GEMMUX_ATTAINED;
    if (length > TEXT_LIMIT)
        return gemmux_fact_fail(&p, 1, "the file has more than %d bytes", TEXT_LIMIT);
    gemmux_status status = read_lines(&p, text, length);
    if (!status)
        status = finish(&p);
    if (status) {
        memset(machine, 0, sizeof *machine);
        return status;
    }
    machine->described = true;
    name_id(p.source, machine->id, sizeof machine->id);
    return GEMMUX_OK;
}
