"""What hosts told, made new for those who are about to show it or go by it.

The rule: a list waits for hosts for a second, all of them together, never asks one that is known to be down, and waits
for the first word of one only once. What another gateway asks of us makes us ask nobody: two that stand behind each
other would wait for each other.
"""

from __future__ import annotations

from math import inf

from localmodels.core import via
from localmodels.fleet.hosts import Host
from localmodels.fleet.monitor import Monitor

# Seconds that a list waits; and those for which what a host told of its memory is new enough.
PATIENCE = 1.0
MEMORY = 2.0


class Freshness:
    """Has hosts asked whose word is old.

    Args:
        monitor: asks them.
    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._awaited: frozenset[Host] = frozenset()

    async def models(self, patience: float = PATIENCE) -> None:
        """Servers of the file have told of their models, and whoever has just failed a request, how he is."""
        if len(via.way()) > 1:
            return
        others = [host for host in self._monitor.fleet.hosts() if host.may_be_asked and not host.is_own]
        silent = frozenset(host for host in others if not (host.spec.registered or host.checked_at))
        unsure = {*filter(self._monitor.fleet.is_doubted, others), *(silent - self._awaited)}
        self._awaited = silent
        if unsure:
            await self._monitor.looked(patience, age=inf, among=unsure.__contains__)

    async def own(self) -> None:
        """Our own engine has told of its models a moment ago; while it is alone, nothing else asks it."""
        if not self._monitor.fleet.shared:
            await self._monitor.looked(PATIENCE, among=lambda host: host.is_own)

    async def memory(self) -> None:
        """Servers that tell it have told a moment ago what is in their memory; what is in ours is known."""
        if len(via.way()) <= 1:
            await self._monitor.looked(PATIENCE, age=MEMORY, among=_shows_memory)


def _shows_memory(host: Host) -> bool:
    tells = host.spec.registered or (host.sight is not None and host.sight.loaded is not None)
    return tells and not host.is_own and host.may_be_asked
