"""Writes one file of a draft: its room is promised before its bytes come, and it is on disk before it counts."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from localmodels.core.errors import ContentMismatch, DiskFull, QuotaFull
from localmodels.store.folders import Folder, disk_errors, write_all
from localmodels.store.room import Share

# What comes beyond the promise (its length was not known, or not rightly) gets room in steps of this size.
STEP = 64 * 2**20


class Writer:
    """A file on its way; a context manager that removes what was not committed. For one thread.

    Args:
        folder: in which it is written; closed with it.
        name: of the file, which must not be there.
        share: of the room; closed with it.
        size: what it must have; None takes what comes.
        done: called with its size when all of it is on disk.
    """

    def __init__(
        self, folder: Folder, name: str, share: Share, *, size: int | None, done: Callable[[int], None]
    ) -> None:
        self.written = 0
        self._folder = folder
        self._name = name
        self._share = share
        self._size = size
        self._done = done
        self._descriptor = folder.create(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.cancel()

    @disk_errors()
    def write(self, piece: bytes | memoryview) -> None:
        """Adds bytes at the end.

        Raises:
            ContentMismatch: they are more than the file has.
            QuotaFull: the quota does not allow them.
            DiskFull: there is no room.
        """
        size = len(piece)
        if self._size is not None and self.written + size > self._size:
            raise ContentMismatch(f"{self._name}: longer than the {self._size} bytes that it was said to have")
        if size > self._share.left:
            self._ask(size)
        write_all(self._descriptor, piece)
        self._share.spend(size)
        self.written += size

    @disk_errors()
    def commit(self) -> None:
        """Puts it on disk.

        Raises:
            ContentMismatch: the file has more bytes than came.
        """
        if self._size is not None and self.written < self._size:
            raise ContentMismatch(f"{self._name}: {self.written} bytes, not the {self._size} that it was said to have")
        os.fsync(self._descriptor)
        self._done(self.written)
        self._close()

    def cancel(self) -> None:
        """Removes what was written, unless it was committed. A second time does nothing."""
        if self._descriptor >= 0:
            with suppress(OSError):  # what cannot be removed now goes with the draft
                self._folder.remove(self._name)
            self._close()

    def _ask(self, size: int) -> None:
        try:
            self._share.more(max(size, STEP))
        except (QuotaFull, DiskFull):
            if size >= STEP:
                raise
            self._share.more(size)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)
        self._folder.close()
        self._share.close()
