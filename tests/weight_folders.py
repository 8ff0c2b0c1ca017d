"""Folders of models as training runs leave them, tiny and random, written without any library for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tests.fidelity.tokenizers import write_bpe, write_wordpiece

Weights = npt.NDArray[Any]

ROWS = 300
WIDTH, FEED, HEADS, KV_HEADS, HEAD = 64, 96, 4, 2, 16

# By NumPy's name; BF16 comes as 16-bit numbers without sign, which nothing else is here.
DTYPES: Mapping[str, str] = {
    "float64": "F64", "float32": "F32", "float16": "F16", "uint16": "BF16", "uint8": "U8", "int64": "I64",
}  # fmt: skip

LLAMA: Mapping[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": WIDTH,
    "intermediate_size": FEED,
    "num_hidden_layers": 1,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": True,
    "vocab_size": ROWS,
    "torch_dtype": "float32",
    "transformers_version": "4.43.1",
}


def safetensors(tensors: Mapping[str, Weights]) -> bytes:
    """A sound file."""
    head: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, weights in tensors.items():
        span = [at, at + weights.nbytes]
        head[name] = {"dtype": DTYPES[weights.dtype.name], "shape": list(weights.shape), "data_offsets": span}
        at += weights.nbytes
    return with_head(head, b"".join(weights.tobytes() for weights in tensors.values()))


def with_head(head: Mapping[str, Any] | bytes, weights: bytes = b"") -> bytes:
    """A file with any head."""
    raw = head if isinstance(head, bytes) else json.dumps(head).encode()
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw + weights


def bf16(weights: Weights) -> Weights:
    """The upper halves of floats."""
    halves: Weights = (np.asarray(weights, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return halves


def drawn(*shape: int, seed: int = 1) -> Weights:
    """Random floats."""
    return np.random.default_rng((seed, *shape)).standard_normal(shape, np.float32)


def llama_tensors(layers: int = 1) -> dict[str, Weights]:
    """All tensors of a Llama by ``LLAMA``, none alike."""
    tensors = {"model.embed_tokens.weight": drawn(ROWS, WIDTH), "model.norm.weight": drawn(WIDTH)}
    for layer in range(layers):
        shapes = {
            "input_layernorm": (WIDTH,),
            "post_attention_layernorm": (WIDTH,),
            "self_attn.q_proj": (HEADS * HEAD, WIDTH),
            "self_attn.k_proj": (KV_HEADS * HEAD, WIDTH),
            "self_attn.v_proj": (KV_HEADS * HEAD, WIDTH),
            "self_attn.o_proj": (WIDTH, HEADS * HEAD),
            "mlp.gate_proj": (FEED, WIDTH),
            "mlp.up_proj": (FEED, WIDTH),
            "mlp.down_proj": (WIDTH, FEED),
        }
        tensors |= {
            f"model.layers.{layer}.{name}.weight": drawn(*shape, seed=10 * layer + number + 2)
            for number, (name, shape) in enumerate(shapes.items())
        }
    return tensors


def write_folder(
    place: Path, config: Mapping[str, Any] = LLAMA, tensors: Mapping[str, Weights] | None = None, **fields: Any
) -> Path:
    """A folder with configuration, weights and a tokenizer; ``fields`` go over those of ``config``."""
    place.mkdir(parents=True, exist_ok=True)
    values = {name: value for name, value in {**config, **fields}.items() if value is not ...}
    (place / "config.json").write_text(json.dumps(values))
    found = llama_tensors(int(values.get("num_hidden_layers", 1))) if tensors is None else tensors
    (place / "model.safetensors").write_bytes(safetensors(found))
    write_bpe(place, ROWS)
    return place


__all__ = ["LLAMA", "bf16", "drawn", "llama_tensors", "safetensors", "with_head", "write_folder", "write_wordpiece"]
