#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# pair_seeds.sh FIXTURES OUT: inputs of fuzz_safetensors, a config, a NUL and a file each, made of
# the checkpoints under FIXTURES.
set -e
mkdir -p "$2"
for file in "$1"/*/*.safetensors; do
    folder=$(dirname "$file")
    { cat "$folder/config.json" && printf '\0' && cat "$file"; } \
        >"$2/$(basename "$folder")-$(basename "$file")"
done
