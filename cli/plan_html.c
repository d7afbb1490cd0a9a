/* SPDX-License-Identifier: Apache-2.0
 *
 * A plan as one page: the template of plan_page.html with the plan inside. Reasons and names of
 * kernels repeat from cell to cell, so they are kept once and counted off.
 */
#include "plan_diff.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

extern const char cli_plan_page[]; /* cli/plan_page.html, embedded by the build */

/* Values that were met, each once: `list` has them in order, `index` finds them by their text. */
typedef struct pool {
    json_t *list, *index;
} pool;

static json_int_t pooled(pool *p, const char *key, json_t *value)
{
    const json_t *known = json_object_get(p->index, key);
    if (known)
        return json_integer_value(known);
    json_int_t at = (json_int_t)json_array_size(p->list);
    json_array_append(p->list, value);
    json_object_set_new(p->index, key, json_integer(at));
    return at;
}

static json_t *compact_verdict(pool *kernels, pool *reasons, const json_t *verdict)
{
    json_t *list = json_array(), *kernel = json_object_get(verdict, "kernel"), *reason;
    size_t i;
    json_array_foreach(json_object_get(verdict, "reasons"), i, reason)
    {
        char key[1400];
        snprintf(key, sizeof key, "%s/%s", json_string_value(json_object_get(reason, "code")),
                 json_string_value(json_object_get(reason, "text")));
        json_array_append_new(list, json_integer(pooled(reasons, key, reason)));
    }
    return json_pack("[I, O, O, o]", pooled(kernels, json_string_value(kernel), kernel),
                     json_object_get(verdict, "verdict"), json_object_get(verdict, "predicted_us"),
                     list);
}

/* {m, decision, why, text of the problem, [[kernel, verdict, us, [reasons]] ...]} */
static json_t *compact_phase(pool *kernels, pool *reasons, const json_t *phase)
{
    if (!json_is_object(phase))
        return json_null();
    json_t *verdicts = json_array(), *verdict;
    const json_t *why = json_object_get(phase, "why");
    size_t i;
    json_array_foreach(json_object_get(phase, "verdicts"), i, verdict)
        json_array_append_new(verdicts, compact_verdict(kernels, reasons, verdict));
    return json_pack("{s:O, s:O, s:s, s:O, s:o}", "m", json_object_get(phase, "m"), "decision",
                     json_object_get(phase, "decision"), "why",
                     json_is_string(why) ? json_string_value(why) : "", "text",
                     json_object_get(json_object_get(phase, "problem"), "text"), "verdicts",
                     verdicts);
}

static json_t *compact(const json_t *plan)
{
    pool kernels = {json_array(), json_object()}, reasons = {json_array(), json_object()};
    json_t *devices = json_array(), *entry, *layer;
    size_t i, j;
    json_array_foreach(json_object_get(plan, "devices"), i, entry)
    {
        json_t *layers = json_array(), *device = json_copy(entry);
        json_array_foreach(json_object_get(entry, "layers"), j, layer)
        {
            json_t *small = json_copy(layer);
            static const char *const phases[] = {"decode", "prefill"};
            for (int p = 0; p < 2; p++)
                json_object_set_new(
                    small, phases[p],
                    compact_phase(&kernels, &reasons, json_object_get(layer, phases[p])));
            json_array_append_new(layers, small);
        }
        json_object_set_new(device, "layers", layers);
        json_array_append_new(devices, device);
    }
    json_t *page = json_copy((json_t *)(uintptr_t)plan); /* shallow: the plan stays as it is */
    json_object_set_new(page, "devices", devices);
    json_object_set_new(page, "kernels", kernels.list);
    json_object_set_new(page, "reasons", reasons.list);
    json_decref(kernels.index);
    json_decref(reasons.index);
    return page;
}

/* Inside a script element: no '<' may begin its end, or a comment. */
static bool write_data(FILE *file, const char *text)
{
    for (const char *at = text; *at;) {
        size_t plain = strcspn(at, "<");
        if (fwrite(at, 1, plain, file) != plain)
            return false;
        at += plain;
        if (*at && fputs("\\u003c", file) < 0)
            return false;
        at += *at != '\0';
    }
    return true;
}

int cli_plan_html(const json_t *plan, const char *path)
{
    static const char mark[] = "@PLAN@";
    const char *before = strstr(cli_plan_page, mark);
    json_t *page = compact(plan);
    char *data = json_dumps(page, JSON_COMPACT | JSON_REAL_PRECISION(6));
    json_decref(page);
    if (!data || !before) {
        free(data);
        return cli_fail(CLI_FAILED, "out of memory for the page");
    }
    FILE *file = fopen(path, "w");
    bool good = file && fwrite(cli_plan_page, 1, (size_t)(before - cli_plan_page), file) ==
                            (size_t)(before - cli_plan_page);
    good = good && write_data(file, data) && fputs(before + strlen(mark), file) >= 0;
    good = file && !fclose(file) && good;
    free(data);
    return good ? CLI_DONE : cli_fail(CLI_FAILED, "%s: %s", path, strerror(errno));
}
