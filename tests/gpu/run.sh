#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# run.sh OUT [STEP...]: builds and runs the GPU tests on a machine with an NVIDIA GPU, nvcc, cmake
# and a C compiler; nothing is fetched. Steps, all by default, in this order:
#
#     build      the library's sources and device code for this GPU alone   (about 1 minute on 16 cores)
#     quick      a sixth of the products                                    (under 1 minute)
#     test       every kernel x format x M                                  (minutes)
#     sanitize   compute-sanitizer memcheck and racecheck on samples        (minutes)
#     bench      our kernels in CUDA graphs beside a plain read             (2 minutes)
#     library    kernels that multiply through cuBLASLt, and its own call   (1 minute)
#     peers      cuBLAS through PyTorch, torch._grouped_mm, triton_kernels  (1 minute)
#
# OUT gets facts.txt (device, driver, date, commit), JUnit XML, bench.json, peers.json and logs. Exits
# 1 when a step failed, after running the others. GEMMUX_GPU_ARCH overrides the target (90a, 120f).
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=${1:?usage: run.sh OUT [STEP...]}
shift
steps=${*:-build quick test sanitize bench library peers}
mkdir -p "$out" && out=$(cd "$out" && pwd)
build=${GEMMUX_GPU_BUILD:-$root/build-gpu}
failed=""

# Machine code for exactly this GPU: 9.0 has instructions that only the 'a' target names.
arch=${GEMMUX_GPU_ARCH:-}
if [ -z "$arch" ]; then
    cc=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader -i 0 | tr -d '. ')
    case $cc in
    90) arch=90a ;;
    100 | 103 | 110 | 120 | 121) arch=${cc}f ;;
    *) arch=$cc ;;
    esac
fi

{
    date -u '+date: %Y-%m-%d %H:%M:%SZ'
    echo "commit: $(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)$(
        [ -z "$(git -C "$root" status --porcelain 2>/dev/null)" ] || echo ' with changes')"
    echo "target: sm_$arch"
    nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total,clocks.sm,clocks.mem \
        --format=csv,noheader
    nvcc --version | tail -2
} >"$out/facts.txt" 2>&1
cat "$out/facts.txt"

step() { # NAME COMMAND...: runs it, says how long it took
    local name=$1 start=$SECONDS
    shift
    echo "== $name"
    "$@" || failed="$failed $name"
    echo "== $name: $((SECONDS - start)) s"
}

build_all() {
    cmake -S "$here" -B "$build" -DGEMMUX_CUDA_ARCHS="$arch" >"$out/build.log" 2>&1 &&
        cmake --build "$build" -j "$(nproc)" >>"$out/build.log" 2>&1 || {
        tail -30 "$out/build.log"
        return 1
    }
}

# A sample: every form of the kernel, dense and moe; the tools slow a kernel 10 to 100 times.
sanitize() {
    local tool filter bad=0
    for tool in memcheck racecheck; do
        for filter in "bf16 x mxfp4 -> f32 epilogue 0" "f16 x int4:g32:min -> f32" \
            "bf16 x mxfp4 -> bf16 epilogue 15 top 2" "padded linear 129x33x77" "fp8_block linear 257x200" \
            "int8 linear 129x36"; do
            compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/gpu_kernels" --quick \
                "$out/$tool.xml" "$filter" >>"$out/$tool.log" 2>&1 || bad=1
        done
        tail -1 "$out/$tool.log"
    done
    return $bad
}

for s in $steps; do
    case $s in
    build) step build build_all ;;
    quick) step quick "$build/gpu_kernels" --quick "$out/quick.xml" ;;
    test) step test "$build/gpu_kernels" "$out/gpu_kernels.xml" ;;
    sanitize) step sanitize sanitize ;;
    bench) step bench "$build/gpu_bench" "$out/bench.json" ;;
    library) step library "$build/gpu_library" "$out/library.json" ;;
    peers) step peers python3 "$root/bench/peers/gpu_peers.py" "$out/peers.json" ;;
    *)
        echo "run.sh: no step \"$s\"" >&2
        exit 2
        ;;
    esac
done
if [ -f "$out/bench.json" ] && [ -f "$out/peers.json" ]; then
    python3 "$root/bench/peers/gpu_table.py" "$out/bench.json" "$out/peers.json" | tee "$out/table.txt"
fi
[ -z "$failed" ] || { echo "failed:$failed" && exit 1; }
