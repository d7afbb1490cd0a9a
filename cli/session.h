/* SPDX-License-Identifier: Apache-2.0
 *
 * What run and bench share: this machine with its threads and certificates, operands for a product,
 * and the clock. Separate from cli.h because only commands that multiply need it.
 */
#ifndef GEMMUX_CLI_SESSION_H
#define GEMMUX_CLI_SESSION_H

#include "cli.h"

typedef struct cli_evictor cli_evictor;

typedef struct cli_session {
    gemmux_machine machine;
    gemmux_threads *threads;
    gemmux_records *records;
    cli_evictor *evictor;
    gemmux_device *device; /* NULL: a CPU */
    gemmux_plan *waker;    /* a small product that wakes the threads before the clock starts; on a
                              GPU a large one that empties its L2 cache */
    gemmux_weights waker_weights;
    struct cli_operands *waker_operands;
    double waker_us;             /* the fastest so far */
    const gemmux_policy *policy; /* of the command line, less what could not be proved */
    gemmux_policy own;           /* what it points to */
    char deny[1024];
    uint32_t liberties;
    double timeout;  /* of one certification */
    int quarantined; /* kernels found wrong in this session */
} cli_session;

/* Finds the machine, loads its certificates, starts threads and measures its rates. */
int cli_session_open(const cli_options *options, const char *verb, cli_session *session);
void cli_session_close(cli_session *session);

/* x, y and routing for one problem at its largest M. x is the same for the same shape. */
typedef struct cli_operands {
    gemmux_problem problem;
    gemmux_weights x;
    gemmux_args args;      /* on the host */
    gemmux_args there;     /* where it is multiplied: the same on a CPU */
    gemmux_device *device; /* NULL: a CPU */
    void *held[8];         /* on it */
    int held_count;
    void *y;
    int64_t y_bytes, y_columns;
    int32_t *expert_ids;
    float *expert_weights;
} cli_operands;

int cli_operands_make(cli_session *session, const gemmux_problem *problem, cli_operands *operands);
/* The first m rows (moe: tokens) of args, or of there. */
gemmux_args cli_operands_first(const cli_operands *operands, int64_t m);
gemmux_args cli_operands_there(const cli_operands *operands, int64_t m);
/* Runs into a y of NaN, and brings it back to the host. */
gemmux_status cli_operands_run(const cli_operands *operands, const gemmux_plan *plan, int64_t m,
                               gemmux_error *error);
void cli_operands_free(cli_operands *operands);

/* Certifies each kernel that the ranges of this problem would use, and selects again while one of
 * them fails. */
int cli_settle(cli_session *session, const gemmux_problem *problem, const gemmux_profile *profile);

/* Says why nothing was selected, and what would do instead; returns the exit code. */
int cli_fail_select(const cli_session *session, const gemmux_problem *problem,
                    const gemmux_error *error);

/* Certifies one kernel unless a certificate exists; *sound is whether it may run. */
int cli_prove(cli_session *session, const gemmux_kernel *kernel, bool *sound);

/* What one product at one M came to. */
typedef struct cli_measurement {
    gemmux_problem problem;
    gemmux_decision decision;
    double us;       /* of one call, the weights in no cache */
    double limit_us; /* what bandwidth and peak of this machine allow */
    double bytes;    /* that must move: weights as stored, x, y */
    double operations;
    gemmux_verification verification;
    bool wrong;
} cli_measurement;

/* Runs, verifies at most `rows` rows (0: all) and times. */
int cli_measure(cli_session *session, const gemmux_plan *plan, const gemmux_weights *w,
                const cli_operands *operands, int64_t m, int64_t rows, cli_measurement *result);
/* Compares args->y with the reference; fills verification and wrong, and says what is wrong. */
int cli_verify(const gemmux_weights *w, const gemmux_args *args, int64_t rows,
               cli_measurement *result);
/* One timed call, in microseconds, after the caches were emptied; negative after an error. */
double cli_time_once(cli_session *session, const gemmux_plan *plan, const gemmux_args *args,
                     gemmux_error *error);
/* bytes, operations and limit_us of result, from its problem. */
void cli_limits(const cli_session *session, const cli_operands *operands, cli_measurement *result);

double cli_now_us(void);
/* Sorts the values; of an even number it is the mean of the two in the middle. */
double cli_median(double *values, int count);

#endif
