#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# probe.sh GEMMUX FILE [RUNS]: how long `gemmux probe FILE` takes with FILE in the page cache, for
# libraries such as libcublasLt.so.13 (541 MB). Prints bytes, median, slowest, processor time and
# the bar (1 s). A benchmark, not a test.
set -eu
gemmux=$1
file=$2
runs=${3:-15}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$gemmux" probe "$file" --json >"$work/out" # the file into the page cache
TIMEFORMAT='%R %U %S'
for ((i = 0; i < runs; i++)); do
    { time "$gemmux" probe "$file" --json >"$work/out"; } 2>&1
done | sort -n >"$work/times"
awk -v name="${file##*/}" -v bytes="$(wc -c <"$file")" '
    { wall[NR] = $1; cpu += $2 + $3 }
    END { printf "%s %d bytes: median %.3f s, slowest %.3f s of %d, processor %.3f s; the bar is 1 s\n",
                 name, bytes, wall[int((NR + 1) / 2)], wall[NR], NR, cpu / NR }' "$work/times"
