/* SPDX-License-Identifier: Apache-2.0 */
#include "slices.h"

#include "epilogue.h"
#include "error.h"

#include <stdatomic.h>

enum {
    CONVERTED_ROWS = 1024, /* of x at once: more would only make the workspace larger */
    ROWS_AN_ITEM = 16,     /* of x, converted by one worker */
    W_CACHE_BYTES = 1 << 19,
};

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

gemmux_slicing gemmux_slicing_of(const gemmux_problem *problem, int32_t workers,
                                 int64_t x_element_bytes, int64_t w_element_bytes, bool converts)
{
    gemmux_slicing s = {.x_element_bytes = x_element_bytes};
    int64_t rows = gemmux_problem_rows(problem), k = problem->k > 0 ? problem->k : 1;
    if (workers < 1)
        workers = 1;
    /* Four slices a worker where N allows it; not so wide that a tile leaves the cache. */
    s.width =
        smaller(gemmux_round_up(problem->n / (4 * (int64_t)workers) + 1, 64), GEMMUX_SLICE_WIDTH);
    if (w_element_bytes) {
        /* A decoded slice should stay in the L2 cache until all rows of x have met it. */
        int64_t fit = W_CACHE_BYTES / (k * w_element_bytes) / 64 * 64;
        s.width = smaller(s.width, fit > 64 ? fit : 64);
        s.w_bytes = gemmux_round_up(s.width * k * w_element_bytes, 64);
    }
    s.block = smaller(rows, GEMMUX_SLICE_ROWS);
    bool all = converts || problem->op == GEMMUX_MOE;
    s.x_rows = smaller(rows, all ? CONVERTED_ROWS : GEMMUX_SLICE_ROWS);
    s.worker_bytes = gemmux_round_up(s.block * s.width * 4, 64) + s.w_bytes;
    s.workspace_bytes =
        gemmux_round_up(s.x_rows * k * x_element_bytes, 64) + workers * s.worker_bytes;
    return s;
}

/* Rows [first, last) of all groups' rows, counted through. */
typedef struct window {
    gemmux_slices *s;
    int64_t first, last;
    bool direct; /* x is multiplied where the caller has it */
    int64_t slices;
    char *converted;
    char *workers;
    atomic_int status;
} window;

/* The part of group g that lies in the window, given where g starts; false when none does. */
static bool overlap(const window *w, const gemmux_group *g, int64_t start, int64_t *from,
                    int64_t *to)
{
    *from = w->first > start ? w->first - start : 0;
    *to = smaller(g->row_count, w->last - start);
    return *from < *to;
}

static void convert_rows(void *context, size_t item)
{
    const window *w = context;
    const gemmux_call *call = w->s->call;
    int64_t row_bytes = call->problem->k * w->s->sizes.x_element_bytes;
    int64_t first = w->first + (int64_t)item * ROWS_AN_ITEM;
    int64_t last = smaller(first + ROWS_AN_ITEM, w->last), start = 0;
    for (int g = 0; g < call->group_count && start < last; g++) {
        const gemmux_group *group = &call->groups[g];
        for (int64_t r = first > start ? first : start; r < last && r < start + group->row_count;
             r++) {
            int64_t x_row = group->x_rows ? group->x_rows[r - start] : r - start;
            w->s->convert(w->s, x_row, w->converted + (r - w->first) * row_bytes);
        }
        start += group->row_count;
    }
}

/* Multiplies and finishes rows [from, to) of a group with one slice. */
static void multiply_rows(window *w, uint32_t worker, const gemmux_group *group, int64_t start,
                          gemmux_slice *slice)
{
    const gemmux_slices *s = w->s;
    const gemmux_call *call = s->call;
    float *tile = (float *)(w->workers + worker * s->sizes.worker_bytes);
    int64_t from, to;
    overlap(w, group, start, &from, &to);
    for (int64_t r = from; r < to; r += slice->m) {
        slice->m = smaller(s->block(to - r), s->sizes.block);
        slice->x_rows = group->x_rows ? group->x_rows + r : NULL;
        slice->x_first = r;
        slice->x = w->direct ? (const char *)call->x.codes + r * slice->x_stride
                             : w->converted + (start + r - w->first) * slice->x_stride;
        if (call->problem->k == 0) {
            memset(tile, 0, (size_t)(slice->m * slice->count) * sizeof *tile);
        } else {
            int status = s->multiply(s, worker, slice, tile);
            if (status) {
                atomic_store(&w->status, status);
                return;
            }
        }
        for (int64_t i = 0; i < slice->m; i++)
            gemmux_finish_row(call, group->expert, group->y_rows ? group->y_rows[r + i] : r + i,
                              slice->first, slice->count, tile + i * slice->count);
    }
}

static void run_slice(void *context, uint32_t worker, size_t item)
{
    window *w = context;
    const gemmux_slices *s = w->s;
    const gemmux_call *call = s->call;
    int64_t index = (int64_t)item / w->slices, start = 0, from, to;
    int g = 0;
    for (;; g++) { /* the index-th group that has rows in the window */
        if (overlap(w, &call->groups[g], start, &from, &to) && index-- == 0)
            break;
        start += call->groups[g].row_count;
    }
    const gemmux_group *group = &call->groups[g];
    gemmux_slice slice = {.expert = group->expert,
                          .first = (int64_t)item % w->slices * s->sizes.width};
    slice.count = smaller(call->problem->n - slice.first, s->sizes.width);
    slice.x_stride = call->problem->k * s->sizes.x_element_bytes;
    if (w->direct && call->x.row_bytes)
        slice.x_stride = call->x.row_bytes;
    char *scratch =
        w->workers + worker * s->sizes.worker_bytes + s->sizes.worker_bytes - s->sizes.w_bytes;
    if (call->problem->k > 0)
        slice.w = s->weights(s, slice.expert, slice.first, slice.count, scratch);
    multiply_rows(w, worker, group, start, &slice);
}

/* Counts the groups in the window and lets the library get ready for each. */
static gemmux_status enter_window(const window *w, size_t *groups, gemmux_error *error)
{
    const gemmux_slices *s = w->s;
    int64_t start = 0, from, to;
    *groups = 0;
    for (int g = 0; g < s->call->group_count; g++) {
        if (overlap(w, &s->call->groups[g], start, &from, &to)) {
            gemmux_status status = GEMMUX_OK;
            if (s->need && s->call->problem->k > 0)
                status = s->need(s, to - from, error);
            if (status)
                return status;
            ++*groups;
        }
        start += s->call->groups[g].row_count;
    }
    return GEMMUX_OK;
}

/* Rows of x that are converted or gathered at once; all of them where x is used in place. */
static int64_t open_window(window *w)
{
    const gemmux_slices *s = w->s;
    const gemmux_call *call = s->call;
    int64_t k = call->problem->k, dense = k * s->sizes.x_element_bytes, rows = 0;
    w->converted = call->workspace;
    w->workers = w->converted +
                 gemmux_round_up(s->sizes.x_rows * (k > 0 ? k : 1) * s->sizes.x_element_bytes, 64);
    w->slices = (call->problem->n + s->sizes.width - 1) / s->sizes.width;
    w->direct = !s->converts && call->problem->op != GEMMUX_MOE &&
                (call->x.row_bytes == 0 || call->x.row_bytes == dense);
    for (int g = 0; g < call->group_count; g++)
        rows += call->groups[g].row_count;
    return rows;
}

gemmux_status gemmux_slices_run(gemmux_slices *s, const char *library, gemmux_error *error)
{
    window w = {.s = s, .status = 0};
    int64_t rows = open_window(&w), step = w.direct ? rows : s->sizes.x_rows;
    for (w.first = 0; w.first < rows; w.first = w.last) {
        size_t groups;
        w.last = smaller(rows, w.first + step);
        gemmux_status status = enter_window(&w, &groups, error);
        if (status)
            return status;
        if (!w.direct && s->call->problem->k > 0)
            gemmux_parallel(s->call->threads, convert_rows, &w,
                            (size_t)((w.last - w.first + ROWS_AN_ITEM - 1) / ROWS_AN_ITEM));
        gemmux_parallel_workers(s->call->threads, run_slice, &w, groups * (size_t)w.slices);
        int code = atomic_load(&w.status);
        if (code)
            return gemmux_fail(error, GEMMUX_ERROR_LIBRARY, "%s: its product fails with status %d",
                               library, code);
    }
    return GEMMUX_OK;
}
