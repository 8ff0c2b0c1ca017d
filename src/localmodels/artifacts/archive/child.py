"""What a child process does: reads one job, unpacks, writes the files to standard output, and nothing else.

Standard input brings the job, one JSON line, and then stays open for as long as somebody wants the result: when it
ends, so does this process. What it says on standard output is in :mod:`.job`: a pipe will do, no right to write
anything is needed. What is wrong is said on standard error, one JSON line
(:class:`~localmodels.artifacts.worker.Refusal`).
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

import msgspec
from msgspec import Struct

from localmodels.artifacts.archive.job import Format, Head, Job, Outline, Seen, Whole
from localmodels.artifacts.archive.kinds import dangerous
from localmodels.artifacts.archive.limits import CHUNK, check_quota
from localmodels.artifacts.archive.reading import Archive, Body, Bytes, Member, Source, Window
from localmodels.artifacts.archive.streams import Gunzip, Plain, Tick
from localmodels.artifacts.archive.survey import Survey, survey
from localmodels.artifacts.archive.tars import TarArchive
from localmodels.artifacts.archive.zips import ZipArchive
from localmodels.artifacts.archive.zstd import MAGIC as ZSTD_MAGIC
from localmodels.artifacts.archive.zstd import Unzstd
from localmodels.artifacts.convert.safetensors import open_file
from localmodels.artifacts.file_names import checked_name
from localmodels.artifacts.worker import Refusal
from localmodels.core.errors import InvalidRequest, LocalModelsError, TooLarge, Unsupported

_TICK = 0.25  # seconds
_BLOCK = 512
_TAR_MAGIC = slice(257, 262)
_WHAT_IS_TAKEN = "upload a .zip, .tar, .tar.gz or .tar.zst of the model's folder, or one .gguf"


def unconfined(_job: Job) -> None:
    """Gives up no right; for developers' tools alone."""


def main(confine: Callable[[Job], object] = unconfined) -> int:
    """One job from standard input.

    Args:
        confine: gives up the rights that this job does not need, before the archive is looked at.

    Returns:
        Exit status: 0 when everything was written.
    """
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    os.nice(job.nice)
    with suppress(OSError, ValueError):  # a limit that is lower already stays
        resource.setrlimit(resource.RLIMIT_DATA, (job.memory, job.memory))
    confine(job)
    threading.Thread(target=_leave_with_input, daemon=True).start()
    try:
        _extract(job)
    except LocalModelsError as error:
        return _refused(error)
    except MemoryError:
        return _refused(TooLarge(f"unpacking takes more than the {job.memory >> 20} MiB that it may have"))
    return 0


def _refused(error: LocalModelsError) -> int:
    sys.stderr.buffer.write(msgspec.json.encode(Refusal(error.message, error.code)) + b"\n")
    return 1


def _extract(job: Job) -> None:
    descriptor = open_file(job.path, job.name)
    source = Source(descriptor, os.fstat(descriptor).st_size)
    signs = _Signs()
    kind = kind_of(source)
    archive = _ARCHIVES[kind](source, signs.tick, job)
    found = survey(archive.walk(), job.most_bytes)
    _say(Outline(kind, found.files, found.size, found.notes))
    for name, size, body in _taken(archive, found):
        _say(Head(name, size))
        signs.muted = True
        _send(body)
        signs.muted = False
    _say(Whole(found.files))


def _taken(archive: Archive, found: Survey) -> Iterator[tuple[str, int, Body]]:
    """The second walk: what comes out, which must be what the first one saw."""
    seen = 0
    for (member, body), expected, name in zip(archive.walk(), found.members, found.names, strict=False):
        if member != expected:
            break
        seen += 1
        if name:
            yield name, member.size, body
    if seen != len(found.members):
        raise InvalidRequest("the file changed while it was unpacked; upload it again")


def _send(body: Body) -> None:
    while data := body.read(CHUNK):
        _write(data)


class _Signs:
    """Signs of life while nothing else is said; none while the bytes of a file are."""

    def __init__(self) -> None:
        self.muted = False
        self._done = 0
        self._last = time.monotonic()

    def tick(self, count: int) -> None:
        """So many more bytes of the archive were worked through."""
        self._done += count
        if not self.muted and count and time.monotonic() - self._last > _TICK:
            self._last = time.monotonic()
            _say(Seen(self._done))


# What the file is


class _Single(Struct, frozen=True):
    """A file that is no archive, as an archive of one."""

    source: Source
    name: str

    def walk(self) -> Iterator[tuple[Member, Body]]:
        yield Member(self.name, self.source.size), Window(self.source, 0, self.source.size)


def kind_of(source: Source) -> Format:
    """What the file is by its first bytes; its name does not matter.

    Raises:
        Unsupported: it is nothing that is taken.
        InvalidRequest: it is empty.
    """
    beginning = source.at(0, min(source.size, _BLOCK))
    if not beginning:
        raise InvalidRequest(f"the file is empty; {_WHAT_IS_TAKEN}")
    for magic, kind in _MAGICS:
        if beginning.startswith(magic):
            return kind
    if beginning[_TAR_MAGIC] == b"ustar":
        return "tar"
    told = dangerous(beginning).partition(";")[0]
    if not told and len(beginning) == _BLOCK and not any(beginning[_TAR_MAGIC]):
        return "tar"  # of before there was a magic; its reader knows by the checksum
    raise Unsupported(f"{told or 'this is neither an archive nor a GGUF file'}; {_WHAT_IS_TAKEN}")


def _gguf(source: Source, _tick: Tick, job: Job) -> Archive:
    check_quota(source.size, job.most_bytes)
    return _Single(source, checked_name(job.name) if job.name.lower().endswith(".gguf") else "model.gguf")


def _tar(stream: Callable[[Source, Tick], Plain | Gunzip | Unzstd]) -> Callable[[Source, Tick, Job], Archive]:
    return lambda source, tick, _job: TarArchive(lambda: stream(source, tick))


_MAGICS: tuple[tuple[bytes, Format], ...] = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x1f\x8b", "tar.gz"),
    (ZSTD_MAGIC, "tar.zst"),
    (b"GGUF", "gguf"),
)
_ARCHIVES: Mapping[Format, Callable[[Source, Tick, Job], Archive]] = {
    "zip": lambda source, _tick, _job: ZipArchive(source),
    "tar": _tar(Plain),
    "tar.gz": _tar(Gunzip),
    "tar.zst": _tar(Unzstd),
    "gguf": _gguf,
}


# Standard streams


def _leave_with_input() -> None:
    # On the descriptor: a thread that is asleep in Python's own reader would hold its lock when the process ends.
    while os.read(0, 4096):
        pass
    os._exit(1)


def _say(message: Outline | Head | Seen | Whole) -> None:
    _write(msgspec.json.encode(message) + b"\n")


def _write(piece: Bytes) -> None:
    left = memoryview(piece)
    while left:
        left = left[os.write(1, left) :]
