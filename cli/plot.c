/* SPDX-License-Identifier: Apache-2.0
 *
 * The roofline: what memory and arithmetic of this machine allow, and where every candidate lies.
 * gnuplot draws it; it reads a script from a temporary file on its standard input, and prints.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Colours that are told apart by people who see red and green alike (Okabe and Ito). */
static const char *const colours[] = {"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                      "#E69F00", "#56B4E9", "#000000", "#8A6D00"};

/* In single quotes a quote is written twice, and nothing else means anything. */
static void put_quoted(FILE *script, const char *text)
{
    fputc('\'', script);
    for (; *text; text++)
        fputs(*text == '\'' ? "''" : (char[]){*text, 0}, script);
    fputc('\'', script);
}

static double intensity(const cli_measurement *m)
{
    return m->operations / m->bytes;
}

/* One flat roof for each kind of arithmetic that differs; an empty line ends each. */
static void put_roofs(FILE *script, const gemmux_machine *machine, double x_min, double x_max)
{
    static const gemmux_math maths[] = {GEMMUX_MATH_F32, GEMMUX_MATH_BF16, GEMMUX_MATH_INT8};
    double highest = 0;
    fprintf(script, "$roofs << EOD\n");
    for (size_t i = 0; i < sizeof maths / sizeof maths[0]; i++) {
        double peak = machine->peak[maths[i]];
        double ridge = peak / machine->bandwidth;
        if (!(peak > 1.05 * highest))
            continue;
        fprintf(script, "%g %g\n%g %g\n\n", fmin(fmax(ridge, x_min), x_max),
                fmin(peak, x_max * machine->bandwidth) / 1e9, x_max, peak / 1e9);
        highest = peak;
    }
    fprintf(script, "EOD\n");
    highest = 0;
    for (size_t i = 0; i < sizeof maths / sizeof maths[0]; i++) {
        double peak = machine->peak[maths[i]];
        if (!(peak > 1.05 * highest))
            continue;
        fprintf(script,
                "set label '%s %.0f G/s' at %g, %g right offset 0, 0.6 tc rgb '#555555' "
                "font ',10'\n",
                gemmux_math_name(maths[i]), peak / 1e9, x_max * 0.95, peak / 1e9);
        highest = peak;
    }
    double knee = fmin(x_max, highest / machine->bandwidth);
    fprintf(script, "$slope << EOD\n%g %g\n%g %g\nEOD\n", x_min, x_min * machine->bandwidth / 1e9,
            knee, knee * machine->bandwidth / 1e9);
    fprintf(script,
            "set label 'memory %.1f GB/s' at %g, %g left offset 1.5, 0 tc rgb '#555555' font "
            "',10'\n",
            machine->bandwidth / 1e9, x_min * 1.2, x_min * 1.2 * machine->bandwidth / 1e9);
}

static void put_points(FILE *script, const cli_contest *c)
{
    for (int i = 0; i < c->count; i++) {
        fprintf(script, "$k%d << EOD\n", i);
        for (int j = 0; j < c->m_count; j++) {
            const cli_heat *heat = &c->rivals[i].heats[j];
            if (heat->count)
                fprintf(script, "%g %g\n", intensity(&heat->m),
                        heat->m.operations / heat->m.us / 1e3);
        }
        fprintf(script, "EOD\n");
    }
    /* The M of each column of points, at the foot of the picture. */
    for (int j = 0; j < c->m_count; j++) {
        const cli_rival *order[GEMMUX_MAX_KERNELS];
        if (cli_contest_order(c, j, order))
            fprintf(script, "set label 'M=%lld' at first %g, graph 0.02 center font ',10'\n",
                    (long long)c->ms[j], intensity(&order[0]->heats[j].m));
    }
}

static void put_ranges(const cli_contest *c, double *x_min, double *x_max, double *y_min)
{
    *x_min = *y_min = INFINITY;
    *x_max = 0;
    for (int i = 0; i < c->count; i++)
        for (int j = 0; j < c->m_count; j++) {
            const cli_heat *heat = &c->rivals[i].heats[j];
            if (!heat->count)
                continue;
            *x_min = fmin(*x_min, intensity(&heat->m) / 4);
            *x_max = fmax(*x_max, intensity(&heat->m) * 2);
            *y_min = fmin(*y_min, heat->m.operations / heat->m.us / 1e3 / 4);
        }
    const gemmux_machine *machine = &c->session->machine;
    *x_max = fmax(*x_max, 3 * machine->peak[GEMMUX_MATH_INT8] / machine->bandwidth);
}

static void put_script(FILE *script, const cli_contest *c)
{
    const gemmux_machine *machine = &c->session->machine;
    double x_min, x_max, y_min, top = 0;
    char title[320], text[128];
    put_ranges(c, &x_min, &x_max, &y_min);
    for (int i = 0; i < GEMMUX_MATH_COUNT; i++)
        top = fmax(top, machine->peak[i]);
    gemmux_problem_text(&c->problem, text, sizeof text);
    snprintf(title, sizeof title, "%s, %d %s%s", machine->name, machine->cores,
             machine->kind == GEMMUX_CPU ? "thread" : "multiprocessor",
             machine->cores == 1 ? "" : "s");
    fprintf(script, "set terminal svg size 860,560 dynamic background rgb 'white' font "
                    "'sans-serif,12'\nset title ");
    char whole[512];
    /* "linear 512x4096x4096 ..." without the M, which is along the curve */
    const char *by = strchr(text, 'x');
    snprintf(whole, sizeof whole, "%s of %s: %s", gemmux_op_name((gemmux_op)c->problem.op),
             by ? by + 1 : text, title);
    put_quoted(script, whole);
    fprintf(script,
            " noenhanced\nset logscale xy\nset xrange [%g:%g]\nset yrange [%g:%g]\n"
            "set xlabel 'operations / byte that must move'\nset ylabel 'giga-operations / s'\n"
            "set grid lc rgb '#dddddd'\nset key outside right top Left reverse noenhanced\n"
            "set format '%%g'\n",
            x_min, x_max, y_min, top / 1e9 * 2);
    put_roofs(script, machine, x_min, x_max);
    put_points(script, c);
    fprintf(script, "plot $slope w l lw 2 lc rgb '#555555' notitle, $roofs w l lw 2 lc rgb "
                    "'#555555' notitle");
    for (int i = 0; i < c->count; i++) {
        fprintf(script, ", $k%d w lp lw 1.5 pt %d ps 0.8 lc rgb '%s' title ", i, i % 2 ? 5 : 7,
                colours[(size_t)i % (sizeof colours / sizeof colours[0])]);
        put_quoted(script, gemmux_kernel_name(c->rivals[i].kernel));
    }
    fprintf(script, "\n");
}

/* Runs gnuplot on the script; the picture is what it prints. */
static int draw(FILE *script, int picture, const char *path)
{
    char *const arguments[] = {"gnuplot", NULL};
    posix_spawn_file_actions_t actions;
    pid_t child;
    int status = 0;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fileno(script), STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, picture, STDOUT_FILENO);
    int why = posix_spawnp(&child, "gnuplot", &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (why == ENOENT)
        return cli_fail(CLI_FAILED, "--plot needs gnuplot, which is not installed (Debian: "
                                    "apt install gnuplot-nox)");
    if (why)
        return cli_fail(CLI_FAILED, "cannot start gnuplot: %s", strerror(why));
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        return cli_fail(CLI_FAILED, "gnuplot could not draw %s; it says why above", path);
    cli_note("drew %s", path);
    return CLI_DONE;
}

int cli_plot(const cli_contest *c, const char *path)
{
    FILE *script = tmpfile();
    if (!script)
        return cli_fail(CLI_FAILED, "no temporary file for gnuplot: %s", strerror(errno));
    put_script(script, c);
    int picture = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int code = CLI_DONE;
    if (picture < 0)
        code = cli_fail(CLI_FAILED, "--plot %s: %s", path, strerror(errno));
    else if (fflush(script) || fseek(script, 0, SEEK_SET))
        code = cli_fail(CLI_FAILED, "cannot write a script for gnuplot: %s", strerror(errno));
    else
        code = draw(script, picture, path);
    if (picture >= 0 && close(picture) && !code)
        code = cli_fail(CLI_FAILED, "--plot %s: %s", path, strerror(errno));
    if (picture >= 0 && code)
        unlink(path);
    fclose(script);
    return code;
}
