"""Which runner is started next, and who makes room for it: one pass over all who wait, oldest first.

The rule: a plan is made anew from what is true now, and nothing is remembered from pass to pass but the states of the
runners. A runner is draining because somebody claims its room in this very pass; when nobody does, it is reprieved. So
no wait can hang on a promise that was made to a request which has left (the deadlocks of ollama #14407 and #17408).

Who waits takes room in this order: what is free; what is being freed; idle runners, least recently used first, those
pinned for ever last; and, once it has been patient for long enough, busy runners that have had their turn: those finish
what they have and take nobody new. What an older one has claimed a younger one cannot have, but as long as the older
one is neither served nor out of patience the younger may use what lies free.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import inf

from msgspec import Struct

from localmodels.engine.scheduler.runners import Line, Runner, Waiting
from localmodels.engine.scheduler.states import State
from localmodels.engine.scheduler.values import Limits, StopReason, Ticket

UNLIMITED = 1 << 62


class Room(Struct, frozen=True):
    """What a runner takes up: bytes, and a place among the loaded ones."""

    memory: int = 0
    places: int = 0

    def __add__(self, other: Room) -> Room:
        return Room(self.memory + other.memory, self.places + other.places)

    def __sub__(self, other: Room) -> Room:
        return Room(self.memory - other.memory, self.places - other.places)

    def covers(self, need: Room) -> bool:
        """Is there enough of both?"""
        return self.memory >= need.memory and self.places >= need.places

    def common(self, other: Room) -> Room:
        """What both have, at least nothing."""
        return Room(max(0, min(self.memory, other.memory)), max(0, min(self.places, other.places)))


def room_of(runners: Iterable[Runner]) -> Room:
    """What they take up together."""
    taken = [runner.memory for runner in runners]
    return Room(sum(taken), len(taken))


class Plan(Struct):
    """What the pass came to.

    Attributes:
        wake: when another pass will come to something else, even if nothing happens.
    """

    starts: list[Ticket]
    stops: list[tuple[Runner, StopReason]]
    drains: list[Runner]
    reprieves: list[Runner]
    wake: float = inf


class Planner:
    """The scratch pad of one pass; make one, call :meth:`plan`, throw it away. It changes nothing that it is given.

    Args:
        limits: as configured; ``memory`` is what is usable now instead of theirs.
        lines: the queue of each model.
        held_back: models that failed lately → when they may be started again.
    """

    def __init__(
        self,
        now: float,
        limits: Limits,
        memory: int,
        runners: Collection[Runner],
        lines: Mapping[str, Line],
        held_back: Mapping[str, float],
    ) -> None:
        self._now = now
        self._limits = limits
        self._runners = runners
        self._lines = lines
        self._held_back = held_back
        self._claimed: set[str] = set()
        self._plan = Plan([], [], [], [])
        # Three pots: free now, being freed by those that stop, freed when those that drain have finished.
        total = Room(memory, UNLIMITED if limits.max_loaded is None else limits.max_loaded)
        self._free = total - room_of(runners)
        self._soon = room_of(runner for runner in runners if runner.state is State.STOPPING)
        self._later = Room()
        self._may_start = limits.start_concurrency - sum(runner.state is State.STARTING for runner in runners)

    def plan(self) -> Plan:
        """Goes through all who wait."""
        self._pay_debt()
        wanting, content = self._sort_lines()
        for since, model in wanting:
            if not self._consider(model, since):
                break
        else:
            for model in content:
                if self._own(model) is None:  # it has just lost its runner to somebody above, and queues behind him
                    self._consider(model, self._now)
        self._plan.reprieves = [runner for runner in self._runners if self._reprieved(runner)]
        return self._plan

    def _pay_debt(self) -> None:
        """Idle runners leave when there is less memory than is taken; the last one stays, it would only come back."""
        short = -(self._free + self._soon).memory
        idle = self._idle() if short > 0 else []
        alive = sum(runner.state is not State.STOPPING for runner in self._runners)
        for runner in idle[: max(0, alive - 1)]:
            if short <= 0:
                return
            short -= runner.memory
            self._claim(runner, "memory pressure")

    def _sort_lines(self) -> tuple[list[tuple[float, str]], list[str]]:
        """Models with somebody whom no runner serves, oldest first; and the others."""
        wanting: list[tuple[float, str]] = []
        content: list[str] = []
        for model, line in self._lines.items():
            unserved = self._unserved(line, self._own(model))
            if unserved:
                wanting.append((min(waiting.since for waiting in unserved), model))
            elif line:
                content.append(model)
        return sorted(wanting), content

    def _consider(self, model: str, since: float) -> bool:
        """Finds room for a runner of this model; False when all that can be had is kept for it."""
        if self._held_back.get(model, self._now) > self._now:
            self._wake(self._held_back[model])
            return True
        own = self._own(model)
        unserved = self._unserved(self._lines[model], own)
        if not unserved:  # an older runner of this model that was draining serves them after all
            return True
        ticket = self._spokesman(unserved)
        victims = self._victims(ticket, own, since)
        if victims is None:
            return self._keep_waiting(ticket, since)
        for victim in victims:
            self._claim(victim, "replaced" if victim is own else "evicted")
        need = _need(ticket)
        if self._may_start > 0 and self._free.covers(need):
            self._may_start -= 1
            self._plan.starts.append(ticket)
        self._take(need)
        return True

    def _keep_waiting(self, ticket: Ticket, since: float) -> bool:
        """Not enough yet. Whoever is out of patience keeps what there is, so that nobody younger lives on his room."""
        patient_until = since + self._limits.patience
        self._wake(patient_until)
        for runner in self._runners:
            if runner.busy:
                self._wake(self._turn_ends(runner, since))
        if self._now < patient_until:
            return True
        need = _need(ticket)
        enough = (self._free + self._soon + self._later).covers(need)
        self._take(need)
        return enough

    def _victims(self, ticket: Ticket, own: Runner | None, since: float) -> list[Runner] | None:
        """Those who make room for it, perhaps nobody; None when it has to wait."""
        idle = self._idle()
        ripe = [runner for runner in self._busy() if self._now >= self._turn_ends(runner, since)]
        if own is not None and own not in idle and own not in ripe:
            return None
        forced = [own] if own is not None else []
        idle = [runner for runner in idle if runner is not own]
        ripe = [runner for runner in ripe if runner is not own]
        need, have = _need(ticket), self._free + self._soon
        chosen = choose(need, have, forced, idle)
        return chosen if chosen is not None else choose(need, have + self._later, forced, [*idle, *ripe])

    def _turn_ends(self, runner: Runner, since: float) -> float:
        """When a busy runner may be asked to make way for somebody who has waited since then."""
        return max(since, runner.ready_at) + self._limits.patience

    def _idle(self) -> list[Runner]:
        """Unclaimed and stoppable, in the order in which they go."""
        idle = [runner for runner in self._runners if runner.id not in self._claimed and runner.idle(self._lines)]
        return sorted(idle, key=lambda runner: (runner.pinned, runner.idle_since))

    def _busy(self) -> list[Runner]:
        """Unclaimed and answering somebody: who drains already goes first, then who has been loaded longest."""
        busy = [runner for runner in self._runners if runner.id not in self._claimed and runner.busy]
        return sorted(busy, key=lambda runner: (runner.state is State.READY, runner.pinned, runner.ready_at))

    def _own(self, model: str) -> Runner | None:
        """The runner that holds this model and that nobody has claimed; the youngest, if several of them drain."""
        own = None
        for runner in self._runners:
            if runner.model != model or runner.id in self._claimed:
                continue
            if runner.in_service:
                return runner
            if runner.state is State.DRAINING:
                own = runner
        return own

    @staticmethod
    def _unserved(line: Line, own: Runner | None) -> list[Waiting]:
        return [waiting for waiting in line.values() if own is None or not own.serves(waiting.ticket.need)]

    def _spokesman(self, unserved: Sequence[Waiting]) -> Ticket:
        """The one for whom the runner is started: the oldest, or who asks for more of the same where that lies free.

        A runner with the larger context serves both; two starts would be one too many.
        """
        best = first = min(unserved, key=lambda waiting: waiting.since).ticket
        for waiting in unserved:
            need = waiting.ticket.need
            larger = (need.context or 0) > (best.need.context or 0) and need.options == first.need.options
            if larger and self._free.covers(_need(waiting.ticket)):
                best = waiting.ticket
        return best

    def _claim(self, runner: Runner, reason: StopReason) -> None:
        self._claimed.add(runner.id)
        if runner.idle(self._lines):
            self._plan.stops.append((runner, reason))
            self._soon += room_of([runner])
        else:
            self._later += room_of([runner])
            if runner.state is State.READY:
                self._plan.drains.append(runner)

    def _take(self, need: Room) -> None:
        """Puts this much aside, from what comes first."""
        free = self._free.common(need)
        soon = self._soon.common(need - free)
        later = self._later.common(need - free - soon)
        self._free, self._soon, self._later = self._free - free, self._soon - soon, self._later - later

    def _reprieved(self, runner: Runner) -> bool:
        """Drains, but nobody claims it, and no other runner has taken its model over."""
        return (
            runner.state is State.DRAINING
            and self._own(runner.model) is runner
            and not any(ticket.model_key == runner.model for ticket in self._plan.starts)
        )

    def _wake(self, when: float) -> None:
        if when > self._now:
            self._plan.wake = min(self._plan.wake, when)


def choose(need: Room, have: Room, forced: Sequence[Runner], candidates: Sequence[Runner]) -> list[Runner] | None:
    """The first of the candidates that together with ``have`` cover the need, less those that turn out superfluous.

    ``forced`` are always among them. None when all of them are not enough.
    """
    chosen: list[Runner] = []
    room = have + room_of(forced)
    for candidate in candidates:
        if room.covers(need):
            break
        chosen.append(candidate)
        room += room_of([candidate])
    if not room.covers(need):
        return None
    needed = list(forced)
    for candidate in reversed(chosen):
        without = room - room_of([candidate])
        if without.covers(need):
            room = without
        else:
            needed.append(candidate)
    return needed


def _need(ticket: Ticket) -> Room:
    return Room(ticket.need.memory, 1)
