"""Places where models stand, and the two that hold single files: those that were named, and the built-in one.

A shelf is two methods. The rule: a shelf is only read, and one bad model never hides the others; it is listed as
:class:`Damaged`, with the reason. Shelves touch the disk, so an event loop calls them in a thread.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Protocol

from msgspec import Struct, structs

from localmodels.artifacts.gguf import parts
from localmodels.core.catalog import ModelName
from localmodels.core.errors import ModelDamaged
from localmodels.core.moment import rfc3339
from localmodels.core.options import Options
from localmodels.store.entries import Damaged, Entry, Source, details_of, expect
from localmodels.store.headers import Headers

BUILTIN = ModelName.parse("localmodels")

_IDENTITY_BYTES = 64 * 1024


class Shelf(Protocol):
    """A place where models stand."""

    @property
    def source(self) -> Source:
        """The kind of shelf that it is."""
        ...

    def list(self) -> tuple[Entry | Damaged, ...]:
        """Everything on the shelf, in no particular order."""
        ...

    def find(self, name: ModelName) -> Entry | None:
        """The model of exactly this name; None if the shelf has none.

        Raises:
            ModelDamaged: it is there and cannot be used.
        """
        ...


class ModelFiles(Struct, frozen=True):
    """A model that is run where it lies: its GGUF file (of a split model the first), and a vision projector or none."""

    model: Path
    projector: Path | None = None


class FileShelf:
    """Files that were named one by one (``--model``). Links are followed: the owner named them himself."""

    def __init__(
        self, models: Mapping[ModelName, ModelFiles], *, source: Source = "file", headers: Headers | None = None
    ) -> None:
        self._models = dict(models)
        self._source: Source = source
        self._headers = headers or Headers()
        self._identities: dict[ModelName, tuple[list[tuple[int, ...]], str]] = {}

    @property
    def source(self) -> Source:
        return self._source

    def list(self) -> tuple[Entry | Damaged, ...]:
        return tuple(self._listed(name) for name in self._models)

    def find(self, name: ModelName) -> Entry | None:
        return self._entry(name, self._models[name]) if name in self._models else None

    def _listed(self, name: ModelName) -> Entry | Damaged:
        try:
            return self._entry(name, self._models[name])
        except ModelDamaged as error:
            return Damaged(str(name), error.message, self._source)

    def _entry(self, name: ModelName, at: ModelFiles) -> Entry:
        try:
            return self._read(name, at)
        except OSError as error:
            raise ModelDamaged(f"{Path(error.filename or at.model).name}: {error.strerror}") from error

    def _read(self, name: ModelName, at: ModelFiles) -> Entry:
        pieces = parts(at.model.absolute())
        projector = at.projector.absolute() if at.projector else None
        status = {path: path.stat() for path in (*pieces, *filter(None, (projector,)))}
        changed = max(one.st_mtime_ns for one in status.values())
        size = sum(one.st_size for one in status.values())
        # Time and size of all files stand for each of them: a header tells about every part of a split model.
        # A file put in another's place may have its size and time (cp -p, rsync -t), but not all of this.
        stamp = hash(tuple((one.st_dev, one.st_ino, one.st_ctime_ns, one.st_mtime_ns) for one in status.values()))
        header = expect("model", self._headers.of(str(pieces[0]), stamp, size))
        return Entry(
            name=name,
            source=self._source,
            model_path=str(pieces[0]),
            parts=tuple(map(str, pieces)),
            header=header,
            size=size,
            digest=self._identity(name, status),
            modified_at=rfc3339(changed),
            details=details_of(header),
            projector_path=str(projector or ""),
            projector=expect("projector", self._headers.of(str(projector), stamp, size)) if projector else None,
        )

    def _identity(self, name: ModelName, status: Mapping[Path, os.stat_result]) -> str:
        """As :func:`identity`, computed anew when a file is another one: each request asks for it."""
        now: list[tuple[int, ...]] = [
            (one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino, one.st_dev) for one in status.values()
        ]
        before, digest = self._identities.get(name, ([], ""))
        if before != now:
            digest = identity(status)
            self._identities[name] = now, digest
        return digest


class BuiltinShelf:
    """The model that ships with the package; an empty shelf in a checkout where it has not been trained yet."""

    def __init__(self, path: Path | None = None, *, headers: Headers | None = None) -> None:
        self._path = path or builtin_path()
        self._files = FileShelf({BUILTIN: ModelFiles(self._path)}, source="builtin", headers=headers)

    @property
    def source(self) -> Source:
        return "builtin"

    def list(self) -> tuple[Entry | Damaged, ...]:
        found = self._files.list() if self._path.exists() else ()
        return tuple(careful(item) if isinstance(item, Entry) else item for item in found)

    def find(self, name: ModelName) -> Entry | None:
        found = self._files.find(name) if self._path.exists() else None
        return found and careful(found)


def careful(entry: Entry) -> Entry:
    """The built-in model with its defaults: it is small, so little randomness keeps it to what it knows.

    Outside of that it may ramble; 512 tokens are several times its longest right answer.
    """
    options = Options(temperature=0.2, num_predict=512)
    return structs.replace(entry, options=options, license=("Apache-2.0, as all of LocalModels",))


def builtin_path() -> Path:
    """Where the package keeps the built-in model."""
    return Path(str(files("localmodels.store") / "builtin.gguf"))


def identity(status: Mapping[Path, os.stat_result]) -> str:
    """A stand-in for the digest of files that have no manifest: 64 hexadecimal digits.

    It changes whenever a file's size, time of change or first 64 KiB do. A true digest of a 40 GB file would cost half
    a minute of reading at every listing, and nobody compares it with anything but itself.
    """
    total = hashlib.sha256()
    for path, one in status.items():
        with path.open("rb") as stream:
            total.update(f"{one.st_size} {one.st_mtime_ns} ".encode() + stream.read(_IDENTITY_BYTES))
    return total.hexdigest()
