"""Files on their way to a server's store."""

from __future__ import annotations

import hashlib
import os
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from localmodels.core.library import Progress

PIECE = 2**20


class Source:
    """A file that is read twice, once for its digest and once to be sent; a context manager.

    Attributes:
        name: of the file, for people.
        size: in bytes, when it was opened.
        done: bytes that were read since it was begun anew.
    """

    def __init__(self, file: Path | str) -> None:
        file = Path(file)
        self._file = FileIO(file)
        self.name = file.name
        self.size = os.fstat(self._file.fileno()).st_size
        self._sum = hashlib.sha256()
        self.done = 0

    def read(self) -> bytes:
        """The next piece; empty at the end."""
        data: bytes = self._file.read(PIECE)
        self.done += len(data)
        return data

    def learn(self) -> bool:
        """Reads the next piece for the digest; false at the end."""
        data = self.read()
        self._sum.update(data)
        return bool(data)

    def rewind(self) -> None:
        """Begins anew, to be sent."""
        self._file.seek(0)
        self.done = 0

    @property
    def digest(self) -> str:
        """``sha256:…`` of what was learnt."""
        return f"sha256:{self._sum.hexdigest()}"

    def progress(self, doing: str, digest: str = "") -> Progress:
        """How far it is read."""
        return Progress(f"{doing} {self.name}", digest, self.size, self.done)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
