/* SPDX-License-Identifier: Apache-2.0
 *
 * What routing itself costs: select with and without a trace over every format, and opening and
 * planning a checkpoint of 500 tensors, whose header is written to a temporary file.
 */
#include "overhead.h"

#include "session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TENSORS = 500, REPEATS = 101, BATCH = 20 };

/* Median over every format and four M of the median over repeats. */
static double select_us(const gemmux_machine *machine, const gemmux_policy *policy,
                        gemmux_trace *trace)
{
    static const int64_t ms[] = {1, 16, 256, 4096};
    double medians[4 * GEMMUX_FORMAT_COUNT];
    gemmux_format bf16 = gemmux_format_of(GEMMUX_BF16);
    int count = 0;
    for (int id = GEMMUX_F32; id < GEMMUX_FORMAT_COUNT; id++)
        for (int i = 0; i < 4; i++) {
            gemmux_problem problem = gemmux_problem_linear(
                ms[i], 4096, 4096, bf16, gemmux_format_of((gemmux_format_id)id), bf16);
            gemmux_decision decision;
            double times[REPEATS];
            for (int r = 0; r < REPEATS; r++) {
                double start = cli_now_us();
                for (int b = 0; b < BATCH; b++)
                    gemmux_select(&problem, machine, policy, &decision, trace, NULL);
                times[r] = (cli_now_us() - start) / BATCH;
            }
            medians[count++] = cli_median(times, REPEATS);
        }
    return cli_median(medians, count);
}

/* 500 linears of 1024 x 1024 in bf16; the file is sparse, so its 1 GiB of zeros take no space. */
static bool write_checkpoint(FILE *file)
{
    static char header[TENSORS * 128];
    const long long bytes = 1024LL * 1024 * 2;
    size_t used = 0;
    for (int i = 0; i < TENSORS; i++)
        used += (size_t)snprintf(header + used, sizeof header - used,
                                 "%s\"model.layers.%d.mlp.up_proj.weight\":{\"dtype\":\"BF16\","
                                 "\"shape\":[1024,1024],\"data_offsets\":[%lld,%lld]}",
                                 i ? "," : "{", i, i * bytes, (i + 1) * bytes);
    used += (size_t)snprintf(header + used, sizeof header - used, "}");
    while (used % 8)
        header[used++] = ' ';
    uint64_t length = used;
    return fwrite(&length, 8, 1, file) == 1 && fwrite(header, used, 1, file) == 1 &&
           !fflush(file) && !ftruncate(fileno(file), (off_t)(8 + used) + TENSORS * bytes);
}

static double plan_once(const char *path, const gemmux_machine *machine,
                        const gemmux_policy *policy, gemmux_error *error)
{
    const gemmux_profile profile = {.count = 2, .m = {1, 4096}, .weight = {1, 1}};
    gemmux_format bf16 = gemmux_format_of(GEMMUX_BF16);
    gemmux_model *model;
    double start = cli_now_us();
    if (gemmux_model_open(path, &model, error))
        return -1;
    gemmux_status status = GEMMUX_OK;
    for (int i = 0; !status && i < gemmux_model_layer_count(model); i++) {
        const gemmux_layer *layer = gemmux_model_layer(model, i);
        gemmux_problem problem =
            gemmux_problem_linear(4096, layer->n, layer->k, bf16, layer->format, bf16);
        gemmux_range ranges[GEMMUX_MAX_RANGES];
        int count;
        status = gemmux_select_ranges(&problem, machine, policy, &profile, ranges, &count, error);
    }
    gemmux_model_close(model);
    return status ? -1 : cli_now_us() - start;
}

static int plan_us(const gemmux_machine *machine, const gemmux_policy *policy, double *us)
{
    char path[64] = "/tmp/gemmux-XXXXXX.safetensors";
    double times[11];
    gemmux_error error;
    int fd = mkstemps(path, 12), count = 0;
    FILE *file = fd >= 0 ? fdopen(fd, "wb") : NULL;
    bool written = file && write_checkpoint(file);
    int reason = errno;
    if (file)
        fclose(file);
    for (; written && count < 11; count++)
        if ((times[count] = plan_once(path, machine, policy, &error)) < 0)
            break;
    unlink(path);
    if (!written)
        return cli_fail(CLI_FAILED, "cannot write a checkpoint to %s: %s", path, strerror(reason));
    if (count < 11)
        return cli_fail_error(&error);
    *us = cli_median(times, 11);
    return CLI_DONE;
}

int cli_overhead(cli_options *options)
{
    static gemmux_trace trace;
    gemmux_machine machine;
    double plan = 0;
    int code = cli_machine(options, &machine);
    if (code)
        return code;
    double bare = select_us(&machine, &options->policy, NULL);
    double traced = select_us(&machine, &options->policy, &trace);
    code = plan_us(&machine, &options->policy, &plan);
    if (code)
        return code;
    if (options->json)
        return cli_json_print(json_pack(
            "{s:o, s:i, s:o, s:o, s:i, s:o}", "device", cli_json_machine(&machine), "kernels",
            gemmux_kernel_count(&machine), "select_us", cli_json_number(bare), "select_trace_us",
            cli_json_number(traced), "tensors", TENSORS, "plan_us", cli_json_number(plan)));
    cli_print(CLI_BOLD, "%d kernels, %s\n", gemmux_kernel_count(&machine), machine.name);
    cli_print(CLI_PLAIN, "select, no trace       %8.2f us\n", bare);
    cli_print(CLI_PLAIN, "select, whole trace    %8.2f us\n", traced);
    cli_print(CLI_PLAIN, "open and plan %d tensors %5.2f ms\n", TENSORS, plan / 1e3);
    return CLI_DONE;
}
