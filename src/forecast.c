/* SPDX-License-Identifier: Apache-2.0
 *
 * A whole model on one described device: layers grouped into kinds, each routed for decode and
 * prefill, and the memory they will take. Needs no weights, only shapes and formats, so it answers
 * from headers alone.
 */
#include "forecast.h"

#include "error.h"
#include "select.h"

#include <inttypes.h>
#include <string.h>

/* A step decodes one token a sequence; prefill happens once a sequence. The packing is chosen for
 * this many generated tokens a prefill. */
enum { DECODE_STEPS = 512 };

typedef struct forecast_context {
    const gemmux_machine *machine;
    const gemmux_policy *policy;
    const gemmux_model_facts *facts;
    gemmux_workload load;
    gemmux_forecast *out;
} forecast_context;

static bool same_kind(const gemmux_kind *kind, const gemmux_layer *layer)
{
    const gemmux_layer *first = kind->layer;
    return strcmp(first->group, layer->group) == 0 && first->n == layer->n &&
           first->k == layer->k && first->op == layer->op && first->experts == layer->experts &&
           first->embedding == layer->embedding &&
           gemmux_format_equal(first->format, layer->format);
}

static bool is_dense(gemmux_format format)
{
    return format.scaling == GEMMUX_SCALING_NONE;
}

/* The format the weights are multiplied in, under --dtype and --load-in-4bit. */
static gemmux_format used_format(const forecast_context *c, gemmux_kind *kind)
{
    gemmux_format stored = kind->layer->format, used = stored;
    char name[32], other[32];
    if (c->load.load_in_4bit && stored.id && !kind->layer->embedding) {
        if (is_dense(stored)) {
            used = gemmux_format_of(GEMMUX_NF4);
            gemmux_kind_note(kind, "quantised from %s to nf4 by load_in_4bit: lossy",
                             gemmux_format_name(stored, name, sizeof name));
        } else {
            gemmux_kind_note(kind, "already quantised (%s): load_in_4bit changes nothing",
                             gemmux_format_name(stored, name, sizeof name));
        }
    }
    if (c->load.dtype.id && stored.id && !gemmux_format_equal(c->load.dtype, used)) {
        double from = (double)gemmux_stored_bytes(used, 1, kind->layer->n, kind->layer->k);
        double to = (double)gemmux_stored_bytes(c->load.dtype, 1, kind->layer->n, kind->layer->k);
        gemmux_kind_note(kind, "%s instead of %s: %.2f times the memory",
                         gemmux_format_name(c->load.dtype, name, sizeof name),
                         gemmux_format_name(used, other, sizeof other), from > 0 ? to / from : 0.0);
        used = c->load.dtype;
    }
    return used;
}

static gemmux_problem problem_of(const forecast_context *c, gemmux_kind *kind)
{
    const gemmux_layer *layer = kind->layer;
    gemmux_format w = used_format(c, kind);
    /* Activations in the checkpoint's own float where it has one, else bf16. */
    gemmux_format x = gemmux_format_of(is_dense(w) ? (gemmux_format_id)w.id : GEMMUX_BF16);
    gemmux_problem p = gemmux_problem_linear(1, layer->n, layer->k, x, w, x);
    p.liberties |= c->load.liberties;
    p.op = layer->op;
    p.epilogue = layer->epilogue;
    p.experts = layer->experts;
    p.top_k = layer->top_k;
    return p;
}

static int64_t at_most(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* M of a decode step and of one prefill chunk. */
static void choose_ms(const forecast_context *c, gemmux_kind *kind)
{
    int64_t tokens = c->load.batch * c->load.context;
    kind->decode_m = c->load.no_cache ? tokens : c->load.batch;
    kind->prefill_m = c->load.no_cache ? tokens : at_most(tokens, c->load.chunk);
    if (kind->prefill_m < kind->decode_m)
        kind->prefill_m = kind->decode_m;
}

static bool route(const forecast_context *c, gemmux_kind *kind)
{
    gemmux_problem *p = &kind->problem;
    gemmux_profile profile = {.count = 1, .m = {kind->decode_m}, .weight = {DECODE_STEPS}};
    gemmux_error why = {GEMMUX_OK, ""};
    p->m = kind->prefill_m;
    if (kind->prefill_m > kind->decode_m) {
        profile.count = 2;
        profile.m[1] = kind->prefill_m;
        profile.weight[1] =
            (double)gemmux_divide_up(c->load.batch * c->load.context, kind->prefill_m);
    }
    if (gemmux_select_ranges(p, c->machine, c->policy, &profile, kind->ranges, &kind->range_count,
                             &why)) {
        gemmux_kind_note(kind, "%.150s", why.text);
        return false;
    }
    gemmux_policy packed = c->policy ? *c->policy : (gemmux_policy){0};
    packed.packing = kind->ranges[0].decision.packing;
    gemmux_problem decode = *p;
    decode.m = kind->decode_m;
    return gemmux_select(&decode, c->machine, &packed, &kind->decode, NULL, &why) == GEMMUX_OK &&
           gemmux_select(p, c->machine, &packed, &kind->prefill, NULL, &why) == GEMMUX_OK;
}

/* One layer's bias, held as f32. */
static int64_t bias_bytes(const gemmux_kind *kind)
{
    const gemmux_problem *p = &kind->problem;
    int64_t matrices = p->op == GEMMUX_MOE ? p->experts : 1;
    return p->epilogue & GEMMUX_EPILOGUE_BIAS ? matrices * p->n * 4 : 0;
}

static void plan_kind(const forecast_context *c, gemmux_kind *kind)
{
    gemmux_forecast *f = c->out;
    kind->problem = problem_of(c, kind);
    choose_ms(c, kind);
    kind->stored_bytes = kind->layer->stored_bytes * kind->count;
    f->stored_bytes += kind->stored_bytes;
    if (kind->layer->embedding) { /* looked up, row by row, as stored or as dense */
        int64_t bytes = c->load.dtype.id
                            ? gemmux_stored_bytes(c->load.dtype, 1, kind->layer->n, kind->layer->k)
                            : kind->layer->stored_bytes;
        kind->held_bytes = gemmux_divide_up(bytes * kind->count, c->load.tp);
        f->weight_bytes += kind->held_bytes;
        return;
    }
    if (!kind->layer->format.id) {
        gemmux_kind_note(kind, "stored as %s, which is not decoded", kind->layer->scheme);
        kind->broken = true;
        kind->held_bytes = gemmux_divide_up(kind->stored_bytes, c->load.tp);
        f->weight_bytes += kind->held_bytes;
        return;
    }
    if (!gemmux_split(c->facts, c->load.tp, kind, &kind->problem) || !route(c, kind)) {
        kind->broken = true;
        int64_t matrices = kind->layer->op == GEMMUX_MOE ? kind->layer->experts : 1;
        kind->held_bytes = gemmux_divide_up(gemmux_stored_bytes(kind->problem.w, matrices,
                                                                kind->layer->n, kind->layer->k),
                                            c->load.tp) *
                           kind->count;
        f->weight_bytes += kind->held_bytes;
        return;
    }
    kind->held_bytes = (kind->decode.weight_bytes + bias_bytes(kind)) * kind->count;
    f->weight_bytes += kind->held_bytes;
    int64_t workspace = kind->prefill.workspace_bytes > kind->decode.workspace_bytes
                            ? kind->prefill.workspace_bytes
                            : kind->decode.workspace_bytes;
    if (workspace > f->workspace_bytes)
        f->workspace_bytes = workspace;
    /* One layer at a time lies beside its packed form; plain weights are not repacked. A GPU gets
     * packed weights alone, as they are made. */
    int64_t source = gemmux_divide_up(kind->layer->stored_bytes, c->load.tp);
    if (c->machine->kind == GEMMUX_CPU && strcmp(kind->decode.packing, "plain") != 0 &&
        source > f->repack_bytes)
        f->repack_bytes = source;
    int64_t chunks = gemmux_divide_up(c->load.batch * c->load.context, kind->prefill_m);
    f->decode_us += kind->count * kind->decode.predicted_us;
    f->prefill_us += (double)(kind->count * chunks) * kind->prefill.predicted_us;
}

/* bf16 keys and values on one device; windowed blocks keep no more than their window. A device
 * holds whole heads, and the whole of a latent. */
static int64_t cache_bytes(const gemmux_model_facts *facts, const gemmux_workload *load)
{
    int64_t window = facts->window && facts->window < load->context ? facts->window : load->context;
    int64_t full = facts->blocks - facts->window_blocks, heads = facts->kv_heads;
    double bytes =
        2.0 * (double)facts->kv_elements * (double)load->batch *
        ((double)full * (double)load->context + (double)facts->window_blocks * (double)window);
    if (heads > 0)
        bytes *= (double)gemmux_divide_up(heads, load->tp) / (double)heads;
    return load->no_cache ? 0 : bytes < 9e18 ? (int64_t)bytes : INT64_MAX / 4;
}

static gemmux_status check_workload(gemmux_workload *load, const gemmux_model_facts *facts,
                                    gemmux_error *error)
{
    if (load->batch < 0 || load->context < 0 || load->chunk < 0 || load->tp < 0 ||
        load->batch > INT32_MAX || load->context > INT32_MAX || load->tp > 1024)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "workload: batch, context, chunk and tp must be positive and sane, got "
                           "%" PRId64 ", %" PRId64 ", %" PRId64 ", %d",
                           load->batch, load->context, load->chunk, load->tp);
    if (load->dtype.id && !is_dense(load->dtype))
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "workload: dtype must be f32, f16 or bf16: a quantised format is "
                           "what the checkpoint stores, not what it is loaded as");
    load->batch = load->batch ? load->batch : 1;
    load->context = load->context ? load->context : 4096;
    load->chunk = load->chunk ? load->chunk : 2048;
    load->tp = load->tp ? load->tp : 1;
    if (facts->max_context && load->context > facts->max_context)
        load->context = facts->max_context;
    if (load->batch * load->context > INT32_MAX)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "workload: batch x context = %" PRId64 " tokens is more than 2^31",
                           load->batch * load->context);
    return GEMMUX_OK;
}

gemmux_status gemmux_forecast_model(const gemmux_layer *const *layers, int layer_count,
                                    const gemmux_model_facts *facts, const gemmux_machine *machine,
                                    const gemmux_policy *policy, const gemmux_workload *workload,
                                    gemmux_kind *kinds, int max_kinds, gemmux_forecast *forecast,
                                    gemmux_error *error)
{
    forecast_context c = {.machine = machine, .policy = policy, .facts = facts, .out = forecast};
    if (workload)
        c.load = *workload;
    memset(forecast, 0, sizeof *forecast);
    gemmux_status status = check_workload(&c.load, facts, error);
    if (status)
        return status;
    forecast->load = c.load;
    for (int i = 0; i < layer_count; i++) {
        int k = 0;
        while (k < forecast->kind_count && !same_kind(&kinds[k], layers[i]))
            k++;
        if (k == max_kinds)
            return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "forecast: more than %d kinds of layers",
                               max_kinds);
        if (k == forecast->kind_count) {
            memset(&kinds[k], 0, sizeof kinds[k]);
            kinds[k].layer = layers[i];
            forecast->kind_count++;
        }
        kinds[k].count++;
    }
    bool whole = true;
    for (int k = 0; k < forecast->kind_count; k++) {
        plan_kind(&c, &kinds[k]);
        whole &= !kinds[k].broken;
    }
    forecast->stored_bytes += facts->other_bytes;
    forecast->weight_bytes += facts->other_bytes;
    forecast->kv_bytes = cache_bytes(facts, &c.load);
    forecast->total_bytes = forecast->weight_bytes + forecast->workspace_bytes + forecast->kv_bytes;
    forecast->peak_bytes = forecast->weight_bytes + forecast->repack_bytes;
    if (forecast->total_bytes > forecast->peak_bytes)
        forecast->peak_bytes = forecast->total_bytes;
    forecast->memory_bytes = machine->memory_bytes;
    forecast->whole = whole;
    forecast->fits =
        whole && (!machine->memory_bytes || forecast->peak_bytes <= machine->memory_bytes);
    return GEMMUX_OK;
}
