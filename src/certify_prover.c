/* SPDX-License-Identifier: Apache-2.0 */
#include "certify_prover.h"

#include "certify_cases.h"
#include "certify_prove.h"
#include "error.h"
#include "records.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The command line: what both sides must agree on, as text. */
#define PROVE "--gemmux-prove-2"
enum {
    ARG_PROVE = 1,
    ARG_PARENT,
    ARG_SECONDS,
    ARG_DEVICE,
    ARG_KERNEL,
    ARG_IDENTITY,
    ARG_KEY,
    ARGS
};

/* ---- in the parent ---- */

/* gemmux-prove where the build or the installation puts it, seen from the file this code is in. */
static const char *find_program(char *path, size_t size)
{
    static const char *const places[] = {"gemmux-prove", GEMMUX_PROVER_FROM_LIBRARY};
    gemmux_status (*self)(const char *, const gemmux_machine *, const gemmux_kernel *, double,
                          gemmux_outcome *, gemmux_error *) = gemmux_prover_start;
    void *address;
    Dl_info info;
    memcpy(&address, &self, sizeof address);
    const char *slash =
        dladdr(address, &info) && info.dli_fname ? strrchr(info.dli_fname, '/') : NULL;
    for (size_t i = 0; slash && i < sizeof places / sizeof places[0]; i++) {
        int length = snprintf(path, size, "%.*s/%s", (int)(slash - info.dli_fname), info.dli_fname,
                              places[i]);
        if (length > 0 && (size_t)length < size && !access(path, X_OK)) {
            return path;
        }
    }
    return NULL;
}

gemmux_status gemmux_prover_start(const char *program, const gemmux_machine *machine,
                                  const gemmux_kernel *kernel, double seconds,
                                  gemmux_outcome *outcome, gemmux_error *error)
{
    char path[PATH_MAX], parent[24], time[32], identity[256], key[96];
    char prove[] = PROVE, device[sizeof machine->id], name[sizeof((gemmux_record *)0)->kernel];
    const char *found = getenv("GEMMUX_PROVER"); /* and no other: the user said so */
    if (!found || !*found) {
        found = program ? program : find_program(path, sizeof path);
    }
    if (!found) {
        return gemmux_fail(error, GEMMUX_ERROR_IO,
                           "no program to prove it in: gemmux-prove is not beside the library, and "
                           "GEMMUX_PROVER names none");
    }
    char *own = strdup(found);
    if (!own) {
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "certify: out of memory");
    }
    snprintf(parent, sizeof parent, "%lld", (long long)getpid());
    snprintf(time, sizeof time, "%.3f", seconds);
    snprintf(device, sizeof device, "%s", machine->id);
    snprintf(name, sizeof name, "%s", kernel->name);
    gemmux_machine_identity(machine, identity, sizeof identity);
    gemmux_record_key(machine, kernel, key, sizeof key);
    char *arguments[] = {own, prove, parent, time, device, name, identity, key, NULL};
    gemmux_status status = gemmux_child_start(arguments, seconds, outcome, error);
    free(own);
    return status;
}

/* ---- in the child ---- */

void gemmux_prover_reason(const gemmux_machine *machine, const gemmux_kernel *kernel, char *text,
                          size_t size)
{
    const gemmux_form *form = &kernel->forms[0];
    const gemmux_policy by_name = {.only = kernel->name};
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
    snprintf(text, size, "no problem that it takes is tried here");
    if (trace) {
        gemmux_select(&p, machine, &by_name, &decision, trace, NULL);
        if (trace->reason_count > 0) {
            gemmux_reason_text(&trace->reasons[0], kernel, &p, machine, text, size);
        }
    }
    free(trace);
}

/* Whether this program holds the same code and sees the same device as the one that asks. */
static bool agree(const gemmux_machine *machine, const gemmux_kernel *kernel, char *const *argv,
                  char *why, size_t size)
{
    char have[256];
    if (strcmp(gemmux_machine_identity(machine, have, sizeof have), argv[ARG_IDENTITY]) != 0) {
        snprintf(why, size, "%.60s sees another device: %.80s", argv[0], have);
        return false;
    }
    if (strcmp(gemmux_record_key(machine, kernel, have, sizeof have), argv[ARG_KEY]) != 0) {
        snprintf(why, size,
                 "%.60s is of another build; a program with gemmux linked into it proves in itself "
                 "(gemmux_prove_main)",
                 argv[0]);
        return false;
    }
    return true;
}

static gemmux_status prove(const struct gemmux_kernel_table *kernels, const gemmux_child *child,
                           char *const *argv, char *why, size_t size)
{
    gemmux_machine machine;
    gemmux_error error = {GEMMUX_OK, ""};
    gemmux_cases cases;
    if (gemmux_machine_find(argv[ARG_DEVICE], &machine, &error)) {
        snprintf(why, size, "%s", error.text);
        return GEMMUX_ERROR_DEVICE;
    }
    machine.kernels = kernels ? kernels : machine.kernels;
    const gemmux_kernel *kernel = gemmux_kernel_find(&machine, argv[ARG_KERNEL]);
    if (!kernel) {
        snprintf(why, size, "%.60s has no kernel %.60s", argv[0], argv[ARG_KERNEL]);
        return GEMMUX_ERROR_INPUT;
    }
    if (!agree(&machine, kernel, argv, why, size)) {
        return GEMMUX_ERROR_INPUT;
    }
    const struct gemmux_kernel_table alone = {.kernels = &kernel, .count = 1};
    machine.kernels = &alone; /* no other kernel can stand in, whatever select thinks of this one */
    gemmux_status status = gemmux_cases_make(&machine, kernel, &cases, &error);
    if (status || cases.count == 0) {
        snprintf(why, size, "%s", error.text);
        if (!status) {
            gemmux_prover_reason(&machine, kernel, why, size);
        }
        return GEMMUX_ERROR_NO_KERNEL;
    }
    gemmux_proving job = {.machine = &machine, .kernel = kernel, .cases = &cases};
    gemmux_prove(&job, child);
    gemmux_cases_free(&cases);
    return GEMMUX_OK;
}

int gemmux_prover_main(const struct gemmux_kernel_table *kernels, int argc, char **argv)
{
    gemmux_child child;
    char why[256], *end;
    if (argc != ARGS || strcmp(argv[ARG_PROVE], PROVE) != 0) {
        return -1;
    }
    double seconds = strtod(argv[ARG_SECONDS], &end);
    if (*end || !(seconds > 0) ||
        !gemmux_child_begin(&child, strtoll(argv[ARG_PARENT], NULL, 10), seconds)) {
        return 1;
    }
    if (prove(kernels, &child, argv, why, sizeof why)) {
        gemmux_child_say(&child, 1, GEMMUX_PROOF_SKIPPED, 0, why);
    }
    return 0;
}

int gemmux_prove_main(int argc, char **argv)
{
    return gemmux_prover_main(NULL, argc, argv);
}
