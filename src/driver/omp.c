/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/omp.h"

#include "driver/symbols.h"

bool gemmux_omp_open(gemmux_omp *omp, void *library)
{
    bool found = gemmux_symbol_load(library, "omp_get_max_threads", &omp->get_max_threads) &&
                 gemmux_symbol_load(library, "omp_set_num_threads", &omp->set_num_threads);
    if (!found)
        *omp = (gemmux_omp){0};
    return found;
}

int gemmux_omp_hold(const gemmux_omp *omp)
{
    int held = omp->set_num_threads ? omp->get_max_threads() : 1;
    if (held != 1)
        omp->set_num_threads(1);
    return held;
}

void gemmux_omp_release(const gemmux_omp *omp, int held)
{
    if (held != 1)
        omp->set_num_threads(held);
}
