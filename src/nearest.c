/* SPDX-License-Identifier: Apache-2.0 */
#include "nearest.h"

#include <string.h>

enum { LONGEST = 47 };

static int smallest(int a, int b, int c)
{
    int ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* Edits that turn a into b: insert, delete, replace, swap two neighbours. Words longer than LONGEST
 * are "far". */
static int distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
    if (a_length > LONGEST || b_length > LONGEST)
        return LONGEST;
    int rows[3][LONGEST + 1]; /* of i - 2, i - 1 and i, modulo 3 */
    for (size_t j = 0; j <= b_length; j++)
        rows[0][j] = (int)j;
    for (size_t i = 1; i <= a_length; i++) {
        const int *two = rows[(i + 1) % 3], *one = rows[(i + 2) % 3];
        int *row = rows[i % 3];
        row[0] = (int)i;
        for (size_t j = 1; j <= b_length; j++) {
            row[j] = smallest(one[j] + 1, row[j - 1] + 1, one[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = smallest(row[j], two[j - 2] + 1, LONGEST);
        }
    }
    return rows[a_length % 3][b_length];
}

const char *gemmux_nearest(const char *text, size_t length, const char *const *words, int count)
{
    const char *best = NULL;
    int best_distance = LONGEST;
    for (int i = 0; i < count; i++) {
        int d = distance(text, length, words[i], strlen(words[i]));
        if (d < best_distance) {
            best_distance = d;
            best = words[i];
        }
    }
    /* A third of the word may be wrong: one slip in three letters, two in six. */
    int allowed = (int)(length / 3);
    return best && best_distance <= allowed ? best : NULL;
}
