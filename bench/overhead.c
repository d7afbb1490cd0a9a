/* SPDX-License-Identifier: Apache-2.0
 *
 * What routing itself costs, through the public header alone: select with and without a trace over
 * the whole table, allocations in either, and opening and planning a checkpoint of 500 tensors from
 * its header. Prints one line a figure: name, median, the bar, verdict. A benchmark, not a test:
 * tests/test_no_allocation.c asserts what does not depend on the clock.
 */
#include "count_allocations.h"
#include "gemmux.h"
#include "timing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int report(const char *what, double value, double bar, const char *unit)
{
    printf("%-52s %10.3f %-5s bar %8.3f  %s\n", what, value, unit, bar,
           value <= bar ? "met" : "MISSED");
    return value > bar;
}

/* Every format at four M: the problems whose selection is timed. */
static int make_problems(gemmux_problem *problems, int room)
{
    static const int64_t ms[] = {1, 16, 256, 4096};
    gemmux_format bf16 = gemmux_format_of(GEMMUX_BF16);
    int count = 0;
    for (int id = GEMMUX_F32; id < GEMMUX_FORMAT_COUNT; id++)
        for (int i = 0; i < 4 && count < room; i++)
            problems[count++] = gemmux_problem_linear(ms[i], 4096, 4096, bf16,
                                                      gemmux_format_of((gemmux_format_id)id), bf16);
    return count;
}

/* Median over problems of the median over repeats. */
static double select_us(const gemmux_machine *machine, gemmux_trace *trace, long *allocated)
{
    enum { REPEATS = 201, BATCH = 20 };
    static double times[REPEATS];
    gemmux_problem problems[64];
    double medians[64];
    gemmux_decision decision;
    int count = make_problems(problems, 64);

    *allocated = 0;
    for (int p = 0; p < count; p++) {
        for (int r = 0; r < REPEATS; r++) {
            long before = allocation_count;
            double start = now_us();
            for (int b = 0; b < BATCH; b++)
                gemmux_select(&problems[p], machine, NULL, &decision, trace, NULL);
            times[r] = (now_us() - start) / BATCH;
            *allocated += allocation_count - before;
        }
        medians[p] = median(times, REPEATS);
    }
    return median(medians, count);
}

/* A machine that has learnt every kernel, format, M and size of a grid: 9 M, 3 sizes. */
static gemmux_status learn(gemmux_machine *machine, gemmux_records **records, gemmux_error *error)
{
    static const int64_t sizes[] = {1024, 4096, 8192};
    static gemmux_trace trace;
    static gemmux_timing timings[16384];
    gemmux_format bf16 = gemmux_format_of(GEMMUX_BF16);
    gemmux_decision decision;
    int count = 0;
    gemmux_status status = gemmux_records_load(machine, records, NULL, 0, error);
    for (int id = GEMMUX_F32; id < GEMMUX_FORMAT_COUNT && !status; id++)
        for (int i = 0; i < 27 && !status; i++) {
            gemmux_problem problem =
                gemmux_problem_linear((int64_t)1 << (i % 9), sizes[i / 9], sizes[i / 9], bf16,
                                      gemmux_format_of((gemmux_format_id)id), bf16);
            status = gemmux_select(&problem, machine, NULL, &decision, &trace, error);
            for (int v = 0; v < trace.verdict_count && !status; v++)
                if (trace.verdicts[v].kind != GEMMUX_REJECTED)
                    timings[count++] =
                        (gemmux_timing){problem, trace.verdicts[v].decision,
                                        trace.verdicts[v].decision.predicted_us * 1.5};
        }
    return status ? status : gemmux_records_learn(*records, machine, timings, count, error);
}

static int time_learnt(void)
{
    static gemmux_machine machine;
    char directory[] = "/tmp/gemmux-bench-XXXXXX", command[80];
    gemmux_records *records = NULL;
    gemmux_error error;
    long allocated;
    int missed = 1;
    if (!mkdtemp(directory) || setenv("XDG_CACHE_HOME", directory, 1) ||
        gemmux_machine_find("cpu", &machine, &error) || learn(&machine, &records, &error)) {
        fprintf(stderr, "bench: %s\n", error.text);
    } else {
        printf("cpu, after learning %d shares\n", machine.share_count);
        missed = report("  select, no trace", select_us(&machine, NULL, &allocated), 2, "us");
        missed += report("  allocations", (double)allocated, 0, "");
    }
    gemmux_records_free(records);
    snprintf(command, sizeof command, "rm -r %s", directory);
    return missed + (system(command) != 0);
}

static int time_select(const char *device)
{
    static gemmux_machine machine;
    static gemmux_trace trace;
    gemmux_error error;
    char text[64];
    long bare, traced;
    int missed = 0;
    if (gemmux_machine_find(device, &machine, &error) != GEMMUX_OK) {
        fprintf(stderr, "bench: %s\n", error.text);
        return 1;
    }
    printf("%s: %s, %d kernels\n", device, machine.name, gemmux_kernel_count(&machine));
    snprintf(text, sizeof text, "  select, no trace");
    missed += report(text, select_us(&machine, NULL, &bare), 2, "us");
    snprintf(text, sizeof text, "  select, full trace");
    missed += report(text, select_us(&machine, &trace, &traced), 20, "us");
    missed += report("  allocations in both", (double)(bare + traced), 0, "");
    return missed;
}

/* A decoder of 71 blocks with 7 linears each and 3 tensors more: 500 tensors, no data but zeros
 * (the file is sparse). */
static int write_checkpoint(const char *path)
{
    static const struct {
        const char *name;
        int n, k;
    } linears[] = {
        {"self_attn.q_proj", 4096, 4096}, {"self_attn.k_proj", 1024, 4096},
        {"self_attn.v_proj", 1024, 4096}, {"self_attn.o_proj", 4096, 4096},
        {"mlp.gate_proj", 14336, 4096},   {"mlp.up_proj", 14336, 4096},
        {"mlp.down_proj", 4096, 14336},
    };
    static char header[1 << 18];
    size_t at = 0;
    int64_t offset = 0;
    at += (size_t)snprintf(header, sizeof header, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int i = 0; i < 500; i++) {
        int which = i % 7;
        int n = i < 497 ? linears[which].n : 4096, k = i < 497 ? linears[which].k : 4096;
        int64_t bytes = (int64_t)n * k * 2;
        if (i < 497)
            at += (size_t)snprintf(header + at, sizeof header - at,
                                   ",\"model.layers.%d.%s.weight\"", i / 7, linears[which].name);
        else
            at += (size_t)snprintf(header + at, sizeof header - at, ",\"extra.%d.weight\"", i);
        at +=
            (size_t)snprintf(header + at, sizeof header - at,
                             ":{\"dtype\":\"BF16\",\"shape\":[%d,%d],\"data_offsets\":[%lld,%lld]}",
                             n, k, (long long)offset, (long long)(offset + bytes));
        offset += bytes;
    }
    at += (size_t)snprintf(header + at, sizeof header - at, "}");
    while (at % 8)
        header[at++] = ' ';

    FILE *file = fopen(path, "wb");
    uint64_t length = at;
    bool good = file && fwrite(&length, 8, 1, file) == 1 && fwrite(header, at, 1, file) == 1 &&
                fflush(file) == 0 && ftruncate(fileno(file), (off_t)(8 + at) + offset) == 0;
    if (file)
        fclose(file);
    return good ? 0 : -1;
}

/* Opens and routes every layer over decode and prefill; microseconds, or negative. */
static double plan_us(const char *path, const gemmux_machine *machine, int *layers)
{
    const gemmux_profile profile = {.count = 4, .m = {1, 16, 256, 4096}, .weight = {90, 6, 3, 1}};
    gemmux_format bf16 = gemmux_format_of(GEMMUX_BF16);
    gemmux_model *model = NULL;
    gemmux_error error;
    double start = now_us();
    if (gemmux_model_open(path, &model, &error) != GEMMUX_OK) {
        fprintf(stderr, "bench: %s\n", error.text);
        return -1;
    }
    *layers = gemmux_model_layer_count(model);
    for (int i = 0; i < *layers; i++) {
        const gemmux_layer *layer = gemmux_model_layer(model, i);
        gemmux_problem problem =
            gemmux_problem_linear(4096, layer->n, layer->k, bf16, layer->format, bf16);
        gemmux_range ranges[GEMMUX_MAX_RANGES];
        int count;
        if (gemmux_select_ranges(&problem, machine, NULL, &profile, ranges, &count, &error) !=
            GEMMUX_OK) {
            fprintf(stderr, "bench: %s: %s\n", layer->name, error.text);
            gemmux_model_close(model);
            return -1;
        }
    }
    gemmux_model_close(model);
    return now_us() - start;
}

static int time_planning(void)
{
    enum { REPEATS = 21 };
    static gemmux_machine machine;
    double times[REPEATS];
    char directory[] = "/tmp/gemmux-bench-XXXXXX", path[64];
    gemmux_error error;
    int layers = 0, missed = 1;
    if (gemmux_machine_find("cpu", &machine, &error) != GEMMUX_OK || !mkdtemp(directory)) {
        fprintf(stderr, "bench: %s\n", error.text);
        return 1;
    }
    snprintf(path, sizeof path, "%s/m.safetensors", directory);
    if (write_checkpoint(path) == 0) {
        int r = 0;
        while (r < REPEATS && (times[r] = plan_us(path, &machine, &layers)) >= 0)
            r++;
        if (r == REPEATS) {
            printf("checkpoint header of 500 tensors, %d layers\n", layers);
            missed = report("  open and plan", median(times, REPEATS) / 1e3, 20, "ms");
        }
    }
    unlink(path);
    rmdir(directory);
    return missed;
}

int main(int argc, char **argv)
{
    int missed = 0;
    count_allocations();
    if (argc < 2)
        missed += time_select("cpu") + time_select("b200") + time_learnt();
    for (int i = 1; i < argc; i++)
        missed += time_select(argv[i]);
    missed += time_planning();
    return missed ? 1 : 0;
}
