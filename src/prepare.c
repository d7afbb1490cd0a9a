/* SPDX-License-Identifier: Apache-2.0
 *
 * prepare: everything that can fail. Selects, packs the weights once for all ranges of M, lets
 * each kernel make its handles, and sizes one workspace. A kernel whose prepare fails is denied
 * and selection starts again, so a broken library costs a rung, not the answer.
 */
#include "error.h"
#include "pages.h"
#include "plan.h"
#include "select.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static gemmux_status check_weights(const gemmux_problem *p, const gemmux_weights *w,
                                   gemmux_error *error)
{
    const gemmux_tensor *t = &w->tensor;
    char have[32], want[32];
    int64_t count = p->op == GEMMUX_MOE ? p->experts : 1;
    if (!gemmux_format_equal(t->format, p->w))
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "prepare: weights are %s, the problem says %s",
                           gemmux_format_name(t->format, have, sizeof have),
                           gemmux_format_name(p->w, want, sizeof want));
    if (t->count != count || t->rows != p->n || t->cols != p->k)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "prepare: weights are %" PRId64 " x %" PRId64 " x %" PRId64
                           ", the problem says %" PRId64 " x %" PRId64 " x %" PRId64,
                           t->count, t->rows, t->cols, count, p->n, p->k);
    if ((p->epilogue & GEMMUX_EPILOGUE_BIAS) && !w->bias)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "prepare: the problem adds a bias, the weights have none");
    return gemmux_tensor_check(t, "w", error);
}

/* k_order must be a permutation of the columns, and x must be something whose columns can move. */
static gemmux_status check_k_order(const gemmux_problem *p, const int32_t *order,
                                   gemmux_error *error)
{
    char name[32];
    int bits = gemmux_code_bits((gemmux_code)p->x.element);
    if (bits < 8 || p->x.scaling == GEMMUX_SCALING_GROUP)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "prepare: the weights reorder K (k_order), which x in %s cannot follow: "
                           "its scales belong to runs of columns",
                           gemmux_format_name(p->x, name, sizeof name));
    char *seen = calloc((size_t)p->k + 1, 1);
    if (!seen)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "prepare: out of memory");
    int64_t bad = -1;
    for (int64_t j = 0; j < p->k && bad < 0; j++)
        if (order[j] < 0 || order[j] >= p->k || seen[order[j]]++)
            bad = j;
    free(seen);
    if (bad >= 0)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "prepare: k_order[%" PRId64 "] = %d is outside [0, %" PRId64
                           ") or repeated",
                           bad, order[bad], p->k);
    return GEMMUX_OK;
}

static gemmux_status copy_side_data(gemmux_plan *plan, const gemmux_weights *w, gemmux_error *error)
{
    const gemmux_problem *p = &plan->problem;
    if (p->epilogue & GEMMUX_EPILOGUE_BIAS) {
        size_t bytes = (size_t)(w->tensor.count * p->n) * sizeof(float);
        plan->bias = malloc(bytes);
        if (!plan->bias)
            return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "prepare: out of memory for the bias");
        memcpy(plan->bias, w->bias, bytes);
    }
    if (w->tensor.k_order) {
        gemmux_status status = check_k_order(p, w->tensor.k_order, error);
        if (status)
            return status;
        size_t bytes = (size_t)p->k * sizeof(int32_t);
        plan->k_order = malloc(bytes + 1);
        if (!plan->k_order)
            return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "prepare: out of memory for k_order");
        memcpy(plan->k_order, w->tensor.k_order, bytes);
        plan->gather_bytes = (gemmux_problem_rows(p) * gemmux_row_bytes(p->x, p->k) + 63) / 64 * 64;
    }
    return GEMMUX_OK;
}

/* Packs the weights where they are multiplied. Of what is on a device the host keeps the geometry.
 */
static gemmux_status pack(gemmux_plan *plan, const gemmux_packing *packing, const gemmux_tensor *w,
                          gemmux_threads *threads, gemmux_error *error)
{
    if (plan->machine.kind == GEMMUX_CPU) {
        gemmux_status status = gemmux_pack(packing, w, threads, &plan->packed, error);
        plan->packed.plain.k_order = plan->k_order;
        return status;
    }
    gemmux_status status = gemmux_resident_make(&plan->machine, packing, w, plan->k_order,
                                                plan->bias, threads, &plan->resident, error);
    plan->packed.plain = *w;
    plan->packed.plain.codes = plan->packed.plain.scales = plan->packed.plain.zeros = NULL;
    plan->packed.plain.globals = NULL;
    plan->packed.plain.k_order = plan->k_order;
    return status;
}

/* Lets each range's kernel make its handles. On failure *broken names the kernel. */
static gemmux_status make_states(gemmux_plan *plan, const gemmux_kernel **broken,
                                 gemmux_error *error)
{
    const gemmux_packed *packed = plan->resident ? &plan->resident->packed : &plan->packed;
    for (int i = 0; i < plan->range_count; i++) {
        const gemmux_kernel *kernel = plan->ranges[i].decision.kernel;
        gemmux_problem problem = plan->problem;
        problem.m = plan->ranges[i].m_max;
        if (!kernel->prepare)
            continue;
        gemmux_status status =
            kernel->prepare(&problem, &plan->machine, packed, &plan->states[i], error);
        if (!status && kernel->take_bias && plan->bias)
            status = kernel->take_bias(plan->states[i], plan->bias, problem.n, error);
        if (status) {
            *broken = kernel;
            return status;
        }
    }
    return GEMMUX_OK;
}

static void drop_states(gemmux_plan *plan)
{
    for (int i = 0; i < plan->range_count; i++) {
        if (plan->states[i] && plan->ranges[i].decision.kernel->release)
            plan->ranges[i].decision.kernel->release(plan->states[i]);
        plan->states[i] = NULL;
    }
    gemmux_resident_free(plan->resident);
    plan->resident = NULL;
    gemmux_packed_free(&plan->packed);
}

/* Adds what a kernel's own prepare said to the machine's records, which stay sorted by name. */
static gemmux_status note_refusal(gemmux_plan *plan, const gemmux_kernel *kernel,
                                  const gemmux_error *why, gemmux_error *error)
{
    size_t count = (size_t)plan->machine.record_count, at = 0;
    gemmux_record *records = malloc((count + 1) * sizeof *records);
    if (!records)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "prepare: out of memory");
    const gemmux_record *old = plan->machine.records;
    while (at < count && strcmp(old[at].kernel, kernel->name) < 0)
        at++;
    for (size_t i = 0; i < count; i++)
        records[i + (i >= at)] = old[i];
    records[at] = (gemmux_record){.kind = GEMMUX_RECORD_REFUSED};
    snprintf(records[at].kernel, sizeof records[at].kernel, "%s", kernel->name);
    snprintf(records[at].evidence, sizeof records[at].evidence, "%.*s",
             (int)sizeof records[at].evidence - 1, why->text);
    free(plan->records);
    plan->records = records;
    plan->machine.records = records;
    plan->machine.record_count = (int32_t)count + 1;
    return GEMMUX_OK;
}

/* One workspace for all ranges. On failure *broken names the kernel that wants most, where there is
 * a device that had no room for it: another may do with less. */
static gemmux_status make_workspace(gemmux_plan *plan, const gemmux_kernel **broken,
                                    gemmux_error *error)
{
    const gemmux_kernel *largest = NULL;
    plan->workspace_bytes = 0;
    for (int i = 0; i < plan->range_count; i++)
        if (!largest || plan->ranges[i].decision.workspace_bytes > plan->workspace_bytes) {
            plan->workspace_bytes = plan->ranges[i].decision.workspace_bytes;
            largest = plan->ranges[i].decision.kernel;
        }
    plan->workspace_bytes = (plan->workspace_bytes + plan->gather_bytes + 127) / 64 * 64;
    if (plan->resident) {
        *broken = largest;
        return gemmux_resident_workspace(plan->resident, plan->workspace_bytes, error);
    }
    plan->workspace = gemmux_pages_alloc(plan->workspace_bytes);
    if (!plan->workspace)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY,
                           "prepare: out of memory for a workspace of %" PRId64 " bytes",
                           plan->workspace_bytes);
    return GEMMUX_OK;
}

/* Packs and prepares what was selected. On failure *broken names the kernel without which
 * another selection may do; NULL: none would. */
static gemmux_status try_selection(gemmux_plan *plan, const gemmux_weights *w,
                                   gemmux_threads *threads, const gemmux_kernel **broken,
                                   gemmux_error *error)
{
    const gemmux_kernel *kernel = plan->ranges[0].decision.kernel;
    gemmux_status status = pack(plan, kernel->packing, &w->tensor, threads, error);
    if (status) {
        *broken = plan->machine.kind == GEMMUX_CPU ? NULL : kernel;
        return status;
    }
    status = make_states(plan, broken, error);
    if (status == GEMMUX_ERROR_MEMORY)
        *broken = NULL; /* the host's */
    return status ? status : make_workspace(plan, broken, error);
}

/* `first`: why the kernel that was chosen first is not to be had. */
static gemmux_status none_left(const gemmux_plan *plan, const gemmux_error *first,
                               gemmux_error *error)
{
    if (first->status)
        return gemmux_fail(error,
                           first->status == GEMMUX_ERROR_MEMORY ? GEMMUX_ERROR_MEMORY
                                                                : GEMMUX_ERROR_NO_KERNEL,
                           "no kernel is left: %s", first->text);
    return gemmux_fail(error, GEMMUX_ERROR_NO_KERNEL,
                       "prepare: only the host's %s can do this for %s, and a plan's operands live "
                       "on the device; prepare it for the cpu",
                       plan->ranges[0].decision.kernel->name, plan->machine.name);
}

/* Selects and tries; while a kernel fails, notes why and tries again without it. */
static gemmux_status settle(gemmux_plan *plan, const gemmux_policy *policy,
                            const gemmux_profile *profile, const gemmux_weights *w,
                            gemmux_threads *threads, gemmux_error *error)
{
    gemmux_error first = {GEMMUX_OK, ""}; /* of the kernel that was chosen first */
    for (;;) {
        const gemmux_kernel *broken = NULL;
        gemmux_error why = {GEMMUX_OK, ""};
        gemmux_status status = gemmux_select_ranges(&plan->problem, &plan->machine, policy, profile,
                                                    plan->ranges, &plan->range_count, error);
        if (status == GEMMUX_ERROR_NO_KERNEL && first.status)
            return none_left(plan, &first, error);
        if (status)
            return status;
        if (plan->ranges[0].decision.kernel->device != plan->machine.kind)
            return none_left(plan, &first, error);
        status = try_selection(plan, w, threads, &broken, &why);
        if (!status)
            return GEMMUX_OK;
        drop_states(plan);
        if (!broken) {
            if (error)
                *error = why;
            return status;
        }
        if (!first.status)
            first = why;
        status = note_refusal(plan, broken, &why, error);
        if (status)
            return status;
    }
}

gemmux_status gemmux_prepare(const gemmux_problem *problem, const gemmux_machine *machine,
                             const gemmux_policy *policy, const gemmux_profile *profile,
                             const gemmux_weights *w, gemmux_threads *threads, gemmux_plan **plan,
                             gemmux_error *error)
{
    *plan = NULL;
    gemmux_status status = gemmux_problem_check(problem, error);
    if (!status)
        status = check_weights(problem, w, error);
    if (status)
        return status;
    if (machine->described)
        return gemmux_fail(error, GEMMUX_ERROR_DEVICE,
                           "prepare: %s is described by a file, not present: it can be planned "
                           "for, not run on",
                           machine->name);
    gemmux_plan *made = calloc(1, sizeof *made);
    if (!made)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "prepare: out of memory");
    pthread_mutex_init(&made->lock, NULL);
    made->problem = *problem;
    made->machine = *machine;
    made->threads = machine->kind == GEMMUX_CPU ? threads : NULL;
    if (machine->kind == GEMMUX_CPU)
        made->machine.cores = gemmux_threads_count(threads);
    status = copy_side_data(made, w, error);
    if (!status)
        status = settle(made, policy, profile, w, threads, error);
    if (status) {
        gemmux_plan_free(made);
        return status;
    }
    *plan = made;
    return GEMMUX_OK;
}

const gemmux_machine *gemmux_plan_machine(const gemmux_plan *plan)
{
    return &plan->machine;
}

bool gemmux_plan_borrows(const gemmux_plan *plan)
{
    return plan->packed.data == NULL && plan->packed.plain.codes != NULL;
}

int gemmux_plan_ranges(const gemmux_plan *plan, const gemmux_range **ranges)
{
    *ranges = plan->ranges;
    return plan->range_count;
}

int64_t gemmux_plan_bytes(const gemmux_plan *plan)
{
    if (plan->resident)
        return plan->resident->bytes;
    return plan->packed.bytes + (plan->workspace ? plan->workspace_bytes : 0);
}

void gemmux_plan_free(gemmux_plan *plan)
{
    if (!plan)
        return;
    drop_states(plan);
    pthread_mutex_destroy(&plan->lock);
    free(plan->workspace);
    free(plan->bias);
    free(plan->k_order);
    free(plan->records);
    free(plan);
}
