"""LoRA adapters of PEFT: what we merge, what our adapter's GGUF says, and what the engine computes with it.

    python -m tests.fidelity.lora [PART OF A NAME]

Weights are compared with those that PEFT merges, and log-probabilities of the whole vocabulary with those of PEFT's
model: the engine runs the base with our adapter file or, where an adapter must be merged, the merged model. It needs
torch (CPU), transformers, peft and gguf; nothing is downloaded.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tests.fidelity.comparison import convert
from tests.fidelity.engine import ask
from tests.fidelity.tokenizers import write_bpe
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, Phi3Config, PretrainedConfig, Qwen2Config

from localmodels.artifacts.convert.config import Config
from localmodels.artifacts.convert.drawing import Model
from localmodels.artifacts.convert.families import FAMILIES
from localmodels.artifacts.convert.folder import Folder
from localmodels.artifacts.convert.lora import Merged, adapter_file, read_adapter, rules_of_model, without_base

Floats = npt.NDArray[np.float32]

CLOSE = 1e-6  # relative, in 32-bit floats: sums of a few dozen products in another order

SIZES = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 320, "max_position_embeddings": 256, "head_dim": 16,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
BASES: Mapping[str, Callable[[], PretrainedConfig]] = {
    "llama": lambda: LlamaConfig(**SIZES),
    "qwen2": lambda: Qwen2Config(**SIZES, tie_word_embeddings=False),
    "gemma2": lambda: Gemma2Config(**SIZES, query_pre_attn_scalar=16),
    "phi3": lambda: Phi3Config(**{**SIZES, "num_key_value_heads": 4}),
}
ALL = "all-linear"

# Log-probabilities. Adapters are large here, so are the numbers that are added up; GELU is read from a table of F16.
NEAR: Mapping[str, float] = {"gemma2": 5e-3}
EXACT = 2e-5
APART = 0.05  # of the same model without its adapter
LENGTHS = (17, 64)


@dataclass(frozen=True)
class Case:
    """One kind of adapter; ``merges``: llama.cpp has nothing for it, so it must be merged."""

    name: str
    options: Mapping[str, Any]
    merges: bool = False
    bases: tuple[str, ...] = tuple(BASES)


CASES = (
    Case("plain", {}),
    Case("rsLoRA", {"use_rslora": True}),
    Case("patterns", {
        "rank_pattern": {"down_proj": 4, r"layers\.1\..*o_proj": 12, "^model.layers.0.mlp.gate_up_proj": 2},
        "alpha_pattern": {"o_proj": 31, "layers.0.self_attn.q_proj": 5, r"model\.layers\.\d+\.mlp.up_proj": 9},
    }),
    Case("rsLoRA and patterns", {"use_rslora": True, "rank_pattern": {"down_proj": 4}, "alpha_pattern": {"k_proj": 5}}),
    Case("embeddings", {"target_modules": ["embed_tokens", "o_proj"]}, bases=("llama", "qwen2", "phi3")),
    Case("output matrix", {"target_modules": ["lm_head", "o_proj"]}, bases=("llama", "qwen2", "phi3")),
    Case("DoRA", {"use_dora": True}, merges=True),
    Case("DoRA, embeddings too", {"use_dora": True, "target_modules": ["embed_tokens", "o_proj"]}, merges=True,
         bases=("llama", "qwen2", "phi3")),
    Case("modules_to_save", {"modules_to_save": ["lm_head", "norm"]}, merges=True, bases=("llama", "qwen2", "phi3")),
    Case("biases", {"bias": "all", "target_modules": ["q_proj", "v_proj"]}, merges=True, bases=("qwen2",)),
    Case("lora_bias", {"lora_bias": True, "target_modules": ["q_proj", "v_proj"]}, merges=True, bases=("qwen2",)),
)  # fmt: skip


def train(base: Path, place: Path, case: Case) -> None:
    """Leaves an adapter as a training run would: nothing in it is zero any more."""
    options = {"target_modules": ALL, "r": 8, "lora_alpha": 20, "task_type": "CAUSAL_LM", **case.options}
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**options))
    torch.manual_seed(5)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.requires_grad:
                noise = torch.randn_like(weights) * 0.2
                weights.copy_(weights.abs() + noise.abs() if "magnitude" in name else noise)
    model.save_pretrained(place)


def merged_by_peft(base: Path, adapter: Path) -> dict[str, Floats]:
    """The weights of the base with the adapter in them, by name."""
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).merge_and_unload()
    return {name: weights.float().numpy() for name, weights in model.state_dict().items()}


def distance(ours: Floats, theirs: Floats) -> float:
    """The largest difference, in units of the largest weight."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max()) if ours.shape == theirs.shape else float("inf")


def by_merging(base: Path, adapter: Path, theirs: Mapping[str, Floats]) -> float:
    """How far our merged folder is from PEFT's model."""
    merged = Merged(Folder.of(base), Folder.of(adapter))
    return max(distance(merged.floats(name), theirs[name]) for name in merged.tensors())


def by_adapter(base: Path, adapter: Path, theirs: Mapping[str, Floats], model: Model, path: Path) -> float:
    """How far the base with what llama.cpp computes of our file is from PEFT's model."""
    folder, base_folder = Folder.of(adapter), Folder.of(base)
    rules = rules_of_model(model)
    made = adapter_file(without_base(read_adapter(folder), folder, base_folder), rules, model.architecture)
    path.write_bytes(b"".join(made.pieces(folder)))
    reader = gguf.GGUFReader(path)
    alpha = float(reader.fields["adapter.lora.alpha"].contents())
    halves = {tensor.name: tensor.data.astype(np.float32) for tensor in reader.tensors}
    if path.stat().st_size != made.size:
        return float("inf")
    worst = 0.0
    for source, rule in rules.items():
        name = next(name for name in theirs if name.endswith(source))
        weights, due = base_folder.floats(name), theirs[name]
        if rule.order is not None:
            weights, due = weights[rule.order], due[rule.order]
        if f"{rule.name}.lora_a" in halves:
            a, b = halves[f"{rule.name}.lora_a"], halves[f"{rule.name}.lora_b"]
            scale = np.float32(alpha / b.shape[1])
            weights = weights + scale * (a @ b.T if rule.name == "token_embd.weight" else b @ a)
        worst = max(worst, distance(weights, due))
    return worst


def by_engine(base: Path, adapter: Path, place: Path, *, merges: bool) -> tuple[float, float]:
    """How far the engine is from PEFT in log-probabilities, with the adapter and (the control) without it."""
    plain, path = place / f"{base.name}.gguf", place / "adapter.gguf"
    if not plain.exists():
        convert(base, plain)
    draw = np.random.default_rng(11)
    prompts = [draw.integers(3, 250, length).tolist() for length in LENGTHS]
    question = {"prompts": prompts, "vocabulary": SIZES["vocab_size"], "context": 256}
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager"), adapter)
    with torch.no_grad():
        logits = [model.eval()(torch.tensor([prompt]), use_cache=False).logits[0, -1].double() for prompt in prompts]
    due = np.array([torch.log_softmax(one, -1).numpy() for one in logits])
    if merges:
        convert(Merged(Folder.of(base), Folder.of(adapter)), path)
        answer = ask(path, **question)
    else:
        answer = ask(plain, **question, adapter=str(path), scale=1.0)
    without = ask(plain, **question)
    found = (np.array(one["log_probabilities"]) for one in (answer, without))
    first, second = (float(np.abs(one - due).max()) for one in found)
    return first, second


def main(wanted: str = "") -> int:
    """All adapters with this in their names."""
    warnings.simplefilter("ignore")
    worst, sound = 0.0, True
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        for kind, config in BASES.items():
            torch.manual_seed(3)
            base = place / kind
            AutoModelForCausalLM.from_config(config()).save_pretrained(base)
            write_bpe(base, SIZES["vocab_size"])
            folder = Folder.of(base)
            said = folder.read_object("config.json")
            model = FAMILIES[said["architectures"][0]](Config(said), folder)
            for case in (case for case in CASES if kind in case.bases and wanted in f"{kind}, {case.name}"):
                adapter = place / f"{kind}-{case.name}"
                train(base, adapter, case)
                theirs = merged_by_peft(base, adapter)
                plain = max(distance(folder.floats(name), theirs[name]) for name in folder.tensors())
                found = [("merged", by_merging(base, adapter, theirs))]
                left = Folder.of(adapter)
                if case.merges != bool(without_base(read_adapter(left), left, folder).needs_merging()):
                    found.append(("said to need merging, or not", float("inf")))
                elif not case.merges:
                    found.append(("adapter", by_adapter(base, adapter, theirs, model, place / "adapter.gguf")))
                worst = max(worst, *(value for _, value in found), 0.0 if plain > 0.01 else float("inf"))
                engine, without = by_engine(base, adapter, place, merges=case.merges)
                good = engine <= NEAR.get(kind, EXACT) and without >= APART and worst <= CLOSE
                sound = sound and good
                figures = ", ".join(f"{name} {value:.1e}" for name, value in (*found, ("engine", engine)))
                print(f"{'ok  ' if good else 'FAIL'} lora: {kind}, {case.name:22} {figures}; without the adapter "
                      f"{plain:.1e}, engine {without:.2f}", flush=True)  # fmt: skip
    print(f"the largest relative difference from PEFT's weights is {worst:.1e}; {CLOSE:.0e} is allowed")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
