"""What a child process does: reads one job, converts, writes the file to standard output, and nothing else.

Standard input brings the job, one JSON line, and then stays open for as long as somebody wants the result: when it
ends, so does this process. Standard output is one JSON line (:class:`Outline`) and the file, in order, so that a pipe
will do and no right to write anything is needed. What is wrong is said on standard error, one JSON line
(:class:`Refusal`), beside ggml's own words.
"""

from __future__ import annotations

import math
import os
import resource
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import structs

from localmodels.artifacts.convert.config import shortened
from localmodels.artifacts.convert.folder import Folder
from localmodels.artifacts.convert.job import Job, Outline
from localmodels.artifacts.convert.lora import (
    AdapterFile,
    Merged,
    MustBeMerged,
    adapter_file,
    read_adapter,
    rules_of_header,
    rules_of_model,
    without_base,
)
from localmodels.artifacts.convert.plan import Plan, plan, read_model, stored_as
from localmodels.artifacts.convert.words import read_licenses, read_sampling
from localmodels.artifacts.convert.work import Work
from localmodels.artifacts.gguf import join, read_part
from localmodels.artifacts.quantize.file_types import TARGETS, read_file_type
from localmodels.artifacts.quantize.ggml import Ggml, find_library
from localmodels.artifacts.worker import Refusal
from localmodels.core.errors import LocalModelsError, Unsupported

LONGEST_REASON = 600  # letters: names are the folder's, and may be as long as a stranger likes


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
    message = shortened(error.message, LONGEST_REASON)
    said = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in message)
    sys.stderr.buffer.write(msgspec.json.encode(Refusal(said, error.code, error.param)) + b"\n")
    return 1


def _limit(memory: int) -> None:
    """Bounds memory for good. Mapped files are not counted, nor (elsewhere than on Linux) anything at all."""
    with suppress(OSError, ValueError):  # a limit that is lower already stays
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


def _convert(job: Job) -> None:
    if job.apart:
        _convert_adapter(job)
    else:
        _convert_model(job)


def _convert_model(job: Job) -> None:
    base = _folder(job.files, job.title)
    stored = stored_as(base)
    target = read_file_type(job.target) if job.target else TARGETS[stored]
    folder = Merged(base, _folder(job.adapter, "adapter")) if job.adapter else base
    made = plan(folder, target, title=job.title, ignored=job.ignored, pre_tokenizer=job.pre_tokenizer)
    ggml = Ggml(find_library())
    _tell(structs.replace(_outline(made), source=stored, sampling=read_sampling(base), licenses=read_licenses(base)))
    for piece in Work(folder, made, ggml, job.threads).pieces():
        _write(piece)


def _convert_adapter(job: Job) -> None:
    folder = _folder(job.adapter, job.title)
    adapter = read_adapter(folder)
    if job.base:
        header = join([read_part(path) for path in job.base])
        try:
            file = adapter_file(adapter, rules_of_header(header), header.architecture, title=job.title)
        except MustBeMerged as error:  # whoever has the base's folder can do that
            _tell(_to_be_merged(header.architecture, error))
            return
    else:
        base = _folder(job.files, "base")
        model = read_model(base, ignored=job.ignored)
        own = without_base(adapter, folder, base)
        try:
            file = adapter_file(own, rules_of_model(model), model.architecture, title=job.title)
        except Unsupported as error:  # what is no adapter of llama.cpp may still be one that can be merged
            _tell(_to_be_merged(model.architecture, error))
            return
    _tell(outline_of(file))
    for piece in file.pieces(folder):
        _write(piece)


def _to_be_merged(architecture: str, error: Unsupported) -> Outline:
    return Outline(0, "F32", architecture, 0, 0, 0, merge=error.message)


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


def outline_of(file: AdapterFile) -> Outline:
    """What an adapter comes to."""
    weights = sum(math.prod(half.shape) for half in file.halves)
    return Outline(file.size, "F32", file.architecture, weights, len(file.halves), context=0)


def _tell(outline: Outline) -> None:
    _write(msgspec.json.encode(outline) + b"\n")


def _leave_with_input() -> None:
    # On the descriptor: a thread that is asleep in Python's own reader would hold its lock when the process ends.
    while os.read(0, 4096):
        pass
    os._exit(1)


def _write(piece: bytes | memoryview) -> None:
    left = memoryview(piece)
    while left:
        left = left[os.write(1, left) :]
