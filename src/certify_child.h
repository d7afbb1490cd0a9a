/* SPDX-License-Identifier: Apache-2.0
 *
 * A process of its own for code that may be wrong: forked, limited, watched, killed. Separate from
 * what it proves, so that whatever happens in there, the caller sees a message, a signal's name or
 * a deadline.
 */
#ifndef GEMMUX_CERTIFY_CHILD_H
#define GEMMUX_CERTIFY_CHILD_H

#include "gemmux.h"

/* What travels through the pipe; written whole (under PIPE_BUF), so never seen in part. */
typedef struct gemmux_message {
    uint8_t kind;   /* 0: about to run `text`; 1: finished */
    uint8_t proof;  /* gemmux_proof, when finished */
    int32_t cases;  /* done so far */
    char text[160]; /* printable */
} gemmux_message;

/* The child's end of the pipe, and how long it may still start something. */
typedef struct gemmux_child {
    int descriptor;
    double deadline; /* on the monotonic clock, seconds; for gemmux_child_seconds_left */
} gemmux_child;

typedef enum gemmux_ending {
    GEMMUX_ENDING_FINISHED = 1, /* the message is the child's last word */
    GEMMUX_ENDING_SIGNAL,       /* code: the signal */
    GEMMUX_ENDING_EXIT,         /* code: the exit status of a child that left without a word */
    GEMMUX_ENDING_DEADLINE      /* killed */
} gemmux_ending;

typedef struct gemmux_outcome {
    gemmux_ending ending;
    int code;
    double seconds;
    gemmux_message last;
} gemmux_outcome;

/* In the child: */
void gemmux_child_say(const gemmux_child *child, uint8_t kind, gemmux_proof proof, int cases,
                      const char *text);
/* Of the part of the time limit in which new work may be started (70 %). */
double gemmux_child_seconds_left(const gemmux_child *child);

/* Runs body(context, child) in a forked process, on a thread of its own: libraries keep their
 * thread pools by calling thread, and a pool inherited through fork has no threads (OpenMP hangs).
 * The child has default signal handlers, no core dump, no output, a limit on processor time, and is
 * killed when `seconds` are over or this thread ends. The parent waits for this one process and
 * touches nothing else: no handler, no mask, no other child. */
gemmux_status gemmux_child_run(void (*body)(void *context, const gemmux_child *child),
                               void *context, double seconds, gemmux_outcome *outcome,
                               gemmux_error *error);

/* The same in a program started afresh, for code that needs a driver no fork survives (CUDA): a
 * copy of this process would hold a context that is not its own. arguments[0] names the program;
 * descriptor GEMMUX_CHILD_DESCRIPTOR is its end of the pipe; input and output lead nowhere. */
enum { GEMMUX_CHILD_DESCRIPTOR = 3 };
gemmux_status gemmux_child_start(char *const *arguments, double seconds, gemmux_outcome *outcome,
                                 gemmux_error *error);
/* In such a program, first: the limits above. False when the parent has gone already. */
bool gemmux_child_begin(gemmux_child *child, int64_t parent, double seconds);

#endif
