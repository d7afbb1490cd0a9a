/* SPDX-License-Identifier: Apache-2.0
 *
 * select: problem x machine x policy -> decision + trace. A pure function: no I/O, clock, malloc
 * or getenv (the tests look at this object's undefined symbols). Checks are made in the order of
 * the stages; with a trace every failing check is recorded, without one the first ends a kernel.
 */
#include "select.h"

#include "wildcard.h"

#include "error.h"
#include "shares.h"

#include <math.h>
#include <string.h>

/* What is the same for all candidates of one select. */
typedef struct select_context {
    const gemmux_problem *problem;
    const gemmux_machine *machine;
    const gemmux_policy *policy;
    gemmux_work work;
    int64_t align; /* of x, y and their rows */
} select_context;

/* What judging one kernel finds. */
typedef struct candidate {
    const gemmux_kernel *kernel;
    gemmux_trace *trace; /* NULL: stop at the first failure */
    int failures;
    bool capable; /* op, device and precision allow it */
    gemmux_decision decision;
} candidate;

static gemmux_stage stage_of(gemmux_check check)
{
    static const uint8_t stages[] = {
#define GEMMUX_CHECK_STAGE(id, stage, code, kind, text) GEMMUX_STAGE_##stage,
        GEMMUX_CHECKS(GEMMUX_CHECK_STAGE)
#undef GEMMUX_CHECK_STAGE
    };
    return (gemmux_stage)stages[check];
}

/* Records a failure. Returns true when judging may stop. */
static bool fail(candidate *c, gemmux_check check, int64_t need, int64_t have, const char *note)
{
    c->failures++;
    gemmux_stage stage = stage_of(check);
    if (stage < GEMMUX_STAGE_LIBRARY)
        c->capable = false;
    if (!c->trace)
        return true;
    if (c->trace->reason_count < GEMMUX_MAX_REASONS)
        c->trace->reasons[c->trace->reason_count++] = (gemmux_reason){
            .check = (uint8_t)check,
            .stage = (uint8_t)stage,
            .form = c->decision.form,
            .need = need,
            .have = have,
            .note = note,
        };
    return false;
}

/* Bytes of the workspace that run.c itself needs for this problem on a CPU: moe's routing lists,
 * and the f32 rows that SCATTER reduces. */
static int64_t run_workspace(const gemmux_problem *problem)
{
    int64_t rows = gemmux_problem_rows(problem), bytes = 0;
    if (problem->op == GEMMUX_MOE) {
        bytes += gemmux_round_up(problem->experts * (int64_t)sizeof(gemmux_group), 64);
        bytes +=
            2 * gemmux_round_up(rows * 4, 64) + gemmux_round_up((problem->experts + 1) * 4, 64);
        if (problem->epilogue & GEMMUX_EPILOGUE_SCATTER)
            bytes += gemmux_round_up(rows * problem->n * 4, 64);
    } else {
        bytes += 64; /* one group */
    }
    return bytes;
}

/* Packed bytes, or stored bytes where the packing borrows the tensor. */
static int64_t weight_bytes(const gemmux_problem *problem, const gemmux_packing *packing)
{
    int64_t count = problem->op == GEMMUX_MOE ? problem->experts : 1;
    int64_t bytes = packing->bytes(problem->w, count, problem->n, problem->k);
    return bytes ? bytes : gemmux_stored_bytes(problem->w, count, problem->n, problem->k);
}

/* ---- stage op, stage device ---- */

static bool check_op(const select_context *s, candidate *c)
{
    const gemmux_kernel *k = c->kernel;
    if (!(k->ops & GEMMUX_BIT(s->problem->op)) &&
        fail(c, GEMMUX_CHECK_OP, k->ops, s->problem->op, NULL))
        return false;
    unsigned missing = s->problem->epilogue & ~k->epilogue;
    if (missing && fail(c, GEMMUX_CHECK_EPILOGUE, missing, k->epilogue, NULL))
        return false;
    return true;
}

static bool check_arch(const select_context *s, candidate *c)
{
    const gemmux_kernel *k = c->kernel;
    int cc = s->machine->cc;
    if (k->arch_rule == GEMMUX_ARCH_EXACT && cc != k->cc_min)
        return !fail(c, GEMMUX_CHECK_ARCH_EXACT, k->cc_min, cc, NULL);
    if (k->arch_rule == GEMMUX_ARCH_FAMILY && (cc / 10 != k->cc_min / 10 || cc < k->cc_min))
        return !fail(c, GEMMUX_CHECK_ARCH_FAMILY, k->cc_min, cc, NULL);
    if (cc < k->cc_min && fail(c, GEMMUX_CHECK_ARCH_OLD, k->cc_min, cc, NULL))
        return false;
    if (k->cc_max && cc > k->cc_max && fail(c, GEMMUX_CHECK_ARCH_NEW, k->cc_max, cc, NULL))
        return false;
    return true;
}

static bool check_device(const select_context *s, candidate *c)
{
    const gemmux_kernel *k = c->kernel;
    const gemmux_machine *m = s->machine;
    if (k->device != m->kind)
        return k->floor || !fail(c, GEMMUX_CHECK_DEVICE_KIND, k->device, m->kind, NULL);
    if (k->isa & ~m->isa && fail(c, GEMMUX_CHECK_ISA, k->isa, m->isa, NULL))
        return false;
    if (k->device == GEMMUX_CUDA && !check_arch(s, c))
        return false;
    if (k->smem_bytes > m->smem_bytes &&
        fail(c, GEMMUX_CHECK_SHARED_MEMORY, k->smem_bytes, m->smem_bytes, NULL))
        return false;
    return true;
}

/* ---- stage precision ---- */

static bool form_joins(const gemmux_form *f, const gemmux_problem *p)
{
    return f->x & GEMMUX_BIT(p->x.id) && f->w & GEMMUX_BIT(p->w.id) && f->y & GEMMUX_BIT(p->y.id);
}

/* Group along K; a row or tensor scale is one group as long as the row. */
static int64_t group_of(gemmux_format format)
{
    return format.group;
}

static unsigned form_failures(const gemmux_form *f, const gemmux_problem *p, bool deterministic)
{
    unsigned count = 0;
    count += f->x_scaling && !(f->x_scaling & GEMMUX_BIT(p->x.scaling));
    count += f->w_scaling && !(f->w_scaling & GEMMUX_BIT(p->w.scaling));
    count += f->w_scale && !(f->w_scale & GEMMUX_BIT(p->w.scale));
    count += f->w_zero && !(f->w_zero & GEMMUX_BIT(p->w.zero));
    count += f->w_group_multiple && group_of(p->w) % f->w_group_multiple != 0;
    count += f->x_group_multiple && group_of(p->x) % f->x_group_multiple != 0;
    count += (f->liberties & ~p->liberties) != 0;
    count += deterministic && f->liberties & GEMMUX_LIBERTY_UNORDERED;
    return count;
}

static const gemmux_form *find_form(const select_context *s, candidate *c)
{
    const gemmux_kernel *k = c->kernel;
    const gemmux_form *best = NULL;
    unsigned best_failures = ~0u;
    for (int i = 0; i < k->form_count && best_failures; i++) {
        if (!form_joins(&k->forms[i], s->problem))
            continue;
        unsigned failures = form_failures(&k->forms[i], s->problem, s->policy->deterministic);
        if (failures < best_failures) {
            best = &k->forms[i];
            best_failures = failures;
            c->decision.form = (uint8_t)i;
        }
    }
    return best;
}

/* No row joins the three formats: names each operand that no row takes, or the combination. */
static void fail_formats(const select_context *s, candidate *c)
{
    const gemmux_problem *p = s->problem;
    uint32_t x = 0, w = 0, y = 0;
    for (int i = 0; i < c->kernel->form_count; i++) {
        x |= c->kernel->forms[i].x;
        w |= c->kernel->forms[i].w;
        y |= c->kernel->forms[i].y;
    }
    bool named = false;
    if (!(x & GEMMUX_BIT(p->x.id)) && (named = true))
        if (fail(c, GEMMUX_CHECK_X_FORMAT, x, p->x.id, NULL))
            return;
    if (!(w & GEMMUX_BIT(p->w.id)) && (named = true))
        if (fail(c, GEMMUX_CHECK_W_FORMAT, w, p->w.id, NULL))
            return;
    if (!(y & GEMMUX_BIT(p->y.id)) && (named = true))
        if (fail(c, GEMMUX_CHECK_Y_FORMAT, y, p->y.id, NULL))
            return;
    if (!named)
        fail(c, GEMMUX_CHECK_COMBINATION, 0, 0, NULL);
}

static bool check_form(const select_context *s, candidate *c, const gemmux_form *f)
{
    const gemmux_problem *p = s->problem;
    if (f->x_scaling && !(f->x_scaling & GEMMUX_BIT(p->x.scaling)) &&
        fail(c, GEMMUX_CHECK_X_SCALING, f->x_scaling, p->x.scaling, NULL))
        return false;
    if (f->w_scaling && !(f->w_scaling & GEMMUX_BIT(p->w.scaling)) &&
        fail(c, GEMMUX_CHECK_W_SCALING, f->w_scaling, p->w.scaling, NULL))
        return false;
    if (f->w_scale && !(f->w_scale & GEMMUX_BIT(p->w.scale)) &&
        fail(c, GEMMUX_CHECK_W_SCALE, f->w_scale, p->w.scale, NULL))
        return false;
    if (f->w_zero && !(f->w_zero & GEMMUX_BIT(p->w.zero)) &&
        fail(c, GEMMUX_CHECK_W_ZERO, f->w_zero, p->w.zero, NULL))
        return false;
    if (f->x_group_multiple && group_of(p->x) % f->x_group_multiple &&
        fail(c, GEMMUX_CHECK_X_GROUP, f->x_group_multiple, group_of(p->x), NULL))
        return false;
    if (f->w_group_multiple && group_of(p->w) % f->w_group_multiple &&
        fail(c, GEMMUX_CHECK_W_GROUP, f->w_group_multiple, group_of(p->w), NULL))
        return false;
    uint32_t liberties = f->liberties & ~p->liberties;
    if (liberties && fail(c, GEMMUX_CHECK_LIBERTY, liberties, p->liberties, NULL))
        return false;
    return true;
}

static bool check_shape(const select_context *s, candidate *c)
{
    const gemmux_kernel *k = c->kernel;
    const gemmux_problem *p = s->problem;
    if (k->m_min > s->work.rows && fail(c, GEMMUX_CHECK_M_MIN, k->m_min, s->work.rows, NULL))
        return false;
    if (k->m_max && s->work.rows > k->m_max &&
        fail(c, GEMMUX_CHECK_M_MAX, k->m_max, s->work.rows, NULL))
        return false;
    if (k->m_multiple && s->work.rows % k->m_multiple &&
        fail(c, GEMMUX_CHECK_M_MULTIPLE, k->m_multiple, s->work.rows, NULL))
        return false;
    if (k->n_multiple && p->n % k->n_multiple &&
        fail(c, GEMMUX_CHECK_N_MULTIPLE, k->n_multiple, p->n, NULL))
        return false;
    if (k->k_multiple && p->k % k->k_multiple &&
        fail(c, GEMMUX_CHECK_K_MULTIPLE, k->k_multiple, p->k, NULL))
        return false;
    if (k->align > s->align && fail(c, GEMMUX_CHECK_ALIGNMENT, k->align, s->align, NULL))
        return false;
    return true;
}

static bool check_packing(const select_context *s, candidate *c)
{
    const gemmux_packing *packing = c->kernel->packing;
    const char *packed = s->policy->packing;
    if (packed && strcmp(packed, packing->name) != 0 && fail(c, GEMMUX_CHECK_PACKING, 0, 0, packed))
        return false;
    if (!packing->accepts(s->problem->w) &&
        fail(c, GEMMUX_CHECK_PACKING_FORMAT, 0, s->problem->w.id, NULL))
        return false;
    return true;
}

/* ---- price ---- */

/* The records are sorted by kernel name. */
static int records_of(const gemmux_machine *machine, const char *name, const gemmux_record **first)
{
    int low = 0, high = machine->record_count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (strcmp(machine->records[middle].kernel, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    int end = low;
    while (end < machine->record_count && strcmp(machine->records[end].kernel, name) == 0)
        end++;
    *first = machine->records ? machine->records + low : NULL;
    return end - low;
}

/* The floor on a device of another kind: operands cross a PCIe 4 x16 link (about 25 GB/s attained)
 * and the host multiplies at what ref_any reaches on four cores (about 4 GFLOP/s). */
static const double host_link = 25e9, host_rate = 4e9;

/* Microseconds of the work itself, before starting it: the roofline with the shares of the form, or
 * of what the kernel would run of it. */
static double estimate_us(const select_context *s, const candidate *c, const gemmux_form *f,
                          const gemmux_config *config, double bytes, gemmux_bound *bound)
{
    const gemmux_machine *m = s->machine;
    double memory_us, compute_us;
    if (c->kernel->device != m->kind) {
        memory_us = s->work.activity_bytes / host_link * 1e6;
        compute_us = s->work.operations / host_rate * 1e6;
    } else {
        double peak = m->peak[f->math] > 0 ? m->peak[f->math] : m->peak[GEMMUX_MATH_F32];
        double bandwidth = m->bandwidth > 0 ? m->bandwidth : 10e9;
        float of_read = config->share_bandwidth > 0 ? config->share_bandwidth : f->share_bandwidth;
        float of_peak = config->share_compute > 0 ? config->share_compute : f->share_compute;
        memory_us = bytes / (bandwidth * of_read) * 1e6;
        double limit = c->kernel->times_f32 * m->peak[GEMMUX_MATH_F32];
        peak = limit > 0 && limit < peak ? limit : peak;
        compute_us = s->work.operations / ((peak > 0 ? peak : 10e9) * of_peak) * 1e6;
    }
    *bound = memory_us > compute_us ? GEMMUX_BOUND_MEMORY : GEMMUX_BOUND_COMPUTE;
    return memory_us > compute_us ? memory_us : compute_us;
}

static double measured_us(const select_context *s, const candidate *c, double bytes)
{
    if (!s->machine->share_count || c->kernel->device != s->machine->kind)
        return 0;
    gemmux_share point = gemmux_share_point(c->kernel, c->decision.form, s->problem, &s->work);
    return gemmux_shares_predict(s->machine, &point, bytes, s->work.operations);
}

static void price(const select_context *s, candidate *c, const gemmux_form *f,
                  const gemmux_config *config)
{
    const gemmux_machine *m = s->machine;
    gemmux_decision *d = &c->decision;
    gemmux_bound bound;
    double launch_us = m->launch_us + c->kernel->overhead_us;
    double bytes = gemmux_call_bytes(s->problem, &s->work, d->weight_bytes);
    double work_us = estimate_us(s, c, f, config, bytes, &bound);
    if (config->predicted_us > 0)
        work_us = config->predicted_us;
    double us = work_us + launch_us, measured = measured_us(s, c, bytes);
    if (measured > 0) {
        us = measured > launch_us ? measured : launch_us;
        work_us = us - launch_us;
        d->measured = true;
    }
    d->bound = (uint8_t)(launch_us > work_us ? GEMMUX_BOUND_LAUNCH : bound);
    /* A matmul's w may change with every call, so a packing is paid for each time: read the
     * stored bytes, write the packed ones, at about half the read bandwidth. */
    if (s->problem->op == GEMMUX_MATMUL && c->kernel->packing != &gemmux_packing_plain &&
        m->bandwidth > 0)
        us += 4.0 * (double)d->weight_bytes / m->bandwidth * 1e6;
    d->predicted_us = us;
}

static bool decide(const select_context *s, candidate *c, const gemmux_form *f)
{
    const gemmux_kernel *k = c->kernel;
    gemmux_decision *d = &c->decision;
    gemmux_config config = {0};
    if (k->configure) {
        const char *why = k->configure(s->problem, s->machine, f, &config);
        if (why && fail(c, GEMMUX_CHECK_CONFIGURE, 0, 0, why))
            return false;
    }
    d->kernel = k;
    d->packing = k->packing->name;
    d->path = f->path;
    d->liberties = f->liberties;
    d->lossless = !(f->liberties & ~GEMMUX_LIBERTIES_LOSSLESS);
    d->weight_bytes = weight_bytes(s->problem, k->packing);
    d->workspace_bytes = config.workspace_bytes;
    d->tile = config.tile;
    d->smem_bytes = config.smem_bytes;
    d->wanted_smem_bytes = config.wanted_smem_bytes;
    if (k->device == GEMMUX_CPU)
        d->workspace_bytes += run_workspace(s->problem);
    price(s, c, f, &config);
    int64_t need = d->weight_bytes + d->workspace_bytes;
    if (s->machine->memory_bytes && k->device == s->machine->kind &&
        need > s->machine->memory_bytes &&
        fail(c, GEMMUX_CHECK_DEVICE_MEMORY, need, s->machine->memory_bytes, NULL))
        return false;
    return true;
}

/* ---- stages library and flags ---- */

static bool check_library(const select_context *s, candidate *c)
{
    const gemmux_kernel *k = c->kernel;
    const gemmux_library *library = &s->machine->library[k->library];
    if (k->library != GEMMUX_LIB_NONE) {
        if (!library->present) {
            if (fail(c, GEMMUX_CHECK_LIBRARY_ABSENT, k->library, 0, NULL))
                return false;
        } else if (library->version < k->library_min) {
            if (fail(c, GEMMUX_CHECK_LIBRARY_OLD, k->library_min, library->version, NULL))
                return false;
        } else if (library->arch_set == 1) {
            if (fail(c, GEMMUX_CHECK_LIBRARY_CODE, k->library, 0, NULL))
                return false;
        }
    }
    const gemmux_record *records;
    int count = records_of(s->machine, k->name, &records);
    for (int i = 0; i < count; i++)
        if (records[i].kind == GEMMUX_RECORD_REFUSED &&
            fail(c, GEMMUX_CHECK_REFUSED, 0, 0, records[i].evidence))
            return false;
    if (!k->run && !s->machine->described && fail(c, GEMMUX_CHECK_NOT_BUILT, 0, 0, NULL))
        return false;
    return true;
}

static bool check_records(const select_context *s, candidate *c)
{
    const gemmux_record *records;
    int count = records_of(s->machine, c->kernel->name, &records);
    bool proved = false;
    for (int i = 0; i < count; i++) {
        if (records[i].kind == GEMMUX_RECORD_QUARANTINED &&
            fail(c, GEMMUX_CHECK_QUARANTINED, 0, 0, records[i].evidence))
            return false;
        proved |= records[i].kind == GEMMUX_RECORD_PROVED;
    }
    if (s->policy->proved_only && !proved && fail(c, GEMMUX_CHECK_NOT_PROVED, 0, 0, NULL))
        return false;
    bool open =
        s->machine->described || proved || gemmux_glob_list(s->policy->only, c->kernel->name);
    const char *unproven = gemmux_kernel_unproven(s->machine, c->kernel);
    return open || !unproven || !fail(c, GEMMUX_CHECK_UNPROVEN, 0, 0, unproven);
}

static bool check_flags(const select_context *s, candidate *c, bool priced)
{
    const gemmux_policy *policy = s->policy;
    if (gemmux_glob_list(policy->deny, c->kernel->name) && fail(c, GEMMUX_CHECK_DENIED, 0, 0, NULL))
        return false;
    if (policy->only && *policy->only && !gemmux_glob_list(policy->only, c->kernel->name) &&
        fail(c, GEMMUX_CHECK_NOT_FORCED, 0, 0, NULL))
        return false;
    if (priced && policy->deterministic && c->decision.liberties & GEMMUX_LIBERTY_UNORDERED &&
        fail(c, GEMMUX_CHECK_UNORDERED, 0, 0, NULL))
        return false;
    int64_t bytes = c->decision.weight_bytes + c->decision.workspace_bytes;
    if (priced && policy->max_memory_bytes && bytes > policy->max_memory_bytes &&
        fail(c, GEMMUX_CHECK_MEMORY_BUDGET, bytes, policy->max_memory_bytes, NULL))
        return false;
    return check_records(s, c);
}

/* ---- the whole of one candidate ---- */

static void judge(const select_context *s, candidate *c)
{
    c->capable = true;
    if (!check_op(s, c) || !check_device(s, c))
        return;
    const gemmux_form *form = find_form(s, c);
    if (!form) {
        fail_formats(s, c);
        if (!c->trace)
            return;
    } else if (!check_form(s, c, form)) {
        return;
    }
    if (!check_shape(s, c) || !check_packing(s, c))
        return;
    /* A price, and configure's verdict, mean something only for a kernel whose formats fit. */
    bool priced = form && c->capable;
    if (priced && !decide(s, c, form))
        return;
    if (!check_library(s, c))
        return;
    check_flags(s, c, priced);
}

static int64_t natural_alignment(const gemmux_problem *p)
{
    int64_t align = p->align ? p->align : 64;
    int64_t y_cols = p->epilogue & GEMMUX_EPILOGUE_SWIGLU ? p->n / 2 : p->n;
    int64_t x_row = gemmux_row_bytes(p->x, p->k), y_row = gemmux_row_bytes(p->y, y_cols);
    while (align > 1 && (x_row % align || y_row % align))
        align /= 2;
    return align;
}

static void describe(select_context *s)
{
    const gemmux_problem *p = s->problem;
    s->work = gemmux_work_of(p);
    s->align = natural_alignment(p);
}

/* The slowdown budget compares with every capable kernel, so it comes after all were judged. */
static void apply_slowdown(gemmux_trace *trace, const gemmux_policy *policy, double best_us,
                           candidate *last, gemmux_verdict *verdict)
{
    double slowdown = verdict->decision.predicted_us / best_us;
    if (policy->max_slowdown <= 0 || verdict->kind == GEMMUX_REJECTED ||
        slowdown <= policy->max_slowdown)
        return;
    verdict->kind = GEMMUX_REJECTED;
    *last = (candidate){.kernel = verdict->kernel, .trace = trace};
    last->decision.form = verdict->decision.form;
    verdict->reason_first = (uint16_t)trace->reason_count;
    fail(last, GEMMUX_CHECK_SLOWDOWN, (int64_t)(policy->max_slowdown * 100.0),
         (int64_t)(slowdown * 100.0), NULL);
    verdict->reason_count = (uint8_t)(trace->reason_count - verdict->reason_first);
}

/* Without a trace the slowdown budget takes a first pass that only finds the best price. */
static double best_capable(const select_context *s, const struct gemmux_kernel_table *table)
{
    select_context open = *s;
    gemmux_policy none = {.packing = s->policy->packing};
    gemmux_machine machine = *s->machine;
    machine.described = true; /* what the device could run, built here or not */
    for (int i = 0; i < GEMMUX_LIB_COUNT; i++)
        machine.library[i] = (gemmux_library){.present = true, .version = INT32_MAX};
    machine.record_count = 0; /* but shares stay: a budget compares like with like */
    open.policy = &none;
    open.machine = &machine;
    double best = 0;
    for (int i = 0; i < table->count; i++) {
        candidate c = {.kernel = table->kernels[i]};
        judge(&open, &c);
        if (!c.failures && (best == 0 || c.decision.predicted_us < best))
            best = c.decision.predicted_us;
    }
    return best;
}

static void note_verdict(gemmux_trace *trace, const candidate *c, int reason_first)
{
    gemmux_verdict *verdict = &trace->verdicts[trace->verdict_count++];
    verdict->kernel = c->kernel;
    verdict->kind = c->failures ? GEMMUX_REJECTED : GEMMUX_ELIGIBLE;
    verdict->reason_first = (uint16_t)reason_first;
    verdict->reason_count = (uint8_t)(trace->reason_count - reason_first);
    verdict->decision = c->decision;
    verdict->decision.kernel = c->kernel;
}

static gemmux_status none_fits(const gemmux_problem *problem, const gemmux_machine *machine,
                               int count, gemmux_error *error)
{
    char text[128];
    return gemmux_fail(error, GEMMUX_ERROR_NO_KERNEL,
                       "no kernel for %s on %s under this policy: all %d candidates are rejected",
                       gemmux_problem_text(problem, text, sizeof text), machine->name, count);
}

gemmux_status gemmux_select(const gemmux_problem *problem, const gemmux_machine *machine,
                            const gemmux_policy *policy, gemmux_decision *decision,
                            gemmux_trace *trace, gemmux_error *error)
{
    static const gemmux_policy no_wishes = {0};
    memset(decision, 0, sizeof *decision);
    if (trace)
        trace->verdict_count = trace->reason_count = 0;
    gemmux_status status = gemmux_problem_check(problem, error);
    if (status)
        return status;
    const struct gemmux_kernel_table *table =
        machine->kernels ? machine->kernels : &gemmux_builtin_kernels;
    if (table->count > GEMMUX_MAX_KERNELS)
        return gemmux_fail(error, GEMMUX_ERROR_INTERNAL, "select: %d kernels, at most %d",
                           table->count, GEMMUX_MAX_KERNELS);

    select_context s = {.problem = problem, .machine = machine};
    s.policy = policy ? policy : &no_wishes;
    describe(&s);
    double best_us = s.policy->max_slowdown > 0 ? best_capable(&s, table) : 0;
    int chosen = -1;
    for (int i = 0; i < table->count; i++) {
        candidate c = {.kernel = table->kernels[i], .trace = trace};
        int reason_first = trace ? trace->reason_count : 0;
        judge(&s, &c);
        bool slow = best_us > 0 && c.decision.predicted_us > best_us * s.policy->max_slowdown;
        if (trace) {
            note_verdict(trace, &c, reason_first);
            if (slow)
                apply_slowdown(trace, s.policy, best_us, &c,
                               &trace->verdicts[trace->verdict_count - 1]);
        }
        if (c.failures == 0 && !slow &&
            (chosen < 0 || c.decision.predicted_us < decision->predicted_us)) {
            chosen = i;
            *decision = c.decision;
        }
    }
    if (chosen < 0)
        return none_fits(problem, machine, table->count, error);
    if (trace)
        trace->verdicts[chosen].kind = GEMMUX_CHOSEN;
    return GEMMUX_OK;
}
