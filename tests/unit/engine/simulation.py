"""A world for the scheduler: a virtual clock, clients that come and go, and a pool whose runners are slow and die.

The rule: the world keeps its own books from the events it sends and the decisions it gets, and believes nothing that
the scheduler says about itself where it can know better. After every event the books are compared with the rules of
``docs/scheduler.md``; the first breach is a :class:`Broken` that names seed, time and event.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from itertools import count
from math import ceil, inf
from random import Random

from msgspec import Struct, field
from msgspec.structs import replace

from localmodels.core.errors import (
    LoadFailed,
    LocalModelsError,
    OutOfMemory,
    QueueFull,
    RunnerDied,
    ShuttingDown,
    Unavailable,
)
from localmodels.engine.scheduler import (
    Admit,
    Cancel,
    Decision,
    Drain,
    Event,
    Finished,
    Limits,
    LimitsChanged,
    Need,
    Refuse,
    RunnerExited,
    RunnerFailed,
    RunnerReady,
    Scheduler,
    Snapshot,
    Start,
    State,
    Stop,
    Submit,
    Tick,
    Ticket,
    Unload,
)

GIB = 2**30
CONTEXTS = (None, None, 2048, 4096, 4096, 8192)
IDENTITIES = (None, "gpu", "cpu")
WEIGHTS = {"ann": 1, "ben": 1, "eve": 1, "max": 3}
KEEP_ALIVE = (None, None, None, 0.0, 1.0, 20.0, -1.0)
BACK_OFF = 4.0  # the longest pause after failures that docs/scheduler.md allows
SLOWEST = 10.0  # no answer takes longer, in seconds
STOP_TIME = 2.0  # no stop takes longer


class Broken(AssertionError):
    """A rule of the scheduler was broken."""


class Profile(Struct, frozen=True):
    """What a world is like: how much comes in, and how bad it gets.

    Attributes:
        rate: requests a second.
        favourite: share of them that ask for the first model.
        flood: share of them that come from the first caller.
    """

    models: int
    rate: float
    favourite: float
    cancels: float = 0.15
    failures: float = 0.1
    deaths: float = 0.05
    upsets: float = 0.02
    max_loaded: int | None = None
    max_queue: int = 12
    max_wait: float = inf
    flood: float = 0.25


PROFILES = (
    Profile(models=6, rate=0.7, favourite=0.3),
    Profile(models=4, rate=2.0, favourite=0.8, cancels=0.05, failures=0.02, deaths=0.01, max_queue=40),
    Profile(models=8, rate=0.3, favourite=0.0, cancels=0.4, failures=0.3, deaths=0.2, upsets=0.1),
    Profile(models=5, rate=1.0, favourite=0.5, max_loaded=2, max_queue=3),
    Profile(models=2, rate=2.0, favourite=0.9, cancels=0.02, failures=0.0, deaths=0.0, upsets=0.0, max_queue=60),
    Profile(models=2, rate=3.0, favourite=0.9, failures=0.02, deaths=0.01, max_queue=8, flood=0.9),
    Profile(models=1, rate=2.0, favourite=1.0, failures=0.0, deaths=0.01, upsets=0.0, max_queue=200, max_wait=4.0),
)


class Request(Struct):
    """In the books: ``unserved`` is since when no runner in service could have answered it, ``inf`` if one can.

    ``overtaken``: how often each other caller was served where this one, its caller's next, could have been; counted
    anew when its caller is served.
    """

    ticket: Ticket
    arrived: float
    unserved: float
    runner: str | None = None
    overtaken: Counter[str] = field(default_factory=Counter)


class Copy(Struct):
    """A runner in the books. ``ready``: has reported so. ``stopping``: was told to stop."""

    id: str
    ticket: Ticket
    memory: int
    keep_alive: float
    started: float
    idle_since: float
    context: int = 0
    parallel: int = 0
    ready: bool = False
    stopping: bool = False
    busy: set[str] = field(default_factory=set)

    def serves(self, ticket: Ticket) -> bool:
        need, own = ticket.need, self.ticket.need
        context = self.context if self.ready else own.context or 0
        return (
            ticket.model_key == self.ticket.model_key
            and (need.context or 0) <= context
            and need.options in {None, own.options}
        )


class World:
    """One life of a scheduler, from its first event to its last.

    Args:
        build: makes the scheduler that is judged.
        events: how many events before the shutdown begins.
    """

    def __init__(self, seed: int, build: Callable[[Limits], Scheduler], events: int, profile: Profile) -> None:
        self.seed, self.events, self.profile = seed, events, profile
        self.random = Random(seed)
        self.limits = Limits(
            memory=10 * GIB,
            max_loaded=profile.max_loaded,
            max_queue=profile.max_queue,
            max_wait=profile.max_wait,
            keep_alive=5.0,
            load_timeout=6.0,
            start_concurrency=self.random.choice((1, 2)),
            patience=3.0,
        )
        self.memory = self.limits.memory
        self.sizes = {f"m{number}": self.random.randint(1, 7) * GIB for number in range(profile.models)}
        self.scheduler = build(self.limits)
        self.now = 0.0
        self.seen: Counter[str] = Counter()
        self.requests: dict[str, Request] = {}
        self.runners: dict[str, Copy] = {}
        self.failed_at: dict[str, float] = {}
        self.lines: Counter[str] = Counter()
        self.closing = False
        self.agenda: list[tuple[float, int, Callable[[], None]]] = []
        self.numbers = count()
        self.wake = inf
        self.told = 0
        self.told_at, self.ticks_at_once = -inf, 0
        self.longest_wait = 0.0
        # Whoever is older may each take: a turn, its slowest answer, a stop, a load that hangs, and a pause. As many
        # can be older as there are models and ways to load them.
        turn = self.limits.patience + SLOWEST + STOP_TIME + self.limits.load_timeout + BACK_OFF
        self.longest_unserved = profile.models * len(IDENTITIES) * turn

    # The course of the world.

    def run(self) -> Counter[str]:
        """Lives to the end.

        Returns:
            how often each kind of event and decision was seen.

        Raises:
            Broken: a rule was broken.
        """
        self.later(0.0, self.arrive)
        self.later(self.random.expovariate(0.1), self.upset)
        while self.agenda:
            self.now, _, act = heapq.heappop(self.agenda)
            act()
            if self.told >= self.events and not self.closing:
                self.closing = True
                self.tell(Drain())
        self.check_the_end()
        return self.seen

    def later(self, delay: float, act: Callable[[], None]) -> None:
        heapq.heappush(self.agenda, (self.now + delay, next(self.numbers), act))

    def tell(self, event: Event) -> None:
        """One event: books, decisions, rules, and the next tick."""
        self.told += 1
        self.seen[type(event).__name__] += 1
        self.ticks_at_once = self.ticks_at_once + 1 if isinstance(event, Tick) and self.now == self.told_at else 0
        self.told_at = self.now
        decisions = self.scheduler.handle(event, self.now)
        try:
            for decision in decisions:
                self.seen[type(decision).__name__] += 1
                self.carry_out(decision, event)
            self.check(self.scheduler.snapshot())
        except Broken as broken:
            raise Broken(f"seed {self.seed}, {self.now:.3f} s, {event}: {broken}") from None
        self.set_alarm()

    def set_alarm(self) -> None:
        wake = self.scheduler.next_wake(self.now)
        self.wake = inf if wake is None else wake
        self.require(self.wake >= self.now, "next_wake lies in the past")
        self.require(self.ticks_at_once < 4, "ticks without end at one moment")
        if self.wake < inf:
            alarm = self.wake
            self.later(alarm - self.now, lambda: self.tell(Tick()) if alarm == self.wake else None)

    # Clients.

    def arrive(self) -> None:
        if self.closing:
            return
        profile, random = self.profile, self.random
        model = "m0" if random.random() < profile.favourite else random.choice(sorted(self.sizes))
        size = self.sizes[model] if random.random() > 0.01 else 11 * GIB
        context = random.choice(CONTEXTS)
        need = Need(
            memory=size + (GIB if context == 8192 else 0),
            context=context,
            options=random.choices(IDENTITIES, (8, 3, 1))[0],
        )
        ticket = Ticket(
            request_id=f"q{next(self.numbers)}",
            model_key=model,
            need=need,
            deadline=self.now + random.choice((2.0, 20.0, 60.0, 600.0)),
            keep_alive=random.choice(KEEP_ALIVE),
            caller=(caller := self.caller()),
            weight=WEIGHTS[caller],
        )
        self.requests[ticket.request_id] = Request(ticket, self.now, self.now)
        self.tell(Submit(ticket))
        if random.random() < profile.cancels:
            self.later(random.expovariate(0.3), lambda: self.cancel(ticket.request_id))
        self.later(random.choice((0.0, random.expovariate(profile.rate / 2))), self.arrive)

    def caller(self) -> str:
        return "ann" if self.random.random() < self.profile.flood else self.random.choice(sorted(WEIGHTS))

    def cancel(self, request_id: str) -> None:
        if request_id in self.requests:
            self.leave(request_id)
            self.tell(Cancel(request_id))

    def finish(self, request_id: str) -> None:
        """Also said of requests whose runner has died in the meantime, as a pool would."""
        if request_id in self.requests:
            self.leave(request_id)
        elif self.random.random() < 0.5:
            return
        self.tell(Finished(request_id))

    def leave(self, request_id: str) -> None:
        runner = self.requests.pop(request_id).runner
        if runner is not None:
            self.runners[runner].busy.discard(request_id)
            self.runners[runner].idle_since = self.now

    def upset(self) -> None:
        """What people and machines do: unload a model, take memory away and give it back, set another bound."""
        if self.closing:
            return
        if self.random.random() < self.profile.upsets * 10:
            what = self.random.random()
            if what < 0.5:
                model = self.random.choice(sorted(self.sizes))
                for runner in self.runners.values():
                    if runner.ticket.model_key == model:
                        runner.keep_alive = 0.0
                self.tell(Unload(model))
            else:
                if what < 0.8:
                    self.memory = int(self.limits.memory * self.random.uniform(0.5, 1.1))
                else:
                    self.limits = replace(self.limits, max_queue=self.random.randint(1, 2 * self.profile.max_queue))
                self.tell(LimitsChanged(replace(self.limits, memory=self.memory)))
        self.later(self.random.expovariate(0.1), self.upset)

    # The pool.

    def carry_out(self, decision: Decision, event: Event) -> None:
        if isinstance(decision, Start):
            self.start(decision)
        elif isinstance(decision, Stop):
            self.stop(decision)
        elif isinstance(decision, Admit):
            self.admit(decision)
        else:
            self.refuse(decision, event)

    def start(self, decision: Start) -> None:
        ticket = decision.ticket
        self.require(decision.runner_id not in self.runners, "a runner id was used twice")
        self.require(ticket.request_id in self.requests, "started for a request that is not there")
        self.runners[decision.runner_id] = Copy(
            decision.runner_id, ticket, ticket.need.memory, self.keep_alive(ticket), self.now, self.now
        )
        taken = sum(runner.memory for runner in self.runners.values())
        self.require(taken <= self.memory, f"{taken} bytes are taken of {self.memory}")
        places = self.limits.max_loaded
        self.require(places is None or len(self.runners) <= places, "more runners than may be loaded")
        loading = sum(not runner.ready and not runner.stopping for runner in self.runners.values())
        self.require(loading <= self.limits.start_concurrency, "too many starts at once")
        fate = self.random.random()
        if fate < self.profile.failures:
            self.later(self.random.uniform(0.0, 3.0), lambda: self.fail(decision.runner_id))
        elif fate < self.profile.failures * 1.2:
            return  # hangs, and only the load timeout ends it
        else:
            self.later(self.random.uniform(0.0, 3.0), lambda: self.load(decision.runner_id))

    def load(self, runner_id: str) -> None:
        runner = self.runners.get(runner_id)
        if runner is None:
            return
        event = RunnerReady(
            runner_id,
            parallel=self.random.choice((1, 1, 2, 4)),
            context=self.really(runner.ticket.need.context or 4096),
            memory=self.random.choice((0, runner.memory, int(runner.memory * self.random.uniform(0.9, 1.1)))),
        )
        if not runner.stopping:  # a report that crosses a Stop changes nothing
            runner.ready, runner.parallel, runner.context = True, event.parallel, event.context
            runner.memory = event.memory or runner.memory
            runner.idle_since = self.now
            if self.random.random() < self.profile.deaths:
                self.later(self.random.expovariate(0.2), lambda: self.fail(runner_id))
        self.tell(event)

    def really(self, context: int) -> int:
        return context if self.random.random() < 0.99 else context // 2

    def fail(self, runner_id: str) -> None:
        """It dies; the streams of its requests break a little later, or a little earlier."""
        runner = self.runners.get(runner_id)
        if runner is None:
            return
        orphans = sorted(runner.busy)
        for request_id in orphans[: self.random.randint(0, len(orphans))]:
            self.finish(request_id)
        if runner_id not in self.runners:
            return
        for request_id in sorted(runner.busy):
            self.leave(request_id)
        del self.runners[runner_id]
        if not runner.stopping:
            self.failed_at[runner.ticket.model_key] = self.now
        error: LocalModelsError = RunnerDied("killed") if runner.ready else LoadFailed("bad file")
        spontaneous_exit = runner.ready and self.random.random() < 0.2
        self.tell(RunnerExited(runner_id) if spontaneous_exit else RunnerFailed(runner_id, error))

    def stop(self, decision: Stop) -> None:
        runner = self.known(decision.runner_id)
        self.require(not runner.busy, f"{runner.id} was stopped while it answered {sorted(runner.busy)}")
        self.require(not runner.stopping, f"{runner.id} was stopped twice")
        if not runner.ready and decision.reason != "load timeout":
            hopeful = [request for request in self.waiting() if runner.serves(request.ticket)]
            self.require(not hopeful, f"{runner.id} was stopped while somebody waited for its load")
        runner.stopping = True
        if decision.reason == "load timeout":
            self.failed_at[runner.ticket.model_key] = self.now
        self.later(self.random.uniform(0.0, STOP_TIME), lambda: self.exit(decision.runner_id))

    def exit(self, runner_id: str) -> None:
        if self.runners.pop(runner_id, None) is not None:
            killed = self.random.random() < 0.2
            self.tell(RunnerFailed(runner_id, LoadFailed("killed")) if killed else RunnerExited(runner_id))

    def admit(self, decision: Admit) -> None:
        request = self.requests.get(decision.request_id)
        self.require(request is not None, f"{decision.request_id} was admitted, but it is gone")
        assert request is not None
        runner = self.known(decision.runner_id)
        self.require(request.runner is None, f"{decision.request_id} was admitted twice")
        self.require(runner.ready and not runner.stopping, f"{runner.id} is not ready")
        self.require(runner.serves(request.ticket), f"{runner.id} cannot serve {request.ticket}")
        self.require(len(runner.busy) < runner.parallel, f"{runner.id} has no free place")
        self.require(request.ticket.deadline >= self.now or request.arrived == self.now, "admitted after its deadline")
        self.check_turn(request, runner)
        request.runner = runner.id
        runner.busy.add(decision.request_id)
        runner.keep_alive = self.keep_alive(request.ticket)
        self.longest_wait = max(self.longest_wait, self.now - request.arrived)
        takes = min(SLOWEST, self.random.choice((0.0, self.random.expovariate(1.0), self.random.expovariate(0.3))))
        self.later(takes, lambda: self.finish(decision.request_id))

    def check_turn(self, chosen: Request, runner: Copy) -> None:
        """No caller waits while another is served twice (or by its weight more often); nobody overtakes its own."""
        caller, weight = chosen.ticket.caller, chosen.ticket.weight
        nexts: dict[str, Request] = {}
        for request in self.waiting():  # in order of arrival
            if request.ticket.model_key == chosen.ticket.model_key and request.ticket.caller == caller:
                request.overtaken.clear()
            if runner.serves(request.ticket):
                nexts.setdefault(request.ticket.caller, request)
        self.require(nexts.pop(caller, chosen) is chosen, f"{chosen.ticket} overtook one of its own caller")
        for request in nexts.values():
            request.overtaken[caller] += 1
            self.require(
                request.overtaken[caller] <= ceil(weight / request.ticket.weight),
                f"{caller} was served {request.overtaken[caller]} times while {request.ticket} waited",
            )

    def refuse(self, decision: Refuse, event: Event) -> None:
        request = self.requests.pop(decision.request_id, None)
        self.require(request is not None, f"{decision.request_id} was refused, but it is gone")
        assert request is not None
        self.require(request.runner is None, f"{decision.request_id} was refused after it was admitted")
        error, ticket = decision.error, request.ticket
        self.seen[type(error).__name__] += 1
        if isinstance(error, OutOfMemory):
            self.require(ticket.need.memory > self.memory, f"{ticket} would fit")
        elif isinstance(error, QueueFull):
            self.require((error.retry_after or 0.0) >= 1.0, "no Retry-After")
            self.check_bound(ticket, event)
        elif isinstance(error, ShuttingDown):
            self.require(self.closing, "nobody is shutting down")
        elif isinstance(error, LoadFailed):
            self.require(isinstance(event, RunnerFailed | RunnerReady | Tick), "no load failed just now")
        else:
            self.require(isinstance(error, Unavailable), f"unexpected {error!r}")
            self.require(ticket.deadline <= self.now, "refused before its deadline")

    def check_bound(self, refused: Ticket, event: Event) -> None:
        """Nobody is turned away before the queue is full, and then it is one of whoever has most in it: his newest."""
        self.require(isinstance(event, Submit), "refused for a full queue that nobody entered")
        assert isinstance(event, Submit)
        line = [one.ticket for one in self.waiting() if one.ticket.model_key == refused.model_key]
        newcomer = event.ticket
        if newcomer is refused and len(line) < self.limits.max_queue:
            self.require(self.limits.max_wait < inf, f"the queue held only {len(line)}")
            copies = [one for one in self.runners.values() if one.ready and one.serves(refused)]
            self.require(any(len(one.busy) >= one.parallel for one in copies), "refused beside a free place")
            self.seen["foreseen"] += 1
            return
        self.require(len(line) >= self.limits.max_queue, f"the queue held only {len(line)}")
        has = Counter(ticket.caller for ticket in line)
        if newcomer is refused:
            most = max(has.values())
            self.require(has[newcomer.caller] + 1 >= most, f"{has} wait, and {newcomer.caller} was refused")
        else:  # the newcomer is among those who wait, the refused no more
            has[refused.caller] += 1
            self.require(has[refused.caller] == max(has.values()), f"{has} wait, and {refused.caller} had to go")
            self.require(has[refused.caller] >= has[newcomer.caller] + 1, f"{newcomer.caller} pushed out his equal")
            younger = [ticket for ticket in line if ticket.caller == refused.caller]
            self.require(
                all(int(ticket.request_id[1:]) < int(refused.request_id[1:]) for ticket in younger), "not his newest"
            )
            self.seen["crowded out"] += 1

    # The rules.

    def check(self, snapshot: Snapshot) -> None:
        """Everything that must hold after any event."""
        waiting = self.waiting()
        lines = Counter(request.ticket.model_key for request in waiting)
        bounds = {model: max(self.limits.max_queue, self.lines[model]) for model in lines}  # it may have been lowered
        self.require(all(lines[model] <= bounds[model] for model in lines), f"{lines} wait")
        self.lines = lines
        self.require(len(waiting) == snapshot.waiting, "requests were lost or kept")
        self.check_books(snapshot)
        serving = self.check_service(snapshot, waiting)
        self.check_expiry(snapshot)
        self.check_progress(waiting)
        for request in waiting:
            self.require(request.ticket.deadline > self.now, f"{request.ticket} waits beyond its deadline")
            runner = serving.get(request.ticket.model_key)
            served = runner is not None and runner.serves(request.ticket)
            request.unserved = inf if served else min(request.unserved, self.now)
            waits = self.now - request.unserved
            self.require(waits <= self.longest_unserved, f"{request.ticket} has starved for {waits:.0f} s")

    def check_books(self, snapshot: Snapshot) -> None:
        self.require(
            {view.runner_id: (view.memory, view.busy) for view in snapshot.runners}
            == {runner.id: (runner.memory, len(runner.busy)) for runner in self.runners.values()},
            "the scheduler's books differ",
        )
        for view in snapshot.runners:
            self.require((view.state is State.STOPPING) == self.runners[view.runner_id].stopping, "a silent stop")

    def check_service(self, snapshot: Snapshot, waiting: list[Request]) -> dict[str, Copy]:
        """Nobody waits beside a free place of his own model, and no model is loaded twice."""
        in_service = [view.runner_id for view in snapshot.runners if view.state in {State.STARTING, State.READY}]
        serving = {self.runners[runner_id].ticket.model_key: self.runners[runner_id] for runner_id in in_service}
        self.require(len(serving) == len(in_service), "a model is loaded twice")
        stranded = 0
        for request in waiting:
            runner = serving.get(request.ticket.model_key)
            if runner is None or not runner.serves(request.ticket):
                stranded += 1
            elif runner.ready:
                self.require(len(runner.busy) >= runner.parallel, f"{request.ticket} waits beside a free place")
        for view in snapshot.runners:
            if view.state is State.DRAINING and not self.closing:
                self.require(stranded > 0 or view.model_key in serving, f"{view.runner_id} drains for nobody")
        return serving

    def check_expiry(self, snapshot: Snapshot) -> None:
        for view in snapshot.runners:
            runner = self.runners[view.runner_id]
            if view.state is State.READY and not runner.busy:
                stays = inf if runner.keep_alive < 0 else runner.keep_alive
                self.require(self.now < runner.idle_since + stays, f"{runner.id} is kept beyond its time")
                self.require(self.wake_covers(runner.idle_since + stays), f"nobody will wake up for {runner.id}")

    def wake_covers(self, when: float) -> bool:
        return when == inf or (self.scheduler.next_wake(self.now) or inf) <= when + 1e-9

    def check_progress(self, waiting: list[Request]) -> None:
        """When nothing is under way that could end, nobody waits, but for the pause after a failure."""
        under_way = any(runner.stopping or runner.busy or not runner.ready for runner in self.runners.values())
        if under_way or not waiting:
            return
        paused = all(self.now - self.failed_at.get(request.ticket.model_key, -inf) <= BACK_OFF for request in waiting)
        self.require(paused and self.wake_covers(self.now + BACK_OFF), "somebody waits and nothing is under way")

    def check_the_end(self) -> None:
        self.require(not self.requests, f"{len(self.requests)} requests never ended")
        self.require(not self.runners, f"{sorted(self.runners)} never stopped")
        left = {
            name: value
            for name, value in vars(self.scheduler).items()
            if isinstance(value, dict | set | list) and value and name not in {"_on", "_decisions", "_troubles"}
        }
        self.require(not left, f"left behind: {left}")
        troubles = vars(self.scheduler)["_troubles"]
        self.require(set(troubles) <= set(self.sizes), f"left behind: {troubles}")

    # Small things.

    def require(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise Broken(otherwise)

    def known(self, runner_id: str) -> Copy:
        self.require(runner_id in self.runners, f"{runner_id} is not there")
        return self.runners[runner_id]

    def waiting(self) -> list[Request]:
        return [request for request in self.requests.values() if request.runner is None]

    def keep_alive(self, ticket: Ticket) -> float:
        return self.limits.keep_alive if ticket.keep_alive is None else ticket.keep_alive


def simulate(seed: int, events: int, build: Callable[[Limits], Scheduler] = Scheduler) -> Counter[str]:
    """One life with the profile that belongs to the seed."""
    return World(seed, build, events, PROFILES[seed % len(PROFILES)]).run()
