# SPDX-License-Identifier: Apache-2.0
# gemmux select: the contract's JSON, exit codes, and errors that name what was wrong.
. ./lib.sh

problem="--m 16 --n 256 --k 512 --x bf16 --w mxfp4 --y bf16"

# The contract's shape.
run 0 select linear $problem --json
silent
plain
json "problem.op" linear
json "problem.m" 16
json "problem.w" mxfp4
json "device.id" cpu
json "device.arch"
for member in kernel library device path packing bound; do
    json "decision.$member"
done
for member in lossless predicted_us weight_bytes workspace_bytes; do
    json "decision.$member"
done
json "decision.liberties.#"
json "verdicts.0.kernel"
json "verdicts.0.verdict"
json "verdicts.0.reasons.#"
[ "$("$gemmux" kernels --json | "$query" "kernels.#")" = "$("$query" "verdicts.#" <"$work/out")" ] ||
    fail "not every kernel has a verdict"

# No kernel: decision null, exit 3, every verdict rejected at the flags stage too.
run 3 select linear $problem --deny '*' --json
says "no kernel"
json "decision" null
json "verdicts.0.verdict" rejected
json "verdicts.0.predicted_us" null
json "verdicts.0.reasons.#"
run 3 select linear $problem --deny '*'
prints "no kernel under this policy"
run 3 select linear $problem --only nothing_of_this_name
run 3 select linear $problem --max-memory 10 --json
grep -q '"code": "memory-budget"' "$work/out" || fail "no memory-budget"
run 0 select linear $problem --max-memory 1GiB

# Described devices, files, and devices that do not exist.
run 0 select linear $problem --device b200 --json
json "device.arch" sm_100
json "device.described" true
run 0 select moe $problem --experts 8 --top-k 2 --device zen4 --json
json "problem.experts" 8
json "problem.top_k" 2
run 2 select linear $problem --device b20
says "b20" "did you mean 'b200'"
run 2 select linear $problem --device "$work/none.txt"
says "$work/none.txt"

# --why-not
run 0 select linear $problem --why-not ref_any
prints "ref_any"
run 3 select linear $problem --deny ref_any,'*' --why-not ref_any
prints "rejected" "denied" "What it would take"
run 2 select linear $problem --why-not ref_ayn
says '"ref_ayn"' "did you mean ref_any?"
run 3 select linear $problem --deny '*' --why-not ref_any --json
json "why_not.kernel" ref_any
json "why_not.changes.0.text"

# Liberties: names, lists, repeats, all and none.
run 0 select linear $problem --allow tf32,rounded-x --allow quantised-x --json
json "problem.liberties.#" 5
run 0 select linear $problem --allow none --json
json "problem.liberties.#" 0
run 0 select linear $problem --allow all --json
json "problem.liberties.#" 7
run 0 select linear $problem --allow none --allow tf32 --json
json "problem.liberties.0" tf32
run 2 select linear $problem --allow tf23
says "tf23" "did you mean tf32?"

# Bad input names the option and the reason; JSON errors are documents too.
run 2 select
says "which operation"
run 2 select conv $problem
says '"conv"'
run 2 select linear --m 1 --n 2 --k 3 --x bf16 --w bf16
says "--y"
run 2 select linear --n 2 --k 3 --x bf16 --w bf16 --y bf16
says "--m"
run 2 select moe $problem
says "--experts"
run 2 select linear $problem --experts 4
says "experts"
run 2 select linear $problem --m 0
says "--m 0"
run 2 select linear $problem --n 99999999999999999999
says "--n"
run 2 select linear $problem --k -3
says "--k -3"
run 2 select linear $problem --w int4:zero:min
says "--w" '"min"'
run 2 select linear $problem --y mxfp4
says "mxfp4"
run 2 select linear $problem --max-memory lots
says "--max-memory lots"
run 2 select linear $problem --max-slowdown 0.5
says "--max-slowdown"
run 2 select linear $problem --w f33 --json
says '"f33"'
json "error.exit" 2
json "error.text"

# Kernels that could, by price.
COLUMNS=132 run 0 select linear --m 32 --n 14336 --k 4096 --x bf16 --w mxfp4 --y bf16 --device h200
[ "$(grep -c ' eligible ' "$work/out")" -gt 2 ] || fail "too few kernels to be in an order"
awk '$2 == "eligible" {print $3}' "$work/out" | sort -g -c || fail "eligible kernels are not in the order of price"

# Terminals of any width, and colour only on one.
for columns in 60 80 132; do
    COLUMNS=$columns
    export COLUMNS
    run 0 select linear $problem
    narrow $columns
    plain
    run 3 select linear $problem --deny '*' --why-not ref_any
    narrow $columns
done
unset COLUMNS
if command -v script >/dev/null; then
    esc=$(printf '\033')
    line="'$gemmux' select linear $problem"
    script -qec "$line" /dev/null </dev/null | grep -q "$esc\[" || fail "no colour on a terminal"
    script -qec "NO_COLOR=1 $line" /dev/null </dev/null | grep -q "$esc\[" &&
        fail "colour in spite of NO_COLOR"
    script -qec "$line --json" /dev/null </dev/null | grep -q "$esc\[" && fail "colour in JSON"
fi
finish
