"""A directory that is held open, and everything that is done in it.

The rule: each step is taken relative to the descriptor of the directory above and follows no link (threat V-04), and
nothing here makes up a name; names come from :mod:`localmodels.store.layout`. What the system refuses becomes an error
of ours in :func:`disk_errors`, once.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from localmodels.core.errors import DiskFull, LocalModelsError, ModelDamaged, StoreFailed, Unavailable

STRAY = "a link, or not what should lie here"

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Without O_NONBLOCK a planted fifo would hang the reader for ever.
_SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | _SAFE
_WRITES = os.O_WRONLY | os.O_RDWR

# Ollama's own modes: both programs read one store, perhaps as different users.
_FILE_MODE = 0o644
_DIRECTORY_MODE = 0o755
# For what no other user of the machine may read.
_PRIVATE_FILE_MODE = 0o600
_PRIVATE_DIRECTORY_MODE = 0o700

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_BUSY = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
# How the system says that it was told to follow no link, or found a link where a directory should be.
_LINKS = frozenset({errno.ELOOP, errno.EMLINK, errno.ENOTDIR, errno.ENXIO, errno.EISDIR})
_WHY: Mapping[int, str] = {
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "this user may not write there",
    errno.EPERM: "this user may not write there",
    errno.EIO: "the disk reports an error",
}


@contextmanager
def disk_errors() -> Iterator[None]:
    """Says what the file system refused as an error of ours.

    Raises:
        DiskFull: no room, or the quota is used up.
        ModelDamaged: a link, or something else than should lie there.
        Unavailable: the process or the system has too many files open, or no memory.
        StoreFailed: anything else.
    """
    try:
        yield
    except OSError as error:
        raise _told(error) from error


class Folder:
    """One open directory. ``name`` is its last part, for messages; what is made in a ``private`` one is private."""

    def __init__(self, descriptor: int, name: str, *, private: bool = False) -> None:
        self.descriptor = descriptor
        self.name = name
        self.private = private

    @classmethod
    def at(cls, path: Path, *, private: bool = False) -> Folder:
        """The directory at a path whose links are followed: the store's root, which its owner chose."""
        return cls(os.open(path, _DIRECTORY), path.name, private=private)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        # Its number is soon somebody else's: who uses this folder afterwards shall fail, and not reach into another.
        descriptor, self.descriptor = self.descriptor, -1
        os.close(descriptor)

    def below(self, part: str, *, make: bool = False, lasting: bool = True) -> Folder:
        """The directory ``part`` in this one.

        With ``make`` it is made if it is missing, and its entry is on disk when this returns, unless it need not be
        ``lasting``. It is synced even where it was there already: an earlier process may have died between making and
        syncing it.
        """
        if make:
            with suppress(FileExistsError):
                mode = _PRIVATE_DIRECTORY_MODE if self.private else _DIRECTORY_MODE
                os.mkdir(part, mode, dir_fd=self.descriptor)
            if lasting:
                self.sync()
        descriptor = os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=self.descriptor)
        return Folder(descriptor, part, private=self.private)

    def names(self) -> tuple[str, ...]:
        """What lies in it, sorted."""
        # Opened anew: Btrfs does not list what was made after a directory was opened, and threads share a place in it.
        descriptor = os.open(".", _DIRECTORY, dir_fd=self.descriptor)
        try:
            with os.scandir(descriptor) as listing:
                return tuple(sorted(item.name for item in listing))
        finally:
            os.close(descriptor)

    def look(self, file: str) -> os.stat_result | None:
        """What the file system says about an entry, whatever it is; None if there is none."""
        try:
            return os.stat(file, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def status(self, file: str) -> os.stat_result | None:
        """What the file system says about a plain file; None if there is none.

        Raises:
            ModelDamaged: it is something else.
        """
        return plain(file, self.look(file))

    def open(self, file: str, flags: int = os.O_RDONLY) -> int | None:
        """A descriptor of a plain file; None if there is none.

        Raises:
            ModelDamaged: it is something else, or would be written and is the same file as one elsewhere.
        """
        try:
            descriptor = os.open(file, flags | _SAFE, self._file_mode, dir_fd=self.descriptor)
        except FileNotFoundError:
            return None
        try:
            status = os.fstat(descriptor)
            plain(file, status)
            if flags & _WRITES and status.st_nlink > 1:
                raise ModelDamaged(f"{file}: has a second name, whose content would change too")
        except ModelDamaged:
            os.close(descriptor)
            raise
        return descriptor

    def create(self, file: str) -> int:
        """A descriptor of a file that was not there."""
        return os.open(file, _NEW, self._file_mode, dir_fd=self.descriptor)

    def read(self, file: str, limit: int) -> bytes | None:
        """A plain file's bytes, at most ``limit`` and one; None if there is none."""
        descriptor = self.open(file)
        if descriptor is None:
            return None
        try:
            return os.read(descriptor, limit + 1)
        finally:
            os.close(descriptor)

    def put(self, file: str, data: bytes) -> None:
        """A new file with these bytes, on disk when this returns; on failure none."""
        descriptor = self.create(file)
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        except OSError:
            self.remove(file)
            raise
        finally:
            os.close(descriptor)

    def move(self, file: str, to: Folder, name: str) -> None:
        """Moves an entry in one step, over what has that name there."""
        os.rename(file, name, src_dir_fd=self.descriptor, dst_dir_fd=to.descriptor)

    def touch(self, file: str) -> None:
        """Makes a file as young as now."""
        os.utime(file, dir_fd=self.descriptor, follow_symlinks=False)

    def link(self, source: Path, file: str) -> None:
        """A second name for a file elsewhere on the same file system."""
        os.link(source, file, dst_dir_fd=self.descriptor, follow_symlinks=False)

    def remove(self, file: str) -> bool:
        """Removes a file or a link; was it there?"""
        try:
            os.unlink(file, dir_fd=self.descriptor)
        except FileNotFoundError:
            return False
        return True

    def remove_empty(self, part: str) -> bool:
        """Removes a directory in this one if it is empty; is it gone?"""
        try:
            os.rmdir(part, dir_fd=self.descriptor)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                return False
            raise
        return True

    def sync(self) -> None:
        """What was made, moved and removed in it is on disk when this returns."""
        os.fsync(self.descriptor)

    @property
    def _file_mode(self) -> int:
        return _PRIVATE_FILE_MODE if self.private else _FILE_MODE


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Writes all of it; the system may take a part at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def plain(file: str, status: os.stat_result | None) -> os.stat_result | None:
    """The status, if it is a plain file's.

    Raises:
        ModelDamaged: it is a link's, a directory's, a device's.
    """
    if status is not None and not stat.S_ISREG(status.st_mode):
        raise ModelDamaged(f"{file}: not a plain file")
    return status


def _told(error: OSError) -> LocalModelsError:
    """Which file, without its directory, and what the system's reason means here."""
    number = error.errno or 0
    file = Path(os.fsdecode(error.filename)).name if isinstance(error.filename, str | bytes) else "the model store"
    why = _WHY.get(number) or error.strerror or "the file system refuses"
    if number in _FULL:
        return DiskFull(f"disk full: {file} could not be written, nothing of it was kept")
    if number in _LINKS:
        return ModelDamaged(f"{file}: {STRAY}")
    if number in _BUSY:
        return Unavailable(f"{file}: {why}", retry_after=1.0)
    return StoreFailed(f"{file}: {why}")
