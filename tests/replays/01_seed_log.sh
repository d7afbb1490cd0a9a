# SPDX-License-Identifier: Apache-2.0
# The first failure of all: gpt-oss on an RTX PRO 6000, "Only Hopper swizzling is supported for values".
# Layout and kernel disagree; it is no hardware limit; repacking strided costs nothing, bf16 4x.
. ../cli/lib.sh

run 0 doctor logs/only-hopper-swizzling.log --device rtx-pro-6000 --json
json "findings.#" 1
json "findings.0.cause" layout-kernel-disagree
json "findings.0.stage" precision
json "findings.0.blame" layout
json "findings.0.claim.verdict" false
json "findings.0.fixes.0.price" "1x memory, no loss"
json "findings.0.fixes.3.price" "about 4x memory, no loss"
[ "$("$query" "findings.0.fixes.#" <"$work/out")" -eq 4 ] || fail "bf16 is not the last fix"
json "findings.0.facts.0.verdict" confirms
run 0 doctor logs/only-hopper-swizzling.log --device rtx-pro-6000
tr -s '\n ' ' ' <"$work/out" >"$work/flat" && mv "$work/flat" "$work/out"
prints "packed for Blackwell (BLACKWELL_VALUE)" "(_matmul_ogs, not persistent) reads HOPPER_VALUE or STRIDED" \
    "not a hardware limit" "1. price: 1x memory, no loss Repack the values as STRIDED" \
    "4. price: about 4x memory" "gpt-oss-120b 234 GB" "does not fit it"

# the same cause in the words of a later version, and on a Hopper it is another machine's log
echo 'NotImplementedError: Must use persistent kernel and be TMA-compliant for native MXFP' >"$work/log"
run 0 doctor "$work/log" --device h200 --json
json "findings.0.cause" layout-kernel-disagree
json "findings.0.facts.0.verdict" contradicts
finish
