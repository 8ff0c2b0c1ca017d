"""The bytes of a tar file, in order: as they lie, or out of gzip.

The rule: a read gives no more than was asked for, whatever the compressed data want, and what comes out is held against
what went in at every step. See :mod:`.zstd` for the third kind.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Protocol

from localmodels.artifacts.archive.limits import CHUNK, check_ratio, check_waste
from localmodels.artifacts.archive.reading import Bytes, Source, Window, cut_short
from localmodels.core.errors import InvalidRequest

Tick = Callable[[int], None]
"""Is told, now and then, how many more bytes of the archive were worked through."""


class Stream(Protocol):
    """Bytes in order.

    Attributes:
        consumed: bytes of the archive that went into what came out so far.
    """

    @property
    def consumed(self) -> int: ...

    def read(self, most: int) -> Bytes:
        """Up to so many more, good until the next call; none at the end.

        Raises:
            InvalidRequest: they are damaged, or end before their time.
            TooLarge: they grow too much.
        """

    def skip(self, length: int) -> None:
        """Passes over exactly so many.

        Raises:
            InvalidRequest, TooLarge: as :meth:`read`.
        """


class Plain:
    """Bytes as they lie; passing over them costs nothing."""

    def __init__(self, source: Source, tick: Tick) -> None:
        self._source, self._tick = source, tick
        self._buffer = memoryview(bytearray(CHUNK))
        self.consumed = 0

    def read(self, most: int) -> Bytes:
        """As :meth:`Stream.read`."""
        count = self._source.into(self._buffer[:most], self.consumed)
        self.consumed += count
        self._tick(count)
        return self._buffer[:count]

    def skip(self, length: int) -> None:
        """As :meth:`Stream.skip`."""
        if length > self._source.size - self.consumed:
            raise cut_short("the archive")
        self.consumed += length
        self._tick(length)


class Gunzip:
    """Bytes out of gzip: of one member, or of as many as there are (``pigz`` and ``bgzip`` write many)."""

    def __init__(self, source: Source, tick: Tick) -> None:
        self._window = Window(source, 0, source.size)
        self._tick = tick
        self._member = _member()
        self._pending: Bytes = b""
        self._made = self._consumed = 0

    @property
    def consumed(self) -> int:
        """As :attr:`Stream.consumed`."""
        return self._consumed

    def read(self, most: int) -> Bytes:
        """As :meth:`Stream.read`."""
        while True:
            if not self._pending:
                self._pending = self._window.read(CHUNK)
                if not self._pending:
                    if not self._member.eof:
                        raise cut_short("the archive")
                    return b""
            if self._member.eof:
                self._member = _member()
            data = self._inflated(min(most, CHUNK))
            if data:
                return data

    def _inflated(self, most: int) -> bytes:
        """What comes out of a part of what is pending; perhaps nothing."""
        before = len(self._pending)
        try:
            data = self._member.decompress(self._pending, most)
        except zlib.error:
            raise InvalidRequest(
                "the archive's gzip is damaged, or something lies behind its end; upload it again, or pack it anew"
            ) from None
        self._pending = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
        used = before - len(self._pending)
        self._consumed += used
        self._made += len(data)
        self._tick(used)
        check_waste("the archive", self._made, self._consumed)
        check_ratio("the archive", self._made, self._consumed)
        return data

    def skip(self, length: int) -> None:
        """As :meth:`Stream.skip`."""
        skip_by_reading(self, length)


def _member() -> zlib._Decompress:
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


def read_exactly(stream: Stream, length: int) -> bytes:
    """So many bytes, or fewer where the stream ends; for few.

    Raises:
        InvalidRequest, TooLarge: as :meth:`Stream.read`.
    """
    parts = bytearray()
    while len(parts) < length:
        data = stream.read(length - len(parts))
        if not data:
            break
        parts += data
    return bytes(parts)


def skip_by_reading(stream: Stream, length: int) -> None:
    """Passes over bytes that only reading gets rid of.

    Raises:
        InvalidRequest, TooLarge: as :meth:`Stream.read`.
    """
    while length:
        data = stream.read(min(length, CHUNK))
        if not data:
            raise cut_short("the archive")
        length -= len(data)
