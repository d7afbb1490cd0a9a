# SPDX-License-Identifier: Apache-2.0
# NVFP4 on a CPU without AVX-512, where others stop with "requires compute capability": an exact
# result, and what the missing instructions cost.
. ../cli/lib.sh

product="linear --m 16 --n 4096 --k 4096 --x bf16 --w nvfp4 --y bf16"
for device in avx2-laptop bare; do
    run 0 select $product --device $device --json
    silent
    json "decision.lossless" true
    json "decision.predicted_us"
    run 0 select $product --device $device --what-if isa=+avx512bf16 --json
    "$query" decision.predicted_us <"$work/out" >"$work/now"
    "$query" what_if.decision.predicted_us <"$work/out" >"$work/then"
    awk 'NR == FNR { now = $1; next } { exit !(now > 1.2 * $1) }' "$work/now" "$work/then" ||
        fail "$device: $(cat "$work/now") us is no slowdown against $(cat "$work/then")"
done

# A budget turns the slowdown into a decision, with its figure.
run 3 select $product --device avx2-laptop --only ref_any --max-slowdown 2
tr -s '\n ' ' ' <"$work/out" >"$work/flat" && mv "$work/flat" "$work/out"
prints "times slower than the best kernel for this device; the caller's limit is 2.00"

# And the product itself, here, with what such a CPU has: every number within the f64 bound.
run 0 run --w nvfp4 --m 1,16 --deny '*avx512*,onednn*,openblas*' --threads 1 --json
json "wrong" 0
json "rows.0.format" nvfp4
json "rows.0.lossless" true
json "rows.0.verified" true
finish
