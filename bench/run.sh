#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# run.sh [MODEL]: what routing itself costs on this machine: select, planning a checkpoint's header,
# and with MODEL the peak memory of running all of it.
set -eu
build=$(dirname "$0")/../build
date -u +"%Y-%m-%d %H:%M UTC"
sed -n 's/^model name\t*: //p' /proc/cpuinfo | head -1
"$build/bench/bench_overhead"
if [ $# -gt 0 ]; then
    "$build/gemmux" run "$1" --json >"${TMPDIR:-/tmp}/gemmux-run.$$"
    bytes=$(sed -n 's/.*"peak_memory_bytes": *\([0-9]*\).*/\1/p' "${TMPDIR:-/tmp}/gemmux-run.$$")
    rm -f "${TMPDIR:-/tmp}/gemmux-run.$$"
    size=$(wc -c <"$1")
    echo "gemmux run $(basename "$1"): at most $((bytes >> 20)) MiB resident, of them the mapped" \
        "file $((size >> 20)) MiB"
fi
