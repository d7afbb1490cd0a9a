/* SPDX-License-Identifier: Apache-2.0
 *
 * Facts of the product are options of select and are read as such; facts of the machine are those
 * of device files.
 */
#include "what_if.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

/* ------------------------------------------------------------------------------------- asking --
 */

int cli_case_select(const cli_options *options, cli_case *question)
{
    question->status = gemmux_select(&question->problem, &question->machine, &options->policy,
                                     &question->decision, &question->trace, &question->error);
    if (question->status && question->status != GEMMUX_ERROR_NO_KERNEL)
        return cli_fail_error(&question->error);
    return CLI_DONE;
}

/* What a fact of the product is, in the words of its option. NULL: the product has no such fact. */
static const char *product_fact(const gemmux_problem *p, const char *name, char *buffer,
                                size_t size)
{
    const struct {
        const char *name;
        int64_t value;
    } sizes[] = {{"m", p->m},         {"n", p->n},        {"k", p->k}, {"experts", p->experts},
                 {"top-k", p->top_k}, {"align", p->align}};
    const struct {
        const char *name;
        gemmux_format format;
    } formats[] = {{"x", p->x}, {"w", p->w}, {"y", p->y}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (!strcmp(name, sizes[i].name)) {
            snprintf(buffer, size, "%" PRId64, sizes[i].value);
            if (!sizes[i].value && strcmp(name, "k") != 0)
                snprintf(buffer, size, "what its sizes give"); /* align */
            return buffer;
        }
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (!strcmp(name, formats[i].name))
            return gemmux_format_name(formats[i].format, buffer, size);
    if (!strcmp(name, "allow"))
        return cli_liberties(p->liberties, buffer, size);
    if (strcmp(name, "epilogue") != 0)
        return NULL;
    size_t used = (size_t)snprintf(buffer, size, "%s", p->epilogue ? "" : "none");
    for (int i = 0; i < CLI_EPILOGUE_BITS; i++)
        if (p->epilogue >> i & 1 && used < size)
            used += (size_t)snprintf(buffer + used, size - used, "%s%s", used ? ", " : "",
                                     cli_epilogue_names[i]);
    return buffer;
}

static const char *const product_names[] = {"m",       "n",     "k",        "x",     "w",    "y",
                                            "experts", "top-k", "epilogue", "allow", "align"};
enum { PRODUCT_NAMES = sizeof product_names / sizeof product_names[0], MACHINE_NAMES = 32 };

static int unknown_fact(const gemmux_machine *machine, const char *name)
{
    const char *names[PRODUCT_NAMES + MACHINE_NAMES];
    char known[400], near[128];
    int count = 0;
    size_t used = 0;
    for (int i = 0; i < PRODUCT_NAMES; i++)
        names[count++] = product_names[i];
    for (int i = 0; i < MACHINE_NAMES && gemmux_machine_fact_name(machine, i); i++)
        names[count++] = gemmux_machine_fact_name(machine, i);
    for (int i = 0; i < count && used < sizeof known; i++)
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? " " : "", names[i]);
    return cli_fail(CLI_BAD_INPUT,
                    "--what-if: no fact is called \"%s\"%s; of the product and %s: %s", name,
                    cli_suggestion(name, names, count, 1, near, sizeof near), machine->name, known);
}

/* Values join with + what options join with commas, and what device files separate by spaces. */
static void join(char *value, char separator)
{
    for (char *at = value + 1; *value && *at; at++)
        if (*at == '+' && !isdigit((unsigned char)at[1])) /* but 1e+9 */
            *at = separator;
}

static int change_product(cli_options *options, const char *name, char *value,
                          gemmux_problem *problem)
{
    join(value, ',');
    int code = cli_set(options, name, value);
    return code ? code : cli_problem(options, problem);
}

static int change_machine(gemmux_machine *machine, const char *name, char *value)
{
    gemmux_error error;
    join(value, ' ');
    if (gemmux_machine_change(machine, name, value, &error))
        return cli_fail(CLI_BAD_INPUT, "--what-if %s: %s", name, error.text);
    return CLI_DONE;
}

/* One FACT=VALUE. */
static int change(cli_options *options, const char *text, size_t length, cli_case *then,
                  cli_fact *fact)
{
    char item[256], *value;
    if (length >= sizeof item)
        return cli_fail(CLI_BAD_INPUT, "--what-if: \"%.40s...\" is too long", text);
    snprintf(item, sizeof item, "%.*s", (int)length, text);
    value = strchr(item, '=');
    if (!value || value == item)
        return cli_fail(CLI_BAD_INPUT,
                        "--what-if \"%s\": write FACT=VALUE, such as k=2944 or cublaslt=13.1",
                        item);
    *value++ = '\0';
    snprintf(fact->name, sizeof fact->name, "%.31s", item);
    bool product = product_fact(&then->problem, item, fact->now, sizeof fact->now);
    if (!product && !gemmux_machine_fact(&then->machine, item, fact->now, sizeof fact->now))
        return unknown_fact(&then->machine, item);
    int code = product ? change_product(options, item, value, &then->problem)
                       : change_machine(&then->machine, item, value);
    if (!code && product)
        product_fact(&then->problem, item, fact->then, sizeof fact->then);
    else if (!code)
        gemmux_machine_fact(&then->machine, item, fact->then, sizeof fact->then);
    return code;
}

int cli_what_if(const cli_options *options, const cli_case *now, cli_case *then, cli_facts *facts)
{
    static cli_options changed; /* its policy still points into the caller's */
    char caution[256];
    changed = *options;
    then->problem = now->problem;
    then->machine = now->machine;
    facts->count = 0;
    for (const char *at = options->what_if;; at++) {
        size_t length = strcspn(at, ",");
        if (facts->count == CLI_MAX_FACTS)
            return cli_fail(CLI_BAD_INPUT, "--what-if: more than %d facts", CLI_MAX_FACTS);
        int code = change(&changed, at, length, then, &facts->fact[facts->count++]);
        if (code)
            return code;
        at += length;
        if (!*at)
            break;
    }
    if (then->machine.cc != now->machine.cc &&
        gemmux_machine_caution(&then->machine, caution, sizeof caution))
        cli_note("%s", caution);
    return cli_case_select(options, then);
}

/* ----------------------------------------------------------------------------------- comparing --
 */

static bool fails_too(const cli_case *other, const gemmux_verdict *verdict, uint8_t check)
{
    for (int i = 0; i < verdict->reason_count; i++)
        if (other->trace.reasons[verdict->reason_first + i].check == check)
            return true;
    return false;
}

/* Checks that fail in `from` and not in `other`, as JSON sentences. */
static json_t *only_in(const cli_case *from, const cli_case *other, int index)
{
    const gemmux_verdict *v = &from->trace.verdicts[index];
    json_t *list = json_array();
    for (int i = 0; i < v->reason_count; i++) {
        const gemmux_reason *r = &from->trace.reasons[v->reason_first + i];
        char text[1024];
        if (fails_too(other, &other->trace.verdicts[index], r->check))
            continue;
        gemmux_reason_text(r, v->kernel, &from->problem, &from->machine, text, sizeof text);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "stage",
                                              gemmux_stage_name((gemmux_stage)r->stage), "code",
                                              gemmux_reason_code(r), "text", text));
    }
    return list;
}

/* Kernels whose verdict differs, or whose failing checks do. Both traces list the same table. */
static json_t *differences(const cli_case *now, const cli_case *then)
{
    json_t *list = json_array();
    for (int i = 0; i < now->trace.verdict_count; i++) {
        const gemmux_verdict *a = &now->trace.verdicts[i], *b = &then->trace.verdicts[i];
        json_t *gone = only_in(now, then, i), *new = only_in(then, now, i);
        if (a->kind == b->kind && !json_array_size(gone) && !json_array_size(new)) {
            json_decref(gone);
            json_decref(new);
            continue;
        }
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:o, s:o}", "kernel", gemmux_kernel_name(a->kernel),
                            "now", cli_verdicts[a->kind].name, "then", cli_verdicts[b->kind].name,
                            "gone", gone, "new", new));
    }
    return list;
}

void cli_what_if_facts(const cli_facts *facts)
{
    cli_print(CLI_BOLD, "what if\n");
    for (int i = 0; i < facts->count; i++) {
        char text[400];
        snprintf(text, sizeof text, "%s is %s instead of %s", facts->fact[i].name,
                 facts->fact[i].then, facts->fact[i].now);
        cli_wrap(CLI_PLAIN, 2, text);
    }
    putchar('\n');
}

/* The first check that now fails, else the first that no longer does, else the two times. */
static void compare_cell(cli_table *table, const json_t *row, const gemmux_verdict *a,
                         const gemmux_verdict *b)
{
    const json_t *gone = json_object_get(row, "gone"), *new = json_object_get(row, "new");
    const json_t *list = json_array_size(new) ? new : gone;
    char before[32], after[32];
    if (json_array_size(list))
        cli_cell(table, CLI_PLAIN, "%s%s", list == gone ? "no longer true: " : "",
                 json_string_value(json_object_get(json_array_get(list, 0), "text")));
    else
        cli_cell(table, CLI_PLAIN, "%s us predicted instead of %s",
                 cli_number(b->decision.predicted_us, after, sizeof after),
                 cli_number(a->decision.predicted_us, before, sizeof before));
}

void cli_what_if_compare(const cli_case *now, const cli_case *then)
{
    static const cli_column columns[] = {{"KERNEL", false, false},
                                         {"NOW", false, false},
                                         {"THEN", false, false},
                                         {"WHAT CHANGED", false, true}};
    json_t *list = differences(now, then);
    cli_table *table = cli_table_new(columns, 4);
    int shown = 0;
    for (int i = 0; i < now->trace.verdict_count; i++) {
        const gemmux_verdict *a = &now->trace.verdicts[i], *b = &then->trace.verdicts[i];
        if (a->kind == b->kind)
            continue;
        size_t at = 0;
        while (strcmp(json_string_value(json_object_get(json_array_get(list, at), "kernel")),
                      gemmux_kernel_name(a->kernel)) != 0)
            at++;
        const json_t *row = json_array_get(list, at);
        cli_cell(table, CLI_PLAIN, "%s", gemmux_kernel_name(a->kernel));
        cli_cell(table, cli_verdicts[a->kind].style, "%s", cli_verdicts[a->kind].name);
        cli_cell(table, cli_verdicts[b->kind].style, "%s", cli_verdicts[b->kind].name);
        compare_cell(table, row, a, b);
        shown++;
    }
    if (shown)
        cli_table_print(table);
    else {
        cli_table_free(table);
        cli_print(CLI_PLAIN, "No verdict changes.\n");
    }
    json_decref(list);
}

json_t *cli_what_if_json(const cli_case *now, const cli_case *then, const cli_facts *facts)
{
    json_t *list = json_array();
    for (int i = 0; i < facts->count; i++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "fact", facts->fact[i].name, "now",
                                              facts->fact[i].now, "then", facts->fact[i].then));
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "facts", list, "problem",
                     cli_json_problem(&then->problem), "device", cli_json_machine(&then->machine),
                     "decision", cli_json_decision(&then->decision, &then->machine), "verdicts",
                     cli_json_verdicts(&then->trace, &then->problem, &then->machine), "changed",
                     differences(now, then));
}
