/* SPDX-License-Identifier: Apache-2.0
 *
 * What Hugging Face's config.json says about a checkpoint: its architecture, and how its modules
 * were quantised. Separate because the tensors alone leave a few things open (group sizes when K
 * is not a multiple, GPTQ's two conventions for zero points, experts per token), and because a
 * config can be read where the tensors are not there.
 *
 * Where tensors and config disagree the tensors are believed: they are what will be multiplied.
 */
#ifndef GEMMUX_HF_CONFIG_H
#define GEMMUX_HF_CONFIG_H

#include "arena.h"
#include "gemmux.h"
#include "shape.h"

typedef enum gemmux_hf_method {
    GEMMUX_HF_NONE = 0, /* the config states no quantisation */
    GEMMUX_HF_GPTQ,
    GEMMUX_HF_AWQ,
    GEMMUX_HF_COMPRESSED_TENSORS,
    GEMMUX_HF_FP8, /* also fbgemm_fp8 */
    GEMMUX_HF_MODELOPT,
    GEMMUX_HF_BITSANDBYTES,
    GEMMUX_HF_MXFP4,
    GEMMUX_HF_OTHER /* a method that we do not know: `method_name` */
} gemmux_hf_method;

/* How one set of modules was quantised. */
typedef struct gemmux_hf_group {
    const char *const *targets; /* module names, "re:" expressions, or class names */
    int32_t target_count;
    int32_t bits;       /* 0: not stated */
    int32_t group_size; /* 0: not stated; -1: one scale for a whole row */
    bool everything;    /* no targets are stated because all modules are meant */
    bool is_float;
    int8_t symmetric; /* 1, 0, or -1 when not stated */
} gemmux_hf_group;

typedef struct gemmux_hf_config {
    const char *architecture; /* architectures[0], else model_type; NULL when not stated */
    const char *model_type;   /* "" when not stated */
    int64_t hidden_size;      /* 0: not stated */
    const char *method_name;
    const char *version; /* AWQ: "gemm", "gemv" ...; "" when not stated */
    const char *layout;  /* compressed-tensors' "format", modelopt's "quant_algo", bitsandbytes'
                            "nf4", "fp4" or "int8"; "" when not stated */
    gemmux_hf_group *groups;
    const char *const *ignored; /* modules left alone */
    gemmux_shape shape;
    gemmux_hf_method method;
    int32_t group_count;
    int32_t ignored_count;
    int32_t top_k;    /* experts per token; 0: not stated */
    int32_t block[2]; /* FP8 blocks, rows and columns; 0: not stated */
    int8_t tied;      /* tie_word_embeddings: 1, 0, or -1 when not stated */
    int8_t reordered; /* GPTQ's desc_act, compressed-tensors' actorder: 1, 0, -1 not stated */
    bool present;
    bool gptq_v2;      /* zero points are stored as they are, not less one */
    bool double_quant; /* bitsandbytes: scales are quantised too */
} gemmux_hf_config;

/* Reads config.json's text. `path` names it in errors. Strings go into the arena. */
gemmux_status gemmux_hf_config_parse(const char *text, size_t length, const char *path,
                                     gemmux_arena *arena, gemmux_hf_config *config,
                                     gemmux_error *error);
/* Older exporters keep the quantisation in a file of its own (hf_quant_config.json,
 * quantize_config.json, quant_config.json): reads it into a config that states none. */
gemmux_status gemmux_hf_quant_parse(const char *text, size_t length, const char *path,
                                    gemmux_hf_method method, gemmux_arena *arena,
                                    gemmux_hf_config *config, gemmux_error *error);
/* How a module was quantised by this config; NULL: not at all. */
const gemmux_hf_group *gemmux_hf_module(const gemmux_hf_config *config, const char *name,
                                        size_t length);

#endif
