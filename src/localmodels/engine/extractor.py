"""The child that unpacks an upload, behind the same walls as a runner: ``python -I -m localmodels.engine.extractor``.

It parses what a stranger wrote, so it may read that one file and its own libraries, and write to the pipe that it was
given: no file, no network, no other program (threats V-05, V-06, V-07, V-40).
"""

from __future__ import annotations

import sys

from localmodels.artifacts.archive.child import main
from localmodels.artifacts.archive.job import Job
from localmodels.engine.confine import Policy, apply
from localmodels.engine.confine.policy import DEVICES, LIBRARIES, MACHINE, existing, python_places

MOST_FILES = 32  # open at once: the archive, three pipes, a module that is being imported


def policy(job: Job) -> Policy:
    """The rights of one job."""
    return Policy(
        read=existing([job.path, *LIBRARIES, *MACHINE, *python_places()]),
        devices=existing(DEVICES),
        max_files=MOST_FILES,
        max_file_size=0,
    )


if __name__ == "__main__":
    sys.exit(main(lambda job: apply(policy(job))))
