# SPDX-License-Identifier: Apache-2.0
# A kernel meets an instruction that the chip does not have. Elsewhere the probe takes the process
# with it; here a child dies, the command goes on with the next kernel, and nobody tries it again.
. ../cli/lib.sh
gemmux=$3 # with a kernel that does just that

run 0 run --w nvfp4 --m 1 --only 'faulty_illegal,ref_any' --threads 1 --json
says "faulty_illegal is quarantined, the next candidate takes its place" "SIGILL in linear"
json "wrong" 0
json "rows.0.kernel" ref_any
json "rows.0.verified" true

# Later processes know: nothing is tried again, and the reason has the evidence.
run 4 check faulty_illegal --json
silent
json "kernels.0.proof" crashed
json "kernels.0.cached" true
"$query" kernels.0.evidence <"$work/out" | grep -q "SIGILL in linear" || fail "no SIGILL: $(cat "$work/out")"
run 0 select linear --m 1 --n 64 --k 128 --x bf16 --w nvfp4 --y bf16 --why-not faulty_illegal
tr -s '\n ' ' ' <"$work/out" >"$work/flat" && mv "$work/flat" "$work/out"
prints "flags quarantined" "SIGILL in linear"
# Asked to try again, it dies again, in a child.
run 4 check faulty_illegal --again --json
json "kernels.0.proof" crashed
json "kernels.0.cached" false
finish
