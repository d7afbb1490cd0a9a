/* SPDX-License-Identifier: Apache-2.0
 *
 * The fatbin scanner: what small files made by nvcc carry, where in a file it finds them, what it
 * makes of damage, the rules of which code runs where, and the real libcublasLt where there is one.
 */
#include "probe/unpack.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define FATBIN(name) FIXTURES "/fatbin/" name

static unsigned char *slurp(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    unsigned char *data = malloc(1 << 20);
    assert_non_null(data);
    *size = fread(data, 1, 1 << 20, file);
    fclose(file);
    return data;
}

static gemmux_gpu_scan scan_file(const char *path)
{
    gemmux_gpu_scan scan;
    gemmux_error error = {0};
    if (gemmux_scan_gpu_code(path, &scan, &error) != GEMMUX_OK)
        fail_msg("%s", error.text);
    return scan;
}

/* "sm_75 sm_90a compute_80" */
static const char *list(const gemmux_gpu_scan *scan, char *buffer, size_t size)
{
    size_t used = 0;
    buffer[0] = '\0';
    for (int i = 0; i < scan->code_count; i++) {
        char name[24];
        used += (size_t)snprintf(buffer + used, size - used, "%s%s", used ? " " : "",
                                 gemmux_gpu_code_name(&scan->code[i], name, sizeof name));
        assert_true(used < size);
    }
    return buffer;
}

static void fixtures_carry_what_nvcc_was_told(void **state)
{
    (void)state;
    static const char *const expected[][2] = {
        {FATBIN("mixed.fatbin"), "sm_75 sm_90a compute_80"},
        {FATBIN("family.fatbin"), "sm_120f compute_120"},
        {FATBIN("exact.fatbin"), "sm_120a"},
        {FATBIN("plain.fatbin"), "sm_120"},
        {FATBIN("lto.fatbin"), "lto_80"},
        {FATBIN("sm_121a.cubin"), "sm_121a"},
        {FATBIN("sm_86.cubin"), "sm_86"},
        {FATBIN("make.sh"), ""},
    };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        char text[256];
        gemmux_gpu_scan scan = scan_file(expected[i][0]);
        assert_string_equal(list(&scan, text, sizeof text), expected[i][1]);
        assert_int_equal(scan.broken, 0);
        assert_int_equal(scan.other, 0);
        assert_int_equal(scan.fatbins, expected[i][1][0] ? 1 : 0);
    }
}

static const struct {
    gemmux_gpu_code code;
    int cc;
    bool runs;
    const char *says;
} rules[] = {
    {{GEMMUX_GPU_SASS, 0, 80, 1, 1}, 80, true, "sm_80 is machine code for 8.0"},
    {{GEMMUX_GPU_SASS, 0, 80, 1, 1}, 86, true, "sm_80 covers 8.6"},
    {{GEMMUX_GPU_SASS, 0, 80, 1, 1}, 87, true, "promises it for desktop chips"},
    {{GEMMUX_GPU_SASS, 0, 86, 1, 1}, 80, false, "sm_86 is newer than 8.0"},
    {{GEMMUX_GPU_SASS, 0, 86, 1, 1}, 90, false, "another generation than 9.0"},
    {{GEMMUX_GPU_SASS, 0, 100, 1, 1}, 120, false, "another generation than 12.0"},
    {{GEMMUX_GPU_SASS, 0, 120, 1, 1}, 121, true, "sm_120 covers 12.1: same generation"},
    {{GEMMUX_GPU_SASS, 'f', 120, 1, 1}, 121, true, "sm_120f covers 12.1: same family"},
    {{GEMMUX_GPU_SASS, 'f', 121, 1, 1}, 120, false, "sm_121f is newer than 12.0"},
    {{GEMMUX_GPU_SASS, 'f', 100, 1, 1}, 103, true, "sm_100f covers 10.3"},
    {{GEMMUX_GPU_SASS, 'f', 100, 1, 1}, 110, false, "not known to be in"},
    {{GEMMUX_GPU_SASS, 'f', 120, 1, 1}, 130, false, "not known to be in"},
    {{GEMMUX_GPU_SASS, 'a', 120, 1, 1}, 120, true, "sm_120a is made for exactly 12.0"},
    {{GEMMUX_GPU_SASS, 'a', 120, 1, 1}, 121, false, "sm_120a runs on its own chip alone"},
    {{GEMMUX_GPU_SASS, 'a', 90, 1, 1}, 100, false, "not on 10.0"},
    {{GEMMUX_GPU_PTX, 0, 80, 1, 1}, 130, true, "compute_80 is compiled by the driver for 13.0"},
    {{GEMMUX_GPU_PTX, 0, 90, 1, 1}, 89, false, "compute_90 is newer than 8.9"},
    {{GEMMUX_GPU_PTX, 'a', 90, 1, 1}, 100, false, "compute_90a runs on its own chip alone"},
    {{GEMMUX_GPU_PTX, 'f', 120, 1, 1}, 121, true, "compute_120f covers 12.1"},
    {{GEMMUX_GPU_LTO, 0, 80, 1, 1}, 80, false, "lto_80 is intermediate code"},
};

static void rules_of_compatibility(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        char why[128];
        bool runs = gemmux_gpu_code_runs(&rules[i].code, rules[i].cc, why, sizeof why);
        if (runs != rules[i].runs || !strstr(why, rules[i].says))
            fail_msg("rule %zu: %d \"%s\"", i, runs, why);
        assert_int_equal(gemmux_gpu_code_runs(&rules[i].code, rules[i].cc, NULL, 0), runs);
    }
}

static void best_is_what_the_driver_takes(void **state)
{
    (void)state;
    char name[24];
    int64_t fatbins;
    gemmux_gpu_scan scan = scan_file(FATBIN("family.fatbin"));
    const gemmux_gpu_code *best = gemmux_gpu_scan_best(&scan, 121, &fatbins);
    assert_string_equal(gemmux_gpu_code_name(best, name, sizeof name), "sm_120f");
    assert_int_equal(fatbins, 1);
    best = gemmux_gpu_scan_best(&scan, 130, &fatbins);
    assert_string_equal(gemmux_gpu_code_name(best, name, sizeof name), "compute_120");
    assert_int_equal(fatbins, 1);
    assert_null(gemmux_gpu_scan_best(&scan, 90, &fatbins));
    assert_int_equal(fatbins, 0);
    scan = scan_file(FATBIN("mixed.fatbin"));
    best = gemmux_gpu_scan_best(&scan, 75, NULL);
    assert_string_equal(gemmux_gpu_code_name(best, name, sizeof name), "sm_75");
    best = gemmux_gpu_scan_best(&scan, 89, NULL);
    assert_string_equal(gemmux_gpu_code_name(best, name, sizeof name), "compute_80");
}

/* Fatbins at odd offsets, across the borders of the reader's chunks, in a file and in memory. */
static void found_wherever_they_stand(void **state)
{
    (void)state;
    static const size_t offsets[] = {0, 1, 7, 4093, 4094, 4095, 4096, 20476, 20479, 1500001};
    size_t size;
    unsigned char *fatbin = slurp(FATBIN("plain.fatbin"), &size);
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        gemmux_gpu_scan scan;
        size_t total = offsets[i] + size + 3;
        unsigned char *data = malloc(total);
        assert_non_null(data);
        memset(data, 0x50, total); /* the first byte of the magic number, over and over */
        memcpy(data + offsets[i], fatbin, size);
        assert_int_equal(gemmux_scan_gpu_memory(data, total, &scan, NULL), GEMMUX_OK);
        assert_int_equal(scan.fatbins, 1);
        char path[] = "/tmp/gemmux-fatbin-XXXXXX";
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, data, total), total);
        close(fd);
        gemmux_status status = gemmux_scan_gpu_code(path, &scan, NULL);
        remove(path);
        assert_int_equal(status, GEMMUX_OK);
        assert_int_equal(scan.fatbins, 1);
        assert_int_equal(scan.code[0].cc, 120);
        assert_int_equal(scan.broken, 0);
        free(data);
    }
    free(fatbin);
}

static void sets_of_targets_are_counted(void **state)
{
    (void)state;
    size_t plain_size, exact_size;
    unsigned char *plain = slurp(FATBIN("plain.fatbin"), &plain_size);
    unsigned char *exact = slurp(FATBIN("exact.fatbin"), &exact_size);
    unsigned char *both = malloc(2 * exact_size + plain_size);
    assert_non_null(both);
    memcpy(both, exact, exact_size);
    memcpy(both + exact_size, plain, plain_size);
    memcpy(both + exact_size + plain_size, exact, exact_size);
    gemmux_gpu_scan scan;
    int64_t fatbins;
    assert_int_equal(gemmux_scan_gpu_memory(both, 2 * exact_size + plain_size, &scan, NULL),
                     GEMMUX_OK);
    assert_int_equal(scan.fatbins, 3);
    assert_int_equal(scan.group_count, 2);
    assert_int_equal(scan.code_count, 2);
    assert_int_equal(scan.code[0].suffix, 0); /* sorted: plain before 'a' */
    assert_int_equal(scan.code[1].images, 2);
    assert_non_null(gemmux_gpu_scan_best(&scan, 121, &fatbins));
    assert_int_equal(fatbins, 1); /* the two exact ones are lost on 12.1 */
    assert_non_null(gemmux_gpu_scan_best(&scan, 120, &fatbins));
    assert_int_equal(fatbins, 3);
    free(plain);
    free(exact);
    free(both);
}

/* Every truncation and every flipped byte of a real fatbin is survived, in memory of exactly the
 * right size so that a sanitizer sees a read past the end. */
static void damage_is_survived(void **state)
{
    (void)state;
    size_t size;
    unsigned char *fatbin = slurp(FATBIN("mixed.fatbin"), &size);
    gemmux_gpu_scan scan;
    for (size_t cut = 0; cut < size; cut += cut < 256 ? 1 : 97) {
        unsigned char *data = malloc(cut ? cut : 1);
        assert_non_null(data);
        memcpy(data, fatbin, cut);
        assert_int_equal(gemmux_scan_gpu_memory(data, cut, &scan, NULL), GEMMUX_OK);
        assert_int_equal(scan.fatbins, 0);
        assert_int_equal(scan.broken, cut >= 16 ? 1 : 0);
        free(data);
    }
    for (size_t i = 0; i < 208; i++)
        for (int bit = 0; bit < 8; bit++) {
            fatbin[i] ^= (unsigned char)(1 << bit);
            assert_int_equal(gemmux_scan_gpu_memory(fatbin, size, &scan, NULL), GEMMUX_OK);
            assert_true(scan.fatbins <= 1);
            fatbin[i] ^= (unsigned char)(1 << bit);
        }
    free(fatbin);
}

/* A file of nothing but headers that start long chains would take hours without a limit. */
static void hostile_files_are_given_up(void **state)
{
    (void)state;
    size_t size = 16 << 20;
    unsigned char *data = calloc(1, size);
    assert_non_null(data);
    for (size_t at = 0; at + 64 <= size; at += 64) {
        /* 8 MiB and 32 bytes: the chain of empty entries cannot end there. */
        static const unsigned char header[16] = {0x50, 0xed, 0x55, 0xba, 1, 0, 16, 0,
                                                 32,   0,    0x80, 0,    0, 0, 0,  0};
        memcpy(data + at, header, 16);
        data[at + 16] = 2; /* an entry of 64 bytes without payload */
        data[at + 20] = 64;
    }
    gemmux_gpu_scan scan;
    gemmux_error error = {0};
    assert_int_equal(gemmux_scan_gpu_memory(data, size, &scan, &error), GEMMUX_ERROR_INPUT);
    assert_non_null(strstr(error.text, "gave up"));
    free(data);
}

static void bad_paths_are_answered(void **state)
{
    (void)state;
    gemmux_gpu_scan scan;
    gemmux_error error = {0};
    assert_int_equal(gemmux_scan_gpu_code("/nonexistent.so", &scan, &error), GEMMUX_ERROR_IO);
    assert_non_null(strstr(error.text, "/nonexistent.so"));
    assert_int_equal(gemmux_scan_gpu_code("/tmp", &scan, &error), GEMMUX_ERROR_IO);
    assert_int_equal(gemmux_scan_gpu_code("/dev/zero", &scan, &error), GEMMUX_ERROR_IO);
    assert_int_equal(gemmux_scan_gpu_code(NULL, &scan, &error), GEMMUX_ERROR_ARGUMENT);
    assert_int_equal(gemmux_scan_gpu_memory(NULL, 1, &scan, &error), GEMMUX_ERROR_ARGUMENT);
    assert_int_equal(gemmux_scan_gpu_memory(NULL, 0, &scan, &error), GEMMUX_OK);
}

typedef struct heard {
    char names[256];
    int runs, lost;
} heard;

static void hear(void *context, const char *name, bool runs)
{
    heard *all = context;
    size_t used = strlen(all->names);
    snprintf(all->names + used, sizeof all->names - used, "%s%s ", name, runs ? "+" : "-");
    all->runs += runs;
    all->lost += !runs;
}

static void lost_kernels_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        int cc, runs, lost;
    } cases[] = {
        {FATBIN("exact.fatbin"), 120, 2, 0}, {FATBIN("exact.fatbin"), 121, 0, 2},
        {FATBIN("plain.fatbin"), 121, 1, 0}, {FATBIN("mixed.fatbin"), 75, 1, 0},
        {FATBIN("mixed.fatbin"), 70, 0, 1},  {FATBIN("lto.fatbin"), 80, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        heard all = {0};
        int64_t unread = -1;
        assert_int_equal(
            gemmux_scan_gpu_kernels(cases[i].path, cases[i].cc, hear, &all, &unread, NULL),
            GEMMUX_OK);
        if (all.runs != cases[i].runs || all.lost != cases[i].lost || unread)
            fail_msg("case %zu: %s(%lld unread)", i, all.names, (long long)unread);
    }
    heard all = {0};
    assert_int_equal(gemmux_scan_gpu_kernels(FATBIN("exact.fatbin"), 121, hear, &all, NULL, NULL),
                     GEMMUX_OK);
    assert_non_null(strstr(all.names, "one- "));
    assert_non_null(strstr(all.names, "two- "));
    /* PTX for 8.0, packed with zstd: read where libzstd is, counted as unread where it is not. */
    int64_t unread = 0;
    heard ptx = {0};
    assert_int_equal(gemmux_scan_gpu_kernels(FATBIN("mixed.fatbin"), 89, hear, &ptx, &unread, NULL),
                     GEMMUX_OK);
    assert_int_equal(ptx.runs + (int)unread, 1);
    assert_int_equal(gemmux_scan_gpu_kernels("/nonexistent", 89, hear, &ptx, &unread, NULL),
                     GEMMUX_ERROR_IO);
}

static void lz4_blocks_unpack_within_their_bounds(void **state)
{
    (void)state;
    /* "abc", then 3 bytes back for 4 + 8 bytes, then "xyz" as the last literals. */
    static const uint8_t good[] = {0x38, 'a', 'b', 'c', 3, 0, 0x30, 'x', 'y', 'z'};
    /* 15 + 255 + 1 literals. */
    uint8_t longer[2 + 1 + 271] = {0xf0, 255, 1}, out[512];
    memset(longer + 3, 'q', 271);
    assert_int_equal(gemmux_unpack_lz4(good, sizeof good, out, sizeof out), 18);
    assert_memory_equal(out, "abcabcabcabcabcxyz", 18);
    assert_int_equal(gemmux_unpack_lz4(good, sizeof good, out, 18), 18);
    assert_int_equal(gemmux_unpack_lz4(good, sizeof good, out, 17), -1);
    assert_int_equal(gemmux_unpack_lz4(longer, sizeof longer, out, sizeof out), 271);
    assert_int_equal(gemmux_unpack_lz4(longer, sizeof longer - 1, out, sizeof out), -1);
    static const uint8_t before_start[] = {0x10, 'a', 2, 0, 0};
    static const uint8_t nowhere[] = {0x10, 'a', 0, 0, 0};
    static const uint8_t cut[] = {0x10, 'a', 1};
    static const uint8_t endless[] = {0xf0, 255, 255};
    assert_int_equal(gemmux_unpack_lz4(before_start, sizeof before_start, out, sizeof out), -1);
    assert_int_equal(gemmux_unpack_lz4(nowhere, sizeof nowhere, out, sizeof out), -1);
    assert_int_equal(gemmux_unpack_lz4(cut, sizeof cut, out, sizeof out), -1);
    assert_int_equal(gemmux_unpack_lz4(endless, sizeof endless, out, sizeof out), -1);
    assert_int_equal(gemmux_unpack_lz4(good, 0, out, sizeof out), 0);
}

/* libcublasLt 13.1.0 of CUDA toolkit 13.0, x86-64: counted by an independent reader. */
static void real_cublaslt(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int images;
    } expected[] = {
        {"sm_75", 166},    {"sm_80", 482},   {"sm_86", 105},    {"sm_89", 247},
        {"sm_90", 221},    {"sm_90a", 1376}, {"sm_100", 1187},  {"sm_100a", 30},
        {"sm_100f", 326},  {"sm_103", 64},   {"sm_103f", 12},   {"sm_120", 463},
        {"sm_120f", 1149}, {"sm_121", 4},    {"compute_75", 1}, {"compute_120", 287},
    };
    gemmux_gpu_scan scan;
    const char *path = "/usr/local/cuda-13.0/lib/libcublasLt.so.13";
    if (access(path, R_OK))
        path = "/usr/local/cuda-13.0/lib64/libcublasLt.so.13";
    if (access(path, R_OK) || gemmux_scan_gpu_code(path, &scan, NULL) ||
        scan.file_bytes != 541595600) {
        print_message("libcublasLt 13.1.0 is not here\n");
        skip();
    }
    assert_int_equal(scan.fatbins, 3165);
    assert_int_equal(scan.broken, 0);
    assert_int_equal(scan.code_count, sizeof expected / sizeof expected[0]);
    for (int i = 0; i < scan.code_count; i++) {
        char name[24];
        assert_string_equal(gemmux_gpu_code_name(&scan.code[i], name, sizeof name),
                            expected[i].name);
        assert_int_equal(scan.code[i].images, expected[i].images);
    }
    const gemmux_gpu_code *best = gemmux_gpu_scan_best(&scan, 121, NULL);
    assert_true(best->cc == 120 && best->suffix == 'f');
    assert_int_equal(gemmux_gpu_scan_best(&scan, 110, NULL)->kind, GEMMUX_GPU_PTX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fixtures_carry_what_nvcc_was_told),
        cmocka_unit_test(rules_of_compatibility),
        cmocka_unit_test(best_is_what_the_driver_takes),
        cmocka_unit_test(found_wherever_they_stand),
        cmocka_unit_test(sets_of_targets_are_counted),
        cmocka_unit_test(damage_is_survived),
        cmocka_unit_test(hostile_files_are_given_up),
        cmocka_unit_test(bad_paths_are_answered),
        cmocka_unit_test(lost_kernels_are_named),
        cmocka_unit_test(lz4_blocks_unpack_within_their_bounds),
        cmocka_unit_test(real_cublaslt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
