/* SPDX-License-Identifier: Apache-2.0
 *
 * The facts that a device file may state: how each is written and where it goes.
 */
#include "machine_facts.h"

#include "error.h"
#include "machine.h"
#include "nearest.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef gemmux_fact_parser parser;
typedef gemmux_word word;

enum { LINE_LIMIT = 512 }; /* bytes of one line without its comment */

#define CPU          (1u << GEMMUX_CPU)
#define CUDA         (1u << GEMMUX_CUDA)
#define FAIL(p, ...) gemmux_fact_fail(p, (p)->line, __VA_ARGS__)
#define is           gemmux_word_is

gemmux_status gemmux_fact_fail(const parser *p, int line, const char *format, ...)
{
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (!p->source)
        return gemmux_fail(p->error, GEMMUX_ERROR_INPUT, "%s", text);
    /* The end of a long path is what tells two files apart. */
    size_t length = strlen(p->source);
    const char *tail = length > 80 ? p->source + length - 80 : p->source;
    return gemmux_fail(p->error, GEMMUX_ERROR_INPUT, "%s%s:%d: %s", tail == p->source ? "" : "...",
                       tail, line, text);
}

bool gemmux_word_is(word w, const char *text)
{
    return w.length == strlen(text) && !memcmp(w.text, text, w.length);
}

gemmux_status gemmux_fact_split(parser *p, const char *text, size_t length)
{
    if (length > LINE_LIMIT)
        return FAIL(p, "the line has %zu bytes; at most %d fit", length, LINE_LIMIT);
    p->word_count = 0;
    for (size_t i = 0; i < length;) {
        unsigned char c = (unsigned char)text[i];
        if (c == ' ' || c == '\t' || (c == '\r' && i + 1 == length)) {
            i++;
            continue;
        }
        if (p->word_count == GEMMUX_FACT_WORDS)
            return FAIL(p, "the line has more than %d words", GEMMUX_FACT_WORDS);
        word *w = &p->words[p->word_count++];
        for (w->text = text + i; i < length && text[i] != ' ' && text[i] != '\t' &&
                                 !(text[i] == '\r' && i + 1 == length);
             i++)
            if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
                return FAIL(p, "byte 0x%02x in column %zu is not text", (unsigned char)text[i],
                            i + 1);
        w->length = (size_t)(text + i - w->text);
    }
    return GEMMUX_OK;
}

/* ------------------------------------------------------------------------------------- numbers */

/* Plain decimal numbers, whatever the locale: digits, a point, digits, an exponent. At most 17
 * digits and |exponent| <= 30 so that nothing overflows. Returns bytes read, 0 when there is no
 * number. */
static size_t read_number(const char *text, size_t length, double *out)
{
    uint64_t mantissa = 0;
    int digits = 0, scale = 0;
    size_t i = 0;
    bool point = false;
    for (; i < length; i++) {
        if (text[i] == '.' && !point) {
            point = true;
            continue;
        }
        if (text[i] < '0' || text[i] > '9')
            break;
        if (++digits > 17)
            return 0;
        mantissa = mantissa * 10 + (uint64_t)(text[i] - '0');
        scale -= point;
    }
    if (!digits || text[i - 1] == '.')
        return 0;
    if (i + 1 < length && (text[i] == 'e' || text[i] == 'E')) {
        size_t j = i + 1;
        bool minus = text[j] == '-';
        j += text[j] == '-' || text[j] == '+';
        int exponent = 0;
        size_t first = j;
        for (; j < length && text[j] >= '0' && text[j] <= '9'; j++)
            if ((exponent = exponent * 10 + (text[j] - '0')) > 30)
                return 0;
        if (j > first) {
            scale += minus ? -exponent : exponent;
            i = j;
        }
    }
    double value = (double)mantissa;
    *out = scale < 0 ? value / pow(10, -scale) : value * pow(10, scale);
    return i;
}

typedef struct unit {
    const char *name;
    double factor;
} unit;

static const unit byte_units[] = {
    {"B", 1},
    {"KiB", 1024.0},
    {"MiB", 1048576.0},
    {"GiB", 1073741824.0},
    {"TiB", 1099511627776.0},
    {"kB", 1e3},
    {"MB", 1e6},
    {"GB", 1e9},
    {"TB", 1e12},
    {NULL, 0},
};
static const unit bandwidth_units[] = {
    {"B/s", 1}, {"MB/s", 1e6}, {"GB/s", 1e9}, {"TB/s", 1e12}, {"GiB/s", 1073741824.0}, {NULL, 0},
};
static const unit rate_units[] = {
    {"FLOP/s", 1},  {"GFLOP/s", 1e9}, {"TFLOP/s", 1e12}, {"PFLOP/s", 1e15}, {"OP/s", 1},
    {"GOP/s", 1e9}, {"TOP/s", 1e12},  {"POP/s", 1e15},   {NULL, 0},
};
static const unit time_units[] = {{"us", 1}, {"ns", 1e-3}, {"ms", 1e3}, {NULL, 0}};
static const unit percent_units[] = {{"%", 0.01}, {NULL, 0}};

static void list_units(const unit *units, char *buffer, size_t size)
{
    size_t used = 0;
    buffer[0] = '\0';
    for (; units->name; units++) {
        int n = snprintf(buffer + used, size - used, "%s%s", used ? ", " : "", units->name);
        if (n < 0 || (size_t)n >= size - used)
            return;
        used += (size_t)n;
    }
}

/* The number in words[at], and its unit in the same word or in the next, which must be the last. */
static gemmux_status quantity(parser *p, int at, const unit *units, double low, double high,
                              double *out)
{
    char known[96];
    list_units(units, known, sizeof known);
    if (at >= p->word_count)
        return FAIL(p, "%s has no value: write '%s'", p->key->name, p->key->usage);
    word number = p->words[at];
    double value = 0;
    size_t used = read_number(number.text, number.length, &value);
    word name = {number.text + used, number.length - used};
    if (!used)
        return FAIL(p, "'%.*s' is not a number (digits, point, exponent): write '%s'",
                    (int)number.length, number.text, p->key->usage);
    if (!name.length && at + 1 < p->word_count)
        name = p->words[++at];
    if (!name.length)
        return FAIL(p, "%s needs a unit: one of %s", p->key->name, known);
    while (units->name && !is(name, units->name))
        units++;
    if (!units->name)
        return FAIL(p, "'%.*s' is not a unit of %s: one of %s", (int)name.length, name.text,
                    p->key->name, known);
    if (at + 1 < p->word_count)
        return FAIL(p, "'%.*s' follows the value of %s: write '%s', and remarks after #",
                    (int)p->words[at + 1].length, p->words[at + 1].text, p->key->name,
                    p->key->usage);
    value *= units->factor;
    if (value < low || value > high)
        return FAIL(p, "%s %.6g is outside %.6g to %.6g (in the base unit): is the unit right?",
                    p->key->name, value, low, high);
    *out = value;
    return GEMMUX_OK;
}

static gemmux_status bytes_between(parser *p, double low, double high, int64_t *out)
{
    double value = 0;
    gemmux_status status = quantity(p, 1, byte_units, low, high, &value);
    if (!status)
        *out = (int64_t)value;
    return status;
}

/* Decimal digits only, at most 9 of them; -1 otherwise. */
static int64_t read_integer(const char *text, size_t length)
{
    int64_t value = 0;
    if (!length || length > 9)
        return -1;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -1;
        value = value * 10 + (text[i] - '0');
    }
    return value;
}

/* "13.1" or "3.11.0" into up to three integers; false unless all of w is used. */
static bool read_version(word w, int64_t part[3], int *count)
{
    *count = 0;
    size_t at = 0;
    while (*count < 3) {
        size_t end = at;
        while (end < w.length && w.text[end] != '.')
            end++;
        part[*count] = read_integer(w.text + at, end - at);
        if (part[(*count)++] < 0)
            return false;
        if (end == w.length)
            return true;
        at = end + 1;
    }
    return false;
}

/* ---------------------------------------------------------------------------------------- keys */

static gemmux_status exactly(parser *p, int count)
{
    if (p->word_count == count + 1)
        return GEMMUX_OK;
    return FAIL(p, "%s takes %d value%s, not %d: write '%s'", p->key->name, count,
                count == 1 ? "" : "s", p->word_count - 1, p->key->usage);
}

/* The rest of the line as it stands; the only value that may hold spaces. */
static gemmux_status read_name(parser *p)
{
    if (p->word_count < 2)
        return FAIL(p, "name has no value: write '%s'", p->key->usage);
    word first = p->words[1], last = p->words[p->word_count - 1];
    size_t length = (size_t)(last.text + last.length - first.text);
    if (length >= sizeof p->machine->name)
        return FAIL(p, "name has %zu bytes; at most %zu fit", length, sizeof p->machine->name - 1);
    memcpy(p->machine->name, first.text, length);
    p->machine->name[length] = '\0';
    return GEMMUX_OK;
}

static gemmux_status read_kind(parser *p)
{
    gemmux_status status = exactly(p, 1);
    if (status)
        return status;
    if (is(p->words[1], "cpu"))
        p->machine->kind = GEMMUX_CPU;
    else if (is(p->words[1], "cuda"))
        p->machine->kind = GEMMUX_CUDA;
    else
        return FAIL(p, "kind '%.*s' is neither 'cpu' nor 'cuda'", (int)p->words[1].length,
                    p->words[1].text);
    return GEMMUX_OK;
}

gemmux_status gemmux_fact_unknown(const parser *p, word w, const char *what,
                                  const char *const *names, int count)
{
    const char *near = gemmux_nearest(w.text, w.length, names, count);
    return FAIL(p, "unknown %s '%.*s'%s%s%s", what, (int)w.length, w.text,
                near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static gemmux_status read_isa(parser *p)
{
    const uint32_t arm_bits = ~UINT32_C(0xffff); /* the list keeps x86 sets below bit 16 */
    const char *names[32];
    int count = 0;
    if (p->word_count < 2)
        return FAIL(p, "isa has no value: write '%s'", p->key->usage);
    for (uint32_t bit = 1; bit; bit <<= 1)
        if (gemmux_isa_name(bit))
            names[count++] = gemmux_isa_name(bit);
    for (int i = 1; i < p->word_count; i++) {
        uint32_t found = 0;
        for (uint32_t bit = 1; bit; bit <<= 1)
            if (gemmux_isa_name(bit) && is(p->words[i], gemmux_isa_name(bit)))
                found = bit;
        if (!found)
            return gemmux_fact_unknown(p, p->words[i], "instruction set", names, count);
        if (p->machine->isa & found)
            return FAIL(p, "instruction set '%s' is named twice", gemmux_isa_name(found));
        p->machine->isa |= found;
    }
    if ((p->machine->isa & arm_bits) && (p->machine->isa & ~arm_bits))
        return FAIL(p, "isa mixes x86 and Arm instruction sets");
    return GEMMUX_OK;
}

static gemmux_status read_cc(parser *p)
{
    int64_t part[3];
    int count = 0;
    gemmux_status status = exactly(p, 1);
    if (status)
        return status;
    if (!read_version(p->words[1], part, &count) || count != 2 || part[0] < 1 || part[0] > 99 ||
        part[1] > 9)
        return FAIL(p, "cc '%.*s' is not a compute capability such as 9.0 or 12.1",
                    (int)p->words[1].length, p->words[1].text);
    p->machine->cc = (int32_t)(part[0] * 10 + part[1]);
    return GEMMUX_OK;
}

static gemmux_status read_cores(parser *p)
{
    gemmux_status status = exactly(p, 1);
    if (status)
        return status;
    int64_t value = read_integer(p->words[1].text, p->words[1].length);
    if (value < 1 || value > 65536)
        return FAIL(p, "cores '%.*s' is not a whole number from 1 to 65536",
                    (int)p->words[1].length, p->words[1].text);
    p->machine->cores = (int32_t)value;
    return GEMMUX_OK;
}

static gemmux_status read_smem(parser *p)
{
    int64_t value = 0;
    gemmux_status status = bytes_between(p, 1024, 16 * 1048576.0, &value);
    if (!status)
        p->machine->smem_bytes = (int32_t)value;
    return status;
}

static gemmux_status read_l1(parser *p)
{
    return bytes_between(p, 1024, 1e9, &p->machine->l1_bytes);
}

static gemmux_status read_l2(parser *p)
{
    return bytes_between(p, 1024, 1e12, &p->machine->l2_bytes);
}

static gemmux_status read_l3(parser *p)
{
    return bytes_between(p, 1024, 1e12, &p->machine->l3_bytes);
}

static gemmux_status read_memory(parser *p)
{
    return bytes_between(p, 1048576.0, 1e15, &p->machine->memory_bytes);
}

static gemmux_status read_bandwidth(parser *p)
{
    return quantity(p, 1, bandwidth_units, 1e6, 1e15, &p->machine->bandwidth);
}

static gemmux_status read_attained(parser *p)
{
    return quantity(p, 1, percent_units, 0.01, 1, &p->attained);
}

static gemmux_status read_launch(parser *p)
{
    return quantity(p, 1, time_units, 0, 1e6, &p->machine->launch_us);
}

static gemmux_status read_peak(parser *p)
{
    const char *names[GEMMUX_MATH_COUNT];
    for (int i = 0; i < GEMMUX_MATH_COUNT; i++)
        names[i] = gemmux_math_name((gemmux_math)i);
    if (p->word_count < 2)
        return FAIL(p, "peak has no value: write '%s'", p->key->usage);
    for (int i = 0; i < GEMMUX_MATH_COUNT; i++) {
        if (!is(p->words[1], names[i]))
            continue;
        if (p->peak_at[i])
            return FAIL(p, "peak %s was already given in line %d", names[i], p->peak_at[i]);
        p->peak_at[i] = p->line;
        return quantity(p, 2, rate_units, 1e6, 1e19, &p->machine->peak[i]);
    }
    return gemmux_fact_unknown(p, p->words[1], "kind of math", names, GEMMUX_MATH_COUNT);
}

/* library NAME VERSION [code | no-code]: the last word says whether a scan found code in it that
 * runs on this device. */
static gemmux_status read_library(parser *p)
{
    const char *names[GEMMUX_LIB_COUNT];
    int count = 0, at = 0, parts = 0;
    int64_t part[3] = {0, 0, 0};
    for (int i = GEMMUX_LIB_NONE + 1; i < GEMMUX_LIB_COUNT; i++)
        names[count++] = gemmux_library_name((gemmux_library_id)i);
    if (p->word_count < 3 || p->word_count > 4)
        return FAIL(p, "library takes a name and a version: write '%s'", p->key->usage);
    for (int i = 0; i < count; i++)
        if (is(p->words[1], names[i]))
            at = i + GEMMUX_LIB_NONE + 1;
    if (!at)
        return gemmux_fact_unknown(p, p->words[1], "library", names, count);
    if (p->library_at[at])
        return FAIL(p, "library %s was already given in line %d", gemmux_library_name(at),
                    p->library_at[at]);
    p->library_at[at] = p->line;
    bool good = read_version(p->words[2], part, &parts);
    if (!good || part[0] > 9999 || (parts > 1 && part[1] > 99) || (parts > 2 && part[2] > 99))
        return FAIL(p, "'%.*s' is not a version such as 13.1 or 3.5.3", (int)p->words[2].length,
                    p->words[2].text);
    gemmux_library *library = &p->machine->library[at];
    library->present = true;
    part[1] = parts > 1 ? part[1] : 0;
    part[2] = parts > 2 ? part[2] : 0;
    /* libcuda counts in its own way: 13000 is 13.0. */
    library->version = (int32_t)(at == GEMMUX_LIB_CUDA ? part[0] * 1000 + part[1] * 10
                                                       : part[0] * 10000 + part[1] * 100 + part[2]);
    if (p->word_count == 4) {
        if (is(p->words[3], "code"))
            library->arch_set = 2;
        else if (is(p->words[3], "no-code"))
            library->arch_set = 1;
        else
            return FAIL(p, "'%.*s' after a library's version is neither 'code' nor 'no-code'",
                        (int)p->words[3].length, p->words[3].text);
    }
    return GEMMUX_OK;
}

const gemmux_fact_key gemmux_fact_keys[GEMMUX_FACT_KEYS] = {
    {"name", CPU | CUDA, false, "name H100 SXM", read_name},
    {"kind", CPU | CUDA, false, "kind cuda", read_kind},
    {"isa", CPU, false, "isa avx512bf16 avx512vnni", read_isa},
    {"cc", CUDA, false, "cc 9.0", read_cc},
    {"cores", CPU | CUDA, false, "cores 132", read_cores},
    {"smem", CUDA, false, "smem 227 KiB", read_smem},
    {"l1", CPU | CUDA, false, "l1 32 KiB", read_l1},
    {"l2", CPU | CUDA, false, "l2 50 MiB", read_l2},
    {"l3", CPU, false, "l3 32 MiB", read_l3},
    {"memory", CPU | CUDA, false, "memory 80 GB", read_memory},
    {"bandwidth", CPU | CUDA, false, "bandwidth 3.35 TB/s", read_bandwidth},
    {"attained", CPU | CUDA, false, "attained 92 %", read_attained},
    {"peak", CPU | CUDA, true, "peak bf16 989 TFLOP/s", read_peak},
    {"launch", CPU | CUDA, false, "launch 2.2 us", read_launch},
    {"library", CPU | CUDA, true, "library cublaslt 13.1", read_library},
};
