"""The scheduler: one object that owns who is loaded and who waits, and nothing else.

The rule: an event changes the values, then everything is settled again from them (:meth:`Scheduler._settle`), in one
order: refuse who has waited too long, admit, let expire, make room. No decision waits for another to be carried out, so
a request for a loaded model never waits for somebody else's load (ollama #5724), and no event can find it waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, inf
from typing import Any

from msgspec import Struct

from localmodels.core.errors import (
    LoadFailed,
    LocalModelsError,
    OutOfMemory,
    QueueFull,
    RunnerDied,
    ShuttingDown,
    Unavailable,
)
from localmodels.engine.scheduler.plan import Planner
from localmodels.engine.scheduler.runners import Line, Runner, Waiting, of_model
from localmodels.engine.scheduler.states import State, Trigger, step
from localmodels.engine.scheduler.values import (
    Admit,
    Cancel,
    Decision,
    Drain,
    Event,
    Finished,
    Limits,
    LimitsChanged,
    Refuse,
    RunnerExited,
    RunnerFailed,
    RunnerReady,
    Snapshot,
    Start,
    Stop,
    StopReason,
    Submit,
    Tick,
    Ticket,
    Unload,
)

# A model that failed is started again at once for the next request; one that keeps failing after this many seconds,
# doubled with each failure. Failures further apart than STEADY are not one series.
BACK_OFF, LONGEST_BACK_OFF, STEADY = 0.5, 4.0, 60.0
# Retry-After, in seconds; the lower bound because the header has no smaller unit.
SHORTEST_RETRY, LONGEST_RETRY = 1.0, 60.0
# What a request is said to take where none has ended yet, in seconds.
GUESS = 1.0


class Trouble(Struct, frozen=True):
    """A model that failed ``count`` times in a row, last ``at``, and is left alone ``until``."""

    count: int
    at: float
    until: float


class Scheduler:
    """Events in, decisions out. See the package docstring for who may hold one.

    Args:
        limits: what there is to share out.
        planner: who makes room for whom; another policy, or a broken one to prove the tests with, goes here.
    """

    def __init__(self, limits: Limits, planner: type[Planner] = Planner) -> None:
        self._limits = limits
        self._planner = planner
        self._runners: dict[str, Runner] = {}
        self._lines: dict[str, Line] = {}
        self._queued: dict[str, Waiting] = {}
        self._admitted: dict[str, Runner] = {}
        self._troubles: dict[str, Trouble] = {}
        self._closing = False
        self._started = 0
        self._next_deadline = inf
        self._plan_wake = inf
        self._decisions: list[Decision] = []
        self._on: dict[type[Any], Callable[[Any, float], None]] = {
            Submit: self._submit,
            Cancel: self._leave,
            Finished: self._leave,
            RunnerReady: self._ready,
            RunnerFailed: self._failed,
            RunnerExited: self._exited,
            Unload: self._unload,
            LimitsChanged: self._limits_changed,
            Drain: self._drain,
            Tick: lambda _event, now: self._settle(now),
        }

    def handle(self, event: Event, now: float) -> list[Decision]:
        """Takes note of what happened and says what to do about it, in this order.

        Reports about requests and runners that are no longer known are late, not wrong, and change nothing.

        Raises:
            ValueError: a Submit whose request id is still in use.
        """
        self._decisions = []
        self._on[type(event)](event, now)
        return self._decisions

    def next_wake(self, now: float) -> float | None:
        """When to hand in a Tick if nothing else happens before; None for never. Not earlier than ``now``."""
        wakes = [self._next_deadline, self._plan_wake]
        for runner in self._runners.values():
            if runner.state is State.STARTING:
                wakes.append(runner.started + self._limits.load_timeout)
            elif (expires := runner.expires_at) is not None:
                wakes.append(expires)
        first = min(wakes)
        return None if first == inf else max(first, now)

    def snapshot(self) -> Snapshot:
        """How things stand."""
        return Snapshot(
            runners=tuple(runner.view(self._waiting_for(runner.model)) for runner in self._runners.values()),
            waiting=len(self._queued),
            memory=self._taken(),
            memory_limit=self._limits.memory,
            draining=self._closing,
        )

    # What happened to requests.

    def _submit(self, event: Submit, now: float) -> None:
        ticket = event.ticket
        if ticket.request_id in self._queued or ticket.request_id in self._admitted:
            raise ValueError(f"request {ticket.request_id!r} is already here")
        if now >= self._next_deadline:  # a Tick is due: the bound of the queue counts only who may still wait
            self._settle(now)
        if self._closing:
            self._refuse(ticket, ShuttingDown("The server is shutting down"))
        elif (runner := self._free_place(ticket)) is not None:
            self._admit(ticket, runner, now)
        elif ticket.need.memory > self._limits.memory:
            self._refuse(ticket, OutOfMemory(ticket.need.memory, self._limits.memory))
        elif (wait := self._foreseen(ticket)) > self._limits.max_wait:
            self._refuse(ticket, self._too_long(wait))
        elif self._waiting_for(ticket.model_key) < self._limits.max_queue or self._crowd_out(ticket):
            self._enqueue(Waiting(ticket, arrived=now, since=now))
            self._settle(now)
        else:
            self._refuse(ticket, self._queue_full(ticket))

    def _leave(self, event: Cancel | Finished, now: float) -> None:
        """Cancelled or finished, queued or admitted: the place is free."""
        waiting = self._queued.get(event.request_id)
        runner = self._admitted.pop(event.request_id, None)
        if waiting is not None:
            self._dequeue(waiting)
        elif runner is not None:
            admitted = runner.busy.pop(event.request_id)
            runner.idle_since = now
            if isinstance(event, Finished):
                runner.took(now - admitted)
        else:
            return
        self._settle(now)

    # What happened to runners.

    def _ready(self, event: RunnerReady, now: float) -> None:
        runner = self._runners.get(event.runner_id)
        if runner is None or runner.state is not State.STARTING:
            return
        self._move(runner, Trigger.LOADED, now)
        runner.ready_at = runner.idle_since = now
        runner.parallel = max(1, event.parallel)
        runner.memory = event.memory or runner.memory
        promised, runner.context = runner.context, event.context
        if event.context < promised:
            self._refuse_deceived(runner, promised)
        self._settle(now)

    def _failed(self, event: RunnerFailed, now: float) -> None:
        """Gone without having been asked, or while it was being stopped."""
        runner = self._runners.get(event.runner_id)
        if runner is None:
            return
        if runner.state is not State.STOPPING:
            self._note_trouble(runner.model, now)
        if runner.state is State.STARTING:
            self._refuse_awaiting(runner, event.error)
        self._remove(runner, now)
        self._settle(now)

    def _exited(self, event: RunnerExited, now: float) -> None:
        runner = self._runners.get(event.runner_id)
        if runner is None:
            return
        if runner.state is State.STOPPING:
            self._remove(runner, now)
            self._settle(now)
        else:
            self._failed(RunnerFailed(event.runner_id, RunnerDied("the runner ended without being asked to")), now)

    # What happened to the world.

    def _unload(self, event: Unload, now: float) -> None:
        for runner in of_model(self._runners.values(), event.model_key):
            runner.keep_alive = 0.0
            if runner.state is State.STARTING and runner.idle(self._lines):
                self._stop(runner, "unloaded", now)
        self._settle(now)

    def _limits_changed(self, event: LimitsChanged, now: float) -> None:
        self._limits = event.limits
        self._refuse_misfits()
        self._settle(now)

    def _drain(self, _event: Drain, now: float) -> None:
        self._closing = True
        for waiting in list(self._queued.values()):
            self._dequeue(waiting)
            self._refuse(waiting.ticket, ShuttingDown("The server is shutting down"))
        self._settle(now)

    # What follows from it.

    def _settle(self, now: float) -> None:
        """Brings everything in line with what is true now."""
        self._plan_wake = inf
        self._refuse_overdue(now)
        self._give_up_loads(now)
        self._admit_waiting(now)
        self._expire(now)
        if self._closing:
            self._close_down(now)
        elif self._queued or self._taken() > self._limits.memory or self._any(State.DRAINING):
            self._make_room(now)

    def _refuse_overdue(self, now: float) -> None:
        if now < self._next_deadline:
            return
        for waiting in list(self._queued.values()):
            if waiting.ticket.deadline <= now:
                error = self._waited_too_long(waiting, now)
                self._dequeue(waiting)
                self._refuse(waiting.ticket, error)
        self._next_deadline = min((waiting.ticket.deadline for waiting in self._queued.values()), default=inf)

    def _give_up_loads(self, now: float) -> None:
        timeout = self._limits.load_timeout
        for runner in self._runners.values():
            if runner.state is State.STARTING and now >= runner.started + timeout:
                self._note_trouble(runner.model, now)
                self._refuse_awaiting(runner, LoadFailed(f"the model was not ready within {timeout:g} seconds"))
                self._stop(runner, "load timeout", now)

    def _admit_waiting(self, now: float) -> None:
        """Callers take turns at every runner; who needs another runner holds up nobody behind him."""
        for runner in self._runners.values():
            line = self._lines.get(runner.model)
            if runner.state is not State.READY or line is None:
                continue
            while len(runner.busy) < runner.parallel:
                chosen = line.first(runner.answers)
                if chosen is None:
                    break
                self._dequeue(chosen)
                self._admit(chosen.ticket, runner, now)

    def _expire(self, now: float) -> None:
        for runner in self._runners.values():
            expires = runner.expires_at
            if expires is not None and expires <= now:
                self._stop(runner, "expired" if runner.keep_alive else "unloaded", now)

    def _make_room(self, now: float) -> None:
        self._troubles = self._recent_troubles(now)
        held_back = {model: trouble.until for model, trouble in self._troubles.items()}
        plan = self._planner(
            now, self._limits, self._limits.memory, self._runners.values(), self._lines, held_back
        ).plan()
        self._plan_wake = plan.wake
        for runner, reason in plan.stops:
            self._stop(runner, reason, now)
        for runner in plan.drains:
            self._move(runner, Trigger.DRAIN, now)
        for ticket in plan.starts:
            self._start(ticket, now)
        for runner in plan.reprieves:
            self._move(runner, Trigger.REPRIEVE, now)
        if plan.reprieves:
            self._admit_waiting(now)
            self._expire(now)
        self._stop_replaced(now)

    def _stop_replaced(self, now: float) -> None:
        """A runner that drained because another took its model over leaves with its last request."""
        for runner in self._runners.values():
            if runner.state is State.DRAINING and not runner.busy:
                self._stop(runner, "replaced", now)

    def _close_down(self, now: float) -> None:
        for runner in self._runners.values():
            if runner.state is State.READY and runner.busy:
                self._move(runner, Trigger.DRAIN, now)
            elif runner.state is not State.STOPPING and not runner.busy:
                self._stop(runner, "shutting down", now)

    # The few ways in which things change.

    def _enqueue(self, waiting: Waiting) -> None:
        ticket = waiting.ticket
        self._queued[ticket.request_id] = waiting
        self._line(ticket.model_key).join(ticket.request_id, waiting, ticket.caller, ticket.weight)
        self._next_deadline = min(self._next_deadline, ticket.deadline)

    def _dequeue(self, waiting: Waiting) -> None:
        ticket = waiting.ticket
        del self._queued[ticket.request_id]
        self._lines[ticket.model_key].leave(ticket.request_id)
        self._forget_line(ticket.model_key)
        if not self._queued:
            self._next_deadline = inf

    def _line(self, model: str) -> Line:
        return self._lines.setdefault(model, Line())

    def _forget_line(self, model: str) -> None:
        """Who has had how much of a model is known as long as it has a runner, or somebody waits for one."""
        if not self._waiting_for(model) and not of_model(self._runners.values(), model):
            self._lines.pop(model, None)

    def _crowd_out(self, ticket: Ticket) -> bool:
        """Makes a place in a full line at the cost of the caller who has most there, if that is another one."""
        loser = self._line(ticket.model_key).surplus(ticket.caller)
        if loser is None:
            return False
        self._dequeue(loser)
        self._refuse(loser.ticket, self._queue_full(loser.ticket))
        return True

    def _admit(self, ticket: Ticket, runner: Runner, now: float) -> None:
        self._line(ticket.model_key).served(ticket.caller, ticket.weight)
        runner.busy[ticket.request_id] = now
        runner.keep_alive = self._keep_alive(ticket)
        self._admitted[ticket.request_id] = runner
        self._decisions.append(Admit(ticket.request_id, runner.id))

    def _refuse(self, ticket: Ticket, error: LocalModelsError) -> None:
        self._decisions.append(Refuse(ticket.request_id, error))

    def _start(self, ticket: Ticket, now: float) -> None:
        self._started += 1
        runner = Runner(
            id=f"r{self._started}",
            ticket=ticket,
            memory=ticket.need.memory,
            context=ticket.need.context or 0,
            keep_alive=self._keep_alive(ticket),
            started=now,
            idle_since=now,
        )
        self._runners[runner.id] = runner
        self._decisions.append(Start(runner.id, runner.model, ticket))

    def _stop(self, runner: Runner, reason: StopReason, now: float) -> None:
        self._move(runner, Trigger.STOP, now)
        self._decisions.append(Stop(runner.id, reason))

    def _move(self, runner: Runner, trigger: Trigger, now: float) -> None:
        """Who counted on a runner that goes out of service queues up again for room, behind those who made it leave."""
        counted_on = runner.in_service
        runner.state = step(runner.state, trigger)
        if counted_on and not runner.in_service:
            for waiting in self._counting_on(runner):
                waiting.since = now
            self._refuse_misfits()

    def _remove(self, runner: Runner, now: float) -> None:
        self._move(runner, Trigger.END, now)
        for request_id in runner.busy:
            del self._admitted[request_id]
        del self._runners[runner.id]
        self._forget_line(runner.model)

    # What is asked about the state of things.

    def _free_place(self, ticket: Ticket) -> Runner | None:
        """A runner that can answer this request at once. Nobody who waits is overtaken: he would have had the place."""
        for runner in self._runners.values():
            if runner.state is State.READY and runner.model == ticket.model_key and runner.serves(ticket.need):
                return runner if len(runner.busy) < runner.parallel else None
        return None

    def _in_good_hands(self, ticket: Ticket) -> bool:
        """Is there a runner in service that serves it?"""
        mine = of_model(self._runners.values(), ticket.model_key)
        return any(runner.in_service and runner.serves(ticket.need) for runner in mine)

    def _waiting_for(self, model: str) -> int:
        line = self._lines.get(model)
        return 0 if line is None else len(line)

    def _counting_on(self, runner: Runner) -> list[Waiting]:
        """Who waits and could be served by it."""
        line = self._lines.get(runner.model)
        return [] if line is None else list(filter(runner.answers, line.values()))

    def _foreseen(self, ticket: Ticket) -> float:
        """Seconds that it would wait for a place at its model, as things go; 0 while nobody can know."""
        for runner in of_model(self._runners.values(), ticket.model_key):
            if runner.state is State.READY and runner.serves(ticket.need) and runner.service is not None:
                ahead = self._line(ticket.model_key).ahead(ticket.caller, ticket.weight)
                return (ahead + 1) * runner.service / runner.parallel
        return 0.0

    def _keep_alive(self, ticket: Ticket) -> float:
        return self._limits.keep_alive if ticket.keep_alive is None else ticket.keep_alive

    def _taken(self) -> int:
        return sum(runner.memory for runner in self._runners.values())

    def _any(self, state: State) -> bool:
        return any(runner.state is state for runner in self._runners.values())

    # Errors and what comes of them.

    def _refuse_awaiting(self, runner: Runner, error: LocalModelsError) -> None:
        for waiting in self._counting_on(runner):
            self._dequeue(waiting)
            self._refuse(waiting.ticket, error)

    def _refuse_deceived(self, runner: Runner, promised: int) -> None:
        """A runner came up with less context than it was started for; another start would bring no more."""
        for waiting in self._line(runner.model).values():
            if runner.context < (waiting.ticket.need.context or 0) <= promised:
                self._dequeue(waiting)
                self._refuse(
                    waiting.ticket,
                    LoadFailed(f"the model was to have a context of {promised} tokens and has {runner.context}"),
                )

    def _refuse_misfits(self) -> None:
        """Who needs more than there is, should everybody else leave, and has no runner in service already."""
        for waiting in list(self._queued.values()):
            required = waiting.ticket.need.memory
            if required > self._limits.memory and not self._in_good_hands(waiting.ticket):
                self._dequeue(waiting)
                self._refuse(waiting.ticket, OutOfMemory(required, self._limits.memory))

    def _recent_troubles(self, now: float) -> dict[str, Trouble]:
        return {model: trouble for model, trouble in self._troubles.items() if now - trouble.at < STEADY}

    def _note_trouble(self, model: str, now: float) -> None:
        self._troubles = self._recent_troubles(now)
        before = self._troubles.get(model)
        count = before.count + 1 if before else 1
        pause = min(LONGEST_BACK_OFF, BACK_OFF * 2 ** (count - 2)) if count > 1 else 0.0
        self._troubles[model] = Trouble(count, now, now + pause)

    def _waited_too_long(self, waiting: Waiting, now: float) -> Unavailable:
        mine = of_model(self._runners.values(), waiting.ticket.model_key)
        states = {runner.state for runner in mine if runner.serves(waiting.ticket.need)}
        if State.READY in states:
            why = "all places at the model were taken"
        elif State.STARTING in states:
            why = "the model was still loading"
        else:
            why = "there was no room for the model beside those in use"
        waited = now - waiting.arrived
        return Unavailable(
            f"Waited {waited:.0f} s and {why}; try again later",
            retry_after=self._retry_after(waiting.ticket.model_key),
        )

    def _queue_full(self, ticket: Ticket) -> QueueFull:
        return QueueFull(
            f"{self._limits.max_queue} requests are waiting for this model already",
            retry_after=self._retry_after(ticket.model_key),
        )

    def _too_long(self, wait: float) -> QueueFull:
        longest = self._limits.max_wait
        return QueueFull(
            f"The wait for this model would be about {wait:.1f} s, and the longest that this server promises is "
            f"{longest:g} s",
            retry_after=bounded(wait - longest),
        )

    def _retry_after(self, model: str) -> float:
        """Seconds until all who wait for the model have been served, from what its requests took lately."""
        ready = [one for one in of_model(self._runners.values(), model) if one.state is State.READY]
        runner = ready[0] if ready else None
        service = GUESS if runner is None or runner.service is None else runner.service
        return bounded(self._waiting_for(model) * service / (runner.parallel if runner else 1))


def bounded(seconds: float) -> float:
    """As a Retry-After."""
    return float(ceil(min(LONGEST_RETRY, max(SHORTEST_RETRY, seconds))))
