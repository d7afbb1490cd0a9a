/* SPDX-License-Identifier: Apache-2.0
 *
 * Certification on a GPU, or on the emulator: kernels that are cuda_ref_any but for one fault are
 * each caught, under the right name, in a program of their own, and the one without a fault passes.
 * This program is also that other one.
 *
 *     gpu_certify [NAME|sticky]
 *
 * Exit code 77 where there is no device, 1 where a fault went unnoticed.
 */
#include "certify_prover.h"
#include "kernel.h"
#include "kernels/cuda_launch.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const unsigned char planted_image[], *const planted_image_end;
extern const gemmux_kernel gemmux_kernel_cuda_ref_any;

/* What happens after the right product, to runs of this many rows. */
typedef struct fault {
    const char *name, *function;
    int64_t rows; /* 0: all */
    double seconds;
    gemmux_proof proof;
    const char *evidence; /* one of the words in it, or NULL */
    const char *instead;  /* or this one, of the emulator */
} fault;

static const fault faults[] = {
    {"planted_right", "planted_nothing", 0, 300, GEMMUX_PROOF_PROVED, "of the bound", NULL},
    {"planted_trap", "planted_trap", 17, 60, GEMMUX_PROOF_CRASHED, "launch failure", "SIGABRT"},
    {"planted_illegal", "planted_illegal", 17, 60, GEMMUX_PROOF_CRASHED, "illegal instruction",
     "SIGABRT"},
    {"planted_hang", "planted_hang", 2, 6, GEMMUX_PROOF_HUNG, "no result after", NULL},
    {"planted_far", "planted_write", 7, 60, GEMMUX_PROOF_CRASHED, "illegal address", "SIGSEGV"},
    {"planted_past_the_end", "planted_write", 7, 60, GEMMUX_PROOF_WRONG, "past the end", NULL},
    {"planted_over_the_edge", "planted_write", 8, 60, GEMMUX_PROOF_CRASHED, "illegal address",
     "SIGSEGV"},
    {"planted_into_x", "planted_write", 15, 60, GEMMUX_PROOF_WRONG, "wrote to x", NULL},
    {"planted_off", "planted_write", 16, 60, GEMMUX_PROOF_WRONG, "bound", NULL},
    {"planted_greedy", "planted_nothing", 0, 60, GEMMUX_PROOF_SKIPPED, "no room", "OUT_OF_MEMORY"},
    {"planted_shy", "planted_nothing", 0, 60, GEMMUX_PROOF_SKIPPED, "not today", NULL},
};
enum { FAULTS = sizeof faults / sizeof faults[0] };

static gemmux_kernel kernels[FAULTS];
static const gemmux_kernel *pointers[FAULTS];
static const struct gemmux_kernel_table table = {pointers, FAULTS};

typedef struct planted_state {
    void *right; /* cuda_ref_any's */
    gemmux_cuda_device device;
    gemmux_cu_module module;
    gemmux_cu_function function;
    const fault *fault;
} planted_state;

/* ---- the kernels ---- */

/* What no instruction is, in place of planted_illegal's machine code, in one cubin of the image. */
static void overwrite(unsigned char *elf, size_t room)
{
    Elf64_Ehdr header;
    Elf64_Shdr section, names;
    memcpy(&header, elf, sizeof header);
    if (header.e_machine != 190 || header.e_shoff + header.e_shnum * sizeof section > room)
        return;
    memcpy(&names, elf + header.e_shoff + header.e_shstrndx * sizeof names, sizeof names);
    for (int i = 0; i < header.e_shnum; i++) {
        memcpy(&section, elf + header.e_shoff + (size_t)i * sizeof section, sizeof section);
        const char *name = (const char *)elf + names.sh_offset + section.sh_name;
        if (!strcmp(name, ".text.planted_illegal"))
            memset(elf + section.sh_offset, 0xff, section.sh_size);
    }
}

static const void *image(void)
{
    size_t size = (size_t)(planted_image_end - planted_image);
    unsigned char *copy = aligned_alloc(64, (size + 64) / 64 * 64), *at = copy;
    memcpy(copy, planted_image, size);
    while (size && (at = memmem(at, size - (size_t)(at - copy), ELFMAG, SELFMAG))) {
        size_t room = size - (size_t)(at - copy);
        if (room > sizeof(Elf64_Ehdr))
            overwrite(at, room);
        at += SELFMAG;
    }
    return copy; /* for the life of this process */
}

static gemmux_status prepare(const fault *f, const gemmux_problem *problem,
                             const gemmux_machine *machine, const gemmux_packed *w, void **state,
                             gemmux_error *error)
{
    static planted_state loaded; /* the process that proves keeps its module */
    planted_state *s = calloc(1, sizeof *s);
    void *right;
    gemmux_status status = gemmux_kernel_cuda_ref_any.prepare(problem, machine, w, &right, error);
    if (!status && !strcmp(f->name, "planted_shy"))
        return gemmux_fail(error, GEMMUX_ERROR_LIBRARY, "not today");
    if (!status && !loaded.module) {
        status = gemmux_cuda_device_open(&loaded.device, gemmux_cuda_index(machine), error);
        if (!status)
            status = gemmux_cuda_enter(&loaded.device, error);
        const gemmux_cuda *cuda = &loaded.device.cuda;
        int result = status ? 0 : cuda->module_load(&loaded.module, image());
        if (!status && !result)
            result = cuda->module_function(&loaded.function, loaded.module, f->function);
        if (result)
            status = gemmux_cuda_fail(cuda, result, "planted", error);
    }
    *s = loaded;
    s->right = right;
    s->fault = f;
    *state = s;
    return status;
}

static void release(void *state)
{
    gemmux_kernel_cuda_ref_any.release(((planted_state *)state)->right);
    free(state);
}

static gemmux_status run(const gemmux_call *call, gemmux_error *error)
{
    const planted_state *s = call->state;
    gemmux_call inner = *call;
    inner.state = s->right;
    gemmux_status status = gemmux_kernel_cuda_ref_any.run(&inner, error);
    if (status || (s->fault->rows && s->fault->rows != call->x.rows))
        return status;
    const gemmux_problem *p = call->problem;
    int64_t columns = p->epilogue & GEMMUX_EPILOGUE_SWIGLU ? p->n / 2 : p->n;
    int64_t y_row = gemmux_row_bytes(call->y_format, columns);
    const char *name = s->fault->name;
    unsigned char *at = call->y;
    if (!strcmp(name, "planted_far"))
        at += INT64_C(1) << 40;
    if (!strcmp(name, "planted_past_the_end") || !strcmp(name, "planted_over_the_edge"))
        at += (call->x.rows - 1) * call->y_row_bytes + y_row;
    if (!strcmp(name, "planted_into_x"))
        at = (unsigned char *)(uintptr_t)call->x.codes;
    if (!strcmp(name, "planted_off")) /* the high byte of the first element */
        at += gemmux_code_bits((gemmux_code)call->y_format.element) / 8 - 1;
    void *list[] = {&at};
    gemmux_cuda_enter(&s->device, error);
    const gemmux_cu_launch_config config = {
        .grid = {1, 1, 1}, .block = {32, 1, 1}, .stream = call->stream};
    int result = s->device.cuda.launch(&config, s->function, list, NULL);
    gemmux_cuda_leave(&s->device);
    return result ? gemmux_cuda_fail(&s->device.cuda, result, name, error) : GEMMUX_OK;
}

/* As much workspace as the device has memory. */
static const char *configure_greedy(const gemmux_problem *problem, const gemmux_machine *machine,
                                    const gemmux_form *form, gemmux_config *config)
{
    (void)problem, (void)form;
    config->workspace_bytes = machine->memory_bytes - (INT64_C(8) << 20);
    return NULL;
}

/* .prepare gets no context, so each descriptor has a function of its own. */
#define PREPARE(i)                                                                                 \
    static gemmux_status prepare_##i(const gemmux_problem *problem, const gemmux_machine *machine, \
                                     const gemmux_packed *w, void **state, gemmux_error *error)    \
    {                                                                                              \
        return prepare(&faults[i], problem, machine, w, state, error);                             \
    }
#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10)
EACH(PREPARE)

/* One dense form, so that a proof takes seconds even where the device is emulated. */
static const gemmux_form forms[] = {
    {
        .x = GEMMUX_BIT(GEMMUX_BF16),
        .w = GEMMUX_BIT(GEMMUX_MXFP4),
        .y = GEMMUX_BIT(GEMMUX_BF16),
        .path = GEMMUX_PATH_REFERENCE,
        .math = GEMMUX_MATH_F32,
        .share_compute = 0.02f,
        .share_bandwidth = 0.03f,
    },
};

static void plant(void)
{
    for (int i = 0; i < FAULTS; i++) {
        kernels[i] = gemmux_kernel_cuda_ref_any;
        kernels[i].name = faults[i].name;
        kernels[i].forms = forms;
        kernels[i].form_count = 1;
        kernels[i].release = release;
        kernels[i].run = run;
        pointers[i] = &kernels[i];
    }
#define SET(i) kernels[i].prepare = prepare_##i;
    EACH(SET)
    kernels[9].configure = configure_greedy;
}

/* ---- the test ---- */

static int check(gemmux_machine *machine, int i)
{
    const fault *f = &faults[i];
    gemmux_certificate c;
    gemmux_error error = {GEMMUX_OK, ""};
    if (gemmux_certify(NULL, machine, &kernels[i], f->seconds, true, &c, &error)) {
        printf("FAIL %s: %s\n", f->name, error.text);
        return 1;
    }
    bool named = strstr(c.evidence, f->evidence) || (f->instead && strstr(c.evidence, f->instead));
    bool good = c.proof == f->proof && named;
    printf("%s %s: %s, %d cases, %.1f s: %s\n", good ? "ok  " : "FAIL", f->name,
           gemmux_proof_name(c.proof), c.cases, c.seconds, c.evidence);
    fflush(stdout);
    return !good;
}

/* The same fault in this process, which certification spares: at the caller's copy, where it comes
 * out, it is called sticky and the kernel is named. The last thing that this process does on the
 * device. */
static int check_sticky(const gemmux_machine *machine)
{
    enum { M = 7, N = 16, K = 32 };
    gemmux_error error = {GEMMUX_OK, ""};
    gemmux_format bf16 = gemmux_format_of(GEMMUX_BF16);
    gemmux_problem p = gemmux_problem_linear(M, N, K, bf16, gemmux_format_of(GEMMUX_MXFP4), bf16);
    const gemmux_policy policy = {.only = "planted_far"};
    static const float numbers[N * K];
    static uint16_t y[M * N];
    gemmux_weights w;
    gemmux_plan *plan;
    gemmux_device *device;
    gemmux_args args = {.x = {bf16, 1, M, K, .codes = NULL}};
    void *x;
    gemmux_status status = gemmux_quantise(numbers, 1, N, K, p.w, &w, &error);
    if (!status)
        status = gemmux_prepare(&p, machine, &policy, NULL, &w, NULL, &plan, &error);
    if (!status)
        status = gemmux_device_open(machine, &device, &error);
    if (!status)
        status = gemmux_device_alloc(device, M * K * 2, &x, &error);
    if (!status)
        status = gemmux_device_alloc(device, sizeof y, &args.y, &error);
    args.x.codes = status ? NULL : x;
    if (!status)
        status = gemmux_run(plan, &args, &error);
    bool launched = !status;
    if (launched)
        status = gemmux_device_read(device, y, args.y, sizeof y, &error);
    bool good = launched && status == GEMMUX_ERROR_DEVICE && strstr(error.text, "sticky") &&
                strstr(error.text, "planted_far");
    printf("%s sticky: %s\n", good ? "ok  " : "FAIL", error.text);
    return !good;
}

int main(int argc, char **argv)
{
    gemmux_machine machine;
    gemmux_error error;
    int failed = 0;
    plant();
    int code = gemmux_prover_main(&table, argc, argv);
    if (code >= 0)
        return code;
    if (gemmux_machine_find("cuda:0", &machine, &error)) {
        printf("skipped: %s\n", error.text);
        return 77;
    }
    setenv("GEMMUX_PROVER", "/proc/self/exe", 1);
    machine.kernels = &table;
    for (int i = 0; i < FAULTS; i++)
        if (argc < 2 || !strcmp(argv[1], faults[i].name))
            failed += check(&machine, i);
    setenv("EMULATED_FAULT", "planted_write", 1); /* where the device is emulated */
    if (argc < 2 || !strcmp(argv[1], "sticky"))
        failed += check_sticky(&machine);
    printf("gpu_certify on %s: %d failed\n", machine.name, failed);
    return failed ? 1 : 0;
}
