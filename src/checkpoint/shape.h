/* SPDX-License-Identifier: Apache-2.0
 *
 * The sizes that a config.json or a GGUF header states: blocks, heads, experts, windows. Separate
 * from hf_config.h, which knows how modules were quantised, because both containers fill it and
 * because everything here must be doubted: the numbers come from files.
 */
#ifndef GEMMUX_SHAPE_H
#define GEMMUX_SHAPE_H

#include "gemmux.h"

#include <jansson.h>

/* How modules of a model are called and which of them there are. */
typedef enum gemmux_moe_names {
    GEMMUX_MOE_NONE = 0,
    GEMMUX_MOE_MIXTRAL,  /* block_sparse_moe.experts.0.w1 */
    GEMMUX_MOE_QWEN,     /* mlp.experts.0.gate_proj, mlp.shared_expert */
    GEMMUX_MOE_DEEPSEEK, /* mlp.experts.0.gate_proj, mlp.shared_experts */
    GEMMUX_MOE_GPTOSS    /* mlp.experts.gate_up_proj, all experts in one tensor */
} gemmux_moe_names;

/* One line of what is known about an architecture; shape.c holds the table. */
typedef struct gemmux_family {
    const char *type;      /* model_type of config.json, or general.architecture of GGUF */
    uint8_t moe;           /* gemmux_moe_names */
    uint8_t norms;         /* vectors of `hidden` in a block */
    uint8_t window_every;  /* 0: all blocks see the window where one is stated; n: every n-th
                              block sees everything */
    bool qkv_bias, o_bias; /* unless the config says otherwise */
    bool head_norms;       /* q_norm, k_norm of one head's size */
    bool wide_norms;       /* q_norm, k_norm as wide as the projection */
    bool fused;            /* qkv_proj, gate_up_proj */
    bool sinks;            /* one number a head */
    bool latent;           /* keys and values compressed into one (MLA) */
    bool tied;             /* output head is the input table unless the config says otherwise */
    bool gguf;             /* a name of GGUF: no outline is made from it */
    bool window_if_used;   /* the window holds only where use_sliding_window says so */
} gemmux_family;

/* Zero where nothing is stated. */
typedef struct gemmux_shape {
    const gemmux_family *family; /* NULL: a type that we do not know */
    int64_t hidden, vocab, max_context;
    int64_t inner, moe_inner, shared_inner; /* width between the products of a block's MLP */
    int64_t window;
    int32_t blocks;
    int32_t cached_blocks; /* blocks with attention, where not all have it; else blocks */
    int32_t window_blocks;
    int32_t heads, kv_heads, head, v_head; /* v_head: where it differs */
    int32_t experts, shared_experts;
    int32_t dense_blocks; /* the first blocks, without experts */
    int32_t moe_every;    /* of the others, every n-th has experts */
    int32_t q_rank, kv_rank, qk_nope, qk_rope;
    int32_t extra_blocks;              /* multi-token prediction: stored, not run */
    int8_t qkv_bias, o_bias, mlp_bias; /* 1, 0, or -1 when not stated */
    int8_t router_fix;                 /* DeepSeek-V3's e_score_correction_bias */
    uint8_t dtype;                     /* gemmux_dtype; 0: not stated */
    bool multimodal;                   /* other parts than the language model exist */
    bool irregular;                    /* blocks differ in ways that we do not follow */
    const char *bad; /* a key whose value makes no sense and was not taken; or NULL */
} gemmux_shape;

const gemmux_family *gemmux_family_find(const char *type);
/* Reads config.json's root, and its language part where it has one. */
void gemmux_shape_parse(const json_t *root, const json_t *part, gemmux_shape *shape);
/* After all is read: what follows from the rest (head sizes, blocks with a window). */
void gemmux_shape_finish(gemmux_shape *shape);

#endif
