"""The sound folders that hostile ones are made of: tiny, random, of each kind of tokenizer, and one with an adapter."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.fidelity.tokenizers import write_unigram, write_wordpiece
from tests.weight_folders import LLAMA, ROWS, WIDTH, Weights, drawn, llama_tensors, safetensors, write_folder

BERT: Mapping[str, Any] = {
    "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": WIDTH,
    "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 4, "max_position_embeddings": 64,
    "type_vocab_size": 2, "layer_norm_eps": 1e-12, "vocab_size": ROWS, "position_embedding_type": "absolute",
}  # fmt: skip
MIXTURE: Mapping[str, Any] = {
    **LLAMA, "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "head_dim": 16,
    "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 32, "norm_topk_prob": True,
    "decoder_sparse_step": 1, "mlp_only_layers": [],
}  # fmt: skip
ADAPTER: Mapping[str, Any] = {
    "peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "someone/tiny", "bias": "none", "fan_in_fan_out": False, "lora_dropout": 0.0,
}  # fmt: skip
LAYER = "base_model.model.model.layers.0.self_attn.q_proj"


def write_llama(place: Path) -> None:
    """A Llama with BPE of bytes."""
    write_folder(place)


def write_bert(place: Path) -> None:
    """A BERT with WordPiece."""
    write_folder(place, BERT, bert_tensors())
    write_wordpiece(place, ROWS)


def write_xlm(place: Path) -> None:
    """An XLM-R with Unigram."""
    config = {**BERT, "architectures": ["XLMRobertaModel"], "model_type": "xlm-roberta", "pad_token_id": 1}
    write_folder(place, {**config, "type_vocab_size": 1}, bert_tensors(types=1))
    write_unigram(place, ROWS)


def write_pieces(place: Path) -> None:
    """A Llama with SentencePiece's own file."""
    write_folder(place)
    (place / "tokenizer.json").unlink()
    (place / "tokenizer.model").write_bytes(sentencepiece())
    (place / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))


def write_mixture(place: Path) -> None:
    """A Qwen3 of two experts."""
    tensors = {name: weights for name, weights in llama_tensors().items() if ".mlp." not in name}
    layer = "model.layers.0"
    tensors |= {f"{layer}.self_attn.{name}_norm.weight": drawn(16, seed=40) for name in "qk"}
    tensors[f"{layer}.mlp.gate.weight"] = drawn(2, WIDTH, seed=41)
    for expert in range(2):
        for name, shape in (("gate_proj", (32, WIDTH)), ("up_proj", (32, WIDTH)), ("down_proj", (WIDTH, 32))):
            tensors[f"{layer}.mlp.experts.{expert}.{name}.weight"] = drawn(*shape, seed=50 + expert)
    write_folder(place, MIXTURE, tensors)


def write_adapted(place: Path) -> None:
    """A Llama, and an adapter of PEFT."""
    write_folder(place)
    (place / "adapter").mkdir()
    (place / "adapter" / "adapter_config.json").write_text(json.dumps(ADAPTER))
    (place / "adapter" / "adapter_model.safetensors").write_bytes(safetensors(adapter_tensors()))


def write_sharded(place: Path) -> None:
    """A Llama in two files with an index."""
    write_folder(place)
    (place / "model.safetensors").unlink()
    tensors = list(llama_tensors().items())
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    halves = (dict(tensors[:5]), dict(tensors[5:]))
    for name, half in zip(names, halves, strict=True):
        (place / name).write_bytes(safetensors(half))
    where = {tensor: name for name, half in zip(names, halves, strict=True) for tensor in half}
    index = {"metadata": {"total_size": 1}, "weight_map": where}
    (place / "model.safetensors.index.json").write_text(json.dumps(index))


def adapter_tensors() -> dict[str, Weights]:
    """Both halves of one matrix."""
    return {f"{LAYER}.lora_A.weight": drawn(4, WIDTH, seed=61), f"{LAYER}.lora_B.weight": drawn(WIDTH, 4, seed=62)}


def bert_tensors(types: int = 2) -> dict[str, Weights]:
    """All tensors of a BERT by ``BERT``."""
    norms = ["embeddings.LayerNorm"]
    tensors = {
        "embeddings.word_embeddings.weight": drawn(ROWS, WIDTH),
        "embeddings.position_embeddings.weight": drawn(64, WIDTH, seed=2),
        "embeddings.token_type_embeddings.weight": drawn(types, WIDTH, seed=3),
    }
    layer = "encoder.layer.0"
    matrices = {f"attention.self.{name}": (WIDTH, WIDTH) for name in ("query", "key", "value")}
    matrices |= {"attention.output.dense": (WIDTH, WIDTH), "intermediate.dense": (96, WIDTH)}
    matrices["output.dense"] = (WIDTH, 96)
    for number, (name, shape) in enumerate(matrices.items()):
        tensors[f"{layer}.{name}.weight"] = drawn(*shape, seed=10 + number)
        tensors[f"{layer}.{name}.bias"] = drawn(shape[0], seed=20 + number)
    norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    for number, name in enumerate(norms):
        tensors |= {f"{name}.{part}": drawn(WIDTH, seed=30 + number) for part in ("weight", "bias")}
    return tensors


# SentencePiece's file: a row of fields, each its number and kind, then its value.


def varint(number: int) -> bytes:
    """A number of 64 bits, seven at a time."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def field(number: int, value: float | bytes) -> bytes:
    """A field: a varint, a float of four bytes, or bytes with their length."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 5) + struct.pack("<f", value)


def piece(text: str | bytes, score: float = 0.0, kind: int = 1) -> bytes:
    """A token."""
    raw = text.encode() if isinstance(text, str) else text
    return field(1, field(1, raw) + field(2, score) + field(3, kind))


def pieces() -> list[bytes]:
    """The tokens of a small vocabulary: those of control, all bytes, letters."""
    letters = ["\u2581", *map(chr, range(97, 123))]
    return [
        piece("<unk>", kind=2), piece("<s>", kind=3), piece("</s>", kind=3),
        *(piece(f"<0x{byte:02X}>", kind=6) for byte in range(256)),
        *(piece(letter, -float(number)) for number, letter in enumerate(letters)),
    ]  # fmt: skip


def sentencepiece(tokens: Iterable[bytes] | None = None, *, trainer: bytes = field(3, 2), rest: bytes = b"") -> bytes:
    """A whole file; BPE."""
    return b"".join(pieces() if tokens is None else tokens) + field(2, trainer) + rest


BASES: Mapping[str, Callable[[Path], None]] = {
    "llama": write_llama,
    "bert": write_bert,
    "xlm": write_xlm,
    "pieces": write_pieces,
    "mixture": write_mixture,
    "adapted": write_adapted,
    "sharded": write_sharded,
}
