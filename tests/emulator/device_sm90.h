/* SPDX-License-Identifier: Apache-2.0
 *
 * Host functions in place of cuda_sm90_ptx.cuh, after PTX ISA 9.0: barriers that count arrivals and
 * bytes, boxes of tensor maps that land at once or later, and wgmma, which happens when it is
 * issued: so that indices, layouts and the order of the ring are tested, but not a wgmma_wait that
 * is missing. Included behind device.h.
 */
#ifndef GEMMUX_EMULATOR_DEVICE_SM90_H
#define GEMMUX_EMULATOR_DEVICE_SM90_H

#include "device.h"

#define GEMMUX_CUDA_SM90_PTX_CUH /* this file stands in its place */

/* ---- barriers ---- */

void emulated_named_barrier(int name, int threads);

static inline void barrier_init_fence()
{
}

static inline void barrier_expect(uint32_t barrier, int bytes)
{
    emulated_mbarrier_arrive(barrier, bytes);
}

static inline void barrier_wait(uint32_t barrier, uint32_t parity)
{
    barrier_poll(barrier, parity);
}

template <int THREADS> static inline void join_threads()
{
    emulated_named_barrier(1, THREADS);
}

static inline void join_group(int group)
{
    emulated_named_barrier(group + 2, 128);
}

/* ---- shared memory by address ---- */

static inline uint8_t *emulated_shared_at(uint32_t at, size_t bytes)
{
    if (at % bytes)
        emulated_die("shared memory at %u, not a multiple of %zu", at, bytes);
    return emulated_dynamic + at;
}

static inline void write_shared8(uint32_t to, float a, float b)
{
    memcpy(emulated_shared_at(to, 8), &a, 4);
    memcpy(emulated_shared_at(to, 8) + 4, &b, 4);
}

static inline void write_shared4(uint32_t to, uint32_t value)
{
    memcpy(emulated_shared_at(to, 4), &value, 4);
}

static inline void write_shared2(uint32_t to, uint16_t value)
{
    memcpy(emulated_shared_at(to, 2), &value, 2);
}

static inline uint4 read_shared16(uint32_t from)
{
    return *reinterpret_cast<const uint4 *>(emulated_shared_at(from, 16));
}

static inline void read_shared8(uint32_t from, uint32_t (&to)[2])
{
    memcpy(to, emulated_shared_at(from, 8), 8);
}

static inline uint32_t read_shared4(uint32_t from)
{
    uint32_t value;
    memcpy(&value, emulated_shared_at(from, 4), 4);
    return value;
}

static inline uint32_t read_shared2(uint32_t from)
{
    uint16_t value;
    memcpy(&value, emulated_shared_at(from, 2), 2);
    return value;
}

/* ---- copies of boxes ---- */

/* coordinates: of the box's first element, rank of them. */
void emulated_copy_box(uint32_t to, const void *map, int rank, const int *coordinates,
                       uint32_t barrier);

static inline void copy_tile(uint32_t to, const void *map, int column, int row, uint32_t barrier)
{
    const int at[2] = {column, row};
    emulated_copy_box(to, map, 2, at, barrier);
}

static inline void copy_tile3(uint32_t to, const void *map, int column, int row, int matrix,
                              uint32_t barrier)
{
    const int at[3] = {column, row, matrix};
    emulated_copy_box(to, map, 3, at, barrier);
}

/* ---- wgmma ---- */

template <int COUNT> static inline void give_registers()
{
}

template <int COUNT> static inline void take_registers()
{
}

static inline void wgmma_fence()
{
}

static inline void wgmma_commit()
{
}

template <int PENDING> static inline void wgmma_wait()
{
}

/* The start alone: rows of 128 bytes, swizzled by 128. */
static inline uint64_t operand_rows128(uint32_t address)
{
    return address / 16;
}

/* d is the lane's part: of columns 8 j + 2 l and the next, rows g and then g + 8. */
void emulated_wgmma(float *d, int n, const uint32_t (&a)[4], uint64_t b, bool add, bool half);

template <int N, bool F16> struct wgmma_rs {
    static inline void run(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, int add)
    {
        emulated_wgmma(d, N, a, b, add != 0, F16);
    }
};

/* Both operands of e4m3; sums keep 13 bits below the first of the largest addend. */
void emulated_wgmma_fp8(float *d, int n, uint64_t a, uint64_t b, bool add);

template <int N> struct wgmma_fp8 {
    static inline void run(float (&d)[N / 2], uint64_t a, uint64_t b, int add)
    {
        emulated_wgmma_fp8(d, N, a, b, add != 0);
    }
};

#endif
