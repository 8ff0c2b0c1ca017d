"""The one lock of a store: whoever changes what a name means, or decides which blobs go, holds it.

It is held for as long as one such change takes, a few milliseconds; never while bytes arrive or are hashed. Readers
take no lock: they see a manifest as it was or as it is. The system gives the lock back when its holder dies. A holder
that is stopped, not dead, must not stop the others for ever, so waiting has an end.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from localmodels.core.errors import StoreFailed, Unavailable
from localmodels.store.folders import Folder, disk_errors
from localmodels.store.layout import LOCK

PATIENCE = 30.0  # seconds; a thousand times what the lock is held for

_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.05


class Owning(Protocol):
    """A store that has a directory of its own, in which its lock lies."""

    def own(self) -> Folder:
        """That directory."""


class StoreLock:
    """Exclusive among threads and processes; not re-entrant."""

    def __init__(self, layout: Owning, *, patience: float = PATIENCE) -> None:
        self._layout = layout
        self._patience = patience

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the lock; the store's directories are there.

        Raises:
            Unavailable: somebody else has held it for too long.
        """
        with disk_errors():
            descriptor = self._open()
        try:
            self._wait(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        with self._layout.own() as own:
            descriptor = own.open(LOCK, os.O_RDWR | os.O_CREAT)
        if descriptor is None:
            raise StoreFailed("the model store's directory was removed while it was in use")
        return descriptor

    def _wait(self, descriptor: int) -> None:
        until = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while not try_lock(descriptor):
            if time.monotonic() >= until:
                raise Unavailable(f"the model store has been locked for {self._patience:g} s", retry_after=5.0)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def try_lock(descriptor: int) -> bool:
    """Takes the lock of an open file if nobody has it; the system gives it back when the file is closed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
