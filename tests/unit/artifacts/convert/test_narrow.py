"""Narrow encoders keep two matrices a layer at 16 bits in files of 8; everything else is llama.cpp's mixture."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.hostile_folders.bases import write_bert
from tests.weight_folders import write_folder

from localmodels.artifacts.convert.folder import Folder
from localmodels.artifacts.convert.narrow import NARROW, is_spared
from localmodels.artifacts.convert.plan import plan
from localmodels.artifacts.gguf_header import Header, TensorInfo, Value
from localmodels.artifacts.quantize.file_types import read_file_type, weight_type


def types(folder: Path, target: str) -> dict[str, str]:
    """Of matrices, by name."""
    made = plan(Folder.of(folder), read_file_type(target))
    return {placed.made.name: placed.type.name for placed in made.tensors if len(placed.made.shape) == 2}


def test_the_values_and_the_way_up_of_a_narrow_encoder_stay_at_16_bits(tmp_path: Path) -> None:
    write_bert(tmp_path / "bert")
    found = types(tmp_path / "bert", "Q8_0")
    assert {name for name, form in found.items() if form == "F16"} == {"blk.0.attn_v.weight", "blk.0.ffn_up.weight"}
    assert found["token_embd.weight"] == found["blk.0.attn_q.weight"] == found["blk.0.ffn_down.weight"] == "Q8_0"


@pytest.mark.parametrize("target", ["F32", "BF16", "Q4_0"])
def test_other_types_are_llama_cpps(tmp_path: Path, target: str) -> None:
    write_bert(tmp_path / "bert")
    assert types(tmp_path / "bert", target)["blk.0.attn_v.weight"] == target


def test_decoders_are_llama_cpps(tmp_path: Path) -> None:
    assert types(write_folder(tmp_path / "llama"), "Q8_0")["blk.0.attn_v.weight"] == "Q8_0"


@pytest.mark.parametrize(("width", "spared"), [(384, True), (NARROW - 1, True), (NARROW, False), (1024, False)])
def test_the_width_decides(width: int, *, spared: bool) -> None:
    tensor = TensorInfo("blk.0.attn_v.weight", weight_type("F32"), (width, width), 0, width * width * 4)
    metadata: dict[str, Value] = {"general.architecture": "bert", "bert.embedding_length": width}
    header = Header("m", 3, metadata, (tensor,), 32, 0, 0)
    assert is_spared(tensor, header, read_file_type("Q8_0")) is spared
