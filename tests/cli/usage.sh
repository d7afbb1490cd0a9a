# SPDX-License-Identifier: Apache-2.0
# Help, versions, exit codes and the sentences about what was mistyped.
. ./lib.sh

run 0 --help
silent
narrow 80
prints "gemmux probe" "gemmux select" "Exit codes"
run 0 --version
[ "$(cat "$work/out")" = "gemmux 0.1.0" ] || fail "version: $(cat "$work/out")"

for command in $("$gemmux" --help | awk '/^ +gemmux [a-z]+ / { print $2 }'); do
    run 0 "$command" --help
    silent
    narrow 80
    prints "usage: gemmux $command" "--json" "--help"
    plain
    run 2 "$command" --no-such-option
    says "$command" "--no-such-option"
done

run 2
run 2 selct
says '"selct"' "did you mean select?"
run 2 select linear --denny x
says "--denny" "did you mean deny?"
run 2 select linear --deny
says "--deny needs a value"
run 2 select linear --json=yes
says "--json takes no value"
run 2 kernels what
says '"what"'
if [ -w /dev/full ]; then
    for json in "" --json; do
        "$gemmux" kernels $json >/dev/full 2>"$work/err" && fail "written to a full device"
        says "cannot write to stdout"
    done
fi
run 1 probe what # a file that is not there
says "'what'"
finish
