/* SPDX-License-Identifier: Apache-2.0
 *
 * What this machine has learnt about its kernels: certificates, quarantines and measured shares,
 * one file a machine identity in $XDG_CACHE_HOME/gemmux. Separate from certify, which makes
 * certificates, because measurements are added too, and select only reads.
 *
 * The file is JSON: {"machine": identity, "records": [...]}. An entry holds for one key (the build
 * that carries the kernel and the version of its vendor library); entries under other keys stay in
 * the file for the builds they belong to but are not seen. Writers take a lock, read what others
 * wrote, add their own, and rename a new file into place; readers need no lock.
 */
#ifndef GEMMUX_RECORDS_H
#define GEMMUX_RECORDS_H

#include "gemmux.h"

typedef struct gemmux_entry {
    gemmux_record record; /* of a measurement: the kernel's name only */
    gemmux_share share;   /* of a certificate: 0; kernel is NULL, the name counts */
    char key[96];
    uint8_t proof; /* gemmux_proof; 0: a measurement */
    int32_t cases;
    double seconds;
    int64_t at; /* seconds since 1970 */
} gemmux_entry;

/* "cpu AuthenticAMD family 26 model 2 ...": everything about the device that may change whether a
 * kernel is right. Returns buffer; 256 bytes are enough. */
const char *gemmux_machine_identity(const gemmux_machine *machine, char *buffer, size_t size);

/* The build that carries the code at `address` (NULL: this library): the linker's build id of that
 * object, or a hash of its code where the linker left none. Returns buffer; 48 bytes are enough. */
const char *gemmux_build_identity(const void *address, char *buffer, size_t size);

/* "build 1f2e... onednn 20603". Returns buffer, of sizeof entry.key bytes. */
const char *gemmux_record_key(const gemmux_machine *machine, const gemmux_kernel *kernel,
                              char *buffer, size_t size);
/* The same for a measurement, which holds for a number of threads too: "build 1f2e... threads 2".
 */
const char *gemmux_share_key(const gemmux_machine *machine, const gemmux_kernel *kernel,
                             char *buffer, size_t size);

/* The certificate of `kernel` that holds now, as far as this process has read; or NULL. */
const gemmux_entry *gemmux_records_find(const gemmux_records *records,
                                        const gemmux_machine *machine, const gemmux_kernel *kernel);

/* Reads what other processes have written since, and renews machine->records. Never fails: a file
 * that cannot be read leaves what is known. */
void gemmux_records_refresh(gemmux_records *records, gemmux_machine *machine);

/* Adds or replaces entries, in memory (and so in the machine) always, and in the file if it can be
 * written: GEMMUX_ERROR_IO says why not. Needs the machine to itself: nothing may select on it
 * meanwhile. */
gemmux_status gemmux_records_put(gemmux_records *records, gemmux_machine *machine,
                                 const gemmux_entry *entries, int count, gemmux_error *error);

/* ---- the file alone; records.c uses these, tests break them ---- */

typedef struct gemmux_entries {
    gemmux_entry *items; /* owned; sorted by kernel, key and, for measurements, the point */
    int count, room;
} gemmux_entries;

/* GEMMUX_ERROR_INPUT: malformed. GEMMUX_ERROR_IO: unreadable. No file at all: no entries. */
gemmux_status gemmux_entries_read(const char *path, gemmux_entries *entries, gemmux_error *error);
/* Atomic: a reader sees the old file or the new one. */
gemmux_status gemmux_entries_write(const char *path, const char *identity,
                                   const gemmux_entries *entries, gemmux_error *error);
/* The entry about the same thing: kernel, key, and for a measurement the point; or NULL. */
const gemmux_entry *gemmux_entries_find(const gemmux_entries *entries, const gemmux_entry *like);
/* Replaces the entry about the same thing, or appends. */
gemmux_status gemmux_entries_put(gemmux_entries *entries, const gemmux_entry *entry,
                                 gemmux_error *error);

/* What gemmux_records_prover was told, or NULL. */
const char *gemmux_records_program(const gemmux_records *records);

#endif
