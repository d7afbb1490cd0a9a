#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Everything that CI checks: the whole test list with gcc (gates included), the tests again under
# address + undefined-behaviour sanitizers, everything with clang and the fuzz targets for a short
# bounded time, the threaded tests under the thread sanitizer, clang-tidy. Ends with "N passed, N failed".
# Device code (minutes, where nvcc is) is compiled by the first build alone; the emulator of GPU kernels
# runs there alone too, because sanitizers do not know its fibers.
# GEMMUX_FUZZ_SECONDS: per fuzz target (default 10).
set -u
cd "$(dirname "$0")/.." || exit 2
jobs=$(nproc)
passed=0
failed=0
broken=()

note() { printf '\n== %s (%d s)\n' "$1" "$SECONDS"; }
tally() { # name, status
    if [ "$2" -eq 0 ]; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        broken+=("$1")
    fi
}

# build PRESET: both steps as one test; prints output only when it fails.
build() {
    note "build $1"
    local log
    log=$(mktemp)
    if cmake --preset "$1" >"$log" 2>&1 && cmake --build --preset "$1" >>"$log" 2>&1; then
        rm -f "$log"
        tally "build $1" 0
    else
        tail -n 60 "$log"
        rm -f "$log"
        tally "build $1" 1
        return 1
    fi
}

# tests PRESET [ctest arguments]: adds ctest's own count.
tests() {
    local preset=$1 log line total bad
    shift
    note "ctest $preset $*"
    log=$(mktemp)
    ctest --preset "$preset" -j "$jobs" --no-tests=error "$@" 2>&1 | tee "$log" | grep -vE '^ *[0-9]+/[0-9]+ Test .* Passed|^ +Start '
    line=$(grep -E 'tests passed, [0-9]+ tests? failed out of [0-9]+' "$log" | tail -1)
    rm -f "$log"
    if [ -z "$line" ]; then
        tally "ctest $preset" 1
        return
    fi
    total=${line##* }
    bad=$(sed 's/.*passed, \([0-9]*\) test.*/\1/' <<<"$line")
    passed=$((passed + total - bad))
    failed=$((failed + bad))
    [ "$bad" -eq 0 ] || broken+=("ctest $preset: $bad")
}

build default && tests default
build asan && tests asan
build fuzz && tests fuzz -L fuzz
build tsan && tests tsan
if [ -e build-fuzz/compile_commands.json ]; then
    note "clang-tidy"
    bash scripts/check_tidy.sh build-fuzz
    tally clang-tidy $?
fi

printf '\n%d s in all\n' "$SECONDS"
[ "$failed" -eq 0 ] || printf 'failed: %s\n' "${broken[@]}"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
