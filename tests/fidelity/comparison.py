"""One model, converted and compared with what transformers computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from tests.fidelity.engine import GREEDY, ask
from tests.fidelity.models import Case

from localmodels.artifacts.convert.drawing import Model
from localmodels.artifacts.convert.folder import Folder
from localmodels.artifacts.convert.plan import Plan, planned, read_model, text_values
from localmodels.artifacts.convert.vocab import read_vocabulary
from localmodels.artifacts.convert.work import Work
from localmodels.artifacts.quantize.file_types import read_file_type
from localmodels.artifacts.quantize.ggml import Ggml, find_library


@dataclass(frozen=True)
class Compared:
    """How far two are apart: the largest difference of log-probabilities, and how many greedy tokens agree."""

    difference: float
    agreeing: int


def convert(
    folder: Path | Folder, path: Path, target: str = "F32", *, alter: Callable[[Model], Model] = lambda model: model
) -> Plan:
    """Writes the GGUF file of a folder; ``alter`` may spoil the model before."""
    files = folder if isinstance(folder, Folder) else Folder.of(folder)
    model = alter(read_model(files))
    config = text_values(files.read_object("config.json"))
    rows = next(made.shape[0] for made in model.tensors if made.name == "token_embd.weight")
    vocabulary = read_vocabulary(files, config, rows=rows)
    made = planned(model, vocabulary, read_file_type(target), files.tensors(), files.name)
    with path.open("wb") as file:
        for piece in Work(files, made, Ggml(find_library()), 2).pieces():
            file.write(piece)
    return made


def compare(case: Case, model: torch.nn.Module, path: Path) -> Compared:
    """Asks both the same."""
    vocabulary = model.config.get_text_config().vocab_size
    draw = np.random.default_rng(7)
    prompts = [draw.integers(3, 250, length).tolist() for length in case.lengths]
    prompt = draw.integers(3, 250, case.greedy_from).tolist()
    answer = ask(path, prompts=prompts, greedy=prompt, vocabulary=vocabulary, context=case.context)
    found = np.array(answer["log_probabilities"])
    due = np.array([_log_probabilities(model, prompt) for prompt in prompts])
    tokens = _greedy(model, prompt)
    agreeing = sum(one == other for one, other in zip(tokens, answer["greedy"], strict=False))
    return Compared(float(np.abs(found - due).max()), agreeing + GREEDY - len(tokens))


def experts_equal(model: torch.nn.Module, path: Path) -> bool:
    """Are the packed experts of a gpt-oss the very numbers that transformers unpacks?"""
    tensors = {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in GGUFReader(path).tensors}
    for index, layer in enumerate(model.model.layers):
        both, down = layer.mlp.experts.gate_up_proj.numpy(force=True), layer.mlp.experts.down_proj.numpy(force=True)
        due = {"gate": both[:, :, ::2], "up": both[:, :, 1::2], "down": down}
        if not all(
            np.array_equal(tensors[f"blk.{index}.ffn_{name}_exps.weight"], due[name].swapaxes(1, 2)) for name in due
        ):
            return False
    return True


def _log_probabilities(model: torch.nn.Module, prompt: list[int]) -> list[float]:
    with torch.no_grad():
        logits = model(torch.tensor([prompt]), use_cache=False).logits[0, -1].double()
    values: list[float] = torch.log_softmax(logits, -1).tolist()
    return values


def _greedy(model: torch.nn.Module, prompt: list[int]) -> list[int]:
    """Token after token, without a cache: as plain as it can be."""
    tokens = list(prompt)
    ends = model.config.get_text_config().eos_token_id
    while len(tokens) < len(prompt) + GREEDY:
        with torch.no_grad():
            tokens.append(int(model(torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax()))
        if tokens[-1] == ends:
            break
    return tokens[len(prompt) :]
