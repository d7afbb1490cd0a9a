/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/symbols.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

void *gemmux_library_open(const char *path, char *why, size_t why_size)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library) {
        const char *text = dlerror();
        snprintf(why, why_size, "%s", text ? text : "the loader gives no reason");
    }
    return library;
}

void gemmux_library_close(void *library)
{
    if (library)
        dlclose(library);
}

bool gemmux_symbol_load(void *library, const char *name, void *pointer)
{
    /* POSIX lets dlsym's result be a function; ISO C wants the conversion by bytes. */
    void *symbol = dlsym(library, name);
    memcpy(pointer, &symbol, sizeof symbol);
    return symbol != NULL;
}

void gemmux_library_file(void *library, const char *name, char *path, size_t size)
{
    Dl_info info;
    void *symbol = dlsym(library, name);
    path[0] = '\0';
    if (symbol && dladdr(symbol, &info) && info.dli_fname)
        snprintf(path, size, "%s", info.dli_fname);
}

bool gemmux_symbols_load(void *library, const gemmux_symbol *symbols, size_t count, void *table,
                         char *why, size_t why_size)
{
    for (size_t i = 0; i < count; i++)
        if (!gemmux_symbol_load(library, symbols[i].name, (char *)table + symbols[i].offset)) {
            snprintf(why, why_size, "it has no function %s", symbols[i].name);
            return false;
        }
    return true;
}
