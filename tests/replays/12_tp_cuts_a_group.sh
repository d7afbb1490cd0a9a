# SPDX-License-Identifier: Apache-2.0
# A split over devices that leaves K % 32 != 0: a kernel would read the scales of the neighbour, or
# stale padding. The layer is refused with the sizes; a split that keeps groups whole is planned.
. ../cli/lib.sh

run 3 plan gpt-oss-120b --device h100-sxm --tp 4 --json
json "devices.0.layers.2.group" "model.layers.*.mlp.experts.down_proj"
json "devices.0.layers.2.broken" true
json "devices.0.layers.2.decode.decision" null
"$query" "devices.0.layers.2.note" <"$work/out" | grep -qF "tp=4 splits K=2880 into 720.00, inside a group of mxfp4" ||
    fail "the note does not name the group"
json "devices.0.layers.3.broken" false
run 3 plan gpt-oss-120b --device h100-sxm --tp 4
tr -s '\n ' ' ' <"$work/out" >"$work/flat" && mv "$work/flat" "$work/out"
prints "the scales must be padded with zeros or the layer kept whole" "with --tp 1 it fits"
run 0 plan gpt-oss-120b --device h100-sxm --tp 2 --json
json "devices.0.layers.2.broken" false
json "devices.0.layers.2.decode.problem.k" 1440
finish
