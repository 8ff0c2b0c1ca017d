"""What a child process does: reads one job, converts, writes the file to standard output, and nothing else.

Standard input brings the job, one JSON line, and then stays open for as long as somebody wants the result: when it
ends, so does this process. Standard output is one JSON line (:class:`Outline`) and the file, in order, so that a pipe
will do and no right to write anything is needed. What is wrong is said on standard error, one JSON line
(:class:`Refusal`), beside ggml's own words.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from localmodels.artifacts.convert.folder import Folder
from localmodels.artifacts.convert.job import Job, Outline
from localmodels.artifacts.convert.lora import Merged
from localmodels.artifacts.convert.plan import Plan, plan, stored_as
from localmodels.artifacts.convert.work import Work
from localmodels.artifacts.quantize.file_types import TARGETS, read_file_type
from localmodels.artifacts.quantize.ggml import Ggml, find_library
from localmodels.artifacts.worker import Refusal
from localmodels.core.errors import LocalModelsError, Unsupported


def unconfined(_job: Job) -> None:
    """Gives up no right; for developers' tools alone."""


def main(confine: Callable[[Job], object] = unconfined) -> int:
    """One job from standard input.

    Args:
        confine: gives up the rights that this job does not need, before any file is looked at.

    Returns:
        Exit status: 0 when all of the file was written.
    """
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    os.nice(job.nice)
    _limit(job.memory)
    confine(job)
    threading.Thread(target=_leave_with_input, daemon=True).start()
    try:
        _convert(job)
    except LocalModelsError as error:
        return _refused(error)
    except MemoryError:
        return _refused(Unsupported(f"the model takes more than the {job.memory >> 20} MiB that a conversion may have"))
    return 0


def _refused(error: LocalModelsError) -> int:
    sys.stderr.buffer.write(msgspec.json.encode(Refusal(error.message, error.code)) + b"\n")
    return 1


def _limit(memory: int) -> None:
    """Bounds memory for good. Mapped files are not counted, nor (elsewhere than on Linux) anything at all."""
    with suppress(OSError, ValueError):  # a limit that is lower already stays
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


def _convert(job: Job) -> None:
    base = _folder(job.files, job.title)
    target = read_file_type(job.target) if job.target else TARGETS[stored_as(base)]
    folder = Merged(base, _folder(job.adapter, "adapter")) if job.adapter else base
    made = plan(folder, target, title=job.title, ignored=job.ignored, pre_tokenizer=job.pre_tokenizer)
    ggml = Ggml(find_library())
    _write(msgspec.json.encode(_outline(made)) + b"\n")
    for piece in Work(folder, made, ggml, job.threads).pieces():
        _write(piece)


def _folder(files: Mapping[str, str], name: str) -> Folder:
    return Folder({file: Path(path) for file, path in files.items()}, name=name)


def _outline(plan: Plan) -> Outline:
    """What a plan comes to."""
    header = plan.header
    return Outline(
        size=plan.size,
        target=plan.target.name,
        architecture=header.architecture,
        parameters=header.parameter_count,
        tensors=len(header.tensors),
        context=header.context_length,
        notes=plan.notes,
    )


def _leave_with_input() -> None:
    # On the descriptor: a thread that is asleep in Python's own reader would hold its lock when the process ends.
    while os.read(0, 4096):
        pass
    os._exit(1)


def _write(piece: bytes | memoryview) -> None:
    left = memoryview(piece)
    while left:
        left = left[os.write(1, left) :]
