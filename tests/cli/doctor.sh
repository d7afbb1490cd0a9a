# SPDX-License-Identifier: Apache-2.0
# gemmux doctor.
. ./lib.sh

log=$work/log
printf 'INFO loading\nError: Only Hopper swizzling is supported for values\n' >"$log"
run 0 doctor "$log" --device rtx-pro-6000
silent
plain
narrow 80
prints "Layout and kernel disagree" "stage precision, blame layout" "line 2:" "false:" \
    "1. price: 1x memory" "4. price: about 4x memory" "unsloth-zoo#1208" "confirms: This GPU is 12.0"
run 0 doctor "$log" --device rtx-pro-6000 --json
json "findings.#" 1
json "findings.0.cause" layout-kernel-disagree
json "findings.0.stage" precision
json "findings.0.blame" layout
json "findings.0.claim.verdict" false
json "findings.0.fixes.0.price" "1x memory, no loss"
json "findings.0.facts.0.verdict" confirms
json "findings.0.line" 2
json "device.arch" sm_120
for member in title text claim.text fixes.0.text facts.0.text references.0 excerpt matches; do
    json "findings.0.$member"
done

# standard input, with and without "-"; nothing known is exit code 3
"$gemmux" doctor <"$log" >"$work/out" 2>"$work/err" || fail "stdin: $?"
prints "Layout and kernel disagree"
"$gemmux" doctor - --json <"$log" >"$work/out" 2>"$work/err" || fail "stdin -: $?"
json "findings.0.cause" layout-kernel-disagree
run 3 doctor # /dev/null
prints "None of the"
silent
run 3 doctor --json
json "findings.#" 0

# a symptom alone says so; beside its cause it comes second
echo 'CUDA error: no kernel image is available for execution on the device' >"$log"
run 0 doctor "$log"
says "only symptoms"
echo 'RTX 5090 with CUDA capability sm_120 is not compatible with the current PyTorch installation.' >>"$log"
run 0 doctor "$log" --json
json "findings.0.cause" torch-without-arch
json "findings.1.symptom" true

# wide and binary logs, narrow terminals
head -c 300000 /dev/zero | tr '\0' 'x' >"$log"
printf ' \377\376 CUDA_ERROR_ILLEGAL_INSTRUCTION \001' >>"$log"
COLUMNS=60
export COLUMNS
run 0 doctor "$log"
narrow 60
run 0 doctor "$log" --json
json "findings.0.excerpt"

run 1 doctor "$work/nothing"
says "$work/nothing"
run 2 doctor "$log" "$log"
says "one log"
run 2 doctor "$log" --device nothing
finish
