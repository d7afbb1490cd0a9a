// SPDX-License-Identifier: Apache-2.0
#include "device.h"

namespace
{

/* f64 of every bf16 and f16 number: the products below look them up. */
struct tables {
    double values[2][65536];
    tables()
    {
        for (uint32_t bits = 0; bits < 65536; bits++) {
            values[0][bits] = __uint_as_float(bits << 16);
            int exponent = bits >> 10 & 31, mantissa = bits & 1023;
            double value = exponent == 31 ? (mantissa ? NAN : INFINITY)
                           : exponent     ? std::ldexp(mantissa + 1024, exponent - 25)
                                          : std::ldexp(mantissa, -24);
            values[1][bits] = bits >> 15 ? -value : value;
        }
    }
};
const tables wide;

/* Toward zero. */
float cut(double value)
{
    float near = float(value);
    if (std::isfinite(value) && std::isinf(near))
        return near; /* sums beyond f32 are infinite either way */
    return std::fabs(double(near)) > std::fabs(value) ? std::nextafter(near, 0.0f) : near;
}

} // namespace

double emulated_widen(uint16_t bits, bool half)
{
    return wide.values[half][bits];
}

uint16_t emulated_narrow(double value, int exponent_bits, int mantissa_bits)
{
    int bias = (1 << (exponent_bits - 1)) - 1, exponent;
    uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    uint16_t infinity = uint16_t(((1 << exponent_bits) - 1) << mantissa_bits);
    if (std::isnan(value))
        return 0x7fff;
    value = std::fabs(value);
    if (value == 0)
        return sign;
    if (std::isinf(value))
        return sign | infinity;
    std::frexp(value, &exponent);
    exponent = exponent - 1 < 1 - bias ? 1 - bias : exponent - 1;
    double units = std::nearbyint(std::ldexp(value, mantissa_bits - exponent));
    double whole = double(1 << mantissa_bits);
    if (units >= 2 * whole) {
        units /= 2;
        exponent++;
    }
    if (exponent > bias)
        return sign | infinity;
    if (units < whole)
        return sign | uint16_t(units);
    return sign | uint16_t((exponent + bias) << mantissa_bits | int(units - whole));
}

double emulated_fma_odd(double a, double b, double c)
{
    double product = a * b; /* exact: 22 bits at most */
    double sum = product + c, back = sum - product;
    double rest = (product - (sum - back)) + (c - back);
    if (rest == 0 || !std::isfinite(sum))
        return sum;
    uint64_t bits = emulated_bits<uint64_t>(sum);
    if ((rest > 0) != (sum > 0))
        bits--;
    return emulated_bits<double>(bits | 1);
}

void emulated_mma(float (&d)[4], const emulated_slot *lanes, bool half)
{
    int lane = int(threadIdx.x % 32), g = lane / 4, l = lane % 4;
    const double *values = wide.values[half];
    for (int i = 0; i < 4; i++) {
        int odd = i / 2, column = 2 * l + i % 2;
        double sum = d[i];
        for (int q = 0; q < 4; q++) {
            uint32_t a[6], b[6];
            memcpy(a, lanes[4 * g + q].bytes, sizeof a);
            memcpy(b, lanes[4 * column + q].bytes, sizeof b);
            for (int part = 0; part < 2; part++) {
                uint32_t left = a[odd + 2 * part], right = b[4 + part];
                sum += values[left & 0xffff] * values[right & 0xffff] +
                       values[left >> 16] * values[right >> 16];
            }
        }
        d[i] = cut(sum);
    }
}
