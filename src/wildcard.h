/* SPDX-License-Identifier: Apache-2.0
 *
 * Names by * and ?: kernels in a policy, modules in a quantisation config; and by how they end.
 * Pure.
 */
#ifndef GEMMUX_WILDCARD_H
#define GEMMUX_WILDCARD_H

#include <stdbool.h>
#include <stddef.h>

/* The whole text. */
bool gemmux_glob_match(const char *glob, size_t glob_length, const char *text, size_t length);
bool gemmux_ends_with(const char *text, const char *end);
bool gemmux_slice_ends_with(const char *text, size_t length, const char *end);
/* Any of several, with commas between. NULL or "" matches nothing. */
bool gemmux_glob_list(const char *globs, const char *name);

#endif
