"""The child that looks at uploads, behind the same walls as a runner: ``python -I -m localmodels.engine.inspector``.

It parses what a stranger wrote, so it may read that one folder and its own libraries, and write to the pipe that it was
given: no file, no network, no other program (threats V-11, V-15, V-16).
"""

from __future__ import annotations

import sys

from localmodels.artifacts.inspection.child import main
from localmodels.artifacts.inspection.job import Job
from localmodels.engine.confine import Policy, apply
from localmodels.engine.confine.policy import DEVICES, LIBRARIES, MACHINE, existing, python_places


def policy(job: Job) -> Policy:
    """The rights of one job."""
    return Policy(
        read=existing([job.root, *LIBRARIES, *MACHINE, *python_places()]),
        devices=existing(DEVICES),
        max_file_size=0,
    )


if __name__ == "__main__":
    sys.exit(main(lambda job: apply(policy(job))))
