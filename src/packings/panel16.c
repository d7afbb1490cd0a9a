/* SPDX-License-Identifier: Apache-2.0
 *
 * Packing "panel16": see panel16.h for the layout.
 */
#include "packings/panel16.h"

#include "error.h"

#include <string.h>

static bool accepts(gemmux_format format)
{
    return gemmux_format_valid(format) && format.group % GEMMUX_PANEL_GROUP == 0;
}

bool gemmux_panel_describe(gemmux_format format, int64_t count, int64_t rows, int64_t cols,
                           gemmux_panel *panel)
{
    const int64_t large = INT64_MAX / 256; /* leaves room for every rounding below */
    if (count < 0 || rows < 0 || cols < 0 || count > large || rows > large || cols > large)
        return false;
    *panel = (gemmux_panel){.format = format, .rows = rows, .cols = cols};
    panel->code_bits = gemmux_code_bits((gemmux_code)format.element);
    panel->per_lane = 32 / panel->code_bits;
    panel->k = gemmux_round_up(cols, GEMMUX_PANEL_K);
    panel->scale_bytes = (int32_t)gemmux_scale_bytes(format);
    panel->zero_bytes = (int32_t)gemmux_zero_bytes(format);
    if (format.scaling != GEMMUX_SCALING_NONE) {
        panel->group =
            format.group ? format.group : gemmux_round_up(cols ? cols : 1, GEMMUX_PANEL_K);
        panel->groups = format.group ? (panel->k + panel->group - 1) / panel->group : 1;
    }
    int64_t scales, zeros, codes;
    if (!gemmux_mul_size(panel->groups, GEMMUX_STRIP * panel->scale_bytes, &scales) ||
        !gemmux_mul_size(panel->groups, GEMMUX_STRIP * panel->zero_bytes, &zeros) ||
        !gemmux_mul_size(panel->k, GEMMUX_STRIP * panel->code_bits / 8, &codes) || scales > large ||
        zeros > large || codes > large)
        return false;
    panel->zeros_at = gemmux_round_up(scales, 64);
    panel->codes_at = panel->zeros_at + gemmux_round_up(zeros, 64);
    panel->strip_bytes = panel->codes_at + codes;
    panel->strips = (rows + GEMMUX_STRIP - 1) / GEMMUX_STRIP;
    panel->flags_at = gemmux_round_up(count * 4, 64);
    panel->matrices_at = panel->flags_at + gemmux_round_up(count * 4, 64);
    int64_t all;
    return gemmux_mul_size(panel->strips, panel->strip_bytes, &panel->matrix_bytes) &&
           gemmux_mul_size(panel->matrix_bytes, count, &all) &&
           gemmux_add_size(all, panel->matrices_at, &panel->bytes);
}

static int64_t bytes(gemmux_format format, int64_t count, int64_t rows, int64_t cols)
{
    gemmux_panel panel;
    return gemmux_panel_describe(format, count, rows, cols, &panel) ? panel.bytes : -1;
}

/* Positions 1 and 2 of every four change places; with eight, that and 3 with 6, 1 with 4: both
 * orders are their own inverse. */
static uint32_t reverse_lane(uint32_t lane, int per_lane)
{
    uint32_t change;
    if (per_lane == 8) {
        change = (lane >> 12 ^ lane) & 0x0000f0f0u;
        return lane ^ change ^ change << 12;
    }
    if (per_lane == 4) {
        change = (lane >> 8 ^ lane) & 0x0000ff00u;
        return lane ^ change ^ change << 8;
    }
    return lane;
}

/* Codes [lane * per_lane, +per_lane) of one plain row, zero beyond cols. */
static uint32_t load_lane(const gemmux_panel *panel, const uint8_t *row, int64_t lane)
{
    int64_t first = lane * panel->per_lane, left = panel->cols - first;
    uint32_t bits = 0;
    if (left >= panel->per_lane) {
        memcpy(&bits, row + lane * 4, 4);
        return bits;
    }
    if (left <= 0)
        return 0;
    int64_t have = left * panel->code_bits;
    memcpy(&bits, row + lane * 4, (size_t)(have + 7) / 8);
    return bits & ((UINT32_C(1) << have) - 1);
}

static bool lane_is_finite(gemmux_code code, uint32_t lane)
{
    for (int i = 0; i < 4; i++) {
        uint32_t magnitude = lane >> 8 * i & 0x7f;
        if (code == GEMMUX_CODE_E4M3 ? magnitude == 0x7f : magnitude >= 0x7c)
            return false;
    }
    return true;
}

/* Where lane `lane` of row `r` of a strip stands. */
static uint8_t *lane_at(uint8_t *codes, int64_t lane, int64_t r)
{
    return codes + (lane * GEMMUX_STRIP + r) * 4;
}

static uint32_t pack_codes(const gemmux_panel *panel, const uint8_t *row, uint8_t *codes, int64_t r)
{
    gemmux_code code = (gemmux_code)panel->format.element;
    bool small = code == GEMMUX_CODE_E4M3 || code == GEMMUX_CODE_E5M2;
    uint32_t flags = 0;
    int64_t lanes = (panel->cols + panel->per_lane - 1) / panel->per_lane;
    for (int64_t lane = 0; lane < lanes; lane++) {
        uint32_t bits = load_lane(panel, row, lane);
        if (small && !lane_is_finite(code, bits))
            flags = GEMMUX_PANEL_NONFINITE;
        if (code == GEMMUX_CODE_F16) {
            memcpy(codes + (lane * 2 * GEMMUX_STRIP + r) * 2, &bits, 2);
            bits >>= 16;
            memcpy(codes + ((lane * 2 + 1) * GEMMUX_STRIP + r) * 2, &bits, 2);
            continue;
        }
        bits = reverse_lane(bits, panel->per_lane);
        memcpy(lane_at(codes, lane, r), &bits, 4);
    }
    return flags;
}

static uint32_t pack_scales(const gemmux_panel *panel, const gemmux_tensor *w, int64_t matrix,
                            int64_t row, uint8_t *strip, int64_t r)
{
    int64_t first, count = gemmux_row_scales(w, matrix, row, &first);
    uint32_t flags = 0;
    for (int64_t g = 0; g < count; g++) {
        const uint8_t *scale = (const uint8_t *)w->scales + (first + g) * panel->scale_bytes;
        memcpy(strip + (g * GEMMUX_STRIP + r) * panel->scale_bytes, scale,
               (size_t)panel->scale_bytes);
        if (panel->format.scale == GEMMUX_CODE_UE8M0 && (*scale < 17 || *scale > 238))
            flags = GEMMUX_PANEL_WIDE_SCALE;
        if (!panel->zero_bytes)
            continue;
        const uint8_t *zero = (const uint8_t *)w->zeros + (first + g) * panel->zero_bytes;
        memcpy(strip + panel->zeros_at + (g * GEMMUX_STRIP + r) * panel->zero_bytes, zero,
               (size_t)panel->zero_bytes);
    }
    return flags;
}

static void pack(const gemmux_tensor *w, gemmux_packed *packed, int64_t matrix, int64_t row_first,
                 int64_t row_last)
{
    gemmux_panel panel;
    if (!gemmux_panel_describe(w->format, w->count, w->rows, w->cols, &panel))
        return;
    uint8_t *data = packed->data;
    if (row_first == 0 && panel.format.two_level) {
        float global = w->globals ? w->globals[matrix] : 1;
        memcpy(data + matrix * 4, &global, 4);
    }
    int64_t stride = gemmux_row_stride(w);
    uint32_t flags = 0;
    for (int64_t row = row_first; row < row_last; row++) {
        const uint8_t *from = (const uint8_t *)w->codes + (matrix * w->rows + row) * stride;
        uint8_t *strip = data + panel.matrices_at + matrix * panel.matrix_bytes +
                         row / GEMMUX_STRIP * panel.strip_bytes;
        int64_t r = row % GEMMUX_STRIP;
        flags |= pack_codes(&panel, from, strip + panel.codes_at, r);
        flags |= pack_scales(&panel, w, matrix, row, strip, r);
    }
    /* Several threads may pack parts of one matrix. */
    if (flags)
        __atomic_fetch_or((uint32_t *)(void *)(data + panel.flags_at + matrix * 4), flags,
                          __ATOMIC_RELAXED);
}

static void unpack_codes(const gemmux_panel *panel, const uint8_t *codes, int64_t r, uint8_t *out)
{
    int64_t row_bytes = gemmux_row_bytes(panel->format, panel->cols);
    for (int64_t lane = 0; lane * 4 < row_bytes; lane++) {
        uint32_t bits = 0;
        if (panel->format.element == GEMMUX_CODE_F16) {
            uint16_t low, high;
            memcpy(&low, codes + (lane * 2 * GEMMUX_STRIP + r) * 2, 2);
            memcpy(&high, codes + ((lane * 2 + 1) * GEMMUX_STRIP + r) * 2, 2);
            bits = low | (uint32_t)high << 16;
        } else {
            memcpy(&bits, codes + (lane * GEMMUX_STRIP + r) * 4, 4);
            bits = reverse_lane(bits, panel->per_lane);
        }
        int64_t left = row_bytes - lane * 4;
        memcpy(out + lane * 4, &bits, left < 4 ? (size_t)left : 4);
    }
}

static void unpack_row(const gemmux_packed *packed, int64_t matrix, int64_t row, void *codes,
                       void *scales, void *zeros)
{
    const gemmux_tensor *t = &packed->plain;
    gemmux_panel panel;
    if (!gemmux_panel_describe(t->format, t->count, t->rows, t->cols, &panel))
        return;
    const uint8_t *strip = gemmux_panel_strip(&panel, packed, matrix, row / GEMMUX_STRIP);
    int64_t r = row % GEMMUX_STRIP, first;
    int64_t count = gemmux_row_scales(t, matrix, row, &first);
    if (codes)
        unpack_codes(&panel, strip + panel.codes_at, r, codes);
    for (int64_t g = 0; scales && g < count; g++)
        memcpy((uint8_t *)scales + g * panel.scale_bytes,
               strip + (g * GEMMUX_STRIP + r) * panel.scale_bytes, (size_t)panel.scale_bytes);
    for (int64_t g = 0; zeros && g < count; g++)
        memcpy((uint8_t *)zeros + g * panel.zero_bytes,
               strip + panel.zeros_at + (g * GEMMUX_STRIP + r) * panel.zero_bytes,
               (size_t)panel.zero_bytes);
}

static const float *globals(const gemmux_packed *packed)
{
    return packed->data;
}

uint32_t gemmux_panel_flags(const gemmux_panel *panel, const gemmux_packed *packed, int64_t matrix)
{
    uint32_t flags;
    memcpy(&flags, (const uint8_t *)packed->data + panel->flags_at + matrix * 4, 4);
    return flags;
}

const gemmux_packing gemmux_packing_panel16 = {
    .name = "panel16",
    .summary = "16 rows side by side, 32 bits of each in turn, scales first: what SIMD reads",
    .accepts = accepts,
    .bytes = bytes,
    .pack = pack,
    .unpack_row = unpack_row,
    .globals = globals,
    .row_multiple = GEMMUX_STRIP,
};
