"""What was asked and answered, kept as files for a while, for whoever looks for a fault.

The rule: what lies here goes by itself, by its age, and the oldest first by the bytes of all together. Only its owner
may read it, and files of other names are left alone. Nothing is synced: a power cut may take the last of it.
"""

from __future__ import annotations

import os
import re
import stat
from collections import OrderedDict
from collections.abc import Callable, Mapping
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
        # Size, and when the answer ended, by name, the oldest first; None before the first look. Ordered: what goes at
        # the front of a usual dict leaves holes there, and each look for its first entry passes them all.
        self._files: OrderedDict[str, tuple[int, float]] | None = None
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
            self._remove(folder, self._beyond(files, quota - len(data)))
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
            LocalModelsError: the file system refuses to remove some; all others are gone.
        """
        if self._files is not None and not self._files:
            return
        with disk_errors():
            try:
                with self._folder() as folder:
                    files, now = self._seen(folder), self._now()
                    old = [name for name, (_, ended) in files.items() if age <= 0 or abs(now - ended) > age]
                    failures = self._remove(folder, old), self._remove(folder, self._beyond(files, quota))
            except FileNotFoundError:  # its owner has removed all of it
                self._files, self.held, failures = None, 0, (None, None)
            for failure in filter(None, failures):
                raise failure

    def _folder(self, *, make: bool = False) -> Folder:
        with Folder.at(self._directory.parent, private=True) as parent:
            return parent.below(self._directory.name, make=make, lasting=False)

    def _seen(self, folder: Folder) -> OrderedDict[str, tuple[int, float]]:
        """What there is; an earlier process may have left some."""
        if self._files is None:
            found: OrderedDict[str, tuple[int, float]] = OrderedDict()
            for name in folder.names():
                ended, status = ended_at(name), folder.look(name)
                if ended is not None and status is not None and stat.S_ISREG(status.st_mode):
                    found[name] = status.st_size, ended
            self._files, self.held = found, sum(size for size, _ in found.values())
        return self._files

    def _beyond(self, files: Mapping[str, tuple[int, float]], quota: int) -> list[str]:
        """The oldest, without which the others have at most so many bytes."""
        names, left = [], self.held
        for name, (size, _) in files.items():
            if left <= quota:
                break
            names.append(name)
            left -= size
        return names

    def _remove(self, folder: Folder, names: list[str]) -> OSError | None:
        """Removes them, if their owner has not done so; the first failure. What could not be removed is tried again."""
        failure: OSError | None = None
        for name in names:
            try:
                folder.remove(name)
            except OSError as error:
                failure = failure or error
            else:
                if self._files is not None:
                    self.held -= self._files.pop(name)[0]
        return failure
