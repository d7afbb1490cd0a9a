/* SPDX-License-Identifier: Apache-2.0
 *
 * gemmux_certify: look the kernel up, else prove it in a child process, and keep what came out.
 */
#include "certify_cases.h"
#include "certify_child.h"
#include "certify_prove.h"
#include "certify_prover.h"
#include "error.h"
#include "records.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEFAULT_SECONDS     30
#define DEFAULT_SECONDS_GPU 120 /* the f64 reference of its many forms runs on one host core */

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
    snprintf(certificate->evidence, sizeof certificate->evidence, "%.159s", why);
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

/* A GPU's kernel, in a program of its own. That none could be started is a reason, not an error. */
static gemmux_status prove_afresh(const char *program, const gemmux_machine *machine,
                                  const gemmux_kernel *kernel, double seconds,
                                  gemmux_certificate *certificate, gemmux_error *error)
{
    gemmux_outcome outcome;
    gemmux_error why = {GEMMUX_OK, ""};
    if (!kernel->run) {
        skip(certificate, "not built here: there was no nvcc");
        return GEMMUX_OK;
    }
    gemmux_status status = gemmux_prover_start(program, machine, kernel, seconds, &outcome, &why);
    if (status == GEMMUX_ERROR_IO) {
        skip(certificate, why.text);
        return GEMMUX_OK;
    }
    if (status) {
        *error = why;
        return status;
    }
    judge(certificate, &outcome);
    return GEMMUX_OK;
}

/* What the child will do is settled before the fork, so that it starts with a list. */
static gemmux_status prove(const char *program, const gemmux_machine *machine,
                           const gemmux_kernel *kernel, double seconds,
                           gemmux_certificate *certificate, gemmux_error *error)
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
    if (machine->kind != kernel->device) {
        skip(certificate, kernel->device == GEMMUX_CPU
                              ? "it runs on the host, where `cpu` proves it"
                              : "it runs on a GPU, and this machine is a CPU");
        return GEMMUX_OK;
    }
    if (kernel->device != GEMMUX_CPU) {
        return prove_afresh(program, machine, kernel, seconds, certificate, error);
    }
    gemmux_status status = gemmux_cases_make(&alone, kernel, &cases, error);
    if (status) {
        return status;
    }
    if (cases.count == 0) {
        char text[256];
        gemmux_prover_reason(&alone, kernel, text, sizeof text);
        skip(certificate, text);
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
    double usual = kernel->device == GEMMUX_CPU ? DEFAULT_SECONDS : DEFAULT_SECONDS_GPU;
    gemmux_status status = prove(records ? gemmux_records_program(records) : NULL, machine, kernel,
                                 seconds > 0 ? seconds : usual, certificate, error);
    if (!status && records && certificate->proof != GEMMUX_PROOF_SKIPPED) {
        keep(records, machine, kernel, certificate);
    }
    return status;
}
