/* SPDX-License-Identifier: Apache-2.0
 *
 * Where things stand in packing "sm80_fragments", for the host that packs and the kernels that
 * read. The layout is that of mma.sync.m16n8k16's A operand with w's rows as its 16 rows, so that
 * a lane's 16-byte loads are its fragments and a warp's are contiguous.
 *
 * A row block is 16 rows of w; fragment row r < 8 is row 2r of the block, fragment row r + 8 is
 * row 2r + 1, so that the accumulators of one lane hold gate and up of SwiGLU, and two neighbours
 * of y. A unit is a row block by 64 columns: two halves b of 32 columns. Lane 4g + l holds, of
 * rows 2g and 2g + 1, columns 32b + 8l .. 32b + 8l + 7: the permutation of K that makes its part
 * of x one 16-byte load too (both operands take it, so sums do not change).
 *
 *   4 bits   unit 512 bytes: lane x [b][row] words
 *   8 bits   unit 1024 bytes: [b] x lane x [row] 2 words
 *   16 bits  unit 2048 bytes: [b][row] x lane x 4 words
 *
 * Within words (k is the column within the lane's eight; low half / high half of the word):
 *   E2M1   of four words made of this one, w, rotated w right by 4, and rotated w right by 6, xor w
 *          shifted left by 6 or by 4, word j has columns 2j / 2j+1 as s@15 eem@8..6 of each half:
 *          one mask more a pair gives bf16 bits that are 2^-126 times the value. Of 16 bits, no
 *          four shifts alone bring all into these places; four with two of xor do
 *   INT4   column 2j at bit 4j, column 2j+1 at bit 16 + 4j
 *   NF4    column j at bit 4j
 *   8 bits word i: columns 4i, 4i+2, 4i+1, 4i+3 from the lowest byte up
 *   16 bits word i: columns 2i, 2i+1
 *
 * Scales stand in the order in which a lane reads them. With groups of 16 or 32:
 * [row block][unit][g][16s of a half (2 for groups of 16, else 1)][b][row]; with longer groups:
 * [row block][group][g][row]; with square blocks: [row block][group]. Zero points likewise.
 * factors: one f32 a row, what multiplies its finished sum: second-level scales, and for E4M3 and
 * INT8 the scale of a row or tensor. Other codes have that one as a group as long as the row.
 * flags: one u32 a row block: bits 0..15, fragment row r has a NaN code (E4M3), so that all of its
 * y is NaN; bit 16: some row's ue8m0 scales span more than bf16 can hold beside the codes; bit 17:
 * some row has a shift; bit 18: some row's scales, none of them ue8m0, let a code be more than
 * f16's 65504.
 * shifts: one byte a row, what must be taken from its ue8m0 scales, and given back to its sums, for
 * the largest to fit bf16 beside the codes' own factor; 0 for every ordinary row.
 */
#ifndef GEMMUX_SM80_FRAGMENTS_H
#define GEMMUX_SM80_FRAGMENTS_H

#include "gemmux.h"

enum {
    GEMMUX_SM80_ROWS = 16,
    GEMMUX_SM80_UNIT_K = 64,
    GEMMUX_SM80_SPAN_TOO_WIDE = 1 << 16,
    GEMMUX_SM80_SHIFTED = 1 << 17,
    GEMMUX_SM80_BEYOND_F16 = 1 << 18,
};

typedef struct gemmux_sm80_layout {
    int64_t row_blocks, units, groups;
    int64_t unit_bytes;
    int64_t block_scales; /* scales of one row block */
    int32_t scale_bytes, zero_bytes;
    int32_t fine;                                                           /* groups of 16 or 32 */
    int64_t codes_at, scales_at, zeros_at, factors_at, flags_at, shifts_at; /* within a matrix */
    int64_t matrix_bytes;
} gemmux_sm80_layout;

/* False on overflow. */
bool gemmux_sm80_layout_of(gemmux_format format, int64_t rows, int64_t cols,
                           gemmux_sm80_layout *layout);

#endif
