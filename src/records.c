/* SPDX-License-Identifier: Apache-2.0
 *
 * Records of one machine: which file they live in, which of them hold for this build, and how
 * several processes add to one file without losing each other's work.
 */
#include "records.h"

#include "error.h"
#include "kernel.h"
#include "packing.h"
#include "shares.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* How long a writer waits for others, each of which needs about a millisecond. */
#define LOCK_TRIES    400
#define LOCK_PAUSE_NS 5000000

struct gemmux_records {
    char directory[4096 - 64]; /* "" when there is none: nothing is kept */
    char path[4096];
    char identity[256];
    gemmux_entries entries;
    gemmux_record *visible; /* what machine->records points to */
    gemmux_share *shares;   /* what machine->shares points to */
    int capacity;           /* of both */
    void **retired;         /* earlier arrays: reasons of old traces still point into them */
    int retired_count;
    char *program; /* that GPU kernels are proved in; NULL: the usual one */
};

static void append_note(char *note, size_t size, const char *text)
{
    size_t used = note && size ? strlen(note) : 0;
    if (note && size) {
        snprintf(note + used, size - used, "%s%s", used ? "; " : "", text);
    }
}

/* ---- where ---- */

/* False, with the reason in `why`, when nothing says where caches belong. */
static bool find_directory(gemmux_records *records, char *why, size_t size)
{
    const char *base = getenv("XDG_CACHE_HOME"), *middle = "";
    /* The XDG specification: a relative path is to be ignored. */
    if (!base || base[0] != '/') {
        base = getenv("HOME");
        middle = "/.cache";
    }
    if (!base || base[0] != '/') {
        snprintf(why, size,
                 "neither XDG_CACHE_HOME nor HOME is an absolute path: certificates are kept for "
                 "this process only");
        return false;
    }
    int length =
        snprintf(records->directory, sizeof records->directory, "%s%s/gemmux", base, middle);
    if (length < 0 || (size_t)length >= sizeof records->directory) {
        records->directory[0] = 0;
        snprintf(why, size,
                 "the cache directory's path is too long: certificates are kept for "
                 "this process only");
        return false;
    }
    uint64_t hash = gemmux_checksum(records->identity, (int64_t)strlen(records->identity));
    snprintf(records->path, sizeof records->path, "%s/records-v2-%016" PRIx64 ".json",
             records->directory, hash);
    return true;
}

/* The directory and its parents, as mkdir -p -m 700. */
static bool make_directory(const char *directory)
{
    char path[4096];
    snprintf(path, sizeof path, "%s", directory);
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(path, 0700) && errno != EEXIST) {
            return false;
        }
        *slash = '/';
    }
    return mkdir(path, 0700) == 0 || errno == EEXIST;
}

/* Whether the directory can be written or made, found without making it. */
static bool may_write(const char *directory)
{
    char path[4096];
    snprintf(path, sizeof path, "%s", directory);
    while (path[0] && access(path, F_OK) && errno == ENOENT) {
        *strrchr(path, '/') = 0;
    }
    return access(path[0] ? path : "/", W_OK | X_OK) == 0;
}

/* -1, with errno, when the lock was not to be had. */
static int lock_file(const gemmux_records *records)
{
    char path[4096 + 8];
    snprintf(path, sizeof path, "%s.lock", records->path);
    int descriptor =
        make_directory(records->directory) ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    for (int i = 0; descriptor >= 0 && flock(descriptor, LOCK_EX | LOCK_NB); i++) {
        if (i >= LOCK_TRIES || (errno != EWOULDBLOCK && errno != EINTR)) {
            int why = errno;
            close(descriptor);
            errno = why;
            return -1;
        }
        nanosleep(&(struct timespec){.tv_nsec = LOCK_PAUSE_NS}, NULL);
    }
    return descriptor;
}

/* ---- which hold now ---- */

static int by_kernel(const void *a, const void *b)
{
    return strcmp(((const gemmux_record *)a)->kernel, ((const gemmux_record *)b)->kernel);
}

static bool make_room(gemmux_records *records)
{
    if (records->visible && records->entries.count <= records->capacity) {
        return true;
    }
    int capacity = 2 * records->entries.count + GEMMUX_MAX_KERNELS;
    gemmux_record *visible = calloc((size_t)capacity, sizeof *visible);
    gemmux_share *shares = calloc((size_t)capacity, sizeof *shares);
    void **retired =
        realloc(records->retired, (size_t)(records->retired_count + 2) * sizeof *records->retired);
    records->retired = retired ? retired : records->retired;
    if (!visible || !shares || !retired) {
        free(visible);
        free(shares);
        return false;
    }
    if (records->visible) {
        records->retired[records->retired_count++] = records->visible;
        records->retired[records->retired_count++] = records->shares;
    }
    records->visible = visible;
    records->shares = shares;
    records->capacity = capacity;
    return true;
}

static int by_point(const void *a, const void *b)
{
    return gemmux_share_order(a, b);
}

/* Gives the machine those records and shares whose key is the one its kernels have here and now. */
static void publish(gemmux_records *records, gemmux_machine *machine)
{
    int count = 0, shares = 0;
    if (!make_room(records)) {
        return;
    }
    for (int k = 0; k < gemmux_kernel_count(machine); k++) {
        const gemmux_kernel *kernel = gemmux_kernel_at(machine, k);
        char key[2][sizeof records->entries.items->key] = {"", ""};
        for (int i = 0; i < records->entries.count; i++) {
            const gemmux_entry *entry = &records->entries.items[i];
            if (strcmp(entry->record.kernel, kernel->name) != 0) {
                continue;
            }
            if (!key[0][0]) {
                gemmux_record_key(machine, kernel, key[0], sizeof key[0]);
                gemmux_share_key(machine, kernel, key[1], sizeof key[1]);
            }
            if (strcmp(entry->key, key[entry->proof == 0]) != 0) {
                continue;
            }
            if (entry->proof) {
                records->visible[count++] = entry->record;
            } else {
                records->shares[shares] = entry->share;
                records->shares[shares++].kernel = kernel;
            }
        }
    }
    qsort(records->visible, (size_t)count, sizeof *records->visible, by_kernel);
    qsort(records->shares, (size_t)shares, sizeof *records->shares, by_point);
    machine->records = records->visible;
    machine->record_count = count;
    machine->shares = records->shares;
    machine->share_count = shares;
}

const gemmux_entry *gemmux_records_find(const gemmux_records *records,
                                        const gemmux_machine *machine, const gemmux_kernel *kernel)
{
    char key[sizeof records->entries.items->key];
    gemmux_record_key(machine, kernel, key, sizeof key);
    for (int i = 0; i < records->entries.count; i++) {
        const gemmux_entry *entry = &records->entries.items[i];
        if (entry->proof && strcmp(entry->record.kernel, kernel->name) == 0 &&
            strcmp(entry->key, key) == 0) {
            return entry;
        }
    }
    return NULL;
}

/* ---- loading ---- */

/* Moves a corrupt file out of the way, unless another process has mended it meanwhile. */
static void set_aside(const gemmux_records *records, bool locked, char *text, size_t size)
{
    char aside[4096 + 16];
    gemmux_entries again;
    size_t used = strlen(text);
    snprintf(aside, sizeof aside, "%s.corrupt", records->path);
    int lock = locked ? -1 : lock_file(records);
    bool still = gemmux_entries_read(records->path, &again, NULL) == GEMMUX_ERROR_INPUT;
    free(again.items);
    if (!still) {
        snprintf(text + used, size - used, " (another process has replaced it)");
    } else if ((locked || lock >= 0) && rename(records->path, aside) == 0) {
        snprintf(text + used, size - used, "; kept as %s, starting empty", strrchr(aside, '/') + 1);
    } else {
        snprintf(text + used, size - used, "; treated as empty, and could not be moved aside: %s",
                 strerror(errno));
    }
    if (lock >= 0) {
        close(lock);
    }
}

/* Reads the file into entries; what is wrong with it becomes text. `locked`: the caller has the
 * lock. */
static void read_file(gemmux_records *records, bool locked, gemmux_entries *entries, char *text,
                      size_t size)
{
    gemmux_error error = {0};
    text[0] = 0;
    gemmux_status status = gemmux_entries_read(records->path, entries, &error);
    if (status) {
        snprintf(text, size, "corrupt or unreadable cache: %s", error.text);
    }
    if (status == GEMMUX_ERROR_INPUT) {
        set_aside(records, locked, text, size);
    }
}

gemmux_status gemmux_records_load(gemmux_machine *machine, gemmux_records **records, char *note,
                                  size_t note_size, gemmux_error *error)
{
    char text[1200];
    if (note && note_size) {
        note[0] = 0;
    }
    gemmux_records *made = calloc(1, sizeof *made);
    *records = made;
    if (!made) {
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "records: out of memory");
    }
    gemmux_machine_identity(machine, made->identity, sizeof made->identity);
    if (!find_directory(made, text, sizeof text)) {
        append_note(note, note_size, text);
    } else {
        read_file(made, false, &made->entries, text, sizeof text);
        if (text[0]) {
            append_note(note, note_size, text);
        }
        if (!may_write(made->directory)) {
            snprintf(text, sizeof text,
                     "cache %.800s cannot be written (%s): certificates are kept for this process "
                     "only",
                     made->directory, strerror(errno));
            append_note(note, note_size, text);
        }
    }
    publish(made, machine);
    return GEMMUX_OK;
}

void gemmux_records_free(gemmux_records *records)
{
    if (!records) {
        return;
    }
    for (int i = 0; i < records->retired_count; i++) {
        free(records->retired[i]);
    }
    free(records->retired);
    free(records->visible);
    free(records->shares);
    free(records->entries.items);
    free(records->program);
    free(records);
}

/* ---- adding ---- */

/* What others wrote, with what this process knows better or alone. */
static void read_again(gemmux_records *records, bool locked)
{
    gemmux_entries file;
    char text[1200];
    read_file(records, locked, &file, text, sizeof text);
    bool merged = true;
    for (int i = 0; i < records->entries.count && merged; i++) {
        const gemmux_entry *own = &records->entries.items[i];
        const gemmux_entry *theirs = gemmux_entries_find(&file, own);
        merged = (theirs && theirs->at >= own->at) || !gemmux_entries_put(&file, own, NULL);
    }
    if (merged) {
        gemmux_entries old = records->entries;
        records->entries = file;
        file = old;
    }
    free(file.items);
}

void gemmux_records_refresh(gemmux_records *records, gemmux_machine *machine)
{
    if (records->directory[0]) {
        read_again(records, false);
    }
    publish(records, machine);
}

static gemmux_status put_all(gemmux_records *records, const gemmux_entry *entries, int count,
                             gemmux_error *error)
{
    gemmux_status status = GEMMUX_OK;
    for (int i = 0; i < count && !status; i++) {
        status = gemmux_entries_put(&records->entries, &entries[i], error);
    }
    return status;
}

/* The file as it is now, with `entries`, replaces the file. */
static gemmux_status add_to_file(gemmux_records *records, const gemmux_entry *entries, int count,
                                 gemmux_error *error)
{
    int lock = lock_file(records);
    if (lock < 0) {
        return gemmux_fail(error, GEMMUX_ERROR_IO, "%.400s: %s", records->path,
                           errno == EWOULDBLOCK ? "locked by another process" : strerror(errno));
    }
    read_again(records, true);
    gemmux_status status = put_all(records, entries, count, error);
    if (!status) {
        status = gemmux_entries_write(records->path, records->identity, &records->entries, error);
    }
    close(lock);
    return status;
}

gemmux_status gemmux_records_put(gemmux_records *records, gemmux_machine *machine,
                                 const gemmux_entry *entries, int count, gemmux_error *error)
{
    gemmux_status status = put_all(records, entries, count, error);
    if (!status && records->directory[0]) {
        status = add_to_file(records, entries, count, error);
    }
    publish(records, machine);
    return status;
}

/* ---- measurements ---- */

static gemmux_status entry_of(const gemmux_machine *machine, const gemmux_timing *t,
                              gemmux_entry *entry, gemmux_error *error)
{
    const gemmux_kernel *kernel = t->decision.kernel;
    char text[128];
    *entry = (gemmux_entry){.at = (int64_t)time(NULL)};
    if (!kernel || t->decision.form >= kernel->form_count || kernel->device != machine->kind) {
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "records: a timing of no kernel of this machine");
    }
    const gemmux_form *form = &kernel->forms[t->decision.form];
    double bandwidth = machine->bandwidth, peak = machine->peak[form->math];
    gemmux_work work = gemmux_work_of(&t->problem);
    double bytes = gemmux_call_bytes(&t->problem, &work, t->decision.weight_bytes);
    peak = peak > 0 ? peak : machine->peak[GEMMUX_MATH_F32];
    double share = fmax(bytes / bandwidth, work.operations / peak) * 1e6 / t->us;
    /* What is infinite or not a number fails here too; so does a product of nothing. */
    if (!(share > 0) || !isfinite(share) || !(work.operations > 0)) {
        return gemmux_fail(error, GEMMUX_ERROR_ARGUMENT,
                           "records: %g us for %s on a machine of %g bytes and %g operations a "
                           "second is no measurement",
                           t->us, gemmux_problem_text(&t->problem, text, sizeof text), bandwidth,
                           peak);
    }
    entry->share = gemmux_share_point(kernel, t->decision.form, &t->problem, &work);
    entry->share.kernel = NULL;
    entry->share.bandwidth = bandwidth;
    entry->share.peak = peak;
    entry->share.share = (float)share;
    snprintf(entry->record.kernel, sizeof entry->record.kernel, "%s", kernel->name);
    gemmux_share_key(machine, kernel, entry->key, sizeof entry->key);
    return GEMMUX_OK;
}

gemmux_status gemmux_records_learn(gemmux_records *records, gemmux_machine *machine,
                                   const gemmux_timing *timings, int count, gemmux_error *error)
{
    gemmux_entry *entries = calloc((size_t)(count > 0 ? count : 1), sizeof *entries);
    gemmux_status status = GEMMUX_OK;
    if (!entries) {
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "records: out of memory");
    }
    for (int i = 0; i < count && !status; i++) {
        status = entry_of(machine, &timings[i], &entries[i], error);
    }
    if (!status && count > 0) {
        status = gemmux_records_put(records, machine, entries, count, error);
    }
    free(entries);
    return status;
}

gemmux_status gemmux_records_prover(gemmux_records *records, const char *program,
                                    gemmux_error *error)
{
    char *copy = program ? strdup(program) : NULL;
    if (program && !copy) {
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "records: out of memory");
    }
    free(records->program);
    records->program = copy;
    return GEMMUX_OK;
}

const char *gemmux_records_program(const gemmux_records *records)
{
    return records->program;
}
