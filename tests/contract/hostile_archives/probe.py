"""Unpacks what it is told to, throws the bytes away and says how it went: :class:`Probe` starts and asks it.

A JSON string a line on standard input is the path of an upload; an answer a line comes back. A process of its own,
because the kernel tells how much memory the largest of all children took, and pytest has many.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

from localmodels.artifacts.archive import Extractor, Job
from localmodels.core.errors import LocalModelsError

CHILD = "localmodels.engine.extractor"


class Answer(Struct, frozen=True):
    """How it went.

    Attributes:
        error: class, empty if there was none; ``message`` is its own.
        seconds: of processor time that the child took.
        peak: bytes, the most that any child held so far.
        given: bytes that came out.
    """

    error: str
    message: str
    seconds: float
    peak: int
    given: int


class Probe:
    """A process that unpacks, in a folder that must stay empty."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.canary = folder / "fired"
        self._child = subprocess.Popen(
            [sys.executable, __file__, CHILD], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, path: Path) -> Answer:
        stdin, stdout = self._pipes()
        stdin.write(msgspec.json.encode(str(path)) + b"\n")
        stdin.flush()
        return msgspec.json.decode(stdout.readline(), type=Answer)

    def close(self) -> None:
        for pipe in self._pipes():
            pipe.close()
        self._child.wait()

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        return self._child.stdin, self._child.stdout


def main(module: str) -> None:
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(msgspec.json.encode(answer(Path(msgspec.json.decode(line, type=str)), module)) + b"\n")
        sys.stdout.buffer.flush()


def answer(path: Path, module: str) -> Answer:
    before = _seconds()
    error = message = ""
    given = 0
    with Extractor(Job(str(path), path.name, most_bytes=2**34), module=module) as extractor:
        try:
            for entry in extractor.entries():
                given += sum(map(len, entry.pieces))
        except LocalModelsError as raised:
            error, message = type(raised).__name__, raised.message
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10
    return Answer(error, message, _seconds() - before, peak, given)


def _seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(sys.argv[1])
