/* SPDX-License-Identifier: Apache-2.0
 *
 * The kernel itself, over the model of its instructions.
 */
#include "model.h"

#include "kernels/x86_avx512_fp16.c"
