from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.weight_folders import bf16, drawn, safetensors

from localmodels.artifacts.convert.folder import Folder
from localmodels.artifacts.model_files import INDEX
from localmodels.core.errors import ModelDamaged, Unsupported


def shards(place: Path, weight_map: dict[str, str]) -> None:
    (place / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_views_have_the_weights_that_were_written(tmp_path: Path) -> None:
    weights = drawn(3, 5)
    (tmp_path / "model.safetensors").write_bytes(
        safetensors({"a": weights, "b": bf16(weights), "c": weights.astype("f2")})
    )
    folder = Folder.of(tmp_path)
    assert np.array_equal(folder.tensor("a"), weights)
    assert not folder.tensor("a").flags.writeable
    assert np.array_equal(folder.floats("c"), weights.astype(np.float16).astype(np.float32))
    halves = folder.floats("b")
    assert halves.dtype == np.float32
    assert np.abs(halves - weights).max() < 0.02
    folder.forget("a", folder.tensor("a"))
    assert np.array_equal(folder.tensor("a"), weights)


def test_shards_are_one_folder(tmp_path: Path) -> None:
    (tmp_path / "model-1.safetensors").write_bytes(safetensors({"a": drawn(2)}))
    (tmp_path / "model-2.safetensors").write_bytes(safetensors({"b": drawn(3)}))
    shards(tmp_path, {"a": "model-1.safetensors", "b": "model-2.safetensors"})
    assert set(Folder.of(tmp_path).tensors()) == {"a", "b"}
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(ModelDamaged, match=r"missing: model-2\.safetensors"):
        Folder.of(tmp_path).tensors()


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    for name in ("model-1.safetensors", "model-2.safetensors"):
        (tmp_path / name).write_bytes(safetensors({"a": drawn(2)}))
    shards(tmp_path, {"a": "model-1.safetensors", "b": "model-2.safetensors"})
    with pytest.raises(ModelDamaged, match=r"is in model-1\.safetensors and in model-2\.safetensors"):
        Folder.of(tmp_path).tensors()


def test_an_index_can_name_no_file_outside(tmp_path: Path) -> None:
    inside = tmp_path / "model"
    inside.mkdir()
    (tmp_path / "secret.safetensors").write_bytes(safetensors({"a": drawn(2)}))
    shards(inside, {"a": "../secret.safetensors"})
    with pytest.raises(ModelDamaged, match=r"missing: \.\./secret"):
        Folder.of(inside).tensors()


def test_weights_in_pickles_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(Unsupported, match=r"pytorch_model\.bin: pickles run a program"):
        Folder.of(tmp_path).tensors()


def test_a_pickle_by_the_name_of_a_text_is_refused_by_content(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"\x80\x04\x95.")
    with pytest.raises(Unsupported, match="pickle"):
        Folder.of(tmp_path).read_json("config.json")


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe", b"[" * 100_000, b""])
def test_what_is_not_json_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(ModelDamaged, match=r"config\.json"):
        Folder.of(tmp_path).read_json("config.json")


def test_links_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "config.json").symlink_to("/etc/hostname")
    folder = Folder.of(tmp_path)
    assert not folder.has("config.json")
    with pytest.raises(ModelDamaged, match="missing"):
        folder.read_bytes("config.json")


def test_a_file_too_large_for_its_name_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(ModelDamaged, match="larger than"):
        Folder.of(tmp_path).read_bytes("config.json")
