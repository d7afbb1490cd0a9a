/* SPDX-License-Identifier: Apache-2.0
 *
 * What the machine's facts say about a cause: each `fact` of its record is a comparison, and where
 * it holds its sentence confirms or contradicts. What is not known here is said, not guessed.
 */
#include "doctor.h"

#include "machine.h"
#include "probe/ptxas.h"

#include <stdio.h>
#include <string.h>

/* "13.0.88" into up to three integers of at most nine digits; returns how many. */
static int read_parts(const char *text, int part[3])
{
    int count = 0;
    while (count < 3) {
        int digits = 0, value = 0;
        for (; *text >= '0' && *text <= '9' && digits < 9; digits++)
            value = value * 10 + (*text++ - '0');
        if (!digits)
            break;
        part[count++] = value;
        if (*text != '.')
            break;
        text++;
    }
    return count;
}

/* A number as the subject counts: cc 12.1, sm_121a and 121 are 121; versions are major * 10000 +
 * minor * 100 + patch; bytes may have a unit. False when the word is none. */
static bool number_of(const char *subject, const char *word, size_t length, double *out)
{
    char text[GEMMUX_DOCTOR_VALUE];
    if (!length || length >= sizeof text)
        return false;
    memcpy(text, word, length);
    text[length] = '\0';
    int skip = !strncmp(text, "sm_", 3) ? 3 : !strncmp(text, "compute_", 8) ? 8 : 0;
    int part[3] = {0, 0, 0};
    int parts = read_parts(text + skip, part);
    if (!parts)
        return false;
    if (!strcmp(subject, "cc"))
        *out = parts == 1 ? part[0] : part[0] * 10.0 + part[1];
    else if (!strcmp(subject, "cuda"))
        *out = part[0] * 1000.0 + part[1] * 10.0;
    else if (!strcmp(subject, "smem"))
        *out = part[0];
    else if (!strcmp(subject, "memory")) /* in GB, the unit of the sentences */
        *out = part[0] + (parts > 1 ? part[1] / (part[1] < 10 ? 10.0 : 100.0) : 0.0);
    else
        *out = part[0] * 10000.0 + part[1] * 100.0 + part[2];
    return true;
}

/* The assembler of this machine, which a described one has not. */
static bool ptxas_here(const gemmux_cause *cause, const gemmux_machine *m, double *out, char *text,
                       size_t size)
{
    char path[256], number[32];
    int32_t release;
    if (!m || m->described ||
        !gemmux_probe_ptxas(gemmux_doctor_detail(cause, "ptxas", 5), path, sizeof path, &release))
        return false;
    *out = release;
    snprintf(text, size, "%s (%.70s)", gemmux_version_text(release, 2, number, sizeof number),
             path);
    return true;
}

/* The machine's value of a subject; false when it is not known. */
static bool value_here(const gemmux_cause *cause, const gemmux_machine *m, const char *subject,
                       double *out, char *text, size_t size)
{
    static const struct {
        const char *name;
        gemmux_library_id id;
    } libraries[] = {{"cuda", GEMMUX_LIB_CUDA},
                     {"cublaslt", GEMMUX_LIB_CUBLASLT},
                     {"onednn", GEMMUX_LIB_ONEDNN}};
    bool cuda = m && m->kind == GEMMUX_CUDA;
    *out = 0;
    if (!strcmp(subject, "ptxas"))
        return ptxas_here(cause, m, out, text, size);
    for (size_t i = 0; i < sizeof libraries / sizeof libraries[0]; i++) {
        const gemmux_library *library = m ? &m->library[libraries[i].id] : NULL;
        if (strcmp(subject, libraries[i].name) != 0)
            continue;
        if (!library || !library->present || library->version <= 0)
            return false;
        *out = library->version;
        if (libraries[i].id == GEMMUX_LIB_CUDA)
            snprintf(text, size, "%d.%d", library->version / 1000, library->version % 1000 / 10);
        else
            gemmux_version_text(library->version, 0, text, size);
        return true;
    }
    if (!strcmp(subject, "cc") && cuda) {
        *out = m->cc;
        snprintf(text, size, "%d.%d", m->cc / 10, m->cc % 10);
        return true;
    }
    if (!strcmp(subject, "smem") && cuda && m->smem_bytes) {
        *out = m->smem_bytes;
        snprintf(text, size, "%d", m->smem_bytes);
        return true;
    }
    if (!strcmp(subject, "memory") && m && m->memory_bytes) {
        *out = (double)m->memory_bytes / 1e9;
        snprintf(text, size, "%.0f GB", *out);
        return true;
    }
    return false;
}

typedef enum truth { NO, YES, UNKNOWN } truth;

static truth holds_named(const gemmux_machine *m, const gemmux_fact *fact)
{
    if (!m)
        return UNKNOWN;
    if (!strcmp(fact->subject, "kind"))
        return !strcmp(fact->values, m->kind == GEMMUX_CUDA ? "cuda" : "cpu") ? YES : NO;
    if (m->kind != GEMMUX_CPU)
        return UNKNOWN;
    /* isa is NAME: the machine has it; isa below NAME: it has not. */
    bool has = (m->isa & gemmux_isa_parse(fact->values)) != 0;
    return has == (fact->operation != GEMMUX_FACT_BELOW) ? YES : NO;
}

/* Is the fact true of this machine? `here` gets the machine's value. */
static truth holds(const gemmux_cause *cause, const gemmux_machine *m, const gemmux_fact *fact,
                   const char *values, char *here, size_t size)
{
    double mine, wanted;
    here[0] = '\0';
    if (!strcmp(fact->subject, "kind") || !strcmp(fact->subject, "isa"))
        return holds_named(m, fact);
    if (!value_here(cause, m, fact->subject, &mine, here, size))
        return UNKNOWN;
    for (const char *word = values; *word;) {
        size_t length = strcspn(word, " ");
        if (!number_of(fact->subject, word, length, &wanted))
            return UNKNOWN;
        if (fact->operation == GEMMUX_FACT_IS      ? mine == wanted
            : fact->operation == GEMMUX_FACT_BELOW ? mine < wanted
                                                   : mine >= wanted)
            return YES;
        word += length + strspn(word + length, " ");
    }
    return NO;
}

static const char *subject_text(const char *subject)
{
    static const char *const texts[][2] = {
        {"kind", "whether it has a GPU"},         {"cc", "the compute capability of its GPU"},
        {"smem", "the shared memory of its GPU"}, {"memory", "its memory"},
        {"cuda", "the driver's CUDA version"},    {"cublaslt", "the version of cuBLASLt"},
        {"onednn", "the version of oneDNN"},      {"isa", "the instruction sets of its CPU"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (!strcmp(texts[i][0], subject))
            return texts[i][1];
    return subject;
}

/* Weighs the facts of one cause; those that nobody knows are said once each. */
int gemmux_doctor_weigh(gemmux_doctor *doctor, const gemmux_cause *cause,
                        const gemmux_machine *machine, gemmux_evidence *evidence)
{
    const char *unknown[GEMMUX_DOCTOR_LIST];
    int count = 0, unknowns = 0;
    for (int i = 0; i < cause->fact_count; i++) {
        const gemmux_fact *fact = &cause->facts[i];
        char here[GEMMUX_DOCTOR_VALUE];
        const char *values = gemmux_doctor_fill(doctor, cause, fact->values, NULL);
        truth is = values ? holds(cause, machine, fact, values, here, sizeof here) : UNKNOWN;
        if (is == YES) {
            const char *text = gemmux_doctor_fill(doctor, cause, fact->text, here);
            evidence[count++] = (gemmux_evidence){fact->kind, text ? text : fact->text};
        }
        if (is != UNKNOWN)
            continue;
        bool said = false;
        for (int j = 0; j < unknowns; j++)
            said |= unknown[j] == fact->subject;
        if (!said)
            unknown[unknowns++] = fact->subject;
    }
    for (int i = 0; i < unknowns; i++) {
        char *text = gemmux_doctor_keep(doctor, 120);
        if (!text)
            break;
        snprintf(text, 120, "not checked: %s is not known here", subject_text(unknown[i]));
        evidence[count++] = (gemmux_evidence){GEMMUX_EVIDENCE_UNKNOWN, text};
    }
    return count;
}
