"""llama.cpp's own record of what real models become (``tests/snapshots`` in its source) against our mixtures.

A record has the name of each tensor that is not of the main type; the shapes are those of the models' configurations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from localmodels.artifacts.gguf_header import Header, TensorInfo
from localmodels.artifacts.quantize.file_types import TARGETS, weight_type
from localmodels.artifacts.quantize.mixing import mixed
from localmodels.artifacts.quantize.untouched import is_kept

Shapes = Iterator[tuple[str, tuple[int, ...]]]
"""Names and shapes, the fastest-moving size first, as a header has them."""


@dataclass(frozen=True)
class Real:
    """The sizes of a real model."""

    architecture: str
    layers: int
    width: int
    ff: int
    heads: int
    kv_heads: int
    head: int
    vocab: int
    experts: int = 0
    dense_layers: int = 0
    tied: bool = False


MODELS: Mapping[str, Real] = {
    "meta-llama-3.1-70b-instruct": Real("llama", 80, 8192, 28672, 64, 8, 128, 128256),
    "qwen3-0.6b": Real("qwen3", 28, 1024, 3072, 16, 8, 128, 151936),
    "qwen3-14b": Real("qwen3", 40, 5120, 17408, 40, 8, 128, 151936),
    "gemma-3-4b-it": Real("gemma3", 34, 2560, 10240, 8, 4, 256, 262208, tied=True),
    "gpt-oss-120b": Real("gpt-oss", 36, 2880, 2880, 64, 8, 64, 201088, experts=128),
    "deepseek-v3.1": Real("deepseek2", 61, 7168, 2048, 128, 1, 128, 129280, experts=256, dense_layers=3),
}


def differences(folder: Path) -> tuple[int, list[str]]:
    """How many tensors were compared, and what differs."""
    compared, wrong = 0, []
    for model, real in MODELS.items():
        header = header_of(real)
        for target, (main, others) in read(folder / f"{model}.schema").items():
            made = {tensor.name: name for tensor, name in mixed(header, TARGETS[target])}
            ours = {tensor.name for tensor in header.tensors if not is_kept(tensor, real.architecture)}
            for name in sorted(ours | others.keys()):
                compared += 1
                wanted = others.get(name, main)
                if made.get(name) != wanted:
                    wrong.append(f"{model}, {target}: {name} is {wanted} to llama.cpp, {made.get(name)} to us")
    return compared, wrong


def read(path: Path) -> dict[str, tuple[str, dict[str, str]]]:
    """By file type, the main type and what the other tensors are."""
    sections: dict[str, tuple[str, dict[str, str]]] = {}
    others: dict[str, str] = {}
    for line in path.read_text().splitlines():
        if line.startswith("["):
            target, _, main = line[1:].partition("] ")
            others = {}
            sections[target] = (main.upper(), others)
        elif line and not line.startswith("#"):
            name, _, kind = line.rpartition(" ")
            others[name] = kind.upper()
    return sections


def header_of(real: Real) -> Header:
    """A header with the tensors of a real model."""
    form = weight_type("F32")
    keys = {
        "block_count": real.layers,
        "embedding_length": real.width,
        "attention.head_count": real.heads,
        "attention.head_count_kv": real.kv_heads,
        **({"expert_count": real.experts} if real.experts else {}),
    }
    metadata = {f"{real.architecture}.{key}": value for key, value in keys.items()}
    tensors = tuple(TensorInfo(name, form, shape, 0, 4) for name, shape in _tensors(real))
    return Header("real", 3, {"general.architecture": real.architecture, **metadata}, tensors, 32, 0, 0)


def _tensors(real: Real) -> Shapes:
    yield "token_embd.weight", (real.width, real.vocab)
    if not real.tied:
        yield "output.weight", (real.width, real.vocab)
    yield "output_norm.weight", (real.width,)
    attention = _latent if real.architecture == "deepseek2" else _attention
    for layer in range(real.layers):
        yield from ((f"blk.{layer}.{name}.weight", shape) for name, shape in attention(real))
        yield from ((f"blk.{layer}.{name}.weight", shape) for name, shape in _feed_forward(real, layer))


def _attention(real: Real) -> Shapes:
    yield "attn_norm", (real.width,)
    yield "attn_q", (real.width, real.heads * real.head)
    yield "attn_k", (real.width, real.kv_heads * real.head)
    yield "attn_v", (real.width, real.kv_heads * real.head)
    yield "attn_output", (real.heads * real.head, real.width)


def _latent(real: Real) -> Shapes:
    """DeepSeek's attention, whose keys and values are unpacked from few numbers."""
    yield "attn_q_a", (real.width, 1536)
    yield "attn_q_b", (1536, 24576)
    yield "attn_kv_a_mqa", (real.width, 576)
    yield "attn_k_b", (real.head, 512, real.heads)
    yield "attn_v_b", (512, real.head, real.heads)
    yield "attn_output", (real.heads * real.head, real.width)


def _feed_forward(real: Real, layer: int) -> Shapes:
    if not real.experts or layer < real.dense_layers:
        ff = 18432 if real.dense_layers else real.ff
        yield from (("ffn_gate", (real.width, ff)), ("ffn_up", (real.width, ff)), ("ffn_down", (ff, real.width)))
        return
    yield "ffn_gate_inp", (real.width, real.experts)
    kinds: dict[str, tuple[int, ...]] = {"exps": (real.experts,), **({"shexp": ()} if real.dense_layers else {})}
    for kind, stacked in kinds.items():
        yield f"ffn_gate_{kind}", (real.width, real.ff, *stacked)
        yield f"ffn_up_{kind}", (real.width, real.ff, *stacked)
        yield f"ffn_down_{kind}", (real.ff, real.width, *stacked)
