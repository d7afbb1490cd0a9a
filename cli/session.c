/* SPDX-License-Identifier: Apache-2.0
 *
 * The machine at hand, made ready to multiply: certificates, threads, measured rates, and caches
 * that can be emptied so that small weights are timed as they are met in a model, from memory.
 */
#include "session.h"

#include "session_device.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

double cli_now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double cli_median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, ascending);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* ----------------------------------------------------------------------------------- evictor -- */

/* One thread a CPU writes its own part of a buffer as large as all caches together. */
struct cli_evictor {
    char *buffer;
    size_t part;
    int count;
    int cpus[256];
};

typedef struct eviction {
    const cli_evictor *evictor;
    int index;
} eviction;

static void *evict_one(void *context)
{
    const eviction *e = context;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(e->evictor->cpus[e->index], &set);
    sched_setaffinity(0, sizeof set, &set); /* if refused, the caches are emptied less well */
    char *part = e->evictor->buffer + (size_t)e->index * e->evictor->part;
    for (size_t i = 0; i < e->evictor->part; i += 64)
        part[i]++;
    return NULL;
}

static void evict(const cli_evictor *evictor)
{
    pthread_t threads[256];
    eviction contexts[256];
    bool started[256];
    for (int i = 0; i < evictor->count; i++) {
        contexts[i] = (eviction){evictor, i};
        started[i] = !pthread_create(&threads[i], NULL, evict_one, &contexts[i]);
    }
    for (int i = 0; i < evictor->count; i++)
        if (started[i])
            pthread_join(threads[i], NULL);
}

static cli_evictor *make_evictor(const gemmux_machine *machine)
{
    cpu_set_t allowed;
    cli_evictor *evictor = calloc(1, sizeof *evictor);
    if (!evictor || sched_getaffinity(0, sizeof allowed, &allowed)) {
        free(evictor);
        return NULL;
    }
    for (int cpu = 0; cpu < CPU_SETSIZE && evictor->count < 256; cpu++)
        if (CPU_ISSET(cpu, &allowed))
            evictor->cpus[evictor->count++] = cpu;
    int64_t l2 = machine->l2_bytes ? machine->l2_bytes : 1 << 20;
    int64_t l3 = machine->l3_bytes ? machine->l3_bytes : 32 << 20;
    evictor->part = (size_t)(l3 / evictor->count + 2 * l2) / 64 * 64;
    evictor->buffer = calloc((size_t)evictor->count, evictor->part);
    if (evictor->buffer)
        return evictor;
    free(evictor);
    return NULL;
}

static void free_evictor(cli_evictor *evictor)
{
    if (evictor)
        free(evictor->buffer);
    free(evictor);
}

/* ------------------------------------------------------------------------------------- waker -- */

/* Without it the first call after a pause pays for waking threads that sleep. */
static int make_waker(cli_session *session)
{
    enum { N = 1024, K = 64 };
    gemmux_format bf16 = gemmux_format_of(GEMMUX_BF16);
    gemmux_problem problem = gemmux_problem_linear(1, N, K, bf16, bf16, bf16);
    gemmux_policy plain = {.only = "ref_any"};
    gemmux_weights *w = &session->waker_weights;
    gemmux_error error;
    float *zeros = calloc((size_t)N * K, sizeof *zeros);
    session->waker_operands = calloc(1, sizeof *session->waker_operands);
    if (!zeros || !session->waker_operands) {
        free(zeros);
        return cli_fail(CLI_FAILED, "out of memory");
    }
    int code = cli_operands_make(session, &problem, session->waker_operands);
    gemmux_status status = code ? GEMMUX_OK : gemmux_quantise(zeros, 1, N, K, bf16, w, &error);
    free(zeros);
    if (!code && !status)
        status = gemmux_prepare(&problem, &session->machine, &plain, NULL, w, session->threads,
                                &session->waker, &error);
    return status ? cli_fail_error(&error) : code;
}

static void free_waker(cli_session *session)
{
    gemmux_plan_free(session->waker);
    gemmux_weights_free(&session->waker_weights);
    if (session->waker_operands)
        cli_operands_free(session->waker_operands);
    free(session->waker_operands);
}

/* ----------------------------------------------------------------------------------- session -- */

int cli_session_open(const cli_options *options, const char *verb, cli_session *session)
{
    gemmux_error error;
    *session = (cli_session){
        .own = options->policy, .liberties = options->liberties, .timeout = options->timeout};
    session->policy = &session->own;
    int code = cli_machine_here(options, verb, &session->machine);
    if (code)
        return code;
    if (session->machine.kind != GEMMUX_CPU)
        return cli_device_open(options, session);
    if (gemmux_threads_create(options->threads, &session->threads, &error))
        return cli_fail_error(&error);
    session->machine.cores = gemmux_threads_count(session->threads);
    code = cli_records(&session->machine, &session->records); /* for so many threads */
    if (code)
        return code;
    cli_progress(0, 1, "measuring this machine");
    if (gemmux_machine_measure(&session->machine, session->machine.cores, &error))
        return cli_fail_error(&error);
    cli_progress(1, 1, "");
    session->evictor = make_evictor(&session->machine);
    return make_waker(session);
}

void cli_session_close(cli_session *session)
{
    free_evictor(session->evictor);
    free_waker(session);
    cli_device_close(session);
    gemmux_threads_free(session->threads);
    gemmux_records_free(session->records);
    *session = (cli_session){0};
}

/* What could not be proved is not used in this session; nothing is held against it later. */
static int go_without(cli_session *session, const gemmux_kernel *kernel, const char *evidence)
{
    const char *name = gemmux_kernel_name(kernel), *deny = session->own.deny;
    char longer[sizeof session->deny];
    int length = snprintf(longer, sizeof longer, "%s%s%s", deny ? deny : "", deny ? "," : "", name);
    if (length < 0 || (size_t)length >= sizeof longer)
        return cli_fail(CLI_FAILED, "too many kernels that cannot be proved");
    memcpy(session->deny, longer, (size_t)length + 1);
    session->own.deny = session->deny;
    cli_note("%s could not be proved, the next candidate takes its place: %s", name, evidence);
    return CLI_DONE;
}

int cli_prove(cli_session *session, const gemmux_kernel *kernel, bool *sound)
{
    gemmux_certificate certificate;
    gemmux_error error;
    char what[96];
    snprintf(what, sizeof what, "proving %s", gemmux_kernel_name(kernel));
    cli_progress_aside(what);
    gemmux_status status = gemmux_certify(session->records, &session->machine, kernel,
                                          session->timeout, false, &certificate, &error);
    cli_progress_aside(NULL);
    if (status)
        return cli_fail_error(&error);
    *sound = certificate.proof == GEMMUX_PROOF_PROVED;
    /* On a loaded host a proof may not fit into its time; a CPU's product is verified all the same
     * before it is timed. On a GPU a fault would take the device's context with it. */
    bool skipped = certificate.proof == GEMMUX_PROOF_SKIPPED;
    if (skipped && gemmux_kernel_device(kernel) == GEMMUX_CPU && !session->device)
        *sound = true;
    else if (skipped)
        return go_without(session, kernel, certificate.evidence);
    if (!*sound && !certificate.cached) {
        session->quarantined++;
        cli_note("%s is quarantined, the next candidate takes its place: proof %s, %s",
                 gemmux_kernel_name(kernel), gemmux_proof_name(certificate.proof),
                 certificate.evidence);
    }
    return CLI_DONE;
}

int cli_fail_select(const cli_session *session, const gemmux_problem *problem,
                    const gemmux_error *error)
{
    const gemmux_machine *machine = &session->machine;
    char text[256] = "", unbuilt[96] = "";
    int missing = 0;
    if (error->status == GEMMUX_ERROR_NO_KERNEL) {
        /* Kernels that this session denied itself are no alternatives. */
        if (session->own.deny != session->deny)
            cli_alternatives_text(problem, machine, session->policy, text, sizeof text);
        for (int i = 0; i < gemmux_kernel_count(machine); i++) {
            const gemmux_kernel *kernel = gemmux_kernel_at(machine, i);
            missing += session->device && gemmux_kernel_device(kernel) == GEMMUX_CUDA &&
                       !gemmux_kernel_built(kernel);
        }
    }
    if (missing)
        snprintf(unbuilt, sizeof unbuilt,
                 "; %d kernels for GPUs are not built here: there was no nvcc", missing);
    return cli_fail(cli_exit_code(error->status), "%s%s%s%s", error->text, *text ? "; " : "", text,
                    unbuilt);
}

int cli_settle(cli_session *session, const gemmux_problem *problem, const gemmux_profile *profile)
{
    gemmux_range ranges[GEMMUX_MAX_RANGES];
    gemmux_error error;
    int count;
    /* Each turn either ends or adds a quarantined kernel to the records. */
    for (int turn = 0; turn <= gemmux_kernel_count(&session->machine); turn++) {
        bool sound = true;
        if (gemmux_select_ranges(problem, &session->machine, session->policy, profile, ranges,
                                 &count, &error))
            return cli_fail_select(session, problem, &error);
        for (int i = 0; i < count && sound; i++) {
            int code = cli_prove(session, ranges[i].decision.kernel, &sound);
            if (code)
                return code;
        }
        if (sound)
            return CLI_DONE;
    }
    return cli_fail(CLI_FAILED, "quarantined kernels keep being chosen");
}

/* Runs the waker until it is about as fast as it ever was: then every thread has a core at this
 * moment, and the call that follows is not timed while one of them waits for its turn. */
static bool wake(cli_session *session, gemmux_error *error)
{
    enum { TRIES = 300 };
    for (int i = 0; i < TRIES; i++) {
        double start = cli_now_us();
        if (gemmux_run(session->waker, &session->waker_operands->args, error))
            return false;
        double us = cli_now_us() - start;
        if (!session->waker_us || us < session->waker_us)
            session->waker_us = us;
        if (i > 1 && us < 1.5 * session->waker_us + 2)
            break;
    }
    return true;
}

double cli_time_once(cli_session *session, const gemmux_plan *plan, const gemmux_args *args,
                     gemmux_error *error)
{
    if (session->device)
        return cli_device_time(session, plan, args, error);
    if (session->evictor)
        evict(session->evictor);
    /* In a model x comes warm from the product before, and the threads are awake. */
    const unsigned char *x = args->x.codes;
    int64_t stride =
        args->x.row_bytes ? args->x.row_bytes : gemmux_row_bytes(args->x.format, args->x.cols);
    volatile unsigned char sum = 0;
    for (int64_t i = 0; i < stride * args->x.rows; i += 64)
        sum = (unsigned char)(sum + x[i]);
    if (!wake(session, error))
        return -1;
    double start = cli_now_us();
    if (gemmux_run(plan, args, error))
        return -1;
    return cli_now_us() - start;
}
