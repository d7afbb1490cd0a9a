/* SPDX-License-Identifier: Apache-2.0
 *
 * What parsed options ask for: the problem, the machine and what is known of it, a kernel.
 */
#include "cli.h"

int cli_problem(const cli_options *o, gemmux_problem *problem)
{
    static const cli_option needed[] = {CLI_OPTION_N, CLI_OPTION_K, CLI_OPTION_X, CLI_OPTION_W,
                                        CLI_OPTION_Y};
    const char *op = o->argument_count ? o->arguments[0] : NULL;
    if (!op)
        return cli_fail(CLI_BAD_INPUT, "which operation? matmul, linear or moe");
    if (o->argument_count > 1)
        return cli_fail(CLI_BAD_INPUT, "one operation at a time: \"%s\" is too many",
                        o->arguments[1]);
    *problem = (gemmux_problem){.op = (uint8_t)gemmux_op_parse(op)};
    if (!problem->op)
        return cli_fail(CLI_BAD_INPUT, "\"%s\" is no operation; matmul, linear or moe", op);
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
        if (!(o->given >> needed[i] & 1))
            return cli_missing(needed[i]);
    if (!o->m_count)
        return cli_missing(CLI_OPTION_M);
    if (problem->op == GEMMUX_MOE && !(o->experts && o->top_k))
        return cli_fail(CLI_BAD_INPUT, "moe needs --experts E and --top-k T");
    problem->m = o->m[0];
    problem->n = o->n;
    problem->k = o->k;
    problem->x = o->x;
    problem->w = o->w[0];
    problem->y = o->y;
    problem->experts = o->experts;
    problem->top_k = o->top_k;
    problem->epilogue = o->epilogue;
    problem->align = (uint16_t)o->align;
    problem->liberties = o->liberties;
    gemmux_error error;
    if (gemmux_problem_check(problem, &error))
        return cli_fail_error(&error);
    return CLI_DONE;
}

int cli_machine(const cli_options *o, gemmux_machine *machine)
{
    gemmux_error error;
    char caution[256];
    if (gemmux_machine_find(o->device ? o->device : "cpu", machine, &error))
        return cli_fail_error(&error);
    if (gemmux_machine_caution(machine, caution, sizeof caution))
        cli_note("%s", caution);
    return CLI_DONE;
}

int cli_machine_here(const cli_options *o, const char *verb, gemmux_machine *machine)
{
    int code = cli_machine(o, machine);
    if (!code && machine->described)
        return cli_fail(CLI_BAD_INPUT,
                        "%s is a description of %s, which is not here to %s on; `gemmux select "
                        "--device %s` decides for it",
                        o->device, machine->name, verb, o->device);
    return code;
}

int cli_records(gemmux_machine *machine, gemmux_records **records)
{
    gemmux_error error;
    char note[512] = "";
    *records = NULL;
    if (machine->described)
        return CLI_DONE;
    if (gemmux_records_load(machine, records, note, sizeof note, &error))
        return cli_fail_error(&error);
    if (*note)
        cli_note("%s", note);
    if (gemmux_records_prover(*records, "/proc/self/exe", &error)) /* main begins with it */
        return cli_fail_error(&error);
    return CLI_DONE;
}

int cli_kernel(const gemmux_machine *machine, const char *name, const gemmux_kernel **kernel)
{
    const char *names[GEMMUX_MAX_KERNELS];
    char near[256];
    int count = gemmux_kernel_count(machine);
    *kernel = gemmux_kernel_find(machine, name);
    if (*kernel)
        return CLI_DONE;
    for (int i = 0; i < count && i < GEMMUX_MAX_KERNELS; i++)
        names[i] = gemmux_kernel_name(gemmux_kernel_at(machine, i));
    return cli_fail(CLI_BAD_INPUT, "no kernel is called \"%s\"%s; `gemmux kernels` lists all %d",
                    name, cli_suggestion(name, names, count, 3, near, sizeof near), count);
}
