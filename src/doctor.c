/* SPDX-License-Identifier: Apache-2.0
 *
 * The doctor: from what a log says to what is really wrong. Causes are records of causes/ (one
 * file each); a cause may have many messages, because the same mistake was worded differently
 * from version to version. Here a log's matches become findings, with the details it gave put
 * into the sentences and the machine's facts weighed.
 */
#include "doctor.h"

#include "error.h"
#include "machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *gemmux_doctor_keep(gemmux_doctor *doctor, size_t size)
{
    gemmux_block *block = calloc(1, sizeof *block + 16 + size);
    if (!block)
        return NULL;
    block->next = doctor->blocks;
    doctor->blocks = block;
    return (char *)block + 16; /* keeps malloc's alignment */
}

static gemmux_status learn(gemmux_doctor *doctor, const char *id, const char *source,
                           const char *text, size_t length, gemmux_error *error)
{
    if (doctor->cause_count == doctor->cause_room) {
        int room = doctor->cause_room ? 2 * doctor->cause_room : 128;
        gemmux_cause **more = gemmux_doctor_keep(doctor, (size_t)room * sizeof *more);
        if (!more)
            return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "out of memory for causes");
        if (doctor->cause_count)
            memcpy(more, doctor->causes, (size_t)doctor->cause_count * sizeof(gemmux_cause *));
        doctor->causes = more;
        doctor->cause_room = room;
    }
    char *copy = gemmux_doctor_keep(doctor, length + 1);
    if (!copy)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "out of memory for a cause");
    memcpy(copy, text, length);
    return gemmux_doctor_parse(doctor, id, source, copy, length, error);
}

gemmux_status gemmux_doctor_create(gemmux_doctor **out, gemmux_error *error)
{
    if (!out)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "gemmux_doctor_create needs somewhere to "
                           "put the doctor");
    *out = NULL;
    gemmux_doctor *doctor = calloc(1, sizeof *doctor);
    if (!doctor)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "out of memory for a doctor");
    gemmux_status status = GEMMUX_OK;
    for (const gemmux_embedded *file = gemmux_embedded_causes; file->name && !status; file++) {
        char source[80];
        snprintf(source, sizeof source, "causes/%s.txt", file->name);
        status = learn(doctor, file->name, source, file->text, strlen(file->text), error);
    }
    if (status) {
        gemmux_doctor_free(doctor);
        return status;
    }
    *out = doctor;
    return GEMMUX_OK;
}

gemmux_status gemmux_doctor_learn(gemmux_doctor *doctor, const char *text, size_t length,
                                  const char *source, gemmux_error *error)
{
    if (!doctor || (!text && length) || doctor->started)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "a doctor learns from a text, before it reads a log");
    source = source ? source : "record";
    const char *slash = strrchr(source, '/'), *base = slash ? slash + 1 : source;
    size_t size = strlen(base);
    if (size > 4 && !strcmp(base + size - 4, ".txt"))
        size -= 4;
    char *id = gemmux_doctor_keep(doctor, size + 1);
    if (!id)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "out of memory for a cause");
    memcpy(id, base, size);
    for (int i = 0; i < doctor->cause_count; i++)
        if (!strcmp(doctor->causes[i]->id, id))
            return gemmux_fail(error, GEMMUX_ERROR_INPUT, "%.80s: there is a cause '%s' already",
                               source, id);
    return learn(doctor, id, source, text ? text : "", length, error);
}

void gemmux_doctor_free(gemmux_doctor *doctor)
{
    if (!doctor)
        return;
    for (gemmux_block *block = doctor->blocks; block;) {
        gemmux_block *next = block->next;
        free(block);
        block = next;
    }
    free(doctor);
}

void gemmux_doctor_feed(gemmux_doctor *doctor, const void *data, size_t size)
{
    if (!doctor->started && gemmux_doctor_compile(doctor, NULL))
        return; /* diagnose tries again and reports */
    if (size)
        gemmux_doctor_scan(doctor, data, size);
}

int gemmux_doctor_cause_count(const gemmux_doctor *doctor)
{
    return doctor->cause_count;
}

const char *gemmux_doctor_cause_id(const gemmux_doctor *doctor, int index)
{
    return index >= 0 && index < doctor->cause_count ? doctor->causes[index]->id : NULL;
}

const char *gemmux_doctor_cause_sample(const gemmux_doctor *doctor, int index)
{
    return index >= 0 && index < doctor->cause_count ? doctor->causes[index]->sample : NULL;
}

/* ----------------------------------------------------------------------------------- sentences */

/* Length of "{name}" at text, 0 when there is none; the name is between. */
static size_t detail_at(const char *text)
{
    size_t length = strspn(text + 1, "abcdefghijklmnopqrstuvwxyz_");
    return *text == '{' && length && text[1 + length] == '}' ? length + 2 : 0;
}

/* Puts details into a sentence; `here` is the value of {here}. NULL: out of memory. */
static const char *fill(gemmux_doctor *doctor, const gemmux_cause *cause, const char *text,
                        const char *here)
{
    if (!text || !strchr(text, '{'))
        return text;
    size_t room = strlen(text) + 1, braces = 0;
    for (const char *p = text; *p; p++)
        braces += *p == '{';
    room += braces * GEMMUX_DOCTOR_VALUE * 2;
    char *out = gemmux_doctor_keep(doctor, room);
    size_t used = 0;
    while (out && *text && used + 1 < room) {
        size_t length = detail_at(text);
        if (!length) {
            out[used++] = *text++;
            continue;
        }
        const char *value = length == 6 && !strncmp(text, "{here}", 6)
                                ? here
                                : gemmux_doctor_detail(cause, text + 1, length - 2);
        size_t size = strlen(value ? value : "?");
        size = size < room - used - 1 ? size : room - used - 1;
        memcpy(out + used, value ? value : "?", size);
        used += size;
        text += length;
    }
    return out;
}

/* --------------------------------------------------------------------------------------- facts */

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
    int parts = sscanf(text + skip, "%9d.%9d.%9d", &part[0], &part[1], &part[2]);
    if (parts < 1 || part[0] < 0 || part[1] < 0 || part[2] < 0)
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

static void version_text(int version, char *text, size_t size)
{
    if (version % 100)
        snprintf(text, size, "%d.%d.%d", version / 10000, version / 100 % 100, version % 100);
    else
        snprintf(text, size, "%d.%d", version / 10000, version / 100 % 100);
}

/* The machine's value of a subject; false when it is not known. */
static bool value_here(const gemmux_machine *m, const char *subject, double *out, char *text,
                       size_t size)
{
    static const struct {
        const char *name;
        gemmux_library_id id;
    } libraries[] = {{"cuda", GEMMUX_LIB_CUDA},
                     {"cublaslt", GEMMUX_LIB_CUBLASLT},
                     {"onednn", GEMMUX_LIB_ONEDNN}};
    bool cuda = m && m->kind == GEMMUX_CUDA;
    *out = 0;
    for (size_t i = 0; i < sizeof libraries / sizeof libraries[0]; i++) {
        const gemmux_library *library = m ? &m->library[libraries[i].id] : NULL;
        if (strcmp(subject, libraries[i].name))
            continue;
        if (!library || !library->present || library->version <= 0)
            return false;
        *out = library->version;
        if (libraries[i].id == GEMMUX_LIB_CUDA)
            snprintf(text, size, "%d.%d", library->version / 1000, library->version % 1000 / 10);
        else
            version_text(library->version, text, size);
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
static truth holds(const gemmux_machine *m, const gemmux_fact *fact, const char *values, char *here,
                   size_t size)
{
    double mine, wanted;
    here[0] = '\0';
    if (!strcmp(fact->subject, "kind") || !strcmp(fact->subject, "isa"))
        return holds_named(m, fact);
    if (!value_here(m, fact->subject, &mine, here, size))
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
static int weigh(gemmux_doctor *doctor, const gemmux_cause *cause, const gemmux_machine *machine,
                 gemmux_evidence *evidence)
{
    const char *unknown[GEMMUX_DOCTOR_LIST];
    int count = 0, unknowns = 0;
    for (int i = 0; i < cause->fact_count; i++) {
        const gemmux_fact *fact = &cause->facts[i];
        char here[GEMMUX_DOCTOR_VALUE];
        const char *values = fill(doctor, cause, fact->values, NULL);
        truth is = values ? holds(machine, fact, values, here, sizeof here) : UNKNOWN;
        if (is == YES) {
            const char *text = fill(doctor, cause, fact->text, here);
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

/* ------------------------------------------------------------------------------------ findings */

static bool fired(const gemmux_doctor *doctor, int index, int64_t *matches)
{
    int and_count = 0;
    *matches = 0;
    for (int i = 0; i < doctor->pattern_count; i++) {
        const gemmux_pattern *pattern = &doctor->patterns[i];
        if (pattern->cause != index || !pattern->matches)
            continue;
        if (pattern->role == GEMMUX_ROLE_NOT)
            return false;
        if (pattern->role == GEMMUX_ROLE_MATCH)
            *matches += pattern->matches;
        and_count += pattern->role == GEMMUX_ROLE_AND;
    }
    return *matches && and_count == doctor->causes[index]->pattern_count[GEMMUX_ROLE_AND];
}

static gemmux_status describe(gemmux_doctor *doctor, const gemmux_cause *cause,
                              const gemmux_machine *machine, gemmux_finding *finding)
{
    gemmux_evidence *evidence =
        gemmux_doctor_keep(doctor, 2 * (size_t)cause->fact_count * sizeof *evidence);
    gemmux_remedy *remedies =
        gemmux_doctor_keep(doctor, (size_t)cause->remedy_count * sizeof *remedies);
    gemmux_detail *details = gemmux_doctor_keep(doctor, GEMMUX_DOCTOR_DETAILS * sizeof *details);
    if (!evidence || !remedies || !details)
        return GEMMUX_ERROR_MEMORY;
    *finding = (gemmux_finding){
        .id = cause->id,
        .title = cause->title,
        .stage = cause->stage,
        .blame = cause->blame,
        .claim = cause->claim,
        .symptom = cause->symptom,
        .cause = fill(doctor, cause, cause->cause, NULL),
        .claim_text = fill(doctor, cause, cause->claim_text, NULL),
        .remedies = remedies,
        .remedy_count = cause->remedy_count,
        .evidence = evidence,
        .evidence_count = weigh(doctor, cause, machine, evidence),
        .details = details,
        .detail_count = cause->detail_count,
        .references = cause->references,
        .reference_count = cause->reference_count,
        .line = cause->line,
        .excerpt = cause->excerpt,
    };
    for (int i = 0; i < cause->remedy_count; i++) {
        remedies[i].price = fill(doctor, cause, cause->remedies[i].price, NULL);
        remedies[i].text = fill(doctor, cause, cause->remedies[i].text, NULL);
        if (!remedies[i].price || !remedies[i].text)
            return GEMMUX_ERROR_MEMORY;
    }
    for (int i = 0; i < cause->detail_count; i++) {
        size_t length = strspn(cause->detail_names[i], "abcdefghijklmnopqrstuvwxyz_");
        char *name = gemmux_doctor_keep(doctor, length + 1);
        if (!name)
            return GEMMUX_ERROR_MEMORY;
        memcpy(name, cause->detail_names[i], length);
        details[i] = (gemmux_detail){name, cause->detail_values[i]};
    }
    return finding->cause && finding->claim_text ? GEMMUX_OK : GEMMUX_ERROR_MEMORY;
}

/* Root causes first, then by line: the first thing that went wrong explains what came after. */
static int compare_findings(const void *left, const void *right)
{
    const gemmux_finding *a = left, *b = right;
    if (a->symptom != b->symptom)
        return a->symptom ? 1 : -1;
    if (a->line != b->line)
        return a->line < b->line ? -1 : 1;
    return strcmp(a->id, b->id);
}

gemmux_status gemmux_doctor_diagnose(gemmux_doctor *doctor, const gemmux_machine *machine,
                                     const gemmux_finding **findings, int *count,
                                     gemmux_error *error)
{
    if (!doctor || !findings || !count)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "a diagnosis needs a doctor and somewhere "
                           "to put its findings");
    *findings = NULL;
    *count = 0;
    if (!doctor->started) {
        gemmux_status status = gemmux_doctor_compile(doctor, error);
        if (status)
            return status;
    }
    gemmux_doctor_finish(doctor);
    doctor->findings =
        gemmux_doctor_keep(doctor, (size_t)(doctor->cause_count + 1) * sizeof(gemmux_finding));
    gemmux_status status = doctor->findings ? GEMMUX_OK : GEMMUX_ERROR_MEMORY;
    for (int i = 0; i < doctor->cause_count && !status; i++) {
        int64_t matches;
        if (!fired(doctor, i, &matches))
            continue;
        status = describe(doctor, doctor->causes[i], machine, &doctor->findings[*count]);
        doctor->findings[(*count)++].matches = matches;
    }
    if (status) {
        *count = 0;
        return gemmux_fail(error, status, "out of memory for a diagnosis");
    }
    qsort(doctor->findings, (size_t)*count, sizeof doctor->findings[0], compare_findings);
    *findings = doctor->findings;
    return GEMMUX_OK;
}
