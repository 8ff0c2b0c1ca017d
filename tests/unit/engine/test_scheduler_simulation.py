"""The scheduler in a world that goes wrong, and proof that this world would notice.

``LOCALMODELS_SIMULATION_EVENTS=1000000`` makes it as long as one likes; the default is 100,000.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from math import inf
from typing import Any

import pytest
from tests.unit.engine.simulation import PROFILES, Broken, simulate

from localmodels.engine.scheduler import (
    Cancel,
    Finished,
    Limits,
    LimitsChanged,
    RunnerExited,
    RunnerFailed,
    RunnerReady,
    Scheduler,
    State,
)
from localmodels.engine.scheduler.plan import Planner
from localmodels.engine.scheduler.runners import Line, Runner, Waiting
from localmodels.engine.scheduler.values import StopReason, Ticket

EVENTS = int(os.environ.get("LOCALMODELS_SIMULATION_EVENTS", "100000"))
LIVES = 4 * len(PROFILES)


def simulate_all(events: int, build: Callable[[Limits], Scheduler] = Scheduler) -> Counter[str]:
    """``LIVES`` lives, each with a seed of its own and its share of the events."""
    return sum((simulate(seed, events // LIVES, build) for seed in range(LIVES)), Counter())


def test_every_request_ends_in_time_whatever_happens() -> None:
    seen = simulate_all(EVENTS)
    events = ("Submit", "Cancel", "Finished", "RunnerReady", "RunnerFailed", "RunnerExited", "Unload", "LimitsChanged")
    assert sum(seen[event] for event in (*events, "Drain", "Tick")) >= EVENTS
    outcomes = ("Start", "Stop", "Admit", "OutOfMemory", "QueueFull", "ShuttingDown", "LoadFailed", "Unavailable")
    assert all(seen[word] for word in (*events, *outcomes, "crowded out", "foreseen")), seen


# Defects, each of which the world must notice. They are made the way they would come about: a line forgotten.


class StopsTheBusy(Planner):
    def _claim(self, runner: Runner, reason: StopReason) -> None:
        self._claimed.add(runner.id)
        self._plan.stops.append((runner, reason))


class Starves(Planner):
    def _turn_ends(self, runner: Runner, since: float) -> float:
        return inf


class CountsStoppingAsFree(Planner):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._free += self._soon


class NeverReprieves(Planner):
    def _reprieved(self, runner: Runner) -> bool:
        return False


class ForgetsOwnRunner(Planner):
    def _own(self, model: str) -> Runner | None:
        own = super()._own(model)
        return own if own is None or own.state is not State.STARTING else None


class ForgetsToWake(Planner):
    def _wake(self, when: float) -> None:
        pass


class ForgetsCancelOfQueued(Scheduler):
    def _leave(self, event: Cancel | Finished, now: float) -> None:
        if event.request_id not in self._queued:
            super()._leave(event, now)


class SleepsThroughExit(Scheduler):
    def _exited(self, event: RunnerExited, now: float) -> None:
        if (runner := self._runners.get(event.runner_id)) is not None:
            self._remove(runner, now)


class AdmitsTwice(Scheduler):
    def _admit(self, ticket: Ticket, runner: Runner, now: float) -> None:
        super()._admit(ticket, runner, now)
        if self._queued:
            super()._admit(ticket, runner, now)


class NeverExpires(Scheduler):
    def _expire(self, now: float) -> None:
        pass


class IgnoresContext(Scheduler):
    def _free_place(self, ticket: Ticket) -> Runner | None:
        mine = [runner for runner in self._runners.values() if runner.model == ticket.model_key]
        return next((r for r in mine if r.state is State.READY and len(r.busy) < r.parallel), None)


class LeaksMemoryOfTheFailed(Scheduler):
    def _failed(self, event: RunnerFailed, now: float) -> None:
        runner = self._runners.get(event.runner_id)
        super()._failed(event, now)
        if runner is not None:
            self._runners[runner.id] = runner


class BoundOffByOne(Scheduler):
    def __init__(self, limits: Limits) -> None:
        super().__init__(Limits(**{**_fields(limits), "max_queue": limits.max_queue + 1}))


class PlacesOffByOne(Scheduler):
    def _ready(self, event: RunnerReady, now: float) -> None:
        super()._ready(RunnerReady(event.runner_id, event.parallel + 1, event.context, event.memory), now)


class ForgetsDeadlines(Scheduler):
    def _refuse_overdue(self, now: float) -> None:
        self._next_deadline = inf


class BlocksTheLine(Scheduler):
    """The first of a line who needs another runner holds up all behind him (ollama #14407)."""

    def _admit_waiting(self, now: float) -> None:
        for runner in self._runners.values():
            line: list[Waiting] = self._line(runner.model).values()
            while runner.state is State.READY and line and runner.serves(line[0].ticket.need):
                if len(runner.busy) >= runner.parallel:
                    break
                self._dequeue(line[0])
                self._admit(line.pop(0).ticket, runner, now)


class KeepsTheFirstKeepAlive(Scheduler):
    def _admit(self, ticket: Ticket, runner: Runner, now: float) -> None:
        kept = runner.keep_alive
        super()._admit(ticket, runner, now)
        runner.keep_alive = kept


class KeepsOrphans(Scheduler):
    """A dead runner's requests stay admitted."""

    def _remove(self, runner: Runner, now: float) -> None:
        runner.busy = {}
        super()._remove(runner, now)


class WaitsForTheHung(Scheduler):
    def _give_up_loads(self, now: float) -> None:
        pass


# Defects of fairness and of the bound.


class FirstComeFirstServed(Scheduler):
    """Whoever has most waiting is served most."""

    def _line(self, model: str) -> Line:
        return self._lines.setdefault(model, InOrderOfArrival())


class InOrderOfArrival(Line):
    def first(self, fits: Callable[[Waiting], bool] = lambda item: True) -> Waiting | None:
        return next((waiting for waiting in self.values() if fits(waiting)), None)


class LastComeFirstServed(Scheduler):
    def _line(self, model: str) -> Line:
        return self._lines.setdefault(model, NewestFirst())


class NewestFirst(Line):
    def first(self, fits: Callable[[Waiting], bool] = lambda item: True) -> Waiting | None:
        return next((waiting for waiting in reversed(self.values()) if fits(waiting)), None)


class NobodyPays(Scheduler):
    """Turns are not counted."""

    def _line(self, model: str) -> Line:
        return self._lines.setdefault(model, Unpaid())


class Unpaid(Line):
    def served(self, caller: str, weight: int = 1) -> None:
        pass


class LeavingCosts(Scheduler):
    """Who hangs up pays as if he had been served."""

    def _leave(self, event: Cancel | Finished, now: float) -> None:
        if isinstance(event, Cancel) and (waiting := self._queued.get(event.request_id)) is not None:
            self._line(waiting.ticket.model_key).served(waiting.ticket.caller, waiting.ticket.weight)
        super()._leave(event, now)


class RefusesTheNewcomer(Scheduler):
    """A flood keeps everybody else out."""

    def _crowd_out(self, ticket: Ticket) -> bool:
        return False


class PushesOutEquals(Scheduler):
    """Two callers push each other out in turns, and nobody waits to the end."""

    def _line(self, model: str) -> Line:
        return self._lines.setdefault(model, Envious())


class Envious(Line):
    def surplus(self, caller: str) -> Waiting | None:
        others = [waiting for waiting in self.values() if waiting.ticket.caller != caller]
        return others[-1] if others else None


class PushesOutTheOldest(Scheduler):
    """Who has waited for longest goes, and has waited for nothing."""

    def _crowd_out(self, ticket: Ticket) -> bool:
        line = self._line(ticket.model_key)
        if (loser := line.surplus(ticket.caller)) is None:
            return False
        oldest = next(one for one in line.values() if one.ticket.caller == loser.ticket.caller)
        self._dequeue(oldest)
        self._refuse(oldest.ticket, self._queue_full(ticket))
        return True


class ForgetsTheCrowdedOut(Scheduler):
    """Nobody tells him."""

    def _crowd_out(self, ticket: Ticket) -> bool:
        loser = self._line(ticket.model_key).surplus(ticket.caller)
        if loser is not None:
            self._dequeue(loser)
        return loser is not None


class CrowdsTheLine(Scheduler):
    """The newcomer comes in, and nobody goes for it."""

    def _crowd_out(self, ticket: Ticket) -> bool:
        return self._line(ticket.model_key).surplus(ticket.caller) is not None


class OneBoundForAll(Scheduler):
    """The bound is one model's, and counted over all of them."""

    def _waiting_for(self, model: str) -> int:
        return len(self._queued)


class KeepsTheOldBound(Scheduler):
    """Another bound was set, and nothing comes of it."""

    def _limits_changed(self, event: LimitsChanged, now: float) -> None:
        limits = Limits(**{**_fields(event.limits), "max_queue": self._limits.max_queue})
        super()._limits_changed(LimitsChanged(limits), now)


class ForeseesTheWorst(Scheduler):
    """Refuses for a wait that nobody can know."""

    def _foreseen(self, ticket: Ticket) -> float:
        return 60.0


class RemembersEverybody(Scheduler):
    def _forget_line(self, model: str) -> None:
        pass


def _fields(limits: Limits) -> dict[str, Any]:
    return {name: getattr(limits, name) for name in limits.__struct_fields__}


DEFECTS = (StopsTheBusy, Starves, CountsStoppingAsFree, NeverReprieves, ForgetsOwnRunner, ForgetsToWake,
           ForgetsCancelOfQueued, SleepsThroughExit, AdmitsTwice, NeverExpires, IgnoresContext, LeaksMemoryOfTheFailed,
           BoundOffByOne, PlacesOffByOne, ForgetsDeadlines, BlocksTheLine, KeepsTheFirstKeepAlive, KeepsOrphans,
           WaitsForTheHung, FirstComeFirstServed, LastComeFirstServed, NobodyPays, LeavingCosts,
           RefusesTheNewcomer, PushesOutEquals, PushesOutTheOldest, ForgetsTheCrowdedOut, CrowdsTheLine, OneBoundForAll,
           KeepsTheOldBound, ForeseesTheWorst, RemembersEverybody)  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_world_notices(defect: type[Scheduler | Planner]) -> None:
    def build(limits: Limits) -> Scheduler:
        return Scheduler(limits, defect) if issubclass(defect, Planner) else defect(limits)

    with pytest.raises((Broken, KeyError)):
        simulate_all(40_000, build)
