"""Counts what happened: plain numbers that every request adds to, and that a scrape reads.

The one rule: nothing a stranger wrote becomes a label. Routes are patterns, models are the names under which they are
listed (``unknown`` before one was found), everything else is a word of ours; keys, addresses and ids do not appear. So
the number of series is bounded by the number of models that there are: those of servers that left are forgotten.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from time import monotonic_ns
from typing import NamedTuple, Protocol

from localmodels.core.chat import Usage
from localmodels.core.tasks import Task, TaskKind, TaskState
from localmodels.flows.visit import UNKNOWN
from localmodels.server.app import Outcome

SECOND = 1e9

# Upper bounds in seconds, those of OpenTelemetry's GenAI metrics (semantic conventions, gen-ai-metrics.md).
DURATION = tuple(0.01 * 2**step for step in range(14))
FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
EACH_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)

NOWHERE = "none"  # the route of what matched none


class Histogram:
    """How often a value fell under each bound; ``counts`` has one more, for what lies above the last.

    The counts take as much memory on the first day as in a year: of a list each would grow by itself, once it is large.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = array("Q", bytes(8 * (len(bounds) + 1)))
        self.total = 0.0

    def add(self, value: float) -> None:
        """One more."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def copy(self) -> Histogram:
        """As it is now."""
        other = Histogram(self.bounds)
        other.counts, other.total = self.counts[:], self.total
        return other


class Asked(NamedTuple):
    """What a request asked for: the labels of everything that is measured by model.

    ``server`` is empty where nobody had a place for it.
    """

    operation: str
    server: str
    model: str


class Ended(NamedTuple):
    """How a request ended. ``status`` is ``0`` where the client had left."""

    route: str
    method: str
    dialect: str
    status: int


class OfModel:
    """The figures of one kind of request to one model."""

    __slots__ = ("cached", "completion", "duration", "each_token", "first_token", "prompt", "waited")

    def __init__(self) -> None:
        self.duration: dict[str, Histogram] = {}  # by the code of the error, empty where there was none
        self.first_token = Histogram(FIRST_TOKEN)
        self.each_token = Histogram(EACH_TOKEN)
        self.waited = Histogram(DURATION)
        self.prompt = self.cached = self.completion = 0

    def tokens(self, usage: Usage) -> None:
        """Adds what an answer took."""
        self.prompt += usage.prompt_tokens
        self.cached += usage.cached_tokens
        self.completion += usage.completion_tokens

    def copy(self) -> OfModel:
        """As they are now."""
        other = OfModel()
        other.duration = {code: histogram.copy() for code, histogram in self.duration.items()}
        other.first_token, other.each_token = self.first_token.copy(), self.each_token.copy()
        other.waited = self.waited.copy()
        other.prompt, other.cached, other.completion = self.prompt, self.cached, self.completion
        return other


class Door(Protocol):
    """What connections come to: those that are open, and refusals that no route saw, by the code of the error."""

    @property
    def open(self) -> int: ...

    @property
    def refusals(self) -> Mapping[str, int]: ...


class Shut(NamedTuple):
    """A :class:`Door` as it was."""

    open: int
    refusals: Mapping[str, int]


class Meter:
    """A :data:`~localmodels.server.app.Watcher` that counts.

    Args:
        clock: monotonic nanoseconds.
    """

    def __init__(self, clock: Callable[[], int] = monotonic_ns) -> None:
        self._clock = clock
        self.ended: Counter[Ended] = Counter()
        self.refused: Counter[str] = Counter()
        self.models: dict[Asked, OfModel] = {}
        self.tasks: Counter[tuple[TaskKind, TaskState]] = Counter()
        self.edge: Door | None = None  # while the server serves

    def copy(self) -> Meter:
        """All of it at one moment, for a thread that takes its time over it."""
        other = Meter(self._clock)
        other.ended, other.refused, other.tasks = self.ended.copy(), self.refused.copy(), self.tasks.copy()
        other.models = {asked: figures.copy() for asked, figures in self.models.items()}
        other.edge = self.edge and Shut(self.edge.open, dict(self.edge.refusals))
        return other

    def keep(self, servers: Collection[str]) -> None:
        """Forgets what was asked of all other servers: they have left, or have another name."""
        for asked in [asked for asked in self.models if asked.server and asked.server not in servers]:
            del self.models[asked]

    def watch(self, edge: Door) -> None:
        """Looks at these connections too."""
        self.edge = edge

    def task_ended(self, task: Task) -> None:
        """One task ended, in whatever way."""
        self.tasks[task.kind, task.state] += 1

    def __call__(self, outcome: Outcome) -> None:
        """One request ended."""
        row, visit = outcome.row, outcome.visit
        method = outcome.method if row else ""  # without a row it is any word that a stranger wrote
        self.ended[Ended(row.path if row else NOWHERE, method, visit.dialect, outcome.status)] += 1
        error = visit.error.code if visit.error else ""
        if error:
            self.refused[error] += 1
        if not visit.operation:
            return
        asked = Asked(visit.operation, visit.server, visit.label or UNKNOWN)
        figures = self.models.get(asked)
        if figures is None:
            figures = self.models[asked] = OfModel()
        durations = figures.duration.get(error)
        if durations is None:
            durations = figures.duration[error] = Histogram(DURATION)
        durations.add((self._clock() - visit.started) / SECOND)
        if visit.admitted:
            figures.waited.add((visit.admitted - visit.started) / SECOND)
        if visit.first:
            figures.first_token.add((visit.first - visit.started) / SECOND)
        if visit.usage is not None:
            figures.tokens(visit.usage)
            if visit.usage.completion_tokens > 1 and visit.last > visit.first:
                figures.each_token.add((visit.last - visit.first) / SECOND / (visit.usage.completion_tokens - 1))
