/* SPDX-License-Identifier: Apache-2.0
 *
 * The product of the AMX levels, written once for bf16 and int8. Included by a level's file after
 * it has opened its instruction set and defined
 *
 *     LEVEL_X                     its gemmux_panel_x
 *     tile_product(c, a, b)       tile registers: c += a (x) times b (w)
 *
 * A decoded panel is [lanes][16 rows of w] of 32 bits, which is what the second operand wants: 16
 * lanes of a strip are one tile. Registers: 0 .. 3 are sums of 16 rows of x and four strips, 4 and
 * 5 operands of 16 lanes, 6 and 7 operands of what is left of a segment. Everything is of the
 * calling thread and released before return.
 */
#ifndef GEMMUX_X86_TILES_H
#define GEMMUX_X86_TILES_H

#include "x86.h"

#include <assert.h>
#include <immintrin.h>
#include <string.h>

enum { TILE_LANES = 16 };
static_assert(GEMMUX_TILE_STRIPS == 4, "a register of sums each");

/* Not an enum: gcc makes register names of these by pasting. */
#define X_WHOLE 4
#define W_WHOLE 5
#define X_REST  6
#define W_REST  7

/* What LDTILECFG reads. */
typedef struct tile_shapes {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_shapes;

/* gcc 12 does not know that its tile intrinsics read memory (LDTILECFG: more than eight bytes), so
 * what was written for them could be dropped or come too late. */
GEMMUX_INLINE void publish(const void *written)
{
    __asm__ volatile("" ::"r"(written) : "memory");
}

static void open_tiles(int rows, int rest)
{
    tile_shapes shapes = {.palette = 1};
    for (int i = 0; i <= W_REST; i++) {
        shapes.rows[i] = (uint8_t)(i == W_WHOLE ? TILE_LANES : i == W_REST ? rest : rows);
        shapes.row_bytes[i] = (uint16_t)(i == X_REST ? rest * 4 : 64);
    }
    if (!rest) /* a register without size may not be used, and is not */
        shapes.rows[X_REST] = shapes.rows[W_REST] = 0, shapes.row_bytes[W_REST] = 0;
    publish(&shapes);
    _tile_loadconfig(&shapes);
}

/* Register numbers are part of the instruction. */
#define FOR_SUM(i, what)                                                                           \
    switch (i) {                                                                                   \
    case 0:                                                                                        \
        what(0);                                                                                   \
        break;                                                                                     \
    case 1:                                                                                        \
        what(1);                                                                                   \
        break;                                                                                     \
    case 2:                                                                                        \
        what(2);                                                                                   \
        break;                                                                                     \
    default:                                                                                       \
        what(3);                                                                                   \
    }

/* x rows of one panel: `lines` apart, or gathered (0). */
typedef struct tile_x {
    const char *const *rows;
    int64_t apart;
    int count;
} tile_x;

static tile_x open_x(const gemmux_tile *tile)
{
    tile_x x = {(const char *const *)tile->x, 64, tile->rows};
    if (tile->rows > 1)
        x.apart = x.rows[1] - x.rows[0];
    for (int r = 1; r < tile->rows; r++)
        if (x.rows[r] - x.rows[r - 1] != x.apart)
            x.apart = 0;
    return x;
}

/* `lanes` lanes from `step` on of all rows, for a tile: where they stand, or gathered in `copy`. */
static const char *x_block(const tile_x *x, int64_t step, int lanes, char *copy, int64_t *stride)
{
    *stride = x->apart;
    if (x->apart)
        return x->rows[0] + step * 4;
    for (int r = 0; r < x->count; r++)
        memcpy(copy + r * 64, x->rows[r] + step * 4, (size_t)lanes * 4);
    publish(copy);
    *stride = 64;
    return copy;
}

/* c = or += scales * (sums - points * sums of x) + mins * sums of x, for one strip whose sums were
 * stored. */
static void settle_strip(const gemmux_tile *tile, int strip, int64_t segment, const void *sums)
{
    const bool integer = LEVEL_X == GEMMUX_PANEL_INT8;
    int64_t at = strip * tile->stride + segment * GEMMUX_STRIP;
    bool first = tile->first && segment == 0;
    __m512 scales = _mm512_loadu_ps(tile->scales + at);
    __m512 mins = tile->mins ? _mm512_loadu_ps(tile->mins + at) : _mm512_setzero_ps();
    __m512i points = integer ? _mm512_loadu_si512(tile->points + at) : _mm512_setzero_si512();
    for (int r = 0; r < tile->rows; r++) {
        float *c = tile->c + r * GEMMUX_TILE_COLUMNS + strip * GEMMUX_STRIP;
        __m512i sum = _mm512_loadu_si512((const char *)sums + r * 64);
        gemmux_x_segment of = {0, 1};
        if (integer)
            memcpy(&of, tile->sums[r] + segment * (int64_t)sizeof of, sizeof of);
        else if (tile->mins)
            memcpy(&of.sum, tile->sums[r] + segment * 4, 4);
        __m512i x_sum = _mm512_set1_epi32(of.sum);
        __m512 value = _mm512_castsi512_ps(sum), of_x = _mm512_castsi512_ps(x_sum);
        if (integer) {
            sum = _mm512_sub_epi32(sum, _mm512_mullo_epi32(points, x_sum));
            value = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(of.scale));
            of_x = _mm512_mul_ps(_mm512_cvtepi32_ps(x_sum), _mm512_set1_ps(of.scale));
        }
        __m512 total = first ? _mm512_setzero_ps() : _mm512_loadu_ps(c);
        total = _mm512_fmadd_ps(value, scales, total);
        if (tile->mins)
            total = _mm512_fmadd_ps(of_x, mins, total);
        _mm512_storeu_ps(c, total);
    }
}

/* Steps [step, end): one segment. Without scales the sums are c itself. */
static void multiply_segment(const gemmux_tile *tile, const tile_x *x, int64_t segment,
                             int64_t step, int64_t end)
{
    enum { C_STRIDE = GEMMUX_TILE_COLUMNS * 4 };
    char copy[16 * 64] __attribute__((aligned(64)));
    char sums[16 * 64] __attribute__((aligned(64)));
    const bool direct = LEVEL_X != GEMMUX_PANEL_INT8 && !tile->scales;
    int64_t stride;
    publish(tile->c);
    for (int i = 0; i < tile->strips; i++) {
#define LOAD_SUM(sum_tile) _tile_loadd(sum_tile, tile->c + i * GEMMUX_STRIP, C_STRIDE)
#define ZERO_SUM(sum_tile) _tile_zero(sum_tile)
        if (direct && !tile->first) {
            FOR_SUM(i, LOAD_SUM)
        } else {
            FOR_SUM(i, ZERO_SUM)
        }
    }
    for (; step + TILE_LANES <= end; step += TILE_LANES) {
        const char *from = x_block(x, step, TILE_LANES, copy, &stride);
        _tile_loadd(X_WHOLE, from, stride);
        for (int i = 0; i < tile->strips; i++) {
#define MULTIPLY(sum_tile) tile_product(sum_tile, X_WHOLE, W_WHOLE)
            _tile_loadd(W_WHOLE, tile->w + i * tile->w_stride + step * 64, 64);
            FOR_SUM(i, MULTIPLY)
        }
    }
    if (step < end) {
        const char *from = x_block(x, step, (int)(end - step), copy, &stride);
        _tile_loadd(X_REST, from, stride);
        for (int i = 0; i < tile->strips; i++) {
#define MULTIPLY_REST(sum_tile) tile_product(sum_tile, X_REST, W_REST)
            _tile_loadd(W_REST, tile->w + i * tile->w_stride + step * 64, 64);
            FOR_SUM(i, MULTIPLY_REST)
        }
    }
    for (int i = 0; i < tile->strips; i++) {
#define STORE_SUM(sum_tile) _tile_stored(sum_tile, sums, 64)
#define STORE_C(sum_tile)   _tile_stored(sum_tile, tile->c + i * GEMMUX_STRIP, C_STRIDE)
        if (direct) {
            FOR_SUM(i, STORE_C)
        } else {
            FOR_SUM(i, STORE_SUM)
            settle_strip(tile, i, segment, sums);
        }
    }
}

static void multiply(const gemmux_tile *tile)
{
    tile_x x = open_x(tile);
    int64_t segment = 0;
    int rest = -1;
    for (int64_t step = 0; step < tile->steps; step += tile->segment, segment++) {
        int64_t end = step + tile->segment < tile->steps ? step + tile->segment : tile->steps;
        int left = (int)((end - step) % TILE_LANES);
        if (rest < 0 || (left && left != rest)) { /* the last segment may be a short one */
            open_tiles(tile->rows, left);
            rest = left;
        }
        multiply_segment(tile, &x, segment, step, end);
    }
    _tile_release();
}

#endif
