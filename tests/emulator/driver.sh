#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# driver.sh GEMMUX DRIVER OTHER: what the command says of drivers that are not there, too old, that see
# no device or do not fit their kernel module. DRIVER: folder of the emulated libcuda; OTHER: some
# library that is none.
set -u
gemmux=$1 driver=$2 other=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME=$work/cache NO_COLOR=1
bad=0
# says CODE TEXT VARIABLE=VALUE...: exit code and sentence of each command that wants the device
says() {
    local code=$1 text=$2 out rc command
    shift 2
    for command in "check cuda_ref_any" "bench --m 1" "run --m 1" \
        "select linear --m 1 --n 64 --k 64 --x bf16 --w mxfp4 --y bf16" probe; do
        # shellcheck disable=SC2086
        out=$(env "$@" "$gemmux" $command --device cuda:0 2>&1)
        rc=$?
        if [ "$rc" -ne "$code" ] || ! grep -qF -- "$text" <<<"$out" || [ "$(wc -l <<<"$out")" -ne 1 ]; then
            printf 'FAIL %s: %s\nexpected %s and "%s", got %s:\n%s\n' "$*" "$command" "$code" "$text" "$rc" "$out"
            bad=1
        fi
    done
}
mkdir "$work/none" "$work/other"
ln -s "$other" "$work/other/libcuda.so.1"
: >"$work/none/libcuda.so.1"
says 1 "no NVIDIA driver on this machine: libcuda.so.1 cannot be opened" LD_LIBRARY_PATH="$work/none"
says 1 "it is not the NVIDIA driver's library, or older than CUDA 12.0" LD_LIBRARY_PATH="$work/other"
says 1 "the driver is for CUDA 11.8, gemmux needs one for 12.0 or newer; update the NVIDIA driver" \
    LD_LIBRARY_PATH="$driver" EMULATED_DRIVER=11080
says 1 "no NVIDIA GPU is visible to this process" LD_LIBRARY_PATH="$driver" EMULATED_INIT=100
says 1 "after a driver update this machine must be rebooted" LD_LIBRARY_PATH="$driver" EMULATED_INIT=803
# And where there is none, the CPU serves.
out=$(LD_LIBRARY_PATH="$work/none" "$gemmux" select linear --m 1 --n 64 --k 64 --x bf16 --w mxfp4 --y bf16 2>&1) ||
    { echo "FAIL without a driver: $out"; bad=1; }
[ "$bad" -eq 0 ] && echo "drivers that cannot serve are told apart"
exit "$bad"
