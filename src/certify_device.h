/* SPDX-License-Identifier: Apache-2.0
 *
 * The operands of one case on a GPU. Each guarded buffer of the host (certify_guard.h) has an image
 * in device memory that ends, as it does, at an unmapped page: what a kernel reads or writes past
 * the end is an illegal address, and the pattern around the data comes back with it. Separate from
 * certify_prove.c, which asks the same questions of CPU kernels.
 */
#ifndef GEMMUX_CERTIFY_DEVICE_H
#define GEMMUX_CERTIFY_DEVICE_H

#include "certify_operands.h"
#include "prepare_cuda.h"

typedef struct gemmux_proof_device gemmux_proof_device;

gemmux_status gemmux_proof_device_open(const gemmux_machine *machine, gemmux_proof_device **device,
                                       gemmux_error *error);
void gemmux_proof_device_close(gemmux_proof_device *device);

/* Copies everything that is placed in o, guards included, and points args at it. */
gemmux_status gemmux_proof_device_put(gemmux_proof_device *device, const gemmux_operands *o,
                                      gemmux_args *args, gemmux_error *error);
/* Gives the plan's kernels a zeroed workspace of exactly `bytes` bytes. */
gemmux_status gemmux_proof_device_workspace(gemmux_proof_device *device, gemmux_resident *resident,
                                            int64_t bytes, gemmux_error *error);
/* Waits for what was launched. The driver's result; an error that gemmux_cuda_sticky knows says
 * what the kernel did, and ends all use of the device in this process. */
int gemmux_proof_device_wait(const gemmux_proof_device *device);
/* "illegal instruction (CUDA_ERROR_ILLEGAL_INSTRUCTION)" */
const char *gemmux_proof_device_text(const gemmux_proof_device *device, int result, char *buffer,
                                     size_t size);
/* Brings y and the bytes around it back into o. damage: what else was written, "" for nothing. */
gemmux_status gemmux_proof_device_get(gemmux_proof_device *device, const gemmux_operands *o,
                                      char *damage, size_t size, gemmux_error *error);
/* Frees the plan kept before, and keeps this one: the device code it uses stays loaded. */
void gemmux_proof_device_keep(gemmux_proof_device *device, gemmux_plan *plan);

#endif
