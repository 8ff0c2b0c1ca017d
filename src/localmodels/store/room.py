"""How much may still be written: a quota and a disk, shared by writers who promise before they write.

The rule: a byte is promised before it is written, and what was promised and not written is given back. So no writer
fails over bytes that another has been promised. What lies there is counted once a draft, not once a promise: what is
written afterwards is added, and before anybody is refused it is counted again, since others may have taken away.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from localmodels.core.errors import QuotaFull
from localmodels.store.space import Space, admit

Measure = Callable[[int], Space]


class Room:
    """What all writers of one place share. Threads may.

    Args:
        quota: bytes that may lie there in all; 0 means that only the disk bounds them.
        used: bytes that lie there; takes a while.
        measure: how much room the disk has, given a descriptor of a directory.
    """

    def __init__(self, quota: int, used: Callable[[], int], measure: Measure) -> None:
        self._quota = quota
        self._used = used
        self._measure = measure
        self._there: int | None = None  # bytes, at least those of our own writers; None: nobody has counted
        self._promised = 0
        self._mutex = threading.Lock()

    def look_again(self) -> None:
        """What lies there may have changed by other hands: it is counted before the next promise."""
        with self._mutex:
            self._there = None

    def share(self, descriptor: int) -> Share:
        """A writer's part of it, of nothing yet; ``descriptor`` is the directory's into which he writes."""
        return Share(self, descriptor)

    def promise(self, size: int, descriptor: int) -> None:
        """Sets room aside for so many bytes more.

        Raises:
            QuotaFull: the quota does not allow them.
            DiskFull: the disk has no room for them.
        """
        with self._mutex:
            if self._quota:
                self._expect_within(size)
            admit(size, self._measure(descriptor), self._promised)
            self._promised += size

    def written(self, size: int) -> None:
        """So many promised bytes lie there now."""
        with self._mutex:
            self._promised -= size
            if self._there is not None:
                self._there += size

    def give_back(self, size: int) -> None:
        """So many promised bytes will not be written."""
        with self._mutex:
            self._promised -= size

    def _expect_within(self, size: int) -> None:
        if self._there is None or size > self._left(self._there):
            self._there = self._used()
        left = self._left(self._there)
        if size > left:
            raise QuotaFull(
                f"{size} bytes are needed, and {left} are left of the {self._quota} that artifacts may take; delete "
                "one that is not needed"
            )

    def _left(self, there: int) -> int:
        return max(self._quota - there - self._promised, 0)


class Share:
    """What one writer was promised and has not written; a context manager that gives the rest back."""

    def __init__(self, room: Room, descriptor: int) -> None:
        self._room = room
        self._descriptor = descriptor
        self.left = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def more(self, size: int) -> None:
        """Asks for so many bytes more.

        Raises:
            QuotaFull, DiskFull: as :meth:`Room.promise`.
        """
        self._room.promise(size, self._descriptor)
        self.left += size

    def spend(self, size: int) -> None:
        """So many are written."""
        self.left -= size
        self._room.written(size)

    def close(self) -> None:
        """Gives back what is left. A second time does nothing."""
        left, self.left = self.left, 0
        self._room.give_back(left)
