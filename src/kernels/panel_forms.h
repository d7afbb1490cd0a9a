/* SPDX-License-Identifier: Apache-2.0
 *
 * What the levels over packing panel16 take: levels that multiply the same take the same, and
 * differ in the shares that they reach. One macro is one form without its shares. Separate from
 * panel_run.h because a descriptor states its forms where its level is not built, too.
 */
#ifndef GEMMUX_PANEL_FORMS_H
#define GEMMUX_PANEL_FORMS_H

#include "kernel.h"
#include "packings/panel16.h"

/* f32 products. */
#define GEMMUX_PANEL_F32_NATIVE                                                                    \
    .x = GEMMUX_BIT(GEMMUX_F32), .w = GEMMUX_BIT(GEMMUX_F32), .y = GEMMUX_FLOATS,                  \
    .path = GEMMUX_PATH_NATIVE, .math = GEMMUX_MATH_F32

#define GEMMUX_PANEL_F32_UPCAST                                                                    \
    .x = GEMMUX_ALL_FORMATS, .w = GEMMUX_ALL_FORMATS, .y = GEMMUX_FLOATS,                          \
    .w_group_multiple = GEMMUX_PANEL_GROUP, .path = GEMMUX_PATH_UPCAST, .math = GEMMUX_MATH_F32

/* bf16 products: instructions that count subnormals as zero. */
#define GEMMUX_PANEL_BF16_NATIVE                                                                   \
    .x = GEMMUX_BIT(GEMMUX_BF16), .w = GEMMUX_BIT(GEMMUX_BF16), .y = GEMMUX_FLOATS,                \
    .path = GEMMUX_PATH_NATIVE, .math = GEMMUX_MATH_BF16,                                          \
    .liberties = GEMMUX_LIBERTY_FLUSH_SUBNORMALS

/* Weights whose codes bf16 holds. */
#define GEMMUX_PANEL_BF16_CODES                                                                    \
    (GEMMUX_BIT(GEMMUX_BF16) | GEMMUX_BIT(GEMMUX_E4M3) | GEMMUX_BIT(GEMMUX_E5M2) |                 \
     GEMMUX_BIT(GEMMUX_MXFP8) | GEMMUX_BIT(GEMMUX_MXFP4) | GEMMUX_BIT(GEMMUX_NVFP4) |              \
     GEMMUX_BIT(GEMMUX_INT8) | GEMMUX_BIT(GEMMUX_INT4))

#define GEMMUX_PANEL_BF16_UPCAST                                                                   \
    .x = GEMMUX_BIT(GEMMUX_BF16), .w = GEMMUX_PANEL_BF16_CODES, .y = GEMMUX_FLOATS,                \
    .w_group_multiple = GEMMUX_PANEL_GROUP, .path = GEMMUX_PATH_UPCAST, .math = GEMMUX_MATH_BF16,  \
    .liberties = GEMMUX_LIBERTY_FLUSH_SUBNORMALS

#define GEMMUX_PANEL_BF16_ROUNDED_W                                                                \
    .x = GEMMUX_BIT(GEMMUX_BF16), .w = GEMMUX_BIT(GEMMUX_NF4), .y = GEMMUX_FLOATS,                 \
    .w_group_multiple = GEMMUX_PANEL_GROUP, .path = GEMMUX_PATH_UPCAST, .math = GEMMUX_MATH_BF16,  \
    .liberties = GEMMUX_LIBERTY_FLUSH_SUBNORMALS | GEMMUX_LIBERTY_ROUNDED_W

#define GEMMUX_PANEL_BF16_ROUNDED_X                                                                \
    .x = GEMMUX_BIT(GEMMUX_F32) | GEMMUX_BIT(GEMMUX_F16), .w = GEMMUX_PANEL_BF16_CODES,            \
    .y = GEMMUX_FLOATS, .w_group_multiple = GEMMUX_PANEL_GROUP, .path = GEMMUX_PATH_UPCAST,        \
    .math = GEMMUX_MATH_BF16,                                                                      \
    .liberties = GEMMUX_LIBERTY_FLUSH_SUBNORMALS | GEMMUX_LIBERTY_ROUNDED_X

/* int8 products: int8 x as it is or, QUANTISED, floats rounded to 255 steps a row. */
#define GEMMUX_PANEL_INT8_X                                                                        \
    .x = GEMMUX_BIT(GEMMUX_INT8),                                                                  \
    .x_scaling = GEMMUX_BIT(GEMMUX_SCALING_TENSOR) | GEMMUX_BIT(GEMMUX_SCALING_ROW),               \
    .liberties = GEMMUX_LIBERTY_FLUSH_SUBNORMALS

#define GEMMUX_PANEL_QUANTISED_X                                                                   \
    .x = GEMMUX_FLOATS, .liberties = GEMMUX_LIBERTY_QUANTISED_X | GEMMUX_LIBERTY_FLUSH_SUBNORMALS

/* int8, or smaller integers (e2m1 when doubled). */
#define GEMMUX_PANEL_INT8_W                                                                        \
    .w = GEMMUX_BIT(GEMMUX_INT8), .y = GEMMUX_FLOATS, .w_group_multiple = GEMMUX_PANEL_GROUP,      \
    .path = GEMMUX_PATH_NATIVE, .math = GEMMUX_MATH_INT8

#define GEMMUX_PANEL_INT4_W                                                                        \
    .w = GEMMUX_BIT(GEMMUX_INT4) | GEMMUX_BIT(GEMMUX_MXFP4) | GEMMUX_BIT(GEMMUX_NVFP4),            \
    .y = GEMMUX_FLOATS, .w_group_multiple = GEMMUX_PANEL_GROUP, .path = GEMMUX_PATH_UPCAST,        \
    .math = GEMMUX_MATH_INT8

#define GEMMUX_PANEL_INT8_NATIVE      GEMMUX_PANEL_INT8_X, GEMMUX_PANEL_INT8_W
#define GEMMUX_PANEL_INT8_UPCAST      GEMMUX_PANEL_INT8_X, GEMMUX_PANEL_INT4_W
#define GEMMUX_PANEL_QUANTISED_NATIVE GEMMUX_PANEL_QUANTISED_X, GEMMUX_PANEL_INT8_W
#define GEMMUX_PANEL_QUANTISED_UPCAST GEMMUX_PANEL_QUANTISED_X, GEMMUX_PANEL_INT4_W

#endif
