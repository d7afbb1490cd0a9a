/* SPDX-License-Identifier: Apache-2.0
 *
 * The one header a kernel author reads. A kernel is code with a contract; the contract is the
 * descriptor below and stands beside the code, one file a family, in src/kernels/. The build lists
 * that folder for definitions of the form
 *
 *     const gemmux_kernel gemmux_kernel_NAME = { ... };
 *
 * and makes the table; select, explain, check, bench, tests and docs loop over it. A descriptor
 * exists on every host. Where its code cannot be built, run is NULL and "not built here" is a
 * reason like any other. Zero means "no limit" everywhere in a descriptor.
 */
#ifndef GEMMUX_KERNEL_H
#define GEMMUX_KERNEL_H

#include "gemmux.h"
#include "packing.h"

/* Sets of formats, element codes, ops and scalings are bit sets. */
#define GEMMUX_BIT(id)     (UINT32_C(1) << (id))
#define GEMMUX_FLOATS      (GEMMUX_BIT(GEMMUX_F32) | GEMMUX_BIT(GEMMUX_F16) | GEMMUX_BIT(GEMMUX_BF16))
#define GEMMUX_ALL_FORMATS (GEMMUX_BIT(GEMMUX_FORMAT_COUNT) - 2u)
#define GEMMUX_ALL_OPS                                                                             \
    (GEMMUX_BIT(GEMMUX_MATMUL) | GEMMUX_BIT(GEMMUX_LINEAR) | GEMMUX_BIT(GEMMUX_MOE))
#define GEMMUX_ALL_EPILOGUES                                                                       \
    (GEMMUX_EPILOGUE_BIAS | GEMMUX_EPILOGUE_SWIGLU | GEMMUX_EPILOGUE_GATHER |                      \
     GEMMUX_EPILOGUE_SCATTER)

/* One row of the formats a kernel takes: any x in `x` with any w in `w` giving any y in `y`. The
 * first row that fits the problem and whose liberties are allowed is the one that runs. */
typedef struct gemmux_form {
    uint32_t x, w, y;   /* sets of gemmux_format_id */
    uint32_t x_scaling; /* set of gemmux_scaling; 0: any */
    uint32_t w_scaling;
    uint32_t w_scale;         /* set of gemmux_code of w's scales; 0: any */
    uint32_t w_zero;          /* set of gemmux_zero; 0: any */
    int32_t w_group_multiple; /* w's group along K must be a multiple of this */
    int32_t x_group_multiple;
    uint8_t path; /* gemmux_path */
    uint8_t math; /* gemmux_math: which peak bounds it */
    uint32_t liberties;
    float share_compute;   /* of that peak, at large M; an estimate until measured */
    float share_bandwidth; /* of the read bandwidth, at small M */
} gemmux_form;

/* What configure decides for one problem; all of it is visible in the decision. */
typedef struct gemmux_config {
    int64_t workspace_bytes;              /* that the kernel itself needs, beyond run.c's own */
    double predicted_us;                  /* 0: select's roofline formula holds */
    float share_compute, share_bandwidth; /* of what runs for this problem; 0: the form's */
    const char *tile;                     /* as in gemmux_decision */
    int32_t smem_bytes, wanted_smem_bytes;
} gemmux_config;

/* How a CUDA kernel's architecture range is meant (GPU compatibility rules). */
typedef enum gemmux_arch_rule {
    GEMMUX_ARCH_PLAIN = 0, /* cc >= cc_min (and <= cc_max if set) */
    GEMMUX_ARCH_EXACT,     /* cc == cc_min: code with an 'a' suffix */
    GEMMUX_ARCH_FAMILY     /* same family as cc_min, same or newer: code with an 'f' suffix */
} gemmux_arch_rule;

/* Rows of x that meet one matrix of w. Dense products have one group whose lists are NULL. */
typedef struct gemmux_group {
    int32_t expert;
    int32_t row_count;
    const int32_t *x_rows; /* [row_count] rows of x; NULL: 0, 1, 2 ... */
    const int32_t *y_rows; /* [row_count] rows of y; NULL: 0, 1, 2 ... */
} gemmux_group;

/* Bytes at the start of a CUDA plan's workspace that are zero between runs: counters of kernels
 * that share a packing, and so a plan. Whoever fills the workspace with anything else starts
 * behind. */
enum { GEMMUX_WORKSPACE_COUNTERS = 64 * 1024 };

/* Everything run gets. No allocation, no failure but a library's or a device's.
 *
 * CPU: run.c has gathered columns (k_order), sorted rows into groups and, with SCATTER, made y an
 * f32 buffer that it reduces afterwards. So a CPU kernel multiplies groups, adds bias, applies
 * SWIGLU and stores in y_format; src/kernels/epilogue.h does the last three.
 * CUDA: x, y, ids are device pointers as the caller gave them, w, bias, w->plain.k_order and the
 * workspace (zeroed once, at prepare) live on the device too; the kernel does everything. It may
 * neither wait nor allocate, so that a run can be captured in a CUDA graph.                     */
typedef struct gemmux_call {
    const gemmux_problem *problem; /* with the m of this call */
    uint8_t form;
    const gemmux_packed *w;
    const float *bias; /* [count, n], or NULL */
    gemmux_tensor x;
    void *y;
    int64_t y_row_bytes;
    gemmux_format y_format;
    const gemmux_group *groups;
    int group_count;
    const int32_t *expert_ids;
    const float *expert_weights;
    void *workspace; /* 64-byte aligned, config.workspace_bytes */
    int64_t workspace_bytes;
    gemmux_threads *threads; /* NULL: the calling thread alone */
    void *state;             /* what prepare made */
    void *stream;
} gemmux_call;

struct gemmux_kernel {
    const char *name;
    const char *summary; /* one line: what it does, on what */

    uint8_t device;  /* gemmux_device_kind */
    uint32_t isa;    /* CPU: gemmux_isa bits that must all be there */
    float times_f32; /* CPU: its instructions do at most so many times the machine's f32 peak,
                        whatever faster ones do; shares are of that. 0: no such limit */
    int32_t cc_min;  /* CUDA: 10 * major + minor */
    int32_t cc_max;
    uint8_t arch_rule; /* gemmux_arch_rule */
    int32_t smem_bytes;

    uint8_t library; /* gemmux_library_id; NONE: our own code */
    int32_t library_min;

    uint32_t ops;      /* set of gemmux_op */
    uint32_t epilogue; /* bits of gemmux_epilogue it can do */
    const gemmux_form *forms;
    int32_t form_count;
    const gemmux_packing *packing;

    int64_t m_min, m_max; /* rows of the product */
    int32_t m_multiple, n_multiple, k_multiple;
    int32_t align; /* bytes, of x and y and their rows */

    bool floor; /* the last rung: also answers for devices of another kind, and has no rival */
    double overhead_us; /* above the machine's launch_us */
    /* NULL, or what this code has and has not been through, said of code that no device of its kind
     * has run yet: "compiled ..., not run on a device yet". A machine that is present then takes it
     * only by name or with a certificate. */
    const char *unproven;
    /* CUDA: devices of this compute capability have run it, at the commits that bench/results
     * names, and all its tests passed there; `unproven` does not hold of them. */
    int32_t proved_cc;

    /* The rule that data cannot say. Returns NULL, or why nothing fits (a constant string or one
     * with static life). Pure. May be NULL. */
    const char *(*configure)(const gemmux_problem *problem, const gemmux_machine *machine,
                             const gemmux_form *form, gemmux_config *config);
    /* Makes library handles for one plan; may be NULL. Runs once, may fail and allocate. */
    gemmux_status (*prepare)(const gemmux_problem *problem, const gemmux_machine *machine,
                             const gemmux_packed *w, void **state, gemmux_error *error);
    /* Gets the bias, [n] in f32 on the host, once after prepare where the problem of a dense
     * product adds one: for kernels whose library reads it in another type. May refuse values that
     * it would round. NULL: run reads call->bias. */
    gemmux_status (*take_bias)(void *state, const float *bias, int64_t n, gemmux_error *error);
    void (*release)(void *state);
    /* NULL: not built here. */
    gemmux_status (*run)(const gemmux_call *call, gemmux_error *error);
};

struct gemmux_kernel_table {
    const gemmux_kernel *const *kernels;
    int count;
};

extern const struct gemmux_kernel_table gemmux_builtin_kernels; /* generated by the build */

/* parallel.c: fn(context, i) for i in [0, count), dynamic; thread ids are not given. Work items
 * should be coarse. NULL threads: a plain loop. */
void gemmux_parallel(gemmux_threads *threads, void (*fn)(void *context, size_t i), void *context,
                     size_t count);
/* The same with the worker's index in [0, gemmux_threads_count), for scratch of its own. */
void gemmux_parallel_workers(gemmux_threads *threads,
                             void (*fn)(void *context, uint32_t worker, size_t i), void *context,
                             size_t count);

#endif
