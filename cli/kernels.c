/* SPDX-License-Identifier: Apache-2.0
 *
 * gemmux kernels: the table, with what each needs.
 */
#include "cli.h"

static const char *device_name(const gemmux_kernel *kernel)
{
    return gemmux_kernel_device(kernel) == GEMMUX_CUDA ? "cuda" : "cpu";
}

static json_t *as_json(const gemmux_kernel *kernel)
{
    char needs[512];
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:s, s:s?}", "kernel",
                     gemmux_kernel_name(kernel), "summary", gemmux_kernel_summary(kernel), "device",
                     device_name(kernel), "library",
                     gemmux_library_name(gemmux_kernel_library(kernel)), "packing",
                     gemmux_kernel_packing(kernel), "built", gemmux_kernel_built(kernel), "needs",
                     gemmux_kernel_needs(kernel, needs, sizeof needs), "unproven",
                     gemmux_kernel_unproven(NULL, kernel));
}

static int run(cli_options *options)
{
    static const cli_column columns[] = {{"KERNEL", false, false},  {"DEVICE", false, false},
                                         {"LIBRARY", false, false}, {"PACKING", false, false},
                                         {"BUILT", false, false},   {"NEEDS", false, true}};
    if (options->argument_count)
        return cli_fail(CLI_BAD_INPUT, "kernels takes no argument, but got \"%s\"",
                        options->arguments[0]);
    json_t *list = json_array();
    cli_table *table = cli_table_new(columns, 6);
    for (int i = 0; i < gemmux_kernel_count(NULL); i++) {
        const gemmux_kernel *kernel = gemmux_kernel_at(NULL, i);
        char needs[512];
        bool built = gemmux_kernel_built(kernel);
        json_array_append_new(list, as_json(kernel));
        cli_cell(table, CLI_BOLD, "%s", gemmux_kernel_name(kernel));
        cli_cell(table, CLI_PLAIN, "%s", device_name(kernel));
        cli_cell(table, CLI_PLAIN, "%s", gemmux_library_name(gemmux_kernel_library(kernel)));
        cli_cell(table, CLI_PLAIN, "%s", gemmux_kernel_packing(kernel));
        cli_cell(table, built ? CLI_PLAIN : CLI_WARN, "%s", built ? "yes" : "no");
        cli_cell(table, CLI_PLAIN, "%s", gemmux_kernel_needs(kernel, needs, sizeof needs));
        const char *unproven = gemmux_kernel_unproven(NULL, kernel);
        cli_remark(table, "%s%s%s", gemmux_kernel_summary(kernel), unproven ? "; unproven: " : "",
                   unproven ? unproven : "");
    }
    if (options->json) {
        cli_table_free(table);
        return cli_json_print(json_pack("{s:o}", "kernels", list));
    }
    json_decref(list);
    cli_table_print(table);
    return CLI_DONE;
}

const cli_command cli_kernels = {
    .name = "kernels",
    .arguments = "",
    .summary = "list every kernel with what it needs",
    .options = CLI_BIT(JSON) | CLI_BIT(HELP),
    .run = run,
};
