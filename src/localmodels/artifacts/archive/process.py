"""The child that unpacks, seen from outside; see :class:`~localmodels.artifacts.worker.Worker`.

The rule: it may take its time, but it may not be silent; and what it says is read by :mod:`.transcript`, which believes
nothing of it.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator

from localmodels.artifacts.archive.job import Job, Outline
from localmodels.artifacts.archive.transcript import Entry, Transcript
from localmodels.artifacts.worker import Worker
from localmodels.core.errors import EngineError

MODULE = "localmodels.artifacts.archive"
PATIENCE = 30.0  # seconds; while it works, the child says something every quarter of one


def _unheard(_done: int) -> None:
    """Where nobody asks how far it is."""


class Extractor(Worker):
    """One archive in a child process; a context manager that ends the child.

    ::

        with Extractor(Job(path, "model.zip", most_bytes=2**34), module=CHILD) as extractor:
            outline = extractor.outline()           # refuses what is not good; outline.size is what will be written
            for entry in extractor.entries():       # in the archive's order
                for piece in entry.pieces:
                    file.write(piece)
        # whoever gets here has all of it, whole

    Args:
        job: what is to be done.
        module: what the child runs. The default has all rights of this process; whoever can confine it gives a module
            of his own, which calls :func:`localmodels.artifacts.archive.child.main`.
        patience: seconds without a word after which the child is killed.
        seen: is told how many bytes of the archive were worked through, each of them up to twice; called by whoever
            asks for the outline or the entries, while they wait.

    Raises:
        EngineError: it could not be started.
    """

    def __init__(
        self,
        job: Job,
        *,
        module: str = MODULE,
        patience: float = PATIENCE,
        seen: Callable[[int], None] = _unheard,
    ) -> None:
        super().__init__(job, module=module, doing="unpacks")
        self._patience = patience
        self._waiting = select.poll()  # select.select has no descriptors above 1,023
        self._waiting.register(self._stdout, select.POLLIN)
        self._transcript = Transcript(self._more, job.most_bytes, seen)

    def outline(self) -> Outline:
        """What will come out; waits until every entry was looked at. The same when it is asked again.

        Raises:
            InvalidRequest: the archive is not sound, an entry has no good name, or there is nothing of a model.
            Unsupported: an entry is what is never taken (a pickle, code, a link, an archive), or is encrypted.
            TooLarge: it is larger, or holds more, than may be.
            EngineError: the child died, said nothing for too long, or says what cannot be.
        """
        return self._transcript.outline()

    def entries(self) -> Iterator[Entry]:
        """The files as they come; waits for them. To be asked for once; it ends when all of them came whole.

        Raises:
            InvalidRequest, Unsupported, TooLarge, EngineError: as :meth:`outline`; also after some files came, which
                are to be thrown away then.
        """
        return self._transcript.entries()

    def _more(self) -> bytes:
        """What the child says next; nothing when it has ended well."""
        if not self._waiting.poll(self._patience * 1000):
            self.kill()
            raise EngineError(f"nothing came out of the archive for {self._patience:.0f} s; try again, or pack it anew")
        data = self._read()
        if not data:
            self._expect_success()
        return data
