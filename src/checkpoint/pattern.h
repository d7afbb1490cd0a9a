/* SPDX-License-Identifier: Apache-2.0
 *
 * How a quantisation config names modules: globs and regular expressions. Separate, and not the C
 * library's, because the patterns come out of files: these run in time linear in the text, with a
 * bounded program, whatever the pattern.
 */
#ifndef GEMMUX_PATTERN_H
#define GEMMUX_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

/* `*` and `?`, the whole text. */
bool gemmux_glob_match(const char *glob, const char *text, size_t length);
/* As Python's re.match, from the start of the text: . [] * + ? {m,n} | () (?:) ^ $ and escapes. A
 * pattern that uses more than that, or is longer than the program may be, matches nothing. */
bool gemmux_regex_match(const char *pattern, const char *text, size_t length);

#endif
