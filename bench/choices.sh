#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# choices.sh [SECONDS]: is the chosen kernel the fastest? Learns on this machine (in a cache of its
# own, so that nothing is remembered from before), then times 300 other products and prints those
# where the choice lost more than 5 %, and how many did not. The bar is 95 %. About 12 minutes on
# two cores; SECONDS bounds each half (default 900).
set -eu
gemmux=${GEMMUX:-$(dirname "$0")/../build/gemmux}
XDG_CACHE_HOME=$(mktemp -d)
export XDG_CACHE_HOME
trap 'rm -rf "$XDG_CACHE_HOME"' EXIT
date -u +"%Y-%m-%d %H:%M UTC"
sed -n 's/^model name\t*: //p' /proc/cpuinfo | head -1
echo "before anything was learnt, on the products that are learnt from:"
"$gemmux" bench --learn --seconds "${1:-900}" | tail -4
echo
"$gemmux" bench --grid --seconds "${1:-900}" >"$XDG_CACHE_HOME/grid"
grep 'lost' "$XDG_CACHE_HOME/grid" | awk '{ for (i = 1; i < NF; i++) if ($i == "lost" && $(i + 1) > 5) print }' || true
tail -4 "$XDG_CACHE_HOME/grid"
