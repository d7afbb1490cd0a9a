/* SPDX-License-Identifier: Apache-2.0
 *
 * In time proportional to the product of both lengths: only the last * is ever taken back.
 */
#include "wildcard.h"

#include <string.h>

bool gemmux_ends_with(const char *text, const char *end)
{
    return gemmux_slice_ends_with(text, strlen(text), end);
}

bool gemmux_slice_ends_with(const char *text, size_t length, const char *end)
{
    size_t wanted = strlen(end);
    return length >= wanted && memcmp(text + length - wanted, end, wanted) == 0;
}

bool gemmux_glob_match(const char *glob, size_t glob_length, const char *text, size_t length)
{
    const char *stop = glob + glob_length, *end = text + length, *star = NULL, *resume = NULL;
    while (text < end) {
        if (glob < stop && *glob == '*') {
            star = glob++;
            resume = text;
        } else if (glob < stop && (*glob == '?' || *glob == *text)) {
            glob++;
            text++;
        } else if (star) {
            glob = star + 1;
            text = ++resume;
        } else {
            return false;
        }
    }
    while (glob < stop && *glob == '*')
        glob++;
    return glob == stop;
}

bool gemmux_glob_list(const char *globs, const char *name)
{
    while (globs && *globs) {
        size_t length = strcspn(globs, ",");
        if (length && gemmux_glob_match(globs, length, name, strlen(name)))
            return true;
        globs += length + (globs[length] == ',');
    }
    return false;
}
