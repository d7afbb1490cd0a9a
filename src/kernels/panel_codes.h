/* SPDX-License-Identifier: Apache-2.0
 *
 * What the levels of every architecture share: forced inlining and unrolling, so that loops over
 * registers become registers on gcc and clang alike, and the dispatch from a format to a loop of
 * its own. A level's file opens its instruction set itself, by pragma, right after its includes.
 */
#ifndef GEMMUX_PANEL_CODES_H
#define GEMMUX_PANEL_CODES_H

#include "panel_run.h"

#define GEMMUX_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#    define GEMMUX_UNROLL _Pragma("clang loop unroll(full)")
#else
#    define GEMMUX_UNROLL _Pragma("GCC unroll 32")
#endif

/* Bytes from what is read to what is fetched: loops that decode are too dense for the processor's
 * own prefetcher to run ahead by itself. Half and twice as much were slower (bench/results). */
enum { GEMMUX_AHEAD = 8192 };

/* Every line of a strip that streams is fetched so, scales too: a gap costs a whole latency. */
GEMMUX_INLINE void gemmux_fetch_ahead(const uint8_t *read)
{
    __builtin_prefetch(read + GEMMUX_AHEAD, 0, 3);
}

/* The step of a tile before which lines of y are fetched, so that they are in L1 when it is done:
 * stores that follow would wait for memory, and earlier w would push them out again. */
GEMMUX_INLINE int64_t gemmux_y_step(const gemmux_tile *tile)
{
    enum { STEPS = 64 }; /* 180 ns of 24 products a step */
    return tile->steps > STEPS ? (tile->steps - STEPS) / GEMMUX_FETCH_STEPS * GEMMUX_FETCH_STEPS
                               : 0;
}

/* The first step of a tile that gemmux_fetch_beside is wanted at. */
GEMMUX_INLINE int64_t gemmux_first_fetch(const gemmux_tile *tile)
{
    return tile->ahead ? 0 : tile->y ? gemmux_y_step(tile) : INT64_MAX;
}

/* Fetches what is due at `step`; returns the step that it is wanted at again. */
GEMMUX_INLINE int64_t gemmux_fetch_beside(const gemmux_tile *tile, const int rows, const int strips,
                                          int64_t step)
{
    if (tile->y && step == gemmux_y_step(tile))
        for (int64_t at = 0; at < tile->y_bytes; at += 64) {
            GEMMUX_UNROLL
            for (int r = 0; r < rows; r++)
                __builtin_prefetch(tile->y[r] + at, 1, 3);
        }
    if (!tile->ahead)
        return INT64_MAX;
    const uint8_t *w = tile->ahead + step / GEMMUX_FETCH_STEPS * tile->ahead_lines * 64;
    for (int64_t line = 0; line < tile->ahead_lines; line++) {
        GEMMUX_UNROLL
        for (int i = 0; i < strips; i++)
            __builtin_prefetch(w + i * tile->ahead_stride + line * 64, 0, 2);
    }
    return step + GEMMUX_FETCH_STEPS;
}

/* Calls what(strip, code, zero, ...) with code and zero as constants. */
#define GEMMUX_FOR_CODE(what, strip, ...)                                                          \
    switch ((strip)->code) {                                                                       \
    case GEMMUX_CODE_F32:                                                                          \
        what(strip, GEMMUX_CODE_F32, GEMMUX_ZERO_NONE, __VA_ARGS__);                               \
        break;                                                                                     \
    case GEMMUX_CODE_F16:                                                                          \
        what(strip, GEMMUX_CODE_F16, GEMMUX_ZERO_NONE, __VA_ARGS__);                               \
        break;                                                                                     \
    case GEMMUX_CODE_NF4:                                                                          \
        what(strip, GEMMUX_CODE_NF4, GEMMUX_ZERO_NONE, __VA_ARGS__);                               \
        break;                                                                                     \
    default:                                                                                       \
        GEMMUX_FOR_BF16_CODE(what, strip, __VA_ARGS__)                                             \
    }

/* The same for codes that bf16 holds exactly (NF4 apart). */
#define GEMMUX_FOR_BF16_CODE(what, strip, ...)                                                     \
    switch ((strip)->code) {                                                                       \
    case GEMMUX_CODE_BF16:                                                                         \
        what(strip, GEMMUX_CODE_BF16, GEMMUX_ZERO_NONE, __VA_ARGS__);                              \
        break;                                                                                     \
    case GEMMUX_CODE_E4M3:                                                                         \
        what(strip, GEMMUX_CODE_E4M3, GEMMUX_ZERO_NONE, __VA_ARGS__);                              \
        break;                                                                                     \
    case GEMMUX_CODE_E5M2:                                                                         \
        what(strip, GEMMUX_CODE_E5M2, GEMMUX_ZERO_NONE, __VA_ARGS__);                              \
        break;                                                                                     \
    default:                                                                                       \
        GEMMUX_FOR_INT8_CODE(what, strip, __VA_ARGS__)                                             \
    }

/* The same for codes that are small integers (E2M1 when doubled). */
#define GEMMUX_FOR_INT8_CODE(what, strip, ...)                                                     \
    if ((strip)->code == GEMMUX_CODE_INT8)                                                         \
        what(strip, GEMMUX_CODE_INT8, GEMMUX_ZERO_NONE, __VA_ARGS__);                              \
    else if ((strip)->code == GEMMUX_CODE_E2M1)                                                    \
        what(strip, GEMMUX_CODE_E2M1, GEMMUX_ZERO_NONE, __VA_ARGS__);                              \
    else if ((strip)->zero == GEMMUX_ZERO_NONE)                                                    \
        what(strip, GEMMUX_CODE_INT4, GEMMUX_ZERO_NONE, __VA_ARGS__);                              \
    else if ((strip)->zero == GEMMUX_ZERO_POINT)                                                   \
        what(strip, GEMMUX_CODE_INT4, GEMMUX_ZERO_POINT, __VA_ARGS__);                             \
    else                                                                                           \
        what(strip, GEMMUX_CODE_INT4, GEMMUX_ZERO_MIN, __VA_ARGS__);

/* Codes in 32 bits. */
GEMMUX_INLINE int gemmux_lane_codes(const int code)
{
    switch (code) {
    case GEMMUX_CODE_F32:
        return 1;
    case GEMMUX_CODE_F16:
    case GEMMUX_CODE_BF16:
        return 2;
    case GEMMUX_CODE_E2M1:
    case GEMMUX_CODE_INT4:
    case GEMMUX_CODE_NF4:
        return 8;
    default:
        return 4;
    }
}

/* Which element of its lane position p holds: p with its bits reversed (panel16.h). */
GEMMUX_INLINE int gemmux_lane_element(const int per_lane, const int p)
{
    if (per_lane == 8)
        return (p & 1) << 2 | (p & 2) | p >> 2;
    return per_lane == 4 ? (p & 1) << 1 | p >> 1 : p;
}

#endif
