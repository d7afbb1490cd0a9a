/* SPDX-License-Identifier: Apache-2.0
 *
 * A library that claims to be oneDNN of the version and CPU runtime that FAKE_DNNL names
 * ("1.4.0 2"), and has nothing but its version function. */
#include <stdio.h>
#include <stdlib.h>

typedef struct version {
    int major, minor, patch;
    const char *hash;
    unsigned cpu_runtime, gpu_runtime;
} version;

const version *dnnl_version(void);

const version *dnnl_version(void)
{
    static version v;
    const char *text = getenv("FAKE_DNNL");
    v = (version){.hash = "fake"};
    if (text)
        sscanf(text, "%d.%d.%d %u", &v.major, &v.minor, &v.patch, &v.cpu_runtime);
    return &v;
}
