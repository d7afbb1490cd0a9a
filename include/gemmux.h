/* SPDX-License-Identifier: Apache-2.0
 *
 * gemmux: routing matrix products. This header is the whole public API.
 *
 * Seven nouns: format, problem, machine, policy, kernel, decision (with its trace), plan.
 * Four verbs: select (pure), prepare (everything that can fail), run (nothing that can), explain.
 *
 *     problem --+
 *     machine --+-- select --> decision + trace -- prepare --> plan -- run --> y
 *     policy  --+
 *
 * Conventions. Every product is y[M,N] = x[M,K] . w[N,K]^T, K contiguous in x and w. Sizes are in
 * elements unless the name says _bytes; times are microseconds (_us); rates are per second. Callers
 * own every struct. Functions return gemmux_status and fill an optional gemmux_error, never abort,
 * never print. Nothing here keeps global mutable state: many threads may select and run at once.
 */
#ifndef GEMMUX_H
#define GEMMUX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#    define GEMMUX_API __attribute__((visibility("default")))
#else
#    define GEMMUX_API
#endif

#define GEMMUX_VERSION "0.1.0"

/* ------------------------------------------------------------------------------------ errors -- */

typedef enum gemmux_status {
    GEMMUX_OK = 0,
    GEMMUX_ERROR_ARGUMENT,  /* the caller's arguments contradict each other or the API */
    GEMMUX_ERROR_INPUT,     /* a file or text given by the user is malformed */
    GEMMUX_ERROR_IO,        /* the system refused: open, read, map, write */
    GEMMUX_ERROR_MEMORY,    /* out of memory, or a size that overflows */
    GEMMUX_ERROR_NO_KERNEL, /* no kernel under this policy; the trace says why for each */
    GEMMUX_ERROR_PACKING,   /* a packed buffer of the wrong type, geometry or checksum */
    GEMMUX_ERROR_VERIFY,    /* a result disagreed with the f64 reference */
    GEMMUX_ERROR_LIBRARY,   /* a vendor library failed */
    GEMMUX_ERROR_DEVICE,    /* a driver or device failed */
    GEMMUX_ERROR_INTERNAL
} gemmux_status;

/* The detail of a failure: what, where and why, in one sentence. */
typedef struct gemmux_error {
    gemmux_status status;
    char text[504];
} gemmux_error;

GEMMUX_API const char *gemmux_status_name(gemmux_status status);
GEMMUX_API const char *gemmux_version(void);

/* ----------------------------------------------------------------------------------- formats -- */

/* How one stored number is read (docs/formats.md gives each bit by bit). */
typedef enum gemmux_code {
    GEMMUX_CODE_NONE = 0,
    GEMMUX_CODE_F32,
    GEMMUX_CODE_F16,
    GEMMUX_CODE_BF16,
    GEMMUX_CODE_E4M3,  /* bias 7, max 448, no infinity, NaN 0x7f and 0xff */
    GEMMUX_CODE_E5M2,  /* bias 15, max 57344, IEEE-like infinity and NaN */
    GEMMUX_CODE_E2M1,  /* 4 bits: +-{0, .5, 1, 1.5, 2, 3, 4, 6} */
    GEMMUX_CODE_INT8,  /* two's complement */
    GEMMUX_CODE_INT4,  /* 4 bits, unsigned 0..15; the value is code - 8, or code - zero point */
    GEMMUX_CODE_NF4,   /* 4 bits, codebook of QLoRA */
    GEMMUX_CODE_UE8M0, /* scale 2^(b-127), 255 is NaN */
    GEMMUX_CODE_UE4M3, /* scale: e4m3 with the sign bit ignored */
    GEMMUX_CODE_COUNT
} gemmux_code;

typedef enum gemmux_format_id {
    GEMMUX_F32 = 1,
    GEMMUX_F16,
    GEMMUX_BF16,
    GEMMUX_E4M3,
    GEMMUX_E5M2,
    GEMMUX_MXFP8,
    GEMMUX_MXFP4,
    GEMMUX_NVFP4,
    GEMMUX_INT8,
    GEMMUX_INT4,
    GEMMUX_NF4,
    GEMMUX_FORMAT_COUNT
} gemmux_format_id;

/* Which elements share one scale. Scale arrays, for `count` matrices of rows x cols:
 *   TENSOR [count]   ROW [count, rows]   GROUP [count, rows, ceil(cols / group)]
 *   BLOCK  [count, ceil(rows / group), ceil(cols / group)]                                     */
typedef enum gemmux_scaling {
    GEMMUX_SCALING_NONE = 0,
    GEMMUX_SCALING_TENSOR,
    GEMMUX_SCALING_ROW,
    GEMMUX_SCALING_GROUP,
    GEMMUX_SCALING_BLOCK
} gemmux_scaling;

/* value = scale * (code - 8)          NONE (INT4; INT8 has no offset)
 *       = scale * (code - zero)       POINT, zero is u8, one beside each scale
 *       = scale * code + zero         MIN, zero has the scale's type, one beside each scale    */
typedef enum gemmux_zero { GEMMUX_ZERO_NONE = 0, GEMMUX_ZERO_POINT, GEMMUX_ZERO_MIN } gemmux_zero;

/* How numbers are stored: element code x scaling x zero point. Eight bytes, compared by value.
 * Fill it with gemmux_format_of or gemmux_format_parse, not by hand.                           */
typedef struct gemmux_format {
    uint8_t id;        /* gemmux_format_id; 0 is "no format" */
    uint8_t element;   /* gemmux_code of one element */
    uint8_t scaling;   /* gemmux_scaling */
    uint8_t scale;     /* gemmux_code of one scale */
    uint8_t zero;      /* gemmux_zero */
    uint8_t two_level; /* 1: one f32 per matrix multiplies everything (nvfp4) */
    uint16_t group;    /* GROUP: elements along K; BLOCK: both sides of the square; else 0 */
} gemmux_format;

/* The format's default scaling: e4m3, e5m2 tensor; int8 row; int4 g128 with f16 scales; nf4 g64. */
GEMMUX_API gemmux_format gemmux_format_of(gemmux_format_id id);
/* "mxfp4", "e4m3:block128", "int4:g32:zero", "int4:g32:min:f16", "int8:row", "mxfp8:e5m2" ... */
GEMMUX_API gemmux_status gemmux_format_parse(const char *text, gemmux_format *format,
                                             gemmux_error *error);
/* The shortest text that parses back to the same format. Returns buffer. 32 bytes are enough. */
GEMMUX_API const char *gemmux_format_name(gemmux_format format, char *buffer, size_t size);
GEMMUX_API const char *gemmux_format_id_name(gemmux_format_id id);
GEMMUX_API bool gemmux_format_equal(gemmux_format a, gemmux_format b);

GEMMUX_API int gemmux_code_bits(gemmux_code code);
/* The value of one code, exact in f64. E2M1, INT4 and NF4 use the low 4 bits; INT4 gives 0..15. */
GEMMUX_API double gemmux_code_decode(gemmux_code code, uint32_t bits);
/* Nearest code, ties to even. Finite values beyond the range saturate in E4M3, E5M2, E2M1, INT8,
 * INT4 and UE4M3, and become infinity in F16 and BF16. NaN becomes NaN where the code has one,
 * else zero. Infinity becomes NaN in E4M3 (as ml-dtypes' e4m3fn), saturates in E2M1 and INT*.
 * UE8M0 takes the nearest power of two. */
GEMMUX_API uint32_t gemmux_code_encode(gemmux_code code, double value);
/* The 16 values of NF4, ascending. */
GEMMUX_API const float *gemmux_nf4_codebook(void);

/* A view of stored numbers in gemmux's plain layout: codes row-major with cols contiguous, two
 * 4-bit codes a byte with the even element in the low nibble, scales in arrays of their own.   */
typedef struct gemmux_tensor {
    gemmux_format format;
    int64_t count;          /* matrices: experts of a moe, otherwise 1 */
    int64_t rows, cols;     /* of one matrix: w is N x K, x is M x K */
    int64_t row_bytes;      /* from one row to the next; 0: dense. Matrices follow each other */
    const void *codes;      /* no alignment is required beyond that of the element */
    const void *scales;     /* see gemmux_scaling; NULL when the format has none */
    const void *zeros;      /* see gemmux_zero */
    const float *globals;   /* [count], two-level formats; NULL means 1 */
    const int32_t *k_order; /* NULL, or [cols]: column j of w multiplies column k_order[j] of x */
} gemmux_tensor;

/* Bytes of one dense row of codes; -1 on overflow or a bad format. */
GEMMUX_API int64_t gemmux_row_bytes(gemmux_format format, int64_t cols);
/* Numbers of scales in one matrix; -1 on overflow. 0 where the format has none. */
GEMMUX_API int64_t gemmux_scale_count(gemmux_format format, int64_t rows, int64_t cols);
/* All bytes of `count` matrices as stored: codes, scales, zeros, globals; -1 on overflow. */
GEMMUX_API int64_t gemmux_stored_bytes(gemmux_format format, int64_t count, int64_t rows,
                                       int64_t cols);
/* One element in f64: the product of the decoded parts, exact where f64 can hold it. */
GEMMUX_API double gemmux_tensor_at(const gemmux_tensor *tensor, int64_t matrix, int64_t row,
                                   int64_t col);
/* One row as f32, each element the f64 value rounded once. */
GEMMUX_API void gemmux_tensor_row_f32(const gemmux_tensor *tensor, int64_t matrix, int64_t row,
                                      float *out);
/* Sizes, pointers and scales (NaN, infinite or negative where the format forbids) make sense. */
GEMMUX_API gemmux_status gemmux_tensor_check(const gemmux_tensor *tensor, const char *name,
                                             gemmux_error *error);

/* A tensor with storage that belongs to it. */
typedef struct gemmux_weights {
    gemmux_tensor tensor;
    const float *bias; /* [count, rows] in f32, or NULL */
    void *storage;     /* what gemmux_weights_free releases; NULL: the tensor views a mapped file */
    size_t storage_bytes;
} gemmux_weights;

/* Quantises f32 rows into `format`, round to nearest even, scales chosen by the format's own rule
 * (docs/formats.md): src is [count, rows, cols], dense. */
GEMMUX_API gemmux_status gemmux_quantise(const float *src, int64_t count, int64_t rows,
                                         int64_t cols, gemmux_format format, gemmux_weights *out,
                                         gemmux_error *error);
GEMMUX_API void gemmux_weights_free(gemmux_weights *weights);

/* ----------------------------------------------------------------------------------- problem -- */

typedef enum gemmux_op {
    GEMMUX_MATMUL = 1, /* both operands may change with every call: a kernel that repacks pays */
    GEMMUX_LINEAR,     /* w is constant, prepared once */
    GEMMUX_MOE,        /* routed experts: rows of x gathered by expert, one w each */
    GEMMUX_OP_COUNT
} gemmux_op;

/* What happens around the product, a bit set. */
typedef enum gemmux_epilogue {
    GEMMUX_EPILOGUE_BIAS = 1,    /* + bias[n] in f32 */
    GEMMUX_EPILOGUE_SWIGLU = 2,  /* gpt-oss: rows of w alternate gate, up; y has N/2 columns:
                                    g = min(gate, limit), u = clamp(up, -limit, limit),
                                    y = g * sigmoid(alpha * g) * (u + 1) */
    GEMMUX_EPILOGUE_GATHER = 4,  /* moe: x has M rows, one a token; without it x has M * top_k
                                    rows, one a (token, slot) */
    GEMMUX_EPILOGUE_SCATTER = 8, /* moe: y[token] = sum over slots of weight * row, y has M rows;
                                    without it y has M * top_k rows */
} gemmux_epilogue;

/* Departures from "the stored numbers are multiplied exactly and summed in f32". */
typedef enum gemmux_liberty {
    GEMMUX_LIBERTY_TF32 = 1,              /* f32 products rounded to 10 mantissa bits */
    GEMMUX_LIBERTY_QUANTISED_X = 2,       /* x quantised to 8 bits on the way in */
    GEMMUX_LIBERTY_ROUNDED_W = 4,         /* dequantised weights rounded to x's format */
    GEMMUX_LIBERTY_ROUNDED_X = 8,         /* x rounded to a narrower float */
    GEMMUX_LIBERTY_NARROW_SUMS = 16,      /* sums kept in less than f32 */
    GEMMUX_LIBERTY_UNORDERED = 32,        /* the order of sums may differ between two runs */
    GEMMUX_LIBERTY_FLUSH_SUBNORMALS = 64, /* inputs and sums under 2^-126 count as zero */
} gemmux_liberty;

#define GEMMUX_LIBERTY_BITS 7
/* Allowed unless the caller says otherwise: neither changes a number of ordinary size. */
#define GEMMUX_LIBERTIES_DEFAULT                                                                   \
    ((uint32_t)GEMMUX_LIBERTY_UNORDERED | (uint32_t)GEMMUX_LIBERTY_FLUSH_SUBNORMALS)
/* Liberties that keep a decision "lossless". */
#define GEMMUX_LIBERTIES_LOSSLESS GEMMUX_LIBERTIES_DEFAULT

typedef struct gemmux_problem {
    uint8_t op;       /* gemmux_op */
    uint8_t epilogue; /* bits of gemmux_epilogue */
    gemmux_format x, w, y;
    int64_t m, n, k; /* moe: m counts tokens */
    int32_t experts, top_k;
    uint32_t liberties; /* allowed: bits of gemmux_liberty */
    float swiglu_alpha; /* 0: gpt-oss's 1.702 */
    float swiglu_limit; /* 0: gpt-oss's 7 */
    uint16_t align;     /* bytes to which x, y and their rows are aligned; 0: 64 for the pointers,
                           and what the row length gives for rows */
} gemmux_problem;

/* A linear problem with the default liberties; change what differs. */
GEMMUX_API gemmux_problem gemmux_problem_linear(int64_t m, int64_t n, int64_t k, gemmux_format x,
                                                gemmux_format w, gemmux_format y);
/* Shapes positive (k may be 0) and without overflow, formats meaningful for their operand,
 * epilogue meaningful for the op. */
GEMMUX_API gemmux_status gemmux_problem_check(const gemmux_problem *problem, gemmux_error *error);
/* Rows of the product: m, or m * top_k for moe. */
GEMMUX_API int64_t gemmux_problem_rows(const gemmux_problem *problem);
/* "linear 16x4096x4096 bf16 x mxfp4 -> bf16". Returns buffer; 128 bytes are enough. */
GEMMUX_API const char *gemmux_problem_text(const gemmux_problem *problem, char *buffer,
                                           size_t size);
GEMMUX_API const char *gemmux_op_name(gemmux_op op);
GEMMUX_API gemmux_op gemmux_op_parse(const char *text); /* 0 when unknown */
GEMMUX_API const char *gemmux_liberty_name(gemmux_liberty bit);
GEMMUX_API uint32_t gemmux_liberty_parse(const char *text); /* 0 when unknown */

/* ----------------------------------------------------------------------------------- machine -- */

typedef enum gemmux_device_kind { GEMMUX_CPU = 1, GEMMUX_CUDA } gemmux_device_kind;

/* Instruction sets, a bit each. Sets implied by a set are added when a machine is described;
 * probed ones include the operating system's support (XCR0). */
#define GEMMUX_ISA_LIST(X)                                                                         \
    X(SSE2, "sse2", 0)                                                                             \
    X(AVX2, "avx2", 1)     /* with FMA and F16C, which every AVX2 core so far has */               \
    X(AVX512, "avx512", 2) /* F, BW, DQ, VL, CD: Skylake-X's set */                                \
    X(AVX512BF16, "avx512bf16", 3)                                                                 \
    X(AVX512VNNI, "avx512vnni", 4)                                                                 \
    X(AVX512FP16, "avx512fp16", 5)                                                                 \
    X(AVX512VBMI, "avx512vbmi", 6)                                                                 \
    X(AVXVNNI, "avxvnni", 7)                                                                       \
    X(AMXBF16, "amxbf16", 8)                                                                       \
    X(AMXINT8, "amxint8", 9)                                                                       \
    X(NEON, "neon", 16)                                                                            \
    X(DOTPROD, "dotprod", 17)                                                                      \
    X(I8MM, "i8mm", 18)                                                                            \
    X(BF16, "bf16", 19)                                                                            \
    X(SVE, "sve", 20)

typedef enum gemmux_isa {
#define GEMMUX_ISA_ENUM(id, name, bit) GEMMUX_ISA_##id = 1 << (bit),
    GEMMUX_ISA_LIST(GEMMUX_ISA_ENUM)
#undef GEMMUX_ISA_ENUM
} gemmux_isa;

GEMMUX_API const char *gemmux_isa_name(uint32_t bit);   /* one bit; NULL when unknown */
GEMMUX_API uint32_t gemmux_isa_parse(const char *text); /* 0 when unknown */
GEMMUX_API uint32_t gemmux_isa_closure(uint32_t isa);   /* with everything implied */

/* What is multiplied: each has a peak rate of its own. */
#define GEMMUX_MATH_LIST(X)                                                                        \
    X(F32, "f32")                                                                                  \
    X(TF32, "tf32")                                                                                \
    X(F16, "f16")                                                                                  \
    X(BF16, "bf16")                                                                                \
    X(FP8, "fp8")                                                                                  \
    X(FP4, "fp4")                                                                                  \
    X(INT8, "int8")

typedef enum gemmux_math {
#define GEMMUX_MATH_ENUM(id, name) GEMMUX_MATH_##id,
    GEMMUX_MATH_LIST(GEMMUX_MATH_ENUM)
#undef GEMMUX_MATH_ENUM
        GEMMUX_MATH_COUNT
} gemmux_math;

GEMMUX_API const char *gemmux_math_name(gemmux_math math);

typedef enum gemmux_library_id {
    GEMMUX_LIB_NONE = 0, /* gemmux's own code */
    GEMMUX_LIB_CUDA,     /* libcuda: version is the driver's CUDA version, 13000 for 13.0 */
    GEMMUX_LIB_CUBLASLT,
    GEMMUX_LIB_ONEDNN,
    GEMMUX_LIB_OPENBLAS,
    GEMMUX_LIB_COUNT
} gemmux_library_id;

GEMMUX_API const char *gemmux_library_name(gemmux_library_id id);

/* A library that was found, or that a device file says is there. */
typedef struct gemmux_library {
    bool present;
    int32_t version;   /* major * 10000 + minor * 100 + patch */
    uint64_t arch_set; /* CUDA architectures its code runs on that concern this device:
                          bit 0: looked and found none; bit 1: runs; 0: not looked */
    char path[160];
    char note[160]; /* about files that were found and not used, and why; else empty */
} gemmux_library;

/* One certificate or quarantine: a fact that a test on this machine produced. */
typedef struct gemmux_record {
    char kernel[48];
    uint8_t kind;       /* gemmux_record_kind */
    char evidence[160]; /* QUARANTINED: what went wrong, with numbers */
} gemmux_record;

typedef enum gemmux_record_kind {
    GEMMUX_RECORD_PROVED = 1,
    GEMMUX_RECORD_QUARANTINED,
    GEMMUX_RECORD_REFUSED /* its own prepare or its library did, for one plan: evidence says why */
} gemmux_record_kind;

struct gemmux_kernel;

/* What one kernel reached in one product on this machine. The limit is the larger of bytes /
 * bandwidth and operations / peak, with the rates that were measured at the same time and are kept
 * here, so that a share means the same when a machine's rates are measured anew, or are guesses. */
typedef struct gemmux_share {
    const struct gemmux_kernel *kernel;
    gemmux_format w;
    uint8_t x;       /* gemmux_format_id */
    uint8_t form;    /* which row of the kernel's formats */
    bool grouped;    /* a moe */
    float share;     /* limit / time of the whole call */
    double rows;     /* of x that meet one matrix of w, on average */
    double elements; /* of w that are met */
    double bandwidth, peak;
} gemmux_share;

struct gemmux_kernel_table; /* the kernels that select looks at */

/* Facts about one device and what is installed for it. Zero means unknown, and unknown is treated
 * as absent (ISA, architecture) or as a conservative guess (rates). */
typedef struct gemmux_machine {
    char name[64];      /* "H100 SXM", or the CPU's own brand string */
    char id[64];        /* device-file name, "cpu" or "cuda:0" */
    uint8_t kind;       /* gemmux_device_kind */
    bool described;     /* from a file: code that is not built here may still be planned */
    uint32_t isa;       /* CPU: closure of gemmux_isa bits */
    int32_t cores;      /* CPU: threads to use; CUDA: multiprocessors */
    int32_t cc;         /* CUDA: 10 * major + minor */
    int32_t smem_bytes; /* CUDA: shared memory a block may opt in to */
    int64_t l1_bytes, l2_bytes, l3_bytes; /* l1, l2 per core; CUDA: l2 of the chip */
    int64_t memory_bytes;
    double bandwidth;               /* bytes a second that a plain read attains */
    double peak[GEMMUX_MATH_COUNT]; /* dense operations a second (2 per multiply-add) */
    double launch_us;               /* price of starting one product */
    gemmux_library library[GEMMUX_LIB_COUNT];
    const gemmux_record *records; /* sorted by kernel name; owned by the caller */
    int32_t record_count;
    int32_t share_count;
    const gemmux_share *shares; /* in the order of gemmux_records_load, which owns them */
    const struct gemmux_kernel_table *kernels; /* NULL: the built-in table */
} gemmux_machine;

/* Reads a device file (docs/devices.md). `source` names it in errors. */
GEMMUX_API gemmux_status gemmux_machine_parse(const char *text, size_t length, const char *source,
                                              gemmux_machine *machine, gemmux_error *error);
/* "cpu" and "cuda:N" are probed; a name from devices/ or a path is read. */
GEMMUX_API gemmux_status gemmux_machine_find(const char *name, gemmux_machine *machine,
                                             gemmux_error *error);
/* Another value for one fact, in the words of a device file: "cc" "12.1", "memory" "96 GB",
 * "peak.bf16" "989 TFLOP/s", a library's name with its version or "none", "isa" "+amxbf16" to add
 * to what is there, "built" "yes" for a gemmux that was built with every compiler. Changing cc
 * also sets the shared memory of a block to that architecture's. */
GEMMUX_API gemmux_status gemmux_machine_change(gemmux_machine *machine, const char *fact,
                                               const char *value, gemmux_error *error);
/* The facts that can be changed on a machine of this kind; NULL past the last. */
GEMMUX_API const char *gemmux_machine_fact_name(const gemmux_machine *machine, int index);
/* What one of them is now, in the same words; "unknown" where it is not known. NULL when there is
 * no such fact. Returns buffer; 160 bytes are enough. */
GEMMUX_API const char *gemmux_machine_fact(const gemmux_machine *machine, const char *fact,
                                           char *buffer, size_t size);
GEMMUX_API int gemmux_machine_builtin_count(void);
GEMMUX_API const char *gemmux_machine_builtin_name(int index);
/* This machine's CPU, libraries included. Rates are quick estimates from the ISA until
 * gemmux_machine_measure has run. */
GEMMUX_API gemmux_status gemmux_machine_probe_cpu(gemmux_machine *machine, gemmux_error *error);
/* Facts about CUDA device `index`, asked of its driver; peak rates are those of its architecture at
 * the boost clock. Needs no CUDA toolkit, and says what is missing where there is no driver. */
GEMMUX_API gemmux_status gemmux_machine_probe_cuda(int index, gemmux_machine *machine,
                                                   gemmux_error *error);
/* Measures read bandwidth and peak rates with `threads` threads (0: all), about 0.3 s. */
GEMMUX_API gemmux_status gemmux_machine_measure(gemmux_machine *machine, int threads,
                                                gemmux_error *error);
/* "x86-64+avx512bf16", "sm_120", "aarch64+i8mm". Returns buffer; 32 bytes are enough. */
GEMMUX_API const char *gemmux_machine_arch(const gemmux_machine *machine, char *buffer,
                                           size_t size);
/* What a caller should know before trusting a decision for this machine, as a sentence: that its
 * architecture is not known and is treated conservatively (docs/devices.md). NULL: nothing. */
GEMMUX_API const char *gemmux_machine_caution(const gemmux_machine *machine, char *buffer,
                                              size_t size);

/* ----------------------------------------------------------------------- code inside libraries */

/* GPU code for one target: what `code=sm_120f` or `code=compute_80` made. */
typedef enum gemmux_gpu_code_kind {
    GEMMUX_GPU_SASS = 1, /* machine code (cubin) */
    GEMMUX_GPU_PTX,      /* text that the driver compiles when it is first used */
    GEMMUX_GPU_LTO       /* intermediate code: nothing until somebody links it */
} gemmux_gpu_code_kind;

typedef struct gemmux_gpu_code {
    uint8_t kind; /* gemmux_gpu_code_kind */
    char suffix;  /* 0: plain; 'a': exactly this chip; 'f': its family, this chip or newer */
    int16_t cc;   /* 10 * major + minor */
    int64_t images;
    int64_t bytes; /* as stored */
} gemmux_gpu_code;

#define GEMMUX_MAX_GPU_CODE   64
#define GEMMUX_MAX_GPU_GROUPS 128

/* Fatbins that carry the same set of targets. The driver takes one image out of each fatbin. */
typedef struct gemmux_gpu_group {
    uint64_t targets; /* bit i: gemmux_gpu_scan.code[i] */
    int64_t fatbins;
} gemmux_gpu_group;

/* What one file carries. Code that is made while the program runs (NVRTC, nvJitLink, Triton) is in
 * no file, so an absent target proves nothing about a library that makes its own. */
typedef struct gemmux_gpu_scan {
    int code_count;
    int group_count;
    gemmux_gpu_code code[GEMMUX_MAX_GPU_CODE]; /* machine code first, then by chip and suffix */
    gemmux_gpu_group groups[GEMMUX_MAX_GPU_GROUPS];
    int64_t fatbins;
    int64_t broken; /* headers that promise more than the file holds */
    int64_t other;  /* images of an unknown kind, or beyond the limits above */
    int64_t file_bytes;
} gemmux_gpu_scan;

/* Finds every fatbin in a file, wherever it stands, or reads a bare cubin. Needs no CUDA. A file
 * without GPU code is no error: code_count is 0. */
GEMMUX_API gemmux_status gemmux_scan_gpu_code(const char *path, gemmux_gpu_scan *scan,
                                              gemmux_error *error);
GEMMUX_API gemmux_status gemmux_scan_gpu_memory(const void *data, size_t size,
                                                gemmux_gpu_scan *scan, gemmux_error *error);
/* Does it run on a device of this compute capability (10 * major + minor), and why: "sm_120f covers
 * 12.1: same family, not older". buffer may be NULL. */
GEMMUX_API bool gemmux_gpu_code_runs(const gemmux_gpu_code *code, int cc, char *buffer,
                                     size_t size);
/* "sm_120f", "compute_80", "lto_80". Returns buffer; 16 bytes are enough. */
GEMMUX_API const char *gemmux_gpu_code_name(const gemmux_gpu_code *code, char *buffer, size_t size);
/* The target that a device would run: machine code for it, else of its family, else plain, else
 * PTX; NULL when nothing runs. *fatbins (may be NULL) counts those with something that runs. */
GEMMUX_API const gemmux_gpu_code *gemmux_gpu_scan_best(const gemmux_gpu_scan *scan, int cc,
                                                       int64_t *fatbins);

/* Kernels by name, and whether the driver could take code for them on a device of `cc`. found is
 * called once a name, in no order that means anything. Reads one image out of each fatbin, which
 * takes seconds for libraries of half a gigabyte; *unread (may be NULL) counts images that could
 * not be unpacked (zstd needs libzstd.so.1, which is opened when found). */
GEMMUX_API gemmux_status gemmux_scan_gpu_kernels(
    const char *path, int cc, void (*found)(void *context, const char *name, bool runs),
    void *context, int64_t *unread, gemmux_error *error);

/* A file that usually carries GPU code, found where programs look for libraries. */
typedef struct gemmux_gpu_library {
    char path[512];    /* links resolved */
    char version[32];  /* as its package, its own function or its name says; "" when none does */
    const char *where; /* "LD_LIBRARY_PATH", "python" (the active environment), "system" */
    int64_t bytes;
} gemmux_gpu_library;

/* Tells of each once, in the order in which they would be found. None is no error. */
GEMMUX_API gemmux_status gemmux_find_gpu_libraries(void (*found)(void *context,
                                                                 const gemmux_gpu_library *library),
                                                   void *context, gemmux_error *error);

/* ------------------------------------------------------------------------------------ policy -- */

/* The caller's wishes. All zero is a good default. Globs are comma-separated, `*` and `?`. */
typedef struct gemmux_policy {
    const char *only;         /* only kernels that match may run; NULL: all */
    const char *deny;         /* kernels that match may not run */
    int64_t max_memory_bytes; /* packed weights + workspace; 0: no limit */
    double max_slowdown;      /* against the best kernel the device itself could run; 0: none */
    bool deterministic;       /* no unordered sums */
    bool proved_only;         /* only kernels with a certificate */
    const char *packing;      /* weights are already packed so: only kernels that read it */
} gemmux_policy;

/* ------------------------------------------------------------------------------------ kernel -- */

typedef struct gemmux_kernel gemmux_kernel; /* src/kernel.h describes it */

typedef enum gemmux_path {
    GEMMUX_PATH_NATIVE = 1, /* the hardware multiplies the stored codes, or x and w as they are */
    GEMMUX_PATH_UPCAST,     /* weights upcast on the way into the arithmetic */
    GEMMUX_PATH_DEQUANT,    /* weights expanded chunk by chunk, then a dense product */
    GEMMUX_PATH_REFERENCE
} gemmux_path;

typedef enum gemmux_stage {
    GEMMUX_STAGE_OP,
    GEMMUX_STAGE_DEVICE,
    GEMMUX_STAGE_PRECISION,
    GEMMUX_STAGE_LIBRARY,
    GEMMUX_STAGE_FLAGS
} gemmux_stage;

typedef enum gemmux_bound {
    GEMMUX_BOUND_MEMORY,
    GEMMUX_BOUND_COMPUTE,
    GEMMUX_BOUND_LAUNCH
} gemmux_bound;

GEMMUX_API int gemmux_kernel_count(const gemmux_machine *machine);
GEMMUX_API const gemmux_kernel *gemmux_kernel_at(const gemmux_machine *machine, int index);
GEMMUX_API const gemmux_kernel *gemmux_kernel_find(const gemmux_machine *machine, const char *name);
GEMMUX_API const char *gemmux_kernel_name(const gemmux_kernel *kernel);
GEMMUX_API const char *gemmux_kernel_summary(const gemmux_kernel *kernel);
GEMMUX_API gemmux_library_id gemmux_kernel_library(const gemmux_kernel *kernel);
GEMMUX_API gemmux_device_kind gemmux_kernel_device(const gemmux_kernel *kernel);
GEMMUX_API const char *gemmux_kernel_packing(const gemmux_kernel *kernel);
/* NULL, or in words what a kernel has been through that no device like this one (NULL: of some
 * kind that it is for) has run yet. Where the machine is present such a kernel is chosen only by
 * name (policy.only) or with a certificate. */
GEMMUX_API const char *gemmux_kernel_unproven(const gemmux_machine *machine,
                                              const gemmux_kernel *kernel);
GEMMUX_API bool gemmux_kernel_built(const gemmux_kernel *kernel);
/* One line: ISA or architecture, library, ops, formats. Returns buffer. */
GEMMUX_API const char *gemmux_kernel_needs(const gemmux_kernel *kernel, char *buffer, size_t size);

GEMMUX_API const char *gemmux_path_name(gemmux_path path);
GEMMUX_API const char *gemmux_stage_name(gemmux_stage stage);
GEMMUX_API const char *gemmux_bound_name(gemmux_bound bound);

/* ------------------------------------------------------------------- select, decision, trace -- */

typedef struct gemmux_decision {
    const gemmux_kernel *kernel;
    const char *packing;
    uint8_t path;       /* gemmux_path */
    uint8_t bound;      /* gemmux_bound */
    uint8_t form;       /* which row of the kernel's formats applies */
    bool lossless;      /* liberties within GEMMUX_LIBERTIES_LOSSLESS */
    bool measured;      /* predicted from a measured share, not from an estimate */
    uint32_t liberties; /* taken */
    double predicted_us;
    int64_t weight_bytes; /* as packed */
    int64_t workspace_bytes;
    /* What a block works on, in the kernel's words, and the shared memory that takes; NULL and 0
     * where a kernel does not say. wanted_smem_bytes: what the tile that was best here would have
     * taken: more than smem_bytes, if the device's blocks have not that much. */
    const char *tile;
    int32_t smem_bytes, wanted_smem_bytes;
} gemmux_decision;

/* One failed check. need and have are what the check compared; explain turns them into words. */
typedef struct gemmux_reason {
    uint8_t check; /* src/select.h lists them */
    uint8_t stage; /* gemmux_stage */
    uint8_t form;
    int64_t need, have;
    const char *note; /* a configure function's own words, or a quarantine's evidence; or NULL */
} gemmux_reason;

typedef enum gemmux_verdict_kind {
    GEMMUX_REJECTED,
    GEMMUX_ELIGIBLE,
    GEMMUX_CHOSEN
} gemmux_verdict_kind;

typedef struct gemmux_verdict {
    const gemmux_kernel *kernel;
    uint8_t kind; /* gemmux_verdict_kind */
    uint8_t reason_count;
    uint16_t reason_first;    /* into trace->reasons */
    gemmux_decision decision; /* meaningful unless rejected */
} gemmux_verdict;

#define GEMMUX_MAX_KERNELS 96
#define GEMMUX_MAX_REASONS 1024

/* Every candidate and every failed check, in table order. About 70 KiB; reuse it. */
typedef struct gemmux_trace {
    int verdict_count;
    int reason_count;
    gemmux_verdict verdicts[GEMMUX_MAX_KERNELS];
    gemmux_reason reasons[GEMMUX_MAX_REASONS];
} gemmux_trace;

/* Pure: no I/O, clock, allocation or environment. trace may be NULL. On GEMMUX_ERROR_NO_KERNEL
 * decision->kernel is NULL and the trace is complete. policy NULL is the default policy. */
GEMMUX_API gemmux_status gemmux_select(const gemmux_problem *problem, const gemmux_machine *machine,
                                       const gemmux_policy *policy, gemmux_decision *decision,
                                       gemmux_trace *trace, gemmux_error *error);

/* Stable kebab-case code of a reason, and what was needed and found as short text. */
GEMMUX_API const char *gemmux_reason_code(const gemmux_reason *reason);
GEMMUX_API const char *gemmux_reason_need(const gemmux_reason *reason, const gemmux_kernel *kernel,
                                          const gemmux_problem *problem,
                                          const gemmux_machine *machine, char *buffer, size_t size);
GEMMUX_API const char *gemmux_reason_have(const gemmux_reason *reason, const gemmux_kernel *kernel,
                                          const gemmux_problem *problem,
                                          const gemmux_machine *machine, char *buffer, size_t size);
/* A whole sentence, generated from the check. */
GEMMUX_API const char *gemmux_reason_text(const gemmux_reason *reason, const gemmux_kernel *kernel,
                                          const gemmux_problem *problem,
                                          const gemmux_machine *machine, char *buffer, size_t size);

/* In whose power a change lies. */
typedef enum gemmux_power {
    GEMMUX_POWER_CALLER = 1, /* flags, liberties, budgets, padding */
    GEMMUX_POWER_INSTALL,    /* a library, a build */
    GEMMUX_POWER_MODEL,      /* other formats: the weights must be converted */
    GEMMUX_POWER_HARDWARE    /* another device */
} gemmux_power;

/* One thing that would have to be different. */
typedef struct gemmux_change {
    uint8_t check;  /* of the reason it answers */
    uint8_t power;  /* gemmux_power */
    char text[160]; /* "pad K from 2880 to 2944 (+2.2 %)" */
} gemmux_change;

#define GEMMUX_MAX_CHANGES 16

/* What would it take? Each failing check is answered by the least change that satisfies it, until
 * none fails: the smallest set of changes that makes `kernel` eligible. `then` gets the decision
 * that would follow. Pure. GEMMUX_ERROR_NO_KERNEL when no change helps (the kernel does another
 * operation, runs on another kind of device, or is quarantined); changes then holds what was found
 * up to there. changes has room for GEMMUX_MAX_CHANGES. */
GEMMUX_API gemmux_status gemmux_counterfactual(const gemmux_problem *problem,
                                               const gemmux_machine *machine,
                                               const gemmux_policy *policy,
                                               const gemmux_kernel *kernel, gemmux_change *changes,
                                               int *change_count, gemmux_decision *then,
                                               gemmux_error *error);
GEMMUX_API const char *gemmux_power_name(gemmux_power power);

/* ------------------------------------------------------------------------- prepare, plan, run --
 */

/* Threads for CPU kernels; one set may serve many plans, one run at a time. */
typedef struct gemmux_threads gemmux_threads;
GEMMUX_API gemmux_status gemmux_threads_create(int count, gemmux_threads **threads,
                                               gemmux_error *error); /* 0: one a core */
GEMMUX_API int gemmux_threads_count(const gemmux_threads *threads);
GEMMUX_API void gemmux_threads_free(gemmux_threads *threads);

/* How M is distributed over a layer's life. */
#define GEMMUX_MAX_RANGES 8
typedef struct gemmux_profile {
    int count;
    int64_t m[GEMMUX_MAX_RANGES];     /* ascending: representative M of each range */
    double weight[GEMMUX_MAX_RANGES]; /* calls, relative */
} gemmux_profile;

typedef struct gemmux_range {
    int64_t m_min, m_max; /* inclusive */
    gemmux_decision decision;
} gemmux_range;

/* Packed weights and a decision per range of M; every kernel in it reads the one packing. */
typedef struct gemmux_plan gemmux_plan;

/* Chooses the packing that is best over the profile: fills ranges (at most GEMMUX_MAX_RANGES). */
GEMMUX_API gemmux_status gemmux_select_ranges(const gemmux_problem *problem,
                                              const gemmux_machine *machine,
                                              const gemmux_policy *policy,
                                              const gemmux_profile *profile, gemmux_range *ranges,
                                              int *range_count, gemmux_error *error);
/* Selects and packs. problem->m is the largest M that will run; a NULL profile means that M alone.
 * threads may be NULL. w may be released afterwards only if gemmux_plan_borrows says no. */
GEMMUX_API gemmux_status gemmux_prepare(const gemmux_problem *problem,
                                        const gemmux_machine *machine, const gemmux_policy *policy,
                                        const gemmux_profile *profile, const gemmux_weights *w,
                                        gemmux_threads *threads, gemmux_plan **plan,
                                        gemmux_error *error);
/* The machine as prepare found it: with a record for each kernel whose own prepare refused, so that
 * gemmux_select for it gives a trace with the kernel's or its library's own words. */
GEMMUX_API const gemmux_machine *gemmux_plan_machine(const gemmux_plan *plan);
GEMMUX_API bool gemmux_plan_borrows(const gemmux_plan *plan);
GEMMUX_API int gemmux_plan_ranges(const gemmux_plan *plan, const gemmux_range **ranges);
GEMMUX_API int64_t gemmux_plan_bytes(const gemmux_plan *plan); /* owned: packed + workspace */
GEMMUX_API void gemmux_plan_free(gemmux_plan *plan);

typedef struct gemmux_args {
    gemmux_tensor x;             /* rows may be fewer than the plan's m */
    void *y;                     /* in the problem's y format */
    int64_t y_row_bytes;         /* 0: dense */
    const int32_t *expert_ids;   /* moe: [m, top_k], each in [0, experts) */
    const float *expert_weights; /* moe with SCATTER: [m, top_k] */
    void *stream;                /* CUDA: CUstream of the caller; NULL: the default stream */
} gemmux_args;

/* args->x.rows decides M. Fails only for arguments that contradict the plan, or a device error. */
GEMMUX_API gemmux_status gemmux_run(const gemmux_plan *plan, const gemmux_args *args,
                                    gemmux_error *error);

/* ------------------------------------------------------------------------- a device's memory -- */

/* Memory and the clock of a GPU, for programs without CUDA of their own. Its pointers are the
 * driver's, in the device's primary context, so they mix with those of any CUDA program. */
typedef struct gemmux_device gemmux_device;
GEMMUX_API gemmux_status gemmux_device_open(const gemmux_machine *machine, gemmux_device **device,
                                            gemmux_error *error);
GEMMUX_API void gemmux_device_close(gemmux_device *device); /* free what it gave before */
GEMMUX_API gemmux_status gemmux_device_alloc(gemmux_device *device, int64_t bytes, void **memory,
                                             gemmux_error *error);
GEMMUX_API void gemmux_device_free(gemmux_device *device, void *memory);
GEMMUX_API gemmux_status gemmux_device_write(gemmux_device *device, void *to, const void *from,
                                             int64_t bytes, gemmux_error *error);
/* Waits for all that was launched before; 0 bytes only wait. Here faults of kernels come out. */
GEMMUX_API gemmux_status gemmux_device_read(gemmux_device *device, void *to, const void *from,
                                            int64_t bytes, gemmux_error *error);
/* Something that launches on `stream` and does not wait, such as gemmux_run. */
typedef gemmux_status (*gemmux_device_work)(void *context, void *stream, gemmux_error *error);
/* Captures `times` calls of it in a CUDA graph; *us is what one of them takes in the second launch
 * of that graph, by the device's events. */
GEMMUX_API gemmux_status gemmux_device_time(gemmux_device *device, gemmux_device_work work,
                                            void *context, int times, double *us,
                                            gemmux_error *error);

/* ---------------------------------------------------------------------- reference, certificates */

/* The product in f64 from the stored numbers; y is f64, dense. The oracle of every test. */
GEMMUX_API gemmux_status gemmux_reference(const gemmux_problem *problem, const gemmux_weights *w,
                                          const gemmux_args *args, double *y, gemmux_error *error);

typedef struct gemmux_verification {
    double relative_error; /* ||y - ref|| / ||ref|| */
    double worst;          /* largest |y - ref| / bound; above 1 is wrong */
    int64_t worst_row, worst_col;
    int64_t checked;
} gemmux_verification;

/* Compares y with the f64 reference on up to `max_rows` rows (0: all), against the bound
 * gamma(k) sum|x||w| + rounding of y widened by the liberties taken. */
GEMMUX_API gemmux_status gemmux_verify(const gemmux_problem *problem, uint32_t liberties,
                                       const gemmux_weights *w, const gemmux_args *args,
                                       int64_t max_rows, gemmux_verification *result,
                                       gemmux_error *error);

typedef enum gemmux_proof {
    GEMMUX_PROOF_PROVED = 1,
    GEMMUX_PROOF_WRONG,
    GEMMUX_PROOF_CRASHED,
    GEMMUX_PROOF_HUNG,
    GEMMUX_PROOF_SKIPPED /* cannot run here */
} gemmux_proof;

typedef struct gemmux_certificate {
    gemmux_proof proof;
    bool cached; /* an earlier proof still holds */
    double seconds;
    int cases;
    char evidence[160];
} gemmux_certificate;

/* Certificates, quarantines and measured shares of this machine, from $XDG_CACHE_HOME/gemmux;
 * shares for machine->cores threads, so set those first. A corrupt or unreadable cache is reported
 * in `note` (may be NULL) and treated as empty. */
typedef struct gemmux_records gemmux_records;
GEMMUX_API gemmux_status gemmux_records_load(gemmux_machine *machine, gemmux_records **records,
                                             char *note, size_t note_size, gemmux_error *error);
GEMMUX_API void gemmux_records_free(gemmux_records *records);
/* Proves `kernel` in a child process within `seconds` (0: a usual time), writes the result to the
 * cache and adds it to `records` (and so to the machine it was loaded for). */
GEMMUX_API gemmux_status gemmux_certify(gemmux_records *records, gemmux_machine *machine,
                                        const gemmux_kernel *kernel, double seconds, bool again,
                                        gemmux_certificate *certificate, gemmux_error *error);
GEMMUX_API const char *gemmux_proof_name(gemmux_proof proof);

/* A GPU kernel is proved in a program started afresh, because no fork survives an open driver: the
 * one that $GEMMUX_PROVER names, else `program`, else gemmux-prove beside the library. It must hold
 * the same build of gemmux: a program that links the library statically names itself
 * ("/proc/self/exe") and begins its main with
 *     int code = gemmux_prove_main(argc, argv);
 *     if (code >= 0) return code;
 * which returns -1 at once unless gemmux_certify has started the program. */
GEMMUX_API gemmux_status gemmux_records_prover(gemmux_records *records, const char *program,
                                               gemmux_error *error);
GEMMUX_API int gemmux_prove_main(int argc, char **argv);

/* How long one call of a decision's kernel took here: the whole of gemmux_run. */
typedef struct gemmux_timing {
    gemmux_problem problem; /* with the m of that call */
    gemmux_decision decision;
    double us;
} gemmux_timing;

/* From now on select predicts from these timings where it would have estimated: exactly for the
 * same products, interpolated along M for others in the same formats. machine's bandwidth and
 * peaks must be those of the same minute (gemmux_machine_measure). Written to the cache and added
 * to the machine, on which nothing may select meanwhile. GEMMUX_ERROR_IO: they hold for this
 * process only. */
GEMMUX_API gemmux_status gemmux_records_learn(gemmux_records *records, gemmux_machine *machine,
                                              const gemmux_timing *timings, int count,
                                              gemmux_error *error);

/* -------------------------------------------------------------------------------- checkpoints --
 */

/* One product found in a checkpoint. */
typedef struct gemmux_layer {
    const char *name;   /* "model.layers.0.mlp.down_proj" */
    const char *group;  /* the name with its layer number as *: "model.layers.*.mlp.down_proj" */
    const char *scheme; /* "bf16", "gptq", "awq", "mxfp4 (gpt-oss)", "gguf Q4_0" ... */
    uint8_t op;         /* GEMMUX_LINEAR or GEMMUX_MOE */
    uint8_t epilogue;
    gemmux_format format; /* id 0: cannot be decoded; gemmux_model_load says why */
    int64_t n, k;
    int32_t experts, top_k; /* top_k 0: a moe whose file does not say how many it routes to */
    int64_t stored_bytes;   /* in the file; 0 for a tied head, whose bytes are the table's */
    bool embedding;         /* a table of rows that is looked up, not multiplied */
} gemmux_layer;

/* An open checkpoint: headers read, tensors memory-mapped, nothing decoded yet. */
typedef struct gemmux_model gemmux_model;

/* path: a .safetensors or .gguf file, an index .json, or a directory with config.json. */
GEMMUX_API gemmux_status gemmux_model_open(const char *path, gemmux_model **model,
                                           gemmux_error *error);
/* For planning: weights need not be there. Also takes a config.json alone, an index or a file whose
 * data is missing or cut off, and the name of a built-in model. Layers are those of the checkpoint;
 * loading one whose weights are not there fails. */
GEMMUX_API gemmux_status gemmux_model_open_headers(const char *path, gemmux_model **model,
                                                   gemmux_error *error);
GEMMUX_API int gemmux_model_builtin_count(void);
GEMMUX_API const char *gemmux_model_builtin_name(int index); /* "gpt-oss-20b" ... */
GEMMUX_API void gemmux_model_close(gemmux_model *model);
/* "safetensors", "gguf"; "config" and "built-in" where layers come from a config.json alone. */
GEMMUX_API const char *gemmux_model_kind(const gemmux_model *model);
/* What was derived, left out or does not agree, in sentences; NULL: nothing. */
GEMMUX_API const char *gemmux_model_note(const gemmux_model *model);
GEMMUX_API const char *gemmux_model_name(const gemmux_model *model); /* architecture, if stated */
GEMMUX_API int gemmux_model_tensor_count(const gemmux_model *model);
GEMMUX_API int gemmux_model_layer_count(const gemmux_model *model);
GEMMUX_API const gemmux_layer *gemmux_model_layer(const gemmux_model *model, int index);
/* Decodes one layer into gemmux's plain layout: a view where the file already has it, else one
 * copy. A view needs the model open. Free with gemmux_weights_free. */
GEMMUX_API gemmux_status gemmux_model_load(const gemmux_model *model, int index,
                                           gemmux_weights *weights, gemmux_error *error);
/* Tells the system that the layer's pages are not needed for now. */
GEMMUX_API void gemmux_model_release(const gemmux_model *model, int index);

/* ----------------------------------------------------------------------------------- forecast --
 */

/* What a model's memory and steps depend on besides its layers; zero where it is not stated. */
typedef struct gemmux_model_facts {
    int32_t blocks;        /* transformer blocks, each with a cache of its own */
    int32_t window_blocks; /* of those, blocks whose attention sees `window` tokens only */
    int64_t window;
    int64_t kv_elements; /* cached numbers a token and block: 2 * kv heads * head size, or the
                            latent's width where keys and values are compressed into one (MLA) */
    int64_t hidden, vocab, max_context;
    int64_t other_bytes; /* stored bytes that no layer accounts for: norms, small vectors */
    int32_t heads;       /* of queries */
    int32_t kv_heads;    /* that share them; 0 with MLA, whose latent every device keeps whole */
    int32_t head_size;
    int64_t parameters; /* numbers of the model, without scales and zero points */
} gemmux_model_facts;

/* From config.json or GGUF's metadata, and where these are silent from the shapes of layers. */
GEMMUX_API void gemmux_model_get_facts(const gemmux_model *model, gemmux_model_facts *facts);

/* How the model will be used. Zero fields take the default in parentheses. */
typedef struct gemmux_workload {
    int64_t batch;       /* sequences at once (1) */
    int64_t context;     /* tokens a sequence reaches (4096, at most the model's own maximum) */
    int64_t chunk;       /* tokens that prefill multiplies at once (2048) */
    bool no_cache;       /* no KV cache: every step runs whole sequences */
    bool load_in_4bit;   /* float weights become nf4; already quantised ones stay */
    gemmux_format dtype; /* id 0: auto, weights stay as stored; else all weights in it */
    int32_t tp;          /* devices that share every layer (1) */
    uint32_t liberties;  /* allowed beside the default ones: bits of gemmux_liberty */
} gemmux_workload;

/* One kind of layer: all layers of one group, shape and format. */
typedef struct gemmux_kind {
    const gemmux_layer *layer; /* the first of its kind */
    int32_t count;
    gemmux_problem problem; /* as one device runs it; m is the largest of the workload */
    gemmux_range ranges[GEMMUX_MAX_RANGES];
    int range_count;
    gemmux_decision decode, prefill;
    int64_t decode_m, prefill_m;
    int64_t stored_bytes; /* all of this kind, in the file */
    int64_t held_bytes;   /* all of this kind on one device, as packed */
    char note[200];       /* what was changed or could not be split, and why; "" when nothing */
    bool broken;          /* no kernel, or the split breaks a group: note says which */
} gemmux_kind;

typedef struct gemmux_forecast {
    gemmux_workload load; /* as planned: defaults filled in, context at most the model's own */
    int kind_count;
    int64_t stored_bytes;    /* the checkpoint */
    int64_t weight_bytes;    /* on one device, as packed; embeddings and norms included */
    int64_t workspace_bytes; /* the largest of any layer */
    int64_t kv_bytes;        /* bf16 cache at full context */
    int64_t repack_bytes;    /* beside the packed weights while the last layer is packed; GPU: 0 */
    int64_t total_bytes;     /* weights + workspace + cache */
    int64_t peak_bytes;      /* the larger of total and weights + repack */
    int64_t memory_bytes;    /* of the device; 0: unknown */
    bool whole;              /* every layer has a kernel; where not, the times below lack some */
    bool fits;
    double decode_us, prefill_us; /* products of one decode step, and of prefilling the batch */
} gemmux_forecast;

/* Groups layers into kinds and plans each. kinds has room for max_kinds; pure but for its stack.
 * GEMMUX_ERROR_MEMORY when there are more kinds than room. */
GEMMUX_API gemmux_status gemmux_forecast_model(
    const gemmux_layer *const *layers, int layer_count, const gemmux_model_facts *facts,
    const gemmux_machine *machine, const gemmux_policy *policy, const gemmux_workload *workload,
    gemmux_kind *kinds, int max_kinds, gemmux_forecast *forecast, gemmux_error *error);

/* ------------------------------------------------------------------------------------ doctor -- */

/* Who has to change something for it to work. */
typedef enum gemmux_blame {
    GEMMUX_BLAME_HARDWARE = 1, /* the chip cannot */
    GEMMUX_BLAME_BUILD,        /* the code for this chip was not built or not installed */
    GEMMUX_BLAME_TOOLCHAIN,    /* compiler, driver or a library is too old or of another version */
    GEMMUX_BLAME_LAYOUT,       /* shape, alignment or packing does not suit the kernel */
    GEMMUX_BLAME_POLICY,       /* a flag, a setting or a chosen type forbids it */
    GEMMUX_BLAME_DEFECT        /* a mistake in the program that chose */
} gemmux_blame;

/* What is to be thought of what the message itself says. */
typedef enum gemmux_claim {
    GEMMUX_CLAIM_TRUE = 1,
    GEMMUX_CLAIM_MISLEADING, /* true as far as it goes, and points the wrong way */
    GEMMUX_CLAIM_FALSE
} gemmux_claim;

typedef struct gemmux_remedy {
    const char *price; /* memory, time, precision, effort */
    const char *text;
} gemmux_remedy;

typedef enum gemmux_evidence_kind {
    GEMMUX_EVIDENCE_UNKNOWN, /* the machine's facts do not say */
    GEMMUX_EVIDENCE_CONFIRMS,
    GEMMUX_EVIDENCE_CONTRADICTS
} gemmux_evidence_kind;

typedef struct gemmux_evidence {
    uint8_t kind; /* gemmux_evidence_kind */
    const char *text;
} gemmux_evidence;

/* A value that stood in the log: "required" 131072. */
typedef struct gemmux_detail {
    const char *name, *value;
} gemmux_detail;

/* One cause found in a log. All strings live as long as the doctor. */
typedef struct gemmux_finding {
    const char *id; /* name of its file in causes/ */
    const char *title;
    uint8_t stage; /* gemmux_stage at which selection should have caught it */
    uint8_t blame; /* gemmux_blame */
    uint8_t claim; /* gemmux_claim */
    bool symptom;  /* what a deeper cause looks like; a root cause beside it explains it */
    const char *cause;
    const char *claim_text;
    const gemmux_remedy *remedies; /* best first */
    int remedy_count;
    const gemmux_evidence *evidence;
    int evidence_count;
    const gemmux_detail *details;
    int detail_count;
    const char *const *references; /* "repo#number", or a document */
    int reference_count;
    int64_t line; /* of the first match, from 1 */
    int64_t matches;
    const char *excerpt; /* the line that says it most plainly; valid UTF-8 */
    int64_t excerpt_line;
} gemmux_finding;

/* Finds causes in logs. Memory is bounded however long the log is; one doctor reads one log. */
typedef struct gemmux_doctor gemmux_doctor;
GEMMUX_API gemmux_status gemmux_doctor_create(gemmux_doctor **doctor, gemmux_error *error);
/* One more cause in the format of causes/ (docs/doctor.md); before the first feed. */
GEMMUX_API gemmux_status gemmux_doctor_learn(gemmux_doctor *doctor, const char *text, size_t length,
                                             const char *source, gemmux_error *error);
/* The next piece of the log: any bytes, cut anywhere. */
GEMMUX_API void gemmux_doctor_feed(gemmux_doctor *doctor, const void *data, size_t size);
/* After the last piece: root causes before symptoms, in the order of the log. machine may be NULL;
 * its facts confirm or contradict. No finding is no error. */
GEMMUX_API gemmux_status gemmux_doctor_diagnose(gemmux_doctor *doctor,
                                                const gemmux_machine *machine,
                                                const gemmux_finding **findings, int *count,
                                                gemmux_error *error);
GEMMUX_API void gemmux_doctor_free(gemmux_doctor *doctor);
/* The causes it knows, and a log of each. */
GEMMUX_API int gemmux_doctor_cause_count(const gemmux_doctor *doctor);
GEMMUX_API const char *gemmux_doctor_cause_id(const gemmux_doctor *doctor, int index);
GEMMUX_API const char *gemmux_doctor_cause_sample(const gemmux_doctor *doctor, int index);
GEMMUX_API const char *gemmux_blame_name(gemmux_blame blame);
GEMMUX_API const char *gemmux_claim_name(gemmux_claim claim);

#ifdef __cplusplus
}
#endif
#endif
