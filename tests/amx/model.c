/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include "gemmux.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TILES = 8, ROWS = 16, ROW_BYTES = 64 };

typedef struct tile {
    int rows, row_bytes; /* 0: not configured */
    uint8_t data[ROWS][ROW_BYTES];
} tile;

static _Thread_local tile tiles[TILES];
static _Thread_local bool configured;

static void fault(const char *what)
{
    fprintf(stderr, "amx: the processor would fault: %s\n", what);
    exit(1);
}

static void want(bool condition, const char *what)
{
    if (!condition)
        fault(what);
}

static tile *reg(int index)
{
    want(configured, "tiles are used before LDTILECFG or after TILERELEASE");
    want(index >= 0 && index < TILES && tiles[index].rows > 0, "a tile without shape is used");
    return &tiles[index];
}

/* Palette 1: eight tiles of at most 16 rows of 64 bytes. All tiles become zero. */
void amx_loadconfig(const void *config)
{
    const uint8_t *bytes = config;
    want(bytes[0] == 1, "palette");
    want(bytes[1] == 0, "start row");
    for (int i = 2; i < 16; i++)
        want(bytes[i] == 0, "reserved bytes of the configuration");
    memset(tiles, 0, sizeof tiles);
    for (int i = 0; i < 16; i++) {
        int row_bytes = bytes[16 + 2 * i] | bytes[17 + 2 * i] << 8, rows = bytes[48 + i];
        if (i >= TILES) {
            want(row_bytes == 0 && rows == 0, "a tile that palette 1 does not have");
            continue;
        }
        want(row_bytes <= ROW_BYTES && rows <= ROWS, "a tile too large for palette 1");
        want((row_bytes == 0) == (rows == 0), "a tile with rows or columns alone");
        tiles[i].rows = rows;
        tiles[i].row_bytes = row_bytes;
    }
    configured = true;
}

void amx_release(void)
{
    memset(tiles, 0, sizeof tiles);
    configured = false;
}

void amx_zero(int index)
{
    tile *t = reg(index);
    memset(t->data, 0, sizeof t->data);
}

void amx_loadd(int index, const void *base, int64_t stride)
{
    tile *t = reg(index);
    memset(t->data, 0, sizeof t->data);
    for (int r = 0; r < t->rows; r++)
        memcpy(t->data[r], (const char *)base + r * stride, (size_t)t->row_bytes);
}

void amx_stored(int index, void *base, int64_t stride)
{
    const tile *t = reg(index);
    for (int r = 0; r < t->rows; r++)
        memcpy((char *)base + r * stride, t->data[r], (size_t)t->row_bytes);
}

static void check_shapes(const tile *c, const tile *a, const tile *b)
{
    want(c != a && c != b && a != b, "two operands of a product are one tile");
    want(a->row_bytes % 4 == 0 && b->row_bytes % 4 == 0 && c->row_bytes % 4 == 0, "columns");
    want(a->rows == c->rows && b->row_bytes == c->row_bytes && a->row_bytes / 4 == b->rows,
         "the shapes of a product do not fit each other");
}

/* DAZ and FTZ. */
static float flush(float value)
{
    return fabsf(value) < 0x1p-126f ? copysignf(0, value) : value;
}

static float bf16_at(const uint8_t *row, int index)
{
    uint16_t half;
    float value;
    memcpy(&half, row + index * 2, 2);
    uint32_t bits = (uint32_t)half << 16;
    memcpy(&value, &bits, 4);
    return flush(value);
}

/* Even and odd elements are summed apart, by FMA, and added to each other and then to c; each step
 * rounds to nearest even. */
void amx_dpbf16ps(int ci, int ai, int bi)
{
    tile *c = reg(ci);
    const tile *a = reg(ai), *b = reg(bi);
    check_shapes(c, a, b);
    for (int m = 0; m < c->rows; m++)
        for (int n = 0; n < c->row_bytes / 4; n++) {
            float sums[2] = {0, 0}, old;
            for (int k = 0; k < b->rows; k++)
                for (int i = 0; i < 2; i++)
                    sums[i] = flush(fmaf(bf16_at(a->data[m], 2 * k + i),
                                         bf16_at(b->data[k], 2 * n + i), sums[i]));
            memcpy(&old, c->data[m] + n * 4, 4);
            old = flush(flush(old) + flush(sums[0] + sums[1]));
            memcpy(c->data[m] + n * 4, &old, 4);
        }
}

/* Signed bytes of a times unsigned bytes of b; sums wrap. */
void amx_dpbsud(int ci, int ai, int bi)
{
    tile *c = reg(ci);
    const tile *a = reg(ai), *b = reg(bi);
    check_shapes(c, a, b);
    for (int m = 0; m < c->rows; m++)
        for (int n = 0; n < c->row_bytes / 4; n++) {
            uint32_t sum;
            memcpy(&sum, c->data[m] + n * 4, 4);
            for (int k = 0; k < b->rows; k++)
                for (int i = 0; i < 4; i++)
                    sum += (uint32_t)((int8_t)a->data[m][4 * k + i] * b->data[k][4 * n + i]);
            memcpy(c->data[m] + n * 4, &sum, 4);
        }
}

/* The probe of a CPU that has tiles. The AVX-512 half of the kernels is not modelled. */
gemmux_status __real_gemmux_machine_probe_cpu(gemmux_machine *machine, gemmux_error *error);
gemmux_status __wrap_gemmux_machine_probe_cpu(gemmux_machine *machine, gemmux_error *error);

gemmux_status __wrap_gemmux_machine_probe_cpu(gemmux_machine *machine, gemmux_error *error)
{
    enum { HALF = GEMMUX_ISA_AVX512BF16 | GEMMUX_ISA_AVX512VNNI, SKIPPED = 77 };
    gemmux_status status = __real_gemmux_machine_probe_cpu(machine, error);
    if ((machine->isa & HALF) != HALF) {
        puts(
            "skipped: this CPU lacks AVX512_BF16 or AVX512_VNNI, which the AMX levels use as well");
        exit(SKIPPED);
    }
    machine->isa |= GEMMUX_ISA_AMXBF16 | GEMMUX_ISA_AMXINT8;
    return status;
}
