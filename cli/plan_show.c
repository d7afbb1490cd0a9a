/* SPDX-License-Identifier: Apache-2.0
 *
 * A plan as tables for people: one device in full, several as one line each.
 */
#include "plan.h"

#include <string.h>

/* "mlp.down_proj" of "model.layers.*.mlp.down_proj" and of "blk.*.mlp.down_proj". */
static const char *short_name(const gemmux_layer *layer)
{
    const char *star = strstr(layer->group, ".*.");
    return star ? star + 3 : layer->group;
}

/* The time of all layers; "-" where some have none. */
static const char *total_text(const gemmux_forecast *f, double us, char *buffer, size_t size)
{
    if (f->whole)
        return cli_time(us, buffer, size);
    snprintf(buffer, size, "-");
    return buffer;
}

/* -------------------------------------------------------------------------------------- model --
 */

static void show_model(const cli_plan_answer *plan)
{
    const gemmux_model_facts *f = &plan->facts;
    const gemmux_workload *load = &plan->devices[0].forecast.load;
    const char *architecture = gemmux_model_name(plan->model),
               *note = gemmux_model_note(plan->model);
    char text[512], formats[160], stored[32], number[32], window[64] = "", cache[64] = "",
                                                          most[48] = "";
    cli_print(CLI_BOLD, "%s", plan->name);
    cli_print(CLI_PLAIN, ", %s%s%s\n", gemmux_model_kind(plan->model), architecture ? " " : "",
              architecture ? architecture : "");
    snprintf(text, sizeof text, "%s %sillion parameters, %s: %s",
             cli_number((double)f->parameters / (f->parameters < 1e9 ? 1e6 : 1e9), number,
                        sizeof number),
             f->parameters < 1e9 ? "m" : "b",
             cli_bytes(plan->devices[0].forecast.stored_bytes, stored, sizeof stored),
             cli_plan_formats(plan, formats, sizeof formats));
    cli_wrap(CLI_PLAIN, 2, text);
    if (f->window_blocks)
        snprintf(window, sizeof window, " (%d of them see %lld tokens)", (int)f->window_blocks,
                 (long long)f->window);
    if (f->kv_heads)
        snprintf(cache, sizeof cache, ", %d kv heads of %d", (int)f->kv_heads, (int)f->head_size);
    else if (f->kv_elements)
        snprintf(cache, sizeof cache, ", each caches %lld numbers a token",
                 (long long)f->kv_elements);
    if (f->max_context)
        snprintf(most, sizeof most, ", at most %lld tokens", (long long)f->max_context);
    snprintf(text, sizeof text, "%d block%s%s%s%s", (int)f->blocks, f->blocks == 1 ? "" : "s",
             window, cache, most);
    cli_wrap(CLI_PLAIN, 2, text);
    if (note)
        cli_wrap(CLI_WARN, 2, note);
    char dtype[32] = "auto", tp[48] = "";
    if (load->dtype.id)
        gemmux_format_name(load->dtype, dtype, sizeof dtype);
    if (load->tp > 1)
        snprintf(tp, sizeof tp, ", each layer on %d devices", (int)load->tp);
    snprintf(text, sizeof text, "asked: batch %lld, context %lld%s, prefill by %lld, dtype %s%s%s",
             (long long)load->batch, (long long)load->context,
             load->no_cache ? " without cache" : "", (long long)load->chunk, dtype,
             load->load_in_4bit ? ", load-in-4bit" : "", tp);
    cli_wrap(CLI_PLAIN, 2, text);
    putchar('\n');
}

/* ------------------------------------------------------------------------------- one device -- */

static void show_layers(const cli_planned *device)
{
    static const cli_column columns[] = {{"LAYER", false, false}, {"COUNT", true, false},
                                         {"NxK", true, false},    {"STORED", false, false},
                                         {"BYTES", true, false},  {"HELD", true, false}};
    cli_table *table = cli_table_new(columns, 6);
    for (int i = 0; i < device->forecast.kind_count; i++) {
        const gemmux_kind *kind = &device->kinds[i];
        const gemmux_layer *l = kind->layer;
        char format[32] = "?", stored[32], held[32], experts[32] = "";
        if (l->format.id)
            gemmux_format_name(l->format, format, sizeof format);
        if (l->op == GEMMUX_MOE)
            snprintf(experts, sizeof experts, "%dx", (int)l->experts);
        cli_cell(table, kind->broken ? CLI_BAD : CLI_PLAIN, "%s", short_name(l));
        cli_cell(table, CLI_PLAIN, "%d", (int)kind->count);
        cli_cell(table, CLI_PLAIN, "%s%lldx%lld", experts, (long long)l->n, (long long)l->k);
        cli_cell(table, CLI_PLAIN, "%s", format);
        cli_cell(table, CLI_PLAIN, "%s", cli_bytes(kind->stored_bytes, stored, sizeof stored));
        cli_cell(table, CLI_PLAIN, "%s", cli_bytes(kind->held_bytes, held, sizeof held));
        if (*kind->note || l->embedding)
            cli_remark(table, "%s%s%s", l->embedding ? "looked up, not multiplied" : "",
                       l->embedding && *kind->note ? "; " : "", kind->note);
    }
    cli_table_print(table);
    putchar('\n');
}

/* The time of one layer at `m`, where the range holds it. */
static void time_cell(cli_table *table, const gemmux_range *range, int64_t m,
                      const gemmux_decision *decision)
{
    char time[32];
    if (m >= range->m_min && m <= range->m_max)
        cli_cell(table, CLI_PLAIN, "%s", cli_time(decision->predicted_us, time, sizeof time));
    else
        cli_cell(table, CLI_PLAIN, "-");
}

static void show_ranges(const cli_plan_answer *plan, const cli_planned *device,
                        const gemmux_kind *kind, cli_table *table)
{
    const gemmux_problem problem = cli_plan_problem(kind, kind->decode_m);
    char why[640];
    for (int r = 0; r < kind->range_count; r++) {
        const gemmux_range *range = &kind->ranges[r];
        const gemmux_decision *d = &range->decision;
        char m[48];
        if (range->m_min == range->m_max)
            snprintf(m, sizeof m, "%lld", (long long)range->m_min);
        else
            snprintf(m, sizeof m, "%lld-%lld", (long long)range->m_min, (long long)range->m_max);
        cli_cell(table, CLI_PLAIN, "%s", r ? "" : short_name(kind->layer));
        cli_cell(table, CLI_PLAIN, "%s", m);
        cli_cell(table, CLI_GOOD, "%s", gemmux_kernel_name(d->kernel));
        cli_cell(table, CLI_PLAIN, "%s", gemmux_bound_name((gemmux_bound)d->bound));
        time_cell(table, range, kind->decode_m, &kind->decode);
        time_cell(table, range, kind->prefill_m, &kind->prefill);
    }
    cli_why_not_better(&device->machine, &plan->options->policy, &problem, &kind->decode, why,
                       sizeof why);
    cli_remark(table, "%s, packed %s%s; %s", gemmux_path_name((gemmux_path)kind->decode.path),
               kind->decode.packing, kind->decode.lossless ? "" : ", lossy", why);
}

static void show_kernels(const cli_plan_answer *plan, const cli_planned *device)
{
    char decode[32], prefill[32];
    int64_t decode_m = 0, prefill_m = 0;
    for (int i = 0; i < device->forecast.kind_count; i++)
        if (!device->kinds[i].layer->embedding) {
            decode_m = device->kinds[i].decode_m;
            prefill_m = device->kinds[i].prefill_m;
        }
    snprintf(decode, sizeof decode, "M=%lld", (long long)decode_m);
    snprintf(prefill, sizeof prefill, "M=%lld", (long long)prefill_m);
    const cli_column columns[] = {{"LAYER", false, false},  {"M", false, false},
                                  {"KERNEL", false, false}, {"BOUND", false, false},
                                  {decode, true, false},    {prefill, true, false}};
    cli_table *table = cli_table_new(columns, 6);
    for (int i = 0; i < device->forecast.kind_count; i++)
        if (!device->kinds[i].layer->embedding && !device->kinds[i].broken)
            show_ranges(plan, device, &device->kinds[i], table);
    cli_table_print(table);
    putchar('\n');
}

static void show_memory(const cli_planned *device)
{
    const gemmux_forecast *f = &device->forecast;
    const struct {
        const char *what;
        int64_t bytes;
        const char *note;
    } rows[] = {
        {"weights", f->weight_bytes, "as packed, with embeddings, norms and biases"},
        {"KV cache", f->kv_bytes, "bf16, at the full context of the whole batch"},
        {"workspace", f->workspace_bytes, "the largest of any layer"},
        {"repacking", f->repack_bytes, "beside the weights, until the last layer is packed"},
        {"at most", f->peak_bytes,
         "the larger of weights + cache + workspace and of "
         "weights + repacking"},
        {"device", f->memory_bytes, f->memory_bytes ? "" : "not known"}};
    static const cli_column columns[] = {
        {"MEMORY", false, false}, {"BYTES", true, false}, {"WHAT", false, true}};
    cli_table *table = cli_table_new(columns, 3);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char bytes[32];
        cli_cell(table, CLI_PLAIN, "%s", rows[i].what);
        cli_cell(table, CLI_PLAIN, "%s", cli_bytes(rows[i].bytes, bytes, sizeof bytes));
        cli_cell(table, CLI_DIM, "%s", rows[i].note);
    }
    cli_table_print(table);
    putchar('\n');
}

static void show_choices(const cli_planned *device)
{
    static const cli_column columns[] = {{"DTYPE", false, false},      {"WEIGHTS", true, false},
                                         {"AT MOST", true, false},     {"FITS", false, false},
                                         {"DECODE STEP", true, false}, {"PREFILL", true, false}};
    cli_table *table = cli_table_new(columns, 6);
    for (int i = 0; i < CLI_CHOICE_COUNT; i++) {
        const gemmux_forecast *f = &device->choices[i];
        char weights[32], peak[32], decode[32], prefill[32];
        cli_cell(table, CLI_PLAIN, "%s", cli_choice_name((cli_choice_id)i));
        cli_cell(table, CLI_PLAIN, "%s", cli_bytes(f->weight_bytes, weights, sizeof weights));
        cli_cell(table, CLI_PLAIN, "%s", cli_bytes(f->peak_bytes, peak, sizeof peak));
        cli_cell(table, f->fits ? CLI_GOOD : CLI_BAD, "%s", f->fits ? "yes" : "no");
        cli_cell(table, CLI_PLAIN, "%s", total_text(f, f->decode_us, decode, sizeof decode));
        cli_cell(table, CLI_PLAIN, "%s", total_text(f, f->prefill_us, prefill, sizeof prefill));
    }
    cli_table_print(table);
}

static void show_device(const cli_plan_answer *plan, const cli_planned *device)
{
    const gemmux_forecast *f = &device->forecast;
    char arch[32], text[512], decode[32], prefill[32], rate[32];
    cli_print(CLI_BOLD, "%s", device->machine.name);
    cli_print(CLI_PLAIN, " (%s)\n", gemmux_machine_arch(&device->machine, arch, sizeof arch));
    cli_wrap(!f->fits ? CLI_BAD : device->elsewhere ? CLI_WARN : CLI_GOOD, 2, device->verdict);
    snprintf(text, sizeof text,
             "products of one decode step: %s, at most %s tokens a second; of filling the context: "
             "%s; attention, norms and sampling come on top",
             total_text(f, f->decode_us, decode, sizeof decode),
             cli_number(f->decode_us > 0 ? (double)f->load.batch * 1e6 / f->decode_us : 0, rate,
                        sizeof rate),
             total_text(f, f->prefill_us, prefill, sizeof prefill));
    if (f->whole)
        cli_wrap(CLI_PLAIN, 2, text);
    cli_wrap(CLI_PLAIN, 2, device->advice);
    putchar('\n');
    show_layers(device);
    show_kernels(plan, device);
    show_memory(device);
    show_choices(device);
}

/* ---------------------------------------------------------------------------------- several -- */

static void show_devices(const cli_plan_answer *plan)
{
    static const cli_column columns[] = {{"DEVICE", false, false},      {"ARCH", false, false},
                                         {"NEEDS OF GiB", true, false}, {"FITS", false, false},
                                         {"DECODE", true, false},       {"PREFILL", true, false}};
    cli_table *table = cli_table_new(columns, 6);
    for (int i = 0; i < plan->device_count; i++) {
        const cli_planned *d = &plan->devices[i];
        const gemmux_forecast *f = &d->forecast;
        char arch[32], have[32] = "?", decode[32], prefill[32], tp[32] = "no";
        if (f->memory_bytes > 0)
            snprintf(have, sizeof have, "%.1f", (double)f->memory_bytes / 0x1p30);
        if (d->tp_that_fits)
            snprintf(tp, sizeof tp, "on %d", d->tp_that_fits);
        cli_cell(table, CLI_PLAIN, "%s", d->machine.id);
        cli_cell(table, CLI_PLAIN, "%s", gemmux_machine_arch(&d->machine, arch, sizeof arch));
        cli_cell(table, CLI_PLAIN, "%.1f / %5s", (double)f->peak_bytes / 0x1p30, have);
        cli_cell(table,
                 !f->fits       ? CLI_BAD
                 : d->elsewhere ? CLI_WARN
                                : CLI_GOOD,
                 "%s",
                 !f->fits       ? tp
                 : d->elsewhere ? "on CPU"
                                : "yes");
        cli_cell(table, CLI_PLAIN, "%s", total_text(f, f->decode_us, decode, sizeof decode));
        cli_cell(table, CLI_PLAIN, "%s", total_text(f, f->prefill_us, prefill, sizeof prefill));
    }
    cli_table_print(table);
    cli_wrap(CLI_DIM, 0,
             "FITS \"on 4\": not as asked, but on four devices that share every layer (--tp 4); "
             "\"on CPU\": layers for which the device has no kernel run there. Times "
             "are the products of one decode step and of filling the context; one --device alone "
             "is shown in full.");
}

void cli_plan_show(const cli_plan_answer *plan)
{
    show_model(plan);
    if (plan->device_count == 1)
        show_device(plan, &plan->devices[0]);
    else
        show_devices(plan);
}
