/* SPDX-License-Identifier: Apache-2.0
 *
 * gemmux check: certifies kernels on this machine, each in a process of its own, and keeps what
 * came out for select and run.
 */
#include "cli.h"

#include <string.h>

static cli_style style_of(gemmux_proof proof)
{
    return proof == GEMMUX_PROOF_PROVED    ? CLI_GOOD
           : proof == GEMMUX_PROOF_SKIPPED ? CLI_DIM
                                           : CLI_BAD;
}

static void report(cli_table *table, json_t *list, const gemmux_kernel *kernel,
                   const gemmux_certificate *c)
{
    const char *name = gemmux_kernel_name(kernel), *proof = gemmux_proof_name(c->proof);
    bool ran = c->proof != GEMMUX_PROOF_SKIPPED;
    json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:i, s:o, s:s}", "kernel", name, "proof",
                                          proof, "cached", c->cached, "cases", c->cases, "seconds",
                                          cli_json_number(c->seconds), "evidence", c->evidence));
    cli_cell(table, CLI_PLAIN, "%s", name);
    cli_cell(table, style_of(c->proof), "%s", proof);
    if (ran)
        cli_cell(table, CLI_PLAIN, "%d", c->cases);
    else
        cli_cell(table, CLI_PLAIN, "-");
    if (c->cached || !ran)
        cli_cell(table, CLI_PLAIN, "%s", ran ? "kept" : "-");
    else
        cli_cell(table, CLI_PLAIN, "%.1f", c->seconds);
    cli_cell(table, CLI_PLAIN, "%s", c->evidence);
}

/* All kernels, or those that were named. */
static int gather(const cli_options *options, const gemmux_machine *machine,
                  const gemmux_kernel **kernels, int *count)
{
    *count = 0;
    for (int i = 0; i < options->argument_count && i < GEMMUX_MAX_KERNELS; i++) {
        int code = cli_kernel(machine, options->arguments[i], &kernels[(*count)++]);
        if (code)
            return code;
    }
    if (!options->argument_count)
        for (int i = 0; i < gemmux_kernel_count(machine) && i < GEMMUX_MAX_KERNELS; i++)
            kernels[(*count)++] = gemmux_kernel_at(machine, i);
    return CLI_DONE;
}

static int certify_all(const cli_options *options, gemmux_machine *machine, gemmux_records *records)
{
    static const cli_column columns[] = {{"KERNEL", false, false},
                                         {"PROOF", false, false},
                                         {"CASES", true, false},
                                         {"SECONDS", true, false},
                                         {"EVIDENCE", false, true}};
    const gemmux_kernel *kernels[GEMMUX_MAX_KERNELS];
    int count, bad = 0, code = gather(options, machine, kernels, &count);
    if (code)
        return code;
    json_t *list = json_array();
    cli_table *table = cli_table_new(columns, 5);
    for (int i = 0; i < count; i++) {
        gemmux_certificate certificate = {0};
        gemmux_error error;
        cli_progress(i, count, gemmux_kernel_name(kernels[i]));
        if (gemmux_certify(records, machine, kernels[i], options->timeout, options->again,
                           &certificate, &error)) {
            cli_table_free(table);
            json_decref(list);
            return cli_fail_error(&error);
        }
        bad += style_of(certificate.proof) == CLI_BAD;
        report(table, list, kernels[i], &certificate);
    }
    cli_progress(1, 1, "");
    if (options->json) {
        cli_table_free(table);
        cli_json_print(json_pack("{s:o, s:o, s:i}", "device", cli_json_machine(machine), "kernels",
                                 list, "failed", bad));
    } else {
        json_decref(list);
        cli_table_print(table);
    }
    return bad ? CLI_WRONG : CLI_DONE;
}

static int run(cli_options *options)
{
    gemmux_machine machine;
    gemmux_records *records = NULL;
    int code = cli_machine_here(options, "check", &machine);
    if (!code)
        code = cli_records(&machine, &records);
    if (!code)
        code = certify_all(options, &machine, records);
    gemmux_records_free(records);
    return code;
}

const cli_command cli_check = {
    .name = "check",
    .arguments = "[KERNEL ...]",
    .summary = "certify kernels on this machine, each in a process of its own",
    .details = "Proofs are kept in $XDG_CACHE_HOME/gemmux and hold until the kernel, the CPU or\n"
               "GPU, its driver or library changes. A kernel that is wrong, crashes or hangs is\n"
               "quarantined: select and run do without it. Exit code 4 then.",
    .options = CLI_BIT(DEVICE) | CLI_BIT(AGAIN) | CLI_BIT(TIMEOUT) | CLI_BIT(JSON) | CLI_BIT(HELP),
    .run = run,
};
