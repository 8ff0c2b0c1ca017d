"""LoRA adapters for the tiny random model: never trained, but real, so that they change every answer."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
from tools.random_model import TINY

RANK, ALPHA = 4, 8.0


def write_adapter(path: Path, *, seed: int) -> Path:
    """Writes an adapter of one matrix of the tiny model, the way out of the first feed-forward network.

    Nothing is added to dimension 0 of the hidden state, on which the model's own trick rests (tools/random_model.py).
    """
    rng = np.random.default_rng(seed)
    back = rng.normal(size=(TINY.width, RANK)).astype(np.float32)
    back[0] = 0
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", ALPHA)
    writer.add_tensor("blk.0.ffn_down.weight.lora_a", rng.normal(size=(RANK, TINY.feed_forward)).astype(np.float32))
    writer.add_tensor("blk.0.ffn_down.weight.lora_b", back)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
