/* SPDX-License-Identifier: Apache-2.0 */
#include "certify_prove.h"

#include "certify_device.h"
#include "certify_operands.h"
#include "error.h"
#include "packing.h"
#include "plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE__
#    include <xmmintrin.h>
#endif

/* Above this many multiplications the reference takes rows of y by sample. */
#define WHOLE_PRODUCTS 12e6
#define SAMPLED_ROWS   24

/* One case on its way. */
typedef struct trial {
    gemmux_operands o;
    gemmux_machine machine;
    gemmux_threads *threads;
    gemmux_proof_device *device; /* NULL: a CPU kernel */
    gemmux_policy policy;        /* by name: a kernel without a certificate is not taken else */
    gemmux_guarded workspace;
    gemmux_plan *plan;
    uint32_t liberties;
    double worst;
    bool ran;
    char refused[160]; /* what the kernel's own prepare said */
    char wrong[160];   /* what the kernel did; "": nothing so far */
    bool crashed;      /* wrong is an error after which the device answers no more */
    gemmux_error error;
} trial;

/* The kernel's own failure, which may come without words. */
static void blame(trial *t, gemmux_status status)
{
    snprintf(t->wrong, sizeof t->wrong, "%.150s",
             t->error.text[0] ? t->error.text : gemmux_status_name(status));
}

/* Ours: memory that this process could not get, a device that failed us. */
static bool lack(trial *t)
{
    snprintf(t->o.lacking, sizeof t->o.lacking, "%.150s", t->error.text);
    return false;
}

/* Puts the workspace, exactly as large as declared, in front of an unmapped page. */
static bool guard_workspace(trial *t)
{
    gemmux_plan *plan = t->plan;
    int64_t need = 0;
    for (int i = 0; i < plan->range_count; i++) {
        int64_t bytes = plan->ranges[i].decision.workspace_bytes;
        need = bytes > need ? bytes : need;
    }
    need += plan->gather_bytes;
    if (t->device) {
        plan->workspace_bytes = need;
        return !gemmux_proof_device_workspace(t->device, plan->resident, need, &t->error) ||
               lack(t);
    }
    if (!plan->workspace) {
        return true;
    }
    if (gemmux_guarded_open(&t->workspace, (size_t)need, 64, 0, &t->error)) {
        return lack(t);
    }
    memset(t->workspace.data, GEMMUX_POISON, (size_t)need);
    free(plan->workspace);
    plan->workspace = t->workspace.data;
    plan->workspace_bytes = need;
    return true;
}

/* Whether gemmux_prepare failed because the kernel's own prepare, or take_bias, did. That is safe,
 * and may be said only there (rows of w that are not dense, say): a plan takes the next kernel.
 * Here there is no next one, so the kernel is asked itself. */
static bool refuses(trial *t, const gemmux_kernel *kernel, const gemmux_weights *w)
{
    gemmux_packed packed = {0};
    gemmux_resident *resident = NULL;
    gemmux_error why = {GEMMUX_OK, ""};
    void *state = NULL;
    if (!kernel->prepare) {
        return false;
    }
    if (t->device && gemmux_resident_make(&t->machine, kernel->packing, &w->tensor,
                                          w->tensor.k_order, NULL, NULL, &resident, &why)) {
        snprintf(t->o.lacking, sizeof t->o.lacking, "%.150s", why.text);
        return true;
    }
    if (!t->device && gemmux_pack(kernel->packing, &w->tensor, NULL, &packed, NULL)) {
        return false;
    }
    const gemmux_problem *p = &t->o.c->problem;
    gemmux_status status =
        kernel->prepare(p, &t->machine, resident ? &resident->packed : &packed, &state, &why);
    bool prepared = !status;
    if (prepared && kernel->take_bias && p->epilogue & GEMMUX_EPILOGUE_BIAS) {
        status = kernel->take_bias(state, w->bias, p->n, &why);
    }
    if (status) {
        snprintf(t->refused, sizeof t->refused, "%.150s",
                 why.text[0] ? why.text : gemmux_status_name(status));
    }
    if (prepared && kernel->release) {
        kernel->release(state);
    }
    gemmux_resident_free(resident);
    gemmux_packed_free(&packed);
    return status != GEMMUX_OK;
}

static bool prepare(trial *t, const gemmux_kernel *kernel)
{
    const gemmux_weights w = {
        .tensor = t->o.w.tensor,
        .bias = (const float *)(const void *)t->o.bias.data,
    };
    const gemmux_range *ranges;
    gemmux_decision decision;
    if (!t->device) {
        t->machine.cores = gemmux_threads_count(t->threads);
    }
    if (gemmux_select(&t->o.c->problem, &t->machine, &t->policy, &decision, NULL, NULL)) {
        return false; /* not with so few threads: no case */
    }
    gemmux_status status = gemmux_prepare(&t->o.c->problem, &t->machine, &t->policy, NULL, &w,
                                          t->threads, &t->plan, &t->error);
    if (status == GEMMUX_ERROR_MEMORY) {
        return lack(t);
    }
    if (status) {
        if (!refuses(t, kernel, &w)) {
            blame(t, status);
        }
        return false;
    }
    int count = gemmux_plan_ranges(t->plan, &ranges);
    for (int i = 0; i < count; i++) {
        if (t->o.c->m < ranges[i].m_min || t->o.c->m > ranges[i].m_max) {
            continue;
        }
        t->liberties = ranges[i].decision.liberties;
        if (ranges[i].decision.kernel != kernel) {
            snprintf(t->wrong, sizeof t->wrong, "the plan runs %s instead",
                     ranges[i].decision.kernel->name);
            return false;
        }
    }
    return guard_workspace(t);
}

/* What the kernel must leave as it found it, besides memory. */
static unsigned control_word(void)
{
#ifdef __SSE__
    return _mm_getcsr() & ~0x3fu; /* without the sticky exception flags */
#else
    return 0;
#endif
}

static void poison_y(const trial *t)
{
    size_t dense = (size_t)gemmux_row_bytes(t->o.c->problem.y, t->o.y_cols);
    for (int64_t row = 0; row < t->o.y_rows; row++) {
        memset(t->o.y.data + row * t->o.y_row_bytes, GEMMUX_POISON, dense);
    }
}

static bool check_guards(trial *t)
{
    char damage[100];
    int64_t dense = gemmux_row_bytes(t->o.c->problem.y, t->o.y_cols);
    for (int64_t row = 0; row + 1 < t->o.y_rows; row++) {
        if (!gemmux_guarded_whole(t->o.y.data + row * t->o.y_row_bytes + dense,
                                  (size_t)(t->o.y_row_bytes - dense))) {
            snprintf(t->wrong, sizeof t->wrong, "wrote between rows %lld and %lld of y",
                     (long long)row, (long long)row + 1);
            return false;
        }
    }
    if (gemmux_guarded_damage(&t->o.y, damage, sizeof damage)) {
        snprintf(t->wrong, sizeof t->wrong, "y: %s", damage);
    } else if (t->workspace.base && gemmux_guarded_damage(&t->workspace, damage, sizeof damage)) {
        snprintf(t->wrong, sizeof t->wrong, "workspace: %s", damage);
    }
    return !t->wrong[0];
}

/* Waits for the device, and takes what came of it back to the host. */
static bool finish_on_device(trial *t)
{
    char text[96];
    int result = gemmux_proof_device_wait(t->device);
    if (result) {
        gemmux_proof_device_text(t->device, result, text, sizeof text);
        snprintf(t->wrong, sizeof t->wrong, "%s", text);
        t->crashed = true;
        return false;
    }
    if (gemmux_proof_device_get(t->device, &t->o, t->wrong, sizeof t->wrong, &t->error)) {
        return lack(t);
    }
    return !t->wrong[0];
}

static bool run_once(trial *t)
{
    unsigned control = control_word();
    gemmux_args args = t->o.args;
    poison_y(t);
    t->error.text[0] = 0;
    if (t->device && gemmux_proof_device_put(t->device, &t->o, &args, &t->error)) {
        return lack(t);
    }
    gemmux_status status = gemmux_run(t->plan, &args, &t->error);
    if (!status && t->device && !finish_on_device(t)) {
        return false;
    }
    if (status) {
        blame(t, status);
        return false;
    }
    t->ran = true;
    if (control_word() != control) {
        snprintf(t->wrong, sizeof t->wrong,
                 "left the rounding control at %#x, expected %#x as before", control_word(),
                 control);
        return false;
    }
    return check_guards(t);
}

/* The first element that still holds the poison; verify may have looked at other rows only. */
static bool check_written(trial *t)
{
    size_t bytes = (size_t)gemmux_code_bits((gemmux_code)t->o.c->problem.y.element) / 8;
    const unsigned char poison[4] = {GEMMUX_POISON, GEMMUX_POISON, GEMMUX_POISON, GEMMUX_POISON};
    for (int64_t i = 0; i < t->o.y_rows * t->o.y_cols; i++) {
        int64_t row = i / t->o.y_cols, col = i % t->o.y_cols;
        if (memcmp(t->o.y.data + row * t->o.y_row_bytes + (size_t)col * bytes, poison, bytes) ==
            0) {
            snprintf(t->wrong, sizeof t->wrong, "y[%lld, %lld] was not written", (long long)row,
                     (long long)col);
            return false;
        }
    }
    return true;
}

static bool check_values(trial *t)
{
    const gemmux_problem *p = &t->o.c->problem;
    const gemmux_weights w = {
        .tensor = t->o.w.tensor,
        .bias = (const float *)(const void *)t->o.bias.data,
    };
    gemmux_verification result;
    double products = (double)t->o.y_rows * (double)p->n * (double)p->k;
    gemmux_status status =
        gemmux_verify(p, t->liberties, &w, &t->o.args, products > WHOLE_PRODUCTS ? SAMPLED_ROWS : 0,
                      &result, &t->error);
    if (status == GEMMUX_ERROR_MEMORY) {
        snprintf(t->o.lacking, sizeof t->o.lacking, "%.150s", t->error.text);
    } else if (status) {
        blame(t, status);
    }
    t->worst = result.worst;
    return !status;
}

static bool check_twice(trial *t)
{
    size_t bytes = t->o.y.bytes;
    unsigned char *first = malloc(bytes + 1);
    if (!first) {
        snprintf(t->o.lacking, sizeof t->o.lacking, "no memory for a second result");
        return false;
    }
    memcpy(first, t->o.y.data, bytes);
    bool good = run_once(t);
    bool same = good && memcmp(first, t->o.y.data, bytes) == 0;
    free(first);
    if (good && !same && t->liberties & GEMMUX_LIBERTY_UNORDERED) {
        return check_values(t);
    }
    if (good && !same) {
        snprintf(t->wrong, sizeof t->wrong,
                 "two runs differ, and it does not declare unordered sums");
    }
    return good && same;
}

/* The tensor stands between guards; what was packed from it has its checksum. */
static void check_weights(trial *t)
{
    if (!t->device && gemmux_packed_verify(&t->plan->packed, &t->error)) {
        blame(t, GEMMUX_ERROR_PACKING);
    }
}

static void try_case(trial *t, const gemmux_kernel *kernel)
{
    if (gemmux_operands_open(&t->o) && prepare(t, kernel) && run_once(t) &&
        (t->o.c->data == GEMMUX_DATA_NAN || check_written(t)) && check_values(t) &&
        check_twice(t)) {
        check_weights(t);
    }
}

static void close_trial(trial *t)
{
    if (t->plan) {
        if (t->workspace.base) {
            t->plan->workspace = NULL; /* not malloc's */
        }
        if (t->device) {
            gemmux_proof_device_keep(t->device, t->plan);
        } else {
            gemmux_plan_free(t->plan);
        }
    }
    gemmux_guarded_close(&t->workspace);
    gemmux_operands_close(&t->o);
}

/* ---- all of them ---- */

/* What is remembered over all cases. */
typedef struct tally {
    int done, refused;
    double worst;
    char worst_text[200], refused_text[160];
} tally;

static void count(tally *sum, const trial *t, const char *text)
{
    sum->done += t->ran;
    if (t->refused[0]) {
        sum->refused++;
        snprintf(sum->refused_text, sizeof sum->refused_text, "%s", t->refused);
    }
    if (t->worst > sum->worst) {
        sum->worst = t->worst;
        snprintf(sum->worst_text, sizeof sum->worst_text, "%s", text);
    }
}

static void conclude(const gemmux_child *child, const tally *sum)
{
    char evidence[500], refused[64] = "";
    if (sum->refused) {
        snprintf(refused, sizeof refused, "%d more refused by its prepare; ", sum->refused);
    }
    if (sum->done) {
        snprintf(evidence, sizeof evidence, "%sat most %.3f of the bound, in %s", refused,
                 sum->worst, sum->worst_text);
    } else {
        snprintf(evidence, sizeof evidence, "its prepare refuses every case: %s",
                 sum->refused_text);
    }
    gemmux_child_say(child, 1, sum->done ? GEMMUX_PROOF_PROVED : GEMMUX_PROOF_SKIPPED, sum->done,
                     evidence);
}

/* The last word about one case that did not go well. */
static void report(const gemmux_child *child, const trial *t, const char *text, int done)
{
    char evidence[400];
    gemmux_proof proof = t->crashed    ? GEMMUX_PROOF_CRASHED
                         : t->wrong[0] ? GEMMUX_PROOF_WRONG
                                       : GEMMUX_PROOF_SKIPPED;
    if (t->crashed) {
        snprintf(evidence, sizeof evidence, "%s in %s", t->wrong, text);
    } else {
        snprintf(evidence, sizeof evidence, "%s: %s", text, t->wrong[0] ? t->wrong : t->o.lacking);
    }
    gemmux_child_say(child, 1, proof, done, evidence);
}

static void prove_all(const gemmux_proving *job, const gemmux_child *child,
                      gemmux_proof_device *device, gemmux_threads *several)
{
    char text[200], evidence[400];
    tally sum = {0};
    for (int i = 0; i < job->cases->count; i++) {
        const gemmux_case *c = &job->cases->items[i];
        trial t = {.o = {.c = c, .seed = (uint64_t)i + 1}, .machine = *job->machine};
        t.policy.only = job->kernel->name;
        t.device = device;
        t.threads = c->threads > 1 ? several : NULL;
        gemmux_case_text(c, text, sizeof text);
        if (gemmux_child_seconds_left(child) < 0) {
            snprintf(evidence, sizeof evidence,
                     "only %d of %d cases fitted into the time limit; none failed", i,
                     job->cases->count);
            gemmux_child_say(child, 1, GEMMUX_PROOF_SKIPPED, sum.done, evidence);
            return;
        }
        gemmux_child_say(child, 0, GEMMUX_PROOF_SKIPPED, sum.done, text);
        try_case(&t, job->kernel);
        count(&sum, &t, text);
        if (t.wrong[0] || t.o.lacking[0]) {
            report(child, &t, text, sum.done);
            return;
        }
        close_trial(&t);
    }
    conclude(child, &sum);
}

void gemmux_prove(void *context, const gemmux_child *child)
{
    const gemmux_proving *job = context;
    gemmux_threads *several = NULL;
    gemmux_proof_device *device = NULL;
    gemmux_error error;
    if (job->kernel->device == GEMMUX_CUDA) {
        if (gemmux_proof_device_open(job->machine, &device, &error)) {
            gemmux_child_say(child, 1, GEMMUX_PROOF_SKIPPED, 0, error.text);
            return;
        }
    } else {
        gemmux_threads_create(2, &several, NULL); /* NULL, one thread, where there are no more */
    }
    prove_all(job, child, device, several);
    /* The device is left as it is: after a fault every call on it fails, and the process ends. */
    gemmux_threads_free(several);
}
