"""Whether a request should wait where its model is, or have it loaded where there is a place.

The rule: who would wait less than the model takes to load waits. Else a host that is full for a moment spills over to
one that drives another model out, whose next request drives out a third: a fleet that has more models than memory does
nothing but load from then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

from localmodels.fleet.hosts import Host
from localmodels.fleet.policies import EVICTING, LOAD_START, LOADING, UNTOLD_SIZE
from localmodels.fleet.turns import GUESS


class Wait(NamedTuple):
    """The hosts that a request should go to, or wait for, and so many seconds; whoever has waited them goes to any."""

    hosts: Sequence[Host]
    seconds: float = inf


def worth_waiting_for(hosts: Sequence[Host], model: str) -> Wait:
    """All of these hosts, or only those that have it loaded: for as long as a load would take, and no longer.

    How long places are kept there is a mean of what was, and the next answer may take an hour.

    Args:
        hosts: all that suit, the best first.
        model: as ``same_name`` spells it.
    """
    cold = [host for host in hosts if host.warmth(model) is False]
    if not cold:
        return Wait(hosts)
    other = next((host for host in cold if host.free), cold[0])
    warm = [host for host in hosts if host.warmth(model) is not False and host.spec.priority >= other.spec.priority]
    if any(host.free for host in warm):
        return Wait(hosts)
    warm = [host for host in warm if host.may_be_asked and host.waiting < host.spec.max_queue]
    rate = sum(host.spec.max_concurrent / (host.service or GUESS) for host in warm)
    ahead, loading = sum(host.waiting for host in warm), _loading(other, model)
    return Wait(warm, loading) if ahead + 1 < rate * loading else Wait(hosts)


def _loading(host: Host, model: str) -> float:
    """Seconds until the model is in its memory, with what that costs others."""
    holding, sight = host.holds(model), host.sight
    size = (holding.size if holding else 0) or UNTOLD_SIZE
    room = sight.memory_free if sight else None
    seconds = LOAD_START + size / LOADING
    return (seconds * EVICTING if room is not None and room < size else seconds) / host.spec.weight
