"""The head of a GGUF file as bytes: version 3, little-endian, as ``ggml/include/gguf.h`` of llama.cpp describes it."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from localmodels.artifacts.gguf import MAGIC
from localmodels.artifacts.gguf_header import WEIGHT_TYPES, WeightType

VERSION = 3  # version 2 is the same, but for files of big-endian machines, which are not read
# What marks a file as part of a model; a file that is whole must not have them.
SPLIT_KEYS = frozenset({"split.no", "split.count", "split.tensors.count"})

_NUMBERS = {form: number for number, form in WEIGHT_TYPES.items()}
_U32 = 4  # the number of that type in metadata


def beginning(tensors: int, pairs: int) -> bytes:
    """The first bytes: what follows is so many pairs of metadata, then so many descriptions of tensors."""
    return MAGIC + struct.pack("<IQQ", VERSION, tensors, pairs)


def number_pair(key: str, value: int) -> bytes:
    """A pair of metadata whose value is an unsigned number of 32 bits."""
    return _string(key) + struct.pack("<II", _U32, value)


def tensor_info(name: str, shape: Sequence[int], form: WeightType, offset: int) -> bytes:
    """The description of a tensor.

    Args:
        name: of the tensor.
        shape: elements along each dimension, the fastest first.
        form: of its weights.
        offset: of its first byte, from the start of the weights.
    """
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return _string(name) + sizes + struct.pack("<IQ", _NUMBERS[form], offset)


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw
