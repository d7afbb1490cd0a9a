/* SPDX-License-Identifier: Apache-2.0
 *
 * The doctor: any bytes are a log, any text is a record or refused, and a log gives the same
 * findings wherever it is cut.
 */
#include "gemmux.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int findings_of(const uint8_t *data, size_t size, size_t cut, int64_t *lines)
{
    gemmux_doctor *doctor;
    const gemmux_finding *findings;
    int count = -1;
    if (gemmux_doctor_create(&doctor, NULL))
        abort();
    gemmux_doctor_learn(doctor, (const char *)data, size, "fuzz.txt", NULL);
    gemmux_doctor_feed(doctor, data, cut);
    gemmux_doctor_feed(doctor, data + cut, size - cut);
    if (gemmux_doctor_diagnose(doctor, NULL, &findings, &count, NULL))
        abort();
    *lines = 0;
    for (int i = 0; i < count; i++) {
        *lines += (findings[i].line + 3 * findings[i].excerpt_line) * (i + 1);
        if (!findings[i].line || strlen(findings[i].excerpt) > 200)
            abort();
    }
    gemmux_doctor_free(doctor);
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t nothing;
    int64_t whole, cut;
    data = size ? data : &nothing;
    if (findings_of(data, size, 0, &whole) != findings_of(data, size, size / 3, &cut) ||
        whole != cut)
        abort();
    return 0;
}
