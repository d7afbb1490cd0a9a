/* SPDX-License-Identifier: Apache-2.0
 *
 * Device files: every embedded one parses and says what a planner needs, every key does what
 * docs/devices.md says, and every way to get one wrong is answered with its line and a reason.
 */
#include "machine.h"
#include "nearest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CPU_HEAD  "name Test\nkind cpu\nisa sse2\n"
#define CUDA_HEAD "name Test\nkind cuda\ncc 9.0\n"

static gemmux_status parse(const char *text, gemmux_machine *machine, gemmux_error *error)
{
    memset(error, 0, sizeof *error);
    return gemmux_machine_parse(text, strlen(text), "dir/test.txt", machine, error);
}

static void embedded_devices_parse(void **state)
{
    (void)state;
    int cpus = 0, gpus = 0;
    for (int i = 0; i < gemmux_machine_builtin_count(); i++) {
        gemmux_machine machine;
        gemmux_error error = {0};
        const char *name = gemmux_machine_builtin_name(i);
        if (gemmux_machine_find(name, &machine, &error) != GEMMUX_OK)
            fail_msg("%s: %s", name, error.text);
        assert_string_equal(machine.id, name);
        assert_true(machine.described);
        assert_true(machine.name[0] != '\0');
        assert_true(machine.cores > 0);
        assert_true(machine.memory_bytes > 0);
        assert_true(machine.bandwidth > 0);
        assert_true(machine.peak[GEMMUX_MATH_F32] > 0);
        assert_true(machine.launch_us > 0);
        cpus += machine.kind == GEMMUX_CPU;
        gpus += machine.kind == GEMMUX_CUDA;
        if (machine.kind == GEMMUX_CUDA) {
            assert_non_null(gemmux_cuda_arch_find(machine.cc));
            assert_true(machine.smem_bytes >= GEMMUX_SMEM_CONSERVATIVE);
        }
    }
    assert_true(cpus >= 10);
    assert_true(gpus >= 20);
    assert_null(gemmux_machine_builtin_name(-1));
    assert_null(gemmux_machine_builtin_name(gemmux_machine_builtin_count()));
}

/* A peak that grows as numbers get narrower is what every datasheet shows; a slip of a unit or of
 * "with sparsity" breaks it. Bytes moved against operations done catch a slip of bandwidth. */
static void embedded_figures_are_plausible(void **state)
{
    (void)state;
    for (int i = 0; i < gemmux_machine_builtin_count(); i++) {
        gemmux_machine m;
        assert_int_equal(gemmux_machine_find(gemmux_machine_builtin_name(i), &m, NULL), GEMMUX_OK);
        const double *peak = m.peak;
        double f16 = peak[GEMMUX_MATH_F16], bf16 = peak[GEMMUX_MATH_BF16];
        if (bf16 > 0 && m.kind == GEMMUX_CUDA)
            assert_true(f16 == bf16 && bf16 >= peak[GEMMUX_MATH_TF32]);
        if (peak[GEMMUX_MATH_FP8] > 0)
            assert_true(peak[GEMMUX_MATH_FP8] >= 1.9 * bf16 && peak[GEMMUX_MATH_FP8] < 2.1 * bf16);
        if (peak[GEMMUX_MATH_FP4] > 0)
            assert_true(peak[GEMMUX_MATH_FP4] >= 1.9 * peak[GEMMUX_MATH_FP8] &&
                        peak[GEMMUX_MATH_FP4] < 4.1 * peak[GEMMUX_MATH_FP8]);
        double balance = peak[GEMMUX_MATH_F32] / m.bandwidth; /* operations a byte */
        if (balance < 1 || balance > 200)
            fail_msg("%s: %.1f f32 operations a byte", m.id, balance);
    }
}

static void every_key_is_read(void **state)
{
    (void)state;
    gemmux_machine m;
    gemmux_error error;
    const char *gpu = "\xef\xbb\xbf# a comment\r\n"
                      "name  NVIDIA  Thing  # with two spaces\r\n"
                      "\tkind cuda\n\n"
                      "cc 12.1\ncores 48\nsmem 99 KiB\nl1 128KiB\nl2 24 MiB\nmemory 128 GB\n"
                      "bandwidth 273 GB/s\nattained 80 %\nlaunch 1500 ns\n"
                      "peak bf16 125 TFLOP/s\npeak fp4 0.5 PFLOP/s\npeak int8 2.5e2 TOP/s\n"
                      "library cuda 13.0\nlibrary cublaslt 13.1.2 no-code";
    assert_int_equal(parse(gpu, &m, &error), GEMMUX_OK);
    assert_string_equal(m.name, "NVIDIA  Thing");
    assert_string_equal(m.id, "test");
    assert_int_equal(m.kind, GEMMUX_CUDA);
    assert_int_equal(m.cc, 121);
    assert_int_equal(m.cores, 48);
    assert_int_equal(m.smem_bytes, 99 * 1024);
    assert_int_equal(m.l1_bytes, 128 * 1024);
    assert_int_equal(m.l2_bytes, 24 << 20);
    assert_true(m.memory_bytes == INT64_C(128000000000));
    assert_true(m.bandwidth > 273e9 * 0.8 - 1 && m.bandwidth < 273e9 * 0.8 + 1);
    assert_true(m.launch_us == 1.5);
    assert_true(m.peak[GEMMUX_MATH_BF16] == 125e12);
    assert_true(m.peak[GEMMUX_MATH_FP4] == 500e12);
    assert_true(m.peak[GEMMUX_MATH_INT8] == 250e12);
    assert_true(m.peak[GEMMUX_MATH_F32] == 0);
    assert_true(m.library[GEMMUX_LIB_CUDA].present);
    assert_int_equal(m.library[GEMMUX_LIB_CUDA].version, 13000);
    assert_int_equal(m.library[GEMMUX_LIB_CUBLASLT].version, 130102);
    assert_int_equal(m.library[GEMMUX_LIB_CUBLASLT].arch_set, 1);
    assert_false(m.library[GEMMUX_LIB_ONEDNN].present);

    const char *cpu = "name C\nkind cpu\nisa avx512bf16 avxvnni\nl3 32 MiB\n"
                      "library onednn 3.5 code\nlibrary openblas 0.3.21\n";
    assert_int_equal(parse(cpu, &m, &error), GEMMUX_OK);
    assert_int_equal(m.isa, GEMMUX_ISA_AVX512BF16 | GEMMUX_ISA_AVX512 | GEMMUX_ISA_AVX2 |
                                GEMMUX_ISA_SSE2 | GEMMUX_ISA_AVXVNNI);
    assert_int_equal(m.l3_bytes, 32 << 20);
    assert_int_equal(m.library[GEMMUX_LIB_ONEDNN].version, 30500);
    assert_int_equal(m.library[GEMMUX_LIB_ONEDNN].arch_set, 2);
    assert_int_equal(m.library[GEMMUX_LIB_OPENBLAS].version, 321);
}

static void bandwidth_is_what_a_read_attains(void **state)
{
    (void)state;
    gemmux_machine m;
    gemmux_error error;
    assert_int_equal(parse(CUDA_HEAD "bandwidth 1 TB/s\n", &m, &error), GEMMUX_OK);
    assert_true(m.bandwidth == 0.9e12);
}

/* Order of lines is free: a key of the wrong kind is found wherever it stands. */
static const struct {
    const char *text;
    int line;
    const char *says;
} mistakes[] = {
    {"", 1, "no 'name'"},
    {"name X\n", 1, "no 'kind'"},
    {"name X\nkind cpu\n", 2, "needs 'isa'"},
    {"name X\nkind cuda\n", 2, "needs 'cc'"},
    {"name X\nkind tpu\n", 2, "neither 'cpu' nor 'cuda'"},
    {"name\n", 1, "name has no value"},
    {"name X\nname Y\n", 2, "already given in line 1"},
    {"name 0123456789012345678901234567890123456789012345678901234567890123\n", 1, "64 bytes"},
    {"isa sse2\nname X\nkind cuda\ncc 9.0\n", 1, "says nothing about a device of kind cuda"},
    {CPU_HEAD "cc 9.0\n", 4, "says nothing about a device of kind cpu"},
    {CPU_HEAD "smem 99 KiB\n", 4, "says nothing about"},
    {CUDA_HEAD "l3 1 MiB\n", 4, "says nothing about"},
    {CPU_HEAD "bandwith 1 GB/s\n", 4, "unknown key 'bandwith'; did you mean 'bandwidth'?"},
    {CPU_HEAD "xyzzy 1\n", 4, "unknown key 'xyzzy'"},
    {CPU_HEAD "\xff\xfe 1\n", 4, "unknown key"},
    {CPU_HEAD "cores 2\x01\n", 4, "byte 0x01"},
    {CPU_HEAD "cores\n", 4, "takes 1 value"},
    {CPU_HEAD "cores 2 4\n", 4, "takes 1 value"},
    {CPU_HEAD "cores 0\n", 4, "whole number"},
    {CPU_HEAD "cores -2\n", 4, "whole number"},
    {CPU_HEAD "cores 65537\n", 4, "whole number"},
    {CPU_HEAD "cores 99999999999\n", 4, "whole number"},
    {CPU_HEAD "memory 80\n", 4, "needs a unit"},
    {CPU_HEAD "memory\n", 4, "has no value"},
    {CPU_HEAD "memory lots\n", 4, "is not a number"},
    {CPU_HEAD "memory . GB\n", 4, "is not a number"},
    {CPU_HEAD "memory 8. GB\n", 4, "is not a number"},
    {CPU_HEAD "memory -8 GB\n", 4, "is not a number"},
    {CPU_HEAD "memory nan GB\n", 4, "is not a number"},
    {CPU_HEAD "memory inf GB\n", 4, "is not a number"},
    {CPU_HEAD "memory 0x8 GB\n", 4, "not a unit"},
    {CPU_HEAD "memory 1e31 GB\n", 4, "is not a number"},
    {CPU_HEAD "memory 123456789012345678 B\n", 4, "is not a number"},
    {CPU_HEAD "memory 8 Gb\n", 4, "'Gb' is not a unit of memory: one of B, KiB"},
    {CPU_HEAD "memory 8 GB 9\n", 4, "follows the value"},
    {CPU_HEAD "memory 8 kB\n", 4, "is outside"},
    {CPU_HEAD "memory 1e15 TB\n", 4, "is outside"},
    {CPU_HEAD "bandwidth 20 GB\n", 4, "is not a unit of bandwidth"},
    {CPU_HEAD "attained 80 %\n", 4, "share of 'bandwidth'"},
    {CPU_HEAD "bandwidth 1 GB/s\nattained 120 %\n", 5, "is outside"},
    {CPU_HEAD "launch 2 s\n", 4, "is not a unit of launch"},
    {CPU_HEAD "peak\n", 4, "peak has no value"},
    {CPU_HEAD "peak bf61 1 TFLOP/s\n", 4, "unknown kind of math 'bf61'; did you mean 'bf16'?"},
    {CPU_HEAD "peak f32\n", 4, "peak has no value"},
    {CPU_HEAD "peak f32 1 TFLOP\n", 4, "is not a unit of peak"},
    {CPU_HEAD "peak f32 1 TFLOP/s\npeak f32 2 TFLOP/s\n", 5, "already given in line 4"},
    {CPU_HEAD "library onednn\n", 4, "a name and a version"},
    {CPU_HEAD "library onedn 3.5\n", 4, "unknown library 'onedn'; did you mean 'onednn'?"},
    {CPU_HEAD "library onednn three\n", 4, "is not a version"},
    {CPU_HEAD "library onednn 3.\n", 4, "is not a version"},
    {CPU_HEAD "library onednn 3.5.1.2\n", 4, "is not a version"},
    {CPU_HEAD "library onednn 3.100\n", 4, "is not a version"},
    {CPU_HEAD "library onednn 3.5 maybe\n", 4, "neither 'code' nor 'no-code'"},
    {CPU_HEAD "library onednn 3.5\nlibrary onednn 3.6\n", 5, "already given in line 4"},
    {"name X\nkind cpu\nisa\n", 3, "isa has no value"},
    {"name X\nkind cpu\nisa avx51\n", 3, "unknown instruction set 'avx51'; did you mean 'avx512'?"},
    {"name X\nkind cpu\nisa avx2 neon\n", 3, "mixes x86 and Arm"},
    {"name X\nkind cpu\nisa avx2 avx2\n", 3, "named twice"},
    {"name X\nkind cuda\ncc 9\n", 3, "not a compute capability"},
    {"name X\nkind cuda\ncc 0.0\n", 3, "not a compute capability"},
    {"name X\nkind cuda\ncc 9.12\n", 3, "not a compute capability"},
    {"name X\nkind cuda\ncc 900.0\n", 3, "not a compute capability"},
    {"name X\nkind cuda\ncc sm_90\n", 3, "not a compute capability"},
    {"name a b c d e f g h i j k l m n o p q r s t u v w x y z\n", 1, "more than 24 words"},
};

static void mistakes_name_line_and_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        gemmux_machine machine;
        gemmux_error error;
        char at[40];
        gemmux_status status = parse(mistakes[i].text, &machine, &error);
        snprintf(at, sizeof at, "dir/test.txt:%d: ", mistakes[i].line);
        if (status != GEMMUX_ERROR_INPUT || error.status != status ||
            strncmp(error.text, at, strlen(at)) || !strstr(error.text, mistakes[i].says))
            fail_msg("case %zu: status %d, \"%s\" instead of \"%s...%s\"", i, (int)status,
                     error.text, at, mistakes[i].says);
        assert_int_equal(machine.kind, 0); /* nothing half-filled comes back */
    }
}

static void sizes_and_nul_bytes_are_refused(void **state)
{
    (void)state;
    gemmux_machine machine;
    gemmux_error error = {0};
    char line[700];
    memset(line, 'x', sizeof line);
    assert_int_equal(gemmux_machine_parse(line, sizeof line, "s", &machine, &error),
                     GEMMUX_ERROR_INPUT);
    assert_non_null(strstr(error.text, "s:1: the line has 700 bytes"));

    const char nul[] = "name X\nkind\0cpu\n";
    assert_int_equal(gemmux_machine_parse(nul, sizeof nul - 1, "s", &machine, &error),
                     GEMMUX_ERROR_INPUT);
    assert_non_null(strstr(error.text, "s:2: NUL byte in column 5"));

    size_t big = 64 * 1024 + 1;
    char *text = malloc(big);
    assert_non_null(text);
    memset(text, '\n', big);
    assert_int_equal(gemmux_machine_parse(text, big, "s", &machine, &error), GEMMUX_ERROR_INPUT);
    assert_non_null(strstr(error.text, "more than 65536 bytes"));
    free(text);

    assert_int_equal(gemmux_machine_parse(NULL, 1, "s", &machine, &error), GEMMUX_ERROR_ARGUMENT);
    assert_int_equal(gemmux_machine_parse("", 0, "s", NULL, &error), GEMMUX_ERROR_ARGUMENT);
}

static void unknown_chip_gets_the_conservative_set(void **state)
{
    (void)state;
    gemmux_machine m;
    gemmux_error error;
    char arch[32];
    assert_int_equal(parse("name Future\nkind cuda\ncc 13.0\n", &m, &error), GEMMUX_OK);
    assert_int_equal(m.cc, 130);
    assert_null(gemmux_cuda_arch_find(130));
    assert_int_equal(m.smem_bytes, 48 * 1024);
    assert_string_equal(gemmux_machine_arch(&m, arch, sizeof arch), "sm_130");
    char caution[256];
    assert_non_null(gemmux_machine_caution(&m, caution, sizeof caution));
    assert_non_null(strstr(caution, "sm_130"));
    assert_non_null(strstr(caution, "48 KiB"));
    /* What the file says counts for more than what is unknown. */
    assert_int_equal(parse("name F\nkind cuda\ncc 13.0\nsmem 256 KiB\n", &m, &error), GEMMUX_OK);
    assert_int_equal(m.smem_bytes, 256 * 1024);
    assert_int_equal(parse("name K\nkind cuda\ncc 12.1\n", &m, &error), GEMMUX_OK);
    assert_null(gemmux_machine_caution(&m, caution, sizeof caution));
    assert_int_equal(m.smem_bytes, 99 * 1024);
}

static void machines_are_found_by_name_and_path(void **state)
{
    (void)state;
    gemmux_machine m;
    gemmux_error error = {0};
    assert_int_equal(gemmux_machine_find("h200", &m, &error), GEMMUX_OK);
    assert_int_equal(m.cc, 90);
    assert_int_equal(gemmux_machine_find("cpu", &m, &error), GEMMUX_OK);
    assert_false(m.described);
    assert_string_equal(m.id, "cpu");
    assert_int_equal(gemmux_machine_find("h20", &m, &error), GEMMUX_ERROR_INPUT);
    assert_non_null(strstr(error.text, "did you mean 'h200'?"));
    assert_int_equal(gemmux_machine_find("/", &m, &error), GEMMUX_ERROR_IO);
    assert_int_equal(gemmux_machine_find(NULL, &m, &error), GEMMUX_ERROR_ARGUMENT);

    char path[] = "/tmp/gemmux-device-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *file = fdopen(fd, "w");
    assert_non_null(file);
    fputs(CPU_HEAD "cores 3\n", file);
    fclose(file);
    gemmux_status status = gemmux_machine_find(path, &m, &error);
    remove(path);
    assert_int_equal(status, GEMMUX_OK);
    assert_int_equal(m.cores, 3);
}

static void isa_closure_and_names(void **state)
{
    (void)state;
    assert_int_equal(gemmux_isa_closure(0), 0);
    assert_int_equal(gemmux_isa_closure(GEMMUX_ISA_AVX2), GEMMUX_ISA_AVX2 | GEMMUX_ISA_SSE2);
    assert_int_equal(gemmux_isa_closure(GEMMUX_ISA_I8MM), GEMMUX_ISA_I8MM | GEMMUX_ISA_NEON);
    assert_int_equal(gemmux_isa_closure(GEMMUX_ISA_AMXINT8), GEMMUX_ISA_AMXINT8 | GEMMUX_ISA_SSE2);
    for (uint32_t bit = 1; bit; bit <<= 1) {
        const char *name = gemmux_isa_name(bit);
        if (name)
            assert_int_equal(gemmux_isa_parse(name), bit);
        assert_int_equal(gemmux_isa_closure(gemmux_isa_closure(bit)), gemmux_isa_closure(bit));
    }
    assert_null(gemmux_isa_name(3));
    assert_int_equal(gemmux_isa_parse("avx"), 0);
    assert_int_equal(gemmux_isa_parse(NULL), 0);
    assert_string_equal(gemmux_math_name(GEMMUX_MATH_INT8), "int8");
    assert_string_equal(gemmux_library_name(GEMMUX_LIB_CUBLASLT), "cublaslt");
}

static void arch_says_the_best_set(void **state)
{
    (void)state;
    static const char *const expected[][2] = {
        {"bare", "x86-64"},
        {"avx2-laptop", "x86-64+avx2"},
        {"zen4", "x86-64+avx512bf16"},
        {"ice-lake", "x86-64+avx512vnni"},
        {"sapphire-rapids", "x86-64+amxbf16"},
        {"graviton3", "aarch64+i8mm"},
        {"rtx-pro-6000", "sm_120"},
        {"b300", "sm_103"},
    };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        gemmux_machine m;
        char arch[32];
        assert_int_equal(gemmux_machine_find(expected[i][0], &m, NULL), GEMMUX_OK);
        assert_string_equal(gemmux_machine_arch(&m, arch, sizeof arch), expected[i][1]);
    }
}

static void nearest_word(void **state)
{
    (void)state;
    static const char *const words[] = {"h100-sxm", "h100-pcie", "l4"};
    assert_string_equal(gemmux_nearest("h100sxm", 7, words, 3), "h100-sxm");
    assert_null(gemmux_nearest("zebra", 5, words, 3));
    assert_null(gemmux_nearest("", 0, words, 3));
    char longer[200];
    memset(longer, 'h', sizeof longer);
    assert_null(gemmux_nearest(longer, sizeof longer, words, 3));
}

/* ------------------------------------------------------------------------------------- changes */

static void change(gemmux_machine *m, const char *fact, const char *value)
{
    gemmux_error error;
    if (gemmux_machine_change(m, fact, value, &error))
        fail_msg("%s=%s: %s", fact, value, error.text);
}

static void one_fact_changes_and_the_rest_stays(void **state)
{
    (void)state;
    gemmux_machine m, before;
    char text[160];
    assert_int_equal(gemmux_machine_find("h200", &m, NULL), GEMMUX_OK);
    before = m;
    change(&m, "memory", "96 GB");
    assert_int_equal(m.memory_bytes, INT64_C(96000000000));
    m.memory_bytes = before.memory_bytes;
    assert_memory_equal(&m, &before, sizeof m);

    change(&m, "bandwidth", "2 TB/s"); /* the vendor's figure, as in a file */
    assert_true(m.bandwidth > 1.7999e12 && m.bandwidth < 1.8001e12);
    change(&m, "peak.fp4", "10 PFLOP/s");
    assert_true(m.peak[GEMMUX_MATH_FP4] == 1e16);
    change(&m, "smem", "48KiB");
    assert_int_equal(m.smem_bytes, 48 * 1024);
    change(&m, "launch", "900 ns");
    change(&m, "cores", "7");
    assert_int_equal(m.cores, 7);
    change(&m, "cublaslt", "13.2");
    assert_int_equal(m.library[GEMMUX_LIB_CUBLASLT].version, 130200);
    change(&m, "cublaslt", "12.9.1 no-code");
    assert_int_equal(m.library[GEMMUX_LIB_CUBLASLT].version, 120901);
    assert_int_equal(m.library[GEMMUX_LIB_CUBLASLT].arch_set, 1);
    assert_string_equal(gemmux_machine_fact(&m, "cublaslt", text, sizeof text), "12.9.1 no-code");
    change(&m, "cc", "12.1"); /* another chip: its shared memory, and nobody scanned for it */
    assert_int_equal(m.cc, 121);
    assert_int_equal(m.smem_bytes, 99 * 1024);
    assert_int_equal(m.library[GEMMUX_LIB_CUBLASLT].arch_set, 0);
    change(&m, "cublaslt", "none");
    assert_false(m.library[GEMMUX_LIB_CUBLASLT].present);
}

static void instruction_sets_are_set_or_added(void **state)
{
    (void)state;
    gemmux_machine m;
    gemmux_error error;
    char text[160];
    assert_int_equal(gemmux_machine_find("avx2-laptop", &m, NULL), GEMMUX_OK);
    uint32_t before = m.isa;
    change(&m, "isa", "+avx512bf16");
    assert_int_equal(m.isa, before | gemmux_isa_closure(GEMMUX_ISA_AVX512BF16));
    change(&m, "isa", "sse2");
    assert_int_equal(m.isa, GEMMUX_ISA_SSE2);
    assert_string_equal(gemmux_machine_fact(&m, "isa", text, sizeof text), "sse2");
    assert_int_equal(gemmux_machine_change(&m, "isa", "+neon", &error), GEMMUX_ERROR_INPUT);
    assert_non_null(strstr(error.text, "mixes x86 and Arm"));
    assert_int_equal(m.isa, GEMMUX_ISA_SSE2); /* a mistake changes nothing */
    m.described = false;
    change(&m, "built", "yes");
    assert_true(m.described);
}

static void every_fact_has_a_name_and_reads_back(void **state)
{
    (void)state;
    static const char *const devices[] = {"rtx-pro-6000", "zen4"};
    for (int d = 0; d < 2; d++) {
        gemmux_machine m;
        const char *name;
        assert_int_equal(gemmux_machine_find(devices[d], &m, NULL), GEMMUX_OK);
        for (int i = 0; (name = gemmux_machine_fact_name(&m, i)); i++) {
            gemmux_machine again = m;
            char value[160], then[160];
            assert_non_null(gemmux_machine_fact(&m, name, value, sizeof value));
            if (!strcmp(value, "unknown") || !strcmp(name, "bandwidth"))
                continue;
            change(&again, name, value);
            assert_string_equal(gemmux_machine_fact(&again, name, then, sizeof then), value);
        }
        assert_null(gemmux_machine_fact_name(&m, -1));
        assert_null(gemmux_machine_fact(&m, "name", NULL, 0));
    }
}

static void mistaken_changes_say_what_is_known(void **state)
{
    (void)state;
    static const struct {
        const char *fact, *value, *says;
    } cases[] = {
        {"smen", "1 KiB", "no fact 'smen' that can be changed; it has cc, cores, smem"},
        {"isa", "avx2", "a cuda device has no fact 'isa'"},
        {"name", "x", "no fact 'name'"},
        {"peak", "1 TFLOP/s", "no fact 'peak'"},
        {"smem", "228", "smem needs a unit: one of B, KiB"},
        {"smem", "", "smem has no value"},
        {"smem", "1 KiB 2", "'2' follows the value of smem"},
        {"cc", "12", "'12' is not a compute capability"},
        {"cublaslt", "new", "'new' is not a version"},
        {"cublaslt", "13.1 x", "neither 'code' nor 'no-code'"},
        {"built", "no", "built 'no' is not 'yes'"},
        {"memory", "1\tKiB\n", "byte 0x0a"},
    };
    gemmux_machine m, before;
    assert_int_equal(gemmux_machine_find("h200", &m, NULL), GEMMUX_OK);
    before = m;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gemmux_error error = {0};
        gemmux_status status = gemmux_machine_change(&m, cases[i].fact, cases[i].value, &error);
        if (status != GEMMUX_ERROR_INPUT || !strstr(error.text, cases[i].says))
            fail_msg("%s=%s: \"%s\" lacks \"%s\"", cases[i].fact, cases[i].value, error.text,
                     cases[i].says);
        assert_memory_equal(&m, &before, sizeof m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embedded_devices_parse),
        cmocka_unit_test(embedded_figures_are_plausible),
        cmocka_unit_test(every_key_is_read),
        cmocka_unit_test(bandwidth_is_what_a_read_attains),
        cmocka_unit_test(mistakes_name_line_and_reason),
        cmocka_unit_test(sizes_and_nul_bytes_are_refused),
        cmocka_unit_test(unknown_chip_gets_the_conservative_set),
        cmocka_unit_test(machines_are_found_by_name_and_path),
        cmocka_unit_test(isa_closure_and_names),
        cmocka_unit_test(arch_says_the_best_set),
        cmocka_unit_test(nearest_word),
        cmocka_unit_test(one_fact_changes_and_the_rest_stays),
        cmocka_unit_test(instruction_sets_are_set_or_added),
        cmocka_unit_test(every_fact_has_a_name_and_reads_back),
        cmocka_unit_test(mistaken_changes_say_what_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
