"""Programs in a folder: pickles under many names, code beside the model, ``auto_map``. None may ever run.

The canary is a file, ``fired``, that any of them would leave in :data:`CANARY`'s place beside the folder.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

from tests.hostile_folders.kinds import Change, Hostile, replaced, with_field

CANARY = "fired"
WEIGHTS = "model.safetensors"


class Evil:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mknod, (str(self.path),)


def canary(place: Path) -> Path:
    """What is there if a program ran."""
    return place.parent / CANARY


def corpus() -> dict[str, Hostile]:
    """All of them by name."""
    return {**_pickles(), **_programs()}


def _pickled(place: Path, protocol: int) -> bytes:
    return pickle.dumps(Evil(canary(place)), protocol)


def _zipped(place: Path) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        archive.writestr("archive/data.pkl", _pickled(place, 2))
    return raw.getvalue()


def _instead(name: str, protocol: int) -> Change:
    """The weights are a pickle of this name."""

    def change(place: Path) -> None:
        (place / WEIGHTS).unlink()
        (place / name).write_bytes(_pickled(place, protocol) if protocol >= 0 else _zipped(place))

    return change


def _as(name: str) -> Change:
    """A pickle in the place of this file."""
    return lambda place: (place / name).write_bytes(_pickled(place, 4))


def _pickles() -> dict[str, Hostile]:
    names = ("pytorch_model.bin", "model.pt", "model.pth", "model.ckpt", "model.pkl", "model.pickle", "model.joblib",
             "model.npy", "model.BIN", "consolidated.00.pth")  # fmt: skip
    found = {f"pickle: {name} instead of weights": Hostile(_instead(name, 4), says="pickle") for name in names}
    found |= {
        f"pickle: weights, protocol {protocol}": Hostile(_instead(WEIGHTS, protocol), says=WEIGHTS)
        for protocol in range(6)
    }
    found |= {"pickle: weights, zipped as PyTorch does": Hostile(_instead(WEIGHTS, -1), says="zip")}
    for name in (
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "chat_template.jinja",
    ):
        found[f"pickle: {name}"] = Hostile(_as(name), says=name)
    beginnings: Mapping[str, tuple[bytes, str]] = {
        "a NumPy file": (b"\x93NUMPY\x01\x00", "NumPy"), "an HDF5 file": (b"\x89HDF\r\n\x1a\n", "HDF5"),
        "a GGUF file": (b"GGUF\x03\x00\x00\x00", "GGUF"),
        "a pointer of Git LFS": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs"),
        "a program": (b"\x7fELF\x02\x01\x01", WEIGHTS), "a script": (b"#!/bin/sh\n", WEIGHTS),
        "a page": (b"<!DOCTYPE html>", WEIGHTS),
    }  # fmt: skip
    found |= {
        f"disguise: {name}": Hostile(replaced(WEIGHTS, raw + bytes(1000)), says=says)
        for name, (raw, says) in beginnings.items()
    }
    return found


def _programs() -> dict[str, Hostile]:
    code = "import os\nos.mknod({path!r})\n"

    def program(*names: str) -> Change:
        def change(place: Path) -> None:
            for name in names:
                (place / name).parent.mkdir(exist_ok=True)
                (place / name).write_text(code.format(path=str(canary(place))))

        return change

    def mapped(place: Path) -> None:
        program("modeling_evil.py", "tokenization_evil.py", "configuration_evil.py")(place)
        for name in ("config.json", "tokenizer_config.json"):
            values = json.loads((place / name).read_text())
            values["auto_map"] = {"AutoModel": "modeling_evil.Evil", "AutoTokenizer": ["tokenization_evil.Evil", None]}
            (place / name).write_text(json.dumps(values))

    beside = ("sitecustomize.py", "usercustomize.py", "numpy.py", "json.py", "msgspec.py", "__init__.py", "setup.py")
    return {
        "program: auto_map": Hostile(mapped, "made"),
        "program: modules of known names": Hostile(program(*beside), "made"),
        "program: a path file": Hostile(
            lambda place: (place / "evil.pth").write_text(f"import os; os.mknod({str(canary(place))!r})"), "made"
        ),
        "program: a custom step": Hostile(program("1_Custom/custom.py"), "made"),
        "program: a class of the web": Hostile(with_field("tokenizer_config.json", "tokenizer_class",
        value="os.system"), "made"),
    }  # fmt: skip
