/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include "gemmux.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double value_of(uint16_t bits)
{
    return gemmux_code_decode(GEMMUX_CODE_F16, bits);
}

/* a + b, rounded to odd: the last bit stands for all that is lost, so that rounding once more, to
 * fewer bits, gives what rounding the exact sum would. */
static double add_to_odd(double a, double b)
{
    double sum = a + b, part = sum - a, lost = (a - (sum - part)) + (b - part);
    int64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    if (!isfinite(sum) || lost == 0 || bits & 1)
        return sum;
    bits += (lost > 0) == (sum > 0) ? 1 : -1;
    memcpy(&sum, &bits, sizeof sum);
    return sum;
}

void f16_model(const void *a, const void *b, const void *c, void *out)
{
    uint16_t as[32], bs[32], cs[32];
    memcpy(as, a, sizeof as);
    memcpy(bs, b, sizeof bs);
    memcpy(cs, c, sizeof cs);
    for (int i = 0; i < 32; i++) {
        double x = value_of(as[i]), y = value_of(bs[i]), z = value_of(cs[i]);
        double sum = add_to_odd(x * y, z); /* x * y is exact */
        as[i] = (uint16_t)gemmux_code_encode(GEMMUX_CODE_F16, sum);
        if (isfinite(sum) && !isfinite(value_of(as[i]))) {
            fprintf(stderr, "fp16: %g * %g + %g leaves the range\n", x, y, z);
            exit(1);
        }
    }
    memcpy(out, as, sizeof as);
}

/* The probe of a CPU that has the extension. */
gemmux_status __real_gemmux_machine_probe_cpu(gemmux_machine *machine, gemmux_error *error);
gemmux_status __wrap_gemmux_machine_probe_cpu(gemmux_machine *machine, gemmux_error *error);

gemmux_status __wrap_gemmux_machine_probe_cpu(gemmux_machine *machine, gemmux_error *error)
{
    enum { SKIPPED = 77 };
    gemmux_status status = __real_gemmux_machine_probe_cpu(machine, error);
    if (!(machine->isa & GEMMUX_ISA_AVX512)) {
        puts("skipped: this CPU lacks AVX-512, which the level uses as well");
        exit(SKIPPED);
    }
    machine->isa |= GEMMUX_ISA_AVX512FP16;
    return status;
}
