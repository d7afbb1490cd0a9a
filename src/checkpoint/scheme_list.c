/* SPDX-License-Identifier: Apache-2.0
 *
 * All schemes, in the order in which they are asked. Those that recognise a neighbouring tensor
 * stand before those that look at the type alone.
 */
#include "scheme.h"

extern const gemmux_scheme gemmux_scheme_gguf, gemmux_scheme_gptoss, gemmux_scheme_packed,
    gemmux_scheme_fp4_packed, gemmux_scheme_nvfp4, gemmux_scheme_gptq, gemmux_scheme_bnb,
    gemmux_scheme_fp8, gemmux_scheme_int8, gemmux_scheme_plain, gemmux_scheme_experts,
    gemmux_scheme_unknown;

const gemmux_scheme *const gemmux_schemes[] = {
    &gemmux_scheme_gguf,
    &gemmux_scheme_gptoss,
    &gemmux_scheme_packed,
    &gemmux_scheme_fp4_packed,
    &gemmux_scheme_nvfp4,
    &gemmux_scheme_gptq,
    &gemmux_scheme_bnb,
    &gemmux_scheme_fp8,
    &gemmux_scheme_int8,
    &gemmux_scheme_plain,
    &gemmux_scheme_experts,
    &gemmux_scheme_unknown,
    NULL,
};
