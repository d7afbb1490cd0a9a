/* SPDX-License-Identifier: Apache-2.0
 *
 * gemmux probe: what this machine is and what is installed on it, as far as routing asks.
 */
#include "cli.h"

#include <string.h>

enum { MAX_GPUS = 16 };

static const cli_column columns[] = {{"", false, false}, {"", false, true}};

static void fact(cli_table *table, const char *label, const char *text)
{
    cli_cell(table, CLI_DIM, "  %s", label);
    cli_cell(table, CLI_PLAIN, "%s", text);
}

/* -------------------------------------------------------------------------------------- facts --
 */

static const char *isa_text(uint32_t isa, char *buffer, size_t size)
{
    size_t used = 0;
    snprintf(buffer, size, "none that gemmux uses");
    for (uint32_t bit = 1; bit; bit <<= 1) {
        const char *name = isa & bit ? gemmux_isa_name(bit) : NULL;
        if (name && used < size)
            used += (size_t)snprintf(buffer + used, size - used, "%s%s", used ? " " : "", name);
    }
    return buffer;
}

static const char *rates_text(const gemmux_machine *m, char *buffer, size_t size)
{
    char rate[48];
    size_t used = 0;
    buffer[0] = 0;
    for (int i = 0; i < GEMMUX_MATH_COUNT; i++)
        if (m->peak[i] > 0 && used < size)
            used += (size_t)snprintf(buffer + used, size - used, "%s%s %s", used ? ", " : "",
                                     gemmux_math_name((gemmux_math)i),
                                     cli_rate(m->peak[i], "op/s", rate, sizeof rate));
    return buffer;
}

static const char *caches_text(const gemmux_machine *m, char *buffer, size_t size)
{
    char l1[32], l2[32], l3[32];
    if (m->kind == GEMMUX_CUDA)
        snprintf(buffer, size, "L2 %s, %s of shared memory a block",
                 cli_bytes(m->l2_bytes, l2, sizeof l2), cli_bytes(m->smem_bytes, l1, sizeof l1));
    else
        snprintf(buffer, size, "L1 %s, L2 %s a core, L3 %s", cli_bytes(m->l1_bytes, l1, sizeof l1),
                 cli_bytes(m->l2_bytes, l2, sizeof l2), cli_bytes(m->l3_bytes, l3, sizeof l3));
    return buffer;
}

static void version_text(gemmux_library_id id, int32_t version, char *buffer, size_t size)
{
    if (id == GEMMUX_LIB_CUDA) /* as the driver counts: 13000 is 13.0 */
        snprintf(buffer, size, "%d.%d", version / 1000, version % 1000 / 10);
    else
        snprintf(buffer, size, "%d.%d.%d", version / 10000, version / 100 % 100, version % 100);
}

/* Libraries for GPUs are not looked for on behalf of a CPU. */
static bool concerns(const gemmux_machine *m, int id)
{
    return m->kind == GEMMUX_CUDA || m->library[id].present || id == GEMMUX_LIB_ONEDNN ||
           id == GEMMUX_LIB_OPENBLAS;
}

/* Targets of the GPU code that a library carries; none where it cannot be read. */
static void scan_library(const gemmux_machine *m, const gemmux_library *library,
                         gemmux_gpu_scan *scan)
{
    if (m->described || !library->path[0] || gemmux_scan_gpu_code(library->path, scan, NULL))
        scan->code_count = 0;
}

/* --------------------------------------------------------------------------------------- text --
 */

static void show_libraries(cli_table *table, const gemmux_machine *m)
{
    for (int id = GEMMUX_LIB_NONE + 1; id < GEMMUX_LIB_COUNT; id++) {
        const gemmux_library *library = &m->library[id];
        gemmux_gpu_scan scan;
        char version[32], code[512], text[1024];
        const char *name = gemmux_library_name((gemmux_library_id)id);
        if (!concerns(m, id))
            continue;
        if (!library->present) {
            snprintf(text, sizeof text, "not found%s%s", library->note[0] ? ": " : "",
                     library->note);
            fact(table, name, text);
            continue;
        }
        version_text((gemmux_library_id)id, library->version, version, sizeof version);
        scan_library(m, library, &scan);
        cli_targets(&scan, code, sizeof code);
        snprintf(text, sizeof text, "%s %s%s%s%s%s%s", version, library->path,
                 library->arch_set == 1 ? ", carries no code for this device" : "",
                 code[0] ? ", code for " : "", code, library->note[0] ? "; " : "", library->note);
        fact(table, name, text);
    }
}

static void show_machine(const gemmux_machine *m)
{
    char text[1024], arch[32], rate[48], bytes[32];
    cli_table *table = cli_table_new(columns, 2);
    cli_print(CLI_BOLD, "%s", m->name);
    cli_print(CLI_PLAIN, " (%s)%s\n", m->id, m->described ? ", described" : "");
    if (m->kind == GEMMUX_CUDA)
        snprintf(text, sizeof text, "%s, %d multiprocessors",
                 gemmux_machine_arch(m, arch, sizeof arch), m->cores);
    else
        snprintf(text, sizeof text, "%s, %d cores", gemmux_machine_arch(m, arch, sizeof arch),
                 m->cores);
    fact(table, "arch", text);
    if (m->kind == GEMMUX_CPU)
        fact(table, "isa", isa_text(m->isa, text, sizeof text));
    fact(table, "caches", caches_text(m, text, sizeof text));
    snprintf(text, sizeof text, "%s, read at %s", cli_bytes(m->memory_bytes, bytes, sizeof bytes),
             cli_rate(m->bandwidth, "B/s", rate, sizeof rate));
    fact(table, "memory", text);
    fact(table, "peak", rates_text(m, text, sizeof text));
    snprintf(text, sizeof text, "%.3g us to start a product", m->launch_us);
    fact(table, "launch", text);
    show_libraries(table, m);
    cli_table_print(table);
}

/* --------------------------------------------------------------------------------------- json --
 */

static json_t *json_library(const gemmux_machine *m, int id)
{
    const gemmux_library *library = &m->library[id];
    gemmux_gpu_scan scan;
    char version[32];
    version_text((gemmux_library_id)id, library->version, version, sizeof version);
    scan_library(m, library, &scan);
    return json_pack("{s:s, s:b, s:o, s:s, s:s, s:o, s:o}", "name",
                     gemmux_library_name((gemmux_library_id)id), "present", library->present,
                     "version", library->present ? json_string(version) : json_null(), "path",
                     library->path, "note", library->note, "code", cli_json_targets(&scan),
                     "runs_here",
                     library->arch_set ? json_boolean(library->arch_set & 2) : json_null());
}

static json_t *json_machine_facts(const gemmux_machine *m)
{
    json_t *machine = cli_json_machine(m), *isa = json_array(), *peak = json_object();
    json_t *libraries = json_array();
    for (uint32_t bit = 1; bit; bit <<= 1)
        if (m->isa & bit && gemmux_isa_name(bit))
            json_array_append_new(isa, json_string(gemmux_isa_name(bit)));
    for (int i = 0; i < GEMMUX_MATH_COUNT; i++)
        if (m->peak[i] > 0)
            json_object_set_new(peak, gemmux_math_name((gemmux_math)i),
                                cli_json_number(m->peak[i]));
    for (int id = GEMMUX_LIB_NONE + 1; id < GEMMUX_LIB_COUNT; id++)
        if (concerns(m, id))
            json_array_append_new(libraries, json_library(m, id));
    json_object_update_new(
        machine, json_pack("{s:o, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o}", "isa", isa, "l1_bytes",
                           (json_int_t)m->l1_bytes, "l2_bytes", (json_int_t)m->l2_bytes, "l3_bytes",
                           (json_int_t)m->l3_bytes, "memory_bytes", (json_int_t)m->memory_bytes,
                           "bandwidth", cli_json_number(m->bandwidth), "peak", peak, "launch_us",
                           cli_json_number(m->launch_us), "libraries", libraries));
    if (m->kind == GEMMUX_CUDA)
        json_object_update_new(
            machine, json_pack("{s:i, s:i}", "cc", (int)m->cc, "smem_bytes", (int)m->smem_bytes));
    return machine;
}

/* ----------------------------------------------------------------------------------- command -- */

static int probe_one(const cli_options *options, json_t *devices, const char *name, int *cc,
                     gemmux_error *error)
{
    gemmux_machine machine;
    gemmux_status status = gemmux_machine_find(name, &machine, error);
    if (!status && options->measure && !machine.described && machine.kind == GEMMUX_CPU)
        status = gemmux_machine_measure(&machine, 0, error);
    if (status)
        return cli_exit_code(status);
    if (machine.kind == GEMMUX_CUDA && !*cc)
        *cc = machine.cc;
    if (options->json)
        json_array_append_new(devices, json_machine_facts(&machine));
    else
        show_machine(&machine);
    return CLI_DONE;
}

/* --device, or the CPU and every GPU. *cc is that of the first GPU, *why says why there is none. */
static int probe_devices(const cli_options *options, json_t *devices, int *cc, gemmux_error *why)
{
    gemmux_error error;
    if (probe_one(options, devices, options->device ? options->device : "cpu", cc, &error))
        return cli_fail_error(&error);
    for (int i = 0; !options->device && i < MAX_GPUS; i++) {
        char name[16];
        snprintf(name, sizeof name, "cuda:%d", i);
        if (probe_one(options, devices, name, cc, i ? &error : why))
            break;
    }
    if (why->status && !options->json) {
        cli_print(CLI_PLAIN, "\n");
        cli_wrap(CLI_DIM, 0, why->text);
    }
    return CLI_DONE;
}

static void show_builtins(void)
{
    char text[2048];
    size_t used = (size_t)snprintf(text, sizeof text, "described, for --device:");
    for (int i = 0; i < gemmux_machine_builtin_count() && used < sizeof text; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, " %s",
                                 gemmux_machine_builtin_name(i));
    putchar('\n');
    cli_wrap(CLI_DIM, 0, text);
}

static int run(cli_options *options)
{
    if (options->argument_count > 1)
        return cli_fail(CLI_BAD_INPUT, "probe takes one file at most, but got \"%s\" as well",
                        options->arguments[1]);
    if (options->argument_count)
        return cli_probe_file(options, options->arguments[0]);
    if (options->lost)
        return cli_fail(CLI_BAD_INPUT, "--lost is about the kernels of a file: probe FILE --lost");
    json_t *devices = json_array(), *builtins = json_array(), *libraries = json_array();
    gemmux_error why = {0};
    int cc = 0;
    int code = probe_devices(options, devices, &cc, &why);
    if (!code && (cc || !options->device))
        code = cli_probe_libraries(options, cc, libraries);
    for (int i = 0; i < gemmux_machine_builtin_count(); i++)
        json_array_append_new(builtins, json_string(gemmux_machine_builtin_name(i)));
    if (!code && options->json)
        return cli_json_print(json_pack("{s:s, s:o, s:o, s:o, s:o}", "version", gemmux_version(),
                                        "devices", devices, "no_gpu",
                                        why.status ? json_string(why.text) : json_null(),
                                        "gpu_libraries", libraries, "described", builtins));
    if (!code && !options->device)
        show_builtins();
    json_decref(devices);
    json_decref(builtins);
    json_decref(libraries);
    return code;
}

const cli_command cli_probe = {
    .name = "probe",
    .arguments = "[FILE]",
    .summary = "show devices, instruction sets, libraries and GPU code",
    .details = "With FILE (a library, a program, a cubin) only the GPU code that it really\n"
               "carries is shown, and on what that runs: on --device, else on the first GPU\n"
               "here, else on every architecture that gemmux knows. Exit code 3 when nothing\n"
               "in it runs on --device. Without FILE the libraries are those of LD_LIBRARY_PATH,\n"
               "of the active Python environment and of the usual folders.",
    .options = CLI_BIT(DEVICE) | CLI_BIT(LOST) | CLI_BIT(MEASURE) | CLI_BIT(JSON) | CLI_BIT(HELP),
    .run = run,
};
