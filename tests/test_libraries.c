/* SPDX-License-Identifier: Apache-2.0
 *
 * Libraries that may be absent, broken, too old or too new: found, judged and reported. Where the
 * real ones are there, they are asked for their versions.
 */
#include "testing.h"

#include "probe/probe.h"

#include <sys/stat.h>
#include <unistd.h>

static char directory[64];

static int make_directory(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/gemmux-libraries-XXXXXX");
    return mkdtemp(directory) && !setenv("LD_LIBRARY_PATH", directory, 1) ? 0 : -1;
}

static int remove_directory(void **state)
{
    (void)state;
    char command[96];
    unsetenv("LD_LIBRARY_PATH");
    snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command);
}

static void put_text(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void put_link(const char *target, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    assert_int_equal(symlink(target, path), 0);
}

/* The note must name the file and the reason; the file must not be what is used. */
static void expect_refused(gemmux_library_id id, const char *name, const char *reason)
{
    gemmux_library found;
    gemmux_probe_library(id, &found);
    if (!strstr(found.note, name) || !strstr(found.note, reason))
        fail_msg("expected '%s: ... %s', the note is '%s'", name, reason, found.note);
    assert_null(strstr(found.path, directory));
    assert_int_equal(found.present, *found.path != '\0');
}

static void a_file_that_is_no_library_is_reported(void **state)
{
    (void)state;
    put_text("libdnnl.so.2",
             "This is not a library, but long enough for the loader to look for the "
             "header of one before it says so.\n");
    expect_refused(GEMMUX_LIB_ONEDNN, "libdnnl.so.2", "invalid ELF header");
    put_text("libopenblas.so.0", "");
    expect_refused(GEMMUX_LIB_OPENBLAS, "libopenblas.so.0", "file too short");
    put_link("/nonexistent/libcublasLt.so", "libcublasLt.so.12");
    put_text("libcublasLt.so.13", "x");
    expect_refused(GEMMUX_LIB_CUBLASLT, "libcublasLt.so.13", "file too short");
}

static void another_library_under_that_name_is_reported(void **state)
{
    (void)state;
    put_link(FAKE_DNNL_FILE, "libopenblas.so.0");
    expect_refused(GEMMUX_LIB_OPENBLAS, "libopenblas.so.0", "no function openblas_get_config");
    put_link(FAKE_DNNL_FILE, "libcuda.so.1");
    expect_refused(GEMMUX_LIB_CUDA, "libcuda.so.1", "no function cuDriverGetVersion");
    put_link(FAKE_DNNL_FILE, "libcublasLt.so.12");
    expect_refused(GEMMUX_LIB_CUBLASLT, "libcublasLt.so.12", "no function cublasLtGetVersion");
}

static void versions_and_runtimes_that_do_not_work_are_reported(void **state)
{
    (void)state;
    static const struct {
        const char *claim, *reason;
    } cases[] = {
        {"1.4.0 2", "version 1.4.0 is too old"},
        {"2.5.9 2", "version 2.5.9 is too old"},
        {"4.0.0 2", "version 4.0.0 is newer"},
        {"3.13.2 512", "SYCL"},
        {"3.1.0 4", "TBB"},
        {"3.1.0 0", "no CPU engine"},
        {"2.6.0 2", "no function dnnl_engine_create"},
    };
    put_link(FAKE_DNNL_FILE, "libdnnl.so.3");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        setenv("FAKE_DNNL", cases[i].claim, 1);
        expect_refused(GEMMUX_LIB_ONEDNN, "libdnnl.so.3", cases[i].reason);
    }
    unsetenv("FAKE_DNNL");
}

static void the_python_environment_is_searched(void **state)
{
    (void)state;
    char path[256];
    unsetenv("LD_LIBRARY_PATH");
    static const char *const parts[] = {"lib",
                                        "lib/python3.11",
                                        "lib/python3.11/site-packages",
                                        "lib/python3.11/site-packages/nvidia",
                                        "lib/python3.11/site-packages/nvidia/cublas",
                                        "lib/python3.11/site-packages/nvidia/cublas/lib"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, parts[i]);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    put_text("lib/python3.11/site-packages/nvidia/cublas/lib/libcublasLt.so.12", "x");
    gemmux_library found;
    gemmux_probe_library(GEMMUX_LIB_CUBLASLT, &found);
    if (found.present)
        skip(); /* an installed one comes first, rightly */
    assert_string_equal(found.note, "");
    setenv("VIRTUAL_ENV", directory, 1);
    expect_refused(GEMMUX_LIB_CUBLASLT, "nvidia/cublas/lib/libcublasLt.so.12", "file too short");
    unsetenv("VIRTUAL_ENV");
}

static void real_ones_tell_their_versions(void **state)
{
    (void)state;
    static const struct {
        gemmux_library_id id;
        int32_t oldest, newest;
    } known[] = {{GEMMUX_LIB_ONEDNN, 20600, 39999}, {GEMMUX_LIB_OPENBLAS, 100, 19999}};
    gemmux_machine machine;
    assert_int_equal(gemmux_machine_probe_cpu(&machine, NULL), GEMMUX_OK);
    for (size_t i = 0; i < 2; i++) {
        gemmux_library found;
        gemmux_probe_library(known[i].id, &found);
        assert_memory_equal(&found, &machine.library[known[i].id], sizeof found);
        if (!found.present) {
            print_message("%s is not installed here (%s)\n", gemmux_library_name(known[i].id),
                          *found.note ? found.note : "not found");
            assert_int_equal(found.version, 0);
            continue;
        }
        print_message("%s %d: %s\n", gemmux_library_name(known[i].id), found.version, found.path);
        assert_in_range(found.version, known[i].oldest, known[i].newest);
        assert_int_equal(access(found.path, R_OK), 0);
    }
    gemmux_library none;
    memset(&none, 0xff, sizeof none);
    gemmux_probe_library(GEMMUX_LIB_NONE, &none);
    assert_false(none.present);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_file_that_is_no_library_is_reported, make_directory,
                                        remove_directory),
        cmocka_unit_test_setup_teardown(another_library_under_that_name_is_reported, make_directory,
                                        remove_directory),
        cmocka_unit_test_setup_teardown(versions_and_runtimes_that_do_not_work_are_reported,
                                        make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(the_python_environment_is_searched, make_directory,
                                        remove_directory),
        cmocka_unit_test(real_ones_tell_their_versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
