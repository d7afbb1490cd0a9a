/* SPDX-License-Identifier: Apache-2.0
 *
 * Folders of libraries, from the environment, Python and habit.
 */
#include "places.h"

#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Folders in a list with colons; semicolons separate too, as for the loader. */
static bool visit_list(const char *list, gemmux_place_visit *visit, void *context)
{
    char folder[PATH_MAX];
    while (list && *list) {
        size_t length = strcspn(list, ":;");
        if (length && length < sizeof folder) {
            memcpy(folder, list, length);
            folder[length] = '\0';
            if (visit(context, folder))
                return true;
        }
        list += length + (list[length] != '\0');
    }
    return false;
}

bool gemmux_places_match(const char *folder, const char *pattern, gemmux_place_visit *visit,
                         void *context)
{
    char text[PATH_MAX];
    glob_t matches;
    bool ended = false;
    if (snprintf(text, sizeof text, "%s/%s", folder, pattern) >= PATH_MAX ||
        glob(text, 0, NULL, &matches) != 0)
        return false;
    for (size_t i = 0; i < matches.gl_pathc && !ended; i++)
        ended = visit(context, matches.gl_pathv[i]);
    globfree(&matches);
    return ended;
}

bool gemmux_places_environment(gemmux_place_visit *visit, void *context)
{
    return visit_list(getenv("LD_LIBRARY_PATH"), visit, context);
}

/* A folder of PATH: the environment whose python3 it holds, if it is one. */
static bool find_environment(void *context, const char *folder)
{
    char *root = context, path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/python3", folder) >= PATH_MAX || access(path, X_OK) != 0)
        return false;
    /* Not resolved: an environment's python3 is a link to the system's. */
    if (snprintf(path, sizeof path, "%s/../pyvenv.cfg", folder) >= PATH_MAX ||
        access(path, F_OK) != 0)
        *root = '\0';
    else if (snprintf(path, sizeof path, "%s/..", folder) >= PATH_MAX || !realpath(path, root))
        *root = '\0';
    return true;
}

static bool each_environment(const char *pattern, gemmux_place_visit *visit, void *context)
{
    char root[PATH_MAX] = "";
    visit_list(getenv("PATH"), find_environment, root);
    const char *const roots[] = {getenv("VIRTUAL_ENV"), getenv("CONDA_PREFIX"), root};
    for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++)
        if (roots[i] && *roots[i] && gemmux_places_match(roots[i], pattern, visit, context))
            return true;
    return false;
}

bool gemmux_places_python_lib(gemmux_place_visit *visit, void *context)
{
    return each_environment("lib", visit, context);
}

bool gemmux_places_python_packages(gemmux_place_visit *visit, void *context)
{
    const char *home = getenv("HOME");
    return each_environment("lib/python3*/site-packages", visit, context) ||
           (home && *home &&
            gemmux_places_match(home, ".local/lib/python3*/site-packages", visit, context)) ||
           gemmux_places_match("/usr/local/lib", "python3*/[sd]i[ts][et]-packages", visit,
                               context) ||
           gemmux_places_match("/usr/lib", "python3*/[sd]i[ts][et]-packages", visit, context);
}

bool gemmux_places_usual(gemmux_place_visit *visit, void *context)
{
    static const char *const usual[] = {
        "/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64",
        "/usr/lib",       "/usr/local/cuda/lib64",
    };
    for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++)
        if (visit(context, usual[i]))
            return true;
    return gemmux_places_match("/usr/local", "cuda-*/lib64", visit, context) ||
           gemmux_places_match("/usr/local", "cuda*/targets/*/lib", visit, context);
}
