# SPDX-License-Identifier: Apache-2.0
# gpt-oss-120b on a 96 GB card, from its config alone: it fits as it is stored, and bf16, which the
# usual advice asks for, is refused with the numbers: about 234 GB on a card of 96 GB (95.6 GiB).
. ../cli/lib.sh

run 0 plan gpt-oss-120b --device rtx-pro-6000 --json
json "devices.0.fits" true
json "devices.0.layers.3.format" mxfp4
json "devices.0.layers.3.multiplied_as" mxfp4
run 0 plan gpt-oss-120b --device rtx-pro-6000
prints "fits: 61.3 GiB needed of 95.6 GiB" "bf16 would need 21" " GiB, 3.6 times as much, and not fit"
run 3 plan gpt-oss-120b --device rtx-pro-6000 --dtype bf16 --json
json "devices.0.fits" false
bytes=$("$query" "devices.0.memory.peak_bytes" <"$work/out")
[ "$bytes" -gt 233000000000 ] && [ "$bytes" -lt 236000000000 ] || fail "bf16 needs $bytes bytes"
run 3 plan gpt-oss-120b --device rtx-pro-6000 --dtype bf16
prints "does not fit: 21" " GiB needed, 95.6 GiB there"
finish
