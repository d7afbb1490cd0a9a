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
says "$work/none/plan.json"

# bf16 is refused on 96 GB, with the numbers.
run 3 plan gpt-oss-120b --device rtx-pro-6000 --dtype bf16 --json
json devices.0.fits false
"$query" devices.0.verdict <"$work/out" | grep -q "218.* GiB needed, 95.6 GiB there" ||
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
