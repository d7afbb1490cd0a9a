/* SPDX-License-Identifier: Apache-2.0 */
#include "probe/probe.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool gemmux_probe_line(const char *path, char *buffer, size_t size)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        return false;
    }
    bool read = fgets(buffer, (int)size, file) != NULL;
    fclose(file);
    if (read) {
        buffer[strcspn(buffer, "\n")] = '\0';
    }
    return read;
}

static void tighten(double *limit, double found)
{
    if (found > 0 && (*limit == 0 || found < *limit)) {
        *limit = found;
    }
}

/* A file that holds one number, or "max" or -1 for none. v1 says "no limit" with a number close
 * to 2^63, which no machine has. */
static double read_number(const char *group, const char *name)
{
    char path[PATH_MAX], line[64];
    if (snprintf(path, sizeof path, "%s/%s", group, name) >= (int)sizeof path ||
        !gemmux_probe_line(path, line, sizeof line)) {
        return 0;
    }
    char *end;
    double number = strtod(line, &end);
    return end != line && number > 0 && number < 0x1p62 ? number : 0;
}

/* cgroup v2's cpu.max: "QUOTA PERIOD" or "max PERIOD", in microseconds. */
static double read_cpu_max(const char *group)
{
    char path[PATH_MAX], line[64];
    char *after;
    if (snprintf(path, sizeof path, "%s/cpu.max", group) >= (int)sizeof path ||
        !gemmux_probe_line(path, line, sizeof line))
        return 0;
    double quota = strtod(line, &after); /* 0 for "max" */
    double period = strtod(after, NULL);
    return quota > 0 && period > 0 ? quota / period : 0;
}

static void read_group(const char *group, double *processors, double *bytes)
{
    tighten(processors, read_cpu_max(group));
    double quota = read_number(group, "cpu.cfs_quota_us");
    double period = read_number(group, "cpu.cfs_period_us");
    if (quota > 0 && period > 0) {
        tighten(processors, quota / period);
    }
    tighten(bytes, read_number(group, "memory.max"));
    tighten(bytes, read_number(group, "memory.limit_in_bytes"));
}

/* From root/mount/path up to root/mount. A path that does not exist (another cgroup namespace)
 * reads nothing until the walk reaches one that does. */
static void walk(const char *root, const char *mount, const char *path, double *processors,
                 double *bytes)
{
    char group[PATH_MAX];
    int length = snprintf(group, sizeof group, "%s%s%s%s", root, *mount ? "/" : "", mount, path);
    int stop = (int)(strlen(root) + strlen(mount) + (*mount ? 1 : 0));
    if (length < 0 || length >= (int)sizeof group || strstr(path, "..")) {
        return;
    }
    for (;;) {
        read_group(group, processors, bytes);
        char *slash = strrchr(group, '/');
        if (!slash || slash - group < stop) {
            break;
        }
        *slash = '\0';
    }
}

void gemmux_probe_cgroup(const char *root, const char *self, double *processors, int64_t *bytes)
{
    double limit_bytes = 0;
    *processors = 0;
    FILE *file = fopen(self, "re");
    char line[PATH_MAX];
    while (file && fgets(line, sizeof line, file)) {
        /* "0::/path" (v2) or "4:cpu,cpuacct:/path" (v1) */
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path) {
            continue;
        }
        *path++ = '\0';
        controllers++;
        if (*controllers == '\0') {
            walk(root, "", path, processors, &limit_bytes);
            walk(root, "unified", path, processors, &limit_bytes);
        }
        char *rest = controllers;
        for (char *one = strsep(&rest, ","); one; one = strsep(&rest, ",")) {
            if (!strcmp(one, "cpu") || !strcmp(one, "memory")) {
                walk(root, one, path, processors, &limit_bytes);
            }
        }
    }
    if (file) {
        fclose(file);
    }
    *bytes = (int64_t)limit_bytes;
}
