/* SPDX-License-Identifier: Apache-2.0
 *
 * What the x86 levels include before they open their instruction set.
 */
#ifndef GEMMUX_X86_H
#define GEMMUX_X86_H

#include "panel_codes.h"

/* Levels that the AMX levels share all but the tile with. */
extern const gemmux_panel_level gemmux_level_avx512_bf16, gemmux_level_avx512_vnni;

#endif
