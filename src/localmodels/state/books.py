"""Everything that is written, by one thread: opened when it is first needed, and imported then (see ``state``)."""

from __future__ import annotations

from pathlib import Path
from time import time_ns

from localmodels.state.engine import open_engine
from localmodels.state.files import RESPONSES, STATE
from localmodels.state.keys import Keys
from localmodels.state.responses import Responses
from localmodels.state.tasks import Tasks
from localmodels.state.usage import Usage


class Books:
    """Keys, usage and tasks; with :meth:`responses`, the stored responses.

    Args:
        home: directory of the files.
        quota: bytes that all stored responses together may take.
    """

    def __init__(self, home: Path, quota: int = 0) -> None:
        self._home = home
        self._quota = quota
        engine = open_engine(home, STATE)
        self._engines = [engine]
        self.keys = Keys(engine)
        self.usage = Usage(engine)
        self.tasks = Tasks(engine)
        self._responses: Responses | None = None

    def responses(self) -> Responses:
        """The stored responses; their file is made by the first who asks."""
        if self._responses is None:
            engine = open_engine(self._home, RESPONSES)
            self._engines.append(engine)
            self._responses = Responses(engine, self._quota, time_ns)
        return self._responses

    def close(self) -> None:
        """Gives back the files."""
        for engine in self._engines:
            engine.dispose()
