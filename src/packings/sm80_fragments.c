/* SPDX-License-Identifier: Apache-2.0
 *
 * "sm80_fragments": weights in the order in which lanes of a warp feed mma.sync.m16n8k16; the
 * header beside this file draws it. For the upcasting kernels of sm_80 and newer.
 */
#include "sm80_fragments.h"

#include "error.h"
#include "packing.h"

#include <math.h>
#include <string.h>

typedef unsigned char byte;

static bool has_power_group(gemmux_format f)
{
    return f.group >= 32 && (f.group & (f.group - 1)) == 0;
}

static bool accepts(gemmux_format f)
{
    switch (f.id) {
    case GEMMUX_F16:
    case GEMMUX_BF16:
    case GEMMUX_MXFP4:
    case GEMMUX_MXFP8:
    case GEMMUX_NVFP4:
        return true;
    case GEMMUX_E4M3:
    case GEMMUX_E5M2:
    case GEMMUX_INT8:
    case GEMMUX_INT4:
    case GEMMUX_NF4:
        return f.scaling == GEMMUX_SCALING_TENSOR || f.scaling == GEMMUX_SCALING_ROW ||
               has_power_group(f);
    default:
        return false;
    }
}

/* The scale of a row or tensor multiplies the finished sum: the codes alone meet x (the upcasting
 * kernel's kinds e4m3r and int8r). */
static bool has_factor(gemmux_format f)
{
    return (f.scaling == GEMMUX_SCALING_ROW || f.scaling == GEMMUX_SCALING_TENSOR) &&
           (f.element == GEMMUX_CODE_E4M3 || f.element == GEMMUX_CODE_INT8);
}

/* Whether scales stand beside K. */
static bool is_grouped(gemmux_format f)
{
    return f.scaling == GEMMUX_SCALING_GROUP || f.scaling == GEMMUX_SCALING_BLOCK;
}

bool gemmux_sm80_layout_of(gemmux_format f, int64_t rows, int64_t cols, gemmux_sm80_layout *at)
{
    int bits = gemmux_code_bits((gemmux_code)f.element);
    int64_t codes, scales, zeros, total;
    *at = (gemmux_sm80_layout){0};
    if (rows < 0 || cols < 0 || rows > INT64_MAX / 256 || cols > INT64_MAX / 256)
        return false;
    at->row_blocks = gemmux_round_up(rows, GEMMUX_SM80_ROWS) / GEMMUX_SM80_ROWS;
    at->units = gemmux_round_up(cols, GEMMUX_SM80_UNIT_K) / GEMMUX_SM80_UNIT_K;
    at->unit_bytes = GEMMUX_SM80_ROWS * GEMMUX_SM80_UNIT_K * bits / 8;
    bool block = f.scaling == GEMMUX_SCALING_BLOCK;
    if (is_grouped(f)) {
        at->scale_bytes = gemmux_code_bits((gemmux_code)f.scale) / 8;
        at->fine = !block && f.group < GEMMUX_SM80_UNIT_K;
        at->groups =
            at->fine ? at->units * (GEMMUX_SM80_UNIT_K / f.group) : (cols + f.group - 1) / f.group;
        at->block_scales = at->groups * (block ? 1 : GEMMUX_SM80_ROWS);
    } else if (f.scaling && !has_factor(f)) { /* one a row, of all its columns */
        at->scale_bytes = gemmux_code_bits((gemmux_code)f.scale) / 8;
        at->groups = 1;
        at->block_scales = GEMMUX_SM80_ROWS;
    }
    at->zero_bytes = f.zero == GEMMUX_ZERO_POINT ? 1
                     : f.zero == GEMMUX_ZERO_MIN ? at->scale_bytes
                                                 : 0;
    if (!gemmux_mul_size(at->row_blocks, at->units, &codes) ||
        !gemmux_mul_size(codes, at->unit_bytes, &codes) ||
        !gemmux_mul_size(at->row_blocks, at->block_scales, &scales) ||
        !gemmux_mul_size(scales, at->zero_bytes, &zeros) ||
        !gemmux_mul_size(scales, at->scale_bytes, &scales) ||
        !gemmux_add_size(codes, scales, &total) || !gemmux_add_size(total, zeros, &total) ||
        !gemmux_add_size(total, at->row_blocks * (16 * 4 + 4 + 16) + 4 * 256, &total))
        return false;
    at->scales_at = codes;
    at->zeros_at = gemmux_round_up(at->scales_at + scales, 128);
    at->factors_at = gemmux_round_up(at->zeros_at + zeros, 128);
    at->flags_at = at->factors_at + at->row_blocks * 16 * 4;
    at->shifts_at = at->flags_at + at->row_blocks * 4;
    at->matrix_bytes = gemmux_round_up(at->shifts_at + at->row_blocks * 16, 128);
    return true;
}

static int64_t bytes(gemmux_format format, int64_t count, int64_t rows, int64_t cols)
{
    gemmux_sm80_layout at;
    int64_t total;
    if (!gemmux_sm80_layout_of(format, rows, cols, &at) ||
        !gemmux_mul_size(at.matrix_bytes + (format.two_level ? 4 : 0), count, &total))
        return -1;
    return total;
}

static int64_t settled(gemmux_format format, int64_t rows, int64_t cols, int64_t row_last)
{
    gemmux_sm80_layout at;
    if (!gemmux_sm80_layout_of(format, rows, cols, &at))
        return 0;
    return gemmux_round_up(row_last, GEMMUX_SM80_ROWS) / GEMMUX_SM80_ROWS * at.units *
           at.unit_bytes;
}

/* Second-level scales stand behind the last matrix. */
static const float *globals(const gemmux_packed *packed)
{
    gemmux_sm80_layout at;
    if (!packed->data ||
        !gemmux_sm80_layout_of(packed->plain.format, packed->plain.rows, packed->plain.cols, &at))
        return NULL;
    return (const float *)((const byte *)packed->data + packed->plain.count * at.matrix_bytes);
}

/* ------------------------------------------------------------------------------------- words -- */

/* Bits of the word that bit i (0 lowest) of column j's E2M1 code turns over. */
static const uint32_t e2m1_bits[8][4] = {
    {0x00000040, 0x00000080, 0x00000100, 0x00008000},
    {0x00400000, 0x00800000, 0x01000000, 0x80000000},
    {0x00000400, 0x00200a00, 0x00005015, 0x200a0000},
    {0x04000000, 0x0a000020, 0x50150000, 0x0000200a},
    {0x00000001, 0x00000002, 0x00004010, 0x00000200},
    {0x00010000, 0x00020000, 0x40100000, 0x02000000},
    {0x00004014, 0x00002002, 0x00000010, 0x00200200},
    {0x40140000, 0x20020000, 0x00100000, 0x02000020},
};

static uint32_t shuffle_e2m1(uint32_t plain)
{
    uint32_t word = 0;
    for (int j = 0; j < 8; j++)
        for (int i = 0; i < 4; i++)
            if (plain >> (4 * j + i) & 1)
                word ^= e2m1_bits[j][i];
    return word;
}

static uint32_t rotate(uint32_t word, int right)
{
    return word >> right | word << (32 - right);
}

static uint32_t unshuffle_e2m1(uint32_t word)
{
    const uint32_t pairs[4] = {word, rotate(word, 4), rotate(word, 6) ^ word << 6,
                               rotate(word, 6) ^ word << 4};
    uint32_t plain = 0;
    for (int j = 0; j < 8; j++) {
        uint32_t half = pairs[j / 2] >> (j % 2 * 16);
        plain |= ((half >> 6 & 7) | (half >> 12 & 8)) << 4 * j;
    }
    return plain;
}

/* Even columns to the low half, odd ones to the high half. */
static uint32_t shuffle_int4(uint32_t plain)
{
    uint32_t word = 0;
    for (int j = 0; j < 8; j++)
        word |= (plain >> 4 * j & 15) << (j / 2 * 4 + j % 2 * 16);
    return word;
}

static uint32_t unshuffle_int4(uint32_t word)
{
    uint32_t plain = 0;
    for (int j = 0; j < 8; j++)
        plain |= (word >> (j / 2 * 4 + j % 2 * 16) & 15) << 4 * j;
    return plain;
}

/* Swaps the middle bytes: its own inverse. */
static uint32_t shuffle_bytes(uint32_t word)
{
    return (word & 0xff0000ffu) | (word & 0xff00u) << 8 | (word >> 8 & 0xff00u);
}

static uint32_t shuffle(int element, uint32_t plain)
{
    switch (element) {
    case GEMMUX_CODE_E2M1:
        return shuffle_e2m1(plain);
    case GEMMUX_CODE_INT4:
        return shuffle_int4(plain);
    case GEMMUX_CODE_E4M3:
    case GEMMUX_CODE_E5M2:
    case GEMMUX_CODE_INT8:
        return shuffle_bytes(plain);
    default:
        return plain;
    }
}

static uint32_t unshuffle(int element, uint32_t word)
{
    switch (element) {
    case GEMMUX_CODE_E2M1:
        return unshuffle_e2m1(word);
    case GEMMUX_CODE_INT4:
        return unshuffle_int4(word);
    default:
        return shuffle(element, word);
    }
}

/* Where the lane's eight columns (half b, lane part l) of one row start within its unit. A lane
 * has `bits` bytes of them. */
static int64_t piece_at(int bits, int b, int row, int l)
{
    int lane = row / 2 * 4 + l, odd = row % 2;
    switch (bits) {
    case 4:
        return lane * 16 + b * 8 + odd * 4;
    case 8:
        return b * 512 + lane * 16 + odd * 8;
    default:
        return (b * 2 + odd) * 512 + lane * 16;
    }
}

static void store_word(byte *to, uint32_t word)
{
    memcpy(to, &word, 4);
}

static uint32_t load_word(const byte *from)
{
    uint32_t word;
    memcpy(&word, from, 4);
    return word;
}

/* Packing is called for every word: E2M1's bits by table, one nibble a look-up. */
typedef struct word_table {
    uint32_t part[8][16];
} word_table;

static void fill_table(int element, word_table *table)
{
    for (int j = 0; j < 8; j++)
        for (uint32_t code = 0; code < 16; code++)
            table->part[j][code] = shuffle(element, code << 4 * j);
}

static uint32_t look_up(const word_table *table, uint32_t plain)
{
    uint32_t word = 0;
    for (int j = 0; j < 8; j++)
        word ^= table->part[j][plain >> 4 * j & 15];
    return word;
}

/* One row's 64 columns (zero beyond K) into their unit. */
static void pack_unit(int element, int bits, const word_table *table, const byte *columns, int row,
                      byte *unit)
{
    for (int b = 0; b < 2; b++)
        for (int l = 0; l < 4; l++) {
            const byte *from = columns + (b * 4 + l) * bits;
            byte *to = unit + piece_at(bits, b, row, l);
            for (int i = 0; i < bits; i += 4) {
                uint32_t plain = load_word(from + i);
                store_word(to + i, bits == 4 ? look_up(table, plain) : shuffle(element, plain));
            }
        }
}

static bool has_nan(int element, const byte *columns, int count)
{
    if (element != GEMMUX_CODE_E4M3)
        return false;
    for (int i = 0; i < count; i++)
        if ((columns[i] & 0x7f) == 0x7f)
            return true;
    return false;
}

/* ------------------------------------------------------------------------------------ scales -- */

/* Index, within a row block's scales, of the one for `group` of `row`. */
static int64_t scale_at(gemmux_format f, const gemmux_sm80_layout *at, int row, int64_t group)
{
    if (f.scaling == GEMMUX_SCALING_BLOCK)
        return group;
    int g = row / 2, odd = row % 2;
    if (!at->fine)
        return (group * 8 + g) * 2 + odd;
    int64_t per_unit = GEMMUX_SM80_UNIT_K / f.group, unit = group / per_unit;
    int64_t k = group % per_unit * f.group;
    int64_t halves = 32 / f.group;
    return (((unit * 8 + g) * halves + k % 32 / f.group) * 2 + k / 32) * 2 + odd;
}

/* The largest ue8m0 exponent that one bf16 factor can carry beside what the codes' bits lack:
 * 2^126 for E2M1, 2^120 for E4M3, 2^112 for E5M2 (bf16's exponent field ends at 254). */
static int widest_scale(int element)
{
    return 254 - (element == GEMMUX_CODE_E2M1 ? 126 : element == GEMMUX_CODE_E4M3 ? 120 : 112);
}

/* The largest magnitude of a code less its zero point. */
static double widest_code(gemmux_format f)
{
    switch (f.element) {
    case GEMMUX_CODE_E4M3:
        return 448;
    case GEMMUX_CODE_E5M2:
        return 57344;
    case GEMMUX_CODE_INT8:
        return 128;
    case GEMMUX_CODE_INT4:
        return f.zero ? 15 : 8;
    default:
        return f.element == GEMMUX_CODE_E2M1 ? 6 : 1;
    }
}

/* The bits of a float's magnitude, which grow with it. */
static uint32_t magnitude_bits(const byte *from, int bytes)
{
    uint32_t bits = 0;
    memcpy(&bits, from, (size_t)bytes);
    return bits & ((UINT32_C(1) << (bytes * 8 - 1)) - 1);
}

static uint32_t pack_scales(const gemmux_tensor *w, const gemmux_sm80_layout *at, byte *base,
                            int64_t matrix, int64_t n)
{
    gemmux_format f = w->format;
    int64_t first, count = gemmux_row_scales(w, matrix, n, &first);
    int64_t block = n / GEMMUX_SM80_ROWS;
    int row = (int)(n % GEMMUX_SM80_ROWS);
    uint32_t flags = 0;
    int largest = 0, smallest = 255;
    uint32_t scale_bits = 0, minimum_bits = 0;
    for (int64_t group = 0; at->scale_bytes && group < count; group++) {
        int64_t to = block * at->block_scales + scale_at(f, at, row, group);
        const byte *scale = (const byte *)w->scales + (first + group) * at->scale_bytes;
        memcpy(base + at->scales_at + to * at->scale_bytes, scale, (size_t)at->scale_bytes);
        if (at->zero_bytes)
            memcpy(base + at->zeros_at + to * at->zero_bytes,
                   (const byte *)w->zeros + (first + group) * at->zero_bytes,
                   (size_t)at->zero_bytes);
        if (at->scale_bytes > 1) {
            uint32_t bits = magnitude_bits(scale, at->scale_bytes);
            scale_bits = bits > scale_bits ? bits : scale_bits;
            if (f.zero == GEMMUX_ZERO_MIN) {
                bits = magnitude_bits((const byte *)w->zeros + (first + group) * at->zero_bytes,
                                      at->zero_bytes);
                minimum_bits = bits > minimum_bits ? bits : minimum_bits;
            }
        }
        largest = *scale > largest ? *scale : largest;
        smallest = *scale < smallest ? *scale : smallest;
    }
    if (f.scale == GEMMUX_CODE_UE8M0 && largest > widest_scale(f.element)) {
        int shift = largest - widest_scale(f.element);
        base[at->shifts_at + n] = (byte)shift;
        flags = GEMMUX_SM80_SHIFTED;
        /* The smallest code, 2^-16 (E5M2), must stay a bf16 number. */
        if (smallest - shift < 16)
            flags |= GEMMUX_SM80_SPAN_TOO_WIDE;
    }
    float factor = f.two_level && w->globals ? w->globals[matrix] : 1;
    if (f.scaling && !at->scale_bytes) {
        int each = gemmux_code_bits((gemmux_code)f.scale) / 8;
        uint32_t code = 0;
        memcpy(&code, (const byte *)w->scales + first * each, (size_t)each);
        factor = (float)gemmux_code_decode((gemmux_code)f.scale, code);
    }
    memcpy(base + at->factors_at + n * 4, &factor, 4);
    double scale = at->scale_bytes > 1 ? gemmux_code_decode((gemmux_code)f.scale, scale_bits) : 0;
    double minimum =
        f.zero == GEMMUX_ZERO_MIN ? gemmux_code_decode((gemmux_code)f.scale, minimum_bits) : 0;
    scale = f.scaling && !at->scale_bytes ? fabs((double)factor) : scale;
    if (!(scale * widest_code(f) + minimum <= 65504))
        flags |= GEMMUX_SM80_BEYOND_F16;
    return flags;
}

static void pack(const gemmux_tensor *w, gemmux_packed *packed, int64_t matrix, int64_t row_first,
                 int64_t row_last)
{
    gemmux_sm80_layout at;
    word_table table;
    int element = w->format.element, bits = gemmux_code_bits((gemmux_code)element);
    if (!gemmux_sm80_layout_of(w->format, w->rows, w->cols, &at))
        return;
    if (w->format.two_level && row_first == 0) {
        float global = w->globals ? w->globals[matrix] : 1;
        memcpy((byte *)packed->data + w->count * at.matrix_bytes + matrix * 4, &global, 4);
    }
    if (bits == 4)
        fill_table(element, &table);
    byte *base = (byte *)packed->data + matrix * at.matrix_bytes;
    int64_t row_bytes = gemmux_row_bytes(w->format, w->cols);
    int64_t stride = w->row_bytes ? w->row_bytes : row_bytes;
    int64_t unit_columns = GEMMUX_SM80_UNIT_K * bits / 8;
    for (int64_t n = row_first; n < row_last; n++) {
        const byte *codes = (const byte *)w->codes + (matrix * w->rows + n) * stride;
        int row = (int)(n % GEMMUX_SM80_ROWS);
        byte *block = base + n / GEMMUX_SM80_ROWS * at.units * at.unit_bytes;
        bool nan = false;
        for (int64_t unit = 0; unit < at.units; unit++) {
            byte columns[128] = {0};
            int64_t left = row_bytes - unit * unit_columns;
            memcpy(columns, codes + unit * unit_columns,
                   (size_t)(left < unit_columns ? left : unit_columns));
            if (bits == 4 && w->cols % 2 && left <= unit_columns)
                columns[left - 1] &= 15; /* the half byte beyond K may hold anything */
            nan |= has_nan(element, columns, (int)unit_columns);
            pack_unit(element, bits, &table, columns, row, block + unit * at.unit_bytes);
        }
        uint32_t flags = load_word(base + at.flags_at + n / GEMMUX_SM80_ROWS * 4);
        flags |= pack_scales(w, &at, base, matrix, n);
        if (nan)
            flags |= UINT32_C(1) << (row % 2 * 8 + row / 2);
        store_word(base + at.flags_at + n / GEMMUX_SM80_ROWS * 4, flags);
    }
}

/* ------------------------------------------------------------------------------------ unpack -- */

static void unpack_codes(const gemmux_tensor *t, const gemmux_sm80_layout *at, const byte *base,
                         int64_t n, byte *codes)
{
    int element = t->format.element, bits = gemmux_code_bits((gemmux_code)element);
    int64_t row_bytes = gemmux_row_bytes(t->format, t->cols);
    int64_t unit_columns = GEMMUX_SM80_UNIT_K * bits / 8;
    const byte *block = base + n / GEMMUX_SM80_ROWS * at->units * at->unit_bytes;
    for (int64_t unit = 0; unit < at->units; unit++) {
        byte columns[128];
        for (int b = 0; b < 2; b++)
            for (int l = 0; l < 4; l++) {
                const byte *from = block + unit * at->unit_bytes +
                                   piece_at(bits, b, (int)(n % GEMMUX_SM80_ROWS), l);
                for (int i = 0; i < bits; i += 4)
                    store_word(columns + (b * 4 + l) * bits + i,
                               unshuffle(element, load_word(from + i)));
            }
        int64_t left = row_bytes - unit * unit_columns;
        memcpy(codes + unit * unit_columns, columns,
               (size_t)(left < unit_columns ? left : unit_columns));
    }
}

static void unpack_row(const gemmux_packed *packed, int64_t matrix, int64_t n, void *codes,
                       void *scales, void *zeros)
{
    const gemmux_tensor *t = &packed->plain;
    gemmux_format f = t->format;
    gemmux_sm80_layout at;
    int64_t first, count = gemmux_row_scales(t, matrix, n, &first);
    if (!gemmux_sm80_layout_of(f, t->rows, t->cols, &at))
        return;
    const byte *base = (const byte *)packed->data + matrix * at.matrix_bytes;
    int64_t block = n / GEMMUX_SM80_ROWS * at.block_scales;
    if (codes)
        unpack_codes(t, &at, base, n, codes);
    if (scales && f.scaling && !at.scale_bytes) {
        float factor;
        memcpy(&factor, base + at.factors_at + n * 4, 4);
        uint32_t code = gemmux_code_encode((gemmux_code)f.scale, factor);
        memcpy(scales, &code, (size_t)gemmux_code_bits((gemmux_code)f.scale) / 8);
    }
    for (int64_t group = 0; at.scale_bytes && group < count; group++) {
        int64_t from = block + scale_at(f, &at, (int)(n % GEMMUX_SM80_ROWS), group);
        if (scales)
            memcpy((byte *)scales + group * at.scale_bytes,
                   base + at.scales_at + from * at.scale_bytes, (size_t)at.scale_bytes);
        if (zeros && at.zero_bytes)
            memcpy((byte *)zeros + group * at.zero_bytes, base + at.zeros_at + from * at.zero_bytes,
                   (size_t)at.zero_bytes);
    }
}

const gemmux_packing gemmux_packing_sm80_fragments = {
    .name = "sm80_fragments",
    .summary =
        "16 rows x 64 columns in the order of mma.sync's A fragments, bits ready to be upcast",
    .accepts = accepts,
    .bytes = bytes,
    .pack = pack,
    .unpack_row = unpack_row,
    .globals = globals,
    .settled = settled,
    .row_multiple = GEMMUX_SM80_ROWS,
};
