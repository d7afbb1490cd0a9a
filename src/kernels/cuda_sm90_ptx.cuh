/* SPDX-License-Identifier: Apache-2.0
 *
 * The instructions that only sm_90a has, a function each, beside cuda_ptx.cuh: barriers in shared
 * memory, copies by tensor maps, and wgmma (PTX ISA 9.0). tests/emulator has
 * functions of the same names; there a wgmma is over when it is issued, so a wait that is missing
 * shows on a device alone.
 */
#ifndef GEMMUX_CUDA_SM90_PTX_CUH
#define GEMMUX_CUDA_SM90_PTX_CUH

#include "cuda_ptx.cuh"

/* ---- barriers: addresses are of shared memory ---- */

/* Makes initialised barriers visible to the copy engine. */
__device__ __forceinline__ void barrier_init_fence()
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void barrier_expect(uint32_t barrier, int bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
                 : "memory");
}

/* Until the phase of that parity is over. */
__device__ __forceinline__ void barrier_wait(uint32_t barrier, uint32_t parity)
{
    asm volatile("{.reg .pred p;\n"
                 "again: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
                 "@!p bra again;}" ::"r"(barrier),
                 "r"(parity)
                 : "memory");
}

/* The first `threads` threads of the block that come here. */
template <int THREADS> __device__ __forceinline__ void join_threads()
{
    asm volatile("bar.sync 1, %0;" ::"n"(THREADS) : "memory");
}

/* The 128 threads of warpgroup `group`. */
__device__ __forceinline__ void join_group(int group)
{
    asm volatile("bar.sync %0, 128;" ::"r"(group + 2) : "memory");
}

/* ---- shared memory by address ---- */

__device__ __forceinline__ void write_shared8(uint32_t to, float a, float b)
{
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to), "f"(a), "f"(b) : "memory");
}

__device__ __forceinline__ void write_shared4(uint32_t to, uint32_t value)
{
    asm volatile("st.shared.u32 [%0], %1;" ::"r"(to), "r"(value) : "memory");
}

__device__ __forceinline__ void write_shared2(uint32_t to, uint16_t value)
{
    asm volatile("st.shared.u16 [%0], %1;" ::"r"(to), "h"(value) : "memory");
}

__device__ __forceinline__ uint4 read_shared16(uint32_t from)
{
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(from)
                 : "memory");
    return v;
}

__device__ __forceinline__ void read_shared8(uint32_t from, uint32_t (&to)[2])
{
    asm volatile("ld.shared.v2.u32 {%0,%1}, [%2];"
                 : "=r"(to[0]), "=r"(to[1])
                 : "r"(from)
                 : "memory");
}

__device__ __forceinline__ uint32_t read_shared4(uint32_t from)
{
    uint32_t v;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(from) : "memory");
    return v;
}

__device__ __forceinline__ uint32_t read_shared2(uint32_t from)
{
    uint32_t v;
    asm volatile("{.reg .b16 h; ld.shared.u16 h, [%1]; cvt.u32.u16 %0, h;}"
                 : "=r"(v)
                 : "r"(from)
                 : "memory");
    return v;
}

/* ---- copies of boxes of a tensor map to shared memory, counted by a barrier ---- */

__device__ __forceinline__ void copy_tile(uint32_t to, const void *map, int column, int row,
                                          uint32_t barrier)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3}], [%4];" ::"r"(to),
                 "l"(map), "r"(column), "r"(row), "r"(barrier)
                 : "memory");
}

__device__ __forceinline__ void copy_tile3(uint32_t to, const void *map, int column, int row,
                                           int matrix, uint32_t barrier)
{
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3, %4}], [%5];" ::"r"(to),
                 "l"(map), "r"(column), "r"(row), "r"(matrix), "r"(barrier)
                 : "memory");
}

/* ---- registers of a warpgroup ---- */

template <int COUNT> __device__ __forceinline__ void give_registers()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}

template <int COUNT> __device__ __forceinline__ void take_registers()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

/* ---- wgmma ---- */

__device__ __forceinline__ void wgmma_fence()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void wgmma_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int PENDING> __device__ __forceinline__ void wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

/* The descriptor of an operand whose rows are 128 bytes, swizzled by 128, K along the row: 8 rows
 * are 1024 bytes, and the tile starts at a multiple of that. The next 16 columns: add 2. */
__device__ __forceinline__ uint64_t operand_rows128(uint32_t address)
{
    return uint64_t(address >> 4 & 0x3fff) | uint64_t(1) << 16 | uint64_t(64) << 32 |
           uint64_t(1) << 62;
}

/* d (+)= a . b: 64 x N x 16, by a warpgroup; b's descriptor; add 0 or 1. */
template <int N, bool F16> struct wgmma_rs;

/* Operands of the instruction's text, and of asm: registers of d by sixteens. */
#define WGMMA_D0  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define WGMMA_D16 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define WGMMA_D32 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define WGMMA_D48 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define WGMMA_D64 "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define WGMMA_D80 "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define WGMMA_D96                                                                                  \
    "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111"
#define WGMMA_D112                                                                                 \
    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, "   \
    "%127"
#define WGMMA_OUT4(i)  "+f"(d[i]), "+f"(d[(i) + 1]), "+f"(d[(i) + 2]), "+f"(d[(i) + 3])
#define WGMMA_OUT16(i) WGMMA_OUT4(i), WGMMA_OUT4((i) + 4), WGMMA_OUT4((i) + 8), WGMMA_OUT4((i) + 12)
#define WGMMA_OUT32(i) WGMMA_OUT16(i), WGMMA_OUT16((i) + 16)
#define WGMMA_OUT64(i) WGMMA_OUT32(i), WGMMA_OUT32((i) + 32)

/* n, type, text of d; the numbers of a's four registers, b and add; d as asm operands. */
#define WGMMA(n, type, text, a0, a1, a2, a3, b, add_, ...)                                         \
    asm volatile("{.reg .pred p; setp.ne.b32 p, %" #add_ ", 0;\n"                                  \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" text         \
                 "}, {%" #a0 ", %" #a1 ", %" #a2 ", %" #a3 "}, %" #b ", p, 1, 1, 0;}"              \
                 : __VA_ARGS__                                                                     \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(at), "r"(add))

#define WGMMA_RS(n, text, a0, a1, a2, a3, b, add_, ...)                                            \
    template <bool F16> struct wgmma_rs<n, F16> {                                                  \
        static __device__ __forceinline__ void run(float (&d)[n / 2], const uint32_t (&a)[4],      \
                                                   uint64_t at, int add)                           \
        {                                                                                          \
            if constexpr (F16)                                                                     \
                WGMMA(n, "f16", text, a0, a1, a2, a3, b, add_, __VA_ARGS__);                       \
            else                                                                                   \
                WGMMA(n, "bf16", text, a0, a1, a2, a3, b, add_, __VA_ARGS__);                      \
        }                                                                                          \
    };

WGMMA_RS(32, WGMMA_D0, 16, 17, 18, 19, 20, 21, WGMMA_OUT16(0))
WGMMA_RS(64, WGMMA_D0 ", " WGMMA_D16, 32, 33, 34, 35, 36, 37, WGMMA_OUT32(0))
WGMMA_RS(96, WGMMA_D0 ", " WGMMA_D16 ", " WGMMA_D32, 48, 49, 50, 51, 52, 53, WGMMA_OUT32(0),
         WGMMA_OUT16(32))
WGMMA_RS(128, WGMMA_D0 ", " WGMMA_D16 ", " WGMMA_D32 ", " WGMMA_D48, 64, 65, 66, 67, 68, 69,
         WGMMA_OUT64(0))
WGMMA_RS(256,
         WGMMA_D0 ", " WGMMA_D16 ", " WGMMA_D32 ", " WGMMA_D48 ", " WGMMA_D64 ", " WGMMA_D80
                  ", " WGMMA_D96 ", " WGMMA_D112,
         128, 129, 130, 131, 132, 133, WGMMA_OUT64(0), WGMMA_OUT64(64))

/* d (+)= a . b of e4m3: 64 x N x 32, both by descriptors; 32 columns on: add 2 to each. */
template <int N> struct wgmma_fp8;

#define WGMMA_FP8(n, text, a, b, add_, ...)                                                        \
    template <> struct wgmma_fp8<n> {                                                              \
        static __device__ __forceinline__ void run(float (&d)[n / 2], uint64_t rows,               \
                                                   uint64_t columns, int add)                      \
        {                                                                                          \
            asm volatile("{.reg .pred p; setp.ne.b32 p, %" #add_ ", 0;\n"                          \
                         "wgmma.mma_async.sync.aligned.m64n" #n "k32.f32.e4m3.e4m3 {" text         \
                         "}, %" #a ", %" #b ", p, 1, 1;}"                                          \
                         : __VA_ARGS__                                                             \
                         : "l"(rows), "l"(columns), "r"(add));                                     \
        }                                                                                          \
    };

WGMMA_FP8(16, "%0, %1, %2, %3, %4, %5, %6, %7", 8, 9, 10, WGMMA_OUT4(0), WGMMA_OUT4(4))
WGMMA_FP8(32, WGMMA_D0, 16, 17, 18, WGMMA_OUT16(0))
WGMMA_FP8(64, WGMMA_D0 ", " WGMMA_D16, 32, 33, 34, WGMMA_OUT32(0))
WGMMA_FP8(96, WGMMA_D0 ", " WGMMA_D16 ", " WGMMA_D32, 48, 49, 50, WGMMA_OUT32(0), WGMMA_OUT16(32))
WGMMA_FP8(128, WGMMA_D0 ", " WGMMA_D16 ", " WGMMA_D32 ", " WGMMA_D48, 64, 65, 66, WGMMA_OUT64(0))

#endif
