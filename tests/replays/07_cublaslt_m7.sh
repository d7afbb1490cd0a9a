# SPDX-License-Identifier: Apache-2.0
# cuBLASLt answers status 15 to an fp8 product with M = 7: M must be a multiple of 16, and padding
# is the way. The product itself is answered by select.
. ../cli/lib.sh

echo '[cublasLt][1533][Info][cublasLtMatmulAlgoGetHeuristic] Unsupported M dimension for FP8 matrix multiplication. M must be divisible by 16. Got 7.' >"$work/log"
run 0 doctor "$work/log" --device h200 --json
json "findings.#" 1
json "findings.0.cause" fp8-shape-not-16
json "findings.0.stage" precision
json "findings.0.blame" layout
json "findings.0.details.dim" M
json "findings.0.details.got" 7
json "findings.0.facts.0.verdict" confirms
run 0 doctor "$work/log" --device h200
tr -s '\n ' ' ' <"$work/out" >"$work/flat" && mv "$work/flat" "$work/out"
prints "multiple of 16" "Pad M to the next multiple of 16"

run 0 select linear --m 7 --n 4096 --k 4096 --x e4m3 --w e4m3 --y bf16 --device h200 --json
json "decision.kernel"
run 0 select linear --m 7 --n 4096 --k 4096 --x e4m3 --w e4m3 --y bf16 --device h200 \
    --what-if m=16 --json # the padded plan, priced
json "what_if.problem.m" 16
json "what_if.decision.predicted_us"
finish
