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
    RunnerExited,
    RunnerFailed,
    RunnerReady,
    Scheduler,
    State,
)
from localmodels.engine.scheduler.plan import Planner
from localmodels.engine.scheduler.runners import Runner, Waiting
from localmodels.engine.scheduler.values import StopReason, Ticket

EVENTS = int(os.environ.get("LOCALMODELS_SIMULATION_EVENTS", "100000"))
LIVES = 4 * len(PROFILES)


def simulate_all(events: int, build: Callable[[Limits], Scheduler] = Scheduler) -> Counter[str]:
    """``LIVES`` lives, each with a seed of its own and its share of the events."""
    return sum((simulate(seed, events // LIVES, build) for seed in range(LIVES)), Counter())


def test_every_request_ends_in_time_whatever_happens() -> None:
    seen = simulate_all(EVENTS)
    events = ("Submit", "Cancel", "Finished", "RunnerReady", "RunnerFailed", "RunnerExited", "Unload", "MemoryChanged")
    assert sum(seen[event] for event in (*events, "Drain", "Tick")) >= EVENTS
    outcomes = ("Start", "Stop", "Admit", "OutOfMemory", "QueueFull", "ShuttingDown", "LoadFailed", "Unavailable")
    assert all(seen[word] for word in (*events, *outcomes)), seen


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
            line: list[Waiting] = list(self._lines.get(runner.model, {}).values())
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


def _fields(limits: Limits) -> dict[str, Any]:
    return {name: getattr(limits, name) for name in limits.__struct_fields__}


DEFECTS = (StopsTheBusy, Starves, CountsStoppingAsFree, NeverReprieves, ForgetsOwnRunner, ForgetsToWake,
           ForgetsCancelOfQueued, SleepsThroughExit, AdmitsTwice, NeverExpires, IgnoresContext, LeaksMemoryOfTheFailed,
           BoundOffByOne, PlacesOffByOne, ForgetsDeadlines, BlocksTheLine, KeepsTheFirstKeepAlive, KeepsOrphans,
           WaitsForTheHung)  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_world_notices(defect: type[Scheduler | Planner]) -> None:
    def build(limits: Limits) -> Scheduler:
        return Scheduler(limits, defect) if issubclass(defect, Planner) else defect(limits)

    with pytest.raises((Broken, KeyError)):
        simulate_all(40_000, build)
