/* SPDX-License-Identifier: Apache-2.0
 *
 * explain: one failed check -> stable code, what was needed, what was found, a sentence. All text
 * comes from the numbers in the reason and the table in select.h; nothing is printed here.
 */
#include "select.h"

#include "machine.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* How need and have are to be read. */
typedef enum value_kind {
    KIND_NONE,
    KIND_OPS,
    KIND_EPILOGUE,
    KIND_DEVICE,
    KIND_ISA,
    KIND_CC,
    KIND_BYTES,
    KIND_FORMATS,
    KIND_TRIPLE,
    KIND_SCALING,
    KIND_CODES,
    KIND_ZEROS,
    KIND_COUNT,
    KIND_PACKING,
    KIND_PACKING_FORMAT,
    KIND_LIBERTIES,
    KIND_LIBRARY,
    KIND_VERSION,
    KIND_RATIO,
} value_kind;

static const struct {
    const char *code;
    value_kind kind;
    const char *text;
} checks[GEMMUX_CHECK_COUNT] = {
#define GEMMUX_CHECK_ROW(id, stage, code, kind, text)                                              \
    [GEMMUX_CHECK_##id] = {code, KIND_##kind, text},
    GEMMUX_CHECKS(GEMMUX_CHECK_ROW)
#undef GEMMUX_CHECK_ROW
};

/* Text that grows in a fixed buffer and is cut, never overrun. */
typedef struct text {
    char *at;
    size_t left;
} text;

static void append(text *t, const char *words)
{
    int n = snprintf(t->at, t->left, "%s", words);
    size_t wrote = n < 0 ? 0 : (size_t)n < t->left ? (size_t)n : t->left - 1;
    t->at += wrote;
    t->left -= wrote;
}

/* The names of a set's members joined by `glue`. */
static void append_set(text *t, uint64_t set, const char *(*name)(int), const char *glue)
{
    bool first = true;
    for (int i = 0; i < 64; i++) {
        if (!(set >> i & 1))
            continue;
        if (!first)
            append(t, glue);
        append(t, name(i));
        first = false;
    }
    if (first)
        append(t, "none");
}

static const char *op_name(int i)
{
    return gemmux_op_name((gemmux_op)i);
}

static const char *epilogue_name(int i)
{
    static const char *const names[] = {"bias", "swiglu", "gather", "scatter"};
    return i < 4 ? names[i] : "?";
}

static const char *isa_name(int i)
{
    const char *name = i < 32 ? gemmux_isa_name(UINT32_C(1) << i) : NULL;
    return name ? name : "?";
}

static const char *format_name(int i)
{
    return gemmux_format_id_name((gemmux_format_id)i);
}

static const char *scaling_name(int i)
{
    static const char *const names[] = {"nothing", "tensor", "row", "group along K",
                                        "square block"};
    return i < 5 ? names[i] : "?";
}

static const char *code_name(int i)
{
    static const char *const names[GEMMUX_CODE_COUNT] = {"none", "f32",  "f16",   "bf16",
                                                         "e4m3", "e5m2", "e2m1",  "int8",
                                                         "int4", "nf4",  "ue8m0", "ue4m3"};
    return i < GEMMUX_CODE_COUNT ? names[i] : "?";
}

static const char *zero_name(int i)
{
    static const char *const names[] = {"no zero point", "zero points", "minimums"};
    return i < 3 ? names[i] : "?";
}

static const char *liberty_name(int i)
{
    return i < GEMMUX_LIBERTY_BITS ? gemmux_liberty_name((gemmux_liberty)(1 << i)) : "?";
}

static void append_bytes(text *t, int64_t bytes)
{
    char words[48];
    if (bytes >= INT64_C(1) << 30)
        snprintf(words, sizeof words, "%.1f GiB", (double)bytes / 0x1p30);
    else if (bytes >= INT64_C(1) << 20)
        snprintf(words, sizeof words, "%.1f MiB", (double)bytes / 0x1p20);
    else
        snprintf(words, sizeof words, "%" PRId64 " bytes", bytes);
    append(t, words);
}

static void append_number(text *t, const char *format, double value)
{
    char words[48];
    snprintf(words, sizeof words, format, value);
    append(t, words);
}

/* The problem's own name for the operand that a check looked at, scaling included. */
static void append_format(text *t, const gemmux_reason *reason, const gemmux_problem *problem)
{
    char name[32];
    gemmux_format format = reason->check == GEMMUX_CHECK_X_FORMAT   ? problem->x
                           : reason->check == GEMMUX_CHECK_Y_FORMAT ? problem->y
                                                                    : problem->w;
    append(t, gemmux_format_name(format, name, sizeof name));
}

static void append_triples(text *t, const gemmux_kernel *kernel)
{
    for (int i = 0; i < kernel->form_count; i++) {
        if (i)
            append(t, "; ");
        append_set(t, kernel->forms[i].x, format_name, "|");
        append(t, " x ");
        append_set(t, kernel->forms[i].w, format_name, "|");
        append(t, " -> ");
        append_set(t, kernel->forms[i].y, format_name, "|");
    }
}

static void append_version(text *t, const gemmux_kernel *kernel, int64_t version)
{
    char words[64], number[32];
    snprintf(words, sizeof words, "%s %s", gemmux_library_name((gemmux_library_id)kernel->library),
             gemmux_version_text(version, 3, number, sizeof number));
    append(t, words);
}

/* The probe's note tells a library that is not there from one that is broken. */
static void append_library(text *t, const gemmux_library *library)
{
    if (library->present) {
        append(t, library->path);
        return;
    }
    append(t, *library->note ? "not usable (" : "not found");
    append(t, library->note);
    append(t, *library->note ? ")" : "");
}

static void append_need(text *t, const gemmux_reason *r, const gemmux_kernel *kernel)
{
    switch (checks[r->check].kind) {
    case KIND_OPS:
        append_set(t, (uint64_t)r->need, op_name, ", ");
        break;
    case KIND_EPILOGUE:
        append_set(t, (uint64_t)r->need, epilogue_name, ", ");
        break;
    case KIND_DEVICE:
        append(t, r->need == GEMMUX_CUDA ? "an NVIDIA GPU" : "a CPU");
        break;
    case KIND_ISA:
        append_set(t, (uint64_t)(r->need & ~r->have), isa_name, ", ");
        break;
    case KIND_CC:
        append_number(t, "sm_%.0f", (double)r->need);
        break;
    case KIND_BYTES:
        append_bytes(t, r->need);
        break;
    case KIND_FORMATS:
        append_set(t, (uint64_t)r->need, format_name, ", ");
        break;
    case KIND_TRIPLE:
        append_triples(t, kernel);
        break;
    case KIND_SCALING:
        append_set(t, (uint64_t)r->need, scaling_name, " or ");
        break;
    case KIND_CODES:
        append_set(t, (uint64_t)r->need, code_name, " or ");
        break;
    case KIND_ZEROS:
        append_set(t, (uint64_t)r->need, zero_name, " or ");
        break;
    case KIND_COUNT:
        append_number(t, "%.0f", (double)r->need);
        break;
    case KIND_PACKING:
    case KIND_PACKING_FORMAT:
        append(t, kernel->packing->name);
        break;
    case KIND_LIBERTIES:
        append_set(t, (uint64_t)r->need, liberty_name, ", ");
        break;
    case KIND_LIBRARY:
        append(t, gemmux_library_name((gemmux_library_id)r->need));
        break;
    case KIND_VERSION:
        append_version(t, kernel, r->need);
        break;
    case KIND_RATIO:
        append_number(t, "%.2f", (double)r->need / 100.0);
        break;
    case KIND_NONE:
        break;
    }
}

static void append_triple(text *t, const gemmux_problem *problem)
{
    char name[32];
    append(t, gemmux_format_name(problem->x, name, sizeof name));
    append(t, " x ");
    append(t, gemmux_format_name(problem->w, name, sizeof name));
    append(t, " -> ");
    append(t, gemmux_format_name(problem->y, name, sizeof name));
}

static void append_have(text *t, const gemmux_reason *r, const gemmux_kernel *kernel,
                        const gemmux_problem *problem, const gemmux_machine *machine)
{
    char name[64];
    switch (checks[r->check].kind) {
    case KIND_OPS:
        append(t, op_name((int)r->have));
        break;
    case KIND_EPILOGUE:
        append_set(t, (uint64_t)r->have, epilogue_name, ", ");
        break;
    case KIND_DEVICE:
        append(t, r->have == GEMMUX_CUDA ? "an NVIDIA GPU" : "a CPU");
        break;
    case KIND_ISA:
    case KIND_CC:
        append(t, gemmux_machine_arch(machine, name, sizeof name));
        break;
    case KIND_BYTES:
        append_bytes(t, r->have);
        break;
    case KIND_FORMATS:
    case KIND_PACKING_FORMAT:
        append_format(t, r, problem);
        break;
    case KIND_TRIPLE:
        append_triple(t, problem);
        break;
    case KIND_SCALING:
        append(t, scaling_name((int)r->have));
        break;
    case KIND_CODES:
        append(t, code_name((int)r->have));
        break;
    case KIND_ZEROS:
        append(t, zero_name((int)r->have));
        break;
    case KIND_COUNT:
        append_number(t, "%.0f", (double)r->have);
        break;
    case KIND_PACKING:
        append(t, r->note ? r->note : "?");
        break;
    case KIND_LIBERTIES:
        append_set(t, (uint64_t)r->have, liberty_name, ", ");
        break;
    case KIND_LIBRARY:
        append_library(t, &machine->library[kernel->library]);
        break;
    case KIND_VERSION:
        append_version(t, kernel, r->have);
        break;
    case KIND_RATIO:
        append_number(t, "%.2f", (double)r->have / 100.0);
        break;
    case KIND_NONE:
        append(t, r->note ? r->note : "");
        break;
    }
}

const char *gemmux_reason_code(const gemmux_reason *reason)
{
    return reason->check < GEMMUX_CHECK_COUNT ? checks[reason->check].code : "?";
}

const char *gemmux_reason_need(const gemmux_reason *reason, const gemmux_kernel *kernel,
                               const gemmux_problem *problem, const gemmux_machine *machine,
                               char *buffer, size_t size)
{
    (void)problem, (void)machine;
    text t = {buffer, size};
    buffer[0] = '\0';
    append_need(&t, reason, kernel);
    return buffer;
}

const char *gemmux_reason_have(const gemmux_reason *reason, const gemmux_kernel *kernel,
                               const gemmux_problem *problem, const gemmux_machine *machine,
                               char *buffer, size_t size)
{
    text t = {buffer, size};
    buffer[0] = '\0';
    append_have(&t, reason, kernel, problem, machine);
    return buffer;
}

const char *gemmux_reason_text(const gemmux_reason *reason, const gemmux_kernel *kernel,
                               const gemmux_problem *problem, const gemmux_machine *machine,
                               char *buffer, size_t size)
{
    text t = {buffer, size};
    buffer[0] = '\0';
    append(&t, kernel->name);
    append(&t, " ");
    for (const char *p = checks[reason->check].text; *p;) {
        size_t plain = strcspn(p, "{");
        char words[160];
        snprintf(words, sizeof words, "%.*s", (int)plain, p);
        append(&t, words);
        p += plain;
        if (strncmp(p, "{need}", 6) == 0)
            append_need(&t, reason, kernel);
        else if (strncmp(p, "{have}", 6) == 0)
            append_have(&t, reason, kernel, problem, machine);
        else if (strncmp(p, "{note}", 6) == 0)
            append(&t, reason->note ? reason->note : "no detail");
        p += *p ? 6 : 0;
    }
    return buffer;
}

const char *gemmux_path_name(gemmux_path path)
{
    static const char *const names[] = {"?", "native", "upcast", "dequant", "reference"};
    return path <= GEMMUX_PATH_REFERENCE ? names[path] : "?";
}

const char *gemmux_stage_name(gemmux_stage stage)
{
    static const char *const names[] = {"op", "device", "precision", "library", "flags"};
    return stage <= GEMMUX_STAGE_FLAGS ? names[stage] : "?";
}

const char *gemmux_bound_name(gemmux_bound bound)
{
    static const char *const names[] = {"memory", "compute", "launch"};
    return bound <= GEMMUX_BOUND_LAUNCH ? names[bound] : "?";
}
