"""Where artifacts lie: the only place that makes their paths and opens them.

::

    ROOT/                       for its owner alone
    ├── NAME/                   one artifact, whole
    │   ├── artifact.json       what it is; its files and their sizes
    │   └── files/…             its files, under the names that they were uploaded with
    └── .drafts/
        ├── lock                held while a name is given or taken away
        └── JOB/
            ├── upload.part     the uploaded file as it comes
            ├── upload          the same, whole and on disk
            ├── new/            the artifact in the making: artifact.json, files/
            ├── old/NAME        what it takes the place of, where two names cannot change places in one step
            └── gone/           one that was taken away, and is not cleared yet

Whoever uses an artifact holds a shared lock on its directory, so that nobody takes it away meanwhile; whoever has a
draft open, an exclusive one on the draft's. The system gives them back when their holder dies. The rule: a name means
a whole artifact or nothing, and each step down is taken relative to the directory above and follows no link.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from localmodels.store.folders import Folder
from localmodels.store.layout import LOCK
from localmodels.store.lock import try_lock

DRAFTS = ".drafts"
UPLOAD, NEW, OLD, GONE = "upload", "new", "old", "gone"
FILES, ABOUT = "files", "artifact.json"

_JOB = re.compile(r"[0-9A-Za-z-]{1,64}")


class Places:
    """The directory of all artifacts; what is made in it is private."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def prepare(self) -> None:
        """Makes what every writer needs; it is on disk when this returns."""
        if not self.root.is_dir():
            self.root.parent.mkdir(parents=True, exist_ok=True)
            self.root.mkdir(mode=0o700, exist_ok=True)
            with Folder.at(self.root.resolve().parent) as above:
                above.sync()
        with self.top() as top:
            top.below(DRAFTS, make=True).close()

    def top(self) -> Folder:
        """The directory of all artifacts."""
        return Folder.at(self.root, private=True)

    def own(self) -> Folder:
        """The directory of the drafts, and of the lock."""
        with self.top() as top:
            return top.below(DRAFTS)

    def draft(self, job: str) -> Folder:
        """The directory of one draft, made where it is missing."""
        if not _JOB.fullmatch(job):
            raise ValueError(f"not a job: {job[:80]!r}")
        with self.own() as own:
            return own.below(job, make=True)

    def locked(self, job: str, *, make: bool = False) -> Folder | None:
        """The directory of one draft, locked until it is closed; None if somebody else has it. Under the store's lock.

        Raises:
            FileNotFoundError, NotADirectoryError: there is no such directory.
        """
        while True:
            with self.own() as own:
                folder = self.draft(job) if make else own.below(job)
                try:
                    if not try_lock(folder.descriptor):
                        folder.close()
                        return None
                    if _same(own, job, folder):
                        return folder
                except BaseException:
                    folder.close()
                    raise
                folder.close()  # it was thrown away in this moment

    def drafts(self) -> tuple[str, ...]:
        """All jobs that have a draft."""
        with self.own() as own:
            return tuple(name for name in own.names() if name != LOCK)

    def clear(self, job: str) -> None:
        """Removes a draft, whatever is in it."""
        with self.own() as own:
            remove_tree(own, job)
            own.sync()

    def used(self) -> int:
        """Bytes of all files, those of drafts too; a file with two names counts once."""
        sizes: dict[tuple[int, int], int] = {}
        with self.top() as top:
            for _, _, files, descriptor in os.fwalk(".", dir_fd=top.descriptor):
                for file in files:
                    with suppress(FileNotFoundError):  # others work here too
                        status = os.stat(file, dir_fd=descriptor, follow_symlinks=False)
                        sizes[status.st_dev, status.st_ino] = status.st_size
        return sum(sizes.values())


def _same(above: Folder, name: str, folder: Folder) -> bool:
    """Is this directory still the one of this name?"""
    with suppress(FileNotFoundError):
        return os.path.samestat(
            os.stat(name, dir_fd=above.descriptor, follow_symlinks=False), os.fstat(folder.descriptor)
        )
    return False


def remove_tree(folder: Folder, name: str) -> None:
    """Removes an entry and all that is in it, following no link; nothing happens where there is none."""
    with suppress(FileNotFoundError):
        try:
            folder.remove(name)
        except (IsADirectoryError, PermissionError):  # elsewhere than on Linux the latter is said of a directory
            shutil.rmtree(name, dir_fd=folder.descriptor)
