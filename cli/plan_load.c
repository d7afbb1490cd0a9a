/* SPDX-License-Identifier: Apache-2.0
 *
 * A saved plan read back. Files come from anywhere: every member that a reader takes for granted is
 * looked at here, and what is missing is named with its place.
 */
#include "plan_diff.h"

#include <string.h>

typedef struct expectation {
    const char *member;
    json_type type;
    bool nullable;
} expectation;

static const expectation of_plan[] = {
    {"plan_version", JSON_INTEGER, false}, {"gemmux", JSON_STRING, false},
    {"model", JSON_OBJECT, false},         {"workload", JSON_OBJECT, false},
    {"devices", JSON_ARRAY, false},        {NULL, JSON_NULL, false}};
static const expectation of_entry[] = {
    {"device", JSON_OBJECT, false}, {"fits", JSON_TRUE, false},     {"verdict", JSON_STRING, false},
    {"memory", JSON_OBJECT, false}, {"decode_us", JSON_REAL, true}, {"prefill_us", JSON_REAL, true},
    {"layers", JSON_ARRAY, false},  {NULL, JSON_NULL, false}};
static const expectation of_layer[] = {
    {"group", JSON_STRING, false}, {"count", JSON_INTEGER, false}, {"n", JSON_INTEGER, false},
    {"k", JSON_INTEGER, false},    {"decode", JSON_OBJECT, true},  {"prefill", JSON_OBJECT, true},
    {NULL, JSON_NULL, false}};
static const expectation of_phase[] = {{"m", JSON_INTEGER, false},
                                       {"problem", JSON_OBJECT, false},
                                       {"decision", JSON_OBJECT, true},
                                       {"verdicts", JSON_ARRAY, false},
                                       {NULL, JSON_NULL, false}};
static const expectation of_decision[] = {
    {"kernel", JSON_STRING, false},   {"path", JSON_STRING, false},
    {"packing", JSON_STRING, false},  {"lossless", JSON_TRUE, false},
    {"liberties", JSON_ARRAY, false}, {"predicted_us", JSON_REAL, true},
    {NULL, JSON_NULL, false}};
static const expectation of_verdict[] = {{"kernel", JSON_STRING, false},
                                         {"verdict", JSON_STRING, false},
                                         {"predicted_us", JSON_REAL, true},
                                         {"reasons", JSON_ARRAY, false},
                                         {NULL, JSON_NULL, false}};
static const expectation of_reason[] = {{"stage", JSON_STRING, false},
                                        {"code", JSON_STRING, false},
                                        {"text", JSON_STRING, false},
                                        {NULL, JSON_NULL, false}};

static bool is_of_type(const json_t *value, json_type type)
{
    return type == JSON_TRUE   ? json_is_boolean(value)
           : type == JSON_REAL ? json_is_number(value)
                               : json_typeof(value) == type;
}

static int expect(const char *path, const char *where, const json_t *object,
                  const expectation *wanted)
{
    if (!json_is_object(object))
        return cli_fail(CLI_BAD_INPUT, "%s is no plan: %s is not an object", path, where);
    for (; wanted->member; wanted++) {
        const json_t *value = json_object_get(object, wanted->member);
        if (!value ||
            !(is_of_type(value, wanted->type) || (wanted->nullable && json_is_null(value))))
            return cli_fail(CLI_BAD_INPUT,
                            "%s is no plan: %s has no \"%s\", or it is of another type", path,
                            where, wanted->member);
    }
    return CLI_DONE;
}

static int check_phase(const char *path, const char *where, const json_t *phase)
{
    const json_t *decision = json_object_get(phase, "decision"), *verdict, *reason;
    size_t i, j;
    int code = json_is_null(phase) ? CLI_DONE : expect(path, where, phase, of_phase);
    if (code || json_is_null(phase))
        return code;
    if (!json_is_null(decision))
        code = expect(path, where, decision, of_decision);
    json_array_foreach(json_object_get(phase, "verdicts"), i, verdict)
    {
        code = code ? code : expect(path, where, verdict, of_verdict);
        json_array_foreach(json_object_get(verdict, "reasons"), j, reason) code =
            code ? code : expect(path, where, reason, of_reason);
    }
    return code;
}

static int check_entry(const char *path, const json_t *entry)
{
    const json_t *layer;
    char where[128];
    size_t i;
    int code = expect(path, "an entry of \"devices\"", entry, of_entry);
    const json_t *id = json_object_get(json_object_get(entry, "device"), "id");
    if (!code && !json_is_string(id))
        return cli_fail(CLI_BAD_INPUT, "%s is no plan: a device has no \"id\"", path);
    json_array_foreach(json_object_get(entry, "layers"), i, layer)
    {
        snprintf(where, sizeof where, "layer %zu of %.60s", i, json_string_value(id));
        code = code ? code : expect(path, where, layer, of_layer);
        code = code ? code : check_phase(path, where, json_object_get(layer, "decode"));
        code = code ? code : check_phase(path, where, json_object_get(layer, "prefill"));
    }
    return code;
}

int cli_plan_load(const char *path, json_t **plan)
{
    json_error_t why;
    const json_t *entry;
    size_t i;
    *plan = json_load_file(path, JSON_REJECT_DUPLICATES, &why);
    if (!*plan && json_error_code(&why) == json_error_cannot_open_file)
        return cli_fail(CLI_FAILED, "%s", why.text);
    if (!*plan)
        return cli_fail(CLI_BAD_INPUT, "%s:%d: %s", path, why.line, why.text);
    int code = expect(path, "it", *plan, of_plan);
    json_int_t version = json_integer_value(json_object_get(*plan, "plan_version"));
    if (!code && version != CLI_PLAN_VERSION)
        code = cli_fail(CLI_BAD_INPUT, "%s has plan_version %lld; this gemmux reads %d", path,
                        (long long)version, CLI_PLAN_VERSION);
    json_array_foreach(json_object_get(*plan, "devices"), i, entry) code =
        code ? code : check_entry(path, entry);
    if (code) {
        json_decref(*plan);
        *plan = NULL;
    }
    return code;
}
