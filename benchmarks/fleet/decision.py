"""What one decision of routing costs: ``python -m benchmarks.fleet.decision [--hosts N] [--models N] [--policy P]``.

Every host has every model, as no two objects shared, as if each had been asked; some are busy, full, or have the model
in memory. Printed are the microseconds of one decision under each policy, in each case that costs something of its own
(the best of several rounds, since this is about the code and not about what else the machine does), and what the marks
of a prompt of 100 KB cost.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from random import Random
from timeit import repeat

import msgspec
from msgspec.structs import replace

from localmodels.core.chat import ChatRequest, Message, Text
from localmodels.core.servers import ServerSpec
from localmodels.fleet.affinity import Affinity
from localmodels.fleet.hosts import Holding, Host, Loaded, Sight
from localmodels.fleet.prefix import marks_of, marks_of_fields
from localmodels.fleet.routing import POLICIES, Ask, decide

ROUNDS, CALLS = 100, 10
PROMPT = 100_000  # characters
MODEL = "model-0:latest"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet.decision")
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--policy", choices=POLICIES, action="append")
    asked = parser.parse_args(arguments)
    policies = asked.policy or list(POLICIES)
    print(f"{'µs':<40}" + "".join(f"{policy:>13}" for policy in policies))
    for name, prepare in CASES.items():
        case = prepare(Case(fleet(asked.hosts, asked.models)))
        print(f"{name:<40}" + "".join(f"{case.cost(policy):13.1f}" for policy in policies), flush=True)
    for name, cost in marks().items():
        print(f"the marks of {PROMPT // 1000} KB, {name:<20}{cost:13.1f}")
    return 0


class Case:
    """A fleet and a request.

    Attributes:
        hosts: all of them.
        ask: the request.
        affinity: who holds which prompts.
        before: is called before each decision.
    """

    def __init__(self, hosts: list[Host]) -> None:
        self.hosts = hosts
        self.ask = Ask("model-0", tokens=PROMPT // 4)
        self.affinity = Affinity()
        self.before: Callable[[], object] | None = None

    def cost(self, policy: str) -> float:
        """Microseconds of one decision."""
        before = _microseconds(self.before) if self.before else 0.0
        return _microseconds(lambda: self._decide(policy)) - before

    def _decide(self, policy: str) -> None:
        if self.before:
            self.before()
        decide(self.ask, self.hosts, policy, self.affinity, 7)


def conversation(case: Case) -> Case:
    """A turn of a conversation whose beginning all hosts hold, and two of them nearly all."""
    marks = marks_of(_prompt(), MODEL)
    for host in case.hosts:
        case.affinity.remember(marks[:10], host.id)
    for host in case.hosts[:2]:
        case.affinity.remember(marks[:-3], host.id)
    case.ask = replace(case.ask, prefix=marks)
    return case


def sticky(case: Case) -> Case:
    """It is at home at one of the hosts."""
    case.ask = replace(case.ask, sticky=case.hosts[len(case.hosts) // 2].id)
    return case


def tiers(case: Case) -> Case:
    """Four priorities."""
    for number, host in enumerate(case.hosts):
        host.spec = replace(host.spec, priority=number % 4)
    return case


def copies(case: Case) -> Case:
    """Five models of one name."""
    for number, host in enumerate(case.hosts):
        sight = host.sight or Sight(0.0)
        other = Holding("model-0", f"{number % 5:064x}", 4_000_000_000)
        host.sight = replace(sight, holdings={**sight.holdings, MODEL: other})
    return case


def full(case: Case) -> Case:
    """Nine of ten have no place."""
    for number, host in enumerate(case.hosts):
        host.in_flight = 4 if number % 10 else 0
    return case


def resting(case: Case) -> Case:
    """Six of ten have failed a moment ago."""
    case.ask = replace(case.ask, rests=frozenset((host.id, MODEL) for host in case.hosts if int(host.id, 16) % 10 < 6))
    return case


def proving(case: Case) -> Case:
    """Half of them were down."""
    for host in case.hosts[::2]:
        host.state = "trying"
    return case


def unnamed(case: Case) -> Case:
    """Which model it is, is ours to say: one of the two or three that each host has in memory."""
    case.ask = replace(case.ask, model="auto")
    return case


def served(case: Case) -> Case:
    """Between two decisions two of them have got a request or answered one, as it is under load."""
    host, other = case.hosts[:2]

    def serve() -> None:
        host.in_flight, other.in_flight = other.in_flight, host.in_flight

    case.before = serve
    return case


def looked_at(case: Case) -> Case:
    """Between two decisions every host was asked how it is, as it is where requests are rare."""

    def look() -> None:
        for host in case.hosts:
            host.waiting = 0

    case.before = look
    return case


CASES: Mapping[str, Callable[[Case], Case]] = {
    "a request": lambda case: case,
    "a prompt that hosts have read": conversation,
    "at home somewhere": sticky,
    "four priorities": tiers,
    "five copies": copies,
    "nine of ten full": full,
    "six of ten resting": resting,
    "half have to prove themselves": proving,
    "the name auto": unnamed,
    "two hosts have changed": served,
    "all hosts have changed": looked_at,
    "a prompt, priorities and copies": lambda case: conversation(tiers(copies(case))),
}


def fleet(count: int, models: int, seed: int = 1) -> list[Host]:
    """Hosts that all have all models."""
    chance = Random(seed)
    return [_host(index, models, chance) for index in range(count)]


def marks() -> dict[str, float]:
    """Microseconds for the marks of a long prompt, by what it is."""
    request = _prompt()
    fields = {
        "messages": msgspec.Raw(
            msgspec.json.encode([{"role": "user", "content": one.text} for one in request.messages])
        )
    }
    return {
        "read": _microseconds(lambda: marks_of(request, MODEL)),
        "as it came": _microseconds(lambda: marks_of_fields(fields, MODEL)),
    }


def _microseconds(call: Callable[[], object]) -> float:
    return min(repeat(call, number=CALLS, repeat=ROUNDS)) / CALLS * 1e6


def _host(index: int, models: int, chance: Random) -> Host:
    holdings = {
        f"model-{number}:latest": Holding(f"model-{number}", f"{number:064x}", 4_000_000_000 + number)
        for number in range(models)
    }
    loaded = {model: Loaded(model) for model in chance.sample(sorted(holdings), min(2, models))}
    if chance.random() < 0.5:
        loaded[MODEL] = Loaded("model-0")
    spec = ServerSpec(
        name=f"host-{index}", url=f"http://host-{index}:11434", kind="ollama", id=f"{index:032x}", max_concurrent=4
    )
    host = Host(spec, Sight(0.0, holdings=holdings, loaded=loaded, memory_free=chance.choice([2, 8]) << 30), "up")
    host.in_flight = chance.randrange(5)
    host.service = chance.uniform(1, 10)
    return host


def _prompt() -> ChatRequest:
    words = "how are you today, and what is to be done about it? "
    system = Message("system", (Text((words * (PROMPT // len(words)))[: PROMPT * 4 // 5]),))
    turns = tuple(Message("user", (Text(f"{turn} " + words * (PROMPT // 100 // len(words))),)) for turn in range(20))
    return ChatRequest("model-0", (system, *turns))


if __name__ == "__main__":
    sys.exit(main())
