"""An adapter that cannot work is known by its header, and one that works is not refused."""

from __future__ import annotations

import math
from pathlib import Path

import gguf
import numpy as np
import pytest
from tests.adapters import write_adapter
from tools.random_model import TINY, write_random_model

from localmodels.artifacts.gguf import read_header
from localmodels.artifacts.gguf_header import Header
from localmodels.artifacts.lora import misfit

DOWN = "blk.0.ffn_down.weight"
IN, OUT, RANK = TINY.feed_forward, TINY.width, 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Header:
    return read_header(write_random_model(tmp_path_factory.mktemp("models") / "tiny.gguf"))


def said(path: Path, model: Header) -> str:
    return misfit(read_header(path), model.architecture, model.tensors)


def test_one_that_works_is_taken(model: Header, tmp_path: Path) -> None:
    assert said(write_adapter(tmp_path / "a.gguf", seed=1), model) == ""


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({"architecture": "qwen2"}, "it is for the architecture 'qwen2', not 'llama'"),
        ({"kind": "control"}, "it is of the type 'control', not 'lora'"),
        ({"alpha": math.nan}, "its adapter.lora.alpha must be a number, not nan"),
        ({"alpha": math.inf}, "its adapter.lora.alpha must be a number, not inf"),
        ({"name": "blk.99.ffn_down.weight"}, "its tensor 'blk.99.ffn_down.weight' is not in the model"),
        ({"into": IN + 32}, f"its tensor '{DOWN}' is for a matrix of {IN + 32} x {OUT}, which is {IN} x {OUT}"),
        ({"out": OUT + 32}, f"its tensor '{DOWN}' is for a matrix of {IN} x {OUT + 32}, which is {IN} x {OUT}"),
        ({"rank": RANK + 1}, f"its tensor '{DOWN}' has halves of rank {RANK + 1} and {RANK}"),
        ({"parts": ("lora_a",)}, f"its tensor '{DOWN}' lacks its other half"),
        ({"parts": ("lora_a", "lora_b", "lora_magnitude")}, f"its tensor '{DOWN}.lora_magnitude' is no part of a LoRA"),
    ],
)
def test_what_cannot_work_is_named(changed: dict[str, object], wrong: str, model: Header, tmp_path: Path) -> None:
    assert said(write(tmp_path / "bad.gguf", **changed), model).startswith(wrong)  # type: ignore[arg-type]


def test_embeddings_stand_the_other_way_round(model: Header, tmp_path: Path) -> None:
    rows, columns = TINY.vocab, TINY.width
    path = write(tmp_path / "e.gguf", name="token_embd.weight", rank=rows, into=RANK, out=columns)
    assert said(path, model) == ""


def write(
    path: Path,
    *,
    architecture: str = "llama",
    kind: str = "lora",
    alpha: float = 8.0,
    name: str = DOWN,
    into: int = IN,
    out: int = OUT,
    rank: int = RANK,
    parts: tuple[str, ...] = ("lora_a", "lora_b"),
) -> Path:
    """An adapter of one matrix."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", kind)
    writer.add_float32("adapter.lora.alpha", alpha)
    shapes = {"lora_a": (rank, into), "lora_b": (out, RANK), "lora_magnitude": (1, 1)}
    for part in parts:
        writer.add_tensor(f"{name}.{part}", np.zeros(shapes[part], dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
