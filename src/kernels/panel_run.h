/* SPDX-License-Identifier: Apache-2.0
 *
 * Decoders x microkernels over packing panel16: what all CPU kernels of that packing share. A
 * level is one instruction set: how it reads scales, turns codes into operands, and multiplies.
 * panel_run.c does the rest for every level: it widens x once, cuts the work into items, decodes
 * scales into L1, chooses between streaming (few rows: codes are decoded in registers on the way
 * from memory) and panels (many rows: codes are decoded once into scratch that stays in cache), and
 * finishes rows.
 */
#ifndef GEMMUX_PANEL_RUN_H
#define GEMMUX_PANEL_RUN_H

#include "kernel.h"
#include "packings/panel16.h"

/* What x becomes in the workspace, and so what is multiplied. */
typedef enum gemmux_panel_x {
    GEMMUX_PANEL_F32,  /* 1 k a lane */
    GEMMUX_PANEL_BF16, /* 2 k a lane */
    GEMMUX_PANEL_F16,  /* 2 k a lane; rows of x, and of f16 w, times powers of two: see fit_x */
    GEMMUX_PANEL_INT8  /* 4 k a lane, in the order k + 0 2 1 3 */
} gemmux_panel_x;

enum {
    GEMMUX_STREAM_ROWS = 8, /* most rows of a pass of any level */
    GEMMUX_TILE_STRIPS = 4, /* most strips a level may multiply at once */
    GEMMUX_TILE_ROWS = 16,  /* most rows likewise */
    GEMMUX_TILE_COLUMNS = GEMMUX_TILE_STRIPS * GEMMUX_STRIP,
    GEMMUX_FETCH_STEPS = 16, /* of a tile, between fetches beside its products */
};

/* INT8: what is kept of the k of a row of x that meet one segment of w. */
typedef struct gemmux_x_segment {
    int32_t sum; /* of the integers */
    float scale; /* each of them stands for this much */
} gemmux_x_segment;

/* A run of k in one strip. A segment is k that share one scale; the last may be short. Where a
 * format has no scales all of the run is one segment. */
typedef struct gemmux_strip {
    const uint8_t *codes; /* of its first k */
    uint8_t code;         /* gemmux_code */
    uint8_t zero;         /* gemmux_zero */
    uint8_t scale;        /* gemmux_code of the scales as stored */
    int64_t k, segment;
    const float *scales; /* [segments][16]; NULL: none to apply, or to be read from stored */
    /* [segments][16] at the strip's first byte (see reads_stored), and how many bytes more than
     * GEMMUX_AHEAD are fetched ahead of it: 4 KiB when one thread has memory for itself, where they
     * won 3 to 7 %; two threads lost as much by it. */
    const uint8_t *stored;
    int64_t lead;
    const void *points; /* [segments][16] 32-bit each: what level->points made; NULL: none */
    const float *mins;  /* [segments][16]; NULL: none */
} gemmux_strip;

/* Rows of x times strips of a panel; c = or += the sum over segments of scales * products. Strips
 * are `stride` numbers apart in scales, points and mins, segments are GEMMUX_STRIP. */
typedef struct gemmux_tile {
    int rows, strips;
    bool first;            /* c is not yet meaningful */
    bool flip;             /* INT8: w is signed bytes as packed, to be made unsigned by + 128 */
    int64_t steps;         /* lanes along k */
    int64_t segment;       /* of them in a segment; F32: all, as scales are always folded */
    const void *const *x;  /* [rows] */
    const uint8_t *w;      /* decoded, or packed where that is the same */
    int64_t w_stride;      /* bytes between strips */
    const float *scales;   /* NULL: 1 */
    const int32_t *points; /* INT8 only: subtract points * sums; NULL only with signed codes */
    const float *mins;     /* add mins * sums; NULL: none */
    int64_t stride;
    const char *const *sums; /* [rows] of each segment: sum of x in f32 (BF16, F16), or
                                gemmux_x_segment */
    float *c;                /* [rows][GEMMUX_TILE_COLUMNS] */
    /* What a level may fetch beside its products (gemmux_fetch_beside); NULL: nothing. `ahead` is
     * w of the panel that comes next: `ahead_lines` lines of each strip, ahead_stride apart, for
     * every GEMMUX_FETCH_STEPS steps. `y` is what these sums will be stored to. */
    const uint8_t *ahead;
    int64_t ahead_stride, ahead_lines;
    const char *const *y; /* [rows] */
    int64_t y_bytes;      /* of each */
} gemmux_tile;

typedef struct gemmux_panel_level {
    uint8_t x;     /* gemmux_panel_x */
    int tile_rows; /* rows and strips that fill the registers */
    int tile_strips;
    int pass_rows; /* most rows that `stream` takes at once */
    /* Up to this many rows of x stream, in as many passes as it takes: more where panels would
     * have to be decoded. */
    int stream_dense, stream_rows;
    /* `stream` takes one row of x and all k of an mxfp4 or nvfp4 strip with its scales as stored.
     */
    bool reads_stored;
    /* INT8: `multiply` reads int8 weights as they are packed (flip), so nothing is decoded. */
    bool flips;
    bool signed_codes; /* INT8: operands are codes with their sign; otherwise they are unsigned, by
                          an offset that points carry */
    /* One row of x (f32, f16, bf16; INT8: int8) of k elements into the level's form. */
    void (*widen)(gemmux_code code, const void *from, int64_t k, void *to);
    /* INT8: the same from k of a row of f32, f16 or bf16, rounded to the nearest of 255 steps that
     * the largest magnitude spans; returns the step. Padded to GEMMUX_PANEL_K. */
    float (*quantise)(gemmux_code code, const void *from, int64_t k, void *to);
    /* F16: widen by way of a power of two that puts the row's largest finite number where sums with
     * weights of code `w` stay in f16's range; returns the power's inverse, which sums are to be
     * multiplied by. */
    float (*fit_x)(gemmux_code w, const void *from, int64_t k, void *to);
    /* F16: the same of the 16 rows of a strip of f16, without writing them: their scales. */
    void (*fit_w)(const uint8_t *codes, int64_t k, float *scales);
    /* Sums of x over each segment of `segment` k, f32 or into gemmux_x_segment; NULL where the
     * level never needs them. */
    void (*sum)(const void *x, int64_t k, int64_t segment, void *sums);
    /* `count` scales, a multiple of 16, as f32. */
    void (*scales)(gemmux_code code, const uint8_t *from, int64_t count, float *to);
    /* `count` zero points, a multiple of 16, in the form that stream and decode want. */
    void (*points)(const uint8_t *from, int64_t count, void *to);
    /* Adds x rows times one strip to out[rows][16]. x, sums and out have GEMMUX_STREAM_ROWS
     * entries, those beyond rows a repetition, so that a level need not know every count. */
    void (*stream)(const gemmux_strip *strip, int rows, const void *const *x,
                   const void *const *sums, float *out);
    /* Writes the operands [lanes along k][16] of one strip, times scales where `fold`. */
    void (*decode)(const gemmux_strip *strip, bool fold, void *to);
    void (*multiply)(const gemmux_tile *tile);
    /* gemmux_finish_row (epilogue.h) for at most GEMMUX_TILE_COLUMNS columns, first times
     * `factor`; sums may be overwritten. */
    void (*finish)(const gemmux_call *call, int32_t expert, int64_t row, int64_t first,
                   int64_t count, float factor, float *sums);
} gemmux_panel_level;

/* A kernel's configure, prepare, release and run are these with its level (panel_entry.h). */
const char *gemmux_panel_configure(const gemmux_panel_level *level, const gemmux_problem *problem,
                                   const gemmux_machine *machine, gemmux_config *config);
gemmux_status gemmux_panel_prepare(const gemmux_panel_level *level, const gemmux_problem *problem,
                                   const gemmux_machine *machine, const gemmux_packed *w,
                                   void **state, gemmux_error *error);
void gemmux_panel_release(void *state);
gemmux_status gemmux_panel_run(const gemmux_panel_level *level, const gemmux_call *call,
                               gemmux_error *error);

#endif
