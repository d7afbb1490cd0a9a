/* SPDX-License-Identifier: Apache-2.0
 *
 * One table of every option of every subcommand: parsing, --help and the errors about options all
 * come from it.
 */
#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *argument, *help;
} rows[CLI_OPTION_COUNT] = {
    [CLI_OPTION_M] = {"m", "M", "rows of x; for moe, tokens"},
    [CLI_OPTION_M_LIST] = {"m", "M[,M...]", "rows of x, one or several"},
    [CLI_OPTION_N] = {"n", "N", "rows of w, columns of y"},
    [CLI_OPTION_K] = {"k", "K", "columns of x and w"},
    [CLI_OPTION_X] = {"x", "FMT", "format of the activations"},
    [CLI_OPTION_W] = {"w", "FMT", "format of the weights"},
    [CLI_OPTION_W_LIST] = {"w", "FMT[,FMT...]", "only these weight formats"},
    [CLI_OPTION_Y] = {"y", "FMT", "format of the result: f32, f16 or bf16"},
    [CLI_OPTION_EXPERTS] = {"experts", "E", "moe: how many experts"},
    [CLI_OPTION_TOP_K] = {"top-k", "T", "moe: experts that each token meets"},
    [CLI_OPTION_EPILOGUE] = {"epilogue", "LIST", "of bias, swiglu, gather, scatter"},
    [CLI_OPTION_DEVICE] = {"device", "NAME|FILE", "cpu (default), cuda:0, a built-in name, a file"},
    [CLI_OPTION_ONLY] = {"only", "GLOB", "only kernels that match; commas between globs"},
    [CLI_OPTION_DENY] = {"deny", "GLOB", "no kernel that matches"},
    [CLI_OPTION_ALLOW] = {"allow", "LIBERTY",
                          "tf32, quantised-x, rounded-w, rounded-x, narrow-sums,"
                          " unordered-sums, flush-subnormals, all, none"},
    [CLI_OPTION_MAX_MEMORY] = {"max-memory", "BYTES",
                               "packed weights + workspace; also 2GiB, 500MB"},
    [CLI_OPTION_MAX_SLOWDOWN] = {"max-slowdown", "X",
                                 "against the best kernel this device could run"},
    [CLI_OPTION_DETERMINISTIC] = {"deterministic", NULL, "no sums whose order may change"},
    [CLI_OPTION_ALIGN] = {"align", "BYTES",
                          "of x and y and their rows; default: what K and N give"},
    [CLI_OPTION_WHY_NOT] = {"why-not", "KERNEL",
                            "every failing check of KERNEL, and what would help"},
    [CLI_OPTION_WHAT_IF] = {"what-if", "FACT=VALUE[,...]",
                            "the answer if these facts were so: cublaslt=13.1, k=2944,"
                            " smem=228KiB, cc=12.1 ..."},
    [CLI_OPTION_BATCH] = {"batch", "N", "sequences at once (1)"},
    [CLI_OPTION_CONTEXT] = {"context", "N", "tokens that a sequence reaches (4096)"},
    [CLI_OPTION_CHUNK] = {"chunk", "N", "tokens that prefill multiplies at once (2048)"},
    [CLI_OPTION_NO_CACHE] = {"no-cache", NULL, "no KV cache: every step runs whole sequences"},
    [CLI_OPTION_DTYPE] = {"dtype", "auto|f32|f16|bf16",
                          "what weights are loaded as; auto: as they are stored"},
    [CLI_OPTION_LOAD_IN_4BIT] = {"load-in-4bit", NULL, "float weights become nf4 when loaded"},
    [CLI_OPTION_TP] = {"tp", "N", "devices that share every layer (1)"},
    [CLI_OPTION_DEVICES] = {"device", "NAME|FILE[,...]",
                            "here (default: this CPU, its GPUs), all, built-in names, files"},
    [CLI_OPTION_SAVE] = {"save", "FILE", "write the plan as JSON, for `gemmux plan diff`"},
    [CLI_OPTION_HTML] = {"html", "FILE", "write the plan as one page for any browser"},
    [CLI_OPTION_LIMIT] = {"limit", "N", "only the first N products of MODEL"},
    [CLI_OPTION_THREADS] = {"threads", "N", "threads of CPU kernels; default: one a core"},
    [CLI_OPTION_AGAIN] = {"again", NULL, "even where a certificate or quarantine exists"},
    [CLI_OPTION_TIMEOUT] = {"timeout", "SECONDS", "for one kernel (default 60)"},
    [CLI_OPTION_OVERHEAD] = {"overhead", NULL,
                             "time gemmux itself: select, and planning 500 tensors"},
    [CLI_OPTION_LEARN] = {"learn", NULL, "keep the times: select then predicts from them"},
    [CLI_OPTION_GRID] = {"grid", NULL, "300 products: how often is the chosen kernel the fastest?"},
    [CLI_OPTION_SECONDS] = {"seconds", "S", "end --learn or --grid after this long (default 900)"},
    [CLI_OPTION_SKIP] = {"skip", "N",
                         "begin --learn or --grid at the Nth of its formats and sizes"},
    [CLI_OPTION_PLOT] = {"plot", "FILE.svg", "draw the roofline, through gnuplot"},
    [CLI_OPTION_MEASURE] = {"measure", NULL, "measure bandwidth and peak rates (0.3 s)"},
    [CLI_OPTION_LOST] = {"lost", NULL, "names of the kernels that the device cannot run"},
    [CLI_OPTION_JSON] = {"json", NULL, "one JSON document on stdout"},
    [CLI_OPTION_HELP] = {"help", NULL, "this text"},
};

void cli_help(FILE *out, const cli_command *command)
{
    fprintf(out, "usage: gemmux %s%s%s%s\n\n%s\n\n", command->name, *command->arguments ? " " : "",
            command->arguments, " [options]", command->summary);
    for (int i = 0; i < CLI_OPTION_COUNT; i++) {
        char left[48];
        if (!(command->options >> i & 1))
            continue;
        snprintf(left, sizeof left, "--%s%s%s", rows[i].name, rows[i].argument ? " " : "",
                 rows[i].argument ? rows[i].argument : "");
        fprintf(out, "  %-20s", left);
        if (strlen(left) >= 20)
            fprintf(out, "\n                      ");
        size_t length = strlen(rows[i].help), at = 0;
        while (at < length) { /* wrapped for 80 columns */
            size_t cut = length - at;
            if (cut > 57) {
                cut = 57;
                while (rows[i].help[at + cut] != ' ')
                    cut--;
            }
            fprintf(out, "%s%.*s\n", at ? "                      " : "", (int)cut,
                    rows[i].help + at);
            at += cut + 1;
        }
    }
    if (command->details)
        fprintf(out, "\n%s\n", command->details);
}

int cli_missing(cli_option option)
{
    return cli_fail(CLI_BAD_INPUT, "--%s %s is missing: %s", rows[option].name,
                    rows[option].argument, rows[option].help);
}

/* ------------------------------------------------------------------------------------ values -- */

static int bad_value(cli_option option, const char *text, const char *why)
{
    return cli_fail(CLI_BAD_INPUT, "--%s %s: %s", rows[option].name, text, why);
}

static int take_integer(cli_option option, const char *text, int64_t low, int64_t high,
                        int64_t *value)
{
    char *end, why[96];
    errno = 0;
    long long parsed = strtoll(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || *end || errno || parsed < low || parsed > high) {
        snprintf(why, sizeof why, "want a whole number from %lld to %lld", (long long)low,
                 (long long)high);
        return bad_value(option, text, why);
    }
    *value = parsed;
    return CLI_DONE;
}

static int take_m_list(cli_options *o, const char *text)
{
    char item[32];
    o->m_count = 0;
    for (const char *at = text;; at++) {
        size_t length = strcspn(at, ",");
        if (o->m_count == GEMMUX_MAX_RANGES)
            return bad_value(CLI_OPTION_M_LIST, text, "at most 8 values");
        snprintf(item, sizeof item, "%.*s", (int)length, at);
        int code = take_integer(CLI_OPTION_M_LIST, item, 1, INT32_MAX, &o->m[o->m_count]);
        if (code)
            return code;
        if (o->m_count && o->m[o->m_count] <= o->m[o->m_count - 1])
            return bad_value(CLI_OPTION_M_LIST, text, "values must ascend");
        o->m_count++;
        at += length;
        if (!*at)
            return CLI_DONE;
    }
}

static int take_format(cli_option option, const char *text, gemmux_format *format)
{
    gemmux_error error;
    if (gemmux_format_parse(text, format, &error))
        return cli_fail(CLI_BAD_INPUT, "--%s: %s", rows[option].name, error.text);
    return CLI_DONE;
}

static int take_format_list(cli_options *o, const char *text)
{
    char item[64];
    for (const char *at = text;; at++) {
        size_t length = strcspn(at, ",");
        if (o->w_count == CLI_MAX_LIST)
            return bad_value(CLI_OPTION_W_LIST, text, "too many formats");
        snprintf(item, sizeof item, "%.*s", (int)length, at);
        int code = take_format(CLI_OPTION_W_LIST, item, &o->w[o->w_count++]);
        if (code)
            return code;
        at += length;
        if (!*at)
            return CLI_DONE;
    }
}

static int take_epilogue(cli_options *o, const char *text)
{
    if (!strcmp(text, "none")) {
        o->epilogue = 0;
        return CLI_DONE;
    }
    for (const char *at = text;; at++) {
        size_t length = strcspn(at, ",");
        int bit = -1;
        for (int i = 0; i < CLI_EPILOGUE_BITS; i++)
            if (strlen(cli_epilogue_names[i]) == length &&
                !strncmp(at, cli_epilogue_names[i], length))
                bit = i;
        if (bit < 0)
            return bad_value(CLI_OPTION_EPILOGUE, text, "want some of bias,swiglu,gather,scatter");
        o->epilogue = (uint8_t)(o->epilogue | 1u << bit);
        at += length;
        if (!*at)
            return CLI_DONE;
    }
}

static int unknown_liberty(const char *item)
{
    const char *names[GEMMUX_LIBERTY_BITS + 2] = {"all", "none"};
    char near[128];
    for (int i = 0; i < GEMMUX_LIBERTY_BITS; i++)
        names[i + 2] = gemmux_liberty_name((gemmux_liberty)(1 << i));
    cli_suggestion(item, names, GEMMUX_LIBERTY_BITS + 2, 3, near, sizeof near);
    return cli_fail(CLI_BAD_INPUT, "--allow: no liberty is called \"%s\"%s; want %s", item, near,
                    rows[CLI_OPTION_ALLOW].help);
}

static int take_liberties(cli_options *o, const char *text)
{
    char item[64];
    for (const char *at = text;; at++) {
        size_t length = strcspn(at, ",");
        snprintf(item, sizeof item, "%.*s", (int)length, at);
        uint32_t bit = gemmux_liberty_parse(item);
        if (!strcmp(item, "all"))
            o->liberties = (UINT32_C(1) << GEMMUX_LIBERTY_BITS) - 1;
        else if (!strcmp(item, "none"))
            o->liberties = 0;
        else if (bit)
            o->liberties |= bit;
        else
            return unknown_liberty(item);
        at += length;
        if (!*at)
            return CLI_DONE;
    }
}

static int take_bytes(cli_option option, const char *text, int64_t *bytes)
{
    static const struct {
        const char *unit;
        double factor;
    } units[] = {{"", 1},       {"B", 1},        {"K", 0x1p10},   {"M", 0x1p20},   {"G", 0x1p30},
                 {"T", 0x1p40}, {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40},
                 {"KB", 1e3},   {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12}};
    char *end = (char *)text;
    double value = isdigit((unsigned char)text[0]) ? strtod(text, &end) : -1;
    for (size_t i = 0; value > 0 && i < sizeof units / sizeof units[0]; i++)
        if (!strcmp(end, units[i].unit) && value * units[i].factor < 0x1p62 &&
            value * units[i].factor >= 1) {
            *bytes = (int64_t)(value * units[i].factor);
            return CLI_DONE;
        }
    return bad_value(option, text, "want bytes, such as 1000000, 500MB or 2GiB");
}

static int take_decimal(cli_option option, const char *text, double low, double *value)
{
    char *end, why[64];
    *value = strtod(text, &end);
    if (end == text || *end || !(*value >= low) || isinf(*value)) {
        snprintf(why, sizeof why, "want a number of at least %g", low);
        return bad_value(option, text, why);
    }
    return CLI_DONE;
}

/* Values of several options are one comma-separated list. */
static int take_words(cli_option option, const char *text, char *list, size_t size)
{
    size_t used = strlen(list);
    if (!*text || used + strlen(text) + 2 > size)
        return bad_value(option, text, *text ? "the list is too long" : rows[option].help);
    snprintf(list + used, size - used, "%s%s", used ? "," : "", text);
    return CLI_DONE;
}

/* ------------------------------------------------------------------------------------- parse -- */

static int take_small(cli_option option, const char *text, int64_t high, int32_t *value)
{
    int64_t wide = 0;
    int code = take_integer(option, text, 1, high, &wide);
    *value = (int32_t)wide;
    return code;
}

static int take_wish(cli_options *o, cli_option option, const char *text)
{
    switch (option) {
    case CLI_OPTION_DEVICE:
        o->device = text;
        return CLI_DONE;
    case CLI_OPTION_ONLY:
        o->policy.only = o->only;
        return take_words(option, text, o->only, sizeof o->only);
    case CLI_OPTION_DENY:
        o->policy.deny = o->deny;
        return take_words(option, text, o->deny, sizeof o->deny);
    case CLI_OPTION_ALLOW:
        return take_liberties(o, text);
    case CLI_OPTION_MAX_MEMORY:
        return take_bytes(option, text, &o->policy.max_memory_bytes);
    case CLI_OPTION_MAX_SLOWDOWN:
        return take_decimal(option, text, 1, &o->policy.max_slowdown);
    case CLI_OPTION_DETERMINISTIC:
        o->policy.deterministic = true;
        return CLI_DONE;
    case CLI_OPTION_WHY_NOT:
        o->why_not = text;
        return CLI_DONE;
    case CLI_OPTION_WHAT_IF:
        return take_words(option, text, o->what_if, sizeof o->what_if);
    default:
        return CLI_FAILED;
    }
}

static int take_load(cli_options *o, cli_option option, const char *text)
{
    gemmux_workload *load = &o->load;
    switch (option) {
    case CLI_OPTION_BATCH:
        return take_integer(option, text, 1, INT32_MAX, &load->batch);
    case CLI_OPTION_CONTEXT:
        return take_integer(option, text, 1, INT32_MAX, &load->context);
    case CLI_OPTION_CHUNK:
        return take_integer(option, text, 1, INT32_MAX, &load->chunk);
    case CLI_OPTION_NO_CACHE:
        load->no_cache = true;
        return CLI_DONE;
    case CLI_OPTION_DTYPE:
        load->dtype = (gemmux_format){0};
        return strcmp(text, "auto") != 0 ? take_format(option, text, &load->dtype) : CLI_DONE;
    case CLI_OPTION_LOAD_IN_4BIT:
        load->load_in_4bit = true;
        return CLI_DONE;
    case CLI_OPTION_TP:
        return take_small(option, text, 1024, &load->tp);
    case CLI_OPTION_DEVICES:
        o->device = text;
        return CLI_DONE;
    case CLI_OPTION_SAVE:
        o->save = text;
        return CLI_DONE;
    case CLI_OPTION_HTML:
        o->html = text;
        return CLI_DONE;
    default:
        return take_wish(o, option, text);
    }
}

static int take_bench(cli_options *o, cli_option option, const char *text)
{
    switch (option) {
    case CLI_OPTION_LEARN:
        o->learn = true;
        return CLI_DONE;
    case CLI_OPTION_GRID:
        o->grid = true;
        return CLI_DONE;
    case CLI_OPTION_SECONDS:
        return take_decimal(option, text, 1, &o->seconds);
    case CLI_OPTION_SKIP:
        return take_integer(option, text, 0, 1000, &o->skip);
    case CLI_OPTION_PLOT:
        o->plot = text;
        return *text ? CLI_DONE : bad_value(option, text, "want a file to write");
    default:
        return take_load(o, option, text);
    }
}

static int take(cli_options *o, cli_option option, const char *text)
{
    switch (option) {
    case CLI_OPTION_M:
        o->m_count = 1;
        return take_integer(option, text, 1, INT32_MAX, &o->m[0]);
    case CLI_OPTION_M_LIST:
        return take_m_list(o, text);
    case CLI_OPTION_N:
        return take_integer(option, text, 1, INT32_MAX, &o->n);
    case CLI_OPTION_K:
        return take_integer(option, text, 0, INT32_MAX, &o->k);
    case CLI_OPTION_X:
        return take_format(option, text, &o->x);
    case CLI_OPTION_W:
        o->w_count = 1;
        return take_format(option, text, &o->w[0]);
    case CLI_OPTION_W_LIST:
        return take_format_list(o, text);
    case CLI_OPTION_Y:
        return take_format(option, text, &o->y);
    case CLI_OPTION_EXPERTS:
        return take_small(option, text, INT32_MAX, &o->experts);
    case CLI_OPTION_TOP_K:
        return take_small(option, text, INT32_MAX, &o->top_k);
    case CLI_OPTION_EPILOGUE:
        return take_epilogue(o, text);
    case CLI_OPTION_ALIGN:
        return take_small(option, text, 4096, &o->align);
    case CLI_OPTION_LIMIT:
        return take_integer(option, text, 1, INT32_MAX, &o->limit);
    case CLI_OPTION_THREADS:
        return take_small(option, text, 4096, &o->threads);
    case CLI_OPTION_AGAIN:
        o->again = true;
        return CLI_DONE;
    case CLI_OPTION_TIMEOUT:
        return take_decimal(option, text, 0.1, &o->timeout);
    case CLI_OPTION_OVERHEAD:
        o->overhead = true;
        return CLI_DONE;
    case CLI_OPTION_MEASURE:
        o->measure = true;
        return CLI_DONE;
    case CLI_OPTION_LOST:
        o->lost = true;
        return CLI_DONE;
    case CLI_OPTION_JSON:
        o->json = true;
        return CLI_DONE;
    case CLI_OPTION_HELP:
        o->help = true;
        return CLI_DONE;
    default:
        return take_bench(o, option, text);
    }
}

int cli_set(cli_options *o, const char *name, const char *value)
{
    if (!strcmp(name, "epilogue")) /* several of them add up on the command line */
        o->epilogue = 0;
    for (int i = 0; i < CLI_OPTION_COUNT; i++)
        if (i != CLI_OPTION_M_LIST && i != CLI_OPTION_W_LIST && i != CLI_OPTION_DEVICES &&
            !strcmp(rows[i].name, name))
            return take(o, (cli_option)i, value);
    return cli_fail(CLI_BAD_INPUT, "no option is called \"%s\"", name);
}

static int unknown_option(const cli_command *command, const char *text)
{
    const char *names[CLI_OPTION_COUNT];
    char near[128], bare[64];
    int count = 0;
    snprintf(bare, sizeof bare, "%.*s", (int)strcspn(text, "="), text);
    for (int i = 0; i < CLI_OPTION_COUNT; i++)
        if (command->options >> i & 1)
            names[count++] = rows[i].name;
    cli_suggestion(bare + strspn(bare, "-"), names, count, 3, near, sizeof near);
    return cli_fail(CLI_BAD_INPUT, "%s: unknown option %s%s; `gemmux %s --help` lists them",
                    command->name, bare, near, command->name);
}

/* What getopt_long disliked: `shown` is the word it stood at. */
static int bad_option(const cli_command *command, int found, const char *shown, int option)
{
    if (found == ':')
        return cli_fail(CLI_BAD_INPUT, "%s: --%s needs a value: %s", command->name,
                        rows[option].name, rows[option].help);
    const char *equals = strchr(shown, '=');
    for (int i = 0; i < CLI_OPTION_COUNT; i++)
        if (equals && command->options >> i & 1 && !rows[i].argument &&
            !strncmp(shown + 2, rows[i].name, (size_t)(equals - shown) - 2) &&
            strlen(rows[i].name) == (size_t)(equals - shown) - 2)
            return cli_fail(CLI_BAD_INPUT, "%s: --%s takes no value", command->name, rows[i].name);
    return unknown_option(command, shown);
}

int cli_parse(const cli_command *command, int argc, char **argv, cli_options *o)
{
    struct option known[CLI_OPTION_COUNT + 1] = {0};
    int count = 0, found, code;
    for (int i = 0; i < CLI_OPTION_COUNT; i++)
        if (command->options >> i & 1)
            known[count++] = (struct option){
                rows[i].name, rows[i].argument ? required_argument : no_argument, NULL, 256 + i};
    *o = (cli_options){.liberties = GEMMUX_LIBERTIES_DEFAULT, .timeout = 60, .seconds = 900};
    opterr = 0;
    optind = 1;
    for (;;) {
        int at = optind;
        found = getopt_long(argc, argv, "-:h", known, NULL);
        if (found < 0)
            break;
        if (found == 1) {
            if (o->argument_count == CLI_MAX_ARGUMENTS)
                return cli_fail(CLI_BAD_INPUT, "%s: too many arguments", command->name);
            o->arguments[o->argument_count++] = optarg;
            continue;
        }
        if (found == 'h')
            found = 256 + CLI_OPTION_HELP;
        if (found < 256)
            return bad_option(command, found, argv[at], optopt - 256);
        o->given |= UINT64_C(1) << (found - 256);
        code = take(o, (cli_option)(found - 256), optarg);
        if (code)
            return code;
    }
    for (; optind < argc && o->argument_count < CLI_MAX_ARGUMENTS; optind++) /* after "--" */
        o->arguments[o->argument_count++] = argv[optind];
    return CLI_DONE;
}
