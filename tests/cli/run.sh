# SPDX-License-Identifier: Apache-2.0
# gemmux run: the bundled block in two formats, one model file, and everything that can be wrong
# with the arguments. Nothing here looks at a time.
. ./lib.sh

block=../../models/smollm2-135m-block.safetensors

# The block: one row a format x group of linears x M, each verified, each with its sentence.
run 0 run --w mxfp4,int4:g32:zero --m 1,3 --threads 1 --json
silent
plain
json "rows.#" 16
json "products" 14
json "wrong" 0
json "rows.0.format" mxfp4
json "rows.15.format" int4:g32:zero
json "rows.0.m" 1
json "rows.0.verified" true
json "rows.0.linears.0"
for member in kernel path lossless packing predicted_us measured_us gb_per_s gflop_per_s \
    share_of_limit relative_error why_not_better encoding_error; do
    json "rows.0.$member"
done
[ -n "$("$query" rows.0.why_not_better <"$work/out")" ] || fail "no reason"
[ "$("$query" device.bandwidth <"$work/out" | cut -c1)" != 0 ] || fail "bandwidth not measured"
[ -d "$XDG_CACHE_HOME/gemmux" ] || fail "no certificates were kept"

# As text, at the widths of a narrow terminal, a usual one and a wide one.
GEMMUX_MODEL_DIR=../../models
export GEMMUX_MODEL_DIR
for columns in 60 160; do
    COLUMNS=$columns
    export COLUMNS
    run 0 run --w mxfp4 --m 1 --threads 1
    silent
    plain
    narrow $columns
    prints "mxfp4" "down" "gate,up" "576x1536" "LIMIT" "ERROR" "WHOLE BLOCK" "ENCODING"
done
unset COLUMNS GEMMUX_MODEL_DIR

# The kernel that was asked for is the kernel that ran.
run 0 run --only ref_any --w nf4 --m 1 --threads 1 --json
json "rows.0.kernel" ref_any
json "rows.0.path" reference

# A file of one's own, in its own format, by groups.
run 0 run $block --m 1 --limit 2 --threads 1 --json
json "rows.#" 2
json "rows.0.format" bf16
json "rows.0.group" 'model.layers.*.mlp.down_proj'
json "peak_memory_bytes"
run 0 run $block --m 2 --limit 2
prints "peak memory" "tokens/s"
plain

# A cache that cannot be used is said and survived.
mkdir -p "$work/broken/gemmux"
for file in "$XDG_CACHE_HOME"/gemmux/*; do
    [ -f "$file" ] && echo '{ not json' >"$work/broken/gemmux/$(basename "$file")"
done
XDG_CACHE_HOME=$work/broken run 0 run $block --m 1 --limit 1 --only ref_any
[ -s "$work/err" ] || fail "a corrupt cache is not mentioned"

# What is wrong is named.
run 2 run $block $block
says "too many"
run 2 run $block --w int8
says "--w"
run 2 run --m 3,1
says "--m 3,1" "ascend"
run 2 run --m 1,x
says "--m x"
run 2 run --w f33
says "--w" '"f33"'
run 2 run --device b200
says "b200" "not here"
run 3 run --only no_such_kernel --w f32 --m 1
says "no kernel"
head -c 100 /dev/urandom >"$work/bad.safetensors"
run 2 run "$work/bad.safetensors"
says "bad.safetensors"
run 1 run "$work/missing.safetensors"
says "missing.safetensors"
run 1 run "$work/missing.safetensors" --json
json "error.text"
GEMMUX_MODEL_DIR=$work run 1 run
says "$work/smollm2-135m-block.safetensors"

# A progress bar on a terminal, and none in its output.
if command -v script >/dev/null; then
    script -qec "'$gemmux' run $block --m 1 --limit 1 --only ref_any >'$work/out'" "$work/tty" \
        </dev/null >/dev/null
    grep -q '%' "$work/tty" || fail "no progress on a terminal"
    plain
fi
finish
