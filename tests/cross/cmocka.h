/* SPDX-License-Identifier: Apache-2.0
 *
 * As much of cmocka as the cross-built tests use, for builds where the library is not there. A
 * failure ends the program: under an emulator one is enough.
 */
#ifndef GEMMUX_CROSS_CMOCKA_H
#define GEMMUX_CROSS_CMOCKA_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct CMUnitTest {
    const char *name;
    void (*test)(void **state);
};

#define cmocka_unit_test(function)                                                                 \
    {                                                                                              \
#        function, function                                                                        \
    }
#define fail_msg(...)                                                                              \
    do {                                                                                           \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                            \
        fprintf(stderr, __VA_ARGS__);                                                              \
        fputc('\n', stderr);                                                                       \
        exit(1);                                                                                   \
    } while (0)
#define assert_true(condition)                                                                     \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail_msg("%s", #condition);                                                            \
    } while (0)
#define assert_false(condition)   assert_true(!(condition))
#define assert_non_null(pointer)  assert_true((pointer) != NULL)
#define assert_null(pointer)      assert_true((pointer) == NULL)
#define assert_int_equal(a, b)    assert_true((intmax_t)(a) == (intmax_t)(b))
#define assert_ptr_equal(a, b)    assert_true((const void *)(a) == (const void *)(b))
#define assert_string_equal(a, b) assert_true(strcmp(a, b) == 0)

#define cmocka_run_group_tests(tests, set_up, tear_down)                                           \
    cross_run(tests, sizeof(tests) / sizeof((tests)[0]), set_up, tear_down)

static inline int cross_run(const struct CMUnitTest *tests, size_t count,
                            int (*set_up)(void **state), int (*tear_down)(void **state))
{
    void *state = NULL;
    if (set_up && set_up(&state))
        return 1;
    for (size_t i = 0; i < count; i++) {
        tests[i].test(&state);
        fprintf(stderr, "%s: passed\n", tests[i].name);
    }
    return tear_down ? tear_down(&state) : 0;
}

#endif
