"""What the scheduler remembers of a runner and of a request that waits. Only the scheduler changes these.

The rule: a runner answers whom it was built for. :meth:`Runner.serves` is the one place that says which request may use
which runner; a smaller context than the loaded one is served, a larger one never.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf

import msgspec
from msgspec import Struct

from localmodels.core import fair
from localmodels.engine.scheduler.states import State
from localmodels.engine.scheduler.values import Need, RunnerView, Ticket

IN_SERVICE = (State.STARTING, State.READY)
# How much one observed service time weighs in the running mean.
WEIGHT = 0.2


class Waiting(Struct):
    """A request in the queue.

    Attributes:
        arrived: when it came.
        since: since when no runner in service could answer it. A model that has to give up its runner starts again
            here, or it would take the room back before the one for whom it was made.
    """

    ticket: Ticket
    arrived: float
    since: float


class Line(fair.Line[Waiting]):
    """The queue of one model, by request id; kept as long as the model has a runner or somebody waits for one."""


class Runner(Struct, eq=False):
    """One runner, from the decision to start it until its memory is free again.

    Attributes:
        busy: whom it answers: request id → when it was admitted.
        idle_since: when the last of them left, or when it became ready.
        service: running mean of the seconds that it answers a request for; None before the first has ended.
    """

    id: str
    ticket: Ticket
    memory: int
    context: int
    keep_alive: float
    started: float
    idle_since: float
    state: State = State.STARTING
    ready_at: float = inf
    parallel: int = 1
    busy: dict[str, float] = msgspec.field(default_factory=dict)
    service: float | None = None

    @property
    def model(self) -> str:
        """Key of the model that it has loaded."""
        return self.ticket.model_key

    @property
    def in_service(self) -> bool:
        """Takes requests, or will when it has loaded."""
        return self.state in IN_SERVICE

    @property
    def pinned(self) -> bool:
        """Asked to stay for ever."""
        return self.keep_alive < 0

    @property
    def expires_at(self) -> float | None:
        """When it leaves if nobody asks; None while it is not idle."""
        if self.state is not State.READY or self.busy:
            return None
        return inf if self.pinned else self.idle_since + self.keep_alive

    def serves(self, need: Need) -> bool:
        """Can it answer this, once it is ready and has a place?"""
        options = self.ticket.need.options
        return (need.context is None or need.context <= self.context) and need.options in {None, options}

    def answers(self, waiting: Waiting) -> bool:
        """Can it answer this one, likewise?"""
        return self.serves(waiting.ticket.need)

    def awaited(self, lines: Mapping[str, Line]) -> bool:
        """Does anybody in the queue count on it?"""
        line = lines.get(self.model)
        return line is not None and any(map(self.answers, line.values()))

    def idle(self, lines: Mapping[str, Line]) -> bool:
        """May it be stopped now? It answers nobody and, if it still loads, nobody waits for that."""
        if self.busy or self.state is State.STOPPING:
            return False
        return self.state is not State.STARTING or not self.awaited(lines)

    def took(self, seconds: float) -> None:
        """A request was answered in this time."""
        self.service = seconds if self.service is None else self.service + WEIGHT * (seconds - self.service)

    def view(self, queued: int) -> RunnerView:
        """What can be seen of it."""
        return RunnerView(
            runner_id=self.id,
            model_key=self.model,
            state=self.state,
            memory=self.memory,
            context=self.context,
            parallel=self.parallel,
            busy=len(self.busy),
            queued=queued,
            keep_alive=self.keep_alive,
            expires_at=self.expires_at,
        )


def of_model(runners: Iterable[Runner], model: str) -> list[Runner]:
    """Those that hold this model, in any state."""
    return [runner for runner in runners if runner.model == model]
