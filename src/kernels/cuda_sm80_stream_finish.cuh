/* SPDX-License-Identifier: Apache-2.0
 *
 * How the streaming forms of cuda_sm80_upcast end: each warp leaves its sums of a row block in
 * shared memory, and when a span's are all there, they are added up in the order of K and stored.
 */
#pragma once

#include "cuda_sm80_stream_layout.cuh"

namespace
{

template <int KIND, bool F16, int ROWS> struct stream_finisher {
    using L = stream_layout<KIND, F16, ROWS>;
    using T = kind_traits<KIND>;
    using span = typename L::span;
    using routing = typename L::routing;
    static constexpr int WARPS = L::WARPS, NT = L::NT;

    /* What finishes the 16 rows of w of a row block, as it stands in memory. */
    struct finishing {
        float factors[16], bias[16];
        uint8_t shifts[16];
        uint32_t flags, unused[3];
    };
    static_assert(sizeof(finishing) == L::FINISH, "room for it");

    /* The slot of row block `row` of a span: its finishing, then sums of each warp and row of x. */
    static __device__ __forceinline__ uint8_t *slot_of(int row, int count)
    {
        return dynamic_shared() + L::SLOTS + row * L::slot_bytes(count);
    }

    /* Brings it to shared memory with the next stage that is fetched: a warp a row block. */
    static __device__ __forceinline__ void fetch_finishing(const parameters &p, const span &of)
    {
        int lane = threadIdx.x % 32, expert = max(0, of.expert);
        const uint8_t *matrix = p.w + expert * p.matrix_bytes;
#pragma unroll 1
        for (int row = of.first + int(threadIdx.x) / 32; row < of.stop; row += WARPS) {
            int row_block = row - of.at.base, n = row_block * 16 + lane % 16;
            uint32_t to = shared_address(slot_of(row - of.first, of.count));
            if (lane >= 16) {
                bool some = p.bias && n < p.n;
                const float *from = some ? p.bias + int64_t(expert) * p.n + n : nullptr;
                copy_async_small<4>(to + offsetof(finishing, bias) + lane % 16 * 4,
                                    some ? static_cast<const void *>(from) : p.w, some);
            } else if (lane < 4) {
                copy_async(to + lane * 16, matrix + p.factors_at + row_block * 64 + lane * 16,
                           true);
            } else if (lane == 4) {
                copy_async_small<4>(to + offsetof(finishing, flags),
                                    matrix + p.flags_at + row_block * 4, true);
            } else if (lane >= 8 && lane < 12 && T::mx) {
                copy_async_small<4>(to + offsetof(finishing, shifts) + lane % 4 * 4,
                                    matrix + p.shifts_at + row_block * 16 + lane % 4 * 4, true);
            }
        }
    }

    /* As open_finisher, for rows `pair` and pair + 1. */
    static __device__ __forceinline__ finisher finisher_of(const parameters &p,
                                                           const finishing &from, int pair)
    {
        finisher f;
        f.factor = make_float2(from.factors[pair] * sum_factor<KIND, F16>(),
                               from.factors[pair + 1] * sum_factor<KIND, F16>());
        if (T::mx && folds<KIND, F16>::value && !p.unshifted) { /* 2^shift */
            f.factor.x *= __uint_as_float((127u + from.shifts[pair]) << 23);
            f.factor.y *= __uint_as_float((127u + from.shifts[pair + 1]) << 23);
        }
        f.nan[0] = from.flags >> pair / 2 & 1;
        f.nan[1] = from.flags >> (pair / 2 + 8) & 1;
        f.bias = make_float2(from.bias[pair], from.bias[pair + 1]);
        return f;
    }

    /* A warp's part of a slot. */
    static __device__ __forceinline__ float *sums_of(uint8_t *slot, int warp, int count)
    {
        return reinterpret_cast<float *>(slot + L::FINISH) + warp * count * 16;
    }

    /* There, the sums of row r of x and rows 2g and 2g + 1 of w; swapped so that lanes meet most
     * banks. */
    static __device__ __forceinline__ float2 *pair_at(float *sums, int r, int g)
    {
        return reinterpret_cast<float2 *>(sums) + r * 8 + (g ^ (r & 4));
    }

    template <int CHAINS>
    static __device__ __forceinline__ void leave(float *to, int count, bool add,
                                                 const float (&sums)[CHAINS][NT][4])
    {
        int lane = threadIdx.x % 32, g = lane / 4, l = lane % 4;
#pragma unroll
        for (int i = 0; i < 2 * NT; i++) {
            int t = i / 2, odd = i % 2, r = t * 8 + l * 2 + odd;
            if (r >= count)
                continue;
            float2 sum = make_float2(sums[0][t][odd], sums[0][t][odd + 2]);
            if (CHAINS > 1)
                sum.x += sums[CHAINS - 1][t][odd], sum.y += sums[CHAINS - 1][t][odd + 2];
            if (add) { /* of the pass before */
                sum.x += pair_at(to, r, g)->x;
                sum.y += pair_at(to, r, g)->y;
            }
            *pair_at(to, r, g) = sum;
        }
    }

    /* Adds up what the warps left of a span, and stores it: a thread two rows of w and one of x. */
    static __device__ __forceinline__ void finish(const parameters &p, const routing &list,
                                                  const span &of)
    {
        int pair = threadIdx.x % 8 * 2, count = of.count;
        for (int i = threadIdx.x / 8; i < (of.stop - of.first) * count; i += L::THREADS / 8) {
            int row = count == 1 ? i : i / count, r = i - row * count;
            int n = (of.first + row - of.at.base) * 16 + pair;
            uint8_t *slot = slot_of(row, count);
            float2 sum = make_float2(0.0f, 0.0f);
#pragma unroll
            for (int w = 0; w < WARPS; w++) {
                float2 v = make_float2(0.0f, 0.0f);
                if (w < p.stream_held)
                    v = *pair_at(sums_of(slot, w, count), r, pair / 2);
                sum.x += v.x, sum.y += v.y;
            }
            if (n >= p.n)
                continue;
            finisher f = finisher_of(p, *reinterpret_cast<const finishing *>(slot), pair);
            if (of.expert < 0)
                f.nan[0] = f.nan[1] = true;
            finish_pair(p, f, product_row(p, list, of.at.entry, r), n, sum.x, sum.y);
        }
    }
};

} // namespace
