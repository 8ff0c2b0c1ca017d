"""What the files of a model are and which of them are sent and taken, told by their names alone. Pure.

The rule: whoever sends files, takes them out of an archive or reads a folder asks here, so what a server would refuse
does not leave home, and nobody has a list of his own. What a file really is, is told by its content, where it is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Literal

from msgspec import Struct

from localmodels.artifacts.file_names import Parts, checked_name, shown
from localmodels.core.errors import InvalidRequest, Unsupported

SAFETENSORS, GGUF = ".safetensors", ".gguf"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # of PEFT
INDEX = "model.safetensors.index.json"

Content = Literal["safetensors", "gguf", "json", "vocabulary", "text"]
# What a model is made of; all else is none of its files.
_CONTENTS: Mapping[str, Content] = {
    SAFETENSORS: "safetensors",
    GGUF: "gguf",
    ".json": "json",
    ".model": "vocabulary",
    ".txt": "text",
    ".jinja": "text",
    ".md": "text",
}
_TEXTS = frozenset({"LICENSE", "LICENCE", "NOTICE", "USE_POLICY", "COPYING"})

USE_SAFETENSORS = (
    "pickles run a program when they are read, so they are not read here; save the model as safetensors "
    "(save_pretrained does, without further arguments)"
)
AS_SAFETENSORS = "save the model as safetensors (save_pretrained does, without further arguments), and leave this out"
NO_CODE = "models come without code of their own (trust_remote_code), so leave it out"
UNPACKED = "archives in archives are not unpacked: put the files themselves into one"

PICKLES = frozenset({".bin", ".ckpt", ".dill", ".h5", ".hdf5", ".joblib", ".keras", ".msgpack", ".nemo", ".npy", ".npz",
                     ".p", ".pickle", ".pkl", ".pt", ".pt2", ".pth", ".pyt", ".torch"})  # fmt: skip
_PROGRAMS = frozenset({".a", ".app", ".bash", ".bat", ".c", ".class", ".cmd", ".com", ".command", ".cpp", ".cu", ".dll",
                      ".dylib", ".egg", ".exe", ".jar", ".js", ".lua", ".msi", ".o", ".php", ".pl", ".ps1", ".py",
                      ".pyc", ".pyd", ".pyi", ".pyo", ".pyw", ".pyx", ".rb", ".scr", ".sh", ".so", ".vbs", ".wasm",
                      ".whl", ".zsh"})  # fmt: skip
_ARCHIVES = frozenset({".7z", ".br", ".bz2", ".gz", ".lz4", ".lzma", ".rar", ".tar", ".tbz2", ".tgz", ".txz", ".tzst",
                      ".xz", ".zip", ".zst"})  # fmt: skip
_REFUSED = (
    (PICKLES, f"such files can run a program when they are read, so they are not taken; {AS_SAFETENSORS}"),
    (_PROGRAMS, f"this is code; {NO_CODE}"),
    (_ARCHIVES, f"this is an archive; {UNPACKED}"),
)

_MAC = "what macOS and Windows add"
_TRAINER = "what a trainer leaves, which answers need nothing of"
_HIDDEN = "hidden folders"
_USELESS = "nothing of a model"
_CHECKPOINTS = "an earlier state of the training"

_NOISE = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
# What a trainer pickles beside the model; nobody opens it.
_STATES = ("training_args", "optimizer", "scheduler", "scaler", "rng_state", "random_states")
_STATE = re.compile(rf"({'|'.join(_STATES)})[\w.-]*\.(bin|pt|pth|pkl)")
_LEFTOVERS = re.compile(
    r"trainer_state\.json|trainer_log\.jsonl|(all|train|eval)_results\.json|events\.out\.tfevents\..*|zero_to_fp32\.py"
)
_LEFTOVER_FOLDERS = re.compile(r"global_step\d+|runs|wandb")  # of DeepSpeed, TensorBoard and Weights & Biases
_CHECKPOINT = "checkpoint-"


class Fate(Struct, frozen=True):
    """What becomes of a file because of its name.

    Attributes:
        why: it is passed over: as what; empty if it is taken.
        unread: what is in it does not matter.
    """

    why: str = ""
    unread: bool = False

    @property
    def taken(self) -> bool:
        """It becomes a part of the model."""
        return not self.why


def fate(parts: Parts) -> Fate:
    """What becomes of a file of this name, wherever its folder lies.

    Raises:
        Unsupported: its name promises what is never taken.
    """
    name, folders = parts[-1], parts[:-1]
    if is_noise(parts) or "__MACOSX" in folders:
        return Fate(_MAC, unread=True)
    if any(folder.startswith(".") for folder in folders):
        return Fate(_HIDDEN, unread=True)
    if (
        any(_LEFTOVER_FOLDERS.fullmatch(folder) for folder in folders)
        or _STATE.fullmatch(name)
        or _LEFTOVERS.fullmatch(name)
    ):
        return Fate(_TRAINER, unread=True)
    suffix = suffix_of(name)
    for suffixes, told in _REFUSED:
        if suffix in suffixes:
            raise Unsupported(f"{shown('/'.join(parts))}: {told}")
    return Fate() if content_of(name) else Fate(_USELESS)


def is_noise(parts: Parts) -> bool:
    """Did a file manager add this file? Such do not count where the model's own folder is looked for."""
    return parts[0] == "__MACOSX" or parts[-1] in _NOISE or parts[-1].startswith("._")


def is_checkpoint(folder: str) -> bool:
    """Does a trainer keep an earlier state in a folder of this name?"""
    return folder.startswith(_CHECKPOINT) and folder != _CHECKPOINT


def passed_over_inside(parts: Parts) -> str:
    """As what a file is passed over because of where it lies in the model's folder; empty if it is not."""
    return _CHECKPOINTS if len(parts) > 1 and is_checkpoint(parts[0]) else ""


def is_sent(name: str) -> bool:
    """Does a file of this name, relative to the model's folder, leave home? What is hidden or refused does not."""
    parts = tuple(name.split("/"))
    if any(part.startswith(".") for part in parts) or passed_over_inside(parts):
        return False
    try:
        checked_name(name)
        return fate(parts).taken
    except InvalidRequest:
        return False


def content_of(name: str) -> Content | None:
    """What a file of this name promises to hold; None if it is no file of a model."""
    base = name.rpartition("/")[2]
    known = _CONTENTS.get(suffix_of(base))
    return "text" if known is None and base.partition(".")[0].upper() in _TEXTS else known


def suffix_of(name: str) -> str:
    """With the dot, in lower case: ``.json``."""
    return f".{name.rpartition('.')[2].lower()}" if "." in name else ""


def is_pickle(name: str) -> bool:
    """Does the name promise weights in a format that can run programs? What a trainer leaves beside them is none."""
    return suffix_of(name) in PICKLES and not name.rpartition("/")[2].startswith(_STATES)


def is_program(name: str) -> bool:
    """Does the name promise something that runs: a program, a pickle, or what a trainer pickled beside the model?"""
    return suffix_of(name) in PICKLES | _PROGRAMS


def is_safetensors(name: str) -> bool:
    """Does the name promise weights that can be converted?"""
    return name.lower().endswith(SAFETENSORS)


def is_gguf(name: str) -> bool:
    """Does the name promise a model as it is run?"""
    return name.lower().endswith(GGUF)


def of_model(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the names that only a whole model has."""
    found = (name for name in names if "/" not in name)
    return tuple(one for one in found if one == INDEX or (is_safetensors(one) and not one.startswith("adapter")))


def of_adapter(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the names that only an adapter has."""
    return tuple(name for name in names if name in {ADAPTER_CONFIG, ADAPTER_WEIGHTS})


def is_adapter(names: Iterable[str]) -> bool:
    """Are these the files of an adapter? PEFT leaves a ``config.json`` of the base beside some; weights tell."""
    found = tuple(names)
    return bool(of_adapter(found)) and not of_model(found)


def lies_in(folder: PurePath, file: PurePath) -> bool:
    """Is the file in the folder? That of Hugging Face's cache has links to its blobs, which belong to it.

    Args:
        folder: resolved, so that no link is in it.
        file: likewise.
    """
    blobs = (folder.parent.parent / "blobs",) if folder.parent.name == "snapshots" else ()
    return any(file.is_relative_to(place) for place in (folder, *blobs))
