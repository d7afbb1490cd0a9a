/* SPDX-License-Identifier: Apache-2.0
 *
 * Facts about devices inside the library: the device files built into it and what is known of
 * CUDA architectures. Separate from gemmux.h because callers reach device files by name through
 * gemmux_machine_find and architectures through the kernels that a decision names.
 */
#ifndef GEMMUX_MACHINE_H
#define GEMMUX_MACHINE_H

#include "gemmux.h"

/* One text file built into the library (cmake/Embed.cmake), NUL-terminated; an array of them ends
 * with a NULL name. */
typedef struct gemmux_embedded {
    const char *name;
    const char *text;
} gemmux_embedded;

extern const gemmux_embedded gemmux_embedded_devices[]; /* devices/ */
extern const gemmux_embedded gemmux_embedded_causes[];  /* causes/ */
extern const gemmux_embedded gemmux_embedded_configs[]; /* models/configs/ */

/* A CUDA architecture that this version of gemmux knows. Anything else gets the conservative set:
 * plain code and PTX only (no 'a' or 'f' code, whose rules for a new chip nobody can know), and
 * the 48 KiB of shared memory that every architecture so far gives without opting in. */
typedef struct gemmux_cuda_arch {
    int16_t cc;         /* 10 * major + minor */
    int16_t family;     /* cc of the first member of its family; 0: older than families */
    int32_t smem_bytes; /* that one block may opt in to */
} gemmux_cuda_arch;

/* NULL when unknown. */
const gemmux_cuda_arch *gemmux_cuda_arch_find(int cc);

enum { GEMMUX_SMEM_CONSERVATIVE = 48 * 1024 };

/* "12.9.1" of a library's 120901; parts: 3, 2 ("12.9"), or 0 for as many as are not zero, two at
 * least. Returns buffer. */
const char *gemmux_version_text(int64_t version, int parts, char *buffer, size_t size);

#endif
