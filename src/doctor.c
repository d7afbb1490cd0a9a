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
    snprintf(id, size + 1, "%s", base); /* cuts ".txt" off */
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
const char *gemmux_doctor_fill(gemmux_doctor *doctor, const gemmux_cause *cause, const char *text,
                               const char *here)
{
    static const char missing[] = "not in the log";
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
        value = value ? value : missing;
        while (*value && used + 1 < room)
            out[used++] = *value++;
        text += length;
    }
    return out;
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
        .cause = gemmux_doctor_fill(doctor, cause, cause->cause, NULL),
        .claim_text = gemmux_doctor_fill(doctor, cause, cause->claim_text, NULL),
        .remedies = remedies,
        .remedy_count = cause->remedy_count,
        .evidence = evidence,
        .evidence_count = gemmux_doctor_weigh(doctor, cause, machine, evidence),
        .details = details,
        .detail_count = cause->detail_count,
        .references = cause->references,
        .reference_count = cause->reference_count,
        .line = cause->line,
        .excerpt_line = cause->quoted,
        .excerpt = cause->excerpt,
    };
    for (int i = 0; i < cause->remedy_count; i++) {
        remedies[i].price = gemmux_doctor_fill(doctor, cause, cause->remedies[i].price, NULL);
        remedies[i].text = gemmux_doctor_fill(doctor, cause, cause->remedies[i].text, NULL);
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
