#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What other libraries take for the products of bench/gpu_bench.c, on the same GPU: cuBLAS through
PyTorch (bf16, fp8 per tensor), torch._grouped_mm in bf16, and triton_kernels' mxfp4 matmul where it
can be imported. CUDA graphs, random data, weights rotated past the L2 for small M, median.

    gpu_peers.py OUT.json [--dry]      --dry: tiny shapes on the CPU, to see that the script runs
"""
import json
import statistics
import sys
import time

import torch

DRY = "--dry" in sys.argv
DEVICE = "cpu" if DRY else "cuda"
ROTATE_BYTES = 200 << 20
DENSE = [(14336, 4096), (8192, 8192), (2880, 2880)]
M_LIST = [1, 2, 4, 8, 16, 32, 64, 256, 2048, 8192]
MOE = (32, 4, 5760, 2880)
TOKENS = [1, 2, 4, 8, 32, 128, 512, 2048, 8192]


def microseconds(launch, count):
    """Median microseconds of one of `count` launches in a graph; launch(i) runs the i-th."""
    if DRY:
        launch(0)
        return 1.0
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for i in range(2):
            launch(i % count)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(count):
            launch(i)
    samples = []
    until = time.monotonic() + 0.05  # as gpu_time_graph: a chip is slow when it wakes, and slower
    while time.monotonic() < until:  # again when it has reached its power limit
        graph.replay()
        torch.cuda.synchronize()
    for _ in range(11):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        samples.append(start.elapsed_time(end) * 1e3 / count)
    return statistics.median(samples)


def random(*shape, dtype=torch.bfloat16):
    """Bits as gpu_library.c draws them: large products run at the power limit, which differs by up to
    a seventh between these and normal numbers."""
    if dtype == torch.float8_e4m3fn:
        return (torch.randint(0, 256, shape, device=DEVICE, dtype=torch.uint8) & 0xBF).view(dtype)
    bits = torch.randint(0, 1 << 16, shape, device=DEVICE, dtype=torch.int32)
    return ((bits & 0x807F | 0x3E80) << 16).view(torch.float32).to(dtype)


def copies(m, weight_bytes):
    return max(1, min(24, ROTATE_BYTES // weight_bytes + 1)) if m <= 64 else 1


def dense_bf16(m, n, k):
    count = copies(m, n * k * 2)
    x, w = random(m, k), [random(n, k) for _ in range(count)]
    y = torch.empty(m, n, device=DEVICE, dtype=torch.bfloat16)
    return microseconds(lambda i: torch.mm(x, w[i % count].t(), out=y), max(count, 4))


def dense_fp8(m, n, k):
    count = copies(m, n * k)
    one = torch.ones((), device=DEVICE)
    x, w = random(m, k, dtype=torch.float8_e4m3fn), [
        random(n, k, dtype=torch.float8_e4m3fn) for _ in range(count)
    ]
    return microseconds(
        lambda i: torch._scaled_mm(
            x, w[i % count].t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16
        ),
        max(count, 4),
    )


def routing(tokens, experts, top_k):
    chosen = torch.stack([torch.randperm(experts)[:top_k] for _ in range(tokens)])
    counts = torch.bincount(chosen.flatten(), minlength=experts)
    return chosen, counts


def grouped_bf16(tokens):
    experts, top_k, n, k = MOE
    w = random(experts, n, k)
    _, counts = routing(tokens, experts, top_k)
    ends = torch.cumsum(counts, 0).to(torch.int32).to(DEVICE)
    x = random(tokens * top_k, k)
    return microseconds(lambda i: torch._grouped_mm(x, w.transpose(-2, -1), offs=ends), 4)


def triton_mxfp4(m, n, k):
    """triton_kernels' matmul_ogs, dense, weights in the layout that it picks for this GPU."""
    from triton_kernels.matmul_ogs import FlexCtx, InFlexData, PrecisionConfig, matmul_ogs
    from triton_kernels.numerics_details.mxfp import downcast_to_mxfp
    from triton_kernels.tensor import FP4, convert_layout, wrap_torch_tensor
    from triton_kernels.tensor_details import layout

    x = random(m, k)
    values, scales = downcast_to_mxfp(random(1, k, n), torch.uint8, axis=1)
    value_layout, value_options = layout.make_default_matmul_mxfp4_w_layout(mx_axis=1)
    scale_layout, scale_options = layout.make_default_matmul_mxfp4_w_scale_layout(
        mx_axis=1, num_warps=8
    )
    w = convert_layout(wrap_torch_tensor(values, dtype=FP4), value_layout, **value_options)
    s = convert_layout(wrap_torch_tensor(scales), scale_layout, **scale_options)
    precision = PrecisionConfig(weight_scale=s, flex_ctx=FlexCtx(rhs_data=InFlexData()))
    return microseconds(lambda i: matmul_ogs(x[None], w, None, precision_config=precision), 4)


def measure(rows, peer, case, m, n, k, function, *arguments):
    try:
        us = function(*arguments)
    except Exception as error:  # a peer that cannot do it is a result, too
        print(f"{peer:22s} {case:20s} M={m:<5d} {type(error).__name__}: {str(error)[:90]}")
        return
    rows.append({"peer": peer, "case": case, "m": m, "n": n, "k": k, "us": us})
    print(f"{peer:22s} {case:20s} M={m:<5d} {us:9.2f} us", flush=True)


def main():
    if len(sys.argv) < 2:
        sys.exit("usage: gpu_peers.py OUT.json [--dry]")
    rows = []
    dense = [(64, 64)] if DRY else DENSE
    m_list = [1, 16] if DRY else M_LIST
    for n, k in dense:
        for m in m_list:
            case = f"{n}x{k}"
            measure(rows, "cuBLAS bf16", case, m, n, k, dense_bf16, m, n, k)
            if m >= 16:
                measure(rows, "cuBLAS fp8 tensor", case, m, n, k, dense_fp8, m, n, k)
            measure(rows, "triton_kernels mxfp4", case, m, n, k, triton_mxfp4, m, n, k)
            if not DRY:
                torch.cuda.empty_cache()
    if not DRY:
        for tokens in TOKENS:
            measure(rows, "torch._grouped_mm", "moe 5760x2880", tokens, *MOE[2:], grouped_bf16, tokens)
    facts = {"torch": torch.__version__, "device": "cpu" if DRY else torch.cuda.get_device_name()}
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        json.dump({"facts": facts, "rows": rows}, out, indent=1)


main()
