/* SPDX-License-Identifier: Apache-2.0
 *
 * What the probes share: small text files of the system, limits set by cgroups, libraries on the
 * usual paths. Separate from gemmux.h because callers see only the facts that a machine ends with.
 */
#ifndef GEMMUX_PROBE_H
#define GEMMUX_PROBE_H

#include "gemmux.h"

/* The first line of a small file, without its newline; false when it cannot be read. */
bool gemmux_probe_line(const char *path, char *buffer, size_t size);

/* Limits that cgroups v1 or v2 set on the process whose /proc/PID/cgroup is `self`, with the
 * hierarchy mounted at `root`. The tightest limit from the process's group up to the root counts.
 * Out: processors (may be fractional) and bytes; 0 means no limit. */
void gemmux_probe_cgroup(const char *root, const char *self, double *processors, int64_t *bytes);

/* CPUs that the calling thread may run on, one of each core; at most `most`. Returns how many: 0
 * where there are more processors than CPU_SETSIZE, whose masks need another size. */
int gemmux_probe_cores(int *cpus, int most);

/* Looks for one library in LD_LIBRARY_PATH, where the loader looks, in the active Python
 * environment (lib and site-packages/nvidia/NAME/lib) and in the system's usual directories, and
 * fills `found` from the first one that can be used. What was found and cannot be used is named,
 * with the reason, in found->note. */
void gemmux_probe_library(gemmux_library_id id, gemmux_library *found);
/* The version that one file of that kind tells; false when it cannot be used. */
bool gemmux_probe_version(gemmux_library_id id, const char *path, int32_t *version);

#endif
