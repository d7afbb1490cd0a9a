#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# check_tidy.sh BUILD [FILE...]: clang-tidy (.clang-tidy) over src/ and cli/, with BUILD/compile_commands.json;
# with FILEs, named from the root, over those of them that are there. A file is looked at again only when it
# or a header is newer than its last clean run.
set -u
build=$(realpath "${1:-build}")
shift
cd "$(dirname "$0")/.." || exit 2
stamps=$build/tidy
mkdir -p "$stamps"
newest=$(find include src cli tests .clang-tidy \( -name "*.h" -o -name .clang-tidy \) -print0 | xargs -0 ls -t | head -1)

pending=()
while IFS= read -r file; do
    stamp=$stamps/${file//\//_}
    [ "$stamp" -nt "$file" ] && [ "$stamp" -nt "$newest" ] || pending+=("$file")
done < <(find src cli -name '*.c' | sort | if [ $# -gt 0 ]; then grep -xFf <(printf '%s\n' "$@"); else cat; fi)

tidy_one() {
    grep -qF "\"file\": \"$PWD/$1\"" "$2/compile_commands.json" || return 0 # not built here
    if out=$(clang-tidy --quiet -p "$2" --warnings-as-errors='*' "$1" 2>/dev/null); then
        : >"$2/tidy/${1//\//_}"
    else
        grep -A2 -E ' (error|warning): ' <<<"$out" # the path of notes is long: clang-tidy -p BUILD FILE shows it
        return 1
    fi
}
export -f tidy_one
if [ "${#pending[@]}" -gt 0 ]; then
    printf '%s\0' "${pending[@]}" |
        xargs -0 -P "$(nproc)" -I{} bash -c 'tidy_one "$1" "$2"' _ {} "$build" || {
        echo "tidy: findings above" >&2
        exit 1
    }
fi
echo "tidy: clean (${#pending[@]} files looked at)"
