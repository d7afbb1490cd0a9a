/* SPDX-License-Identifier: Apache-2.0
 *
 * One layer, many M: chooses the packing that is best over the profile, then finds where along M
 * the best kernel that reads this packing changes. Pure, like select, of which it is a loop.
 */
#include "error.h"
#include "select.h"

#include <inttypes.h>
#include <string.h>

typedef struct ranges_context {
    gemmux_problem problem;
    const gemmux_machine *machine;
    gemmux_policy policy;
} ranges_context;

static bool decide_at(ranges_context *c, int64_t m, gemmux_decision *decision)
{
    c->problem.m = m;
    return gemmux_select(&c->problem, c->machine, &c->policy, decision, NULL, NULL) == GEMMUX_OK;
}

/* Expected time of one call under this packing, or -1 when some M of the profile has no kernel. */
static double cost_of(ranges_context *c, const gemmux_profile *profile)
{
    double cost = 0;
    for (int i = 0; i < profile->count; i++) {
        gemmux_decision decision;
        if (!decide_at(c, profile->m[i], &decision))
            return -1;
        cost += profile->weight[i] * decision.predicted_us;
    }
    return cost;
}

static const char *best_packing(ranges_context *c, const gemmux_profile *profile)
{
    const struct gemmux_kernel_table *table =
        c->machine->kernels ? c->machine->kernels : &gemmux_builtin_kernels;
    const char *best = NULL, *wanted = c->policy.packing;
    double best_cost = 0;
    for (int i = 0; i < table->count; i++) {
        const gemmux_packing *packing = table->kernels[i]->packing;
        int seen = 0;
        while (seen < i && table->kernels[seen]->packing != packing)
            seen++;
        if (seen < i || (wanted && strcmp(wanted, packing->name) != 0))
            continue;
        c->policy.packing = packing->name;
        double cost = cost_of(c, profile);
        if (cost >= 0 && (!best || cost < best_cost)) {
            best = packing->name;
            best_cost = cost;
        }
    }
    c->policy.packing = wanted;
    return best;
}

static bool same_choice(const gemmux_decision *a, const gemmux_decision *b)
{
    return a->kernel == b->kernel && a->form == b->form;
}

/* The largest M in [low, high) at which the choice is still that of low. */
static int64_t last_like(ranges_context *c, int64_t low, int64_t high,
                         const gemmux_decision *at_low)
{
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        gemmux_decision decision;
        if (decide_at(c, middle, &decision) && same_choice(&decision, at_low))
            low = middle;
        else
            high = middle;
    }
    return low;
}

static void close_range(ranges_context *c, gemmux_range *range, int64_t m_max)
{
    gemmux_decision largest;
    range->m_max = m_max;
    /* Buffers must do for every M of the range. */
    if (decide_at(c, m_max, &largest) && same_choice(&largest, &range->decision) &&
        largest.workspace_bytes > range->decision.workspace_bytes)
        range->decision.workspace_bytes = largest.workspace_bytes;
}

/* Points at which to look for another choice: 1, the powers of two, the profile's own, m. */
static int64_t next_point(int64_t m, int64_t last, const gemmux_profile *profile)
{
    int64_t next = m * 2 < last ? m * 2 : last;
    for (int i = 0; i < profile->count; i++)
        if (profile->m[i] > m && profile->m[i] < next)
            next = profile->m[i];
    return next;
}

static gemmux_status find_ranges(ranges_context *c, int64_t m_last, const gemmux_profile *profile,
                                 gemmux_range *ranges, int *range_count)
{
    int count = 0;
    bool open = false;
    int64_t previous = 0;
    for (int64_t m = 1;; m = next_point(m, m_last, profile)) {
        gemmux_decision decision;
        bool ok = decide_at(c, m, &decision);
        if (open && !(ok && same_choice(&decision, &ranges[count - 1].decision))) {
            int64_t end = last_like(c, previous, m, &ranges[count - 1].decision);
            close_range(c, &ranges[count - 1], end);
            /* What comes right after may be a third choice; start from there. */
            open = false;
            if (end + 1 < m && count < GEMMUX_MAX_RANGES) {
                m = end + 1;
                ok = decide_at(c, m, &decision);
            }
        }
        if (!open && ok && count < GEMMUX_MAX_RANGES) {
            ranges[count++] = (gemmux_range){.m_min = m, .decision = decision};
            open = true;
        }
        previous = m;
        if (m == m_last)
            break;
    }
    if (open)
        close_range(c, &ranges[count - 1], m_last);
    *range_count = count;
    return count ? GEMMUX_OK : GEMMUX_ERROR_NO_KERNEL;
}

static gemmux_status check_profile(const gemmux_profile *profile, int64_t m, gemmux_error *error)
{
    if (profile->count < 1 || profile->count > GEMMUX_MAX_RANGES)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT, "profile: %d entries, 1 to %d are allowed",
                           profile->count, GEMMUX_MAX_RANGES);
    for (int i = 0; i < profile->count; i++)
        if (profile->m[i] < 1 || profile->m[i] > m || (i && profile->m[i] <= profile->m[i - 1]) ||
            !(profile->weight[i] >= 0))
            return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                               "profile: entry %d is M=%" PRId64
                               "; M must ascend from 1 to the problem's %" PRId64
                               " and weights must not be negative",
                               i, profile->m[i], m);
    return GEMMUX_OK;
}

gemmux_status gemmux_select_ranges(const gemmux_problem *problem, const gemmux_machine *machine,
                                   const gemmux_policy *policy, const gemmux_profile *profile,
                                   gemmux_range *ranges, int *range_count, gemmux_error *error)
{
    const gemmux_profile alone = {.count = 1, .m = {problem->m}, .weight = {1}};
    ranges_context c = {.problem = *problem, .machine = machine};
    if (policy)
        c.policy = *policy;
    if (!profile)
        profile = &alone;
    *range_count = 0;
    gemmux_status status = gemmux_problem_check(problem, error);
    if (!status)
        status = check_profile(profile, problem->m, error);
    if (status)
        return status;
    const char *packing = best_packing(&c, profile);
    if (!packing) { /* no single packing serves every M: the error of the largest says why */
        gemmux_decision decision;
        c.problem.m = profile->m[profile->count - 1];
        status = gemmux_select(&c.problem, machine, &c.policy, &decision, NULL, error);
        return status ? status
                      : gemmux_fail(error, GEMMUX_ERROR_NO_KERNEL,
                                    "no single packing has a kernel for every M of the profile");
    }
    c.policy.packing = packing;
    return find_ranges(&c, problem->m, profile, ranges, range_count);
}
