/* SPDX-License-Identifier: Apache-2.0
 *
 * One block of a CUDA kernel on one CPU thread: each of its threads is a fiber with a stack of its
 * own. Separate from device.h, which is what kernels see, and from the driver, which starts blocks.
 * Anything a GPU would not do (a warp operation that a lane never reaches, a misaligned vector)
 * ends the process with a sentence.
 */
#ifndef GEMMUX_EMULATOR_FIBERS_H
#define GEMMUX_EMULATOR_FIBERS_H

#include <cstddef>
#include <cstdint>

struct uint3 {
    unsigned x, y, z;
};

extern uint3 threadIdx, blockIdx, blockDim, gridDim;
extern uint8_t *emulated_dynamic; /* the block's dynamic shared memory */

enum { EMULATED_SLOT_BYTES = 32, EMULATED_MAX_THREADS = 1024 };

struct emulated_slot {
    uint8_t bytes[EMULATED_SLOT_BYTES];
};

/* Waits for the other 31 lanes at the same operation; what each of them brought. Valid until this
 * lane's next meeting. */
const emulated_slot *emulated_meet(const char *operation, const void *mine, size_t bytes);
void emulated_barrier();
/* Lets other threads run: what a loop that waits for them calls. */
void emulated_yield();
void emulated_copy_async(uint32_t to, const void *from, unsigned bytes, bool valid);
void emulated_copy_commit();
void emulated_copy_wait(int pending);
void emulated_full(unsigned mask, const char *operation);
void emulated_check_aligned(const void *at, size_t bytes, const char *operation);
[[noreturn]] void emulated_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

static inline void emulated_aligned(const void *at, size_t bytes, const char *operation)
{
    if (reinterpret_cast<uintptr_t>(at) % bytes)
        emulated_check_aligned(at, bytes, operation);
}

/* One kernel: its name, the sizes of its parameters, and a call with pointers to them. */
struct emulated_kernel {
    const char *name;
    size_t parameter_bytes[4]; /* ends with 0 */
    void (*call)(void **parameters);
};

/* Runs all blocks, in an order that depends on `seed`. */
void emulated_run(const emulated_kernel *kernel, const unsigned grid[3], unsigned threads,
                  size_t dynamic_bytes, void **parameters, uint64_t seed);

#endif
