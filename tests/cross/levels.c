/* SPDX-License-Identifier: Apache-2.0
 *
 * levels SET...: the probe finds exactly these instruction sets (and what they imply) on the CPU
 * that the emulator plays, and a product is planned for the best of them.
 */
#include "gemmux.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    uint32_t want = 0;
    gemmux_machine machine;
    gemmux_error error;
    for (int i = 1; i < argc; i++)
        want |= gemmux_isa_parse(argv[i]);
    if (gemmux_machine_probe_cpu(&machine, &error)) {
        fprintf(stderr, "levels: %s\n", error.text);
        return 1;
    }
    if (machine.isa != gemmux_isa_closure(want)) {
        fprintf(stderr, "levels: want the instruction sets %08x, found %08x\n",
                (unsigned)gemmux_isa_closure(want), (unsigned)machine.isa);
        return 1;
    }
    char arch[32];
    gemmux_decision decision;
    gemmux_problem p =
        gemmux_problem_linear(64, 4096, 4096, gemmux_format_of(GEMMUX_BF16),
                              gemmux_format_of(GEMMUX_MXFP4), gemmux_format_of(GEMMUX_BF16));
    const char *expect = want & GEMMUX_ISA_BF16 ? "arm_neon_bf16" : "arm_neon";
    if (gemmux_select(&p, &machine, NULL, &decision, NULL, &error) ||
        strcmp(gemmux_kernel_name(decision.kernel), expect) != 0) {
        fprintf(stderr, "levels: bf16 x mxfp4 should run by %s\n", expect);
        return 1;
    }
    printf("%s: %s\n", gemmux_machine_arch(&machine, arch, sizeof arch), expect);
    return 0;
}
