/* SPDX-License-Identifier: Apache-2.0
 *
 * The doctor: every cause fires on its own sample and on no other's, logs are read whatever they
 * are cut or wrapped in, the machine's facts are weighed, and bad records are answered with their
 * line.
 */
#include "doctor.h"
#include "probe/ptxas.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static gemmux_doctor *new_doctor(void)
{
    gemmux_doctor *doctor = NULL;
    gemmux_error error = {0};
    if (gemmux_doctor_create(&doctor, &error))
        fail_msg("%s", error.text);
    return doctor;
}

static int diagnose(gemmux_doctor *doctor, const gemmux_machine *machine,
                    const gemmux_finding **findings)
{
    int count = 0;
    assert_int_equal(gemmux_doctor_diagnose(doctor, machine, findings, &count, NULL), GEMMUX_OK);
    return count;
}

static bool found(const gemmux_finding *findings, int count, const char *id)
{
    for (int i = 0; i < count; i++)
        if (!strcmp(findings[i].id, id))
            return true;
    return false;
}

static void each_cause_fires_on_its_sample_alone(void **state)
{
    (void)state;
    gemmux_doctor *names = new_doctor();
    int causes = gemmux_doctor_cause_count(names);
    int wrong = 0;
    assert_true(causes >= 40);
    for (int i = 0; i < causes; i++) {
        const char *sample = gemmux_doctor_cause_sample(names, i);
        const char *id = gemmux_doctor_cause_id(names, i);
        gemmux_doctor *doctor = new_doctor();
        const gemmux_finding *findings;
        gemmux_doctor_feed(doctor, sample, strlen(sample));
        int count = diagnose(doctor, NULL, &findings);
        /* memory-full is what the sample of repack-two-copies ends in, and it is a symptom. */
        int allowed = !strcmp(id, "repack-two-copies") ? 2 : 1;
        if (!found(findings, count, id) || strcmp(findings[0].id, id) || count > allowed) {
            print_error("sample of %s gives %d findings, the first %s, the last %s\n", id, count,
                        count ? findings[0].id : "none", count ? findings[count - 1].id : "none");
            wrong++;
        }
        gemmux_doctor_free(doctor);
    }
    gemmux_doctor_free(names);
    assert_int_equal(wrong, 0);
}

/* A pattern that never matches anything, or that another pattern of the cause makes useless, is a
 * mistake in a record; the longest literal of each must be in a text made from the pattern. */
static void each_pattern_can_match(void **state)
{
    (void)state;
    gemmux_doctor *doctor = new_doctor();
    for (int i = 0; i < doctor->pattern_count; i++) {
        const gemmux_pattern *pattern = &doctor->patterns[i];
        char log[1024];
        size_t used = (size_t)snprintf(log, sizeof log, "before ");
        for (int j = 0; j < pattern->token_count; j++) {
            const gemmux_token *token = &pattern->tokens[j];
            const char *text = token->kind == GEMMUX_TOKEN_LITERAL ? token->text
                               : token->kind == GEMMUX_TOKEN_ANY   ? "some words"
                                                                   : "value";
            size_t length = token->kind == GEMMUX_TOKEN_LITERAL ? token->length : strlen(text);
            assert_true(used + length < sizeof log);
            memcpy(log + used, text, length);
            used += length;
        }
        gemmux_doctor *reader = new_doctor();
        const gemmux_finding *findings;
        gemmux_doctor_feed(reader, log, used);
        diagnose(reader, NULL, &findings);
        if (!reader->patterns[i].matches)
            fail_msg("a pattern of %s does not match '%.*s'", doctor->causes[pattern->cause]->id,
                     (int)used, log);
        gemmux_doctor_free(reader);
    }
    gemmux_doctor_free(doctor);
}

static const char message[] = "Only Hopper swizzling is supported for values";

static void logs_may_be_cut_anywhere(void **state)
{
    (void)state;
    char log[sizeof message + 40];
    size_t size = (size_t)snprintf(log, sizeof log, "first\nsecond\nError: %s\nlast", message);
    for (size_t cut = 0; cut <= size; cut++) {
        gemmux_doctor *doctor = new_doctor();
        const gemmux_finding *findings;
        gemmux_doctor_feed(doctor, log, cut);
        gemmux_doctor_feed(doctor, log + cut, size - cut);
        assert_int_equal(diagnose(doctor, NULL, &findings), 1);
        assert_int_equal(findings[0].line, 3);
        assert_string_equal(findings[0].excerpt,
                            "Error: Only Hopper swizzling is supported for values");
        gemmux_doctor_free(doctor);
    }
}

/* A page about the error, the source line with its text, and the error itself. */
static void the_plainest_line_is_quoted(void **state)
{
    (void)state;
    static const char log[] = "title: Only Hopper swizzling is supported for values, a story\n"
                              "    assert(x, \"Only Hopper swizzling is supported for values\")\n"
                              "        Only Hopper swizzling is supported for values\n"
                              "again: Only Hopper swizzling is supported for values\n";
    gemmux_doctor *doctor = new_doctor();
    const gemmux_finding *findings;
    gemmux_doctor_feed(doctor, log, sizeof log - 1);
    assert_int_equal(diagnose(doctor, NULL, &findings), 1);
    assert_int_equal(findings[0].line, 1);
    assert_int_equal(findings[0].matches, 4);
    assert_int_equal(findings[0].excerpt_line, 3);
    assert_non_null(strstr(findings[0].excerpt, "        Only Hopper"));
    gemmux_doctor_free(doctor);
}

/* What terminals, Windows and editors do to a log. */
static void logs_may_be_dressed(void **state)
{
    (void)state;
    static const char coloured[] =
        "\x1b]0;title\x07\x1b[1;31mOnly Hop\x1b[0mper swizzling \x1b[Kis supported for values\r\n";
    static const char shouted[] = "ONLY HOPPER SWIZZLING IS SUPPORTED FOR VALUES";
    char wide[2 + 2 * sizeof message];
    memcpy(wide, "\xff\xfe", 2);
    for (size_t i = 0; i < sizeof message; i++) {
        wide[2 + 2 * i] = message[i];
        wide[3 + 2 * i] = '\0';
    }
    const struct {
        const char *data;
        size_t size;
    } logs[] = {
        {coloured, sizeof coloured - 1}, {shouted, sizeof shouted - 1}, {wide, sizeof wide}};
    for (size_t i = 0; i < sizeof logs / sizeof logs[0]; i++) {
        gemmux_doctor *doctor = new_doctor();
        const gemmux_finding *findings;
        gemmux_doctor_feed(doctor, logs[i].data, logs[i].size);
        assert_int_equal(diagnose(doctor, NULL, &findings), 1);
        assert_string_equal(findings[0].id, "layout-kernel-disagree");
        gemmux_doctor_free(doctor);
    }
}

/* Large, binary, with the message across the borders of the doctor's window. */
static void large_logs_are_read_to_the_end(void **state)
{
    (void)state;
    static const size_t places[] = {0,      100000, 262100, 262144 - 20, 262144, 524288 - 2048 - 10,
                                    3000000};
    size_t size = 3100000;
    unsigned char *log = malloc(size);
    assert_non_null(log);
    for (size_t p = 0; p < sizeof places / sizeof places[0]; p++) {
        uint32_t random = 12345;
        for (size_t i = 0; i < size; i++) {
            random = random * 1664525u + 1013904223u;
            log[i] = (unsigned char)(random >> 24);
        }
        memcpy(log + places[p], "\n", 1);
        memcpy(log + places[p] + 1, message, sizeof message - 1);
        int64_t line = 1;
        for (size_t i = 0; i <= places[p]; i++)
            line += log[i] == '\n';
        /* 0x1b in the noise could swallow a newline or the message; a log has few of them. */
        for (size_t i = 0; i < size; i++)
            if (log[i] == 0x1b)
                log[i] = ' ';
        gemmux_doctor *doctor = new_doctor();
        const gemmux_finding *findings;
        for (size_t at = 0; at < size; at += 77777)
            gemmux_doctor_feed(doctor, log + at, size - at < 77777 ? size - at : 77777);
        assert_int_equal(diagnose(doctor, NULL, &findings), 1);
        assert_int_equal(findings[0].line, line);
        gemmux_doctor_free(doctor);
    }
    free(log);
}

static void excerpts_are_valid_utf8(void **state)
{
    (void)state;
    static const char log[] = "caf\xc3\xa9 \xff\xc3 \xe2\x82\xac \xed\xa0\x80\x01 "
                              "Only Hopper swizzling is supported for values \xf0\x9f\x98\x80";
    gemmux_doctor *doctor = new_doctor();
    const gemmux_finding *findings;
    gemmux_doctor_feed(doctor, log, sizeof log - 1);
    assert_int_equal(diagnose(doctor, NULL, &findings), 1);
    assert_string_equal(findings[0].excerpt, "caf\xc3\xa9 ?? \xe2\x82\xac ???? Only Hopper "
                                             "swizzling is supported for values ????");
    gemmux_doctor_free(doctor);
}

static void details_go_into_the_sentences(void **state)
{
    (void)state;
    static const char log[] = "ptxas fatal   : Value 'sm_121a' is not defined for option "
                              "'gpu-name'\nRepro command: /usr/lib/triton/bin/ptxas -v x.ptx\n"
                              "Cuda compilation tools, release 12.8, V12.8.93\n";
    gemmux_doctor *doctor = new_doctor();
    const gemmux_finding *findings;
    gemmux_doctor_feed(doctor, log, sizeof log - 1);
    assert_int_equal(diagnose(doctor, NULL, &findings), 1);
    assert_string_equal(findings[0].id, "ptxas-too-old");
    assert_non_null(strstr(findings[0].cause, "sm_121a needs CUDA 12.9 or newer"));
    assert_non_null(strstr(findings[0].cause, "/usr/lib/triton/bin/ptxas"));
    assert_non_null(strstr(findings[0].cause, "release 12.8"));
    assert_int_equal(findings[0].detail_count, 3);
    for (int i = 0; i < findings[0].detail_count; i++)
        if (!strcmp(findings[0].details[i].name, "target"))
            assert_string_equal(findings[0].details[i].value, "sm_121a");
    gemmux_doctor_free(doctor);
}

static const gemmux_evidence *evidence_of(const char *log, const char *device, int *count)
{
    static gemmux_doctor *doctor; /* what it returns lives until the next call */
    static gemmux_machine machine;
    const gemmux_finding *findings;
    gemmux_doctor_free(doctor);
    doctor = log ? new_doctor() : NULL;
    if (!log)
        return NULL;
    if (device)
        assert_int_equal(gemmux_machine_find(device, &machine, NULL), GEMMUX_OK);
    gemmux_doctor_feed(doctor, log, strlen(log));
    assert_true(diagnose(doctor, device ? &machine : NULL, &findings) > 0);
    *count = findings[0].evidence_count;
    return findings[0].evidence;
}

static void facts_confirm_or_contradict(void **state)
{
    (void)state;
    static const char fp4[] = "Your GPU does not have native support for FP4 computation but";
    static const char smem[] = "out of resource: shared memory, Required: 131072, "
                               "Hardware limit: 101376. Reducing";
    int count;
    const gemmux_evidence *evidence = evidence_of(fp4, "rtx-pro-6000", &count);
    assert_int_equal(count, 1);
    assert_int_equal(evidence[0].kind, GEMMUX_EVIDENCE_CONFIRMS);
    assert_non_null(strstr(evidence[0].text, "This GPU is 12.0"));
    evidence = evidence_of(fp4, "h200", &count);
    assert_int_equal(count, 1);
    assert_int_equal(evidence[0].kind, GEMMUX_EVIDENCE_CONTRADICTS);
    evidence = evidence_of(fp4, "bare", &count); /* a CPU has no compute capability */
    assert_int_equal(count, 1);
    assert_int_equal(evidence[0].kind, GEMMUX_EVIDENCE_UNKNOWN);
    evidence = evidence_of(fp4, NULL, &count);
    assert_int_equal(count, 1);
    assert_int_equal(evidence[0].kind, GEMMUX_EVIDENCE_UNKNOWN);
    evidence = evidence_of(smem, "gb10", &count); /* compared with a number from the log */
    assert_int_equal(count, 1);
    assert_int_equal(evidence[0].kind, GEMMUX_EVIDENCE_CONFIRMS);
    assert_non_null(strstr(evidence[0].text, "101376"));
    evidence = evidence_of(smem, "h200", &count);
    assert_int_equal(evidence[0].kind, GEMMUX_EVIDENCE_CONTRADICTS);
    evidence = evidence_of("Value 'sm_121a' is not defined for option 'gpu-name'", "gb10", &count);
    assert_int_equal(evidence[0].kind, GEMMUX_EVIDENCE_CONFIRMS);
    evidence = evidence_of("\n12 Illegal instruction (core dumped) x", "bare", &count);
    assert_int_equal(count, 2);
    assert_int_equal(evidence[0].kind, GEMMUX_EVIDENCE_CONFIRMS);
    evidence = evidence_of("\n12 Illegal instruction (core dumped) x", "sapphire-rapids", &count);
    assert_int_equal(count, 1);
    assert_int_equal(evidence[0].kind, GEMMUX_EVIDENCE_CONTRADICTS);
    evidence_of(NULL, NULL, &count);
}

/* The release stands across the border of the reader's chunks; the tool's format string, which is
 * in the file as well, is no release. */
static void ptxas_is_read_not_run(void **state)
{
    (void)state;
    char directory[] = "/tmp/gemmux-ptxas-XXXXXX", path[64], found[256], log[256];
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/ptxas-blackwell", directory);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fputs("Cuda compilation tools, release %d.%d,", file);
    for (int i = 0; i < (1 << 18) - 60; i++)
        putc(i & 0x7f, file);
    fputs("Cuda compilation tools, release 12.8, V12.8.93", file);
    fclose(file);
    int32_t release = 0;
    assert_true(gemmux_probe_ptxas(path, found, sizeof found, &release));
    assert_string_equal(found, path);
    assert_int_equal(release, 120800);
    gemmux_machine machine;
    assert_int_equal(gemmux_machine_find("bare", &machine, NULL), GEMMUX_OK);
    machine.described = false; /* as this machine would be */
    snprintf(log, sizeof log,
             "Repro command: %s -v\nValue 'sm_121a' is not defined for option "
             "'gpu-name'",
             path);
    gemmux_doctor *doctor = new_doctor();
    const gemmux_finding *findings;
    gemmux_doctor_feed(doctor, log, strlen(log));
    assert_int_equal(diagnose(doctor, &machine, &findings), 1);
    bool said = false;
    for (int i = 0; i < findings[0].evidence_count; i++)
        said |= findings[0].evidence[i].kind == GEMMUX_EVIDENCE_CONFIRMS &&
                strstr(findings[0].evidence[i].text, "12.8 (/tmp/gemmux-ptxas-") != NULL;
    assert_true(said);
    gemmux_doctor_free(doctor);
    remove(path);
    remove(directory);
}

static void roots_come_before_symptoms(void **state)
{
    (void)state;
    static const char log[] =
        "RuntimeError: CUDA error: no kernel image is available for execution on the device\n"
        "RuntimeError: Engine core initialization failed. See root cause above.\n"
        "GPU with CUDA capability sm_120 is not compatible with the current PyTorch installation\n";
    gemmux_doctor *doctor = new_doctor();
    const gemmux_finding *findings;
    gemmux_doctor_feed(doctor, log, sizeof log - 1);
    assert_int_equal(diagnose(doctor, NULL, &findings), 3);
    assert_string_equal(findings[0].id, "torch-without-arch");
    assert_false(findings[0].symptom);
    assert_string_equal(findings[1].id, "no-kernel-image");
    assert_string_equal(findings[2].id, "engine-core-failed");
    gemmux_doctor_free(doctor);
}

static void healthy_logs_have_no_cause(void **state)
{
    (void)state;
    static const char log[] = "INFO Loading weights took 12.1 seconds\nINFO Using FlashInfer\n"
                              "Only Hopper\nswizzling is supported for values\n";
    gemmux_doctor *doctor = new_doctor();
    const gemmux_finding *findings;
    assert_int_equal(diagnose(doctor, NULL, &findings), 0);
    gemmux_doctor_feed(doctor, log, sizeof log - 1);
    assert_int_equal(diagnose(doctor, NULL, &findings), 0);
    gemmux_doctor_free(doctor);
}

/* Anchors without end, none of which leads to a match: bounded work for each pattern. */
static void hostile_logs_end(void **state)
{
    (void)state;
    size_t size = 4 << 20;
    char *log = malloc(size);
    assert_non_null(log);
    static const char bait[] = " is not divisible by weight quantization block_n ";
    for (size_t i = 0; i < size; i++)
        log[i] = bait[i % (sizeof bait - 1)];
    gemmux_doctor *doctor = new_doctor();
    const gemmux_finding *findings;
    gemmux_doctor_feed(doctor, log, size);
    diagnose(doctor, NULL, &findings);
    for (int i = 0; i < doctor->pattern_count; i++)
        assert_true(doctor->patterns[i].failures < 100000);
    gemmux_doctor_free(doctor);
    free(log);
}

#define RECORD                                                                                     \
    "# c\ntitle T\nstage op\nblame build\nmatch a message of {size} bytes\ncause C\n"              \
    "claim true it is\nfix nothing | do it\nref a#1\nsample a message of 12 bytes\n"

static void a_new_cause_is_one_record(void **state)
{
    (void)state;
    gemmux_doctor *doctor = new_doctor();
    gemmux_error error = {0};
    const gemmux_finding *findings;
    static const char record[] = RECORD "map kind size 1 = one {size}\n";
    assert_int_equal(gemmux_doctor_learn(doctor, RECORD, sizeof RECORD - 1, "dir/mine.txt", &error),
                     GEMMUX_OK);
    assert_int_equal(gemmux_doctor_learn(doctor, record, sizeof record - 1, "mine", &error),
                     GEMMUX_ERROR_INPUT);
    assert_non_null(strstr(error.text, "there is a cause 'mine' already"));
    gemmux_doctor_feed(doctor, "a message of 12 bytes", 21);
    assert_int_equal(diagnose(doctor, NULL, &findings), 1);
    assert_string_equal(findings[0].id, "mine");
    assert_string_equal(findings[0].details[0].value, "12");
    assert_int_equal(gemmux_doctor_learn(doctor, RECORD, 10, "late", &error),
                     GEMMUX_ERROR_ARGUMENT);
    gemmux_doctor_free(doctor);
}

static const struct {
    const char *text;
    int line;
    const char *says;
} mistakes[] = {
    {"", 1, "no 'title'"},
    {"title T\n", 2, "no 'cause'"},
    {"title T\ntitle U\n", 2, "already given"},
    {"titel T\n", 1, "did you mean 'title'?"},
    {" title T\n", 1, "goes on with nothing"},
    {"title\n", 1, "has no value"},
    {"stage oops\n", 1, "unknown stage 'oops'"},
    {"blame nobody\n", 1, "unknown blame"},
    {"rank main\n", 1, "unknown rank"},
    {"claim maybe so\n", 1, "unknown claim"},
    {"claim false\n", 1, "says why"},
    {"match short\n", 1, "at least 8 bytes"},
    {"match *a long literal\n", 1, "says nothing"},
    {"match a long literal {Name}\n", 1, "starts the name of a detail"},
    {"match a long literal {a}*\n", 1, "need a literal between"},
    {"match 12345678*1*1*1*1*1*1*1\n", 1, "more than 12 parts"},
    {"fix nothing to do\n", 1, "PRICE | what to do"},
    {"fact confirms cc 12.0 | x\n", 1, "a fact is"},
    {"fact confirms size is 1 | x\n", 1, "a fact is"},
    {"map a b c d\n", 1, "a map is"},
    {RECORD "cause again\n", 11, "already given"},
    {RECORD "fix none | {nothing}\n", 12, "no pattern or map gives the detail {nothing}"},
    {RECORD "map kind of x = y\n", 12, "no pattern gives the detail {of}"},
};

static void bad_records_name_line_and_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        gemmux_doctor *doctor = new_doctor();
        gemmux_error error = {0};
        char at[40];
        int patterns = doctor->pattern_count;
        gemmux_status status = gemmux_doctor_learn(doctor, mistakes[i].text,
                                                   strlen(mistakes[i].text), "d/r.txt", &error);
        snprintf(at, sizeof at, "d/r.txt:%d: ", mistakes[i].line);
        if (status != GEMMUX_ERROR_INPUT || strncmp(error.text, at, strlen(at)) ||
            !strstr(error.text, mistakes[i].says))
            fail_msg("case %zu: %d \"%s\"", i, (int)status, error.text);
        assert_int_equal(doctor->pattern_count, patterns);
        gemmux_doctor_free(doctor);
    }
    gemmux_doctor *doctor = new_doctor();
    assert_int_equal(gemmux_doctor_learn(doctor, "title\0T\n", 8, "r", NULL), GEMMUX_ERROR_INPUT);
    gemmux_doctor_free(doctor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_cause_fires_on_its_sample_alone),
        cmocka_unit_test(each_pattern_can_match),
        cmocka_unit_test(logs_may_be_cut_anywhere),
        cmocka_unit_test(logs_may_be_dressed),
        cmocka_unit_test(the_plainest_line_is_quoted),
        cmocka_unit_test(large_logs_are_read_to_the_end),
        cmocka_unit_test(excerpts_are_valid_utf8),
        cmocka_unit_test(details_go_into_the_sentences),
        cmocka_unit_test(facts_confirm_or_contradict),
        cmocka_unit_test(ptxas_is_read_not_run),
        cmocka_unit_test(roots_come_before_symptoms),
        cmocka_unit_test(healthy_logs_have_no_cause),
        cmocka_unit_test(hostile_logs_end),
        cmocka_unit_test(a_new_cause_is_one_record),
        cmocka_unit_test(bad_records_name_line_and_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
