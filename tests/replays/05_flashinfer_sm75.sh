# SPDX-License-Identifier: Apache-2.0
# "FlashInfer requires GPUs with sm75 or higher" on an RTX 5090: the message is wrong about the GPU;
# CUDA is older than 12.9 and the list of architectures became empty.
. ../cli/lib.sh

cat >"$work/log" <<'LOG'
  File "flashinfer/jit/core.py", line 108, in check_cuda_arch
RuntimeError: FlashInfer requires GPUs with sm75 or higher
LOG
run 0 doctor "$work/log" --device rtx-5090 --json
json "findings.#" 1
json "findings.0.cause" flashinfer-arch-list-empty
json "findings.0.blame" toolchain
json "findings.0.claim.verdict" false
json "findings.0.facts.0.verdict" confirms
json "findings.0.facts.0.text" "This GPU is 12.0: far above 7.5, so the message is wrong about it."
run 0 doctor "$work/log" --device rtx-5090
tr -s '\n ' ' ' <"$work/out" >"$work/flat" && mv "$work/flat" "$work/out"
prints "empty" "12.9" "FLASHINFER_CUDA_ARCH_LIST"
finish
