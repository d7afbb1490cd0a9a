/* SPDX-License-Identifier: Apache-2.0
 *
 * Planning a model from its shapes alone: gpt-oss-120b's layers, written out by hand from its
 * public configuration (36 blocks, hidden 2880, 128 experts of 2880, top-4, 64 heads of 64, 8 kv
 * heads, window 128 on every other block, vocabulary 201088).
 */
#include "testing.h"

typedef struct model {
    gemmux_layer layers[36 * 6 + 2];
    const gemmux_layer *list[36 * 6 + 2];
    int count;
    gemmux_model_facts facts;
} model;

static void add(model *m, const char *name, const char *group, gemmux_op op, const char *format,
                int64_t n, int64_t k)
{
    gemmux_layer *l = &m->layers[m->count];
    *l = (gemmux_layer){.name = name, .group = group, .scheme = "test", .op = (uint8_t)op};
    l->format = testing_format(format);
    l->n = n;
    l->k = k;
    if (op == GEMMUX_MOE) {
        l->experts = 128;
        l->top_k = 4;
    }
    l->stored_bytes = gemmux_stored_bytes(l->format, op == GEMMUX_MOE ? 128 : 1, n, k);
    m->list[m->count++] = l;
}

static void make_gpt_oss(model *m, const char *experts)
{
    memset(m, 0, sizeof *m);
    for (int i = 0; i < 36; i++) {
        add(m, "q_proj", "*.q_proj", GEMMUX_LINEAR, "bf16", 4096, 2880);
        add(m, "k_proj", "*.k_proj", GEMMUX_LINEAR, "bf16", 512, 2880);
        add(m, "v_proj", "*.v_proj", GEMMUX_LINEAR, "bf16", 512, 2880);
        add(m, "o_proj", "*.o_proj", GEMMUX_LINEAR, "bf16", 2880, 4096);
        add(m, "gate_up_proj", "*.gate_up_proj", GEMMUX_MOE, experts, 5760, 2880);
        m->layers[m->count - 1].epilogue = GEMMUX_EPILOGUE_SWIGLU | GEMMUX_EPILOGUE_GATHER;
        add(m, "down_proj", "*.down_proj", GEMMUX_MOE, experts, 2880, 2880);
        m->layers[m->count - 1].epilogue = GEMMUX_EPILOGUE_SCATTER;
    }
    add(m, "embed_tokens", "embed_tokens", GEMMUX_LINEAR, "bf16", 201088, 2880);
    m->layers[m->count - 1].embedding = true;
    add(m, "lm_head", "lm_head", GEMMUX_LINEAR, "bf16", 201088, 2880);
    m->facts = (gemmux_model_facts){.blocks = 36,
                                    .window_blocks = 18,
                                    .window = 128,
                                    .kv_elements = 2 * 8 * 64,
                                    .hidden = 2880,
                                    .vocab = 201088,
                                    .max_context = 131072};
}

static gemmux_machine device(const char *name)
{
    gemmux_machine m;
    gemmux_error error;
    if (gemmux_machine_find(name, &m, &error))
        fail_msg("%s", error.text);
    return m;
}

static void forecast(model *m, const char *name, gemmux_workload load, gemmux_kind *kinds,
                     gemmux_forecast *f)
{
    gemmux_machine machine = device(name);
    gemmux_error error = {GEMMUX_OK, ""};
    if (gemmux_forecast_model(m->list, m->count, &m->facts, &machine, NULL, &load, kinds, 32, f,
                              &error))
        fail_msg("%s", error.text);
}

static void mxfp4_fits_96_gb_and_bf16_does_not(void **state)
{
    (void)state;
    static model m;
    static gemmux_kind kinds[32];
    gemmux_forecast f;
    make_gpt_oss(&m, "mxfp4");
    forecast(&m, "rtx-pro-6000", (gemmux_workload){.context = 8192}, kinds, &f);
    assert_int_equal(f.kind_count, 8);
    assert_true(f.fits);
    assert_true(f.weight_bytes > 60e9 && f.weight_bytes < 70e9);
    /* 2 bytes x 1024 numbers x 8192 tokens x 18 blocks, and 128 tokens x 18 windowed ones. */
    assert_int_equal(f.kv_bytes, INT64_C(2) * 1024 * 18 * (8192 + 128));
    assert_true(f.decode_us > 0 && f.prefill_us > f.decode_us);
    for (int i = 0; i < f.kind_count; i++) {
        assert_int_equal(kinds[i].count, i < 6 ? 36 : 1);
        assert_false(kinds[i].broken);
    }

    gemmux_workload bf16 = {.context = 8192, .dtype = testing_format("bf16")};
    forecast(&m, "rtx-pro-6000", bf16, kinds, &f);
    assert_false(f.fits);
    assert_true(f.weight_bytes > 225e9 && f.weight_bytes < 240e9); /* "234 GB" */
    assert_non_null(strstr(kinds[4].note, "bf16 instead of mxfp4: 3.76 times the memory"));
}

static void four_bit_stays_and_float_becomes_nf4(void **state)
{
    (void)state;
    static model m;
    static gemmux_kind kinds[32];
    gemmux_forecast f;
    make_gpt_oss(&m, "mxfp4");
    forecast(&m, "h100-sxm", (gemmux_workload){.load_in_4bit = true}, kinds, &f);
    assert_non_null(strstr(kinds[0].note, "quantised from bf16 to nf4 by load_in_4bit: lossy"));
    assert_non_null(
        strstr(kinds[4].note, "already quantised (mxfp4): load_in_4bit changes nothing"));
    assert_true(gemmux_format_equal(kinds[4].problem.w, testing_format("mxfp4")));
}

static void a_split_inside_a_group_is_named(void **state)
{
    (void)state;
    static model m;
    static gemmux_kind kinds[32];
    gemmux_forecast f;
    make_gpt_oss(&m, "mxfp4");
    forecast(&m, "h100-sxm", (gemmux_workload){.tp = 2}, kinds, &f);
    assert_int_equal(kinds[4].problem.n, 2880);
    assert_int_equal(kinds[5].problem.k, 1440); /* 45 groups of 32 */
    assert_false(kinds[5].broken);
    assert_true(f.fits);
    forecast(&m, "h100-sxm", (gemmux_workload){.tp = 4}, kinds, &f);
    assert_true(kinds[5].broken); /* 720 is 22.5 groups of 32 */
    assert_non_null(
        strstr(kinds[5].note, "tp=4 splits K=2880 into 720.00, inside a group of mxfp4"));
    assert_false(f.fits);
}

static void every_device_gets_an_answer(void **state)
{
    (void)state;
    static model m;
    static gemmux_kind kinds[32];
    make_gpt_oss(&m, "mxfp4");
    for (int i = 0; i < gemmux_machine_builtin_count(); i++) {
        gemmux_forecast f;
        forecast(&m, gemmux_machine_builtin_name(i), (gemmux_workload){.batch = 8}, kinds, &f);
        for (int k = 0; k < f.kind_count; k++)
            assert_true(kinds[k].layer->embedding || kinds[k].decode.kernel || kinds[k].broken);
    }
}

static void without_a_cache_whole_sequences_run(void **state)
{
    (void)state;
    static model m;
    static gemmux_kind kinds[32];
    gemmux_forecast f;
    make_gpt_oss(&m, "mxfp4");
    gemmux_workload load = {.batch = 2, .context = 100, .no_cache = true};
    forecast(&m, "b200", load, kinds, &f);
    assert_int_equal(f.kv_bytes, 0);
    assert_int_equal(kinds[0].decode_m, 200);
    gemmux_error error;
    gemmux_machine machine = device("b200");
    load.dtype = testing_format("nf4");
    assert_int_equal(gemmux_forecast_model(m.list, m.count, &m.facts, &machine, NULL, &load, kinds,
                                           32, &f, &error),
                     GEMMUX_ERROR_ARGUMENT);
    load = (gemmux_workload){.batch = -1};
    assert_int_equal(gemmux_forecast_model(m.list, m.count, &m.facts, &machine, NULL, &load, kinds,
                                           32, &f, &error),
                     GEMMUX_ERROR_ARGUMENT);
    assert_int_equal(gemmux_forecast_model(m.list, m.count, &m.facts, &machine, NULL, NULL, kinds,
                                           3, &f, &error),
                     GEMMUX_ERROR_MEMORY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mxfp4_fits_96_gb_and_bf16_does_not),
        cmocka_unit_test(four_bit_stays_and_float_becomes_nf4),
        cmocka_unit_test(a_split_inside_a_group_is_named),
        cmocka_unit_test(every_device_gets_an_answer),
        cmocka_unit_test(without_a_cache_whole_sequences_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
