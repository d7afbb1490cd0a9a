/* SPDX-License-Identifier: Apache-2.0
 *
 * The PTX instructions that device code uses, a function each, named after what they do to
 * registers (PTX ISA 9.0). Apart from the kernels because tests/emulator puts functions of the same
 * names for the host in their place and runs the kernels' own source on the CPU; so no other file
 * may contain asm. Only instructions of sm_80.
 */
#ifndef GEMMUX_CUDA_PTX_CUH
#define GEMMUX_CUDA_PTX_CUH

#include <cstdint>

/* Nothing at all, which the compiler neither moves nor takes for the same as anything else. */
__device__ __forceinline__ void keep_apart()
{
    asm volatile("" ::: "memory");
}

/* a * b + c on both halves, each rounded once. */
template <bool F16> __device__ __forceinline__ uint32_t fma2(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t d;
    if (F16)
        asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    else
        asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

/* (a & mask) | b. Of two constants ptxas would make two instructions: b is put into a register. */
__device__ __forceinline__ uint32_t and_or(uint32_t a, uint32_t mask, uint32_t b)
{
    uint32_t d;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(d) : "r"(a), "r"(mask), "r"(b));
    return d;
}

__device__ __forceinline__ uint32_t prmt(uint32_t a, uint32_t b, uint32_t selector)
{
    uint32_t d;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(selector));
    return d;
}

/* d += a . b, 16 x 8 x 16, by the whole warp. */
template <bool F16>
__device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    if (F16)
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, "
                     "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    else
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
                     "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* a / b, by a reciprocal of 22 bits: a from 0, b from 1, both below 2^18. (a + 1/2) / b is at least
 * 2^-19 of itself from any whole number. */
__device__ __forceinline__ int divide_small(int a, int b)
{
    float reciprocal;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(float(b)));
    return int((float(a) + 0.5f) * reciprocal);
}

__device__ __forceinline__ float half_to_float(uint32_t bits)
{
    float value;
    asm("{.reg .b16 h; cvt.u16.u32 h, %1; cvt.f32.f16 %0, h;}" : "=f"(value) : "r"(bits));
    return value;
}

__device__ __forceinline__ uint16_t float_to_bf16(float value)
{
    uint16_t bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

__device__ __forceinline__ uint16_t float_to_half(float value)
{
    uint16_t bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

/* 16 bytes that are read once: not worth a place in L1. */
__device__ __forceinline__ uint4 load_stream(const void *from)
{
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(from));
    return v;
}

/* Brings a line to L1 (or L2), for a load that comes later: no register waits for it. */
__device__ __forceinline__ void prefetch(const void *from)
{
    asm volatile("prefetch.global.L1 [%0];" ::"l"(from));
}

/* The block's dynamic shared memory, 128-byte aligned, and addresses in it. */
__device__ __forceinline__ uint8_t *dynamic_shared()
{
    extern __shared__ __align__(128) uint8_t dynamic_shared_memory[];
    return dynamic_shared_memory;
}

__device__ __forceinline__ uint32_t shared_address(const void *in_shared)
{
    return static_cast<uint32_t>(__cvta_generic_to_shared(in_shared));
}

/* 16 bytes to shared memory, zeros where not valid; `from` is then not read. */
__device__ __forceinline__ void copy_async(uint32_t to, const void *from, bool valid)
{
    int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
                 : "memory");
}

/* 4 or 8 bytes likewise. */
template <int BYTES>
__device__ __forceinline__ void copy_async_small(uint32_t to, const void *from, bool valid)
{
    static_assert(BYTES == 4 || BYTES == 8, "sizes that cp.async.ca knows");
    int bytes = valid ? BYTES : 0;
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(BYTES),
                 "r"(bytes)
                 : "memory");
}

__device__ __forceinline__ void copy_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits until at most PENDING groups of this thread are under way. */
template <int PENDING> __device__ __forceinline__ void copy_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

/* ---- the launches before and behind on the stream ----
 *
 * Compiled for 9.0 and newer (PTX ISA 7.8, griddepcontrol); nothing elsewhere. The host asks for
 * such launches only of functions compiled so (gemmux_cuda_code_overlaps). */

/* The next launch may start as soon as every block of this one has come here or ended. */
__device__ __forceinline__ void allow_next_launch()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

/* Until all earlier launches have ended, and what they wrote can be read. What nothing on the
 * stream writes (a plan's weights, bias and lists) may be read before. */
__device__ __forceinline__ void wait_for_earlier_launches()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* ---- barriers that count arrivals; addresses are of shared memory ---- */

__device__ __forceinline__ void barrier_init(uint32_t barrier, int arrivals)
{
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}

__device__ __forceinline__ void barrier_arrive(uint32_t barrier)
{
    asm volatile("{.reg .b64 s; mbarrier.arrive.shared.b64 s, [%0];}" ::"r"(barrier) : "memory");
}

/* Until the phase of that parity is over. */
__device__ __forceinline__ void barrier_poll(uint32_t barrier, uint32_t parity)
{
    asm volatile("{.reg .pred p;\n"
                 "again: mbarrier.test_wait.parity.shared.b64 p, [%0], %1;\n"
                 "@!p bra again;}" ::"r"(barrier),
                 "r"(parity)
                 : "memory");
}

#endif
