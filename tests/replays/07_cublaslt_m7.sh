# SPDX-License-Identifier: Apache-2.0
# cuBLASLt answers status 15 to an fp8 product with M = 7: M must be a multiple of 16. What it calls
# M are the rows of w here, and w is constant: the kernel's own check names the number and the rule,
# and the next rung is a copy of w padded once, with its price. Rows of x may be 7.
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

# The Hopper kernel of ours has no such rule; what follows is what cuBLASLt alone would do.
own="--x e4m3 --w e4m3 --y bf16 --device h200 --allow narrow-sums"
run 0 select linear --m 4096 --n 7 --k 4096 $own --json
json "decision.kernel" cuda_sm90_fp8
json "decision.packing" plain
fp8="$own --deny cuda_sm90_fp8"

# The library's M is N: refused by name, and answered by the padded rung.
run 0 select linear --m 4096 --n 7 --k 4096 $fp8 --why-not cublaslt_fp8
tr -s '\n ' ' ' <"$work/out" >"$work/flat" && mv "$work/flat" "$work/out"
prints "cublaslt_fp8 needs N in multiples of 16; N is 7" "pad N from 7 to 16"
run 0 select linear --m 4096 --n 7 --k 4096 $fp8 --json
json "decision.kernel" cublaslt_fp8_padded
json "decision.packing" cublaslt_rows
json "decision.path" native
json "decision.predicted_us"
bytes=$("$query" decision.weight_bytes <"$work/out")
[ "$bytes" -ge 65536 ] && [ "$bytes" -lt 70000 ] || fail "16 padded rows of 4096 take $bytes bytes"

# K is padded in w once, and in x at each run.
run 0 select linear --m 7 --n 4096 --k 4090 $fp8 --why-not cublaslt_fp8
prints "cublaslt_fp8 needs K in multiples of 16; K is 4090"
run 0 select linear --m 7 --n 4096 --k 4090 $fp8 --json
json "decision.kernel" cublaslt_fp8_padded

# Where the policy does not allow the price, the next rung answers.
run 0 select linear --m 4096 --n 7 --k 4096 $fp8 --max-memory 1000000 --json
json "decision.kernel" cuda_ref_any
run 0 select linear --m 4096 --n 7 --k 4096 $fp8 --max-memory 1000000 --why-not cublaslt_fp8_padded
prints "memory-budget"

# Seven rows of x are a product that cuBLASLt takes; padding them is priced as well.
run 0 select linear --m 7 --n 4096 --k 4096 $fp8 --json
json "decision.kernel" cublaslt_fp8
run 0 select linear --m 7 --n 4096 --k 4096 $fp8 --what-if m=16 --json
json "what_if.problem.m" 16
json "what_if.decision.predicted_us"
finish
