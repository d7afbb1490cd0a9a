/* SPDX-License-Identifier: Apache-2.0 */
#include "forecast.h"

#include "error.h"
#include "wildcard.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void gemmux_kind_note(gemmux_kind *kind, const char *format, ...)
{
    size_t used = strlen(kind->note);
    if (used + 3 >= sizeof kind->note)
        return;
    if (used)
        used += (size_t)snprintf(kind->note + used, sizeof kind->note - used, "; ");
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(kind->note + used, sizeof kind->note - used, format, arguments);
    va_end(arguments);
}

/* Megatron's split: layers that write the residual stream are split along K (their input is what
 * the other devices hold), all others along N. */
static bool splits_k(const char *name)
{
    static const char *const words[] = {"o_proj",      "down_proj",  "attn_output", "ffn_down",
                                        "out_proj",    "wo.",        ".w2",         "dense_4h_to_h",
                                        "attn.c_proj", "mlp.c_proj", NULL};
    for (size_t i = 0; words[i]; i++)
        if (strstr(name, words[i]))
            return true;
    return false;
}

static bool ends_in(const char *name, const char *const *words)
{
    for (; *words; words++)
        if (gemmux_ends_with(name, *words))
            return true;
    return false;
}

/* Layers that every device keeps whole: routers, whose result all of them need, and the products
 * into a latent (MLA), which has no heads to share out. */
static bool is_kept_whole(const char *name)
{
    static const char *const words[] = {
        ".router",  "mlp.gate",           "moe.gate", "shared_expert_gate", "ffn_gate_inp",
        "q_a_proj", "kv_a_proj_with_mqa", "attn_q_a", "attn_kv_a_mqa",      NULL};
    return ends_in(name, words);
}

static bool is_head(const char *name)
{
    static const char *const words[] = {"lm_head", "lm_head (tied)", "embed_out", "output", NULL};
    return ends_in(name, words) && !strstr(name, "attn_output");
}

/* Numbers of attention that belong together along the split size: one head; 0 elsewhere. */
static int64_t head_of(const gemmux_model_facts *facts, const char *name)
{
    static const char *const words[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                        "self_attn.o_proj", "attn_q",           "attn_k",
                                        "attn_v",           "attn_output",      NULL};
    return ends_in(name, words) && facts->kv_heads ? facts->head_size : 0;
}

/* Queries, keys and values in one matrix: each device takes whole heads of each. */
static bool parts_fused_heads(const gemmux_model_facts *facts, int64_t tp, const char *name)
{
    static const char *const words[] = {"qkv_proj", "attn_qkv", NULL};
    return ends_in(name, words) && facts->kv_heads && (facts->heads % tp || facts->kv_heads % tp);
}

/* More devices than heads of keys and values: each device keeps one, several the same. */
static bool share_head(const gemmux_model_facts *facts, int64_t tp, gemmux_kind *kind,
                       gemmux_problem *p)
{
    static const char *const words[] = {"k_proj", "v_proj", "attn_k", "attn_v", NULL};
    int64_t heads = facts->kv_heads;
    if (!head_of(facts, kind->layer->name) || !ends_in(kind->layer->name, words) || heads >= tp ||
        tp % heads || p->n != heads * facts->head_size)
        return false;
    p->n = facts->head_size;
    gemmux_kind_note(kind,
                     "%" PRId64 " heads on %" PRId64 " devices: each is kept %" PRId64 " times",
                     heads, tp, tp / heads);
    return true;
}

/* Elements along the split size that share a scale or alternate, so that no cut may part them. */
static int64_t group_along(const gemmux_problem *p, bool along_k)
{
    if (along_k || p->w.scaling == GEMMUX_SCALING_BLOCK)
        return p->w.group;
    return p->epilogue & GEMMUX_EPILOGUE_SWIGLU ? 2 : 0;
}

bool gemmux_split(const gemmux_model_facts *facts, int64_t tp, gemmux_kind *kind, gemmux_problem *p)
{
    int64_t head = head_of(facts, kind->layer->name);
    char name[32];
    if (tp <= 1 || share_head(facts, tp, kind, p))
        return true;
    if (is_kept_whole(kind->layer->name)) {
        gemmux_kind_note(kind, "kept whole on every device");
        return true;
    }
    bool along_k = splits_k(kind->layer->name);
    int64_t *size = along_k ? &p->k : &p->n, group = group_along(p, along_k);
    if (*size % tp && is_head(kind->layer->name)) {
        *size = gemmux_divide_up(*size, tp);
        gemmux_kind_note(kind,
                         "tp=%" PRId64 " does not divide it: the last device holds fewer rows", tp);
        return true;
    }
    const char *cut =
        *size % tp                    ? "not whole"
        : group && *size / tp % group ? "inside a group of "
        : (head && *size / tp % head) || parts_fused_heads(facts, tp, kind->layer->name)
            ? "inside a head"
            : NULL;
    if (cut) {
        bool in_group = cut[strlen(cut) - 1] == ' ';
        gemmux_kind_note(kind, "tp=%" PRId64 " splits %c=%" PRId64 " into %.2f, %s%s%s", tp,
                         along_k ? 'K' : 'N', *size, (double)*size / (double)tp, cut,
                         in_group ? gemmux_format_name(p->w, name, sizeof name) : "",
                         in_group ? ": the scales must be padded with zeros or the layer kept whole"
                                  : "");
        return false;
    }
    if (*size % 16 == 0 && *size / tp % 16)
        gemmux_kind_note(
            kind, "tp=%" PRId64 " leaves %c=%" PRId64 ", no multiple of 16, which costs kernels",
            tp, along_k ? 'K' : 'N', *size / tp);
    *size /= tp;
    return true;
}
