"""What the readers of archives have in common: the uploaded file, an entry of it, and the bytes of an entry.

The rule: nothing is read further than it goes, and no more is held than a chunk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Protocol

from msgspec import Struct

from localmodels.artifacts.archive.limits import CHUNK
from localmodels.core.errors import InvalidRequest

Bytes = bytes | memoryview


class Member(Struct, frozen=True):
    """An entry as its archive has it: its name in full, its bytes (0 of a folder)."""

    name: str
    size: int
    folder: bool = False


class Body(Protocol):
    """The bytes of one entry; good until the walk goes on."""

    def read(self, most: int) -> Bytes:
        """Up to so many more, good until the next call; none at the end, when all came and all checks passed.

        Raises:
            InvalidRequest: they are not what the archive says of them.
            TooLarge: they grow too much.
        """


class Archive(Protocol):
    """An archive that can be walked over, more than once."""

    def walk(self) -> Iterator[tuple[Member, Body]]:
        """Its entries in the order in which they lie; what is not read of one is skipped.

        Raises:
            InvalidRequest: it is not sound.
            Unsupported: it holds what is never taken, or is made in a way that is not read here.
            TooLarge: it is too large in some way.
        """


class Source:
    """The uploaded file.

    Args:
        descriptor: of a regular file; stays the caller's.
        size: bytes of it.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self.size = size

    def at(self, offset: int, length: int, what: str = "the archive") -> bytes:
        """Exactly these bytes; for small ones.

        Raises:
            InvalidRequest: they are not all there.
        """
        data = os.pread(self._descriptor, length, offset) if 0 <= offset <= self.size else b""
        if len(data) < length:
            raise cut_short(what)
        return data

    def into(self, buffer: memoryview, offset: int) -> int:
        """Fills a buffer as far as the file goes; how many bytes that were."""
        return os.preadv(self._descriptor, [buffer], offset)


class Window:
    """A part of the file, from an offset on, read through one buffer that is used again and again."""

    def __init__(self, source: Source, offset: int, length: int) -> None:
        self._source, self._offset = source, offset
        self.left = length
        self._buffer = memoryview(bytearray(min(CHUNK, length)))

    def read(self, most: int) -> memoryview:
        """Up to so many more bytes, good until the next call; none at the end.

        Raises:
            InvalidRequest: the file ends before its time.
        """
        buffer = self._buffer[: min(most, self.left)]
        if not buffer:
            return buffer
        count = self._source.into(buffer, self._offset)
        if not count:
            raise cut_short("the archive")
        self._offset += count
        self.left -= count
        return buffer[:count]


def cut_short(what: str) -> InvalidRequest:
    """For what ends before its time."""
    return InvalidRequest(f"{what} ends before its time: it is not whole; upload it again, or pack it anew")
