// SPDX-License-Identifier: Apache-2.0
//
// A libcublasLt.so.13 that multiplies on the emulated device: the entry points that gemmux uses, in
// the way that cublasLt.h of CUDA 13.0 describes them. It refuses products whose sizes, types and
// alignment cuBLASLt does not take, says so to the logger, and runs in the order of the stream, so
// that a captured product is multiplied when its graph is launched.
#include "device.h"

#include <cstdio>
#include <functional>

void emulated_enqueue(void *stream, std::function<void()> work);

namespace
{

enum {
    OK = 0,
    INVALID_VALUE = 7,
    NOT_SUPPORTED = 15,
    F32 = 0,
    F16 = 2,
    INT8 = 3,
    INT32 = 10,
    BF16 = 14,
    E4M3 = 28,
    E5M2 = 29,
    E2M1 = 33,
    COMPUTE_F32 = 68,
    COMPUTE_INT32 = 72,
    COMPUTE_TF32 = 77,
};

/* Scale modes. */
enum { TENSOR, VEC16, VEC32, ROWS, VEC128, BLOCK128 };

struct desc {
    int compute, scale, transpose_a;
    const void *scale_a, *scale_b;
    int mode_a, mode_b, epilogue, bias_type, pointers;
    const void *bias;
};

struct layout {
    int type;
    uint64_t rows, cols;
    int64_t ld;
};

struct algo {
    uint64_t data[8];
};

struct found {
    algo chosen;
    size_t workspace_bytes;
    int status;
    float waves;
    int reserved[4];
};

void (*listener)(int, const char *, const char *);
size_t most_workspace;
int log_level;

int refuse(const char *why)
{
    if (listener && log_level >= 4)
        listener(4, "cublasLtMatmulAlgoGetHeuristic", why);
    return NOT_SUPPORTED;
}

bool fp8(int type)
{
    return type == E4M3 || type == E5M2;
}

double element(int type, const void *data, int64_t at)
{
    const uint8_t *byte = static_cast<const uint8_t *>(data);
    static const double e2m1[] = {0, .5, 1, 1.5, 2, 3, 4, 6};
    switch (type) {
    case F32:
        return static_cast<const float *>(data)[at];
    case INT8:
        return static_cast<const int8_t *>(data)[at];
    case E2M1: {
        int code = byte[at / 2] >> (at % 2 * 4) & 15;
        return code & 8 ? -e2m1[code & 7] : e2m1[code];
    }
    case F16:
    case BF16:
        return emulated_widen(static_cast<const uint16_t *>(data)[at], type == F16);
    case E5M2:
        return emulated_widen(uint16_t(byte[at] << 8), true);
    default:
        if ((byte[at] & 0x7f) == 0x7f)
            return NAN;
        /* the bits of an f16 that is 2^-8 times the number */
        return 256 *
               emulated_widen(uint16_t((byte[at] & 0x80) << 8 | (byte[at] & 0x7f) << 7), true);
    }
}

void store(int type, void *data, int64_t at, double value)
{
    if (type == INT32)
        static_cast<int32_t *>(data)[at] = int32_t(value);
    else if (type == F32)
        static_cast<float *>(data)[at] = float(value);
    else
        static_cast<uint16_t *>(data)[at] =
            emulated_narrow(float(value), type == F16 ? 5 : 8, type == F16 ? 10 : 7);
}

/* The scale of element (row, k) of an operand with `rows` rows. */
double scale_of(int mode, const void *scales, uint64_t row, uint64_t k, uint64_t rows,
                uint64_t cols)
{
    const float *f = static_cast<const float *>(scales);
    const uint8_t *byte = static_cast<const uint8_t *>(scales);
    uint64_t each = mode == VEC16 ? 16 : 32, group = k / each;
    uint64_t tiles = (cols + 4 * each - 1) / (4 * each);
    uint64_t at =
        (row / 128 * tiles + group / 4) * 512 + row % 32 * 16 + row % 128 / 32 * 4 + group % 4;
    switch (mode) {
    case VEC16:
        return element(E4M3, byte, int64_t(at));
    case VEC32:
        return byte[at] == 255 ? NAN : ldexp(1.0, byte[at] - 127);
    case ROWS:
        return f[row];
    case VEC128:
        return f[k / 128 * rows + row];
    case BLOCK128:
        return f[row / 128 * (((cols + 127) / 128 + 3) / 4 * 4) + k / 128];
    default:
        return f[0];
    }
}

bool is_scaled(int type)
{
    return fp8(type) || type == E2M1;
}

int check_types(const desc *d, const layout *a, const layout *b, const layout *y)
{
    bool types = is_scaled(a->type)
                     ? (fp8(a->type) ? fp8(b->type) && !(a->type == E5M2 && b->type == E5M2)
                                     : b->type == E2M1) &&
                           (y->type == F32 || y->type == F16 || y->type == BF16)
                 : a->type == INT8 ? b->type == INT8 && y->type == INT32
                                   : a->type == b->type && (y->type == F32 || y->type == a->type);
    if (!types || (d->compute == COMPUTE_TF32 && a->type != F32) ||
        (d->compute == COMPUTE_INT32) != (a->type == INT8))
        return refuse("these types do not go together");
    if (d->epilogue == 4 &&
        d->bias_type != (is_scaled(a->type) && y->type == F32 ? int(BF16) : y->type))
        return refuse("Unsupported config of bias pointer type");
    return OK;
}

int check_scales(const desc *d, const layout *a, const layout *b)
{
    bool along = d->mode_a == VEC128 || d->mode_a == BLOCK128;
    if (!is_scaled(a->type))
        return d->mode_a || d->mode_b ? refuse("scales of a type that has none") : int(OK);
    if (!d->scale_a || !d->scale_b)
        return refuse("fp8 wants scales");
    if ((a->type == E2M1) != (d->mode_a == VEC16))
        return refuse("Unsupported combination of precisions and scale modes");
    if (along ? d->mode_b != VEC128 || b->cols % 4 : d->mode_a != d->mode_b)
        return refuse("Unsupported combination of scale modes");
    return OK;
}

/* D (n x m, column-major) = transposed A (k x n) . B (k x m). */
int check(const desc *d, const layout *a, const layout *b, const layout *y)
{
    if (!d->transpose_a || d->scale != (a->type == INT8 ? int(INT32) : int(F32)))
        return refuse("only A transposed, scaled in f32 or int32, is emulated");
    if (a->rows != b->rows || a->cols != y->rows || b->cols != y->cols || !a->rows)
        return refuse("the sizes of A, B and D contradict each other");
    if (a->ld < int64_t(a->rows) || b->ld < int64_t(b->rows) || y->ld < int64_t(y->rows))
        return refuse("a leading dimension is less than its rows");
    if (check_types(d, a, b, y) || check_scales(d, a, b))
        return NOT_SUPPORTED;
    uint64_t bits = a->rows | uint64_t(a->ld) | uint64_t(b->ld);
    if (is_scaled(a->type) && a->cols % 16)
        return refuse("Unsupported M dimension for FP8 matrix multiplication. M must be divisible "
                      "by 16.");
    if (is_scaled(a->type) && bits % (a->type == E2M1 ? 32 : 16))
        return refuse("Unsupported K dimension for FP8 matrix multiplication. K must be divisible "
                      "by 16.");
    if (a->type == INT8 && (bits | a->cols) % 4)
        return refuse("int8 wants sizes in multiples of 4");
    return OK;
}

} // namespace

extern "C" {

size_t cublasLtGetVersion()
{
    return 130100;
}

const char *cublasLtGetStatusName(int status)
{
    return status == NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED" : "CUBLAS_STATUS_INVALID_VALUE";
}

int cublasLtCreate(void **handle)
{
    static int something;
    *handle = &something;
    return OK;
}

int cublasLtDestroy(void *)
{
    return OK;
}

int cublasLtLoggerSetCallback(void (*said)(int, const char *, const char *))
{
    listener = said;
    return OK;
}

int cublasLtLoggerSetLevel(int level)
{
    log_level = level;
    return OK;
}

int cublasLtLoggerOpenFile(const char *)
{
    return OK;
}

int cublasLtMatmulDescCreate(desc **made, int compute, int scale)
{
    *made = new desc{compute, scale, 0, nullptr, nullptr, 0, 0, 1, -1, 0, nullptr};
    return compute == COMPUTE_F32 || compute == COMPUTE_TF32 || compute == COMPUTE_INT32
               ? OK
               : INVALID_VALUE;
}

int cublasLtMatmulDescDestroy(const desc *d)
{
    delete d;
    return OK;
}

int cublasLtMatmulDescSetAttribute(desc *d, int attribute, const void *value, size_t bytes)
{
    void *to = nullptr;
    size_t size = 4;
    switch (attribute) {
    case 2:
        to = &d->pointers;
        break;
    case 3:
        to = &d->transpose_a;
        break;
    case 7:
        to = &d->epilogue;
        break;
    case 8:
        to = &d->bias, size = 8;
        break;
    case 17:
        to = &d->scale_a, size = 8;
        break;
    case 18:
        to = &d->scale_b, size = 8;
        break;
    case 26:
        to = &d->bias_type;
        break;
    case 31:
        to = &d->mode_a;
        break;
    case 32:
        to = &d->mode_b;
        break;
    default:
        break;
    }
    if (!to || bytes != size)
        return INVALID_VALUE;
    memcpy(to, value, bytes);
    return OK;
}

int cublasLtMatrixLayoutCreate(layout **made, int type, uint64_t rows, uint64_t cols, int64_t ld)
{
    *made = new layout{type, rows, cols, ld};
    return OK;
}

int cublasLtMatrixLayoutDestroy(const layout *l)
{
    delete l;
    return OK;
}

int cublasLtMatrixLayoutSetAttribute(layout *l, int attribute, const void *value, size_t bytes)
{
    if (bytes != 8 || attribute < 2 || attribute > 4)
        return INVALID_VALUE;
    memcpy(attribute == 2   ? static_cast<void *>(&l->rows)
           : attribute == 3 ? static_cast<void *>(&l->cols)
                            : static_cast<void *>(&l->ld),
           value, bytes);
    return OK;
}

int cublasLtMatmulPreferenceCreate(void **preference)
{
    *preference = &most_workspace;
    return OK;
}

int cublasLtMatmulPreferenceDestroy(void *)
{
    return OK;
}

int cublasLtMatmulPreferenceSetAttribute(void *, int attribute, const void *value, size_t bytes)
{
    if (attribute >= 5 && attribute <= 8 && bytes == 4)
        return OK;
    if (attribute != 1 || bytes != sizeof most_workspace)
        return INVALID_VALUE;
    memcpy(&most_workspace, value, bytes);
    return OK;
}

int cublasLtMatmulAlgoGetHeuristic(void *, const desc *d, const layout *a, const layout *b,
                                   const layout *, const layout *y, void *, int wanted,
                                   found *result, int *count)
{
    *count = 0;
    int status = wanted < 1 ? int(INVALID_VALUE) : check(d, a, b, y);
    if (status)
        return status;
    *result = found{};
    result->chosen = {{0x6c74, a->cols, b->cols, a->rows, uint64_t(b->ld), uint64_t(y->ld)}};
    result->workspace_bytes = most_workspace;
    *count = 1;
    return OK;
}

int cublasLtMatmul(void *, const desc *d, const void *alpha, const void *a, const layout *a_as,
                   const void *b, const layout *b_as, const void *beta, const void *,
                   const layout *, void *y, const layout *y_as, const algo *chosen, void *workspace,
                   size_t workspace_bytes, void *stream)
{
    int status = check(d, a_as, b_as, y_as);
    if (status)
        return status;
    if (chosen->data[0] != 0x6c74 || chosen->data[1] != a_as->cols ||
        chosen->data[2] != b_as->cols || chosen->data[3] != a_as->rows ||
        chosen->data[4] != uint64_t(b_as->ld) || chosen->data[5] != uint64_t(y_as->ld))
        return refuse("the algorithm was chosen for another product");
    if (!workspace || workspace_bytes > most_workspace ||
        reinterpret_cast<uintptr_t>(workspace) % 256)
        return refuse("the workspace is not the one agreed on");
    uintptr_t align = a_as->type == INT8 ? 4 : 16;
    if ((reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b) |
         reinterpret_cast<uintptr_t>(y)) %
        align)
        return refuse("an operand is not aligned to 16 bytes");
    /* As 13.1 does on an H200. */
    if (is_scaled(a_as->type) &&
        (reinterpret_cast<uintptr_t>(d->scale_a) | reinterpret_cast<uintptr_t>(d->scale_b)) % 16)
        return refuse("scales are not aligned to 16 bytes");
    desc op = *d;
    layout left = *a_as, right = *b_as, out = *y_as;
    float by = 0;
    if (!op.pointers) {
        int one;
        memcpy(&by, alpha, 4);
        memcpy(&one, alpha, 4);
        if (op.compute == COMPUTE_INT32)
            by = float(one);
        if (memcmp(beta, "\0\0\0\0", 4) != 0)
            return refuse("beta is not 0");
    }
    emulated_enqueue(stream, [=] {
        memset(workspace, 0x5a, workspace_bytes);
        double factor = op.pointers ? double(*static_cast<const float *>(alpha)) : double(by);
        bool scaled = is_scaled(left.type);
        for (uint64_t m = 0; m < out.cols; m++)
            for (uint64_t n = 0; n < out.rows; n++) {
                double sum = 0;
                for (uint64_t k = 0; k < left.rows; k++) {
                    double x = element(left.type, a, int64_t(n) * left.ld + int64_t(k)) *
                               element(right.type, b, int64_t(m) * right.ld + int64_t(k));
                    if (scaled)
                        x *= scale_of(op.mode_a, op.scale_a, n, k, left.cols, left.rows) *
                             scale_of(op.mode_b, op.scale_b, m, k, right.cols, right.rows);
                    sum += x;
                }
                if (op.epilogue == 4)
                    sum += element(op.bias_type, op.bias, int64_t(n)) / factor;
                store(out.type, y, int64_t(m) * out.ld + int64_t(n), factor * sum);
            }
    });
    return OK;
}

} // extern "C"
