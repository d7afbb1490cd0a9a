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

# gemmux's own kernel is not tuned for another chip: its tile fits the 99 KiB, and it says which one
# it is. Where there is less, a smaller tile is taken, and why.
big="linear --m 2048 --n 14336 --k 4096 --x bf16 --w mxfp4 --y bf16 --only cuda_sm80_upcast --device gb10"
run 0 select $big --json
json "decision.tile" "256 rows of w by 128 of x"
json "decision.smem_bytes" 65536
run 0 select $big --what-if smem=48KiB --json
json "what_if.decision.tile" "128 rows of w by 64 of x"
json "what_if.decision.smem_bytes" 32768
json "what_if.decision.wanted_smem_bytes" 65536
run 0 select $big --what-if smem=48KiB
tr -s '\n ' ' ' <"$work/out" >"$work/flat" && mv "$work/flat" "$work/out"
prints "128 rows of w by 64 of x, 32.0 KiB of shared memory" "the best one takes 64.0 KiB and a block has 48.0 KiB here"
finish
