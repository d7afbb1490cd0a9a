/* SPDX-License-Identifier: Apache-2.0
 *
 * cuda_sm80_upcast: y = x . w^T with w upcast in registers, on mma.sync.m16n8k16 with w's rows as
 * the 16 rows of A, so that few rows of x waste nothing. Only instructions of sm_80.
 *
 * s1, s2: cuda_sm80_stream.cuh.
 * l64, l128: a block makes 128 or 256 rows of w by 64 or 128 rows of x. Each warp has 32 rows of w
 * of its own, which go from memory to registers one or two units ahead; x goes through shared
 * memory by cp.async, four stages deep.
 */
#include "cuda_moe.cuh"
#include "cuda_sm80_stream.cuh"

namespace
{

/* ---- l64, l128: tiles ---- */

template <int KIND, bool F16, int WARPS, int NT> struct tiled {
    static constexpr int MT = 2, ROWS = NT * 8, THREADS = WARPS * 32;
    static constexpr int STAGES = GEMMUX_UPCAST_STAGES, STAGE_BYTES = ROWS * 128;
    static constexpr int CHUNKS = ROWS * 8 / THREADS; /* 16-byte pieces a thread and stage */
    static constexpr int AHEAD = NT > 8 || kind_traits<KIND>::loads >= 4 ? 1 : 2;

    /* Which tile of rows of x, and which of w. Dense: 16 tiles of x share w's tiles in L2, and
     * blocks that run together work on few of both. */
    static __device__ __forceinline__ bool find_tile(const parameters &p, int index, tile &of,
                                                     int &row_tile)
    {
        if (p.experts) {
            int at = index / p.row_tiles;
            row_tile = index % p.row_tiles;
            if (at >= *p.tile_count)
                return false;
            of = {p.tiles[3 * at], p.tiles[3 * at + 1], p.tiles[3 * at + 2]};
            return true;
        }
        constexpr int GROUP = 16;
        int group = index / (GROUP * p.row_tiles), within = index % (GROUP * p.row_tiles);
        int wide = min(GROUP, p.token_tiles - group * GROUP);
        int token_tile = group * GROUP + within % wide;
        row_tile = within / wide;
        of = {0, token_tile * ROWS, min(ROWS, p.m - token_tile * ROWS)};
        return true;
    }

    static __device__ __forceinline__ void run(const parameters &p)
    {
        uint8_t *stages = dynamic_shared();
        __shared__ int rows[ROWS];
        tile of;
        int row_tile, thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
        allow_next_launch();
        wait_for_earlier_launches();
        if (!find_tile(p, blockIdx.x, of, row_tile))
            return;
        for (int i = thread; i < ROWS; i += THREADS)
            rows[i] = i >= of.count ? -1 : p.experts ? p.sorted[of.first + i] : of.first + i;
        __syncthreads();
        bool known = !p.experts || (of.expert >= 0 && of.expert < p.experts);
        const uint8_t *matrix = p.w + (known ? int64_t(of.expert) : 0) * p.matrix_bytes;

        int row_block = (row_tile * WARPS + warp) * MT;
        block blocks[MT];
#pragma unroll
        for (int m = 0; m < MT; m++)
            blocks[m] = open_block<KIND>(p, matrix, min(row_block + m, p.row_blocks - 1));

        /* This thread copies piece `thread % 8` of rows thread / 8 + i * THREADS / 8. Pieces of odd
         * rows are swapped by halves, so that eight lanes of a load meet all banks. */
        uint32_t shared = shared_address(stages);
        int piece = thread % 8;
        const char *from[CHUNKS];
        bool valid[CHUNKS];
        uint32_t to[CHUNKS];
#pragma unroll
        for (int i = 0; i < CHUNKS; i++) {
            int at = thread / 8 + i * (THREADS / 8);
            valid[i] = rows[at] >= 0;
            from[i] = (valid[i] ? x_row(p, rows[at]) : p.x) + piece * 16;
            to[i] = shared + at * 128 + ((piece ^ ((at & 1) << 2)) * 16);
        }
        int begin = blockIdx.y * p.units_a_split;
        int end = min(begin + p.units_a_split, p.units);
        auto fetch = [&](int u) {
            if (u < end) {
                uint32_t stage = uint32_t((u - begin) % STAGES) * STAGE_BYTES;
                bool inside = u * 64 + piece * 8 < p.k;
#pragma unroll
                for (int i = 0; i < CHUNKS; i++)
                    copy_async(to[i] + stage, inside ? from[i] + int64_t(u) * 128 : p.x,
                               inside && valid[i]);
            }
            copy_async_commit();
        };
        unit<KIND> ahead[AHEAD][MT];
        float sums[MT][NT][4] = {};
#pragma unroll
        for (int i = 0; i < STAGES - 1; i++)
            fetch(begin + i);
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
#pragma unroll
            for (int m = 0; m < MT; m++)
                load_unit<KIND>(p, blocks[m], begin + i, begin + i < end, ahead[i][m]);
        for (int u = begin; u < end; u++) {
            copy_async_wait<STAGES - 2>();
            __syncthreads();
            fetch(u + STAGES - 1);
            unit<KIND> now[MT];
#pragma unroll
            for (int m = 0; m < MT; m++) {
                now[m] = ahead[0][m];
#pragma unroll
                for (int i = 0; i + 1 < AHEAD; i++)
                    ahead[i][m] = ahead[i + 1][m];
                load_unit<KIND>(p, blocks[m], u + AHEAD, u + AHEAD < end, ahead[AHEAD - 1][m]);
            }
            const uint8_t *stage = stages + (u - begin) % STAGES * STAGE_BYTES;
            int g = lane / 4, l = lane % 4;
            auto x_of = [&](int half, int t) {
                int at = (t * 8 + g) * 128 + (((half * 4 + l) ^ ((g & 1) << 2)) * 16);
                return *reinterpret_cast<const uint4 *>(stage + at);
            };
            multiply<KIND, F16, MT, NT>(p, blocks, now, u, sums, x_of);
        }
        copy_async_wait<0>();
        __syncthreads();
        if constexpr (NT <= 8) { /* wider tiles are never split */
            float *flat = &sums[0][0][0];
            if (p.splits > 1 &&
                !join_splits<MT * NT * 4>(p, blockIdx.x, blockIdx.y, THREADS,
                                          *reinterpret_cast<float(*)[MT * NT * 4]>(flat)))
                return;
        }
        store(p, matrix, known ? of.expert : 0, known, row_block, rows,
              reinterpret_cast<float *>(stages) + warp * 64 * 32, sums);
    }

    /* Through 8 KiB of shared memory a warp: 64 rows of y by 32 columns, the columns swapped in
     * eights by row so that lanes meet all banks. Then neighbouring lanes hold neighbours of y. */
    static __device__ __forceinline__ void store(const parameters &p, const uint8_t *matrix,
                                                 int expert, bool known, int row_block,
                                                 const int *rows, float *mine,
                                                 const float (&sums)[MT][NT][4])
    {
        int lane = threadIdx.x % 32, g = lane / 4, l = lane % 4;
        int n = row_block * 16 + lane % 16 * 2;
        finisher f = {};
        if (n < p.n)
            f = open_finisher<KIND, F16>(p, matrix, expert, n);
        if (!known)
            f.nan[0] = f.nan[1] = true;
#pragma unroll
        for (int part = 0; part < NT / 8; part++) {
#pragma unroll
            for (int m = 0; m < MT; m++)
#pragma unroll
                for (int t = 0; t < 8; t++)
#pragma unroll
                    for (int odd = 0; odd < 2; odd++) {
                        const float(&from)[4] = sums[m][part * 8 + t];
                        int at = (t * 8 + 2 * l + odd) * 32 + ((m * 16 + 2 * g) ^ (l * 8));
                        *reinterpret_cast<float2 *>(mine + at) =
                            make_float2(from[odd], from[odd + 2]);
                    }
            __syncwarp();
#pragma unroll 1
            for (int i = lane / 16; i < 64; i += 2) {
                int row = rows[part * 64 + i];
                int at = i * 32 + ((lane % 16 * 2) ^ (i / 2 % 4 * 8));
                float2 pair = *reinterpret_cast<const float2 *>(mine + at);
                if (row >= 0 && n < p.n)
                    finish_pair(p, f, row, n, pair.x, pair.y);
            }
            __syncwarp();
        }
    }
};

} // namespace

#define DEFINE(kind, type, half)                                                                   \
    extern "C" __global__ void __launch_bounds__(GEMMUX_UPCAST_STREAM_WARPS * 32, 1)               \
        upcast_##kind##_##type##_s1(const __grid_constant__ parameters p)                          \
    {                                                                                              \
        stream<GEMMUX_UPCAST_##kind, half, 8>::run(p);                                             \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(GEMMUX_UPCAST_STREAM_WARPS * 32, 1)               \
        upcast_##kind##_##type##_s2(const __grid_constant__ parameters p)                          \
    {                                                                                              \
        stream<GEMMUX_UPCAST_##kind, half, 16>::run(p);                                            \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(128, 2)                                           \
        upcast_##kind##_##type##_l64(const __grid_constant__ parameters p)                         \
    {                                                                                              \
        tiled<GEMMUX_UPCAST_##kind, half, 4, 8>::run(p);                                           \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(256, 1)                                           \
        upcast_##kind##_##type##_l128(const __grid_constant__ parameters p)                        \
    {                                                                                              \
        tiled<GEMMUX_UPCAST_##kind, half, 8, 16>::run(p);                                          \
    }

#define DEFINE_BOTH(kind) DEFINE(kind, bf16, false) DEFINE(kind, f16, true)
GEMMUX_UPCAST_KINDS(DEFINE_BOTH)

/* ---- around a moe ---- */

extern "C" __global__ void __launch_bounds__(1024)
    upcast_route(const __grid_constant__ parameters p)
{
    allow_next_launch();
    wait_for_earlier_launches();
    route_rows(p, 0, nullptr, p.tile_count);
}

extern "C" __global__ void __launch_bounds__(256)
    upcast_scatter(const __grid_constant__ parameters p)
{
    allow_next_launch();
    wait_for_earlier_launches();
    scatter_rows(p);
}

/* Columns of x (16 bits) in the order of k_order, into p.rows, dense. grid: K / 256 x rows. */
extern "C" __global__ void __launch_bounds__(256)
    upcast_gather(const __grid_constant__ parameters p)
{
    allow_next_launch();
    wait_for_earlier_launches();
    int column = blockIdx.x * 256 + threadIdx.x;
    if (column >= p.k)
        return;
    int from = p.k_order[column];
    uint16_t *to = reinterpret_cast<uint16_t *>(p.rows);
    for (int row = blockIdx.y; row < p.m; row += gridDim.y)
        to[int64_t(row) * p.k + column] =
            reinterpret_cast<const uint16_t *>(p.x + int64_t(row) * p.x_row_bytes)[from];
}
