/* SPDX-License-Identifier: Apache-2.0
 *
 * What the streaming forms of cuda_sm80_upcast do with a stage: its units to registers, decoded,
 * times the columns of x that the warp holds. FINE and EXTRA as in cuda_sm80_stream_read.cuh; of MX
 * formats EXTRA says that rows of w have shifts.
 */
#pragma once

#include "cuda_sm80_stream_layout.cuh"

namespace
{

template <int KIND, bool F16, int ROWS, bool FINE, bool EXTRA> struct stream_multiplier {
    using L = stream_layout<KIND, F16, ROWS>;
    using T = kind_traits<KIND>;
    static constexpr int KT = L::KT, NT = L::NT, HELD = L::HELD;
    static constexpr bool GROUPED = L::GROUPED, INT4 = T::int4 && !T::minima;
    /* Codes go to the sums themselves; else a scale meets the products of a half, of a unit, or of
     * units that share it. */
    static constexpr bool DIRECT = T::plain || folds<KIND, F16>::value;
    static constexpr bool WHOLE = GROUPED && !FINE; /* scales of whole units or more */
    /* Units that are multiplied by turns, so that none waits for itself. With 16 rows, of which x
     * takes half of the registers, only where they need no sums of their own. */
    static constexpr int PAIR = KT < 2 || (NT > 1 && !DIRECT && !(WHOLE && L::SHARING > 1)) ? 1 : 2;
    /* Units whose codes are in registers at once. */
    static constexpr int PART = NT == 1 ? KT : PAIR;
    static constexpr bool TOGETHER = WHOLE && PAIR > 1 && L::SHARING == PAIR;
    static constexpr int CHAINS = NT == 1 && PAIR > 1 && !TOGETHER ? 2 : 1; /* of sums, likewise */
    static constexpr int HALVES = FINE ? 2 : 1; /* of a unit, with scales of their own */

    using columns = uint4[HELD][2][NT]; /* of x: 8 columns of [unit][half][row 8t + g] */
    using sums = float[CHAINS][NT][4];  /* of rows 2g and 2g + 1 of w, 8t + 2l and one more of x */

    /* ---- x ---- */

    /* x of a run: this lane's columns. Rows of x that do not exist are any other, as nobody looks
     * at their sums. Most runs end before K does, and ask once. */
    static __device__ __forceinline__ void load_x(const parameters &p,
                                                  const typename L::routing &list,
                                                  const typename L::span &of,
                                                  const typename L::run_of_units &run, columns &x)
    {
        int g = threadIdx.x % 32 / 4, l = threadIdx.x % 4;
        const uint4 *from[NT];
#pragma unroll
        for (int t = 0; t < NT; t++) {
            int r = t * 8 + g, row = product_row(p, list, of.at.entry, r < of.count ? r : 0);
            from[t] = reinterpret_cast<const uint4 *>(x_row(p, row)) + l + run.u * 8;
        }
        if (run.count == HELD && (run.u + HELD) * 64 <= p.k) {
#pragma unroll
            for (int i = 0; i < HELD * 2 * NT; i++)
                x[i / (2 * NT)][i / NT % 2][i % NT] = __ldg(from[i % NT] + i / NT * 4);
            return;
        }
        int left = min(p.k, (run.u + run.count) * 64) - run.u * 64 - l * 8;
#pragma unroll
        for (int i = 0; i < HELD * 2 * NT; i++) {
            uint4 &to = x[i / (2 * NT)][i / NT % 2][i % NT];
            to = make_uint4(0, 0, 0, 0);
            if (i / NT * 32 < left)
                to = __ldg(from[i % NT] + i / NT * 4);
        }
    }

    /* ---- a stage ---- */

    /* What a step's products are multiplied by: lane 4g + k has it for unit k. */
    struct group_scales {
        float2 scale[HALVES], minimum[HALVES];
        uint32_t zeros; /* a byte for [half][row] */
    };

    /* Scales or minima as stored. `odd`: of a block of rows: of the word's two. */
    static __device__ __forceinline__ void widen(const parameters &p, const uint8_t *stored,
                                                 bool odd, float2 (&to)[HALVES])
    {
        uint32_t words[4];
        const uint2 *from = reinterpret_cast<const uint2 *>(stored);
        uint2 raw = from[0], second = raw;
        if (FINE && p.fine)
            second = from[1];
        if (p.scale_code == GEMMUX_CODE_F32) {
            words[0] = raw.x, words[1] = raw.y;
            words[2] = second.x, words[3] = second.y;
        } else {
            uint32_t first = EXTRA && odd ? raw.x >> 16 : raw.x;
            uint32_t other = FINE && p.fine ? raw.y : first;
            const uint32_t bits[4] = {first, first >> 16, other, other >> 16};
            bool bf16 = p.scale_code == GEMMUX_CODE_BF16;
#pragma unroll
            for (int i = 0; i < 2 * HALVES; i++)
                words[i] = bf16 ? bits[i] << 16 : __float_as_uint(half_to_float(bits[i] & 0xffffu));
        }
        if (EXTRA && p.scale_block)
            words[1] = words[2] = words[3] = words[0];
#pragma unroll
        for (int half = 0; half < HALVES; half++)
            to[half] =
                make_float2(__uint_as_float(words[2 * half]), __uint_as_float(words[2 * half + 1]));
    }

    static __device__ __forceinline__ group_scales take_groups(const parameters &p, int row_block,
                                                               int u, int stage)
    {
        int lane = threadIdx.x % 32, g = lane / 4, k = KT == 4 ? lane % 4 : lane % KT;
        const uint8_t *scales = dynamic_shared() + L::scales_of(stage);
        group_scales of;
        bool odd = false;
        if (EXTRA && p.scale_block)
            odd = (row_block * p.groups + scale_offset(p, u + k)) & 1;
        widen(p, scales + (g * KT + k) * 16, odd, of.scale);
        if (T::minima)
            widen(p, scales + KT * 128 + (g * KT + k) * 16, odd, of.minimum);
        of.zeros = 0x08080808u;
        if (INT4 && EXTRA && p.zero) {
            uint32_t v = *reinterpret_cast<const uint32_t *>(scales + KT * 128 + (g * KT + k) * 4);
            of.zeros = p.fine ? v : prmt(v, 0, g % 2 ? 0x3232 : 0x1010);
        }
        return of;
    }

    /* Units first .. first + PART - 1 of a stage. */
    static __device__ __forceinline__ void take(int stage, int first, unit<KIND> (&to)[PART])
    {
        int lane = threadIdx.x % 32, g = lane / 4, l = lane % 4;
        const uint8_t *codes = dynamic_shared() + L::codes_of(stage) + L::line_at(lane * 16);
        const uint8_t *scales = dynamic_shared() + L::scales_of(stage);
#pragma unroll
        for (int i = 0; i < PART; i++) {
            int k = first + i;
#pragma unroll
            for (int j = 0; j < T::loads; j++) {
                uint4 v =
                    *reinterpret_cast<const uint4 *>(codes + L::line_at((k * T::loads + j) * 512));
                to[i].codes[4 * j] = v.x, to[i].codes[4 * j + 1] = v.y;
                to[i].codes[4 * j + 2] = v.z, to[i].codes[4 * j + 3] = v.w;
            }
            if (T::nv)
                to[i].scale[0] =
                    *reinterpret_cast<const uint32_t *>(scales + k * 64 + (g * 2 + l / 2) * 4);
            else if (T::mx)
                to[i].scale[0] = *reinterpret_cast<const uint32_t *>(scales + (g * KT + k) * 4);
        }
    }

    /* ---- decoding ---- */

    static __device__ __forceinline__ void fill_table()
    {
        if (!L::TABLED)
            return;
        int byte = threadIdx.x / 2;
        uint32_t pairs[4];
        spread_nf4<F16>(uint32_t(byte), 0, pairs);
        static_assert(!L::TABLED || L::THREADS == 512, "two threads a byte");
        uint8_t *to = dynamic_shared() + byte * L::LINE * L::APART + threadIdx.x % 2 * 64;
#pragma unroll
        for (int i = 0; i < 4; i++)
            *reinterpret_cast<uint4 *>(to + i * 16) =
                make_uint4(pairs[0], pairs[0], pairs[0], pairs[0]);
    }

    /* Eight columns of one row, as decode: byte j of w above this lane's place in a line. */
    static __device__ __forceinline__ void look_up(uint32_t w, uint32_t (&r)[4])
    {
        static_assert(!L::TABLED || L::LINE * L::APART == 256, "a byte");
        uint32_t place = threadIdx.x % 32 * 4;
#pragma unroll
        for (int j = 0; j < 4; j++)
            r[j] = *reinterpret_cast<const uint32_t *>(dynamic_shared() +
                                                       prmt(w, place, 0x5504u + j * 16));
    }

    /* -(offset + zero point) of rows 2g and 2g + 1 in a half. */
    static __device__ __forceinline__ void subtrahends(uint32_t zeros, int half,
                                                       uint32_t (&minus)[2])
    {
        constexpr uint32_t base = F16 ? 0xe4e4e4e4u : 0xc3c3c3c3u;
        minus[0] = minus[1] = T::minima ? base & 0xff00ff00u : (base & 0xff00ff00u) | 0x00080008u;
        if (INT4 && EXTRA) {
            minus[0] = prmt(zeros, base, 0x4040u + half * 2 * 0x0101u);
            minus[1] = prmt(zeros, base, 0x4040u + (half * 2 + 1) * 0x0101u);
        }
    }

    /* One row block's operands of both products of a half, as operands_of. */
    static __device__ __forceinline__ void open_operands(const block &b, const unit<KIND> &from,
                                                         uint32_t zeros, int half, int term,
                                                         uint32_t (&a)[2][4])
    {
        uint32_t by[2], minus[2] = {}, rows[2][4];
        multipliers_of<KIND, F16>(b, from, half, by);
        if (T::int4)
            subtrahends(zeros, half, minus);
#pragma unroll
        for (int odd = 0; odd < 2; odd++) {
            const uint32_t *words = row_words<KIND>(from, half, odd);
            if (L::TABLED)
                look_up(*words, rows[odd]);
            else
                decode<KIND, F16>(words, by[odd], minus[odd], term, rows[odd]);
        }
#pragma unroll
        for (int i = 0; i < 2; i++) {
            a[i][0] = rows[0][2 * i], a[i][1] = rows[1][2 * i];
            a[i][2] = rows[0][2 * i + 1], a[i][3] = rows[1][2 * i + 1];
        }
    }

    /* Exponents of ue8m0 scales as they are folded in. */
    static __device__ __forceinline__ block open_shifts(const parameters &p, const uint8_t *matrix,
                                                        int row_block)
    {
        block b = {};
        if (T::mx) {
            b.mx[0] = b.mx[1] = mx_base<KIND>(0);
            if (EXTRA)
                b = open_block<KIND>(p, matrix, row_block);
        }
        return b;
    }

    /* ---- products ---- */

    /* Products that have not met their scale, and what minima multiply. */
    struct partial {
        float products[NT][4], x[NT][4];
    };

    /* Of what lanes 4g + k hold for rows 2g and 2g + 1 of w: that for this lane's sums. */
    static __device__ __forceinline__ float2 of_unit(float2 mine, int k)
    {
        int from = threadIdx.x % 32 / 4 * 4 + k;
        return make_float2(__shfl_sync(0xffffffffu, mine.x, from),
                           __shfl_sync(0xffffffffu, mine.y, from));
    }

    static __device__ __forceinline__ void add_scaled(const float (&from)[NT][4], float2 scale,
                                                      float (&to)[NT][4])
    {
#pragma unroll
        for (int t = 0; t < NT; t++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                to[t][i] = fmaf(i < 2 ? scale.x : scale.y, from[t][i], to[t][i]);
    }

    /* to += from, scaled as unit k of a step is in one half. */
    static __device__ __forceinline__ void apply(const parameters &p, const block &b,
                                                 const unit<KIND> &u, const group_scales &groups,
                                                 int k, int half, const partial &from,
                                                 float (&to)[NT][4])
    {
        int at = FINE ? half : 0;
        if (!GROUPED) {
            add_scaled(from.products, scales_of_sums<KIND, F16>(p, b, u, 0, half).scale, to);
            return;
        }
        float2 scale = of_unit(groups.scale[at], k);
        scale.x *= code_factor<KIND, F16>();
        scale.y *= code_factor<KIND, F16>();
        add_scaled(from.products, scale, to);
        if (T::minima)
            add_scaled(from.x, of_unit(groups.minimum[at], k), to);
    }

    /* to += units k .. k + PAIR - 1 of a step . x, half by half in turn. What is behind the last
     * unit of a run is zeros. */
    static __device__ __forceinline__ void multiply(const parameters &p, const block &b,
                                                    const unit<KIND> *units,
                                                    const group_scales &groups, int k,
                                                    const uint4 (*x)[2][NT], sums &to)
    {
        partial open[TOGETHER ? 1 : PAIR] = {};
        uint32_t zeros[PAIR] = {};
        if (INT4 && EXTRA) {
#pragma unroll
            for (int i = 0; i < PAIR; i++)
                zeros[i] = __shfl_sync(0xffffffffu, groups.zeros, threadIdx.x % 32 / 4 * 4 + k + i);
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
#pragma unroll
            for (int i = 0; i < PAIR; i++) {
                partial &into = open[TOGETHER ? 0 : i];
#pragma unroll
                for (int t = 0; t < NT; t++)
                    add_up_x<KIND, F16>(x[i][half][t], into.x[t]);
#pragma unroll
                for (int term = 0; term < T::terms; term++) {
                    uint32_t a[2][4];
                    open_operands(b, units[i], zeros[i], half, term, a);
                    float(&products)[NT][4] = DIRECT ? to[i % CHAINS] : into.products;
#pragma unroll
                    for (int t = 0; t < NT; t++)
                        mma<F16>(products[t], a[0], x[i][half][t].x, x[i][half][t].y);
#pragma unroll
                    for (int t = 0; t < NT; t++)
                        mma<F16>(products[t], a[1], x[i][half][t].z, x[i][half][t].w);
                }
            }
            if constexpr (!DIRECT) {
                if (WHOLE && half == 0)
                    continue;
#pragma unroll
                for (int i = 0; i < (TOGETHER ? 1 : PAIR); i++) {
                    apply(p, b, units[i], groups, k + i, half, open[i], to[i % CHAINS]);
                    open[i] = {};
                }
            }
        }
    }
};

} // namespace
