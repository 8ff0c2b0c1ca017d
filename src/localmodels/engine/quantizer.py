"""The child that quantises a model, behind the same walls as a runner: ``python -I -m localmodels.engine.quantizer``.

It parses what a stranger wrote and lets C code compute with it, so it may read that one file and its own libraries,
and write to the pipe that it was given: no file, no network, no other program (threats V-37, V-40).
"""

from __future__ import annotations

import sys

from localmodels.artifacts.quantize.child import main
from localmodels.artifacts.quantize.job import Job
from localmodels.engine.confine import Policy, apply
from localmodels.engine.confine.policy import DEVICES, LIBRARIES, MACHINE, existing, python_places


def policy(job: Job) -> Policy:
    """The rights of one job."""
    return Policy(
        read=existing([job.source, *LIBRARIES, *MACHINE, *python_places()]),
        devices=existing(DEVICES),
        max_file_size=0,
    )


if __name__ == "__main__":
    sys.exit(main(lambda job: apply(policy(job))))
