/* SPDX-License-Identifier: Apache-2.0
 *
 * Names by * and ?: kernels in a policy, modules in a quantisation config. Pure.
 */
#ifndef GEMMUX_WILDCARD_H
#define GEMMUX_WILDCARD_H

#include <stdbool.h>
#include <stddef.h>

/* The whole text. */
bool gemmux_glob_match(const char *glob, size_t glob_length, const char *text, size_t length);
/* Any of several, with commas between. NULL or "" matches nothing. */
bool gemmux_glob_list(const char *globs, const char *name);

#endif
