/* SPDX-License-Identifier: Apache-2.0
 *
 * What would it take? Answers each failing check of one kernel with the least change that
 * satisfies it and selects again, until nothing fails. Separate from explain.c because it changes
 * (copies of) problem, machine and policy, where explain only reads.
 */
#include "error.h"
#include "machine.h"
#include "select.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct world {
    gemmux_problem problem;
    gemmux_machine machine;
    gemmux_policy policy;
    const gemmux_kernel *rows[1];
    struct gemmux_kernel_table table;
} world;

const char *gemmux_power_name(gemmux_power power)
{
    static const char *const names[] = {"?", "caller", "install", "model", "hardware"};
    return power <= GEMMUX_POWER_HARDWARE ? names[power] : "?";
}

static const char *format_of(gemmux_format format, char *buffer)
{
    return gemmux_format_name(format, buffer, 32);
}

/* The member of `set` nearest to `id`: wider formats first, so that a change keeps the numbers. */
static gemmux_format nearest_format(uint32_t set, uint8_t id)
{
    for (int step = 0; step < GEMMUX_FORMAT_COUNT; step++) {
        int wider = id - step, narrower = id + step;
        if (wider >= 1 && set & GEMMUX_BIT(wider))
            return gemmux_format_of((gemmux_format_id)wider);
        if (narrower < GEMMUX_FORMAT_COUNT && set & GEMMUX_BIT(narrower))
            return gemmux_format_of((gemmux_format_id)narrower);
    }
    return (gemmux_format){0};
}

static bool change_format(gemmux_format *format, uint32_t set, const char *operand,
                          gemmux_change *change)
{
    char now[32], then[32];
    gemmux_format other = nearest_format(set, format->id);
    if (!other.id)
        return false;
    change->power = strcmp(operand, "w") == 0 ? GEMMUX_POWER_MODEL : GEMMUX_POWER_CALLER;
    snprintf(change->text, sizeof change->text, "%s in %s instead of %s",
             strcmp(operand, "w") == 0 ? "weights" : operand, format_of(other, then),
             format_of(*format, now));
    *format = other;
    return true;
}

/* Another scaling of the same elements: row and tensor carry one f32, groups keep their size. */
static bool change_scaling(gemmux_format *format, const gemmux_reason *r, const char *operand,
                           gemmux_change *change)
{
    char now[32], then[32];
    gemmux_format other = *format;
    switch (r->check) {
    case GEMMUX_CHECK_X_SCALING:
    case GEMMUX_CHECK_W_SCALING:
        other.scaling = (uint8_t)__builtin_ctzll((uint64_t)r->need);
        other.group = other.scaling == GEMMUX_SCALING_GROUP || other.scaling == GEMMUX_SCALING_BLOCK
                          ? 128
                          : 0;
        break;
    case GEMMUX_CHECK_W_SCALE:
        other.scale = (uint8_t)__builtin_ctzll((uint64_t)r->need);
        break;
    case GEMMUX_CHECK_W_ZERO:
        other.zero = (uint8_t)__builtin_ctzll((uint64_t)r->need);
        break;
    default:
        other.group = (uint16_t)((format->group + r->need - 1) / r->need * r->need);
    }
    change->power = operand[0] == 'w' ? GEMMUX_POWER_MODEL : GEMMUX_POWER_CALLER;
    snprintf(change->text, sizeof change->text, "%s quantised as %s instead of %s",
             operand[0] == 'w' ? "weights" : operand, format_of(other, then),
             format_of(*format, now));
    *format = other;
    return true;
}

static bool pad(int64_t *size, int64_t multiple, const char *name, gemmux_change *change)
{
    int64_t padded = (*size + multiple - 1) / multiple * multiple;
    change->power = GEMMUX_POWER_CALLER;
    snprintf(change->text, sizeof change->text, "pad %s from %" PRId64 " to %" PRId64 " (+%.1f %%)",
             name, *size, padded, *size ? 100.0 * (double)(padded - *size) / (double)*size : 0.0);
    *size = padded;
    return true;
}

static bool change_device(world *w, const gemmux_reason *r, gemmux_change *change)
{
    char need[200];
    gemmux_reason_need(r, w->rows[0], &w->problem, &w->machine, need, sizeof need);
    change->power = GEMMUX_POWER_HARDWARE;
    switch (r->check) {
    case GEMMUX_CHECK_ISA:
        w->machine.isa = gemmux_isa_closure(w->machine.isa | (uint32_t)r->need);
        snprintf(change->text, sizeof change->text, "a CPU with %.140s", need);
        return true;
    case GEMMUX_CHECK_ARCH_OLD:
    case GEMMUX_CHECK_ARCH_NEW:
    case GEMMUX_CHECK_ARCH_EXACT:
    case GEMMUX_CHECK_ARCH_FAMILY:
        w->machine.cc = (int32_t)r->need;
        snprintf(change->text, sizeof change->text, "a device of architecture %.120s", need);
        return true;
    case GEMMUX_CHECK_SHARED_MEMORY:
        w->machine.smem_bytes = (int32_t)r->need;
        snprintf(change->text, sizeof change->text, "a device with %.100s of shared memory a block",
                 need);
        return true;
    case GEMMUX_CHECK_DEVICE_MEMORY:
        w->machine.memory_bytes = r->need;
        snprintf(change->text, sizeof change->text, "a device with %.120s of memory", need);
        return true;
    default:
        return false;
    }
}

static bool change_precision(world *w, const gemmux_reason *r, gemmux_change *change)
{
    gemmux_problem *p = &w->problem;
    switch (r->check) {
    case GEMMUX_CHECK_X_FORMAT:
        return change_format(&p->x, (uint32_t)r->need, "x", change);
    case GEMMUX_CHECK_W_FORMAT:
        return change_format(&p->w, (uint32_t)r->need, "w", change);
    case GEMMUX_CHECK_Y_FORMAT:
        return change_format(&p->y, (uint32_t)r->need, "y", change);
    case GEMMUX_CHECK_X_SCALING:
    case GEMMUX_CHECK_X_GROUP:
        return change_scaling(&p->x, r, "x", change);
    case GEMMUX_CHECK_W_SCALING:
    case GEMMUX_CHECK_W_SCALE:
    case GEMMUX_CHECK_W_ZERO:
    case GEMMUX_CHECK_W_GROUP:
        return change_scaling(&p->w, r, "w", change);
    case GEMMUX_CHECK_M_MIN:
    case GEMMUX_CHECK_M_MULTIPLE:
        if (p->op == GEMMUX_MOE)
            return false; /* routing decides how many rows meet an expert */
        return pad(&p->m, r->need, "M", change);
    case GEMMUX_CHECK_N_MULTIPLE:
        return pad(&p->n, r->need, "N", change);
    case GEMMUX_CHECK_K_MULTIPLE:
        return pad(&p->k, r->need, "K", change);
    case GEMMUX_CHECK_M_MAX:
        change->power = GEMMUX_POWER_CALLER;
        snprintf(change->text, sizeof change->text, "at most %" PRId64 " rows a call", r->need);
        p->m = p->op == GEMMUX_MOE ? r->need / p->top_k : r->need;
        return p->m > 0;
    case GEMMUX_CHECK_PACKING:
        change->power = GEMMUX_POWER_CALLER;
        snprintf(change->text, sizeof change->text, "weights packed as %s instead of %s",
                 w->rows[0]->packing->name, w->policy.packing);
        w->policy.packing = NULL;
        return true;
    case GEMMUX_CHECK_LIBERTY: {
        char need[100];
        gemmux_reason_need(r, w->rows[0], p, &w->machine, need, sizeof need);
        change->power = GEMMUX_POWER_CALLER;
        snprintf(change->text, sizeof change->text, "allow %s", need);
        p->liberties |= (uint32_t)r->need;
        return true;
    }
    default:
        return false; /* another combination, alignment of padded rows, no configuration */
    }
}

/* x and y come as aligned as their row lengths allow: pad K or N until they are, or promise it. */
static bool change_alignment(world *w, const gemmux_reason *r, gemmux_change *change)
{
    gemmux_problem *p = &w->problem;
    int64_t x_row = gemmux_row_bytes(p->x, p->k);
    change->power = GEMMUX_POWER_CALLER;
    if (p->align && p->align < r->need) {
        p->align = (uint16_t)r->need;
        snprintf(change->text, sizeof change->text, "x and y aligned to %" PRId64 " bytes",
                 r->need);
        return true;
    }
    int64_t *size = x_row % r->need ? &p->k : &p->n;
    gemmux_format format = x_row % r->need ? p->x : p->y;
    return pad(size, r->need * 8 / gemmux_code_bits((gemmux_code)format.element),
               size == &p->k ? "K" : "N", change);
}

static bool change_library(world *w, const gemmux_reason *r, gemmux_change *change)
{
    const gemmux_kernel *k = w->rows[0];
    gemmux_library *library = &w->machine.library[k->library];
    const char *name = gemmux_library_name((gemmux_library_id)k->library);
    char version[32];
    change->power = GEMMUX_POWER_INSTALL;
    switch (r->check) {
    case GEMMUX_CHECK_LIBRARY_ABSENT:
    case GEMMUX_CHECK_LIBRARY_OLD:
        snprintf(change->text, sizeof change->text, "%s %s or newer installed", name,
                 gemmux_version_text(k->library_min, 2, version, sizeof version));
        library->present = true;
        library->version = k->library_min;
        library->arch_set = 0;
        return true;
    case GEMMUX_CHECK_LIBRARY_CODE:
        snprintf(change->text, sizeof change->text, "a build of %s with code for this device",
                 name);
        library->arch_set = 0;
        return true;
    case GEMMUX_CHECK_NOT_BUILT:
        snprintf(change->text, sizeof change->text, "a gemmux built with the compiler for %s",
                 k->device == GEMMUX_CUDA ? "CUDA (nvcc)" : "this instruction set");
        w->machine.described = true;
        return true;
    default:
        return false;
    }
}

static bool change_flags(world *w, const gemmux_reason *r, gemmux_change *change)
{
    char need[100];
    gemmux_reason_need(r, w->rows[0], &w->problem, &w->machine, need, sizeof need);
    change->power = GEMMUX_POWER_CALLER;
    switch (r->check) {
    case GEMMUX_CHECK_DENIED:
        w->policy.deny = NULL;
        snprintf(change->text, sizeof change->text, "not denied");
        return true;
    case GEMMUX_CHECK_NOT_FORCED:
        w->policy.only = NULL;
        snprintf(change->text, sizeof change->text, "among the kernels asked for");
        return true;
    case GEMMUX_CHECK_UNORDERED:
        w->policy.deterministic = false;
        snprintf(change->text, sizeof change->text, "determinism given up");
        return true;
    case GEMMUX_CHECK_MEMORY_BUDGET:
        w->policy.max_memory_bytes = r->need;
        snprintf(change->text, sizeof change->text, "a memory budget of %s", need);
        return true;
    case GEMMUX_CHECK_SLOWDOWN:
        w->policy.max_slowdown = 0;
        snprintf(change->text, sizeof change->text, "a slowdown budget of %.2f",
                 (double)r->have / 100.0);
        return true;
    case GEMMUX_CHECK_NOT_PROVED:
        w->policy.proved_only = false;
        snprintf(change->text, sizeof change->text, "a certificate (gemmux check %.40s)",
                 w->rows[0]->name);
        return true;
    case GEMMUX_CHECK_UNPROVEN:
        w->policy.only = w->rows[0]->name;
        snprintf(change->text, sizeof change->text, "asked for by name (--only %.40s)",
                 w->rows[0]->name);
        return true;
    default:
        return false; /* a quarantine ends when the kernel is right */
    }
}

static bool answer(world *w, const gemmux_reason *r, gemmux_change *change)
{
    change->check = r->check;
    if (r->check == GEMMUX_CHECK_ALIGNMENT)
        return change_alignment(w, r, change);
    switch ((gemmux_stage)r->stage) {
    case GEMMUX_STAGE_DEVICE:
        return change_device(w, r, change);
    case GEMMUX_STAGE_PRECISION:
        return change_precision(w, r, change);
    case GEMMUX_STAGE_LIBRARY:
        return change_library(w, r, change);
    case GEMMUX_STAGE_FLAGS:
        return change_flags(w, r, change);
    default:
        return false;
    }
}

gemmux_status gemmux_counterfactual(const gemmux_problem *problem, const gemmux_machine *machine,
                                    const gemmux_policy *policy, const gemmux_kernel *kernel,
                                    gemmux_change *changes, int *change_count,
                                    gemmux_decision *then, gemmux_error *error)
{
    gemmux_trace trace;
    world w = {.problem = *problem, .machine = *machine, .rows = {kernel}};
    if (policy)
        w.policy = *policy;
    w.table = (struct gemmux_kernel_table){w.rows, 1};
    w.machine.kernels = &w.table;
    *change_count = 0;
    for (;;) {
        gemmux_status status =
            gemmux_select(&w.problem, &w.machine, &w.policy, then, &trace, error);
        if (status != GEMMUX_ERROR_NO_KERNEL)
            return status;
        const gemmux_reason *r = &trace.reasons[0];
        char text[400];
        if (*change_count == GEMMUX_MAX_CHANGES || !answer(&w, r, &changes[*change_count]))
            return gemmux_fail(
                error, GEMMUX_ERROR_NO_KERNEL, "no change makes it eligible: %s",
                gemmux_reason_text(r, kernel, &w.problem, &w.machine, text, sizeof text));
        ++*change_count;
    }
}
