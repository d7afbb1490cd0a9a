/* SPDX-License-Identifier: Apache-2.0
 *
 * Checkpoints that keep every expert's linear apart (Mixtral, Qwen3-MoE, DeepSeek ...) become one
 * moe layer a projection, when experts 0 to E-1 are all there and alike. Stacking copies: the
 * matrices lie apart in the file. Where experts differ, or GPTQ may have reordered the columns of
 * each in its own way, they stay linears of their own.
 */
#include "error.h"
#include "format.h"
#include "scheme.h"

#include <stdlib.h>
#include <string.h>

/* "PREFIX.experts.INDEX.REST" */
typedef struct expert {
    const char *name, *rest;
    size_t prefix_length; /* with ".experts" */
    int32_t index;
    int32_t source;
} expert;

static bool parse_expert(const char *name, expert *e)
{
    static const char mark[] = "experts.";
    const char *found = NULL;
    for (const char *at = strstr(name, mark); at; at = strstr(at + 1, mark)) {
        if (at == name || at[-1] == '.')
            found = at;
    }
    if (!found)
        return false;
    const char *digits = found + sizeof mark - 1;
    size_t count = strspn(digits, "0123456789");
    if (count == 0 || count > 6 || digits[count] != '.')
        return false;
    *e = (expert){.name = name,
                  .rest = digits + count + 1,
                  .prefix_length = (size_t)(digits - 1 - name),
                  .index = (int32_t)strtol(digits, NULL, 10)};
    return true;
}

static int compare_kind(const expert *a, const expert *b)
{
    if (a->prefix_length != b->prefix_length)
        return a->prefix_length < b->prefix_length ? -1 : 1;
    int order = memcmp(a->name, b->name, a->prefix_length);
    return order ? order : strcmp(a->rest, b->rest);
}

static int compare_experts(const void *a, const void *b)
{
    const expert *x = a, *y = b;
    int order = compare_kind(x, y);
    return order ? order : (x->index > y->index) - (x->index < y->index);
}

static bool alike(const gemmux_model *model, const gemmux_source *a, const gemmux_source *b)
{
    bool ordered = b->part[GEMMUX_PART_ORDER] >= 0 && model->config.reordered != 0;
    return a->scheme == b->scheme && a->variant == b->variant && !b->refusal && !ordered &&
           memcmp(&a->layer.format, &b->layer.format, sizeof a->layer.format) == 0 &&
           a->layer.op == GEMMUX_LINEAR && b->layer.op == GEMMUX_LINEAR &&
           a->layer.n == b->layer.n && a->layer.k == b->layer.k &&
           a->layer.epilogue == b->layer.epilogue && !b->layer.embedding;
}

static bool is_last_product(const char *rest)
{
    static const char *const names[] = {"down_proj", "w2", "fc2", "linear_fc2", "dense_4h_to_h"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(rest, names[i]) == 0)
            return true;
    }
    return false;
}

/* Makes one source of a run; the members' own sources are marked by an empty name. */
static gemmux_status stack_run(gemmux_model *model, const expert *run, int32_t count,
                               gemmux_source *stacked, gemmux_error *error)
{
    gemmux_source *members =
        gemmux_arena_alloc(&model->catalog.arena, (size_t)count * sizeof *members);
    char *name = gemmux_arena_format(&model->catalog.arena, "%.*s.%s", (int)run->prefix_length,
                                     run->name, run->rest);
    if (!members || !name)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "out of memory for experts");
    *stacked = model->sources[run[0].source];
    stacked->layer.stored_bytes = 0;
    for (int32_t i = 0; i < count; i++) {
        members[i] = model->sources[run[i].source];
        stacked->layer.stored_bytes += members[i].layer.stored_bytes;
        model->sources[run[i].source].layer.name = NULL;
    }
    stacked->members = members;
    stacked->layer.name = name;
    stacked->layer.op = GEMMUX_MOE;
    stacked->layer.experts = count;
    stacked->layer.top_k = model->top_k;
    stacked->layer.epilogue |=
        is_last_product(run->rest) ? GEMMUX_EPILOGUE_SCATTER : GEMMUX_EPILOGUE_GATHER;
    return GEMMUX_OK;
}

static gemmux_status stack_runs(gemmux_model *model, const expert *experts, int32_t count,
                                gemmux_error *error)
{
    int32_t source_count = model->source_count;
    for (int32_t first = 0, end; first < count; first = end) {
        const gemmux_source *head = &model->sources[experts[first].source];
        bool whole = !head->refusal;
        for (end = first; end < count && compare_kind(&experts[first], &experts[end]) == 0; end++)
            whole = whole && experts[end].index == end - first &&
                    alike(model, head, &model->sources[experts[end].source]);
        if (!whole || end - first < 2)
            continue;
        /* sources has room for every tensor, and a run of two or more uses up two or more */
        gemmux_source stacked;
        gemmux_status status = stack_run(model, &experts[first], end - first, &stacked, error);
        if (status)
            return status;
        model->sources[experts[first].source] = stacked;
    }
    model->source_count = 0;
    for (int32_t i = 0; i < source_count; i++) {
        if (model->sources[i].layer.name)
            model->sources[model->source_count++] = model->sources[i];
    }
    return GEMMUX_OK;
}

gemmux_status gemmux_stack_experts(gemmux_model *model, gemmux_error *error)
{
    int32_t count = 0;
    expert *experts = calloc((size_t)model->source_count + 1, sizeof *experts);
    if (!experts)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "out of memory for experts");
    for (int32_t i = 0; i < model->source_count; i++) {
        if (parse_expert(model->sources[i].layer.name, &experts[count]))
            experts[count++].source = i;
    }
    qsort(experts, (size_t)count, sizeof *experts, compare_experts);
    gemmux_status status = stack_runs(model, experts, count, error);
    free(experts);
    return status;
}

/* ---------------------------------------------------------------------------------- loading -- */

typedef struct sizes {
    int64_t row, codes, scales, zeros; /* bytes of one matrix, and of one row of codes */
} sizes;

static bool measure(const gemmux_layer *layer, sizes *s)
{
    int64_t count = gemmux_scale_count(layer->format, layer->n, layer->k);
    s->row = gemmux_row_bytes(layer->format, layer->k);
    return s->row >= 0 && gemmux_mul_size(s->row, layer->n, &s->codes) &&
           gemmux_mul_size(count, gemmux_scale_bytes(layer->format), &s->scales) &&
           gemmux_mul_size(count, gemmux_zero_bytes(layer->format), &s->zeros);
}

static void copy_member(const gemmux_layer *layer, const sizes *s, const gemmux_weights *member,
                        const gemmux_room *room, int64_t i)
{
    const gemmux_tensor *t = &member->tensor;
    int64_t stride = t->row_bytes ? t->row_bytes : s->row;
    uint8_t *codes = room->codes + i * s->codes;
    if (stride == s->row)
        memcpy(codes, t->codes, (size_t)s->codes);
    else
        for (int64_t row = 0; row < layer->n; row++)
            memcpy(codes + row * s->row, (const uint8_t *)t->codes + row * stride, (size_t)s->row);
    if (s->scales)
        memcpy(room->scales + i * s->scales, t->scales, (size_t)s->scales);
    if (s->zeros)
        memcpy(room->zeros + i * s->zeros, t->zeros, (size_t)s->zeros);
    if (room->globals)
        room->globals[i] = t->globals ? t->globals[0] : 1.0f;
    if (room->bias)
        memcpy(room->bias + i * layer->n, member->bias, (size_t)layer->n * sizeof(float));
}

static gemmux_status load_member(const gemmux_model *model, const gemmux_source *member,
                                 gemmux_weights *weights, gemmux_error *error)
{
    *weights = (gemmux_weights){.tensor = {.format = member->layer.format,
                                           .count = 1,
                                           .rows = member->layer.n,
                                           .cols = member->layer.k}};
    gemmux_status status = member->scheme->load(model, member, weights, error);
    if (!status && weights->tensor.k_order)
        status = gemmux_fail(error, GEMMUX_ERROR_INPUT,
                             "layer '%.120s': its columns are reordered although the config says "
                             "that none are; its expert cannot be stacked with the others",
                             member->layer.name);
    return status;
}

gemmux_status gemmux_load_stack(const gemmux_model *model, const gemmux_source *source,
                                gemmux_weights *weights, gemmux_error *error)
{
    const gemmux_layer *layer = &source->layer;
    gemmux_room_bytes bytes = {0};
    gemmux_room room;
    sizes s;
    if (!measure(layer, &s) || !gemmux_mul_size(s.codes, layer->experts, &bytes.codes) ||
        !gemmux_mul_size(s.scales, layer->experts, &bytes.scales) ||
        !gemmux_mul_size(s.zeros, layer->experts, &bytes.zeros))
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "layer '%.120s': its size overflows",
                           layer->name);
    bytes.globals = layer->format.two_level ? layer->experts * (int64_t)sizeof(float) : 0;
    bytes.bias = gemmux_bias_bytes(source);
    gemmux_status status = gemmux_make_room(bytes, weights, &room, error);
    for (int32_t i = 0; i < layer->experts && !status; i++) {
        gemmux_weights member;
        status = load_member(model, &source->members[i], &member, error);
        if (!status)
            copy_member(layer, &s, &member, &room, i);
        free(member.storage);
        gemmux_drop_pages(model, &source->members[i]);
    }
    weights->tensor.codes = room.codes;
    weights->tensor.scales = room.scales;
    weights->tensor.zeros = room.zeros;
    weights->tensor.globals = room.globals;
    weights->bias = room.bias;
    return status;
}
