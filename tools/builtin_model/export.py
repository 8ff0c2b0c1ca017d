"""Writes the trained model as one GGUF file: Q8_0 matrices, the tokenizer, the chat template and its papers."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf.quants import quantize
from tokenizers import Tokenizer

from .model import Llama
from .template import CONTROL_TOKENS, END_OF_TEXT, MARKUP_TOKENS, SOURCE, TURN_END
from .tokenizer import PRE_TOKENIZER

NAME = "LocalModels built-in"
_TENSORS = {
    "attn_norm": "attn_norm",
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "o": "attn_output",
    "ffn_norm": "ffn_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


def _tensor_name(name: str) -> str:
    if name == "embed.weight":
        return "token_embd.weight"
    if name == "norm.weight":
        return "output_norm.weight"
    _, number, part, _ = name.split(".")
    return f"blk.{number}.{_TENSORS[part]}.weight"


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    vocabulary = sorted(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
    kinds = dict.fromkeys(CONTROL_TOKENS, gguf.TokenType.CONTROL)
    kinds |= dict.fromkeys(MARKUP_TOKENS, gguf.TokenType.USER_DEFINED)
    tokens = [token for token, _ in vocabulary]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENIZER)
    writer.add_token_list(tokens)
    writer.add_token_types([kinds.get(token, gguf.TokenType.NORMAL) for token in tokens])
    writer.add_token_merges(merges(tokenizer))
    writer.add_eos_token_id(tokenizer.token_to_id(TURN_END))
    writer.add_eot_token_id(tokenizer.token_to_id(TURN_END))
    writer.add_pad_token_id(tokenizer.token_to_id(END_OF_TEXT))
    writer.add_bos_token_id(tokenizer.token_to_id(END_OF_TEXT))
    writer.add_add_bos_token(False)  # noqa: FBT003
    writer.add_add_eos_token(False)  # noqa: FBT003
    writer.add_chat_template(SOURCE)


def merges(tokenizer: Tokenizer) -> list[str]:
    """The merge rules in GGUF's form: the two parts with a space between."""
    rules = json.loads(tokenizer.to_str())["model"]["merges"]
    return [rule if isinstance(rule, str) else " ".join(rule) for rule in rules]


def _add_papers(writer: gguf.GGUFWriter, model: Llama) -> None:
    shape = model.shape
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(NAME)
    writer.add_basename("localmodels-builtin")
    writer.add_author("LocalModels")
    writer.add_organization("LocalModels")
    writer.add_version("1")
    writer.add_size_label(f"{sum(w.numel() for w in model.parameters()) / 1e6:.1f}M")
    writer.add_license("Apache-2.0")
    writer.add_languages(["en", "es", "ru"])
    writer.add_tags(["chat", "tools", "embedding"])
    writer.add_description(
        "The small default model of LocalModels, trained from nothing by tools/builtin_model on text that tool writes."
    )
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(shape.vocab)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.epsilon)


def export(model: Llama, tokenizer: Tokenizer, path: Path) -> None:
    """Writes beside the target and renames, so a reader never meets half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    writer = gguf.GGUFWriter(draft, "llama")
    _add_papers(writer, model)
    _add_tokenizer(writer, tokenizer)
    for name, weight in model.state_dict().items():
        values = weight.detach().to("cpu", torch.float32).numpy()
        if values.ndim == 1:
            writer.add_tensor(_tensor_name(name), values)
            continue
        packed: np.ndarray = quantize(values, gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(_tensor_name(name), packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    draft.replace(path)
