/* SPDX-License-Identifier: Apache-2.0
 *
 * Device files: any text is parsed or refused with a sentence, and what is parsed is a machine
 * that its own rules allow.
 */
#include "machine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gemmux_machine machine;
    gemmux_error error = {0};
    gemmux_status status =
        gemmux_machine_parse((const char *)data, size, "fuzz.txt", &machine, &error);
    if (status) {
        if (error.status != status || !strstr(error.text, "fuzz.txt:"))
            abort();
        return 0;
    }
    char arch[32];
    gemmux_machine_arch(&machine, arch, sizeof arch);
    if (!machine.name[0] || (machine.kind != GEMMUX_CPU && machine.kind != GEMMUX_CUDA) ||
        (machine.kind == GEMMUX_CUDA) != (machine.cc > 0) || machine.memory_bytes < 0 ||
        !isfinite(machine.bandwidth) || machine.isa != gemmux_isa_closure(machine.isa))
        abort();
    for (int i = 0; i < GEMMUX_MATH_COUNT; i++)
        if (!isfinite(machine.peak[i]) || machine.peak[i] < 0)
            abort();
    return 0;
}
