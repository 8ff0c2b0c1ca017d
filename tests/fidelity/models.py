"""Tiny models with random weights, one a family and a variant, made by transformers itself.

Everything is drawn: matrices (0.08 wide, so that three layers neither die nor explode), normalisations and biases.
The rule: what can be told apart is drawn apart; a normalisation of ones, or heads that are alike, would prove nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from tests.fidelity.tokenizers import write_bpe

# transformers: differences of log-probabilities come from the order of sums. GELU: ggml reads it from a table of F16.
EXACT = 2e-5
BY_TABLE = 5e-3
# YaRN without truncation, which is this family's default and which llama.cpp always does.
UNTRUNCATED = 2.5e-2
ROUGHLY = 0.2

SIZES: Mapping[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


GEMMA = {"head_dim": 32, "query_pre_attn_scalar": 32, "max_position_embeddings": 1024}
LONGROPE = {
    "sliding_window": None,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10_000.0,
        "short_factor": [1.0 + 0.02 * index for index in range(8)],
        "long_factor": [1.5 + 1.3 * index for index in range(8)],
    },
}
OSS = {"head_dim": 32, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 32}
OSS_YARN = {
    "rope_type": "yarn",
    "rope_theta": 150_000.0,
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}


def pack_experts(folder: Path) -> None:
    """Makes the experts of a gpt-oss random MXFP4, as it was published: blocks of 32 four-bit floats, and exponents."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    for name in [name for name in weights if name.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        experts, columns, rows = weights.pop(name).shape
        weights[f"{name}_blocks"] = torch.randint(0, 256, (experts, rows, columns // 32, 16), dtype=torch.uint8)
        weights[f"{name}_scales"] = torch.randint(121, 124, (experts, rows, columns // 32), dtype=torch.uint8)
    save_file(weights, path, metadata={"format": "pt"})
    change_config(folder, quantization_config={"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]})


@dataclass(frozen=True)
class Case:
    """A model to be made, converted and compared.

    Attributes:
        kind: the class of transformers, ``Llama`` for ``LlamaForCausalLM`` and ``LlamaConfig``.
        config: fields beside ``SIZES``.
        most: difference of log-probabilities that is allowed.
        context: tokens that the engine is told to hold.
        lengths: of prompts, in tokens. One token alone would prove nothing: positions do not matter there.
        greedy_from: tokens after which both go on by themselves.
        dtype: in which the folder has the weights.
        tokenizer: writes one into the folder.
        sharded: the folder has its weights in several files.
        after: changes the folder, once the model was saved.
        packed: its experts are MXFP4, with which the engine multiplies vectors of 8 bits: then weights are compared
            (they must be equal), and log-probabilities only roughly.
    """

    kind: str
    config: Mapping[str, Any] = field(default_factory=dict)
    most: float = EXACT
    context: int = 512
    lengths: tuple[int, ...] = (17, 64, 128, 200)
    greedy_from: int = 24
    dtype: torch.dtype = torch.float32
    tokenizer: Callable[[Path, int], None] = write_bpe
    sharded: bool = False
    after: Callable[[Path], None] = lambda folder: None
    packed: bool = False


CASES: Mapping[str, Case] = {
    "llama": Case("Llama"),
    "llama-biased": Case("Llama", {"attention_bias": True, "mlp_bias": True, "head_dim": 32}),
    "llama-3": Case("Llama", {"rope_parameters": LLAMA3}),
    "llama-linear": Case("Llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0}}),
    "llama-tied": Case("Llama", {"tie_word_embeddings": True}, sharded=True),
    "llama-bf16": Case("Llama", dtype=torch.bfloat16),
    "llama-f16": Case("Llama", dtype=torch.float16),
    "mistral": Case("Mistral", {"sliding_window": None, "head_dim": 32}),
    "mistral-window": Case("Mistral", {"sliding_window": 256}, context=256),
    "mixtral": Case("Mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None}),
    "qwen2": Case("Qwen2"),
    "qwen2-yarn": Case(
        "Qwen2",
        {"rope_parameters": {
            "rope_type": "yarn", "factor": 4.0, "rope_theta": 10_000.0, "original_max_position_embeddings": 64,
        }},
    ),
    "qwen2-yarn-attention": Case(
        "Qwen2",
        {"rope_parameters": {
            "rope_type": "yarn", "factor": 4.0, "rope_theta": 10_000.0, "original_max_position_embeddings": 64,
            "attention_factor": 1.3,
        }},
    ),
    "qwen3": Case("Qwen3", {"head_dim": 32}),
    "qwen3-moe": Case(
        "Qwen3Moe",
        {
            "head_dim": 32, "moe_intermediate_size": 64, "num_experts": 8, "num_experts_per_tok": 2,
            "norm_topk_prob": True,
        },
    ),
    "gemma2": Case("Gemma2", {**GEMMA, "sliding_window": 32}, most=BY_TABLE),
    "gemma3": Case("Gemma3Text", {**GEMMA, "num_hidden_layers": 8, "sliding_window": 32}, most=BY_TABLE),
    "gemma3-linear": Case(
        "Gemma3Text",
        {**GEMMA, "num_hidden_layers": 8, "sliding_window": 32, "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        }},
        most=BY_TABLE,
    ),
    "gemma3-pattern": Case(
        "Gemma3Text",
        {**GEMMA, "num_hidden_layers": 4, "sliding_window": 32, "layer_types": [
            "full_attention", "sliding_attention", "sliding_attention", "full_attention",
        ]},
        most=BY_TABLE,
    ),
    "phi3": Case("Phi3", {"sliding_window": None}),
    "phi3-window": Case("Phi3", {"sliding_window": 256}, context=256),
    "phi4-mini": Case("Phi3", {"tie_word_embeddings": True, "rope_parameters": {
        "rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.75,
    }, "hidden_size": 256}),
    "phi3-short": Case("Phi3", {**LONGROPE, "original_max_position_embeddings": 256}, context=256),
    "phi3-long": Case(
        "Phi3", {**LONGROPE, "original_max_position_embeddings": 64}, lengths=(80, 128, 200), greedy_from=80
    ),
    "gpt-oss": Case("GptOss", {**OSS, "rope_parameters": {"rope_type": "default", "rope_theta": 150_000.0}}),
    "gpt-oss-yarn": Case("GptOss", {**OSS, "rope_parameters": {**OSS_YARN, "truncate": True}}),
    "gpt-oss-mxfp4": Case(
        "GptOss", {**OSS, "rope_parameters": {"rope_type": "default", "rope_theta": 150_000.0}}, after=pack_experts,
        most=ROUGHLY, packed=True,
    ),
    "gpt-oss-untruncated": Case("GptOss", {**OSS, "rope_parameters": OSS_YARN}, most=UNTRUNCATED),
}  # fmt: skip


def make(case: Case, folder: Path, *, seed: int = 1) -> torch.nn.Module:
    """Writes the model's folder as a training run would leave it.

    Returns:
        The same model, as it was written, ready to be asked.
    """
    torch.manual_seed(seed)
    config = getattr(transformers, f"{case.kind}Config")(**{**SIZES, **case.config})
    kind = getattr(transformers, f"{case.kind.removesuffix('Text')}ForCausalLM")
    model = kind(config)
    draw(model)
    model.to(case.dtype).save_pretrained(folder, **({"max_shard_size": "300KB"} if case.sharded else {}))
    case.tokenizer(folder, config.get_text_config().vocab_size)
    case.after(folder)
    return kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def draw(model: torch.nn.Module) -> None:
    """Random weights."""
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "norm" in name.lower() and name.endswith("weight"):
                weights.copy_(torch.randn_like(weights) * 0.2 + (0.0 if "Gemma" in type(model).__name__ else 1.0))
            else:
                weights.copy_(torch.randn_like(weights) * 0.08)


def change_config(folder: Path, **fields: Any) -> None:
    """Overwrites fields of ``config.json``; None takes one out."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))


__all__ = ["BY_TABLE", "CASES", "Case", "change_config", "make"]
