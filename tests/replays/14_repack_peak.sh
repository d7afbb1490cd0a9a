# SPDX-License-Identifier: Apache-2.0
# Repacking 60 GB of experts on a 96 GB card: others hold both copies. A GPU gets packed weights alone,
# as they are made; on a CPU layers are repacked one after the other, so the forecast is never more than
# the packed weights and one layer's source, and a packing that is the stored layout needs no second copy.
. ../cli/lib.sh

peak_is_one_copy() {
    weights=$("$query" "devices.0.memory.weight_bytes" <"$work/out")
    repack=$("$query" "devices.0.memory.repack_bytes" <"$work/out")
    total=$("$query" "devices.0.memory.total_bytes" <"$work/out")
    peak=$("$query" "devices.0.memory.peak_bytes" <"$work/out")
    # the largest layer of gpt-oss-120b: 128 experts of 5760 x 2880 in mxfp4, 1.05 GiB, or lm_head
    [ "$repack" -le 1162000000 ] || fail "$1: $repack bytes beside the packed weights"
    [ "$peak" -le $((weights + repack)) ] || [ "$peak" -eq "$total" ] || fail "$1: peak $peak"
}
run 0 plan gpt-oss-120b --device rtx-pro-6000 --json
peak_is_one_copy "rtx-pro-6000"
json "devices.0.memory.repack_bytes" 0
json "devices.0.fits" true
run 0 plan gpt-oss-120b --device zen4 --json
peak_is_one_copy zen4
run 0 plan gpt-oss-120b --device zen4 --only ref_any --json # weights stay as they are
json "devices.0.memory.repack_bytes" 0
finish
