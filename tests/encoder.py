"""A small encoder with random weights that reranks as BGE's do: BERT with a head of one output, and no pooling type."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
from tools.random_model import TINY, add_tokenizer

HEADS = 2


def write_reranker(path: Path, *, seed: int = 0, context: int = 512) -> Path:
    """Writes it; ``context`` tokens are the most of question and document together."""
    rng = np.random.default_rng(seed)
    width, ff = TINY.width, TINY.feed_forward
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_type("model")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_block_count(TINY.layers)
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(ff)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(1e-5)
    writer.add_causal_attention(value=False)
    add_tokenizer(writer, TINY, "")
    writer.add_token_type_count(1)
    writer.add_add_eos_token(value=True)

    def matrix(name: str, rows: int, columns: int) -> None:
        writer.add_tensor(f"{name}.weight", rng.normal(size=(rows, columns), scale=columns**-0.5).astype(np.float32))

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))
        writer.add_tensor(f"{name}.bias", np.zeros(width, np.float32))

    matrix("token_embd", TINY.vocab, width)
    matrix("position_embd", context, width)
    norm("token_embd_norm")
    for layer in range(TINY.layers):
        block = f"blk.{layer}"
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"{block}.{name}", width, width)
        norm(f"{block}.attn_output_norm")
        matrix(f"{block}.ffn_up", ff, width)
        matrix(f"{block}.ffn_down", width, ff)
        norm(f"{block}.layer_output_norm")
    matrix("cls", width, width)
    writer.add_tensor("cls.bias", np.zeros(width, np.float32))
    # Scores that spread over some logits either way, as those of trained ones do.
    writer.add_tensor("cls.output.weight", rng.normal(size=(1, width), scale=0.5).astype(np.float32))
    writer.add_tensor("cls.output.bias", np.zeros(1, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
