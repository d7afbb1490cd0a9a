/* SPDX-License-Identifier: Apache-2.0
 *
 * What the x86 levels include before they open their instruction set.
 */
#ifndef GEMMUX_X86_H
#define GEMMUX_X86_H

#include "panel_codes.h"

/* Levels that the AMX levels share all but the tile with. */
extern const gemmux_panel_level gemmux_level_avx512_bf16, gemmux_level_avx512_vnni;

/* Makes `level` such a level with another tile, and returns it. */
static inline const gemmux_panel_level *gemmux_tile_level(gemmux_panel_level *level,
                                                          const gemmux_panel_level *base,
                                                          void (*multiply)(const gemmux_tile *))
{
    *level = *base;
    level->tile_rows = GEMMUX_TILE_ROWS;
    level->tile_strips = GEMMUX_TILE_STRIPS;
    level->stream_dense = level->stream_rows = GEMMUX_STREAM_ROWS;
    level->flips = false;
    level->multiply = multiply;
    return level;
}

#endif
