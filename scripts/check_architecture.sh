#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# check_architecture.sh [ROOT]: the rules of ARCHITECTURE.md that grep can prove. Violations are
# printed as file:line: rule and fail; sizes are only warned about.
set -u
cd "${1:-$(dirname "$0")/..}" || exit 2
bad=0
fail() { printf '%s\n' "$1" >&2; bad=$((bad + 1)); }
warn() { printf 'warning: %s\n' "$1" >&2; }

# The pipeline order. A file may include headers of its own line or of lines above: an arrow never
# points back. A folder name stands for every file in it; machine_parse.c stands where machine does
# unless it has a place of its own. A new file of src/ takes its place here.
layers='
gemmux error wildcard pages
format code quantise tensor float
problem
driver
machine nearest probe
packing packings kernel parallel
checkpoint
kernels
shares select ranges
explain counterfactual forecast
reference verify
plan prepare
run
certify records
doctor
'
# Only these see the function tables of drivers and vendor libraries (src/driver).
driver_users=' driver probe kernels prepare run certify '

declare -A rank
n=0
while read -r line; do
    [ -n "$line" ] || continue
    n=$((n + 1))
    for name in $line; do rank[$name]=$n; done
done <<<"$layers"

# Sets REPLY: "kernels" for src/kernels/x.c, "select" for src/select.c.
unit() {
    local path=${1#src/}
    case $path in
    */*) REPLY=${path%%/*} ;;
    *)
        path=${path%.*}
        while [ -z "${rank[$path]:-}" ] && [[ $path == *_* ]]; do path=${path%_*}; done
        REPLY=$path
        ;;
    esac
}

shopt -s nullglob
sources=(src/*.[ch] src/*/*.[ch] src/*/*.cu src/*/*.cuh)
declare -A where
for file in "${sources[@]}"; do
    name=${file##*/}
    [ -z "${where[$name]:-}" ] || fail "$file:1: file name already used by ${where[$name]}"
    where[$name]=$file
    unit "$file"
    [ -n "${rank[$REPLY]:-}" ] ||
        fail "$file:1: '$REPLY' has no place in the layers of scripts/check_architecture.sh"
done
where[gemmux.h]=src/gemmux.h # include/, lowest layer

for file in "${sources[@]}"; do
    unit "$file"
    from=$REPLY
    [ -n "${rank[$from]:-}" ] || continue
    while IFS=: read -r line text; do
        header=${text#*\"}
        header=${header%%\"*}
        target=${where[${header##*/}]:-}
        if [ -z "$target" ]; then
            fail "$file:$line: includes \"$header\", which is not in include/ or src/"
            continue
        fi
        unit "$target"
        to=$REPLY
        [ -n "${rank[$to]:-}" ] || continue
        [ "${rank[$to]}" -le "${rank[$from]}" ] ||
            fail "$file:$line: '$from' includes '$to' (\"$header\"), which comes later in the pipeline"
        if [ "$to" = driver ] && [[ $driver_users != *" $from "* ]]; then
            fail "$file:$line: '$from' may not see driver tables (\"$header\")"
        fi
    done < <(grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' "$file")
done

# The command is a user like any other: gemmux.h, the system, jansson, and its own headers.
for file in cli/*.[ch]; do
    while IFS=: read -r line text; do
        header=${text#*[\"<]}
        header=${header%%[\">]*}
        case $header in
        gemmux.h | jansson.h) continue ;;
        esac
        case $text in
        *'"'*) [[ $header != */* && -e cli/$header ]] && continue ;;
        *) [ -e "/usr/include/$header" ] || [[ $header == sys/* || $header == std* ]] && continue ;;
        esac
        fail "$file:$line: cli/ may include only gemmux.h, the system's headers and jansson.h"
    done < <(grep -nE '^[[:space:]]*#[[:space:]]*include' "$file")
done

# select decides from its arguments alone: no header that could bring the outside world in.
for file in src/select.c src/select.h; do
    [ -e "$file" ] || continue
    while IFS=: read -r line text; do
        fail "$file:$line: select may not ${text##*#}"
    done < <(grep -nE '#[[:space:]]*include[[:space:]]*<(stdio|stdlib|time|unistd|fcntl|pthread|dlfcn|sys/[a-z]+)\.h>' "$file")
done

# #ifdef may hide code, never a decision.
for file in src/select.c src/explain.c; do
    [ -e "$file" ] || continue
    while IFS=: read -r line _; do fail "$file:$line: no #if in decisions"; done < <(grep -nE '^#[[:space:]]*if' "$file")
done

# The library never aborts, exits or prints.
for file in "${sources[@]}"; do
    case $file in *certify*) continue ;; esac # its child process exits
    while IFS=: read -r line text; do
        fail "$file:$line: the library never aborts, exits or prints:$text"
    done < <(grep -nE '(^|[^a-zA-Z0-9_>.])(abort|exit|_exit|printf|puts|perror|assert) ?\(|fprintf ?\( ?std(out|err)' \
        "$file" | grep -vE '^[0-9]+:[[:space:]]*(\*|//|/\*)|static_assert|format\(printf')
done

# Every file of ours says its licence first.
while IFS= read -r file; do
    head -3 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0' || fail "$file:1: no SPDX line"
done < <(find src cli include tests bench cmake scripts completions \
    \( -name '*.[ch]' -o -name '*.cu' -o -name '*.sh' -o -name '*.py' -o -name 'CMakeLists.txt' -o \
    -name '*.cmake' \) 2>/dev/null)

# Nothing names one machine's directories or a private host.
while IFS= read -r hit; do
    fail "$hit: a path or host of one machine"
done < <(git ls-files -z 2>/dev/null | grep -zvE '^tests/(fixtures|fuzz)/|^models/|check_architecture\.sh$' | xargs -0 -r \
    grep -nIoE "(^|[[:space:]\"'=(])/(home|root|work|opt|mnt)/[A-Za-z0-9_.-]+|https?://([0-9]{1,3}\.){3}[0-9]{1,3}|https?://[a-z0-9.-]+\.(internal|local|corp|lan)\b")

# Sizes: advice, not law.
for file in "${sources[@]}" cli/*.[ch]; do
    lines=$(wc -l <"$file")
    [ "$lines" -le 600 ] || warn "$file: $lines lines (house style: about 600)"
    case $file in src/kernels/*) continue ;; esac
    awk -v file="$file" '
        /^[^ \t#\/}*{].*\)$/ || /^[^ \t#\/}*{].*,$/ { name = $0 }
        /^\{$/ { start = NR }
        /^\}$/ && start {
            if (NR - start > 64) printf "warning: %s:%d: %d lines in one function (house style: about 60)\n", file, start, NR - start
            start = 0
        }' "$file" >&2
done

if [ "$bad" -ne 0 ]; then
    echo "architecture: $bad rule(s) broken" >&2
    exit 1
fi
echo "architecture: ${#sources[@]} files of src/ keep the rules"
