# SPDX-License-Identifier: Apache-2.0
# The fastest kernel returns zeros for some M (as auto-selected kernels did: GSM8K 0.0 instead of
# 0.887): it is quarantined before its numbers are used, the evidence is kept, the next one runs.
. ../cli/lib.sh
gemmux=$3 # with a kernel that does just that

product="linear --m 33 --n 64 --k 128 --x bf16 --w mxfp4 --y bf16"
run 0 select $product --json
json "decision.kernel" faulty_zeros # nobody has looked yet, and it promises most

# Running certifies first: what is chosen is right, and the answer says what happened.
run 0 run --w mxfp4 --m 1,33 --only 'faulty_zeros,ref_any' --threads 1 --json
says "faulty_zeros is quarantined, the next candidate takes its place" "linear 33x" " is 0, expected "
json "wrong" 0
json "rows.0.kernel" ref_any
json "rows.1.kernel" ref_any

# The evidence is on disk: later processes know, and say so.
cat "$XDG_CACHE_HOME"/gemmux/*.json >"$work/out"
prints '"faulty_zeros"' '"wrong"' "linear 33x" " is 0, expected "
run 0 select $product --json
[ "$("$query" decision.kernel <"$work/out")" != faulty_zeros ] || fail "still chosen"
run 0 select $product --why-not faulty_zeros
tr -s '\n ' ' ' <"$work/out" >"$work/flat" && mv "$work/flat" "$work/out"
prints "flags quarantined" "linear 33x" " is 0, expected " "Nothing makes it eligible"
! grep -q "have:" "$work/out" || fail "the evidence twice"
run 4 check faulty_zeros --json
json "kernels.0.proof" wrong
json "kernels.0.cached" true
run 3 select $product --only faulty_zeros --json
json "alternatives.0.kernel"
json "alternatives.0.without" --only
finish
