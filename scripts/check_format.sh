#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_format.sh: every C file is as clang-format would write it. Mend with: scripts/check_format.sh -i
set -eu
cd "$(dirname "$0")/.."
files=$(git ls-files -co --exclude-standard '*.c' '*.h' '*.cu' '*.cuh' | while read -r f; do [ -e "$f" ] && echo "$f"; done)
if [ "${1:-}" = -i ]; then
    printf '%s\n' $files | xargs clang-format -i
else
    printf '%s\n' $files | xargs clang-format --dry-run -Werror
    echo "format: $(printf '%s\n' $files | wc -l) files"
fi
