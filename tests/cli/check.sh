# SPDX-License-Identifier: Apache-2.0
# gemmux check and gemmux bench, as far as they do not depend on the clock.
. ./lib.sh

run 0 check ref_any --json
silent
json "kernels.#" 1
json "kernels.0.kernel" ref_any
json "kernels.0.proof" proved
json "kernels.0.cached" false
json "failed" 0
run 0 check ref_any --json
json "kernels.0.cached" true
run 0 check ref_any
plain
narrow 80
prints "ref_any" "proved" "kept"
# What a library is wrapped in is right at the edges of f32 as well.
run 0 check onednn_f32 onednn_bf16 onednn_int8 openblas_f32 --json
json "failed" 0
run 2 check ref_ayn
says '"ref_ayn"' "did you mean ref_any?"
run 2 check --device b200
says "b200" "not here"
run 2 check ref_any --timeout 0
says "--timeout"

run 0 bench linear --m 1,5 --n 48 --k 64 --w mxfp8 --only ref_any --json
silent
json "results.#" 2
json "results.1.problem.m" 5
json "results.0.chosen" ref_any
json "results.0.fastest" ref_any
json "results.0.candidates.0.verified" true
json "results.0.candidates.0.measured_us"
run 0 bench moe --experts 4 --top-k 2 --epilogue bias,gather,scatter --m 3 --n 32 --k 64 \
    --only ref_any
plain
narrow 80
prints "chosen: ref_any, the fastest"
run 3 bench --m 1 --n 8 --k 8 --deny '*'
says "no kernel"
run 2 bench conv
says '"conv"'
run 2 bench --experts 4
says "experts"
run 2 bench --grid --m 1
says "--grid"
run 2 bench --plot ""
says "--plot"

# What was learnt is what select predicts, for these formats and no others.
run 0 bench --n 48 --k 64 --w mxfp4 --m 4,16 --only ref_any --learn --json
learnt=$("$query" results.1.candidates.0.measured_us <"$work/out")
run 0 select linear --m 16 --n 48 --k 64 --x bf16 --w mxfp4 --y bf16 --only ref_any --json
json "decision.measured" true
have=$("$query" decision.predicted_us <"$work/out")
awk "BEGIN { exit !($have > 0.99 * $learnt && $have < 1.01 * $learnt) }" ||
    fail "learnt $learnt us, predicts $have"
run 0 select linear --m 16 --n 48 --k 64 --x bf16 --w nvfp4 --y bf16 --only ref_any --json
json "decision.measured" false
run 0 bench --n 48 --k 64 --m 2 --only ref_any --threads 1 --learn --json
run 0 select linear --m 2 --n 48 --k 64 --x bf16 --w bf16 --y bf16 --only ref_any --json
[ "$(nproc)" -eq 1 ] || json "decision.measured" false

# gnuplot draws; without it a sentence says so.
mkdir "$work/bin"
PATH=$work/bin run 1 bench --n 48 --k 64 --m 2 --only ref_any --plot "$work/roof.svg"
says "gnuplot" "not installed"
[ ! -e "$work/roof.svg" ] || fail "an empty picture"
run 1 bench --n 48 --k 64 --m 2 --only ref_any --plot "$work/no/where.svg" --json
says "no/where.svg" "No such file"
json "results.0.chosen" ref_any # still one document, and no picture in it
if command -v gnuplot >/dev/null; then
    run 0 bench --n 48 --k 64 --m 2,8 --only ref_any --plot "$work/it's a roof.svg"
    grep -q "ref_any" "$work/it's a roof.svg" || fail "no picture"
fi
run 0 bench --overhead --json
silent
json "select_us"
json "select_trace_us"
json "tensors" 500
json "plan_us"
finish
