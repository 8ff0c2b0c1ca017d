"""Models that show each rule of the mixtures: names, layers and heads of real families, with matrices of a few rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFWriter, quants

Tensors = Iterator[tuple[str, tuple[int, ...]]]
"""Names and shapes, the fastest-moving size last, as numpy has them."""

ROWS = 8


@dataclass(frozen=True)
class Family:
    """A model to be made.

    Attributes:
        source: weight type of its matrices.
        width: columns of most of them, ``ff`` of those on the way down.
        kv_heads: of ``heads``.
        tied: it has no output matrix.
        fused: queries, keys and values are one matrix.
        keys: metadata beyond what every architecture needs, without the architecture's name.
        more: further tensors, by name, with their shapes.
    """

    architecture: str
    layers: int
    source: str = "F16"
    width: int = 256
    ff: int = 512
    heads: int = 8
    kv_heads: int = 8
    experts: int = 0
    shared_experts: bool = False
    tied: bool = False
    fused: bool = False
    keys: Mapping[str, int | float] = field(default_factory=dict)
    more: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


BERT = {"position_embd.weight": (16, 256), "token_types.weight": (2, 256), "token_embd_norm.weight": (256,)}
MAMBA = {
    "blk.0.ssm_conv1d.weight": (ROWS, 4),
    "blk.0.ssm_in.weight": (ROWS, 256),
    "blk.1.ssm_out.weight": (ROWS, 256),
    "blk.1.ssm_a": (ROWS, 256),
}
MAMBA_KEYS = {"ssm.conv_kernel": 4, "ssm.inner_size": 512, "ssm.state_size": 16, "ssm.time_step_rank": 16}
ODD = {
    "blk.3.attn_q.bias": (256,),
    "blk.3.attn_rel_b.weight": (ROWS, 256),
    "rope_freqs.weight": (32,),
    "blk.2.one_row.weight": (1, 256),
    "blk.2.stacked.weight": (3, ROWS, 256),
    "per_layer_model_proj.weight": (ROWS, 256),
    "per_layer_token_embd.weight": (ROWS, 256),
    "v.blk.0.attn_v.weight": (ROWS, 256),
    "v.patch_embd.weight": (4, 3, 16, 16),
}
FAMILIES: Mapping[str, Family] = {
    "llama 2, 7B": Family("llama", 32),
    "llama 2, 13B, bf16": Family("llama", 40, source="BF16"),
    "llama 3, 8B, f32": Family("llama", 32, source="F32", kv_heads=2),
    "llama 3, 70B": Family("llama", 80, kv_heads=1),
    "llama 1, 65B": Family("llama", 80),
    "three layers": Family("llama", 3),
    "one layer, tied": Family("llama", 1, tied=True),
    "mixtral": Family("llama", 32, experts=8, kv_heads=2),
    "four experts": Family("llama", 12, experts=4),
    "qwen 2, 0.5B": Family("qwen2", 24, source="BF16", width=896, ff=4864, heads=14, kv_heads=2, tied=True),
    "qwen 2, 72B": Family("qwen2", 80, kv_heads=1),
    "qwen 3, experts": Family("qwen3moe", 12, experts=16, shared_experts=True, kv_heads=1),
    "falcon": Family("falcon", 32, fused=True, kv_heads=1),
    "gpt-2": Family("gpt2", 12, fused=True, more={"position_embd.weight": (16, 256)}),
    "gemma 2": Family("gemma2", 26, tied=True, kv_heads=4),
    "gpt-oss widths": Family("llama", 6, width=2880, ff=2880, experts=32, kv_heads=1, source="BF16"),
    "bert": Family("bert", 6, tied=True, more=BERT, fused=True),
    "mamba": Family("mamba", 2, heads=0, kv_heads=0, keys=MAMBA_KEYS, more=MAMBA),
    "rows of 40": Family("llama", 4, width=40, ff=72),
    "rows of 96": Family("llama", 4, width=96, ff=96),
    "odd tensors": Family("llama", 6, more=ODD),
    "quantized already": Family("llama", 4, source="Q8_0"),
}


def write_family(path: Path, family: Family, *, rows: int = ROWS, seed: int = 0) -> Path:
    """The model as a GGUF file; it has weights, and no vocabulary."""
    writer = GGUFWriter(path, family.architecture)
    for key, value in {**_keys(family), **family.keys}.items():
        name = f"{family.architecture}.{key}"
        writer.add_float32(name, value) if isinstance(value, float) else writer.add_uint32(name, value)
    writer.add_file_type(1)
    writer.add_quantization_version(2)
    writer.add_array("tokenizer.ggml.scores", [0.5] * 100)
    writer.add_string("general.description", "made to be quantized: ä, 😀")
    rng = np.random.default_rng(seed)
    for name, shape in _tensors(family, rows):
        kind = family.source if len(shape) > 1 else "F32"
        weights = rng.standard_normal(shape, np.float32)
        writer.add_tensor(name, _stored(weights, kind), raw_dtype=GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _stored(weights: npt.NDArray[np.float32], kind: str) -> npt.NDArray[np.generic]:
    if kind == "Q8_0" and weights.shape[-1] % 32:
        raise ValueError("a source of 8 bits needs rows of 32")
    stored: npt.NDArray[np.generic] = quants.quantize(weights, GGMLQuantizationType[kind])
    return stored


def _keys(family: Family) -> dict[str, int | float]:
    return {
        "block_count": family.layers,
        "context_length": 128,
        "embedding_length": family.width,
        "feed_forward_length": family.ff,
        "attention.head_count": family.heads,
        "attention.head_count_kv": family.kv_heads,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "attention.layer_norm_epsilon": 1e-6,
        **({"expert_count": family.experts, "expert_used_count": 2} if family.experts else {}),
    }


def _tensors(family: Family, rows: int) -> Tensors:
    width = family.width
    yield "token_embd.weight", (rows, width)
    if not family.tied:
        yield "output.weight", (rows, width)
    yield "output_norm.weight", (width,)
    for layer in range(family.layers if family.heads else 0):
        yield from ((f"blk.{layer}.{name}", shape) for name, shape in _layer(family, rows))
    yield from family.more.items()


def _layer(family: Family, rows: int) -> Tensors:
    width, ff = family.width, family.ff
    yield "attn_norm.weight", (width,)
    for part in ("attn_qkv",) if family.fused else ("attn_q", "attn_k", "attn_v"):
        yield f"{part}.weight", (rows, width)
    yield "attn_output.weight", (rows, width)
    yield "ffn_norm.weight", (width,)
    if family.experts:
        yield "ffn_gate_inp.weight", (family.experts, width)
        for part, columns in (("gate", width), ("up", width), ("down", ff)):
            yield f"ffn_{part}_exps.weight", (family.experts, rows, columns)
            if family.shared_experts:
                yield f"ffn_{part}_shexp.weight", (rows, columns)
        return
    for part, columns in (("gate", width), ("up", width), ("down", ff)):
        yield f"ffn_{part}.weight", (rows, columns)
