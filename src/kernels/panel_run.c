/* SPDX-License-Identifier: Apache-2.0
 *
 * One product over packing panel16, for every instruction set: see panel_run.h.
 */
#include "panel_run.h"

#include "epilogue.h"
#include "error.h"

#include <stdatomic.h>
#include <stdlib.h>

/* Sizes that follow from problem and machine: what configure prices and prepare keeps. */
typedef struct blocking {
    gemmux_panel panel;
    int64_t segment;  /* k that share a scale, or a part of them */
    int64_t segments; /* in all of k */
    /* k decoded, streamed in one pass and in several: multiples of segment, or all of k */
    int64_t panel_k, stream_k, pass_k;
    int64_t rows;        /* of c in scratch */
    int64_t x_stride;    /* bytes */
    int64_t sums_stride; /* bytes; 0: no sums */
    int64_t x_group;     /* k that share a scale when x is quantised; all of k: per row */
    int64_t x_rows;
    int64_t ahead_bytes;     /* of a strip: the most that is fetched before its panel's turn */
    int64_t scratch_vectors; /* of 16 scales, points or mins */
    int64_t scratch_bytes;   /* of one slot */
    int64_t workspace_bytes;
    int32_t slots;
    float *w_scales; /* [matrices * strips][16] that fit_w made; NULL: none */
} blocking;

typedef struct job {
    const gemmux_call *call;
    const gemmux_panel_level *level;
    const blocking *b;
    char *x, *sums;
    char *scratch;
    int64_t items, workers;
    _Atomic int64_t next;
} job;

/* Where one worker keeps what it decodes. */
typedef struct slot {
    uint8_t *panel;
    float *c;
    float *scales, *mins;
    int32_t *points;
} slot;

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t k_per_lane(const gemmux_panel_level *level)
{
    return level->x == GEMMUX_PANEL_F32 ? 1 : level->x == GEMMUX_PANEL_INT8 ? 4 : 2;
}

/* ---------------------------------------------------------------------------------- blocking -- */

/* A part of the group that divides it (so that no segment has two scales) and is at most `most`. */
static int64_t segment_of(const gemmux_panel *panel, int64_t most)
{
    if (panel->groups <= 1)
        return smaller(most, panel->k ? panel->k : GEMMUX_PANEL_K);
    int64_t segment = smaller(panel->group, most);
    while (panel->group % segment)
        segment -= GEMMUX_PANEL_GROUP;
    return segment;
}

/* Bytes that a level keeps of x for each segment. */
static int64_t sum_bytes(const gemmux_panel_level *level)
{
    return level->x == GEMMUX_PANEL_INT8 ? (int64_t)sizeof(gemmux_x_segment) : 4;
}

static bool needs_sums(const gemmux_panel_level *level, gemmux_format w)
{
    return level->x == GEMMUX_PANEL_INT8 ||
           (level->x != GEMMUX_PANEL_F32 && w.zero == GEMMUX_ZERO_MIN);
}

/* Bytes that a row of x has beside it: its sums, and with F16 the inverse of its power of two,
 * which comes last. */
static int64_t sums_stride(const gemmux_panel_level *level, gemmux_format w, int64_t segments)
{
    int64_t sums = needs_sums(level, w) ? segments * sum_bytes(level) : 0;
    int64_t power = level->x == GEMMUX_PANEL_F16 ? (int64_t)sizeof(float) : 0;
    return gemmux_round_up(sums + power, 64);
}

/* Panels take half of L2, so that x and c have room beside them: the decoded one, and as much of
 * the next as is left. */
static void block_k(const gemmux_panel_level *level, const gemmux_machine *machine, blocking *b)
{
    int64_t l2 = machine->kind == GEMMUX_CPU && machine->l2_bytes ? machine->l2_bytes : 256 << 10;
    int64_t k_bytes = level->tile_strips * GEMMUX_STRIP * 4 / k_per_lane(level);
    int64_t most = l2 / 2 / k_bytes / 128 * 128;
    most = most < 128 ? 128 : most > 4096 ? 4096 : most;
    b->segment = segment_of(&b->panel, most);
    b->segments = (b->panel.k + b->segment - 1) / b->segment;
    b->panel_k = most / b->segment * b->segment;
    b->ahead_bytes = (l2 / 2 - smaller(b->panel_k, b->panel.k) * k_bytes) / level->tile_strips;
    /* At most 8 KiB of decoded scales: they share L1 with x and with what is fetched ahead. */
    b->stream_k = gemmux_round_up(smaller(4096, 128 * b->segment), b->segment);
    b->pass_k =
        gemmux_round_up(2048, b->segment); /* of 4 bits: a third of L1, read again by each pass */
}

/* Bytes from one decoded strip to the next. A power of two would put the same step of all strips in
 * one set of the cache. */
static int64_t strip_pitch(const gemmux_panel_level *level, const blocking *b)
{
    return GEMMUX_STRIP * b->panel_k * 4 / k_per_lane(level) + 5 * 64;
}

/* As w is scaled, so is x, where segments allow it; 16 k would be padded into the next 16. */
static int64_t quantised_group(const blocking *b)
{
    if (b->panel.groups <= 1 || (b->segment > 16 && b->segment % GEMMUX_PANEL_K))
        return b->panel.k;
    return b->segment < GEMMUX_PANEL_K ? GEMMUX_PANEL_K : b->segment;
}

static bool block(const gemmux_panel_level *level, const gemmux_problem *problem,
                  const gemmux_machine *machine, blocking *b)
{
    *b = (blocking){0};
    int64_t count = problem->op == GEMMUX_MOE ? problem->experts : 1;
    if (!gemmux_panel_describe(problem->w, count, problem->n, problem->k, &b->panel))
        return false;
    block_k(level, machine, b);
    b->rows = 512;
    bool gather = problem->epilogue & GEMMUX_EPILOGUE_GATHER;
    b->x_rows = problem->op == GEMMUX_MOE && !gather ? gemmux_problem_rows(problem) : problem->m;
    /* An odd number of lines, so that neighbouring rows do not meet in one set of the cache. */
    b->x_stride = gemmux_round_up(b->panel.k * 4 / k_per_lane(level), 64) | 64;
    b->sums_stride = sums_stride(level, problem->w, b->segments);
    b->x_group = quantised_group(b);
    int64_t of_panel = (b->panel_k / b->segment) * level->tile_strips;
    int64_t of_stream = b->stream_k / b->segment;
    b->scratch_vectors = (of_panel > of_stream ? of_panel : of_stream) + level->tile_strips;
    b->scratch_bytes = level->tile_strips * strip_pitch(level, b) +
                       b->rows * GEMMUX_TILE_COLUMNS * 4 + b->scratch_vectors * 64 * 3;
    b->slots = machine->kind == GEMMUX_CPU && machine->cores > 0 ? machine->cores : 1;
    int64_t x_bytes;
    if (!gemmux_mul_size(b->x_rows, b->x_stride + b->sums_stride, &x_bytes))
        return false;
    b->workspace_bytes = gemmux_round_up(x_bytes, 64) + b->slots * b->scratch_bytes + 64;
    return true;
}

const char *gemmux_panel_configure(const gemmux_panel_level *level, const gemmux_problem *problem,
                                   const gemmux_machine *machine, gemmux_config *config)
{
    blocking b;
    if (!block(level, problem, machine, &b))
        return "the packed weights would take more bytes than can be counted";
    config->workspace_bytes = b.workspace_bytes;
    return NULL;
}

/* Scales for the rows of w that have none and want them; false: no memory. */
static bool fit_w(const gemmux_panel_level *level, const gemmux_packed *w, blocking *b)
{
    const gemmux_panel *panel = &b->panel;
    if (!level->fit_w || panel->format.element != GEMMUX_CODE_F16)
        return true;
    int64_t count = w->plain.count, bytes;
    if (!gemmux_mul_size(count * panel->strips + 1, GEMMUX_STRIP * (int64_t)sizeof(float), &bytes))
        return false;
    b->w_scales = malloc((size_t)bytes);
    float *to = b->w_scales;
    for (int64_t matrix = 0; to && matrix < count; matrix++)
        for (int64_t strip = 0; strip < panel->strips; strip++, to += GEMMUX_STRIP)
            level->fit_w(gemmux_panel_strip(panel, w, matrix, strip) + panel->codes_at, panel->k,
                         to);
    return b->w_scales;
}

gemmux_status gemmux_panel_prepare(const gemmux_panel_level *level, const gemmux_problem *problem,
                                   const gemmux_machine *machine, const gemmux_packed *w,
                                   void **state, gemmux_error *error)
{
    blocking *b = malloc(sizeof *b);
    if (!b || !block(level, problem, machine, b) || !fit_w(level, w, b)) {
        free(b);
        return gemmux_fail(error, GEMMUX_ERROR_MEMORY, "panel kernel: no memory for its state");
    }
    *state = b;
    return GEMMUX_OK;
}

void gemmux_panel_release(void *state)
{
    blocking *b = state;
    if (b)
        free(b->w_scales);
    free(b);
}

/* ----------------------------------------------------------------------------------------- x -- */

static float scale_of_row(const gemmux_tensor *x, int64_t row)
{
    gemmux_code code = (gemmux_code)x->format.scale;
    int64_t index = x->format.scaling == GEMMUX_SCALING_ROW ? row : 0;
    return (float)gemmux_code_decode(code, gemmux_code_load(code, x->scales, index));
}

/* One row of floats as int8, with a scale for each x_group. */
static void quantise_row(const job *j, gemmux_code code, const char *from, int64_t cols, char *to,
                         gemmux_x_segment *segments)
{
    const blocking *b = j->b;
    int64_t width = gemmux_code_bits(code) / 8, segment = 0;
    for (int64_t k = 0; k < cols; k += b->x_group) {
        int64_t length = smaller(b->x_group, cols - k);
        float scale = j->level->quantise(code, from + k * width, length, to + k);
        for (; segment < b->segments && segment * b->segment < k + b->x_group; segment++)
            segments[segment].scale = scale;
    }
}

/* F16: where the inverse of a row's power of two is. */
static float *power_of_row(const job *j, int64_t row)
{
    return (float *)(void *)(j->sums + (row + 1) * j->b->sums_stride - (int64_t)sizeof(float));
}

static void widen_row(void *context, size_t row)
{
    const job *j = context;
    const gemmux_tensor *x = &j->call->x;
    char *to = j->x + (int64_t)row * j->b->x_stride;
    const char *from = (const char *)x->codes + (int64_t)row * gemmux_row_stride(x);
    bool plain = x->format.scaling == GEMMUX_SCALING_NONE, int8 = j->level->x == GEMMUX_PANEL_INT8;
    gemmux_code code = (gemmux_code)x->format.element;
    void *sums = j->sums + (int64_t)row * j->b->sums_stride;
    if (int8 && plain) {
        quantise_row(j, code, from, x->cols, to, sums);
    } else if (int8) {
        j->level->widen(code, from, x->cols, to);
        for (int64_t i = 0; i < j->b->segments; i++)
            ((gemmux_x_segment *)sums)[i].scale = scale_of_row(x, (int64_t)row);
    } else if (j->level->x == GEMMUX_PANEL_F16) {
        gemmux_code w = (gemmux_code)j->b->panel.format.element;
        *power_of_row(j, (int64_t)row) = j->level->fit_x(w, from, x->cols, to);
    } else if (plain) {
        j->level->widen(code, from, x->cols, to);
    } else { /* f32 levels take any x */
        gemmux_tensor_row_f32(x, 0, (int64_t)row, (float *)(void *)to);
    }
    if (!int8) { /* there they pad, because they reorder */
        int64_t width = 4 / k_per_lane(j->level), used = x->cols * width;
        memset(to + used, 0, (size_t)(j->b->panel.k * width - used));
    }
    if (needs_sums(j->level, j->b->panel.format))
        j->level->sum(to, j->b->panel.k, j->b->segment, sums);
}

static void widen_x(job *j)
{
    int64_t rows = j->call->x.rows;
    bool large = rows * j->b->panel.k > 64 << 10;
    gemmux_parallel(large ? j->call->threads : NULL, widen_row, j, (size_t)rows);
}

/* ------------------------------------------------------------------------- scales and decoding --
 */

static void decode_scales(const job *j, uint32_t flags, const uint8_t *from, int64_t vectors,
                          float *to)
{
    gemmux_code code = (gemmux_code)j->b->panel.format.scale;
    if (!(flags & GEMMUX_PANEL_WIDE_SCALE)) {
        j->level->scales(code, from, vectors * GEMMUX_STRIP, to);
        return;
    }
    for (int64_t i = 0; i < vectors * GEMMUX_STRIP; i++)
        to[i] = (float)gemmux_code_decode(code, gemmux_code_load(code, from, i));
}

/* What is subtracted from unsigned int8 codes when the format itself has no zero point. */
static int32_t code_bias(gemmux_format w)
{
    if (w.zero == GEMMUX_ZERO_MIN)
        return 0;
    return w.element == GEMMUX_CODE_INT8 ? 128 : w.element == GEMMUX_CODE_INT4 ? 8 : 12;
}

/* Of the format, or of unsigned codes. */
static bool has_points(const job *j)
{
    return j->b->panel.format.zero == GEMMUX_ZERO_POINT ||
           (j->level->x == GEMMUX_PANEL_INT8 && !j->level->signed_codes);
}

/* Reads group `group` of a strip, `vectors` groups on. */
static void decode_vectors(const job *j, uint32_t flags, const uint8_t *strip, int64_t group,
                           int64_t vectors, const slot *s, int64_t at)
{
    const gemmux_panel *panel = &j->b->panel;
    int64_t count = vectors * GEMMUX_STRIP, to = at * GEMMUX_STRIP;
    gemmux_zero zero = (gemmux_zero)panel->format.zero;
    const uint8_t *zeros = strip + panel->zeros_at + group * GEMMUX_STRIP * panel->zero_bytes;
    decode_scales(j, flags, strip + group * GEMMUX_STRIP * panel->scale_bytes, vectors,
                  s->scales + to);
    if (zero == GEMMUX_ZERO_MIN)
        decode_scales(j, flags, zeros, vectors, s->mins + to);
    if (zero == GEMMUX_ZERO_POINT)
        j->level->points(zeros, count, s->points + to);
    else if (has_points(j))
        for (int64_t i = 0; i < count; i++)
            s->points[to + i] = code_bias(panel->format);
}

/* The codes of k [k, k + length) of a strip, without scales. */
static gemmux_strip describe_strip(const job *j, const uint8_t *strip, int64_t k, int64_t length)
{
    const gemmux_panel *panel = &j->b->panel;
    return (gemmux_strip){
        .codes = strip + panel->codes_at + k * GEMMUX_STRIP * panel->code_bits / 8,
        .code = panel->format.element,
        .zero = panel->format.zero,
        .scale = panel->format.scale,
        .k = length,
        .segment = panel->groups ? j->b->segment : length,
    };
}

/* Decodes the scales of a run from k on to vector `at`. */
static void open_scales(const job *j, uint32_t flags, const uint8_t *strip, int64_t k,
                        const slot *s, int64_t at, gemmux_strip *run)
{
    const gemmux_panel *panel = &j->b->panel;
    if (!panel->groups)
        return;
    int64_t segments = (run->k + run->segment - 1) / run->segment;
    if (run->segment == panel->group)
        decode_vectors(j, flags, strip, k / panel->group, segments, s, at);
    else
        for (int64_t i = 0; i < segments; i++)
            decode_vectors(j, flags, strip, (k + i * run->segment) / panel->group, 1, s, at + i);
    run->scales = s->scales + at * GEMMUX_STRIP;
    if (has_points(j))
        run->points = s->points + at * GEMMUX_STRIP;
    if (panel->format.zero == GEMMUX_ZERO_MIN)
        run->mins = s->mins + at * GEMMUX_STRIP;
}

/* The scales that fit_w made are one segment, whatever part of k the run is. */
static void open_row_scales(const job *j, int64_t matrix, int64_t strip, const slot *s, int64_t at,
                            gemmux_strip *run)
{
    if (!j->b->w_scales)
        return;
    const float *from = j->b->w_scales + (matrix * j->b->panel.strips + strip) * GEMMUX_STRIP;
    float *to = s->scales + at * GEMMUX_STRIP;
    memcpy(to, from, GEMMUX_STRIP * sizeof *to);
    run->scales = to;
}

/* Decodes one strip of e4m3 or e5m2 in plain C: the fast decoders do not know infinite and NaN
 * codes. INT8 levels do not meet these. */
static void decode_plain(const job *j, const uint8_t *strip, int64_t k_first, int64_t length,
                         bool fold, void *to)
{
    const gemmux_panel *panel = &j->b->panel;
    gemmux_format f = panel->format;
    const uint8_t *codes = strip + panel->codes_at;
    for (int64_t i = 0; i < length * GEMMUX_STRIP; i++) {
        int64_t k = k_first + i / GEMMUX_STRIP, r = i % GEMMUX_STRIP;
        uint32_t lane;
        memcpy(&lane, codes + (k / 4 * GEMMUX_STRIP + r) * 4, 4);
        static const int shift[] = {0, 16, 8, 24}; /* positions of k % 4, see panel16.h */
        double value = gemmux_code_decode((gemmux_code)f.element, lane >> shift[k % 4] & 255);
        int64_t at = k / panel->group * GEMMUX_STRIP + r;
        if (fold)
            value *= gemmux_code_decode((gemmux_code)f.scale,
                                        gemmux_code_load((gemmux_code)f.scale, strip, at));
        if (j->level->x == GEMMUX_PANEL_F32) {
            ((float *)to)[i] = (float)value;
        } else { /* exact */
            int64_t pair = (i / GEMMUX_STRIP / 2 * GEMMUX_STRIP + r) * 2 + i / GEMMUX_STRIP % 2;
            ((uint16_t *)to)[pair] = j->level->x == GEMMUX_PANEL_F16
                                         ? (uint16_t)gemmux_code_encode(GEMMUX_CODE_F16, value)
                                         : gemmux_bf16_from_f32((float)value);
        }
    }
}

/* Is code x scale exact in the level's operands, so that it can be applied while decoding? */
static bool can_fold(const job *j, uint32_t flags)
{
    gemmux_code scale = (gemmux_code)j->b->panel.format.scale;
    if (!j->b->panel.groups || j->level->x == GEMMUX_PANEL_INT8 || j->level->x == GEMMUX_PANEL_F16)
        return false;
    return j->level->x == GEMMUX_PANEL_F32 ||
           (!(flags & GEMMUX_PANEL_WIDE_SCALE) &&
            (scale == GEMMUX_CODE_UE8M0 || scale == GEMMUX_CODE_UE4M3));
}

/* Packed codes that are operands as they stand, or all but. */
static bool is_dense(const job *j)
{
    gemmux_code code = (gemmux_code)j->b->panel.format.element;
    return (j->level->x == GEMMUX_PANEL_F32 && code == GEMMUX_CODE_F32) ||
           (j->level->x == GEMMUX_PANEL_BF16 && code == GEMMUX_CODE_BF16) ||
           (j->level->flips && code == GEMMUX_CODE_INT8);
}

static bool is_plain(const job *j, uint32_t flags)
{
    return j->level->x != GEMMUX_PANEL_INT8 && (flags & GEMMUX_PANEL_NONFINITE);
}

/* -------------------------------------------------------------------------------------- items --
 */

static int64_t x_row_of(const gemmux_group *group, int64_t i)
{
    return group->x_rows ? group->x_rows[i] : i;
}

static int64_t y_row_of(const gemmux_group *group, int64_t i)
{
    return group->y_rows ? group->y_rows[i] : i;
}

static int64_t columns_of(const job *j, int64_t strip, int64_t strips)
{
    return smaller(strips * GEMMUX_STRIP, j->b->panel.rows - strip * GEMMUX_STRIP);
}

/* Bytes of y that come of so many columns of sums. */
static int64_t y_bytes(const gemmux_call *call, int64_t columns)
{
    int64_t width = call->y_format.id == GEMMUX_F32 ? 4 : 2;
    return call->problem->epilogue & GEMMUX_EPILOGUE_SWIGLU ? columns / 2 * width : columns * width;
}

static const char *y_at(const gemmux_call *call, int64_t row, int64_t column)
{
    return (const char *)call->y + row * call->y_row_bytes + y_bytes(call, column);
}

static void finish_row(const job *j, const gemmux_group *group, int64_t i, int64_t strip,
                       int64_t strips, float *sums)
{
    const gemmux_panel *panel = &j->b->panel;
    float factor =
        panel->format.two_level ? ((const float *)j->call->w->data)[group->expert] : 1.0f;
    bool doubled = j->level->x == GEMMUX_PANEL_INT8 || j->level->x == GEMMUX_PANEL_F16;
    if (doubled && panel->format.element == GEMMUX_CODE_E2M1)
        factor *= 0.5f;
    if (j->level->x == GEMMUX_PANEL_F16)
        factor *= *power_of_row(j, x_row_of(group, i));
    j->level->finish(j->call, group->expert, y_row_of(group, i), strip * GEMMUX_STRIP,
                     columns_of(j, strip, strips), factor, sums);
}

/* A pass may write all its rows, whatever their number. */
enum { PASS_SUMS = GEMMUX_STREAM_ROWS * GEMMUX_STRIP };

/* Rows [first, last) of a group times k [k, k + run->k) of one strip, added to out. */
static void stream_pass(const job *j, const gemmux_group *group, int first, int last, int64_t k,
                        const gemmux_strip *run, float *out)
{
    const blocking *b = j->b;
    const void *x[GEMMUX_STREAM_ROWS], *sums[GEMMUX_STREAM_ROWS];
    for (int i = 0; i < GEMMUX_STREAM_ROWS; i++) {
        int64_t row = x_row_of(group, smaller(first + i, last - 1));
        x[i] = j->x + row * b->x_stride + k * 4 / k_per_lane(j->level);
        sums[i] = j->sums + row * b->sums_stride + k / b->segment * sum_bytes(j->level);
    }
    j->level->stream(run, last - first, x, sums, out);
}

/* One row can do without decoding scales first, where the level has a loop for it. */
static bool reads_stored(const job *j, uint32_t flags, int rows)
{
    const gemmux_panel *panel = &j->b->panel;
    int64_t group = panel->format.scale == GEMMUX_CODE_UE8M0   ? 32
                    : panel->format.scale == GEMMUX_CODE_UE4M3 ? 16
                                                               : 0;
    return j->level->reads_stored && rows == 1 && panel->format.element == GEMMUX_CODE_E2M1 &&
           panel->group == group && j->b->segment == group && !(flags & GEMMUX_PANEL_WIDE_SCALE);
}

/* Few rows: one strip after the other, in the order of memory; further passes over a part of a
 * strip find it in the cache. */
static void stream_item(const job *j, const gemmux_group *group, int64_t first, int64_t last,
                        const slot *s)
{
    const blocking *b = j->b;
    uint32_t flags = gemmux_panel_flags(&b->panel, j->call->w, group->expert);
    bool stored = reads_stored(j, flags, group->row_count);
    int rows = group->row_count, most = j->level->pass_rows, passes = (rows + most - 1) / most;
    for (int64_t strip = first; strip < last; strip++) {
        const uint8_t *data = gemmux_panel_strip(&b->panel, j->call->w, group->expert, strip);
        memset(s->c, 0, (size_t)passes * PASS_SUMS * sizeof *s->c);
        int64_t block = stored ? b->panel.k : passes == 1 ? b->stream_k : b->pass_k;
        for (int64_t k = 0; k < b->panel.k; k += block) {
            int64_t length = smaller(block, b->panel.k - k);
            gemmux_strip run = describe_strip(j, data, k, length);
            if (!stored)
                open_scales(j, flags, data, k, s, 0, &run);
            open_row_scales(j, group->expert, strip, s, 0, &run);
            run.stored = stored ? data : NULL;
            run.lead = j->workers == 1 ? 4096 : 0;
            for (int pass = 0; pass < passes; pass++)
                stream_pass(j, group, rows * pass / passes, rows * (pass + 1) / passes, k, &run,
                            s->c + pass * PASS_SUMS);
        }
        for (int pass = 0, i = 0; pass < passes; pass++)
            for (float *sums = s->c + pass * PASS_SUMS; i < rows * (pass + 1) / passes; i++) {
                finish_row(j, group, i, strip, 1, sums);
                sums += GEMMUX_STRIP;
            }
    }
}

/* An item of many rows: rows [first, last) of a group times some strips. */
typedef struct piece {
    const gemmux_group *group;
    int64_t strip, strips, first, last;
    const uint8_t *next; /* the first strip of as many that the same worker takes next, or NULL */
} piece;

/* Packed weights that a worker reads next: so many bytes of each strip. */
typedef struct coming {
    const uint8_t *w;
    int64_t bytes;
} coming;

/* After k [k, k + panel_k) of the strips at `data`. */
static coming what_comes(const job *j, const piece *p, const uint8_t *data, int64_t k)
{
    const gemmux_panel *panel = &j->b->panel;
    int64_t most = j->b->ahead_bytes, at = k + j->b->panel_k;
    int64_t from = panel->codes_at + at * GEMMUX_STRIP * panel->code_bits / 8;
    if (at < panel->k)
        return (coming){data + from, smaller(most, panel->strip_bytes - from)};
    return (coming){p->next, p->next ? smaller(most, panel->strip_bytes) : 0};
}

/* What tile i of `tiles` fetches beside its products. The last tiles do it, at a pace that memory
 * keeps: rows of x would push out of L2 what is fetched earlier. */
static void plan_ahead(const job *j, coming next, int64_t i, int64_t tiles, gemmux_tile *tile)
{
    if (next.bytes <= 0)
        return;
    int64_t fetches = (tile->steps + GEMMUX_FETCH_STEPS - 1) / GEMMUX_FETCH_STEPS;
    int64_t lines = (next.bytes + 63) / 64;
    tile->ahead_lines = (lines + fetches * tiles - 1) / (fetches * tiles);
    int64_t of_tile = fetches * tile->ahead_lines;
    int64_t first = tiles - (lines + of_tile - 1) / of_tile;
    tile->ahead = i >= first ? next.w + (i - first) * of_tile * 64 : NULL;
    tile->ahead_stride = j->b->panel.strip_bytes;
}

/* The rows of a piece times one decoded panel, added to c or, with `done`, finished at once: while
 * their sums and y are in L1. */
static void multiply_rows(const job *j, const piece *p, int64_t k, bool done, coming next,
                          const gemmux_tile *panel_tile, float *c)
{
    const blocking *b = j->b;
    int64_t count = p->last - p->first;
    int64_t blocks = (count + j->level->tile_rows - 1) / j->level->tile_rows;
    bool kept = b->panel.k > b->panel_k; /* c, from one panel to the next */
    for (int64_t i = 0; i < blocks; i++) {
        int64_t top = count * i / blocks;
        gemmux_tile tile = *panel_tile;
        const void *x[GEMMUX_TILE_ROWS];
        const char *sums[GEMMUX_TILE_ROWS], *y[GEMMUX_TILE_ROWS];
        tile.rows = (int)(count * (i + 1) / blocks - top);
        tile.c = kept ? c + top * GEMMUX_TILE_COLUMNS : c;
        tile.x = x;
        tile.sums = sums;
        tile.y = done ? y : NULL;
        for (int r = 0; r < tile.rows; r++) {
            int64_t row = x_row_of(p->group, p->first + top + r);
            x[r] = j->x + row * b->x_stride + k * 4 / k_per_lane(j->level);
            sums[r] = j->sums + row * b->sums_stride + k / b->segment * sum_bytes(j->level);
            y[r] = y_at(j->call, y_row_of(p->group, p->first + top + r), p->strip * GEMMUX_STRIP);
        }
        plan_ahead(j, next, i, blocks, &tile);
        j->level->multiply(&tile);
        for (int r = 0; done && r < tile.rows; r++)
            finish_row(j, p->group, p->first + top + r, p->strip, p->strips,
                       tile.c + r * GEMMUX_TILE_COLUMNS);
    }
}

/* Without k all sums are 0. */
static void finish_nothing(const job *j, const piece *p, const slot *s)
{
    for (int64_t i = p->first; i < p->last; i++) {
        memset(s->c, 0, GEMMUX_TILE_COLUMNS * sizeof *s->c);
        finish_row(j, p->group, i, p->strip, p->strips, s->c);
    }
}

/* Many rows: strips decoded k block by k block, each used for all rows of the piece. */
static void panel_item(const job *j, const piece *p, const slot *s)
{
    const blocking *b = j->b;
    int32_t expert = p->group->expert;
    uint32_t flags = gemmux_panel_flags(&b->panel, j->call->w, expert);
    bool fold = can_fold(j, flags), dense = is_dense(j);
    int64_t vectors = b->panel_k / b->segment, lane = k_per_lane(j->level);
    const uint8_t *data = gemmux_panel_strip(&b->panel, j->call->w, expert, p->strip);
    if (!b->panel.k)
        finish_nothing(j, p, s);
    for (int64_t k = 0; k < b->panel.k; k += b->panel_k) {
        int64_t length = smaller(b->panel_k, b->panel.k - k);
        gemmux_tile tile = {
            .strips = (int)p->strips,
            .w = s->panel,
            .w_stride = strip_pitch(j->level, b),
            .stride = vectors * GEMMUX_STRIP,
            .y_bytes = y_bytes(j->call, columns_of(j, p->strip, p->strips)),
        };
        gemmux_strip run = {0};
        for (int64_t i = p->strips - 1; i >= 0; i--) { /* run ends as that of strip 0 */
            const uint8_t *from = data + i * b->panel.strip_bytes;
            uint8_t *to = s->panel + i * tile.w_stride;
            run = describe_strip(j, from, k, length);
            open_scales(j, flags, from, k, s, i * vectors, &run);
            open_row_scales(j, expert, p->strip + i, s, i * vectors, &run);
            if (is_plain(j, flags))
                decode_plain(j, from, k, length, fold, to);
            else if (!dense)
                j->level->decode(&run, fold, to);
        }
        if (dense) {
            tile.w = data + b->panel.codes_at + k * GEMMUX_STRIP * 4 / lane;
            tile.w_stride = b->panel.strip_bytes;
            tile.flip = j->level->x == GEMMUX_PANEL_INT8;
        }
        tile.first = k == 0;
        tile.steps = length / lane;
        tile.segment = tile.steps;
        if (!fold && run.scales) {
            tile.segment = run.segment / lane;
            tile.scales = run.scales;
            tile.mins = run.mins;
        }
        if (j->level->x == GEMMUX_PANEL_INT8) /* elsewhere decode has applied them */
            tile.points = run.points;
        multiply_rows(j, p, k, k + b->panel_k >= b->panel.k, what_comes(j, p, data, k), &tile,
                      s->c);
    }
}

/* How one group is cut: streams along n, panels along n and rows. */
typedef struct cut {
    bool stream;
    int64_t strips; /* of an item */
    int64_t across, down;
    int64_t rows;
} cut;

static cut cut_group(const job *j, const gemmux_group *group)
{
    const blocking *b = j->b;
    uint32_t flags = gemmux_panel_flags(&b->panel, j->call->w, group->expert);
    int most = is_dense(j) ? j->level->stream_dense : j->level->stream_rows;
    cut c = {.stream = group->row_count <= most && !is_plain(j, flags)};
    if (c.stream) {
        c.strips = 1;
        c.rows = group->row_count;
    } else {
        c.strips = j->level->tile_strips;
        c.rows = b->rows;
        int64_t panels = (b->panel.strips + c.strips - 1) / c.strips;
        while (c.rows > 8 * j->level->tile_rows && b->slots > 1 &&
               panels * ((group->row_count + c.rows - 1) / c.rows) < 4 * b->slots)
            c.rows /= 2;
    }
    c.across = (b->panel.strips + c.strips - 1) / c.strips;
    c.down = (group->row_count + c.rows - 1) / c.rows;
    return c;
}

static int64_t items_of(const cut *c)
{
    return c->across * c->down;
}

static piece piece_of(const job *j, const gemmux_group *group, const cut *c, int64_t item)
{
    int64_t strip = item / c->down * c->strips, row = item % c->down * c->rows;
    return (piece){
        .group = group,
        .strip = strip,
        .strips = smaller(c->strips, j->b->panel.strips - strip),
        .first = row,
        .last = smaller(row + c->rows, group->row_count),
    };
}

/* Items [first, last) of one group. */
static void run_group(const job *j, const gemmux_group *group, const cut *c, int64_t first,
                      int64_t last, const slot *s)
{
    if (c->stream) {
        stream_item(j, group, first, last, s);
        return;
    }
    for (int64_t item = first; item < last; item++) {
        piece p = piece_of(j, group, c, item);
        if (item + 1 < last) {
            piece next = piece_of(j, group, c, item + 1);
            if (next.strip != p.strip && next.strips == p.strips)
                p.next = gemmux_panel_strip(&j->b->panel, j->call->w, group->expert, next.strip);
        }
        panel_item(j, &p, s);
    }
}

/* Items [first, last) of all groups' items, counted through. */
static void run_items(const job *j, int64_t first, int64_t last, const slot *s)
{
    for (int g = 0; g < j->call->group_count && last > 0; g++) {
        const gemmux_group *group = &j->call->groups[g];
        if (group->row_count <= 0)
            continue;
        cut c = cut_group(j, group);
        int64_t count = items_of(&c), from = first > 0 ? first : 0, to = smaller(last, count);
        if (from < to)
            run_group(j, group, &c, from, to, s);
        first -= count;
        last -= count;
    }
}

/* Takes the next run of items: long ones first, which keep to the order of memory, then ever
 * shorter ones, so that workers finish together although some are slower. False: none is left. */
static bool take_items(job *j, int64_t *first, int64_t *last)
{
    int64_t at = atomic_load_explicit(&j->next, memory_order_relaxed);
    do {
        if (at >= j->items)
            return false;
        int64_t share = (j->items - at) / (2 * j->workers);
        *first = at;
        *last = at + (j->workers == 1 ? j->items : share > 1 ? share : 1);
    } while (!atomic_compare_exchange_weak_explicit(&j->next, &at, *last, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

static void work(void *context, size_t worker)
{
    job *j = context;
    const blocking *b = j->b;
    char *at = j->scratch + (int64_t)worker * b->scratch_bytes;
    slot s = {.panel = (uint8_t *)at};
    at += j->level->tile_strips * strip_pitch(j->level, b);
    s.c = (float *)(void *)at;
    s.scales = s.c + b->rows * GEMMUX_TILE_COLUMNS;
    s.mins = s.scales + b->scratch_vectors * GEMMUX_STRIP;
    s.points = (int32_t *)(void *)(s.mins + b->scratch_vectors * GEMMUX_STRIP);
    int64_t first, last;
    while (take_items(j, &first, &last))
        run_items(j, first, last, &s);
}

gemmux_status gemmux_panel_run(const gemmux_panel_level *level, const gemmux_call *call,
                               gemmux_error *error)
{
    const blocking *b = call->state;
    if (call->w->packing != &gemmux_packing_panel16)
        return gemmux_fail(error, GEMMUX_ERROR_PACKING,
                           "weights are packed as %s, the kernel reads panel16",
                           call->w->packing->name);
    int64_t rows = call->x.rows;
    if (rows > b->x_rows || call->workspace_bytes < b->workspace_bytes)
        return gemmux_fail(error, GEMMUX_ERROR_INTERNAL,
                           "panel kernel: more rows or less workspace than it was prepared for");
    job j = {.call = call, .level = level, .b = b, .x = call->workspace};
    j.sums = j.x + rows * b->x_stride;
    j.scratch = j.sums + rows * b->sums_stride;
    for (int g = 0; g < call->group_count; g++)
        if (call->groups[g].row_count > 0) {
            cut c = cut_group(&j, &call->groups[g]);
            j.items += items_of(&c);
        }
    widen_x(&j);
    j.workers = smaller(b->slots, gemmux_threads_count(call->threads));
    gemmux_parallel(call->threads, work, &j, (size_t)smaller(j.workers, j.items));
    return GEMMUX_OK;
}
