from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.weight_folders import safetensors, with_head

from localmodels.artifacts.convert.safetensors import LONGEST_HEAD, read_safetensors
from localmodels.core.errors import ModelDamaged, Unsupported


def read(path: Path, data: bytes) -> Any:
    path.write_bytes(data)
    return read_safetensors(path, "w.safetensors")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "w.safetensors"


def entry(**fields: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **fields}


def test_a_sound_file_says_where_each_tensor_lies(path: Path) -> None:
    one, two = read(path, safetensors({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(4, np.uint16)}))
    assert (one.name, one.dtype, one.shape, one.size) == ("a", "F32", (2, 3), 24)
    assert (two.name, two.dtype, two.start) == ("b", "BF16", one.stop)
    assert two.stop == path.stat().st_size


def test_tensors_may_lie_in_another_order_than_they_are_named(path: Path) -> None:
    head = {"a": entry(data_offsets=[8, 16]), "b": entry(data_offsets=[0, 8])}
    assert [tensor.name for tensor in read(path, with_head(head, bytes(16)))] == ["a", "b"]


HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "ends inside its head"),
    "a length and no more": ((5).to_bytes(8, "little"), "ends inside its head"),
    "a head longer than the file": ((2**40).to_bytes(8, "little") + b"{}", "ends inside its head"),
    "a head as long as numbers go": ((2**64 - 1).to_bytes(8, "little") + b"{}", "ends inside its head"),
    "no object": (with_head(b"[1, 2]  "), "not a JSON object"),
    "spaces before the object": (with_head(b"  {}    "), "not a JSON object"),
    "half an object": (with_head(b'{"a": {"dt'), "not JSON"),
    "nested without end": (with_head(b'{"a":' * 50_000), "not JSON"),
    "NaN": (with_head(b'{"a": NaN}      '), "NaN"),
    "a name twice": (with_head(b'{"a": 1, "a": 2}'), "there twice"),
    "metadata of numbers": (with_head({"__metadata__": {"a": 1}}), "__metadata__"),
    "an empty name": (with_head({"": entry()}, bytes(8)), "proper name"),
    "a name with a zero": (with_head({"a\0b": entry()}, bytes(8)), "proper name"),
    "a field too many": (with_head({"a": entry(more=1)}, bytes(8)), "nothing else"),
    "a field too few": (with_head({"a": {"dtype": "F32"}}, bytes(8)), "must have"),
    "a shape that is no list": (with_head({"a": entry(shape=2)}, bytes(8)), "impossible shape"),
    "a size below 0": (with_head({"a": entry(shape=[-2])}, bytes(8)), "impossible shape"),
    "a size that is true": (with_head({"a": entry(shape=[True])}, bytes(8)), "impossible shape"),
    "a size with a point": (with_head({"a": entry(shape=[2.0])}, bytes(8)), "impossible shape"),
    "nine dimensions": (with_head({"a": entry(shape=[1] * 9)}, bytes(8)), "impossible shape"),
    "sizes whose product is endless": (with_head({"a": entry(shape=[2**47] * 8)}, bytes(8)), "cannot have 8 bytes"),
    "offsets backwards": (with_head({"a": entry(data_offsets=[8, 0])}, bytes(8)), "outside"),
    "offsets beyond the end": (with_head({"a": entry(shape=[4], data_offsets=[0, 16])}, bytes(8)), "outside"),
    "offsets below 0": (with_head({"a": entry(data_offsets=[-8, 0])}, bytes(8)), "outside"),
    "one offset": (with_head({"a": entry(data_offsets=[8])}, bytes(8)), "outside"),
    "more bytes than the shape": (with_head({"a": entry(shape=[1])}, bytes(8)), "cannot have 8 bytes"),
    "two that overlap": (
        with_head({"a": entry(), "b": entry(data_offsets=[4, 12])}, bytes(12)),
        "begins at byte",
    ),
    "two in one place": (with_head({"a": entry(), "b": entry()}, bytes(8)), "begins at byte"),
    "a gap": (with_head({"a": entry(), "b": entry(data_offsets=[12, 20])}, bytes(20)), "begins at byte"),
    "a gap at the beginning": (with_head({"a": entry(data_offsets=[4, 12])}, bytes(12)), "begins at byte"),
    "bytes after the last": (with_head({"a": entry()}, bytes(12)), "the file at byte"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_not_sound_is_refused_with_its_reason(path: Path, name: str) -> None:
    data, reason = HOSTILE[name]
    with pytest.raises(ModelDamaged, match=reason):
        read(path, data)


def test_a_head_that_would_fill_the_memory_is_not_read(path: Path) -> None:
    with path.open("wb") as file:
        file.write((LONGEST_HEAD + 1).to_bytes(8, "little") + b"{}")
        file.truncate(2 * LONGEST_HEAD)
    with pytest.raises(ModelDamaged, match="at most"):
        read_safetensors(path, "w.safetensors")


@pytest.mark.parametrize(
    ("beginning", "what"),
    [
        (b"\x80\x04\x95", "pickle"),
        (b"\x80\x02}q\x00", "pickle"),
        (b"PK\x03\x04", "PyTorch"),
        (b"GGUF\x03", "GGUF"),
        (b"\x93NUMPY", "NumPy"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_another_file_under_this_name_is_called_by_its_own(path: Path, beginning: bytes, what: str) -> None:
    with pytest.raises(Unsupported, match=what):
        read(path, beginning + bytes(100))


def test_an_unknown_type_is_named(path: Path) -> None:
    with pytest.raises(Unsupported, match="F4"):
        read(path, with_head({"a": entry(dtype="F4")}, bytes(8)))


def test_a_link_and_a_pipe_are_no_files(tmp_path: Path, path: Path) -> None:
    path.symlink_to("/etc/hostname")
    with pytest.raises(ModelDamaged, match="cannot be read"):
        read_safetensors(path, "w.safetensors")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelDamaged, match="not a file"):
        read_safetensors(tmp_path / "pipe", "w.safetensors")


def test_every_truncation_is_refused(path: Path) -> None:
    whole = safetensors({"a": np.zeros(4, np.float32)})
    for length in range(len(whole)):
        with pytest.raises(ModelDamaged):
            read(path, whole[:length])
