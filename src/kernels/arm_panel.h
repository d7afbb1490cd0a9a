/* SPDX-License-Identifier: Apache-2.0
 *
 * Streaming, decoding and the tile of every NEON level, written once for f32, bf16 and int8 lanes.
 * Included by a level's file after it has opened its instruction set and defined
 *
 *     LEVEL_X                      its gemmux_panel_x
 *     LEVEL_WIDE_NF4               NF4 is exact (f32)
 *     lane_sum                     four sums: float32x4_t, or int32x4_t with INT8
 *     zero_sum()
 *     accumulate(sum, w, x, i)     four lanes of w times lane i of x, added to sum; i is constant
 *     as_f32(sum, points, x_sum)   the sums as f32; INT8: less points times the sum of x
 *     decode_four(code, zero, tables, side, block, part, quarter, w)
 *                                  lanes 4 part .. + 3 of a block of BLOCK_K k as operands, with
 *                                  zero points applied where points are not subtracted later
 *     scale_lanes(w, scale)        an operand times its rows' scales, where that is exact
 *     LEVEL_TILE_ROWS              of the tile: by lane, or by pairs with LEVEL_MMLA and
 *     mmla(sum, x, w)              2 x 2 sums of two rows of x and two of w, two lanes each
 *     LEVEL_SUM, LEVEL_QUANTISE    the level's sum and quantise, or NULL
 *     LEVEL_FOR_CODE               GEMMUX_FOR_CODE or its like: the codes it takes
 *     widen, points                see gemmux_panel_level
 *
 * and told gcc not to schedule before it allocates registers: gcc 12 would begin all decodes of an
 * unrolled block at once and spill half of them.
 */
#ifndef GEMMUX_ARM_PANEL_H
#define GEMMUX_ARM_PANEL_H

#include "arm_decode.h"

enum {
    K_PER_LANE = LEVEL_X == GEMMUX_PANEL_F32    ? 1
                 : LEVEL_X == GEMMUX_PANEL_BF16 ? 2
                                                : 4,
    PARTS = BLOCK_K / K_PER_LANE / 4, /* of a block, four lanes each */
    TILE_STRIPS = 4,
    LANE_TILE_ROWS = 5, /* times a strip: 20 sums, 4 registers of w, 5 of x */
};

/* What f32 operands take while they are decoded needs no second step. */
#define TAKES_MIN_LATER (LEVEL_X != GEMMUX_PANEL_F32)

GEMMUX_INLINE int32x4_t x_sum_of(const void *const *sums, int r, int64_t segment)
{
    int64_t at = LEVEL_X == GEMMUX_PANEL_INT8 ? 2 * segment : segment; /* gemmux_x_segment */
    return vreinterpretq_s32_u32(vld1q_dup_u32((const uint32_t *)sums[r] + at));
}

/* INT8: times the scale of x. */
GEMMUX_INLINE float32x4_t times_x_scale(float32x4_t value, const void *const *sums, int r,
                                        int64_t segment)
{
    if (LEVEL_X != GEMMUX_PANEL_INT8)
        return value;
    return vmulq_f32(value, vld1q_dup_f32(&((const gemmux_x_segment *)sums[r] + segment)->scale));
}

GEMMUX_INLINE float32x4_t x_sum_as_f32(int32x4_t x_sum)
{
    return LEVEL_X == GEMMUX_PANEL_INT8 ? vcvtq_f32_s32(x_sum) : vreinterpretq_f32_s32(x_sum);
}

/* ----------------------------------------------------------------------------------- streaming --
 */

/* `rows` rows of x times `quarters` quarters of a strip from `first` on, `chains` sums each, so
 * that the latency of one product is filled with others. */
GEMMUX_INLINE void stream_part(const gemmux_strip *s, const int code, const int zero,
                               const tables *t, const int rows, const int quarters,
                               const int chains, int first, const void *const *x,
                               const void *const *sums_of_x, float *out)
{
    const int block_bytes = BLOCK_K / gemmux_lane_codes(code) * 64;
    const bool scaled = s->scales && (TAKES_MIN_LATER || zero != GEMMUX_ZERO_MIN);
    const bool wants_x_sum = (TAKES_MIN_LATER && zero == GEMMUX_ZERO_MIN) ||
                             (LEVEL_X == GEMMUX_PANEL_INT8 && zero == GEMMUX_ZERO_POINT);
    int64_t segment = 0;
    for (int64_t k = 0; k < s->k; segment++) {
        int64_t last = k + s->segment < s->k ? k + s->segment : s->k;
        side sides[QUARTERS];
        lane_sum sums[GEMMUX_STREAM_ROWS * QUARTERS * 2];
        GEMMUX_UNROLL
        for (int q = 0; q < quarters; q++)
            sides[q] = open_side(s, zero, segment, first + q);
        GEMMUX_UNROLL
        for (int i = 0; i < rows * quarters * chains; i++)
            sums[i] = zero_sum();
        for (; k < last; k += BLOCK_K) {
            const uint8_t *block = s->codes + k / BLOCK_K * block_bytes;
            GEMMUX_UNROLL
            for (int part = 0; part < PARTS; part++) {
                uint32x4_t xs[GEMMUX_STREAM_ROWS];
                GEMMUX_UNROLL
                for (int r = 0; r < rows; r++)
                    xs[r] = load_lanes((const char *)x[r] + k * 4 / K_PER_LANE + part * 16);
                GEMMUX_UNROLL
                for (int q = 0; q < quarters; q++) {
                    uint32x4_t w[4];
                    decode_four(code, zero, t, &sides[q], block, part, first + q, w);
                    GEMMUX_UNROLL
                    for (int i = 0; i < 4; i++) {
                        GEMMUX_UNROLL
                        for (int r = 0; r < rows; r++) {
                            const int at = (r * quarters + q) * chains + i % chains;
                            sums[at] = accumulate(sums[at], w[i], xs[r], i);
                        }
                    }
                }
            }
        }
        GEMMUX_UNROLL
        for (int r = 0; r < rows; r++) {
            GEMMUX_UNROLL
            for (int q = 0; q < quarters; q++) {
                const int at = (r * quarters + q) * chains;
                float *to = out + r * GEMMUX_STRIP + (first + q) * 4;
                int32x4_t x_sum = vdupq_n_s32(0);
                if (wants_x_sum)
                    x_sum = x_sum_of(sums_of_x, r, segment);
                lane_sum sum = sums[at];
                if (chains == 2)
                    sum += sums[at + 1];
                float32x4_t value = as_f32(sum, vreinterpretq_s32_u32(sides[q].points), x_sum);
                value = times_x_scale(value, sums_of_x, r, segment);
                float32x4_t total = vld1q_f32(to);
                total = scaled ? vfmaq_f32(total, value, sides[q].scale) : vaddq_f32(total, value);
                if (TAKES_MIN_LATER && zero == GEMMUX_ZERO_MIN)
                    total =
                        vfmaq_f32(total, times_x_scale(x_sum_as_f32(x_sum), sums_of_x, r, segment),
                                  sides[q].min);
                vst1q_f32(to, total);
            }
        }
    }
}

GEMMUX_INLINE void stream_rows(const gemmux_strip *s, const int code, const int zero, int rows,
                               const void *const *x, const void *const *sums, float *out)
{
    const tables t = open_tables(code, zero, LEVEL_WIDE_NF4);
    switch (rows) {
    case 1:
        stream_part(s, code, zero, &t, 1, 4, 2, 0, x, sums, out);
        break;
    case 2:
        stream_part(s, code, zero, &t, 2, 4, 1, 0, x, sums, out);
        break;
    case 3:
    case 4:
        for (int first = 0; first < QUARTERS; first += 2)
            stream_part(s, code, zero, &t, 4, 2, 1, first, x, sums, out);
        break;
    default:
        for (int first = 0; first < QUARTERS; first++)
            stream_part(s, code, zero, &t, 8, 1, 1, first, x, sums, out);
    }
}

/* -------------------------------------------------------------------------------------- panels --
 */

GEMMUX_INLINE void decode_strip(const gemmux_strip *s, const int code, const int zero,
                                const bool fold, uint8_t *to)
{
    const tables t = open_tables(code, zero, LEVEL_WIDE_NF4);
    const int block_bytes = BLOCK_K / gemmux_lane_codes(code) * 64;
    const bool scaled = fold && s->scales && (TAKES_MIN_LATER || zero != GEMMUX_ZERO_MIN);
    int64_t segment = 0;
    for (int64_t k = 0; k < s->k; segment++) {
        int64_t last = k + s->segment < s->k ? k + s->segment : s->k;
        side sides[QUARTERS];
        GEMMUX_UNROLL
        for (int q = 0; q < QUARTERS; q++)
            sides[q] = open_side(s, zero, segment, q);
        for (; k < last; k += BLOCK_K) {
            const uint8_t *block = s->codes + k / BLOCK_K * block_bytes;
            uint8_t *at = to + k / K_PER_LANE * 64;
            GEMMUX_UNROLL
            for (int part = 0; part < PARTS * QUARTERS; part++) {
                const int q = part % QUARTERS;
                uint32x4_t w[4];
                decode_four(code, zero, &t, &sides[q], block, part / QUARTERS, q, w);
                GEMMUX_UNROLL
                for (int i = 0; i < 4; i++) {
                    if (scaled)
                        w[i] = scale_lanes(w[i], sides[q].scale);
                    store_lanes(at + (part / QUARTERS * 4 + i) * 64 + q * 16, w[i]);
                }
            }
        }
    }
}

/* ------------------------------------------------------------------------------------ the tile --
 */

/* c = or += scales * (sums - points * sums of x) + mins * sums of x, for one quarter of a strip */
GEMMUX_INLINE void settle(const gemmux_tile *tile, int r, int strip, int quarter, int64_t segment,
                          lane_sum sum)
{
    int64_t at = strip * tile->stride + segment * GEMMUX_STRIP + quarter * 4;
    float *c = tile->c + r * GEMMUX_TILE_COLUMNS + strip * GEMMUX_STRIP + quarter * 4;
    int32x4_t x_sum = vdupq_n_s32(0), points = vdupq_n_s32(0);
    if (TAKES_MIN_LATER && (tile->points || tile->mins))
        x_sum = x_sum_of((const void *const *)tile->sums, r, segment);
    if (TAKES_MIN_LATER && tile->points)
        points = vld1q_s32(tile->points + at);
    const void *const *sums = (const void *const *)tile->sums;
    float32x4_t value = times_x_scale(as_f32(sum, points, x_sum), sums, r, segment);
    float32x4_t total = tile->first && segment == 0 ? vdupq_n_f32(0) : vld1q_f32(c);
    if (TAKES_MIN_LATER && tile->scales)
        total = vfmaq_f32(total, value, vld1q_f32(tile->scales + at));
    else
        total = vaddq_f32(total, value);
    if (TAKES_MIN_LATER && tile->mins)
        total = vfmaq_f32(total, times_x_scale(x_sum_as_f32(x_sum), sums, r, segment),
                          vld1q_f32(tile->mins + at));
    vst1q_f32(c, total);
}

#ifdef LEVEL_MMLA

/* Products of 2 x 2: rows of x by pairs, lanes 2i and 2i + 1 of two rows of w side by side. The
 * last row of an odd number meets itself. */
enum { MMLA_PAIRS = 4 };

/* Steps [step, end) of half a strip: two quarters from `quarter` on. */
GEMMUX_INLINE void multiply_segment(const gemmux_tile *tile, const int pairs, int strip,
                                    int quarter, int64_t segment, int64_t step, int64_t end)
{
    const uint8_t *w = tile->w + strip * tile->w_stride + quarter * 16;
    const char *x[2 * MMLA_PAIRS];
    lane_sum sums[MMLA_PAIRS][4];
    GEMMUX_UNROLL
    for (int r = 0; r < 2 * pairs; r++)
        x[r] = tile->x[r < tile->rows ? r : tile->rows - 1];
    GEMMUX_UNROLL
    for (int i = 0; i < pairs * 4; i++)
        sums[i / 4][i % 4] = zero_sum();
    for (; step < end; step += 4) { /* a multiple of 4 */
        uint64x2_t rows[MMLA_PAIRS][2];
        GEMMUX_UNROLL
        for (int p = 0; p < pairs; p++) {
            uint64x2_t even = vreinterpretq_u64_u32(load_lanes(x[2 * p] + step * 4));
            uint64x2_t odd = vreinterpretq_u64_u32(load_lanes(x[2 * p + 1] + step * 4));
            rows[p][0] = vtrn1q_u64(even, odd);
            rows[p][1] = vtrn2q_u64(even, odd);
        }
        GEMMUX_UNROLL
        for (int i = 0; i < 4; i++) { /* lanes 2 (i / 2), + 1 of quarter + i % 2 */
            const uint8_t *at = w + (step + i / 2 * 2) * 64 + i % 2 * 16;
            uint32x4_t even = load_lanes(at), odd = load_lanes(at + 64);
            uint32x4_t low = vzip1q_u32(even, odd), high = vzip2q_u32(even, odd);
            GEMMUX_UNROLL
            for (int p = 0; p < pairs; p++) {
                lane_sum *sum = sums[p] + i % 2 * 2;
                sum[0] = mmla(sum[0], vreinterpretq_u32_u64(rows[p][i / 2]), low);
                sum[1] = mmla(sum[1], vreinterpretq_u32_u64(rows[p][i / 2]), high);
            }
        }
    }
    GEMMUX_UNROLL
    for (int i = 0; i < pairs * 2; i++) { /* [row][column] of 2 x 2 back to rows */
        const int p = i / 2, q = i % 2;
        uint64x2_t low = (uint64x2_t)sums[p][2 * q], high = (uint64x2_t)sums[p][2 * q + 1];
        settle(tile, 2 * p, strip, quarter + q, segment, (lane_sum)vtrn1q_u64(low, high));
        if (2 * p + 1 < tile->rows)
            settle(tile, 2 * p + 1, strip, quarter + q, segment, (lane_sum)vtrn2q_u64(low, high));
    }
}

GEMMUX_INLINE void multiply_rows(const gemmux_tile *tile, const int pairs)
{
    for (int half = 0; half < tile->strips * 2; half++) {
        int64_t segment = 0;
        for (int64_t step = 0; step < tile->steps; step += tile->segment, segment++) {
            int64_t end = step + tile->segment < tile->steps ? step + tile->segment : tile->steps;
            multiply_segment(tile, pairs, half / 2, half % 2 * 2, segment, step, end);
        }
    }
}

static void multiply(const gemmux_tile *tile)
{
    switch ((tile->rows + 1) / 2) {
    case 1:
        multiply_rows(tile, 1);
        break;
    case 2:
        multiply_rows(tile, 2);
        break;
    case 3:
        multiply_rows(tile, 3);
        break;
    default:
        multiply_rows(tile, MMLA_PAIRS);
    }
}

#else

/* Products by lane: f32 FMA, SDOT. Steps [step, end) of one strip. */
GEMMUX_INLINE void multiply_segment(const gemmux_tile *tile, const int rows, int strip,
                                    int64_t segment, int64_t step, int64_t end)
{
    const uint8_t *w = tile->w + strip * tile->w_stride;
    lane_sum sums[LANE_TILE_ROWS][QUARTERS];
    GEMMUX_UNROLL
    for (int i = 0; i < rows * QUARTERS; i++)
        sums[i / QUARTERS][i % QUARTERS] = zero_sum();
    for (; step < end; step += 4) { /* a multiple of 4 */
        uint32x4_t x[LANE_TILE_ROWS];
        GEMMUX_UNROLL
        for (int r = 0; r < rows; r++)
            x[r] = load_lanes((const char *)tile->x[r] + step * 4);
        GEMMUX_UNROLL
        for (int i = 0; i < 4; i++) {
            GEMMUX_UNROLL
            for (int q = 0; q < QUARTERS; q++) {
                uint32x4_t lanes = load_lanes(w + (step + i) * 64 + q * 16);
                GEMMUX_UNROLL
                for (int r = 0; r < rows; r++)
                    sums[r][q] = accumulate(sums[r][q], lanes, x[r], i);
            }
        }
    }
    GEMMUX_UNROLL
    for (int i = 0; i < rows * QUARTERS; i++)
        settle(tile, i / QUARTERS, strip, i % QUARTERS, segment, sums[i / QUARTERS][i % QUARTERS]);
}

GEMMUX_INLINE void multiply_rows(const gemmux_tile *tile, const int rows)
{
    for (int strip = 0; strip < tile->strips; strip++) {
        int64_t segment = 0;
        for (int64_t step = 0; step < tile->steps; step += tile->segment, segment++) {
            int64_t end = step + tile->segment < tile->steps ? step + tile->segment : tile->steps;
            multiply_segment(tile, rows, strip, segment, step, end);
        }
    }
}

static void multiply(const gemmux_tile *tile)
{
    switch (tile->rows) {
    case 1:
        multiply_rows(tile, 1);
        break;
    case 2:
        multiply_rows(tile, 2);
        break;
    case 3:
        multiply_rows(tile, 3);
        break;
    case 4:
        multiply_rows(tile, 4);
        break;
    default:
        multiply_rows(tile, LANE_TILE_ROWS);
    }
}

#endif

/* ----------------------------------------------------------------------------------- the level --
 */

static void stream(const gemmux_strip *s, int rows, const void *const *x, const void *const *sums,
                   float *out)
{
    LEVEL_FOR_CODE(stream_rows, s, rows, x, sums, out)
}

static void decode(const gemmux_strip *s, bool fold, void *to)
{
    LEVEL_FOR_CODE(decode_strip, s, fold, to)
}

static const gemmux_panel_level level = {
    .x = LEVEL_X,
    .signed_codes = true,
    .tile_rows = LEVEL_TILE_ROWS,
    .tile_strips = TILE_STRIPS,
    .pass_rows = GEMMUX_STREAM_ROWS,
    .stream_dense = GEMMUX_STREAM_ROWS,
    .stream_rows = 2 * GEMMUX_STREAM_ROWS,
    .widen = widen,
    .quantise = LEVEL_QUANTISE,
    .sum = LEVEL_SUM,
    .scales = read_scales,
    .points = points,
    .stream = stream,
    .decode = decode,
    .multiply = multiply,
    .finish = finish,
};

#endif
