"""The child that converts a model, behind the same walls as a runner: ``python -I -m localmodels.engine.converter``.

It parses what a stranger wrote, so it may read the files of that one folder (and of an adapter, or of the model that an
adapter is for) and its own libraries, and write to the pipe that it was given: no file, no network, no other program
(threats V-11, V-12, V-40).
"""

from __future__ import annotations

import sys

from localmodels.artifacts.convert.child import main
from localmodels.artifacts.convert.job import Job
from localmodels.engine.confine import Policy, apply
from localmodels.engine.confine.policy import DEVICES, LIBRARIES, MACHINE, existing, python_places

MOST_FILES = 1024  # open at once: a folder has some hundred parts at most


def policy(job: Job) -> Policy:
    """The rights of one job."""
    return Policy(
        read=existing([*job.files.values(), *job.adapter.values(), *job.base, *LIBRARIES, *MACHINE, *python_places()]),
        devices=existing(DEVICES),
        max_files=MOST_FILES,
        max_file_size=0,
    )


if __name__ == "__main__":
    sys.exit(main(lambda job: apply(policy(job))))
