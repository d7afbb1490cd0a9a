/* SPDX-License-Identifier: Apache-2.0
 *
 * Where shared libraries may lie on this machine. Separate because what is used (libraries.c) and
 * what is only listed (gpu_libraries.c) is looked for in the same places.
 */
#ifndef GEMMUX_PLACES_H
#define GEMMUX_PLACES_H

#include <stdbool.h>

/* Called with a folder that exists, or may; true ends the search. */
typedef bool gemmux_place_visit(void *context, const char *folder);

/* The folders of LD_LIBRARY_PATH. Each search returns whether a visit ended it. */
bool gemmux_places_environment(gemmux_place_visit *visit, void *context);
/* What the active Python environment installs into: first VIRTUAL_ENV and CONDA_PREFIX, then the
 * environment that the first python3 of PATH belongs to, then the user's own packages and the
 * system's. `lib` folders of the environments, and all of their site-packages. */
bool gemmux_places_python_lib(gemmux_place_visit *visit, void *context);
bool gemmux_places_python_packages(gemmux_place_visit *visit, void *context);
/* The system's own, and CUDA toolkits'. */
bool gemmux_places_usual(gemmux_place_visit *visit, void *context);
/* Every match of a pattern below a folder, in order. */
bool gemmux_places_match(const char *folder, const char *pattern, gemmux_place_visit *visit,
                         void *context);

#endif
