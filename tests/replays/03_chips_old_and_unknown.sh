# SPDX-License-Identifier: Apache-2.0
# gpt-oss-120b and its products on sm_121, sm_103, sm_110 and a chip that does not exist: each is
# planned, none crashes, and the unknown one gets the conservative set and the reason.
. ../cli/lib.sh

printf 'name Future\nkind cuda\ncc 13.0\ncores 100\nmemory 96 GiB\nbandwidth 4 TB/s\n' >"$work/sm_130.txt"
for device in gb10 b300 jetson-thor "$work/sm_130.txt"; do
    for w in bf16 mxfp4 nvfp4 e4m3 int4; do
        run 0 select linear --m 16 --n 5760 --k 2880 --x bf16 --w $w --y bf16 --device "$device" --json
        json "decision.kernel"
    done
    run 0 select moe --m 16 --n 5760 --k 2880 --x bf16 --w mxfp4 --y bf16 --experts 32 --top-k 4 \
        --device "$device" --json
    json "decision.kernel"
done
run 0 plan gpt-oss-120b --device "gb10,b300,jetson-thor,$work/sm_130.txt" --json
says "sm_130 is not an architecture that gemmux"
json devices.# 4
for device in 0 1 2 3; do
    json devices.$device.fits true
    for layer in 0 2 3 4 5 6 7 8; do
        json devices.$device.layers.$layer.broken false
        json devices.$device.layers.$layer.decode.decision.kernel
        json devices.$device.layers.$layer.prefill.decision.kernel
    done
done
json devices.3.device.arch sm_130
run 0 select linear --m 1 --n 4096 --k 4096 --x bf16 --w mxfp4 --y bf16 --device "$work/sm_130.txt"
says "sm_130 is not an architecture that gemmux" "only plain code and PTX" "48 KiB of shared memory"
run 0 select linear --m 1 --n 4096 --k 4096 --x bf16 --w mxfp4 --y bf16 --device gb10
silent

# a bad description is refused with its line
printf 'name Future\nkind cuda\ncc 13\n' >"$work/bad.txt"
run 2 select linear --m 1 --n 64 --k 64 --x bf16 --w bf16 --y bf16 --device "$work/bad.txt"
says "bad.txt:3:" "cc '13' is not a compute capability"
finish
