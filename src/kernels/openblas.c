/* SPDX-License-Identifier: Apache-2.0
 *
 * Products through OpenBLAS's sgemm and sgemv, opened at run time (driver/blas.h).
 *
 *   openblas_f32      f32 weights as the caller has them
 *   openblas_dequant  any x and w: rows of w decoded to f32 slice by slice, x once. Exact wherever
 *                     an element of w fits f32, so it is the lossless rung between kernels that
 *                     decode on the way and the reference.
 */
#include "driver/blas.h"
#include "error.h"
#include "slices.h"

#include <stdlib.h>
#include <string.h>

static gemmux_slicing slicing(const gemmux_problem *problem, int32_t workers, bool decodes)
{
    return gemmux_slicing_of(problem, workers, 4, decodes ? 4 : 0, decodes);
}

static const char *configure(const gemmux_problem *problem, const gemmux_machine *machine,
                             bool decodes, gemmux_config *config)
{
    if (problem->k > INT32_MAX / 4)
        return "K does not fit OpenBLAS's 32-bit integers";
    config->workspace_bytes = slicing(problem, machine->cores, decodes).workspace_bytes;
    return NULL;
}

static const char *f32_configure(const gemmux_problem *problem, const gemmux_machine *machine,
                                 const gemmux_form *form, gemmux_config *config)
{
    (void)form;
    return configure(problem, machine, false, config);
}

static const char *dequant_configure(const gemmux_problem *problem, const gemmux_machine *machine,
                                     const gemmux_form *form, gemmux_config *config)
{
    (void)form;
    return configure(problem, machine, true, config);
}

/* ---- prepare ---- */

typedef struct openblas_state {
    gemmux_blas blas;
    int32_t workers;
} openblas_state;

static gemmux_status dequant_prepare(const gemmux_problem *problem, const gemmux_machine *machine,
                                     const gemmux_packed *w, void **state, gemmux_error *error)
{
    (void)problem, (void)w;
    char why[256];
    const char *path = machine->library[GEMMUX_LIB_OPENBLAS].path;
    openblas_state *s = calloc(1, sizeof *s);
    if (!s)
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "OpenBLAS: out of memory");
    if (!gemmux_blas_open(&s->blas, path, why, sizeof why)) {
        free(s);
        return gemmux_fail(error, GEMMUX_ERROR_LIBRARY, "OpenBLAS: %s: %s", path, why);
    }
    s->workers = machine->cores;
    *state = s;
    return GEMMUX_OK;
}

static gemmux_status f32_prepare(const gemmux_problem *problem, const gemmux_machine *machine,
                                 const gemmux_packed *w, void **state, gemmux_error *error)
{
    if (w->plain.row_bytes % 4 || w->plain.row_bytes / 4 > INT32_MAX)
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "OpenBLAS: rows of w must be a whole number of floats apart");
    return dequant_prepare(problem, machine, w, state, error);
}

static void release(void *state)
{
    openblas_state *s = state;
    if (s)
        gemmux_blas_close(&s->blas);
    free(s);
}

/* ---- run ---- */

static void widen_row(const gemmux_slices *s, int64_t x_row, void *to)
{
    gemmux_tensor_row_f32(&s->call->x, 0, x_row, to);
}

static const void *stored_weights(const gemmux_slices *s, int32_t expert, int64_t first,
                                  int64_t count, void *scratch)
{
    (void)count, (void)scratch;
    const gemmux_tensor *w = &s->call->w->plain;
    return (const char *)w->codes + (expert * w->rows + first) * gemmux_row_stride(w);
}

static const void *decoded_weights(const gemmux_slices *s, int32_t expert, int64_t first,
                                   int64_t count, void *scratch)
{
    const gemmux_tensor *w = &s->call->w->plain;
    for (int64_t n = 0; n < count; n++)
        gemmux_tensor_row_f32(w, expert, first + n, (float *)scratch + n * w->cols);
    return scratch;
}

static int64_t block_rows(int64_t rows)
{
    return rows;
}

static int multiply(const gemmux_slices *s, uint32_t worker, const gemmux_slice *slice, float *tile)
{
    (void)worker;
    const openblas_state *state = s->context;
    const gemmux_blas *blas = &state->blas;
    int m = (int)slice->m, n = (int)slice->count, k = (int)s->call->problem->k;
    int ldx = (int)(slice->x_stride / 4), ldw = k;
    if (!s->sizes.w_bytes)
        ldw = (int)(gemmux_row_stride(&s->call->w->plain) / 4);
    int held = gemmux_omp_hold(&blas->omp);
    if (m == 1) {
        /* Some versions scale what y held by beta instead of overwriting it: NaN would stay. */
        memset(tile, 0, (size_t)n * sizeof *tile);
        blas->sgemv(GEMMUX_BLAS_ROW_MAJOR, GEMMUX_BLAS_AS_IS, n, k, 1.0f, slice->w, ldw, slice->x,
                    1, 0.0f, tile, 1);
    } else {
        blas->sgemm(GEMMUX_BLAS_ROW_MAJOR, GEMMUX_BLAS_AS_IS, GEMMUX_BLAS_TRANSPOSED, m, n, k, 1.0f,
                    slice->x, ldx, slice->w, ldw, 0.0f, tile, n);
    }
    gemmux_omp_release(&blas->omp, held);
    return 0;
}

static gemmux_status run(const gemmux_call *call, bool decodes, gemmux_error *error)
{
    openblas_state *state = call->state;
    gemmux_slices s = {
        .call = call,
        .sizes = slicing(call->problem, state->workers, decodes),
        .converts = decodes,
        .context = state,
        .convert = widen_row,
        .weights = decodes ? decoded_weights : stored_weights,
        .block = block_rows,
        .multiply = multiply,
    };
    gemmux_blas_hold(&state->blas);
    gemmux_status status = gemmux_slices_run(&s, "OpenBLAS", error);
    gemmux_blas_release(&state->blas);
    return status;
}

static gemmux_status f32_run(const gemmux_call *call, gemmux_error *error)
{
    return run(call, false, error);
}

static gemmux_status dequant_run(const gemmux_call *call, gemmux_error *error)
{
    return run(call, true, error);
}

static const gemmux_form f32_forms[] = {
    {
        .x = GEMMUX_BIT(GEMMUX_F32),
        .w = GEMMUX_BIT(GEMMUX_F32),
        .y = GEMMUX_FLOATS,
        .path = GEMMUX_PATH_NATIVE,
        .math = GEMMUX_MATH_F32,
        .share_compute = 0.6f,
        .share_bandwidth = 0.6f,
    },
};

static const gemmux_form dequant_forms[] = {
    {
        .x = GEMMUX_ALL_FORMATS,
        .w = GEMMUX_ALL_FORMATS,
        .y = GEMMUX_FLOATS,
        .path = GEMMUX_PATH_DEQUANT,
        .math = GEMMUX_MATH_F32,
        .share_compute = 0.4f,
        .share_bandwidth = 0.05f,
    },
};

const gemmux_kernel gemmux_kernel_openblas_f32 = {
    .name = "openblas_f32",
    .summary = "OpenBLAS's sgemm and sgemv",
    .device = GEMMUX_CPU,
    .library = GEMMUX_LIB_OPENBLAS,
    .library_min = 300, /* 0.3.0 */
    .ops = GEMMUX_ALL_OPS,
    .epilogue = GEMMUX_ALL_EPILOGUES,
    .forms = f32_forms,
    .form_count = 1,
    .packing = &gemmux_packing_plain,
    .configure = f32_configure,
    .prepare = f32_prepare,
    .release = release,
    .run = f32_run,
};

const gemmux_kernel gemmux_kernel_openblas_dequant = {
    .name = "openblas_dequant",
    .summary = "any operands decoded to f32 slice by slice, then OpenBLAS's sgemm",
    .device = GEMMUX_CPU,
    .library = GEMMUX_LIB_OPENBLAS,
    .library_min = 300,
    .ops = GEMMUX_ALL_OPS,
    .epilogue = GEMMUX_ALL_EPILOGUES,
    .forms = dequant_forms,
    .form_count = 1,
    .packing = &gemmux_packing_plain,
    .configure = dequant_configure,
    .prepare = dequant_prepare,
    .release = release,
    .run = dequant_run,
};
