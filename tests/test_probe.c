/* SPDX-License-Identifier: Apache-2.0
 *
 * The CPU probe: what it says must agree with the system's own account of the machine, and limits
 * set by cgroups must count. */
#include "probe/probe.h"
#include "probe/spin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[64];

static int make_directory(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/gemmux-probe-XXXXXX");
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command);
}

static void write_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void probe_limits(const char *self, double *processors, int64_t *bytes)
{
    char path[256];
    write_file("self", self);
    snprintf(path, sizeof path, "%s/self", directory);
    gemmux_probe_cgroup(directory, path, processors, bytes);
}

static void cgroup_v2_takes_the_tightest_level(void **state)
{
    (void)state;
    double processors;
    int64_t bytes;
    write_file("a/cpu.max", "150000 100000\n");
    write_file("a/b/cpu.max", "max 100000\n");
    write_file("a/memory.max", "max\n");
    write_file("a/b/memory.max", "1073741824\n");
    probe_limits("0::/a/b\n", &processors, &bytes);
    assert_true(processors == 1.5);
    assert_int_equal(bytes, 1073741824);
    /* A path of another namespace: the root still counts. */
    write_file("cpu.max", "400000 100000\n");
    probe_limits("0::/docker/0123\n", &processors, &bytes);
    assert_true(processors == 4);
    assert_int_equal(bytes, 0);
    /* A path that climbs out is not followed. */
    probe_limits("0::/../a/b\n", &processors, &bytes);
    assert_true(processors == 0);
}

static void cgroup_v1_reads_both_controllers(void **state)
{
    (void)state;
    double processors;
    int64_t bytes;
    write_file("cpu/x/cpu.cfs_quota_us", "50000\n");
    write_file("cpu/x/cpu.cfs_period_us", "100000\n");
    write_file("memory/y/memory.limit_in_bytes", "9223372036854771712\n");
    write_file("memory/memory.limit_in_bytes", "2147483648\n");
    probe_limits("4:memory:/y\n1:cpu,cpuacct:/x\n", &processors, &bytes);
    assert_true(processors == 0.5);
    assert_int_equal(bytes, 2147483648);
    write_file("cpu/x/cpu.cfs_quota_us", "-1\n");
    probe_limits("1:cpuacct,cpu:/x\n", &processors, &bytes);
    assert_true(processors == 0);
}

static void cgroup_survives_nonsense(void **state)
{
    (void)state;
    double processors = 1;
    int64_t bytes = 1;
    gemmux_probe_cgroup(directory, "/nonexistent", &processors, &bytes);
    assert_true(processors == 0 && bytes == 0);
    write_file("n/cpu.max", "1 0\n");
    write_file("n/memory.max", "eleven\n");
    probe_limits("\n:\n0:\n0::/n\n", &processors, &bytes);
    assert_true(bytes == 0);
}

/* The kernel lists in /proc/cpuinfo what it saves and what the CPU has. */
static bool flag_listed(const char *flag)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    static char line[1 << 14];
    char word[32];
    bool found = false;
    snprintf(word, sizeof word, " %s ", flag);
    while (file && !found && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = ' ';
        found = (!strncmp(line, "flags", 5) || !strncmp(line, "Features", 8)) && strstr(line, word);
    }
    if (file) {
        fclose(file);
    }
    return found;
}

static void isa_agrees_with_the_system(void **state)
{
    (void)state;
    static const struct {
        uint32_t bit;
        const char *flag;
    } pairs[] = {
#if defined(__x86_64__)
        {GEMMUX_ISA_SSE2, "sse2"},
        {GEMMUX_ISA_AVX2, "avx2"},
        {GEMMUX_ISA_AVX512, "avx512vl"},
        {GEMMUX_ISA_AVX512BF16, "avx512_bf16"},
        {GEMMUX_ISA_AVX512VNNI, "avx512_vnni"},
        {GEMMUX_ISA_AVX512FP16, "avx512_fp16"},
        {GEMMUX_ISA_AVX512VBMI, "avx512vbmi"},
        {GEMMUX_ISA_AVXVNNI, "avx_vnni"},
        {GEMMUX_ISA_AMXBF16, "amx_bf16"},
        {GEMMUX_ISA_AMXINT8, "amx_int8"},
#elif defined(__aarch64__)
        {GEMMUX_ISA_NEON, "asimd"},
        {GEMMUX_ISA_DOTPROD, "asimddp"},
        {GEMMUX_ISA_I8MM, "i8mm"},
        {GEMMUX_ISA_BF16, "bf16"},
        {GEMMUX_ISA_SVE, "sve"},
#endif
        {0, NULL},
    };
    gemmux_machine machine;
    assert_int_equal(gemmux_machine_probe_cpu(&machine, NULL), GEMMUX_OK);
    for (int i = 0; pairs[i].flag; i++) {
        if (flag_listed(pairs[i].flag) != ((machine.isa & pairs[i].bit) != 0)) {
            fail_msg("%s: the system and the probe disagree", pairs[i].flag);
        }
    }
    assert_int_equal(machine.isa, gemmux_isa_closure(machine.isa));
}

static void facts_make_sense(void **state)
{
    (void)state;
    gemmux_machine machine;
    memset(&machine, 0xa5, sizeof machine);
    assert_int_equal(gemmux_machine_probe_cpu(&machine, NULL), GEMMUX_OK);
    assert_string_equal(machine.id, "cpu");
    assert_int_equal(machine.kind, GEMMUX_CPU);
    assert_false(machine.described);
    assert_true(*machine.name && strlen(machine.name) < sizeof machine.name);
    assert_true(machine.cores >= 1 && machine.cores <= sysconf(_SC_NPROCESSORS_ONLN));
    assert_true(machine.memory_bytes > INT64_C(1) << 24);
    assert_true(machine.memory_bytes <=
                (int64_t)sysconf(_SC_PHYS_PAGES) * (int64_t)sysconf(_SC_PAGESIZE));
    assert_true(machine.bandwidth > 1e9 && machine.launch_us > 0);
    for (int math = 0; math < GEMMUX_MATH_COUNT; math++) {
        assert_true(machine.peak[math] > 1e9);
    }
    long l1 = sysconf(_SC_LEVEL1_DCACHE_SIZE);
    if (l1 > 0) {
        assert_int_equal(machine.l1_bytes, l1);
    }
    assert_int_equal(machine.cc, 0);
    assert_null(machine.records);
    assert_null(machine.kernels);
}

static void cores_follow_the_affinity(void **state)
{
    (void)state;
    cpu_set_t old, one;
    gemmux_machine machine;
    assert_int_equal(sched_getaffinity(0, sizeof old, &old), 0);
    CPU_ZERO(&one);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &old)) {
            CPU_SET(cpu, &one);
            break;
        }
    }
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    gemmux_machine_probe_cpu(&machine, NULL);
    assert_int_equal(sched_setaffinity(0, sizeof old, &old), 0);
    assert_int_equal(machine.cores, 1);
}

/* Every level that this CPU has, not only the one it would use. */
static void spins_count_and_reads_read_at_every_level(void **state)
{
    (void)state;
    static const uint32_t levels[] = {
        GEMMUX_ISA_SSE2 | GEMMUX_ISA_NEON,
        GEMMUX_ISA_AVX2 | GEMMUX_ISA_DOTPROD,
        GEMMUX_ISA_AVXVNNI | GEMMUX_ISA_I8MM | GEMMUX_ISA_BF16,
        GEMMUX_ISA_AVX512,
        GEMMUX_ISA_AVX512BF16 | GEMMUX_ISA_AVX512VNNI,
        GEMMUX_ISA_AVX512FP16,
        GEMMUX_ISA_AMXBF16 | GEMMUX_ISA_AMXINT8,
    };
    gemmux_machine machine;
    gemmux_machine_probe_cpu(&machine, NULL);
    enum { LINES = 7 };
    unsigned char *lines = aligned_alloc(64, LINES * 64);
    assert_non_null(lines);
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        uint32_t isa = gemmux_isa_closure(levels[i]) & machine.isa;
        for (int math = 0; math < GEMMUX_MATH_COUNT; math++) {
            gemmux_spin *spin = gemmux_spin_of((gemmux_math)math, isa);
            if (spin)
                assert_true(spin(3) > 0 && spin(6) == 2 * spin(3));
        }
        assert_non_null(gemmux_spin_of(GEMMUX_MATH_F32, isa));
        gemmux_read *reader = gemmux_read_of(isa);
        memset(lines, 3, LINES * 64);
        uint64_t before = reader(lines, LINES);
        for (int byte = 0; byte < LINES * 64; byte++) {
            lines[byte] ^= 16;
            assert_true(reader(lines, LINES) != before);
            lines[byte] ^= 16;
        }
    }
    free(lines);
}

static void measuring_replaces_the_estimates(void **state)
{
    (void)state;
    gemmux_machine machine, before;
    gemmux_error error = {GEMMUX_OK, ""};
    gemmux_machine_probe_cpu(&machine, NULL);
    before = machine;
    assert_int_equal(gemmux_machine_measure(&machine, 1, &error), GEMMUX_OK);
    assert_true(machine.bandwidth != before.bandwidth);
    for (int math = 0; math < GEMMUX_MATH_COUNT; math++) {
        assert_true(machine.peak[math] != before.peak[math]);
        assert_true(isfinite(machine.peak[math]) && machine.peak[math] > 1e8);
    }
    assert_true(isfinite(machine.bandwidth) && machine.bandwidth > 1e8);
    /* Nothing else may change. */
    machine.bandwidth = before.bandwidth;
    memcpy(machine.peak, before.peak, sizeof machine.peak);
    assert_memory_equal(&machine, &before, sizeof machine);

    assert_int_equal(gemmux_machine_measure(&machine, 3, &error), GEMMUX_OK);
    assert_int_equal(gemmux_machine_measure(&machine, -1, &error), GEMMUX_ERROR_ARGUMENT);
    machine.described = true;
    assert_int_equal(gemmux_machine_measure(&machine, 1, &error), GEMMUX_ERROR_ARGUMENT);
}

/* Threads are pinned while they measure; the caller must be free again afterwards. */
static void measuring_leaves_the_caller_where_it_may_run(void **state)
{
    (void)state;
    cpu_set_t before, after;
    gemmux_machine machine;
    gemmux_error error = {GEMMUX_OK, ""};
    int cpus[4];
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    int cores = gemmux_probe_cores(cpus, 4);
    assert_true(cores >= 1);
    for (int i = 0; i < cores; i++) {
        assert_true(CPU_ISSET((size_t)cpus[i], &before));
        assert_true(i == 0 || cpus[i] > cpus[i - 1]);
    }
    gemmux_machine_probe_cpu(&machine, NULL);
    assert_int_equal(gemmux_machine_measure(&machine, 2, &error), GEMMUX_OK);
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    assert_true(CPU_EQUAL(&before, &after));

    cpu_set_t one; /* what a caller's mask forbids is no core of its own */
    CPU_ZERO(&one);
    CPU_SET((size_t)cpus[cores - 1], &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(gemmux_probe_cores(cpus, 4), 1);
    assert_int_equal(gemmux_machine_measure(&machine, 2, &error), GEMMUX_OK);
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    assert_true(CPU_EQUAL(&one, &after));
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(measuring_leaves_the_caller_where_it_may_run),
        cmocka_unit_test_setup_teardown(cgroup_v2_takes_the_tightest_level, make_directory,
                                        remove_directory),
        cmocka_unit_test_setup_teardown(cgroup_v1_reads_both_controllers, make_directory,
                                        remove_directory),
        cmocka_unit_test_setup_teardown(cgroup_survives_nonsense, make_directory, remove_directory),
        cmocka_unit_test(isa_agrees_with_the_system),
        cmocka_unit_test(facts_make_sense),
        cmocka_unit_test(cores_follow_the_affinity),
        cmocka_unit_test(spins_count_and_reads_read_at_every_level),
        cmocka_unit_test(measuring_replaces_the_estimates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
