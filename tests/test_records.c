/* SPDX-License-Identifier: Apache-2.0
 *
 * The records of a machine: shared by processes, bound to build and chip, survived when the file
 * is corrupt or cannot be written.
 */
#include "planted.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/wait.h>

/* The file's path; fails the test unless exactly one file ends so. */
static void find_file(const char *ending, char *path, size_t size)
{
    char inner[128];
    int found = 0;
    snprintf(inner, sizeof inner, "%s/gemmux", cache);
    DIR *directory = opendir(inner);
    assert_non_null(directory);
    for (struct dirent *e = readdir(directory); e; e = readdir(directory)) {
        size_t length = strlen(e->d_name), tail = strlen(ending);
        if (length >= tail && strcmp(e->d_name + length - tail, ending) == 0) {
            snprintf(path, size, "%s/%s", inner, e->d_name);
            found++;
        }
    }
    closedir(directory);
    assert_int_equal(found, 1);
}

static char *read_file(const char *path)
{
    char *text = calloc(1, 1 << 16);
    FILE *file = fopen(path, "r");
    assert_non_null(text);
    assert_non_null(file);
    assert_true(fread(text, 1, (1 << 16) - 1, file) < (1 << 16) - 1);
    fclose(file);
    return text;
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fputs(text, file) < 0, 0);
    assert_int_equal(fclose(file), 0);
}

static gemmux_status run_zeros(const gemmux_call *call, gemmux_error *error)
{
    gemmux_status status = run_right(call, error);
    memset(call->y, 0, 2);
    return status;
}

/* A certificate without the work. */
static void put(planted *p, const char *kernel, gemmux_proof proof, int64_t at)
{
    gemmux_kernel named = p->kernel;
    named.name = kernel;
    gemmux_entry entry = {.proof = (uint8_t)proof, .cases = 7, .seconds = 0.25, .at = at};
    gemmux_error error;
    entry.record.kind =
        proof == GEMMUX_PROOF_PROVED ? GEMMUX_RECORD_PROVED : GEMMUX_RECORD_QUARANTINED;
    snprintf(entry.record.kernel, sizeof entry.record.kernel, "%s", kernel);
    snprintf(entry.record.evidence, sizeof entry.record.evidence, "y[0, 1] is 2, \"expected\" 3");
    gemmux_record_key(&p->machine, &named, entry.key, sizeof entry.key);
    if (gemmux_records_put(p->records, &p->machine, &entry, 1, &error)) {
        fail_msg("%s", error.text);
    }
}

/* That the planted kernel took `us` at m. */
static gemmux_status learn(planted *p, int64_t m, double us, gemmux_error *error)
{
    gemmux_timing t = {.problem = usual_problem(), .us = us};
    gemmux_policy policy = {.only = "planted"};
    t.problem.m = m;
    assert_int_equal(gemmux_select(&t.problem, &p->machine, &policy, &t.decision, NULL, NULL),
                     GEMMUX_OK);
    return gemmux_records_learn(p->records, &p->machine, &t, 1, error);
}

static void cached_until_something_changes(void **unused)
{
    (void)unused;
    planted *p = plant(run_right);
    put(p, "planted", GEMMUX_PROOF_WRONG, 1000);
    gemmux_certificate c = certify(p, 120, false);
    assert_true(c.cached && c.proof == GEMMUX_PROOF_WRONG && c.cases == 7 && c.seconds == 0.25);
    assert_string_equal(c.evidence, "y[0, 1] is 2, \"expected\" 3");
    uproot(p);

    p = plant(run_right); /* another process: the same */
    assert_int_equal(p->machine.record_count, 1);
    assert_int_equal(p->machine.records[0].kind, GEMMUX_RECORD_QUARANTINED);
    c = certify(p, 120, false);
    assert_true(c.cached);
    c = certify(p, 120, true); /* asked to: no */
    assert_true(!c.cached && c.proof == GEMMUX_PROOF_PROVED);
    c = certify(p, 120, false);
    assert_true(c.cached && c.proof == GEMMUX_PROOF_PROVED);
    uproot(p);
}

static void another_build(void **unused)
{
    (void)unused;
    planted *p = plant(run_right);
    char path[512], build[48], *text, *at;
    put(p, "planted", GEMMUX_PROOF_WRONG, 1000);
    uproot(p);
    find_file(".json", path, sizeof path);
    text = read_file(path);
    at = strstr(text, gemmux_build_identity(NULL, build, sizeof build));
    assert_non_null(at);
    at[0] = at[0] == '0' ? '1' : '0';
    write_file(path, text);
    free(text);

    p = plant(run_right);
    assert_int_equal(p->machine.record_count, 0);
    gemmux_certificate c = certify(p, 300, false);
    assert_true(!c.cached && c.proof == GEMMUX_PROOF_PROVED);
    uproot(p);
    text = read_file(path); /* what the other build knows is still there */
    assert_non_null(strstr(text, "\"wrong\""));
    assert_non_null(strstr(text, "\"proved\""));
    free(text);
}

static void another_library(void **unused)
{
    (void)unused;
    planted *p = plant(run_right);
    p->kernel.library = GEMMUX_LIB_OPENBLAS;
    p->machine.library[GEMMUX_LIB_OPENBLAS].present = true;
    p->machine.library[GEMMUX_LIB_OPENBLAS].version = 321;
    put(p, "planted", GEMMUX_PROOF_WRONG, 1000);
    assert_int_equal(p->machine.record_count, 1);
    assert_true(certify(p, 120, false).cached);
    p->machine.library[GEMMUX_LIB_OPENBLAS].version = 322;
    gemmux_certificate c = certify(p, 300, false);
    assert_true(!c.cached && c.proof == GEMMUX_PROOF_PROVED);
    uproot(p);
}

static void another_chip(void **unused)
{
    (void)unused;
    planted *p = plant(run_right);
    char here[256], there[256];
    put(p, "planted", GEMMUX_PROOF_WRONG, 1000);
    gemmux_machine_identity(&p->machine, here, sizeof here);
    p->machine.isa ^= GEMMUX_ISA_AMXINT8;
    gemmux_machine_identity(&p->machine, there, sizeof there);
    assert_string_not_equal(here, there);
    gemmux_records_free(p->records);
    assert_int_equal(gemmux_records_load(&p->machine, &p->records, NULL, 0, NULL), GEMMUX_OK);
    assert_int_equal(p->machine.record_count, 0);
    uproot(p);
    gemmux_machine gpu = {.kind = GEMMUX_CUDA, .cc = 90};
    gpu.library[GEMMUX_LIB_CUDA].version = 13000;
    gemmux_machine_identity(&gpu, here, sizeof here);
    gpu.library[GEMMUX_LIB_CUDA].version = 13010;
    gemmux_machine_identity(&gpu, there, sizeof there);
    assert_string_not_equal(here, there);
}

static void build_identity(void **unused)
{
    (void)unused;
    char own[48], libc[48], again[48];
    const void *address = NULL;
    int (*function)(const char *, ...) = printf;
    memcpy(&address, &function, sizeof address);
    gemmux_build_identity(NULL, own, sizeof own);
    gemmux_build_identity(address, libc, sizeof libc);
    assert_true(strlen(own) >= 16);
    assert_string_equal(own, gemmux_build_identity(NULL, again, sizeof again));
    (void)libc; /* may be interposed by a sanitizer; then it is this object's */
    assert_string_equal(gemmux_build_identity(&address, again, sizeof again), "unknown");
}

static void corrupt_files(void **unused)
{
    (void)unused;
    const char *const texts[] = {
        "",
        "{",
        "[1, 2]",
        "{\"machine\": \"cpu\"}",
        "{\"machine\": \"cpu\", \"records\": [{\"kernel\": \"planted\"}]}",
        "{\"records\": [{\"kernel\": \"a\", \"key\": \"b\", \"at\": 1, \"proof\": \"perhaps\", "
        "\"cases\": 1, \"seconds\": 1, \"evidence\": \"\"}]}",
        "{\"records\": [{\"kernel\": \"a\", \"key\": \"b\", \"at\": 1, \"x\": \"f99\", \"w\": "
        "\"mxfp4\", \"form\": 0, \"grouped\": false, \"rows\": 1, \"elements\": 10, "
        "\"bandwidth\": 1e10, \"peak\": 1e11, \"share\": 0.5}]}",
        "{\"records\": [{\"kernel\": \"a\", \"key\": \"b\", \"at\": 1, \"x\": \"bf16\", \"w\": "
        "\"mxfp4\", \"form\": 0, \"grouped\": false, \"rows\": 1, \"elements\": 10, "
        "\"bandwidth\": 1e10, \"peak\": 1e11, \"share\": 0}]}",
        "{\"records\": [{\"kernel\": \"a\", \"key\": \"b\", \"at\": 1, \"x\": \"bf16\", \"w\": "
        "\"mxfp4\", \"form\": 0, \"grouped\": false, \"rows\": \"1\", \"elements\": 10, "
        "\"bandwidth\": 1e10, \"peak\": 1e11, \"share\": 0.5}]}",
        "{\"records\": [], \"records\": []}",
        "\xff\xfe not even text",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char path[512], aside[512];
        planted *p = plant(run_right);
        put(p, "planted", GEMMUX_PROOF_WRONG, 1000);
        uproot(p);
        find_file(".json", path, sizeof path);
        write_file(path, texts[i]);

        p = plant(run_right);
        if (!strstr(p->note, "corrupt") || !strstr(p->note, ".corrupt")) {
            fail_msg("text %zu: \"%s\"", i, p->note);
        }
        assert_int_equal(p->machine.record_count, 0);
        find_file(".corrupt", aside, sizeof aside);
        char *kept = read_file(aside);
        assert_string_equal(kept, texts[i]);
        free(kept);
        put(p, "planted", GEMMUX_PROOF_PROVED, 2000);
        uproot(p);

        p = plant(run_right);
        assert_string_equal(p->note, "");
        assert_int_equal(p->machine.record_count, 1);
        uproot(p);
        unlink(aside);
        unlink(path);
    }
}

/* Another process ruins the file between this one's load and its put. */
static void corrupt_meanwhile(void **unused)
{
    (void)unused;
    char path[512], aside[512];
    planted *p = plant(run_right);
    put(p, "one", GEMMUX_PROOF_WRONG, 1000);
    find_file(".json", path, sizeof path);
    write_file(path, "ruin");
    put(p, "two", GEMMUX_PROOF_WRONG, 1000);
    find_file(".corrupt", aside, sizeof aside);
    gemmux_entries entries;
    assert_int_equal(gemmux_entries_read(path, &entries, NULL), GEMMUX_OK);
    assert_int_equal(entries.count, 2);
    free(entries.items);
    uproot(p);
}

static void nowhere_to_write(void **unused)
{
    (void)unused;
    char file[128];
    snprintf(file, sizeof file, "%s/file", cache);
    write_file(file, "not a directory");
    /* Nobody can make a directory in /proc, but root is told otherwise until it tries. */
    const char *const places[] = {file, "/dev/null/cache", "/proc/nowhere", NULL};
    char *home = getenv("HOME") ? strdup(getenv("HOME")) : NULL;
    for (int i = 0; i < 4; i++) {
        if (places[i]) {
            setenv("XDG_CACHE_HOME", places[i], 1);
        } else {
            setenv("XDG_CACHE_HOME", "relative/is/ignored", 1);
            unsetenv("HOME");
        }
        planted *p = plant(run_zeros);
        if (i != 2 && !strstr(p->note, "for this process only")) {
            fail_msg("note: \"%s\"", p->note);
        }
        gemmux_certificate c = certify(p, 120, false);
        assert_int_equal(c.proof, GEMMUX_PROOF_WRONG);
        if (places[i] && strlen(c.evidence) < 100) {
            assert_non_null(strstr(c.evidence, "not kept"));
        }
        assert_int_equal(p->machine.record_count, 1); /* it holds here all the same */
        assert_true(certify(p, 120, false).cached);
        uproot(p);
    }
    if (home) {
        setenv("HOME", home, 1);
    }
    free(home);
    unlink(file);
    setenv("XDG_CACHE_HOME", cache, 1);
}

enum {
    WRITERS = 8,
    EACH = 12,
};

static void concurrent_writers(void **unused)
{
    (void)unused;
    pid_t writers[WRITERS];
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = fork();
        if (writers[i] == 0) {
            planted *p = plant(run_right);
            bool good = p->note[0] == 0;
            for (int j = 0; j < EACH; j++) {
                good = good && !learn(p, 1 + i * EACH + j, 100, NULL);
            }
            _exit(good ? 0 : 1);
        }
    }
    /* Readers meanwhile see whole files only. */
    for (int i = 0; i < 20; i++) {
        planted *p = plant(run_right);
        assert_string_equal(p->note, "");
        uproot(p);
    }
    for (int i = 0; i < WRITERS; i++) {
        int status;
        assert_int_equal(waitpid(writers[i], &status, 0), writers[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    planted *p = plant(run_right);
    assert_string_equal(p->note, "");
    assert_int_equal(p->machine.share_count, WRITERS * EACH);
    bool seen[WRITERS * EACH] = {0};
    for (int i = 0; i < WRITERS * EACH; i++) {
        seen[(int)p->machine.shares[i].rows - 1] = true;
    }
    for (int i = 0; i < WRITERS * EACH; i++) {
        assert_true(seen[i]);
    }
    uproot(p);
}

static void a_lock_that_is_kept(void **unused)
{
    (void)unused;
    planted *p = plant(run_right);
    char path[512];
    put(p, "one", GEMMUX_PROOF_WRONG, 1000);
    find_file(".lock", path, sizeof path);
    int descriptor = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(descriptor, LOCK_EX), 0);
    gemmux_error error;
    assert_int_equal(learn(p, 1, 100, &error), GEMMUX_ERROR_IO);
    assert_non_null(strstr(error.text, "locked by another process"));
    assert_int_equal(p->machine.share_count, 1); /* it holds here all the same */
    close(descriptor);
    uproot(p);
}

/* What the planted kernel is predicted to take at m. */
static double predicted(const planted *p, int64_t m, bool measured)
{
    gemmux_problem problem = usual_problem();
    gemmux_decision d;
    gemmux_policy policy = {.only = "planted"};
    problem.m = m;
    assert_int_equal(gemmux_select(&problem, &p->machine, &policy, &d, NULL, NULL), GEMMUX_OK);
    assert_int_equal(d.measured, measured);
    return d.predicted_us;
}

static void measurements(void **unused)
{
    (void)unused;
    planted *p = plant(run_right);
    predicted(p, 33, false);
    assert_int_equal(learn(p, 16, 4000, NULL), GEMMUX_OK);
    assert_int_equal(learn(p, 16, 400, NULL), GEMMUX_OK); /* replaces the first */
    assert_int_equal(learn(p, 64, 3600, NULL), GEMMUX_OK);
    assert_int_equal(p->machine.share_count, 2);
    put(p, "planted", GEMMUX_PROOF_PROVED, 1000);
    put(p, "a stranger", GEMMUX_PROOF_WRONG, 1000);
    uproot(p);
    p = plant(run_right);
    assert_int_equal(p->machine.record_count, 1); /* not of kernels that are not here */
    assert_int_equal(p->machine.share_count, 2);
    assert_float_equal(predicted(p, 16, true), 400, 0.01);
    assert_float_equal(predicted(p, 64, true), 3600, 0.1);
    /* In the middle of 16 and 64 on a scale of ratios. */
    double middle = predicted(p, 32, true);
    assert_true(middle > 800 && middle < 2000);
    /* Beyond what was measured the share stays. */
    double twice = predicted(p, 128, true);
    assert_true(twice > 1.8 * 3600 && twice < 2.2 * 3600);
    assert_true(predicted(p, 1, true) < 400);
    uproot(p);
}

/* Guesses about the machine do not matter to what was measured on it. */
static void measurements_outlive_guesses(void **unused)
{
    (void)unused;
    planted *p = plant(run_right);
    assert_int_equal(learn(p, 16, 400, NULL), GEMMUX_OK);
    p->machine.bandwidth *= 10;
    p->machine.peak[GEMMUX_MATH_BF16] /= 7;
    assert_float_equal(predicted(p, 16, true), 400, 0.01);
    uproot(p);
}

/* Other formats, ops, threads and builds of the library ask for measurements of their own. */
static void measurements_keep_to_their_own(void **unused)
{
    (void)unused;
    planted *p = plant(run_right);
    gemmux_problem problem = usual_problem();
    gemmux_policy policy = {.only = "planted"};
    gemmux_decision d;
    assert_int_equal(learn(p, 33, 400, NULL), GEMMUX_OK);
    problem.w = testing_format("bf16");
    assert_int_equal(gemmux_select(&problem, &p->machine, &policy, &d, NULL, NULL), GEMMUX_OK);
    assert_false(d.measured);
    problem = usual_problem();
    problem.op = GEMMUX_MOE;
    problem.experts = 4;
    problem.top_k = 2;
    assert_int_equal(gemmux_select(&problem, &p->machine, &policy, &d, NULL, NULL), GEMMUX_OK);
    assert_false(d.measured);
    p->machine.cores++;
    gemmux_records_refresh(p->records, &p->machine);
    assert_int_equal(p->machine.share_count, 0);
    uproot(p);
}

static void no_measurement(void **unused)
{
    (void)unused;
    planted *p = plant(run_right);
    gemmux_error error;
    static const double bad[] = {0, -1, 0.0 / 0.0, 1.0 / 0.0};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(learn(p, 16, bad[i], &error), GEMMUX_ERROR_ARGUMENT);
    gemmux_timing none = {.problem = usual_problem(), .us = 5};
    assert_int_equal(gemmux_records_learn(p->records, &p->machine, &none, 1, &error),
                     GEMMUX_ERROR_ARGUMENT);
    assert_int_equal(p->machine.share_count, 0);
    uproot(p);
}

/* Newer entries win, whoever wrote them; the machine's list is sorted. */
static void merging(void **unused)
{
    (void)unused;
    planted *old = plant(run_right), *new = plant(run_right);
    put(old, "planted", GEMMUX_PROOF_PROVED, 1000);
    put(new, "planted", GEMMUX_PROOF_CRASHED, 2000);
    put(old, "zzz", GEMMUX_PROOF_PROVED, 3000); /* carries what it read in, not what it had */
    put(old, "ref_any", GEMMUX_PROOF_PROVED, 3000);
    assert_int_equal(old->machine.record_count, 2);
    assert_string_equal(old->machine.records[0].kernel, "planted");
    assert_int_equal(old->machine.records[0].kind, GEMMUX_RECORD_QUARANTINED);
    uproot(new);
    new = plant(run_right);
    assert_int_equal(gemmux_records_find(new->records, &new->machine, &new->kernel)->proof,
                     GEMMUX_PROOF_CRASHED);
    uproot(old);
    uproot(new);
}

static void many_entries(void **unused)
{
    (void)unused;
    gemmux_entries entries = {0};
    gemmux_entry entry = {.proof = GEMMUX_PROOF_PROVED};
    entry.record.kind = GEMMUX_RECORD_PROVED;
    snprintf(entry.record.kernel, sizeof entry.record.kernel, "k");
    for (int i = 0; i < 1500; i++) {
        snprintf(entry.key, sizeof entry.key, "build %d", i);
        entry.at = i;
        assert_int_equal(gemmux_entries_put(&entries, &entry, NULL), GEMMUX_OK);
    }
    assert_int_equal(entries.count, 1024);
    assert_non_null(gemmux_entries_find(&entries, &entry));
    entry.key[0] = 0;
    assert_null(gemmux_entries_find(&entries, &entry));
    for (int i = 0; i < entries.count; i++) {
        assert_true(entries.items[i].at >= 1500 - 1024); /* the oldest have gone */
    }
    free(entries.items);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(cached_until_something_changes),
        TEST(another_build),
        TEST(another_library),
        TEST(another_chip),
        TEST(build_identity),
        TEST(corrupt_files),
        TEST(corrupt_meanwhile),
        TEST(nowhere_to_write),
        TEST(concurrent_writers),
        TEST(a_lock_that_is_kept),
        TEST(measurements),
        TEST(measurements_outlive_guesses),
        TEST(measurements_keep_to_their_own),
        TEST(no_measurement),
        TEST(merging),
        TEST(many_entries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
