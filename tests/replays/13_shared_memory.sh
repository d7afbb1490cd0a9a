# SPDX-License-Identifier: Apache-2.0
# "Required: 131072, Hardware limit: 101376": the tile was tuned for another chip; both numbers come
# back, and the device's own limit confirms or contradicts them.
. ../cli/lib.sh

echo 'triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 131072, Hardware limit: 101376. Reducing block sizes or `num_stages` may help.' >"$work/log"
run 0 doctor "$work/log" --device gb10 --json
json "findings.#" 1
json "findings.0.cause" shared-memory-limit
json "findings.0.stage" device
json "findings.0.details.required" 131072
json "findings.0.details.limit" 101376
json "findings.0.facts.0.verdict" confirms
run 0 doctor "$work/log" --device h200 --json
json "findings.0.facts.0.verdict" contradicts
run 0 doctor "$work/log" --device gb10
tr -s '\n ' ' ' <"$work/out" >"$work/flat" && mv "$work/flat" "$work/out"
prints "Needed: 131072 bytes; there are 101376" "fewer stages first"
finish
