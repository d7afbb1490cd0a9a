#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The architecture gate must be able to fail: each planted violation in a small tree is named.
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

if [ "$failures" -ne 0 ]; then exit 1; fi
echo "architecture: all $count planted violations were caught"
