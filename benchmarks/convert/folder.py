"""A folder of the size and form of Qwen2-0.5B, with random weights and a random vocabulary: 988 MB of BF16."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from tests.fidelity.tokenizers import write_bpe

WIDTH, LAYERS, HEADS, KV_HEADS, HEAD, FEED, ROWS = 896, 24, 14, 2, 64, 4864, 151_936
TOKENS = 151_643  # the rows after them belong to nobody, as in the real one
LONGEST = 15  # letters of a token
STRETCH = 2**22  # weights that are drawn at once

CONFIG: Mapping[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu", "hidden_size": WIDTH,
    "intermediate_size": FEED, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS, "max_position_embeddings": 32_768, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
    "tie_word_embeddings": True, "use_sliding_window": False, "vocab_size": ROWS, "torch_dtype": "bfloat16",
    "transformers_version": "4.43.1",
}  # fmt: skip


def write_folder(place: Path) -> Path:
    """Writes it to a directory that is not there yet."""
    place.mkdir()
    (place / "config.json").write_text(json.dumps(CONFIG))
    _write_weights(place / "model.safetensors")
    _write_tokenizer(place)
    return place


def _shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (ROWS, WIDTH), "model.norm.weight": (WIDTH,)}
    queries, keys = HEADS * HEAD, KV_HEADS * HEAD
    for layer in range(LAYERS):
        names = {
            "input_layernorm.weight": (WIDTH,), "post_attention_layernorm.weight": (WIDTH,),
            "mlp.gate_proj.weight": (FEED, WIDTH), "mlp.up_proj.weight": (FEED, WIDTH),
            "mlp.down_proj.weight": (WIDTH, FEED), "self_attn.o_proj.weight": (WIDTH, queries),
            "self_attn.q_proj.weight": (queries, WIDTH), "self_attn.q_proj.bias": (queries,),
            "self_attn.k_proj.weight": (keys, WIDTH), "self_attn.k_proj.bias": (keys,),
            "self_attn.v_proj.weight": (keys, WIDTH), "self_attn.v_proj.bias": (keys,),
        }  # fmt: skip
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in names.items()}
    return dict(sorted(shapes.items()))


def _write_weights(path: Path) -> None:
    head: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in _shapes().items():
        head[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + 2 * prod(shape)]}
        at += 2 * prod(shape)
    raw = json.dumps(head).encode()
    raw += b" " * (-len(raw) % 8)
    draw = np.random.default_rng(1)
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for left in range(at // 2, 0, -STRETCH):
            floats = draw.standard_normal(min(left, STRETCH), np.float32) * np.float32(0.02)
            file.write((floats.view(np.uint32) >> 16).astype(np.uint16).tobytes())


def _write_tokenizer(place: Path) -> None:
    """A vocabulary that merges letter upon letter, each token of one that is there."""
    write_bpe(place, ROWS)
    path = place / "tokenizer.json"
    values = json.loads(path.read_text())
    model = values["model"]
    draw = random.Random(1)
    letters = [token for token in model["vocab"] if len(token) == 1]
    listed = [token for token in model["vocab"] if len(token) <= 2]
    merges = [tuple(merge) for merge in model["merges"]]
    while len(model["vocab"]) < TOKENS:
        left, right = draw.choice(listed), draw.choice(letters)
        if len(left) < LONGEST and left + right not in model["vocab"]:
            model["vocab"][left + right] = len(model["vocab"])
            listed.append(left + right)
            merges.append((left, right))
    model["merges"] = [" ".join(merge) for merge in merges]
    path.write_text(json.dumps(values, ensure_ascii=False))
