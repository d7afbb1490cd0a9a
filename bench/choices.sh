#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# choices.sh [SECONDS]: is the chosen kernel the fastest? Learns on this machine (in a cache of its
# own, so that nothing is remembered from before), then times 300 other products and prints those
# where the choice lost more than 5 %, and how many did not. The bar is 95 %. About 12 minutes on
# two cores, in pieces of SECONDS (default 900) of which each goes on where the last one ended, so
# that GEMMUX may be a command that waits until nothing else runs: GEMMUX="wait-for-it gemmux".
set -eu
gemmux=${GEMMUX:-$(dirname "$0")/../build/gemmux}
seconds=${1:-900}
XDG_CACHE_HOME=$(mktemp -d)
export XDG_CACHE_HOME
trap 'rm -rf "$XDG_CACHE_HOME"' EXIT

# sweep OPTION FILE: all of --learn or --grid into FILE
sweep() {
    skip=0
    while :; do
        $gemmux bench "$1" --skip "$skip" --seconds "$seconds" >"$XDG_CACHE_HOME/piece"
        cat "$XDG_CACHE_HOME/piece" >>"$2"
        next=$(sed -n 's/.*go on with --skip \([0-9]*\)$/\1/p' "$XDG_CACHE_HOME/piece")
        [ -n "$next" ] && [ "$next" -gt "$skip" ] || break
        skip=$next
    done
}

# tally FILE: the pieces' counts together
tally() {
    awk '/^the chosen kernel was the fastest in/ { pieces++; best += $8; all += $10 }
        /^within 5 % of it in/ { near += $7; sub(/.*by medians in /, ""); medians += $1 }
        END { printf "%d products in %d pieces: fastest in %d, within 5 %% in %d (%.1f %%), " \
              "by medians in %d (%.1f %%)\n", all, pieces, best, near, near / all * 100, medians,
              medians / all * 100 }' "$1"
}

date -u +"%Y-%m-%d %H:%M UTC"
sed -n 's/^model name\t*: //p' /proc/cpuinfo | head -1
sweep --learn "$XDG_CACHE_HOME/learn"
echo "chosen while learning, on the products that were learnt from:"
tally "$XDG_CACHE_HOME/learn"
sweep --grid "$XDG_CACHE_HOME/grid"
date -u +"%H:%M UTC, 300 other products:"
awk '{ for (i = 1; i < NF; i++) if ($i == "lost" && $(i + 1) > 5) print }' "$XDG_CACHE_HOME/grid"
tally "$XDG_CACHE_HOME/grid"
