/* SPDX-License-Identifier: Apache-2.0
 *
 * The problem: op, shapes, operand formats, epilogue, allowed liberties.
 */
#include "error.h"
#include "gemmux.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const op_names[GEMMUX_OP_COUNT] = {
    [GEMMUX_MATMUL] = "matmul",
    [GEMMUX_LINEAR] = "linear",
    [GEMMUX_MOE] = "moe",
};

static const char *const liberty_names[GEMMUX_LIBERTY_BITS] = {
    "tf32",        "quantised-x",    "rounded-w",       "rounded-x",
    "narrow-sums", "unordered-sums", "flush-subnormals"};

const char *gemmux_op_name(gemmux_op op)
{
    return op > 0 && op < GEMMUX_OP_COUNT ? op_names[op] : "?";
}

gemmux_op gemmux_op_parse(const char *text)
{
    for (int op = 1; op < GEMMUX_OP_COUNT; op++)
        if (strcmp(text, op_names[op]) == 0)
            return (gemmux_op)op;
    return (gemmux_op)0;
}

const char *gemmux_liberty_name(gemmux_liberty bit)
{
    for (int i = 0; i < GEMMUX_LIBERTY_BITS; i++)
        if ((uint32_t)bit == UINT32_C(1) << i)
            return liberty_names[i];
    return "?";
}

uint32_t gemmux_liberty_parse(const char *text)
{
    for (int i = 0; i < GEMMUX_LIBERTY_BITS; i++)
        if (strcmp(text, liberty_names[i]) == 0)
            return UINT32_C(1) << i;
    return 0;
}

gemmux_problem gemmux_problem_linear(int64_t m, int64_t n, int64_t k, gemmux_format x,
                                     gemmux_format w, gemmux_format y)
{
    return (gemmux_problem){
        .op = GEMMUX_LINEAR,
        .x = x,
        .w = w,
        .y = y,
        .m = m,
        .n = n,
        .k = k,
        .liberties = GEMMUX_LIBERTIES_DEFAULT,
    };
}

int64_t gemmux_problem_rows(const gemmux_problem *problem)
{
    return problem->op == GEMMUX_MOE ? problem->m * problem->top_k : problem->m;
}

static gemmux_status check_shape(const gemmux_problem *p, gemmux_error *error)
{
    if (p->m < 1 || p->n < 1 || p->k < 0)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "problem: m and n must be at least 1 and k at least 0, got m=%" PRId64
                           " n=%" PRId64 " k=%" PRId64,
                           p->m, p->n, p->k);
    int64_t rows = p->m;
    int64_t matrices = 1;
    if (p->op == GEMMUX_MOE) {
        if (p->experts < 1 || p->top_k < 1 || p->top_k > p->experts)
            return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                               "problem: moe needs experts >= 1 and 1 <= top_k <= experts, got "
                               "experts=%d top_k=%d",
                               p->experts, p->top_k);
        matrices = p->experts;
        if (!gemmux_mul_size(p->m, p->top_k, &rows))
            rows = -1;
    } else if (p->experts > 1 || p->top_k > 1) {
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "problem: experts and top_k belong to moe, not to %s",
                           gemmux_op_name((gemmux_op)p->op));
    }
    /* 16 bytes per element bounds every buffer that any kernel derives from these. */
    int64_t size;
    bool fits = rows > 0 && rows <= INT32_MAX && p->n <= INT32_MAX && p->k <= INT32_MAX &&
                gemmux_mul_size(rows, p->n, &size) && gemmux_mul_size(size, 16, &size) &&
                gemmux_mul_size(rows, p->k, &size) && gemmux_mul_size(size, 16, &size) &&
                gemmux_mul_size(matrices, p->n, &size) && gemmux_mul_size(size, p->k, &size) &&
                gemmux_mul_size(size, 16, &size);
    if (!fits)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "problem: m=%" PRId64 " n=%" PRId64 " k=%" PRId64
                           " is too large: rows, n and k must fit 31 bits and no matrix may pass "
                           "2^59 elements",
                           p->m, p->n, p->k);
    return GEMMUX_OK;
}

static gemmux_status check_formats(const gemmux_problem *p, gemmux_error *error)
{
    char name[32];
    const struct {
        const char *operand;
        gemmux_format format;
    } operands[] = {{"x", p->x}, {"w", p->w}, {"y", p->y}};
    for (int i = 0; i < 3; i++)
        if (operands[i].format.id < 1 || operands[i].format.id >= GEMMUX_FORMAT_COUNT)
            return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT, "problem: %s has no format",
                               operands[i].operand);
    if (p->x.scaling == GEMMUX_SCALING_BLOCK)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "problem: x cannot be %s: square blocks of scales belong to weights; "
                           "activations take tensor, row or g128",
                           gemmux_format_name(p->x, name, sizeof name));
    if (p->y.scaling != GEMMUX_SCALING_NONE)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "problem: y cannot be %s: results are f32, f16 or bf16",
                           gemmux_format_name(p->y, name, sizeof name));
    return GEMMUX_OK;
}

static gemmux_status check_epilogue(const gemmux_problem *p, gemmux_error *error)
{
    const unsigned moe_only = GEMMUX_EPILOGUE_GATHER | GEMMUX_EPILOGUE_SCATTER;
    if (p->epilogue & ~(unsigned)(GEMMUX_EPILOGUE_BIAS | GEMMUX_EPILOGUE_SWIGLU | moe_only))
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT, "problem: unknown epilogue bits 0x%x",
                           p->epilogue);
    if (p->op != GEMMUX_MOE && (p->epilogue & moe_only))
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "problem: gather and scatter belong to moe, not to %s",
                           gemmux_op_name((gemmux_op)p->op));
    if (p->op == GEMMUX_MATMUL && p->epilogue)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "problem: matmul has no epilogue; use linear");
    if ((p->epilogue & GEMMUX_EPILOGUE_SWIGLU) && p->n % 2 != 0)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "problem: swiglu pairs rows of w, but n=%" PRId64 " is odd", p->n);
    if (p->liberties >> GEMMUX_LIBERTY_BITS)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT, "problem: unknown liberty bits 0x%x",
                           p->liberties);
    if (p->align && (p->align & (p->align - 1)))
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT, "problem: align=%u is not a power of two",
                           p->align);
    return GEMMUX_OK;
}

gemmux_status gemmux_problem_check(const gemmux_problem *problem, gemmux_error *error)
{
    if (problem->op < 1 || problem->op >= GEMMUX_OP_COUNT)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT, "problem: unknown op %u", problem->op);
    gemmux_status status = check_shape(problem, error);
    if (!status)
        status = check_formats(problem, error);
    if (!status)
        status = check_epilogue(problem, error);
    return status;
}

const char *gemmux_problem_text(const gemmux_problem *problem, char *buffer, size_t size)
{
    char x[32], w[32], y[32], moe[48] = "";
    if (problem->op == GEMMUX_MOE)
        snprintf(moe, sizeof moe, " %d experts top-%d", problem->experts, problem->top_k);
    snprintf(buffer, size, "%s %" PRId64 "x%" PRId64 "x%" PRId64 "%s %s x %s -> %s",
             gemmux_op_name((gemmux_op)problem->op), problem->m, problem->n, problem->k, moe,
             gemmux_format_name(problem->x, x, sizeof x),
             gemmux_format_name(problem->w, w, sizeof w),
             gemmux_format_name(problem->y, y, sizeof y));
    return buffer;
}
