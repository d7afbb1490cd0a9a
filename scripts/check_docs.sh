#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# check_docs.sh GEMMUX: the man page is clean, and man page, completions and command agree about
# the subcommands; links between our documents lead somewhere.
set -u
gemmux=$1
bad=0
fail() { echo "docs: $1" >&2; bad=1; }

mandoc -Tlint -Wstyle docs/gemmux.1 || fail "docs/gemmux.1 has lint"
commands=$("$gemmux" --help | awk '/^ +gemmux [a-z]+/ { print $2 }' | sort -u)
[ -n "$commands" ] || fail "gemmux --help lists no commands"
for command in $commands; do
    grep -qE "^\.(It Cm|Ss|Nm gemmux) $command|^\.It Cm $command\b" docs/gemmux.1 || fail "gemmux.1 does not describe '$command'"
    for shell in bash zsh fish; do
        grep -qw -- "$command" completions/gemmux.$shell || fail "completions/gemmux.$shell lacks '$command'"
    done
done
bash -n completions/gemmux.bash || fail "completions/gemmux.bash does not parse"

while IFS=: read -r file link; do
    case $link in http*|\#*) continue ;; esac
    [ -e "$(dirname "$file")/${link%%#*}" ] || fail "$file links to $link, which is not there"
done < <(grep -oE '\]\([^)]+\)' ./*.md docs/*.md bench/*.md models/*.md 2>/dev/null | sed 's/](\(.*\))$/\1/')
[ "$bad" -eq 0 ] && echo "docs: man page, completions and links agree with the command"
