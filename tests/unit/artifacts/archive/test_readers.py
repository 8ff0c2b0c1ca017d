"""The readers, in this process: what is cut or changed anywhere is refused or unchanged, and never anything else."""

from __future__ import annotations

import gzip
import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard
from tests.contract.hostile_archives.making import File, Member, long_name, pax, tar_of, with_descriptor, zip_of

from localmodels.artifacts.archive.reading import Archive, Source
from localmodels.artifacts.archive.streams import Gunzip, Plain
from localmodels.artifacts.archive.survey import survey
from localmodels.artifacts.archive.tars import TarArchive
from localmodels.artifacts.archive.zips import ZipArchive
from localmodels.artifacts.archive.zstd import Unzstd, check_frames
from localmodels.core.errors import InvalidRequest, TooLarge

FILES = {"config.json": b'{"a": 1}', "vocab.txt": b"cat\ndog\n" * 200, "LICENSE": b"", "a/b.json": b"[]"}
MUTANTS = 1500


def zipped() -> bytes:
    files = [File(name=name, data=data) for name, data in FILES.items()]
    return zip_of(files[0], *(with_descriptor(file, wide=file.name == "LICENSE") for file in files[1:]), end64={})


def tarred() -> bytes:
    named = {"config.json": long_name("config.json"), "a/b.json": pax({"path": "a/b.json"})}
    members: list[Member] = []
    for name, data in FILES.items():
        members += [*filter(None, [named.get(name)]), Member(name=name, data=data)]
    return tar_of(*members)


@contextmanager
def opened(path: Path, data: bytes) -> Iterator[Source]:
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield Source(descriptor, len(data))
    finally:
        os.close(descriptor)


def tick(_count: int) -> None:
    pass


READERS: Mapping[str, tuple[Callable[[Source], Archive], Callable[[], bytes]]] = {
    "zip": (ZipArchive, zipped),
    "tar": (lambda source: TarArchive(lambda: Plain(source, tick)), tarred),
    "tar.gz": (lambda source: TarArchive(lambda: Gunzip(source, tick)), lambda: gzip.compress(tarred())),
    "tar.zst": (
        lambda source: TarArchive(lambda: Unzstd(source, tick)),
        lambda: zstandard.ZstdCompressor(write_checksum=True).compress(tarred()),
    ),
}
CHECKED = ("zip", "tar.gz", "tar.zst")  # a plain tar has no checksums of what is in its files


def unpacked(source: Source, reader: Callable[[Source], Archive], most: int = 97) -> dict[str, bytes]:
    archive = reader(source)
    found = survey(archive.walk(), 2**30)
    return {
        name: b"".join(bytes(piece) for piece in iter(lambda body=body: body.read(most), b""))  # type: ignore[misc]
        for (_, body), name in zip(archive.walk(), found.names, strict=True)
        if name
    }


def test_the_walk_over_frames_gives_signs_of_life(tmp_path: Path) -> None:
    data = zstandard.ZstdCompressor().compress(os.urandom(2**20)) + b"\x50\x2a\x4d\x18" + bytes(4)
    ticks: list[int] = []
    with opened(tmp_path / "it", data) as source:
        check_frames(source, ticks.append)
    assert ticks == [3] * (len(ticks) - 1) + [8]  # a block's head each, of at most 128 KiB, and a frame that is skipped
    assert len(ticks) >= 9


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("most", [1, 97, 2**18])
def test_everything_comes_out_however_much_is_asked_for(kind: str, most: int, tmp_path: Path) -> None:
    reader, make = READERS[kind]
    with opened(tmp_path / "upload", make()) as source:
        assert unpacked(source, reader, most) == FILES


@pytest.mark.parametrize("kind", READERS)
def test_cut_anywhere_it_is_refused(kind: str, tmp_path: Path) -> None:
    reader, make = READERS[kind]
    data = make()
    whole = len(data) if kind in CHECKED else len(data) - 1023  # the second half of a tar's end may be missing
    for length in range(0, whole, 1 if len(data) < 2000 else 7):
        with opened(tmp_path / "upload", data[:length]) as source, pytest.raises((InvalidRequest, TooLarge)):
            unpacked(source, reader)


@pytest.mark.parametrize("kind", READERS)
def test_changed_anywhere_it_is_refused_or_whole(kind: str, tmp_path: Path) -> None:
    reader, make = READERS[kind]
    data = make()
    chance = random.Random(f"archive {kind}")
    refused = 0
    for _ in range(MUTANTS):
        mutant = bytearray(data)
        for _ in range(chance.choice((1, 1, 2, 8))):
            mutant[chance.randrange(len(mutant))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        with opened(tmp_path / "upload", bytes(mutant)) as source:
            try:
                found = unpacked(source, reader)
            except (InvalidRequest, TooLarge):
                refused += 1
                continue
        if kind in CHECKED:
            assert set(found.values()) <= set(FILES.values())
    assert refused > MUTANTS // 10


@pytest.mark.parametrize("kind", READERS)
def test_what_is_not_read_of_a_file_is_passed_over(kind: str, tmp_path: Path) -> None:
    reader, make = READERS[kind]
    with opened(tmp_path / "upload", make()) as source:
        sizes = {member.name: member.size for member, _ in reader(source).walk()}
    assert sizes == {name: len(data) for name, data in FILES.items()}
