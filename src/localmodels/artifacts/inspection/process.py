"""The child that inspects, seen from outside; see :class:`~localmodels.artifacts.worker.Worker`."""

from __future__ import annotations

import select
import time

import msgspec

from localmodels.artifacts.inspection.job import Findings, Job
from localmodels.artifacts.worker import Worker
from localmodels.core.errors import EngineError

MODULE = "localmodels.artifacts.inspection"
LONGEST_ANSWER = 2**20
PATIENCE = 60.0  # seconds; the heads of the largest models take 2 on a slow machine


class Inspector(Worker):
    """One job in a child process; a context manager that ends the child.

    Args:
        job: what is to be looked at.
        module: what the child runs. The default has all rights of this process; whoever can confine it gives a module
            of his own, which calls :func:`localmodels.artifacts.inspection.child.main`.

    Raises:
        EngineError: it could not be started.
    """

    def __init__(self, job: Job, *, module: str = MODULE) -> None:
        super().__init__(job, module=module, doing="looks at what was uploaded")

    def findings(self, *, patience: float = PATIENCE) -> Findings:
        """What it is; waits for it. To be asked for once.

        Args:
            patience: seconds after which the child is killed.

        Raises:
            InvalidRequest: it is nothing that can become a model.
            ModelDamaged: a file is not sound, or one is missing.
            Unsupported: a file is something else than its name says.
            EngineError: the child died, or took too long.
        """
        until, answer = time.monotonic() + patience, b""
        waiting = select.poll()  # select.select has no descriptors above 1,023
        waiting.register(self._stdout, select.POLLIN)
        while True:
            if not waiting.poll(max(until - time.monotonic(), 0) * 1000):
                self.kill()
                raise EngineError(f"what was uploaded was not understood within {patience:.0f} s; try again")
            data = self._read()
            answer += data
            if not data or len(answer) > LONGEST_ANSWER:
                break
        self._expect_success()
        try:
            return msgspec.json.decode(answer, type=Findings)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise EngineError(f"the process that looks at what was uploaded gave no answer ({error})") from error
