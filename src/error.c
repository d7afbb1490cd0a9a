/* SPDX-License-Identifier: Apache-2.0 */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>

#undef gemmux_fail
gemmux_status gemmux_fail(gemmux_error *error, gemmux_status status, const char *format, ...)
{
    if (error) {
        va_list arguments;
        va_start(arguments, format);
        error->status = status;
        vsnprintf(error->text, sizeof error->text, format, arguments);
        va_end(arguments);
    }
    return status;
}

bool gemmux_mul_size(int64_t a, int64_t b, int64_t *out)
{
    return a >= 0 && b >= 0 && !__builtin_mul_overflow(a, b, out);
}

bool gemmux_add_size(int64_t a, int64_t b, int64_t *out)
{
    return a >= 0 && b >= 0 && !__builtin_add_overflow(a, b, out);
}

int64_t gemmux_divide_up(int64_t value, int64_t by)
{
    return value / by + (value % by != 0);
}

int64_t gemmux_round_up(int64_t value, int64_t multiple)
{
    return gemmux_divide_up(value, multiple) * multiple;
}

const char *gemmux_status_name(gemmux_status status)
{
    static const char *const names[] = {
        [GEMMUX_OK] = "ok",
        [GEMMUX_ERROR_ARGUMENT] = "bad argument",
        [GEMMUX_ERROR_INPUT] = "bad input",
        [GEMMUX_ERROR_IO] = "i/o error",
        [GEMMUX_ERROR_MEMORY] = "out of memory",
        [GEMMUX_ERROR_NO_KERNEL] = "no kernel",
        [GEMMUX_ERROR_PACKING] = "wrong packing",
        [GEMMUX_ERROR_VERIFY] = "verification failed",
        [GEMMUX_ERROR_LIBRARY] = "library error",
        [GEMMUX_ERROR_DEVICE] = "device error",
        [GEMMUX_ERROR_INTERNAL] = "internal error",
    };
    return (unsigned)status < sizeof names / sizeof names[0] ? names[status] : "unknown status";
}

const char *gemmux_version(void)
{
    return GEMMUX_VERSION;
}
