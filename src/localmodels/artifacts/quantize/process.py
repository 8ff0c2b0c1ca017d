"""The child that quantises, seen from outside; see :class:`~localmodels.artifacts.worker.Worker`."""

from __future__ import annotations

from localmodels.artifacts.quantize.job import Job
from localmodels.artifacts.worker import Worker

MODULE = "localmodels.artifacts.quantize"


class Quantizer(Worker):
    """One job in a child process; a context manager that ends the child.

    Args:
        job: what is to be done.
        module: what the child runs. The default has all rights of this process; whoever can confine it gives a module
            of his own, which calls :func:`localmodels.artifacts.quantize.child.main`.

    Raises:
        EngineError: it could not be started.
    """

    def __init__(self, job: Job, *, module: str = MODULE) -> None:
        super().__init__(job, module=module, doing="quantizes")
