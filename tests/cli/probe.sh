# SPDX-License-Identifier: Apache-2.0
# gemmux probe and gemmux kernels.
. ./lib.sh

run 0 probe
silent
plain
narrow 80
prints "arch" "memory" "b200"
run 0 probe --json
json "devices.0.id" cpu
json "devices.0.cores"
json "devices.0.libraries.#"
json "described.#"
[ "$("$query" "devices.0.cores" <"$work/out")" -ge 1 ] || fail "no cores"
run 0 probe --device rtx-5090 --json
json "devices.0.arch" sm_120
json "devices.0.described" true
run 2 probe --device nothing
says "nothing"

run 0 kernels
silent
plain
narrow 80
prints "ref_any" "KERNEL"
run 0 kernels --json
for member in kernel summary device library packing needs; do
    json "kernels.0.$member"
done
grep -q '"kernel": "ref_any"' "$work/out" || fail "no ref_any"
COLUMNS=60
export COLUMNS
run 0 kernels
narrow 60
run 0 probe
narrow 60
finish
