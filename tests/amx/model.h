/* SPDX-License-Identifier: Apache-2.0
 *
 * AMX in plain C, after the operation sections of the Intel SDM: eight tile registers of the
 * calling thread, and the intrinsics by their own names, so that a kernel's source compiled after
 * this header runs where there is no AMX. What the processor would fault on ends the program:
 * shapes that do not fit each other, registers without shape, reserved bits.
 */
#ifndef GEMMUX_AMX_MODEL_H
#define GEMMUX_AMX_MODEL_H

#include <immintrin.h> /* first, so that its own names are gone below */

#include <stdint.h>

void amx_loadconfig(const void *config);
void amx_release(void);
void amx_zero(int tile);
void amx_loadd(int tile, const void *base, int64_t stride);
void amx_stored(int tile, void *base, int64_t stride);
void amx_dpbf16ps(int c, int a, int b);
void amx_dpbsud(int c, int a, int b);

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#undef _tile_dpbsud
#define _tile_loadconfig amx_loadconfig
#define _tile_release    amx_release
#define _tile_zero       amx_zero
#define _tile_loadd      amx_loadd
#define _tile_stored     amx_stored
#define _tile_dpbf16ps   amx_dpbf16ps
#define _tile_dpbsud     amx_dpbsud

#endif
