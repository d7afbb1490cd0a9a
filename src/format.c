/* SPDX-License-Identifier: Apache-2.0
 *
 * Formats by name: one row of the table is one format, and every question about names and what
 * may be combined is answered from it.
 */
#include "format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

#define BIT(id)      (1u << (id))
#define FLOAT_SCALES (BIT(GEMMUX_CODE_F32) | BIT(GEMMUX_CODE_F16) | BIT(GEMMUX_CODE_BF16))
#define ANY_SCALING                                                                                \
    (BIT(GEMMUX_SCALING_TENSOR) | BIT(GEMMUX_SCALING_ROW) | BIT(GEMMUX_SCALING_GROUP) |            \
     BIT(GEMMUX_SCALING_BLOCK))
#define LINE_SCALING (ANY_SCALING & ~BIT(GEMMUX_SCALING_BLOCK))

typedef struct row {
    const char *name;
    gemmux_format format; /* with the defaults */
    uint8_t elements[2];  /* the other code it may hold, or 0 */
    uint16_t scalings;    /* sets of what may take the defaults' place */
    uint16_t scales;
    uint16_t zeros;
    bool group_fixed;
} row;

/* id, element, scaling, scale, zero, two_level, group */
static const row rows[GEMMUX_FORMAT_COUNT] = {
    [GEMMUX_F32] = {.name = "f32", .format = {GEMMUX_F32, GEMMUX_CODE_F32, 0, 0, 0, 0, 0}},
    [GEMMUX_F16] = {.name = "f16", .format = {GEMMUX_F16, GEMMUX_CODE_F16, 0, 0, 0, 0, 0}},
    [GEMMUX_BF16] = {.name = "bf16", .format = {GEMMUX_BF16, GEMMUX_CODE_BF16, 0, 0, 0, 0, 0}},
    [GEMMUX_E4M3] = {.name = "e4m3",
                     .format = {GEMMUX_E4M3, GEMMUX_CODE_E4M3, GEMMUX_SCALING_TENSOR,
                                GEMMUX_CODE_F32, 0, 0, 0},
                     .scalings = ANY_SCALING,
                     .scales = FLOAT_SCALES},
    [GEMMUX_E5M2] = {.name = "e5m2",
                     .format = {GEMMUX_E5M2, GEMMUX_CODE_E5M2, GEMMUX_SCALING_TENSOR,
                                GEMMUX_CODE_F32, 0, 0, 0},
                     .scalings = ANY_SCALING,
                     .scales = FLOAT_SCALES},
    [GEMMUX_MXFP8] = {.name = "mxfp8",
                      .format = {GEMMUX_MXFP8, GEMMUX_CODE_E4M3, GEMMUX_SCALING_GROUP,
                                 GEMMUX_CODE_UE8M0, 0, 0, 32},
                      .elements = {GEMMUX_CODE_E4M3, GEMMUX_CODE_E5M2},
                      .scalings = BIT(GEMMUX_SCALING_GROUP),
                      .scales = BIT(GEMMUX_CODE_UE8M0),
                      .group_fixed = true},
    [GEMMUX_MXFP4] = {.name = "mxfp4",
                      .format = {GEMMUX_MXFP4, GEMMUX_CODE_E2M1, GEMMUX_SCALING_GROUP,
                                 GEMMUX_CODE_UE8M0, 0, 0, 32},
                      .scalings = BIT(GEMMUX_SCALING_GROUP),
                      .scales = BIT(GEMMUX_CODE_UE8M0),
                      .group_fixed = true},
    [GEMMUX_NVFP4] = {.name = "nvfp4",
                      .format = {GEMMUX_NVFP4, GEMMUX_CODE_E2M1, GEMMUX_SCALING_GROUP,
                                 GEMMUX_CODE_UE4M3, 0, 1, 16},
                      .scalings = BIT(GEMMUX_SCALING_GROUP),
                      .scales = BIT(GEMMUX_CODE_UE4M3),
                      .group_fixed = true},
    [GEMMUX_INT8] = {.name = "int8",
                     .format = {GEMMUX_INT8, GEMMUX_CODE_INT8, GEMMUX_SCALING_ROW, GEMMUX_CODE_F32,
                                0, 0, 0},
                     .scalings = ANY_SCALING,
                     .scales = FLOAT_SCALES},
    [GEMMUX_INT4] = {.name = "int4",
                     .format = {GEMMUX_INT4, GEMMUX_CODE_INT4, GEMMUX_SCALING_GROUP,
                                GEMMUX_CODE_F16, 0, 0, 128},
                     .scalings = LINE_SCALING,
                     .scales = FLOAT_SCALES,
                     .zeros = BIT(GEMMUX_ZERO_POINT) | BIT(GEMMUX_ZERO_MIN)},
    [GEMMUX_NF4] = {.name = "nf4",
                    .format = {GEMMUX_NF4, GEMMUX_CODE_NF4, GEMMUX_SCALING_GROUP, GEMMUX_CODE_F32,
                               0, 0, 64},
                    .scalings = LINE_SCALING,
                    .scales = FLOAT_SCALES},
};

static const char *const code_names[GEMMUX_CODE_COUNT] = {
    [GEMMUX_CODE_F32] = "f32",     [GEMMUX_CODE_F16] = "f16",     [GEMMUX_CODE_BF16] = "bf16",
    [GEMMUX_CODE_E4M3] = "e4m3",   [GEMMUX_CODE_E5M2] = "e5m2",   [GEMMUX_CODE_E2M1] = "e2m1",
    [GEMMUX_CODE_INT8] = "int8",   [GEMMUX_CODE_INT4] = "int4",   [GEMMUX_CODE_NF4] = "nf4",
    [GEMMUX_CODE_UE8M0] = "ue8m0", [GEMMUX_CODE_UE4M3] = "ue4m3",
};

static const char *const zero_names[] = {
    [GEMMUX_ZERO_POINT] = "zero",
    [GEMMUX_ZERO_MIN] = "min",
};

static const row *row_of(uint8_t id)
{
    return id > 0 && id < GEMMUX_FORMAT_COUNT ? &rows[id] : NULL;
}

gemmux_format gemmux_format_of(gemmux_format_id id)
{
    const row *known = (unsigned)id < GEMMUX_FORMAT_COUNT ? row_of((uint8_t)id) : NULL;
    return known ? known->format : (gemmux_format){0};
}

const char *gemmux_format_id_name(gemmux_format_id id)
{
    const row *known = (unsigned)id < GEMMUX_FORMAT_COUNT ? row_of((uint8_t)id) : NULL;
    return known ? known->name : "none";
}

bool gemmux_format_equal(gemmux_format a, gemmux_format b)
{
    return a.id == b.id && a.element == b.element && a.scaling == b.scaling && a.scale == b.scale &&
           a.zero == b.zero && a.two_level == b.two_level && a.group == b.group;
}

bool gemmux_format_valid(gemmux_format format)
{
    const row *known = row_of(format.id);
    if (!known)
        return false;
    const gemmux_format *base = &known->format;
    if (format.element != base->element &&
        (!known->elements[1] || format.element != known->elements[1]))
        return false;
    if (format.two_level != base->two_level)
        return false;
    if (!known->scalings)
        return !format.scaling && !format.scale && !format.zero && !format.group;
    bool grouped = format.scaling == GEMMUX_SCALING_GROUP || format.scaling == GEMMUX_SCALING_BLOCK;
    return format.scaling <= GEMMUX_SCALING_BLOCK && (known->scalings & BIT(format.scaling)) &&
           format.scale < GEMMUX_CODE_COUNT && (known->scales & BIT(format.scale)) &&
           (!format.zero ||
            (format.zero <= GEMMUX_ZERO_MIN && (known->zeros & BIT(format.zero)))) &&
           grouped == (format.group > 0) && (!known->group_fixed || format.group == base->group);
}

/* ------------------------------------------------------------------------------------- parse -- */

/* What the tokens so far have said: each thing may be said once. */
typedef struct parse {
    const char *text;
    const row *known;
    gemmux_format format;
    bool element, scaling, scale, zero;
    char token[24];
    gemmux_error *error;
} parse;

static gemmux_status twice(parse *p, const char *what)
{
    return gemmux_fail(p->error, GEMMUX_ERROR_INPUT,
                       "format \"%.40s\": \"%s\" gives the %s a second time", p->text, p->token,
                       what);
}

static gemmux_status refuse(parse *p, const char *why)
{
    return gemmux_fail(p->error, GEMMUX_ERROR_INPUT, "format \"%.40s\": \"%s\" %s", p->text,
                       p->token, why);
}

/* 1 .. 65535 in plain digits; 0 when it is anything else. */
static uint16_t parse_group(const char *digits)
{
    long value = 0;
    if (digits[0] < '1' || digits[0] > '9')
        return 0;
    for (const char *c = digits; *c; c++) {
        if (*c < '0' || *c > '9')
            return 0;
        value = value * 10 + (*c - '0');
        if (value > UINT16_MAX)
            return 0;
    }
    return (uint16_t)value;
}

static gemmux_status take_scaling(parse *p, gemmux_scaling scaling, const char *digits)
{
    if (p->scaling)
        return twice(p, "scaling");
    if (!(p->known->scalings & BIT(scaling)))
        return refuse(p, p->known->scalings ? "is a scaling that this format does not have"
                                            : "is a scaling, and this format has no scales");
    uint16_t group = digits ? parse_group(digits) : 0;
    if (digits && !group)
        return refuse(p, "needs a group size of 1 to 65535");
    if (p->known->group_fixed && group != p->known->format.group)
        return refuse(p, "is not this format's group size, which is fixed");
    p->format.scaling = (uint8_t)scaling;
    p->format.group = group;
    p->scaling = true;
    return GEMMUX_OK;
}

static gemmux_status take_zero(parse *p, gemmux_zero zero)
{
    if (p->zero)
        return twice(p, "zero point");
    if (!(p->known->zeros & BIT(zero)))
        return refuse(p, "is a zero point, which only int4 may have");
    p->format.zero = (uint8_t)zero;
    p->zero = true;
    return GEMMUX_OK;
}

static gemmux_status take_code(parse *p, gemmux_code code)
{
    if (p->known->elements[1] && (code == p->known->elements[0] || code == p->known->elements[1])) {
        if (p->element)
            return twice(p, "element");
        p->format.element = (uint8_t)code;
        p->element = true;
        return GEMMUX_OK;
    }
    if (!(p->known->scales & BIT(code)))
        return refuse(p, p->known->scalings ? "is not a scale type of this format"
                                            : "is a scale type, and this format has no scales");
    if (p->scale)
        return twice(p, "scale type");
    p->format.scale = (uint8_t)code;
    p->scale = true;
    return GEMMUX_OK;
}

static gemmux_status take_token(parse *p)
{
    const char *token = p->token;
    if (!strcmp(token, "tensor"))
        return take_scaling(p, GEMMUX_SCALING_TENSOR, NULL);
    if (!strcmp(token, "row"))
        return take_scaling(p, GEMMUX_SCALING_ROW, NULL);
    if (!strncmp(token, "block", 5))
        return take_scaling(p, GEMMUX_SCALING_BLOCK, token + 5);
    if (token[0] == 'g')
        return take_scaling(p, GEMMUX_SCALING_GROUP, token + 1);
    for (int zero = GEMMUX_ZERO_POINT; zero <= GEMMUX_ZERO_MIN; zero++)
        if (!strcmp(token, zero_names[zero]))
            return take_zero(p, (gemmux_zero)zero);
    for (int code = 1; code < GEMMUX_CODE_COUNT; code++)
        if (!strcmp(token, code_names[code]))
            return take_code(p, (gemmux_code)code);
    return refuse(p, "is none of tensor, row, blockN, gN, zero, min or a scale type");
}

/* Copies the text up to the next colon into p->token and returns what follows it, or NULL. */
static const char *next_token(parse *p, const char *from)
{
    size_t length = strcspn(from, ":");
    size_t kept = length < sizeof p->token ? length : sizeof p->token - 1;
    memcpy(p->token, from, kept);
    p->token[kept] = 0;
    return from[length] ? from + length + 1 : NULL;
}

gemmux_status gemmux_format_parse(const char *text, gemmux_format *format, gemmux_error *error)
{
    if (!text || !format)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT, "gemmux_format_parse: %s is NULL",
                           text ? "format" : "text");
    parse p = {.text = text, .error = error};
    const char *rest = next_token(&p, text);
    for (int id = 1; id < GEMMUX_FORMAT_COUNT && !p.known; id++)
        if (!strcmp(p.token, rows[id].name))
            p.known = &rows[id];
    if (!p.known)
        return gemmux_fail(error, GEMMUX_ERROR_INPUT,
                           "format \"%.40s\": \"%s\" is none of f32, f16, bf16, e4m3, e5m2, "
                           "mxfp8, mxfp4, nvfp4, int8, int4, nf4",
                           text, p.token);
    p.format = p.known->format;
    while (rest) {
        rest = next_token(&p, rest);
        gemmux_status status = take_token(&p);
        if (status)
            return status;
    }
    *format = p.format;
    return GEMMUX_OK;
}

/* -------------------------------------------------------------------------------------- name -- */

const char *gemmux_format_name(gemmux_format format, char *buffer, size_t size)
{
    char scaling[16] = "";
    const row *known = row_of(format.id);
    if (!known || !gemmux_format_valid(format)) {
        snprintf(buffer, size, "%s", format.id ? "invalid" : "none");
        return buffer;
    }
    const gemmux_format *base = &known->format;
    if (format.scaling != base->scaling || format.group != base->group) {
        if (format.scaling == GEMMUX_SCALING_TENSOR)
            strcpy(scaling, ":tensor");
        else if (format.scaling == GEMMUX_SCALING_ROW)
            strcpy(scaling, ":row");
        else
            snprintf(scaling, sizeof scaling, ":%s%u",
                     format.scaling == GEMMUX_SCALING_BLOCK ? "block" : "g", format.group);
    }
    bool element = format.element != base->element;
    bool scale = format.scale != base->scale;
    snprintf(buffer, size, "%s%s%s%s%s%s%s%s", known->name, element ? ":" : "",
             element ? code_names[format.element] : "", scaling, format.zero ? ":" : "",
             format.zero ? zero_names[format.zero] : "", scale ? ":" : "",
             scale ? code_names[format.scale] : "");
    return buffer;
}
