/* SPDX-License-Identifier: Apache-2.0
 *
 * gemmux probe FILE: which GPU code a library really carries, and on which devices it runs. Needs
 * no GPU, no driver and no toolkit.
 */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_ARCHES = 64 };

/* The devices that the answer is for: one, or one of each architecture with a description. */
typedef struct audience {
    int cc[MAX_ARCHES];
    const char *name; /* of the one device; NULL for many */
    int count;
} audience;

typedef struct lost_names {
    const char **names;
    size_t count, room, runs;
    bool full;
} lost_names;

static int compare_ints(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static int find_audience(const cli_options *options, gemmux_machine *machine, audience *who)
{
    *who = (audience){.count = 1};
    if (options->device) {
        int code = cli_machine(options, machine);
        if (code)
            return code;
        if (machine->kind != GEMMUX_CUDA)
            return cli_fail(CLI_BAD_INPUT, "%s has no CUDA cores: no GPU code runs on it",
                            options->device);
    }
    if (options->device || !gemmux_machine_find("cuda:0", machine, NULL)) {
        who->cc[0] = machine->cc;
        who->name = machine->name;
        return CLI_DONE;
    }
    who->count = 0;
    for (int i = 0; i < gemmux_machine_builtin_count() && who->count < MAX_ARCHES; i++) {
        bool known = false;
        if (gemmux_machine_find(gemmux_machine_builtin_name(i), machine, NULL) ||
            machine->kind != GEMMUX_CUDA)
            continue;
        for (int j = 0; j < who->count; j++)
            known |= who->cc[j] == machine->cc;
        if (!known)
            who->cc[who->count++] = machine->cc;
    }
    qsort(who->cc, (size_t)who->count, sizeof who->cc[0], compare_ints);
    return CLI_DONE;
}

/* ------------------------------------------------------------------------------- lost kernels */

static void keep_lost(void *context, const char *name, bool runs)
{
    lost_names *lost = context;
    if (runs) {
        lost->runs++;
        return;
    }
    if (lost->count == lost->room) {
        size_t room = lost->room ? 2 * lost->room : 256;
        const char **names = realloc(lost->names, room * sizeof *names);
        if (!names) {
            lost->full = true;
            return;
        }
        lost->names = names;
        lost->room = room;
    }
    char *copy = strdup(name);
    if (copy)
        lost->names[lost->count++] = copy;
    lost->full |= !copy;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void free_lost(lost_names *lost)
{
    for (size_t i = 0; i < lost->count; i++)
        free((char *)(uintptr_t)lost->names[i]);
    free(lost->names);
}

static int find_lost(const char *path, const audience *who, lost_names *lost)
{
    gemmux_error error;
    int64_t unread;
    if (who->count != 1)
        return cli_fail(CLI_BAD_INPUT, "--lost needs --device: lost on what?");
    if (gemmux_scan_gpu_kernels(path, who->cc[0], keep_lost, lost, &unread, &error))
        return cli_fail_error(&error);
    if (lost->full)
        return cli_fail(CLI_FAILED, "out of memory for the names of kernels");
    if (unread)
        cli_note("%lld images could not be unpacked (is libzstd.so.1 there?): their kernels are "
                 "not in the list",
                 (long long)unread);
    if (lost->count)
        qsort(lost->names, lost->count, sizeof lost->names[0], compare_names);
    return CLI_DONE;
}

/* ----------------------------------------------------------------------------------------- text */

static void show_code(const gemmux_gpu_scan *scan, const audience *who)
{
    static const cli_column columns[] = {{"TARGET", false, false},
                                         {"IMAGES", true, false},
                                         {"STORED", true, false},
                                         {"RUNS", false, true}};
    cli_table *table = cli_table_new(columns, who->count == 1 ? 4 : 3);
    for (int i = 0; i < scan->code_count; i++) {
        char name[24], bytes[32], why[160];
        cli_cell(table, CLI_BOLD, "%s", gemmux_gpu_code_name(&scan->code[i], name, sizeof name));
        cli_cell(table, CLI_PLAIN, "%lld", (long long)scan->code[i].images);
        cli_cell(table, CLI_PLAIN, "%s", cli_bytes(scan->code[i].bytes, bytes, sizeof bytes));
        if (who->count != 1)
            continue;
        bool runs = gemmux_gpu_code_runs(&scan->code[i], who->cc[0], why, sizeof why);
        cli_cell(table, runs ? CLI_GOOD : CLI_DIM, "%s: %s", runs ? "yes" : "no", why);
    }
    cli_table_print(table);
}

static void show_verdict(const gemmux_gpu_scan *scan, int cc, const char *device)
{
    char name[24], why[160], text[512];
    int64_t fatbins;
    const gemmux_gpu_code *best = gemmux_gpu_scan_best(scan, cc, &fatbins);
    const char *on = device ? " on " : "";
    device = device ? device : "";
    if (best) {
        gemmux_gpu_code_runs(best, cc, why, sizeof why);
        snprintf(text, sizeof text,
                 "%d.%d: yes%s%s, %s first: %lld of %lld modules have code that runs (%s)", cc / 10,
                 cc % 10, on, device, gemmux_gpu_code_name(best, name, sizeof name),
                 (long long)fatbins, (long long)scan->fatbins, why);
    } else {
        snprintf(text, sizeof text, "%d.%d: nothing in it runs%s%s", cc / 10, cc % 10, on, device);
    }
    cli_wrap(best ? CLI_PLAIN : CLI_BAD, 0, text);
}

static void show_lost(const lost_names *lost)
{
    cli_print(CLI_PLAIN, "\n%zu kernels run, %zu do not:\n", lost->runs, lost->count);
    for (size_t i = 0; i < lost->count; i++)
        cli_print(CLI_PLAIN, "  %s\n", lost->names[i]);
}

static void show(const char *path, const gemmux_gpu_scan *scan, const audience *who)
{
    char bytes[32];
    cli_print(CLI_BOLD, "%s", path);
    cli_print(CLI_PLAIN, " (%s)\n", cli_bytes(scan->file_bytes, bytes, sizeof bytes));
    if (scan->broken || scan->other)
        cli_note("%lld broken fatbins, %lld images of an unknown kind", (long long)scan->broken,
                 (long long)scan->other);
    if (!scan->code_count) {
        cli_wrap(CLI_PLAIN, 0,
                 "It carries no GPU code. A library may still make some while it runs "
                 "(NVRTC, Triton).");
        return;
    }
    show_code(scan, who);
    putchar('\n');
    for (int i = 0; i < who->count; i++)
        show_verdict(scan, who->cc[i], who->name);
}

/* ----------------------------------------------------------------------------------------- json */

static json_t *json_runs(const gemmux_gpu_scan *scan, int cc)
{
    char name[24], why[160] = "nothing in it runs there", text[16];
    int64_t fatbins;
    const gemmux_gpu_code *best = gemmux_gpu_scan_best(scan, cc, &fatbins);
    if (best)
        gemmux_gpu_code_runs(best, cc, why, sizeof why);
    snprintf(text, sizeof text, "%d.%d", cc / 10, cc % 10);
    return json_pack("{s:s, s:b, s:o, s:I, s:s}", "cc", text, "runs", best != NULL, "target",
                     best ? json_string(gemmux_gpu_code_name(best, name, sizeof name))
                          : json_null(),
                     "fatbins", (json_int_t)fatbins, "text", why);
}

static int print_json(const char *path, const gemmux_gpu_scan *scan, const audience *who,
                      const lost_names *lost, bool with_lost)
{
    json_t *code = json_array(), *runs = json_array(), *names = json_array();
    char name[24];
    for (int i = 0; i < scan->code_count; i++)
        json_array_append_new(code,
                              json_pack("{s:s, s:I, s:I}", "target",
                                        gemmux_gpu_code_name(&scan->code[i], name, sizeof name),
                                        "images", (json_int_t)scan->code[i].images, "bytes",
                                        (json_int_t)scan->code[i].bytes));
    for (int i = 0; i < who->count; i++)
        json_array_append_new(runs, json_runs(scan, who->cc[i]));
    for (size_t i = 0; i < lost->count; i++)
        json_array_append_new(names, json_stringn(lost->names[i], strlen(lost->names[i])));
    json_t *document = json_pack("{s:s, s:I, s:I, s:I, s:I, s:o, s:o}", "file", path, "file_bytes",
                                 (json_int_t)scan->file_bytes, "fatbins", (json_int_t)scan->fatbins,
                                 "broken", (json_int_t)scan->broken, "other",
                                 (json_int_t)scan->other, "code", code, "devices", runs);
    json_object_set_new(document, "lost", with_lost ? names : json_null());
    if (!with_lost)
        json_decref(names);
    return cli_json_print(document);
}

int cli_probe_file(const cli_options *options, const char *path)
{
    static gemmux_machine machine;
    static gemmux_gpu_scan scan;
    gemmux_error error;
    audience who;
    lost_names lost = {0};
    int code = find_audience(options, &machine, &who);
    if (code)
        return code;
    if (gemmux_scan_gpu_code(path, &scan, &error))
        return cli_fail_error(&error);
    if (options->lost)
        code = find_lost(path, &who, &lost);
    if (!code && options->json) {
        print_json(path, &scan, &who, &lost, options->lost);
    } else if (!code) {
        show(path, &scan, &who);
        if (options->lost && scan.code_count)
            show_lost(&lost);
    }
    free_lost(&lost);
    if (!code && options->device && !gemmux_gpu_scan_best(&scan, who.cc[0], NULL))
        code = CLI_NO_KERNEL;
    return code;
}
