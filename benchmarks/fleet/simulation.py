"""One run: traffic against a fleet under one policy, with the routing and the places that serve requests.

What is modelled: the machines (:mod:`.machine`), the traffic (:mod:`.traffic`), probes every two seconds, and callers
who leave a line after a minute. What is real: who is asked (``fleet.routing``), what is remembered of prompts
(``fleet.affinity``), and who gets which place (``fleet.turns``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

from benchmarks.fleet.clock import Clock
from benchmarks.fleet.machine import Machine, Request
from benchmarks.fleet.traffic import Traffic, Visits
from localmodels.core.errors import LocalModelsError, Unavailable
from localmodels.core.servers import ServerSpec
from localmodels.fleet.affinity import Affinity
from localmodels.fleet.hosts import Host
from localmodels.fleet.patience import worth_waiting_for
from localmodels.fleet.routing import decide
from localmodels.fleet.stands import Waiter
from localmodels.fleet.targets import Ask
from localmodels.fleet.turns import Turns

PROBED = 2.0  # seconds between two probes of a host that is busy (fleet.pace)
PATIENCE = 60.0  # seconds that a request waits for a place
GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Machines:
    """So many hosts of one kind; see :class:`~benchmarks.fleet.machine.Machine`.

    Attributes:
        models: bytes of each.
        weight: what their owner says of their speed.
    """

    count: int
    models: Mapping[str, int] = field(default_factory=lambda: {"m:1": 5 * GIB})
    memory: int = 20 * GIB
    cache: int = 64_000
    speed: float = 1.0
    weight: float = 1.0
    most: int = 8
    queue: int = 64


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A fleet and its traffic.

    Attributes:
        crowd: the caller, if there is one, whose first tokens do not count, since he asks for more than there is.
        requests: that are asked before the run ends; those of the first fifth, while caches fill, do not count.
        failing: seconds between two failures of some host, in the mean; 0 for none.
        healing: seconds until it is back.
    """

    name: str
    machines: tuple[Machines, ...]
    traffic: Traffic
    crowd: str | None = None
    requests: int = 20_000
    failing: float = 0.0
    healing: float = 10.0


Policy = Callable[[Ask, Sequence[Host], Affinity, int], Sequence[Host]]


def by_name(name: str) -> Policy:
    """One of the policies of :mod:`localmodels.fleet.routing`."""

    def order(ask: Ask, hosts: Sequence[Host], affinity: Affinity, turn: int) -> Sequence[Host]:
        targets = [target.host for target in decide(ask, hosts, name, affinity, turn)]
        return worth_waiting_for(targets, ask.model).hosts if name == "auto" else targets

    return order


def at_random(seed: int = 0) -> Policy:
    """Any of those that have the model."""
    random = Random(seed)

    def order(ask: Ask, hosts: Sequence[Host], affinity: Affinity, turn: int) -> Sequence[Host]:
        fit = [host for host in hosts if host.state != "down" and host.spec.id not in ask.excluded]
        return random.sample(fit, len(fit))

    return order


def _from(models: Mapping[str, int], first: int) -> dict[str, int]:
    """The same, beginning with this one."""
    names = list(models)
    first %= len(names)
    return {name: models[name] for name in (*names[first:], *names[:first])}


class Run:
    """One run.

    Attributes:
        asked: every request, in the order of arrival.
        events: arrivals, starts and ends of requests.
        over: by how many requests a host has had more than its ``max_concurrent``, at worst and by its own count.
        longest: seconds that somebody has waited for a place, at worst.
    """

    def __init__(self, workload: Workload, policy: Policy, seed: int = 1, *, patience: float = PATIENCE) -> None:
        self.workload = workload
        self.clock = Clock()
        self.asked: list[Request] = []
        self.events = 0
        self.over = 0
        self.longest = 0.0
        self.turns = Turns()
        self._policy = policy
        self._patience = patience
        self._affinity = Affinity()
        self._visits = Visits(workload.traffic, seed)
        self._random = Random(seed)
        self._machines = {machine.host: machine for machine in self._built()}
        self._holders = {
            model: tuple(host for host in self._machines if host.holds(model)) for model in workload.traffic.models
        }
        self._waiting: dict[Waiter, Request] = {}
        self._open = 0
        self._decisions = 0

    def go(self) -> Run:
        """To the end: all that were asked are answered or refused."""
        arrivals = self._visits.arrivals()

        def arrive() -> None:
            wait, request = next(arrivals)
            self._ask(request)
            self.clock.after(wait, arrive)

        for number, machine in enumerate(self._machines.values()):
            self.clock.after(PROBED * number / len(self._machines), partial(self._probe, machine))
        if self.workload.failing:
            self.clock.after(self._random.expovariate(1 / self.workload.failing), self._fail)
        arrive()
        self.clock.run(lambda: not self._open and len(self.asked) >= self.workload.requests)
        return self

    @property
    def loads(self) -> int:
        """How often a model was loaded."""
        return sum(machine.loads for machine in self._machines.values())

    def _built(self) -> list[Machine]:
        kinds = [kind for kind in self.workload.machines for _ in range(kind.count)]
        machines = []
        for number, kind in enumerate(kinds):
            spec = ServerSpec(
                name=f"h{number}",
                id=f"h{number}",
                url=f"http://h{number}:1",
                kind="ollama",
                registered=True,
                max_concurrent=kind.most,
                max_queue=kind.queue,
                weight=kind.weight,
            )
            machine = Machine(
                Host(spec, state="up"),
                _from(kind.models, number * 4),  # not the same models loaded everywhere
                memory=kind.memory,
                cache=kind.cache,
                speed=kind.speed,
                clock=self.clock,
                done=self._done,
            )
            machine.look()
            machines.append(machine)
        return machines

    def _probe(self, machine: Machine) -> None:
        machine.look()
        self.clock.after(PROBED, lambda: self._probe(machine))

    def _ask(self, request: Request) -> None:
        if len(self.asked) >= self.workload.requests:
            return
        request.arrived = self.clock.now
        self.asked.append(request)
        self.events += 1
        self._open += 1
        self._route(request, frozenset())

    def _route(self, request: Request, excluded: frozenset[str]) -> None:
        ask = Ask(request.model, prefix=request.prefix, tokens=request.tokens, excluded=excluded)
        self._decisions += 1
        hosts = self._policy(ask, self._holders[request.model], self._affinity, self._decisions)
        request.tries += 1
        try:
            if not hosts:
                raise Unavailable("no host answers")
            weight = self.workload.traffic.weights.get(request.caller, 1)
            found = self.turns.ask(hosts, request.caller, weight, model=request.model, again=bool(excluded))
        except LocalModelsError as error:
            self._refuse(request, error.code)
        else:
            if isinstance(found, Waiter):
                request.queued = self.clock.now
                self._waiting[found] = request
                self.clock.after(self._patience, lambda: self._tire(found))
            else:
                self._place(request, found)
        self._settle()

    def _tire(self, waiter: Waiter) -> None:
        """His patience is at its end, if he still waits."""
        if request := self._waiting.pop(waiter, None):
            self._waited(request)
            self.turns.leave(waiter)
            self._refuse(request, "patience")

    def _settle(self) -> None:
        for verdict in self.turns.settled():
            request = self._waiting.pop(verdict.waiter)
            if isinstance(verdict.outcome, Host):
                self._waited(request)
                self._place(request, verdict.outcome)
            else:
                self._refuse(request, verdict.outcome.code)

    def _waited(self, request: Request) -> None:
        """It waits no more."""
        self.longest = max(self.longest, round(self.clock.now - request.queued, 6))  # sums of moments are not exact

    def _place(self, request: Request, host: Host) -> None:
        machine = self._machines[host]
        self.events += 1
        request.placed = self.clock.now
        self._affinity.remember(request.prefix, host.spec.id)
        machine.begin(request)
        self.over = max(self.over, machine.inside - host.spec.max_concurrent)

    def _done(self, machine: Machine, request: Request) -> None:
        self.events += 1
        self._open -= 1
        self.turns.give_back(machine.host, request.model, self.clock.now - request.placed)
        self._settle()
        if following := self._visits.follow(request):
            wait, next_one = following
            self.clock.after(wait, lambda: self._ask(next_one))

    def _refuse(self, request: Request, why: str) -> None:
        request.refused = why
        request.ended = self.clock.now
        self.events += 1
        self._open -= 1

    def _fail(self) -> None:
        """A host stops: whom it has not told anything yet goes elsewhere, others are cut off."""
        machine = self._random.choice(list(self._machines.values()))
        host = machine.host
        if host.state == "up":
            host.state = "down"
            self._affinity.forget(host.spec.id)
            left = machine.fail()
            for request in left:
                self.turns.give_back(host, request.model)
            self.turns.look(host)
            self._settle()
            for request in left:
                if request.first:
                    self._refuse(request, "cut")
                else:
                    self._route(request, frozenset({host.spec.id}))
            self.clock.after(self.workload.healing, lambda: self._heal(machine))
        self.clock.after(self._random.expovariate(1 / self.workload.failing), self._fail)

    def _heal(self, machine: Machine) -> None:
        machine.host.state = "up"
        machine.look()
        self.turns.look(machine.host)
        self._settle()
