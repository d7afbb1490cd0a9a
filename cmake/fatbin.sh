#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# fatbin.sh NVCC OUT SOURCE FLAGS... -- HEADERS...: compiles SOURCE to the fatbin OUT. Device code
# for all targets takes minutes, so where ccache is in use ($CCACHE_DIR) its result is kept there,
# under the hash of everything that it depends on; ccache itself does not know fatbins.
set -eu
nvcc=$1 out=$2 source=$3
shift 3
flags="" key=""
while [ "$1" != -- ]; do
    flags="$flags $1"
    case $1 in
    -I*) ;; # a place, not a meaning
    *) key="$key $1" ;;
    esac
    shift
done
shift
compile() {
    # shellcheck disable=SC2086 # flags hold no spaces
    "$nvcc" -fatbin $flags -o "$out" "$source"
}
[ -n "${CCACHE_DIR:-}" ] || { compile && exit 0; }
# What the headers say without comments and the prototypes of the public API: types and constants.
meaning() {
    command -v gcc >/dev/null || { cat "$@" && return; }
    for header in "$@"; do
        gcc -w -x c -fpreprocessed -dD -E -P "$header" |
            awk '/^GEMMUX_API / { prototype = 1 } !prototype; /;/ { prototype = 0 }'
    done
}
hash=$({ echo "$key"; "$nvcc" --version; cat "$source"; meaning "$@"; } | sha256sum | cut -c 1-40)
kept=$CCACHE_DIR/gemmux-fatbin/$hash
if [ -f "$kept" ]; then
    cp "$kept" "$out"
else
    compile
    mkdir -p "$CCACHE_DIR/gemmux-fatbin"
    cp "$out" "$kept.$$" && mv "$kept.$$" "$kept"
fi
