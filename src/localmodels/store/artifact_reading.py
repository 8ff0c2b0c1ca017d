"""Reads an artifact's directory: what is in it, and whether that is what was published."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from msgspec import structs

from localmodels.artifacts.file_names import checked_name
from localmodels.core.artifacts import Artifact
from localmodels.core.errors import InvalidRequest, ModelDamaged
from localmodels.store.artifact_places import ABOUT, FILES
from localmodels.store.folders import Folder

LONGEST_ABOUT = 8 * 2**20  # 10,000 files whose names are all as long as they may be
_REMEDY = "upload it again, or delete it"


class Held:
    """An artifact that stays as it is until this is closed; a context manager.

    Made by :meth:`~localmodels.store.artifacts.ArtifactStore.held`.

    Attributes:
        artifact: what it is.
        files: where its files lie, by their names.
    """

    def __init__(self, artifact: Artifact, files: Mapping[str, Path], lock: int) -> None:
        self.artifact = artifact
        self.files = files
        self._lock = lock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of it. A second time does nothing."""
        if self._lock >= 0:
            lock, self._lock = self._lock, -1
            os.close(lock)


def shared_lock(folder: Folder) -> int:
    """A descriptor whose lock keeps everybody from taking the directory away, until it is closed."""
    descriptor = os.dup(folder.descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_artifact(folder: Folder) -> Artifact:
    """What lies in an artifact's directory, after looking whether all of its files are there. Its name is the folder's.

    Raises:
        ModelDamaged: it is not as it was published.
    """
    data = folder.read(ABOUT, LONGEST_ABOUT)
    if data is None:
        raise ModelDamaged(f"{ABOUT}: missing; {_REMEDY}")
    try:
        artifact = msgspec.json.decode(data[:LONGEST_ABOUT], type=Artifact)
        for file in artifact.files:
            checked_name(file.name)
    except (msgspec.DecodeError, UnicodeDecodeError, InvalidRequest) as error:
        raise ModelDamaged(f"{ABOUT}: not as it was written ({error}); {_REMEDY}") from error
    for file in artifact.files:
        size = _size(folder, file.name)
        if size != file.size:
            what = "missing" if size is None else f"{size} bytes, not {file.size}"
            raise ModelDamaged(f"{file.name}: {what}; {_REMEDY}")
    return structs.replace(artifact, name=folder.name)


def _size(folder: Folder, file: str) -> int | None:
    """Bytes of a file of an artifact; None if there is none."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return os.stat(f"{FILES}/{file}", dir_fd=folder.descriptor, follow_symlinks=False).st_size
    return None
