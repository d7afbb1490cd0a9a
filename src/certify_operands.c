/* SPDX-License-Identifier: Apache-2.0 */
#include "certify_operands.h"

#include "error.h"
#include "format.h"
#include "packing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static void fill(gemmux_operands *o, float *values, int64_t count, int64_t rows, int64_t cols,
                 gemmux_format format, bool is_x)
{
    uint8_t data = o->c->data;
    int shift = shift_of(format, data);
    for (int64_t i = 0; i < count * rows * cols; i++) {
        int64_t col = i % cols, row = i / cols % rows, matrix = i / cols / rows;
        double sign = draw(&o->seed) & 1 ? -1 : 1;
        double value = ldexp(sign * (0.25 + 0.75 * uniform(&o->seed)),
                             exponent_at(format, matrix, row, col) + shift);
        if (data == GEMMUX_DATA_POSITIVE) {
            value = 0.5 + uniform(&o->seed);
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

static bool place(gemmux_operands *o, gemmux_guarded *memory, const void *from, int64_t bytes,
                  int64_t align)
{
    bool loose = o->c->layout == GEMMUX_LAYOUT_LOOSE;
    size_t gap = o->c->layout == GEMMUX_LAYOUT_TIGHT ? 0 : 64;
    if (gemmux_guarded_open(memory, (size_t)bytes, loose ? 64 : (size_t)align, gap, &o->error)) {
        snprintf(o->lacking, sizeof o->lacking, "%.150s", o->error.text);
        return false;
    }
    if (from && bytes) {
        memcpy(memory->data, from, (size_t)bytes);
    }
    return true;
}

static int64_t row_alignment(const gemmux_operands *o, gemmux_format format)
{
    int64_t element = gemmux_code_bits((gemmux_code)format.element) / 8;
    element = element > 1 ? element : 1;
    int64_t promised = o->c->problem.align;
    return promised > element ? promised : element;
}

/* Bytes from one row to the next; STRIDED puts three elements' worth between them. */
static int64_t stride_of(const gemmux_operands *o, gemmux_format format, int64_t dense)
{
    int64_t align = row_alignment(o, format);
    if (o->c->layout != GEMMUX_LAYOUT_STRIDED) {
        return dense;
    }
    return (dense + 3 * align + align - 1) / align * align;
}

/* Copies a tensor into guarded memory; what lies between its rows are NaNs. */
static bool place_tensor(gemmux_operands *o, gemmux_placed *to, const gemmux_tensor *from)
{
    gemmux_format format = from->format;
    int64_t dense = gemmux_row_bytes(format, from->cols);
    int64_t stride = stride_of(o, format, dense);
    int64_t rows = from->count * from->rows;
    int64_t scales = from->count * gemmux_scale_count(format, from->rows, from->cols);
    int64_t scale = gemmux_scale_bytes(format), zero = gemmux_zero_bytes(format);
    int64_t bytes = rows ? (rows - 1) * stride + dense : 0;
    to->tensor = *from;
    if (!place(o, &to->codes, NULL, bytes, row_alignment(o, format)) ||
        !place(o, &to->scales, from->scales, scales * scale, scale ? scale : 1) ||
        !place(o, &to->zeros, from->zeros, scales * zero, zero ? zero : 1) ||
        !place(o, &to->globals, from->globals, from->globals ? from->count * 4 : 0, 4)) {
        return false;
    }
    memset(to->codes.data, GEMMUX_POISON, (size_t)bytes);
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
static bool make_tensor(gemmux_operands *o, gemmux_placed *to, int64_t count, int64_t rows,
                        int64_t cols, gemmux_format format, bool is_x)
{
    gemmux_weights made = {0};
    float *values = malloc((size_t)(count * rows * cols + 1) * sizeof *values);
    gemmux_status status = GEMMUX_ERROR_MEMORY;
    if (values) {
        fill(o, values, count, rows, cols, format, is_x);
        status = gemmux_quantise(values, count, rows, cols, format, &made, &o->error);
    }
    if (status && status != GEMMUX_ERROR_INPUT) {
        snprintf(o->lacking, sizeof o->lacking, "operands: %s", gemmux_status_name(status));
    }
    bool good = !status && place_tensor(o, to, &made.tensor);
    gemmux_weights_free(&made);
    free(values);
    return good;
}

static bool make_bias(gemmux_operands *o, int64_t count)
{
    if (!place(o, &o->bias, NULL, count * 4, 4)) {
        return false;
    }
    /* In some cases bf16 and f16 hold it: a kernel may add it in these, and refuse it elsewhere. */
    bool narrow = o->c->layout == GEMMUX_LAYOUT_STRIDED;
    for (int64_t i = 0; i < count; i++) {
        double drawn = uniform(&o->seed) - 0.5;
        drawn = narrow ? rint(drawn * 256) / 256 : drawn;
        float value = (float)ldexp(drawn, (int)(i % 5));
        memcpy(o->bias.data + 4 * i, &value, 4);
    }
    return true;
}

/* Distinct experts a token, none of them the first; or all the last. */
static bool make_routing(gemmux_operands *o, int64_t rows)
{
    const gemmux_problem *p = &o->c->problem;
    if (!place(o, &o->ids, NULL, rows * 4, 4) || !place(o, &o->weights, NULL, rows * 4, 4)) {
        return false;
    }
    int32_t room = p->experts > p->top_k ? 1 : 0, base = 0;
    for (int64_t i = 0; i < rows; i++) {
        if (i % p->top_k == 0) {
            base = (int32_t)(draw(&o->seed) % 1000);
        }
        int32_t id = room + (int32_t)(base + i % p->top_k) % (p->experts - room);
        float weight = (float)uniform(&o->seed);
        id = o->c->one_expert ? p->experts - 1 : id;
        memcpy(o->ids.data + 4 * i, &id, 4);
        memcpy(o->weights.data + 4 * i, &weight, 4);
    }
    o->args.expert_ids = (const int32_t *)(const void *)o->ids.data;
    o->args.expert_weights = (const float *)(const void *)o->weights.data;
    return true;
}

static bool make_order(gemmux_operands *o)
{
    int64_t k = o->c->problem.k;
    if (!place(o, &o->order, NULL, k * 4, 4)) {
        return false;
    }
    int32_t *order = (int32_t *)(void *)o->order.data;
    for (int32_t j = 0; j < k; j++) {
        int64_t at = (int64_t)(draw(&o->seed) % (uint64_t)(j + 1));
        order[j] = order[at]; /* inside-out shuffle; at == j reads what is overwritten next */
        order[at] = j;
    }
    o->w.tensor.k_order = order;
    return true;
}

/* From here on a kernel that writes to what it only reads gets SIGSEGV. */
static void lock_operands(const gemmux_operands *o)
{
    const gemmux_guarded *const operands[] = {
        &o->x.codes, &o->x.scales,  &o->x.zeros, &o->x.globals, &o->w.codes, &o->w.scales,
        &o->w.zeros, &o->w.globals, &o->bias,    &o->ids,       &o->weights, &o->order,
    };
    for (size_t i = 0; i < sizeof operands / sizeof operands[0]; i++) {
        gemmux_guarded_lock(operands[i], true);
    }
}

bool gemmux_operands_open(gemmux_operands *o)
{
    const gemmux_problem *p = &o->c->problem;
    bool moe = p->op == GEMMUX_MOE;
    int64_t rows = moe ? o->c->m * p->top_k : o->c->m;
    int64_t x_rows = p->epilogue & GEMMUX_EPILOGUE_GATHER ? o->c->m : rows;
    int64_t count = moe ? p->experts : 1;
    o->y_rows = p->epilogue & GEMMUX_EPILOGUE_SCATTER ? o->c->m : rows;
    o->y_cols = p->epilogue & GEMMUX_EPILOGUE_SWIGLU ? p->n / 2 : p->n;
    int64_t dense = gemmux_row_bytes(p->y, o->y_cols);
    o->y_row_bytes = stride_of(o, p->y, dense);
    if (!make_tensor(o, &o->x, 1, x_rows, p->k, p->x, true) ||
        !make_tensor(o, &o->w, count, p->n, p->k, p->w, false) || !make_bias(o, count * p->n) ||
        (moe && !make_routing(o, rows)) || (o->c->reorder && !make_order(o)) ||
        !place(o, &o->y, NULL, (o->y_rows - 1) * o->y_row_bytes + dense, row_alignment(o, p->y))) {
        return false;
    }
    o->args.x = o->x.tensor;
    o->args.y = o->y.data;
    o->args.y_row_bytes = o->y_row_bytes == dense ? 0 : o->y_row_bytes;
    lock_operands(o);
    return true;
}

void gemmux_operands_close(gemmux_operands *o)
{
    gemmux_guarded *const memory[] = {
        &o->x.codes,  &o->x.scales, &o->x.zeros,   &o->x.globals, &o->w.codes,
        &o->w.scales, &o->w.zeros,  &o->w.globals, &o->bias,      &o->ids,
        &o->weights,  &o->order,    &o->y,
    };
    for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++) {
        gemmux_guarded_close(memory[i]);
    }
}
