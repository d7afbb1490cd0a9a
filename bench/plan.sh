#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# plan.sh GEMMUX [RUNS]: how long `gemmux plan` takes for every described device at once, opening the
# model included: as a table, as JSON with every verdict, and for the built-in model with the most
# tensors. Prints median and slowest, processor time and the bar (1 s). A benchmark, not a test.
set -eu
gemmux=$1
runs=${2:-15}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
TIMEFORMAT='%R %U %S'

measure() {
    local label=$1
    shift
    for ((i = 0; i < runs; i++)); do
        { time "$gemmux" plan "$@" >"$work/out" 2>/dev/null; } 2>>"$work/times"
    done
    sort -n "$work/times" | awk -v label="$label" -v bytes="$(wc -c <"$work/out")" '
        { wall[NR] = $1; cpu += $2 + $3 }
        END { printf "%-24s %8d bytes: median %.3f s, slowest %.3f s of %d, processor %.3f s; the bar is 1 s\n",
                     label, bytes, wall[int((NR + 1) / 2)], wall[NR], NR, cpu / NR }'
    rm "$work/times"
}
count=$("$gemmux" probe 2>/dev/null | sed -n '/^described/,$p' | sed 's/.*--device://' | wc -w)
echo "$("$gemmux" --version), $count described devices"
measure gpt-oss-120b gpt-oss-120b --device all
measure "gpt-oss-120b --json" gpt-oss-120b --device all --json
measure deepseek-v3 deepseek-v3 --device all
