"""``python -m tests.hostile_folders.batch``: converts hostile folders, each in a process of its own, and tells of it.

One process imports everything and forks for each folder, so that a folder costs milliseconds and not a second; what the
fork may do is bounded as the confined child's is. Names come on standard input, one a line; for each, one JSON line
(:class:`Told`) goes out.
"""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import msgspec
from msgspec import Struct
from tests.hostile_folders.corpus import CORPUS, CUT
from tests.hostile_folders.disguises import canary
from tests.hostile_folders.kinds import Hostile, files_of

from localmodels.artifacts.convert.folder import Folder
from localmodels.artifacts.convert.lora import Merged
from localmodels.artifacts.convert.plan import plan, stored_as
from localmodels.artifacts.convert.work import Work
from localmodels.artifacts.gguf import read_header
from localmodels.artifacts.quantize.file_types import TARGETS, read_file_type
from localmodels.artifacts.quantize.ggml import Ggml, find_library
from localmodels.core.errors import LocalModelsError

MEMORY = 256 * 2**20
# Templates that end the engine's process, or never end and so do it by its limit of processor time, whoever made the
# file; see PASSES in tests/hostile_gguf.py.
ENDS_THE_ENGINE = frozenset({
    "template that calls itself", "template of loops in loops", "template that never ends", "template that multiplies",
})  # fmt: skip
LONGEST = 10  # seconds of processor time


class Told(Struct):
    """What became of one folder.

    Attributes:
        fate: ``made``, ``refused``, or ``died`` of what the message says.
        kind: the class of the refusal.
        message: of the refusal.
        seconds: of processor time, from the fork to the end: the clock would measure whoever else computes.
        peak: bytes that it had in memory at most, Python and libraries included.
        fired: did a program of the folder run?
        file: name of what was made and kept.
    """

    name: str
    fate: str
    kind: str = ""
    message: str = ""
    seconds: float = 0.0
    peak: int = 0
    fired: bool = False
    file: str = ""


def main(keep: Path | None = None) -> None:
    """All names of standard input; each different file that is made goes to ``keep``, if it is named, by its digest."""
    ggml = Ggml(find_library())
    for line in sys.stdin:
        name = line.rstrip("\n")
        with tempfile.TemporaryDirectory() as directory:
            place = Path(directory, "model")
            hostile = CORPUS.get(name) or CUT[name]
            hostile.write(place)
            told = _forked(name, hostile, place, ggml)
            told.fired = canary(place).exists()
            made = Path(directory, "made.gguf")
            if keep and told.fate == "made":
                told.file = hashlib.sha256(made.read_bytes()).hexdigest()
                shutil.copy(made, keep / told.file)
        sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
        sys.stdout.flush()


def _forked(name: str, hostile: Hostile, place: Path, ggml: Ggml) -> Told:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        told = _limited(name, hostile, place, ggml)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(msgspec.json.encode(told))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    _, status, usage = os.wait4(child, 0)
    took = usage.ru_utime + usage.ru_stime
    if status or not said:
        return Told(name, "died", message=f"status {status}", seconds=took, peak=usage.ru_maxrss << 10)
    told = msgspec.json.decode(said, type=Told)
    told.seconds, told.peak = took, usage.ru_maxrss << 10
    return told


def _limited(name: str, hostile: Hostile, place: Path, ggml: Ggml) -> Told:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (LONGEST, LONGEST))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    try:
        _convert(hostile, place, ggml)
    except LocalModelsError as error:
        return Told(name, "refused", type(error).__name__, error.message)
    except MemoryError:
        return Told(name, "refused", "MemoryError")
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is what is looked for
        return Told(name, "died", type(error).__name__, repr(error)[:500])
    return Told(name, "made")


def _convert(hostile: Hostile, place: Path, ggml: Ggml) -> None:
    """As the child of the converter does."""
    model, adapter = (
        Folder({name: Path(path) for name, path in files.items()}, name="tiny") for files in files_of(place)
    )
    target = read_file_type(hostile.target) if hostile.target else TARGETS[stored_as(model)]
    folder = Merged(model, adapter) if hostile.base == "adapted" else model
    made = plan(folder, target, title="tiny")
    path = place.parent / "made.gguf"
    with path.open("wb") as file:
        for piece in Work(folder, made, ggml, 2).pieces():
            file.write(piece)
    if read_header(path).quantization_level != made.target.name or path.stat().st_size != made.size:
        raise AssertionError("the file is another than was promised")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
