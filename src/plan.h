/* SPDX-License-Identifier: Apache-2.0
 *
 * What prepare leaves for run: packed weights, a decision and a kernel's state per range of M, and
 * one workspace. Separate because prepare fills it and run only reads it.
 */
#ifndef GEMMUX_PLAN_H
#define GEMMUX_PLAN_H

#include "kernel.h"
#include "prepare_cuda.h"

#include <pthread.h>

struct gemmux_plan {
    gemmux_problem problem;
    gemmux_machine machine; /* cores is the number of workers that scratch was sized for */
    gemmux_record *records; /* machine's, where kernels refused: with their words; else NULL */
    gemmux_packed packed;
    float *bias;      /* [count, n], owned; or NULL */
    int32_t *k_order; /* [k], owned; or NULL */
    gemmux_range ranges[GEMMUX_MAX_RANGES];
    void *states[GEMMUX_MAX_RANGES];
    int range_count;
    gemmux_threads *threads;
    gemmux_resident *resident; /* CUDA: what is on the device; the host keeps no copy */
    /* The workspace belongs to one run at a time; the lock makes others wait. CUDA: it keeps the
     * launches of one run together, and the stream orders the work. */
    pthread_mutex_t lock;
    void *workspace;
    int64_t workspace_bytes;
    int64_t gather_bytes; /* at its start: columns of x in k_order */
};

#endif
