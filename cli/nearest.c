/* SPDX-License-Identifier: Apache-2.0
 *
 * Did you mean: which of some words are spelt like a text.
 */
#include "cli.h"

#include <ctype.h>
#include <string.h>

/* Levenshtein distance, at most `limit`. */
static int distance(const char *a, const char *b, int limit)
{
    enum { ROOM = 64 };
    int row[ROOM + 1];
    int wide = (int)strlen(b);
    if (wide > ROOM || strlen(a) > ROOM)
        return limit;
    for (int j = 0; j <= wide; j++)
        row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= wide; j++) {
            int best =
                diagonal + (tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1]));
            diagonal = row[j];
            best = row[j] + 1 < best ? row[j] + 1 : best;
            row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
        }
    }
    return row[wide] < limit ? row[wide] : limit;
}

/* Smaller is nearer: edits, but a word that contains the text is near however long it is. */
static int score(const char *text, const char *word)
{
    int longer = (int)(strlen(text) > strlen(word) ? strlen(text) : strlen(word));
    int edits = distance(text, word, longer);
    if (*text && strstr(word, text))
        return edits < 2 ? edits : 2;
    return 2 * edits <= longer ? edits : 100;
}

/* Fills `near` with words that are spelt like the text, best first; returns how many. */
static int nearest(const char *text, const char *const *words, int count, const char **near,
                   int room)
{
    int found = 0;
    for (int wanted = 0; wanted < 100 && found < room; wanted++)
        for (int i = 0; i < count && found < room; i++)
            if (score(text, words[i]) == wanted)
                near[found++] = words[i];
    return found;
}

const char *cli_suggestion(const char *text, const char *const *words, int count, int most,
                           char *buffer, size_t size)
{
    const char *near[3];
    int found = nearest(text, words, count, near, most < 3 ? most : 3);
    size_t used = 0;
    buffer[0] = 0;
    for (int i = 0; i < found && used < size; i++)
        used += (size_t)snprintf(buffer + used, size - used, "%s%s", i ? ", " : " (did you mean ",
                                 near[i]);
    if (found && used + 2 < size)
        strcat(buffer, "?)");
    return buffer;
}
