/* SPDX-License-Identifier: Apache-2.0
 *
 * CUDA C++ as a host compiler can read it: what device code of src/kernels/ uses of the language,
 * and host functions in place of cuda_ptx.cuh, after PTX ISA 9.0. A thread of a block is a fiber
 * (fibers.h); lanes meet at warp operations, threads at barriers, in an order that changes with
 * every launch, and cp.async lands either at once or as late as it may. Included before the
 * kernel's source (-include).
 */
#ifndef GEMMUX_EMULATOR_DEVICE_H
#define GEMMUX_EMULATOR_DEVICE_H

#include "fibers.h"

#include <cmath>
#include <cstdint>
#include <cstring>

#define GEMMUX_CUDA_PTX_CUH /* this file stands in its place */

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) alignas(bytes)
#define __constant__     static const
/* One copy for the block that runs; poisoned before each. */
#define __shared__ static __attribute__((section("emulated_shared")))

struct alignas(8) uint2 {
    uint32_t x, y;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

static inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w)
{
    return {x, y, z, w};
}

static inline float2 make_float2(float x, float y)
{
    return {x, y};
}

static inline float4 make_float4(float x, float y, float z, float w)
{
    return {x, y, z, w};
}

template <class To, class From> static inline To emulated_bits(From from)
{
    To to;
    static_assert(sizeof to == sizeof from, "bits of one size");
    memcpy(&to, &from, sizeof to);
    return to;
}

static inline float __uint_as_float(uint32_t bits)
{
    return emulated_bits<float>(bits);
}

static inline float __int_as_float(int bits)
{
    return emulated_bits<float>(bits);
}

static inline uint32_t __float_as_uint(float value)
{
    return emulated_bits<uint32_t>(value);
}

static inline int min(int a, int b)
{
    return a < b ? a : b;
}

static inline int max(int a, int b)
{
    return a > b ? a : b;
}

#define __expf expf // a name that the C library keeps for itself

static inline float __fdividef(float a, float b)
{
    return a / b;
}

static inline int __popc(unsigned bits)
{
    return __builtin_popcount(bits);
}

/* ---- memory ---- */

template <class T> static inline T __ldg(const T *from)
{
    emulated_aligned(from, sizeof(T), "__ldg");
    return *from;
}

template <class T> static inline T __ldcg(const T *from)
{
    emulated_aligned(from, sizeof(T), "__ldcg");
    return *from;
}

template <class T> static inline void __stcg(T *to, T value)
{
    emulated_aligned(to, sizeof(T), "__stcg");
    *to = value;
}

static inline void __threadfence()
{
}

template <class T> static inline T atomicAdd(T *to, T value)
{
    T before = *to;
    *to += value;
    return before;
}

static inline uint4 load_stream(const void *from)
{
    emulated_aligned(from, 16, "ld.global.v4");
    return *static_cast<const uint4 *>(from);
}

static inline void prefetch(const void *)
{
}

static inline uint8_t *dynamic_shared()
{
    return emulated_dynamic;
}

static inline uint32_t shared_address(const void *in_shared)
{
    return uint32_t(static_cast<const uint8_t *>(in_shared) - emulated_dynamic);
}

static inline void copy_async(uint32_t to, const void *from, bool valid)
{
    emulated_copy_async(to, from, 16, valid);
}

template <int BYTES> static inline void copy_async_small(uint32_t to, const void *from, bool valid)
{
    emulated_copy_async(to, from, BYTES, valid);
}

static inline void keep_apart()
{
}

/* Launches run one after the other here. */
static inline void allow_next_launch()
{
}
static inline void wait_for_earlier_launches()
{
}

static inline void copy_async_commit()
{
    emulated_copy_commit();
}

template <int PENDING> static inline void copy_async_wait()
{
    emulated_copy_wait(PENDING);
}

/* ---- threads ---- */

static inline void __syncthreads()
{
    emulated_barrier();
}

static inline void __syncwarp()
{
    emulated_meet("__syncwarp", nullptr, 0);
}

void emulated_mbarrier_init(uint32_t barrier, int arrivals);
void emulated_mbarrier_arrive(uint32_t barrier, int expected_bytes);
bool emulated_mbarrier_over(uint32_t barrier, uint32_t parity);

static inline void barrier_init(uint32_t barrier, int arrivals)
{
    emulated_mbarrier_init(barrier, arrivals);
}

static inline void barrier_arrive(uint32_t barrier)
{
    emulated_mbarrier_arrive(barrier, 0);
}

static inline void barrier_poll(uint32_t barrier, uint32_t parity)
{
    while (!emulated_mbarrier_over(barrier, parity))
        emulated_yield();
}

static inline unsigned __ballot_sync(unsigned mask, bool vote)
{
    unsigned votes = 0;
    const uint8_t mine = vote;
    emulated_full(mask, "__ballot_sync");
    const emulated_slot *lanes = emulated_meet("__ballot_sync", &mine, 1);
    for (int lane = 0; lane < 32; lane++)
        votes |= unsigned(lanes[lane].bytes[0]) << lane;
    return votes;
}

static inline int __ffs(unsigned v)
{
    return __builtin_ffs(int(v));
}

static inline unsigned __match_any_sync(unsigned mask, int value)
{
    unsigned same = 0;
    emulated_full(mask, "__match_any_sync");
    const emulated_slot *lanes = emulated_meet("__match_any_sync", &value, 4);
    for (int lane = 0; lane < 32; lane++)
        same |= unsigned(!memcmp(lanes[lane].bytes, &value, 4)) << lane;
    return same;
}

static inline float __shfl_down_sync(unsigned mask, float value, int by)
{
    emulated_full(mask, "__shfl_down_sync");
    const emulated_slot *lanes = emulated_meet("__shfl_down_sync", &value, 4);
    int lane = int(threadIdx.x % 32), from = lane + by < 32 ? lane + by : lane;
    float got;
    memcpy(&got, lanes[from].bytes, 4);
    return got;
}

static inline void __trap()
{
    emulated_die("a trap");
}

template <class T> static inline T emulated_shuffle(unsigned mask, T value, int from)
{
    emulated_full(mask, "shfl.sync");
    const emulated_slot *lanes = emulated_meet("shfl.sync", &value, sizeof value);
    T got;
    memcpy(&got, lanes[from].bytes, sizeof got);
    return got;
}

template <class T> static inline T __shfl_sync(unsigned mask, T value, int from)
{
    return emulated_shuffle(mask, value, from);
}

template <class T> static inline T __shfl_xor_sync(unsigned mask, T value, int by)
{
    return emulated_shuffle(mask, value, int(threadIdx.x % 32) ^ by);
}

template <class T> static inline T __shfl_up_sync(unsigned mask, T value, int by)
{
    int lane = int(threadIdx.x % 32);
    return emulated_shuffle(mask, value, lane >= by ? lane - by : lane);
}

/* ---- arithmetic ---- */

/* Nearest number, ties to even, of a small float with these many bits; NaN is all ones. */
uint16_t emulated_narrow(double value, int exponent_bits, int mantissa_bits);
double emulated_widen(uint16_t bits, bool half);
/* a * b + c rounded to odd, so that a second rounding does no harm. */
double emulated_fma_odd(double a, double b, double c);

static inline int divide_small(int a, int b)
{
    return a / b;
}

static inline float half_to_float(uint32_t bits)
{
    return float(emulated_widen(uint16_t(bits), true));
}

static inline uint16_t float_to_bf16(float value)
{
    return emulated_narrow(value, 8, 7);
}

static inline uint16_t float_to_half(float value)
{
    return emulated_narrow(value, 5, 10);
}

template <bool F16> static inline uint32_t fma2(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t d = 0;
    for (int shift = 0; shift < 32; shift += 16) {
        double sum = emulated_fma_odd(emulated_widen(uint16_t(a >> shift), F16),
                                      emulated_widen(uint16_t(b >> shift), F16),
                                      emulated_widen(uint16_t(c >> shift), F16));
        d |= uint32_t(emulated_narrow(sum, F16 ? 5 : 8, F16 ? 10 : 7)) << shift;
    }
    return d;
}

static inline uint32_t and_or(uint32_t a, uint32_t mask, uint32_t b)
{
    return (a & mask) | b;
}

/* prmt.b32 in its default mode: bit 3 of a nibble of the selector repeats the byte's sign. */
static inline uint32_t prmt(uint32_t a, uint32_t b, uint32_t selector)
{
    uint64_t bytes = uint64_t(b) << 32 | a;
    uint32_t d = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t choose = selector >> (4 * i) & 15;
        uint32_t byte = uint32_t(bytes >> (8 * (choose & 7))) & 255;
        if (choose & 8)
            byte = byte & 128 ? 255 : 0;
        d |= byte << (8 * i);
    }
    return d;
}

/* mma.m16n8k16: with g = lane / 4 and l = lane % 4, register i of A holds row g + 8 (i & 1),
 * columns 2 l + 8 (i >> 1) and the next; register i of B column g, rows 2 l + 8 i and the next; D
 * rows g and g + 8, columns 2 l and 2 l + 1. The sum is cut, not rounded, to f32, as the matrix
 * units do. */
void emulated_mma(float (&d)[4], const emulated_slot *lanes, bool half);

template <bool F16>
static inline void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    const uint32_t mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
    emulated_mma(d, emulated_meet(F16 ? "mma f16" : "mma bf16", mine, sizeof mine), F16);
}

#endif
