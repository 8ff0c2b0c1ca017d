"""Reads the head of a safetensors file. One rule: no number is used before it was bounded.

The layout, by the format's own description: a u64 (little-endian) with the length of the head; the head, a JSON
object that begins with ``{`` and may be padded with spaces; then the weights, to the end of the file::

    {"__metadata__": {"format": "pt"}, "NAME": {"dtype": "BF16", "shape": [4, 8], "data_offsets": [0, 64]}, …}

Offsets count from the first byte after the head. The weights lie without gap and without overlap, in any order. What
is not exactly so is refused by name: whoever can upload a model can write these bytes (threats V-11, V-15).
"""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NoReturn

from msgspec import Struct

from localmodels.core.errors import ModelDamaged, Unsupported

# Bytes of one element. The format knows some more, which hold no weights that anybody fine-tunes.
ITEM_SIZES: Mapping[str, int] = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip

LONGEST_HEAD = 16 * 2**20  # the format allows 100 MB; the largest known, of 90,000 tensors, has 11 MB
MOST_TENSORS = 2**17
MOST_VALUES = 2**21  # in the head: each takes 64 bytes and more, whatever it is
MOST_DIMENSIONS = 8
LONGEST_NAME = 512

# How files begin that hold a program in disguise, or another container than the one their name promises.
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_DISGUISES: tuple[tuple[bytes, str], ...] = (
    *((magic, "a pickle, which runs a program when it is read") for magic in _PICKLES),
    (b"PK\x03\x04", "a zip file, as PyTorch's pickles are, which run a program when they are read"),
    (b"\x93NUMPY", "a NumPy file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"GGUF", "a GGUF file, which needs no conversion"),
    (b"version https://git-lfs", "a pointer of Git LFS instead of the weights; fetch them with 'git lfs pull'"),
)


class Stored(Struct, frozen=True):
    """A tensor as it lies in a file.

    Attributes:
        file: name of the file.
        dtype: as the format calls it, one of ``ITEM_SIZES``.
        shape: sizes, the slowest-moving first: a matrix is (rows, columns).
        start: its first byte in the file, and ``stop`` the one after its last.
    """

    name: str
    file: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.stop - self.start


def disguise(beginning: bytes) -> str:
    """What a file really is that begins with these bytes, if it must not be here; empty if nothing is known of it.

    Args:
        beginning: nine bytes at least, of a file that has so many.
    """
    # A head of 640, 896, 1,152 or 1,408 bytes begins as a pickle does; but no pickle goes on as a head.
    if int.from_bytes(beginning[:8], "little") <= LONGEST_HEAD and beginning[8:9] == b"{":
        return ""
    return next((what for magic, what in _DISGUISES if beginning.startswith(magic)), "")


def read_safetensors(path: Path | str, name: str) -> tuple[Stored, ...]:
    """All tensors of a file, in the order of its head.

    Args:
        path: of the file.
        name: by which it is called in errors and in the answer.

    Raises:
        ModelDamaged: the file cannot be read, or is not sound.
        Unsupported: it is something else than its name says.
    """
    descriptor = open_file(path, name)
    try:
        size = os.fstat(descriptor).st_size
        beginning = os.pread(descriptor, 64, 0)
        what = disguise(beginning)
        if what:
            raise Unsupported(f"{name}: this is {what}; only safetensors are converted")
        length = int.from_bytes(beginning[:8], "little")
        if len(beginning) < 10 or length > size - 8:
            _damaged(name, f"the file ends inside its head (which should have {length} bytes, the file has {size})")
        if length > LONGEST_HEAD:
            _damaged(name, f"its head has {length} bytes, at most {LONGEST_HEAD} are allowed")
        raw = os.pread(descriptor, length, 8)
    finally:
        os.close(descriptor)
    if len(raw) < length:
        _damaged(name, "the file became shorter while it was read")
    return _tensors(name, _head(name, raw), 8 + length, size)


def open_file(path: Path | str, name: str) -> int:
    """A descriptor of a regular file, for reading. A link is not followed, and a pipe not waited for.

    Raises:
        ModelDamaged: there is none.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise ModelDamaged(f"{name}: cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ModelDamaged(f"{name}: not a file")
    return descriptor


def _damaged(name: str, what: str) -> NoReturn:
    raise ModelDamaged(f"{name}: not a sound safetensors file: {what}")


def _head(name: str, raw: bytes) -> dict[str, Any]:
    def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
            _damaged(name, f"{key!r:.80} is there twice")
        return found

    if not raw.startswith(b"{"):
        _damaged(name, "its head is not a JSON object")
    values = raw.count(b",")
    if values > MOST_VALUES:
        _damaged(name, f"its head has {values} values, at most {MOST_VALUES} are allowed")
    try:
        head = json.loads(
            raw, object_pairs_hook=once, parse_constant=lambda text: _damaged(name, f"{text} in its head")
        )
    except (ValueError, RecursionError) as error:
        _damaged(name, f"its head is not JSON ({error})"[:200])
    if not isinstance(head, dict):
        _damaged(name, "its head is not a JSON object")
    return head


def _tensors(name: str, head: Mapping[str, Any], begin: int, size: int) -> tuple[Stored, ...]:
    metadata = head.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _damaged(name, "'__metadata__' is not an object of strings")
    entries = [(key, value) for key, value in head.items() if key != "__metadata__"]
    if len(entries) > MOST_TENSORS:
        _damaged(name, f"{len(entries)} tensors, at most {MOST_TENSORS} are allowed")
    found = tuple(_tensor(name, key, value, begin, size) for key, value in entries)
    due = begin
    for tensor in sorted(found, key=lambda each: (each.start, each.stop)):
        if tensor.start != due:
            _damaged(name, f"tensor {tensor.name!r:.80} begins at byte {tensor.start}, where {due} is due")
        due = tensor.stop
    if due != size:
        _damaged(name, f"its tensors end at byte {due}, the file at byte {size}")
    return found


def _tensor(name: str, key: str, value: object, begin: int, size: int) -> Stored:
    what = f"tensor {key!r:.80}"
    if not key or len(key) > LONGEST_NAME or not key.isprintable():
        _damaged(name, f"{what} has no proper name")
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        _damaged(name, f"{what} must have 'dtype', 'shape' and 'data_offsets', and nothing else")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_SIZES:
        raise Unsupported(f"{name}: {what} is of type {dtype!r:.40}, which is not known here")
    if not _are_counts(shape) or len(shape) > MOST_DIMENSIONS:
        _damaged(name, f"{what} has the impossible shape {shape!r:.80}")
    if not _are_counts(offsets) or len(offsets) != 2 or not 0 <= offsets[0] <= offsets[1] <= size - begin:
        _damaged(
            name, f"{what} has data_offsets {offsets!r:.80}, outside of the file's {size - begin} bytes of weights"
        )
    if prod(shape) * ITEM_SIZES[dtype] != offsets[1] - offsets[0]:
        _damaged(name, f"{what} of {dtype} {list(shape)!r:.80} cannot have {offsets[1] - offsets[0]} bytes")
    return Stored(key, name, dtype, tuple(shape), begin + offsets[0], begin + offsets[1])


def _are_counts(value: object) -> bool:
    """A list of whole numbers that can be sizes. To Python a truth value is a number; not to us."""
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**48 for item in value)
