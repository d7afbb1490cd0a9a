/* SPDX-License-Identifier: Apache-2.0
 *
 * The text format of causes/ (docs/doctor.md): one fact a line, a key and a value; a line that
 * starts with a space goes on with the value above. Complaints name the source and the line.
 */
#include "doctor.h"

#include "error.h"
#include "nearest.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { RECORD_LIMIT = 32 * 1024 };

typedef struct key key;

typedef struct parser {
    gemmux_doctor *doctor;
    gemmux_cause *cause;
    const char *source;
    int line;
    int index; /* of the cause */
    char *sample;
    size_t sample_used;
    const key *key;
    char *value; /* NUL-terminated, continuation lines joined */
    gemmux_error *error;
} parser;

struct key {
    const char *name;
    gemmux_status (*read)(parser *p);
};

static gemmux_status fail(parser *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

static gemmux_status fail(parser *p, const char *format, ...)
{
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return gemmux_fail(p->error, GEMMUX_ERROR_INPUT, "%.80s:%d: %s", p->source, p->line, text);
}

static gemmux_status unknown(parser *p, const char *what, const char *text, size_t length,
                             const char *const *names, int count)
{
    const char *near = gemmux_nearest(text, length, names, count);
    return fail(p, "unknown %s '%.*s'%s%s%s", what, (int)(length < 60 ? length : 60), text,
                near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

/* The index of the first word of *text among names; moves *text past it. -1 when unknown. */
static int word_of(char **text, const char *const *names, int count)
{
    size_t length = strcspn(*text, " ");
    for (int i = 0; i < count; i++)
        if (strlen(names[i]) == length && !strncmp(*text, names[i], length)) {
            *text += length + strspn(*text + length, " ");
            return i;
        }
    return -1;
}

/* Cuts the next word off *text. */
static char *cut_word(char **text)
{
    char *word = *text;
    size_t length = strcspn(word, " ");
    *text += length + strspn(word + length, " ");
    word[length] = '\0';
    return word;
}

/* ------------------------------------------------------------------------------------ patterns */

static gemmux_status add_token(parser *p, gemmux_pattern *pattern, gemmux_token_kind kind,
                               const char *text, size_t length)
{
    const gemmux_token *last =
        pattern->token_count ? &pattern->tokens[pattern->token_count - 1] : NULL;
    if (pattern->token_count == GEMMUX_DOCTOR_TOKENS)
        return fail(p, "the pattern has more than %d parts", GEMMUX_DOCTOR_TOKENS);
    if (kind != GEMMUX_TOKEN_LITERAL && last && last->kind != GEMMUX_TOKEN_LITERAL)
        return fail(p, "two of '*' and '{name}' need a literal between them");
    pattern->tokens[pattern->token_count++] =
        (gemmux_token){.kind = (uint8_t)kind, .text = text, .length = length};
    return GEMMUX_OK;
}

static gemmux_status split_pattern(parser *p, const char *text, gemmux_pattern *pattern)
{
    gemmux_status status = GEMMUX_OK;
    while (*text && !status) {
        size_t length = strcspn(text, "*{");
        if (length) {
            status = add_token(p, pattern, GEMMUX_TOKEN_LITERAL, text, length);
        } else if (*text == '*') {
            length = 1;
            status = add_token(p, pattern, GEMMUX_TOKEN_ANY, text, 1);
        } else {
            size_t name = strspn(text + 1, "abcdefghijklmnopqrstuvwxyz_");
            if (!name || text[1 + name] != '}')
                return fail(p, "'{' in a pattern starts the name of a detail: {name}");
            length = name + 2;
            status = add_token(p, pattern, GEMMUX_TOKEN_CAPTURE, text + 1, name);
        }
        text += length;
    }
    size_t longest = 0;
    for (int i = 0; i < pattern->token_count; i++)
        if (pattern->tokens[i].kind == GEMMUX_TOKEN_LITERAL &&
            pattern->tokens[i].length > longest) {
            longest = pattern->tokens[i].length;
            pattern->anchor = (uint8_t)i;
        }
    if (!status && longest < GEMMUX_DOCTOR_ANCHOR)
        return fail(p, "a pattern needs a literal part of at least %d bytes", GEMMUX_DOCTOR_ANCHOR);
    if (!status && pattern->tokens[0].kind == GEMMUX_TOKEN_ANY)
        return fail(p, "'*' at the start of a pattern says nothing");
    return status;
}

static gemmux_status add_pattern(parser *p, gemmux_pattern_role role)
{
    gemmux_doctor *doctor = p->doctor;
    gemmux_pattern pattern = {.cause = p->index, .role = (uint8_t)role, .next = -1};
    if (p->cause->pattern_count[role] == GEMMUX_DOCTOR_LIST)
        return fail(p, "more than %d of '%s'", GEMMUX_DOCTOR_LIST, p->key->name);
    gemmux_status status = split_pattern(p, p->value, &pattern);
    if (status)
        return status;
    if (doctor->pattern_count == doctor->pattern_room) {
        int room = doctor->pattern_room ? doctor->pattern_room * 2 : 256;
        gemmux_pattern *more = gemmux_doctor_keep(doctor, (size_t)room * sizeof *more);
        if (!more)
            return gemmux_fail(p->error, GEMMUX_ERROR_MEMORY, "out of memory for patterns");
        if (doctor->pattern_count)
            memcpy(more, doctor->patterns, (size_t)doctor->pattern_count * sizeof *more);
        doctor->patterns = more;
        doctor->pattern_room = room;
    }
    doctor->patterns[doctor->pattern_count++] = pattern;
    p->cause->pattern_count[role]++;
    return GEMMUX_OK;
}

/* ---------------------------------------------------------------------------------------- keys */

static gemmux_status read_match(parser *p)
{
    return add_pattern(p, GEMMUX_ROLE_MATCH);
}

static gemmux_status read_and(parser *p)
{
    return add_pattern(p, GEMMUX_ROLE_AND);
}

static gemmux_status read_not(parser *p)
{
    return add_pattern(p, GEMMUX_ROLE_NOT);
}

static gemmux_status read_capture(parser *p)
{
    return add_pattern(p, GEMMUX_ROLE_CAPTURE);
}

static gemmux_status once(parser *p, const char **field)
{
    if (*field)
        return fail(p, "'%s' was already given", p->key->name);
    *field = p->value;
    return GEMMUX_OK;
}

static gemmux_status read_title(parser *p)
{
    return once(p, &p->cause->title);
}

static gemmux_status read_cause(parser *p)
{
    return once(p, &p->cause->cause);
}

static gemmux_status read_stage(parser *p)
{
    static const char *const names[] = {"op", "device", "precision", "library", "flags"};
    char *text = p->value;
    int i = word_of(&text, names, 5);
    if (i < 0 || *text)
        return unknown(p, "stage", p->value, strlen(p->value), names, 5);
    p->cause->stage = (uint8_t)(GEMMUX_STAGE_OP + i);
    return GEMMUX_OK;
}

static const char *const blames[] = {"hardware", "build",  "toolchain",
                                     "layout",   "policy", "defect"};

static gemmux_status read_blame(parser *p)
{
    char *text = p->value;
    int i = word_of(&text, blames, 6);
    if (i < 0 || *text)
        return unknown(p, "blame", p->value, strlen(p->value), blames, 6);
    p->cause->blame = (uint8_t)(GEMMUX_BLAME_HARDWARE + i);
    return GEMMUX_OK;
}

static const char *const claims[] = {"true", "misleading", "false"};

/* claim false: why */
static gemmux_status read_claim(parser *p)
{
    char *text = p->value;
    int i = word_of(&text, claims, 3);
    if (i < 0)
        return unknown(p, "claim", p->value, strcspn(p->value, " "), claims, 3);
    if (p->cause->claim)
        return fail(p, "'claim' was already given");
    p->cause->claim = (uint8_t)(GEMMUX_CLAIM_TRUE + i);
    p->cause->claim_text = text;
    if (!*text)
        return fail(p, "'claim' says why after its verdict");
    return GEMMUX_OK;
}

static gemmux_status read_rank(parser *p)
{
    static const char *const names[] = {"root", "symptom"};
    char *text = p->value;
    int i = word_of(&text, names, 2);
    if (i < 0 || *text)
        return unknown(p, "rank", p->value, strlen(p->value), names, 2);
    p->cause->symptom = i == 1;
    return GEMMUX_OK;
}

/* Splits "left | right" and trims the space before the bar. NULL when there is no bar. */
static char *split_bar(char *text)
{
    char *bar = strchr(text, '|');
    if (!bar)
        return NULL;
    char *end = bar;
    while (end > text && end[-1] == ' ')
        end--;
    *end = '\0';
    bar++;
    return bar + strspn(bar, " ");
}

static gemmux_status read_fix(parser *p)
{
    char *text = split_bar(p->value);
    if (!text || !*text || !*p->value)
        return fail(p, "a fix is 'fix PRICE | what to do'");
    if (p->cause->remedy_count == GEMMUX_DOCTOR_LIST)
        return fail(p, "more than %d fixes", GEMMUX_DOCTOR_LIST);
    p->cause->remedies[p->cause->remedy_count++] = (gemmux_remedy){p->value, text};
    return GEMMUX_OK;
}

static gemmux_status read_ref(parser *p)
{
    if (p->cause->reference_count == GEMMUX_DOCTOR_LIST)
        return fail(p, "more than %d references", GEMMUX_DOCTOR_LIST);
    p->cause->references[p->cause->reference_count++] = p->value;
    return GEMMUX_OK;
}

static gemmux_status read_fact(parser *p)
{
    static const char *const verdicts[] = {"confirms", "contradicts"};
    static const char *const subjects[] = {"kind",     "cc",     "smem", "memory", "cuda",
                                           "cublaslt", "onednn", "isa",  "ptxas"};
    enum { SUBJECTS = sizeof subjects / sizeof subjects[0] };
    static const char *const operators[] = {"is", "below", "from"};
    const char *usage = "a fact is 'fact confirms|contradicts SUBJECT is|below|from VALUE | text'";
    char *text = split_bar(p->value), *rest = p->value;
    if (!text || !*text)
        return fail(p, "%s", usage);
    if (p->cause->fact_count == GEMMUX_DOCTOR_LIST)
        return fail(p, "more than %d facts", GEMMUX_DOCTOR_LIST);
    int verdict = word_of(&rest, verdicts, 2);
    int subject = verdict < 0 ? -1 : word_of(&rest, subjects, SUBJECTS);
    int operation = subject < 0 ? -1 : word_of(&rest, operators, 3);
    if (operation < 0 || !*rest)
        return fail(p, "%s", usage);
    p->cause->facts[p->cause->fact_count++] = (gemmux_fact){
        .kind = (uint8_t)(GEMMUX_EVIDENCE_CONFIRMS + verdict),
        .operation = (uint8_t)operation,
        .subject = subjects[subject],
        .values = rest,
        .text = text,
    };
    return GEMMUX_OK;
}

static gemmux_status read_map(parser *p)
{
    char *rest = p->value;
    if (p->cause->map_count == GEMMUX_DOCTOR_MAPS)
        return fail(p, "more than %d maps", GEMMUX_DOCTOR_MAPS);
    gemmux_map map;
    map.name = cut_word(&rest);
    map.from = cut_word(&rest);
    map.prefix = cut_word(&rest);
    if (rest[0] != '=' || rest[1] != ' ' || !rest[2])
        return fail(p, "a map is 'map NAME FROM PREFIX = VALUE'");
    map.value = rest + 2;
    p->cause->maps[p->cause->map_count++] = map;
    return GEMMUX_OK;
}

static gemmux_status read_sample(parser *p)
{
    size_t length = strlen(p->value); /* the sample is never longer than the record */
    memcpy(p->sample + p->sample_used, p->value, length);
    p->sample_used += length;
    p->sample[p->sample_used++] = '\n';
    return GEMMUX_OK;
}

static const key keys[] = {
    {"title", read_title}, {"stage", read_stage},     {"blame", read_blame},
    {"rank", read_rank},   {"match", read_match},     {"and", read_and},
    {"not", read_not},     {"capture", read_capture}, {"map", read_map},
    {"cause", read_cause}, {"claim", read_claim},     {"fix", read_fix},
    {"fact", read_fact},   {"ref", read_ref},         {"sample", read_sample},
};
enum { KEY_COUNT = sizeof keys / sizeof keys[0] };

/* --------------------------------------------------------------------------------- whole record */

static gemmux_status read_entry(parser *p, char *text)
{
    size_t length = strcspn(text, " ");
    const char *names[KEY_COUNT];
    for (int i = 0; i < KEY_COUNT; i++) {
        names[i] = keys[i].name;
        if (strlen(names[i]) != length || strncmp(text, names[i], length) != 0)
            continue;
        p->key = &keys[i];
        p->value = text + length + strspn(text + length, " ");
        if (!*p->value && keys[i].read != read_sample)
            return fail(p, "'%s' has no value", names[i]);
        return keys[i].read(p);
    }
    return unknown(p, "key", text, length, names, KEY_COUNT);
}

static bool captured(const parser *p, const char *name, size_t length)
{
    for (int i = 0; i < p->doctor->pattern_count; i++) {
        const gemmux_pattern *pattern = &p->doctor->patterns[i];
        for (int j = 0; pattern->cause == p->index && j < pattern->token_count; j++)
            if (pattern->tokens[j].kind == GEMMUX_TOKEN_CAPTURE &&
                pattern->tokens[j].length == length &&
                !strncmp(pattern->tokens[j].text, name, length))
                return true;
    }
    return false;
}

/* Is {name} a detail that a pattern or a map of this cause can give? */
static bool defined(const parser *p, const char *name, size_t length)
{
    if (length == 4 && !strncmp(name, "here", 4))
        return true; /* the machine's own value, in facts */
    for (int i = 0; i < p->cause->map_count; i++)
        if (strlen(p->cause->maps[i].name) == length &&
            !strncmp(p->cause->maps[i].name, name, length))
            return true;
    return captured(p, name, length);
}

static gemmux_status check_names(parser *p, const char *text)
{
    for (; text && (text = strchr(text, '{')); text++) {
        size_t length = strspn(text + 1, "abcdefghijklmnopqrstuvwxyz_");
        if (length && text[1 + length] == '}' && !defined(p, text + 1, length))
            return fail(p, "no pattern or map gives the detail {%.*s}", (int)length, text + 1);
    }
    return GEMMUX_OK;
}

static gemmux_status check_record(parser *p)
{
    gemmux_cause *cause = p->cause;
    const char *missing = !cause->title                              ? "title"
                          : !cause->cause                            ? "cause"
                          : !cause->blame                            ? "blame"
                          : !cause->claim                            ? "claim"
                          : cause->stage == UINT8_MAX                ? "stage"
                          : !cause->pattern_count[GEMMUX_ROLE_MATCH] ? "match"
                          : !cause->remedy_count                     ? "fix"
                          : !cause->reference_count                  ? "ref"
                          : !p->sample_used                          ? "sample"
                                                                     : NULL;
    if (missing)
        return fail(p, "the record has no '%s'", missing);
    gemmux_status status = check_names(p, cause->cause);
    if (!status)
        status = check_names(p, cause->claim_text);
    for (int i = 0; i < cause->remedy_count && !status; i++) {
        status = check_names(p, cause->remedies[i].price);
        if (!status)
            status = check_names(p, cause->remedies[i].text);
    }
    for (int i = 0; i < cause->fact_count && !status; i++) {
        status = check_names(p, cause->facts[i].values);
        if (!status)
            status = check_names(p, cause->facts[i].text);
    }
    for (int i = 0; i < cause->map_count && !status; i++)
        if (!captured(p, cause->maps[i].from, strlen(cause->maps[i].from)))
            status = fail(p, "no pattern gives the detail {%.40s} that a map starts from",
                          cause->maps[i].from);
    return status;
}

/* Joins a value with the lines that go on with it. Returns where the next entry starts. */
static char *join(char *line, char *end, int *lines)
{
    char *out = memchr(line, '\n', (size_t)(end - line));
    char *next = out ? out + 1 : end;
    out = out ? out : end;
    *lines = 1;
    while (next < end && *next == ' ') {
        char *stop = memchr(next, '\n', (size_t)(end - next));
        stop = stop ? stop : end;
        char *from = next + strspn(next, " ");
        *out++ = ' ';
        memmove(out, from, (size_t)(stop - from));
        out += stop - from;
        next = stop < end ? stop + 1 : end;
        ++*lines;
    }
    while (out > line && (out[-1] == ' ' || out[-1] == '\r'))
        out--;
    *out = '\0';
    return next;
}

static gemmux_status read_entries(parser *p, char *text, size_t length)
{
    char *end = text + length;
    p->line = 1;
    while (text < end) {
        int lines = 1;
        if (*text == '\n' || *text == '#') {
            char *newline = memchr(text, '\n', (size_t)(end - text));
            text = newline ? newline + 1 : end;
        } else if (*text == ' ') {
            return fail(p, "a line that goes on with nothing");
        } else {
            char *next = join(text, end, &lines);
            gemmux_status status = read_entry(p, text);
            if (status)
                return status;
            text = next;
        }
        p->line += lines;
    }
    return check_record(p);
}

gemmux_status gemmux_doctor_parse(gemmux_doctor *doctor, const char *id, const char *source,
                                  char *text, size_t length, gemmux_error *error)
{
    parser p = {.doctor = doctor,
                .cause = gemmux_doctor_keep(doctor, sizeof *p.cause),
                .source = source,
                .line = 1,
                .index = doctor->cause_count,
                .sample = gemmux_doctor_keep(doctor, length + 2),
                .error = error};
    if (!p.cause || !p.sample)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "out of memory for a cause");
    if (length > RECORD_LIMIT)
        return fail(&p, "the record has more than %d bytes", RECORD_LIMIT);
    if (memchr(text, '\0', length))
        return fail(&p, "the record has a NUL byte");
    p.cause->id = id;
    p.cause->sample = p.sample;
    p.cause->stage = UINT8_MAX;
    int patterns = doctor->pattern_count;
    gemmux_status status = read_entries(&p, text, length);
    if (status) {
        doctor->pattern_count = patterns;
        return status;
    }
    doctor->causes[doctor->cause_count++] = p.cause;
    return GEMMUX_OK;
}

const char *gemmux_blame_name(gemmux_blame blame)
{
    int i = (int)blame - GEMMUX_BLAME_HARDWARE;
    return i >= 0 && i < 6 ? blames[i] : "unknown";
}

const char *gemmux_claim_name(gemmux_claim claim)
{
    int i = (int)claim - GEMMUX_CLAIM_TRUE;
    return i >= 0 && i < 3 ? claims[i] : "unknown";
}
