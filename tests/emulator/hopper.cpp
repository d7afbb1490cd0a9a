// SPDX-License-Identifier: Apache-2.0
//
// What device_sm90.h declares: barriers in shared memory, copies of boxes, wgmma.
#include "tensor_map.h"

#include "device_sm90.h"

#include <vector>

#include <cmath>

namespace
{

// The eight bytes of an mbarrier.
struct mbarrier {
    int32_t bytes; // that the phase still waits for
    uint16_t pending;
    uint16_t count_and_phase; // phase in the top bit
};

struct box_copy {
    uint32_t to, barrier;
    emulated_tensor_map map;
    int64_t at[3];
};

std::vector<box_copy> under_way;
uint64_t turns;

mbarrier *at_barrier(uint32_t address)
{
    return reinterpret_cast<mbarrier *>(emulated_shared_at(address, 8));
}

void settle(mbarrier *b)
{
    if (b->pending || b->bytes)
        return;
    b->count_and_phase ^= 0x8000;
    b->pending = b->count_and_phase & 0x7fff;
}

// Bits 4 to 6 of the address change by bits 7 to 9.
uint32_t swizzle128(uint32_t address)
{
    return address ^ ((address >> 7 & 7) << 4);
}

void complete(const box_copy &c)
{
    const emulated_tensor_map &m = c.map;
    uint32_t to = c.to;
    for (uint32_t z = 0; z < m.box[2]; z++)
        for (uint32_t y = 0; y < m.box[1]; y++)
            for (uint32_t x = 0; x < m.box[0]; x++, to += m.element_bytes) {
                uint8_t *place = emulated_dynamic + (m.swizzle ? swizzle128(to) : to);
                uint64_t i = uint64_t(c.at[0] + x), j = uint64_t(c.at[1] + y);
                uint64_t k = uint64_t(c.at[2] + z);
                if (i < m.sizes[0] && j < m.sizes[1] && k < m.sizes[2])
                    memcpy(place,
                           m.address + i * m.element_bytes + j * m.strides[0] + k * m.strides[1],
                           m.element_bytes);
                else
                    memset(place, 0, m.element_bytes);
            }
    mbarrier *b = at_barrier(c.barrier);
    b->bytes -= int32_t(to - c.to);
    settle(b);
}

} // namespace

void emulated_mbarrier_init(uint32_t barrier, int arrivals)
{
    *at_barrier(barrier) = {0, uint16_t(arrivals), uint16_t(arrivals)};
}

void emulated_mbarrier_arrive(uint32_t barrier, int expected_bytes)
{
    mbarrier *b = at_barrier(barrier);
    if (!b->pending)
        emulated_die("more arrivals at a barrier than it was made for");
    b->bytes += expected_bytes;
    b->pending--;
    settle(b);
}

bool emulated_mbarrier_over(uint32_t barrier, uint32_t parity)
{
    if (!under_way.empty() && turns++ % 3 == 0) { // copies land in any order
        size_t which = size_t(turns * 2654435761u % under_way.size());
        box_copy c = under_way[which];
        under_way.erase(under_way.begin() + long(which));
        complete(c);
    }
    return (at_barrier(barrier)->count_and_phase >> 15) != parity;
}

void emulated_named_barrier(int name, int threads)
{
    static int arrived[16];
    static unsigned generation[16];
    unsigned mine = generation[name];
    if (++arrived[name] == threads) {
        arrived[name] = 0;
        generation[name]++;
    }
    while (generation[name] == mine)
        emulated_yield();
}

void emulated_copy_box(uint32_t to, const void *map, int rank, const int *coordinates,
                       uint32_t barrier)
{
    box_copy c = {to, barrier, {}, {}};
    memcpy(&c.map, map, sizeof c.map);
    if (c.map.magic != EMULATED_TENSOR_MAP || int(c.map.rank) != rank)
        emulated_die("a copy by something that is no map of rank %d", rank);
    if (to % (c.map.swizzle ? 1024 : 128))
        emulated_die("a box to byte %u of shared memory", to);
    for (int i = 0; i < rank; i++)
        c.at[i] = coordinates[i];
    if (turns++ % 2)
        under_way.push_back(c);
    else
        complete(c);
}

void emulated_wgmma(float *d, int n, const uint32_t (&a)[4], uint64_t b, bool add, bool half)
{
    struct meeting {
        uint32_t a[128][4];
        float rows[64][16], columns[256][16];
        uint64_t b;
        int n, arrived;
        unsigned generation;
    };
    static meeting groups[8][2];
    static unsigned met[EMULATED_MAX_THREADS];
    unsigned thread = threadIdx.x, lane = thread % 32, g = lane / 4, l = lane % 4;
    meeting &m = groups[thread / 128][met[thread]++ % 2];
    unsigned mine = m.generation;
    if (m.arrived && (m.b != b || m.n != n))
        emulated_die("warps of a warpgroup at different wgmma");
    m.b = b, m.n = n;
    memcpy(m.a[thread % 128], a, sizeof a);
    if (++m.arrived == 128) {
        for (unsigned t = 0; t < 128; t++)
            for (unsigned i = 0; i < 8; i++) { // register i / 2, its low or high half
                unsigned row = t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8;
                unsigned k = t % 4 * 2 + i / 4 * 8 + i % 2;
                m.rows[row][k] =
                    float(emulated_widen(uint16_t(m.a[t][i / 2] >> (i % 2 * 16)), half));
            }
        for (int column = 0; column < n; column++)
            for (uint32_t k = 0; k < 16; k++) {
                uint16_t bits;
                uint32_t at = uint32_t(b * 16) + uint32_t(column) * 128 + k * 2;
                memcpy(&bits, emulated_dynamic + swizzle128(at), 2);
                m.columns[column][k] = float(emulated_widen(bits, half));
            }
        m.arrived = 0;
        m.generation++;
    }
    while (m.generation == mine)
        emulated_yield();
    for (int i = 0; i < n / 2; i++) {
        const float *row = m.rows[thread % 128 / 32 * 16 + g + unsigned(i) / 2 % 2 * 8];
        const float *column = m.columns[unsigned(i) / 4 * 8 + 2 * l + unsigned(i) % 2];
        double sum = add ? double(d[i]) : 0.0;
        for (int k = 0; k < 16; k++)
            sum += double(row[k]) * double(column[k]);
        d[i] = float(sum);
    }
}

// e4m3: bias 7, no infinity, NaN where all other bits are set.
static float widen_e4m3(uint8_t bits)
{
    int exponent = bits >> 3 & 15, mantissa = bits & 7;
    float value = exponent == 15 && mantissa == 7 ? NAN
                  : exponent                      ? std::ldexp(float(mantissa + 8), exponent - 10)
                                                  : std::ldexp(float(mantissa), -9);
    return bits >> 7 ? -value : value;
}

// Row or column `index` of an operand whose rows are 128 bytes, swizzled, 32 bytes from its start
// on.
static void read_e4m3(uint64_t operand, int index, float (&to)[32])
{
    static const struct table {
        float values[256];
        table()
        {
            for (int i = 0; i < 256; i++)
                values[i] = widen_e4m3(uint8_t(i));
        }
    } known;
    for (uint32_t k = 0; k < 32; k++) {
        uint32_t at = uint32_t(operand * 16) + uint32_t(index) * 128 + k;
        to[k] = known.values[emulated_dynamic[swizzle128(at)]];
    }
}

// What is known of Hopper's sums in fp8: all addends are aligned to the largest, and what lies more
// than 13 bits below its first bit is cut off (DeepSeek-V3 Technical Report, 3.3.2).
static float sum_fp8(const float (&row)[32], const float (&column)[32], float before)
{
    float products[32], most = std::fabs(before);
    bool number = !std::isnan(before);
    for (int k = 0; k < 32; k++) {
        products[k] = row[k] * column[k];
        number = number && !std::isnan(products[k]);
        most = std::fmax(most, std::fabs(products[k]));
    }
    if (!number || most == 0)
        return number ? 0.0f : NAN;
    float unit = std::ldexp(1.0f, std::ilogb(most) - 13), by = 1 / unit;
    int64_t units = int64_t(before * by);
    for (int k = 0; k < 32; k++)
        units += int64_t(products[k] * by);
    return float(units) * unit;
}

void emulated_wgmma_fp8(float *d, int n, uint64_t a, uint64_t b, bool add)
{
    struct meeting {
        float rows[64][32], columns[256][32];
        uint64_t a, b;
        int n, arrived;
        unsigned generation;
    };
    static meeting groups[8][2];
    static unsigned met[EMULATED_MAX_THREADS];
    unsigned thread = threadIdx.x, lane = thread % 32, g = lane / 4, l = lane % 4;
    meeting &m = groups[thread / 128][met[thread]++ % 2];
    unsigned mine = m.generation;
    if (m.arrived && (m.a != a || m.b != b || m.n != n))
        emulated_die("warps of a warpgroup at different wgmma");
    m.a = a, m.b = b, m.n = n;
    if (++m.arrived == 128) {
        for (int row = 0; row < 64; row++)
            read_e4m3(a, row, m.rows[row]);
        for (int column = 0; column < n; column++)
            read_e4m3(b, column, m.columns[column]);
        m.arrived = 0;
        m.generation++;
    }
    while (m.generation == mine)
        emulated_yield();
    for (int i = 0; i < n / 2; i++) {
        const float(&row)[32] = m.rows[thread % 128 / 32 * 16 + g + unsigned(i) / 2 % 2 * 8];
        const float(&column)[32] = m.columns[unsigned(i) / 4 * 8 + 2 * l + unsigned(i) % 2];
        d[i] = sum_fp8(row, column, add ? d[i] : 0.0f);
    }
}
