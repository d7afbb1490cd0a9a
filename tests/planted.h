/* SPDX-License-Identifier: Apache-2.0
 *
 * A machine with one planted kernel above the floor, and a cache directory of its own for each
 * test. Shared by the tests of certification and of its records.
 */
#ifndef GEMMUX_PLANTED_H
#define GEMMUX_PLANTED_H

#include "testing.h"

#include "kernel.h"
#include "records.h"

#include <dirent.h>
#include <unistd.h>

extern const gemmux_kernel gemmux_kernel_ref_any;

static inline gemmux_status run_right(const gemmux_call *call, gemmux_error *error)
{
    return gemmux_kernel_ref_any.run(call, error);
}

static const gemmux_form forms[] = {
    {
        .x = GEMMUX_BIT(GEMMUX_BF16),
        .w = GEMMUX_BIT(GEMMUX_BF16) | GEMMUX_BIT(GEMMUX_MXFP4),
        .y = GEMMUX_BIT(GEMMUX_F32) | GEMMUX_BIT(GEMMUX_BF16),
        .path = GEMMUX_PATH_UPCAST,
        .math = GEMMUX_MATH_BF16,
        .share_compute = 0.9f,
        .share_bandwidth = 0.9f,
    },
};

typedef gemmux_status run_function(const gemmux_call *call, gemmux_error *error);

typedef struct planted {
    gemmux_kernel kernel;
    const gemmux_kernel *kernels[2];
    struct gemmux_kernel_table table;
    gemmux_machine machine;
    gemmux_records *records;
    char note[2048];
} planted;

/* A machine whose table is the planted kernel and the floor. */
static inline planted *plant(run_function *run)
{
    planted *p = calloc(1, sizeof *p);
    gemmux_error error;
    assert_non_null(p);
    assert_int_equal(gemmux_machine_probe_cpu(&p->machine, &error), GEMMUX_OK);
    p->kernel = gemmux_kernel_ref_any;
    p->kernel.name = "planted";
    p->kernel.floor = false;
    p->kernel.forms = forms;
    p->kernel.form_count = 1;
    p->kernel.run = run;
    p->kernels[0] = &p->kernel;
    p->kernels[1] = &gemmux_kernel_ref_any;
    p->table = (struct gemmux_kernel_table){p->kernels, 2};
    p->machine.kernels = &p->table;
    assert_int_equal(gemmux_records_load(&p->machine, &p->records, p->note, sizeof p->note, &error),
                     GEMMUX_OK);
    return p;
}

static inline void uproot(planted *p)
{
    gemmux_records_free(p->records);
    free(p);
}

static inline gemmux_certificate certify(planted *p, double seconds, bool again)
{
    gemmux_certificate certificate;
    gemmux_error error = {0};
    if (gemmux_certify(p->records, &p->machine, &p->kernel, seconds, again, &certificate, &error)) {
        fail_msg("%s", error.text);
    }
    return certificate;
}

static inline gemmux_problem usual_problem(void)
{
    return gemmux_problem_linear(33, 64, 128, testing_format("bf16"), testing_format("mxfp4"),
                                 testing_format("bf16"));
}

/* ---- a cache directory for each test ---- */

static char cache[64];

static inline int make_cache(void **state)
{
    (void)state;
    snprintf(cache, sizeof cache, "/tmp/gemmux-certify-XXXXXX");
    return mkdtemp(cache) && setenv("XDG_CACHE_HOME", cache, 1) == 0 ? 0 : -1;
}

static inline int drop_cache(void **state)
{
    (void)state;
    char path[600], inner[128];
    snprintf(inner, sizeof inner, "%s/gemmux", cache);
    DIR *directory = opendir(inner);
    for (struct dirent *e = directory ? readdir(directory) : NULL; e; e = readdir(directory)) {
        snprintf(path, sizeof path, "%s/%s", inner, e->d_name);
        unlink(path);
    }
    if (directory) {
        closedir(directory);
    }
    rmdir(inner);
    return rmdir(cache);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_cache, drop_cache)

#endif
