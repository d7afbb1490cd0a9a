# SPDX-License-Identifier: Apache-2.0
# ptxas "Value 'sm_121a' is not defined": the tool chain, which ptxas, its version, the version needed.
. ../cli/lib.sh

printf 'text Cuda compilation tools, release 12.8, V12.8.93 text' >"$work/ptxas"
cat >"$work/log" <<LOG
Repro command: $work/ptxas -lineinfo -v --gpu-name=sm_121a x.ptx -o x.o
ptxas fatal   : Value 'sm_121a' is not defined for option 'gpu-name'
LOG
run 0 doctor "$work/log" --json
json "findings.#" 1
json "findings.0.blame" toolchain
json "findings.0.stage" library
json "findings.0.details.target" sm_121a
json "findings.0.details.ptxas" "$work/ptxas"
prints "The ptxas found here is 12.8 ($work/ptxas): too old for sm_121a."
run 0 doctor "$work/log"
tr -s '\n ' ' ' <"$work/out" >"$work/flat" && mv "$work/flat" "$work/out"
prints "sm_121a needs CUDA 12.9 or newer" "TRITON_PTXAS_PATH"
finish
