"""What one decision of routing costs: ``python -m benchmarks.fleet.decision [--hosts N] [--models N] [--policy P]``.

Every host has every model, as no two objects shared, as if each had been asked; some are busy, full, or have the model
in memory. Printed are the microseconds of one decision (the best of several rounds, since this is about the code and
not about what else the machine does), and what the marks of a prompt of 100 KB cost.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from random import Random
from timeit import repeat

import msgspec

from localmodels.core.chat import ChatRequest, Message, Text
from localmodels.core.servers import ServerSpec
from localmodels.fleet.affinity import Affinity
from localmodels.fleet.hosts import Holding, Host, Loaded, Sight
from localmodels.fleet.prefix import marks_of, marks_of_fields
from localmodels.fleet.routing import POLICIES, Ask, decide

ROUNDS, CALLS = 200, 20
PROMPT = 100_000  # characters


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet.decision")
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--policy", choices=POLICIES, action="append")
    asked = parser.parse_args(arguments)
    hosts = fleet(asked.hosts, asked.models)
    for policy in asked.policy or POLICIES:
        print(f"{policy:<12} {decision(hosts, policy):7.1f} µs")
        print(f"{policy:<12} {decision(hosts, policy, conversation=True):7.1f} µs with a prompt that some hosts hold")
    for name, seconds in marks().items():
        print(f"{name:<12} {seconds:7.1f} µs for the marks of {PROMPT // 1000} KB")
    return 0


def fleet(count: int, models: int, seed: int = 1) -> list[Host]:
    """Hosts that all have all models."""
    chance = Random(seed)
    return [_host(index, models, chance) for index in range(count)]


def decision(hosts: list[Host], policy: str = "auto", *, conversation: bool = False) -> float:
    """Microseconds of one; of a turn of a conversation whose beginning all hosts hold, and two of them nearly all."""
    affinity = Affinity()
    marks = marks_of(_prompt(), "model-0:latest")
    if conversation:
        for host in hosts:
            affinity.remember(marks[:10], host.spec.id)
        for host in hosts[:2]:
            affinity.remember(marks[:-3], host.spec.id)
    ask = Ask("model-0", prefix=marks if conversation else (), tokens=PROMPT // 4)
    return _microseconds(lambda: decide(ask, hosts, policy, affinity, 7))


def marks() -> dict[str, float]:
    """Microseconds for the marks of a long prompt, by what it is."""
    request = _prompt()
    fields = {
        "messages": msgspec.Raw(
            msgspec.json.encode([{"role": "user", "content": one.text} for one in request.messages])
        )
    }
    return {
        "read": _microseconds(lambda: marks_of(request, "model-0:latest")),
        "as it came": _microseconds(lambda: marks_of_fields(fields, "model-0:latest")),
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
        loaded["model-0:latest"] = Loaded("model-0")
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
