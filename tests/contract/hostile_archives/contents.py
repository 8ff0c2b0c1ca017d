"""What must never be unpacked, whatever it is called: pickles that would fire a canary, programs, code, archives."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.contract.hostile_archives.making import CONFIG, File, Member, tar_of, zip_of


class _Bomb:
    """When it is unpickled, a file of this name comes to be."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (self._path,)


def pickled(canary: Path, protocol: int = 4) -> bytes:
    """A pickle that fires."""
    return pickle.dumps(_Bomb(str(canary)), protocol)


def torch_file(canary: Path) -> bytes:
    """As ``torch.save`` writes since 1.6: a zip file with a pickle in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(canary))
    return buffer.getvalue()


def code(canary: Path) -> bytes:
    """Python that fires."""
    return f"import os\nos.mkdir({str(canary)!r})\n".encode()


PICKLE_NAMES = (
    "pytorch_model.bin", "adapter_model.bin", "model.pt", "model.pth", "model.ckpt", "model.pkl", "model.pickle",
    "model.joblib", "model.npy", "model.npz", "model.h5", "model.msgpack", "weights.dill", "a/b/deep.bin", "MODEL.BIN",
    "pytorch_model-00001-of-00002.bin", "consolidated.00.pth", "model.nemo", "model.torch", "model.pt2",
)  # fmt: skip
DISGUISES = (
    "model.safetensors", "adapter_model.safetensors", "model.gguf", "config.json", "tokenizer.json", "tokenizer.model",
    "vocab.txt", "chat_template.jinja", "README.md", "LICENSE", "weights.dat", "weights", "model.onnx", ".hidden",
    "checkpoint-5/model.safetensors",
)  # fmt: skip
CODE_NAMES = (
    "modeling_x.py", "setup.py", "sitecustomize.py", "__init__.py", "conftest.py", "evil.pth", "a/tokenization_x.py",
    "x.pyc", "x.so", "x.dll", "x.dylib", "run.sh", "run.bat", "x.exe", "x.jar", "x.js", "x.wasm",
)  # fmt: skip
PROGRAMS: Mapping[str, bytes] = {
    "an ELF program": b"\x7fELF\x02\x01\x01" + bytes(57),
    "a Mach-O program": b"\xcf\xfa\xed\xfe\x07\x00\x00\x01" + bytes(56),
    "a universal Mach-O program": b"\xca\xfe\xba\xbe\x00\x00\x00\x02" + bytes(56),
    "a Windows program": b"MZ\x90\x00\x03" + bytes(59),
    "a script": b"#!/bin/sh\nid\n",
    "a WebAssembly module": b"\0asm\x01\0\0\0",
}

Make = Callable[[Path], bytes]


def _single(name: str, data: Make) -> Make:
    return lambda canary: zip_of(File(name="a.json"), File(name=name, data=data(canary)))


def _in_tar(name: str, data: Make) -> Make:
    return lambda canary: tar_of(Member(name="a.json"), Member(name=name, data=data(canary)))


def _pickles() -> dict[str, Make]:
    found = {f"a pickle as {name}": _single(name, pickled) for name in PICKLE_NAMES}
    found |= {f"a pickle in disguise of {name}": _single(name, pickled) for name in DISGUISES}
    found |= {f"a torch file as {name}": _in_tar(name, torch_file) for name in ("model.safetensors", "weights.dat")}
    for protocol in range(6):
        found[f"a pickle of protocol {protocol}"] = _in_tar("weights.dat", lambda to, at=protocol: pickled(to, at))  # type: ignore[misc]
    found["a pickle packed by zlib"] = _single("weights.dat", lambda canary: zlib.compress(pickled(canary)))
    found["a pickle packed by gzip"] = _single("weights.dat", lambda canary: gzip.compress(pickled(canary)))
    found["a pickle beyond good weights"] = _in_tar("pytorch_model.bin", pickled)
    found["a pickle of DeepSpeed under another name"] = _single("mp_rank_00_model_states.pt", pickled)
    return found


def _programs() -> dict[str, Make]:
    found = {f"code as {name}": _single(name, code) for name in CODE_NAMES}
    for what, data in PROGRAMS.items():
        for name in ("model.safetensors", "tool", "vocab.txt"):
            found[f"{what} as {name}"] = _single(name, lambda _canary, is_=data: is_)  # type: ignore[misc]
    return found


def _nested() -> dict[str, Make]:
    inner = zip_of(File())
    return {
        "a zip in a zip": lambda _: zip_of(File(), File(name="model.zip", data=inner)),
        "a zip under another name": lambda _: zip_of(File(), File(name="model.dat", data=inner)),
        "a zip as JSON": lambda _: zip_of(File(), File(name="tokenizer.json", data=inner)),
        "a tar in a tar": lambda _: tar_of(Member(), Member(name="m.tar", data=tar_of(Member()))),
        "a tar under another name": lambda _: tar_of(Member(), Member(name="m.dat", data=tar_of(Member()))),
        "a tar as a text": lambda _: tar_of(Member(), Member(name="vocab.txt", data=tar_of(Member()))),
        "a zip of zips of zips": lambda _: zip_of(File(name="1.zip", data=zip_of(File(name="2.zip", data=inner)))),
        "a 7z": lambda _: zip_of(File(), File(name="m.dat", data=b"7z\xbc\xaf\x27\x1c" + bytes(50))),
        "an xz": lambda _: zip_of(File(), File(name="m.dat", data=b"\xfd7zXZ\0" + bytes(50))),
    }


def _broken_promises() -> dict[str, Make]:
    bad: Mapping[str, tuple[str, bytes]] = {
        "weights that are zeros": ("model.safetensors", bytes(1000)),
        "weights that are empty": ("model.safetensors", b""),
        "weights with an endless head": ("model.safetensors", b"\xff" * 8 + b"{}" + bytes(100)),
        "weights whose head goes beyond the file": ("model.safetensors", (500).to_bytes(8, "little") + b"{}      "),
        "weights that are a pointer": ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid x\n"),
        "GGUF that is none": ("model.gguf", b"GGML" + bytes(100)),
        "JSON that is none": ("config.json", b"architectures: llama\n"),
        "JSON that is binary": ("config.json", b'{"a": "' + bytes(20)),
        "a text that is binary": ("vocab.txt", bytes(range(256))),
        "a text in UTF-16": ("README.md", "hello".encode("utf-16")),
        "a vocabulary of nothing": ("tokenizer.model", b"\x01\x02\x03\x04"),
        "an HDF5 file as weights": ("model.safetensors", b"\x89HDF\r\n\x1a\n" + bytes(100)),
        "a NumPy file as text": ("vocab.txt", b"\x93NUMPY\x01\0" + bytes(100)),
    }
    return {
        what: lambda _, name=name, data=data: zip_of(File(name="a.json"), File(name=name, data=data))  # type: ignore[misc]
        for what, (name, data) in bad.items()
    }


CONTENTS: dict[str, Make] = {
    **_pickles(),
    **_programs(),
    **_nested(),
    **_broken_promises(),
    "nothing of a model": lambda _: zip_of(File(name="photo.jpg", data=b"\xff\xd8\xff\xe0")),
    "only what is passed over": lambda _: tar_of(Member(name="optimizer.pt"), Member(name="runs/x", data=CONFIG)),
}
