# SPDX-License-Identifier: Apache-2.0
# gemmux probe and gemmux kernels.
. ./lib.sh

run 0 probe
silent
plain
narrow 80
prints "arch" "memory" "b200"
run 0 probe --json
json "devices.0.id" cpu
json "devices.0.cores"
json "devices.0.libraries.#"
json "described.#"
[ "$("$query" "devices.0.cores" <"$work/out")" -ge 1 ] || fail "no cores"
run 0 probe --device rtx-5090 --json
json "devices.0.arch" sm_120
json "devices.0.described" true
run 2 probe --device nothing
says "nothing"

# CUDA libraries of LD_LIBRARY_PATH and of the active Python environment, with their versions and
# the code that they carry, and whether it runs on a device.
fatbins=../fixtures/fatbin
mkdir -p "$work/ld" "$work/env/bin"
packages=$work/env/lib/python3.11/site-packages
mkdir -p "$packages/nvidia/cublas/lib" "$packages/nvidia_cublas_cu12-12.8.4.1.dist-info" \
    "$packages/torch/lib" "$packages/torch-2.9.1.dist-info"
{ head -c 3000 /dev/zero; cat $fatbins/plain.fatbin; } >"$work/ld/libcufft.so.11.3.4"
ln -s libcufft.so.11.3.4 "$work/ld/libcufft.so.11" # one file under two names
{ head -c 100 /dev/zero; cat $fatbins/exact.fatbin; } >"$packages/nvidia/cublas/lib/libcublas.so.12"
cat $fatbins/mixed.fatbin >"$packages/torch/lib/libtorch_cuda.so"
echo "no code in it" >"$packages/torch/lib/libc10_cuda.so"
: >"$work/env/pyvenv.cfg"
printf '#!/bin/sh\n' >"$work/env/bin/python3"
chmod +x "$work/env/bin/python3"
mine() { # NAME MEMBER: of the library called NAME below $work
    count=$("$query" "gpu_libraries.#" <"$work/out")
    i=0
    while [ "$i" -lt "$count" ]; do
        case $("$query" "gpu_libraries.$i.path" <"$work/out") in
        "$(realpath "$work")"/*/"$1")
            "$query" "gpu_libraries.$i.$2" <"$work/out"
            return
            ;;
        esac
        i=$((i + 1))
    done
    echo "none"
}
is() { [ "$(mine "$1" "$2")" = "$3" ] || fail "$2 of $1 is '$(mine "$1" "$2")', want '$3'"; }
PATH_BEFORE=$PATH
export LD_LIBRARY_PATH="$work/ld"
PATH=$work/env/bin:$PATH
run 0 probe --device gb10 --json
json "devices.#" 1
PATH=$PATH_BEFORE
is libcufft.so.11.3.4 version 11.3.4
is libcufft.so.11.3.4 where LD_LIBRARY_PATH
is libcufft.so.11.3.4 code.0 sm_120
is libcufft.so.11.3.4 device.runs true
is libcufft.so.11 path none
is libcublas.so.12 version 12.8.4.1
is libcublas.so.12 where python
is libcublas.so.12 code.0 sm_120a
is libcublas.so.12 device.runs false
is libtorch_cuda.so version 2.9.1
is libtorch_cuda.so code.# 3
is libtorch_cuda.so device.target compute_80
is libc10_cuda.so code.# 0
run 0 probe --device gb10 --json
is libcublas.so.12 path none # the environment is not active any more
export VIRTUAL_ENV="$work/env"
run 0 probe --device gb10 --json
is libcublas.so.12 version 12.8.4.1
run 0 probe
prints "CODE FOR" "libcufft.so.11.3.4" "12.8.4.1" "sm_120a"
run 0 probe --device gb10
prints "RUNS ON 12.1" "1 of 1 modules, sm_120 first" "nothing; it carries sm_120a"
unset LD_LIBRARY_PATH VIRTUAL_ENV

run 0 kernels
silent
plain
narrow 80
prints "ref_any" "KERNEL"
run 0 kernels --json
for member in kernel summary device library packing needs; do
    json "kernels.0.$member"
done
grep -q '"kernel": "ref_any"' "$work/out" || fail "no ref_any"
COLUMNS=60
export COLUMNS
run 0 kernels
narrow 60
run 0 probe
narrow 60
finish
