/* SPDX-License-Identifier: Apache-2.0
 *
 * Shapes, formats and data that have broken kernels before: M around tile edges, ragged N and K,
 * K on and off every block size, empty experts, K = 0, numbers at both ends of their range. The
 * whole list for the first formats of each form, samples of it for the others.
 */
#include "certify_cases.h"

#include "error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof(array)[0]))

static const int64_t ms[] = {1, 17, 2, 7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 127, 128, 129};
static const int64_t ns[] = {33, 1, 3, 8, 16, 31, 40, 64, 72, 100, 130, 258};
static const int64_t ks[] = {100, 1,  2,   15,  16,  17,  31,  32,  33,  48,  63, 64,
                             65,  96, 127, 128, 129, 160, 192, 256, 257, 320, 514};

static const char *const w_formats[] = {
    "bf16",          "f32",
    "f16",           "e4m3",
    "e4m3:row",      "e4m3:block128",
    "e4m3:g128",     "e4m3:row:bf16",
    "e4m3:g40:f16",  "e4m3:block64",
    "e5m2",          "e5m2:row",
    "mxfp8",         "mxfp8:e5m2",
    "mxfp4",         "nvfp4",
    "int8",          "int8:tensor",
    "int8:g32:f16",  "int8:g32",
    "int8:block128", "int4",
    "int4:g32",      "int4:g64",
    "int4:row",      "int4:tensor:f32",
    "int4:zero",     "int4:g32:zero",
    "int4:g32:min",  "int4:g64:bf16",
    "int4:f32",      "int4:g32:min:f32",
    "int4:g24",      "int4:row:zero",
    "nf4",           "nf4:g64:f16",
    "nf4:row",
};
static const char *const x_formats[] = {
    "bf16",        "f32",      "f16",        "e4m3",          "e4m3:row", "e4m3:g128",
    "e5m2",        "mxfp8",    "mxfp8:e5m2", "mxfp4",         "nvfp4",    "int8",
    "int8:tensor", "int8:g32", "int4",       "int4:g32:zero", "nf4",
};
static const char *const y_formats[] = {"f32", "bf16", "f16"};

enum {
    W_FORMATS = COUNT(w_formats),
    X_FORMATS = COUNT(x_formats),
    Y_FORMATS = COUNT(y_formats),
};

typedef struct builder {
    const gemmux_machine *machine;
    const gemmux_kernel *kernel;
    gemmux_cases *cases;
    gemmux_problem base; /* op, formats and liberties of the form at hand */
    int form;
    bool out_of_memory;
} builder;

static int64_t round_up(int64_t value, int64_t multiple)
{
    return multiple > 1 ? (value + multiple - 1) / multiple * multiple : value;
}

static int64_t element_bytes(gemmux_format format)
{
    return (gemmux_code_bits((gemmux_code)format.element) + 7) / 8;
}

/* Fits sizes to the kernel's multiples and asks select. */
static bool taken(const builder *b, gemmux_case *c)
{
    const gemmux_kernel *k = b->kernel;
    gemmux_problem *p = &c->problem;
    int64_t n_multiple = k->n_multiple ? k->n_multiple : 1;
    bool pairs = p->epilogue & GEMMUX_EPILOGUE_SWIGLU && n_multiple % 2;
    const gemmux_policy by_name = {.only = k->name};
    gemmux_decision decision;
    p->m = round_up(p->m, k->m_multiple);
    c->m = round_up(c->m, k->m_multiple);
    p->n = round_up(p->n, pairs ? 2 * n_multiple : n_multiple);
    p->k = round_up(p->k, k->k_multiple);
    if (c->layout != GEMMUX_LAYOUT_LOOSE) {
        int64_t x = element_bytes(p->x), y = element_bytes(p->y);
        int64_t least = x < y ? x : y;
        p->align = (uint16_t)(k->align > least ? k->align : least);
    }
    return gemmux_select(p, b->machine, &by_name, &decision, NULL, NULL) == GEMMUX_OK &&
           decision.kernel == k && decision.form == b->form;
}

static bool reserve(gemmux_cases *cases)
{
    if (cases->count < cases->capacity) {
        return true;
    }
    int capacity = cases->capacity ? 2 * cases->capacity : 256;
    gemmux_case *items = realloc(cases->items, (size_t)capacity * sizeof *items);
    if (!items) {
        return false;
    }
    cases->items = items;
    cases->capacity = capacity;
    return true;
}

/* Adds the case if the kernel takes it. Layouts and threads go round, so that each meets each;
 * threads seldom, because a pool spins, and on a busy machine every such run waits for its turn. */
static void add(builder *b, gemmux_case c)
{
    int turn = b->cases->count;
    c.layout = (uint8_t)(turn % 3);
    c.threads = turn % 32 == 5 ? 2 : 1;
    c.m = c.m ? c.m : c.problem.m;
    bool fits = taken(b, &c);
    if (!fits && c.layout != GEMMUX_LAYOUT_LOOSE) {
        /* A kernel that needs alignment has these rows only 64-byte aligned, if at all. */
        c.layout = GEMMUX_LAYOUT_LOOSE;
        c.problem.align = 0;
        fits = taken(b, &c);
    }
    if (!fits) {
        return;
    }
    if (!reserve(b->cases)) {
        b->out_of_memory = true;
        return;
    }
    b->cases->items[b->cases->count++] = c;
}

static gemmux_case case_of(const builder *b, int64_t m, int64_t n, int64_t k, int data)
{
    gemmux_case c = {.problem = b->base, .data = (uint8_t)data};
    c.problem.m = m, c.problem.n = n, c.problem.k = k;
    if (b->base.op == GEMMUX_MOE) {
        c.problem.experts = 5, c.problem.top_k = 2;
    }
    return c;
}

/* ---- one set of formats ---- */

static void add_all_shapes(builder *b)
{
    for (int i = 0; i < COUNT(ms); i++) {
        add(b, case_of(b, ms[i], ns[i % COUNT(ns)], ks[i % COUNT(ks)], GEMMUX_DATA_RANDOM));
        add(b, case_of(b, ms[i], ns[(i + 5) % COUNT(ns)], ks[(i + 9) % COUNT(ks)],
                       GEMMUX_DATA_ONE_HOT));
    }
    for (int i = 0; i < COUNT(ks); i++) {
        add(b, case_of(b, ms[i % 3], 40, ks[i], GEMMUX_DATA_RANDOM));
        add(b, case_of(b, ms[i % 3 + 3], 40, ks[i], GEMMUX_DATA_ONE_HOT));
    }
    for (int i = 0; i < COUNT(ns); i++) {
        add(b, case_of(b, 1, ns[i], 128, GEMMUX_DATA_RANDOM));
        add(b, case_of(b, 16, ns[i], 128, GEMMUX_DATA_POSITIVE));
    }
    for (int data = GEMMUX_DATA_POSITIVE; data <= GEMMUX_DATA_NAN; data++) {
        add(b, case_of(b, 1, 72, 160, data));
        add(b, case_of(b, 19, 72, 160, data));
        add(b, case_of(b, 64, 100, 256, data));
    }
    add(b, case_of(b, 3, 5, 0, GEMMUX_DATA_RANDOM));
    /* Past the blocks in which kernels walk N and K. */
    add(b, case_of(b, 1, 1030, 2080, GEMMUX_DATA_RANDOM));
    add(b, case_of(b, 133, 390, 1090, GEMMUX_DATA_RANDOM));
    add(b, case_of(b, 300, 200, 96, GEMMUX_DATA_RANDOM));
}

static void add_sample(builder *b, int turn)
{
    for (int i = 0; i < 4; i++) {
        int at = 4 * turn + i;
        add(b, case_of(b, ms[at % COUNT(ms)], ns[at % COUNT(ns)], ks[at % COUNT(ks)],
                       GEMMUX_DATA_RANDOM));
        add(b, case_of(b, ms[i % 2], ns[(at + 3) % COUNT(ns)], ks[(at + 7) % COUNT(ks)],
                       GEMMUX_DATA_ONE_HOT));
    }
    add(b, case_of(b, 1, 136, 256, GEMMUX_DATA_RANDOM));
    add(b, case_of(b, 18, 136, 320, GEMMUX_DATA_RANDOM));
    add(b, case_of(b, 5, 136, 290, GEMMUX_DATA_POSITIVE));
    add(b, case_of(b, 5, 33, 128, GEMMUX_DATA_LARGE));
    add(b, case_of(b, 5, 33, 128, GEMMUX_DATA_TINY));
}

/* A plan serves fewer rows than it was made for, and columns in another order. */
static void add_uses(builder *b)
{
    static const int64_t fewer[] = {1, 2, 15, 33, 63};
    for (int i = 0; i < COUNT(fewer); i++) {
        gemmux_case c = case_of(b, 64, 72, 192, GEMMUX_DATA_RANDOM);
        c.m = fewer[i];
        add(b, c);
    }
    for (int i = 0; i < 2; i++) {
        gemmux_case c = case_of(b, ms[i], 40, 160, GEMMUX_DATA_RANDOM);
        c.reorder =
            element_bytes(b->base.x) * 8 == gemmux_code_bits((gemmux_code)b->base.x.element) &&
            b->base.x.scaling != GEMMUX_SCALING_GROUP;
        add(b, c);
    }
}

static void add_epilogues(builder *b)
{
    static const uint8_t epilogues[] = {
        GEMMUX_EPILOGUE_BIAS,
        GEMMUX_EPILOGUE_SWIGLU,
        GEMMUX_EPILOGUE_BIAS | GEMMUX_EPILOGUE_SWIGLU,
    };
    builder of = *b;
    of.base.op = GEMMUX_LINEAR;
    for (int i = 0; i < COUNT(epilogues); i++) {
        of.base.epilogue = epilogues[i];
        add(&of, case_of(&of, 1, 34, 128, GEMMUX_DATA_RANDOM));
        add(&of, case_of(&of, 5, 66, 96, GEMMUX_DATA_RANDOM));
        add(&of, case_of(&of, 33, 130, 160, GEMMUX_DATA_RANDOM));
        add(&of, case_of(&of, 3, 20, 0, GEMMUX_DATA_RANDOM));
    }
    of.base.op = GEMMUX_MATMUL;
    of.base.epilogue = 0;
    for (int i = 0; i < 4; i++) {
        add(&of, case_of(&of, ms[4 * i], ns[i + 3], ks[2 * i + 5], GEMMUX_DATA_RANDOM));
    }
    b->out_of_memory |= of.out_of_memory;
}

static void add_moe(builder *b, bool whole)
{
    static const uint8_t epilogues[] = {
        GEMMUX_EPILOGUE_GATHER | GEMMUX_EPILOGUE_BIAS | GEMMUX_EPILOGUE_SWIGLU,
        GEMMUX_EPILOGUE_SCATTER | GEMMUX_EPILOGUE_BIAS,
        GEMMUX_EPILOGUE_GATHER | GEMMUX_EPILOGUE_SCATTER | GEMMUX_EPILOGUE_BIAS |
            GEMMUX_EPILOGUE_SWIGLU,
        0,
        GEMMUX_EPILOGUE_GATHER,
        GEMMUX_EPILOGUE_SCATTER,
    };
    static const int64_t tokens[] = {1, 16, 7, 33, 2, 129};
    builder of = *b;
    of.base.op = GEMMUX_MOE;
    for (int i = 0; i < (whole ? COUNT(epilogues) : 2); i++) {
        of.base.epilogue = epilogues[i];
        for (int j = 0; j < (whole ? COUNT(tokens) : 2); j++) {
            gemmux_case c =
                case_of(&of, tokens[j], 34, ks[(3 * i + j) % COUNT(ks)], GEMMUX_DATA_RANDOM);
            c.problem.experts = j % 2 ? 6 : 5;
            c.problem.top_k = j % 2 ? 4 : 2;
            add(&of, c);
        }
        gemmux_case one = case_of(&of, 19, 66, 128, GEMMUX_DATA_ONE_HOT);
        one.problem.experts = 4, one.problem.top_k = 1, one.one_expert = true;
        add(&of, one);
    }
    b->out_of_memory |= of.out_of_memory;
}

/* ---- all sets of formats of one form ---- */

static bool parse_all(gemmux_format *out, const char *const *texts, int count, gemmux_error *error)
{
    for (int i = 0; i < count; i++) {
        if (gemmux_format_parse(texts[i], &out[i], error)) {
            return false;
        }
    }
    return true;
}

/* Whether the form takes these formats at any ordinary shape. */
static bool fits_somewhere(const builder *b)
{
    const int64_t probes[] = {b->kernel->m_min ? b->kernel->m_min : 1, 16, 64, 129};
    for (int i = 0; i < COUNT(probes); i++) {
        gemmux_case c = case_of(b, probes[i], 256, 256, GEMMUX_DATA_RANDOM);
        if (taken(b, &c)) {
            return true;
        }
    }
    return false;
}

typedef struct format_lists {
    gemmux_format w[W_FORMATS], x[X_FORMATS], y[Y_FORMATS];
} format_lists;

static void add_formats(builder *b, int turn)
{
    uint32_t ops = b->kernel->ops;
    if (turn == 0) {
        add_all_shapes(b);
        add_epilogues(b);
    } else {
        add_sample(b, turn);
    }
    if (turn < 2) {
        add_uses(b);
    }
    if (ops & GEMMUX_BIT(GEMMUX_MOE)) {
        add_moe(b, turn == 0);
    }
}

/* Every w, every x and every y of the form at least once, together with whatever comes along. */
static void add_form(builder *b, const format_lists *lists)
{
    bool seen_w[W_FORMATS] = {0}, seen_x[X_FORMATS] = {0}, seen_y[Y_FORMATS] = {0};
    const gemmux_form *form = &b->kernel->forms[b->form];
    int turn = 0;
    for (int w = 0; w < W_FORMATS; w++) {
        for (int i = 0; i < X_FORMATS * Y_FORMATS; i++) {
            int x = (w + i) % X_FORMATS, y = (w + i / X_FORMATS) % Y_FORMATS;
            if (seen_w[w] && seen_x[x] && seen_y[y]) {
                continue;
            }
            b->base.w = lists->w[w], b->base.x = lists->x[x], b->base.y = lists->y[y];
            if (!(form->w & GEMMUX_BIT(b->base.w.id)) || !(form->x & GEMMUX_BIT(b->base.x.id)) ||
                !(form->y & GEMMUX_BIT(b->base.y.id)) || !fits_somewhere(b)) {
                continue;
            }
            seen_w[w] = seen_x[x] = seen_y[y] = true;
            add_formats(b, turn++);
        }
    }
}

gemmux_op gemmux_plainest_op(uint32_t ops)
{
    return ops & GEMMUX_BIT(GEMMUX_LINEAR)   ? GEMMUX_LINEAR
           : ops & GEMMUX_BIT(GEMMUX_MATMUL) ? GEMMUX_MATMUL
                                             : GEMMUX_MOE;
}

gemmux_status gemmux_cases_make(const gemmux_machine *machine, const gemmux_kernel *kernel,
                                gemmux_cases *cases, gemmux_error *error)
{
    format_lists lists;
    builder b = {.machine = machine, .kernel = kernel, .cases = cases};
    *cases = (gemmux_cases){0};
    if (!parse_all(lists.w, w_formats, W_FORMATS, error) ||
        !parse_all(lists.x, x_formats, X_FORMATS, error) ||
        !parse_all(lists.y, y_formats, Y_FORMATS, error)) {
        return GEMMUX_ERROR_INTERNAL;
    }
    for (b.form = 0; b.form < kernel->form_count; b.form++) {
        b.base = (gemmux_problem){
            .op = (uint8_t)gemmux_plainest_op(kernel->ops),
            .liberties = kernel->forms[b.form].liberties,
        };
        add_form(&b, &lists);
    }
    if (b.out_of_memory) {
        gemmux_cases_free(cases);
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "certify: out of memory for the cases");
    }
    return GEMMUX_OK;
}

void gemmux_cases_free(gemmux_cases *cases)
{
    free(cases->items);
    *cases = (gemmux_cases){0};
}

/* ---- words ---- */

const char *gemmux_case_text(const gemmux_case *c, char *buffer, size_t size)
{
    static const char *const data[] = {
        [GEMMUX_DATA_RANDOM] = "",
        [GEMMUX_DATA_ONE_HOT] = ", one-hot x",
        [GEMMUX_DATA_POSITIVE] = ", all positive",
        [GEMMUX_DATA_LARGE] = ", large",
        [GEMMUX_DATA_TINY] = ", tiny",
        [GEMMUX_DATA_NAN] = ", a NaN in x",
    };
    static const char *const layout[] = {
        [GEMMUX_LAYOUT_LOOSE] = "",
        [GEMMUX_LAYOUT_STRIDED] = ", strided",
        [GEMMUX_LAYOUT_TIGHT] = ", at a page's end",
    };
    const gemmux_problem *p = &c->problem;
    char text[128], fewer[32] = "";
    if (c->m != p->m) {
        snprintf(fewer, sizeof fewer, " (%lld of its rows)", (long long)c->m);
    }
    snprintf(buffer, size, "%s%s%s%s%s%s%s%s%s%s", gemmux_problem_text(p, text, sizeof text),
             p->epilogue & GEMMUX_EPILOGUE_GATHER ? " +gather" : "",
             p->epilogue & GEMMUX_EPILOGUE_BIAS ? " +bias" : "",
             p->epilogue & GEMMUX_EPILOGUE_SWIGLU ? " +swiglu" : "",
             p->epilogue & GEMMUX_EPILOGUE_SCATTER ? " +scatter" : "", fewer, data[c->data],
             layout[c->layout], c->reorder ? ", k_order" : "", c->threads > 1 ? ", threads" : "");
    return buffer;
}
