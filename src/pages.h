/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory that kernels read from one end to the other. Separate from malloc because large buffers
 * ask for huge pages: at the read rate of DRAM a walk through 4 KiB pages waits for the TLB.
 */
#ifndef GEMMUX_PAGES_H
#define GEMMUX_PAGES_H

#include <stdint.h>

/* At least `bytes` bytes aligned to 64, contents undefined; free() releases them. NULL: out of
 * memory. */
void *gemmux_pages_alloc(int64_t bytes);

#endif
