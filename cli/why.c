/* SPDX-License-Identifier: Apache-2.0
 *
 * Why the chosen kernel and no better one, in one sentence. Separate because run says it of what it
 * ran and plan of what would run.
 */
#include "cli.h"

#include <math.h>
#include <string.h>

/* A kernel for other formats, ops or devices is no candidate for this product. */
static bool is_candidate(const gemmux_trace *trace, const gemmux_verdict *v)
{
    static const char *const others[] = {"op-unsupported", "wrong-device", "x-format",
                                         "w-format",       "y-format",     "format-combination"};
    for (int i = 0; i < v->reason_count; i++)
        for (size_t j = 0; j < sizeof others / sizeof others[0]; j++)
            if (!strcmp(gemmux_reason_code(&trace->reasons[v->reason_first + i]), others[j]))
                return false;
    return true;
}

/* What a verdict's kernel would take here, were its failing checks satisfied; 0 when unknown. */
static double would_take(const gemmux_machine *machine, const gemmux_policy *policy,
                         const gemmux_problem *problem, const gemmux_verdict *v)
{
    gemmux_change changes[GEMMUX_MAX_CHANGES];
    gemmux_decision then = {0};
    int count;
    if (gemmux_counterfactual(problem, machine, policy, v->kernel, changes, &count, &then, NULL))
        return 0;
    return then.predicted_us;
}

const char *cli_why_not_better(const gemmux_machine *machine, const gemmux_policy *policy,
                               const gemmux_problem *problem, const gemmux_decision *taken,
                               char *buffer, size_t size)
{
    static gemmux_trace trace;
    gemmux_decision free_choice;
    const gemmux_verdict *better = NULL, *next = NULL, *other = NULL;
    double better_us = taken->predicted_us, next_us = INFINITY;
    char time[32], text[512];
    gemmux_select(problem, machine, policy, &free_choice, &trace, NULL);
    if (free_choice.kernel && free_choice.kernel != taken->kernel) {
        snprintf(buffer, size,
                 "%s is predicted to take %s us at this M, but reads weights packed as %s; %s "
                 "serves all M of this run best",
                 gemmux_kernel_name(free_choice.kernel),
                 cli_number(free_choice.predicted_us, time, sizeof time), free_choice.packing,
                 taken->packing);
        return buffer;
    }
    for (int i = 0; i < trace.verdict_count; i++) {
        const gemmux_verdict *v = &trace.verdicts[i];
        double us = v->decision.predicted_us;
        if (v->kind == GEMMUX_ELIGIBLE && us < next_us) {
            next = v;
            next_us = us;
        }
        if (v->kind != GEMMUX_REJECTED || !is_candidate(&trace, v))
            continue;
        us = would_take(machine, policy, problem, v);
        if (us > 0 && us < better_us) {
            better = v;
            better_us = us;
        } else if (!us) {
            other = v;
        }
    }
    const gemmux_verdict *rejected = better ? better : next ? NULL : other;
    if (rejected) {
        gemmux_reason_text(&trace.reasons[rejected->reason_first], rejected->kernel, problem,
                           machine, text, sizeof text);
        if (better)
            snprintf(buffer, size, "%s (it would take %s us)", text,
                     cli_number(better_us, time, sizeof time));
        else
            snprintf(buffer, size, "%s", text);
    } else if (next) {
        snprintf(buffer, size, "nothing better; next is %s, %s us predicted, %.1f times as long",
                 gemmux_kernel_name(next->kernel), cli_number(next_us, time, sizeof time),
                 next_us / taken->predicted_us);
    } else {
        snprintf(buffer, size, "no other kernel here does this product");
    }
    return buffer;
}
