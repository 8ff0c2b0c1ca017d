"""The workloads: what a fleet is used for, and where routing can go wrong.

Each is what its machines can bear where prompts are mostly known and models mostly loaded: four fifths of what they
can write. Who sends prompts to where they are not known, or models to where they must be loaded, finds the machines
full. The flood alone asks for more than there is.
"""

from __future__ import annotations

from benchmarks.fleet.simulation import GIB, Machines, Workload
from benchmarks.fleet.traffic import Traffic

_MODELS = tuple(f"model:{number}" for number in range(200))
_FEW = _MODELS[:32]
_ONE = _MODELS[:1]


def _of(*models: str, size: float = 5) -> dict[str, int]:
    return {model: int(size * GIB) for model in models}


def _eight(first: int) -> tuple[str, ...]:
    """So that every model is on 40 of a thousand machines, each time with others."""
    return tuple(_MODELS[(first + 7 * step) % len(_MODELS)] for step in range(8))


CHATS = Workload(
    name="chats",
    machines=(Machines(count=12, models=_of(*_ONE)),),
    traffic=Traffic(rate=3.0, turns=(3, 9), systems=24, system=1500, models=_ONE),
)
HOT = Workload(
    name="hot prefix",
    machines=(Machines(count=16, models=_of(*_ONE)),),
    traffic=Traffic(rate=30, systems=64, system=4000, hot=0.7, models=_ONE, answer=100),
)
MANY = Workload(
    name="many models",
    machines=(Machines(count=6, models=_of(*_FEW), memory=20 * GIB),),
    traffic=Traffic(rate=1.6, turns=(1, 5), systems=2, system=600, models=_FEW, skew_models=1.2),
)
UNEQUAL = Workload(
    name="unequal machines",
    machines=(
        Machines(count=6, models=_of(*_ONE), speed=0.5, weight=0.5, most=4),
        Machines(count=4, models=_of(*_ONE)),
        Machines(count=2, models=_of(*_ONE), speed=4, weight=4, most=24, cache=256_000),
    ),
    traffic=Traffic(rate=4.6, turns=(2, 8), systems=24, system=1500, models=_ONE),
)
FLOOD = Workload(
    name="a flood",
    machines=(Machines(count=8, models=_of(*_ONE)),),
    traffic=Traffic(
        rate=12,
        turns=(1, 5),
        systems=16,
        system=1000,
        models=_ONE,
        callers={"flood": 0.7, **{f"guest {number}": 0.03 for number in range(10)}},
    ),
    crowd="flood",
    requests=50_000,
)
THOUSAND = Workload(
    name="a thousand machines",
    machines=tuple(
        Machines(count=5, models=_of(*_eight(number), size=3), most=32, speed=4) for number in range(len(_MODELS))
    ),
    traffic=Traffic(
        rate=4800,
        turns=(1, 4),
        think=4.0,
        systems=4,
        system=800,
        models=_MODELS,
        skew_models=0.4,
        callers={f"caller {number}": 1.0 for number in range(50)},
        question=60,
        answer=60,
    ),
    requests=100_000,
)

WORKLOADS = (CHATS, HOT, MANY, UNEQUAL, FLOOD, THOUSAND)
