/* SPDX-License-Identifier: Apache-2.0
 *
 * The regular expressions by which a quantisation config names modules. Separate because they come
 * out of files: length, steps and memory are bounded, whatever the pattern.
 */
#ifndef GEMMUX_PATTERN_H
#define GEMMUX_PATTERN_H

#include "gemmux.h"

/* GEMMUX_ERROR_INPUT names `path`, the pattern and where in it what is wrong. */
gemmux_status gemmux_regex_check(const char *pattern, const char *path, gemmux_error *error);
/* As Python's re.match, from the start of the text. What needs too many steps matches nothing. */
bool gemmux_regex_match(const char *pattern, const char *text, size_t length);

#endif
