from __future__ import annotations

from pathlib import Path

import pytest
from tests.contract.hostile_archives.contents import CODE_NAMES, PICKLE_NAMES, PROGRAMS, pickled, torch_file

from localmodels.artifacts.archive.kinds import check_content, dangerous, fate, passed_over_inside
from localmodels.core.errors import InvalidRequest, Unsupported

SAFETENSORS = (2).to_bytes(8, "little") + b"{}"
TAKEN = (
    "config.json", "model.safetensors", "MODEL.SAFETENSORS", "m.gguf", "tokenizer.model", "vocab.txt", "chat.jinja",
    "LICENSE", "license.apache", "NOTICE", "README.md", "a/b/config.json", "pytorch_model.bin.index.json",
)  # fmt: skip
UNREAD = (
    "optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "training_args.bin", "rng_state.pth",
    "rng_state_3.pth", "random_states_0.pkl", "trainer_state.json", "eval_results.json", "zero_to_fp32.py",
    "global_step5/mp_rank_00_model_states.pt", "runs/x/events.out.tfevents.1.host", "wandb/run.py", ".git/hooks/x.sh",
    ".cache/huggingface/x.lock", "__MACOSX/._x.py", "._x.py", ".DS_Store", "a/.DS_Store", "Thumbs.db",
)  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_taken(name: str) -> None:
    assert fate(tuple(name.split("/"))).taken


@pytest.mark.parametrize("name", UNREAD)
def test_what_is_passed_over_unread(name: str) -> None:
    found = fate(tuple(name.split("/")))
    assert (found.taken, found.unread) == (False, True)
    assert found.why


@pytest.mark.parametrize(
    "name", ["logo.png", "model.onnx", ".gitattributes", "tokenizer.tiktoken", "weights", "x.ipynb"]
)
def test_what_is_nothing_of_a_model_is_looked_at(name: str) -> None:
    found = fate((name,))
    assert (found.taken, found.unread) == (False, False)


@pytest.mark.parametrize("name", [*PICKLE_NAMES, *CODE_NAMES, "m.zip", "m.tar.gz", "m.tar.zst", "m.7z"])
def test_what_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(Unsupported, match=name.rpartition("/")[2]):
        fate(tuple(name.split("/")))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "x.pickle"])
def test_a_pickle_is_told_what_to_be_instead(name: str) -> None:
    with pytest.raises(Unsupported, match="safetensors"):
        fate((name,))


def test_checkpoints_beside_the_model_are_passed_over() -> None:
    assert passed_over_inside(("checkpoint-500", "config.json"))
    assert not passed_over_inside(("checkpoint-500",))
    assert not passed_over_inside(("1_Pooling", "config.json"))


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


@pytest.mark.parametrize("name", [*(name for name in TAKEN if "/" not in name), "weights", "logo.png"])
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
