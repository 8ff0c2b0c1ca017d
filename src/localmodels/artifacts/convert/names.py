"""What the files of a folder are, told by their names alone.

Apart from the reading of them, so that the server and the command line may ask without loading NumPy. What a file
really is, is told by its content, where it is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

SAFETENSORS = ".safetensors"
CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"

PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".msgpack", ".h5"})
# What a trainer leaves beside the model; nobody opens it.
LEFTOVERS = ("training_args", "optimizer", "scheduler", "scaler", "rng_state")

USE_SAFETENSORS = (
    "pickles run a program when they are read, so they are not read here; save the model as safetensors "
    "(save_pretrained does, without further arguments)"
)


def is_pickle(name: str) -> bool:
    """Does the name promise weights in a format that can run programs? What a trainer leaves beside them is none."""
    path = PurePosixPath(name)
    return path.suffix.lower() in PICKLES and not path.name.startswith(LEFTOVERS)


def is_program(name: str) -> bool:
    """Does the name promise something that runs: a program, a pickle, or what a trainer pickled beside the model?"""
    return PurePosixPath(name).suffix.lower() in PICKLES | {".py", ".so"}


def is_safetensors(name: str) -> bool:
    """Does the name promise weights that can be converted?"""
    return name.lower().endswith(SAFETENSORS)


def is_adapter(names: Iterable[str]) -> bool:
    """Are these the files of an adapter, and not of a whole model?"""
    found = frozenset(names)
    return ADAPTER_CONFIG in found and CONFIG not in found
