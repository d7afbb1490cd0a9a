/* SPDX-License-Identifier: Apache-2.0
 *
 * Facts about devices inside the library: the device files built into it. Separate from gemmux.h
 * because callers reach them by name through gemmux_machine_find.
 */
#ifndef GEMMUX_MACHINE_H
#define GEMMUX_MACHINE_H

#include "gemmux.h"

/* One device file as it stands in devices/, NUL-terminated; the array ends with a NULL name. */
typedef struct gemmux_embedded {
    const char *name;
    const char *text;
} gemmux_embedded;

extern const gemmux_embedded gemmux_embedded_devices[];

#endif
