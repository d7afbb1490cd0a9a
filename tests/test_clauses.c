/* SPDX-License-Identifier: Apache-2.0
 *
 * Every clause of every contract: for each kernel a problem and a machine that it accepts are made
 * from its own descriptor; then one clause at a time is broken, and the verdict must name exactly
 * that clause. A kernel that drops a file into src/kernels/ is tested without a line here.
 */
#include "testing.h"

#include "select.h"

typedef struct scene {
    gemmux_problem problem;
    gemmux_machine machine;
    gemmux_policy policy;
    const gemmux_kernel *kernel;
    const gemmux_form *form;
    struct gemmux_kernel_table table; /* the one kernel */
    const gemmux_kernel *rows[1];
} scene;

/* All variants of a format id that a problem could hold. */
static const char *const variants[] = {
    "f32",           "f16",
    "bf16",          "e4m3",
    "e4m3:row",      "e4m3:block128",
    "e4m3:g128",     "e5m2",
    "e5m2:row",      "e5m2:block128",
    "mxfp8",         "mxfp8:e5m2",
    "mxfp4",         "nvfp4",
    "int8",          "int8:tensor",
    "int8:g32",      "int8:g128",
    "int4:g32",      "int4",
    "int4:row",      "int4:g32:f32",
    "int4:g32:bf16", "int4:g32:zero",
    "int4:g32:min",  "int4:g128:zero",
    "nf4",
};
enum { VARIANTS = sizeof variants / sizeof variants[0] };

static bool fits_x(const gemmux_form *f, gemmux_format x)
{
    return f->x & GEMMUX_BIT(x.id) && x.scaling != GEMMUX_SCALING_BLOCK &&
           (!f->x_scaling || f->x_scaling & GEMMUX_BIT(x.scaling)) &&
           (!f->x_group_multiple || x.group % f->x_group_multiple == 0);
}

static bool fits_w(const gemmux_form *f, const gemmux_packing *packing, gemmux_format w)
{
    return f->w & GEMMUX_BIT(w.id) && packing->accepts(w) &&
           (!f->w_scaling || f->w_scaling & GEMMUX_BIT(w.scaling)) &&
           (!f->w_scale || f->w_scale & GEMMUX_BIT(w.scale)) &&
           (!f->w_zero || f->w_zero & GEMMUX_BIT(w.zero)) &&
           (!f->w_group_multiple || w.group % f->w_group_multiple == 0);
}

static gemmux_format pick(const gemmux_form *f, const gemmux_packing *packing, bool x)
{
    for (int i = 0; i < VARIANTS; i++) {
        gemmux_format format = testing_format(variants[i]);
        if (x ? fits_x(f, format) : fits_w(f, packing, format))
            return format;
    }
    return (gemmux_format){0};
}

static int64_t first_bit(uint32_t set)
{
    return set ? __builtin_ctz(set) : 0;
}

/* A problem and a machine that satisfy every clause of this row of the kernel. */
static void make_scene(scene *s, const gemmux_kernel *kernel, const gemmux_form *form)
{
    memset(s, 0, sizeof *s);
    s->kernel = kernel;
    s->form = form;
    gemmux_machine *m = &s->machine;
    snprintf(m->name, sizeof m->name, "made for %.40s", kernel->name);
    m->kind = kernel->device;
    m->described = true;
    m->isa = gemmux_isa_closure(~UINT32_C(0));
    m->cores = 4;
    m->cc = kernel->cc_min;
    m->smem_bytes = INT32_MAX;
    m->l1_bytes = 32 << 10;
    m->l2_bytes = 1 << 20;
    m->l3_bytes = 32 << 20;
    m->memory_bytes = INT64_C(1) << 40;
    m->bandwidth = 1e12;
    for (int i = 0; i < GEMMUX_MATH_COUNT; i++)
        m->peak[i] = 1e15;
    for (int i = 1; i < GEMMUX_LIB_COUNT; i++)
        m->library[i] = (gemmux_library){.present = true, .version = INT32_MAX};
    s->rows[0] = kernel;
    s->table = (struct gemmux_kernel_table){s->rows, 1};
    m->kernels = &s->table;

    gemmux_problem *p = &s->problem;
    p->op =
        (uint8_t)(kernel->ops & GEMMUX_BIT(GEMMUX_LINEAR) ? GEMMUX_LINEAR : first_bit(kernel->ops));
    p->m = kernel->m_min > 16                    ? kernel->m_min
           : kernel->m_max && kernel->m_max < 16 ? kernel->m_max
                                                 : 16;
    if (kernel->m_multiple)
        p->m = (p->m + kernel->m_multiple - 1) / kernel->m_multiple * kernel->m_multiple;
    p->n = 1024 * (kernel->n_multiple ? kernel->n_multiple : 1);
    p->k = 1024 * (kernel->k_multiple ? kernel->k_multiple : 1);
    if (p->op == GEMMUX_MOE) {
        p->experts = 8;
        p->top_k = 1;
    }
    p->liberties = (1u << GEMMUX_LIBERTY_BITS) - 1u;
    p->x = pick(form, kernel->packing, true);
    p->w = pick(form, kernel->packing, false);
    p->y = gemmux_format_of((gemmux_format_id)first_bit(form->y));
}

static gemmux_trace trace;

static int run_scene(const scene *s)
{
    gemmux_decision d;
    gemmux_error error = {GEMMUX_OK, ""};
    gemmux_status status = gemmux_select(&s->problem, &s->machine, &s->policy, &d, &trace, &error);
    if (status && status != GEMMUX_ERROR_NO_KERNEL)
        fail_msg("%s: %s", s->kernel->name, error.text);
    return status == GEMMUX_OK;
}

static void expect_accepted(const scene *s)
{
    if (run_scene(s))
        return;
    char text[600];
    gemmux_reason_text(&trace.reasons[0], s->kernel, &s->problem, &s->machine, text, sizeof text);
    fail_msg("the scene made for %s is refused: %s", s->kernel->name, text);
}

static int broken_clauses[GEMMUX_CHECK_COUNT];

/* The verdict names `check`; `also` may fail beside it as a consequence, nothing else may. */
static void expect_broken(const scene *s, gemmux_check check, gemmux_check also)
{
    if (run_scene(s))
        fail_msg("%s accepts a problem that breaks %d", s->kernel->name, check);
    bool named = false;
    for (int i = 0; i < trace.reason_count; i++) {
        const gemmux_reason *r = &trace.reasons[i];
        char text[600];
        gemmux_reason_text(r, s->kernel, &s->problem, &s->machine, text, sizeof text);
        named |= r->check == check;
        if (r->check != check && r->check != also)
            fail_msg("breaking clause %d of %s also names '%s': %s", check, s->kernel->name,
                     gemmux_reason_code(r), text);
    }
    if (!named)
        fail_msg("breaking clause %d of %s is not named", check, s->kernel->name);
    broken_clauses[check]++;
}

static void break_device(const scene *good)
{
    const gemmux_kernel *k = good->kernel;
    scene s = *good;
    if (!k->floor) {
        s.machine.kind = k->device == GEMMUX_CPU ? GEMMUX_CUDA : GEMMUX_CPU;
        expect_broken(&s, GEMMUX_CHECK_DEVICE_KIND, GEMMUX_CHECK_DEVICE_KIND);
    }
    for (int bit = 0; k->device == GEMMUX_CPU && bit < 32; bit++)
        if (k->isa >> bit & 1u) {
            s = *good;
            s.machine.isa &= ~(UINT32_C(1) << bit);
            expect_broken(&s, GEMMUX_CHECK_ISA, GEMMUX_CHECK_ISA);
        }
    if (k->device == GEMMUX_CUDA && k->cc_min) {
        s = *good;
        s.machine.cc = k->cc_min - 1;
        expect_broken(&s,
                      k->arch_rule == GEMMUX_ARCH_EXACT    ? GEMMUX_CHECK_ARCH_EXACT
                      : k->arch_rule == GEMMUX_ARCH_FAMILY ? GEMMUX_CHECK_ARCH_FAMILY
                                                           : GEMMUX_CHECK_ARCH_OLD,
                      GEMMUX_CHECK_CONFIGURE);
        if (k->arch_rule == GEMMUX_ARCH_EXACT) {
            s.machine.cc = k->cc_min + 1;
            expect_broken(&s, GEMMUX_CHECK_ARCH_EXACT, GEMMUX_CHECK_CONFIGURE);
        }
        if (k->arch_rule == GEMMUX_ARCH_FAMILY) {
            s.machine.cc = (k->cc_min / 10 + 1) * 10;
            expect_broken(&s, GEMMUX_CHECK_ARCH_FAMILY, GEMMUX_CHECK_CONFIGURE);
        }
        if (k->cc_max) {
            s.machine.cc = k->cc_max + 1;
            expect_broken(&s, GEMMUX_CHECK_ARCH_NEW, GEMMUX_CHECK_CONFIGURE);
        }
    }
    if (k->smem_bytes) {
        s = *good;
        s.machine.smem_bytes = k->smem_bytes - 1;
        expect_broken(&s, GEMMUX_CHECK_SHARED_MEMORY, GEMMUX_CHECK_CONFIGURE);
    }
    if (!k->floor) {
        s = *good;
        s.machine.memory_bytes = 1;
        expect_broken(&s, GEMMUX_CHECK_DEVICE_MEMORY, GEMMUX_CHECK_DEVICE_MEMORY);
    }
}

static void break_op(const scene *good)
{
    const gemmux_kernel *k = good->kernel;
    for (int op = 1; op < GEMMUX_OP_COUNT; op++) {
        scene s = *good;
        if (k->ops & GEMMUX_BIT(op))
            continue;
        s.problem.op = (uint8_t)op;
        s.problem.experts = s.problem.top_k = op == GEMMUX_MOE;
        expect_broken(&s, GEMMUX_CHECK_OP, GEMMUX_CHECK_CONFIGURE);
    }
    for (unsigned bit = 1; bit <= GEMMUX_EPILOGUE_SCATTER; bit *= 2) {
        scene s = *good;
        bool moe_only = bit >= GEMMUX_EPILOGUE_GATHER;
        if (k->epilogue & bit || s.problem.op == GEMMUX_MATMUL)
            continue;
        if (moe_only && !(k->ops & GEMMUX_BIT(GEMMUX_MOE)))
            continue;
        if (moe_only) {
            s.problem.op = GEMMUX_MOE;
            s.problem.experts = s.problem.top_k = 1;
        }
        s.problem.epilogue = (uint8_t)bit;
        expect_broken(&s, GEMMUX_CHECK_EPILOGUE, GEMMUX_CHECK_CONFIGURE);
    }
}

static bool joins_any(const gemmux_kernel *k, const gemmux_problem *p)
{
    for (int i = 0; i < k->form_count; i++)
        if (k->forms[i].x & GEMMUX_BIT(p->x.id) && k->forms[i].w & GEMMUX_BIT(p->w.id) &&
            k->forms[i].y & GEMMUX_BIT(p->y.id))
            return true;
    return false;
}

/* The union over rows: a format outside it is named by itself, one inside by the combination. */
static uint32_t all_of(const gemmux_kernel *k, int operand)
{
    uint32_t set = 0;
    for (int i = 0; i < k->form_count; i++)
        set |= operand == 0 ? k->forms[i].x : operand == 1 ? k->forms[i].w : k->forms[i].y;
    return set;
}

static void break_formats(const scene *good)
{
    const gemmux_kernel *k = good->kernel;
    static const gemmux_check named[] = {GEMMUX_CHECK_X_FORMAT, GEMMUX_CHECK_W_FORMAT,
                                         GEMMUX_CHECK_Y_FORMAT};
    for (int operand = 0; operand < 3; operand++)
        for (int id = 1; id < GEMMUX_FORMAT_COUNT; id++) {
            scene s = *good;
            gemmux_format other = gemmux_format_of((gemmux_format_id)id);
            if (operand == 2 && id > GEMMUX_BF16)
                continue;
            *(operand == 0 ? &s.problem.x : operand == 1 ? &s.problem.w : &s.problem.y) = other;
            if (joins_any(k, &s.problem))
                continue;
            bool inside = all_of(k, operand) & GEMMUX_BIT(id);
            expect_broken(&s, inside ? GEMMUX_CHECK_COMBINATION : named[operand],
                          operand == 1 ? GEMMUX_CHECK_PACKING_FORMAT : named[operand]);
        }
}

/* Scalings, scale types and zero points of one row, when no other row takes the variant. */
static void break_scales(const scene *good)
{
    const gemmux_kernel *k = good->kernel;
    const gemmux_form *f = good->form;
    if (k->form_count != 1)
        return; /* another row may catch it: the rows of such kernels are tested by their formats */
    for (int i = 0; i < VARIANTS; i++) {
        scene s = *good;
        gemmux_format v = testing_format(variants[i]);
        if (!(f->w & GEMMUX_BIT(v.id)) || fits_w(f, k->packing, v))
            continue;
        s.problem.w = v;
        int broken = 0;
        gemmux_check check = GEMMUX_CHECK_PACKING_FORMAT;
        if (f->w_scaling && !(f->w_scaling & GEMMUX_BIT(v.scaling)) && ++broken)
            check = GEMMUX_CHECK_W_SCALING;
        if (f->w_scale && !(f->w_scale & GEMMUX_BIT(v.scale)) && ++broken)
            check = GEMMUX_CHECK_W_SCALE;
        if (f->w_zero && !(f->w_zero & GEMMUX_BIT(v.zero)) && ++broken)
            check = GEMMUX_CHECK_W_ZERO;
        if (f->w_group_multiple && v.group % f->w_group_multiple && ++broken)
            check = GEMMUX_CHECK_W_GROUP;
        if (broken <= 1)
            expect_broken(&s, check, GEMMUX_CHECK_PACKING_FORMAT);
    }
}

static void break_shape(const scene *good)
{
    const gemmux_kernel *k = good->kernel;
    const struct {
        bool set;
        gemmux_check check;
        int64_t m, n, k;
    } cases[] = {
        {k->m_min > 1, GEMMUX_CHECK_M_MIN, k->m_min - 1, 0, 0},
        {k->m_max > 0, GEMMUX_CHECK_M_MAX, k->m_max + 1, 0, 0},
        {k->m_multiple > 1, GEMMUX_CHECK_M_MULTIPLE, good->problem.m + 1, 0, 0},
        {k->n_multiple > 1, GEMMUX_CHECK_N_MULTIPLE, 0, good->problem.n + 1, 0},
        {k->k_multiple > 1, GEMMUX_CHECK_K_MULTIPLE, 0, 0, good->problem.k + 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        scene s = *good;
        if (!cases[i].set)
            continue;
        s.problem.m = cases[i].m ? cases[i].m : s.problem.m;
        s.problem.n = cases[i].n ? cases[i].n : s.problem.n;
        s.problem.k = cases[i].k ? cases[i].k : s.problem.k;
        /* An odd row is an unaligned one as well. */
        expect_broken(&s, cases[i].check, GEMMUX_CHECK_ALIGNMENT);
    }
    if (k->align > 1) {
        scene s = *good;
        s.problem.align = (uint16_t)(k->align / 2);
        expect_broken(&s, GEMMUX_CHECK_ALIGNMENT, GEMMUX_CHECK_ALIGNMENT);
    }
    scene s = *good;
    s.policy.packing = "no such packing";
    expect_broken(&s, GEMMUX_CHECK_PACKING, GEMMUX_CHECK_PACKING);
}

static void break_liberties(const scene *good)
{
    const gemmux_kernel *k = good->kernel;
    uint32_t always = ~UINT32_C(0); /* taken by every row that joins these formats */
    for (int i = 0; i < k->form_count; i++)
        if (k->forms[i].x & GEMMUX_BIT(good->problem.x.id) &&
            k->forms[i].w & GEMMUX_BIT(good->problem.w.id) &&
            k->forms[i].y & GEMMUX_BIT(good->problem.y.id))
            always &= k->forms[i].liberties;
    for (uint32_t bit = 1; bit < 1u << GEMMUX_LIBERTY_BITS; bit *= 2)
        if (always & bit) {
            scene s = *good;
            s.problem.liberties &= ~bit;
            expect_broken(&s, GEMMUX_CHECK_LIBERTY, GEMMUX_CHECK_LIBERTY);
        }
    if (always & GEMMUX_LIBERTY_UNORDERED) {
        scene s = *good;
        s.policy.deterministic = true;
        expect_broken(&s, GEMMUX_CHECK_UNORDERED, GEMMUX_CHECK_UNORDERED);
    }
}

static void break_library(const scene *good)
{
    const gemmux_kernel *k = good->kernel;
    scene s = *good;
    if (k->library) {
        s.machine.library[k->library].present = false;
        expect_broken(&s, GEMMUX_CHECK_LIBRARY_ABSENT, GEMMUX_CHECK_LIBRARY_ABSENT);
        s = *good;
        s.machine.library[k->library].arch_set = 1;
        expect_broken(&s, GEMMUX_CHECK_LIBRARY_CODE, GEMMUX_CHECK_LIBRARY_CODE);
    }
    if (k->library_min) {
        s = *good;
        s.machine.library[k->library].version = k->library_min - 1;
        expect_broken(&s, GEMMUX_CHECK_LIBRARY_OLD, GEMMUX_CHECK_LIBRARY_OLD);
    }
    gemmux_kernel unbuilt = *k;
    unbuilt.run = NULL;
    unbuilt.unproven = NULL;
    s = *good;
    s.rows[0] = s.kernel = &unbuilt;
    s.table.kernels = s.rows;
    s.machine.kernels = &s.table;
    s.machine.described = false;
    expect_broken(&s, GEMMUX_CHECK_NOT_BUILT, GEMMUX_CHECK_NOT_BUILT);
}

static gemmux_status run_nothing(const gemmux_call *call, gemmux_error *error)
{
    (void)call, (void)error;
    return GEMMUX_OK;
}

/* Code that no device has run: described machines may plan with it, a present one takes it by name
 * or with a certificate. */
static void break_unproven(const scene *good)
{
    gemmux_kernel young = *good->kernel;
    gemmux_record record = {.kind = GEMMUX_RECORD_PROVED};
    char text[600];
    young.run = run_nothing;
    young.unproven = "compiled only";
    snprintf(record.kernel, sizeof record.kernel, "%s", young.name);
    scene s = *good;
    s.rows[0] = s.kernel = &young;
    s.table.kernels = s.rows;
    s.machine.kernels = &s.table;
    expect_accepted(&s);
    s.machine.described = false;
    expect_broken(&s, GEMMUX_CHECK_UNPROVEN, GEMMUX_CHECK_UNPROVEN);
    gemmux_reason_text(&trace.reasons[0], s.kernel, &s.problem, &s.machine, text, sizeof text);
    assert_non_null(strstr(text, "compiled only"));
    young.proved_cc = s.machine.cc + 1;
    expect_broken(&s, GEMMUX_CHECK_UNPROVEN, GEMMUX_CHECK_UNPROVEN);
    young.proved_cc = s.machine.cc;
    if (s.machine.kind == GEMMUX_CUDA && young.device == GEMMUX_CUDA)
        expect_accepted(&s);
    young.proved_cc = 0;
    s.policy.only = young.name;
    expect_accepted(&s);
    s.policy.only = NULL;
    s.machine.records = &record;
    s.machine.record_count = 1;
    expect_accepted(&s);
}

static void break_flags(const scene *good)
{
    scene s = *good;
    s.policy.deny = "x,*,y";
    expect_broken(&s, GEMMUX_CHECK_DENIED, GEMMUX_CHECK_DENIED);
    s = *good;
    s.policy.only = "another";
    expect_broken(&s, GEMMUX_CHECK_NOT_FORCED, GEMMUX_CHECK_NOT_FORCED);
    s = *good;
    s.policy.max_memory_bytes = 1;
    expect_broken(&s, GEMMUX_CHECK_MEMORY_BUDGET, GEMMUX_CHECK_MEMORY_BUDGET);
    s = *good;
    s.policy.proved_only = true;
    expect_broken(&s, GEMMUX_CHECK_NOT_PROVED, GEMMUX_CHECK_NOT_PROVED);
    gemmux_record record = {.kind = GEMMUX_RECORD_QUARANTINED, .evidence = "y[3,5] is 0"};
    snprintf(record.kernel, sizeof record.kernel, "%s", good->kernel->name);
    s = *good;
    s.machine.records = &record;
    s.machine.record_count = 1;
    expect_broken(&s, GEMMUX_CHECK_QUARANTINED, GEMMUX_CHECK_QUARANTINED);
    char text[600];
    gemmux_reason_text(&trace.reasons[0], s.kernel, &s.problem, &s.machine, text, sizeof text);
    assert_non_null(strstr(text, "y[3,5] is 0"));
    record.kind = GEMMUX_RECORD_REFUSED;
    expect_broken(&s, GEMMUX_CHECK_REFUSED, GEMMUX_CHECK_REFUSED);
    record.kind = GEMMUX_RECORD_PROVED;
    s.policy.proved_only = true;
    expect_accepted(&s);
}

static void each_clause_is_named_when_it_breaks(void **state)
{
    (void)state;
    for (int i = 0; i < gemmux_builtin_kernels.count; i++) {
        const gemmux_kernel *k = gemmux_builtin_kernels.kernels[i];
        for (int row = 0; row < k->form_count; row++) {
            scene s;
            make_scene(&s, k, &k->forms[row]);
            s.machine.kernels = &s.table;
            s.table.kernels = s.rows;
            expect_accepted(&s);
            break_op(&s);
            break_device(&s);
            break_formats(&s);
            break_scales(&s);
            break_shape(&s);
            break_liberties(&s);
            break_library(&s);
            break_flags(&s);
            break_unproven(&s);
        }
    }
}

/* A slower kernel under a slowdown budget needs a faster one beside it: the same descriptor twice,
 * once a hundred times slower. */
static void a_slowdown_budget_names_both_figures(void **state)
{
    (void)state;
    const gemmux_kernel *k = gemmux_builtin_kernels.kernels[0];
    gemmux_form slow_form = k->forms[0];
    gemmux_kernel slow = *k;
    const gemmux_kernel *rows[] = {&slow, k};
    struct gemmux_kernel_table both = {rows, 2};
    slow_form.share_compute /= 100;
    slow_form.share_bandwidth /= 100;
    slow.name = "slow";
    slow.forms = &slow_form;
    slow.form_count = 1;
    scene s;
    make_scene(&s, k, &k->forms[0]);
    s.problem.m = s.problem.n = s.problem.k = 4096;
    s.machine.kernels = &both;
    s.policy.max_slowdown = 3;
    s.policy.deny = k->name;
    gemmux_decision d;
    assert_int_equal(gemmux_select(&s.problem, &s.machine, &s.policy, &d, &trace, NULL),
                     GEMMUX_ERROR_NO_KERNEL);
    const gemmux_verdict *v = &trace.verdicts[0];
    assert_int_equal(v->reason_count, 1);
    char text[600];
    gemmux_reason_text(&trace.reasons[v->reason_first], &slow, &s.problem, &s.machine, text,
                       sizeof text);
    assert_string_equal(text, "slow would be 100.00 times slower than the best kernel for this "
                              "device; the caller's limit is 3.00");
    s.policy.max_slowdown = 200;
    assert_int_equal(gemmux_select(&s.problem, &s.machine, &s.policy, &d, &trace, NULL), GEMMUX_OK);
    assert_ptr_equal(d.kernel, &slow);
}

static void descriptors_make_sense(void **state)
{
    (void)state;
    assert_true(gemmux_builtin_kernels.count >= 1);
    assert_true(gemmux_builtin_kernels.count <= GEMMUX_MAX_KERNELS);
    bool floor = false;
    for (int i = 0; i < gemmux_builtin_kernels.count; i++) {
        const gemmux_kernel *k = gemmux_builtin_kernels.kernels[i];
        for (int j = 0; j < i; j++)
            assert_string_not_equal(k->name, gemmux_builtin_kernels.kernels[j]->name);
        assert_true(strlen(k->name) < sizeof((gemmux_record *)0)->kernel);
        assert_true(strlen(k->summary) > 10 && !strchr(k->summary, '\n'));
        assert_true(k->form_count >= 1 && k->packing && k->ops);
        assert_int_equal(k->isa, gemmux_isa_closure(k->isa));
        for (int f = 0; f < k->form_count; f++) {
            assert_true(k->forms[f].share_compute > 0 && k->forms[f].share_compute <= 1.0f);
            assert_true(k->forms[f].share_bandwidth > 0 && k->forms[f].share_bandwidth <= 1.0f);
            assert_true(k->forms[f].path >= GEMMUX_PATH_NATIVE);
            assert_true((k->forms[f].y & ~GEMMUX_FLOATS) == 0);
        }
        floor |= k->floor;
    }
    assert_true(floor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(descriptors_make_sense),
        cmocka_unit_test(each_clause_is_named_when_it_breaks),
        cmocka_unit_test(a_slowdown_budget_names_both_figures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
