# SPDX-License-Identifier: Apache-2.0
# Read by every test of this folder: . ./lib.sh
gemmux=$1
query=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Certificates of a test must not come from, or go to, the user's own cache.
XDG_CACHE_HOME=$work/cache
export XDG_CACHE_HOME
unset NO_COLOR COLUMNS GEMMUX_MODEL_DIR
failures=0

fail() {
    echo "FAIL: $*" >&2
    failures=$((failures + 1))
}

# run CODE ARG...: stdout in $work/out, stderr in $work/err
run() {
    want=$1
    shift
    "$gemmux" "$@" >"$work/out" 2>"$work/err" </dev/null
    code=$?
    [ "$code" -eq "$want" ] || fail "gemmux $*: exit $code, want $want: $(head -c 300 "$work/err")"
}

# The last run's stderr is one sentence that contains each of these words.
says() {
    [ "$(wc -l <"$work/err")" -eq 1 ] || fail "not one sentence: $(cat "$work/err")"
    for word; do
        grep -qF -- "$word" "$work/err" || fail "no '$word' in: $(cat "$work/err")"
    done
}

prints() {
    for word; do
        grep -qF -- "$word" "$work/out" || fail "no '$word' in: $(head -c 600 "$work/out")"
    done
}

silent() { [ ! -s "$work/err" ] || fail "stderr should be empty: $(cat "$work/err")"; }

# json PATH VALUE: the last run's stdout is one document with VALUE at PATH
json() {
    have=$("$query" "$1" <"$work/out" 2>&1) || fail "no JSON with $1: $have"
    [ $# -lt 2 ] || [ "$have" = "$2" ] || fail "$1 is '$have', want '$2'"
}

# No line of stdout is wider than this.
narrow() {
    wide=$(awk -v w="$1" 'length > w' "$work/out" | head -1)
    [ -z "$wide" ] || fail "wider than $1: '$wide'"
}

plain() {
    if LC_ALL=C grep -q "$(printf '\033')" "$work/out" "$work/err"; then
        fail "escape codes in a pipe"
    fi
}

finish() { [ "$failures" -eq 0 ] || exit 1; }
