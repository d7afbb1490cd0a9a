/* SPDX-License-Identifier: Apache-2.0
 *
 * One pass over a log for all patterns of all causes. Each pattern has an anchor, its longest
 * literal part; eight bytes of it, folded to lower case, are looked up at every position of the
 * log (a bit set first, then a hash table), and only where they stand is the pattern tried on its
 * line. So the time is that of reading the log, and the memory a window of fixed size.
 *
 * The log is cleaned on its way into the window: colour codes and NUL bytes go, so that what a
 * terminal or UTF-16 put between the letters does not hide a message.
 */
#include "doctor.h"

#include "error.h"

#include <string.h>

enum {
    WINDOW = 256 * 1024,
    SEEN_BITS = 16,
    FAILURE_LIMIT = 1 << 10, /* tries of one pattern that may fail; bounds hostile logs */
    QUOTE_LIMIT = 32         /* matches of one pattern among which the line to quote is sought */
};

enum { ESCAPE_NONE, ESCAPE_START, ESCAPE_CSI, ESCAPE_OSC };

static unsigned char fold(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c | 0x20) : c;
}

/* Eight bytes with the case bit set: folds letters, and a few other bytes that a full comparison
 * tells apart later. */
static uint64_t load_key(const char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v | UINT64_C(0x2020202020202020);
}

static uint64_t hash(uint64_t key)
{
    key *= UINT64_C(0x9e3779b97f4a7c15);
    return key ^ key >> 29;
}

static const char *anchor_text(const gemmux_pattern *pattern)
{
    return pattern->tokens[pattern->anchor].text;
}

gemmux_status gemmux_doctor_compile(gemmux_doctor *doctor, gemmux_error *error)
{
    uint32_t size = 64;
    while (size < 4 * (uint32_t)doctor->pattern_count)
        size *= 2;
    doctor->heads_mask = size - 1;
    doctor->heads = gemmux_doctor_keep(doctor, size * sizeof *doctor->heads);
    doctor->seen = gemmux_doctor_keep(doctor, (1u << SEEN_BITS) / 8);
    doctor->window = gemmux_doctor_keep(doctor, WINDOW + 8); /* load_key may look past the end */
    if (!doctor->heads || !doctor->seen || !doctor->window)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "out of memory for the doctor's tables");
    for (uint32_t i = 0; i < size; i++)
        doctor->heads[i] = -1;
    for (int i = 0; i < doctor->pattern_count; i++) {
        gemmux_pattern *pattern = &doctor->patterns[i];
        uint64_t key = load_key(anchor_text(pattern)), h = hash(key);
        doctor->seen[(h & ((1u << SEEN_BITS) - 1)) / 64] |= UINT64_C(1) << (h % 64);
        uint32_t slot = (uint32_t)(h >> 32) & doctor->heads_mask;
        while (doctor->heads[slot] >= 0 &&
               load_key(anchor_text(&doctor->patterns[doctor->heads[slot]])) != key)
            slot = (slot + 1) & doctor->heads_mask;
        pattern->next = doctor->heads[slot];
        doctor->heads[slot] = i;
    }
    doctor->line = 1;
    doctor->started = true;
    return GEMMUX_OK;
}

/* ------------------------------------------------------------------------------ one pattern */

typedef struct span {
    const char *begin, *end;
} span;

static bool literal_at(const gemmux_token *token, const char *at, const char *end)
{
    if ((size_t)(end - at) < token->length)
        return false;
    for (size_t i = 0; i < token->length; i++)
        if (fold((unsigned char)at[i]) != fold((unsigned char)token->text[i]))
            return false;
    return true;
}

static const char *find_literal(const gemmux_token *token, const char *at, const char *end)
{
    for (; (size_t)(end - at) >= token->length; at++)
        if (literal_at(token, at, end))
            return at;
    return NULL;
}

/* Letters, digits and what stands inside words, paths and versions. */
static bool in_value(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '/' || c == '-' || c == '+' || c == ':';
}

/* The end of a captured value that nothing follows. */
static const char *value_end(const char *at, const char *end)
{
    const char *stop = at;
    while (stop < end && in_value(*stop))
        stop++;
    while (stop > at && (stop[-1] == '.' || stop[-1] == ':' || stop[-1] == '-' || stop[-1] == '/'))
        stop--;
    return stop;
}

/* Matches tokens[i..] from `at`, the first token exactly there; fills spans of the captures. */
static bool match_tokens(const gemmux_pattern *pattern, const char *at, const char *end,
                         span *captures)
{
    for (int i = 0; i < pattern->token_count; i++) {
        const gemmux_token *token = &pattern->tokens[i];
        bool last = i + 1 == pattern->token_count;
        if (token->kind == GEMMUX_TOKEN_LITERAL) {
            if (!literal_at(token, at, end))
                return false;
            at += token->length;
            continue;
        }
        const char *stop = end;
        if (!last)
            stop = find_literal(&pattern->tokens[i + 1], at, end);
        else if (token->kind == GEMMUX_TOKEN_CAPTURE)
            stop = value_end(at, end);
        if (!stop)
            return false;
        if (token->kind == GEMMUX_TOKEN_CAPTURE) {
            if (stop == at || memchr(at, ' ', (size_t)(stop - at)))
                return false;
            captures[i] = (span){at, stop};
        }
        at = stop;
    }
    return true;
}

static void keep_detail(gemmux_cause *cause, const gemmux_token *name, span value)
{
    if (gemmux_doctor_detail(cause, name->text, name->length) ||
        cause->detail_count == GEMMUX_DOCTOR_DETAILS)
        return;
    size_t length = (size_t)(value.end - value.begin);
    length = length < GEMMUX_DOCTOR_VALUE ? length : GEMMUX_DOCTOR_VALUE - 1;
    char *out = cause->detail_values[cause->detail_count];
    for (size_t i = 0; i < length; i++) /* details go into sentences: plain ASCII only */
        out[i] = (unsigned char)value.begin[i] < 0x20 || (unsigned char)value.begin[i] > 0x7e
                     ? '?'
                     : value.begin[i];
    out[length] = '\0';
    cause->detail_names[cause->detail_count++] = name->text;
}

/* A capture's name is not NUL-terminated where it stands in its pattern. */
static bool same_name(const char *kept, const char *name, size_t length)
{
    return !strncmp(kept, name, length) &&
           !(kept[length] == '_' || (unsigned char)(kept[length] - 'a') < 26);
}

static const char *captured(const gemmux_cause *cause, const char *name, size_t length)
{
    for (int i = 0; i < cause->detail_count; i++)
        if (same_name(cause->detail_names[i], name, length))
            return cause->detail_values[i];
    return NULL;
}

const char *gemmux_doctor_detail(const gemmux_cause *cause, const char *name, size_t length)
{
    const char *value = captured(cause, name, length);
    for (int i = 0; i < cause->map_count && !value; i++) {
        const gemmux_map *map = &cause->maps[i];
        if (!same_name(map->name, name, length))
            continue;
        const char *from = captured(cause, map->from, strlen(map->from));
        if (from && (!strcmp(map->prefix, "*") || !strncmp(from, map->prefix, strlen(map->prefix))))
            value = map->value;
    }
    return value;
}

/* Copies a line around `at`, keeping valid UTF-8 and turning the rest into question marks. */
static void keep_excerpt(gemmux_cause *cause, span line, const char *at)
{
    if (line.end - line.begin > GEMMUX_DOCTOR_EXCERPT && at - line.begin > 60)
        line.begin = at - 60;
    char *out = cause->excerpt, *stop = cause->excerpt + GEMMUX_DOCTOR_EXCERPT - 4;
    const unsigned char *p = (const unsigned char *)line.begin;
    const unsigned char *end = (const unsigned char *)line.end;
    while (p < end && out < stop) {
        int more = *p < 0x80 ? 0 : *p >= 0xc2 && *p < 0xe0 ? 1 : *p >= 0xe0 && *p < 0xf0 ? 2 : -1;
        bool good = more >= 0 && p + more < end && !(*p == 0xe0 && p[1] < 0xa0) &&
                    !(*p == 0xed && p[1] > 0x9f);
        for (int i = 1; good && i <= more; i++)
            good = (p[i] & 0xc0) == 0x80;
        if (*p == '\t') {
            *out++ = ' ';
        } else if (!good || *p < 0x20 || *p == 0x7f) {
            *out++ = '?';
        } else {
            for (int i = 0; i <= more; i++)
                *out++ = (char)p[i];
            p += more;
        }
        p++;
    }
    *out = '\0';
}

static span line_around(const gemmux_doctor *doctor, const char *at)
{
    const char *low = doctor->window, *high = doctor->window + doctor->used;
    span line = {at, at};
    while (line.begin > low && at - line.begin < GEMMUX_DOCTOR_LINE && line.begin[-1] != '\n' &&
           line.begin[-1] != '\r')
        line.begin--;
    while (line.end < high && line.end - at < GEMMUX_DOCTOR_LINE && *line.end != '\n' &&
           *line.end != '\r')
        line.end++;
    return line;
}

static int64_t plain_length(span line)
{
    while (line.begin < line.end && (*line.begin == ' ' || *line.begin == '\t'))
        line.begin++;
    return line.end - line.begin;
}

/* Of several lines that say it, the shortest says it most plainly: the message itself, not the
 * source line that holds its text, nor the page's title that speaks of it. */
static void quote(gemmux_cause *cause, span line, const char *at, int64_t line_number)
{
    if (cause->quoted && plain_length(line) >= cause->quoted_length)
        return;
    cause->quoted = line_number;
    cause->quoted_length = plain_length(line);
    keep_excerpt(cause, line, at);
}

/* The anchor's first eight bytes stand at `at`: is the whole pattern there? */
static void try_pattern(gemmux_doctor *doctor, gemmux_pattern *pattern, const char *at,
                        int64_t line_number)
{
    span captures[GEMMUX_DOCTOR_TOKENS] = {{0}};
    if (pattern->failures > FAILURE_LIMIT ||
        !literal_at(&pattern->tokens[pattern->anchor], at, doctor->window + doctor->used))
        return;
    gemmux_cause *cause = doctor->causes[pattern->cause];
    if (pattern->matches) {
        pattern->matches++; /* the anchor tells enough from the second time on */
        if (pattern->role == GEMMUX_ROLE_MATCH && pattern->matches <= QUOTE_LIMIT &&
            pattern->token_count == 1)
            quote(cause, line_around(doctor, at), at, line_number);
        return;
    }
    span line = line_around(doctor, at);
    const char *from = pattern->anchor ? line.begin : at;
    bool found = false;
    if (pattern->tokens[0].kind != GEMMUX_TOKEN_LITERAL) { /* a capture before the anchor */
        from = at;
        while (from > line.begin && from[-1] != ' ' && at - from < GEMMUX_DOCTOR_VALUE)
            from--;
        found = match_tokens(pattern, from, line.end, captures);
    } else {
        for (; !found && from && from <= at; from++) {
            from = find_literal(&pattern->tokens[0], from, line.end);
            if (!from || from > at)
                break;
            found = match_tokens(pattern, from, line.end, captures);
        }
    }
    if (!found) {
        pattern->failures++;
        return;
    }
    for (int i = 0; i < pattern->token_count; i++)
        if (captures[i].begin)
            keep_detail(cause, &pattern->tokens[i], captures[i]);
    if (!pattern->matches++)
        pattern->line = line_number;
    if (pattern->role == GEMMUX_ROLE_MATCH) {
        cause->line = cause->line ? cause->line : line_number;
        quote(cause, line, at, line_number);
    }
}

/* --------------------------------------------------------------------------------- the pass */

static int64_t newlines(const char *begin, const char *end)
{
    int64_t count = 0;
    for (const char *p = begin; p < end; p++)
        count += *p == '\n';
    return count;
}

/* Looks for anchors that start in [scanned, limit). */
static void scan_window(gemmux_doctor *doctor, size_t limit)
{
    const char *window = doctor->window, *counted = window + doctor->scanned;
    for (size_t i = doctor->scanned; i < limit; i++) {
        uint64_t key = load_key(window + i), h = hash(key);
        if (!(doctor->seen[(h & ((1u << SEEN_BITS) - 1)) / 64] >> (h % 64) & 1))
            continue;
        uint32_t slot = (uint32_t)(h >> 32) & doctor->heads_mask;
        for (; doctor->heads[slot] >= 0; slot = (slot + 1) & doctor->heads_mask) {
            if (load_key(anchor_text(&doctor->patterns[doctor->heads[slot]])) != key)
                continue;
            doctor->line += newlines(counted, window + i);
            counted = window + i;
            for (int j = doctor->heads[slot]; j >= 0; j = doctor->patterns[j].next)
                try_pattern(doctor, &doctor->patterns[j], window + i, doctor->line);
            break;
        }
    }
    if (limit > doctor->scanned) {
        doctor->line += newlines(counted, window + limit);
        doctor->scanned = limit;
    }
}

/* Drops what no pattern can look back at any more. */
static void slide(gemmux_doctor *doctor)
{
    size_t keep_from =
        doctor->scanned > GEMMUX_DOCTOR_LINE ? doctor->scanned - GEMMUX_DOCTOR_LINE : 0;
    memmove(doctor->window, doctor->window + keep_from, doctor->used - keep_from);
    doctor->used -= keep_from;
    doctor->scanned -= keep_from;
}

static void add(gemmux_doctor *doctor, const uint8_t *data, size_t size)
{
    while (size) {
        size_t room = WINDOW - doctor->used, count = size < room ? size : room;
        memcpy(doctor->window + doctor->used, data, count);
        doctor->used += count;
        data += count;
        size -= count;
        if (doctor->used == WINDOW) {
            scan_window(doctor, WINDOW - GEMMUX_DOCTOR_LINE);
            slide(doctor);
        }
    }
}

/* Terminal codes are ESC [ ... letter (colours, cursor), ESC ] ... BEL (titles) and ESC letter. */
static int next_escape(int state, uint8_t c)
{
    switch (state) {
    case ESCAPE_START:
        return c == '[' ? ESCAPE_CSI : c == ']' ? ESCAPE_OSC : ESCAPE_NONE;
    case ESCAPE_CSI:
        return c >= 0x40 && c <= 0x7e ? ESCAPE_NONE : ESCAPE_CSI;
    default:
        return c == 0x07 || c == '\n' ? ESCAPE_NONE : c == 0x1b ? ESCAPE_START : ESCAPE_OSC;
    }
}

void gemmux_doctor_scan(gemmux_doctor *doctor, const uint8_t *data, size_t size)
{
    const uint8_t *end = data + size, *plain = data;
    for (const uint8_t *p = data; p < end; p++) {
        if (doctor->escape == ESCAPE_NONE && *p && *p != 0x1b)
            continue;
        if (p > plain && doctor->escape == ESCAPE_NONE)
            add(doctor, plain, (size_t)(p - plain));
        if (doctor->escape != ESCAPE_NONE)
            doctor->escape = next_escape(doctor->escape, *p);
        else if (*p == 0x1b)
            doctor->escape = ESCAPE_START;
        plain = p + 1;
    }
    if (end > plain && doctor->escape == ESCAPE_NONE)
        add(doctor, plain, (size_t)(end - plain));
}

void gemmux_doctor_finish(gemmux_doctor *doctor)
{
    memset(doctor->window + doctor->used, 0, 8);
    if (doctor->used >= GEMMUX_DOCTOR_ANCHOR)
        scan_window(doctor, doctor->used - GEMMUX_DOCTOR_ANCHOR + 1);
}
