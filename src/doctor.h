/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside the doctor: what a cause is, and the one pass over a log that looks for all patterns of
 * all causes at once. Separate from gemmux.h because callers see findings, not patterns.
 */
#ifndef GEMMUX_DOCTOR_H
#define GEMMUX_DOCTOR_H

#include "gemmux.h"

enum {
    GEMMUX_DOCTOR_TOKENS = 12,
    GEMMUX_DOCTOR_LIST = 16, /* patterns, remedies, facts, references of one cause: each */
    GEMMUX_DOCTOR_MAPS = 32,
    GEMMUX_DOCTOR_DETAILS = 12,
    GEMMUX_DOCTOR_VALUE = 96,  /* bytes of one captured value */
    GEMMUX_DOCTOR_ANCHOR = 8,  /* a pattern's longest literal part has at least these bytes */
    GEMMUX_DOCTOR_LINE = 2048, /* how far a pattern looks to either side of its anchor */
    GEMMUX_DOCTOR_EXCERPT = 200
};

typedef enum gemmux_token_kind {
    GEMMUX_TOKEN_LITERAL = 1,
    GEMMUX_TOKEN_ANY,    /* `*`: anything, within the line */
    GEMMUX_TOKEN_CAPTURE /* `{name}`: anything without spaces */
} gemmux_token_kind;

typedef struct gemmux_token {
    uint8_t kind;
    const char *text; /* of a literal, or a capture's name */
    size_t length;
} gemmux_token;

typedef enum gemmux_pattern_role {
    GEMMUX_ROLE_MATCH,  /* any of these fires the cause ... */
    GEMMUX_ROLE_AND,    /* ... if all of these are in the log as well ... */
    GEMMUX_ROLE_NOT,    /* ... and none of these */
    GEMMUX_ROLE_CAPTURE /* only looks for details */
} gemmux_pattern_role;

typedef struct gemmux_pattern {
    int cause;
    uint8_t role;
    uint8_t token_count;
    uint8_t anchor; /* index of the longest literal */
    gemmux_token tokens[GEMMUX_DOCTOR_TOKENS];
    int next; /* with the same anchor bytes; -1: none */
    /* What the log gave so far. */
    int64_t matches;
    int64_t line;
    int64_t failures;
} gemmux_pattern;

/* `map need target sm_121 = 12.9`: when {target} starts with sm_121, {need} is 12.9. The prefix *
 * stands for anything. */
typedef struct gemmux_map {
    const char *name, *from, *prefix, *value;
} gemmux_map;

typedef enum gemmux_fact_operator {
    GEMMUX_FACT_IS,
    GEMMUX_FACT_BELOW,
    GEMMUX_FACT_FROM /* at least */
} gemmux_fact_operator;

/* `fact confirms cc is 12.0 12.1 | This GPU is {here}.` */
typedef struct gemmux_fact {
    uint8_t kind; /* gemmux_evidence_kind when it holds */
    uint8_t operation;
    const char *subject;
    const char *values; /* separated by spaces; may name details */
    const char *text;
} gemmux_fact;

typedef struct gemmux_cause {
    const char *id, *title, *cause, *claim_text, *sample;
    uint8_t stage, blame, claim;
    bool symptom;
    int remedy_count, fact_count, reference_count, map_count;
    gemmux_remedy remedies[GEMMUX_DOCTOR_LIST];
    gemmux_fact facts[GEMMUX_DOCTOR_LIST];
    const char *references[GEMMUX_DOCTOR_LIST];
    gemmux_map maps[GEMMUX_DOCTOR_MAPS];
    int pattern_count[4]; /* by role */
    /* What the log gave so far. */
    int detail_count;
    const char *detail_names[GEMMUX_DOCTOR_DETAILS];
    char detail_values[GEMMUX_DOCTOR_DETAILS][GEMMUX_DOCTOR_VALUE];
    int64_t line;   /* of the earliest match; 0: none */
    int64_t quoted; /* line that the excerpt is of; 0: none */
    int64_t quoted_length;
    char excerpt[GEMMUX_DOCTOR_EXCERPT + 1];
} gemmux_cause;

/* Memory that lives as long as the doctor: a list of blocks. */
typedef struct gemmux_block {
    struct gemmux_block *next;
} gemmux_block;

struct gemmux_doctor {
    gemmux_cause **causes;
    int cause_count, cause_room;
    gemmux_pattern *patterns;
    int pattern_count, pattern_room;
    gemmux_block *blocks;
    /* doctor_match.c */
    uint64_t *seen; /* one bit for each hash of anchor bytes */
    int *heads;     /* hash table from anchor bytes to patterns */
    uint32_t heads_mask;
    char *window;   /* the last bytes of the log, cleaned */
    size_t used;    /* bytes in it */
    size_t scanned; /* bytes of it that are done with, but for context */
    int64_t line;   /* of window[scanned] */
    int escape;     /* state of the cleaner */
    bool started;
    /* the last diagnosis */
    gemmux_finding *findings;
};

void *gemmux_doctor_keep(gemmux_doctor *doctor, size_t size); /* zeroed; NULL: out of memory */

/* doctor_parse.c: adds one cause. `text` must live as long as the doctor and is written to. */
gemmux_status gemmux_doctor_parse(gemmux_doctor *doctor, const char *id, const char *source,
                                  char *text, size_t length, gemmux_error *error);

/* doctor_match.c */
gemmux_status gemmux_doctor_compile(gemmux_doctor *doctor, gemmux_error *error);
void gemmux_doctor_scan(gemmux_doctor *doctor, const uint8_t *data, size_t size);
void gemmux_doctor_finish(gemmux_doctor *doctor);
const char *gemmux_doctor_detail(const gemmux_cause *cause, const char *name, size_t length);

/* doctor.c: puts details into a sentence; `here` is the value of {here}. NULL: out of memory. */
const char *gemmux_doctor_fill(gemmux_doctor *doctor, const gemmux_cause *cause, const char *text,
                               const char *here);
/* doctor_facts.c: fills evidence, at most two a fact; returns how many. machine may be NULL. */
int gemmux_doctor_weigh(gemmux_doctor *doctor, const gemmux_cause *cause,
                        const gemmux_machine *machine, gemmux_evidence *evidence);

#endif
