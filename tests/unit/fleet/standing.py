"""Hosts for tests of routing: how each is, in a few words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from localmodels.core.servers import ServerSpec
from localmodels.fleet.hosts import Holding, Host, Loaded, Sight, State, same_name
from localmodels.fleet.targets import Target

GB = 1_000_000_000


def host(
    name: str,
    *models: str | Holding,
    state: State = "up",
    busy: int = 0,
    elsewhere: int = 0,
    waiting: int = 0,
    service: float = 0.0,
    most: int = 4,
    priority: int = 0,
    weight: float = 1.0,
    default: bool = False,
    active: bool = True,
    capabilities: tuple[str, ...] = (),
    loaded: Iterable[str] | None = None,
    memory: int | None = None,
) -> Host:
    """One that has these models, ``m`` where none is named; its id is its name."""
    spec = ServerSpec(
        name=name,
        url=f"http://{name}:11434",
        kind="ollama",
        id=name,
        max_concurrent=most,
        priority=priority,
        weight=weight,
        is_default=default,
        is_active=active,
        capabilities=capabilities,
    )
    held = [model if isinstance(model, Holding) else Holding(model) for model in models or ("m",)]
    sight = Sight(
        0.0,
        holdings={same_name(one.model): one for one in held},
        loaded=None if loaded is None else {same_name(model): Loaded(model) for model in loaded},
        memory_free=memory,
    )
    one = Host(spec, sight, state)
    one.in_flight, one.elsewhere, one.waiting, one.service = busy, elsewhere, waiting, service
    one.proving = state == "trying" and busy > 0
    return one


def names(targets: Sequence[Target]) -> list[str]:
    """Of their hosts, in order."""
    return [target.host.spec.name for target in targets]
