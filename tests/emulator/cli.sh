#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# cli.sh GEMMUX: check and bench on the emulated GPU: a kernel is proved in a process of its own
# before it is timed, and one that cannot be proved is not used, though it was asked for by name.
set -u
gemmux=$1
XDG_CACHE_HOME=$(mktemp -d)
export XDG_CACHE_HOME NO_COLOR=1 COLUMNS=200 EMULATED_MULTIPROCESSORS=2
trap 'rm -rf "$XDG_CACHE_HOME"' EXIT
bad=0
expect() { # CODE TEXT COMMAND...: exit code, and a line of the output that has TEXT
    local code=$1 text=$2 out rc
    shift 2
    out=$("$@" 2>&1)
    rc=$?
    if [ "$rc" -ne "$code" ] || ! grep -qE -- "$text" <<<"$out"; then
        printf 'FAIL %s\nexpected %s and "%s", got %s:\n%s\n' "$*" "$code" "$text" "$rc" "$out"
        bad=1
    fi
}
small=(linear --device cuda:0 --m 1,3 --n 48 --k 64 --w mxfp4)

# Not even by name, where the proof does not fit into its time: it is called slow or, when one
# product took all of it, hung.
expect 3 'cuda_sm80_upcast (could not be proved|is quarantined, .*hung)' \
    "$gemmux" bench "${small[@]}" --only cuda_sm80_upcast --timeout 1
# A program that is not gemmux, or another build of it, proves nothing.
expect 0 'cuda_ref_any +skipped .*cannot start /nowhere' \
    env GEMMUX_PROVER=/nowhere "$gemmux" check --device cuda:0 cuda_ref_any
expect 0 'cuda_ref_any +skipped .*ended by itself' \
    env GEMMUX_PROVER=/bin/true "$gemmux" check --device cuda:0 cuda_ref_any
# The host's kernels are proved on the host.
expect 0 'ref_any +skipped .*it runs on the host' "$gemmux" check --device cuda:0 ref_any

# Kernels of another architecture are no news; nor are those that it denied itself an alternative.
out=$("$gemmux" bench "${small[@]}" --only nothing 2>&1)
grep -q 'without --only: ' <<<"$out" || { echo "FAIL no alternative: $out"; bad=1; }
out=$(EMULATED_MEMORY_MIB=1 "$gemmux" run --device cuda:0 --w mxfp4 --m 1 2>&1)
if grep -qE 'sm_100|without --deny' <<<"$out" || ! grep -q 'no kernel for' <<<"$out"; then
    printf 'FAIL a device without room:\n%s\n' "$out"
    bad=1
fi

expect 0 'cuda_ref_any +proved ' "$gemmux" check --device cuda:0 cuda_ref_any --timeout 600
expect 0 'cuda_ref_any +proved .* kept ' "$gemmux" check --device cuda:0 cuda_ref_any
expect 0 '^chosen: cuda_ref_any' "$gemmux" bench "${small[@]}" --only cuda_ref_any
if command -v gnuplot >/dev/null; then
    expect 0 'drew ' "$gemmux" bench "${small[@]}" --only cuda_ref_any --plot "$XDG_CACHE_HOME/roof.svg"
    expect 0 'CPU that emulates sm_90, 2 multiprocessors' cat "$XDG_CACHE_HOME/roof.svg"
fi
[ "$bad" -eq 0 ] && echo "emulated GPU: check and bench do as they should"
exit "$bad"
