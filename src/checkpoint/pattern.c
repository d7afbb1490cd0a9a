/* SPDX-License-Identifier: Apache-2.0
 *
 * The expressions are PCRE2's, which agrees with Python's re on what such configs use.
 */
#include "pattern.h"

#include "error.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* Patterns come out of files: one that needs more is refused, or matches nothing. */
enum { LENGTH_LIMIT = 1024, MATCH_LIMIT = 100000, HEAP_LIMIT_KIB = 1024 };

static pcre2_code *compile(const char *pattern, int *problem, PCRE2_SIZE *at)
{
    pcre2_compile_context *limits = pcre2_compile_context_create(NULL);
    if (limits)
        pcre2_set_max_pattern_length(limits, LENGTH_LIMIT);
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                     PCRE2_ANCHORED | PCRE2_NEVER_BACKSLASH_C, problem, at, limits);
    pcre2_compile_context_free(limits);
    return code;
}

gemmux_status gemmux_regex_check(const char *pattern, const char *path, gemmux_error *error)
{
    int problem;
    PCRE2_SIZE at;
    PCRE2_UCHAR words[128] = "";
    pcre2_code *code = compile(pattern, &problem, &at);
    if (code) {
        pcre2_code_free(code);
        return GEMMUX_OK;
    }
    pcre2_get_error_message(problem, words, sizeof words);
    return gemmux_fail(error, GEMMUX_ERROR_INPUT,
                       "%.200s: the expression 're:%.60s' is refused at character %zu: %s", path,
                       pattern, (size_t)at, (const char *)words);
}

bool gemmux_regex_match(const char *pattern, const char *text, size_t length)
{
    int problem;
    PCRE2_SIZE at;
    pcre2_code *code = compile(pattern, &problem, &at);
    pcre2_match_data *data = code ? pcre2_match_data_create(1, NULL) : NULL;
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    bool matches = false;
    if (data && limits) {
        pcre2_set_match_limit(limits, MATCH_LIMIT);
        pcre2_set_heap_limit(limits, HEAP_LIMIT_KIB);
        matches = pcre2_match(code, (PCRE2_SPTR)text, length, 0, 0, data, limits) >= 0;
    }
    pcre2_match_context_free(limits);
    pcre2_match_data_free(data);
    pcre2_code_free(code);
    return matches;
}
