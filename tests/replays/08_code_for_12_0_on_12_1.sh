# SPDX-License-Identifier: Apache-2.0
# A library whose machine code ends at sm_120, on a 12.1: plain code runs there, sm_120a would not, and
# the kernels that are lost are named. Asked of the file alone: no GPU, no CUDA.
. ../cli/lib.sh
fatbins=../fixtures/fatbin

# one library with both kinds of code, at offsets that mean nothing
{ head -c 5000 /dev/zero; cat $fatbins/plain.fatbin; printf xyz; cat $fatbins/exact.fatbin; } >"$work/lib.so"
run 0 probe "$work/lib.so" --device gb10 --lost --json
json "fatbins" 2
json "devices.0.runs" true
json "devices.0.target" sm_120
json "devices.0.fatbins" 1
json "lost.#" 1
json "lost.0" two
run 0 probe "$work/lib.so" --device gb10 --lost
tr -s '\n ' ' ' <"$work/out" >"$work/flat" && mv "$work/flat" "$work/out"
prints "yes: sm_120 covers 12.1: same generation" "no: sm_120a runs on its own chip alone" \
    "1 kernels run, 1 do not: two"
run 3 probe $fatbins/exact.fatbin --device gb10
run 0 probe $fatbins/exact.fatbin --device rtx-5090
finish
