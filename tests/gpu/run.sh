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
#     bench      every kernel of ours in CUDA graphs beside a plain read     (3 minutes)
#     library    kernels that multiply through cuBLASLt, and its own call   (1 minute)
#     peers      cuBLAS through PyTorch, torch._grouped_mm, triton_kernels  (1 minute)
#
# OUT gets facts.txt (device, driver, date, commit), JUnit XML, bench.json, peers.json and logs. Exits
# 1 when a step failed, after running the others, and 2 when this machine lacks what a step needs.
# GEMMUX_GPU_ARCH overrides the target (90a, 120f); GEMMUX_GPU_BENCH times only cases whose name and
# format of w contain it ("8192x8192 mxfp4"); GEMMUX_GPU_COMMIT names the commit where there is no git.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=${1:?usage: run.sh OUT [STEP...]}
shift
steps=${*:-build quick test sanitize bench library peers}
mkdir -p "$out" && out=$(cd "$out" && pwd)
build=${GEMMUX_GPU_BUILD:-$root/build-gpu}
failed=""

missing() { # TOOL WHAT-FOR: says what is not here
    command -v "$1" >/dev/null && return 1
    echo "run.sh: $1 is not here; $2" >&2
}
missing nvidia-smi "this machine has no NVIDIA driver, or its tools are not in PATH" && exit 2
for s in $steps; do
    case $s in
    build)
        missing cmake "the step build needs CMake 3.22 or newer" && exit 2
        missing nvcc "the step build needs the CUDA toolkit 13 (add its bin to PATH)" && exit 2
        ;;
    sanitize) missing compute-sanitizer "it is part of the CUDA toolkit; leave the step out" && exit 2 ;;
    peers) missing python3 "peers are timed through PyTorch; leave the step out" && exit 2 ;;
    esac
done

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
    echo "commit: $(git -C "$root" rev-parse HEAD 2>/dev/null || echo "${GEMMUX_GPU_COMMIT:-unknown}")$(
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
    if ! {
        cmake -S "$here" -B "$build" -DGEMMUX_CUDA_ARCHS="$arch" &&
            cmake --build "$build" -j "$(nproc)"
    } >"$out/build.log" 2>&1; then
        tail -30 "$out/build.log"
        return 1
    fi
}

# A sample: every form of the kernel, dense and moe; the tools slow a kernel 10 to 100 times.
sanitize() {
    local tool filter bad=0 quick
    local filters=("bf16 x mxfp4 -> f32 epilogue 0" "f16 x int4:g32:min -> f32"
        "bf16 x mxfp4 -> bf16 epilogue 15 top 2" "padded linear 129x33x77" "int8 linear 129x36")
    [ "$arch" != 90a ] || filters+=("fp8_block linear 257x200"
        "cuda_sm90_fp8 linear 129x150x336 e4m3:g128 x e4m3:block128*"
        "cuda_sm90_fp8 linear 700x1104x144 e4m3:g128*" "cuda_sm90_fp8 moe*144x208*epilogue 7 *")
    for tool in memcheck racecheck; do
        for filter in "${filters[@]}"; do
            quick=--quick # a sixth of M, which may be none of a case that is alone
            [ "${filter#cuda_sm90_fp8}" = "$filter" ] || quick=""
            echo "== $filter" >>"$out/$tool.log"
            compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/gpu_kernels" $quick \
                "$out/$tool.xml" "$filter" >>"$out/$tool.log" 2>&1 || bad=1
        done
        grep -h "SUMMARY" "$out/$tool.log" | sort | uniq -c
    done
    return $bad
}

for s in $steps; do
    case $s in
    build) step build build_all ;;
    quick) step quick "$build/gpu_kernels" --quick "$out/quick.xml" ;;
    test) step test "$build/gpu_kernels" "$out/gpu_kernels.xml" ;;
    sanitize) step sanitize sanitize ;;
    bench) step bench "$build/gpu_bench" "$out/bench.json" "${GEMMUX_GPU_BENCH:-}" ;;
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
