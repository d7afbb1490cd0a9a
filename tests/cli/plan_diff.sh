# SPDX-License-Identifier: Apache-2.0
# gemmux plan diff: which layers changed kernel, which check flipped, exit 3 for the worse.
. ./lib.sh

old=$work/old.json
new=$work/new.json
run 0 plan gpt-oss-20b --device zen4,avx2-laptop --save "$old"
run 0 plan gpt-oss-20b --device zen4,avx2-laptop --deny '*avx512_bf16' --save "$new"

# The same plan twice: nothing, and exit 0.
run 0 plan diff "$old" "$old" --json
silent
json worse 0
json better 0
json other 0
json changes.# 0
json devices.# 2
run 0 plan diff "$old" "$old"
prints "0 for the worse, 0 for the better"

# A kernel that is lost: named with the check that flipped, for the worse.
run 3 plan diff "$old" "$new" --json
silent
json changes.0.device zen4
json changes.0.kernel_changed true
json changes.0.verdict worse
json changes.0.old.kernel x86_avx512_bf16
json changes.0.flipped.0.kernel x86_avx512_bf16
json changes.0.flipped.0.now fails
json changes.0.flipped.0.stage flags
json changes.0.flipped.0.code denied
[ "$("$query" worse <"$work/out")" -gt 0 ] || fail "nothing worse"
[ "$("$query" better <"$work/out")" = 0 ] || fail "something is better without a kernel"
grep -q '"device": "avx2-laptop"' "$work/out" || fail "avx2-laptop is missing"
"$query" changes.# <"$work/out" >"$work/count"
for columns in 60 80 200; do
    COLUMNS=$columns
    export COLUMNS
    run 3 plan diff "$old" "$new"
    narrow $columns
    plain
done
unset COLUMNS
prints "worse" "x86_avx512_bf16" "flags: x86_avx512_bf16 is denied by the caller" "for the worse"

# The other way round it is for the better, and exit 0.
run 0 plan diff "$new" "$old" --json
json worse 0
json changes.0.verdict better
json changes.0.flipped.0.now passes
json changes.0.flipped.0.code denied
[ "$("$query" changes.# <"$work/out")" = "$(cat "$work/count")" ] || fail "not the same changes"

# A model that does not fit any more, numbers that are not exact any more.
printf 'name Box\nkind cuda\ncc 9.0\ncores 100\nmemory 96 GiB\nbandwidth 4 TB/s\n' >"$work/box.txt"
run 0 plan gpt-oss-20b --device "$work/box.txt" --save "$old"
sed -i 's/96 GiB/8 GiB/' "$work/box.txt"
run 3 plan gpt-oss-20b --device "$work/box.txt" --save "$new"
run 3 plan diff "$old" "$new" --json
json devices.0.old_fits true
json devices.0.new_fits false
json devices.0.verdict worse
run 0 plan llama-3.1-8b --device zen4 --save "$old"
sed 's/"lossless": true/"lossless": false/; s/"liberties": \[$/"liberties": ["tf32",/' "$old" >"$new"
run 3 plan diff "$old" "$new" --json
json changes.0.verdict worse
json changes.0.kernel_changed false

# No kernel at all any more.
run 3 plan llama-3.1-8b --device zen4 --deny '*' --save "$new"
run 3 plan diff "$old" "$new" --json
json changes.0.verdict worse
json changes.0.new null
json changes.0.m 1
json changes.0.flipped.0.code denied
json devices.0.new_fits false
run 3 plan diff "$old" "$new"
prints "no kernel"

# Two questions are two answers: said, not refused.
run 0 plan llama-3.1-8b --device zen4 --batch 4 --save "$new"
run 0 plan diff "$old" "$old"
"$gemmux" plan diff "$old" "$new" >"$work/out" 2>"$work/err"
grep -q "the workloads differ: batch is 4, was 1" "$work/err" || fail "no word of the batch: $(cat "$work/err")"

# Mistakes.
run 2 plan diff "$old"
says "two saved plans"
run 1 plan diff "$old" "$work/none.json"
says "$work/none.json"
run 2 plan diff "$old" plan_diff.sh
says "plan_diff.sh:1:"
echo '[1, 2]' >"$work/bad.json"
run 2 plan diff "$old" "$work/bad.json"
says "bad.json is no plan"
echo '{"plan_version": 1}' >"$work/bad.json"
run 2 plan diff "$old" "$work/bad.json"
says 'has no "gemmux"'
sed 's/"plan_version": 1/"plan_version": 9/' "$old" >"$work/bad.json"
run 2 plan diff "$old" "$work/bad.json"
says "plan_version 9"
sed 's/"kernel": "[a-z0-9_]*"/"kernel": 7/' "$old" >"$work/bad.json"
run 2 plan diff "$old" "$work/bad.json" --json
says 'has no "kernel", or it is of another type'
json error.exit 2
run 0 plan llama-3.1-8b --device h200 --save "$new"
run 2 plan diff "$old" "$new"
says "no device in common"
finish
