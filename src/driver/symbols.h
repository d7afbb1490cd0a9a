/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening shared libraries that may be absent and filling function tables from them. Separate
 * because every driver does it and all must fail in the same words. Nothing here is global: a
 * table belongs to whoever opened it. Libraries are opened RTLD_LOCAL and stay mapped until the
 * process ends (RTLD_NODELETE), since several of them start threads that outlive a close.
 */
#ifndef GEMMUX_SYMBOLS_H
#define GEMMUX_SYMBOLS_H

#include <stdbool.h>
#include <stddef.h>

/* A function pointer's name in the library and its place in the table. */
typedef struct gemmux_symbol {
    const char *name;
    size_t offset;
} gemmux_symbol;

/* NULL on failure, with the loader's own words in why. */
void *gemmux_library_open(const char *path, char *why, size_t why_size);
void gemmux_library_close(void *library);
/* The file that `name`, found in `library`, was loaded from; "" when unknown. */
void gemmux_library_file(void *library, const char *name, char *path, size_t size);

/* Fills all pointers; false at the first one that is missing, which why names. */
bool gemmux_symbols_load(void *library, const gemmux_symbol *symbols, size_t count, void *table,
                         char *why, size_t why_size);
/* One function into *pointer (a function pointer's address); false when it is missing. */
bool gemmux_symbol_load(void *library, const char *name, void *pointer);

#endif
