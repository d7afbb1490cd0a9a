/* SPDX-License-Identifier: Apache-2.0
 *
 * What the subcommands share: options, terminal output, JSON. The command sees nothing of gemmux
 * but gemmux.h, like any other program that uses the library.
 */
#ifndef GEMMUX_CLI_H
#define GEMMUX_CLI_H

#include <gemmux.h>
#include <jansson.h>
#include <stdio.h>

/* Exit codes of the command; docs/gemmux.1 lists them. */
enum {
    CLI_DONE = 0,
    CLI_FAILED = 1,    /* I/O or internal */
    CLI_BAD_INPUT = 2, /* usage or input */
    CLI_NO_KERNEL = 3, /* under this policy */
    CLI_WRONG = 4      /* a result failed verification */
};

int cli_exit_code(gemmux_status status);

/* ----------------------------------------------------------------------------------- options -- */

/* Every option of every subcommand; options.c holds their names and help. */
typedef enum cli_option {
    CLI_OPTION_M,
    CLI_OPTION_M_LIST,
    CLI_OPTION_N,
    CLI_OPTION_K,
    CLI_OPTION_X,
    CLI_OPTION_W,
    CLI_OPTION_W_LIST,
    CLI_OPTION_Y,
    CLI_OPTION_EXPERTS,
    CLI_OPTION_TOP_K,
    CLI_OPTION_EPILOGUE,
    CLI_OPTION_DEVICE,
    CLI_OPTION_ONLY,
    CLI_OPTION_DENY,
    CLI_OPTION_ALLOW,
    CLI_OPTION_MAX_MEMORY,
    CLI_OPTION_MAX_SLOWDOWN,
    CLI_OPTION_DETERMINISTIC,
    CLI_OPTION_ALIGN,
    CLI_OPTION_WHY_NOT,
    CLI_OPTION_WHAT_IF,
    CLI_OPTION_BATCH,
    CLI_OPTION_CONTEXT,
    CLI_OPTION_CHUNK,
    CLI_OPTION_NO_CACHE,
    CLI_OPTION_DTYPE,
    CLI_OPTION_LOAD_IN_4BIT,
    CLI_OPTION_TP,
    CLI_OPTION_DEVICES,
    CLI_OPTION_SAVE,
    CLI_OPTION_HTML,
    CLI_OPTION_LIMIT,
    CLI_OPTION_THREADS,
    CLI_OPTION_AGAIN,
    CLI_OPTION_TIMEOUT,
    CLI_OPTION_OVERHEAD,
    CLI_OPTION_LEARN,
    CLI_OPTION_GRID,
    CLI_OPTION_SECONDS,
    CLI_OPTION_SKIP,
    CLI_OPTION_PLOT,
    CLI_OPTION_MEASURE,
    CLI_OPTION_LOST,
    CLI_OPTION_JSON,
    CLI_OPTION_HELP,
    CLI_OPTION_COUNT
} cli_option;

#define CLI_BIT(option) (UINT64_C(1) << CLI_OPTION_##option)
/* Options that say what the problem is, and what the caller wishes. */
#define CLI_PROBLEM                                                                                \
    (CLI_BIT(N) | CLI_BIT(K) | CLI_BIT(X) | CLI_BIT(W) | CLI_BIT(Y) | CLI_BIT(EXPERTS) |           \
     CLI_BIT(TOP_K) | CLI_BIT(EPILOGUE))
#define CLI_POLICY                                                                                 \
    (CLI_BIT(DEVICE) | CLI_BIT(ONLY) | CLI_BIT(DENY) | CLI_BIT(ALLOW) | CLI_BIT(MAX_MEMORY) |      \
     CLI_BIT(MAX_SLOWDOWN) | CLI_BIT(DETERMINISTIC))

enum { CLI_MAX_LIST = 16, CLI_MAX_ARGUMENTS = 128 };

typedef struct cli_options {
    uint64_t given; /* bits of CLI_BIT */
    int64_t m[GEMMUX_MAX_RANGES];
    int m_count;
    int64_t n, k;
    gemmux_format x, y;
    gemmux_format w[CLI_MAX_LIST];
    int w_count;
    int32_t experts, top_k;
    uint8_t epilogue;
    int32_t align;
    uint32_t liberties;
    const char *device;
    char only[1024], deny[1024], what_if[1024];
    gemmux_policy policy; /* points into this struct */
    const char *why_not;
    gemmux_workload load; /* of plan */
    const char *save, *html;
    int64_t limit;
    int threads;
    bool again;
    double timeout;
    double seconds;
    int64_t skip;
    const char *plot;
    bool learn, grid;
    bool overhead, measure, lost, json, help;
    const char *arguments[CLI_MAX_ARGUMENTS]; /* what is no option */
    int argument_count;
} cli_options;

typedef struct cli_command {
    const char *name;
    const char *arguments; /* of the synopsis */
    const char *summary;   /* one line */
    const char *details;   /* for --help, after the options; may be NULL */
    uint64_t options;      /* bits of CLI_BIT */
    int (*run)(cli_options *options);
} cli_command;

extern const cli_command cli_probe, cli_kernels, cli_select, cli_run, cli_check, cli_bench;
extern const cli_command cli_doctor, cli_plan;

/* Parses argv[1..] (argv[0] is the subcommand). Anything but CLI_DONE is the code to exit with,
 * after the reason was printed. */
int cli_parse(const cli_command *command, int argc, char **argv, cli_options *options);
/* Gives the option called `name` another value, as if it stood on the command line. */
int cli_set(cli_options *options, const char *name, const char *value);
void cli_help(FILE *out, const cli_command *command);
/* Fails because an option that must be there is not, and says what it is. */
int cli_missing(cli_option option);
/* The problem of select and bench: argument 0 is the op, m is the first of --m. */
int cli_problem(const cli_options *options, gemmux_problem *problem);
/* The machine of --device, "cpu" by default. */
int cli_machine(const cli_options *options, gemmux_machine *machine);
/* The same, but one that can run: not a description. */
int cli_machine_here(const cli_options *options, const char *verb, gemmux_machine *machine);
/* Its certificates and quarantines; NULL for a description. */
int cli_records(gemmux_machine *machine, gemmux_records **records);
/* gemmux probe FILE: the GPU code that a file carries. */
int cli_probe_file(const cli_options *options, const char *path);
/* The CUDA libraries found here, and whether they run on a device of compute capability cc (0: no
 * device is asked about): appended to `list`, or printed. */
int cli_probe_libraries(const cli_options *options, int cc, json_t *list);
/* A kernel by its exact name; prints the nearest names when there is none. */
int cli_kernel(const gemmux_machine *machine, const char *name, const gemmux_kernel **kernel);
/* Kernels that would do with --only and --deny lifted, fastest first; else with every flag lifted.
 * *lifted says which. Returns how many were found. */
enum { CLI_ALTERNATIVES = 3 };
typedef struct cli_alternative {
    const gemmux_kernel *kernel;
    double predicted_us;
} cli_alternative;
int cli_alternatives(const gemmux_problem *problem, const gemmux_machine *machine,
                     const gemmux_policy *policy, cli_alternative *found, const char **lifted);
/* "without --only: ref_any (3860 us predicted)", or "". Returns buffer. */
const char *cli_alternatives_text(const gemmux_problem *problem, const gemmux_machine *machine,
                                  const gemmux_policy *policy, char *buffer, size_t size);
/* Why the next better candidate was not taken, in one sentence. Returns buffer. */
const char *cli_why_not_better(const gemmux_machine *machine, const gemmux_policy *policy,
                               const gemmux_problem *problem, const gemmux_decision *taken,
                               char *buffer, size_t size);
/* " (did you mean a, b?)" with at most `most` (3) of the words, those spelt most like the text
 * first; or "". Returns buffer. */
const char *cli_suggestion(const char *text, const char *const *words, int count, int most,
                           char *buffer, size_t size);

/* ------------------------------------------------------------------------------------ output -- */

typedef enum cli_style { CLI_PLAIN, CLI_BOLD, CLI_DIM, CLI_GOOD, CLI_BAD, CLI_WARN } cli_style;

/* Reads the environment and the terminal once; json says that stdout carries one document only. */
void cli_output_open(bool json);
int cli_width(void); /* columns of stdout */
/* "gemmux: " and one sentence on stderr; with --json also {"error": ...} on stdout. Returns code.
 */
int cli_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
int cli_fail_error(const gemmux_error *error);
/* What was allocated for a report; without memory for that the command ends. */
void *cli_must(void *pointer);
/* A remark on stderr that does not change the result. */
void cli_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Text on stdout. Nothing is printed where the style has no colour. */
void cli_print(cli_style style, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Wrapped to the width, every line indented. */
void cli_wrap(cli_style style, int indent, const char *text);

/* Progress on stderr when it is a terminal, else nothing. done == total erases the bar. */
void cli_progress(int64_t done, int64_t total, const char *what);
/* Other words where the bar stands; NULL: its own again. */
void cli_progress_aside(const char *what);

typedef struct cli_column {
    const char *title;
    bool right; /* numbers */
    bool wrap;  /* sentences: takes what is left of the line */
} cli_column;

/* A table that is folded where the terminal is narrow: columns that do not fit go to further,
 * indented lines of the same row. */
typedef struct cli_table cli_table;
cli_table *cli_table_new(const cli_column *columns, int count);
/* The next cell, left to right; after the last column the next row begins. */
void cli_cell(cli_table *table, cli_style style, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* A remark on the last row. Equal remarks of rows that follow each other are printed once, below
 * the last of them. */
void cli_remark(cli_table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A blank line before the next row. */
void cli_gap(cli_table *table);
void cli_table_print(cli_table *table); /* and frees it */
void cli_table_free(cli_table *table);  /* without printing */

/* "1.5 MiB", "34.2", "1.2 TB/s", "12.3 ms": short texts in buffers of the caller. */
const char *cli_bytes(int64_t bytes, char *buffer, size_t size);
const char *cli_number(double value, char *buffer, size_t size);
const char *cli_rate(double per_second, const char *unit, char *buffer, size_t size);
const char *cli_time(double us, char *buffer, size_t size);

/* ------------------------------------------------------------------------------------- words -- */

typedef struct cli_word {
    const char *name;
    cli_style style;
} cli_word;

extern const cli_word cli_verdicts[]; /* by gemmux_verdict_kind */
enum { CLI_EPILOGUE_BITS = 4 };
extern const char *const cli_epilogue_names[CLI_EPILOGUE_BITS]; /* by bit */
/* "sm_80 sm_90a compute_120": what GPU code a library carries, or "". Returns buffer. */
const char *cli_targets(const gemmux_gpu_scan *scan, char *buffer, size_t size);

/* -------------------------------------------------------------------------------------- json -- */

/* Targets of the GPU code that a library carries, as a list. */
json_t *cli_json_targets(const gemmux_gpu_scan *scan);
/* Prints and frees the one document. Returns CLI_DONE. */
int cli_json_print(json_t *document);
json_t *cli_json_number(double value); /* null unless finite */
json_t *cli_json_problem(const gemmux_problem *problem);
json_t *cli_json_machine(const gemmux_machine *machine);
json_t *cli_json_decision(const gemmux_decision *decision, const gemmux_machine *machine);
json_t *cli_json_verdicts(const gemmux_trace *trace, const gemmux_problem *problem,
                          const gemmux_machine *machine);
json_t *cli_json_liberties(uint32_t liberties);
/* "cpu" for a kernel that runs on the host, else the machine's id. */
const char *cli_device_of(const gemmux_decision *decision, const gemmux_machine *machine);
/* "tf32, unordered-sums", or "none". Returns buffer. */
const char *cli_liberties(uint32_t liberties, char *buffer, size_t size);

#endif
