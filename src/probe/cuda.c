/* SPDX-License-Identifier: Apache-2.0
 *
 * Facts about one CUDA device, asked of the driver. What the driver does not know (dense rates of
 * the matrix units) comes from a table by compute capability.
 */
#include "driver/libcuda.h"
#include "error.h"
#include "machine.h"
#include "probe.h"

#include <stdio.h>
#include <string.h>

/* Dense multiply-adds a clock and multiprocessor. Sources: CUDA C++ Programming Guide 13.0,
 * "Arithmetic Instructions" (f32), and the peak rates of NVIDIA's architecture white papers
 * (Turing, A100, GA102, Orin, Ada, H100, Blackwell, RTX Blackwell PRO) divided by clock and
 * multiprocessors. 0: the unit is absent, or nothing is published. */
static const struct {
    int16_t cc, f32, tf32, f16, bf16, fp8, fp4, int8;
} rates[] = {
    {75, 64, 0, 512, 0, 0, 0, 1024},
    {80, 64, 512, 1024, 1024, 0, 0, 2048},
    {86, 128, 256, 512, 512, 0, 0, 1024},
    {87, 128, 512, 1024, 1024, 0, 0, 2048},
    {88, 128, 256, 512, 512, 0, 0, 1024},
    {89, 128, 256, 512, 512, 1024, 0, 1024},
    {90, 128, 1024, 2048, 2048, 4096, 0, 4096},
    {100, 128, 2048, 4096, 4096, 8192, 16384, 8192},
    {103, 128, 2048, 4096, 4096, 8192, 24576, 0},
    {110, 128, 2048, 4096, 4096, 8192, 16384, 0},
    {120, 128, 256, 512, 512, 1024, 2048, 1024},
    {121, 128, 256, 512, 512, 1024, 2048, 1024},
};

/* Of the pins' rate, what a plain read attains: 4.5 of 4.9 TB/s on an H200. */
static const double attained = 0.92;

static void set_rates(gemmux_machine *machine, double clock_hz)
{
    double each = 2.0 * machine->cores * clock_hz;
    /* GeForce: matrix products summed in f32 run at half the rate (GA102, AD102 and GB202 papers),
     * but those in FP4 and INT8. */
    double half = strstr(machine->name, "GeForce") ? 0.5 : 1.0;
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        if (rates[i].cc != machine->cc)
            continue;
        machine->peak[GEMMUX_MATH_F32] = rates[i].f32 * each;
        machine->peak[GEMMUX_MATH_TF32] = rates[i].tf32 * each * half;
        machine->peak[GEMMUX_MATH_F16] = rates[i].f16 * each * half;
        machine->peak[GEMMUX_MATH_BF16] = rates[i].bf16 * each * half;
        machine->peak[GEMMUX_MATH_FP8] = rates[i].fp8 * each * half;
        machine->peak[GEMMUX_MATH_FP4] = rates[i].fp4 * each;
        machine->peak[GEMMUX_MATH_INT8] = rates[i].int8 * each;
        return;
    }
    /* A chip of tomorrow: what every chip so far has at least. */
    machine->peak[GEMMUX_MATH_F32] = 64 * each;
    machine->peak[GEMMUX_MATH_F16] = machine->peak[GEMMUX_MATH_BF16] = 256 * each;
}

static void set_memory(gemmux_machine *machine, const gemmux_cuda *cuda, gemmux_cu_device device)
{
    size_t bytes = 0;
    int clock_khz = 0, bus_bits = 0, l2_bytes = 0;
    if (!cuda->device_memory(&bytes, device))
        machine->memory_bytes = (int64_t)bytes;
    if (!cuda->device_attribute(&l2_bytes, GEMMUX_CU_L2_BYTES, device))
        machine->l2_bytes = l2_bytes;
    cuda->device_attribute(&clock_khz, GEMMUX_CU_MEMORY_CLOCK_KHZ, device);
    cuda->device_attribute(&bus_bits, GEMMUX_CU_MEMORY_BUS_BITS, device);
    /* Two transfers a clock on every pin. */
    machine->bandwidth = 2.0 * 1000.0 * clock_khz * (bus_bits / 8.0) * attained;
}

static int set_facts(gemmux_machine *machine, const gemmux_cuda *cuda, gemmux_cu_device device)
{
    int major = 0, minor = 0, clock_khz = 0, smem = 0;
    int result = cuda->device_name(machine->name, sizeof machine->name, device);
    if (!result)
        result = cuda->device_attribute(&major, GEMMUX_CU_CC_MAJOR, device);
    if (!result)
        result = cuda->device_attribute(&minor, GEMMUX_CU_CC_MINOR, device);
    if (!result)
        result = cuda->device_attribute(&machine->cores, GEMMUX_CU_MULTIPROCESSORS, device);
    if (result)
        return result;
    machine->name[sizeof machine->name - 1] = '\0';
    machine->cc = 10 * major + minor;
    if (cuda->device_attribute(&smem, GEMMUX_CU_SMEM_OPTIN_BYTES, device) || smem <= 0)
        smem = GEMMUX_SMEM_CONSERVATIVE;
    machine->smem_bytes = smem;
    cuda->device_attribute(&clock_khz, GEMMUX_CU_CLOCK_KHZ, device);
    set_rates(machine, 1000.0 * clock_khz);
    set_memory(machine, cuda, device);
    return 0;
}

gemmux_status gemmux_machine_probe_cuda(int index, gemmux_machine *machine, gemmux_error *error)
{
    gemmux_cuda cuda;
    gemmux_cu_device device = 0;
    int count = 0;
    *machine = (gemmux_machine){.kind = GEMMUX_CUDA};
    gemmux_status status = gemmux_cuda_open(&cuda, error);
    if (status)
        return status;
    int result = cuda.device_count(&count);
    if (!result && (index < 0 || index >= count))
        return gemmux_fail(error, GEMMUX_ERROR_DEVICE,
                           "cuda:%d: there is no such device; this process sees %d", index, count);
    if (!result)
        result = cuda.device_get(&device, index);
    if (!result)
        result = set_facts(machine, &cuda, device);
    if (result)
        return gemmux_cuda_fail(&cuda, result, "cuda: asking for the device's facts", error);
    snprintf(machine->id, sizeof machine->id, "cuda:%d", index);
    machine->launch_us = 1.1; /* measured inside a CUDA graph on an H200 */
    machine->library[GEMMUX_LIB_CUDA] = (gemmux_library){.present = true, .version = cuda.version};
    memcpy(machine->library[GEMMUX_LIB_CUDA].path, cuda.path, sizeof cuda.path);
    gemmux_library *lt = &machine->library[GEMMUX_LIB_CUBLASLT];
    gemmux_probe_library(GEMMUX_LIB_CUBLASLT, lt);
    if (!lt->present && !*lt->note)
        snprintf(lt->note, sizeof lt->note,
                 "no libcublasLt.so.13 or .12 in LD_LIBRARY_PATH, for the loader, in the active "
                 "Python environment, in /usr/local/cuda*/lib64 or targets/*/lib");
    return GEMMUX_OK;
}
