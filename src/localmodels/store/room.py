"""How much may still be written: a quota and a disk, shared by writers who promise before they write.

The rule: a byte is promised before it is written, and what was promised and not written is given back. So no writer
fails over bytes that another has been promised.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from localmodels.core.errors import TooLarge
from localmodels.store.space import Space, admit

Measure = Callable[[int], Space]


class Room:
    """What all writers of one place share. Threads may.

    Args:
        quota: bytes that may lie there in all; 0 means that only the disk bounds them.
        used: bytes that lie there.
        measure: how much room the disk has, given a descriptor of a directory.
    """

    def __init__(self, quota: int, used: Callable[[], int], measure: Measure) -> None:
        self._quota = quota
        self._used = used
        self._measure = measure
        self._promised = 0
        self._mutex = threading.Lock()

    def share(self, descriptor: int) -> Share:
        """A writer's part of it, of nothing yet; ``descriptor`` is the directory's into which he writes."""
        return Share(self, descriptor)

    def promise(self, size: int, descriptor: int) -> None:
        """Sets room aside for so many bytes more.

        Raises:
            TooLarge: the quota does not allow them.
            DiskFull: the disk has no room for them.
        """
        with self._mutex:
            if self._quota:
                self._expect_within(size)
            admit(size, self._measure(descriptor), self._promised)
            self._promised += size

    def settle(self, size: int) -> None:
        """So many promised bytes are written, or will not be."""
        with self._mutex:
            self._promised -= size

    def _expect_within(self, size: int) -> None:
        left = max(self._quota - self._used() - self._promised, 0)
        if size > left:
            raise TooLarge(
                f"{size} bytes are needed, and {left} are left of the {self._quota} that artifacts may take; delete "
                "one that is not needed"
            )


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
            TooLarge, DiskFull: as :meth:`Room.promise`.
        """
        self._room.promise(size, self._descriptor)
        self.left += size

    def spend(self, size: int) -> None:
        """So many are written."""
        self.left -= size
        self._room.settle(size)

    def close(self) -> None:
        """Gives back what is left. A second time does nothing."""
        left, self.left = self.left, 0
        self._room.settle(left)
