/* SPDX-License-Identifier: Apache-2.0
 *
 * gemmux_certify: look the kernel up, else prove it in a child process, and keep what came out.
 */
#include "certify_cases.h"
#include "certify_child.h"
#include "certify_prove.h"
#include "error.h"
#include "records.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEFAULT_SECONDS 30

const char *gemmux_proof_name(gemmux_proof proof)
{
    static const char *const names[] = {
        [GEMMUX_PROOF_PROVED] = "proved",   [GEMMUX_PROOF_WRONG] = "wrong",
        [GEMMUX_PROOF_CRASHED] = "crashed", [GEMMUX_PROOF_HUNG] = "hung",
        [GEMMUX_PROOF_SKIPPED] = "skipped",
    };
    return proof >= GEMMUX_PROOF_PROVED && proof <= GEMMUX_PROOF_SKIPPED ? names[proof] : "?";
}

static const char *signal_name(int number, char *buffer, size_t size)
{
    static const struct {
        int number;
        const char *name;
    } names[] = {
        {SIGILL, "SIGILL"},   {SIGSEGV, "SIGSEGV"}, {SIGBUS, "SIGBUS"},   {SIGFPE, "SIGFPE"},
        {SIGABRT, "SIGABRT"}, {SIGTRAP, "SIGTRAP"}, {SIGKILL, "SIGKILL"}, {SIGXCPU, "SIGXCPU"},
        {SIGSYS, "SIGSYS"},   {SIGTERM, "SIGTERM"}, {SIGPIPE, "SIGPIPE"}, {SIGINT, "SIGINT"},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (names[i].number == number) {
            return names[i].name;
        }
    }
    snprintf(buffer, size, "signal %d", number);
    return buffer;
}

static void skip(gemmux_certificate *certificate, const char *why)
{
    certificate->proof = GEMMUX_PROOF_SKIPPED;
    snprintf(certificate->evidence, sizeof certificate->evidence, "%s", why);
}

/* Why select does not take any case: its own words for the plainest problem. */
static void skip_with_reason(gemmux_certificate *certificate, const gemmux_machine *machine,
                             const gemmux_kernel *kernel)
{
    const gemmux_form *form = &kernel->forms[0];
    gemmux_trace *trace = calloc(1, sizeof *trace);
    gemmux_format formats[3] = {{0}};
    const uint32_t sets[3] = {form->x, form->w, form->y};
    gemmux_decision decision;
    for (int i = 0; i < 3; i++) {
        for (int id = GEMMUX_FORMAT_COUNT - 1; id > 0; id--) {
            if (sets[i] & GEMMUX_BIT(id)) {
                formats[i] = gemmux_format_of((gemmux_format_id)id);
            }
        }
    }
    gemmux_problem p = gemmux_problem_linear(64, 256, 256, formats[0], formats[1], formats[2]);
    p.op = (uint8_t)gemmux_plainest_op(kernel->ops);
    p.experts = p.top_k = p.op == GEMMUX_MOE;
    p.liberties = form->liberties;
    char text[256] = "no problem that it takes is tried here";
    if (trace) {
        gemmux_select(&p, machine, NULL, &decision, trace, NULL);
        if (trace->reason_count > 0) {
            gemmux_reason_text(&trace->reasons[0], kernel, &p, machine, text, sizeof text);
        }
    }
    free(trace);
    skip(certificate, text);
}

static void judge(gemmux_certificate *certificate, const gemmux_outcome *outcome)
{
    char name[32], text[256];
    const gemmux_message *last = &outcome->last;
    bool killed = outcome->ending == GEMMUX_ENDING_SIGNAL && outcome->code == SIGKILL;
    certificate->cases = last->cases;
    certificate->seconds = outcome->seconds;
    if (killed || (outcome->ending == GEMMUX_ENDING_EXIT && !*last->text)) {
        /* Nothing that the kernel did: it had not run yet, or the system took the memory back. */
        snprintf(text, sizeof text,
                 killed ? "the child process was killed, perhaps for memory, in %s"
                        : "the child process ended by itself before the first case%s",
                 last->text);
        certificate->proof = GEMMUX_PROOF_SKIPPED;
        snprintf(certificate->evidence, sizeof certificate->evidence, "%.159s", text);
        return;
    }
    switch (outcome->ending) {
    case GEMMUX_ENDING_FINISHED:
        certificate->proof = (gemmux_proof)last->proof;
        snprintf(text, sizeof text, "%s", last->text);
        break;
    case GEMMUX_ENDING_DEADLINE:
        certificate->proof = GEMMUX_PROOF_HUNG;
        snprintf(text, sizeof text, "no result after %.1f s in %s", outcome->seconds, last->text);
        break;
    case GEMMUX_ENDING_SIGNAL:
        certificate->proof = GEMMUX_PROOF_CRASHED;
        snprintf(text, sizeof text, "%s in %s", signal_name(outcome->code, name, sizeof name),
                 last->text);
        break;
    default:
        certificate->proof = GEMMUX_PROOF_CRASHED;
        snprintf(text, sizeof text, "ended its process with status %d in %s", outcome->code,
                 last->text);
    }
    size_t length = strnlen(text, sizeof certificate->evidence - 1);
    memcpy(certificate->evidence, text, length);
    certificate->evidence[length] = 0;
}

/* What the child will do is settled before the fork, so that it starts with a list. */
static gemmux_status prove(const gemmux_machine *machine, const gemmux_kernel *kernel,
                           double seconds, gemmux_certificate *certificate, gemmux_error *error)
{
    gemmux_machine alone = *machine;
    const struct gemmux_kernel_table table = {.kernels = &kernel, .count = 1};
    gemmux_cases cases;
    gemmux_outcome outcome;
    alone.kernels = &table; /* no other kernel can stand in, whatever select thinks of this one */
    alone.records = NULL;
    alone.record_count = 0;
    if (machine->described) {
        skip(certificate, "the machine is described by a file, not present");
        return GEMMUX_OK;
    }
    if (kernel->device != GEMMUX_CPU) {
        /* A CUDA context does not survive fork. The way in for GPU kernels is a command of our
         * own, started afresh, that calls gemmux_prove with device memory. */
        skip(certificate, "GPU kernels need a fresh process that opens the driver; this build "
                          "starts none");
        return GEMMUX_OK;
    }
    gemmux_status status = gemmux_cases_make(&alone, kernel, &cases, error);
    if (status) {
        return status;
    }
    if (cases.count == 0) {
        skip_with_reason(certificate, &alone, kernel);
        return GEMMUX_OK;
    }
    gemmux_proving job = {.machine = &alone, .kernel = kernel, .cases = &cases};
    status = gemmux_child_run(gemmux_prove, &job, seconds, &outcome, error);
    if (!status) {
        judge(certificate, &outcome);
    }
    gemmux_cases_free(&cases);
    return status;
}

static void from_entry(gemmux_certificate *certificate, const gemmux_entry *entry)
{
    *certificate = (gemmux_certificate){
        .proof = (gemmux_proof)entry->proof,
        .cached = true,
        .seconds = entry->seconds,
        .cases = entry->cases,
    };
    memcpy(certificate->evidence, entry->record.evidence, sizeof certificate->evidence);
}

static void keep(gemmux_records *records, gemmux_machine *machine, const gemmux_kernel *kernel,
                 gemmux_certificate *certificate)
{
    gemmux_entry entry = {
        .proof = (uint8_t)certificate->proof,
        .cases = certificate->cases,
        .seconds = certificate->seconds,
        .at = (int64_t)time(NULL),
    };
    gemmux_error error;
    entry.record.kind = certificate->proof == GEMMUX_PROOF_PROVED ? GEMMUX_RECORD_PROVED
                                                                  : GEMMUX_RECORD_QUARANTINED;
    snprintf(entry.record.kernel, sizeof entry.record.kernel, "%s", kernel->name);
    memcpy(entry.record.evidence, certificate->evidence, sizeof entry.record.evidence);
    gemmux_record_key(machine, kernel, entry.key, sizeof entry.key);
    if (gemmux_records_put(records, machine, &entry, 1, &error)) {
        /* It holds for this process; that it will have to be proved again is worth a word. */
        size_t used = strlen(certificate->evidence);
        snprintf(certificate->evidence + used, sizeof certificate->evidence - used,
                 " (not kept: %s)", error.text);
    }
}

gemmux_status gemmux_certify(gemmux_records *records, gemmux_machine *machine,
                             const gemmux_kernel *kernel, double seconds, bool again,
                             gemmux_certificate *certificate, gemmux_error *error)
{
    *certificate = (gemmux_certificate){.proof = GEMMUX_PROOF_SKIPPED};
    if (!kernel || kernel != gemmux_kernel_find(machine, kernel->name) ||
        strlen(kernel->name) >= sizeof((gemmux_record *)0)->kernel) {
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "certify: %s is not a kernel of this machine's table",
                           kernel ? kernel->name : "NULL");
    }
    if (records && !again) {
        const gemmux_entry *entry = gemmux_records_find(records, machine, kernel);
        if (!entry) {
            gemmux_records_refresh(records, machine);
            entry = gemmux_records_find(records, machine, kernel);
        }
        if (entry) {
            from_entry(certificate, entry);
            return GEMMUX_OK;
        }
    }
    gemmux_status status =
        prove(machine, kernel, seconds > 0 ? seconds : DEFAULT_SECONDS, certificate, error);
    if (!status && records && certificate->proof != GEMMUX_PROOF_SKIPPED) {
        keep(records, machine, kernel, certificate);
    }
    return status;
}
