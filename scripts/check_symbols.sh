#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# check_symbols.sh LIBRARY HEADER: the shared library shows exactly the functions that gemmux.h
# declares, and none is declared but missing.
set -eu
shown=$(nm -D --defined-only "$1" | awk '$2 != "A" {print $3}' | sort -u)
# Declarations start with GEMMUX_API; the name is the last word before the first parenthesis.
declared=$(awk '/^GEMMUX_API/ { text = ""; on = 1 }
    on { text = text " " $0; if (/[(]/) { sub(/\(.*/, "", text); n = split(text, w, /[ *]+/); print w[n]; on = 0 } }' \
    "$2" | sort -u)
extra=$(printf '%s\n' "$shown" | grep -vxF "$declared" || true)
missing=$(printf '%s\n' "$declared" | grep -vxF "$shown" || true)
[ -z "$extra" ] || echo "symbols: shown but not in gemmux.h:" $extra >&2
[ -z "$missing" ] || echo "symbols: in gemmux.h but not defined:" $missing >&2
[ -z "$extra$missing" ] || exit 1
echo "symbols: $(printf '%s\n' "$shown" | wc -l) functions, exactly those of gemmux.h"
