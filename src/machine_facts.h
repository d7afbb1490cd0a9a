/* SPDX-License-Identifier: Apache-2.0
 *
 * One fact of a device file, in words. Separate because files (machine_parse.c) and single changes
 * (machine_change.c) state facts in the same words.
 */
#ifndef GEMMUX_MACHINE_FACTS_H
#define GEMMUX_MACHINE_FACTS_H

#include "gemmux.h"

/* The share of a vendor's bandwidth that a plain read attains, unless stated: docs/devices.md. */
#define GEMMUX_ATTAINED 0.9

enum { GEMMUX_FACT_WORDS = 24, GEMMUX_FACT_KEYS = 15 };

typedef struct gemmux_word {
    const char *text;
    size_t length;
} gemmux_word;

typedef struct gemmux_fact_key gemmux_fact_key;

typedef struct gemmux_fact_parser {
    const char *source; /* named in errors; NULL: a single fact, errors name no line */
    int line;
    gemmux_machine *machine;
    double attained;
    gemmux_word words[GEMMUX_FACT_WORDS]; /* words[0] is the key */
    int word_count;
    const gemmux_fact_key *key;
    int seen_at[GEMMUX_FACT_KEYS]; /* line that gave a key */
    int peak_at[GEMMUX_MATH_COUNT];
    int library_at[GEMMUX_LIB_COUNT];
    gemmux_error *error;
} gemmux_fact_parser;

struct gemmux_fact_key {
    const char *name;
    uint8_t kinds; /* set of 1 << gemmux_device_kind that may have it */
    bool repeats;
    const char *usage;
    gemmux_status (*read)(gemmux_fact_parser *p); /* words[1..] into *machine */
};

extern const gemmux_fact_key gemmux_fact_keys[GEMMUX_FACT_KEYS];

bool gemmux_word_is(gemmux_word w, const char *text);
/* Always GEMMUX_ERROR_INPUT. */
gemmux_status gemmux_fact_fail(const gemmux_fact_parser *p, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
gemmux_status gemmux_fact_unknown(const gemmux_fact_parser *p, gemmux_word w, const char *what,
                                  const char *const *names, int count);
/* Cuts a line without its comment into p->words. */
gemmux_status gemmux_fact_split(gemmux_fact_parser *p, const char *text, size_t length);

#endif
