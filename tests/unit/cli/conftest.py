"""A world for commands: a server in this process, a terminal that is a script, a clock that stands."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.unit.client.fake_server import FakeServer

from localmodels.cli import main
from localmodels.cli.world import Started, World
from localmodels.client._sync import Httpx

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


class Stream(io.StringIO):
    """Text in memory that says whether it is a terminal."""

    def __init__(self, text: str = "", *, terminal: bool = False) -> None:
        super().__init__(text)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@dataclass
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str
    prompts: list[str]


@dataclass
class Shell:
    """Runs commands.

    Attributes:
        waits: how often a verb may wait; then it is interrupted.
        waited: the seconds, each time.
        meanwhile: what happens while it waits, one after the other.
    """

    home: Path
    server: FakeServer = field(default_factory=FakeServer)
    environ: dict[str, str] = field(default_factory=dict)
    started: list[Path] = field(default_factory=list)
    waits: int = 0
    waited: list[float] = field(default_factory=list)
    meanwhile: list[Callable[[], object]] = field(default_factory=list)

    def __call__(
        self,
        *words: str,
        piped: str | None = None,
        typed: Iterable[str | type[BaseException]] = (),
        secrets: Iterable[str | type[BaseException]] = (),
        terminal: bool = False,
    ) -> Result:
        """Runs one: ``piped`` into it or ``typed`` at a terminal; an exception among the lines is raised there."""
        out, err = Stream(terminal=terminal), Stream(terminal=terminal)
        script, prompts = iter(typed), list[str]()
        world = World(
            environ={"LOCALMODELS_HOME": str(self.home), **self.environ},
            stdin=Stream(piped or "", terminal=piped is None),
            out=out,
            err=err,
            now=lambda: NOW,
            read_line=self._reader(script, prompts),
            read_secret=self._reader(secrets, prompts),
            carry=lambda url, headers, timeout: Httpx(url, headers, timeout, self.server.transport),
            wait=self._wait,
            start=self._start,
        )
        return Result(main(list(words), world), out.getvalue(), err.getvalue(), prompts)

    def _wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.waits -= 1
        if self.waits <= 0:
            raise KeyboardInterrupt
        if self.meanwhile:
            self.meanwhile.pop(0)()

    def _start(self, log: Path) -> Started:
        self.started.append(log)
        self.server.there = lambda url: url.port == 4711
        return Started("http://127.0.0.1:4711", 99)

    @staticmethod
    def _reader(script: Iterable[str | type[BaseException]], prompts: list[str]) -> Callable[[str], str]:
        lines = iter(script)

        def read_line(prompt: str) -> str:
            prompts.append(prompt)
            line = next(lines, EOFError)
            if isinstance(line, str):
                return line
            raise line

        return read_line


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "home")
