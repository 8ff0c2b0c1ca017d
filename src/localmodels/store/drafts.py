"""An artifact in the making: the uploaded file, what was taken out of it, and the step that gives it its name.

The rule: nothing in a draft is an artifact. What counts after a crash is the uploaded file alone, which has its name
only when it is whole and on disk; what was taken out of it is thrown away, and taken out again.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from msgspec import structs

from localmodels.artifacts.file_names import Names, checked_name
from localmodels.core.artifacts import Artifact, ArtifactFile
from localmodels.core.errors import NotFound
from localmodels.store.artifact_places import ABOUT, DRAFTS, FILES, GONE, NEW, UPLOAD, Places, remove_tree
from localmodels.store.artifact_writer import Writer
from localmodels.store.folders import Folder, disk_errors
from localmodels.store.room import Room

CHUNK = 2**20
# How a file system says that a file of it cannot have a second name.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_LEFT = (NEW, GONE)

Give = Callable[[Folder, Artifact], None]
"""Gives the artifact in a draft's directory its name."""


class Draft:
    """One job's draft; a context manager. For one thread at a time.

    Opened by :meth:`~localmodels.store.artifacts.ArtifactStore.draft`; what an earlier process took out of the uploaded
    file is gone then. While it is open nobody else can open it, in this process or another, or clear it away.
    """

    def __init__(self, job: str, folder: Folder, places: Places, room: Room, give: Give) -> None:
        self._job = job
        self._places = places
        self._room = room
        self._give = give
        self._sizes: dict[str, int] = {}
        self._names = Names()
        self._folder = folder
        room.look_again()
        try:
            for left in (*_LEFT, f"{UPLOAD}.part"):
                remove_tree(self._folder, left)
        except BaseException:
            self._folder.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    @disk_errors()
    def saved(self) -> Path | None:
        """The uploaded file, if it is there and whole."""
        there = self._folder.status(UPLOAD)
        return self._places.root / DRAFTS / self._job / UPLOAD if there is not None else None

    @property
    def files(self) -> tuple[ArtifactFile, ...]:
        """What was taken out of it so far, in the order of the names."""
        return tuple(ArtifactFile(name, size) for name, size in sorted(self._sizes.items()))

    @property
    def place(self) -> Path:
        """The directory in which that lies, under its names."""
        return self._places.root / DRAFTS / self._job / NEW / FILES

    @disk_errors()
    def save(self, size_hint: int = 0) -> Writer:
        """A writer for the uploaded file, which is :attr:`saved` once that was committed.

        Args:
            size_hint: bytes that will come, as far as is known; room for them is set aside at once.

        Raises:
            QuotaFull: the quota does not allow them.
            DiskFull: there is no room.
        """
        remove_tree(self._folder, UPLOAD)
        return self._writer(self._below(), f"{UPLOAD}.part", size_hint, size=None, done=self._is_saved)

    @disk_errors()
    def require(self, size: int) -> None:
        """Looks whether there is room for so many bytes more, before any of them is written.

        Raises:
            QuotaFull: the quota does not allow them.
            DiskFull: there is none.
        """
        with self._room.share(self._folder.descriptor) as share:
            share.more(size)

    @disk_errors()
    def file(self, name: str, size: int) -> Writer:
        """A writer for a file of the artifact.

        Args:
            name: relative, with ``/``.
            size: bytes, all of which must come.

        Raises:
            InvalidRequest: it can be no file's name, or not beside the others.
            QuotaFull: the quota does not allow it.
            DiskFull: there is no room.
        """
        return self._file(name, self._added(name), size)

    @disk_errors()
    def take(self, name: str) -> None:
        """Makes the uploaded file itself the file of this name. It stays :attr:`saved`.

        Raises:
            InvalidRequest: as :meth:`file`.
            NotFound: nothing was saved.
            DiskFull: the file system wants a copy, and there is no room.
        """
        parts, there = self._added(name), self._folder.status(UPLOAD)
        if there is None:
            raise NotFound("the uploaded file is not here any more; upload it again")
        with self._below(NEW, FILES, *parts[:-1]) as folder:
            try:
                os.link(UPLOAD, parts[-1], src_dir_fd=self._folder.descriptor, dst_dir_fd=folder.descriptor)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                self._copy(name, parts, there.st_size)
        self._sizes[name] = there.st_size

    @disk_errors()
    def publish(self, artifact: Artifact) -> Artifact:
        """Makes an artifact of what was taken out, in one step, in the place of one that has its name.

        The uploaded file stays until :meth:`discard`, so that whoever does not learn of this can do it again.

        Args:
            artifact: what it is; its files and their size are taken from the draft.

        Returns: the artifact, with them and an id of its own.

        Raises:
            InvalidValue: it cannot have that name.
            Conflict: the one that has its name is in use, or one has a name that differs in case alone.
        """
        size = sum(self._sizes.values())
        whole = structs.replace(artifact, id=secrets.token_hex(16), files=self.files, size=size)
        with self._below(NEW) as new:
            remove_tree(new, ABOUT)
            new.put(ABOUT, msgspec.json.encode(whole))
            _sync_all(new)
        self._give(self._folder, whole)
        with suppress(OSError):  # it has its name; what cannot be removed now goes when the program starts again
            for left in _LEFT:
                remove_tree(self._folder, left)
        self._forget()
        return whole

    @disk_errors()
    def start_over(self) -> None:
        """Throws away what was taken out; the uploaded file stays."""
        remove_tree(self._folder, NEW)
        self._forget()

    @disk_errors()
    def discard(self) -> None:
        """Throws all of it away, and ends it."""
        self._places.clear(self._job)
        self.close()

    def close(self) -> None:
        """Lets go of it; the uploaded file stays. A second time does nothing."""
        if self._folder.descriptor >= 0:
            self._folder.close()

    def _forget(self) -> None:
        self._sizes = {}
        self._names = Names()

    def _is_saved(self, _written: int) -> None:
        self._folder.move(f"{UPLOAD}.part", self._folder, UPLOAD)
        self._folder.sync()

    def _below(self, *parts: str) -> Folder:
        """A directory in the draft, made where it is missing; that it lasts is seen to when all is there."""
        folder = Folder(os.dup(self._folder.descriptor), self._folder.name, private=True)
        for part in parts:
            try:
                below = folder.below(part, make=True, lasting=False)
            finally:
                folder.close()
            folder = below
        return folder

    def _added(self, name: str) -> tuple[str, ...]:
        """The parts of one more name; whoever calls may have checked it, and may have forgotten to."""
        parts = tuple(checked_name(name).split("/"))
        self._names.add(parts, folder=False)
        return parts

    def _file(self, name: str, parts: tuple[str, ...], size: int) -> Writer:
        def done(written: int) -> None:
            self._sizes[name] = written

        return self._writer(self._below(NEW, FILES, *parts[:-1]), parts[-1], size, size=size, done=done)

    def _writer(
        self, folder: Folder, name: str, promised: int, *, size: int | None, done: Callable[[int], None]
    ) -> Writer:
        share = self._room.share(folder.descriptor)
        try:
            share.more(promised)
            return Writer(folder, name, share, size=size, done=done)
        except BaseException:
            share.close()
            folder.close()
            raise

    def _copy(self, name: str, parts: tuple[str, ...], size: int) -> None:
        descriptor = os.open(UPLOAD, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder.descriptor)
        with os.fdopen(descriptor, "rb", buffering=0) as source, self._file(name, parts, size) as writer:
            while piece := source.read(CHUNK):
                writer.write(piece)
            writer.commit()


def _sync_all(folder: Folder) -> None:
    """What was made in a directory, and in those in it, is on disk when this returns; the innermost first."""
    for _, _, _, descriptor in os.fwalk(".", topdown=False, dir_fd=folder.descriptor):
        os.fsync(descriptor)
