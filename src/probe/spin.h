/* SPDX-License-Identifier: Apache-2.0
 *
 * Loops that do nothing but multiply and add in registers, one for each kind of arithmetic at the
 * best level this CPU has. Separate from measure.c, which times them, because each is written
 * against one instruction set.
 */
#ifndef GEMMUX_SPIN_H
#define GEMMUX_SPIN_H

#include "gemmux.h"

/* Runs `rounds` rounds on the calling thread; returns the operations done, two a multiply-add. */
typedef double gemmux_spin(int64_t rounds);

/* NULL where the machine's instruction sets have nothing of their own for this kind: it then
 * runs at another kind's rate. F32 is never NULL. */
gemmux_spin *gemmux_spin_of(gemmux_math math, uint32_t isa);

/* Sum of `count` 64-byte lines, walked in order; the sum keeps the reads from being dropped. */
typedef uint64_t gemmux_read(const void *lines, int64_t count);
gemmux_read *gemmux_read_of(uint32_t isa);

#endif
