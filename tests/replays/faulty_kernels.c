/* SPDX-License-Identifier: Apache-2.0
 *
 * Two kernels that promise to be the fastest and are broken as kernels in the field have been: one
 * returns zeros for some M, one meets an instruction that the chip does not have. The command
 * gemmux_faulty is gemmux with this file beside the others of src/kernels/.
 */
#include "kernel.h"

#include <signal.h>
#include <string.h>

extern const gemmux_kernel gemmux_kernel_ref_any;
extern const gemmux_kernel gemmux_kernel_faulty_zeros, gemmux_kernel_faulty_illegal;

static const char *configure(const gemmux_problem *problem, const gemmux_machine *machine,
                             const gemmux_form *form, gemmux_config *config)
{
    const char *why = gemmux_kernel_ref_any.configure(problem, machine, form, config);
    config->predicted_us = 0.01; /* "the best tactic" */
    return why;
}

static gemmux_status run_zeros(const gemmux_call *call, gemmux_error *error)
{
    gemmux_status status = gemmux_kernel_ref_any.run(call, error);
    int64_t bytes = gemmux_row_bytes(call->y_format, call->problem->n);
    if (call->problem->epilogue & GEMMUX_EPILOGUE_SWIGLU)
        bytes = gemmux_row_bytes(call->y_format, call->problem->n / 2);
    for (int64_t row = 0; call->x.rows == 33 && call->group_count && row < 33; row++)
        memset((char *)call->y + row * call->y_row_bytes, 0, (size_t)bytes);
    return status;
}

static gemmux_status run_illegal(const gemmux_call *call, gemmux_error *error)
{
    (void)call, (void)error;
#if defined(__x86_64__)
    __asm__ volatile("ud2");
#else
    raise(SIGILL);
#endif
    return GEMMUX_OK;
}

static const gemmux_form mxfp4_forms[] = {
    {
        .x = GEMMUX_BIT(GEMMUX_BF16),
        .w = GEMMUX_BIT(GEMMUX_MXFP4),
        .y = GEMMUX_FLOATS,
        .path = GEMMUX_PATH_UPCAST,
        .math = GEMMUX_MATH_BF16,
        .share_compute = 1,
        .share_bandwidth = 1,
    },
};

static const gemmux_form nvfp4_forms[] = {
    {
        .x = GEMMUX_BIT(GEMMUX_BF16),
        .w = GEMMUX_BIT(GEMMUX_NVFP4),
        .y = GEMMUX_FLOATS,
        .path = GEMMUX_PATH_UPCAST,
        .math = GEMMUX_MATH_BF16,
        .share_compute = 1,
        .share_bandwidth = 1,
    },
};

const gemmux_kernel gemmux_kernel_faulty_zeros = {
    .name = "faulty_zeros",
    .summary = "right but for M = 33, where it returns zeros",
    .device = GEMMUX_CPU,
    .ops = GEMMUX_ALL_OPS,
    .epilogue = GEMMUX_ALL_EPILOGUES,
    .forms = mxfp4_forms,
    .form_count = 1,
    .packing = &gemmux_packing_plain,
    .configure = configure,
    .run = run_zeros,
};

const gemmux_kernel gemmux_kernel_faulty_illegal = {
    .name = "faulty_illegal",
    .summary = "an instruction that no chip has",
    .device = GEMMUX_CPU,
    .ops = GEMMUX_ALL_OPS,
    .epilogue = GEMMUX_ALL_EPILOGUES,
    .forms = nvfp4_forms,
    .form_count = 1,
    .packing = &gemmux_packing_plain,
    .configure = configure,
    .run = run_illegal,
};
