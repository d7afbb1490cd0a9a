#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# run.sh [SUITE...]: gemmux against OpenBLAS, BLIS, oneDNN and ggml on this machine. Suites: decode,
# middle, dense, moe, each in a few minutes; all of them by default. What is not installed is
# skipped with a message:
#
#     apt install libopenblas0 libblis4-openmp libdnnl-dev cmake ninja-build python3-pip
#
# ggml is built from the sources in the PyPI package llama-cpp-python, in $GEMMUX_PEERS (default
# /tmp/gemmux-peers), outside this tree. Needs build/libgemmux.a: ./make build first.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
scratch=${GEMMUX_PEERS:-/tmp/gemmux-peers}
mkdir -p "$scratch/bin" || exit 1
[ -e "$root/build/libgemmux.a" ] || cmake --build "$root/build" --target gemmux_static || exit 1

say() { printf 'peers: %s\n' "$1" >&2; }

fetch_ggml() {
    ggml=$(ls -d "$scratch"/llama_cpp_python-*/vendor/llama.cpp/ggml 2>/dev/null | tail -1)
    [ -n "$ggml" ] && return 0
    say "fetching ggml's sources (76 MB) from PyPI"
    python3 -m pip download -q --no-binary :all: --no-deps -d "$scratch" llama-cpp-python \
        >"$scratch/pip.log" 2>&1 && tar -C "$scratch" -xzf "$scratch"/llama_cpp_python-*.tar.gz
    ggml=$(ls -d "$scratch"/llama_cpp_python-*/vendor/llama.cpp/ggml 2>/dev/null | tail -1)
    [ -n "$ggml" ]
}

build_ggml() {
    [ -e "$scratch/ggml/src/libggml-cpu.so" ] && return 0
    say "building ggml for this machine, some minutes"
    [ -e "$ggml/ggml.pc.in" ] || : >"$ggml/ggml.pc.in" # the package leaves it out
    cmake -S "$ggml" -B "$scratch/ggml" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON \
        -DGGML_NATIVE=ON -DGGML_OPENMP=OFF -DGGML_BUILD_TESTS=OFF -DGGML_BUILD_EXAMPLES=OFF \
        >"$scratch/ggml.log" 2>&1 &&
        cmake --build "$scratch/ggml" -j "$(nproc)" >>"$scratch/ggml.log" 2>&1
}

# module NAME FLAGS...: $scratch/bin/peer_NAME.so, or a message
modules=()
module() {
    local name=$1 out=$scratch/bin/peer_$1.so
    shift
    if cc -std=gnu11 -O2 -Wall -Wextra -shared -fPIC "$here/peer_$name.c" -o "$out" "$@" -ldl \
        2>"$scratch/$name.log"; then
        modules+=("$out")
    else
        say "$name is skipped: $(grep -m1 error "$scratch/$name.log")"
    fi
}

module blas
module onednn -ldnnl
if fetch_ggml && build_ggml; then
    module ggml -I"$ggml/include" -L"$scratch/ggml/src" -lggml -lggml-base -lggml-cpu \
        -Wl,-rpath,"$scratch/ggml/src"
else
    say "ggml is skipped: see pip.log and ggml.log in $scratch"
fi
cc -std=gnu11 -O2 -Wall -Wextra -rdynamic -I"$root/include" -I"$root/src" "$here/peers.c" -o \
    "$scratch/bin/bench_peers" "$root/build/libgemmux.a" -ljansson -lpthreadpool -lpthread -lm \
    -ldl || exit 1

# Threads of one library should not spin while another is timed.
export OPENBLAS_THREAD_TIMEOUT=4 GOMP_SPINCOUNT=10000
race() { "$scratch/bin/bench_peers" "${modules[@]}" "$@" || exit 1; }

date -u +"%Y-%m-%d %H:%M UTC"
sed -n 's/^model name\t*: //p' /proc/cpuinfo | head -1
[ $# -gt 0 ] || set -- decode middle dense moe
for suite; do
    printf '\n== %s\n' "$suite"
    case $suite in
    decode)
        race -l -f mxfp4,nvfp4,int4,nf4 -s 4096x4096,14336x4096 -m 1,4 -t 1,2
        race -l -f f32,f16,bf16 -s 4096x4096 -m 1 -t 1,2
        ;;
    middle) race -l -f mxfp4,nvfp4,int4,nf4 -s 4096x4096 -m 16,512 -t 2 ;;
    dense)
        race -l -f bf16,f32,int8 -s 4096x4096 -m 512 -t 1,2
        race -k 'x86_*' -f bf16,f32,int8 -s 4096x4096 -m 512 -t 1,2
        ;;
    moe) race -l -f mxfp4 -s 5760x2880 -e 32,4 -m 1,4,128,512 -t 1,2 ;;
    *)
        say "no suite is called $suite: decode, middle, dense, moe"
        exit 2
        ;;
    esac
done
