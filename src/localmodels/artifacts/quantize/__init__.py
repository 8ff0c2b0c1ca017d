"""GGUF files made smaller: :func:`plan` says what a file would become, a :class:`Quantizer` makes it in a child.

::

    target = read_file_type("Q4_K_M")
    made = plan(path, target)                                  # refuses what cannot be done; made.size is the new size
    with Quantizer(Job(str(path), target.name, threads=4)) as quantizer:
        for piece in quantizer.pieces():                       # the new file's bytes, in order
            file.write(piece)
"""

from localmodels.artifacts.quantize.file_types import TARGETS, FileType, read_file_type
from localmodels.artifacts.quantize.job import Job
from localmodels.artifacts.quantize.plan import Plan, plan
from localmodels.artifacts.quantize.process import Quantizer

__all__ = ["TARGETS", "FileType", "Job", "Plan", "Quantizer", "plan", "read_file_type"]
