/* SPDX-License-Identifier: Apache-2.0
 *
 * The kernel itself, over the model of the tiles.
 */
#include "model.h"

#include "kernels/x86_amx_bf16.c"
