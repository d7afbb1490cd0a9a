/* SPDX-License-Identifier: Apache-2.0
 *
 * Certification with planted kernels: each of the ways a kernel can be wrong is caught with
 * evidence, the caller is unharmed, and select takes the next rung.
 */
#include "planted.h"

#include "packings/panel16.h"
#include "select.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#ifdef __SSE__
#    include <xmmintrin.h>
#endif

/* ---- planted kernels: right but for one thing ---- */

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

static bool refuse_all;

static gemmux_status prepare_refuses(const gemmux_problem *problem, const gemmux_machine *machine,
                                     const gemmux_packed *w, void **state, gemmux_error *error)
{
    (void)machine, (void)w, (void)state;
    if (problem->m == 8 || refuse_all) {
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

/* Right by its packed weights, of which every second run changes a byte when it is done. */
static gemmux_status run_writes_weights(const gemmux_call *call, gemmux_error *error)
{
    static int turn; /* of the child alone */
    gemmux_weights back;
    gemmux_status status = gemmux_unpack(call->w, &back, error);
    gemmux_packed plain = {.packing = &gemmux_packing_plain, .plain = back.tensor};
    gemmux_call inner = *call;
    inner.w = &plain;
    status = status ? status : run_right(&inner, error);
    gemmux_weights_free(&back);
    if (turn++ % 2) {
        ((char *)call->w->data)[call->w->bytes - 1] ^= 1;
    }
    return status;
}

/* ---- what certification finds ---- */

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

static void changed_weights(void **unused)
{
    (void)unused;
    planted *p = plant(run_writes_weights);
    p->kernel.packing = &gemmux_packing_panel16;
    gemmux_certificate c = certify(p, 120, true);
    assert_int_equal(c.proof, GEMMUX_PROOF_WRONG);
    if (!strstr(c.evidence, "packed weights (panel16, ") || !strstr(c.evidence, "linear ")) {
        fail_msg("%s", c.evidence);
    }
    uproot(p);
}

/* A kernel may refuse at prepare: the plan takes the next one, and nothing wrong is computed. */
static void failing_prepare(void **unused)
{
    (void)unused;
    planted *p = plant(run_right);
    p->kernel.prepare = prepare_refuses;
    gemmux_certificate c = certify(p, 120, false);
    assert_int_equal(c.proof, GEMMUX_PROOF_PROVED);
    assert_non_null(strstr(c.evidence, "more refused by its prepare"));
    refuse_all = true;
    c = certify(p, 120, true);
    assert_int_equal(c.proof, GEMMUX_PROOF_SKIPPED);
    assert_int_equal(c.cases, 0);
    assert_non_null(strstr(c.evidence, "no handle to be had"));
    refuse_all = false;
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(right_is_proved),
        TEST(zeros_for_some_m),
        TEST(illegal_instruction),
        TEST(infinite_loop),
        TEST(one_element_past_the_end),
        TEST(other_ways_to_be_wrong),
        TEST(changed_weights),
        TEST(failing_prepare),
        TEST(own_thread),
        TEST(too_little_time),
        TEST(what_cannot_run_is_skipped),
        TEST(the_caller_is_unharmed),
        TEST(ignored_sigchld),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
