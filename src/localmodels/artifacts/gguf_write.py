"""The head of a GGUF file as bytes: version 3, little-endian, as ``ggml/include/gguf.h`` of llama.cpp describes it."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from localmodels.artifacts.gguf import MAGIC
from localmodels.artifacts.gguf_header import WEIGHT_TYPES, WeightType

VERSION = 3  # version 2 is the same, but for files of big-endian machines, which are not read
# What marks a file as part of a model; a file that is whole must not have them.
SPLIT_KEYS = frozenset({"split.no", "split.count", "split.tensors.count"})

Plain = bool | int | float | str | bytes | Sequence[int] | Sequence[float] | Sequence[str]
"""A value of metadata as :func:`pair` takes it."""

_NUMBERS = {form: number for number, form in WEIGHT_TYPES.items()}
# The numbers of types in metadata.
_U8, _U32, _I32, _F32, _BOOL, _STRING, _ARRAY = 0, 4, 5, 6, 7, 8, 9


def beginning(tensors: int, pairs: int) -> bytes:
    """The first bytes: what follows is so many pairs of metadata, then so many descriptions of tensors."""
    return MAGIC + struct.pack("<IQQ", VERSION, tensors, pairs)


def number_pair(key: str, value: int) -> bytes:
    """A pair of metadata whose value is an unsigned number of 32 bits."""
    return _string(key) + struct.pack("<II", _U32, value)


def pair(key: str, value: Plain) -> bytes:
    """A pair of metadata, of the type that llama.cpp expects of such a value.

    A truth value is one, a whole number is a u32, another number an f32, a text a string. A sequence becomes an array
    of strings, of f32, or (of whole numbers) of i32; bytes become an array of u8.

    Raises:
        ValueError: a number does not fit, or a sequence is empty or mixed.
    """
    kind, raw = _value(value)
    return _string(key) + struct.pack("<I", kind) + raw


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


def _value(value: Plain) -> tuple[int, bytes]:
    """The number of its type, and its bytes."""
    try:
        if isinstance(value, bool):
            return _BOOL, struct.pack("<?", value)
        if isinstance(value, int):
            return _U32, struct.pack("<I", value)
        if isinstance(value, float):
            return _F32, struct.pack("<f", value)
        if isinstance(value, str):
            return _STRING, _string(value)
        if isinstance(value, bytes):
            return _ARRAY, struct.pack("<IQ", _U8, len(value)) + value
        kind, raw = _items(value)
    except (struct.error, OverflowError) as error:
        raise ValueError(f"{value!r:.80} does not fit: {error}") from error
    return _ARRAY, struct.pack("<IQ", kind, len(value)) + raw


def _items(values: Sequence[int] | Sequence[float] | Sequence[str]) -> tuple[int, bytes]:
    kinds = set(map(type, values))
    if kinds == {str}:
        return _STRING, b"".join(map(_string, values))  # type: ignore[arg-type]
    if kinds == {int}:
        return _I32, struct.pack(f"<{len(values)}i", *values)
    if kinds == {float}:
        return _F32, struct.pack(f"<{len(values)}f", *values)
    raise ValueError(f"an array must hold texts, whole numbers or floats, and {values!r:.80} does not")


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw
