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

/* The layers of one block under a name each, on `tp` devices. */
static const gemmux_kind *split_one(const char *name, gemmux_op op, const char *format, int64_t n,
                                    int64_t k, const gemmux_model_facts *facts, int tp)
{
    static gemmux_kind kinds[4];
    static model m;
    gemmux_forecast f;
    memset(&m, 0, sizeof m);
    add(&m, name, name, op, format, n, k);
    m.facts = *facts;
    forecast(&m, "h100-sxm", (gemmux_workload){.tp = tp}, kinds, &f);
    return &kinds[0];
}

static void attention_is_split_between_heads(void **state)
{
    (void)state;
    const gemmux_model_facts nine = {.heads = 9, .kv_heads = 3, .head_size = 64};
    const gemmux_model_facts eight = {.heads = 32, .kv_heads = 8, .head_size = 128};
    const gemmux_model_facts phi = {.heads = 40, .kv_heads = 10, .head_size = 128};
    const gemmux_model_facts latent = {.heads = 128, .kv_elements = 576, .head_size = 56};
    const struct {
        const char *name;
        int64_t n, k;
        const gemmux_model_facts *facts;
        int tp;
        bool broken;
        int64_t n_each, k_each;
        const char *note;
    } cases[] = {
        {"a.self_attn.q_proj", 576, 576, &nine, 2, true, 0, 0, "N=576 into 288.00, inside a head"},
        {"a.self_attn.o_proj", 576, 576, &nine, 2, true, 0, 0, "K=576 into 288.00, inside a head"},
        {"a.self_attn.q_proj", 576, 576, &nine, 3, false, 192, 576, ""},
        {"a.self_attn.k_proj", 1024, 4096, &eight, 16, false, 128, 4096,
         "8 heads on 16 devices: each is kept 2 times"},
        {"blk.0.attn_v", 1024, 4096, &eight, 32, false, 128, 4096, "each is kept 4 times"},
        {"a.self_attn.k_proj", 1024, 4096, &eight, 12, true, 0, 0, "not whole"},
        {"a.self_attn.qkv_proj", 7680, 5120, &phi, 4, true, 0, 0, "inside a head"},
        {"a.self_attn.qkv_proj", 7680, 5120, &phi, 2, false, 3840, 5120, ""},
        {"a.self_attn.kv_a_proj_with_mqa", 576, 7168, &latent, 8, false, 576, 7168,
         "kept whole on every device"},
        {"a.self_attn.q_b_proj", 24576, 1536, &latent, 8, false, 3072, 1536, ""},
        {"a.mlp.gate", 256, 7168, &latent, 8, false, 256, 7168, "kept whole on every device"},
        {"a.mlp.gate_proj", 2048, 7168, &latent, 8, false, 256, 7168, ""},
        {"lm_head", 32001, 4096, &eight, 2, false, 16001, 4096, "the last device holds fewer rows"},
        {"a.mlp.up_proj", 1408, 4096, &eight, 16, false, 88, 4096, "no multiple of 16"},
        {"a.mlp.up_proj", 1409, 4096, &eight, 2, true, 0, 0, "into 704.50, not whole"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const gemmux_kind *kind = split_one(cases[i].name, GEMMUX_LINEAR, "bf16", cases[i].n,
                                            cases[i].k, cases[i].facts, cases[i].tp);
        bool sizes = cases[i].broken ||
                     (kind->problem.n == cases[i].n_each && kind->problem.k == cases[i].k_each);
        if (kind->broken != cases[i].broken || !sizes || !strstr(kind->note, cases[i].note) ||
            (!*cases[i].note && *kind->note))
            fail_msg("%s, tp=%d: %s, %lld x %lld, \"%s\"", cases[i].name, cases[i].tp,
                     kind->broken ? "broken" : "whole", (long long)kind->problem.n,
                     (long long)kind->problem.k, kind->note);
    }
    const gemmux_kind *block =
        split_one("a.mlp.up_proj", GEMMUX_LINEAR, "e4m3:block128", 2048, 7168, &latent, 32);
    assert_true(block->broken);
    assert_non_null(strstr(block->note, "inside a group of e4m3:block128"));
}

/* Whole heads are shared out, a latent is not. */
static void each_device_caches_its_heads(void **state)
{
    (void)state;
    static model m;
    static gemmux_kind kinds[32];
    gemmux_forecast one, two, many;
    make_gpt_oss(&m, "bf16");
    m.facts.kv_heads = 8;
    m.facts.head_size = 64;
    forecast(&m, "b300", (gemmux_workload){.tp = 1}, kinds, &one);
    forecast(&m, "b300", (gemmux_workload){.tp = 2}, kinds, &two);
    forecast(&m, "b300", (gemmux_workload){.tp = 16}, kinds, &many);
    assert_int_equal(two.kv_bytes, one.kv_bytes / 2);
    assert_int_equal(many.kv_bytes, one.kv_bytes / 8);
    m.facts.kv_heads = 0;
    forecast(&m, "b300", (gemmux_workload){.tp = 16}, kinds, &many);
    assert_int_equal(many.kv_bytes, one.kv_bytes);
}

/* A bias is held in f32; weights that stay as they are need no second copy while they are packed.
 */
static void every_byte_is_counted(void **state)
{
    (void)state;
    static model m;
    static gemmux_kind kinds[32];
    gemmux_forecast f, with;
    memset(&m, 0, sizeof m);
    add(&m, "a", "a", GEMMUX_MOE, "mxfp4", 64, 64);
    forecast(&m, "h100-sxm", (gemmux_workload){0}, kinds, &f);
    m.layers[0].epilogue = GEMMUX_EPILOGUE_BIAS;
    forecast(&m, "h100-sxm", (gemmux_workload){0}, kinds, &with);
    assert_int_equal(with.weight_bytes, f.weight_bytes + 128 * 64 * 4);
    assert_int_equal(f.repack_bytes, 0); /* packed on the way to the device */
    gemmux_machine machine = device("zen4");
    gemmux_policy plain = {.packing = "plain"}, panel = {.packing = "panel16"};
    gemmux_error error;
    assert_int_equal(gemmux_forecast_model(m.list, m.count, &m.facts, &machine, &plain, NULL, kinds,
                                           32, &f, &error),
                     GEMMUX_OK);
    assert_int_equal(f.repack_bytes, 0);
    assert_int_equal(f.load.context, 4096); /* the defaults, filled in */
    assert_int_equal(gemmux_forecast_model(m.list, m.count, &m.facts, &machine, &panel, NULL, kinds,
                                           32, &f, &error),
                     GEMMUX_OK);
    assert_int_equal(f.repack_bytes, m.layers[0].stored_bytes);
}

/* What cannot be decoded is named, counted, and breaks the plan. */
static void a_format_that_is_not_decoded_is_named(void **state)
{
    (void)state;
    static model m;
    static gemmux_kind kinds[32];
    gemmux_forecast f;
    memset(&m, 0, sizeof m);
    add(&m, "a", "a", GEMMUX_LINEAR, "bf16", 64, 64);
    m.layers[0].format = (gemmux_format){0};
    m.layers[0].scheme = "gguf IQ1_S";
    forecast(&m, "b200", (gemmux_workload){.load_in_4bit = true}, kinds, &f);
    assert_true(kinds[0].broken);
    assert_string_equal(kinds[0].note, "stored as gguf IQ1_S, which is not decoded");
    assert_int_equal(f.weight_bytes, m.layers[0].stored_bytes);
    assert_false(f.fits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mxfp4_fits_96_gb_and_bf16_does_not),
        cmocka_unit_test(four_bit_stays_and_float_becomes_nf4),
        cmocka_unit_test(a_split_inside_a_group_is_named),
        cmocka_unit_test(every_device_gets_an_answer),
        cmocka_unit_test(without_a_cache_whole_sequences_run),
        cmocka_unit_test(attention_is_split_between_heads),
        cmocka_unit_test(each_device_caches_its_heads),
        cmocka_unit_test(every_byte_is_counted),
        cmocka_unit_test(a_format_that_is_not_decoded_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
