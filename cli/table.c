/* SPDX-License-Identifier: Apache-2.0
 *
 * Tables for any width: columns keep their natural width, and those that do not fit on a line go
 * to a further line of the same row, under a header that is folded in the same way.
 */
#include "cli.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { INDENT = 4, GAP = 2, MAX_COLUMNS = 24 };

typedef struct cell {
    char *text;
    cli_style style;
} cell;

typedef struct row {
    cell cells[MAX_COLUMNS];
    char *remark;
    bool gap; /* before it */
} row;

struct cli_table {
    const cli_column *columns;
    int column_count, row_count, row_room, next;
    row *rows;
    bool gap;
    int width[MAX_COLUMNS]; /* natural; what is left for a wrapped one */
    int line[MAX_COLUMNS];  /* which line of the row it stands on */
};

cli_table *cli_table_new(const cli_column *columns, int count)
{
    cli_table *table = cli_must(calloc(1, sizeof *table));
    table->columns = columns;
    table->column_count = count;
    return table;
}

static char *format_text(const char *format, va_list arguments)
{
    char text[1024];
    vsnprintf(text, sizeof text, format, arguments);
    return cli_must(strdup(text));
}

void cli_cell(cli_table *table, cli_style style, const char *format, ...)
{
    if (table->next == 0) {
        if (table->row_count == table->row_room) {
            table->row_room = table->row_room ? 2 * table->row_room : 32;
            table->rows =
                cli_must(realloc(table->rows, (size_t)table->row_room * sizeof *table->rows));
        }
        table->rows[table->row_count++] = (row){.gap = table->gap};
        table->gap = false;
    }
    va_list arguments;
    va_start(arguments, format);
    cell *at = &table->rows[table->row_count - 1].cells[table->next];
    at->text = format_text(format, arguments);
    at->style = style;
    va_end(arguments);
    table->next = (table->next + 1) % table->column_count;
}

void cli_remark(cli_table *table, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    row *last = &table->rows[table->row_count - 1];
    free(last->remark);
    last->remark = format_text(format, arguments);
    va_end(arguments);
}

void cli_gap(cli_table *table)
{
    table->gap = true;
}

static int natural_width(const cli_table *table, int column)
{
    int width = (int)strlen(table->columns[column].title);
    for (int r = 0; r < table->row_count; r++) {
        int length = (int)strlen(table->rows[r].cells[column].text);
        width = length > width ? length : width;
    }
    return width;
}

/* Fills lines from left to right. A wrapped column takes the rest of its line where that is at
 * least a third of the terminal, else a line of its own. */
static void lay_out(cli_table *table)
{
    int total = cli_width(), used = 0, line = 0;
    for (int c = 0; c < table->column_count; c++) {
        int natural = natural_width(table, c);
        int start = used ? used + GAP : line ? INDENT : 0;
        bool fits = start + natural <= total;
        if (table->columns[c].wrap && total - start >= total / 3)
            fits = true;
        if (!fits && used) {
            line++;
            start = INDENT;
        }
        table->line[c] = line;
        table->width[c] = natural;
        if (table->columns[c].wrap && start + natural > total)
            table->width[c] = total - start > 20 ? total - start : 20;
        used = start + table->width[c];
    }
}

/* How much of `text` goes on a line of `width`. */
static size_t take_words(const char *text, int width)
{
    size_t length = strlen(text), cut = (size_t)width;
    if (length <= cut)
        return length;
    while (cut && text[cut] != ' ')
        cut--;
    return cut ? cut : (size_t)width;
}

static void print_cell(const cli_table *table, int c, const cell *at, bool last)
{
    const char *text = at->text;
    int length = (int)take_words(text, table->width[c]);
    int pad = table->width[c] - length;
    printf("%*s", table->columns[c].right ? pad : 0, "");
    cli_print(at->style, "%.*s", length, text);
    if (!last)
        printf("%*s", table->columns[c].right ? 0 : pad, "");
}

/* What did not fit of a wrapped cell, below it. */
static void print_rest(const cli_table *table, int c, const cell *at, int start)
{
    const char *text = at->text + take_words(at->text, table->width[c]);
    for (text += strspn(text, " "); *text; text += strspn(text, " ")) {
        size_t length = take_words(text, table->width[c]);
        printf("\n%*s", start, "");
        cli_print(at->style, "%.*s", (int)length, text);
        text += length;
    }
}

static void print_row(const cli_table *table, const cell *cells)
{
    int used = 0, wrapped = -1, wrapped_start = 0;
    for (int c = 0; c < table->column_count; c++) {
        bool first = c == 0 || table->line[c] != table->line[c - 1];
        bool last = c + 1 == table->column_count || table->line[c + 1] != table->line[c];
        if (first)
            used = c ? INDENT : 0;
        if (last && !*cells[c].text && !first) { /* no blanks at the end of a line */
            putchar('\n');
            continue;
        }
        printf("%*s", first ? used : GAP, "");
        used += first ? 0 : GAP;
        if (table->columns[c].wrap) {
            wrapped = c;
            wrapped_start = used;
        }
        print_cell(table, c, &cells[c], last);
        used += table->width[c];
        if (last) {
            if (wrapped >= 0 && table->line[wrapped] == table->line[c])
                print_rest(table, wrapped, &cells[wrapped], wrapped_start);
            putchar('\n');
        }
    }
}

static bool same_remark(const cli_table *table, int r)
{
    return r + 1 < table->row_count && table->rows[r + 1].remark && !table->rows[r + 1].gap &&
           !strcmp(table->rows[r].remark, table->rows[r + 1].remark);
}

void cli_table_free(cli_table *table)
{
    for (int r = 0; r < table->row_count; r++) {
        for (int c = 0; c < table->column_count; c++)
            free(table->rows[r].cells[c].text);
        free(table->rows[r].remark);
    }
    free(table->rows);
    free(table);
}

void cli_table_print(cli_table *table)
{
    cell header[MAX_COLUMNS];
    bool titled = false;
    lay_out(table);
    for (int c = 0; c < table->column_count; c++) {
        header[c] = (cell){(char *)(uintptr_t)table->columns[c].title, CLI_BOLD};
        titled |= *table->columns[c].title != 0;
    }
    if (titled && table->row_count)
        print_row(table, header);
    for (int r = 0; r < table->row_count; r++) {
        if (table->rows[r].gap)
            putchar('\n');
        print_row(table, table->rows[r].cells);
        if (table->rows[r].remark && !same_remark(table, r))
            cli_wrap(CLI_DIM, INDENT, table->rows[r].remark);
    }
    cli_table_free(table);
}
