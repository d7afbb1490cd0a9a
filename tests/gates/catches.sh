#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The gates must be able to fail: each planted violation in a small tree is named.
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
gate=$root/scripts/check_architecture.sh
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failures=0
count=0

reset() {
    local file
    rm -rf "${tree:?}"/*
    mkdir -p "$tree"/src/{kernels,driver,checkpoint} "$tree"/{cli,include,scripts}
    for file in include/gemmux.h src/select.h src/run.h src/driver/libcuda.h src/kernel.h; do
        echo '/* SPDX-License-Identifier: Apache-2.0 */' >"$tree/$file"
    done
}

# expect TEXT FILE LINE...: the file with these lines must make the gate fail with TEXT.
expect() {
    local text=$1 file=$2 out
    shift 2
    reset
    { echo '/* SPDX-License-Identifier: Apache-2.0 */'; printf '%s\n' "$@"; } >"$tree/$file"
    count=$((count + 1))
    if out=$(bash "$gate" "$tree" 2>&1); then
        echo "not caught: $file: $*"
        failures=$((failures + 1))
    elif ! grep -qF -- "$text" <<<"$out"; then
        echo "caught without saying \"$text\": $out"
        failures=$((failures + 1))
    fi
}

reset
bash "$gate" "$tree" >/dev/null 2>&1 || { echo "a clean tree does not pass"; failures=1; }
expect "'select' includes 'run'" src/select.c '#include "run.h"'
expect "'kernels' includes 'select'" src/kernels/x86_a.c '#include "select.h"'
expect "may not see driver tables" src/select.c '#include "driver/libcuda.h"'
expect "may not see driver tables" src/checkpoint/gguf.c '#include "driver/libcuda.h"'
expect "has no place in the layers" src/novelty.c 'int gemmux_novelty;'
expect "not in include/ or src/" src/run.c '#include "nowhere.h"'
expect "file name already used" src/kernels/run.h 'int x;'
expect "cli/ may include only" cli/probe.c '#include "kernel.h"'
expect "cli/ may include only" cli/probe.c '#include "../src/kernel.h"'
expect "select may not" src/select.c '#include <time.h>'
expect "no #if in decisions" src/select.c '#ifdef __AVX2__' '#endif'
expect "never aborts, exits or prints" src/run.c 'void f(void) { abort(); }'
expect "never aborts, exits or prints" src/run.c 'void f(void) { printf("x"); }'
expect "never aborts, exits or prints" src/run.c 'void f(void) { fprintf(stderr, "x"); }'


# refuses TEXT GATE ARGUMENT...: the gate must fail and say TEXT.
refuses() {
    local text=$1 out
    shift
    count=$((count + 1))
    if out=$(sh "$@" 2>&1) || ! grep -qF -- "$text" <<<"$out"; then
        echo "not caught with \"$text\": $*: $out"
        failures=$((failures + 1))
    fi
}
compile() { cc -x c -std=c11 -D_GNU_SOURCE -fPIC "$@" -; }
echo 'int gemmux_explain;' | compile -c -o "$tree/explain.c.o"
echo 'char *getenv(const char *); char *gemmux_select(void) { return getenv("X"); }' |
    compile -c -o "$tree/select.c.o"
refuses "calls getenv" "$root/scripts/check_purity.sh" "$tree/select.c.o" "$tree/explain.c.o"
refuses "found 1" "$root/scripts/check_purity.sh" "$tree/explain.c.o"
printf '#define GEMMUX_API\nGEMMUX_API int gemmux_a(\n    int x);\nGEMMUX_API const char *gemmux_b(void);\n' \
    >"$tree/api.h"
echo 'int gemmux_a(int x) { return x; } int helper(void) { return 0; }' | compile -shared -o "$tree/lib.so"
refuses "not in gemmux.h: helper" "$root/scripts/check_symbols.sh" "$tree/lib.so" "$tree/api.h"
refuses "not defined: gemmux_b" "$root/scripts/check_symbols.sh" "$tree/lib.so" "$tree/api.h"

if [ "$failures" -ne 0 ]; then exit 1; fi
echo "gates: all $count planted violations were caught"
