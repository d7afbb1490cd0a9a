# SPDX-License-Identifier: Apache-2.0
# gemmux probe FILE.
. ./lib.sh
fatbins=../fixtures/fatbin

run 0 probe $fatbins/family.fatbin --device gb10
silent
plain
narrow 80
prints "sm_120f" "compute_120" "sm_120f covers 12.1: same family" "12.1: yes on NVIDIA GB10"
run 0 probe $fatbins/family.fatbin --device gb10 --json
json "fatbins" 1
json "code.0.target" sm_120f
json "devices.0.runs" true
json "devices.0.target" sm_120f
json "lost" null

# the exact target runs on its own chip only; its kernels are named
run 3 probe $fatbins/exact.fatbin --device gb10 --lost
prints "sm_120a runs on its own chip alone" "0 kernels run, 2 do not" "  one" "  two"
run 0 probe $fatbins/exact.fatbin --device rtx-5090 --lost --json
json "lost.#" 0
run 0 probe $fatbins/sm_86.cubin --device rtx-3090
run 3 probe $fatbins/sm_86.cubin --device h200

# without --device and without a GPU here: every architecture
run 0 probe $fatbins/mixed.fatbin --json
json "devices.0.cc"

run 0 probe probe_file.sh
prints "no GPU code"
run 1 probe "$work/nothing"
says "$work/nothing"
run 2 probe $fatbins/plain.fatbin --device cpu
run 2 probe $fatbins/plain.fatbin $fatbins/plain.fatbin
run 2 probe --lost
finish
