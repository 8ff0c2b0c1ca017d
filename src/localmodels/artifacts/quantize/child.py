"""What a child process does: reads one job, quantises, writes the new file to standard output, and nothing else.

Standard input brings the job, one JSON line, and then stays open for as long as somebody wants the result: when it
ends, so does this process. Standard output is the new file, in order, so that a pipe will do and no right to write
anything is needed. What is wrong is said on standard error, one JSON line (:class:`Refusal`), beside ggml's own words.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from localmodels.artifacts.quantize.file_types import read_file_type
from localmodels.artifacts.quantize.ggml import Ggml, find_library
from localmodels.artifacts.quantize.job import Job
from localmodels.artifacts.quantize.plan import plan
from localmodels.artifacts.quantize.work import Work
from localmodels.artifacts.worker import Refusal
from localmodels.core.errors import LocalModelsError


def unconfined(_job: Job) -> None:
    """Gives up no right; for developers' tools alone."""


def main(confine: Callable[[Job], object] = unconfined) -> int:
    """One job from standard input.

    Args:
        confine: gives up the rights that this job does not need, before the file is looked at.

    Returns:
        Exit status: 0 when all of the new file was written.
    """
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    os.nice(job.nice)
    confine(job)
    threading.Thread(target=_leave_with_input, daemon=True).start()
    try:
        source = Path(job.source)
        made = plan(source, read_file_type(job.target), requantize=job.requantize)
        for piece in Work(source, made, Ggml(find_library()), job.threads).pieces():
            _write(piece)
    except LocalModelsError as error:
        sys.stderr.buffer.write(msgspec.json.encode(Refusal(error.message, error.code)) + b"\n")
        return 1
    return 0


def _leave_with_input() -> None:
    # On the descriptor: a thread that is asleep in Python's own reader would hold its lock when the process ends.
    while os.read(0, 4096):
        pass
    os._exit(1)


def _write(piece: bytes | memoryview) -> None:
    left = memoryview(piece)
    while left:
        left = left[os.write(1, left) :]
