/* SPDX-License-Identifier: Apache-2.0
 *
 * gemmux: the command. Finds the subcommand and hands over.
 */
#include "cli.h"

#include <string.h>

static const cli_command *const commands[] = {&cli_probe, &cli_kernels, &cli_select, &cli_run,
                                              &cli_check, &cli_bench,   &cli_doctor, &cli_plan};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static int help(FILE *out)
{
    fprintf(out, "usage: gemmux COMMAND [options]\n\nRoutes matrix products to the kernel that "
                 "truly works here, and says why.\n\n");
    for (int i = 0; i < COMMANDS; i++)
        fprintf(out, "  gemmux %-8s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(out, "\n  gemmux COMMAND --help   options of one command\n"
                 "  gemmux --version\n\n"
                 "Exit codes: 0 done, 1 I/O or internal, 2 bad usage or input, 3 no kernel under\n"
                 "this policy or no cause found, 4 a result failed verification.\n");
    return CLI_DONE;
}

static int unknown_command(const char *text)
{
    const char *names[COMMANDS];
    char near[64];
    for (int i = 0; i < COMMANDS; i++)
        names[i] = commands[i]->name;
    return cli_fail(CLI_BAD_INPUT, "\"%s\" is no command%s; `gemmux --help` lists them", text,
                    cli_suggestion(text, names, COMMANDS, 1, near, sizeof near));
}

static int dispatch(int argc, char **argv)
{
    static cli_options options;
    if (argc < 2) {
        help(stderr);
        return CLI_BAD_INPUT;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))
        return help(stdout);
    if (!strcmp(argv[1], "--version")) {
        printf("gemmux %s\n", gemmux_version());
        return CLI_DONE;
    }
    for (int i = 0; i < COMMANDS; i++)
        if (!strcmp(argv[1], commands[i]->name)) {
            int code = cli_parse(commands[i], argc - 1, argv + 1, &options);
            if (code)
                return code;
            if (!options.help)
                return commands[i]->run(&options);
            cli_help(stdout, commands[i]);
            return CLI_DONE;
        }
    return unknown_command(argv[1]);
}

int main(int argc, char **argv)
{
    bool json = false;
    int proving = gemmux_prove_main(argc, argv);
    if (proving >= 0)
        return proving;
    for (int i = 1; i < argc; i++)
        json |= !strcmp(argv[i], "--json");
    cli_output_open(json);
    int code = dispatch(argc, argv);
    if (fflush(stdout) || ferror(stdout)) {
        fputs("gemmux: cannot write to stdout\n", stderr);
        return CLI_FAILED;
    }
    return code;
}
