"""What several gateways tell each other of their requests, so that a server's places are shared and not had twice.

Each says again and again how many requests it has at each server and how many wait for it, and all make the same parts
of what was said (:mod:`localmodels.fleet.shares`). The rules: a part shrinks as soon as that is said, and grows a word
later, when the others have had time to hear why; a word counts for as long as it is fresh, so that whoever dies leaves
nothing behind; and who hears nobody has the part of one among equals.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from localmodels.core.errors import LocalModelsError
from localmodels.core.fleet import Loads, Replicas
from localmodels.fleet.fleet import FRESH_LOADS, Fleet
from localmodels.fleet.hosts import Host
from localmodels.fleet.shares import parts
from localmodels.flows.servers.membership import Sleep

log = logging.getLogger(__name__)

SECOND = 10**9
# Seconds between two words. What another gateway wants is known within two of them: so long does the first request wait
# that comes by a gateway while others have all places.
EVERY = 0.25
# Seconds between two words that say the same, and between two to nobody; a few may be lost before others forget.
AGAIN = 1.0
# Seconds for which a place that cannot be parted is the same gateway's: some words, and not many answers.
TURN = 2.0


class Sharing:
    """Tells, and hears.

    Args:
        replicas: the other gateways.
        fleet: hears of their requests.
        gateway: id of this one.
        now: nanoseconds since 1970, UTC.
        sleep: as ``asyncio.sleep``.
    """

    def __init__(self, replicas: Replicas, fleet: Fleet, gateway: str, now: Callable[[], int], sleep: Sleep) -> None:
        self._replicas = replicas
        self._fleet = fleet
        self._gateway = gateway
        self._now = now
        self._sleep = sleep
        self._before = self._said = self._known = Loads(gateway, 0, {})
        self._heard: tuple[Loads, ...] = ()
        self._awaited: dict[str, int] = {}
        self._hears = True

    async def go_on(self) -> None:
        """Tells and hears, until it is cancelled."""
        deaf = self._fleet.listen(self.hear)
        failure = ""
        try:
            while True:
                try:
                    await self.once()
                    failure = ""
                except LocalModelsError as error:
                    if error.message != failure:
                        log.warning("what other gateways have under way is not known: %s", error)
                    failure = error.message
                await self._sleep(EVERY if self._heard else AGAIN)
        finally:
            deaf()

    async def once(self) -> None:
        """Tells and hears once.

        Raises:
            LocalModelsError: the others cannot be reached.
        """
        try:
            # Heard first: what is said then is what is left when this part is no larger than the others believe.
            heard = await self._replicas.loads(self._now() - int(FRESH_LOADS * SECOND))
            self._took_in([one for one in heard if one.gateway != self._gateway])
            self._before, self._said = self._said, self._saying()
            self._part()
            await self._tell()
        except LocalModelsError:
            self._hears = False
            self._part()
            raise

    def hear(self, host: Host) -> None:
        """Something of this host is not as it was: it may be new, or have another number of places."""
        self._fleet.keep({host.id: self._kept(host)})

    def _took_in(self, heard: Sequence[Loads]) -> None:
        """This is what others say. Those who could not be heard for a while may not have found back yet."""
        now = self._now()
        if not self._hears:
            self._awaited = {one.gateway: now + int(FRESH_LOADS * SECOND) for one in self._heard}
        there = {one.gateway for one in heard}
        self._awaited = {who: until for who, until in self._awaited.items() if until > now and who not in there}
        self._heard = (*heard, *(Loads(who, now, {}) for who in self._awaited))
        self._hears = True

    def _saying(self) -> Loads:
        hosts = self._fleet.hosts()
        return Loads(
            self._gateway,
            self._now(),
            {host.id: host.in_flight for host in hosts if host.in_flight},
            {host.id: host.waiting for host in hosts if host.waiting},
        )

    async def _tell(self) -> None:
        known, said = self._known, self._said
        same = (known.in_flight, known.waiting) == (said.in_flight, said.waiting)
        if not same or said.at - known.at >= AGAIN * SECOND:
            await self._replicas.publish(said)
            self._known = said

    def _part(self) -> None:
        self._fleet.elsewhere(self._heard if self._hears else ())
        self._fleet.keep({host.id: self._kept(host) for host in self._fleet.hosts()})

    def _kept(self, host: Host) -> int:
        """Places there that are the other gateways'."""
        most = host.spec.max_concurrent
        if not most or host.is_own or not self._heard:
            return 0
        host_id, turn = host.id, self._now() // int(TURN * SECOND)
        if not self._hears:
            equals = dict.fromkeys([self._gateway, *(one.gateway for one in self._heard)], 0)
            return most - max(1, parts(most, equals, turn)[self._gateway])
        others = {one.gateway: one.wanted(host_id) for one in self._heard}
        return most - min(
            parts(most, others | {self._gateway: one.wanted(host_id)}, turn)[self._gateway]
            for one in (self._before, self._said)
        )
