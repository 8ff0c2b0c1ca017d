"""Blobs that are needed for a while: the parts of a split model, until they are one file.

The rule: where there is room for the whole beside its parts, they stay until it has its name, so that a crash costs no
second download. Where there is not, each goes as soon as it was copied, and its room is used for what comes next.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from localmodels.core.catalog import Blob
from localmodels.core.errors import DiskFull
from localmodels.store.folders import disk_errors
from localmodels.store.layout import blob_name
from localmodels.store.leases import Lease
from localmodels.store.model_store import ModelStore


class Interim:
    """A context manager. It waits for the disk, so an event loop calls it in a thread.

    Args:
        store: where the parts are, or will be.
        lease: of whoever makes the whole of them; it holds the room for it.
        parts: in the order in which they are used up.
    """

    def __init__(self, store: ModelStore, lease: Lease, parts: Sequence[Blob]) -> None:
        self._store = store
        self._lease = lease
        self._parts = {part.digest: part for part in parts}
        self._one_by_one = False
        self._held = store.lease("merge parts")
        try:
            self._held.protect(*self._parts)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def make_room(self) -> None:
        """Sets room for the whole aside, which is no larger than its parts; at least for as much of it as one part has.

        Raises:
            DiskFull: there is not even that, beside the parts that have yet to come.
        """
        sizes = [part.size for part in self._parts.values()]
        with self._store.lease("room for parts") as coming:
            coming.reserve(sum(map(self._missing, self._parts.values())))
            try:
                self._lease.reserve(sum(sizes))
            except DiskFull:
                self._lease.reserve(max(sizes))
                self._one_by_one = True

    def finished(self, part: Blob) -> None:
        """All of this part was copied."""
        if not self._one_by_one:
            return
        self._held.release(part.digest)
        self._store.collect(released=[part.digest])
        # If somebody else was quicker with the room it may still do: the disk itself will tell.
        with suppress(DiskFull):
            self._lease.reserve(part.size)

    def remove(self) -> None:
        """Removes all parts that nobody else needs."""
        self.close()
        self._store.collect(released=self._parts)

    def close(self) -> None:
        """Lets go of them; those that nobody needs are collected when they are old."""
        self._held.close()

    @disk_errors()
    def _missing(self, part: Blob) -> int:
        """Bytes that will be written of a part; what came of it before has its room already."""
        if self._store.find(part.digest, part.size) is not None:
            return 0
        with self._store.layout.partials() as partials:
            arrived = partials.look(blob_name(part.digest))
        # Parts of it come in any order, so the file is as long as its last byte, and has holes.
        return max(0, part.size - arrived.st_blocks * 512) if arrived else part.size
