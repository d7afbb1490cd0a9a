/* SPDX-License-Identifier: Apache-2.0
 *
 * gemmux select: one problem, one device, one policy: which kernel, and why no other.
 */
#include "what_if.h"

#include <string.h>

static void show_decision(const cli_case *c, const gemmux_policy *policy)
{
    char text[256], arch[32], weights[32], workspace[32], time[32];
    const gemmux_machine *machine = &c->machine;
    const gemmux_decision *d = &c->decision;
    cli_print(CLI_BOLD, "%s\n", gemmux_problem_text(&c->problem, text, sizeof text));
    cli_print(CLI_PLAIN, "on %s (%s)\n\n", machine->name,
              gemmux_machine_arch(machine, arch, sizeof arch));
    if (!d->kernel) {
        cli_print(CLI_BAD, "no kernel under this policy\n");
        cli_alternatives_text(&c->problem, machine, policy, text, sizeof text);
        cli_wrap(CLI_PLAIN, 2, text);
        putchar('\n');
        return;
    }
    cli_print(CLI_GOOD, "%s", gemmux_kernel_name(d->kernel));
    cli_print(CLI_PLAIN, " on %s: %s, %s, packing %s\n", cli_device_of(d, machine),
              gemmux_path_name((gemmux_path)d->path), d->lossless ? "lossless" : "lossy",
              d->packing);
    if (d->liberties)
        cli_print(CLI_PLAIN, "  liberties: %s\n", cli_liberties(d->liberties, text, sizeof text));
    snprintf(text, sizeof text, "%s us predicted (%s), bound by %s, %s of weights, %s of workspace",
             cli_number(d->predicted_us, time, sizeof time),
             d->measured ? "from a measurement" : "an estimate",
             gemmux_bound_name((gemmux_bound)d->bound),
             cli_bytes(d->weight_bytes, weights, sizeof weights),
             cli_bytes(d->workspace_bytes, workspace, sizeof workspace));
    cli_wrap(CLI_PLAIN, 2, text);
    if (d->tile) {
        int used = snprintf(text, sizeof text, "a block: %s, %s of shared memory", d->tile,
                            cli_bytes(d->smem_bytes, weights, sizeof weights));
        if (d->wanted_smem_bytes > d->smem_bytes && used < (int)sizeof text)
            snprintf(text + used, sizeof text - (size_t)used,
                     ", since the best one takes %s and a block has %s here",
                     cli_bytes(d->wanted_smem_bytes, weights, sizeof weights),
                     cli_bytes(machine->smem_bytes, workspace, sizeof workspace));
        cli_wrap(CLI_PLAIN, 2, text);
    }
    const char *unproven = gemmux_kernel_unproven(machine, d->kernel);
    if (unproven) {
        snprintf(text, sizeof text, "unproven: %s", unproven);
        cli_wrap(CLI_WARN, 2, text);
    }
    putchar('\n');
}

/* The first reason, and how many more there are. */
static const char *first_reason(const cli_case *c, const gemmux_verdict *v, char *buffer,
                                size_t size)
{
    size_t name = strlen(gemmux_kernel_name(v->kernel)) + 1; /* the sentence begins with it */
    char text[512];
    buffer[0] = 0;
    if (!v->reason_count)
        return buffer;
    const gemmux_reason *r = &c->trace.reasons[v->reason_first];
    gemmux_reason_text(r, v->kernel, &c->problem, &c->machine, text, sizeof text);
    snprintf(buffer, size, "%s: %s", gemmux_stage_name((gemmux_stage)r->stage),
             strlen(text) > name ? text + name : text);
    if (v->reason_count > 1)
        snprintf(buffer + strlen(buffer), size - strlen(buffer), " (and %d more)",
                 v->reason_count - 1);
    return buffer;
}

/* The chosen kernel, those that could, by price, and the rest as the table has them. */
static int by_verdict(const void *a, const void *b)
{
    const gemmux_verdict *v = *(const gemmux_verdict *const *)a;
    const gemmux_verdict *w = *(const gemmux_verdict *const *)b;
    if (v->kind != w->kind)
        return v->kind > w->kind ? -1 : 1;
    double first = v->decision.predicted_us, second = w->decision.predicted_us;
    if (v->kind != GEMMUX_REJECTED && first != second)
        return first < second ? -1 : 1;
    return v < w ? -1 : 1;
}

static void show_verdicts(const cli_case *c)
{
    static const cli_column columns[] = {{"KERNEL", false, false},
                                         {"VERDICT", false, false},
                                         {"PREDICTED us", true, false},
                                         {"WHY", false, true}};
    cli_table *table = cli_table_new(columns, 4);
    const gemmux_verdict *order[GEMMUX_MAX_KERNELS];
    for (int i = 0; i < c->trace.verdict_count; i++)
        order[i] = &c->trace.verdicts[i];
    qsort(order, (size_t)c->trace.verdict_count, sizeof order[0], by_verdict);
    for (int i = 0; i < c->trace.verdict_count; i++) {
        const gemmux_verdict *v = order[i];
        char why[640], time[32];
        cli_cell(table, CLI_PLAIN, "%s", gemmux_kernel_name(v->kernel));
        cli_cell(table, cli_verdicts[v->kind].style, "%s", cli_verdicts[v->kind].name);
        if (v->kind == GEMMUX_REJECTED) {
            cli_cell(table, CLI_PLAIN, "-");
            first_reason(c, v, why, sizeof why);
        } else {
            cli_cell(table, CLI_PLAIN, "%s",
                     cli_number(v->decision.predicted_us, time, sizeof time));
            snprintf(why, sizeof why, "%s", v->kind == GEMMUX_CHOSEN ? "" : "slower");
        }
        cli_cell(table, CLI_PLAIN, "%s", why);
    }
    cli_table_print(table);
}

/* ----------------------------------------------------------------------------------- why not -- */

typedef struct answer {
    const gemmux_verdict *verdict;
    gemmux_change changes[GEMMUX_MAX_CHANGES];
    int change_count;
    gemmux_decision then;
    bool helps; /* the changes together make it eligible */
    gemmux_error error;
} answer;

static int answer_why_not(const cli_options *options, const cli_case *c, answer *a)
{
    const gemmux_kernel *kernel;
    int code = cli_kernel(&c->machine, options->why_not, &kernel);
    if (code)
        return code;
    int at = 0; /* every kernel has a verdict */
    while (at < c->trace.verdict_count - 1 && c->trace.verdicts[at].kernel != kernel)
        at++;
    a->verdict = &c->trace.verdicts[at];
    if (a->verdict->kind == GEMMUX_REJECTED)
        a->helps =
            gemmux_counterfactual(&c->problem, &c->machine, &options->policy, kernel, a->changes,
                                  &a->change_count, &a->then, &a->error) == GEMMUX_OK;
    return CLI_DONE;
}

/* What a check needed or found, where its sentence does not say so itself. */
static void show_value(const char *sentence, const char *what, const char *value)
{
    char line[1200];
    if (!*value || strstr(sentence, value))
        return;
    snprintf(line, sizeof line, "%s: %s", what, value);
    cli_wrap(CLI_DIM, 4, line);
}

static void show_reasons(const answer *a, const cli_case *c)
{
    const gemmux_problem *problem = &c->problem;
    const gemmux_machine *machine = &c->machine;
    const gemmux_verdict *v = a->verdict;
    for (int i = 0; i < v->reason_count; i++) {
        const gemmux_reason *r = &c->trace.reasons[v->reason_first + i];
        char sentence[1024], value[1024];
        gemmux_reason_text(r, v->kernel, problem, machine, sentence, sizeof sentence);
        cli_print(CLI_BAD, "%s", gemmux_stage_name((gemmux_stage)r->stage));
        cli_print(CLI_DIM, "  %s\n", gemmux_reason_code(r));
        cli_wrap(CLI_PLAIN, 4, sentence);
        gemmux_reason_need(r, v->kernel, problem, machine, value, sizeof value);
        show_value(sentence, "need", value);
        gemmux_reason_have(r, v->kernel, problem, machine, value, sizeof value);
        show_value(sentence, "have", value);
    }
}

static void show_why_not(const answer *a, const cli_case *c)
{
    const gemmux_decision *chosen = &c->decision;
    const gemmux_verdict *v = a->verdict;
    const char *name = gemmux_kernel_name(v->kernel);
    char text[256], time[32], other[32];
    cli_print(CLI_BOLD, "%s for %s\n", name, gemmux_problem_text(&c->problem, text, sizeof text));
    if (v->kind == GEMMUX_CHOSEN) {
        cli_print(CLI_GOOD, "it is the one that is chosen, %s us predicted\n",
                  cli_number(v->decision.predicted_us, time, sizeof time));
        return;
    }
    if (v->kind == GEMMUX_ELIGIBLE) {
        cli_print(CLI_WARN, "eligible");
        cli_print(CLI_PLAIN, ", but %s us predicted, and %s takes %s us\n",
                  cli_number(v->decision.predicted_us, time, sizeof time),
                  gemmux_kernel_name(chosen->kernel),
                  cli_number(chosen->predicted_us, other, sizeof other));
        return;
    }
    cli_print(CLI_BAD, "rejected");
    cli_print(CLI_PLAIN, ", %d failing check%s on %s\n\n", v->reason_count,
              v->reason_count == 1 ? "" : "s", c->machine.name);
    show_reasons(a, c);
    cli_print(CLI_BOLD, "\n%s\n", a->helps ? "What it would take" : "Nothing makes it eligible");
    for (int i = 0; i < a->change_count; i++) {
        char change[256];
        snprintf(change, sizeof change, "%s: %s",
                 gemmux_power_name((gemmux_power)a->changes[i].power), a->changes[i].text);
        cli_wrap(CLI_PLAIN, 4, change);
    }
    if (a->helps)
        cli_print(CLI_PLAIN, "    then: %s us predicted, %s\n",
                  cli_number(a->then.predicted_us, time, sizeof time),
                  gemmux_path_name((gemmux_path)a->then.path));
    else
        cli_wrap(CLI_PLAIN, 4, a->error.text);
}

static json_t *json_why_not(const answer *a, const gemmux_machine *machine)
{
    json_t *changes = json_array();
    for (int i = 0; i < a->change_count; i++)
        json_array_append_new(changes,
                              json_pack("{s:s, s:s}", "power",
                                        gemmux_power_name((gemmux_power)a->changes[i].power),
                                        "text", a->changes[i].text));
    return json_pack("{s:s, s:b, s:o, s:o}", "kernel", gemmux_kernel_name(a->verdict->kernel),
                     "helps", a->helps, "changes", changes, "then",
                     a->helps ? cli_json_decision(&a->then, machine) : json_null());
}

/* ----------------------------------------------------------------------------------- command -- */

static json_t *json_alternatives(const cli_case *c, const gemmux_policy *policy)
{
    cli_alternative found[CLI_ALTERNATIVES];
    const char *lifted;
    json_t *list = json_array();
    int count = cli_alternatives(&c->problem, &c->machine, policy, found, &lifted);
    for (int i = 0; i < count; i++)
        json_array_append_new(list,
                              json_pack("{s:s, s:o, s:s}", "kernel",
                                        gemmux_kernel_name(found[i].kernel), "predicted_us",
                                        cli_json_number(found[i].predicted_us), "without", lifted));
    return list;
}

static void report(const cli_options *options, const cli_case *now, const cli_case *then,
                   const cli_facts *facts, const answer *a)
{
    if (options->json) {
        json_t *document =
            json_pack("{s:o, s:o, s:o, s:o}", "problem", cli_json_problem(&now->problem), "device",
                      cli_json_machine(&now->machine), "decision",
                      cli_json_decision(&now->decision, &now->machine), "verdicts",
                      cli_json_verdicts(&now->trace, &now->problem, &now->machine));
        if (!now->decision.kernel)
            json_object_set_new(document, "alternatives", json_alternatives(now, &options->policy));
        if (then != now)
            json_object_set_new(document, "what_if", cli_what_if_json(now, then, facts));
        if (options->why_not)
            json_object_set_new(document, "why_not", json_why_not(a, &then->machine));
        cli_json_print(document);
        return;
    }
    if (!options->why_not)
        show_decision(now, &options->policy);
    if (then != now)
        cli_what_if_facts(facts);
    if (options->why_not) {
        show_why_not(a, then);
    } else if (then == now) {
        show_verdicts(now);
    } else {
        show_decision(then, &options->policy);
        cli_what_if_compare(now, then);
    }
}

/* The answer that counts, and so the exit code, is that of what-if where it is asked for. */
static int answer_all(const cli_options *options, cli_case *now)
{
    static cli_case other;
    cli_case *then = now;
    cli_facts facts = {.count = 0};
    answer a = {0};
    int code = cli_case_select(options, now);
    if (!code && *options->what_if) {
        then = &other;
        code = cli_what_if(options, now, then, &facts);
    }
    if (!code && options->why_not)
        code = answer_why_not(options, then, &a);
    if (code)
        return code;
    report(options, now, then, &facts, &a);
    if (then->status)
        cli_note("%s", then->error.text);
    return cli_exit_code(then->status);
}

static int run(cli_options *options)
{
    static cli_case now;
    gemmux_records *records = NULL;
    int code = cli_problem(options, &now.problem);
    if (!code)
        code = cli_machine(options, &now.machine);
    if (!code)
        code = cli_records(&now.machine, &records);
    if (!code)
        code = answer_all(options, &now);
    gemmux_records_free(records);
    return code;
}

const cli_command cli_select = {
    .name = "select",
    .arguments = "OP --m M --n N --k K --x FMT --w FMT --y FMT",
    .summary = "choose a kernel for one product and say why no other",
    .details = "OP is matmul, linear or moe (which needs --experts and --top-k).\n"
               "FMT: f32 f16 bf16 e4m3 e5m2 mxfp8 mxfp4 nvfp4 int8 int4 nf4, with the scaling\n"
               "after a colon where it is not the default: e4m3:row, e4m3:block128, int8:tensor,\n"
               "int4:g32, int4:row:zero.\n"
               "--allow adds to unordered-sums and flush-subnormals, which are allowed anyway;\n"
               "\"none\" takes those away.\n"
               "Facts of --what-if are those of the product (its options without dashes) and of\n"
               "the device (the keys of device files; peak.bf16, cublaslt=none, isa=+amxbf16); +\n"
               "joins several values. With --why-not the changed machine is the one asked about;\n"
               "the exit code is that of the changed answer.\n\n"
               "  gemmux select linear --m 1 --n 4096 --k 4096 --x bf16 --w mxfp4 --y bf16 \\\n"
               "    --device b200",
    .options = CLI_BIT(M) | CLI_PROBLEM | CLI_POLICY | CLI_BIT(ALIGN) | CLI_BIT(WHY_NOT) |
               CLI_BIT(WHAT_IF) | CLI_BIT(JSON) | CLI_BIT(HELP),
    .run = run,
};
