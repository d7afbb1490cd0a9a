/* SPDX-License-Identifier: Apache-2.0
 *
 * gemmux run: the main job. Every linear of a model is routed, prepared, verified against f64 and
 * timed here; without a model the bundled transformer block, in every format.
 */
#include "rows.h"

#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const char block_file[] = "smollm2-135m-block.safetensors";

/* Rows of x that are compared with the reference for one product of a whole model, and of the
 * block: the reference costs N * K multiplications in f64 for each. */
enum { MODEL_ROWS = 2, BLOCK_ROWS = 16 };

typedef struct job {
    cli_options *options;
    cli_session session;
    cli_rows rows;
    gemmux_profile profile;
    gemmux_format x, y;
    int64_t check_rows;
    int products, undecoded, embeddings;
} job;

/* ------------------------------------------------------------------------------- one product -- */

/* Prepares once, runs at every M of the profile. */
static int run_product(job *j, const gemmux_problem *problem, const gemmux_weights *w,
                       const cli_label *label)
{
    cli_operands operands;
    gemmux_plan *plan = NULL;
    gemmux_error error;
    int code = cli_settle(&j->session, problem, &j->profile);
    if (code)
        return code;
    code = cli_operands_make(&j->session, problem, &operands);
    if (!code && gemmux_prepare(problem, &j->session.machine, j->session.policy, &j->profile, w,
                                j->session.threads, &plan, &error))
        code = cli_fail_error(&error);
    for (int i = 0; !code && i < j->profile.count; i++) {
        cli_measurement m;
        char why[640];
        code = cli_measure(&j->session, plan, w, &operands, j->profile.m[i], j->check_rows, &m);
        if (!code)
            cli_rows_add(&j->rows, label, &m,
                         cli_why_not_better(&j->session.machine, j->session.policy, &m.problem,
                                            &m.decision, why, sizeof why));
    }
    j->products++;
    gemmux_plan_free(plan);
    cli_operands_free(&operands);
    return code;
}

static gemmux_problem problem_of(const job *j, const gemmux_layer *layer, gemmux_format w)
{
    gemmux_problem p = gemmux_problem_linear(j->profile.m[j->profile.count - 1], layer->n, layer->k,
                                             j->x, w, j->y);
    p.op = layer->op;
    p.epilogue = layer->epilogue;
    p.liberties = j->session.liberties;
    if (layer->op == GEMMUX_MOE) {
        p.experts = layer->experts;
        p.top_k = layer->top_k ? layer->top_k : 1;
    }
    return p;
}

/* -------------------------------------------------------------------------------------- block --
 */

/* "q" of "model.layers.15.self_attn.q_proj". */
static void short_name(const char *name, char *buffer, size_t size)
{
    const char *dot = strrchr(name, '.');
    snprintf(buffer, size, "%s", dot ? dot + 1 : name);
    char *suffix = strstr(buffer, "_proj");
    if (suffix && !suffix[5])
        *suffix = 0;
}

/* Linears of one shape under one parent are one group: "gate,up". */
static void group_name(const gemmux_model *model, const gemmux_layer *layer, char *buffer,
                       size_t size)
{
    const char *dot = strrchr(layer->name, '.');
    size_t parent = dot ? (size_t)(dot - layer->name) : 0, used = 0;
    buffer[0] = 0;
    for (int i = 0; i < gemmux_model_layer_count(model); i++) {
        const gemmux_layer *other = gemmux_model_layer(model, i);
        char name[64];
        if (other->n != layer->n || other->k != layer->k ||
            strncmp(other->name, layer->name, parent) != 0 || used >= size)
            continue;
        short_name(other->name, name, sizeof name);
        used += (size_t)snprintf(buffer + used, size - used, "%s%s", used ? "," : "", name);
    }
}

static float *read_f32(const gemmux_model *model, int index, gemmux_error *error)
{
    gemmux_weights w;
    if (gemmux_model_load(model, index, &w, error))
        return NULL;
    const gemmux_tensor *t = &w.tensor;
    float *values = calloc((size_t)(t->rows * t->cols), sizeof *values);
    for (int64_t row = 0; values && row < t->rows; row++)
        gemmux_tensor_row_f32(t, 0, row, values + row * t->cols);
    gemmux_weights_free(&w);
    if (!values)
        *error = (gemmux_error){GEMMUX_ERROR_MEMORY, "no memory for a layer in f32"};
    return values;
}

static void encoding_error(const float *values, const gemmux_tensor *t, double *wrong, double *all)
{
    float *row = calloc((size_t)t->cols, sizeof *row);
    for (int64_t r = 0; row && r < t->rows; r++) {
        gemmux_tensor_row_f32(t, 0, r, row);
        for (int64_t c = 0; c < t->cols; c++) {
            double exact = (double)values[r * t->cols + c], off = (double)row[c] - exact;
            *wrong += off * off;
            *all += exact * exact;
        }
    }
    free(row);
}

static int run_block(job *j, const gemmux_model *model)
{
    gemmux_error error;
    int layers = gemmux_model_layer_count(model), formats = j->options->w_count;
    int all = GEMMUX_FORMAT_COUNT - 1, code = CLI_DONE;
    for (int f = 0; !code && f < (formats ? formats : all); f++) {
        gemmux_format format =
            formats ? j->options->w[f] : gemmux_format_of((gemmux_format_id)(f + 1));
        for (int i = 0; !code && i < layers; i++) {
            const gemmux_layer *layer = gemmux_model_layer(model, i);
            cli_label label = {.section = f, .format = format, .layer = layer};
            gemmux_weights w;
            char what[96], name[32];
            snprintf(what, sizeof what, "%s %s", gemmux_format_name(format, name, sizeof name),
                     layer->name);
            cli_progress((int64_t)f * layers + i, (int64_t)(formats ? formats : all) * layers,
                         what);
            float *values = read_f32(model, i, &error);
            if (!values || gemmux_quantise(values, 1, layer->n, layer->k, format, &w, &error)) {
                free(values);
                return cli_fail_error(&error);
            }
            group_name(model, layer, label.group, sizeof label.group);
            encoding_error(values, &w.tensor, &label.squared_error, &label.squared);
            free(values);
            gemmux_problem problem = problem_of(j, layer, format);
            code = run_product(j, &problem, &w, &label);
            gemmux_weights_free(&w);
        }
    }
    cli_progress(1, 1, "");
    return code;
}

/* -------------------------------------------------------------------------------------- model --
 */

static int run_layer(job *j, const gemmux_model *model, int index)
{
    const gemmux_layer *layer = gemmux_model_layer(model, index);
    gemmux_weights w;
    gemmux_error error;
    if (layer->embedding) {
        j->embeddings++;
        return CLI_DONE;
    }
    gemmux_status status = gemmux_model_load(model, index, &w, &error);
    if (status && !layer->format.id) { /* a scheme that is not known: the others still count */
        cli_note("%s", error.text);
        j->undecoded++;
        return CLI_DONE;
    }
    if (status)
        return cli_fail_error(&error);
    cli_label label = {.format = layer->format, .layer = layer};
    snprintf(label.group, sizeof label.group, "%s", layer->group);
    gemmux_problem problem = problem_of(j, layer, layer->format);
    int code = run_product(j, &problem, &w, &label);
    gemmux_weights_free(&w);
    gemmux_model_release(model, index);
    return code;
}

static int run_model(job *j, const gemmux_model *model)
{
    int layers = gemmux_model_layer_count(model), code = CLI_DONE;
    if (j->options->limit && j->options->limit < layers)
        layers = (int)j->options->limit;
    for (int i = 0; !code && i < layers; i++) {
        cli_progress(i, layers, gemmux_model_layer(model, i)->name);
        code = run_layer(j, model, i);
    }
    cli_progress(1, 1, "");
    return code;
}

/* ------------------------------------------------------------------------------------ reports --
 */

static long peak_kib(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) ? 0 : usage.ru_maxrss;
}

static void show_head(const job *j, const char *path, const gemmux_model *model)
{
    const gemmux_machine *m = &j->session.machine;
    char bandwidth[48], peak[48], x[32], y[32], text[512];
    cli_print(CLI_BOLD, "%s", path);
    cli_print(CLI_PLAIN, ", %s%s%s\n", gemmux_model_kind(model),
              gemmux_model_name(model) ? " " : "",
              gemmux_model_name(model) ? gemmux_model_name(model) : "");
    bool gpu = m->kind != GEMMUX_CPU;
    snprintf(text, sizeof text, "on %s, %d %s%s; limits%s: read %s, bf16 %s; x %s, y %s", m->name,
             m->cores, gpu ? "multiprocessor" : "thread", m->cores == 1 ? "" : "s",
             gpu ? " as its facts say" : " measured now",
             cli_rate(m->bandwidth, "B/s", bandwidth, sizeof bandwidth),
             cli_rate(m->peak[GEMMUX_MATH_BF16], "op/s", peak, sizeof peak),
             gemmux_format_name(j->x, x, sizeof x), gemmux_format_name(j->y, y, sizeof y));
    cli_wrap(CLI_PLAIN, 0, text);
    putchar('\n');
}

static void show_tail(const job *j, bool block)
{
    char text[512];
    putchar('\n');
    if (block)
        cli_rows_summary(&j->rows, &j->profile);
    else
        cli_rows_totals(&j->rows, &j->profile);
    snprintf(
        text, sizeof text,
        "TIME is the fastest of 10 to 25 calls%s, the weights in no cache. LIMIT is the share of "
        "what the %s bandwidth and peak allow. ERROR is |y - f64| / |f64|%s",
        j->session.device ? " in a CUDA graph" : "", j->session.device ? "device's" : "measured",
        block ? "; ENCODING the same for the weights, against the bf16 they came from." : ".");
    putchar('\n');
    cli_wrap(CLI_DIM, 0, text);
    if (j->rows.wrong)
        cli_print(CLI_BAD, "%d of %d products are wrong\n", j->rows.wrong, j->rows.products);
    if (j->embeddings || j->undecoded)
        cli_print(CLI_PLAIN, "not multiplied: %d embedding tables, %d that cannot be decoded\n",
                  j->embeddings, j->undecoded);
    if (!block)
        cli_print(CLI_PLAIN, "peak memory %ld MiB, mapped files included\n", peak_kib() / 1024);
}

static int report(job *j, const char *path, const gemmux_model *model, bool block)
{
    if (j->options->json) {
        json_t *machine = cli_json_machine(&j->session.machine);
        json_object_set_new(machine, "bandwidth", cli_json_number(j->session.machine.bandwidth));
        json_object_set_new(machine, "peak_bf16",
                            cli_json_number(j->session.machine.peak[GEMMUX_MATH_BF16]));
        cli_json_print(json_pack("{s:{s:s, s:s}, s:o, s:o, s:i, s:i, s:i, s:I}", "model", "path",
                                 path, "kind", gemmux_model_kind(model), "device", machine, "rows",
                                 cli_rows_json(&j->rows), "products", j->products, "wrong",
                                 j->rows.wrong, "undecoded", j->undecoded, "peak_memory_bytes",
                                 (json_int_t)peak_kib() * 1024));
    } else {
        show_head(j, path, model);
        cli_rows_show(&j->rows);
        show_tail(j, block);
    }
    return j->rows.wrong ? CLI_WRONG : j->undecoded ? CLI_BAD_INPUT : CLI_DONE;
}

/* ----------------------------------------------------------------------------------- command -- */

/* $GEMMUX_MODEL_DIR, then where it is installed beside the command, then the source tree. */
static const char *find_block(char *buffer, size_t size)
{
    char self[PATH_MAX] = "";
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    const char *wanted = getenv("GEMMUX_MODEL_DIR");
    char *folder = length > 0 ? dirname(self) : NULL;
    if (wanted && *wanted) {
        snprintf(buffer, size, "%s/%s", wanted, block_file);
        return buffer; /* and no other: the caller said so */
    }
    static const char *const places[] = {"../share/gemmux/models", "../share/gemmux"};
    for (int i = 0; folder && i < 2; i++) {
        snprintf(buffer, size, "%s/%s/%s", folder, places[i], block_file);
        if (!access(buffer, R_OK))
            return buffer;
    }
    snprintf(buffer, size, "%s/%s", GEMMUX_SOURCE_MODELS, block_file);
    return buffer;
}

static void set_profile(job *j)
{
    const cli_options *o = j->options;
    static const int64_t usual[] = {1, 128};
    j->profile.count = o->m_count ? o->m_count : 2;
    for (int i = 0; i < j->profile.count; i++) {
        j->profile.m[i] = o->m_count ? o->m[i] : usual[i];
        j->profile.weight[i] = 1.0 / (double)j->profile.m[i]; /* as many tokens at each M */
    }
}

static int run(cli_options *options)
{
    static job j;
    char path[PATH_MAX];
    gemmux_model *model;
    gemmux_error error;
    bool block = options->argument_count == 0;
    j = (job){.options = options, .check_rows = block ? BLOCK_ROWS : MODEL_ROWS};
    if (options->argument_count > 1)
        return cli_fail(CLI_BAD_INPUT, "one model at a time: \"%s\" is too many",
                        options->arguments[1]);
    if (!block && options->w_count)
        return cli_fail(CLI_BAD_INPUT,
                        "--w re-encodes the bundled block; %s runs in its own formats",
                        options->arguments[0]);
    j.x = options->x.id ? options->x : gemmux_format_of(GEMMUX_BF16);
    j.y = options->y.id ? options->y : gemmux_format_of(GEMMUX_BF16);
    set_profile(&j);
    const char *file = block ? find_block(path, sizeof path) : options->arguments[0];
    if (gemmux_model_open(file, &model, &error))
        return cli_fail_error(&error);
    int code = cli_session_open(options, "run", &j.session);
    if (!code)
        code = block ? run_block(&j, model) : run_model(&j, model);
    if (!code)
        code = report(&j, file, model, block);
    cli_rows_free(&j.rows);
    cli_session_close(&j.session);
    gemmux_model_close(model);
    return code;
}

const cli_command cli_run = {
    .name = "run",
    .arguments = "[MODEL]",
    .summary = "route, prepare, verify and time every linear of a model here",
    .details = "MODEL is a safetensors or GGUF file, an index, or a directory with config.json.\n"
               "Without it the bundled block of SmolLM2-135M is re-encoded into every format.\n"
               "--m is 1,128 and --x and --y are bf16 where they are not given.",
    .options = CLI_BIT(M_LIST) | CLI_BIT(X) | CLI_BIT(W_LIST) | CLI_BIT(Y) | CLI_POLICY |
               CLI_BIT(LIMIT) | CLI_BIT(THREADS) | CLI_BIT(TIMEOUT) | CLI_BIT(JSON) | CLI_BIT(HELP),
    .run = run,
};
