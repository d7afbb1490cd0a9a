/* SPDX-License-Identifier: Apache-2.0
 *
 * A scheme is one way in which a checkpoint stores the weights of a linear: which tensors belong
 * together and how they become gemmux's plain layout. Separate from containers (which know bytes)
 * and from layers.c (which knows names). One file a scheme; scheme_list.c is the table.
 */
#ifndef GEMMUX_SCHEME_H
#define GEMMUX_SCHEME_H

#include "catalog.h"
#include "hf_config.h"

typedef struct gemmux_scheme gemmux_scheme;

/* The tensors of one layer. */
typedef enum gemmux_part {
    GEMMUX_PART_WEIGHT,
    GEMMUX_PART_SCALE,
    GEMMUX_PART_GLOBAL, /* one f32 for the whole matrix */
    GEMMUX_PART_ZERO,
    GEMMUX_PART_ORDER, /* g_idx: the group of each column */
    GEMMUX_PART_BIAS,
    GEMMUX_PART_SHAPE,        /* compressed-tensors: weight_shape */
    GEMMUX_PART_STATE,        /* bitsandbytes: quant_state as JSON */
    GEMMUX_PART_MAP,          /* bitsandbytes: quant_map */
    GEMMUX_PART_NESTED_SCALE, /* bitsandbytes: nested_absmax */
    GEMMUX_PART_NESTED_MAP,   /* bitsandbytes: nested_quant_map */
    GEMMUX_PART_COUNT
} gemmux_part;

/* A layer and where its bytes are. */
typedef struct gemmux_source {
    gemmux_layer layer;
    const gemmux_scheme *scheme;
    int32_t part[GEMMUX_PART_COUNT];     /* index into the catalog, or -1 */
    int32_t variant;                     /* the scheme's own */
    size_t stem_length;                  /* of the weight's name: the module */
    const char *refusal;                 /* why it cannot be decoded; then the format's id is 0 */
    const struct gemmux_source *members; /* one source an expert, stacked when loaded */
} gemmux_source;

struct gemmux_model {
    gemmux_catalog catalog;
    gemmux_hf_config config;
    bool is_gguf;
    const char *name; /* architecture, or NULL */
    bool headless;    /* GGUF: an encoder, which has no output head to tie */
    int32_t top_k;    /* experts per token; 0 when not stated */
    gemmux_shape shape;
    const char *origin; /* "safetensors", "gguf", "config", "built-in" */
    const char *note;   /* what was derived, left out or does not agree; or NULL */
    gemmux_source *sources;
    int32_t source_count;
};

struct gemmux_scheme {
    const char *suffix; /* of the name of the tensor that makes a layer */
    /* Does this tensor, whose name ends in the suffix, follow this scheme? */
    bool (*claims)(const gemmux_model *model, const gemmux_stored *weight, size_t stem_length);
    /* Fills layer (scheme, format, n, k, experts, epilogue) and parts from headers alone; name,
     * group and stored_bytes are the caller's. Contradictions are GEMMUX_ERROR_INPUT; what is
     * sound but cannot be decoded is refused with gemmux_refuse. */
    gemmux_status (*read)(gemmux_model *model, gemmux_source *source, gemmux_error *error);
    /* Decodes into empty weights; on failure the caller frees them. */
    gemmux_status (*load)(const gemmux_model *model, const gemmux_source *source,
                          gemmux_weights *weights, gemmux_error *error);
};

/* The order is the order in which claims are asked; ends with NULL. */
extern const gemmux_scheme *const gemmux_schemes[];

/* ------------------------------------------------------------------- for the schemes themselves */

const gemmux_stored *gemmux_part_of(const gemmux_model *model, const gemmux_source *source,
                                    gemmux_part part);
/* Looks for module + suffix and notes it as a part; NULL when it is not there. */
const gemmux_stored *gemmux_find_part(const gemmux_model *model, gemmux_source *source,
                                      gemmux_part part, const char *suffix);
/* Is there a tensor called like the module of `weight` with this suffix? */
const gemmux_stored *gemmux_sibling(const gemmux_model *model, const gemmux_stored *weight,
                                    size_t stem_length, const char *suffix);
/* module + ".bias" (or `suffix`), of shape [n] or [experts, n], becomes EPILOGUE_BIAS. */
gemmux_status gemmux_find_bias(const gemmux_model *model, gemmux_source *source, const char *suffix,
                               gemmux_error *error);
/* GEMMUX_ERROR_INPUT about one tensor. */
gemmux_status gemmux_bad(const gemmux_model *model, const gemmux_stored *tensor,
                         gemmux_error *error, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* GEMMUX_ERROR_INPUT unless the tensor has this type and shape. */
gemmux_status gemmux_expect(const gemmux_model *model, const gemmux_stored *tensor,
                            gemmux_dtype dtype, int rank, const int64_t *shape,
                            gemmux_error *error);
/* The layer is listed, and loading it fails with this text. GEMMUX_OK, or out of memory. */
gemmux_status gemmux_refuse(gemmux_model *model, gemmux_source *source, gemmux_error *error,
                            const char *format, ...) __attribute__((format(printf, 4, 5)));
/* layer.scheme from printf. */
gemmux_status gemmux_set_scheme(gemmux_model *model, gemmux_source *source, gemmux_error *error,
                                const char *format, ...) __attribute__((format(printf, 4, 5)));

/* The format's default with another scaling. */
gemmux_format gemmux_make_format(gemmux_format_id id, gemmux_scaling scaling, gemmux_code scale,
                                 gemmux_zero zero, int32_t group);
/* The group size that `groups` scales along k columns mean: `hint` (a config's) where it fits,
 * else k / groups, else the one power of two that fits; 0 when none does, -1 for a whole row. */
int32_t gemmux_group_size(int64_t k, int64_t groups, int32_t hint);
gemmux_code gemmux_code_of_float(gemmux_dtype dtype); /* F32, F16, BF16, else NONE */
/* The format of plain numbers of one of these types. */
gemmux_format gemmux_format_of_float(gemmux_dtype dtype);

/* Storage of decoded weights: one block, each pointer 64-byte aligned, NULL where 0 bytes. */
typedef struct gemmux_room {
    uint8_t *codes, *scales, *zeros;
    float *globals, *bias;
    int32_t *k_order;
} gemmux_room;

typedef struct gemmux_room_bytes {
    int64_t codes, scales, zeros, globals, bias, k_order;
} gemmux_room_bytes;

gemmux_status gemmux_make_room(gemmux_room_bytes bytes, gemmux_weights *weights, gemmux_room *room,
                               gemmux_error *error);
/* Bytes that the layer's bias needs in f32: 0 without one. */
int64_t gemmux_bias_bytes(const gemmux_source *source);
/* Converts the bias into room->bias and sets weights->bias; nothing without one. */
gemmux_status gemmux_load_bias(const gemmux_model *model, const gemmux_source *source,
                               const gemmux_room *room, gemmux_weights *weights,
                               gemmux_error *error);
/* f32, f16, bf16, f64 (rounded) or e8m0 numbers as f32. */
void gemmux_to_f32(gemmux_dtype dtype, const uint8_t *from, int64_t count, float *to);
/* NaN and infinity are GEMMUX_ERROR_INPUT, naming the tensor they came from and the index; so is a
 * negative number unless `negative`. */
gemmux_status gemmux_check_scales(const gemmux_model *model, const gemmux_stored *tensor,
                                  gemmux_code code, const void *scales, int64_t count,
                                  bool negative, gemmux_error *error);
/* Can the file's bytes be used where they are? */
bool gemmux_is_aligned(const gemmux_stored *tensor, size_t element);
/* One number: no dimensions, or all of them 1. */
bool gemmux_is_scalar(const gemmux_stored *tensor);
/* [count][k][n] to [count][n][k], elements of `size` bytes. */
void gemmux_turn(const uint8_t *from, uint8_t *to, int64_t count, int64_t n, int64_t k,
                 size_t size);
/* The config's words on the source's module; NULL: none. */
const gemmux_hf_group *gemmux_hint(const gemmux_model *model, const gemmux_source *source);

/* scheme_plain.c: a weight of plain numbers is a view of the file where it is aligned, else a copy;
 * `turned`, from [k][n], it is always copied. */
gemmux_status gemmux_load_floats(const gemmux_model *model, const gemmux_source *source,
                                 bool turned, gemmux_weights *weights, gemmux_error *error);

/* columns.c: GPTQ's g_idx. From the group of each column, fills k_order so that sorted columns lie
 * in groups of `group`; *plain is true, and k_order untouched, when they do already. */
gemmux_status gemmux_order_columns(const gemmux_model *model, const gemmux_stored *g_idx, int64_t k,
                                   int64_t groups, int32_t group, int32_t *k_order, bool *plain,
                                   gemmux_error *error);

/* Puts stored column k_order[j] of every dense row at place j. */
gemmux_status gemmux_permute_codes(uint8_t *codes, int64_t rows, int64_t k, gemmux_code code,
                                   const int32_t *k_order, gemmux_error *error);

/* layers.c: fills sources from the catalog. */
gemmux_status gemmux_find_layers(gemmux_model *model, gemmux_error *error);
/* experts.c: turns runs of equal per-expert linears into one stacked layer each. */
gemmux_status gemmux_stack_experts(gemmux_model *model, gemmux_error *error);
/* Loads the members and puts them one after the other. */
gemmux_status gemmux_load_stack(const gemmux_model *model, const gemmux_source *source,
                                gemmux_weights *weights, gemmux_error *error);

/* Tells the system that the file's pages of this source are not needed for now. */
void gemmux_drop_pages(const gemmux_model *model, const gemmux_source *source);

/* model.c: config.json, and the older files beside it, into model->config. */
gemmux_status gemmux_read_config(gemmux_model *model, const char *path, gemmux_error *error);
/* headers.c: a config, or an index whose files need not be there. */
gemmux_status gemmux_open_json(gemmux_model *model, const char *path, gemmux_error *error);
/* The text of a built-in model's config.json; NULL: none is called so. */
const char *gemmux_builtin_config(const char *name);
/* Tensors from model->config, whose file is called `path`. */
gemmux_status gemmux_add_outline(gemmux_model *model, const char *path, gemmux_error *error);

/* model.c, for tests and fuzzing: a model from bytes that outlive it; config may be NULL. */
gemmux_status gemmux_model_from_memory(const char *name, const void *data, size_t size,
                                       const char *config, size_t config_size,
                                       gemmux_model **result, gemmux_error *error);

/* Likewise, from a config.json alone. */
gemmux_status gemmux_model_from_config(const char *name, const char *config, size_t size,
                                       gemmux_model **result, gemmux_error *error);

#endif
