"""The child that converts, seen from outside; see :class:`~localmodels.artifacts.worker.Worker`."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator

import msgspec

from localmodels.artifacts.convert.job import Job, Outline
from localmodels.artifacts.worker import Worker
from localmodels.core.errors import EngineError, Unsupported

MODULE = "localmodels.artifacts.convert"
LONGEST_OUTLINE = 2**21  # licences are in it
PATIENCE = 60.0  # seconds; the largest vocabularies take 3 on a slow machine
SILENCE = 120.0  # seconds between two pieces; a large matrix takes 4 to be merged, and the child gives way to others


class Converter(Worker):
    """One job in a child process; a context manager that ends the child.

    ::

        with Converter(Job(files, "Q4_K_M", "tiny", threads=4)) as converter:
            outline = converter.outline()           # refuses what cannot be done; outline.size is the file's
            for piece in converter.pieces():        # its bytes, in order
                file.write(piece)

    Args:
        job: what is to be done.
        module: what the child runs. The default has all rights of this process; whoever can confine it gives a module
            of his own, which calls :func:`localmodels.artifacts.convert.child.main`.
        silence: seconds without a byte after which the child is killed.

    Raises:
        EngineError: it could not be started.
    """

    def __init__(self, job: Job, *, module: str = MODULE, silence: float = SILENCE) -> None:
        super().__init__(job, module=module, doing="converts")
        self._begun = b""
        self._silence = silence

    def outline(self, *, patience: float = PATIENCE) -> Outline:
        """What the file will be; waits for it. To be asked for once, before the pieces.

        Args:
            patience: seconds after which the child is killed.

        Raises:
            ModelDamaged: the folder is not sound.
            Unsupported: it cannot be converted, or takes too long to look at.
            InvalidRequest: there is no such file type.
            EngineError: the child died.
        """
        until = time.monotonic() + patience
        while b"\n" not in self._begun:
            if not self._has_more(until - time.monotonic()):
                self.kill()
                raise Unsupported(f"the model was not understood within {patience:.0f} s")
            data = self._read()
            self._begun += data
            if not data or len(self._begun) > LONGEST_OUTLINE:
                self._expect_success()
                raise EngineError("the process that converts did not say what it will write")
        line, _, self._begun = self._begun.partition(b"\n")
        return msgspec.json.decode(line, type=Outline)

    def pieces(self) -> Iterator[bytes]:
        """The file as it comes; waits for it.

        Raises:
            ModelDamaged: the folder has weights that are no numbers, or has changed.
            EngineError: the child died, or gave nothing for too long.
        """
        if self._begun:
            yield self._begun
            self._begun = b""
        yield from super().pieces()

    def _read(self) -> bytes:
        if not self._has_more(self._silence):
            self.kill()
            raise EngineError(f"the process that converts gave nothing for {self._silence:.0f} s, and was ended")
        return super()._read()

    def _has_more(self, seconds: float) -> bool:
        """Are there bytes to read, or their end? Waits so long for it."""
        poll = select.poll()  # select() would refuse the descriptors of a busy server
        poll.register(self._stdout, select.POLLIN)
        return bool(poll.poll(max(seconds, 0.0) * 1000))
