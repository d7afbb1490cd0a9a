# SPDX-License-Identifier: Apache-2.0
# gemmux plan: a model from a name or from headers, on devices that are not here.
. ./lib.sh

# The document of docs/plan.md.
run 0 plan gpt-oss-120b --device rtx-pro-6000 --context 8192 --json
silent
plain
json plan_version 1
json gemmux
json model.name gpt-oss-120b
json model.kind built-in
json model.parameters 116829156672
json model.blocks 36
json model.window_blocks 18
json model.kv_elements 1024
json workload.context 8192
json workload.dtype auto
json devices.# 1
json devices.0.device.id rtx-pro-6000
json devices.0.fits true
json devices.0.memory.stored_bytes 65248815744
json devices.0.memory.kv_bytes 306708480
json devices.0.choices.# 5
json devices.0.choices.2.dtype bf16
json devices.0.choices.2.fits false
json devices.0.layers.# 9
json devices.0.layers.1.embedding true
json devices.0.layers.1.decode null
json devices.0.layers.2.group 'model.layers.*.mlp.experts.down_proj'
json devices.0.layers.2.count 36
json devices.0.layers.2.format mxfp4
json devices.0.layers.2.ranges.0.m_min 1
json devices.0.layers.2.decode.m 1
json devices.0.layers.2.decode.decision.kernel
json devices.0.layers.2.decode.why
json devices.0.layers.2.prefill.m 2048
[ "$("$query" devices.0.layers.2.decode.verdicts.# <"$work/out")" = \
    "$("$gemmux" kernels --json | "$query" "kernels.#")" ] || fail "not every kernel has a verdict"

# --save writes the same document.
run 0 plan gpt-oss-120b --device rtx-pro-6000 --context 8192 --save "$work/plan.json" --json
cmp -s "$work/out" "$work/plan.json" || fail "--save differs from --json"
run 1 plan smollm2-135m --device b200 --save "$work/none/plan.json"
run 1 plan smollm2-135m --device b200 --save "$work/none/plan.json" --json
json error.exit 1 # one document
says "$work/none/plan.json"

# bf16 is refused on 96 GB, with the numbers.
run 3 plan gpt-oss-120b --device rtx-pro-6000 --dtype bf16 --json
json devices.0.fits false
"$query" devices.0.verdict <"$work/out" | grep -Eq "21[89]\.[0-9] GiB needed, 95.6 GiB there" ||
    fail "no numbers: $("$query" devices.0.verdict <"$work/out")"
"$query" devices.0.layers.2.note <"$work/out" | grep -qF "bf16 instead of mxfp4: 3.76 times" ||
    fail "no price of bf16"

# Several devices; 3 only where it fits none.
run 0 plan gpt-oss-120b --device t4,h100-sxm --json
json devices.# 2
json devices.0.fits false
json devices.1.fits true
run 3 plan gpt-oss-120b --device t4,rtx-4090 --json
run 0 plan smollm2-135m --json
json devices.0.device.id cpu

# Tables: narrow, without colour in a pipe, and the shapes of every kind of layer.
run 0 plan gpt-oss-120b --device rtx-pro-6000
silent
plain
narrow 80
prints "fits: " "117 billion parameters" "36 blocks (18 of them see 128 tokens)" "ask for auto" \
    "mlp.experts.gate_up_proj" "looked up, not multiplied" "KV cache" "load-in-4bit"
awk '/^LAYER/ { on++ } /^$/ { on += on == 1 } on == 1' "$work/out" |
    sed 's/  *HELD$//; s/  *[0-9.]* [KMGT]iB$//' >"$work/layers" # without what kernels make of it
diff "$work/layers" ../golden/plan_layers.txt >&2 || fail "layers differ from golden/plan_layers.txt"
run 0 plan gpt-oss-120b --device all
narrow 80
prints "rtx-pro-6000" "on 2"
run 3 plan gpt-oss-120b --device rtx-pro-6000 --dtype bf16
prints "does not fit: 21" " GiB needed, 95.6 GiB there" "bf16 instead of mxfp4: 3.76 times"

# --load-in-4bit says what happens to what is 4-bit already.
run 0 plan gpt-oss-20b --device h100-sxm --load-in-4bit
prints "already quantised (mxfp4): load_in_4bit changes nothing" \
    "quantised from bf16 to nf4 by load_in_4bit: lossy"

# --tp: an even split, one inside a group, one inside a head, a latent that is not split.
run 0 plan gpt-oss-120b --device h100-sxm --tp 2 --json
json devices.0.layers.2.decode.problem.k 1440
run 3 plan gpt-oss-120b --device h100-sxm --tp 4
prints "tp=4 splits K=2880 into 720.00, inside a group of mxfp4" "cannot run as asked"
run 3 plan smollm2-135m --device h100-sxm --tp 2
prints "inside a head" "load-in-4bit would need" "and still not run"
run 3 plan phi-4 --device h100-sxm --tp 4
prints "inside a head"
run 0 plan qwen3-8b --device h100-sxm --tp 16
prints "8 heads on 16 devices: each is kept 2 times"
run 0 plan deepseek-v3 --device h200 --tp 8
prints "kept whole on every device" "each caches 576 numbers a token" "1 block for predicting further tokens"
narrow 80

# Without a cache whole sequences run, and nothing is cached.
run 0 plan smollm2-135m --device b200 --no-cache --batch 2 --context 100 --json
json devices.0.memory.kv_bytes 0
json devices.0.layers.1.decode.m 200
json workload.cache false
run 0 plan smollm2-135m --device b200 --context 100000 --json
json workload.context 8192

# Wishes hold: an only kernel, a kernel denied.
run 3 plan smollm2-135m --device b200 --deny '*' --json
json devices.0.layers.1.broken true
json devices.0.layers.1.decode.decision null
json devices.0.layers.1.decode.verdicts.0.verdict rejected
json devices.0.decode_us null
json devices.0.choices.0.prefill_us null
run 0 plan smollm2-135m --device b200 --only ref_any --json
json devices.0.layers.1.ranges.0.decision.kernel ref_any

# Where the device has no kernel at all, that is said.
run 0 plan gpt-oss-20b --device t4 --only ref_any
tr -s '\n ' ' ' <"$work/out" >"$work/flat" && mv "$work/flat" "$work/out"
prints "8 of 9 kinds of layers run on the CPU: no kernel for this device"

# Headers are enough.
cat >"$work/config.json" <<'END'
{"model_type": "llama", "torch_dtype": "bfloat16", "hidden_size": 64, "intermediate_size": 128,
 "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 100}
END
run 0 plan "$work/config.json" --device zen4 --json
json model.kind config
json model.layers 16
run 0 plan "$work" --device zen4 --json
json model.kind config
echo '{"model_type": "unheard-of"}' >"$work/config.json"
run 2 plan "$work"
says "config.json" '"unheard-of"' "open the weights, or their headers"

# Bad usage.
run 2 plan
says "which model"
run 2 plan gpt-oss-12b
says "'gpt-oss-12b'" "did you mean 'gpt-oss-120b'"
run 1 plan "$work/none.gguf"
says "$work/none.gguf"
run 2 plan gpt-oss-20b smollm2-135m
says '"smollm2-135m"'
run 2 plan gpt-oss-20b --dtype mxfp4
says "dtype must be f32, f16 or bf16"
run 2 plan gpt-oss-20b --dtype bf17
says "bf17"
run 2 plan gpt-oss-20b --tp 0
says "--tp 0"
run 2 plan gpt-oss-20b --device h100-sxm,nothing
says "nothing"
finish
