#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# check_purity.sh OBJECT...: select.c, explain.c and shares.c call nothing that does I/O, reads a clock or the
# environment, or allocates. Everything outside gemmux that they may call is listed here, so that
# a new call is a decision somebody reviews.
set -eu
allowed='memcpy|memset|memcmp|memmove|strlen|strcmp|strncmp|strchr|strstr|strspn|strcspn|strnlen|snprintf|vsnprintf'
allowed="$allowed|__snprintf_chk|__vsnprintf_chk|__memcpy_chk|__memset_chk|__stack_chk_fail"
allowed="$allowed|_GLOBAL_OFFSET_TABLE_|ceil|floor|fmin|fmax|log2|pow|exp2|sqrt|ldexp"
count=0
bad=0
for object in "$@"; do
    case $object in
    */select.c.o | */explain.c.o | */shares.c.o) ;;
    *) continue ;;
    esac
    count=$((count + 1))
    outside=$(nm -u "$object" | awk '{print $2}' | grep -vE "^(gemmux_.*|$allowed)\$" || true)
    if [ -n "$outside" ]; then
        echo "purity: $object calls" $outside >&2
        bad=1
    fi
done
if [ "$count" -ne 3 ]; then
    echo "purity: expected select.c.o, explain.c.o and shares.c.o among the objects, found $count" >&2
    exit 1
fi
[ "$bad" -eq 0 ] && echo "purity: select, explain and shares call only gemmux_*, string functions and arithmetic"
