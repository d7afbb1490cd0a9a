/* SPDX-License-Identifier: Apache-2.0
 *
 * A plan as JSON: what --json prints and --save keeps. docs/plan.md describes every member; names
 * are a contract, and "plan_version" changes when the meaning of one does.
 */
#include "plan.h"
#include "plan_diff.h"

#include <string.h>

typedef struct number {
    const char *name;
    int64_t value;
} number;

static void set_numbers(json_t *object, const number *numbers)
{
    for (; numbers->name; numbers++)
        json_object_set_new(object, numbers->name, json_integer(numbers->value));
}

static json_t *model(const cli_plan_answer *plan)
{
    const gemmux_model_facts *f = &plan->facts;
    const char *architecture = gemmux_model_name(plan->model),
               *note = gemmux_model_note(plan->model);
    char formats[256];
    json_t *object =
        json_pack("{s:s, s:s, s:s?, s:s?, s:i, s:i, s:s}", "name", plan->name, "kind",
                  gemmux_model_kind(plan->model), "architecture", architecture, "note", note,
                  "tensors", gemmux_model_tensor_count(plan->model), "layers", plan->layer_count,
                  "formats", cli_plan_formats(plan, formats, sizeof formats));
    set_numbers(object, (const number[]){{"parameters", f->parameters},
                                         {"blocks", f->blocks},
                                         {"window_blocks", f->window_blocks},
                                         {"window", f->window},
                                         {"kv_elements", f->kv_elements},
                                         {"heads", f->heads},
                                         {"kv_heads", f->kv_heads},
                                         {"head_size", f->head_size},
                                         {"hidden", f->hidden},
                                         {"vocab", f->vocab},
                                         {"max_context", f->max_context},
                                         {NULL, 0}});
    return object;
}

static json_t *workload(const cli_plan_answer *plan)
{
    const gemmux_workload *load = &plan->devices[0].forecast.load;
    char dtype[32];
    if (load->dtype.id)
        gemmux_format_name(load->dtype, dtype, sizeof dtype);
    return json_pack("{s:I, s:I, s:I, s:b, s:s, s:b, s:i, s:o}", "batch", (json_int_t)load->batch,
                     "context", (json_int_t)load->context, "chunk", (json_int_t)load->chunk,
                     "cache", !load->no_cache, "dtype", load->dtype.id ? dtype : "auto",
                     "load_in_4bit", load->load_in_4bit, "tp", (int)load->tp, "liberties",
                     cli_json_liberties(load->liberties));
}

/* One M: the decision, and the verdict on every kernel under the layer's packing. */
static json_t *at_m(const cli_plan_answer *plan, const cli_planned *device, const gemmux_kind *kind,
                    int64_t m, const gemmux_decision *decision)
{
    static gemmux_trace trace;
    char why[640];
    gemmux_policy policy = cli_plan_policy(plan, kind);
    gemmux_problem problem = cli_plan_problem(kind, m);
    gemmux_decision again;
    json_t *verdicts = json_array();
    bool chosen = !kind->broken && decision->kernel;
    gemmux_status status = gemmux_select(&problem, &device->machine, &policy, &again, &trace, NULL);
    if (!status || status == GEMMUX_ERROR_NO_KERNEL) {
        json_decref(verdicts);
        verdicts = cli_json_verdicts(&trace, &problem, &device->machine);
    }
    if (chosen)
        cli_why_not_better(&device->machine, &plan->options->policy, &problem, decision, why,
                           sizeof why);
    return json_pack("{s:I, s:o, s:o, s:o, s:o}", "m", (json_int_t)m, "problem",
                     cli_json_problem(&problem), "decision",
                     chosen ? cli_json_decision(decision, &device->machine) : json_null(), "why",
                     chosen ? json_string(why) : json_null(), "verdicts", verdicts);
}

static json_t *ranges(const gemmux_kind *kind, const gemmux_machine *machine)
{
    json_t *list = json_array();
    for (int i = 0; !kind->broken && i < kind->range_count; i++) {
        const gemmux_range *r = &kind->ranges[i];
        json_array_append_new(list, json_pack("{s:I, s:I, s:o}", "m_min", (json_int_t)r->m_min,
                                              "m_max", (json_int_t)r->m_max, "decision",
                                              cli_json_decision(&r->decision, machine)));
    }
    return list;
}

static json_t *layer(const cli_plan_answer *plan, const cli_planned *device,
                     const gemmux_kind *kind)
{
    const gemmux_layer *l = kind->layer;
    char stored[32] = "", used[32] = "";
    if (l->format.id)
        gemmux_format_name(l->format, stored, sizeof stored);
    if (kind->problem.w.id)
        gemmux_format_name(kind->problem.w, used, sizeof used);
    bool moe = l->op == GEMMUX_MOE, routed = !kind->broken && !l->embedding && kind->range_count;
    json_t *object =
        json_pack("{s:s, s:s, s:i, s:s, s:s, s:s, s:s, s:b, s:b, s:s}", "group", l->group, "first",
                  l->name, "count", (int)kind->count, "op", gemmux_op_name((gemmux_op)l->op),
                  "scheme", l->scheme, "format", stored, "multiplied_as", l->embedding ? "" : used,
                  "embedding", l->embedding, "broken", kind->broken, "note", kind->note);
    set_numbers(object, (const number[]){{"n", l->n},
                                         {"k", l->k},
                                         {"experts", moe ? l->experts : 0},
                                         {"top_k", moe ? l->top_k : 0},
                                         {"stored_bytes", kind->stored_bytes},
                                         {"held_bytes", kind->held_bytes},
                                         {NULL, 0}});
    json_object_set_new(object, "packing",
                        routed ? json_string(kind->ranges[0].decision.packing) : json_null());
    json_object_set_new(object, "ranges", ranges(kind, &device->machine));
    json_object_set_new(object, "decode",
                        l->embedding ? json_null()
                                     : at_m(plan, device, kind, kind->decode_m, &kind->decode));
    json_object_set_new(object, "prefill",
                        l->embedding ? json_null()
                                     : at_m(plan, device, kind, kind->prefill_m, &kind->prefill));
    return object;
}

static json_t *memory(const gemmux_forecast *f)
{
    json_t *object = json_object();
    set_numbers(object, (const number[]){{"stored_bytes", f->stored_bytes},
                                         {"weight_bytes", f->weight_bytes},
                                         {"workspace_bytes", f->workspace_bytes},
                                         {"kv_bytes", f->kv_bytes},
                                         {"repack_bytes", f->repack_bytes},
                                         {"total_bytes", f->total_bytes},
                                         {"peak_bytes", f->peak_bytes},
                                         {"device_bytes", f->memory_bytes},
                                         {NULL, 0}});
    return object;
}

/* Times that lack some layers are none. */
static json_t *time_of(const gemmux_forecast *f, double us)
{
    return f->whole ? cli_json_number(us) : json_null();
}

static json_t *choices(const cli_planned *device)
{
    json_t *list = json_array();
    for (int i = 0; i < CLI_CHOICE_COUNT; i++) {
        const gemmux_forecast *f = &device->choices[i];
        json_array_append_new(list, json_pack("{s:s, s:b, s:I, s:I, s:o, s:o}", "dtype",
                                              cli_choice_name((cli_choice_id)i), "fits", f->fits,
                                              "weight_bytes", (json_int_t)f->weight_bytes,
                                              "peak_bytes", (json_int_t)f->peak_bytes, "decode_us",
                                              time_of(f, f->decode_us), "prefill_us",
                                              time_of(f, f->prefill_us)));
    }
    return list;
}

static json_t *device(const cli_plan_answer *plan, const cli_planned *d)
{
    const gemmux_forecast *f = &d->forecast;
    json_t *layers = json_array(), *machine = cli_json_machine(&d->machine);
    json_object_set_new(machine, "memory_bytes", json_integer(d->machine.memory_bytes));
    json_object_set_new(machine, "bandwidth", cli_json_number(d->machine.bandwidth));
    for (int i = 0; i < f->kind_count; i++)
        json_array_append_new(layers, layer(plan, d, &d->kinds[i]));
    return json_pack(
        "{s:o, s:b, s:o, s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "device", machine, "fits", f->fits,
        "tp_that_fits", d->tp_that_fits ? json_integer(d->tp_that_fits) : json_null(), "verdict",
        d->verdict, "advice", d->advice, "memory", memory(f), "decode_us", time_of(f, f->decode_us),
        "prefill_us", time_of(f, f->prefill_us), "choices", choices(d), "layers", layers);
}

json_t *cli_plan_json(const cli_plan_answer *plan)
{
    json_t *devices = json_array();
    for (int i = 0; i < plan->device_count; i++)
        json_array_append_new(devices, device(plan, &plan->devices[i]));
    return json_pack("{s:i, s:s, s:o, s:o, s:o}", "plan_version", CLI_PLAN_VERSION, "gemmux",
                     gemmux_version(), "model", model(plan), "workload", workload(plan), "devices",
                     devices);
}
