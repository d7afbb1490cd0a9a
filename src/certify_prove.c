/* SPDX-License-Identifier: Apache-2.0 */
#include "certify_prove.h"

#include "certify_guard.h"
#include "error.h"
#include "format.h"
#include "packing.h"
#include "plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE__
#    include <xmmintrin.h>
#endif

/* Above this many multiplications the reference takes rows of y by sample. */
#define WHOLE_PRODUCTS 12e6
#define SAMPLED_ROWS   24
#define POISON         0xff /* a NaN in f32, f16 and bf16 */

/* One tensor in guarded memory. */
typedef struct placed {
    gemmux_tensor tensor;
    gemmux_guarded codes, scales, zeros, globals;
} placed;

/* One case on its way. */
typedef struct trial {
    const gemmux_case *c;
    gemmux_machine machine;
    uint64_t seed;
    gemmux_threads *threads;
    placed x, w;
    gemmux_guarded bias, ids, weights, order, y, workspace;
    gemmux_args args;
    int64_t y_rows, y_cols, y_row_bytes;
    gemmux_plan *plan;
    uint32_t liberties;
    double worst;
    bool ran;
    char wrong[160];   /* what the kernel did; "": nothing so far */
    char lacking[160]; /* what this process could not get; "": nothing */
    gemmux_error error;
} trial;

/* The kernel's own failure, which may come without words. */
static void blame(trial *t, gemmux_status status)
{
    snprintf(t->wrong, sizeof t->wrong, "%.150s",
             t->error.text[0] ? t->error.text : gemmux_status_name(status));
}

static uint64_t draw(uint64_t *seed)
{
    uint64_t z = (*seed += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static double uniform(uint64_t *seed)
{
    return (double)(draw(seed) >> 11) * 0x1p-53;
}

/* ---- numbers ---- */

/* The power of two by which LARGE and TINY move an operand: as far as its scales, or its elements
 * if it has none, can follow without leaving their own range. */
static int shift_of(gemmux_format format, uint8_t data)
{
    gemmux_code code = (gemmux_code)(format.scaling ? format.scale : format.element);
    bool wide = code == GEMMUX_CODE_F32 || code == GEMMUX_CODE_BF16 || code == GEMMUX_CODE_UE8M0 ||
                format.two_level;
    if (data == GEMMUX_DATA_LARGE) {
        return wide ? 30 : code == GEMMUX_CODE_F16 ? 7 : 2;
    }
    if (data == GEMMUX_DATA_TINY) {
        return wide ? -68 : code == GEMMUX_CODE_F16 ? -10 : -4;
    }
    return 0;
}

/* Steps between neighbouring blocks; integers have no exponent to follow with. */
static int exponent_at(gemmux_format format, int64_t matrix, int64_t row, int64_t col)
{
    int64_t block = format.group ? format.group : 16;
    bool integers = format.element == GEMMUX_CODE_INT8 || format.element == GEMMUX_CODE_INT4;
    int64_t steps = integers && !format.group ? 2 : 7;
    int64_t step = (row * 3 + col / block * 5 + matrix * 2) % steps;
    return (int)(step - steps / 2);
}

static void fill(trial *t, float *values, int64_t count, int64_t rows, int64_t cols,
                 gemmux_format format, bool is_x)
{
    uint8_t data = t->c->data;
    int shift = shift_of(format, data);
    for (int64_t i = 0; i < count * rows * cols; i++) {
        int64_t col = i % cols, row = i / cols % rows, matrix = i / cols / rows;
        double sign = draw(&t->seed) & 1 ? -1 : 1;
        double value = ldexp(sign * (0.25 + 0.75 * uniform(&t->seed)),
                             exponent_at(format, matrix, row, col) + shift);
        if (data == GEMMUX_DATA_POSITIVE) {
            value = 0.5 + uniform(&t->seed);
        }
        if (data == GEMMUX_DATA_ONE_HOT && is_x) {
            int64_t hot = row == 0 ? 0 : row == 1 ? cols - 1 : (row * 7919 + 13) % cols;
            value = col == hot;
        }
        if (data == GEMMUX_DATA_NAN && is_x && row == rows / 2 && col == cols / 2) {
            value = NAN;
        }
        values[i] = (float)value;
    }
}

/* ---- places ---- */

static bool place(trial *t, gemmux_guarded *memory, const void *from, int64_t bytes, int64_t align)
{
    bool loose = t->c->layout == GEMMUX_LAYOUT_LOOSE;
    size_t gap = t->c->layout == GEMMUX_LAYOUT_TIGHT ? 0 : 64;
    if (gemmux_guarded_open(memory, (size_t)bytes, loose ? 64 : (size_t)align, gap, &t->error)) {
        snprintf(t->lacking, sizeof t->lacking, "%.150s", t->error.text);
        return false;
    }
    if (from && bytes) {
        memcpy(memory->data, from, (size_t)bytes);
    }
    return true;
}

static int64_t row_alignment(const trial *t, gemmux_format format)
{
    int64_t element = gemmux_code_bits((gemmux_code)format.element) / 8;
    element = element > 1 ? element : 1;
    int64_t promised = t->c->problem.align;
    return promised > element ? promised : element;
}

/* Bytes from one row to the next; STRIDED puts three elements' worth between them. */
static int64_t stride_of(const trial *t, gemmux_format format, int64_t dense)
{
    int64_t align = row_alignment(t, format);
    if (t->c->layout != GEMMUX_LAYOUT_STRIDED) {
        return dense;
    }
    return (dense + 3 * align + align - 1) / align * align;
}

/* Copies a tensor into guarded memory; what lies between its rows are NaNs. */
static bool place_tensor(trial *t, placed *to, const gemmux_tensor *from)
{
    gemmux_format format = from->format;
    int64_t dense = gemmux_row_bytes(format, from->cols);
    int64_t stride = stride_of(t, format, dense);
    int64_t rows = from->count * from->rows;
    int64_t scales = from->count * gemmux_scale_count(format, from->rows, from->cols);
    int64_t scale = gemmux_scale_bytes(format), zero = gemmux_zero_bytes(format);
    int64_t bytes = rows ? (rows - 1) * stride + dense : 0;
    to->tensor = *from;
    if (!place(t, &to->codes, NULL, bytes, row_alignment(t, format)) ||
        !place(t, &to->scales, from->scales, scales * scale, scale ? scale : 1) ||
        !place(t, &to->zeros, from->zeros, scales * zero, zero ? zero : 1) ||
        !place(t, &to->globals, from->globals, from->globals ? from->count * 4 : 0, 4)) {
        return false;
    }
    memset(to->codes.data, POISON, (size_t)bytes);
    for (int64_t row = 0; row < rows && dense; row++) {
        memcpy(to->codes.data + row * stride, (const char *)from->codes + row * dense,
               (size_t)dense);
    }
    to->tensor.codes = to->codes.data;
    to->tensor.row_bytes = stride == dense ? 0 : stride;
    to->tensor.scales = from->scales ? to->scales.data : NULL;
    to->tensor.zeros = from->zeros ? to->zeros.data : NULL;
    to->tensor.globals = from->globals ? (const float *)(const void *)to->globals.data : NULL;
    return true;
}

/* False, and nothing lacking, when the format cannot hold such data: then there is no case. */
static bool make_tensor(trial *t, placed *to, int64_t count, int64_t rows, int64_t cols,
                        gemmux_format format, bool is_x)
{
    gemmux_weights made = {0};
    float *values = malloc((size_t)(count * rows * cols + 1) * sizeof *values);
    gemmux_status status = GEMMUX_ERROR_MEMORY;
    if (values) {
        fill(t, values, count, rows, cols, format, is_x);
        status = gemmux_quantise(values, count, rows, cols, format, &made, &t->error);
    }
    if (status && status != GEMMUX_ERROR_INPUT) {
        snprintf(t->lacking, sizeof t->lacking, "operands: %s", gemmux_status_name(status));
    }
    bool good = !status && place_tensor(t, to, &made.tensor);
    gemmux_weights_free(&made);
    free(values);
    return good;
}

static bool make_bias(trial *t, int64_t count)
{
    if (!place(t, &t->bias, NULL, count * 4, 4)) {
        return false;
    }
    for (int64_t i = 0; i < count; i++) {
        float value = (float)ldexp(uniform(&t->seed) - 0.5, (int)(i % 5));
        memcpy(t->bias.data + 4 * i, &value, 4);
    }
    return true;
}

/* Distinct experts a token, none of them the first; or all the last. */
static bool make_routing(trial *t, int64_t rows)
{
    const gemmux_problem *p = &t->c->problem;
    if (!place(t, &t->ids, NULL, rows * 4, 4) || !place(t, &t->weights, NULL, rows * 4, 4)) {
        return false;
    }
    int32_t room = p->experts > p->top_k ? 1 : 0, base = 0;
    for (int64_t i = 0; i < rows; i++) {
        if (i % p->top_k == 0) {
            base = (int32_t)(draw(&t->seed) % 1000);
        }
        int32_t id = room + (int32_t)(base + i % p->top_k) % (p->experts - room);
        float weight = (float)uniform(&t->seed);
        id = t->c->one_expert ? p->experts - 1 : id;
        memcpy(t->ids.data + 4 * i, &id, 4);
        memcpy(t->weights.data + 4 * i, &weight, 4);
    }
    t->args.expert_ids = (const int32_t *)(const void *)t->ids.data;
    t->args.expert_weights = (const float *)(const void *)t->weights.data;
    return true;
}

static bool make_order(trial *t)
{
    int64_t k = t->c->problem.k;
    if (!place(t, &t->order, NULL, k * 4, 4)) {
        return false;
    }
    int32_t *order = (int32_t *)(void *)t->order.data;
    for (int32_t j = 0; j < k; j++) {
        int64_t at = (int64_t)(draw(&t->seed) % (uint64_t)(j + 1));
        order[j] = order[at]; /* inside-out shuffle; at == j reads what is overwritten next */
        order[at] = j;
    }
    t->w.tensor.k_order = order;
    return true;
}

static bool make_operands(trial *t)
{
    const gemmux_problem *p = &t->c->problem;
    bool moe = p->op == GEMMUX_MOE;
    int64_t rows = moe ? t->c->m * p->top_k : t->c->m;
    int64_t x_rows = p->epilogue & GEMMUX_EPILOGUE_GATHER ? t->c->m : rows;
    int64_t count = moe ? p->experts : 1;
    t->y_rows = p->epilogue & GEMMUX_EPILOGUE_SCATTER ? t->c->m : rows;
    t->y_cols = p->epilogue & GEMMUX_EPILOGUE_SWIGLU ? p->n / 2 : p->n;
    int64_t dense = gemmux_row_bytes(p->y, t->y_cols);
    t->y_row_bytes = stride_of(t, p->y, dense);
    if (!make_tensor(t, &t->x, 1, x_rows, p->k, p->x, true) ||
        !make_tensor(t, &t->w, count, p->n, p->k, p->w, false) || !make_bias(t, count * p->n) ||
        (moe && !make_routing(t, rows)) || (t->c->reorder && !make_order(t)) ||
        !place(t, &t->y, NULL, (t->y_rows - 1) * t->y_row_bytes + dense, row_alignment(t, p->y))) {
        return false;
    }
    t->args.x = t->x.tensor;
    t->args.y = t->y.data;
    t->args.y_row_bytes = t->y_row_bytes == dense ? 0 : t->y_row_bytes;
    return true;
}

/* From here on a kernel that writes to what it only reads gets SIGSEGV. */
static void lock_operands(const trial *t)
{
    const gemmux_guarded *const operands[] = {
        &t->x.codes, &t->x.scales,  &t->x.zeros, &t->x.globals, &t->w.codes, &t->w.scales,
        &t->w.zeros, &t->w.globals, &t->bias,    &t->ids,       &t->weights, &t->order,
    };
    for (size_t i = 0; i < sizeof operands / sizeof operands[0]; i++) {
        gemmux_guarded_lock(operands[i], true);
    }
}

static void close_trial(trial *t)
{
    gemmux_guarded *const memory[] = {
        &t->x.codes,  &t->x.scales, &t->x.zeros,   &t->x.globals, &t->w.codes,
        &t->w.scales, &t->w.zeros,  &t->w.globals, &t->bias,      &t->ids,
        &t->weights,  &t->order,    &t->y,         &t->workspace,
    };
    if (t->plan) {
        if (t->workspace.base) {
            t->plan->workspace = NULL; /* not malloc's */
        }
        gemmux_plan_free(t->plan);
    }
    for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++) {
        gemmux_guarded_close(memory[i]);
    }
}

/* ---- one case ---- */

/* Puts the workspace, exactly as large as declared, in front of an unmapped page. */
static bool guard_workspace(trial *t)
{
    gemmux_plan *plan = t->plan;
    int64_t need = 0;
    for (int i = 0; i < plan->range_count; i++) {
        int64_t bytes = plan->ranges[i].decision.workspace_bytes;
        need = bytes > need ? bytes : need;
    }
    need += plan->gather_bytes;
    if (!plan->workspace) {
        return true;
    }
    if (gemmux_guarded_open(&t->workspace, (size_t)need, 64, 0, &t->error)) {
        snprintf(t->lacking, sizeof t->lacking, "%.150s", t->error.text);
        return false;
    }
    memset(t->workspace.data, POISON, (size_t)need);
    free(plan->workspace);
    plan->workspace = t->workspace.data;
    plan->workspace_bytes = need;
    return true;
}

/* gemmux_prepare answers a kernel's own failure by choosing another, and here there is none: asks
 * the kernel itself what was wrong. */
static void ask_why(trial *t, const gemmux_kernel *kernel, const gemmux_weights *w)
{
    gemmux_packed packed;
    void *state = NULL;
    blame(t, GEMMUX_ERROR_NO_KERNEL);
    if (!kernel->prepare || gemmux_pack(kernel->packing, &w->tensor, NULL, &packed, NULL)) {
        return;
    }
    t->error.text[0] = 0;
    gemmux_status status = kernel->prepare(&t->c->problem, &t->machine, &packed, &state, &t->error);
    if (status) {
        blame(t, status);
    } else if (kernel->release) {
        kernel->release(state);
    }
    gemmux_packed_free(&packed);
}

static bool prepare(trial *t, const gemmux_kernel *kernel)
{
    const gemmux_weights w = {
        .tensor = t->w.tensor,
        .bias = (const float *)(const void *)t->bias.data,
    };
    const gemmux_range *ranges;
    gemmux_decision decision;
    t->machine.cores = gemmux_threads_count(t->threads);
    if (gemmux_select(&t->c->problem, &t->machine, NULL, &decision, NULL, NULL)) {
        return false; /* not with so few threads: no case */
    }
    gemmux_status status = gemmux_prepare(&t->c->problem, &t->machine, NULL, NULL, &w, t->threads,
                                          &t->plan, &t->error);
    if (status == GEMMUX_ERROR_MEMORY) {
        snprintf(t->lacking, sizeof t->lacking, "%.150s", t->error.text);
        return false;
    }
    if (status) {
        ask_why(t, kernel, &w);
        return false;
    }
    int count = gemmux_plan_ranges(t->plan, &ranges);
    for (int i = 0; i < count; i++) {
        if (t->c->m < ranges[i].m_min || t->c->m > ranges[i].m_max) {
            continue;
        }
        t->liberties = ranges[i].decision.liberties;
        if (ranges[i].decision.kernel != kernel) {
            snprintf(t->wrong, sizeof t->wrong, "the plan runs %s instead",
                     ranges[i].decision.kernel->name);
            return false;
        }
    }
    return guard_workspace(t);
}

/* What the kernel must leave as it found it, besides memory. */
static unsigned control_word(void)
{
#ifdef __SSE__
    return _mm_getcsr() & ~0x3fu; /* without the sticky exception flags */
#else
    return 0;
#endif
}

static void poison_y(const trial *t)
{
    size_t dense = (size_t)gemmux_row_bytes(t->c->problem.y, t->y_cols);
    for (int64_t row = 0; row < t->y_rows; row++) {
        memset(t->y.data + row * t->y_row_bytes, POISON, dense);
    }
}

static bool check_guards(trial *t)
{
    char damage[100];
    int64_t dense = gemmux_row_bytes(t->c->problem.y, t->y_cols);
    for (int64_t row = 0; row + 1 < t->y_rows; row++) {
        if (!gemmux_guarded_whole(t->y.data + row * t->y_row_bytes + dense,
                                  (size_t)(t->y_row_bytes - dense))) {
            snprintf(t->wrong, sizeof t->wrong, "wrote between rows %lld and %lld of y",
                     (long long)row, (long long)row + 1);
            return false;
        }
    }
    if (gemmux_guarded_damage(&t->y, damage, sizeof damage)) {
        snprintf(t->wrong, sizeof t->wrong, "y: %s", damage);
    } else if (t->workspace.base && gemmux_guarded_damage(&t->workspace, damage, sizeof damage)) {
        snprintf(t->wrong, sizeof t->wrong, "workspace: %s", damage);
    }
    return !t->wrong[0];
}

static bool run_once(trial *t)
{
    unsigned control = control_word();
    poison_y(t);
    t->error.text[0] = 0;
    gemmux_status status = gemmux_run(t->plan, &t->args, &t->error);
    if (status) {
        blame(t, status);
        return false;
    }
    t->ran = true;
    if (control_word() != control) {
        snprintf(t->wrong, sizeof t->wrong,
                 "left the rounding control at %#x, expected %#x as before", control_word(),
                 control);
        return false;
    }
    return check_guards(t);
}

/* The first element that still holds the poison; verify may have looked at other rows only. */
static bool check_written(trial *t)
{
    size_t bytes = (size_t)gemmux_code_bits((gemmux_code)t->c->problem.y.element) / 8;
    const unsigned char poison[4] = {POISON, POISON, POISON, POISON};
    for (int64_t i = 0; i < t->y_rows * t->y_cols; i++) {
        int64_t row = i / t->y_cols, col = i % t->y_cols;
        if (memcmp(t->y.data + row * t->y_row_bytes + (size_t)col * bytes, poison, bytes) == 0) {
            snprintf(t->wrong, sizeof t->wrong, "y[%lld, %lld] was not written", (long long)row,
                     (long long)col);
            return false;
        }
    }
    return true;
}

static bool check_values(trial *t)
{
    const gemmux_problem *p = &t->c->problem;
    const gemmux_weights w = {
        .tensor = t->w.tensor,
        .bias = (const float *)(const void *)t->bias.data,
    };
    gemmux_verification result;
    double products = (double)t->y_rows * (double)p->n * (double)p->k;
    gemmux_status status =
        gemmux_verify(p, t->liberties, &w, &t->args, products > WHOLE_PRODUCTS ? SAMPLED_ROWS : 0,
                      &result, &t->error);
    if (status == GEMMUX_ERROR_MEMORY) {
        snprintf(t->lacking, sizeof t->lacking, "%.150s", t->error.text);
    } else if (status) {
        blame(t, status);
    }
    t->worst = result.worst;
    return !status;
}

static bool check_twice(trial *t)
{
    size_t bytes = t->y.bytes;
    unsigned char *first = malloc(bytes + 1);
    if (!first) {
        snprintf(t->lacking, sizeof t->lacking, "no memory for a second result");
        return false;
    }
    memcpy(first, t->y.data, bytes);
    bool good = run_once(t);
    bool same = good && memcmp(first, t->y.data, bytes) == 0;
    free(first);
    if (good && !same && t->liberties & GEMMUX_LIBERTY_UNORDERED) {
        return check_values(t);
    }
    if (good && !same) {
        snprintf(t->wrong, sizeof t->wrong,
                 "two runs differ, and it does not declare unordered sums");
    }
    return good && same;
}

static void try_case(trial *t, const gemmux_kernel *kernel)
{
    if (!make_operands(t)) {
        return;
    }
    lock_operands(t);
    if (prepare(t, kernel) && run_once(t) && (t->c->data == GEMMUX_DATA_NAN || check_written(t)) &&
        check_values(t)) {
        check_twice(t);
    }
}

/* ---- all of them ---- */

static void keep_printable(char *text)
{
    for (; *text; text++) {
        if (*text < ' ' || *text > '~') {
            *text = '?';
        }
    }
}

static void say(const gemmux_child *child, uint8_t kind, gemmux_proof proof, int cases,
                const char *text)
{
    gemmux_message message = {.kind = kind, .proof = (uint8_t)proof, .cases = cases};
    snprintf(message.text, sizeof message.text, "%s", text);
    keep_printable(message.text);
    gemmux_child_say(child, &message);
}

void gemmux_prove(void *context, const gemmux_child *child)
{
    const gemmux_proving *job = context;
    char text[200], evidence[400];
    gemmux_threads *several = NULL;
    double worst = 0;
    char worst_text[200] = "";
    int done = 0;
    gemmux_threads_create(2, &several, NULL); /* NULL, one thread, where there are no more */
    for (int i = 0; i < job->cases->count; i++) {
        const gemmux_case *c = &job->cases->items[i];
        trial t = {.c = c, .machine = *job->machine, .seed = (uint64_t)i + 1};
        t.threads = c->threads > 1 ? several : NULL;
        gemmux_case_text(c, text, sizeof text);
        if (gemmux_child_seconds_left(child) < 0) {
            snprintf(evidence, sizeof evidence,
                     "only %d of %d cases fitted into the time limit; none failed", i,
                     job->cases->count);
            say(child, 1, GEMMUX_PROOF_SKIPPED, done, evidence);
            return;
        }
        say(child, 0, GEMMUX_PROOF_SKIPPED, done, text);
        try_case(&t, job->kernel);
        done += t.ran;
        if (t.worst > worst) {
            worst = t.worst;
            snprintf(worst_text, sizeof worst_text, "%s", text);
        }
        if (t.wrong[0] || t.lacking[0]) {
            snprintf(evidence, sizeof evidence, "%s: %s", text, t.wrong[0] ? t.wrong : t.lacking);
            say(child, 1, t.wrong[0] ? GEMMUX_PROOF_WRONG : GEMMUX_PROOF_SKIPPED, done, evidence);
            return;
        }
        close_trial(&t);
    }
    snprintf(evidence, sizeof evidence, "at most %.3f of the bound, in %s", worst, worst_text);
    if (done == 0) {
        snprintf(evidence, sizeof evidence, "no case could be tried");
    }
    say(child, 1, done ? GEMMUX_PROOF_PROVED : GEMMUX_PROOF_SKIPPED, done, evidence);
    gemmux_threads_free(several);
}
