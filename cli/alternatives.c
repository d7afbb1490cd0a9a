/* SPDX-License-Identifier: Apache-2.0
 *
 * What would do where the caller's flags leave no kernel: the same question with the flags lifted,
 * those that name kernels first.
 */
#include "cli.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

static int fastest_first(const void *a, const void *b)
{
    double x = ((const cli_alternative *)a)->predicted_us;
    double y = ((const cli_alternative *)b)->predicted_us;
    return (x > y) - (x < y);
}

static int eligible(const gemmux_problem *problem, const gemmux_machine *machine,
                    const gemmux_policy *policy, cli_alternative *found)
{
    gemmux_trace *trace = malloc(sizeof *trace);
    cli_alternative all[GEMMUX_MAX_KERNELS];
    gemmux_decision decision;
    int count = 0;
    if (trace && !gemmux_select(problem, machine, policy, &decision, trace, NULL))
        for (int i = 0; i < trace->verdict_count; i++)
            if (trace->verdicts[i].kind != GEMMUX_REJECTED)
                all[count++] = (cli_alternative){trace->verdicts[i].kernel,
                                                 trace->verdicts[i].decision.predicted_us};
    free(trace);
    qsort(all, (size_t)count, sizeof *all, fastest_first);
    count = count < CLI_ALTERNATIVES ? count : CLI_ALTERNATIVES;
    memcpy(found, all, (size_t)count * sizeof *all);
    return count;
}

int cli_alternatives(const gemmux_problem *problem, const gemmux_machine *machine,
                     const gemmux_policy *policy, cli_alternative *found, const char **lifted)
{
    gemmux_policy named = *policy, free = {.packing = policy->packing};
    named.only = named.deny = NULL;
    *lifted = policy->only && policy->deny ? "--only and --deny"
              : policy->only               ? "--only"
                                           : "--deny";
    int count = policy->only || policy->deny ? eligible(problem, machine, &named, found) : 0;
    if (count)
        return count;
    *lifted = "the caller's limits";
    return eligible(problem, machine, &free, found);
}

/* "--only onednn_bf61 matches no kernel (did you mean onednn_bf16?); ", or nothing. */
static size_t unmatched(const gemmux_machine *machine, const char *only, char *buffer, size_t size)
{
    const char *names[GEMMUX_MAX_KERNELS];
    char glob[64], near[128];
    int count = gemmux_kernel_count(machine);
    for (int i = 0; i < count && i < GEMMUX_MAX_KERNELS; i++)
        names[i] = gemmux_kernel_name(gemmux_kernel_at(machine, i));
    for (const char *at = only; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        bool matches = false;
        snprintf(glob, sizeof glob, "%.*s", (int)strcspn(at, ","), at);
        for (int i = 0; i < count && !matches; i++)
            matches = !fnmatch(glob, names[i], 0);
        if (matches)
            continue;
        int wrote = snprintf(buffer, size, "--only %s matches no kernel%s; ", glob,
                             cli_suggestion(glob, names, count, 1, near, sizeof near));
        return (size_t)wrote < size ? (size_t)wrote : size;
    }
    return 0;
}

const char *cli_alternatives_text(const gemmux_problem *problem, const gemmux_machine *machine,
                                  const gemmux_policy *policy, char *buffer, size_t size)
{
    cli_alternative found[CLI_ALTERNATIVES];
    const char *lifted;
    int count = cli_alternatives(problem, machine, policy, found, &lifted);
    buffer[0] = '\0';
    size_t used = unmatched(machine, policy->only, buffer, size);
    for (int i = 0; i < count && used < size; i++) {
        char time[32];
        used += (size_t)snprintf(buffer + used, size - used, "%s%s%s%s (%s us predicted)",
                                 i ? ", " : "without ", i ? "" : lifted, i ? "" : ": ",
                                 gemmux_kernel_name(found[i].kernel),
                                 cli_number(found[i].predicted_us, time, sizeof time));
    }
    return buffer;
}
