/* SPDX-License-Identifier: Apache-2.0
 *
 * gemmux plan diff: which layers changed kernel between two saved plans, which check flipped, and
 * whether that is for the worse.
 */
#include "plan_diff.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Predictions that differ by less are the same: rates are measured anew on every machine. */
static const double noise = 1.05;

typedef enum judgement { SAME, OTHER, BETTER, WORSE } judgement;

static const char *const judgements[] = {"same", "other", "better", "worse"};
static const cli_style styles[] = {CLI_PLAIN, CLI_WARN, CLI_GOOD, CLI_BAD};

typedef struct differ {
    json_t *changes, *devices, *notes;
    int count[4]; /* by judgement */
    const char *new_version;
} differ;

static const char *text_of(const json_t *object, const char *member)
{
    const char *text = json_string_value(json_object_get(object, member));
    return text ? text : "";
}

static double number_of(const json_t *object, const char *member)
{
    const json_t *value = json_object_get(object, member);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static json_t *shared(json_t *value)
{
    return value ? json_incref(value) : json_null();
}

/* --------------------------------------------------------------------------------- one product */

static const json_t *verdict_on(const json_t *phase, const char *kernel)
{
    const json_t *verdict;
    size_t i;
    json_array_foreach(json_object_get(phase, "verdicts"), i,
                       verdict) if (!strcmp(text_of(verdict, "kernel"), kernel)) return verdict;
    return NULL;
}

static bool has_reason(const json_t *verdict, const char *code)
{
    const json_t *reason;
    size_t i;
    json_array_foreach(json_object_get(verdict, "reasons"), i,
                       reason) if (!strcmp(text_of(reason, "code"), code)) return true;
    return false;
}

/* Checks of `kernel` that fail in `failing` and do not fail in `passing`. */
static void add_flipped(json_t *list, const char *kernel, const json_t *failing,
                        const json_t *passing, const char *state)
{
    const json_t *a = verdict_on(failing, kernel), *b = verdict_on(passing, kernel), *reason;
    size_t i;
    json_array_foreach(json_object_get(a, "reasons"), i,
                       reason) if (b && !has_reason(b, text_of(reason, "code")))
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:s, s:s, s:s}", "kernel", kernel, "now", state,
                                        "stage", text_of(reason, "stage"), "code",
                                        text_of(reason, "code"), "text", text_of(reason, "text")));
}

/* A packing is chosen for a layer as a whole, so that another packing follows from another cause:
 * such checks stand last. */
static json_t *ordered(json_t *flipped)
{
    json_t *list = json_array(), *item;
    size_t i;
    for (int pass = 0; pass < 2; pass++)
        json_array_foreach(flipped, i,
                           item) if ((strcmp(text_of(item, "code"), "packing-mismatch") == 0) ==
                                     (pass == 1)) json_array_append(list, item);
    json_decref(flipped);
    return list;
}

static bool subset(const json_t *small, const json_t *large)
{
    const json_t *a, *b;
    size_t i, j;
    json_array_foreach(small, i, a)
    {
        bool found = false;
        json_array_foreach(large, j, b) found |=
            !strcmp(json_string_value(a) ? json_string_value(a) : "",
                    json_string_value(b) ? json_string_value(b) : "");
        if (!found)
            return false;
    }
    return true;
}

/* Numbers that were exact and are not, a kernel that is gone, or time: in this order. */
static judgement judge(const json_t *a, const json_t *b)
{
    bool has_a = json_is_object(a), has_b = json_is_object(b);
    if (!has_a || !has_b)
        return has_a ? WORSE : has_b ? BETTER : SAME;
    bool exact_a = json_is_true(json_object_get(a, "lossless"));
    bool exact_b = json_is_true(json_object_get(b, "lossless"));
    const json_t *liberties_a = json_object_get(a, "liberties");
    const json_t *liberties_b = json_object_get(b, "liberties");
    if (exact_a != exact_b)
        return exact_a ? WORSE : BETTER;
    if (!exact_b && !subset(liberties_b, liberties_a))
        return WORSE;
    double before = number_of(a, "predicted_us"), after = number_of(b, "predicted_us");
    if (after > before * noise)
        return WORSE;
    if (after * noise < before)
        return BETTER;
    return strcmp(text_of(a, "kernel"), text_of(b, "kernel")) != 0 ||
                   strcmp(text_of(a, "packing"), text_of(b, "packing")) != 0
               ? OTHER
               : SAME;
}

static void explain(const json_t *a, const json_t *b, const json_t *old_phase,
                    const json_t *new_phase, const json_t *flipped, const char *version,
                    char *buffer, size_t size)
{
    const char *before = text_of(a, "kernel"), *after = text_of(b, "kernel");
    const json_t *first = json_array_get(flipped, 0);
    if (first) {
        snprintf(buffer, size, "%s: %s%s", text_of(first, "stage"),
                 strcmp(text_of(first, "now"), "fails") == 0 ? "" : "no longer true: ",
                 text_of(first, "text"));
    } else if (*before && !verdict_on(new_phase, before)) {
        snprintf(buffer, size, "gemmux %s has no kernel %s", version, before);
    } else if (*after && !verdict_on(old_phase, after)) {
        snprintf(buffer, size, "%s is new", after);
    } else if (*before && *after && strcmp(before, after) != 0) {
        char was[32], is[32];
        snprintf(
            buffer, size, "no check flipped: %s is predicted %s us now, %s us before", before,
            cli_number(number_of(verdict_on(new_phase, before), "predicted_us"), is, sizeof is),
            cli_number(number_of(a, "predicted_us"), was, sizeof was));
    } else {
        snprintf(buffer, size, "the same kernel, predicted anew");
    }
}

static void compare_phase(differ *d, const char *device, const json_t *old_layer,
                          const json_t *new_layer, const char *name)
{
    const json_t *old_phase = json_object_get(old_layer, name);
    const json_t *new_phase = json_object_get(new_layer, name);
    json_t *a = json_object_get(old_phase, "decision"), *b = json_object_get(new_phase, "decision");
    char why[1400];
    judgement verdict = judge(a, b);
    if (verdict == SAME)
        return;
    json_t *flipped = json_array();
    json_t *m = json_object_get(json_is_object(new_phase) ? new_phase : old_phase, "m");
    bool moved = strcmp(text_of(a, "kernel"), text_of(b, "kernel")) != 0;
    if (json_is_object(a) && moved)
        add_flipped(flipped, text_of(a, "kernel"), new_phase, old_phase, "fails");
    if (json_is_object(b) && moved)
        add_flipped(flipped, text_of(b, "kernel"), old_phase, new_phase, "passes");
    flipped = ordered(flipped);
    explain(a, b, old_phase, new_phase, flipped, d->new_version, why, sizeof why);
    d->count[verdict]++;
    json_array_append_new(
        d->changes, json_pack("{s:s, s:s, s:s, s:o, s:s, s:b, s:o, s:o, s:o, s:s}", "device",
                              device, "layer", text_of(new_layer, "group"), "phase", name, "m",
                              shared(m), "verdict", judgements[verdict], "kernel_changed", moved,
                              "old", shared(a), "new", shared(b), "flipped", flipped, "why", why));
}

/* -------------------------------------------------------------------------- layers and devices */

static void note(differ *d, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void note(differ *d, const char *format, ...)
{
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    json_array_append_new(d->notes, json_string(text));
}

/* The same layer of another plan: by name, then by shape (one name may stand for several). */
static const json_t *same_layer(const json_t *entry, const json_t *wanted)
{
    const json_t *layer;
    size_t i;
    json_array_foreach(
        json_object_get(entry, "layers"), i,
        layer) if (!strcmp(text_of(layer, "group"), text_of(wanted, "group")) &&
                   json_equal(json_object_get(layer, "n"), json_object_get(wanted, "n")) &&
                   json_equal(json_object_get(layer, "k"), json_object_get(wanted, "k")) &&
                   !strcmp(text_of(layer, "format"), text_of(wanted, "format"))) return layer;
    return NULL;
}

static const json_t *same_device(const json_t *plan, const char *id)
{
    const json_t *entry;
    size_t i;
    json_array_foreach(
        json_object_get(plan, "devices"), i,
        entry) if (!strcmp(text_of(json_object_get(entry, "device"), "id"), id)) return entry;
    return NULL;
}

static void compare_device(differ *d, const json_t *old_entry, const json_t *new_entry)
{
    const char *id = text_of(json_object_get(new_entry, "device"), "id");
    const json_t *layer, *other;
    bool fitted = json_is_true(json_object_get(old_entry, "fits"));
    bool fits = json_is_true(json_object_get(new_entry, "fits"));
    judgement verdict = fitted == fits ? SAME : fits ? BETTER : WORSE;
    size_t i;
    json_array_foreach(json_object_get(old_entry, "layers"), i,
                       layer) if (!same_layer(new_entry, layer))
        note(d, "%s: %s is in the old plan only", id, text_of(layer, "group"));
    json_array_foreach(json_object_get(new_entry, "layers"), i, layer)
    {
        other = same_layer(old_entry, layer);
        if (!other) {
            note(d, "%s: %s is in the new plan only", id, text_of(layer, "group"));
            continue;
        }
        compare_phase(d, id, other, layer, "decode");
        compare_phase(d, id, other, layer, "prefill");
    }
    d->count[verdict] += verdict != SAME;
    json_array_append_new(
        d->devices,
        json_pack("{s:s, s:s, s:b, s:b, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "device", id,
                  "verdict", judgements[verdict], "old_fits", fitted, "new_fits", fits, "text",
                  text_of(new_entry, "verdict"), "old_decode_us",
                  shared(json_object_get(old_entry, "decode_us")), "new_decode_us",
                  shared(json_object_get(new_entry, "decode_us")), "old_prefill_us",
                  shared(json_object_get(old_entry, "prefill_us")), "new_prefill_us",
                  shared(json_object_get(new_entry, "prefill_us")), "old_peak_bytes",
                  shared(json_object_get(json_object_get(old_entry, "memory"), "peak_bytes")),
                  "new_peak_bytes",
                  shared(json_object_get(json_object_get(new_entry, "memory"), "peak_bytes"))));
}

/* Members that make two plans answers to two questions. */
static void compare_questions(differ *d, const json_t *a, const json_t *b)
{
    const json_t *load_a = json_object_get(a, "workload"), *load_b = json_object_get(b, "workload");
    const char *name_a = text_of(json_object_get(a, "model"), "name");
    const char *name_b = text_of(json_object_get(b, "model"), "name"), *key;
    json_t *value;
    if (strcmp(name_a, name_b) != 0)
        note(d, "the plans are of two models: %s and %s", name_a, name_b);
    json_object_foreach((json_t *)(uintptr_t)load_a, key, value)
    {
        json_t *other = json_object_get(load_b, key);
        char *before = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        char *after = other ? json_dumps(other, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
        if (!other || !json_equal(value, other))
            note(d, "the workloads differ: %s is %s, was %s", key, after ? after : "absent",
                 before ? before : "?");
        free(before);
        free(after);
    }
}

/* -------------------------------------------------------------------------------------- output */

static const char *time_text(double us, char *buffer, size_t size)
{
    if (us > 0)
        return cli_time(us, buffer, size);
    snprintf(buffer, size, "-"); /* nothing that runs */
    return buffer;
}

/* "12 ms", or "14 ms, was 12 ms". */
static void pair_cell(cli_table *table, const char *before, const char *after)
{
    if (!strcmp(before, after))
        cli_cell(table, CLI_PLAIN, "%s", after);
    else
        cli_cell(table, CLI_BOLD, "%s, was %s", after, before);
}

static int64_t bytes_of(const json_t *entry, const char *member)
{
    return (int64_t)json_integer_value(json_object_get(entry, member));
}

static void show_devices(const differ *d)
{
    static const cli_column columns[] = {{"DEVICE", false, false},
                                         {"FITS", false, false},
                                         {"DECODE", false, false},
                                         {"PREFILL", false, false},
                                         {"PEAK MEMORY", false, false}};
    cli_table *table = cli_table_new(columns, 5);
    const json_t *entry;
    size_t i;
    json_array_foreach(d->devices, i, entry)
    {
        bool fits = json_is_true(json_object_get(entry, "new_fits"));
        char before[48], after[48];
        cli_cell(table, CLI_PLAIN, "%s", text_of(entry, "device"));
        cli_cell(table, fits ? CLI_GOOD : CLI_BAD, "%s%s", fits ? "yes" : "no",
                 !strcmp(text_of(entry, "verdict"), "same") ? ""
                 : fits                                     ? ", did not"
                                                            : ", did");
        pair_cell(table, time_text(number_of(entry, "old_decode_us"), before, sizeof before),
                  time_text(number_of(entry, "new_decode_us"), after, sizeof after));
        pair_cell(table, time_text(number_of(entry, "old_prefill_us"), before, sizeof before),
                  time_text(number_of(entry, "new_prefill_us"), after, sizeof after));
        pair_cell(table, cli_bytes(bytes_of(entry, "old_peak_bytes"), before, sizeof before),
                  cli_bytes(bytes_of(entry, "new_peak_bytes"), after, sizeof after));
    }
    cli_table_print(table);
}

static void cell_of(cli_table *table, const json_t *decision)
{
    char time[48];
    if (json_is_object(decision))
        cli_cell(table, CLI_PLAIN, "%s %s", text_of(decision, "kernel"),
                 time_text(number_of(decision, "predicted_us"), time, sizeof time));
    else
        cli_cell(table, CLI_BAD, "no kernel");
}

static void show_changes(const differ *d)
{
    static const cli_column columns[] = {{"VERDICT", false, false}, {"DEVICE", false, false},
                                         {"LAYER", false, false},   {"M", true, false},
                                         {"OLD", false, false},     {"NEW", false, false},
                                         {"WHY", false, true}};
    const json_t *change;
    size_t i;
    cli_table *table = cli_table_new(columns, 7);
    for (int verdict = WORSE; verdict > SAME; verdict--)
        json_array_foreach(d->changes, i, change)
        {
            if (strcmp(text_of(change, "verdict"), judgements[verdict]) != 0)
                continue;
            cli_cell(table, styles[verdict], "%s", judgements[verdict]);
            cli_cell(table, CLI_PLAIN, "%s", text_of(change, "device"));
            cli_cell(table, CLI_PLAIN, "%s", text_of(change, "layer"));
            cli_cell(table, CLI_PLAIN, "%lld",
                     (long long)json_integer_value(json_object_get(change, "m")));
            cell_of(table, json_object_get(change, "old"));
            cell_of(table, json_object_get(change, "new"));
            cli_cell(table, CLI_PLAIN, "%s", text_of(change, "why"));
        }
    cli_table_print(table);
}

static void show(const differ *d)
{
    const json_t *entry;
    size_t i;
    json_array_foreach(d->notes, i, entry) cli_note("%s", json_string_value(entry));
    show_devices(d);
    if (json_array_size(d->changes)) {
        putchar('\n');
        show_changes(d);
    }
    cli_print(d->count[WORSE] ? CLI_BAD : CLI_GOOD,
              "\n%d for the worse, %d for the better, %d neither\n", d->count[WORSE],
              d->count[BETTER], d->count[OTHER]);
}

static int answer(const cli_options *options, differ *d, const json_t *a, const json_t *b)
{
    const json_t *entry;
    size_t i;
    d->new_version = text_of(b, "gemmux");
    compare_questions(d, a, b);
    json_array_foreach(json_object_get(a, "devices"), i,
                       entry) if (!same_device(b, text_of(json_object_get(entry, "device"), "id")))
        note(d, "%s is in the old plan only", text_of(json_object_get(entry, "device"), "id"));
    json_array_foreach(json_object_get(b, "devices"), i, entry)
    {
        const char *id = text_of(json_object_get(entry, "device"), "id");
        const json_t *other = same_device(a, id);
        if (other)
            compare_device(d, other, entry);
        else
            note(d, "%s is in the new plan only", id);
    }
    if (!json_array_size(d->devices))
        return cli_fail(CLI_BAD_INPUT, "the two plans have no device in common");
    if (options->json)
        cli_json_print(json_pack("{s:s, s:s, s:i, s:i, s:i, s:O, s:O, s:O}", "old_gemmux",
                                 text_of(a, "gemmux"), "new_gemmux", text_of(b, "gemmux"), "worse",
                                 d->count[WORSE], "better", d->count[BETTER], "other",
                                 d->count[OTHER], "notes", d->notes, "devices", d->devices,
                                 "changes", d->changes));
    else
        show(d);
    return d->count[WORSE] ? CLI_NO_KERNEL : CLI_DONE;
}

int cli_plan_diff(const cli_options *options, const char *old_path, const char *new_path)
{
    json_t *a = NULL, *b = NULL;
    int code = cli_plan_load(old_path, &a);
    if (!code)
        code = cli_plan_load(new_path, &b);
    if (!code) {
        differ d = {.changes = json_array(), .devices = json_array(), .notes = json_array()};
        code = answer(options, &d, a, b);
        json_decref(d.changes);
        json_decref(d.devices);
        json_decref(d.notes);
    }
    json_decref(a);
    json_decref(b);
    return code;
}
