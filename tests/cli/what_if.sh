# SPDX-License-Identifier: Apache-2.0
# gemmux select --what-if: the decision before and after, the checks that flipped, and errors that
# name the known facts.
. ./lib.sh

problem="linear --m 16 --n 256 --k 512 --x bf16 --w mxfp4 --y bf16"

# A chip with less: the kernel that was chosen is refused by the fact that changed, and the exit
# code and the document's top level keep their meaning.
run 0 select $problem --device zen4 --json
json "decision.kernel" x86_avx512_bf16
run 0 select $problem --device zen4 --what-if isa=avx2 --json
silent
json "decision.kernel" x86_avx512_bf16
json "what_if.facts.0.fact" isa
json "what_if.facts.0.then" "sse2 avx2"
json "what_if.decision.kernel" x86_avx2
json "what_if.device.arch" "x86-64+avx2"
changed() { # KERNEL MEMBER: of what_if.changed
    count=$("$query" "what_if.changed.#" <"$work/out")
    i=0
    while [ "$i" -lt "$count" ]; do
        if [ "$("$query" "what_if.changed.$i.kernel" <"$work/out")" = "$1" ]; then
            "$query" "what_if.changed.$i.$2" <"$work/out"
            return
        fi
        i=$((i + 1))
    done
    echo "no $1 in changed"
}
[ "$(changed x86_avx512_bf16 now)" = chosen ] || fail "now: $(changed x86_avx512_bf16 now)"
[ "$(changed x86_avx512_bf16 then)" = rejected ] || fail "then: $(changed x86_avx512_bf16 then)"
[ "$(changed x86_avx512_bf16 new.0.code)" = isa-missing ] || fail "new: $(changed x86_avx512_bf16 new.0.code)"
[ "$(changed x86_avx512_bf16 gone.#)" = 0 ] || fail "gone: $(changed x86_avx512_bf16 gone.0.code)"
[ "$(changed x86_avx2 then)" = chosen ] || fail "avx2: $(changed x86_avx2 then)"
[ "$(changed ref_any now)" = "no ref_any in changed" ] || fail "ref_any has not changed"

# The other way round: a check that no longer fails.
run 0 select $problem --device avx2-laptop --what-if isa=+avx512bf16 --json
[ "$(changed x86_avx512_bf16 gone.0.code)" = isa-missing ] || fail "gone"
[ "$(changed x86_avx512_bf16 then)" != rejected ] || fail "still rejected"

# A library that is not there; several facts; the product's own facts.
run 0 select $problem --device bare --what-if onednn=3.5 --json
json "what_if.facts.0.now" none
json "what_if.facts.0.then" 3.5.0
[ "$(changed onednn_dequant gone.0.code)" = library-absent ] || fail "onednn was not absent"
run 0 select $problem --device zen4 --what-if m=1,k=544,w=int4:g32 --what-if allow=tf32+rounded-x,epilogue=bias --json
json "problem.k" 512
json "what_if.problem.m" 1
json "what_if.problem.k" 544
json "what_if.problem.w" int4:g32
json "what_if.problem.epilogue.0" bias
json "what_if.problem.liberties.#" 4
json "what_if.facts.#" 5
run 0 select $problem --device h200 --what-if cc=13.0 --json
says "sm_130 is not an architecture that gemmux"
json "what_if.device.arch" sm_130

# In words: both decisions and what changed.
run 0 select $problem --device zen4 --what-if isa=avx2
prints "x86_avx512_bf16 on zen4" "what if" "x86_avx2 on zen4" "WHAT CHANGED" "needs avx512"
run 0 select $problem --device zen4 --what-if memory=64GiB
prints "No verdict changes."
for columns in 60 80 132; do
    COLUMNS=$columns
    export COLUMNS
    run 0 select $problem --device zen4 --what-if isa=avx2,cores=4
    narrow $columns
    plain
done
unset COLUMNS

# No kernel then is no kernel: exit 3. --why-not asks about the changed machine.
run 3 select $problem --device zen4 --what-if isa=avx2 --only x86_avx512_bf16 --json
says "no kernel"
json "decision.kernel" x86_avx512_bf16
json "what_if.decision" null
run 0 select $problem --device zen4 --what-if isa=avx2 --why-not x86_avx512_bf16 --json
json "why_not.helps" true
json "why_not.changes.0.power" hardware
run 0 select $problem --device zen4 --what-if isa=avx2 --why-not x86_avx512_bf16
prints "isa is sse2 avx2 instead of" "rejected, 1 failing check" "hardware: a CPU with avx512"

# Mistakes name the fact, the reason and what is known.
run 2 select $problem --device zen4 --what-if isaa=avx2
says '"isaa"' "did you mean isa?" "top-k" "peak.bf16" "onednn"
run 2 select $problem --device h200 --what-if isa=avx2
says '"isa"' "cc" "smem"
run 2 select $problem --device h200 --what-if smem=228
says "smem" "needs a unit"
run 2 select $problem --device h200 --what-if smem
says "FACT=VALUE"
run 2 select $problem --device h200 --what-if =3
says "FACT=VALUE"
run 2 select $problem --device h200 --what-if k=2944,
says "FACT=VALUE"
run 2 select $problem --device h200 --what-if m=none
says "m" "whole number"
run 2 select $problem --device h200 --what-if w=f33
says "f33"
run 2 select $problem --device h200 --what-if align=24
says "align=24" "power of two"
run 2 select $problem --device h200 --what-if ""
says "--what-if"
run 2 select $problem --align 24
says "align=24"
run 2 select $problem --device h200 --what-if "$(printf 'k=%0300d' 1)"
says "too long"
finish
