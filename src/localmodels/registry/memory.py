"""The disk's protocols in memory: what tests pull into and push from.

The rule of the real ones holds here too: a blob is under its digest when its bytes have that digest, and not before.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from localmodels.core.catalog import Blob, Digest
from localmodels.core.errors import NotFound
from localmodels.core.spans import Span, gaps, merged


class MemorySink:
    """A sink in memory."""

    def __init__(self, blob: Blob, shelf: MemoryShelf) -> None:
        self.blob = blob
        self.shelf = shelf
        self._data = bytearray(blob.size)
        self._have: tuple[Span, ...] = ()
        self._written: tuple[Span, ...] = ()
        self.written = 0
        self.closed = False

    @property
    def have(self) -> Sequence[Span]:
        return self._have

    async def write(self, offset: int, data: bytes | memoryview) -> None:
        end = offset + len(data)
        if self.closed or end > self.blob.size:
            raise ValueError("a write outside of the blob, or after its end")
        self._data[offset:end] = data
        self.written += len(data)
        self.shelf.written[self.blob.digest] += len(data)
        self._written = merged([*self._written, (offset, end)])

    async def keep(self, start: int, stop: int) -> None:
        if gaps(self._written, stop) != gaps([(start, stop), *self._written], stop):
            raise ValueError("bytes were kept that had not been written")
        self._have = merged([*self._have, (start, stop)])

    async def finish(self) -> bool:
        if self.missing or hashlib.sha256(self._data).hexdigest() != self.blob.digest.hex:
            self._have, self._written = (), ()
            return False
        self.shelf.blobs[self.blob.digest] = bytes(self._data)
        del self.shelf.partial[self.blob.digest]
        return True

    async def close(self) -> None:
        self.closed = True

    def reopened(self) -> MemorySink:
        """As after a restart: what was not kept is gone."""
        self.closed = False
        self._written = self._have
        return self

    @property
    def missing(self) -> tuple[Span, ...]:
        """What is not here yet."""
        return gaps(self._have, self.blob.size)


class MemoryShelf:
    """Sinks and sources over one dictionary.

    Attributes:
        blobs: what is whole; ``partial`` is on its way.
        written: how many bytes were handed over of each, twice where they came twice.
    """

    def __init__(self, *contents: bytes) -> None:
        self.blobs = {Digest(hashlib.sha256(content).hexdigest()): content for content in contents}
        self.partial: dict[Digest, MemorySink] = {}
        self.written: Counter[Digest] = Counter()

    async def open(self, blob: Blob) -> MemorySink | None:
        if blob.digest in self.blobs:
            return None
        if blob.digest not in self.partial:
            self.partial[blob.digest] = MemorySink(blob, self)
        return self.partial[blob.digest].reopened()

    @property
    def sources(self) -> MemorySources:
        """The same, to read from."""
        return MemorySources(self)


class MemorySources:
    """Opens what a :class:`MemoryShelf` has."""

    def __init__(self, shelf: MemoryShelf) -> None:
        self.shelf = shelf

    async def open(self, blob: Blob) -> MemorySource:
        content = self.shelf.blobs.get(blob.digest)
        if content is None or len(content) != blob.size:
            raise NotFound(f"blob {blob.digest} is not here")
        return MemorySource(content)


class MemorySource:
    """Some bytes to read from."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def read(self, offset: int, size: int) -> bytes:
        return self._content[offset : offset + size]

    async def close(self) -> None:
        """Holds nothing."""
