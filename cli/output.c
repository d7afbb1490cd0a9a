/* SPDX-License-Identifier: Apache-2.0
 *
 * The terminal: colour only where it is wanted, errors as one sentence, a progress bar that leaves
 * no trace. Tables are table.c's.
 */
#include "cli.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static struct {
    bool json, colour, progress;
    int width;
} output = {.width = 80};

static int terminal_width(void)
{
    struct winsize size;
    const char *columns = getenv("COLUMNS");
    long wanted = columns ? strtol(columns, NULL, 10) : 0;
    if (wanted >= 20 && wanted <= 10000)
        return (int)wanted;
    /* A pager's terminal is still that of stderr. */
    for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++)
        if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20)
            return size.ws_col;
    return 80;
}

void cli_output_open(bool json)
{
    const char *no_colour = getenv("NO_COLOR"), *term = getenv("TERM");
    output.json = json;
    output.colour = !json && isatty(STDOUT_FILENO) && !(no_colour && *no_colour) &&
                    !(term && !strcmp(term, "dumb"));
    output.progress = isatty(STDERR_FILENO) && !(term && !strcmp(term, "dumb"));
    output.width = terminal_width();
}

int cli_width(void)
{
    return output.width;
}

int cli_exit_code(gemmux_status status)
{
    switch (status) {
    case GEMMUX_OK:
        return CLI_DONE;
    case GEMMUX_ERROR_ARGUMENT:
    case GEMMUX_ERROR_INPUT:
        return CLI_BAD_INPUT;
    case GEMMUX_ERROR_NO_KERNEL:
        return CLI_NO_KERNEL;
    case GEMMUX_ERROR_VERIFY:
        return CLI_WRONG;
    case GEMMUX_ERROR_IO:
    case GEMMUX_ERROR_MEMORY:
    case GEMMUX_ERROR_PACKING:
    case GEMMUX_ERROR_LIBRARY:
    case GEMMUX_ERROR_DEVICE:
    case GEMMUX_ERROR_INTERNAL:
        break;
    }
    return CLI_FAILED;
}

static void say(const char *format, va_list arguments)
{
    cli_progress(1, 1, "");
    fflush(stdout);
    fputs("gemmux: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
}

int cli_fail(int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(format, arguments);
    va_end(arguments);
    if (output.json) {
        char text[1024];
        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        cli_json_print(json_pack("{s:{s:i,s:o}}", "error", "exit", code, "text",
                                 json_stringn_nocheck(text, strlen(text))));
    }
    return code;
}

void *cli_must(void *pointer)
{
    if (!pointer) {
        fputs("gemmux: out of memory\n", stderr);
        exit(CLI_FAILED);
    }
    return pointer;
}

int cli_fail_error(const gemmux_error *error)
{
    return cli_fail(cli_exit_code(error->status), "%s", error->text);
}

void cli_note(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(format, arguments);
    va_end(arguments);
}

static void print_styled(cli_style style, const char *text, size_t length)
{
    static const char *const codes[] = {
        [CLI_BOLD] = "1", [CLI_DIM] = "2", [CLI_GOOD] = "32", [CLI_BAD] = "31", [CLI_WARN] = "33"};
    bool coloured = output.colour && style != CLI_PLAIN && length;
    if (coloured)
        printf("\033[%sm", codes[style]);
    fwrite(text, 1, length, stdout);
    if (coloured)
        fputs("\033[0m", stdout);
}

void cli_print(cli_style style, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    print_styled(style, text, strlen(text));
}

void cli_wrap(cli_style style, int indent, const char *text)
{
    int room = output.width - indent > 20 ? output.width - indent : 20;
    while (*text) {
        size_t length = strlen(text), cut = length;
        if (length > (size_t)room) {
            cut = (size_t)room;
            while (cut && text[cut] != ' ')
                cut--;
            if (!cut) /* one long word */
                cut = strcspn(text, " ");
        }
        printf("%*s", indent, "");
        print_styled(style, text, cut);
        putchar('\n');
        text += cut;
        text += strspn(text, " ");
    }
}

static struct {
    int64_t done, total;
    char what[128];
    bool shown;
} bar = {.total = 1};

static void draw_bar(const char *what)
{
    enum { BAR = 24 };
    int filled = (int)(bar.done * BAR / bar.total), room = output.width - BAR - 11;
    fprintf(stderr, "\r[%.*s%*s] %3d %%  %.*s\033[K", filled, "########################",
            BAR - filled, "", (int)(bar.done * 100 / bar.total), room > 0 ? room : 0, what);
    fflush(stderr);
    bar.shown = true;
}

static void erase_bar(void)
{
    if (!bar.shown)
        return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    bar.shown = false;
}

void cli_progress(int64_t done, int64_t total, const char *what)
{
    if (!output.progress)
        return;
    bar.done = done < total ? done : 0;
    bar.total = total;
    snprintf(bar.what, sizeof bar.what, "%s", done < total ? what : "");
    if (done < total)
        draw_bar(what);
    else
        erase_bar();
}

void cli_progress_aside(const char *what)
{
    if (!output.progress)
        return;
    if (what || *bar.what)
        draw_bar(what ? what : bar.what);
    else
        erase_bar();
}

/* ----------------------------------------------------------------------------------- numbers -- */

const char *cli_bytes(int64_t bytes, char *buffer, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    int unit = 0;
    while (value >= 1024 && unit < 4) {
        value /= 1024;
        unit++;
    }
    snprintf(buffer, size, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return buffer;
}

/* Three significant digits, without an exponent where it is readable. */
const char *cli_number(double value, char *buffer, size_t size)
{
    double magnitude = fabs(value);
    if (!isfinite(value))
        snprintf(buffer, size, "-");
    else if (value == 0)
        snprintf(buffer, size, "0");
    else if (magnitude < 0.01 || magnitude >= 1e7)
        snprintf(buffer, size, "%.1e", value);
    else
        snprintf(buffer, size, "%.*f", magnitude >= 100 ? 0 : magnitude >= 10 ? 1 : 2, value);
    return buffer;
}

const char *cli_rate(double per_second, const char *unit, char *buffer, size_t size)
{
    char number[32];
    bool tera = per_second >= 1e12;
    snprintf(buffer, size, "%s %s%s",
             cli_number(per_second / (tera ? 1e12 : 1e9), number, sizeof number), tera ? "T" : "G",
             unit);
    return buffer;
}

const char *cli_time(double us, char *buffer, size_t size)
{
    char number[32];
    double scale = us >= 1e6 ? 1e6 : us >= 1e3 ? 1e3 : 1;
    snprintf(buffer, size, "%s %s", cli_number(us / scale, number, sizeof number),
             us >= 1e6   ? "s"
             : us >= 1e3 ? "ms"
                         : "us");
    return buffer;
}
