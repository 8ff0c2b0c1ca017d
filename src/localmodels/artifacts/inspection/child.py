"""What a child process does: reads one job, looks at the files, says what they are, and nothing else.

Standard input brings the job, one JSON line, and then stays open for as long as somebody wants the result: when it
ends, so does this process. Standard output is one JSON line (:class:`Findings`); what is wrong is said on standard
error, one JSON line too (:class:`Refusal`).
"""

from __future__ import annotations

import os
import resource
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from localmodels.artifacts.convert.folder import Folder
from localmodels.artifacts.inspection.inspect import inspect
from localmodels.artifacts.inspection.job import Job
from localmodels.artifacts.worker import Refusal
from localmodels.core.errors import LocalModelsError, Unsupported


def unconfined(_job: Job) -> None:
    """Gives up no right; for developers' tools alone."""


def main(confine: Callable[[Job], object] = unconfined) -> int:
    """One job from standard input.

    Args:
        confine: gives up the rights that this job does not need, before any file is looked at.

    Returns:
        Exit status: 0 when it was said what the files are.
    """
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    os.nice(job.nice)
    with suppress(OSError, ValueError):  # a limit that is lower already stays
        resource.setrlimit(resource.RLIMIT_DATA, (job.memory, job.memory))
    confine(job)
    threading.Thread(target=_leave_with_input, daemon=True).start()
    files = {name: Path(job.root, name) for name in job.names}
    try:
        answer = msgspec.json.encode(inspect(Folder(files), files))
    except LocalModelsError as error:
        return _refused(error)
    except MemoryError:
        return _refused(Unsupported(f"to look at it takes more than the {job.memory >> 20} MiB that it may"))
    left = memoryview(answer)
    while left:
        left = left[os.write(1, left) :]
    return 0


def _refused(error: LocalModelsError) -> int:
    sys.stderr.buffer.write(msgspec.json.encode(Refusal(error.message, error.code)) + b"\n")
    return 1


def _leave_with_input() -> None:
    # On the descriptor: a thread that is asleep in Python's own reader would hold its lock when the process ends.
    while os.read(0, 4096):
        pass
    os._exit(1)
