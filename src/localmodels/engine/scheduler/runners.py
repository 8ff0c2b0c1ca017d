"""What the scheduler remembers of a runner and of a request that waits. Only the scheduler changes these.

The rule: a runner answers whom it was built for. :meth:`Runner.serves` is the one place that says which request may use
which runner; a smaller context than the loaded one is served, a larger one never.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf

import msgspec
from msgspec import Struct

from localmodels.engine.scheduler.states import State
from localmodels.engine.scheduler.values import Need, RunnerView, Ticket

IN_SERVICE = (State.STARTING, State.READY)


class Waiting(Struct):
    """A request in the queue.

    Attributes:
        arrived: when it came; the queue of a model is in this order.
        since: since when no runner in service could answer it. A model that has to give up its runner starts again
            here, or it would take the room back before the one for whom it was made.
    """

    ticket: Ticket
    arrived: float
    since: float


Line = dict[str, Waiting]  # the queue of one model, by request id, in order of arrival


class Runner(Struct, eq=False):
    """One runner, from the decision to start it until its memory is free again.

    Attributes:
        busy: whom it answers: request id → when it was admitted.
        idle_since: when the last of them left, or when it became ready.
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

    def awaited(self, lines: Mapping[str, Line]) -> bool:
        """Does anybody in the queue count on it?"""
        return any(self.serves(waiting.ticket.need) for waiting in lines.get(self.model, {}).values())

    def idle(self, lines: Mapping[str, Line]) -> bool:
        """May it be stopped now? It answers nobody and, if it still loads, nobody waits for that."""
        if self.busy or self.state is State.STOPPING:
            return False
        return self.state is not State.STARTING or not self.awaited(lines)

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
