"""What hosts told, made new for those who are about to show it or go by it.

The rule: a list waits for hosts for a second, all of them together, and never asks one that is known to be down. What
another gateway asks of us makes us ask nobody: two that stand behind each other would wait for each other.
"""

from __future__ import annotations

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

    async def own(self) -> None:
        """Our own engine has told of its models a moment ago; while it is alone, nothing else asks it."""
        if not self._monitor.fleet.shared:
            await self._monitor.looked(PATIENCE, among=lambda host: host.is_own)

    async def memory(self) -> None:
        """Registered servers have told a moment ago what is in their memory; what is in ours is known."""
        if self._monitor.fleet.shared and len(via.way()) <= 1:
            await self._monitor.looked(PATIENCE, age=MEMORY, among=_shows_memory)


def _shows_memory(host: Host) -> bool:
    return host.spec.registered and not host.is_own and host.may_be_asked
