/* SPDX-License-Identifier: Apache-2.0
 *
 * The regular expressions are Thompson's: a pattern becomes a program of at most MAX_STEPS steps,
 * and all states advance together over the text.
 */
#include "pattern.h"

#include <stdint.h>
#include <string.h>

#define MAX_STEPS   512
#define MAX_SETS    MAX_STEPS
#define MAX_DEPTH   64
#define MAX_REPEATS 16

typedef enum op { OP_SET, OP_SPLIT, OP_JUMP, OP_START, OP_END, OP_MATCH } op;

/* Jumps are relative, so that a run of steps can be moved and copied. */
typedef struct step {
    uint8_t op;
    int16_t a, b; /* SET: index of the set. SPLIT: both ways. JUMP: a */
} step;

typedef struct set {
    uint32_t bits[8];
} set;

typedef struct program {
    step steps[MAX_STEPS];
    int count;
    set sets[MAX_SETS];
    int set_count;
    const char *at; /* what is left of the pattern */
    bool bad;
} program;

bool gemmux_glob_match(const char *glob, const char *text, size_t length)
{
    const char *end = text + length, *star = NULL, *resume = NULL;
    while (text < end) {
        if (*glob == '*') {
            star = glob++;
            resume = text;
        } else if (*glob && (*glob == '?' || *glob == *text)) {
            glob++;
            text++;
        } else if (star) {
            glob = star + 1;
            text = ++resume;
        } else {
            return false;
        }
    }
    while (*glob == '*')
        glob++;
    return *glob == '\0';
}

static void emit(program *p, op kind, int a, int b)
{
    if (p->count == MAX_STEPS) {
        p->bad = true;
        return;
    }
    p->steps[p->count++] = (step){(uint8_t)kind, (int16_t)a, (int16_t)b};
}

static void insert(program *p, int where, op kind, int a, int b)
{
    emit(p, kind, a, b);
    if (p->bad)
        return;
    step last = p->steps[p->count - 1];
    memmove(&p->steps[where + 1], &p->steps[where],
            (size_t)(p->count - 1 - where) * sizeof p->steps[0]);
    p->steps[where] = last;
}

static void set_add(set *s, int first, int last)
{
    for (int i = first; i <= last; i++)
        s->bits[i / 32] |= UINT32_C(1) << (i % 32);
}

static void emit_set(program *p, set s)
{
    if (p->set_count == MAX_SETS) {
        p->bad = true;
        return;
    }
    p->sets[p->set_count] = s;
    emit(p, OP_SET, p->set_count++, 0);
}

static void set_invert(set *s)
{
    for (int i = 0; i < 8; i++)
        s->bits[i] = ~s->bits[i];
}

/* After a backslash: a class or the character itself. Unknown letters are not read. */
static set escape(program *p, char letter)
{
    set s = {{0}};
    switch (letter) {
    case 'd':
    case 'D':
        set_add(&s, '0', '9');
        break;
    case 'w':
    case 'W':
        set_add(&s, '0', '9');
        set_add(&s, 'a', 'z');
        set_add(&s, 'A', 'Z');
        set_add(&s, '_', '_');
        break;
    case 's':
    case 'S':
        set_add(&s, '\t', '\r');
        set_add(&s, ' ', ' ');
        break;
    default:
        if ((letter >= '0' && letter <= '9') || (letter >= 'a' && letter <= 'z') ||
            (letter >= 'A' && letter <= 'Z') || letter == '\0')
            p->bad = true;
        else
            set_add(&s, (unsigned char)letter, (unsigned char)letter);
    }
    if (letter == 'D' || letter == 'W' || letter == 'S')
        set_invert(&s);
    return s;
}

/* After "[". */
static void parse_class(program *p)
{
    set s = {{0}};
    bool inverted = *p->at == '^';
    if (inverted)
        p->at++;
    bool first = true;
    while (*p->at && (*p->at != ']' || first)) {
        first = false;
        unsigned char from = (unsigned char)*p->at++;
        if (from == '\\') {
            set more = escape(p, *p->at);
            if (p->bad)
                return;
            p->at++;
            for (int i = 0; i < 8; i++)
                s.bits[i] |= more.bits[i];
        } else if (p->at[0] == '-' && p->at[1] && p->at[1] != ']' && p->at[1] != '\\') {
            set_add(&s, from, (unsigned char)p->at[1]);
            p->at += 2;
        } else {
            set_add(&s, from, from);
        }
    }
    if (*p->at != ']') {
        p->bad = true;
        return;
    }
    p->at++;
    if (inverted)
        set_invert(&s);
    emit_set(p, s);
}

static void parse_choice(program *p, int depth);

static void parse_atom(program *p, int depth)
{
    set s = {{0}};
    char c = *p->at++;
    switch (c) {
    case '(':
        if (p->at[0] == '?' && p->at[1] != ':') {
            p->bad = true;
            return;
        }
        if (p->at[0] == '?')
            p->at += 2;
        parse_choice(p, depth + 1);
        if (*p->at != ')')
            p->bad = true;
        else
            p->at++;
        return;
    case '[':
        parse_class(p);
        return;
    case '^':
        emit(p, OP_START, 0, 0);
        return;
    case '$':
        emit(p, OP_END, 0, 0);
        return;
    case '.':
        set_invert(&s);
        emit_set(p, s);
        return;
    case '\\':
        s = escape(p, *p->at);
        if (!p->bad)
            p->at++;
        emit_set(p, s);
        return;
    case '*':
    case '+':
    case '?':
        p->bad = true;
        return;
    default:
        set_add(&s, (unsigned char)c, (unsigned char)c);
        emit_set(p, s);
    }
}

static void copy_steps(program *p, int first, int count)
{
    for (int i = 0; i < count; i++)
        emit(p, (op)p->steps[first + i].op, p->steps[first + i].a, p->steps[first + i].b);
}

/* Reads digits; -1 when there are none or the number is too large. */
static int parse_number(program *p)
{
    int value = -1;
    while (*p->at >= '0' && *p->at <= '9' && value <= MAX_REPEATS)
        value = (value < 0 ? 0 : value) * 10 + (*p->at++ - '0');
    return value <= MAX_REPEATS ? value : -1;
}

/* After "{": the atom in [first, first + length) at least `low` and at most `high` times. */
static void parse_counts(program *p, int first, int length)
{
    int low = parse_number(p), high = low;
    bool open = false;
    if (*p->at == ',') {
        p->at++;
        open = *p->at == '}';
        high = open ? low : parse_number(p);
    }
    if (*p->at != '}' || low < 0 || high < low || high == 0) {
        p->bad = true;
        return;
    }
    p->at++;
    for (int i = 1; i < high && !p->bad; i++)
        copy_steps(p, first, length);
    if (open) { /* the last copy becomes a loop of any number, after `low` of them */
        int start = p->count;
        copy_steps(p, first, length);
        insert(p, start, OP_SPLIT, 1, length + 2);
        emit(p, OP_JUMP, -(length + 1), 0);
        if (low == 0)
            p->bad = true; /* {0,} is written * */
        return;
    }
    for (int i = high; i > low && !p->bad; i--) /* copies beyond `low` may be skipped */
        insert(p, first + (i - 1) * length, OP_SPLIT, 1, 1 + (high - i + 1) * length + (high - i));
}

static void parse_repeat(program *p, int depth)
{
    int first = p->count;
    parse_atom(p, depth);
    int length = p->count - first;
    if (p->bad)
        return;
    switch (*p->at) {
    case '*':
        insert(p, first, OP_SPLIT, 1, length + 2);
        emit(p, OP_JUMP, -(length + 1), 0);
        break;
    case '+':
        emit(p, OP_SPLIT, -length, 1);
        break;
    case '?':
        insert(p, first, OP_SPLIT, 1, length + 1);
        break;
    case '{':
        p->at++;
        parse_counts(p, first, length);
        if (*p->at == '?' && !p->bad)
            p->at++;
        return;
    default:
        return;
    }
    p->at++;
    if (*p->at == '?') /* lazy: the same texts match */
        p->at++;
}

static void parse_choice(program *p, int depth)
{
    if (depth > MAX_DEPTH) {
        p->bad = true;
        return;
    }
    int first = p->count;
    while (!p->bad) {
        while (*p->at && *p->at != '|' && *p->at != ')' && !p->bad)
            parse_repeat(p, depth);
        if (*p->at != '|' || p->bad)
            return;
        p->at++;
        /* first: SPLIT to this alternative or past it; the rest follows, and ends where we end */
        int length = p->count - first;
        insert(p, first, OP_SPLIT, 1, length + 2);
        int jump = p->count;
        emit(p, OP_JUMP, 0, 0);
        parse_choice(p, depth + 1);
        if (!p->bad)
            p->steps[jump].a = (int16_t)(p->count - jump);
        return;
    }
}

typedef struct states {
    uint16_t list[MAX_STEPS];
    int count;
    bool has[MAX_STEPS];
} states;

/* Adds a state and all that it reaches without a character. True: the program matched. */
static bool add_state(const program *p, states *s, int start, bool at_start, bool at_end)
{
    int16_t stack[2 * MAX_STEPS];
    int depth = 0;
    stack[depth++] = (int16_t)start;
    while (depth) {
        int i = stack[--depth];
        if (s->has[i])
            continue;
        s->has[i] = true;
        const step *now = &p->steps[i];
        switch ((op)now->op) {
        case OP_MATCH:
            return true;
        case OP_SET:
            s->list[s->count++] = (uint16_t)i;
            break;
        case OP_SPLIT:
            stack[depth++] = (int16_t)(i + now->b);
            stack[depth++] = (int16_t)(i + now->a);
            break;
        case OP_JUMP:
            stack[depth++] = (int16_t)(i + now->a);
            break;
        case OP_START:
        case OP_END:
            if (now->op == OP_START ? at_start : at_end)
                stack[depth++] = (int16_t)(i + 1);
            break;
        }
    }
    return false;
}

static bool run(const program *p, const char *text, size_t length)
{
    states a = {.count = 0}, b, *now = &a, *next = &b;
    if (add_state(p, now, 0, true, length == 0))
        return true;
    for (size_t i = 0; i < length && now->count; i++) {
        unsigned char c = (unsigned char)text[i];
        memset(next, 0, sizeof *next);
        for (int j = 0; j < now->count; j++) {
            const set *s = &p->sets[p->steps[now->list[j]].a];
            if ((s->bits[c / 32] >> (c % 32) & 1) &&
                add_state(p, next, now->list[j] + 1, false, i + 1 == length))
                return true;
        }
        states *swap = now;
        now = next;
        next = swap;
    }
    return false;
}

bool gemmux_regex_match(const char *pattern, const char *text, size_t length)
{
    program p;
    p.count = p.set_count = 0;
    p.at = pattern;
    p.bad = false;
    parse_choice(&p, 0);
    if (*p.at)
        p.bad = true; /* a ")" too many */
    emit(&p, OP_MATCH, 0, 0);
    return !p.bad && run(&p, text, length);
}
