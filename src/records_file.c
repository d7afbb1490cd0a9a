/* SPDX-License-Identifier: Apache-2.0
 *
 * The cache file: strict to read, atomic to write. Anything that gemmux itself would not have
 * written makes the whole file corrupt, because half a list of quarantines is a wrong list.
 */
#include "error.h"
#include "records.h"
#include "shares.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Entries kept of each sort; the oldest go first. */
#define MAX_CERTIFICATES 1024
#define MAX_SHARES       8192
#define MAX_FILE_BYTES   (INT64_C(8) << 20)

/* ---- in memory ---- */

static int subject_order(const gemmux_entry *a, const gemmux_entry *b)
{
    int order = strcmp(a->record.kernel, b->record.kernel);
    if (!order)
        order = strcmp(a->key, b->key);
    if (!order)
        order = (a->proof == 0) - (b->proof == 0);
    return order || a->proof ? order : gemmux_share_order(&a->share, &b->share);
}

/* Where the entry about the same thing is, or where it belongs. */
static int place_of(const gemmux_entries *entries, const gemmux_entry *like)
{
    int low = 0, high = entries->count;
    /* A file is in order, so what is read next belongs at the end. */
    if (high && subject_order(&entries->items[high - 1], like) < 0) {
        return high;
    }
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (subject_order(&entries->items[middle], like) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

const gemmux_entry *gemmux_entries_find(const gemmux_entries *entries, const gemmux_entry *like)
{
    int place = place_of(entries, like);
    bool found = place < entries->count && subject_order(&entries->items[place], like) == 0;
    return found ? &entries->items[place] : NULL;
}

/* Makes room among those of the same sort. */
static void drop_oldest(gemmux_entries *entries, bool share)
{
    int oldest = -1, count = 0, most = share ? MAX_SHARES : MAX_CERTIFICATES;
    for (int i = 0; i < entries->count; i++) {
        const gemmux_entry *entry = &entries->items[i];
        if ((entry->proof == 0) != share) {
            continue;
        }
        count++;
        if (oldest < 0 || entry->at < entries->items[oldest].at) {
            oldest = i;
        }
    }
    if (count < most) {
        return;
    }
    memmove(&entries->items[oldest], &entries->items[oldest + 1],
            (size_t)(entries->count - oldest - 1) * sizeof *entries->items);
    entries->count--;
}

gemmux_status gemmux_entries_put(gemmux_entries *entries, const gemmux_entry *entry,
                                 gemmux_error *error)
{
    if (gemmux_entries_find(entries, entry)) {
        entries->items[place_of(entries, entry)] = *entry;
        return GEMMUX_OK;
    }
    if (entries->count >= MAX_CERTIFICATES) {
        drop_oldest(entries, entry->proof == 0);
    }
    if (entries->count == entries->room) {
        int room = 2 * entries->room + 16;
        gemmux_entry *items = realloc(entries->items, (size_t)room * sizeof *entries->items);
        if (!items) {
            return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "records: out of memory");
        }
        entries->items = items;
        entries->room = room;
    }
    int place = place_of(entries, entry);
    memmove(&entries->items[place + 1], &entries->items[place],
            (size_t)(entries->count - place) * sizeof *entries->items);
    entries->items[place] = *entry;
    entries->count++;
    return GEMMUX_OK;
}

/* ---- reading ---- */

static bool take_text(const json_t *object, const char *name, char *out, size_t size)
{
    const char *text = json_string_value(json_object_get(object, name));
    if (!text || strlen(text) >= size) {
        return false;
    }
    memcpy(out, text, strlen(text) + 1);
    return true;
}

static bool take_integer(const json_t *object, const char *name, int64_t low, int64_t high,
                         int64_t *out)
{
    const json_t *value = json_object_get(object, name);
    *out = json_is_integer(value) ? json_integer_value(value) : low - 1;
    return *out >= low && *out <= high;
}

static bool take_number(const json_t *object, const char *name, double *out)
{
    const json_t *value = json_object_get(object, name);
    *out = json_number_value(value);
    return json_is_number(value) && *out > 0 && isfinite(*out);
}

static bool take_format(const json_t *object, const char *name, gemmux_format *out)
{
    char text[40];
    return take_text(object, name, text, sizeof text) && !gemmux_format_parse(text, out, NULL);
}

static bool take_measurement(const json_t *object, gemmux_share *share)
{
    gemmux_format x;
    double reached;
    int64_t form;
    const json_t *grouped = json_object_get(object, "grouped");
    if (!take_format(object, "x", &x) || !take_format(object, "w", &share->w) ||
        !take_integer(object, "form", 0, UINT8_MAX, &form) || !json_is_boolean(grouped) ||
        !take_number(object, "rows", &share->rows) ||
        !take_number(object, "elements", &share->elements) ||
        !take_number(object, "bandwidth", &share->bandwidth) ||
        !take_number(object, "peak", &share->peak) || !take_number(object, "share", &reached)) {
        return false;
    }
    share->x = x.id;
    share->form = (uint8_t)form;
    share->grouped = json_is_true(grouped);
    share->share = (float)reached;
    return share->share > 0;
}

static bool take_certificate(const json_t *object, gemmux_entry *entry)
{
    const char *proof = json_string_value(json_object_get(object, "proof"));
    const json_t *seconds = json_object_get(object, "seconds");
    int64_t cases;
    for (int i = GEMMUX_PROOF_PROVED; proof && i <= GEMMUX_PROOF_HUNG; i++) {
        if (strcmp(proof, gemmux_proof_name((gemmux_proof)i)) == 0) {
            entry->proof = (uint8_t)i;
        }
    }
    entry->record.kind =
        entry->proof == GEMMUX_PROOF_PROVED ? GEMMUX_RECORD_PROVED : GEMMUX_RECORD_QUARANTINED;
    entry->seconds = json_number_value(seconds);
    bool good =
        entry->proof && json_is_number(seconds) && entry->seconds >= 0 &&
        take_integer(object, "cases", 0, INT32_MAX, &cases) &&
        take_text(object, "evidence", entry->record.evidence, sizeof entry->record.evidence);
    entry->cases = good ? (int32_t)cases : 0;
    return good;
}

static bool take_entry(const json_t *object, gemmux_entry *entry)
{
    *entry = (gemmux_entry){0};
    return take_text(object, "kernel", entry->record.kernel, sizeof entry->record.kernel) &&
           entry->record.kernel[0] && take_text(object, "key", entry->key, sizeof entry->key) &&
           take_integer(object, "at", 0, INT64_MAX - 1, &entry->at) &&
           (json_object_get(object, "share") ? take_measurement(object, &entry->share)
                                             : take_certificate(object, entry));
}

static gemmux_status take_entries(const char *path, const json_t *root, gemmux_entries *entries,
                                  gemmux_error *error)
{
    const json_t *list = json_object_get(root, "records");
    if (!json_is_array(list)) {
        return gemmux_fail(error, GEMMUX_ERROR_INPUT, "%s: no list of records", path);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        gemmux_entry entry;
        if (!take_entry(json_array_get(list, i), &entry)) {
            return gemmux_fail(error, GEMMUX_ERROR_INPUT, "%s: record %zu is malformed", path, i);
        }
        gemmux_status status = gemmux_entries_put(entries, &entry, error);
        if (status) {
            return status;
        }
    }
    return GEMMUX_OK;
}

gemmux_status gemmux_entries_read(const char *path, gemmux_entries *entries, gemmux_error *error)
{
    struct stat about;
    json_error_t where;
    *entries = (gemmux_entries){0};
    FILE *file = fopen(path, "re");
    if (!file) {
        return errno == ENOENT || errno == ENOTDIR
                   ? GEMMUX_OK
                   : gemmux_fail(error, GEMMUX_ERROR_IO, "%s: %s", path, strerror(errno));
    }
    if (fstat(fileno(file), &about) || !S_ISREG(about.st_mode) || about.st_size > MAX_FILE_BYTES) {
        fclose(file);
        return gemmux_fail(error, GEMMUX_ERROR_INPUT, "%s: not a file of at most %" PRId64 " bytes",
                           path, MAX_FILE_BYTES);
    }
    json_t *root = json_loadf(file, JSON_REJECT_DUPLICATES, &where);
    fclose(file);
    if (!root) {
        return gemmux_fail(error, GEMMUX_ERROR_INPUT, "%s:%d: %s", path, where.line, where.text);
    }
    gemmux_status status = take_entries(path, root, entries, error);
    json_decref(root);
    if (status) {
        free(entries->items);
        *entries = (gemmux_entries){0};
    }
    return status;
}

/* ---- writing ---- */

static json_t *share_json(const gemmux_entry *entry)
{
    const gemmux_share *s = &entry->share;
    char w[40];
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:i, s:b, s:f, s:f, s:f, s:f, s:f}", "kernel",
                     entry->record.kernel, "key", entry->key, "at", (json_int_t)entry->at, "x",
                     gemmux_format_id_name((gemmux_format_id)s->x), "w",
                     gemmux_format_name(s->w, w, sizeof w), "form", s->form, "grouped", s->grouped,
                     "rows", s->rows, "elements", s->elements, "bandwidth", s->bandwidth, "peak",
                     s->peak, "share", (double)s->share);
}

static json_t *entry_json(const gemmux_entry *entry)
{
    const gemmux_record *r = &entry->record;
    if (!entry->proof) {
        return share_json(entry);
    }
    return json_pack("{s:s, s:s, s:I, s:s, s:i, s:f, s:s}", "kernel", r->kernel, "key", entry->key,
                     "at", (json_int_t)entry->at, "proof",
                     gemmux_proof_name((gemmux_proof)entry->proof), "cases", entry->cases,
                     "seconds", entry->seconds, "evidence", r->evidence);
}

static json_t *all_json(const char *identity, const gemmux_entries *entries)
{
    json_t *list = json_array();
    for (int i = 0; list && i < entries->count; i++) {
        json_array_append_new(list, entry_json(&entries->items[i]));
    }
    return json_pack("{s:s, s:o}", "machine", identity, "records", list);
}

gemmux_status gemmux_entries_write(const char *path, const char *identity,
                                   const gemmux_entries *entries, gemmux_error *error)
{
    char temporary[4096 + 16];
    int length = snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    if (length < 0 || (size_t)length >= sizeof temporary) {
        return gemmux_fail(error, GEMMUX_ERROR_IO, "records: the path %.80s... is too long", path);
    }
    json_t *root = all_json(identity, entries);
    if (!root) {
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "records: out of memory");
    }
    int descriptor = mkostemp(temporary, O_CLOEXEC);
    bool written = descriptor >= 0 &&
                   json_dumpfd(root, descriptor, JSON_INDENT(1) | JSON_PRESERVE_ORDER) == 0 &&
                   write(descriptor, "\n", 1) == 1;
    int why = errno;
    json_decref(root);
    if (descriptor >= 0 && close(descriptor) && written) {
        written = false, why = errno;
    }
    if (written && rename(temporary, path)) {
        written = false, why = errno;
    }
    if (!written) {
        if (descriptor >= 0) {
            unlink(temporary);
        }
        return gemmux_fail(error, GEMMUX_ERROR_IO, "%s: %s", path, strerror(why));
    }
    return GEMMUX_OK;
}
