#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# install.sh BUILD CMAKE: installs into an empty tree, moves the tree, and builds the README's C
# example against it four ways: pkg-config and find_package, shared and static. Each must run.
set -eu
build=$(realpath "$1")
cmake=$2
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$cmake" --install "$build" --prefix "$work/first" >"$work/install.log"
mv "$work/first" "$work/tree" # nothing in it may depend on where it was put
tree=$work/tree
lib=$(dirname "$(find "$tree" -name libgemmux.so)")

for file in bin/gemmux include/gemmux.h share/man/man1/gemmux.1 \
    share/bash-completion/completions/gemmux share/zsh/vendor-completions/_gemmux \
    share/fish/vendor_completions.d/gemmux.fish share/doc/gemmux/LICENSE \
    share/gemmux/models/smollm2-135m-block.safetensors; do
    [ -f "$tree/$file" ] || { echo "install: $file is missing"; exit 1; }
done

# Stripped, as packages hold it.
cp "$lib/libgemmux.so" "$work/library" && strip "$work/library"
bytes=$(stat -c %s "$work/library")
[ "$bytes" -lt 40000000 ] || { echo "install: the library has $bytes bytes, 40 MB are allowed"; exit 1; }

# The proving program finds its library in the moved tree by itself, and is of no use to people.
code=0
env -u LD_LIBRARY_PATH "$tree/libexec/gemmux/gemmux-prove" 2>"$work/prove.log" || code=$?
[ "$code" -eq 2 ] || { cat "$work/prove.log"; echo "install: gemmux-prove ended with $code"; exit 1; }

awk '/^```c$/ { on = 1; next } /^```$/ { on = 0 } on' "$root/README.md" >"$work/main.c"
[ -s "$work/main.c" ] || { echo "install: README.md has no C example"; exit 1; }

run() { # name, program
    LD_LIBRARY_PATH=$lib "$2" >"$work/$1.out" || { echo "install: $1 failed with $?"; exit 1; }
    cmp -s "$work/pkg-shared.out" "$work/$1.out" || { echo "install: $1 printed otherwise"; exit 1; }
}
warn="-std=c11 -Wall -Wextra -Werror"
# shellcheck disable=SC2046,SC2086
link() { cc $warn "$work/main.c" -o "$1" $(pkg-config "${@:2}" --cflags --libs gemmux); }

export PKG_CONFIG_PATH=$lib/pkgconfig
link "$work/a"
readelf -d "$work/a" | grep -q 'NEEDED.*libgemmux.so.0' || { echo "install: not linked shared"; exit 1; }
run pkg-shared "$work/a"
[ -s "$work/pkg-shared.out" ] || { echo "install: the example printed nothing"; exit 1; }

consume() { # name, target
    mkdir "$work/$1"
    "$cmake" -S "$root/tests/install" -B "$work/$1" -DCMAKE_PREFIX_PATH="$tree" \
        -DCONSUMER_SOURCE="$work/main.c" -DCONSUMER_KIND="$2" >"$work/$1.log" &&
        "$cmake" --build "$work/$1" >>"$work/$1.log" || { cat "$work/$1.log"; exit 1; }
    run "$1" "$work/$1/consumer"
}
consume cmake-shared gemmux
consume cmake-static gemmux_static

rm "$lib"/libgemmux.so* # so that -lgemmux can only mean the archive
link "$work/b" --static
run pkg-static "$work/b"

"$tree/bin/gemmux" --version >/dev/null || { echo "install: gemmux --version failed"; exit 1; }
(cd / && "$tree/bin/gemmux" select linear --m 1 --n 64 --k 64 --x bf16 --w mxfp4 --y bf16 >/dev/null) ||
    { echo "install: gemmux select failed outside the tree"; exit 1; }
echo "install: pkg-config and find_package, shared and static: the README's example runs"
