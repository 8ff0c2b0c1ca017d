from __future__ import annotations

from pathlib import Path

import pytest
from tests.contract.hostile_archives.contents import PROGRAMS, pickled, torch_file

from localmodels.artifacts.archive.kinds import check_content, dangerous
from localmodels.core.errors import InvalidRequest, Unsupported

SAFETENSORS = (2).to_bytes(8, "little") + b"{}"
PROMISES = (
    "config.json", "model.safetensors", "m.gguf", "tokenizer.model", "vocab.txt", "chat.jinja", "LICENSE", "README.md",
)  # fmt: skip
GOOD = [
    ("model.safetensors", SAFETENSORS),
    ("model.safetensors", b"\x80\x02" + bytes(6) + b"{}".ljust(640)),
    ("m.gguf", b"GGUF" + bytes(20)),
    ("config.json", b' \n{"a": 1}'),
    ("config.json", b"\xef\xbb\xbf{}"),
    ("vocab.json", b"[1]"),
    ("vocab.txt", b""),
    ("vocab.txt", b"cat\ndog\nhouse\n"),
    ("vocab.txt", b"c\nd\ne\n"),
    ("merges.txt", b"#version: 0.2\n"),
    ("vocab.txt", "é".encode() * 300),
    ("README.md", b"\x1b[1mhello\r\n\f"),
    ("LICENSE", b"Apache"),
    ("tokenizer.model", b"\n\x0e\n\x05<unk>\x15\0\0\0\0"),
    ("tokenizer.model", b"IQ== 0\nIg== 1\n"),
    ("logo.png", b"\x89PNG\r\n\x1a\n"),
    ("weights.onnx", b"\x08\x07\x12\x07pytorch"),
]


@pytest.mark.parametrize(("name", "data"), GOOD)
def test_what_keeps_its_promise(name: str, data: bytes) -> None:
    check_content(name, data[:512], len(data))


BROKEN = [
    ("model.safetensors", bytes(100)),
    ("model.safetensors", b""),
    ("model.safetensors", (100).to_bytes(8, "little") + b"{}"),
    ("model.safetensors", (2).to_bytes(8, "little") + b"[]"),
    ("m.gguf", b"GGML" + bytes(20)),
    ("m.gguf", b""),
    ("config.json", b""),
    ("config.json", b"x = 1"),
    ("config.json", b'{"a": \0'),
    ("vocab.txt", b"a\0b"),
    ("LICENSE", bytes(range(30))),
    ("tokenizer.model", b""),
    ("tokenizer.model", b"\0\1\2"),
]


@pytest.mark.parametrize(("name", "data"), BROKEN)
def test_what_does_not(name: str, data: bytes) -> None:
    with pytest.raises(InvalidRequest, match=name) as raised:
        check_content(name, data[:512], len(data))
    assert not isinstance(raised.value, Unsupported)


@pytest.mark.parametrize("name", [*PROMISES, "weights", "logo.png"])
@pytest.mark.parametrize("protocol", range(6))
def test_pickles_are_refused_under_every_name(name: str, protocol: int) -> None:
    data = pickled(Path("/nowhere"), protocol)
    with pytest.raises(InvalidRequest):
        check_content(name, data[:512], len(data))
    assert "pickle" in dangerous(data)


@pytest.mark.parametrize("what", PROGRAMS)
def test_programs_are_refused_under_every_name(what: str) -> None:
    for name in ("model.safetensors", "vocab.txt", "weights"):
        with pytest.raises(Unsupported, match="leave it out"):
            check_content(name, PROGRAMS[what], len(PROGRAMS[what]))


def test_a_file_of_torch_is_told_from_a_zip() -> None:
    assert "PyTorch" in dangerous(torch_file(Path("/nowhere")))


def test_a_pointer_says_how_to_get_the_weights() -> None:
    with pytest.raises(Unsupported, match="git lfs pull"):
        check_content("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid", 130)
