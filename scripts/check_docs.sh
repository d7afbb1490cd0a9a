#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# check_docs.sh GEMMUX: the man page is clean; man page and completions know every subcommand and
# option that the command's own help shows; the formats that are completed are formats; links
# between our documents lead somewhere.
set -u
gemmux=$1
bad=0
fail() { echo "docs: $1" >&2; bad=1; }

mandoc -Tlint -Wstyle docs/gemmux.1 || fail "docs/gemmux.1 has lint"
commands=$("$gemmux" --help | awk '/^ +gemmux [a-z]+/ { print $2 }' | sort -u)
[ -n "$commands" ] || fail "gemmux --help lists no commands"
for command in $commands; do
    grep -qE "^\.It Cm $command\b" docs/gemmux.1 || fail "gemmux.1 does not describe '$command'"
    for shell in bash zsh fish; do
        grep -qw -- "$command" completions/gemmux.$shell || fail "gemmux.$shell lacks '$command'"
    done
    flags=$("$gemmux" "$command" --help | grep -oE '^ +--[a-z0-9-]+' | sed 's/^ *--//' | sort -u)
    for flag in $flags; do
        [ "$flag" = help ] && continue
        grep -qE "Fl -$flag\b" docs/gemmux.1 || fail "gemmux.1 does not describe '$command --$flag'"
        for shell in bash zsh; do
            grep -qE -- "--$flag\b" completions/gemmux.$shell ||
                fail "gemmux.$shell lacks '$command --$flag'"
        done
        grep -qwE -- "(-l|in|size|operand).* $flag" completions/gemmux.fish ||
            fail "gemmux.fish lacks '$command --$flag'"
    done
done
for format in $(sed -n '/local formats=/,/"$/p' completions/gemmux.bash | sed 's/.*="//; s/"//'); do
    "$gemmux" select linear --m 1 --n 512 --k 512 --x bf16 --y bf16 --w "$format" >/dev/null 2>&1 ||
        fail "completions/gemmux.bash completes '$format', which gemmux does not take"
done
bash -n completions/gemmux.bash || fail "completions/gemmux.bash does not parse"

while IFS=: read -r file link; do
    case $link in http*|\#*) continue ;; esac
    [ -e "$(dirname "$file")/${link%%#*}" ] || fail "$file links to $link, which is not there"
done < <(grep -oE '\]\([^)]+\)' ./*.md docs/*.md bench/*.md models/*.md 2>/dev/null | sed 's/](\(.*\))$/\1/')
[ "$bad" -eq 0 ] && echo "docs: man page, completions and links agree with the command"
