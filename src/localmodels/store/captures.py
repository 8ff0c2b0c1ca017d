"""What was asked and answered, kept as files for a while, for whoever looks for a fault.

The rule: what lies here goes by itself, by its age, and the oldest first by the bytes of all together. Only its owner
may read it, and files of other names are left alone. Nothing is synced: a power cut may take the last of it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from time import time

from localmodels.core.errors import DiskFull
from localmodels.core.quantity import write_size
from localmodels.store.folders import Folder, disk_errors, write_all

SECOND = 10**9  # nanoseconds
_TIME = "%Y%m%dT%H%M%S"
# When its answer ended, to the nanosecond in UTC, so that names are in the order of time; and the id of the request.
_NAME = re.compile(r"(?P<second>\d{8}T\d{6})\.(?P<rest>\d{9})Z-[A-Za-z0-9._-]{1,128}\.json", re.ASCII)


def name_of(ended: int, request_id: str) -> str:
    """The file of a request.

    Args:
        ended: when its answer did; nanoseconds since 1970.
        request_id: one that headers can carry (``server.app.request_id``).
    """
    second, rest = divmod(ended, SECOND)
    return f"{datetime.fromtimestamp(second, UTC).strftime(_TIME)}.{rest:09d}Z-{request_id}.json"


def ended_at(name: str) -> float | None:
    """When the answer ended whose file this is, in seconds since 1970; None where it is no such file."""
    found = _NAME.fullmatch(name)
    with suppress(ValueError):  # digits that are no date
        if found:
            second = datetime.strptime(found["second"], _TIME).replace(tzinfo=UTC)
            return second.timestamp() + int(found["rest"]) / SECOND
    return None


class CaptureFiles:
    """The files. Not for several threads at once.

    Args:
        directory: where they lie; it is made with the first of them, in one that is there.
        now: seconds since 1970.

    Attributes:
        held: bytes of all files together.
    """

    def __init__(self, directory: Path, now: Callable[[], float] = time) -> None:
        self._directory = directory
        self._now = now
        # Size, and when the answer ended, by name, the oldest first; None before the first look.
        self._files: dict[str, tuple[int, float]] | None = None
        self.held = 0

    def keep(self, name: str, data: bytes, quota: int) -> None:
        """One more, for which the oldest go until all together have at most ``quota`` bytes.

        Raises:
            DiskFull: nothing of it was kept; or it alone has more bytes than that, and the others stay.
            LocalModelsError: the file system refuses.
        """
        if len(data) > quota:
            raise DiskFull(f"{name} is larger than what all may have, {write_size(quota)}")
        with disk_errors(), self._folder(make=True) as folder:
            files = self._seen(folder)
            self._make_room(folder, quota - len(data))
            descriptor = folder.create(name)
            try:
                write_all(descriptor, data)
            except OSError as error:
                error.filename = name
                folder.remove(name)
                raise
            finally:
                os.close(descriptor)
            files[name] = len(data), ended_at(name) or 0.0
            self.held += len(data)

    def expire(self, age: float, quota: int) -> None:
        """Removes those that ended more than ``age`` seconds ago, all at 0; and what is more than ``quota`` bytes.

        Those that a clock which went back since has put as far into the future go too, or they would outlive it.

        Raises:
            LocalModelsError: the file system refuses.
        """
        if self._files is not None and not self._files:
            return
        with disk_errors(), suppress(FileNotFoundError), self._folder() as folder:
            files, now = self._seen(folder), self._now()
            for name in [name for name, (_, ended) in files.items() if age <= 0 or abs(now - ended) > age]:
                self._forget(folder, name)
            self._make_room(folder, quota)

    def _folder(self, *, make: bool = False) -> Folder:
        with Folder.at(self._directory.parent, private=True) as parent:
            return parent.below(self._directory.name, make=make, lasting=False)

    def _seen(self, folder: Folder) -> dict[str, tuple[int, float]]:
        """What there is; an earlier process may have left some."""
        if self._files is None:
            self._files = {}
            for name in folder.names():
                ended, status = ended_at(name), folder.look(name)
                if ended is not None and status is not None and stat.S_ISREG(status.st_mode):
                    self._files[name] = status.st_size, ended
            self.held = sum(size for size, _ in self._files.values())
        return self._files

    def _make_room(self, folder: Folder, quota: int) -> None:
        while self._files and self.held > quota:
            self._forget(folder, next(iter(self._files)))

    def _forget(self, folder: Folder, name: str) -> None:
        """Removes it, if its owner has not done so."""
        folder.remove(name)
        if self._files is not None:
            self.held -= self._files.pop(name)[0]
