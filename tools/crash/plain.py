"""Stocks with a known defect, which a sweep must catch, and the sound one that they are made from, which it must not.

:class:`Plain` writes a store in the simplest way that keeps every invariant. Each other class does one step wrong.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from tools.crash.scenes import (
    BAD,
    CONFIG,
    COPIED,
    KEPT,
    NEW,
    NEW_MANIFEST,
    TEMPLATE,
    WEIGHTS,
    digest,
)
from tools.crash.stocks import Stock, pieces

_DIGEST = re.compile(rb"sha256:([0-9a-f]{64})")


class Plain:
    """Sound: temporary file, sync, verify, rename, sync the directory, then the manifest in the same way."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.temporary = 0

    def create(self) -> None:
        self.make(NEW)

    adopt = create
    pull = create

    def replace(self) -> None:
        self.make(KEPT)

    def copy(self) -> None:
        self.name(COPIED, self.manifest(KEPT).read_bytes())

    def delete(self) -> None:
        with suppress(FileNotFoundError):
            self.manifest(NEW).unlink()
        if self.manifest(NEW).parent.is_dir():
            self.sync_directory(self.manifest(NEW).parent)

    def collect(self) -> None:
        named = b"".join(path.read_bytes() for path in self.files(self.root / "manifests"))
        keep = {f"sha256-{found.decode()}" for found in _DIGEST.findall(named)}
        for path in (self.root / "blobs").iterdir():
            if path.name not in keep:
                path.unlink()
        self.sync_directory(self.root / "blobs")

    def recover(self) -> None:
        for path in self.root.iterdir():
            if path.suffix == ".tmp":
                path.unlink()

    def files(self, directory: Path) -> Iterator[Path]:
        """All below it. Not ``glob``: that passes over what it may not read, and its blobs would be collected."""
        for path in directory.iterdir():
            yield from self.files(path) if path.is_dir() else (path,)

    def litter(self) -> None:
        (self.root / "9.tmp").write_bytes(WEIGHTS)

    def make(self, place: str) -> None:
        for data in (WEIGHTS, CONFIG, TEMPLATE):
            self.blob(data, digest(data))
        self.name(place, NEW_MANIFEST)

    def blob(self, data: bytes, wanted: str) -> None:
        target = self.root / "blobs" / f"sha256-{wanted}"
        temporary = self.write(data)
        self.verify(temporary, wanted)
        self.rename(temporary, target)
        self.sync_directory(target.parent)

    def name(self, place: str, text: bytes) -> None:
        target = self.manifest(place)
        for directory in reversed([one for one in target.parents if self.root in one.parents]):
            with suppress(FileExistsError):
                directory.mkdir()
            self.sync_directory(directory.parent)
        self.rename(self.write(text), target)
        self.sync_directory(target.parent)

    def manifest(self, place: str) -> Path:
        return self.root / "manifests" / place

    def write(self, data: bytes) -> Path:
        self.temporary += 1
        path = self.root / f"{self.temporary}.tmp"
        self.fill(path, data)
        return path

    def fill(self, path: Path, data: bytes) -> None:
        with path.open("wb", buffering=0) as stream:
            for piece in pieces(data):
                stream.write(piece)
            self.sync(stream.fileno())

    def verify(self, path: Path, wanted: str) -> None:
        if digest(path.read_bytes()) != wanted:
            raise OSError("the content is another")

    def rename(self, source: Path, target: Path) -> None:
        source.rename(target)

    def sync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def sync_directory(self, directory: Path) -> None:
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class NoSync(Plain):
    """Files are not synced before they get their names."""

    def sync(self, descriptor: int) -> None:
        pass


class LateSync(Plain):
    """Files get their names first and are synced then."""

    def fill(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)

    def rename(self, source: Path, target: Path) -> None:
        source.rename(target)
        self.sync_directory(target)


class NoDirectorySync(Plain):
    """Names are not synced."""

    def sync_directory(self, directory: Path) -> None:
        pass


class InPlace(Plain):
    """Files are written under their final names."""

    def rename(self, source: Path, target: Path) -> None:
        self.fill(target, source.read_bytes())
        source.unlink()


class ManifestFirst(Plain):
    """The name is given before the blobs are there."""

    def make(self, place: str) -> None:
        self.name(place, NEW_MANIFEST)
        for data in (WEIGHTS, CONFIG, TEMPLATE):
            self.blob(data, digest(data))


class LateVerify(Plain):
    """A blob gets its name first and is compared then; what came was something else."""

    def blob(self, data: bytes, wanted: str) -> None:
        target = self.root / "blobs" / f"sha256-{wanted}"
        arrived = data[:-1] + b"?" if data is WEIGHTS and not target.exists() else data
        self.rename(self.write(arrived), target)
        self.sync_directory(target.parent)
        try:
            self.verify(target, wanted)
        except OSError:
            target.unlink()
            super().blob(data, wanted)


class DeletesBlobs(Plain):
    """Deleting a model removes its blobs too, before its name and also those that others need."""

    def delete(self) -> None:
        for data in (WEIGHTS, TEMPLATE, CONFIG):
            (self.root / "blobs" / f"sha256-{digest(data)}").unlink(missing_ok=True)
        self.sync_directory(self.root / "blobs")
        super().delete()


class BlobsFirst(Plain):
    """Deleting a model removes its own blobs before its name."""

    def delete(self) -> None:
        (self.root / "blobs" / f"sha256-{digest(WEIGHTS)}").unlink(missing_ok=True)
        self.sync_directory(self.root / "blobs")
        super().delete()


class SwallowsFull(Plain):
    """A full disk is taken for success."""

    def fill(self, path: Path, data: bytes) -> None:
        with suppress(OSError):
            super().fill(path, data)

    def verify(self, path: Path, wanted: str) -> None:
        pass


class Exists(Plain):
    """A blob that is there is taken for whole, whatever its size; and it is written where it will stay."""

    def blob(self, data: bytes, wanted: str) -> None:
        target = self.root / "blobs" / f"sha256-{wanted}"
        if not target.exists():
            self.fill(target, data)
            self.sync_directory(target.parent)


class Litters(Plain):
    """Nobody clears away what the dead left."""

    def recover(self) -> None:
        pass


class GreedyCollector(Plain):
    """Takes a damaged manifest for a leftover."""

    def collect(self) -> None:
        super().collect()
        self.manifest(BAD).unlink(missing_ok=True)
        self.sync_directory(self.manifest(BAD).parent)


class BlockedCollector(Plain):
    """One damaged manifest stops the collection (ollama #13885)."""

    def collect(self) -> None:
        for path in self.files(self.root / "manifests"):
            if "layers" not in json.loads(path.read_bytes()):
                return
        super().collect()


class RemovesFirst(Plain):
    """A name is taken away before it is given again."""

    def rename(self, source: Path, target: Path) -> None:
        target.unlink(missing_ok=True)
        source.rename(target)


class SaysTooMuch(Plain):
    """A copy that failed is told as done."""

    def copy(self) -> None:
        with suppress(OSError):
            super().copy()


class Refuses(Plain):
    """What an earlier try left is in the way of the next one."""

    def fill(self, path: Path, data: bytes) -> None:
        if path.exists():
            raise FileExistsError(path)
        super().fill(path, data)


DEFECTS: Mapping[str, type[Stock]] = {
    one.__name__: one
    for one in (
        NoSync,
        LateSync,
        NoDirectorySync,
        InPlace,
        ManifestFirst,
        LateVerify,
        DeletesBlobs,
        BlobsFirst,
        SwallowsFull,
        Exists,
        Litters,
        GreedyCollector,
        BlockedCollector,
        RemovesFirst,
        SaysTooMuch,
        Refuses,
    )
}
