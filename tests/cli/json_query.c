/* SPDX-License-Identifier: Apache-2.0
 *
 * json_query [PATH]: reads stdin, which must be exactly one JSON document, and prints what stands
 * at PATH ("verdicts.0.reasons.0.stage"; "#" is the length of an array or object, "*" its keys).
 * Exits with 1 when stdin is no document or nothing stands there.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int print_keys(json_t *at)
{
    const char *key;
    json_t *value;
    json_object_foreach(at, key, value) printf("%s ", key);
    putchar('\n');
    return json_is_object(at) ? 0 : 1;
}

static int query(json_t *at, char *path)
{
    for (char *step = path ? strtok(path, ".") : NULL; step; step = strtok(NULL, ".")) {
        if (!strcmp(step, "#")) {
            printf("%zu\n", json_is_array(at) ? json_array_size(at) : json_object_size(at));
            return 0;
        }
        if (!strcmp(step, "*"))
            return print_keys(at);
        at = json_is_array(at) ? json_array_get(at, strtoul(step, NULL, 10))
                               : json_object_get(at, step);
        if (!at) {
            fprintf(stderr, "nothing at \"%s\"\n", step);
            return 1;
        }
    }
    if (json_is_string(at))
        puts(json_string_value(at));
    else if (path)
        json_dumpf(at, stdout, JSON_ENCODE_ANY | JSON_COMPACT), putchar('\n');
    return 0;
}

int main(int argc, char **argv)
{
    json_error_t error;
    json_t *document = json_loadf(stdin, JSON_REJECT_DUPLICATES, &error);
    if (!document) {
        fprintf(stderr, "line %d: %s\n", error.line, error.text);
        return 1;
    }
    int code = query(document, argc > 1 ? argv[1] : NULL);
    json_decref(document);
    return code;
}
