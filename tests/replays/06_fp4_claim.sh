# SPDX-License-Identifier: Apache-2.0
# "Your GPU does not have native support for FP4" on sm_120: false for this GPU; a gate, the build or
# the checkpoint is the cause. On a Hopper the same words are true.
. ../cli/lib.sh

echo 'WARNING [marlin_utils_fp4.py:196] Your GPU does not have native support for FP4 computation but FP4 quantization is being used. Weight-only FP4 compression will be used leveraging the Marlin kernel.' >"$work/log"
run 0 doctor "$work/log" --device rtx-pro-6000 --json
json "findings.#" 1
json "findings.0.cause" fp4-claim-false
json "findings.0.claim.verdict" false
json "findings.0.facts.#" 1
json "findings.0.facts.0.verdict" confirms
run 0 doctor "$work/log" --device rtx-pro-6000
tr -s '\n ' ' ' <"$work/out" >"$work/flat" && mv "$work/flat" "$work/out"
prints "a gate on the architecture" "a build without those kernels" "a checkpoint with 16-bit activations"
run 0 doctor "$work/log" --device h100-sxm --json
json "findings.0.facts.#" 1
json "findings.0.facts.0.verdict" contradicts
finish
