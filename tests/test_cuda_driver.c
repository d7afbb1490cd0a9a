/* SPDX-License-Identifier: Apache-2.0
 *
 * The driver layer as far as a machine without a GPU shows it: every way to have no device gives a
 * sentence, and a machine with one gives facts that agree with each other.
 */
#include "testing.h"

#include "driver/libcuda.h"
#include "machine.h"

static void test_bad_names(void **state)
{
    (void)state;
    static const char *const names[] = {"cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda:99999999"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        gemmux_machine machine;
        gemmux_error error = {GEMMUX_OK, ""};
        assert_int_equal(gemmux_machine_find(names[i], &machine, &error), GEMMUX_ERROR_INPUT);
        assert_non_null(strstr(error.text, names[i]));
        assert_non_null(strstr(error.text, "cuda:N"));
    }
}

static void check_facts(const gemmux_machine *machine)
{
    const gemmux_cuda_arch *arch = gemmux_cuda_arch_find(machine->cc);
    assert_int_equal(machine->kind, GEMMUX_CUDA);
    assert_false(machine->described);
    assert_string_equal(machine->id, "cuda:0");
    assert_true(machine->cores > 0);
    assert_true(machine->bandwidth > 10e9);
    assert_true(machine->memory_bytes > INT64_C(1) << 30);
    assert_true(machine->library[GEMMUX_LIB_CUDA].version >= GEMMUX_CUDA_MIN_VERSION);
    if (arch && arch->smem_bytes > GEMMUX_SMEM_CONSERVATIVE)
        assert_int_equal(machine->smem_bytes, arch->smem_bytes);
}

static void test_first_device(void **state)
{
    (void)state;
    gemmux_machine machine;
    gemmux_error error = {GEMMUX_OK, ""};
    gemmux_status status = gemmux_machine_find("cuda:0", &machine, &error);
    if (!status) {
        check_facts(&machine);
        return;
    }
    assert_int_equal(status, GEMMUX_ERROR_DEVICE);
    assert_true(strlen(error.text) > 20);
    assert_memory_equal(error.text, "cuda", 4);
}

static void test_no_such_device(void **state)
{
    (void)state;
    gemmux_machine machine;
    gemmux_error error = {GEMMUX_OK, ""};
    assert_int_equal(gemmux_machine_find("cuda:1000", &machine, &error), GEMMUX_ERROR_DEVICE);
    assert_true(strlen(error.text) > 20);
}

static void test_sticky(void **state)
{
    (void)state;
    assert_true(gemmux_cuda_sticky(700));
    assert_true(gemmux_cuda_sticky(715));
    assert_false(gemmux_cuda_sticky(GEMMUX_CU_SUCCESS));
    assert_false(gemmux_cuda_sticky(GEMMUX_CU_OUT_OF_MEMORY));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_names),
        cmocka_unit_test(test_first_device),
        cmocka_unit_test(test_no_such_device),
        cmocka_unit_test(test_sticky),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
