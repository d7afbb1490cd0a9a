/* SPDX-License-Identifier: Apache-2.0
 *
 * Problems, decisions and traces as JSON. The names of members are a contract: programs read them.
 */
#include "cli.h"

#include <errno.h>
#include <math.h>
#include <string.h>

int cli_json_print(json_t *document)
{
    static bool printed; /* what fails after the answer is told on stderr alone */
    if (printed) {
        json_decref(document);
        return CLI_FAILED;
    }
    printed = true;
    if (!document || json_dumpf(document, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9))) {
        if (!ferror(stdout)) /* of which main speaks */
            fputs("gemmux: out of memory writing JSON\n", stderr);
        json_decref(document);
        return CLI_FAILED;
    }
    putchar('\n');
    json_decref(document);
    return CLI_DONE;
}

json_t *cli_json_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *cli_json_liberties(uint32_t liberties)
{
    json_t *list = json_array();
    for (int i = 0; i < GEMMUX_LIBERTY_BITS; i++)
        if (liberties >> i & 1)
            json_array_append_new(list, json_string(gemmux_liberty_name((gemmux_liberty)(1 << i))));
    return list;
}

const char *cli_liberties(uint32_t liberties, char *buffer, size_t size)
{
    size_t used = 0;
    snprintf(buffer, size, "none");
    for (int i = 0; i < GEMMUX_LIBERTY_BITS; i++)
        if (liberties >> i & 1 && used < size)
            used += (size_t)snprintf(buffer + used, size - used, "%s%s", used ? ", " : "",
                                     gemmux_liberty_name((gemmux_liberty)(1 << i)));
    return buffer;
}

json_t *cli_json_problem(const gemmux_problem *p)
{
    char x[32], w[32], y[32], text[128];
    json_t *epilogue = json_array();
    for (int i = 0; i < CLI_EPILOGUE_BITS; i++)
        if (p->epilogue >> i & 1)
            json_array_append_new(epilogue, json_string(cli_epilogue_names[i]));
    json_t *problem =
        json_pack("{s:s, s:I, s:I, s:I, s:s, s:s, s:s, s:o, s:o, s:s}", "op",
                  gemmux_op_name((gemmux_op)p->op), "m", (json_int_t)p->m, "n", (json_int_t)p->n,
                  "k", (json_int_t)p->k, "x", gemmux_format_name(p->x, x, sizeof x), "w",
                  gemmux_format_name(p->w, w, sizeof w), "y", gemmux_format_name(p->y, y, sizeof y),
                  "epilogue", epilogue, "liberties", cli_json_liberties(p->liberties), "text",
                  gemmux_problem_text(p, text, sizeof text));
    if (p->op == GEMMUX_MOE) {
        json_object_set_new(problem, "experts", json_integer(p->experts));
        json_object_set_new(problem, "top_k", json_integer(p->top_k));
    }
    return problem;
}

json_t *cli_json_machine(const gemmux_machine *m)
{
    char arch[32];
    return json_pack("{s:s, s:s, s:s, s:s, s:b, s:i}", "name", m->name, "id", m->id, "arch",
                     gemmux_machine_arch(m, arch, sizeof arch), "kind",
                     m->kind == GEMMUX_CUDA ? "cuda" : "cpu", "described", m->described, "cores",
                     (int)m->cores);
}

const char *cli_device_of(const gemmux_decision *d, const gemmux_machine *machine)
{
    return gemmux_kernel_device(d->kernel) == (gemmux_device_kind)machine->kind ? machine->id
                                                                                : "cpu";
}

json_t *cli_json_decision(const gemmux_decision *d, const gemmux_machine *machine)
{
    if (!d->kernel)
        return json_null();
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:b, s:o, s:s, s:o, s:b, s:s, s:I, s:I, s:s?, s:i, s:i, s:s?}",
        "kernel", gemmux_kernel_name(d->kernel), "library",
        gemmux_library_name(gemmux_kernel_library(d->kernel)), "device", cli_device_of(d, machine),
        "path", gemmux_path_name((gemmux_path)d->path), "lossless", d->lossless, "liberties",
        cli_json_liberties(d->liberties), "packing", d->packing, "predicted_us",
        cli_json_number(d->predicted_us), "measured", d->measured, "bound",
        gemmux_bound_name((gemmux_bound)d->bound), "weight_bytes", (json_int_t)d->weight_bytes,
        "workspace_bytes", (json_int_t)d->workspace_bytes, "tile", d->tile, "smem_bytes",
        (int)d->smem_bytes, "wanted_smem_bytes", (int)d->wanted_smem_bytes, "unproven",
        gemmux_kernel_unproven(machine, d->kernel));
}

static json_t *json_reasons(const gemmux_trace *trace, const gemmux_verdict *v,
                            const gemmux_problem *problem, const gemmux_machine *machine)
{
    json_t *list = json_array();
    for (int i = 0; i < v->reason_count; i++) {
        const gemmux_reason *r = &trace->reasons[v->reason_first + i];
        char need[512], have[512], text[1024];
        gemmux_reason_need(r, v->kernel, problem, machine, need, sizeof need);
        gemmux_reason_have(r, v->kernel, problem, machine, have, sizeof have);
        gemmux_reason_text(r, v->kernel, problem, machine, text, sizeof text);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:s}", "stage",
                                              gemmux_stage_name((gemmux_stage)r->stage), "code",
                                              gemmux_reason_code(r), "need", need, "have", have,
                                              "text", text));
    }
    return list;
}

json_t *cli_json_verdicts(const gemmux_trace *trace, const gemmux_problem *problem,
                          const gemmux_machine *machine)
{
    json_t *list = json_array();
    for (int i = 0; i < trace->verdict_count; i++) {
        const gemmux_verdict *v = &trace->verdicts[i];
        bool runs = v->kind != GEMMUX_REJECTED;
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:o, s:o}", "kernel", gemmux_kernel_name(v->kernel),
                            "verdict", cli_verdicts[v->kind].name, "predicted_us",
                            runs ? cli_json_number(v->decision.predicted_us) : json_null(),
                            "reasons", json_reasons(trace, v, problem, machine)));
    }
    return list;
}
