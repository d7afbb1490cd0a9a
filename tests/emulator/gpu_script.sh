#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# gpu_script.sh GPU_KERNELS: tests/gpu/run.sh with the emulator in place of a GPU and its tools: the facts
# and the JUnit XML that it writes, its exit codes, and what it says of tools that are not there.
set -u
kernels=$1
script=$(cd "$(dirname "$0")/../gpu" && pwd)/run.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin" "$work/build"
cat >"$work/bin/nvidia-smi" <<'S'
#!/bin/sh
case "$1" in
*=compute_cap) echo 9.0 ;;
*) echo "Emulated GPU, 580.159.04, 9.0, 512 MiB, 1000 MHz, 2000 MHz" ;;
esac
S
printf '#!/bin/sh\necho "Cuda compilation tools, release 13.0"\n' >"$work/bin/nvcc"
printf '#!/bin/sh\nexec "%s" "$@" "cuda_ref_any linear"\n' "$kernels" >"$work/build/gpu_kernels"
chmod +x "$work"/bin/* "$work"/build/*
export GEMMUX_GPU_BUILD=$work/build GEMMUX_GPU_COMMIT=0123abc
bad=0
# expect CODE TEXT PATH STEP...: exit code of run.sh, and a line of what it prints
expect() {
    local code=$1 text=$2 path=$3 out rc
    shift 3
    out=$(PATH=$path bash "$script" "$work/out" "$@" 2>&1)
    rc=$?
    if [ "$rc" -ne "$code" ] || ! grep -qE -- "$text" <<<"$out"; then
        printf 'FAIL run.sh %s\nexpected %s and "%s", got %s:\n%s\n' "$*" "$code" "$text" "$rc" "$out"
        bad=1
    fi
}
has() { # FILE TEXT
    grep -qE -- "$2" "$work/out/$1" || { printf 'FAIL no "%s" in %s:\n%s\n' "$2" "$1" "$(head -c 600 "$work/out/$1")"; bad=1; }
}
expect 0 'gpu_kernels on .* [1-9][0-9]* cases, 0 failed' "$work/bin:$PATH" quick test
has facts.txt '^date: 20[0-9]{2}-[0-9]{2}-[0-9]{2} '
has facts.txt '^commit: [0-9a-f]{7}'
has facts.txt '^target: sm_90a'
has facts.txt '^Emulated GPU, 580\.159\.04'
for xml in quick.xml gpu_kernels.xml; do
    has $xml '^<testsuite name="gpu_kernels">'
    has $xml '<testcase classname="gpu_kernels" name="cuda_ref_any linear .*time="[0-9.]+">'
    has $xml '^</testsuite>'
done
expect 2 'no step "nothing"' "$work/bin:$PATH" nothing
printf '#!/bin/sh\nexit 1\n' >"$work/build/gpu_kernels"
expect 1 '^failed: quick' "$work/bin:$PATH" quick
rm "$work/bin/nvidia-smi"
expect 2 'nvidia-smi is not here; this machine has no NVIDIA driver' "$work/bin:$PATH" quick
[ "$bad" -eq 0 ] && echo "tests/gpu/run.sh writes its facts and XML, and fails when it should"
exit "$bad"
