/* SPDX-License-Identifier: Apache-2.0
 *
 * gemmux doctor: reads a log and says what is really wrong, at which stage of the selection, what
 * to do about it and at what price.
 */
#include "cli.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static const char *const evidence_words[] = {
    [GEMMUX_EVIDENCE_UNKNOWN] = "unknown",
    [GEMMUX_EVIDENCE_CONFIRMS] = "confirms",
    [GEMMUX_EVIDENCE_CONTRADICTS] = "contradicts",
};

/* --------------------------------------------------------------------------------------- text */

static void label(const char *name, cli_style style, const char *text)
{
    cli_print(CLI_DIM, "%s\n", name);
    cli_wrap(style, 2, text);
}

static cli_style claim_style(const gemmux_finding *finding)
{
    return finding->claim == GEMMUX_CLAIM_FALSE        ? CLI_BAD
           : finding->claim == GEMMUX_CLAIM_MISLEADING ? CLI_WARN
                                                       : CLI_PLAIN;
}

static void show_remedies(const gemmux_finding *finding)
{
    cli_print(CLI_DIM, "fixes, best first\n");
    for (int i = 0; i < finding->remedy_count; i++) {
        char price[256];
        snprintf(price, sizeof price, "%d. price: %s", i + 1, finding->remedies[i].price);
        cli_wrap(CLI_BOLD, 2, price);
        cli_wrap(CLI_PLAIN, 5, finding->remedies[i].text);
    }
}

static void show_evidence(const gemmux_finding *finding, const gemmux_machine *machine)
{
    if (!finding->evidence_count)
        return;
    cli_print(CLI_DIM, "facts of %s\n", machine ? machine->name : "this machine");
    for (int i = 0; i < finding->evidence_count; i++) {
        const gemmux_evidence *evidence = &finding->evidence[i];
        char text[700];
        snprintf(text, sizeof text, "%s%s%s",
                 evidence->kind == GEMMUX_EVIDENCE_UNKNOWN ? "" : evidence_words[evidence->kind],
                 evidence->kind == GEMMUX_EVIDENCE_UNKNOWN ? "" : ": ", evidence->text);
        cli_wrap(evidence->kind == GEMMUX_EVIDENCE_CONTRADICTS ? CLI_WARN : CLI_PLAIN, 2, text);
    }
}

static void show_finding(const gemmux_finding *finding, const gemmux_machine *machine)
{
    char text[1024];
    size_t used = 0;
    cli_wrap(CLI_BOLD, 0, finding->title);
    snprintf(text, sizeof text, "stage %s, blame %s, cause %s",
             gemmux_stage_name((gemmux_stage)finding->stage),
             gemmux_blame_name((gemmux_blame)finding->blame), finding->id);
    cli_wrap(CLI_PLAIN, 2, text);
    if (finding->matches > 1)
        snprintf(text, sizeof text, "line %lld (one of %lld matches): %s",
                 (long long)finding->excerpt_line, (long long)finding->matches, finding->excerpt);
    else
        snprintf(text, sizeof text, "line %lld: %s", (long long)finding->excerpt_line,
                 finding->excerpt);
    label("the log says", CLI_PLAIN, text);
    snprintf(text, sizeof text, "%s: %s", gemmux_claim_name((gemmux_claim)finding->claim),
             finding->claim_text);
    label("what the message claims is", claim_style(finding), text);
    label("what is really wrong", CLI_PLAIN, finding->cause);
    show_remedies(finding);
    show_evidence(finding, machine);
    text[0] = 0;
    for (int i = 0; i < finding->reference_count && used < sizeof text; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", i ? "; " : "",
                                 finding->references[i]);
    label("see", CLI_DIM, text);
}

static void show(const gemmux_finding *findings, int count, const gemmux_machine *machine)
{
    show_finding(&findings[0], machine);
    for (int i = 1; i < count; i++) {
        if (i == 1)
            cli_print(CLI_DIM, "\nalso in the log\n");
        char text[300];
        snprintf(text, sizeof text, "line %lld: %s%s", (long long)findings[i].line,
                 findings[i].title, findings[i].symptom ? " (a symptom)" : "");
        cli_wrap(CLI_PLAIN, 2, text);
    }
    if (findings[0].symptom)
        cli_note("only symptoms: what led to them is not in this part of the log");
}

/* --------------------------------------------------------------------------------------- json */

static json_t *as_json(const gemmux_finding *finding)
{
    json_t *fixes = json_array(), *facts = json_array(), *references = json_array();
    json_t *details = json_object();
    for (int i = 0; i < finding->remedy_count; i++)
        json_array_append_new(fixes, json_pack("{s:s, s:s}", "price", finding->remedies[i].price,
                                               "text", finding->remedies[i].text));
    for (int i = 0; i < finding->evidence_count; i++)
        json_array_append_new(facts, json_pack("{s:s, s:s}", "verdict",
                                               evidence_words[finding->evidence[i].kind], "text",
                                               finding->evidence[i].text));
    for (int i = 0; i < finding->reference_count; i++)
        json_array_append_new(references, json_string(finding->references[i]));
    for (int i = 0; i < finding->detail_count; i++)
        json_object_set_new(details, finding->details[i].name,
                            json_string(finding->details[i].value));
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:b, s:s, s:{s:s, s:s}, s:o, s:o, s:o, s:o, s:I, s:I, s:s, s:I}",
        "cause", finding->id, "title", finding->title, "stage",
        gemmux_stage_name((gemmux_stage)finding->stage), "blame",
        gemmux_blame_name((gemmux_blame)finding->blame), "symptom", finding->symptom, "text",
        finding->cause, "claim", "verdict", gemmux_claim_name((gemmux_claim)finding->claim), "text",
        finding->claim_text, "fixes", fixes, "facts", facts, "references", references, "details",
        details, "line", (json_int_t)finding->line, "matches", (json_int_t)finding->matches,
        "excerpt", finding->excerpt, "excerpt_line", (json_int_t)finding->excerpt_line);
}

static int print_json(const gemmux_finding *findings, int count, const gemmux_machine *machine)
{
    json_t *list = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(list, as_json(&findings[i]));
    return cli_json_print(json_pack("{s:o, s:o}", "device",
                                    machine ? cli_json_machine(machine) : json_null(), "findings",
                                    list));
}

/* ------------------------------------------------------------------------------------ command */

/* Feeds a file, or standard input for NULL and "-". */
static int read_log(gemmux_doctor *doctor, const char *path)
{
    static char buffer[1 << 16];
    bool standard = !path || !strcmp(path, "-");
    FILE *file = standard ? stdin : fopen(path, "rb");
    size_t got;
    if (!file)
        return cli_fail(CLI_FAILED, "cannot open %s: %s", path, strerror(errno));
    if (standard && isatty(STDIN_FILENO))
        cli_note("reading the log from the terminal; end it with Ctrl-D");
    while ((got = fread(buffer, 1, sizeof buffer, file)) > 0)
        gemmux_doctor_feed(doctor, buffer, got);
    int code = ferror(file) ? cli_fail(CLI_FAILED, "reading %s failed: %s",
                                       standard ? "standard input" : path, strerror(errno))
                            : CLI_DONE;
    if (!standard)
        fclose(file);
    return code;
}

/* The device whose facts are weighed: --device, else the first GPU, else the CPU. */
static int find_machine(const cli_options *options, gemmux_machine *machine, bool *known)
{
    *known = true;
    if (options->device)
        return cli_machine(options, machine);
    *known =
        !gemmux_machine_find("cuda:0", machine, NULL) || !gemmux_machine_find("cpu", machine, NULL);
    return CLI_DONE;
}

static int diagnose(const cli_options *options, gemmux_doctor *doctor)
{
    static gemmux_machine machine;
    const gemmux_finding *findings;
    gemmux_error error;
    int count;
    bool known;
    int code = find_machine(options, &machine, &known);
    if (!code)
        code = read_log(doctor, options->argument_count ? options->arguments[0] : NULL);
    if (code)
        return code;
    if (gemmux_doctor_diagnose(doctor, known ? &machine : NULL, &findings, &count, &error))
        return cli_fail_error(&error);
    if (options->json)
        print_json(findings, count, known ? &machine : NULL);
    else if (count)
        show(findings, count, known ? &machine : NULL);
    else
        cli_print(CLI_PLAIN,
                  "None of the %d causes that this doctor knows is in the log.\nAdding one is one "
                  "file in causes/ (docs/doctor.md).\n",
                  gemmux_doctor_cause_count(doctor));
    return count ? CLI_DONE : CLI_NO_KERNEL;
}

static int run(cli_options *options)
{
    gemmux_doctor *doctor;
    gemmux_error error;
    if (options->argument_count > 1)
        return cli_fail(CLI_BAD_INPUT, "doctor takes one log, but got \"%s\" as well",
                        options->arguments[1]);
    if (gemmux_doctor_create(&doctor, &error))
        return cli_fail_error(&error);
    int code = diagnose(options, doctor);
    gemmux_doctor_free(doctor);
    return code;
}

const cli_command cli_doctor = {
    .name = "doctor",
    .arguments = "[LOG]",
    .summary = "find the real cause in an error log, and what to do about it",
    .details = "LOG is a file; without it, or with -, standard input is read. The facts\n"
               "weighed are those of --device, by default of the first GPU here, else of the\n"
               "CPU. Exit code 3 when no known cause is in the log.",
    .options = CLI_BIT(DEVICE) | CLI_BIT(JSON) | CLI_BIT(HELP),
    .run = run,
};
