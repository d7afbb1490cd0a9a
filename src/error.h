/* SPDX-License-Identifier: Apache-2.0
 *
 * Filling the caller's error struct. Separate because every module reports failures and none
 * should format them in its own way.
 */
#ifndef GEMMUX_ERROR_H
#define GEMMUX_ERROR_H

#include "gemmux.h"

/* Writes the sentence if error is not NULL and returns status, so that callers can
 * `return gemmux_fail(error, GEMMUX_ERROR_INPUT, "...")`. */
gemmux_status gemmux_fail(gemmux_error *error, gemmux_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#ifdef __clang_analyzer__ /* which cannot see in error.c that the status comes back */
#    define gemmux_fail(error, status, ...) (gemmux_fail(error, status, __VA_ARGS__), (status))
#endif

/* a * b and a + b into *out; false on signed 64-bit overflow or a negative operand. */
bool gemmux_mul_size(int64_t a, int64_t b, int64_t *out);
bool gemmux_add_size(int64_t a, int64_t b, int64_t *out);
/* value / by, rounded up, where value + by might overflow. */
int64_t gemmux_divide_up(int64_t value, int64_t by);
/* The next multiple of `multiple` at `value` or above. */
int64_t gemmux_round_up(int64_t value, int64_t multiple);

#endif
