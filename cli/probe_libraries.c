/* SPDX-License-Identifier: Apache-2.0
 *
 * gemmux probe, its last part: the CUDA libraries of this machine, wherever they come from, with
 * the architectures whose code each really carries, and whether it runs on a device.
 */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

typedef struct scanned {
    gemmux_gpu_library library;
    gemmux_gpu_scan scan;
    gemmux_error error; /* of the scan */
} scanned;

typedef struct collection {
    scanned *items;
    int count, room;
    bool out_of_memory;
} collection;

static void collect(void *context, const gemmux_gpu_library *library)
{
    collection *c = context;
    if (c->count == c->room) {
        int room = c->room ? 2 * c->room : 64;
        scanned *more = realloc(c->items, (size_t)room * sizeof *more);
        c->out_of_memory |= !more;
        if (!more)
            return;
        c->items = more;
        c->room = room;
    }
    c->items[c->count++] = (scanned){.library = *library};
}

static const char *base(const char *path)
{
    return strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
}

static int gather(collection *c)
{
    gemmux_error error;
    if (gemmux_find_gpu_libraries(collect, c, &error))
        return cli_fail_error(&error);
    if (c->out_of_memory)
        return cli_fail(CLI_FAILED, "out of memory for a list of libraries");
    for (int i = 0; i < c->count; i++) {
        cli_progress(i, c->count, base(c->items[i].library.path));
        gemmux_scan_gpu_code(c->items[i].library.path, &c->items[i].scan, &c->items[i].error);
    }
    cli_progress(1, 1, "");
    return CLI_DONE;
}

static void show_row(cli_table *table, const scanned *s, int cc)
{
    char text[1024], name[24];
    int64_t fatbins;
    cli_cell(table, CLI_BOLD, "  %s", base(s->library.path));
    cli_cell(table, CLI_PLAIN, "%s", s->library.version);
    if (s->error.status) {
        cli_cell(table, CLI_BAD, "%s", s->error.text);
        return;
    }
    if (!cc) {
        cli_cell(table, CLI_PLAIN, "%s", cli_targets(&s->scan, text, sizeof text));
        return;
    }
    const gemmux_gpu_code *best = gemmux_gpu_scan_best(&s->scan, cc, &fatbins);
    if (best)
        cli_cell(table, CLI_GOOD, "%lld of %lld modules, %s first", (long long)fatbins,
                 (long long)s->scan.fatbins, gemmux_gpu_code_name(best, name, sizeof name));
    else
        cli_cell(table, CLI_BAD, "nothing; it carries %s",
                 cli_targets(&s->scan, text, sizeof text));
}

static size_t folder_length(const scanned *s)
{
    return (size_t)(base(s->library.path) - s->library.path);
}

/* Libraries from [first, ...) that lie in one folder; returns the first that does not. */
static int show_folder(const collection *c, int first, int cc)
{
    char runs[64];
    const scanned *f = &c->items[first];
    size_t length = folder_length(f);
    int end = first, with = 0;
    for (; end < c->count && folder_length(&c->items[end]) == length &&
           !strncmp(c->items[end].library.path, f->library.path, length);
         end++)
        with += c->items[end].scan.code_count || c->items[end].error.status;
    if (!with)
        return end;
    snprintf(runs, sizeof runs, "RUNS ON %d.%d", cc / 10, cc % 10);
    const cli_column columns[] = {{"  LIBRARY", false, false},
                                  {"VERSION", false, false},
                                  {cc ? runs : "CODE FOR", false, true}};
    cli_table *table = cli_table_new(columns, 3);
    cli_print(CLI_BOLD, "\n%.*s", (int)length, f->library.path);
    cli_print(CLI_PLAIN, " (%s)\n", f->library.where);
    for (int i = first; i < end; i++)
        if (c->items[i].scan.code_count || c->items[i].error.status)
            show_row(table, &c->items[i], cc);
    cli_table_print(table);
    return end;
}

static void show(const collection *c, int cc)
{
    int without = 0;
    for (int i = 0; i < c->count; i++)
        without += !c->items[i].scan.code_count && !c->items[i].error.status;
    if (c->count == without)
        cli_print(CLI_PLAIN, "\nNo library with GPU code in LD_LIBRARY_PATH, the active Python "
                             "environment\nand the usual folders.\n");
    for (int i = 0; i < c->count;)
        i = show_folder(c, i, cc);
    if (without && c->count > without)
        cli_print(CLI_DIM, "\n%d more CUDA libraries carry no GPU code.\n", without);
}

static json_t *json_one(const scanned *s, int cc)
{
    char name[24], why[160] = "nothing in it runs there";
    int64_t fatbins = 0;
    json_t *runs = json_null();
    if (cc) {
        const gemmux_gpu_code *best = gemmux_gpu_scan_best(&s->scan, cc, &fatbins);
        if (best)
            gemmux_gpu_code_runs(best, cc, why, sizeof why);
        runs = json_pack("{s:b, s:o, s:I, s:s}", "runs", best != NULL, "target",
                         best ? json_string(gemmux_gpu_code_name(best, name, sizeof name))
                              : json_null(),
                         "fatbins", (json_int_t)fatbins, "text", why);
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:o, s:I, s:o, s:o}", "name", base(s->library.path),
                     "path", s->library.path, "version", s->library.version, "where",
                     s->library.where, "bytes", (json_int_t)s->library.bytes, "code",
                     cli_json_targets(&s->scan), "fatbins", (json_int_t)s->scan.fatbins, "device",
                     runs, "error", s->error.status ? json_string(s->error.text) : json_null());
}

int cli_probe_libraries(const cli_options *options, int cc, json_t *list)
{
    collection c = {0};
    int code = gather(&c);
    if (!code && options->json)
        for (int i = 0; i < c.count; i++)
            json_array_append_new(list, json_one(&c.items[i], cc));
    else if (!code)
        show(&c, cc);
    free(c.items);
    return code;
}
