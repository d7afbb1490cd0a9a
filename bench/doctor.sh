#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# doctor.sh GEMMUX [RUNS]: how long `gemmux doctor` takes for logs of 10 MB: text with the message
# at its end, the same traceback over and over, and random bytes. Prints one line a log: name, bytes,
# median, slowest, the bar (300 ms). A benchmark, not a test.
set -eu
gemmux=$1
runs=${2:-15}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
size=10000000
message='Only Hopper swizzling is supported for values'

# Lines as serving programs write them; a fixed seed, so that every run reads the same bytes.
text() {
    awk -v size=$size 'BEGIN {
        srand(1)
        n = split("INFO WARNING model layers weight shard step loss cuda kernel triton compile cache" \
                  " 0.123 1e-4 /site-packages/torch/nn/modules/module.py line 1776 _call_impl", word, " ")
        while (bytes < size) {
            line = "2026-11-23 12:00:00"
            for (i = 4 + int(rand() * 16); i > 0; i--) line = line " " word[1 + int(rand() * n)]
            bytes += length(line) + 1
            print line
        }
    }' | head -c $size
    printf '\n%s\n' "$message"
}
traceback() {
    local one="  File \"matmul_ogs.py\", line 467, in matmul_ogs
    (kernels._p_matmul_ogs if opt_flags.is_persistent else kernels._matmul_ogs)[(grid,)](
triton.compiler.errors.CompileTimeAssertionFailure: at 38:8:
$message"
    yes "$one" | head -c $size
}
text >"$work/text"
traceback >"$work/traceback"
{ head -c $size /dev/urandom; printf '\n%s\n' "$message"; } >"$work/binary"
for log in text traceback binary; do
    "$gemmux" doctor "$work/$log" >/dev/null # the file into the page cache
    for ((i = 0; i < runs; i++)); do
        start=${EPOCHREALTIME/./}
        "$gemmux" doctor "$work/$log" --json >"$work/out"
        echo $((${EPOCHREALTIME/./} - start))
    done | sort -n >"$work/times"
    grep -q layout-kernel-disagree "$work/out" || echo "$log: the message was not found" >&2
    awk -v log_name=$log -v bytes="$(wc -c <"$work/$log")" '
        { us[NR] = $1 }
        END { printf "%-10s %d bytes: median %.1f ms, slowest %.1f ms of %d; the bar is 300 ms\n",
                     log_name, bytes, us[int((NR + 1) / 2)] / 1e3, us[NR] / 1e3, NR }' "$work/times"
done
