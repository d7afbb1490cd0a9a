/* SPDX-License-Identifier: Apache-2.0
 *
 * What the x86 levels include before they open their instruction set.
 */
#ifndef GEMMUX_X86_H
#define GEMMUX_X86_H

#include "panel_codes.h"

#endif
