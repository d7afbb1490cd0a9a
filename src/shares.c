/* SPDX-License-Identifier: Apache-2.0
 *
 * Measured shares: finding the points around a problem and predicting from them.
 */
#include "shares.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static_assert(sizeof(gemmux_format) == sizeof(uint64_t), "formats are compared as one word");

gemmux_work gemmux_work_of(const gemmux_problem *p)
{
    gemmux_work work = {.rows = gemmux_problem_rows(p), .used_matrices = 1};
    work.operations = 2.0 * (double)work.rows * (double)p->n * (double)p->k;
    work.activity_bytes = (double)gemmux_stored_bytes(p->x, 1, work.rows, p->k) +
                          (double)gemmux_stored_bytes(p->y, 1, work.rows, p->n);
    /* Experts that at least one of M tokens chooses, if each choice were uniform. */
    if (p->op == GEMMUX_MOE)
        work.used_matrices =
            p->experts * (1.0 - pow(1.0 - (double)p->top_k / p->experts, (double)p->m));
    return work;
}

double gemmux_call_bytes(const gemmux_problem *problem, const gemmux_work *work,
                         int64_t weight_bytes)
{
    double matrices = problem->op == GEMMUX_MOE ? problem->experts : 1;
    return (double)weight_bytes / matrices * work->used_matrices + work->activity_bytes;
}

gemmux_share gemmux_share_point(const gemmux_kernel *kernel, int form,
                                const gemmux_problem *problem, const gemmux_work *work)
{
    return (gemmux_share){
        .kernel = kernel,
        .w = problem->w,
        .x = problem->x.id,
        .form = (uint8_t)form,
        .grouped = problem->op == GEMMUX_MOE,
        .rows = (double)work->rows / work->used_matrices,
        .elements = work->used_matrices * (double)problem->n * (double)problem->k,
    };
}

/* ---- order ---- */

/* Kernel, form, op and the formats' ids: everything that a prediction never crosses. */
static int curve_order(const gemmux_share *a, const gemmux_share *b)
{
    if (a->kernel != b->kernel)
        return (uintptr_t)a->kernel < (uintptr_t)b->kernel ? -1 : 1;
    if (a->form != b->form)
        return a->form - b->form;
    if (a->grouped != b->grouped)
        return a->grouped - b->grouped;
    if (a->x != b->x)
        return a->x - b->x;
    return a->w.id - b->w.id;
}

int gemmux_share_order(const gemmux_share *a, const gemmux_share *b)
{
    int order = curve_order(a, b);
    if (!order)
        order = memcmp(&a->w, &b->w, sizeof a->w);
    if (!order)
        order = (a->elements > b->elements) - (a->elements < b->elements);
    return order ? order : (a->rows > b->rows) - (a->rows < b->rows);
}

/* ---- search ---- */

/* A call for each point would be most of the price of a select. */
static bool same_format(gemmux_format a, gemmux_format b)
{
    uint64_t x, y;
    memcpy(&x, &a, sizeof x);
    memcpy(&y, &b, sizeof y);
    return x == y;
}

static bool same_curve(const gemmux_share *a, const gemmux_share *b)
{
    return same_format(a->w, b->w) && a->elements == b->elements;
}

/* How many times larger the one is than the other. */
static double distance(double a, double b)
{
    return a < b ? b / (a > 0 ? a : 1) : a / (b > 0 ? b : 1);
}

/* The first of all points that share the point's ids, and where they end. */
static const gemmux_share *find_ids(const gemmux_machine *machine, const gemmux_share *point,
                                    const gemmux_share **end)
{
    const gemmux_share *all = machine->shares;
    int low = 0, high = machine->share_count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (curve_order(&all[middle], point) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    int last = low;
    while (last < machine->share_count && curve_order(&all[last], point) == 0)
        last++;
    *end = all + last;
    return all + low;
}

/* The first point of the curve to predict from; NULL when there is none. */
static const gemmux_share *find_curve(const gemmux_share *first, const gemmux_share *end,
                                      const gemmux_share *point)
{
    const gemmux_share *best = NULL;
    bool best_exact = false;
    double best_distance = 0;
    for (const gemmux_share *s = first; s < end; s++) {
        if (s > first && same_curve(s, s - 1))
            continue;
        bool exact = same_format(s->w, point->w);
        double d = distance(s->elements, point->elements);
        if (!best || exact > best_exact || (exact == best_exact && d < best_distance)) {
            best = s;
            best_exact = exact;
            best_distance = d;
        }
    }
    return best;
}

static double us_at(const gemmux_share *s, double bytes, double operations)
{
    double memory = bytes / s->bandwidth, compute = operations / s->peak;
    return (memory > compute ? memory : compute) / (double)s->share * 1e6;
}

double gemmux_shares_predict(const gemmux_machine *machine, const gemmux_share *point, double bytes,
                             double operations)
{
    const gemmux_share *end, *first = find_ids(machine, point, &end);
    const gemmux_share *low = find_curve(first, end, point);
    if (!low)
        return 0;
    const gemmux_share *high = low;
    while (high->rows < point->rows && high + 1 < end && same_curve(high, high + 1))
        low = high++;
    if (high->rows <= point->rows)
        return us_at(high, bytes, operations);
    if (low == high || low->rows >= point->rows)
        return us_at(low, bytes, operations);
    double a = us_at(low, bytes, operations), b = us_at(high, bytes, operations);
    double way = log2(point->rows / low->rows) / log2(high->rows / low->rows);
    return a * pow(b / a, way);
}
