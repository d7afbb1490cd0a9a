/* SPDX-License-Identifier: Apache-2.0
 *
 * The nearest known word to one that was mistyped, for error messages. Separate because device
 * files, doctor records and commands all answer an unknown word in the same way.
 */
#ifndef GEMMUX_NEAREST_H
#define GEMMUX_NEAREST_H

#include <stddef.h>

/* The word of `words` (count of them) with the smallest edit distance to the first `length` bytes
 * of `text`; NULL when none is near enough to be meant. */
const char *gemmux_nearest(const char *text, size_t length, const char *const *words, int count);

#endif
