# SPDX-License-Identifier: Apache-2.0
# A backend is forced that is not there: an error with every reason, what is nearest to it, and an
# exit code; never another backend without a word.
. ../cli/lib.sh

product="linear --m 16 --n 4096 --k 4096 --x bf16 --w bf16 --y bf16"
printf 'name No libraries\nkind cpu\nisa avx512bf16\ncores 8\n' >"$work/plain.txt"
run 3 select $product --device "$work/plain.txt" --only 'onednn*'
says "no kernel for" "on No libraries"
tr -s '\n ' ' ' <"$work/out" >"$work/flat" && mv "$work/flat" "$work/out"
prints "no kernel under this policy" "without --only: x86_avx512_bf16" \
    "library: needs onednn, which was not found"

run 3 select $product --device "$work/plain.txt" --only onednn_bf16 --json
json "decision" null
json "alternatives.0.kernel" x86_avx512_bf16
json "alternatives.0.without" --only
run 3 select $product --device "$work/plain.txt" --only onednn_bf16 --why-not onednn_bf16 --json
json "why_not.helps" true
json "why_not.changes.#" 1
json "why_not.changes.0.power" install
"$query" why_not.changes.0.text <"$work/out" | grep -q "^onednn [0-9.]* or newer installed" ||
    fail "no install: $(cat "$work/out")"

# with it installed the forced kernel is the answer
run 0 select $product --device "$work/plain.txt" --only onednn_bf16 --what-if onednn=3.5 --json
json "what_if.decision.kernel" onednn_bf16

# a name that is no kernel's, here and where products really run
run 3 select $product --device "$work/plain.txt" --only onednn_bf61
prints "--only onednn_bf61 matches no kernel (did you mean onednn_bf16?)"
run 3 run --only no_such_backend --limit 1
says "no kernel for" "--only no_such_backend matches no kernel" "without --only: "
finish
