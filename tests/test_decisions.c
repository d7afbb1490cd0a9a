/* SPDX-License-Identifier: Apache-2.0
 *
 * Golden decisions: what is chosen on described devices, for every format, at four M. The file is
 * made to be reviewed: run this program with GEMMUX_UPDATE_GOLDEN=1 and read the diff.
 */
#include "testing.h"

static const char *const device_names[] = {
    "bare",     "avx2-laptop",     "zen3",      "zen4",        "zen5",
    "ice-lake", "sapphire-rapids", "graviton3", "t4",          "a100-80",
    "l40s",     "rtx-4090",        "h100-sxm",  "h200",        "b200",
    "b300",     "rtx-pro-6000",    "gb10",      "jetson-thor",
};

/* x and w; y is f32 for f32 x, else bf16 (f16 for f16). */
static const char *const pairs[][2] = {
    {"f32", "f32"},
    {"f16", "f16"},
    {"bf16", "bf16"},
    {"bf16", "e4m3"},
    {"bf16", "e4m3:row"},
    {"bf16", "e4m3:block128"},
    {"bf16", "e5m2"},
    {"bf16", "mxfp8"},
    {"bf16", "mxfp4"},
    {"f32", "mxfp4"},
    {"bf16", "nvfp4"},
    {"bf16", "int8"},
    {"bf16", "int8:g32"},
    {"bf16", "int4:g32"},
    {"bf16", "int4"},
    {"f16", "int4:g128:zero"},
    {"bf16", "int4:row"},
    {"bf16", "nf4"},
    {"e4m3", "e4m3"},
    {"e4m3:row", "e4m3:row"},
    {"e4m3:g128", "e4m3:block128"},
    {"mxfp8", "mxfp8"},
    {"mxfp8", "mxfp4"},
    {"nvfp4", "nvfp4"},
    {"int8", "int8"},
    {"int8", "int4:g32"},
};

/* Again, with the liberty narrow-sums: what multiplies fp8 and f16 at its full rate takes it. */
static const char *const narrow_pairs[][2] = {
    {"e4m3", "e4m3"},   {"e4m3:row", "e4m3:row"}, {"e4m3:g128", "e4m3:block128"},
    {"mxfp8", "mxfp8"}, {"nvfp4", "nvfp4"},       {"f16", "f16"},
};

static const int64_t ms[] = {1, 16, 256, 4096};

/* Text that grows; the test fails when memory runs out. */
typedef struct page {
    char *text;
    size_t used, room;
} page;

static void write_line(page *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void write_line(page *p, const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    assert_true(n >= 0 && (size_t)n < sizeof line);
    while (n > 0 && line[n - 1] == ' ')
        n--;
    if (p->used + (size_t)n + 2 > p->room) {
        p->room = p->room * 2 + 4096;
        p->text = realloc(p->text, p->room);
        assert_non_null(p->text);
    }
    memcpy(p->text + p->used, line, (size_t)n);
    p->used += (size_t)n;
    p->text[p->used++] = '\n';
    p->text[p->used] = '\0';
}

static void name_choice(const gemmux_problem *p, const gemmux_machine *m, char *cell, size_t size)
{
    gemmux_decision d;
    gemmux_error error = {GEMMUX_OK, ""};
    if (gemmux_select(p, m, NULL, &d, NULL, &error))
        snprintf(cell, size, "none (%s)", gemmux_status_name(error.status));
    else
        snprintf(cell, size, "%s%s", gemmux_kernel_name(d.kernel), d.lossless ? "" : " lossy");
}

static void write_pair(page *out, const gemmux_machine *m, const char *const pair[2],
                       uint32_t liberties)
{
    char cells[4][48];
    gemmux_format x = testing_format(pair[0]), w = testing_format(pair[1]);
    gemmux_format y = gemmux_format_of(
        x.id == GEMMUX_F32 || x.id == GEMMUX_F16 ? (gemmux_format_id)x.id : GEMMUX_BF16);
    for (int j = 0; j < 4; j++) {
        gemmux_problem p = gemmux_problem_linear(ms[j], 4096, 4096, x, w, y);
        p.liberties |= liberties;
        name_choice(&p, m, cells[j], sizeof cells[j]);
    }
    write_line(out, "%-10s %-14s %-22s %-22s %-22s %-22s", pair[0], pair[1], cells[0], cells[1],
               cells[2], cells[3]);
}

static void write_device(page *out, const char *device)
{
    gemmux_machine m;
    gemmux_error error = {GEMMUX_OK, ""};
    char arch[32];
    if (gemmux_machine_find(device, &m, &error))
        fail_msg("%s", error.text);
    write_line(out, "%s", "");
    write_line(out, "## %s: %s, %s", device, m.name, gemmux_machine_arch(&m, arch, sizeof arch));
    write_line(out, "%-10s %-14s %-22s %-22s %-22s %-22s", "x", "w", "M=1", "M=16", "M=256",
               "M=4096");
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        write_pair(out, &m, pairs[i], 0);
    write_line(out, "%s", "with narrow-sums:");
    for (size_t i = 0; i < sizeof narrow_pairs / sizeof narrow_pairs[0]; i++)
        write_pair(out, &m, narrow_pairs[i], GEMMUX_LIBERTY_NARROW_SUMS);
}

static void write_page(page *out)
{
    write_line(out, "# Golden decisions: linear, N = K = 4096, default policy and liberties.");
    write_line(out, "# Made by tests/test_decisions.c; GEMMUX_UPDATE_GOLDEN=1 rewrites it.");
    for (size_t i = 0; i < sizeof device_names / sizeof device_names[0]; i++)
        write_device(out, device_names[i]);
}

static char *read_golden(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long size = ftell(file);
    rewind(file);
    char *text = calloc(1, (size_t)size + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, (size_t)size, file), (size_t)size);
    fclose(file);
    return text;
}

/* The first line that differs, with its device. */
static void report_difference(const char *want, const char *have)
{
    char device[128] = "";
    int line = 1;
    for (;; line++) {
        size_t a = strcspn(want, "\n"), b = strcspn(have, "\n");
        if (b > 3 && strncmp(have, "## ", 3) == 0)
            snprintf(device, sizeof device, "%.*s", (int)b, have);
        if (a != b || memcmp(want, have, a) != 0)
            fail_msg("line %d, %s\n  golden: %.*s\n  now:    %.*s\n"
                     "If the change is meant, run with GEMMUX_UPDATE_GOLDEN=1 and review the diff.",
                     line, device, (int)a, want, (int)b, have);
        if (!want[a] || !have[b])
            return;
        want += a + 1;
        have += b + 1;
    }
}

static void decisions_are_the_golden_ones(void **state)
{
    static const char path[] = SOURCE_DIR "/tests/golden/decisions.txt";
    page now = {0};
    (void)state;
    write_page(&now);
    if (getenv("GEMMUX_UPDATE_GOLDEN")) {
        FILE *file = fopen(path, "wb");
        assert_non_null(file);
        assert_int_equal(fwrite(now.text, 1, now.used, file), now.used);
        assert_int_equal(fclose(file), 0);
    }
    char *golden = read_golden(path);
    if (!golden)
        fail_msg("%s is missing", path);
    report_difference(golden, now.text);
    assert_string_equal(golden, now.text);
    free(golden);
    free(now.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(decisions_are_the_golden_ones)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
