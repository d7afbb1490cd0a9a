/* SPDX-License-Identifier: Apache-2.0
 *
 * "panel16": 16 rows of w side by side, so that one 512-bit register holds the same step along K
 * of 16 outputs. Separate from panel16.c because the CPU kernels compute addresses from it.
 *
 * data: [count] f32 factors of two-level formats, [count] u32 flags, then the matrices. A matrix
 * is a row of strips, one for each 16 rows of w; a strip is read from one end to the other:
 *
 *   scales  [groups][16]   as stored, one a row: TENSOR, ROW and BLOCK scales are repeated
 *   zeros   [groups][16]   as stored
 *   codes   [k / per lane][16] lanes of 32 bits, each holding 1, 2, 4 or 8 codes of one row
 *
 * Each part starts on 64 bytes. k is cols rounded up to 32, groups cover k; what lies beyond rows
 * or cols is zero bits. Position p of a lane (counted from its low bits) holds the code whose
 * index is p with its bits reversed: with 8 codes, nibbles 0 .. 7 hold k + 0 4 2 6 1 5 3 7. So a
 * shift and a look-up on 16-bit words give neighbours (k, k + 1) in one lane, as the bf16 dot
 * product wants, and masking nibbles gives bytes in one fixed order for the int8 dot product. f16
 * alone is kept as [k][16] halves, which is what the conversion instructions read.
 */
#ifndef GEMMUX_PANEL16_H
#define GEMMUX_PANEL16_H

#include "packing.h"

enum {
    GEMMUX_STRIP = 16,       /* rows of w in a strip */
    GEMMUX_PANEL_K = 32,     /* k is padded to a multiple of this */
    GEMMUX_PANEL_GROUP = 16, /* scale groups must be a multiple of this */
};

/* What pack saw in a matrix, so that kernels need not look for it in every product. */
enum {
    GEMMUX_PANEL_NONFINITE = 1,  /* an e4m3 or e5m2 code that is infinite or NaN */
    GEMMUX_PANEL_WIDE_SCALE = 2, /* a ue8m0 scale outside [17, 238]: code x scale may leave the
                                    range of bf16's normal numbers */
};

typedef struct gemmux_panel {
    gemmux_format format;
    int64_t rows, cols;
    int32_t code_bits, per_lane; /* per_lane codes in 32 bits; f16: 2 */
    int64_t k;                   /* padded */
    int64_t group, groups;       /* k that share a scale; 0 groups: no scales */
    int32_t scale_bytes, zero_bytes;
    int64_t zeros_at, codes_at, strip_bytes; /* inside a strip; scales are at 0 */
    int64_t strips, matrix_bytes;
    int64_t flags_at, matrices_at; /* inside data */
    int64_t bytes;
} gemmux_panel;

/* The layout of count matrices; false when a size overflows. */
bool gemmux_panel_describe(gemmux_format format, int64_t count, int64_t rows, int64_t cols,
                           gemmux_panel *panel);
/* The first byte of one strip. */
static inline const uint8_t *gemmux_panel_strip(const gemmux_panel *panel,
                                                const gemmux_packed *packed, int64_t matrix,
                                                int64_t strip)
{
    return (const uint8_t *)packed->data + panel->matrices_at + matrix * panel->matrix_bytes +
           strip * panel->strip_bytes;
}
uint32_t gemmux_panel_flags(const gemmux_panel *panel, const gemmux_packed *packed, int64_t matrix);

extern const gemmux_packing gemmux_packing_panel16;

#endif
