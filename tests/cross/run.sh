#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# run.sh ROOT BUILD: the kernel tests on 64-bit Arm: cross-built by tests/cross/CMakeLists.txt and run by
# qemu-user as three CPUs: one with every instruction set, and two that lack the newer ones, where an
# instruction that slipped into an older level ends the test. Exit 77, with a message, where the cross
# compiler or the emulator is missing (scripts/setup.sh test installs both).
set -eu
root=$(realpath "$1")
build=$2

for tool in aarch64-linux-gnu-gcc qemu-aarch64; do
    if ! command -v "$tool" >/dev/null 2>&1; then
        echo "skipped: $tool is not here (Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)"
        exit 77
    fi
done

log=$build.log
mkdir -p "$build"
if ! { cmake -S "$root/tests/cross" -B "$build" -DCMAKE_TOOLCHAIN_FILE="$root/cmake/aarch64-linux-gnu.cmake" &&
    cmake --build "$build" -j "$(nproc)"; } >"$log" 2>&1; then
    tail -n 40 "$log"
    exit 1
fi

as() { # CPU PROGRAM ARGUMENTS
    echo "$1:"
    qemu-aarch64 -cpu "$1" -L /usr/aarch64-linux-gnu "$build/$2" "${@:3}"
}
as cortex-a72 levels neon
as neoverse-n1 levels dotprod
as max levels dotprod i8mm bf16 sve
export GEMMUX_TEST_KERNELS="arm_*"
as cortex-a72 test_kernels &
older=$!
as max test_kernels
wait "$older"
