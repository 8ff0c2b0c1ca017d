"""Puts the files of a split model together into one file, as ``llama-gguf-split --merge`` of llama.cpp does.

The rule: nothing is decoded and encoded again, and nothing large is held. Metadata and weights are the bytes of the
parts; new are the counts, the places of the tensors, and the zeros between them. The three keys that tell of the split
are left out, so what was split and is merged again is the file that it was, byte for byte. llama.cpp's tool leaves
them in, with a count of 0; programs that look for them first take such a file for a part.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from msgspec import Struct

from localmodels.artifacts.gguf import join, read_spans
from localmodels.artifacts.gguf_header import Header, TensorInfo
from localmodels.artifacts.gguf_write import SPLIT_KEYS, beginning, tensor_info
from localmodels.core.errors import InvalidRequest, ModelDamaged
from localmodels.core.spans import merged

CHUNK = 2**20  # bytes read at a time
NAMED = 5  # missing parts that an error lists

_PART = re.compile(r"(?P<stem>.+)-[0-9]{5}-of-[0-9]{5}\.gguf")


class Part(Struct, frozen=True):
    """A file of a split model, and its own head; ``header.name`` is what errors call it."""

    path: Path
    header: Header


class Stretch(Struct, frozen=True):
    """The bytes of a part from ``start`` to before ``stop``."""

    part: int
    start: int
    stop: int


def keep(_part: Part) -> None:
    """Leaves a part where it is."""


class Merge(Struct, frozen=True):
    """A file that can be written: what its bytes are, in order, and how many."""

    parts: tuple[Part, ...]
    plan: tuple[bytes | Stretch, ...]
    size: int

    def pieces(self, finished: Callable[[Part], None] = keep) -> Iterator[bytes]:
        """Its bytes, at most a MiB at a time, but for the list of tensors, which comes in one.

        Args:
            finished: told of each part but the last, once all of it was taken that is wanted.

        Raises:
            ModelDamaged: a part has changed since it was looked at.
        """
        opened = _Opened(self.parts)
        number = 0
        try:
            for item in self.plan:
                if isinstance(item, bytes):
                    yield item
                    continue
                for done in range(number, item.part):
                    finished(self.parts[done])
                number = item.part
                yield from opened.read(item)
        finally:
            opened.close()


def merge(parts: Sequence[Part]) -> Merge:
    """How to put these files together, given in any order.

    Raises:
        InvalidRequest: a part is missing, is there twice, or is of another model.
        ModelDamaged: together they are no sound model.
    """
    ordered = in_order(parts)
    whole = join([part.header for part in ordered])
    _check_count(whole)
    spans = read_spans(ordered[0].path)
    pairs = len(spans.keys() - SPLIT_KEYS)
    kept = merged(span for key, span in spans.items() if key not in SPLIT_KEYS)
    head = beginning(len(whole.tensors), pairs)
    infos = b"".join(_infos(whole.tensors, whole.alignment))
    before = len(head) + sum(stop - start for start, stop in kept) + len(infos)
    plan: list[bytes | Stretch] = [head]
    plan += [Stretch(0, start, stop) for start, stop in kept]
    plan += [infos, bytes(-before % whole.alignment)]
    for tensor in whole.tensors:
        plan.append(Stretch(tensor.part, tensor.offset, tensor.offset + tensor.size))
        plan.append(bytes(-tensor.size % whole.alignment))
    return Merge(ordered, tuple(plan), sum(map(_size, plan)))


def in_order(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The same parts from the first to the last, by what the files themselves say.

    Raises:
        InvalidRequest: one is missing, is there twice, or is of another model.
    """
    found: dict[int, Part] = {}
    for part in parts:
        number, count = _split(part)
        if count != _split(parts[0])[1]:
            raise InvalidRequest(
                f"{part.header.name} is one of {count} parts, {parts[0].header.name} one of {_split(parts[0])[1]}: "
                "a model is made of the parts of one",
                param="files",
            )
        if number in found:
            raise InvalidRequest(
                f"{part.header.name} is part {number + 1} of {count}, and so is {found[number].header.name}",
                param="files",
            )
        found[number] = part
    count = _split(parts[0])[1]
    if len(found) < count:
        missing = [number for number in range(min(count, len(found) + NAMED)) if number not in found][:NAMED]
        more = f" and {count - len(found) - len(missing)} more" if count - len(found) > len(missing) else ""
        names = ", ".join(_name(parts, number, count) for number in missing)
        raise InvalidRequest(f"of the {count} parts of the model there are missing: {names}{more}", param="files")
    return tuple(found[number] for number in range(count))


def _split(part: Part) -> tuple[int, int]:
    """Number and count of a part.

    Raises:
        InvalidRequest: they make no sense.
    """
    number, count = part.header.split or (0, 1)
    if not 0 <= number < count:
        raise InvalidRequest(
            f"{part.header.name}: keys 'split.no' and 'split.count' say {number} and {count}, which is no part",
            param="files",
        )
    return number, count


def _name(parts: Sequence[Part], number: int, count: int) -> str:
    """What a missing part is called, by the names of the others."""
    matches = (_PART.fullmatch(part.header.name) for part in parts)
    stem = next((match["stem"] for match in matches if match), "")
    return f"{stem}-{number + 1:05}-of-{count:05}.gguf" if stem else f"part {number + 1}"


def _check_count(whole: Header) -> None:
    said = whole.metadata.get("split.tensors.count", len(whole.tensors))
    if said != len(whole.tensors):
        raise ModelDamaged(
            f"{whole.name}: the model should have {said} tensors, and its parts have {len(whole.tensors)}"
        )


def _infos(tensors: Sequence[TensorInfo], alignment: int) -> Iterator[bytes]:
    """The description of each tensor, with its place in the merged file."""
    offset = 0
    for tensor in tensors:
        yield tensor_info(tensor.name, tensor.shape, tensor.type, offset)
        offset += -(-tensor.size // alignment) * alignment


def _size(item: bytes | Stretch) -> int:
    return len(item) if isinstance(item, bytes) else item.stop - item.start


class _Opened:
    """The parts, one open at a time: a model may have more of them than a process may have files."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._number = -1
        self._descriptor = -1

    def read(self, stretch: Stretch) -> Iterator[bytes]:
        """The bytes of a stretch."""
        if stretch.part != self._number:
            self.close()
            self._descriptor = self._open(stretch.part)
            self._number = stretch.part
        for start, stop in pairwise([*range(stretch.start, stretch.stop, CHUNK), stretch.stop]):
            data = os.pread(self._descriptor, stop - start, start)
            if len(data) < stop - start:
                raise ModelDamaged(f"{self._parts[stretch.part].header.name}: became shorter while it was read")
            yield data

    def close(self) -> None:
        """Closes the one that is open."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._number, self._descriptor = -1, -1

    def _open(self, number: int) -> int:
        part = self._parts[number]
        try:
            return os.open(part.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise ModelDamaged(f"{part.header.name}: cannot be read ({error.strerror})") from error
