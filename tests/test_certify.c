/* SPDX-License-Identifier: Apache-2.0
 *
 * Certification with planted kernels: each of the ways a kernel can be wrong is caught with
 * evidence, the caller is unharmed, and select takes the next rung. The cache: shared by
 * processes, bound to build and chip, survived when it is corrupt or cannot be written.
 */
#include "testing.h"

#include "kernel.h"
#include "records.h"
#include "select.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __SSE__
#    include <xmmintrin.h>
#endif

extern const gemmux_kernel gemmux_kernel_ref_any;

/* ---- planted kernels: right but for one thing ---- */

static gemmux_status run_right(const gemmux_call *call, gemmux_error *error)
{
    return gemmux_kernel_ref_any.run(call, error);
}

static int64_t y_bytes(const gemmux_call *call)
{
    int64_t cols = call->problem->n;
    cols = call->problem->epilogue & GEMMUX_EPILOGUE_SWIGLU ? cols / 2 : cols;
    return gemmux_row_bytes(call->y_format, cols);
}

static gemmux_status run_zeros_for_33(const gemmux_call *call, gemmux_error *error)
{
    gemmux_status status = run_right(call, error);
    for (int64_t row = 0; call->x.rows == 33 && call->group_count && row < 33; row++) {
        memset((char *)call->y + row * call->y_row_bytes, 0, (size_t)y_bytes(call));
    }
    return status;
}

static gemmux_status run_sigill(const gemmux_call *call, gemmux_error *error)
{
    if (call->x.rows == 16) {
        raise(SIGILL);
    }
    return run_right(call, error);
}

static gemmux_status run_forever(const gemmux_call *call, gemmux_error *error)
{
    volatile int64_t turns = 0;
    while (call->x.rows == 17) {
        turns++;
    }
    return run_right(call, error);
}

/* One element past the end: a read-modify-write in the last row, as of a loop bound off by one. */
static gemmux_status run_past_the_end(const gemmux_call *call, gemmux_error *error)
{
    gemmux_status status = run_right(call, error);
    volatile char *end = (char *)call->y + (call->x.rows - 1) * call->y_row_bytes + y_bytes(call);
    *end = 0;
    return status;
}

/* The same where only the unmapped page can tell: what is there is put back. */
static gemmux_status run_touches_past_the_end(const gemmux_call *call, gemmux_error *error)
{
    gemmux_status status = run_right(call, error);
    volatile char *end = (char *)call->y + (call->x.rows - 1) * call->y_row_bytes + y_bytes(call);
    *end = *end;
    return status;
}

static gemmux_status run_writes_x(const gemmux_call *call, gemmux_error *error)
{
    volatile char *x = (char *)(uintptr_t)call->x.codes;
    if (call->x.cols) {
        x[0] = x[0];
    }
    return run_right(call, error);
}

static gemmux_status run_overruns_workspace(const gemmux_call *call, gemmux_error *error)
{
    volatile char *workspace = call->workspace;
    workspace[call->workspace_bytes] = 1;
    return run_right(call, error);
}

static gemmux_status run_forgets_an_element(const gemmux_call *call, gemmux_error *error)
{
    char kept[4], *at = (char *)call->y + y_bytes(call) - 4;
    bool long_enough = y_bytes(call) >= 4;
    if (long_enough) {
        memcpy(kept, at, 4);
    }
    gemmux_status status = run_right(call, error);
    if (long_enough) {
        memcpy(at, kept, 4);
    }
    return status;
}

static gemmux_status run_rounds_upward(const gemmux_call *call, gemmux_error *error)
{
    gemmux_status status = run_right(call, error);
#ifdef __SSE__
    _mm_setcsr(_mm_getcsr() | 0x8000u); /* flush to zero, and left so */
#endif
    return status;
}

static gemmux_status run_differs(const gemmux_call *call, gemmux_error *error)
{
    static int turn; /* of the child alone */
    gemmux_status status = run_right(call, error);
    if (turn++ % 2 && call->y_format.id == GEMMUX_F32) {
        float value;
        memcpy(&value, call->y, 4);
        value = nextafterf(value, INFINITY);
        memcpy(call->y, &value, 4);
    }
    return status;
}

static gemmux_status run_exits(const gemmux_call *call, gemmux_error *error)
{
    if (call->x.rows == 7) {
        exit(0);
    }
    return run_right(call, error);
}

static gemmux_status run_refuses(const gemmux_call *call, gemmux_error *error)
{
    if (call->x.rows == 2 && error) {
        error->status = GEMMUX_ERROR_LIBRARY;
        snprintf(error->text, sizeof error->text, "no memory on Tuesdays");
    }
    return call->x.rows == 2 ? GEMMUX_ERROR_LIBRARY : run_right(call, error);
}

/* An error without words is an error. */
static gemmux_status run_refuses_silently(const gemmux_call *call, gemmux_error *error)
{
    return call->x.rows == 2 ? GEMMUX_ERROR_DEVICE : run_right(call, error);
}

/* A scale too far along K: only distinct scales in neighbouring blocks show it. */
static gemmux_status run_next_scale(const gemmux_call *call, gemmux_error *error)
{
    gemmux_packed moved = *call->w;
    gemmux_call shifted = *call;
    int64_t scales = gemmux_scale_count(moved.plain.format, moved.plain.rows, moved.plain.cols);
    if (moved.plain.format.id != GEMMUX_MXFP4 || scales < 2) {
        return run_right(call, error);
    }
    uint8_t *copy = malloc((size_t)(moved.plain.count * scales) + 1);
    memcpy(copy, (const uint8_t *)moved.plain.scales + 1, (size_t)(moved.plain.count * scales) - 1);
    copy[moved.plain.count * scales - 1] = copy[0];
    moved.plain.scales = copy;
    shifted.w = &moved;
    gemmux_status status = run_right(&shifted, error);
    free(copy);
    return status;
}

static gemmux_status prepare_refuses(const gemmux_problem *problem, const gemmux_machine *machine,
                                     const gemmux_packed *w, void **state, gemmux_error *error)
{
    (void)machine, (void)w, (void)state;
    if (problem->m == 8) {
        error->status = GEMMUX_ERROR_LIBRARY;
        snprintf(error->text, sizeof error->text, "no handle to be had");
        return GEMMUX_ERROR_LIBRARY;
    }
    return GEMMUX_OK;
}

/* Thread pools of libraries are kept by calling thread, and the forked thread's are dead. */
static pthread_t main_thread;

static gemmux_status run_on_own_thread(const gemmux_call *call, gemmux_error *error)
{
    return pthread_equal(pthread_self(), main_thread) ? GEMMUX_ERROR_INTERNAL
                                                      : run_right(call, error);
}

/* A NaN of one row of x that reaches another row of y. */
static gemmux_status run_leaks_nan(const gemmux_call *call, gemmux_error *error)
{
    gemmux_status status = run_right(call, error);
    float first = 0;
    if (call->y_format.id == GEMMUX_F32 && call->x.rows > 2) {
        memcpy(&first, (char *)call->y + call->x.rows / 2 * call->y_row_bytes, 4);
    }
    if (isnan(first)) {
        memcpy(call->y, &first, 4);
    }
    return status;
}

/* ---- the table ---- */

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
static planted *plant(run_function *run)
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

static void uproot(planted *p)
{
    gemmux_records_free(p->records);
    free(p);
}

static gemmux_certificate certify(planted *p, double seconds, bool again)
{
    gemmux_certificate certificate;
    gemmux_error error = {0};
    if (gemmux_certify(p->records, &p->machine, &p->kernel, seconds, again, &certificate, &error)) {
        fail_msg("%s", error.text);
    }
    return certificate;
}

/* ---- a cache directory for each test ---- */

static char cache[64];

static int make_cache(void **state)
{
    (void)state;
    snprintf(cache, sizeof cache, "/tmp/gemmux-certify-XXXXXX");
    return mkdtemp(cache) && setenv("XDG_CACHE_HOME", cache, 1) == 0 ? 0 : -1;
}

static int drop_cache(void **state)
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

/* ---- what certification finds ---- */

static gemmux_problem usual_problem(void)
{
    return gemmux_problem_linear(33, 64, 128, testing_format("bf16"), testing_format("mxfp4"),
                                 testing_format("bf16"));
}

/* select rejects the planted kernel at flags, with the evidence, and takes the floor. */
static void expect_next_rung(const planted *p, const gemmux_certificate *certificate)
{
    gemmux_trace *trace = malloc(sizeof *trace);
    gemmux_decision decision;
    gemmux_problem problem = usual_problem();
    char text[400];
    assert_non_null(trace);
    assert_int_equal(gemmux_select(&problem, &p->machine, NULL, &decision, trace, NULL), GEMMUX_OK);
    assert_ptr_equal(decision.kernel, &gemmux_kernel_ref_any);
    const gemmux_verdict *verdict = &trace->verdicts[0];
    assert_ptr_equal(verdict->kernel, &p->kernel);
    assert_int_equal(verdict->kind, GEMMUX_REJECTED);
    assert_int_equal(verdict->reason_count, 1);
    const gemmux_reason *reason = &trace->reasons[verdict->reason_first];
    assert_int_equal(reason->stage, GEMMUX_STAGE_FLAGS);
    assert_string_equal(gemmux_reason_code(reason), "quarantined");
    gemmux_reason_text(reason, &p->kernel, &problem, &p->machine, text, sizeof text);
    assert_non_null(strstr(text, certificate->evidence));
    free(trace);
}

static void expect(run_function *run, gemmux_proof proof, const char *const *evidence)
{
    drop_cache(NULL); /* of the kernel before, which has the same name */
    make_cache(NULL);
    planted *p = plant(run);
    gemmux_problem problem = usual_problem();
    gemmux_decision decision;
    assert_int_equal(gemmux_select(&problem, &p->machine, NULL, &decision, NULL, NULL), GEMMUX_OK);
    assert_ptr_equal(decision.kernel, &p->kernel); /* it would have been chosen */
    gemmux_certificate c = certify(p, proof == GEMMUX_PROOF_HUNG ? 2 : 120, true);
    if (c.proof != proof) {
        fail_msg("%s: %s", gemmux_proof_name(c.proof), c.evidence);
    }
    for (int i = 0; evidence[i]; i++) {
        if (!strstr(c.evidence, evidence[i])) {
            fail_msg("no \"%s\" in \"%s\"", evidence[i], c.evidence);
        }
    }
    expect_next_rung(p, &c);
    uproot(p);
    p = plant(run); /* and so does the next process that loads the cache */
    expect_next_rung(p, &c);
    uproot(p);
}

#define EVIDENCE(...)                                                                              \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }

static void right_is_proved(void **unused)
{
    (void)unused;
    planted *p = plant(run_right);
    assert_int_equal(p->machine.record_count, 0);
    gemmux_certificate c = certify(p, 300, false);
    if (c.proof != GEMMUX_PROOF_PROVED) {
        fail_msg("%s: %s", gemmux_proof_name(c.proof), c.evidence);
    }
    assert_true(c.cases > 200 && c.seconds > 0 && !c.cached);
    assert_int_equal(p->machine.record_count, 1);
    assert_int_equal(p->machine.records[0].kind, GEMMUX_RECORD_PROVED);
    gemmux_problem problem = usual_problem();
    gemmux_decision decision;
    const gemmux_policy proved = {.proved_only = true};
    assert_int_equal(gemmux_select(&problem, &p->machine, &proved, &decision, NULL, NULL),
                     GEMMUX_OK);
    assert_ptr_equal(decision.kernel, &p->kernel);
    uproot(p);
}

static void zeros_for_some_m(void **unused)
{
    (void)unused;
    expect(run_zeros_for_33, GEMMUX_PROOF_WRONG, EVIDENCE("linear 33x", " is 0, expected "));
}

static void illegal_instruction(void **unused)
{
    (void)unused;
    expect(run_sigill, GEMMUX_PROOF_CRASHED, EVIDENCE("SIGILL in ", " 16x"));
}

static void infinite_loop(void **unused)
{
    (void)unused;
    expect(run_forever, GEMMUX_PROOF_HUNG, EVIDENCE("no result after 2.", " 17x"));
}

static void one_element_past_the_end(void **unused)
{
    (void)unused;
    expect(run_past_the_end, GEMMUX_PROOF_WRONG,
           EVIDENCE("linear 1x", "byte 0 past the end", "expected 0xa5, got 0x00"));
    expect(run_touches_past_the_end, GEMMUX_PROOF_CRASHED,
           EVIDENCE("SIGSEGV in ", "at a page's end"));
}

static void other_ways_to_be_wrong(void **unused)
{
    (void)unused;
    expect(run_writes_x, GEMMUX_PROOF_CRASHED, EVIDENCE("SIGSEGV in linear"));
    expect(run_overruns_workspace, GEMMUX_PROOF_CRASHED, EVIDENCE("SIGSEGV in linear"));
    expect(run_forgets_an_element, GEMMUX_PROOF_WRONG, EVIDENCE("was not written"));
    expect(run_exits, GEMMUX_PROOF_CRASHED, EVIDENCE("ended its process with status 0", " 7x"));
    expect(run_refuses, GEMMUX_PROOF_WRONG, EVIDENCE("linear 2x", "no memory on Tuesdays"));
    expect(run_refuses_silently, GEMMUX_PROOF_WRONG, EVIDENCE("linear 2x", "device error"));
    expect(run_next_scale, GEMMUX_PROOF_WRONG, EVIDENCE("mxfp4", "expected"));
    expect(run_differs, GEMMUX_PROOF_WRONG, EVIDENCE("two runs differ"));
    expect(run_leaks_nan, GEMMUX_PROOF_WRONG, EVIDENCE("a NaN in x", "y[0, 0] is"));
#ifdef __SSE__
    expect(run_rounds_upward, GEMMUX_PROOF_WRONG, EVIDENCE("rounding control", "expected 0x1f80"));
#endif
}

static void failing_prepare(void **unused)
{
    (void)unused;
    planted *p = plant(run_right);
    p->kernel.prepare = prepare_refuses;
    gemmux_certificate c = certify(p, 120, false);
    assert_int_equal(c.proof, GEMMUX_PROOF_WRONG);
    assert_non_null(strstr(c.evidence, "linear 8x"));
    assert_non_null(strstr(c.evidence, "no handle to be had"));
    uproot(p);
}

static void own_thread(void **unused)
{
    (void)unused;
    main_thread = pthread_self();
    planted *p = plant(run_on_own_thread);
    gemmux_certificate c = certify(p, 120, false);
    assert_int_equal(c.proof, GEMMUX_PROOF_PROVED);
    uproot(p);
}

/* A slow machine is no reason to condemn a kernel. */
static void too_little_time(void **unused)
{
    (void)unused;
    planted *p = plant(run_right);
    gemmux_certificate c = certify(p, 0.02, false);
    assert_true(c.proof == GEMMUX_PROOF_SKIPPED || c.proof == GEMMUX_PROOF_HUNG);
    if (c.proof == GEMMUX_PROOF_SKIPPED) {
        assert_non_null(strstr(c.evidence, "none failed"));
        assert_int_equal(p->machine.record_count, 0);
    }
    uproot(p);
}

static void what_cannot_run_is_skipped(void **unused)
{
    (void)unused;
    planted *p = plant(NULL);
    gemmux_certificate c = certify(p, 10, false);
    assert_int_equal(c.proof, GEMMUX_PROOF_SKIPPED);
    assert_non_null(strstr(c.evidence, "not built"));
    p->kernel.run = run_right;
    p->kernel.isa = GEMMUX_ISA_SVE | GEMMUX_ISA_AMXBF16; /* no chip has both */
    c = certify(p, 10, false);
    assert_int_equal(c.proof, GEMMUX_PROOF_SKIPPED);
    assert_non_null(strstr(c.evidence, "sve"));
    p->kernel.isa = 0;
    p->kernel.library = GEMMUX_LIB_OPENBLAS;
    p->machine.library[GEMMUX_LIB_OPENBLAS].present = false;
    c = certify(p, 10, false);
    assert_int_equal(c.proof, GEMMUX_PROOF_SKIPPED);
    assert_non_null(strstr(c.evidence, "openblas"));
    p->kernel.library = GEMMUX_LIB_NONE;
    p->kernel.device = GEMMUX_CUDA;
    c = certify(p, 10, false);
    assert_int_equal(c.proof, GEMMUX_PROOF_SKIPPED);
    p->kernel.device = GEMMUX_CPU;
    p->machine.described = true;
    c = certify(p, 10, false);
    assert_int_equal(c.proof, GEMMUX_PROOF_SKIPPED);
    assert_int_equal(p->machine.record_count, 0);
    gemmux_kernel stranger = p->kernel;
    gemmux_error error;
    assert_int_equal(gemmux_certify(p->records, &p->machine, &stranger, 1, false, &c, &error),
                     GEMMUX_ERROR_ARGUMENT);
    uproot(p);
}

/* ---- the caller is unharmed ---- */

static volatile sig_atomic_t handled;

static void on_signal(int number)
{
    handled = number;
}

static int open_files(void)
{
    int count = 0;
    for (int i = 0; i < 256; i++) {
        count += fcntl(i, F_GETFD) >= 0;
    }
    return count;
}

static void the_caller_is_unharmed(void **unused)
{
    (void)unused;
    const int watched[] = {SIGILL, SIGSEGV, SIGCHLD, SIGUSR1};
    run_function *const bad[] = {run_sigill, run_touches_past_the_end, run_exits};
    struct sigaction before[4], after;
    sigset_t mask, mask_after;
    for (int i = 0; i < 4; i++) {
        struct sigaction mine = {.sa_handler = on_signal};
        assert_int_equal(sigaction(watched[i], &mine, &before[i]), 0);
    }
    sigemptyset(&mask);
    sigaddset(&mask, SIGILL);
    sigaddset(&mask, SIGUSR2);
    assert_int_equal(sigprocmask(SIG_SETMASK, &mask, NULL), 0);
    int pipe_to_child[2], status;
    assert_int_equal(pipe(pipe_to_child), 0);
    pid_t own = fork(); /* a child of the caller's, which ends while kernels are proved */
    if (own == 0) {
        _exit(42);
    }
    int files = open_files();
    for (int i = 0; i < 3; i++) {
        planted *p = plant(bad[i]);
        gemmux_certificate c = certify(p, 120, true);
        assert_int_equal(c.proof, GEMMUX_PROOF_CRASHED);
        uproot(p);
    }
    assert_int_equal(open_files(), files);
    assert_int_equal(waitpid(own, &status, 0), own); /* nobody else has taken it */
    assert_int_equal(WEXITSTATUS(status), 42);
    assert_int_equal(waitpid(-1, &status, WNOHANG), -1); /* and nothing is left behind */
    assert_int_equal(errno, ECHILD);
    assert_true(handled == 0 || handled == SIGCHLD);
    assert_int_equal(sigprocmask(SIG_SETMASK, NULL, &mask_after), 0);
    assert_true(sigismember(&mask_after, SIGILL) && sigismember(&mask_after, SIGUSR2) &&
                !sigismember(&mask_after, SIGSEGV));
    sigemptyset(&mask);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(sigaction(watched[i], &before[i], &after), 0);
        assert_ptr_equal(after.sa_handler, on_signal);
    }
    close(pipe_to_child[0]);
    close(pipe_to_child[1]);
}

/* With SIGCHLD ignored the system reaps children itself, and waitpid tells nothing. */
static void ignored_sigchld(void **unused)
{
    (void)unused;
    signal(SIGCHLD, SIG_IGN);
    planted *p = plant(run_sigill);
    gemmux_certificate c = certify(p, 120, true);
    assert_int_equal(c.proof, GEMMUX_PROOF_CRASHED);
    p->kernel.run = run_zeros_for_33;
    c = certify(p, 120, true);
    assert_int_equal(c.proof, GEMMUX_PROOF_WRONG);
    uproot(p);
    signal(SIGCHLD, SIG_DFL);
}

/* ---- the cache ---- */

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
    if (gemmux_records_put(p->records, &p->machine, &entry, &error)) {
        fail_msg("%s", error.text);
    }
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
        "\"any\", \"m_min\": 1, \"m_max\": 2, \"share\": 0.5}]}",
        "{\"records\": [{\"kernel\": \"a\", \"key\": \"b\", \"at\": 1, \"x\": \"any\", \"w\": "
        "\"any\", \"m_min\": 3, \"m_max\": 2, \"share\": 0.5}]}",
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
        planted *p = plant(run_zeros_for_33);
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
                int64_t m = 1 + i * EACH + j;
                good = good && !gemmux_records_measure(p->records, &p->machine, &p->kernel,
                                                       GEMMUX_BF16, GEMMUX_MXFP4, m, m, 0.5f, NULL);
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
    assert_int_equal(p->machine.record_count, WRITERS * EACH);
    bool seen[WRITERS * EACH] = {0};
    for (int i = 0; i < WRITERS * EACH; i++) {
        seen[p->machine.records[i].m_min - 1] = true;
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
    gemmux_status status = gemmux_records_measure(p->records, &p->machine, &p->kernel, 0,
                                                  GEMMUX_MXFP4, 1, 8, 0.5f, &error);
    assert_int_equal(status, GEMMUX_ERROR_IO);
    assert_non_null(strstr(error.text, "locked by another process"));
    assert_int_equal(p->machine.record_count, 1); /* it holds here all the same */
    close(descriptor);
    uproot(p);
}

static void measurements(void **unused)
{
    (void)unused;
    planted *p = plant(run_right);
    gemmux_problem problem = usual_problem();
    gemmux_decision before, after;
    assert_int_equal(gemmux_select(&problem, &p->machine, NULL, &before, NULL, NULL), GEMMUX_OK);
    assert_false(before.measured);
    assert_int_equal(gemmux_records_measure(p->records, &p->machine, &p->kernel, GEMMUX_BF16,
                                            GEMMUX_MXFP4, 17, 64, 0.25f, NULL),
                     GEMMUX_OK);
    assert_int_equal(gemmux_records_measure(p->records, &p->machine, &p->kernel, GEMMUX_BF16,
                                            GEMMUX_MXFP4, 17, 64, 0.125f, NULL),
                     GEMMUX_OK); /* replaces the first */
    put(p, "planted", GEMMUX_PROOF_PROVED, 1000);
    put(p, "a stranger", GEMMUX_PROOF_WRONG, 1000);
    assert_int_equal(gemmux_records_measure(p->records, &p->machine, &p->kernel, GEMMUX_BF16, 0, 9,
                                            8, 0.5f, NULL),
                     GEMMUX_ERROR_ARGUMENT);
    uproot(p);
    p = plant(run_right);
    assert_int_equal(p->machine.record_count, 2); /* not of kernels that are not here */
    assert_int_equal(gemmux_select(&problem, &p->machine, NULL, &after, NULL, NULL), GEMMUX_OK);
    assert_ptr_equal(after.kernel, &p->kernel);
    assert_true(after.measured && after.predicted_us > before.predicted_us);
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_cache, drop_cache)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(right_is_proved),
        TEST(zeros_for_some_m),
        TEST(illegal_instruction),
        TEST(infinite_loop),
        TEST(one_element_past_the_end),
        TEST(other_ways_to_be_wrong),
        TEST(failing_prepare),
        TEST(own_thread),
        TEST(too_little_time),
        TEST(what_cannot_run_is_skipped),
        TEST(the_caller_is_unharmed),
        TEST(ignored_sigchld),
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
        TEST(merging),
        TEST(many_entries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
