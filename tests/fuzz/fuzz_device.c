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

/* The same bytes as a value of one fact: a change is made, or refused and nothing has changed. */
static void change(const uint8_t *data, size_t size)
{
    char value[256], text[160];
    gemmux_machine machine;
    if (size < 2 || size > sizeof value ||
        gemmux_machine_find(data[0] & 1 ? "zen4" : "gb10", &machine, NULL))
        return;
    const gemmux_machine before = machine;
    const char *fact = gemmux_machine_fact_name(&machine, data[0] >> 1);
    memcpy(value, data + 1, size - 1);
    value[size - 1] = '\0';
    if (!fact)
        return;
    gemmux_error error = {0};
    gemmux_status status = gemmux_machine_change(&machine, fact, value, &error);
    if (!gemmux_machine_fact(&machine, fact, text, sizeof text))
        abort();
    if (status && (!error.text[0] || memcmp(&machine, &before, sizeof machine) != 0))
        abort();
    if (!isfinite(machine.bandwidth) || machine.isa != gemmux_isa_closure(machine.isa))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    change(data, size);
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
