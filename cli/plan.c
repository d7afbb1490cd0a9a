/* SPDX-License-Identifier: Apache-2.0
 *
 * gemmux plan: a whole model on devices that need not be here: kernels, times, memory, and what to
 * ask for. Reads headers only.
 */
#include "plan.h"
#include "plan_diff.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *cli_choice_name(cli_choice_id choice)
{
    static const char *const names[] = {[CLI_CHOICE_AUTO] = "auto",
                                        [CLI_CHOICE_4BIT] = "load-in-4bit",
                                        [CLI_CHOICE_BF16] = "bf16",
                                        [CLI_CHOICE_F16] = "f16",
                                        [CLI_CHOICE_F32] = "f32"};
    return names[choice];
}

gemmux_policy cli_plan_policy(const cli_plan_answer *plan, const gemmux_kind *kind)
{
    gemmux_policy policy = plan->options->policy;
    if (!kind->broken && kind->range_count)
        policy.packing = kind->ranges[0].decision.packing;
    return policy;
}

gemmux_problem cli_plan_problem(const gemmux_kind *kind, int64_t m)
{
    gemmux_problem problem = kind->problem;
    problem.m = m;
    return problem;
}

const char *cli_plan_formats(const cli_plan_answer *plan, char *buffer, size_t size)
{
    int64_t bytes[GEMMUX_FORMAT_COUNT] = {0};
    size_t used = 0;
    char text[32];
    snprintf(buffer, size, "nothing that can be decoded");
    for (int i = 0; i < plan->layer_count; i++)
        bytes[plan->layers[i]->format.id] += plan->layers[i]->stored_bytes;
    for (;;) { /* largest first */
        int most = 0;
        for (int f = 1; f < GEMMUX_FORMAT_COUNT; f++)
            most = bytes[f] > bytes[most] || !most ? f : most;
        if (!bytes[most] || used >= size)
            return buffer;
        used += (size_t)snprintf(buffer + used, size - used, "%s%s %s", used ? ", " : "",
                                 gemmux_format_id_name((gemmux_format_id)most),
                                 cli_bytes(bytes[most], text, sizeof text));
        bytes[most] = 0;
    }
}

/* ------------------------------------------------------------------------------------ devices --
 */

static int add_device(cli_plan_answer *plan, const char *name, bool must)
{
    cli_planned *device = &plan->devices[plan->device_count];
    gemmux_error error;
    char caution[256];
    if (plan->device_count == CLI_MAX_DEVICES)
        return cli_fail(CLI_BAD_INPUT, "--device: at most %d devices at once", CLI_MAX_DEVICES);
    if (gemmux_machine_find(name, &device->machine, &error))
        return must ? cli_fail_error(&error) : CLI_DONE;
    if (gemmux_machine_caution(&device->machine, caution, sizeof caution))
        cli_note("%s", caution);
    plan->device_count++;
    return cli_records(&device->machine, &device->records);
}

/* This CPU, and the GPUs that its driver lists. */
static int add_here(cli_plan_answer *plan)
{
    int code = add_device(plan, "cpu", true), before = -1;
    for (int i = 0; !code && plan->device_count > before && i < 16; i++) {
        char name[16];
        snprintf(name, sizeof name, "cuda:%d", i);
        before = plan->device_count + 1;
        code = add_device(plan, name, false);
    }
    return code;
}

static int add_all(cli_plan_answer *plan)
{
    int code = CLI_DONE;
    for (int i = 0; !code && i < gemmux_machine_builtin_count(); i++)
        code = add_device(plan, gemmux_machine_builtin_name(i), true);
    return code;
}

static int find_devices(cli_plan_answer *plan)
{
    const char *at = plan->options->device ? plan->options->device : "here";
    int code = CLI_DONE;
    plan->devices = calloc(CLI_MAX_DEVICES, sizeof *plan->devices);
    if (!plan->devices)
        return cli_fail(CLI_FAILED, "out of memory");
    while (!code) {
        char name[1024];
        size_t length = strcspn(at, ",");
        snprintf(name, sizeof name, "%.*s", (int)length, at);
        code = !strcmp(name, "here")  ? add_here(plan)
               : !strcmp(name, "all") ? add_all(plan)
                                      : add_device(plan, name, true);
        at += length;
        if (!*at)
            break;
        at++;
    }
    return code;
}

/* ----------------------------------------------------------------------------------- forecast --
 */

static int forecast(const cli_plan_answer *plan, const cli_planned *device,
                    const gemmux_workload *load, gemmux_kind *kinds, gemmux_forecast *result)
{
    gemmux_error error;
    if (gemmux_forecast_model(plan->layers, plan->layer_count, &plan->facts, &device->machine,
                              &plan->options->policy, load, kinds, CLI_MAX_KINDS, result, &error))
        return cli_fail_error(&error);
    return CLI_DONE;
}

static gemmux_workload choose(const gemmux_workload *asked, cli_choice_id choice)
{
    static const gemmux_format_id formats[CLI_CHOICE_COUNT] = {[CLI_CHOICE_BF16] = GEMMUX_BF16,
                                                               [CLI_CHOICE_F16] = GEMMUX_F16,
                                                               [CLI_CHOICE_F32] = GEMMUX_F32};
    gemmux_workload load = *asked;
    load.load_in_4bit = choice == CLI_CHOICE_4BIT;
    load.dtype = formats[choice] ? gemmux_format_of(formats[choice]) : (gemmux_format){0};
    return load;
}

/* Kinds of layers that no kernel for the device itself multiplies. */
static int kinds_elsewhere(const cli_planned *device)
{
    int count = 0;
    for (int i = 0; i < device->forecast.kind_count; i++) {
        const gemmux_kernel *kernel = device->kinds[i].decode.kernel;
        count += kernel && gemmux_kernel_device(kernel) != (gemmux_device_kind)device->machine.kind;
    }
    return count;
}

static void judge(cli_planned *device)
{
    const gemmux_forecast *f = &device->forecast;
    char need[32], have[32], gap[32];
    int broken = 0;
    for (int i = 0; i < f->kind_count; i++)
        broken += device->kinds[i].broken;
    cli_bytes(f->peak_bytes, need, sizeof need);
    cli_bytes(f->memory_bytes, have, sizeof have);
    cli_bytes(llabs(f->memory_bytes - f->peak_bytes), gap, sizeof gap);
    if (broken)
        snprintf(device->verdict, sizeof device->verdict,
                 "cannot run as asked: %d of %d kinds of layers have no kernel, or a group or head "
                 "is cut",
                 broken, f->kind_count);
    else if (!f->memory_bytes)
        snprintf(device->verdict, sizeof device->verdict,
                 "needs %s; how much memory the device has is not known", need);
    else if (f->fits)
        snprintf(device->verdict, sizeof device->verdict, "fits: %s needed of %s, %s to spare",
                 need, have, gap);
    else
        snprintf(device->verdict, sizeof device->verdict,
                 "does not fit: %s needed, %s there, %s too much", need, have, gap);
    device->elsewhere = kinds_elsewhere(device);
    if (device->elsewhere)
        snprintf(device->verdict + strlen(device->verdict),
                 sizeof device->verdict - strlen(device->verdict),
                 "; %d of %d kinds of layers run on the CPU: no kernel for this device",
                 device->elsewhere, f->kind_count);
}

/* What is wrong with a forecast, as the end of "would need so much". */
static const char *trouble(const gemmux_forecast *f)
{
    if (f->memory_bytes && f->peak_bytes > f->memory_bytes)
        return ", and not fit";
    return f->whole ? "" : ", and still not run";
}

/* "bf16 would need 217.8 GiB, 3.6 times as much, and not fit" */
static void describe_choice(const cli_planned *device, cli_choice_id choice, char *buffer,
                            size_t size)
{
    const gemmux_forecast *a = &device->choices[CLI_CHOICE_AUTO], *c = &device->choices[choice];
    char need[32];
    double times = a->peak_bytes ? (double)c->peak_bytes / (double)a->peak_bytes : 0;
    if (c->weight_bytes == a->weight_bytes) {
        snprintf(buffer, size, "%s would change nothing", cli_choice_name(choice));
        return;
    }
    snprintf(buffer, size, "%s would need %s, %.1f times as much%s", cli_choice_name(choice),
             cli_bytes(c->peak_bytes, need, sizeof need), times, trouble(c));
}

static void advise(const cli_plan_answer *plan, cli_planned *device)
{
    const gemmux_forecast *choices = device->choices;
    const gemmux_forecast *four = &choices[CLI_CHOICE_4BIT], *as_is = &choices[CLI_CHOICE_AUTO];
    char formats[160], text[200] = "", need[32], bf16[200];
    bool smaller = four->weight_bytes < as_is->weight_bytes;
    cli_plan_formats(plan, formats, sizeof formats);
    describe_choice(device, CLI_CHOICE_BF16, bf16, sizeof bf16);
    if (smaller)
        snprintf(text, sizeof text, "load-in-4bit would need %s%s, and rounds float weights to nf4",
                 cli_bytes(four->peak_bytes, need, sizeof need), trouble(four));
    else
        snprintf(text, sizeof text,
                 "load-in-4bit would save nothing: what could be made smaller is 4-bit already");
    const char *start =
        as_is->fits || !as_is->memory_bytes
            ? "ask for auto: every weight stays as it is stored (%s), nothing is rounded; "
        : as_is->peak_bytes <= as_is->memory_bytes
            ? "a type changes nothing about layers that cannot run (stored: %s); "
        : smaller && four->fits
            ? "ask for load-in-4bit: as they are stored (%s) the weights do not fit; "
            : "no dtype makes it fit (stored: %s); ";
    size_t used = (size_t)snprintf(device->advice, sizeof device->advice, start, formats);
    used +=
        (size_t)snprintf(device->advice + used, sizeof device->advice - used, "%s; %s", text, bf16);
    if (device->tp_that_fits && used < sizeof device->advice)
        snprintf(device->advice + used, sizeof device->advice - used, "; with --tp %d it fits",
                 device->tp_that_fits);
}

static int plan_device(const cli_plan_answer *plan, cli_planned *device, gemmux_kind *scratch)
{
    const gemmux_workload *asked = &plan->options->load;
    gemmux_forecast split;
    device->kinds = calloc(CLI_MAX_KINDS, sizeof *device->kinds);
    if (!device->kinds)
        return cli_fail(CLI_FAILED, "out of memory");
    int code = forecast(plan, device, asked, device->kinds, &device->forecast);
    for (int i = 0; !code && i < CLI_CHOICE_COUNT; i++) {
        gemmux_workload load = choose(asked, (cli_choice_id)i);
        code = forecast(plan, device, &load, scratch, &device->choices[i]);
    }
    for (int tp = 1; !code && tp <= 16 && !device->tp_that_fits && !device->forecast.fits;
         tp *= 2) {
        gemmux_workload load = *asked;
        load.tp = tp;
        code = forecast(plan, device, &load, scratch, &split);
        device->tp_that_fits = split.fits && tp != device->forecast.load.tp ? tp : 0;
    }
    if (code)
        return code;
    judge(device);
    advise(plan, device);
    return CLI_DONE;
}

/* ------------------------------------------------------------------------------------ command --
 */

static int open_model(cli_plan_answer *plan)
{
    gemmux_error error;
    if (plan->options->argument_count != 1)
        return cli_fail(CLI_BAD_INPUT,
                        plan->options->argument_count
                            ? "one model at a time: \"%s\" is too many"
                            : "which model? a file, a directory or a built-in name%s",
                        plan->options->argument_count ? plan->options->arguments[1] : "");
    plan->name = plan->options->arguments[0];
    if (gemmux_model_open_headers(plan->name, &plan->model, &error))
        return cli_fail_error(&error);
    gemmux_model_get_facts(plan->model, &plan->facts);
    plan->layer_count = gemmux_model_layer_count(plan->model);
    plan->layers = calloc((size_t)plan->layer_count + 1, sizeof(gemmux_layer *));
    if (!plan->layers)
        return cli_fail(CLI_FAILED, "out of memory");
    for (int i = 0; i < plan->layer_count; i++)
        plan->layers[i] = gemmux_model_layer(plan->model, i);
    if (!plan->layer_count)
        return cli_fail(CLI_BAD_INPUT, "%s: no layers that are multiplied", plan->name);
    return CLI_DONE;
}

static int save(const cli_plan_answer *plan, const json_t *document)
{
    FILE *file = fopen(plan->options->save, "w");
    if (!file)
        return cli_fail(CLI_FAILED, "%s: %s", plan->options->save, strerror(errno));
    bool bad = json_dumpf(document, file, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) != 0;
    bad |= fputc('\n', file) == EOF;
    bad |= fclose(file) != 0;
    return bad ? cli_fail(CLI_FAILED, "%s: %s", plan->options->save, strerror(errno)) : CLI_DONE;
}

static int report(const cli_plan_answer *plan)
{
    int fitting = 0;
    const cli_options *options = plan->options;
    json_t *document = options->json || options->save || options->html ? cli_plan_json(plan) : NULL;
    int code = options->save ? save(plan, document) : CLI_DONE;
    if (!code && options->html)
        code = cli_plan_html(document, options->html);
    if (options->json && !code)
        cli_json_print(document);
    else
        json_decref(document);
    if (!options->json)
        cli_plan_show(plan);
    for (int i = 0; i < plan->device_count; i++)
        fitting += plan->devices[i].forecast.fits;
    return code ? code : fitting ? CLI_DONE : CLI_NO_KERNEL;
}

static void close_plan(cli_plan_answer *plan)
{
    for (int i = 0; i < plan->device_count; i++) {
        gemmux_records_free(plan->devices[i].records);
        free(plan->devices[i].kinds);
    }
    free(plan->devices);
    free(plan->layers);
    gemmux_model_close(plan->model);
}

static int run(cli_options *options)
{
    if (options->argument_count && !strcmp(options->arguments[0], "diff")) {
        if (options->argument_count != 3)
            return cli_fail(CLI_BAD_INPUT, "plan diff takes two saved plans: OLD.json NEW.json");
        return cli_plan_diff(options, options->arguments[1], options->arguments[2]);
    }
    cli_plan_answer plan = {.options = options};
    gemmux_kind *scratch = calloc(CLI_MAX_KINDS, sizeof *scratch);
    options->load.liberties = options->liberties;
    int code = scratch ? open_model(&plan) : cli_fail(CLI_FAILED, "out of memory");
    if (!code)
        code = find_devices(&plan);
    for (int i = 0; !code && i < plan.device_count; i++)
        code = plan_device(&plan, &plan.devices[i], scratch);
    if (!code)
        code = report(&plan);
    free(scratch);
    close_plan(&plan);
    return code;
}

const cli_command cli_plan = {
    .name = "plan",
    .arguments = "MODEL | diff OLD NEW",
    .summary = "plan a whole model for devices that need not be here",
    .details = "MODEL is a safetensors or GGUF file, an index, a directory or a config.json\n"
               "(headers are enough), or a built-in name such as gpt-oss-120b or llama-3.1-8b.\n"
               "Exits with 3 when it fits none of the devices.\n"
               "diff compares two plans that --save wrote: which layers changed kernel, which\n"
               "check flipped; exits with 3 when something changed for the worse.\n\n"
               "  gemmux plan gpt-oss-120b --device rtx-pro-6000 --context 32768",
    .options = (CLI_POLICY & ~CLI_BIT(DEVICE)) | CLI_BIT(DEVICES) | CLI_BIT(BATCH) |
               CLI_BIT(CONTEXT) | CLI_BIT(CHUNK) | CLI_BIT(NO_CACHE) | CLI_BIT(DTYPE) |
               CLI_BIT(LOAD_IN_4BIT) | CLI_BIT(TP) | CLI_BIT(SAVE) | CLI_BIT(HTML) | CLI_BIT(JSON) |
               CLI_BIT(HELP),
    .run = run,
};
