/* SPDX-License-Identifier: Apache-2.0
 *
 * A plain read of memory: what any kernel that streams the same bytes could attain in one launch.
 */
#include <cstdint>

extern "C" __global__ void __launch_bounds__(512)
    gpu_read(const uint4 *from, unsigned long long count, unsigned *sink)
{
    unsigned sum = 0;
    unsigned long long step = static_cast<unsigned long long>(gridDim.x) * blockDim.x;
    unsigned long long i = static_cast<unsigned long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    for (; i + 3 * step < count; i += 4 * step) {
        uint4 a = __ldg(from + i), b = __ldg(from + i + step), c = __ldg(from + i + 2 * step),
              d = __ldg(from + i + 3 * step);
        sum += a.x ^ a.y ^ a.z ^ a.w ^ b.x ^ b.y ^ b.z ^ b.w ^ c.x ^ c.y ^ c.z ^ c.w ^ d.x ^ d.y ^
               d.z ^ d.w;
    }
    for (; i < count; i += step) {
        uint4 a = __ldg(from + i);
        sum += a.x ^ a.y ^ a.z ^ a.w;
    }
    if (sum == 0x12345678u)
        *sink = sum;
}
