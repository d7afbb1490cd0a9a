/* SPDX-License-Identifier: Apache-2.0
 *
 * Facts about the CPU this process runs on. Instruction sets count only when the operating system
 * saves their registers; cores, caches and memory are those this process may use. Rates are rough:
 * operations a cycle that the instruction set implies, times a clock estimate. measure.c replaces
 * them.
 */
#include "gemmux.h"
#include "probe/probe.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

#if defined(__x86_64__)
#    include <cpuid.h>
#    include <sys/syscall.h>
#    include <unistd.h>
#elif defined(__aarch64__)
#    include <sys/auxv.h>
#endif

#define SYS_CPU "/sys/devices/system/cpu"
#define GIGA    1e9

#if defined(__x86_64__)

typedef struct leaf {
    uint32_t a, b, c, d;
} leaf;

/* All zero for a leaf that the CPU does not have. */
static leaf cpuid(uint32_t number, uint32_t sub)
{
    leaf l = {0, 0, 0, 0};
    __get_cpuid_count(number, sub, &l.a, &l.b, &l.c, &l.d);
    return l;
}

static bool bit(uint32_t word, int index)
{
    return word >> index & 1;
}

/* Linux grants AMX's tile registers to a process only on request (arch_prctl, since 5.16). The
 * grant holds for the whole process and cannot be taken back; its one cost is a larger signal
 * frame on machines that have AMX. */
static bool request_tiles(void)
{
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

static uint32_t probe_isa(void)
{
    enum { XCR0_AVX = 0x6, XCR0_AVX512 = 0xe6, XCR0_AMX = 0x60000 };
    leaf one = cpuid(1, 0), seven = cpuid(7, 0), more = cpuid(7, 1);
    uint32_t isa = GEMMUX_ISA_SSE2, low = 0, high = 0;
    if (!bit(one.c, 27)) {
        return isa;
    }
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & XCR0_AVX) != XCR0_AVX || !bit(one.c, 12) || !bit(one.c, 29) || !bit(seven.b, 5)) {
        return isa;
    }
    isa |= GEMMUX_ISA_AVX2;
    isa |= bit(more.a, 4) ? GEMMUX_ISA_AVXVNNI : 0;
    bool foundation = bit(seven.b, 16) && bit(seven.b, 17) && bit(seven.b, 28) &&
                      bit(seven.b, 30) && bit(seven.b, 31);
    if ((low & XCR0_AVX512) != XCR0_AVX512 || !foundation) {
        return isa;
    }
    isa |= GEMMUX_ISA_AVX512;
    isa |= bit(more.a, 5) ? GEMMUX_ISA_AVX512BF16 : 0;
    isa |= bit(seven.c, 11) ? GEMMUX_ISA_AVX512VNNI : 0;
    isa |= bit(seven.d, 23) ? GEMMUX_ISA_AVX512FP16 : 0;
    isa |= bit(seven.c, 1) ? GEMMUX_ISA_AVX512VBMI : 0;
    if (bit(seven.d, 24) && (low & XCR0_AMX) == XCR0_AMX && request_tiles()) {
        isa |= bit(seven.d, 22) ? GEMMUX_ISA_AMXBF16 : 0;
        isa |= bit(seven.d, 25) ? GEMMUX_ISA_AMXINT8 : 0;
    }
    return isa;
}

static void probe_name(char *name, size_t size)
{
    char brand[49] = "";
    if (cpuid(0x80000000u, 0).a >= 0x80000004u) {
        for (uint32_t i = 0; i < 3; i++) {
            leaf l = cpuid(0x80000002u + i, 0);
            memcpy(brand + 16 * i, &l, 16);
        }
    }
    const char *start = brand + strspn(brand, " ");
    size_t length = strlen(start);
    while (length && start[length - 1] == ' ') {
        length--;
    }
    snprintf(name, size, "%.*s", (int)length, start);
}

/* Leaf 4 (Intel) and 0x8000001D (AMD) describe caches in the same words. */
static void probe_caches(gemmux_machine *machine)
{
    uint32_t number = 4;
    if (!(cpuid(4, 0).a & 31) && bit(cpuid(0x80000001u, 0).c, 22)) {
        number = 0x8000001du;
    }
    for (uint32_t i = 0; i < 16; i++) {
        leaf l = cpuid(number, i);
        int type = l.a & 31, level = l.a >> 5 & 7;
        if (!type) {
            break;
        }
        int64_t bytes = (int64_t)((l.b >> 22) + 1) * ((l.b >> 12 & 0x3ff) + 1) *
                        ((l.b & 0xfff) + 1) * ((int64_t)l.c + 1);
        int64_t *sizes[] = {NULL, &machine->l1_bytes, &machine->l2_bytes, &machine->l3_bytes};
        enum { INSTRUCTIONS = 2 };
        if (type != INSTRUCTIONS && level >= 1 && level <= 3) {
            *sizes[level] = bytes;
        }
    }
}

/* The highest clock the CPU itself states, in GHz; 0 when it does not. */
static double probe_clock(void)
{
    return (cpuid(0x16, 0).b & 0xffff) / 1000.0;
}

#elif defined(__aarch64__)

static uint32_t probe_isa(void)
{
    /* Bits of asm/hwcap.h, by number because older headers lack the newer names. */
    unsigned long one = getauxval(AT_HWCAP), two = getauxval(AT_HWCAP2);
    uint32_t isa = one >> 1 & 1 ? GEMMUX_ISA_NEON : 0;
    isa |= one >> 20 & 1 ? GEMMUX_ISA_DOTPROD : 0;
    isa |= one >> 22 & 1 ? GEMMUX_ISA_SVE : 0;
    isa |= two >> 13 & 1 ? GEMMUX_ISA_I8MM : 0;
    isa |= two >> 14 & 1 ? GEMMUX_ISA_BF16 : 0;
    return isa;
}

static void probe_name(char *name, size_t size)
{
    (void)name;
    (void)size;
}

static void probe_caches(gemmux_machine *machine)
{
    (void)machine;
}

static double probe_clock(void)
{
    return 0;
}

#else

static uint32_t probe_isa(void)
{
    return 0;
}

static void probe_name(char *name, size_t size)
{
    (void)name;
    (void)size;
}

static void probe_caches(gemmux_machine *machine)
{
    (void)machine;
}

static double probe_clock(void)
{
    return 0;
}

#endif

/* Where the CPU says nothing of itself: /proc/cpuinfo, the device tree, the architecture. */
static void probe_name_from_system(char *name, size_t size)
{
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[256];
    while (file && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (colon && !strncmp(line, "model name", 10)) {
            colon[strcspn(colon, "\n")] = '\0';
            snprintf(name, size, "%.60s", colon + 1 + strspn(colon + 1, " "));
            break;
        }
    }
    if (file) {
        fclose(file);
    }
    if (!*name && gemmux_probe_line("/sys/firmware/devicetree/base/model", line, sizeof line)) {
        snprintf(name, size, "%.60s", line);
    }
    if (!*name) {
#if defined(__aarch64__)
        snprintf(name, size, "aarch64 CPU");
#else
        snprintf(name, size, "unknown CPU");
#endif
    }
}

/* Fills the cache sizes that are still unknown from sysfs: "32K", "1024K", "32768K". */
static void probe_caches_from_system(gemmux_machine *machine)
{
    for (int i = 0; i < 8; i++) {
        char path[96], type[32], level[8], text[32];
        snprintf(path, sizeof path, SYS_CPU "/cpu0/cache/index%d/type", i);
        if (!gemmux_probe_line(path, type, sizeof type) || !strcmp(type, "Instruction")) {
            continue;
        }
        snprintf(path, sizeof path, SYS_CPU "/cpu0/cache/index%d/level", i);
        if (!gemmux_probe_line(path, level, sizeof level)) {
            continue;
        }
        snprintf(path, sizeof path, SYS_CPU "/cpu0/cache/index%d/size", i);
        if (!gemmux_probe_line(path, text, sizeof text)) {
            continue;
        }
        char *unit;
        int64_t bytes = strtoll(text, &unit, 10);
        bytes *= *unit == 'K' ? 1024 : *unit == 'M' ? 1024 * 1024 : 1;
        int64_t *size = *level == '1'   ? &machine->l1_bytes
                        : *level == '2' ? &machine->l2_bytes
                        : *level == '3' ? &machine->l3_bytes
                                        : NULL;
        if (size && *size == 0) {
            *size = bytes;
        }
    }
}

/* A CPU counts unless another usable one with a lower number is the same core's twin: two threads
 * of one core share its multipliers. */
static bool first_of_its_core(int cpu, const cpu_set_t *usable)
{
    char path[96], list[256];
    snprintf(path, sizeof path, SYS_CPU "/cpu%d/topology/thread_siblings_list", cpu);
    if (!gemmux_probe_line(path, list, sizeof list)) {
        return true;
    }
    for (char *at = list; *at;) { /* "0,64" or "0-1" */
        char *end;
        long first = strtol(at, &end, 10), last = first;
        if (end == at) {
            break;
        }
        if (*end == '-') {
            last = strtol(end + 1, &end, 10);
        }
        for (long i = first; i <= last && i < cpu; i++) {
            if (i >= 0 && i < CPU_SETSIZE && CPU_ISSET((size_t)i, usable)) {
                return false;
            }
        }
        at = *end == ',' ? end + 1 : end + strlen(end);
    }
    return true;
}

int gemmux_probe_cores(int *cpus, int most)
{
    cpu_set_t usable;
    int count = 0;
    if (sched_getaffinity(0, sizeof usable, &usable) != 0) {
        return 0;
    }
    for (int cpu = 0; cpu < CPU_SETSIZE && count < most; cpu++) {
        if (CPU_ISSET((size_t)cpu, &usable) && first_of_its_core(cpu, &usable)) {
            cpus[count++] = cpu;
        }
    }
    return count;
}

static int32_t probe_cores(double processors)
{
    int cpus[CPU_SETSIZE];
    int32_t cores = gemmux_probe_cores(cpus, CPU_SETSIZE);
    if (cores == 0) {
        cores = get_nprocs();
    }
    if (processors > 0 && processors < cores) {
        cores = (int32_t)ceil(processors);
    }
    return cores > 0 ? cores : 1;
}

static int64_t probe_memory(int64_t limit)
{
    struct sysinfo info;
    if (sysinfo(&info) != 0) {
        return limit;
    }
    int64_t bytes = (int64_t)info.totalram * info.mem_unit;
    return limit > 0 && limit < bytes ? limit : bytes;
}

static double estimate_clock_ghz(void)
{
    double ghz = probe_clock();
    char line[64];
    if (ghz <= 0 &&
        gemmux_probe_line(SYS_CPU "/cpu0/cpufreq/cpuinfo_max_freq", line, sizeof line)) {
        ghz = strtod(line, NULL) / 1e6; /* kHz */
    }
    return ghz > 0.5 && ghz < 10 ? ghz : 2.5;
}

/* Operations a cycle of one core, two a multiply-add; where cores differ, the slower. */
static void estimate_rates(gemmux_machine *machine)
{
    uint32_t isa = machine->isa;
    double cores = machine->cores, cycles = cores * estimate_clock_ghz() * GIGA;
    double f32 = 2;
    f32 = isa & GEMMUX_ISA_SSE2 ? 8 : f32;
    f32 = isa & GEMMUX_ISA_NEON ? 16 : f32;
    f32 = isa & (GEMMUX_ISA_AVX2 | GEMMUX_ISA_AVX512) ? 32 : f32;
    double bf16 = isa & (GEMMUX_ISA_AVX512BF16 | GEMMUX_ISA_BF16) ? 2 * f32 : f32;
    bf16 = isa & GEMMUX_ISA_AMXBF16 ? 1024 : bf16;
    double f16 = isa & GEMMUX_ISA_AVX512FP16 ? 2 * f32 : f32;
    uint32_t dot4 = GEMMUX_ISA_AVX512VNNI | GEMMUX_ISA_AVXVNNI | GEMMUX_ISA_DOTPROD;
    double int8 = isa & dot4 ? 4 * f32 : f32;
    int8 = isa & GEMMUX_ISA_I8MM ? 8 * f32 : int8;
    int8 = isa & GEMMUX_ISA_AMXINT8 ? 2048 : int8;
    machine->peak[GEMMUX_MATH_F32] = f32 * cycles;
    machine->peak[GEMMUX_MATH_TF32] = f32 * cycles;
    machine->peak[GEMMUX_MATH_F16] = f16 * cycles;
    machine->peak[GEMMUX_MATH_BF16] = bf16 * cycles;
    machine->peak[GEMMUX_MATH_FP8] = bf16 * cycles; /* upcast: no CPU multiplies these */
    machine->peak[GEMMUX_MATH_FP4] = bf16 * cycles;
    machine->peak[GEMMUX_MATH_INT8] = int8 * cycles;
    /* One core reads 10-30 GB/s; a desktop socket stops near 40, servers near 3 a core. */
    machine->bandwidth = fmin(cores * 15, fmax(40, cores * 3)) * GIGA;
    machine->launch_us = machine->cores > 1 ? 3 : 0.2;
}

gemmux_status gemmux_machine_probe_cpu(gemmux_machine *machine, gemmux_error *error)
{
    (void)error;
    double processors;
    int64_t limit_bytes;
    memset(machine, 0, sizeof *machine);
    gemmux_probe_cgroup("/sys/fs/cgroup", "/proc/self/cgroup", &processors, &limit_bytes);
    snprintf(machine->id, sizeof machine->id, "cpu");
    machine->kind = GEMMUX_CPU;
    machine->isa = gemmux_isa_closure(probe_isa());
    machine->cores = probe_cores(processors);
    machine->memory_bytes = probe_memory(limit_bytes);
    probe_name(machine->name, sizeof machine->name);
    if (!*machine->name) {
        probe_name_from_system(machine->name, sizeof machine->name);
    }
    probe_caches(machine);
    probe_caches_from_system(machine);
    estimate_rates(machine);
    gemmux_probe_library(GEMMUX_LIB_ONEDNN, &machine->library[GEMMUX_LIB_ONEDNN]);
    gemmux_probe_library(GEMMUX_LIB_OPENBLAS, &machine->library[GEMMUX_LIB_OPENBLAS]);
    return GEMMUX_OK;
}
