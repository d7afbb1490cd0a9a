/* SPDX-License-Identifier: Apache-2.0
 *
 * The assembler that kernels compiled at run time go through. Separate from probe.h because it is
 * a fact of the tool chain: routing never asks for it, only the doctor does.
 */
#ifndef GEMMUX_PTXAS_H
#define GEMMUX_PTXAS_H

#include "gemmux.h"

/* The ptxas that would be used: `hint` (from a log; may be NULL) when there is such a file, else
 * $TRITON_PTXAS_PATH, $CUDA_HOME/bin, the PATH, /usr/local/cuda/bin. Its release, 10000 * major +
 * 100 * minor, is read out of the file; nothing is run. False when none is found. */
bool gemmux_probe_ptxas(const char *hint, char *path, size_t size, int32_t *release);

#endif
