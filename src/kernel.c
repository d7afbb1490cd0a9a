/* SPDX-License-Identifier: Apache-2.0
 *
 * The public view of a kernel descriptor.
 */
#include "kernel.h"

#include "machine.h"

#include <stdio.h>
#include <string.h>

static const struct gemmux_kernel_table *table_of(const gemmux_machine *machine)
{
    return machine && machine->kernels ? machine->kernels : &gemmux_builtin_kernels;
}

int gemmux_kernel_count(const gemmux_machine *machine)
{
    return table_of(machine)->count;
}

const gemmux_kernel *gemmux_kernel_at(const gemmux_machine *machine, int index)
{
    const struct gemmux_kernel_table *table = table_of(machine);
    return index >= 0 && index < table->count ? table->kernels[index] : NULL;
}

const gemmux_kernel *gemmux_kernel_find(const gemmux_machine *machine, const char *name)
{
    const struct gemmux_kernel_table *table = table_of(machine);
    for (int i = 0; i < table->count; i++)
        if (strcmp(table->kernels[i]->name, name) == 0)
            return table->kernels[i];
    return NULL;
}

const char *gemmux_kernel_name(const gemmux_kernel *kernel)
{
    return kernel->name;
}

const char *gemmux_kernel_summary(const gemmux_kernel *kernel)
{
    return kernel->summary;
}

gemmux_library_id gemmux_kernel_library(const gemmux_kernel *kernel)
{
    return (gemmux_library_id)kernel->library;
}

gemmux_device_kind gemmux_kernel_device(const gemmux_kernel *kernel)
{
    return (gemmux_device_kind)kernel->device;
}

const char *gemmux_kernel_packing(const gemmux_kernel *kernel)
{
    return kernel->packing->name;
}

const char *gemmux_kernel_unproven(const gemmux_machine *machine, const gemmux_kernel *kernel)
{
    bool proved = machine && kernel->proved_cc && machine->kind == kernel->device &&
                  machine->cc == kernel->proved_cc;
    return proved ? NULL : kernel->unproven;
}

bool gemmux_kernel_built(const gemmux_kernel *kernel)
{
    return kernel->run != NULL;
}

static void describe_device(const gemmux_kernel *kernel, char *out, size_t size)
{
    if (kernel->device == GEMMUX_CUDA) {
        static const char *const rules[] = {" or newer", " exactly", " and its family"};
        snprintf(out, size, "sm_%d%s", kernel->cc_min, rules[kernel->arch_rule]);
        return;
    }
    gemmux_machine machine = {.kind = GEMMUX_CPU, .isa = kernel->isa};
    if (!kernel->isa)
        snprintf(out, size, "any CPU");
    else
        gemmux_machine_arch(&machine, out, size);
}

const char *gemmux_kernel_needs(const gemmux_kernel *kernel, char *buffer, size_t size)
{
    char device[48], library[48] = "", version[32];
    uint32_t x = 0, w = 0;
    for (int i = 0; i < kernel->form_count; i++) {
        x |= kernel->forms[i].x;
        w |= kernel->forms[i].w;
    }
    describe_device(kernel, device, sizeof device);
    if (kernel->library)
        snprintf(library, sizeof library, "; %s %s or newer",
                 gemmux_library_name((gemmux_library_id)kernel->library),
                 gemmux_version_text(kernel->library_min, 2, version, sizeof version));
    int at = snprintf(buffer, size, "%s%s; x", device, library);
    for (int operand = 0; operand < 2; operand++) {
        uint32_t set = operand ? w : x;
        if (operand && at >= 0 && (size_t)at < size)
            at += snprintf(buffer + at, size - (size_t)at, "; w");
        for (int id = 1; id < GEMMUX_FORMAT_COUNT && at >= 0 && (size_t)at < size; id++)
            if (set & GEMMUX_BIT(id))
                at += snprintf(buffer + at, size - (size_t)at, " %s",
                               gemmux_format_id_name((gemmux_format_id)id));
    }
    return buffer;
}
