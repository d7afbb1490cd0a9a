/* SPDX-License-Identifier: Apache-2.0
 *
 * Products through oneDNN's matmul, opened at run time (driver/dnnl.h).
 *
 *   onednn_f32, _bf16, _int8   weights packed as oneDNN wants them (packings/tile64.h)
 *   onednn_f32_plain, _bf16_plain   weights as the caller has them: oneDNN copies blocks of them
 *                              at each call, which pays only where w changes with every call
 *   onednn_dequant             any w, a slice at a time decoded to bf16
 *
 * oneDNN compiles one primitive a shape, in about 0.5 ms. Rows of x are therefore multiplied in
 * blocks of few different sizes (block_rows), and a plan keeps the primitives it has met: prepare
 * makes those of its largest M, run those that are still missing, before the workers start.
 */
#include "bf16_rows.h"
#include "driver/dnnl.h"
#include "error.h"
#include "packings/tile64.h"
#include "slices.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Sizes of a block: 1 to 64, then multiples of 16 up to GEMMUX_SLICE_ROWS. */
enum {
    EXACT = 64,
    STEP = 16,
    SIZES = EXACT + (GEMMUX_SLICE_ROWS - EXACT) / STEP,
};

static int64_t block_rows(int64_t rows)
{
    if (rows > GEMMUX_SLICE_ROWS)
        return GEMMUX_SLICE_ROWS;
    return rows <= EXACT ? rows : rows / STEP * STEP;
}

static int size_index(int64_t rows)
{
    return (int)(rows <= EXACT ? rows - 1 : EXACT - 1 + (rows - EXACT) / STEP);
}

/* What one kernel asks of oneDNN. */
typedef struct recipe {
    gemmux_dnnl_type x, w, y;
    bool tiled;
    bool decodes;         /* w comes out of a worker's scratch */
    bool converts;        /* x is never multiplied as it is */
    gemmux_slices slices; /* with weights, convert and multiply */
} recipe;

typedef struct onednn_state {
    gemmux_dnnl dnnl;
    const recipe *recipe;
    int64_t k, width, tail; /* rows of w in a slice, and in the last one */
    gemmux_dnnl_matmul matmuls[2][SIZES];
    char *scratch;
    int64_t scratch_bytes; /* a worker's */
    int32_t workers;
} onednn_state;

static int64_t bytes_of(gemmux_dnnl_type type)
{
    return type == GEMMUX_DNNL_F32 || type == GEMMUX_DNNL_S32    ? 4
           : type == GEMMUX_DNNL_BF16 || type == GEMMUX_DNNL_F16 ? 2
                                                                 : 1;
}

static gemmux_slicing slicing(const gemmux_problem *problem, const recipe *r, int32_t workers)
{
    return gemmux_slicing_of(problem, workers, bytes_of(r->x), r->decodes ? bytes_of(r->w) : 0,
                             r->converts);
}

/* ---- prepare ---- */

static gemmux_status need_matmul(onednn_state *s, int64_t m, int64_t n, gemmux_error *error)
{
    gemmux_dnnl_matmul *matmul = &s->matmuls[n != s->width][size_index(m)];
    if (matmul->primitive)
        return GEMMUX_OK;
    const gemmux_dnnl_shape shape = {.x = s->recipe->x,
                                     .w = s->recipe->w,
                                     .y = s->recipe->y,
                                     .m = m,
                                     .n = n,
                                     .k = s->k,
                                     .tiled = s->recipe->tiled};
    gemmux_status status = gemmux_dnnl_matmul_create(&s->dnnl, &shape, matmul, error);
    if (status || matmul->scratch_bytes <= s->scratch_bytes)
        return status;
    int64_t bytes = (matmul->scratch_bytes + 63) / 64 * 64;
    char *scratch = aligned_alloc(64, (size_t)(bytes * s->workers));
    if (!scratch)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "oneDNN: out of memory for its scratch");
    free(s->scratch);
    s->scratch = scratch;
    s->scratch_bytes = bytes;
    return GEMMUX_OK;
}

/* All primitives that `rows` rows of x need. */
static gemmux_status need_rows(onednn_state *s, int64_t rows, gemmux_error *error)
{
    int held = gemmux_omp_hold(&s->dnnl.omp);
    gemmux_status status = GEMMUX_OK;
    while (rows > 0 && !status) {
        int64_t m = block_rows(rows);
        status = need_matmul(s, m, s->width, error);
        if (!status && s->tail != s->width)
            status = need_matmul(s, m, s->tail, error);
        rows = m == GEMMUX_SLICE_ROWS ? rows % m : rows - m;
    }
    gemmux_omp_release(&s->dnnl.omp, held);
    return status;
}

static void release(void *state)
{
    onednn_state *s = state;
    if (!s)
        return;
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < SIZES; j++)
            if (s->matmuls[i][j].primitive)
                gemmux_dnnl_matmul_free(&s->dnnl, &s->matmuls[i][j]);
    if (s->dnnl.library)
        gemmux_dnnl_close(&s->dnnl);
    free(s->scratch);
    free(s);
}

static gemmux_status prepare(const gemmux_problem *problem, const gemmux_machine *machine,
                             const gemmux_packed *w, const recipe *r, void **state,
                             gemmux_error *error)
{
    char why[256];
    int64_t row_bytes = gemmux_row_bytes(problem->w, problem->k);
    if (!r->tiled && !r->decodes && w->plain.row_bytes && w->plain.row_bytes != row_bytes)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "oneDNN: reads weights in place only where their rows are dense");
    onednn_state *s = calloc(1, sizeof *s);
    if (!s)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "oneDNN: out of memory");
    const char *path = machine->library[GEMMUX_LIB_ONEDNN].path;
    if (!gemmux_dnnl_open(&s->dnnl, path, why, sizeof why)) {
        free(s);
        return gemmux_fail(error, GEMMUX_ERROR_LIBRARY, "oneDNN: %s: %s", path, why);
    }
    s->recipe = r;
    s->workers = machine->cores > 0 ? machine->cores : 1;
    s->k = problem->k;
    s->width = slicing(problem, r, s->workers).width;
    s->tail = problem->n % s->width ? problem->n % s->width : s->width;
    if (problem->n < s->width)
        s->width = s->tail;
    /* A moe's experts see fewer rows than there are; run makes what they turn out to need. */
    gemmux_status status =
        problem->k > 0 ? need_rows(s, gemmux_problem_rows(problem), error) : GEMMUX_OK;
    if (status) {
        release(s);
        return status;
    }
    *state = s;
    return GEMMUX_OK;
}

/* ---- run ---- */

static void copy_row(const gemmux_slices *s, int64_t x_row, void *to)
{
    const gemmux_tensor *x = &s->call->x;
    memcpy(to, (const char *)x->codes + x_row * gemmux_row_stride(x),
           (size_t)(x->cols * s->sizes.x_element_bytes));
}

/* VPDPBUSD multiplies unsigned by signed: x + 128, as oneDNN itself would make it. */
static void shift_row(const gemmux_slices *s, int64_t x_row, void *to)
{
    const gemmux_tensor *x = &s->call->x;
    const uint8_t *from = (const uint8_t *)x->codes + x_row * gemmux_row_stride(x);
    uint8_t *shifted = to;
    for (int64_t k = 0; k < x->cols; k++)
        shifted[k] = from[k] ^ 0x80;
}

static const void *tiled_weights(const gemmux_slices *s, int32_t expert, int64_t first,
                                 int64_t count, void *scratch)
{
    (void)count, (void)scratch;
    return gemmux_tile64_codes(s->call->w, expert, first);
}

static const void *plain_weights(const gemmux_slices *s, int32_t expert, int64_t first,
                                 int64_t count, void *scratch)
{
    (void)count, (void)scratch;
    const gemmux_tensor *w = &s->call->w->plain;
    return (const char *)w->codes + (expert * w->rows + first) * gemmux_row_stride(w);
}

static int multiply(const gemmux_slices *s, uint32_t worker, const gemmux_slice *slice, float *tile)
{
    const onednn_state *state = s->context;
    const gemmux_dnnl_matmul *matmul =
        &state->matmuls[slice->count != state->width][size_index(slice->m)];
    int held = gemmux_omp_hold(&state->dnnl.omp);
    int status = gemmux_dnnl_matmul_run(&state->dnnl, matmul, slice->x, slice->w, tile,
                                        state->scratch + worker * state->scratch_bytes);
    gemmux_omp_release(&state->dnnl.omp, held);
    return status;
}

/* y = sx * sw * (sum((x + 128) * w) - 128 * sum(w)), in place. In f32 while sx * sw keeps all of
 * its bits, else in f64: two ordinary scales may have a product that f32 rounds to a subnormal or
 * to 0. */
static void scale_sums(float *row, int64_t count, const int32_t *sums, float x_scale,
                       const float *scales, bool wide)
{
    for (int64_t n = 0; n < count; n++) {
        int32_t sum;
        memcpy(&sum, &row[n], sizeof sum);
        sum -= 128 * sums[n];
        row[n] = wide ? (float)((double)x_scale * (double)scales[n] * (double)sum)
                      : (float)sum * (x_scale * scales[n]);
    }
}

static int multiply_int8(const gemmux_slices *s, uint32_t worker, const gemmux_slice *slice,
                         float *tile)
{
    const gemmux_call *call = s->call;
    const int32_t *sums = gemmux_tile64_sums(call->w, slice->expert) + slice->first;
    const float *scales = gemmux_tile64_scales(call->w, slice->expert) + slice->first;
    float least = INFINITY, most = 0;
    for (int64_t n = 0; n < slice->count; n++) {
        least = fminf(least, fabsf(scales[n]));
        most = fmaxf(most, fabsf(scales[n]));
    }
    int status = multiply(s, worker, slice, tile);
    for (int64_t i = 0; i < slice->m && !status; i++) {
        int64_t x_row = slice->x_rows ? slice->x_rows[i] : slice->x_first + i;
        float x_scale = gemmux_bf16_row_factor(&call->x, 0, x_row);
        bool wide = !(fabsf(x_scale) * least >= 0x1p-100f && fabsf(x_scale) * most <= 0x1p90f);
        float *row = tile + i * slice->count;
        if (wide)
            scale_sums(row, slice->count, sums, x_scale, scales, true);
        else
            scale_sums(row, slice->count, sums, x_scale, scales, false);
    }
    return status;
}

static const void *decoded_weights(const gemmux_slices *s, int32_t expert, int64_t first,
                                   int64_t count, void *scratch)
{
    const gemmux_tensor *w = &s->call->w->plain;
    for (int64_t n = 0; n < count; n++)
        gemmux_bf16_row_avx512(w, expert, first + n, (uint16_t *)scratch + n * w->cols);
    return scratch;
}

static int multiply_decoded(const gemmux_slices *s, uint32_t worker, const gemmux_slice *slice,
                            float *tile)
{
    float factors[GEMMUX_SLICE_WIDTH];
    bool ones = true;
    for (int64_t n = 0; n < slice->count; n++) {
        factors[n] = gemmux_bf16_row_factor(&s->call->w->plain, slice->expert, slice->first + n);
        ones = ones && factors[n] == 1.0f;
    }
    int status = multiply(s, worker, slice, tile);
    for (int64_t i = 0; i < slice->m && !status && !ones; i++)
        for (int64_t n = 0; n < slice->count; n++)
            tile[i * slice->count + n] *= factors[n];
    return status;
}

static gemmux_status need(const gemmux_slices *s, int64_t rows, gemmux_error *error)
{
    return need_rows(s->context, rows, error);
}

static gemmux_status run(const gemmux_call *call, gemmux_error *error)
{
    onednn_state *state = call->state;
    gemmux_slices s = state->recipe->slices;
    s.call = call;
    s.context = state;
    s.converts = state->recipe->converts;
    s.block = block_rows;
    s.need = need;
    s.sizes = slicing(call->problem, state->recipe, state->workers);
    return gemmux_slices_run(&s, "oneDNN", error);
}

static const char *configure(const gemmux_problem *problem, const gemmux_machine *machine,
                             const recipe *r, gemmux_config *config)
{
    /* 255 * 128 * K must stay below 2^31 in oneDNN's 32-bit sums. */
    if (r->y == GEMMUX_DNNL_S32 && problem->k > 65536)
        return "K above 65536 could overflow oneDNN's 32-bit sums";
    config->workspace_bytes = slicing(problem, r, machine->cores).workspace_bytes;
    return NULL;
}

#define SLICES(the_weights, the_convert, the_multiply)                                             \
    {                                                                                              \
        .weights = the_weights, .convert = the_convert, .multiply = the_multiply                   \
    }

static const recipe f32_recipe = {
    .x = GEMMUX_DNNL_F32,
    .w = GEMMUX_DNNL_F32,
    .y = GEMMUX_DNNL_F32,
    .tiled = true,
    .slices = SLICES(tiled_weights, copy_row, multiply),
};
static const recipe bf16_recipe = {
    .x = GEMMUX_DNNL_BF16,
    .w = GEMMUX_DNNL_BF16,
    .y = GEMMUX_DNNL_F32,
    .tiled = true,
    .slices = SLICES(tiled_weights, copy_row, multiply),
};
static const recipe int8_recipe = {
    .x = GEMMUX_DNNL_U8,
    .w = GEMMUX_DNNL_S8,
    .y = GEMMUX_DNNL_S32,
    .tiled = true,
    .converts = true,
    .slices = SLICES(tiled_weights, shift_row, multiply_int8),
};
static const recipe f32_plain_recipe = {
    .x = GEMMUX_DNNL_F32,
    .w = GEMMUX_DNNL_F32,
    .y = GEMMUX_DNNL_F32,
    .slices = SLICES(plain_weights, copy_row, multiply),
};
static const recipe bf16_plain_recipe = {
    .x = GEMMUX_DNNL_BF16,
    .w = GEMMUX_DNNL_BF16,
    .y = GEMMUX_DNNL_F32,
    .slices = SLICES(plain_weights, copy_row, multiply),
};
static const recipe dequant_recipe = {
    .x = GEMMUX_DNNL_BF16,
    .w = GEMMUX_DNNL_BF16,
    .y = GEMMUX_DNNL_F32,
    .decodes = true,
    .slices = SLICES(decoded_weights, copy_row, multiply_decoded),
};

/* A descriptor's functions get no descriptor: each kernel has two of its own that add its recipe.
 */
#define WITH_RECIPE(name)                                                                          \
    static const char *name##_configure(const gemmux_problem *problem,                             \
                                        const gemmux_machine *machine, const gemmux_form *form,    \
                                        gemmux_config *config)                                     \
    {                                                                                              \
        (void)form;                                                                                \
        return configure(problem, machine, &name##_recipe, config);                                \
    }                                                                                              \
    static gemmux_status name##_prepare(const gemmux_problem *problem,                             \
                                        const gemmux_machine *machine, const gemmux_packed *w,     \
                                        void **state, gemmux_error *error)                         \
    {                                                                                              \
        return prepare(problem, machine, w, &name##_recipe, state, error);                         \
    }
WITH_RECIPE(f32)
WITH_RECIPE(bf16)
WITH_RECIPE(int8)
WITH_RECIPE(f32_plain)
WITH_RECIPE(bf16_plain)
WITH_RECIPE(dequant)

#define FLOAT_FORM(format, kind, taken)                                                            \
    {                                                                                              \
        .x = GEMMUX_BIT(format), .w = GEMMUX_BIT(format), .y = GEMMUX_FLOATS,                      \
        .path = GEMMUX_PATH_NATIVE, .math = kind, .liberties = taken, .share_compute = 0.75f,      \
        .share_bandwidth = 0.8f,                                                                   \
    }
/* VDPBF16PS takes subnormal inputs and sums for zero, whatever MXCSR says. */
#define FLUSH GEMMUX_LIBERTY_FLUSH_SUBNORMALS

static const gemmux_form f32_forms[] = {FLOAT_FORM(GEMMUX_F32, GEMMUX_MATH_F32, 0)};
static const gemmux_form bf16_forms[] = {FLOAT_FORM(GEMMUX_BF16, GEMMUX_MATH_BF16, FLUSH)};

#define ROW_OR_TENSOR (GEMMUX_BIT(GEMMUX_SCALING_ROW) | GEMMUX_BIT(GEMMUX_SCALING_TENSOR))

static const gemmux_form int8_forms[] = {
    {
        .x = GEMMUX_BIT(GEMMUX_INT8),
        .w = GEMMUX_BIT(GEMMUX_INT8),
        .y = GEMMUX_FLOATS,
        .x_scaling = ROW_OR_TENSOR,
        .w_scaling = ROW_OR_TENSOR,
        .w_scale = GEMMUX_BIT(GEMMUX_CODE_F32),
        .w_zero = GEMMUX_BIT(GEMMUX_ZERO_NONE),
        .path = GEMMUX_PATH_NATIVE,
        .math = GEMMUX_MATH_INT8,
        .share_compute = 0.7f,
        .share_bandwidth = 0.8f,
    },
};

#define DEQUANT_FORM(...)                                                                          \
    {                                                                                              \
        .x = GEMMUX_BIT(GEMMUX_BF16), .y = GEMMUX_FLOATS, .path = GEMMUX_PATH_DEQUANT,             \
        .math = GEMMUX_MATH_BF16, .share_compute = 0.5f, .share_bandwidth = 0.2f, __VA_ARGS__      \
    }

/* Exact where code times scale fits bf16's 8 bits: 2 or 4 bits of code with a power of two or 4
 * bits of scale; or where the codes alone fit and the scale can wait for the sums. */
static const gemmux_form dequant_forms[] = {
    DEQUANT_FORM(.w =
                     GEMMUX_BIT(GEMMUX_MXFP4) | GEMMUX_BIT(GEMMUX_MXFP8) | GEMMUX_BIT(GEMMUX_NVFP4),
                 .liberties = FLUSH),
    DEQUANT_FORM(.w = GEMMUX_BIT(GEMMUX_E4M3) | GEMMUX_BIT(GEMMUX_E5M2) | GEMMUX_BIT(GEMMUX_INT8),
                 .w_scaling = ROW_OR_TENSOR, .w_zero = GEMMUX_BIT(GEMMUX_ZERO_NONE),
                 .liberties = FLUSH),
    DEQUANT_FORM(.w = GEMMUX_BIT(GEMMUX_INT4), .w_scaling = ROW_OR_TENSOR,
                 .w_zero = GEMMUX_BIT(GEMMUX_ZERO_NONE) | GEMMUX_BIT(GEMMUX_ZERO_POINT),
                 .liberties = FLUSH),
    DEQUANT_FORM(.w = GEMMUX_ALL_FORMATS & ~GEMMUX_BIT(GEMMUX_BF16),
                 .liberties = FLUSH | GEMMUX_LIBERTY_ROUNDED_W),
};

/* Sets with all that they imply. */
enum {
    ISA_AVX2 = GEMMUX_ISA_AVX2 | GEMMUX_ISA_SSE2,
    ISA_AVX512 = GEMMUX_ISA_AVX512 | ISA_AVX2,
    ISA_BF16 = GEMMUX_ISA_AVX512BF16 | ISA_AVX512,
    ISA_VNNI = GEMMUX_ISA_AVX512VNNI | ISA_AVX512,
};

/* With AMX, too, it did less than three times the f32 peak (bench/results/amx-2026-11-23-xeon.txt):
 * of four, the share that it reaches elsewhere. */
#define BF16_TIMES_F32 4

#define COMMON(prefix, the_forms)                                                                  \
    .device = GEMMUX_CPU, .library = GEMMUX_LIB_ONEDNN, .library_min = 20600,                      \
    .ops = GEMMUX_ALL_OPS, .epilogue = GEMMUX_ALL_EPILOGUES, .forms = the_forms,                   \
    .form_count = sizeof the_forms / sizeof the_forms[0], .configure = prefix##_configure,         \
    .prepare = prefix##_prepare, .release = release

const gemmux_kernel gemmux_kernel_onednn_f32 = {
    .name = "onednn_f32",
    .summary = "oneDNN's f32 product, weights packed its way",
    .isa = ISA_AVX512,
    .packing = &gemmux_packing_tile64,
    COMMON(f32, f32_forms),
    .run = run,
};

const gemmux_kernel gemmux_kernel_onednn_bf16 = {
    .name = "onednn_bf16",
    .summary = "oneDNN's bf16 product, weights packed its way",
    .isa = ISA_BF16,
    .times_f32 = BF16_TIMES_F32,
    .packing = &gemmux_packing_tile64,
    COMMON(bf16, bf16_forms),
    .run = run,
};

const gemmux_kernel gemmux_kernel_onednn_int8 = {
    .name = "onednn_int8",
    .summary = "oneDNN's int8 product with 32-bit sums, scales afterwards",
    .isa = ISA_VNNI,
    .packing = &gemmux_packing_tile64,
    COMMON(int8, int8_forms),
    .run = run,
};

const gemmux_kernel gemmux_kernel_onednn_f32_plain = {
    .name = "onednn_f32_plain",
    .summary = "oneDNN's f32 product of weights as they are",
    .isa = ISA_AVX2,
    .packing = &gemmux_packing_plain,
    COMMON(f32_plain, f32_forms),
    .run = run,
};

const gemmux_kernel gemmux_kernel_onednn_bf16_plain = {
    .name = "onednn_bf16_plain",
    .summary = "oneDNN's bf16 product of weights as they are",
    .isa = ISA_BF16,
    .times_f32 = BF16_TIMES_F32,
    .packing = &gemmux_packing_plain,
    COMMON(bf16_plain, bf16_forms),
    .run = run,
};

const gemmux_kernel gemmux_kernel_onednn_dequant = {
    .name = "onednn_dequant",
    .summary = "any weights decoded to bf16 slice by slice, then oneDNN's bf16 product",
    .isa = ISA_BF16,
    .times_f32 = BF16_TIMES_F32,
    .packing = &gemmux_packing_plain,
    COMMON(dequant, dequant_forms),
#if defined(__x86_64__)
    .run = run,
#endif
};
