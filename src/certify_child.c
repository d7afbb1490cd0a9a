/* SPDX-License-Identifier: Apache-2.0 */
#include "certify_child.h"

#include "error.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORK_SHARE 0.7
/* How often the parent looks whether the child has gone without closing the pipe, as it does when
 * another thread forked in between and still holds the other end. */
#define LOOK_MS 50

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- in the child ---- */

void gemmux_child_say(const gemmux_child *child, uint8_t kind, gemmux_proof proof, int cases,
                      const char *text)
{
    gemmux_message message = {.kind = kind, .proof = (uint8_t)proof, .cases = cases};
    ssize_t written;
    snprintf(message.text, sizeof message.text, "%s", text);
    for (char *at = message.text; *at; at++) {
        if (*at < ' ' || *at > '~') {
            *at = '?';
        }
    }
    do {
        written = write(child->descriptor, &message, sizeof message);
    } while (written < 0 && errno == EINTR);
}

double gemmux_child_seconds_left(const gemmux_child *child)
{
    return child->deadline - now();
}

typedef struct job {
    void (*body)(void *context, const gemmux_child *child);
    void *context;
    gemmux_child child;
} job;

static void *work(void *context)
{
    job *j = context;
    j->body(j->context, &j->child);
    return NULL;
}

static void limit_resources(double seconds)
{
    struct rlimit limit = {0, 0};
    setrlimit(RLIMIT_CORE, &limit);
    /* The parent's deadline is on the wall clock; this is for a parent that was stopped. */
    limit.rlim_cur = limit.rlim_max = (rlim_t)ceil(seconds) * 64 + 1;
    setrlimit(RLIMIT_CPU, &limit);
}

static void confine(double seconds)
{
    sigset_t none;
    for (int i = 1; i < NSIG; i++) {
        signal(i, SIG_DFL); /* a handler of the caller must not run here */
    }
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    limit_resources(seconds);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
    }
}

static void be_child(job *j, pid_t parent, double seconds)
{
    pthread_t thread;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(1); /* it died before the line above */
    }
    confine(seconds);
    if (pthread_create(&thread, NULL, work, j)) {
        work(j);
    } else {
        pthread_join(thread, NULL);
    }
    _exit(0); /* not exit: buffers and handlers belong to the parent */
}

bool gemmux_child_begin(gemmux_child *child, int64_t parent, double seconds)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if ((int64_t)getppid() != parent) {
        return false;
    }
    limit_resources(seconds);
    *child = (gemmux_child){
        .descriptor = GEMMUX_CHILD_DESCRIPTOR,
        .deadline = now() + WORK_SHARE * seconds,
    };
    return true;
}

/* ---- in the parent ---- */

/* Takes what the pipe holds. False at its end. */
static bool drain(int descriptor, gemmux_message *last)
{
    for (;;) {
        gemmux_message message;
        ssize_t bytes = read(descriptor, &message, sizeof message);
        if (bytes == (ssize_t)sizeof message) {
            message.text[sizeof message.text - 1] = 0;
            *last = message;
        } else if (bytes < 0 && errno == EINTR) {
            continue;
        } else {
            return bytes < 0 && errno == EAGAIN;
        }
    }
}

/* Follows the child until it ends or the deadline comes. Returns waitpid's status; *known says
 * whether there is one: a caller that ignores SIGCHLD leaves none. */
static int follow(pid_t pid, int descriptor, double deadline, gemmux_outcome *outcome, bool *known)
{
    int status = 0;
    bool open = true;
    for (;;) {
        double left = deadline - now();
        if (left <= 0 && outcome->ending != GEMMUX_ENDING_DEADLINE) {
            outcome->ending = GEMMUX_ENDING_DEADLINE;
            kill(pid, SIGKILL);
        }
        struct pollfd ready = {.fd = open ? descriptor : -1, .events = POLLIN};
        int wait_ms = left > 0 && left * 1000 < LOOK_MS ? (int)(left * 1000) + 1 : LOOK_MS;
        if (poll(&ready, 1, open ? wait_ms : 1) > 0) {
            open = drain(descriptor, &outcome->last);
        }
        pid_t gone = waitpid(pid, &status, WNOHANG);
        if (gone == pid || (gone < 0 && errno == ECHILD)) {
            *known = gone == pid;
            drain(descriptor, &outcome->last);
            return status;
        }
    }
}

static void judge(gemmux_outcome *outcome, int status, bool known)
{
    if (outcome->last.kind == 1) {
        outcome->ending = GEMMUX_ENDING_FINISHED;
    } else if (outcome->ending == GEMMUX_ENDING_DEADLINE) {
        return;
    } else if (known && WIFSIGNALED(status)) {
        outcome->ending = GEMMUX_ENDING_SIGNAL;
        outcome->code = WTERMSIG(status);
    } else {
        outcome->ending = GEMMUX_ENDING_EXIT;
        outcome->code = known ? WEXITSTATUS(status) : -1;
    }
}

/* Watches a child that has just been started, to its end. */
static void watch(pid_t pid, int descriptor, double start, double seconds, gemmux_outcome *outcome)
{
    bool known = false;
    fcntl(descriptor, F_SETFL, O_NONBLOCK);
    int status = follow(pid, descriptor, start + seconds, outcome, &known);
    judge(outcome, status, known);
    outcome->seconds = now() - start;
    close(descriptor);
}

gemmux_status gemmux_child_run(void (*body)(void *context, const gemmux_child *child),
                               void *context, double seconds, gemmux_outcome *outcome,
                               gemmux_error *error)
{
    int ends[2];
    *outcome = (gemmux_outcome){0};
    if (pipe2(ends, O_CLOEXEC)) {
        return gemmux_fail(error, GEMMUX_ERROR_IO, "certify: no pipe: %s", strerror(errno));
    }
    double start = now();
    pid_t parent = getpid();
    job j = {.body = body, .context = context};
    j.child = (gemmux_child){.descriptor = ends[1], .deadline = start + WORK_SHARE * seconds};
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        be_child(&j, parent, seconds);
    }
    int why = errno;
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return gemmux_fail(error, GEMMUX_ERROR_IO, "certify: no child process: %s", strerror(why));
    }
    watch(pid, ends[0], start, seconds, outcome);
    return GEMMUX_OK;
}

/* posix_spawn, not fork: with a GPU's memory mapped a copy of the page tables takes long, and
 * between fork and exec nothing of this process may run. Returns an errno. */
static int spawn(char *const *arguments, int descriptor, pid_t *pid)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    int why = posix_spawn_file_actions_init(&files);
    if (why) {
        return why;
    }
    why = posix_spawnattr_init(&attributes);
    if (!why) {
        for (int i = 0; i < 3 && !why; i++) {
            why = posix_spawn_file_actions_addopen(&files, i, "/dev/null", O_RDWR, 0);
        }
        if (!why) {
            why = posix_spawn_file_actions_adddup2(&files, descriptor, GEMMUX_CHILD_DESCRIPTOR);
        }
        posix_spawnattr_setsigdefault(&attributes, &all);
        posix_spawnattr_setsigmask(&attributes, &none);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
        if (!why) {
            why = posix_spawn(pid, arguments[0], &files, &attributes, arguments, environ);
        }
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&files);
    return why;
}

gemmux_status gemmux_child_start(char *const *arguments, double seconds, gemmux_outcome *outcome,
                                 gemmux_error *error)
{
    int ends[2];
    pid_t pid = -1;
    *outcome = (gemmux_outcome){0};
    if (pipe2(ends, O_CLOEXEC)) {
        return gemmux_fail(error, GEMMUX_ERROR_IO, "certify: no pipe: %s", strerror(errno));
    }
    double start = now();
    int high = fcntl(ends[1], F_DUPFD_CLOEXEC, 10); /* not one of those that the child gets */
    int why = high < 0 ? errno : spawn(arguments, high, &pid);
    close(ends[1]);
    if (high >= 0) {
        close(high);
    }
    if (why) {
        close(ends[0]);
        return gemmux_fail(error, GEMMUX_ERROR_IO, "certify: cannot start %s: %s", arguments[0],
                           strerror(why));
    }
    watch(pid, ends[0], start, seconds, outcome);
    return GEMMUX_OK;
}
